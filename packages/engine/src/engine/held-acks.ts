/**
 * Acknowledgements that are held back at Throttle: the write was taken, so reads see it, but its writer goes on only
 * when there is room, or after `submitTimeoutMs`. So writers become as fast as SQL, and none is refused for it.
 */
import type { SyncEngineError } from '../base/errors.js';
import type { SubmitReceipt } from '../config/submit-options.js';
import { type AckTarget, AckWaiter } from '../memory/ack-waiter.js';
import { Deadlines } from '../memory/deadlines.js';
import type { SystemPorts } from '../ports/ports.js';

export class HeldAcks {
  readonly #deadlines: Deadlines;
  #count = 0;

  constructor(ports: SystemPorts) {
    this.#deadlines = new Deadlines(ports, (gate) => gate.acknowledge('memory', false, undefined));
  }

  /** Writers that are being held. */
  get count(): number {
    return this.#count;
  }

  /** Holds what is in `ack` until `release` or `deadlineAt`, or until the caller gives up. */
  hold(
    ack: HeldAck,
    deadlineAt: number,
    signal: AbortSignal | undefined,
    aborted: () => SyncEngineError,
  ): void {
    const abort = (): void => ack.failed(0, aborted());
    signal?.addEventListener('abort', abort, { once: true });
    const gate = new AckWaiter('', 0, 'memory', deadlineAt, ack.gate, 0);
    gate.onSettled = (settled) => {
      this.#count--;
      this.#deadlines.remove(settled);
    };
    this.#count++;
    this.#deadlines.add(gate);
    ack.onSettled = () => {
      signal?.removeEventListener('abort', abort);
      gate.acknowledge('memory', false, undefined);
    };
  }

  /** There is room. */
  release(): void {
    for (const gate of this.#deadlines) gate.acknowledge('memory', false, undefined);
  }
}

/** Stands between a write and its caller. A failure passes at once. */
export class HeldAck implements AckTarget {
  readonly #target: AckTarget;
  readonly #index: number;
  #receipt: SubmitReceipt | undefined;
  #released = false;
  #settled = false;
  onSettled: (() => void) | undefined;

  constructor(target: AckTarget, index: number) {
    this.#target = target;
    this.#index = index;
  }

  /** Told when the holding ends. */
  readonly gate: AckTarget = {
    acknowledged: () => {
      this.#released = true;
      if (this.#receipt !== undefined) this.#settle(this.#receipt);
    },
    failed: () => {},
  };

  acknowledged(_index: number, receipt: SubmitReceipt): void {
    this.#receipt = receipt;
    if (this.#released) this.#settle(receipt);
  }

  failed(_index: number, error: SyncEngineError): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#target.failed(this.#index, error);
    this.onSettled?.();
  }

  #settle(receipt: SubmitReceipt): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#target.acknowledged(this.#index, receipt);
    this.onSettled?.();
  }
}
