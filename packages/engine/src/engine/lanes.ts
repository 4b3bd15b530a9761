/**
 * Entries that wait for their flush, oldest first. `Entry.lane` is the truth: a queue may still hold an entry that
 * has left its lane, and passes over it. So to leave costs nothing, and nothing is searched.
 */
import type { Entry, Lane } from '../memory/entry.js';

const PASSED_MAX = 1024;

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
    entry.lane = this.#lane;
    this.#queue.push(entry);
    this.#count++;
  }

  /** The oldest; it is in no lane from then on. */
  take(): Entry | undefined {
    while (this.#head < this.#queue.length) {
      const entry = this.#queue[this.#head] as Entry;
      // What has been passed over must not be kept alive by the queue.
      this.#queue[this.#head++] = undefined;
      if (this.#head > PASSED_MAX && this.#head * 2 > this.#queue.length) {
        this.#queue = this.#queue.slice(this.#head);
        this.#head = 0;
      }
      if (entry.lane !== this.#lane) continue;
      this.leave(entry);
      return entry;
    }
    this.#queue = [];
    this.#head = 0;
    return undefined;
  }

  /** The entry, which is in this lane, is in none from now on. */
  leave(entry: Entry): void {
    entry.lane = 'none';
    this.#count--;
  }
}
