/**
 * Which clean entry leaves next.
 *
 *   new ids ─► probation (FIFO) ──read again?── yes ─► main ◄── ids that left not long ago (ghosts)
 *                     │ no                              │
 *                     ▼                                 ▼ the lowest score of a few random ones
 *                   ghost                             ghost
 *
 * Probation keeps what is read once from displacing what is read often (S3-FIFO, Yang et al., SOSP 2023,
 * https://dl.acm.org/doi/10.1145/3600006.3613147). In main the score is
 *
 *   weight × log2(1 + reads)  −  age / residency  −  density × log2(size)
 *
 * Age is counted in operations, and residency is how old victims have been of late, so nothing depends on a clock or on
 * a fixed span: a fixed hour cost 10 points of hit ratio on one trace. Victims are found by sampling (as in Redis): no
 * list to keep up on a read. `reads` is a 4-bit count that ages.
 *
 * No one setting is right: traffic that returns to what is recent wants no probation and no frequency (LRU), a scan
 * wants both, a loop wants what is there to stay. So four settings are tried on a small sample of the ids in miniature caches (Waldspurger et al., ATC
 * 2017, https://www.usenix.org/conference/atc17/technical-sessions/presentation/waldspurger), and the one that hits the
 * most is used. docs/decisions.md has what was measured.
 */
import { hashOfNumber } from './id-index.js';

/** What a score is made of. */
interface Setting {
  /** Share of the bytes that probation may take; 0: new ids go to main. */
  readonly probation: number;
  /** Of the count of reads, in units of residency. */
  readonly weight: number;
  /** Whether an id that comes back soon goes to main at once. Where it does not, a loop cannot empty main. */
  readonly ghosts: boolean;
}

const BALANCED: Setting = { probation: 0.1, weight: 1, ghosts: true };
const PLUGGED: Setting = { probation: 0, weight: 0, ghosts: false };
const SETTINGS: readonly Setting[] = [
  BALANCED,
  { probation: 0.3, weight: 0.7, ghosts: true },
  { probation: 0, weight: 0, ghosts: true },
  { probation: 0.02, weight: 2, ghosts: false },
];
const DENSITY = 0.3;

const SAMPLES = 6;
/** The lowest of earlier samples, which take part again. */
const POOL = 6;
const READS_MAX = 15;
/** Weight of the newest victim's age in the measured residency. */
const RESIDENCY_STEP = 1 / 512;

const NONE = 0;
const PROBATION = 1;
const MAIN = 2;

/** A score of a user's own: of a slot, lowest first. */
export type PluggedScore = (slot: number) => number;

/** One cache's order of eviction, over slots. */
class Ranks {
  setting: Setting;
  #capacityBytes: number;
  // One element a slot.
  #region = new Uint8Array(0);
  #reads = new Uint8Array(0);
  #lastUsed = new Int32Array(0);
  readonly #pool = new Int32Array(SAMPLES + POOL);
  readonly #scores = new Float64Array(SAMPLES + POOL);
  #pooled = 0;
  #sizes = new Int32Array(0);
  /** log2 of the size. */
  #logSizes = new Float32Array(0);
  #hashes = new Int32Array(0);
  /** Place in `#main`, or among all that ever came on probation. */
  #places = new Int32Array(0);

  #main: Int32Array = new Int32Array(64);
  #mainCount = 0;
  /** Slots in the order of their coming, -1 where one has left. */
  #queue: number[] = [];
  #queueHead = 0;
  #queueStart = 0;
  #probationCount = 0;
  #probationBytes = 0;
  #mainBytes = 0;

  #tick = 0;
  #residency = 1024;
  #random: number;
  readonly #plugged: PluggedScore | undefined;
  readonly #ghosts = new Ghosts();

  constructor(setting: Setting, capacityBytes: number, seed: number, plugged?: PluggedScore) {
    this.#plugged = plugged;
    this.setting = setting;
    this.#capacityBytes = capacityBytes;
    this.#random = seed | 1;
  }

  static readonly slotBytes = 1 + 1 + 4 + 4 + 4 + 4 + 4 + 4;

  get count(): number {
    return this.#mainCount + this.#probationCount;
  }

  get bytes(): number {
    return this.#mainBytes + this.#probationBytes;
  }

  hashOf(slot: number): number {
    return this.#hashes[slot] as number;
  }

  sizeOf(slot: number): number {
    return this.#sizes[slot] as number;
  }

  get ghostBytes(): number {
    return this.#ghosts.bytes;
  }

  set capacityBytes(bytes: number) {
    this.#capacityBytes = bytes;
  }

  get capacityBytes(): number {
    return this.#capacityBytes;
  }

  grow(slots: number): void {
    this.#region = grown(this.#region, new Uint8Array(slots));
    this.#reads = grown(this.#reads, new Uint8Array(slots));
    this.#lastUsed = grown(this.#lastUsed, new Int32Array(slots));
    this.#sizes = grown(this.#sizes, new Int32Array(slots));
    this.#logSizes = grown(this.#logSizes, new Float32Array(slots));
    this.#hashes = grown(this.#hashes, new Int32Array(slots));
    this.#places = grown(this.#places, new Int32Array(slots));
    this.#ghosts.grow(slots);
  }

  added(slot: number, hash: number, sizeBytes: number): void {
    this.#tick = (this.#tick + 1) | 0;
    this.#lastUsed[slot] = this.#tick;
    this.#hashes[slot] = hash;
    this.#sizes[slot] = sizeBytes;
    this.#logSizes[slot] = Math.log2(sizeBytes);
    const reads = this.#ghosts.take(hash, this.count);
    const { probation, ghosts } = this.setting;
    // Probation protects what is there; while there is room nothing needs protection.
    const room = this.bytes + sizeBytes <= (1 - probation) * this.#capacityBytes;
    if ((reads >= 0 && ghosts) || probation === 0 || room) {
      this.#reads[slot] = Math.min(READS_MAX, reads + 1); // 0 where it is no ghost
      this.#toMain(slot, sizeBytes);
      return;
    }
    this.#reads[slot] = 0;
    this.#region[slot] = PROBATION;
    this.#places[slot] = this.#queueStart + this.#queue.push(slot) - 1;
    this.#probationCount++;
    this.#probationBytes += sizeBytes;
  }

  accessed(slot: number): void {
    this.#tick = (this.#tick + 1) | 0;
    this.#lastUsed[slot] = this.#tick;
    const reads = this.#reads[slot] as number;
    if (reads < READS_MAX) this.#reads[slot] = reads + 1;
  }

  removed(slot: number): void {
    if (this.#region[slot] !== NONE)
      this.#ghosts.add(this.#hashes[slot] as number, this.#reads[slot] as number);
    if (this.#region[slot] === MAIN) this.#outOfMain(slot);
    else if (this.#region[slot] === PROBATION) {
      this.#queue[(this.#places[slot] as number) - this.#queueStart] = -1;
      this.#outOfProbation(slot);
    }
  }

  /** The slot that leaves, remembered as a ghost; -1 where there is none. */
  victim(): number {
    while (this.#probationCount > 0) {
      const full = this.#probationBytes > this.setting.probation * this.#capacityBytes;
      if (!full && this.#mainCount > 0) break;
      const slot = this.#nextOnProbation();
      const reads = this.#reads[slot] as number;
      // Without probation its places are emptied into main as they come up.
      if (reads === 0 && this.setting.probation > 0) return this.#leaving(slot);
      this.#toMain(slot, this.#sizes[slot] as number);
    }
    if (this.#mainCount === 0) return -1;
    const slot = this.#lowest();
    const age = (this.#tick - (this.#lastUsed[slot] as number)) | 0;
    this.#residency += (age - this.#residency) * RESIDENCY_STEP;
    this.#outOfMain(slot);
    return this.#leaving(slot);
  }

  #leaving(slot: number): number {
    this.#ghosts.add(this.#hashes[slot] as number, this.#reads[slot] as number);
    return slot;
  }

  /** The lowest score of some random slots of main and of the lowest that earlier samples left. */
  #lowest(): number {
    const pool = this.#pool;
    let count = 0;
    for (let at = 0; at < this.#pooled; at++) {
      const slot = pool[at] as number;
      if (this.#region[slot] === MAIN) count = this.#rank(slot, count);
    }
    for (let sample = 0; sample < SAMPLES; sample++) {
      count = this.#rank(this.#main[this.#randomBelow(this.#mainCount)] as number, count);
    }
    const victim = pool[0] as number;
    this.#pooled = Math.min(POOL, count - 1);
    pool.copyWithin(0, 1, this.#pooled + 1);
    return victim;
  }

  /** Puts a slot where it belongs among the first `count` of the pool, lowest first. Returns how many there are then. */
  #rank(slot: number, count: number): number {
    const pool = this.#pool;
    const scores = this.#scores;
    const score = this.#score(slot);
    let at = count;
    while (at > 0 && (scores[at - 1] as number) > score) at--;
    for (let same = at; same > 0 && scores[same - 1] === score; same--)
      if (pool[same - 1] === slot) return count;
    for (let to = count; to > at; to--) {
      pool[to] = pool[to - 1] as number;
      scores[to] = scores[to - 1] as number;
    }
    pool[at] = slot;
    scores[at] = score;
    return count + 1;
  }

  #score(slot: number): number {
    if (this.#plugged !== undefined) return this.#plugged(slot);
    const age = (this.#tick - (this.#lastUsed[slot] as number)) | 0;
    const value = this.setting.weight * (LOG_READS[this.#reads[slot] as number] as number);
    return value - age / this.#residency - DENSITY * (this.#logSizes[slot] as number);
  }

  #toMain(slot: number, sizeBytes: number): void {
    if (this.#mainCount === this.#main.length)
      this.#main = grown(this.#main, new Int32Array(Math.ceil(this.#mainCount * 1.125) + 64));
    this.#region[slot] = MAIN;
    this.#places[slot] = this.#mainCount;
    this.#main[this.#mainCount++] = slot;
    this.#mainBytes += sizeBytes;
  }

  #outOfMain(slot: number): void {
    const place = this.#places[slot] as number;
    const last = this.#main[--this.#mainCount] as number;
    this.#main[place] = last;
    this.#places[last] = place;
    this.#mainBytes -= this.#sizes[slot] as number;
    this.#region[slot] = NONE;
  }

  #outOfProbation(slot: number): void {
    this.#probationCount--;
    this.#probationBytes -= this.#sizes[slot] as number;
    this.#region[slot] = NONE;
  }

  #nextOnProbation(): number {
    let slot = -1;
    while (slot === -1) slot = this.#queue[this.#queueHead++] as number;
    if (this.#queueHead > 1024 && this.#queueHead * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#queueHead);
      this.#queueStart += this.#queueHead;
      this.#queueHead = 0;
    }
    this.#outOfProbation(slot);
    return slot;
  }

  /** Xorshift: victims need no better. */
  #randomBelow(limit: number): number {
    let x = this.#random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#random = x;
    return (x >>> 0) % limit;
  }
}

const LOG_READS = Array.from({ length: READS_MAX + 1 }, (_, reads) => Math.log2(1 + reads));

/** Hashes of ids that left not long ago, with their counts of reads: four places each may be in. */
class Ghosts {
  #hashes = new Int32Array(0);
  /** `leaving << 4 | reads`; 0 for none. */
  #marks = new Int32Array(0);
  #mask = 0;
  /** How many have left; starts where no mark is 0. */
  #left = 1;

  get bytes(): number {
    return this.#hashes.length * 8;
  }

  /** Room for as many as there are slots. What is remembered is forgotten: the table grows seldom. */
  grow(slots: number): void {
    let size = 64;
    while (size < slots) size *= 2;
    if (size <= this.#hashes.length) return;
    this.#hashes = new Int32Array(size);
    this.#marks = new Int32Array(size);
    this.#mask = size / 4 - 1;
  }

  add(hash: number, reads: number): void {
    this.#left = (this.#left + 1) & 0x7ffffff;
    const bucket = (hash & this.#mask) * 4;
    let oldest = bucket;
    let oldestAge = -1;
    for (let at = bucket; at < bucket + 4; at++) {
      const age = this.#ageOf(this.#marks[at] as number);
      if (age <= oldestAge) continue;
      oldest = at;
      oldestAge = age;
    }
    this.#hashes[oldest] = hash;
    this.#marks[oldest] = (this.#left << 4) | reads;
  }

  /** Count of reads of an id that was among the last `span` to leave, which is forgotten; else -1. */
  take(hash: number, span: number): number {
    const bucket = (hash & this.#mask) * 4;
    for (let at = bucket; at < bucket + 4; at++) {
      if (this.#hashes[at] !== hash) continue;
      const mark = this.#marks[at] as number;
      if (mark === 0) continue;
      this.#marks[at] = 0;
      return this.#ageOf(mark) <= span ? mark & READS_MAX : -1;
    }
    return -1;
  }

  #ageOf(mark: number): number {
    return mark === 0 ? 0x7ffffff : (this.#left - (mark >>> 4)) & 0x7ffffff;
  }
}

/** Entries that a miniature cache should hold: enough to tell settings apart, few enough to cost nothing. */
const MINIATURE_ENTRIES = 512;
/** Accesses of the sample between two looks at who is best, in entries of a miniature cache. */
const EPOCH = 4;
/** A setting takes over where it has hit this much more often, as a share of accesses. */
const MARGIN = 0.004;

/** A cache of the sampled ids alone, under one setting. */
class Miniature {
  readonly ranks: Ranks;
  readonly #slots = new Map<number, number>();
  readonly #hashes: number[] = [];
  readonly #free: number[] = [];
  #capacity = 64;
  hits = 0;

  constructor(setting: Setting, seed: number) {
    this.ranks = new Ranks(setting, 1, seed);
    this.ranks.grow(this.#capacity);
  }

  access(hash: number, sizeBytes: number): void {
    const present = this.#slots.get(hash);
    if (present !== undefined) {
      this.hits++;
      this.ranks.accessed(present);
      return;
    }
    const slot = this.#free.pop() ?? this.#hashes.length;
    if (slot === this.#capacity) {
      this.#capacity *= 2;
      this.ranks.grow(this.#capacity);
    }
    this.#hashes[slot] = hash;
    this.#slots.set(hash, slot);
    this.ranks.added(slot, hash, sizeBytes);
    this.shrink();
  }

  shrink(): void {
    while (this.ranks.bytes > this.ranks.capacityBytes) {
      const slot = this.ranks.victim();
      this.#slots.delete(this.#hashes[slot] as number);
      this.#free.push(slot);
    }
  }
}

/** L1's order of eviction: `Ranks` under whichever setting the sample of ids likes best. */
export class Eviction {
  readonly #ranks: Ranks;
  readonly #seed: number;
  readonly #plugged: boolean;
  #miniatures: readonly Miniature[];
  /** Ids whose mixed hash has none of these bits are sampled. */
  #sampleMask = 0;
  #sampled = 0;
  /** Whether entries have been evicted of late: else no setting is better than another, and nothing is sampled. */
  #pressed = false;
  /** Since the last choice. */
  #victims = 0;

  /** @param plugged Takes the place of the score, and of probation. */
  constructor(capacityBytes: number, seed = 1, plugged?: PluggedScore) {
    this.#seed = seed;
    this.#plugged = plugged !== undefined;
    this.#ranks = new Ranks(plugged === undefined ? BALANCED : PLUGGED, capacityBytes, seed, plugged);
    this.#miniatures = this.#fresh();
  }

  get slotBytes(): number {
    return Ranks.slotBytes;
  }

  /** Bytes beside those of the slots. */
  get overheadBytes(): number {
    return this.#ranks.ghostBytes;
  }

  get count(): number {
    return this.#ranks.count;
  }

  /** Share of probation and weight of reads that are in use. */
  get setting(): Setting {
    return this.#ranks.setting;
  }

  set capacityBytes(bytes: number) {
    this.#ranks.capacityBytes = bytes;
  }

  grow(slots: number): void {
    this.#ranks.grow(slots);
  }

  /** The slot has an entry that may be evicted from now on. */
  added(slot: number, hash: number, sizeBytes: number): void {
    this.#ranks.added(slot, hash, sizeBytes);
    if (this.#pressed) this.#sample(hash, sizeBytes);
  }

  /** It was read. */
  accessed(slot: number): void {
    this.#ranks.accessed(slot);
    if (this.#pressed) this.#sample(this.#ranks.hashOf(slot), this.#ranks.sizeOf(slot));
  }

  /** It may not be evicted any more: it is gone, or pending. Comes it back, its reads are remembered. */
  removed(slot: number): void {
    this.#ranks.removed(slot);
  }

  /** The slot that leaves, or -1. */
  victim(): number {
    this.#victims++;
    if (!this.#pressed && !this.#plugged) this.#fit();
    return this.#ranks.victim();
  }

  #sample(hash: number, sizeBytes: number): void {
    if ((hashOfNumber(hash) & this.#sampleMask) !== 0) return;
    for (const miniature of this.#miniatures) miniature.access(hash, sizeBytes);
    if (++this.#sampled >= MINIATURE_ENTRIES * EPOCH) this.#choose();
  }

  /** Takes the best setting, forgets a half of what was counted, and fits the sample to the size of the cache. */
  #choose(): void {
    const ranks = this.#ranks;
    const of = (setting: Setting): Miniature =>
      this.#miniatures.find((miniature) => miniature.ranks.setting === setting) as Miniature;
    let best = of(ranks.setting);
    for (const miniature of this.#miniatures) {
      if (miniature.hits > best.hits + MARGIN * this.#sampled) best = miniature;
    }
    ranks.setting = best.ranks.setting;
    this.#sampled = 0;
    for (const miniature of this.#miniatures) miniature.hits >>= 1;
    this.#fit();
    this.#pressed = this.#victims > 0;
    this.#victims = 0;
  }

  #fit(): void {
    this.#pressed = true;
    let mask = 0;
    while (this.#ranks.count > MINIATURE_ENTRIES * 2 * (mask + 1)) mask = mask * 2 + 1;
    if (mask !== this.#sampleMask) {
      this.#sampleMask = mask;
      this.#miniatures = this.#fresh();
    }
    const full = this.#ranks.bytes / (this.#sampleMask + 1);
    for (const miniature of this.#miniatures) {
      miniature.ranks.capacityBytes = full;
      miniature.shrink();
    }
  }

  #fresh(): readonly Miniature[] {
    return SETTINGS.map((setting) => {
      const miniature = new Miniature(setting, this.#seed);
      miniature.ranks.capacityBytes = this.#ranks.capacityBytes;
      return miniature;
    });
  }
}

function grown<T extends { set(source: T): void }>(old: T, array: T): T {
  array.set(old);
  return array;
}
