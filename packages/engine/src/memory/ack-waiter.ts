/**
 * Someone who waits for a write to reach a level. Settled once: by the level, by a failure, by its deadline
 * or by its signal, whichever comes first.
 *
 * Waiters hang on their entry (singly linked, oldest first) and in one queue of deadlines (`deadlines.ts`).
 */
import type { SyncEngineError } from '../base/errors.js';
import type { AckLevel, SubmitReceipt } from '../config/submit-options.js';

/** Where the answer goes. `index` tells apart the waiters of one target. */
export interface AckTarget {
  acknowledged(index: number, receipt: SubmitReceipt): void;
  failed(index: number, error: SyncEngineError): void;
}

export class AckWaiter {
  readonly id: string;
  /** Changes when the engine makes the write anew (`Entry.renumberWaiters`). */
  version: number;
  readonly level: AckLevel;
  readonly deadlineAt: number;
  readonly #target: AckTarget;
  readonly #index: number;
  #settled = false;
  /** Undoes what was arranged for this waiter elsewhere: its place among the deadlines, its signal. */
  onSettled: ((waiter: AckWaiter) => void) | undefined;

  /** Next waiter of the same entry. */
  nextOfEntry: AckWaiter | undefined;
  /** Neighbours in the queue of deadlines. */
  earlier: AckWaiter | undefined;
  later: AckWaiter | undefined;

  constructor(
    id: string,
    version: number,
    level: AckLevel,
    deadlineAt: number,
    target: AckTarget,
    index: number,
  ) {
    this.id = id;
    this.version = version;
    this.level = level;
    this.deadlineAt = deadlineAt;
    this.#target = target;
    this.#index = index;
  }

  get settled(): boolean {
    return this.#settled;
  }

  /** `superseded`: what reached the level is a newer write of the same id. */
  acknowledge(ack: AckLevel, superseded: boolean, existed: boolean | undefined): void {
    if (!this.#settle()) return;
    this.#target.acknowledged(this.#index, {
      id: this.id,
      version: this.version,
      ack,
      ...(superseded ? { superseded } : undefined),
      ...(existed === undefined ? undefined : { existed }),
    });
  }

  fail(error: SyncEngineError): void {
    if (this.#settle()) this.#target.failed(this.#index, error);
  }

  #settle(): boolean {
    if (this.#settled) return false;
    this.#settled = true;
    this.onSettled?.(this);
    this.onSettled = undefined;
    return true;
  }
}
