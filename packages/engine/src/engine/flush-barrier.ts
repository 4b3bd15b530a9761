/** One call of `flush()`: waits until every entry that was dirty then is stored, in that version or a newer one. */
import { SyncEngineError } from '../base/errors.js';
import type { SubmitReceipt } from '../config/submit-options.js';
import { type AckTarget, AckWaiter } from '../memory/ack-waiter.js';
import type { Entry } from '../memory/entry.js';
import type { SystemPorts, Timer } from '../ports/ports.js';

export class FlushBarrier implements AckTarget {
  readonly promise: Promise<void>;
  #resolve!: () => void;
  #reject!: (error: SyncEngineError) => void;
  readonly #timer: Timer;
  readonly #signal: AbortSignal | undefined;
  readonly #ended: (barrier: FlushBarrier) => void;
  readonly #waiters: AckWaiter[] = [];
  #left = 0;
  #over = false;

  /** @param ended Called once, however it ends. */
  constructor(
    timeoutMs: number,
    signal: AbortSignal | undefined,
    ports: SystemPorts,
    ended: (barrier: FlushBarrier) => void,
  ) {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#ended = ended;
    this.#signal = signal;
    this.#timer = ports.scheduler.after(timeoutMs, () => this.fail(this.#late(timeoutMs)));
    signal?.addEventListener('abort', this.#aborted, { once: true });
  }

  waitFor(entry: Entry): void {
    this.#left++;
    const waiter = new AckWaiter(
      entry.id,
      entry.revision.version,
      'stored',
      Number.POSITIVE_INFINITY,
      this,
      0,
    );
    this.#waiters.push(waiter);
    entry.addWaiter(waiter);
  }

  /** There are writes that only the log holds; `waitFor` is called as each comes back. */
  waitForSpilled(): void {
    this.#left++;
  }

  /** All of them have come back. */
  spilledTaken(): void {
    this.#left--;
    if (this.#left === 0) this.#end(this.#resolve);
  }

  /** Every entry is known. */
  armed(): void {
    if (this.#left === 0) this.#end(this.#resolve);
  }

  acknowledged(_index: number, _receipt: SubmitReceipt): void {
    this.#left--;
    if (this.#left === 0) this.#end(this.#resolve);
  }

  failed(_index: number, error: SyncEngineError): void {
    this.fail(error);
  }

  fail(error: SyncEngineError): void {
    this.#end(() => this.#reject(error));
  }

  readonly #aborted = (): void =>
    this.fail(
      new SyncEngineError('ABORTED', 'The caller gave up waiting; the flush itself goes on.', {
        outcome: 'indeterminate',
      }),
    );

  #late(timeoutMs: number): SyncEngineError {
    return new SyncEngineError(
      'DEADLINE',
      `After ${timeoutMs} ms, ${this.#left} of the writes before flush() are not yet in SQL. They stay pending and go on; healthCheck() says what SQL is doing.`,
      {
        outcome: 'indeterminate',
        context: { operation: 'flush', deadlineMs: timeoutMs, remaining: this.#left },
      },
    );
  }

  #end(settle: () => void): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer.cancel();
    this.#signal?.removeEventListener('abort', this.#aborted);
    this.#ended(this);
    settle();
    // Those still on their entries are answered by nobody any more; settled, they are dropped at the next turn.
    for (const waiter of this.#waiters) if (!waiter.settled) waiter.fail(GIVEN_UP);
    this.#waiters.length = 0;
  }
}

const GIVEN_UP = new SyncEngineError('ABORTED', 'The flush that waited for this write is over.');
