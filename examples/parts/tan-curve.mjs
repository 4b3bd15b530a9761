/** Pacing of eviction, and an order of your own: here the oldest write goes first, however often it is read. */
import { SyncEngine, SyncItem, TanCurveMemoryPressure } from 'sync-engine';

const pace = new TanCurveMemoryPressure();
const MIB = 2 ** 20;
console.log(pace.bytesToFree(70 * MIB, 100 * MIB), pace.bytesToFree(85 * MIB, 100 * MIB) > 0); // 0 true

const order = new Map();
const evictionPolicy = { score: (entry) => order.get(entry.id) };
const engine = new SyncEngine({ l1MaxBytes: 256 * 1024 }, { evictionPolicy });
await engine.start();
for (let at = 0; at < 500; at++) {
  order.set(`id${at}`, at);
  await engine.submit(new SyncItem(`id${at}`, Buffer.alloc(1000)));
}
console.log(engine.peek('id0'), engine.peek('id499')?.sizeBytes); // undefined 1000
await engine.shutdown();
