/**
 * A hybrid logical clock in a safe integer: `milliseconds × 2048 + counter`, good to the year 2109
 * (multiplied, because a shift would cut it to 32 bits).
 *
 * It never runs backwards on a node, not when the wall clock does and not across restarts: a mark ahead of
 * every version in use is kept durably, and after a restart the clock begins at the mark. Raising the mark
 * is a write that takes time while stamping must not, so the clock stops following the wall clock a margin
 * below the mark and counts on by one. The margin holds 41 million versions, far more than can be stamped
 * before the mark is raised.
 *
 * After: Kulkarni et al., "Logical Physical Clocks", 2014, https://cse.buffalo.edu/tech-reports/2014-04.pdf
 */
import type { Clock } from '../ports/ports.js';

const COUNTS_PER_MS = 2048;

/** How far ahead of the wall clock the mark is set. */
const MARK_AHEAD_MS = 60_000;
/** Below this distance to the mark the clock no longer follows the wall clock. */
const MARK_MARGIN_MS = 20_000;

export function versionOfMs(ms: number): number {
  return Math.floor(ms) * COUNTS_PER_MS;
}

export function msOfVersion(version: number): number {
  return Math.floor(version / COUNTS_PER_MS);
}

export class HybridClock {
  readonly #clock: Clock;
  #last = 0;
  /** Versions at or above it must not be stamped; infinite where nothing durable keeps a mark. */
  #mark = Number.POSITIVE_INFINITY;
  #followLimit = Number.POSITIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The newest version stamped or seen. */
  get last(): number {
    return this.#last;
  }

  /** Stamps a write: newer than everything stamped or merged before. `undefined` when the mark is reached. */
  next(): number | undefined {
    const wall = Math.min(versionOfMs(this.#clock.now()), this.#followLimit);
    const next = wall > this.#last ? wall : this.#last + 1;
    if (next >= this.#mark) return undefined;
    this.#last = next;
    return next;
  }

  /** Takes note of a version from elsewhere: the next stamp is newer. */
  merge(version: number): void {
    if (version > this.#last) this.#last = version;
  }

  /** The mark to keep durably now, or `undefined` while the present one is far enough ahead. Always one before the first. */
  markNeeded(): number | undefined {
    const reached = Math.max(this.#last, versionOfMs(this.#clock.now()));
    const wanted = reached + MARK_AHEAD_MS * COUNTS_PER_MS;
    const slack = ((MARK_AHEAD_MS - MARK_MARGIN_MS) / 2) * COUNTS_PER_MS;
    const kept = this.#mark !== Number.POSITIVE_INFINITY;
    return kept && this.#mark - wanted > -slack ? undefined : wanted;
  }

  /** The mark is durable: versions below it may be stamped. */
  markKept(mark: number): void {
    this.#mark = mark;
    this.#followLimit = mark - MARK_MARGIN_MS * COUNTS_PER_MS;
  }
}
