/**
 * What makes a naive store safe to depend on: every call within a deadline, a breaker in front, and a probe that
 * connects anew while the breaker is open.
 *
 * Invariant: no call waits longer than its deadline, and a call that was given up keeps no one waiting: its late answer
 * is dropped.
 */
import { CircuitError, messageOf, SyncEngineError } from '../base/errors.js';
import type { SystemPorts } from '../ports/ports.js';
import { CIRCUIT_PRESETS, CircuitBreaker, type CircuitState } from '../resilience/circuit-breaker.js';
import { type BackendHealth, BackendHealthChecker } from '../resilience/health-checker.js';

const PROBE_INTERVAL_MS = 1000;
/** Errors that say something about the request, not about whether the backend answers. */
const NOT_AN_OUTAGE: ReadonlySet<string> = new Set(['CONFIG', 'ENGINE_STATE', 'REJECTED']);

export interface GuardedBackend {
  readonly tier: 'redis' | 'sql';
  /** As people call it. */
  readonly name: 'Redis' | 'SQL';
  /** Connects anew; through `BackendGuard.connected`. */
  connect(): Promise<unknown>;
  /** The cheapest question; through `BackendGuard.call`. */
  ping(): Promise<unknown>;
  circuit(state: CircuitState): void;
  /** A call ended after `ms`, or was not made (`undefined`); with the code of its error. */
  called?(operation: string, ms: number | undefined, code: string | undefined): void;
}

/** How one call is made. */
export interface GuardedCall {
  readonly operation: string;
  readonly deadlineMs: number;
  /** Whether the call changes something: one that was given up may still have been carried out. */
  readonly writes?: boolean;
  /** What a deadline says of the backend. `hangs`: only a new connection helps; `busy`: nothing. Default `slow`. */
  readonly late?: 'hangs' | 'slow' | 'busy';
}

export class BackendGuard {
  readonly #backend: GuardedBackend;
  readonly #ports: SystemPorts;
  readonly #breaker: CircuitBreaker;
  readonly #checker: BackendHealthChecker;
  #closed = false;

  constructor(backend: GuardedBackend, ports: SystemPorts) {
    this.#backend = backend;
    this.#ports = ports;
    this.#breaker = new CircuitBreaker(backend.tier, CIRCUIT_PRESETS.default, {
      clock: ports.clock,
      changed: (state) => this.#circuitChanged(state),
    });
    this.#checker = new BackendHealthChecker(this.#breaker, backend, {
      clock: ports.clock,
      scheduler: ports.scheduler,
      intervalMs: PROBE_INTERVAL_MS,
    });
  }

  /** Whether a call would be tried now. */
  get available(): boolean {
    return this.#checker.connected && this.#breaker.allows();
  }

  get health(): BackendHealth {
    return this.#checker.health;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The error of a call that is not made, `undefined` while calls go through. */
  get refusal(): SyncEngineError | undefined {
    return this.available ? undefined : this.#unavailable();
  }

  /** Connects, and takes note. @throws what `connect` throws. */
  connected<T>(connect: () => Promise<T>): Promise<T> {
    return this.#checker.connect(connect);
  }

  /** The backend is known to be away: it is connected anew, at once and then every second. */
  lost(error: unknown, operation: string): SyncEngineError {
    const failure = this.#noteFailure(error, operation);
    this.#breaker.trip();
    return failure;
  }

  /** @throws `CIRCUIT_OPEN`, `TIER_UNAVAILABLE`, `DEADLINE`, and what the backend throws. */
  async call<T>(how: GuardedCall, run: () => Promise<T>): Promise<T> {
    const { operation, late = 'slow' } = how;
    if (!this.available) {
      const refusal = this.#unavailable();
      this.#backend.called?.(operation, undefined, refusal.code);
      throw refusal;
    }
    const started = this.#ports.clock.monotonic();
    try {
      const value = await this.within(how, run);
      const ms = this.#ports.clock.monotonic() - started;
      this.#checker.answered(ms);
      this.#breaker.succeeded();
      this.#backend.called?.(operation, ms, undefined);
      return value;
    } catch (error) {
      const failure = this.#noteFailure(error, operation);
      this.#backend.called?.(operation, this.#ports.clock.monotonic() - started, failure.code);
      if (failure.code === 'DEADLINE' && late === 'hangs') this.#breaker.trip();
      else if (failure.code === 'DEADLINE' && late === 'busy') {
        // That much work is no outage.
      } else if (!NOT_AN_OUTAGE.has(failure.code)) this.#breaker.failed();
      throw failure;
    }
  }

  /** @throws `DEADLINE`, and what `run` rejects with. */
  within<T>({ operation, deadlineMs, writes = false }: GuardedCall, run: () => Promise<T>): Promise<T> {
    const { tier, name } = this.#backend;
    return new Promise<T>((resolve, reject) => {
      const timer = this.#ports.scheduler.after(deadlineMs, () =>
        reject(
          new SyncEngineError('DEADLINE', `${name} did not answer within ${deadlineMs} ms (${operation}).`, {
            outcome: writes ? 'indeterminate' : 'not-applied',
            context: { tier, operation, deadlineMs },
          }),
        ),
      );
      run().then(
        (value) => {
          timer.cancel();
          resolve(value);
        },
        (error: unknown) => {
          timer.cancel();
          reject(error);
        },
      );
    });
  }

  /** Nothing is asked any more. */
  stop(): void {
    this.#closed = true;
    this.#checker.stop();
  }

  #unavailable(): SyncEngineError {
    const { tier, name } = this.#backend;
    if (this.#breaker.state === 'open')
      return new CircuitError(tier, PROBE_INTERVAL_MS, this.#checker.lastError);
    return new SyncEngineError('TIER_UNAVAILABLE', `${name} is not connected.`, {
      context: { tier },
      cause: this.#checker.lastError,
    });
  }

  #noteFailure(error: unknown, operation: string): SyncEngineError {
    const { tier, name } = this.#backend;
    const failure =
      error instanceof SyncEngineError
        ? error
        : new SyncEngineError('TIER_UNAVAILABLE', `${name} failed to ${operation}: ${messageOf(error)}`, {
            outcome: 'indeterminate',
            context: { tier, operation },
            cause: error,
          });
    this.#checker.failed(failure);
    return failure;
  }

  #circuitChanged(state: CircuitState): void {
    if (this.#closed) return;
    this.#checker.circuitChanged(state);
    this.#backend.circuit(state);
  }
}
