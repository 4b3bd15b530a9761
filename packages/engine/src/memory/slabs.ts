/**
 * Bytes of many small records in few large buffers. A slab is filled from front to back and never overwritten: who
 * was given a view of a record may keep it for ever, whatever becomes of the record. A freed record leaves a dead
 * place; a slab of which most is dead is emptied by moving what lives to the newest one, and is then let go.
 *
 * A place is `slab × slabBytes + offset`, one number. Before each record lies the slot of its owner (u32, in the
 * machine's order), so that moving can tell the owner; `moved` must then answer the new place from then on.
 */
const HEAD_BYTES = 8;

/** Dead bytes are tolerated up to this share of all before a slab is emptied. */
const DEAD_SHARE_MAX = 1 / 6;

interface Slab {
  readonly bytes: Buffer;
  /** The same bytes as 32-bit words, for the heads. */
  readonly words: Uint32Array;
  /** Filled up to here. */
  end: number;
  live: number;
}

export interface SlabOwner {
  /** Where the record of this slot is, or -1. */
  placeOf(slot: number): number;
  moved(slot: number, place: number): void;
}

export class Slabs {
  readonly slabBytes: number;
  /** Largest record. */
  readonly recordBytesMax: number;
  readonly #owner: SlabOwner;
  readonly #slabs: (Slab | undefined)[] = [];
  readonly #free: number[] = [];
  #newest = -1;
  #count = 0;
  /** Bytes of freed records. */
  #dead = 0;

  /** @param slabBytes A power of two. */
  constructor(slabBytes: number, owner: SlabOwner) {
    this.slabBytes = slabBytes;
    this.recordBytesMax = slabBytes / 16;
    this.#owner = owner;
  }

  /** Bytes of all slabs. */
  get bytes(): number {
    return this.#count * this.slabBytes;
  }

  /**
   * Whether emptying a slab is worth more than freeing records. Every emptying ends some dead bytes and makes none, so
   * this ends. (Room that was never filled does not count: a slab's last bytes, the rest of the newest one.)
   */
  get fragmented(): boolean {
    return this.#dead > Math.max(this.slabBytes, this.bytes * DEAD_SHARE_MAX);
  }

  /** Room for a record of `length` bytes (at most `recordBytesMax`); the caller writes it at once. Returns its place. */
  allocate(slot: number, length: number): number {
    const taken = sizeOf(length);
    let slab = this.#slabs[this.#newest];
    if (slab === undefined || slab.end + taken > this.slabBytes) slab = this.#begin();
    const at = slab.end;
    slab.end += taken;
    slab.live += taken;
    slab.words[at >> 2] = slot;
    slab.words[(at >> 2) + 1] = length;
    return this.#newest * this.slabBytes + at + HEAD_BYTES;
  }

  /** The buffer that holds the place; `offsetOf` says where. */
  bufferOf(place: number): Buffer {
    return (this.#slabs[Math.floor(place / this.slabBytes)] as Slab).bytes;
  }

  offsetOf(place: number): number {
    return place & (this.slabBytes - 1);
  }

  lengthOf(place: number): number {
    const slab = this.#slabs[Math.floor(place / this.slabBytes)] as Slab;
    return slab.words[((place & (this.slabBytes - 1)) - HEAD_BYTES + 4) >> 2] as number;
  }

  /** The record's place is dead. */
  free(place: number): void {
    const number = Math.floor(place / this.slabBytes);
    const slab = this.#slabs[number] as Slab;
    const taken = sizeOf(slab.words[((place & (this.slabBytes - 1)) - HEAD_BYTES + 4) >> 2] as number);
    slab.live -= taken;
    this.#dead += taken;
    if (slab.live === 0) this.#drop(number);
  }

  /** Empties the slab of which the most is dead. Only where `fragmented`. */
  compact(): void {
    let deadest = -1;
    let most = 0;
    for (let number = 0; number < this.#slabs.length; number++) {
      const slab = this.#slabs[number];
      if (slab === undefined || number === this.#newest || slab.end - slab.live <= most) continue;
      most = slab.end - slab.live;
      deadest = number;
    }
    if (deadest !== -1) this.#empty(deadest);
  }

  #empty(number: number): void {
    const slab = this.#slabs[number] as Slab;
    const base = number * this.slabBytes;
    for (let at = 0; at < slab.end; ) {
      const slot = slab.words[at >> 2] as number;
      const length = slab.words[(at >> 2) + 1] as number;
      const start = at + HEAD_BYTES;
      at += sizeOf(length);
      if (this.#owner.placeOf(slot) !== base + start) continue;
      const place = this.allocate(slot, length);
      this.bufferOf(place).set(slab.bytes.subarray(start, start + length), this.offsetOf(place));
      this.#owner.moved(slot, place);
    }
    this.#drop(number);
  }

  #begin(): Slab {
    const memory = new ArrayBuffer(this.slabBytes);
    const slab: Slab = { bytes: Buffer.from(memory), words: new Uint32Array(memory), end: 0, live: 0 };
    const full = this.#newest;
    this.#newest = this.#free.pop() ?? this.#slabs.length;
    this.#slabs[this.#newest] = slab;
    this.#count++;
    if (full !== -1 && this.#slabs[full]?.live === 0) this.#drop(full);
    return slab;
  }

  #drop(number: number): void {
    const slab = this.#slabs[number] as Slab;
    this.#dead -= slab.end - slab.live;
    if (this.#newest === number) this.#newest = -1;
    this.#slabs[number] = undefined;
    this.#free.push(number);
    this.#count--;
  }
}

/** Bytes that a record of `length` takes, its head included. */
function sizeOf(length: number): number {
  return HEAD_BYTES + ((length + 3) & ~3);
}
