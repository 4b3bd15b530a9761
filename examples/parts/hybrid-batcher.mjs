/** Batches by count, by bytes, or by age; of several items of one id the newest stays, in the place of the first. */
import { HybridBatcher } from 'sync-engine';

const row = (id, text) => ({ id, text, sizeBytes: Buffer.byteLength(text) });
const batcher = new HybridBatcher({ flushCount: 3, flushBytes: 1024, flushMs: 100 });

console.log(batcher.addMany([row('a', 'one'), row('b', 'two'), row('a', 'three')])); // undefined
console.log(batcher.stats.items, batcher.stats.bytes, batcher.stats.coalesced); // 2 8 1
console.log(batcher.add(row('c', 'four'))); // count

const batch = batcher.takeIfReady();
console.log(batch.reason, batch.items.map(({ id, text }) => `${id}=${text}`).join(' ')); // count a=three b=two c=four

// Age is asked for, not waited for: call takeIfReady() from a timer of your own. At the end, take what is left.
batcher.add(row('d', 'five'));
console.log(batcher.takeIfReady()); // undefined
console.log(batcher.forceFlush('shutdown').items.length, batcher.contains('d')); // 1 false
