/**
 * Distinct writes while SQL is away. Arguments: how many, bytes of memory, directory. Run with --expose-gc.
 */
import { SyncEngine, SyncEngineError, SyncItem } from '#engine/index.js';

const [count, l1MaxBytes] = process.argv.slice(2, 4).map(Number);
const away = () => Promise.reject(new SyncEngineError('TIER_UNAVAILABLE', 'SQL is away.'));
const archive = new Proxy({}, { get: (_target, name) => (name === 'close' ? async () => {} : away) });
const engine = new SyncEngine({ l1MaxBytes, walPath: `${process.argv[4]}/log.db` }, { archive });
await engine.start();
const content = Buffer.alloc(100, 7);
const collected = async () => {
  for (let round = 0; round < 4; round++) {
    globalThis.gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
};
const before = await collected();
let most = 0;
let refused = 0;
for (let at = 0; at < count; ) {
  const batch = Array.from({ length: 1000 }, () => new SyncItem(`order.${at++}`, content));
  refused += (await engine.submitMany(batch, { ack: 'wal' })).failed;
  most = Math.max(most, engine.l1Stats().bytes);
}
const grown = (await collected()) - before;
const accounted = engine.l1Stats().bytes;
const sample = await engine.getMany([`order.0`, `order.${count >> 1}`, `order.${count - 1}`]);
const { spilledItems, dirtyItems } = engine.l1Stats();
process.send({
  grown,
  accounted,
  most,
  refused,
  spilledItems,
  dirtyItems,
  read: sample.filter(Boolean).length,
});
await engine.shutdown();
