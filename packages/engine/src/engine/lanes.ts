/**
 * Entries that wait for their flush, oldest first. Leaving is by place, so nothing is searched; and what has left, or was
 * passed over, is not kept alive by the queue: a spilled entry must be gone from memory although nothing is taken while
 * SQL is away.
 */
import type { Entry, Lane } from '../memory/entry.js';

/** Shorter queues are not worth compacting. */
const COMPACTED_MIN = 1024;

export class LaneQueue {
  readonly #lane: Lane;
  #queue: (Entry | undefined)[] = [];
  #head = 0;
  #count = 0;

  constructor(lane: Exclude<Lane, 'none'>) {
    this.#lane = lane;
  }

  /** Entries that are in the lane. */
  get count(): number {
    return this.#count;
  }

  push(entry: Entry): void {
    if (this.#queue.length > COMPACTED_MIN && this.#count * 2 < this.#queue.length) this.#compact();
    entry.lane = this.#lane;
    entry.lanePlace = this.#queue.push(entry) - 1;
    this.#count++;
  }

  /** The oldest; it is in no lane from then on. */
  take(): Entry | undefined {
    while (this.#head < this.#queue.length) {
      const entry = this.#queue[this.#head++];
      if (entry === undefined) continue;
      this.leave(entry);
      return entry;
    }
    this.#queue = [];
    this.#head = 0;
    return undefined;
  }

  /** The entry, which is in this lane, is in none from now on. */
  leave(entry: Entry): void {
    this.#queue[entry.lanePlace] = undefined;
    entry.lane = 'none';
    this.#count--;
  }

  #compact(): void {
    const kept: Entry[] = [];
    for (let at = this.#head; at < this.#queue.length; at++) {
      const entry = this.#queue[at];
      if (entry !== undefined) entry.lanePlace = kept.push(entry) - 1;
    }
    this.#queue = kept;
    this.#head = 0;
  }
}
