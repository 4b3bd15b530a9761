/**
 * Which entry leaves memory. L1 tells of every entry by the number of its slot and asks for victims.
 *
 * A victim is the lowest of the newest entry, some random ones, and the lowest that earlier rounds left over.
 * Its worth is the rank that `eviction-odds.ts` learnt for its history and idle time, divided by its size.
 * What leaves is kept as a ghost, so that an id that comes back is known: its first new use already weighs
 * like a second one.
 *
 * Time is the count of uses: it goes on where a clock stands still, and a pause of the whole process ages
 * nothing. It wraps at 2^32, after which an entry that was idle all the time looks young once more.
 *
 * Invariants: the first `#evictable` members can be victims, the others are pinned; `#placeOf[slot]` is the
 * slot's place among the members, or -1.
 */
import { Ghosts } from './eviction-ghosts.js';
import { NEW_HISTORY, ReuseOdds } from './eviction-odds.js';
import type { CacheEntry, EvictionPolicy } from './tan-curve.js';

/** Entries that are drawn for one victim, and the most that are kept for the next one. */
const SAMPLES = 16;
const POOL = 8;

/** Ghosts for each entry. Below 2 a loop of twice the cache goes unnoticed. */
const GHOSTS_PER_ENTRY = 2;

/**
 * Ranks are made anew after so many uses, or a quarter as many as there are entries; what still waits is
 * taken from so many entries and ghosts. It takes about 0.1 ms.
 */
const FIT_EVERY_MIN = 1_000;
const FIT_SAMPLES = 500;

const SLOTS_MIN = 64;

export interface EvictorOptions {
  /** Where random draws start. */
  readonly seed: number;
  /** Decides instead of what was learnt; needs to be shown entries. */
  readonly plugged?: {
    readonly policy: EvictionPolicy;
    entryOf(slot: number): CacheEntry;
  };
}

export class Evictor {
  readonly #plugged: EvictorOptions['plugged'];
  readonly #odds = new ReuseOdds();
  readonly #ghosts = new Ghosts();

  // By slot.
  #lastUse = new Uint32Array(SLOTS_MIN);
  #history = new Uint8Array(SLOTS_MIN);
  #sizes = new Uint32Array(SLOTS_MIN);
  #hashes = new Uint32Array(SLOTS_MIN);
  #placeOf = new Int32Array(SLOTS_MIN).fill(-1);

  #members = new Uint32Array(SLOTS_MIN);
  #count = 0;
  #evictable = 0;
  #bytes = 0;
  #pinnedBytes = 0;

  /** Uses so far, and the state of the random draws: in an array, as a field beyond 31 bits is boxed. */
  readonly #state = new Uint32Array(2);
  #fittedAt = 0;

  /** The lowest of the last round, ascending, and their scores. */
  readonly #pool = new Uint32Array(POOL);
  readonly #scores = new Float64Array(POOL);
  #pooled = 0;
  /** The slot that was added last. In a loop the newest entry is the one whose next use is farthest. */
  #newest = 0;

  constructor(options: EvictorOptions) {
    this.#plugged = options.plugged;
    this.#state[0] = 1;
    // Spread, as near seeds would draw alike at first; and xorshift cannot leave 0.
    this.#state[1] = Math.imul(options.seed ^ 0x5bd1e995, 0x9e3779b1) || 1;
    this.#fittedAt = 1;
  }

  /** Entries, pinned ones among them. */
  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get pinnedCount(): number {
    return this.#count - this.#evictable;
  }

  get pinnedBytes(): number {
    return this.#pinnedBytes;
  }

  get ghostCount(): number {
    return this.#ghosts.count;
  }

  /** Bytes of everything held here: 21 a slot, 8 a ghost, 67 KiB for what was learnt. */
  get overheadBytes(): number {
    const perSlot = this.#lastUse.length * 21;
    return perSlot + this.#ghosts.overheadBytes + this.#odds.overheadBytes + POOL * 12 + 8;
  }

  /** The slot holds an entry that may be evicted. Counts as a use. */
  added(slot: number, idHash: number, sizeBytes: number): void {
    if (slot >= this.#placeOf.length) this.#growSlots(slot + 1);
    if (this.#placeOf[slot] !== -1) this.removed(slot);
    const now = this.#nextUse();
    const ghost = this.#ghosts.find(idHash);
    if (ghost === -1) {
      this.#history[slot] = NEW_HISTORY;
    } else {
      const gap = (now - this.#ghosts.lastUse(ghost)) >>> 0 || 1;
      this.#history[slot] = this.#odds.used(this.#ghosts.history(ghost), gap);
      this.#ghosts.remove(ghost);
    }
    this.#newest = slot;
    this.#lastUse[slot] = now;
    this.#hashes[slot] = idHash;
    this.#sizes[slot] = sizeBytes;
    this.#bytes += sizeBytes;
    this.#members[this.#count] = slot;
    this.#placeOf[slot] = this.#count++;
    this.#swap(this.#count - 1, this.#evictable++);
  }

  /** The entry was used. Pinned ones learn too. */
  accessed(slot: number): void {
    const now = this.#nextUse();
    const gap = (now - (this.#lastUse[slot] as number)) >>> 0 || 1;
    this.#history[slot] = this.#odds.used(this.#history[slot] as number, gap);
    this.#lastUse[slot] = now;
  }

  resized(slot: number, sizeBytes: number): void {
    const place = this.#placeOf[slot] as number;
    const growth = sizeBytes - (this.#sizes[slot] as number);
    this.#sizes[slot] = sizeBytes;
    this.#bytes += growth;
    if (place >= this.#evictable) this.#pinnedBytes += growth;
  }

  /** From now on the entry is no victim. Twice is once. */
  pin(slot: number): void {
    const place = this.#placeOf[slot] as number;
    if (place >= this.#evictable) return;
    this.#swap(place, --this.#evictable);
    this.#pinnedBytes += this.#sizes[slot] as number;
  }

  unpin(slot: number): void {
    const place = this.#placeOf[slot] as number;
    if (place < this.#evictable) return;
    this.#swap(place, this.#evictable++);
    this.#pinnedBytes -= this.#sizes[slot] as number;
  }

  /** The entry was deleted or dropped: nothing is remembered of it. */
  removed(slot: number): void {
    if ((this.#placeOf[slot] ?? -1) === -1) return;
    this.#odds.lost(this.#history[slot] as number, this.#idle(slot));
    this.#forget(slot);
  }

  /** Takes an entry out and returns its slot; -1 where all are pinned or none is there. */
  victim(now: number): number {
    if (this.#evictable === 0) return -1;
    this.#learn();
    this.#draw(now);
    const slot = this.#pool[0] as number;
    this.#pool.copyWithin(0, 1, this.#pooled);
    this.#scores.copyWithin(0, 1, this.#pooled--);
    if (this.#plugged === undefined) this.#remember(slot);
    else this.#plugged.policy.evicted?.(this.#plugged.entryOf(slot), now);
    this.#forget(slot);
    return slot;
  }

  #nextUse(): number {
    const state = this.#state;
    (state[0] as number)++;
    // Ghosts mark empty cells by a time of 0.
    if (state[0] === 0) state[0] = 1;
    return state[0] as number;
  }

  /** Uses since the entry's last one, at least 1. */
  #idle(slot: number): number {
    return ((this.#state[0] as number) - (this.#lastUse[slot] as number)) >>> 0 || 1;
  }

  /** A whole number below `bound`. */
  #random(bound: number): number {
    let state = this.#state[1] as number;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state[1] = state;
    return Math.floor(((state >>> 0) / 2 ** 32) * bound);
  }

  #scoreOf(slot: number, now: number): number {
    if (this.#plugged !== undefined) {
      const score = this.#plugged.policy.score(this.#plugged.entryOf(slot), now);
      return Number.isNaN(score) ? Number.NEGATIVE_INFINITY : score;
    }
    const rank = this.#odds.rank(this.#history[slot] as number, this.#idle(slot));
    return rank / Math.max(1, this.#sizes[slot] as number);
  }

  /** Fills the pool with the lowest of what is still there of it and of some random entries. */
  #draw(now: number): void {
    const before = this.#pooled;
    this.#pooled = 0;
    for (let at = 0; at < before; at++) {
      const slot = this.#pool[at] as number;
      // Since then it may have left, or been pinned; or hold another entry, which is as good as any.
      if (this.#isEvictable(slot)) this.#insert(slot, this.#scoreOf(slot, now));
    }
    if (this.#evictable <= SAMPLES) {
      for (let place = 0; place < this.#evictable; place++) this.#offer(this.#members[place] as number, now);
      return;
    }
    if (this.#isEvictable(this.#newest)) this.#offer(this.#newest, now);
    for (let drawn = 0; drawn < SAMPLES; drawn++) {
      this.#offer(this.#members[this.#random(this.#evictable)] as number, now);
    }
  }

  /** Puts the slot into the pool where it is low enough and not there yet. */
  #offer(slot: number, now: number): void {
    const score = this.#scoreOf(slot, now);
    if (this.#pooled === POOL && score >= (this.#scores[POOL - 1] as number)) return;
    for (let at = 0; at < this.#pooled; at++) if (this.#pool[at] === slot) return;
    this.#insert(slot, score);
  }

  /** In order of scores; of a full pool the highest goes. */
  #insert(slot: number, score: number): void {
    const pool = this.#pool;
    const scores = this.#scores;
    let at = this.#pooled === POOL ? POOL - 1 : this.#pooled++;
    for (; at > 0 && (scores[at - 1] as number) > score; at--) {
      scores[at] = scores[at - 1] as number;
      pool[at] = pool[at - 1] as number;
    }
    scores[at] = score;
    pool[at] = slot;
  }

  #remember(slot: number): void {
    const now = this.#state[0] as number;
    const hash = this.#hashes[slot] as number;
    this.#ghosts.reserve(this.#count * GHOSTS_PER_ENTRY);
    const cell = this.#ghosts.placeOf(hash, this.#random(2 ** 31));
    const lastUse = this.#ghosts.lastUse(cell);
    if (lastUse !== 0) this.#odds.lost(this.#ghosts.history(cell), (now - lastUse) >>> 0 || 1);
    this.#ghosts.putAt(cell, hash, this.#history[slot] as number, this.#lastUse[slot] as number);
  }

  #forget(slot: number): void {
    const size = this.#sizes[slot] as number;
    this.#bytes -= size;
    if (this.#isPinned(slot)) this.#pinnedBytes -= size;
    else this.#swap(this.#placeOf[slot] as number, --this.#evictable);
    this.#swap(this.#placeOf[slot] as number, --this.#count);
    this.#placeOf[slot] = -1;
  }

  #isEvictable(slot: number): boolean {
    const place = this.#placeOf[slot] as number;
    return place >= 0 && place < this.#evictable;
  }

  #isPinned(slot: number): boolean {
    return (this.#placeOf[slot] as number) >= this.#evictable;
  }

  #swap(place: number, other: number): void {
    const members = this.#members;
    const slot = members[place] as number;
    const otherSlot = members[other] as number;
    members[place] = otherSlot;
    members[other] = slot;
    this.#placeOf[otherSlot] = place;
    this.#placeOf[slot] = other;
  }

  /** Now and then makes ranks of what was observed, with a sample of what still waits. */
  #learn(): void {
    const now = this.#state[0] as number;
    const passed = (now - this.#fittedAt) >>> 0;
    if (this.#plugged !== undefined || passed < Math.max(FIT_EVERY_MIN, this.#count / 4)) return;
    this.#fittedAt = now;
    const entries = Math.min(this.#count, FIT_SAMPLES);
    for (let drawn = 0; drawn < entries; drawn++) {
      const slot = this.#members[this.#random(this.#count)] as number;
      this.#odds.waits(this.#history[slot] as number, this.#idle(slot), this.#count / entries);
    }
    const cells = this.#ghosts.capacity;
    const ghosts = Math.min(cells, FIT_SAMPLES);
    for (let drawn = 0; drawn < ghosts; drawn++) {
      const cell = this.#random(cells);
      const lastUse = this.#ghosts.lastUse(cell);
      if (lastUse === 0) continue;
      this.#odds.waits(this.#ghosts.history(cell), (now - lastUse) >>> 0 || 1, cells / ghosts);
    }
    this.#odds.fit();
    this.#odds.fade(passed, this.#count);
  }

  #growSlots(needed: number): void {
    let length = this.#placeOf.length;
    while (length < needed) length = Math.ceil(length * 1.5);
    this.#lastUse = grown(this.#lastUse, new Uint32Array(length));
    this.#history = grown(this.#history, new Uint8Array(length));
    this.#sizes = grown(this.#sizes, new Uint32Array(length));
    this.#hashes = grown(this.#hashes, new Uint32Array(length));
    this.#members = grown(this.#members, new Uint32Array(length));
    this.#placeOf = grown(this.#placeOf, new Int32Array(length).fill(-1));
  }
}

function grown<T extends Uint8Array | Uint32Array | Int32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
