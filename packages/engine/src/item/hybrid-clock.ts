/**
 * A hybrid logical clock in a safe integer: `milliseconds × 2048 + counter`, good to the year 2109
 * (multiplied, because a shift would cut it to 32 bits).
 *
 * It never runs backwards on a node, not when the wall clock does and not across restarts: a mark ahead of
 * every version in use is kept durably, and after a crash the clock begins at the mark. Raising the mark is a
 * write that takes time while stamping must not, so the clock stops following the wall clock a margin below
 * the mark and counts on by one. The margin holds four million versions, more than can be stamped before the
 * mark is raised.
 *
 * The mark is not far ahead of the wall clock, and hardly ahead of a clock that itself is ahead of it: or
 * every crash of a crashing process would carry it further into the future.
 *
 * After: Kulkarni et al., "Logical Physical Clocks", 2014, https://cse.buffalo.edu/tech-reports/2014-04.pdf
 */
import type { Clock } from '../ports/ports.js';

const COUNTS_PER_MS = 2048;

/** How far ahead of the wall clock the mark is set, and where it is raised. */
const MARK_AHEAD_MS = 10_000;
const MARK_RAISE_MS = 6000;
/** The same above the newest version, where that is ahead of the wall clock. */
const MARGIN_MS = 2000;
const MARGIN_RAISE_MS = 1000;

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
    const wall = versionOfMs(this.#clock.now());
    const kept = this.#mark !== Number.POSITIVE_INFINITY;
    const enough =
      this.#mark >= wall + MARK_RAISE_MS * COUNTS_PER_MS &&
      this.#mark >= this.#last + MARGIN_RAISE_MS * COUNTS_PER_MS;
    if (kept && enough) return undefined;
    return Math.max(wall + MARK_AHEAD_MS * COUNTS_PER_MS, this.#last + MARGIN_MS * COUNTS_PER_MS);
  }

  /** The mark is durable: versions below it may be stamped. */
  markKept(mark: number): void {
    this.#mark = mark;
    this.#followLimit = mark - MARGIN_MS * COUNTS_PER_MS;
  }
}
