/** More writes than SQL takes, by callers that wait for none of them. Arguments: how many, directory. */
import { SyncEngine, SyncItem } from '#engine/index.js';

const count = Number(process.argv[2]);
const engine = new SyncEngine({
  sqlUrl: `sqlite:${process.argv[3]}/archive.db`,
  walPath: `${process.argv[3]}/log.db`,
  ack: 'memory',
});
await engine.start();
const content = Buffer.alloc(256, 7);
const refusals = new Set();
let taken = 0;
let refused = 0;
for (let at = 0; at < count; at++) {
  engine.submit(new SyncItem(`flood.${at}`, content)).then(
    () => taken++,
    (error) => {
      refused++;
      refusals.add(`${error.code} ${error.outcome} ${error.context.retryAfterMs > 0}`);
    },
  );
  if (at % 5000 === 4999) await new Promise((resolve) => setImmediate(resolve));
}
await engine.flush({ timeoutMs: 120_000 });
const stored = await engine.countPrefix('flood.');
const { backpressure } = await engine.healthCheck();
process.send({ taken, refused, stored, refusals: [...refusals], level: backpressure.name });
await engine.shutdown();
