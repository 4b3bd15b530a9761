/**
 * Finds the slot of an id. The owner keeps the ids; the index knows their hashes and slots.
 *
 * A `Map` from id to slot costs 0.5 µs for a new id and about 45 bytes, and while it grows it stops the event loop
 * for as long as it takes to rehash everything: 70 ms at a million. Here the hash picks one of 256 tables, each of
 * which grows by itself, in about 50 µs; nothing in them is traced by the garbage collector.
 *
 * Each table is open addressing with linear probing, at most 5/8 full. It holds slot + 1, and 0 where it is free.
 * Removal shifts back what follows, so there are no tombstones that a long life would pile up.
 */
const TABLES = 256;
/** Of a table that has nothing yet; never written to. */
const EMPTY = new Int32Array(1);

/** What the index asks of the owner of the slots. */
export interface SlotIds {
  /** Hash of the id in each slot. */
  hashes: Int32Array;
  hasId(slot: number, id: string): boolean;
}

export class IdIndex {
  readonly #slots: SlotIds;
  readonly #tables: Int32Array[];
  readonly #counts = new Int32Array(TABLES);
  #count = 0;
  #bytes = 0;

  constructor(slots: SlotIds) {
    this.#slots = slots;
    this.#tables = new Array<Int32Array>(TABLES).fill(EMPTY);
  }

  get count(): number {
    return this.#count;
  }

  /** Bytes of the tables. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The slot of the id, or -1. `hash` is `hashOfId(id)`. */
  find(id: string, hash: number): number {
    const table = this.#tables[hash >>> 24] as Int32Array;
    const mask = table.length - 1;
    const slots = this.#slots;
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const slot = (table[at] as number) - 1;
      if (slot === -1) return -1;
      if (slots.hashes[slot] === hash && slots.hasId(slot, id)) return slot;
    }
  }

  /** Takes a slot whose id is not in the index, and whose hash is in `hashes` already. */
  add(slot: number, hash: number): void {
    const of = hash >>> 24;
    const table = this.#tables[of] as Int32Array;
    const count = (this.#counts[of] as number) + 1;
    this.#counts[of] = count;
    this.#count++;
    if (count * 8 > table.length * 5) insert(this.#resize(of, table, table.length * 2), slot, hash);
    else insert(table, slot, hash);
  }

  remove(slot: number, hash: number): void {
    const of = hash >>> 24;
    const table = this.#tables[of] as Int32Array;
    const mask = table.length - 1;
    let at = hash & mask;
    while (table[at] !== slot + 1) at = (at + 1) & mask;
    this.#closeGap(table, at);
    const count = (this.#counts[of] as number) - 1;
    this.#counts[of] = count;
    this.#count--;
    if (count * 8 < table.length) this.#resize(of, table, table.length / 2);
  }

  /** Moves back what probing would no longer reach across the free place. */
  #closeGap(table: Int32Array, from: number): void {
    const mask = table.length - 1;
    const { hashes } = this.#slots;
    let gap = from;
    for (let at = (gap + 1) & mask; ; at = (at + 1) & mask) {
      const held = table[at] as number;
      if (held === 0) break;
      const home = (hashes[held - 1] as number) & mask;
      // It may move where its way from home to `at` passes the gap.
      if (((at - home) & mask) < ((at - gap) & mask)) continue;
      table[gap] = held;
      gap = at;
    }
    table[gap] = 0;
  }

  #resize(of: number, old: Int32Array, size: number): Int32Array {
    this.#bytes += (size - (old === EMPTY ? 0 : old.length)) * 4;
    const table = new Int32Array(size);
    const { hashes } = this.#slots;
    for (const held of old) if (held !== 0) insert(table, held - 1, hashes[held - 1] as number);
    this.#tables[of] = table;
    return table;
  }
}

function insert(table: Int32Array, slot: number, hash: number): void {
  const mask = table.length - 1;
  let at = hash & mask;
  while (table[at] !== 0) at = (at + 1) & mask;
  table[at] = slot + 1;
}

/** Random for each process, so that nobody can choose ids that all meet in one place of a table. */
export type HashSeed = number;

/**
 * A hash of the id's UTF-16 units: 32 bits, every bit depends on every unit and on the seed. FNV-1a over pairs of units,
 * which halves the chain of multiplications, with the finalizer of MurmurHash3 (fmix32), which FNV lacks.
 */
export function hashOfId(id: string, seed: HashSeed): number {
  const { length } = id;
  let hash = seed ^ length;
  let at = 0;
  for (; at < length - 1; at += 2) {
    hash = Math.imul(hash ^ (id.charCodeAt(at) | (id.charCodeAt(at + 1) << 16)), 0x01000193);
    hash ^= hash >>> 15;
  }
  if (at < length) hash = Math.imul(hash ^ id.charCodeAt(at), 0x01000193);
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
