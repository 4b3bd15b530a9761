/**
 * What the reads so far say about the reads to come: for each kind of entry and each time since its last use,
 * how many hits a unit of memory and time may expect there.
 *
 * Most policies assume an answer: LRU, that what was used last is used next; LFU, that counts tell. Here the
 * answer is measured. Time is counted in operations. An entry's *history* is one byte: how often it was used
 * again (3 bits, up to 7) and the mean gap between uses (5 bits, the octave; the newest gap weighs a half, so
 * that old ones fade). Histories alike form a class, and gaps fall into half-octave bins. Counted per class
 * and bin are gaps that ended in a use, also of entries that were evicted meanwhile, while their ghosts last,
 * and gaps that ended without one. From these follows, as from a life table, the chance of a use in each bin
 * for what has waited that long (Kaplan and Meier, "Nonparametric estimation from incomplete observations",
 * 1958). Gaps that have not yet ended count as waiting so far: without them a new cache believes that every
 * gap is short.
 *
 *   rank(class, bin) = the most that can be had by keeping the entry to some later bin and then giving it up:
 *                      max over the end e of  (chance of a use before e) / (mean time kept, at most until e)
 *
 * This is the index of Gittins ("Bandit processes and dynamic allocation indices", 1979). That a cache can
 * rank by a density of hits that it learns on the way is the finding of LHD (Beckmann, Chen, Cidon, NSDI
 * 2018). The rank falls with waiting where recency matters, rises towards the length of a loop, and is flat
 * per class where popularity is all there is: no mode needs to be chosen.
 */

/** Half an octave each: enough for every gap of 32 bits. */
const BINS = 64;
/** Times used again, in groups: 0, 1, 2, 3 or 4, more. */
const groupOf = [0, 1, 2, 3, 3, 4, 4, 4];
/** Classes in each group but the first: one for every two octaves of mean gap. */
const GAP_CLASSES = 16;
const CLASSES = 1 + 4 * GAP_CLASSES;
const CELLS = CLASSES * BINS;

/** The history of what was never used again. */
export const NEW_HISTORY = 0;

/**
 * Chance of a use within a bin where nothing was observed, by group. The same chance in bins that double in
 * width is what LRU assumes; the steps make the more frequent stay.
 */
const PRIOR = [0.06, 0.12, 0.18, 0.24, 0.3];
/**
 * Observations that the prior weighs, and that the pooled classes of one group weigh against a single class.
 */
const PRIOR_WEIGHT = 16;
const POOL_WEIGHT = 4;

/**
 * Operations after which an observation weighs 1/e, as a multiple of the entries in the cache; and at least.
 */
const MEMORY_PER_ENTRY = 40;
const MEMORY_MIN = 20_000;

/** Where the cells of a history begin. */
const rowOf = Uint16Array.from({ length: 256 }, (_, history) => {
  const group = groupOf[history >> 5] as number;
  return group === 0 ? 0 : (1 + (group - 1) * GAP_CLASSES + ((history & 31) >> 1)) * BINS;
});

/** Lower ends of the bins, and one more. */
const binStart = Float64Array.from({ length: BINS + 1 }, (_, bin) => (2 + (bin & 1)) * 2 ** ((bin >> 1) - 1));

function binOf(gap: number): number {
  const exponent = 31 - Math.clz32(gap);
  return exponent * 2 + ((gap >>> (exponent - 1)) & 1);
}

export class ReuseOdds {
  readonly #used = new Float32Array(CELLS);
  readonly #lost = new Float32Array(CELLS);
  readonly #rank = new Float32Array(CELLS);

  /** Scratch of `fit`: gaps that have not ended; per bin, chances; blocks of bins that are kept together. */
  readonly #waiting = new Float32Array(CELLS);
  readonly #pooled = new Float64Array(BINS);
  readonly #chance = new Float64Array(BINS);
  readonly #blockHits = new Float64Array(BINS);
  readonly #blockTime = new Float64Array(BINS);

  constructor() {
    this.fit();
  }

  get overheadBytes(): number {
    return CELLS * 16 + BINS * 32;
  }

  /** A gap ended in a use. Returns the history from now on. Gaps are at least 1. */
  used(history: number, gap: number): number {
    const bin = binOf(gap);
    (this.#used[(rowOf[history] as number) + bin] as number)++;
    if (history === NEW_HISTORY) return 32 | (bin >> 1);
    return Math.min(224, (history & 224) + 32) | (((history & 31) * 2 + bin + 1) >> 2);
  }

  /** A gap ended without a use that could be seen: the entry was deleted, or its ghost was given up. */
  lost(history: number, gap: number): void {
    (this.#lost[(rowOf[history] as number) + binOf(gap)] as number)++;
  }

  /** `count` entries with that history have waited so long up to now. For the next `fit` only. */
  waits(history: number, gap: number, count: number): void {
    (this.#waiting[(rowOf[history] as number) + binOf(gap)] as number) += count;
  }

  /** Expected hits for one entry and operation. */
  rank(history: number, gap: number): number {
    return this.#rank[(rowOf[history] as number) + binOf(gap)] as number;
  }

  /** Makes ranks of what was observed. */
  fit(): void {
    this.#fitClasses(0, 1, PRIOR[0] as number);
    for (let group = 1; group < PRIOR.length; group++) {
      this.#fitClasses(1 + (group - 1) * GAP_CLASSES, GAP_CLASSES, PRIOR[group] as number);
    }
    this.#waiting.fill(0);
  }

  /** Lets observations fade: `operations` have passed since the last time. */
  fade(operations: number, entries: number): void {
    const factor = Math.exp(-operations / Math.max(MEMORY_MIN, MEMORY_PER_ENTRY * entries));
    for (let cell = 0; cell < CELLS; cell++) {
      (this.#used[cell] as number) *= factor;
      (this.#lost[cell] as number) *= factor;
    }
  }

  /** Classes of one group: where a class was seen too little, it is taken to be like the others. */
  #fitClasses(first: number, count: number, prior: number): void {
    let atRisk = 0;
    for (let bin = BINS - 1; bin >= 0; bin--) {
      let used = 0;
      let lost = 0;
      for (let cell = first * BINS + bin, n = 0; n < count; n++, cell += BINS) {
        used += this.#used[cell] as number;
        lost += this.#lostOrWaiting(cell);
      }
      atRisk += used + lost;
      // Every return moves an entry up a group: what the group below taught is not learnt anew.
      const expected = first === 0 ? prior : (prior + (this.#pooled[bin] as number)) / 2;
      this.#pooled[bin] = (used + PRIOR_WEIGHT * expected) / (atRisk - lost / 2 + PRIOR_WEIGHT);
    }
    for (let row = first; row < first + count; row++) this.#fitClass(row * BINS);
  }

  #fitClass(row: number): void {
    const chance = this.#chance;
    let atRisk = 0;
    for (let bin = BINS - 1; bin >= 0; bin--) {
      const used = this.#used[row + bin] as number;
      const lost = this.#lostOrWaiting(row + bin);
      atRisk += used + lost;
      // What left within the bin was there for half of it.
      chance[bin] = (used + POOL_WEIGHT * (this.#pooled[bin] as number)) / (atRisk - lost / 2 + POOL_WEIGHT);
    }
    this.#rankRow(row);
  }

  #lostOrWaiting(cell: number): number {
    return (this.#lost[cell] as number) + (this.#waiting[cell] as number);
  }

  /**
   * The best end for every bin at once. Going backwards, a bin is joined with the block after it as long as
   * that block yields more than what is joined so far; the yield of the joined block is the bin's rank.
   */
  #rankRow(row: number): void {
    const hits = this.#blockHits;
    const time = this.#blockTime;
    // The share that is still waiting when a bin begins; written forwards, read backwards.
    let waiting = 1;
    for (let bin = 0; bin < BINS; bin++) {
      const chance = this.#chance[bin] as number;
      const width = (binStart[bin + 1] as number) - (binStart[bin] as number);
      hits[bin] = waiting * chance;
      time[bin] = waiting * width * (1 - chance / 2);
      waiting = Math.max(waiting * (1 - chance), 1e-30);
    }
    // Blocks lie at the end of the same arrays, which the walk has left behind.
    let top = BINS;
    for (let bin = BINS - 1; bin >= 0; bin--) {
      let blockHits = hits[bin] as number;
      let blockTime = time[bin] as number;
      while (top < BINS && (hits[top] as number) * blockTime > blockHits * (time[top] as number)) {
        blockHits += hits[top] as number;
        blockTime += time[top] as number;
        top++;
      }
      top--;
      hits[top] = blockHits;
      time[top] = blockTime;
      this.#rank[row + bin] = blockHits / blockTime;
    }
  }
}
