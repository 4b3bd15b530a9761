/**
 * Deadlines of waiters without a timer for each: they come nearly in the order in which they end, so one timer
 * watches the first. While anyone waits the timer keeps the process alive.
 */
import type { Clock, Scheduler, Timer } from '../ports/ports.js';
import type { AckWaiter } from './ack-waiter.js';

export class Deadlines {
  readonly #clock: Clock;
  readonly #scheduler: Scheduler;
  readonly #expire: (waiter: AckWaiter) => void;
  #first: AckWaiter | undefined;
  #last: AckWaiter | undefined;
  #timer: Timer | undefined;

  /** @param expire Called for a waiter whose deadline has passed; settles it. */
  constructor(
    ports: { readonly clock: Clock; readonly scheduler: Scheduler },
    expire: (waiter: AckWaiter) => void,
  ) {
    this.#clock = ports.clock;
    this.#scheduler = ports.scheduler;
    this.#expire = expire;
  }

  /** Nearly always the last one to end; after the bound was lowered, some added before end later. */
  add(waiter: AckWaiter): void {
    let before = this.#last;
    while (before !== undefined && before.deadlineAt > waiter.deadlineAt) before = before.earlier;
    const after = before === undefined ? this.#first : before.later;
    waiter.earlier = before;
    waiter.later = after;
    if (before === undefined) this.#first = waiter;
    else before.later = waiter;
    if (after === undefined) this.#last = waiter;
    else after.earlier = waiter;
    if (before === undefined) this.#timer?.cancel();
    if (before === undefined || this.#timer === undefined)
      this.#timer = this.#watch(this.#first as AckWaiter);
  }

  remove(waiter: AckWaiter): void {
    if (waiter.earlier === undefined) this.#first = waiter.later;
    else waiter.earlier.later = waiter.later;
    if (waiter.later === undefined) this.#last = waiter.earlier;
    else waiter.later.earlier = waiter.earlier;
    waiter.earlier = undefined;
    waiter.later = undefined;
    if (this.#first === undefined) {
      this.#timer?.cancel();
      this.#timer = undefined;
    }
  }

  /** Everyone who waits, oldest first. */
  *[Symbol.iterator](): Generator<AckWaiter> {
    for (let waiter = this.#first; waiter !== undefined; ) {
      const later: AckWaiter | undefined = waiter.later;
      yield waiter;
      waiter = later;
    }
  }

  #watch(waiter: AckWaiter): Timer {
    return this.#scheduler.after(waiter.deadlineAt - this.#clock.monotonic(), () => this.#ring());
  }

  #ring(): void {
    this.#timer = undefined;
    const now = this.#clock.monotonic();
    for (let waiter = this.#first; waiter !== undefined && waiter.deadlineAt <= now; waiter = this.#first) {
      this.#expire(waiter);
    }
    if (this.#first !== undefined) this.#timer ??= this.#watch(this.#first);
  }
}
