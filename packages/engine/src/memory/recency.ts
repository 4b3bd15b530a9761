/** Order of eviction by last use, in slots: doubly linked through two arrays. */
export class Recency {
  #earlier = new Int32Array(0);
  #later = new Int32Array(0);
  #first = -1;
  #last = -1;

  get slotBytes(): number {
    return 8;
  }

  grow(slots: number): void {
    this.#earlier = grown(this.#earlier, slots);
    this.#later = grown(this.#later, slots);
  }

  added(slot: number, _hash: number, _sizeBytes: number, _now: number): void {
    this.#earlier[slot] = this.#last;
    this.#later[slot] = -1;
    if (this.#last === -1) this.#first = slot;
    else this.#later[this.#last] = slot;
    this.#last = slot;
  }

  accessed(slot: number, now: number): void {
    if (this.#last === slot) return;
    this.removed(slot);
    this.added(slot, 0, 0, now);
  }

  removed(slot: number): void {
    const earlier = this.#earlier[slot] as number;
    const later = this.#later[slot] as number;
    if (earlier === -1) this.#first = later;
    else this.#later[earlier] = later;
    if (later === -1) this.#last = earlier;
    else this.#earlier[later] = earlier;
  }

  victim(_now: number): number {
    const slot = this.#first;
    if (slot !== -1) this.removed(slot);
    return slot;
  }
}

function grown(old: Int32Array, slots: number): Int32Array<ArrayBuffer> {
  const array = new Int32Array(slots);
  array.set(old);
  return array;
}
