/**
 * How fast clean entries leave, and by which score where a user brings one.
 *
 * The curve paces: from 75 % of the budget on a little goes at each turn, towards 95 % ever more, so that a burst seldom
 * has to wait for room. It never scales scores: a factor on all of them changes no order, and where it reaches zero all
 * victims tie.
 */

/** What a policy may know of an entry. */
export interface CacheEntry {
  readonly id: string;
  readonly sizeBytes: number;
  /** Monotonic milliseconds, exact to about a second. */
  readonly lastAccess: number;
  readonly accessCount: number;
  /** Always false of a candidate: what SQL has not taken is never evicted. */
  readonly isDirty: boolean;
}

/** Which of some clean entries leaves: the one with the lowest score. Must not keep `entry`. */
export interface EvictionPolicy {
  /** @param now Monotonic milliseconds, on the clock of `lastAccess`. @returns The lowest leaves first. */
  score(entry: CacheEntry, now: number): number;
}

/** Where the curve begins and where it is steep. */
export interface TanCurveOptions {
  /** Share of the budget, percent, from which on something is freed. Default 75. */
  readonly centerPercent?: number;
  /** Share to which a turn gets back at least. Default 95. */
  readonly criticalPercent?: number;
}

/** Of the budget, what is freed at a turn halfway between the two shares. */
const TURN_SHARE = 1 / 1024;

/** Bytes to free at each turn: 0 up to the centre, then along a tangent. */
export class TanCurveMemoryPressure {
  readonly centerPercent: number;
  readonly criticalPercent: number;

  /** @throws RangeError unless 0 < centerPercent < criticalPercent ≤ 100. */
  constructor(options: TanCurveOptions = {}) {
    this.centerPercent = options.centerPercent ?? 75;
    this.criticalPercent = options.criticalPercent ?? 95;
    if (
      !(this.centerPercent > 0 && this.centerPercent < this.criticalPercent && this.criticalPercent <= 100)
    ) {
      throw new RangeError('centerPercent is above 0 and below criticalPercent, which is 100 at most.');
    }
  }

  /** How many bytes should go now, of `usedBytes` in a budget of `budgetBytes`. */
  bytesToFree(usedBytes: number, budgetBytes: number): number {
    const center = (budgetBytes * this.centerPercent) / 100;
    if (usedBytes <= center) return 0;
    const critical = (budgetBytes * this.criticalPercent) / 100;
    if (usedBytes >= critical) return Math.ceil(usedBytes - critical + budgetBytes * TURN_SHARE);
    const part = (usedBytes - center) / (critical - center);
    const wanted = budgetBytes * TURN_SHARE * Math.tan((part * Math.PI) / 2);
    return Math.ceil(Math.min(wanted, usedBytes - center));
  }
}

/**
 * A policy by recency, frequency and density: `log2(1 + accessCount) − age / residencyMs − 0.3 × log2(sizeBytes)`. The
 * engine's own order (without a policy) does the same on measured residency, behind a probation queue.
 */
export class TanCurvePolicy implements EvictionPolicy {
  readonly residencyMs: number;

  /** @param residencyMs After how long unread an entry has lost what doubling its reads would give it. */
  constructor(residencyMs = 60_000) {
    if (!(residencyMs > 0)) throw new RangeError('residencyMs is above 0.');
    this.residencyMs = residencyMs;
  }

  /** The score of an entry at a time; the lowest leaves first. */
  score(entry: CacheEntry, now: number): number {
    const age = (now - entry.lastAccess) / this.residencyMs;
    return Math.log2(1 + entry.accessCount) - age - 0.3 * Math.log2(Math.max(1, entry.sizeBytes));
  }
}
