/** What items take in memory, beside what the engine accounts. Arguments: how many. Run with --expose-gc. */
import { SyncEngine, SyncItem } from '#engine/index.js';

const count = Number(process.argv[2]);
const content = Buffer.alloc(100, 7);
const engine = new SyncEngine({ l1MaxBytes: 2 ** 30 });
await engine.start();

const collected = async () => {
  for (let round = 0; round < 4; round++) {
    globalThis.gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
};

for (let at = 0; at < 1000; at++) await engine.submit(new SyncItem(`first.${at}`, content));
const before = await collected();
const accountedBefore = engine.l1Stats().bytes;
for (let at = 0; at < count; at++) {
  void engine.submit(new SyncItem(`user.${at}.profile.v1`, content));
  if (at % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
}
const grown = (await collected()) - before;
const accounted = engine.l1Stats().bytes - accountedBefore;
process.send({ overheadBytes: grown / count - content.length, accountedShare: accounted / grown });
await engine.shutdown();
