/** Who is told when a write reached its level: one caller, many at once, or nobody. */
import type { SyncEngineError } from '../base/errors.js';
import type { SubmitReceipt } from '../config/submit-options.js';
import type { AckTarget } from '../memory/ack-waiter.js';

/** What many writes answer: one receipt or error for each. */
export interface BatchResult {
  readonly total: number;
  readonly succeeded: number;
  readonly failed: number;
  /** In input order. */
  readonly results: ReadonlyArray<SubmitReceipt | SyncEngineError>;
}

/** Counts writes that failed after they were taken, or were refused. */
export interface WriteFailures {
  failed(error: SyncEngineError): void;
}

/** Target of a write whose receipt comes at once. */
export const NOBODY: AckTarget = { acknowledged() {}, failed() {} };

export class SingleWrite implements AckTarget {
  readonly #resolve: (receipt: SubmitReceipt) => void;
  readonly #reject: (error: SyncEngineError) => void;
  readonly #failures: WriteFailures;

  constructor(
    resolve: (receipt: SubmitReceipt) => void,
    reject: (error: SyncEngineError) => void,
    failures: WriteFailures,
  ) {
    this.#resolve = resolve;
    this.#reject = reject;
    this.#failures = failures;
  }

  acknowledged(_index: number, receipt: SubmitReceipt): void {
    this.#resolve(receipt);
  }

  failed(_index: number, error: SyncEngineError): void {
    this.#failures.failed(error);
    this.#reject(error);
  }
}

export class ManyWrites implements AckTarget {
  readonly promise: Promise<BatchResult>;
  #resolve!: (result: BatchResult) => void;
  readonly #results: (SubmitReceipt | SyncEngineError)[];
  readonly #failures: WriteFailures;
  #left: number;
  #failed = 0;

  constructor(total: number, failures: WriteFailures) {
    this.#failures = failures;
    this.#results = new Array(total);
    this.#left = total;
    this.promise = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    if (total === 0) this.#finish();
  }

  acknowledged(index: number, receipt: SubmitReceipt): void {
    this.#settle(index, receipt);
  }

  failed(index: number, error: SyncEngineError): void {
    this.#failed++;
    this.#failures.failed(error);
    this.#settle(index, error);
  }

  #settle(index: number, result: SubmitReceipt | SyncEngineError): void {
    this.#results[index] = result;
    this.#left--;
    if (this.#left === 0) this.#finish();
  }

  #finish(): void {
    const total = this.#results.length;
    this.#resolve({ total, succeeded: total - this.#failed, failed: this.#failed, results: this.#results });
  }
}
