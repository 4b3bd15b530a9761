/**
 * How much memory to free, and which entry to give up for it, kept apart on purpose. The tangent paces
 * eviction; it is no factor of a score: one factor on every score cannot change their order, and where it
 * reaches zero every victim ties.
 */

/**
 * What a policy may know of an entry. Times are milliseconds of one clock, the one that `now` is read from.
 */
export interface CacheEntry {
  readonly id: string;
  readonly sizeBytes: number;
  readonly lastAccess: number;
  /** Reads since the entry came. */
  readonly accessCount: number;
  /** Not yet stored: it cannot leave. */
  readonly isDirty: boolean;
}

/** Which of some clean entries leaves: a score of a user's own, in place of what the engine learns. */
export interface EvictionPolicy {
  /** What an entry is worth; of those compared, the lowest leaves. NaN counts as lowest. */
  score(entry: CacheEntry, now: number): number;
  /** Told of each victim, so that a policy can learn how long entries last. */
  evicted?(entry: CacheEntry, now: number): void;
}

/** Where pacing begins, and where it ends. */
export interface PressureOptions {
  /** Share of the budget, in per cent, up to which nothing is freed. */
  readonly centerPercent?: number;
  /** Share of the budget, in per cent, above which everything is freed at once. */
  readonly criticalPercent?: number;
}

/** Of the budget: freed by one call halfway between center and critical, and at most below critical. */
const HALFWAY_SHARE = 1 / 1024;
const MOST_SHARE = 1 / 64;

/**
 * Paces eviction: a tick frees nothing up to the center, a thousandth of the budget halfway to critical, and
 * ever more steeply from there, so that a steady load is met by small steps and the limit by none.
 */
export class TanCurveMemoryPressure {
  readonly centerPercent: number;
  readonly criticalPercent: number;

  constructor({ centerPercent = 75, criticalPercent = 95 }: PressureOptions = {}) {
    if (!(centerPercent >= 0 && centerPercent < criticalPercent && criticalPercent <= 100)) {
      throw new RangeError(
        `Memory pressure needs 0 ≤ centerPercent < criticalPercent ≤ 100, got ${centerPercent} and ` +
          `${criticalPercent}; leave both out for 75 and 95.`,
      );
    }
    this.centerPercent = centerPercent;
    this.criticalPercent = criticalPercent;
  }

  /** Bytes that one tick should free. Never so many that less than the center would be left. */
  bytesToFree(usedBytes: number, budgetBytes: number): number {
    const center = (budgetBytes * this.centerPercent) / 100;
    const critical = (budgetBytes * this.criticalPercent) / 100;
    if (!(usedBytes > center)) return 0;
    const most = budgetBytes * MOST_SHARE;
    const position = (usedBytes - center) / (critical - center);
    const paced =
      position < 1 ? Math.min(budgetBytes * HALFWAY_SHARE * Math.tan((position * Math.PI) / 2), most) : most;
    const above = Math.max(0, usedBytes - critical);
    return Math.ceil(Math.min(usedBytes - center, paced + above));
  }
}

/** Before the first victim nothing is known of how long entries last. */
const FIRST_RESIDENCY_MS = 60_000;
/**
 * Of a residency without a read, against a doubling of reads or a halving of size. 1 lost 8 points to LRU.
 */
const IDLE_WEIGHT = 2;
/** Weight of the newest victim in the measured residency. */
const RESIDENCY_STEP = 1 / 256;

/**
 * A score from recency, frequency and size, for stores that tell no more than this. The worth of an entry
 * falls to a quarter with every residency that it is not read; the residency is what victims were measured to
 * have, as any fixed time is wrong for most loads. It is a logarithm, so that old entries do not all tie at
 * zero.
 *
 * A formula cannot be right for every load: plugged into L1 it gives up to nine points of hit ratio away
 * against what L1 learns by itself.
 */
export class TanCurvePolicy implements EvictionPolicy {
  #residencyMs: number;
  #measured = false;

  constructor(options: { readonly residencyMs?: number } = {}) {
    this.#residencyMs = options.residencyMs ?? FIRST_RESIDENCY_MS;
  }

  /** How long an entry lasts here without being read. */
  get residencyMs(): number {
    return this.#residencyMs;
  }

  score(entry: CacheEntry, now: number): number {
    if (entry.isDirty) return Number.POSITIVE_INFINITY;
    const idle = Math.max(0, now - entry.lastAccess) / this.#residencyMs;
    const density = Math.log2((1 + entry.accessCount) / Math.max(1, entry.sizeBytes));
    return density - IDLE_WEIGHT * idle;
  }

  evicted(entry: CacheEntry, now: number): void {
    const idleMs = Math.max(1, now - entry.lastAccess);
    this.#residencyMs += (idleMs - this.#residencyMs) * (this.#measured ? RESIDENCY_STEP : 1);
    this.#measured = true;
  }
}
