/** A worker whose handlers answer, fail, die, or never end, as a test asks. */
import { SyncEngineError } from '../../dist/base/errors.js';
import { serveWorker } from '../../dist/base/worker-server.js';

/** Released by `answerHeld`. */
const held = [];

let moved = new Uint8Array(0);

serveWorker({
  echo: (args) => ({ value: args }),
  async echoLater(args) {
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    return { value: args };
  },
  hold: (args) => new Promise((resolve) => held.push(() => resolve({ value: args }))),
  answerHeld() {
    for (const answer of held.splice(0).reverse()) answer();
    return { value: undefined };
  },
  move() {
    moved = new Uint8Array([1, 2, 3]);
    return { value: moved, transfer: [moved.buffer] };
  },
  lengthOfMoved: () => ({ value: moved.byteLength }),
  lengthOf: (bytes) => ({ value: bytes.byteLength }),
  refuse(init) {
    throw new SyncEngineError('WAL_FULL', 'The disk is full.', { ...init, cause: new Error('the cause') });
  },
  refuseBarely() {
    throw new SyncEngineError('SCHEMA', 'Too new.');
  },
  async bug() {
    throw new RangeError('a bug');
  },
  throwText() {
    throw 'only text';
  },
  unsendable: () => ({ value: () => {} }),
  exit: (code) => process.exit(code),
  crash: () =>
    new Promise(() => {
      setImmediate(() => {
        throw new Error('an unexpected end');
      });
    }),
  spin() {
    for (;;);
  },
});
