/** The evictor of L1, driven as L1 drives it: by slots that are used again, with the hash of each id. */
import { Evictor } from '../../packages/engine/dist/memory/eviction.js';

/** Spreads dense keys over 32 bits. */
export function hashOf(key) {
  const first = Math.imul(key ^ (key >>> 16), 0x85ebca6b);
  const second = Math.imul(first ^ (first >>> 13), 0xc2b2ae35);
  return (second ^ (second >>> 16)) >>> 0;
}

export class Ours {
  constructor({ capacity, keyCount, seed = 7 }) {
    this.capacity = capacity;
    this.evictor = new Evictor({ seed });
    this.slotOf = new Int32Array(keyCount).fill(-1);
    this.keyOf = [];
    this.free = [];
  }
  request(key, size) {
    const slot = this.slotOf[key];
    if (slot !== -1) {
      this.evictor.accessed(slot);
      return true;
    }
    if (size > this.capacity) return false;
    const taken = this.free.pop() ?? this.keyOf.length;
    this.keyOf[taken] = key;
    this.slotOf[key] = taken;
    this.evictor.added(taken, hashOf(key), size);
    // What came last competes with the others: what is not worth its place leaves at once.
    while (this.evictor.bytes > this.capacity) {
      const victim = this.evictor.victim(0);
      this.slotOf[this.keyOf[victim]] = -1;
      this.free.push(victim);
    }
    return false;
  }
}
