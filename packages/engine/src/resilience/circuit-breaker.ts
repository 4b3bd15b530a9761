/**
 * Stops calling what keeps failing, and notices quickly when it answers again.
 *
 *   closed ──failureThreshold failures in a row──► open ──a probe succeeds, or recoveryMs──► half-open
 *   half-open ──successThreshold successes──► closed          half-open ──one failure──► open
 *
 * `call` makes a call through it. Who makes calls in another way asks `allows` and tells what became of them. It owns no
 * timers, so it runs on any clock; docs/decisions.md says why it is not a library's.
 */
import { CircuitError } from '../base/errors.js';
import type { Clock } from '../ports/ports.js';
import { systemPorts } from '../ports/system/system-ports.js';

/** When a breaker opens and closes. */
export interface CircuitConfig {
  /** Failures in a row that open it. */
  readonly failureThreshold: number;
  /** Successes in a row, half-open, that close it. */
  readonly successThreshold: number;
  /** Longest wait in the open state, milliseconds; a successful probe ends it sooner. */
  readonly recoveryMs: number;
}

/** `closed`: calls go through. `open`: they are refused. `half-open`: a few are tried. */
export type CircuitState = 'closed' | 'open' | 'half-open';

/** `aggressive` gives up sooner and for longer; `lenient` bears more and comes back sooner. */
export const CIRCUIT_PRESETS = {
  default: { failureThreshold: 5, successThreshold: 2, recoveryMs: 30_000 },
  aggressive: { failureThreshold: 3, successThreshold: 3, recoveryMs: 60_000 },
  lenient: { failureThreshold: 10, successThreshold: 1, recoveryMs: 15_000 },
} as const satisfies Record<string, CircuitConfig>;

/** What a breaker has seen since it was made. */
export interface CircuitStats {
  readonly successes: number;
  readonly failures: number;
  /** Calls that were not made because it was open. */
  readonly rejected: number;
  readonly timesOpened: number;
}

/** Ports of a breaker; without them the machine's clock. */
export interface CircuitPorts {
  readonly clock?: Clock;
  /** Called after each change of state. */
  readonly changed?: (state: CircuitState) => void;
}

/** A breaker in front of one backend. */
export class CircuitBreaker {
  /** Of the backend, for messages. */
  readonly name: string;
  readonly #config: CircuitConfig;
  readonly #clock: Clock;
  readonly #changed: (state: CircuitState) => void;
  #state: CircuitState = 'closed';
  #failuresInRow = 0;
  #successesInRow = 0;
  #openedAt = 0;
  #lastError: unknown;
  /** Aborted when it opens: calls under way need not be waited for. */
  #opening = new AbortController();
  #successes = 0;
  #failures = 0;
  #rejected = 0;
  #timesOpened = 0;

  constructor(name: string, config: CircuitConfig = CIRCUIT_PRESETS.default, ports: CircuitPorts = {}) {
    this.name = name;
    this.#config = config;
    this.#clock = ports.clock ?? systemPorts.clock;
    this.#changed = ports.changed ?? (() => {});
  }

  /** As of now; `open` may be about to end (`allows`). */
  get state(): CircuitState {
    return this.#state;
  }

  /** What it has seen. */
  get stats(): CircuitStats {
    return {
      successes: this.#successes,
      failures: this.#failures,
      rejected: this.#rejected,
      timesOpened: this.#timesOpened,
    };
  }

  /**
   * Makes a call, unless it is open. Whatever `operation` rejects with counts as a failure and is passed on.
   * @param operation Is given a signal that is aborted when the breaker opens meanwhile.
   * @throws CircuitError (`CIRCUIT_OPEN`) where it is open: the call was not made.
   */
  async call<T>(operation: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (!this.allows()) {
      this.#rejected++;
      throw new CircuitError(this.name, this.#waitMs(), this.#lastError);
    }
    try {
      const value = await operation(this.#opening.signal);
      this.succeeded();
      return value;
    } catch (error) {
      this.#lastError = error;
      this.failed();
      throw error;
    }
  }

  /** Whether a call may be made now. */
  allows(): boolean {
    if (this.#state === 'open' && this.#waitMs() <= 0) this.#become('half-open');
    return this.#state !== 'open';
  }

  /** A call was answered. */
  succeeded(): void {
    this.#successes++;
    this.#failuresInRow = 0;
    if (this.#state !== 'half-open') return;
    this.#successesInRow++;
    if (this.#successesInRow >= this.#config.successThreshold) this.#become('closed');
  }

  /** A call failed in a way that speaks of the backend. */
  failed(): void {
    this.#failures++;
    this.#failuresInRow++;
    const many = this.#failuresInRow >= this.#config.failureThreshold;
    if (this.#state === 'half-open' || (this.#state === 'closed' && many)) this.trip();
  }

  /** Opens at once: the failure leaves no doubt. */
  trip(): void {
    this.#openedAt = this.#clock.monotonic();
    this.#become('open');
  }

  /** A probe beside the calls succeeded. */
  probed(): void {
    if (this.#state === 'open') this.#become('half-open');
  }

  #waitMs(): number {
    return this.#openedAt + this.#config.recoveryMs - this.#clock.monotonic();
  }

  #become(state: CircuitState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#successesInRow = 0;
    this.#failuresInRow = 0;
    if (state === 'open') {
      this.#timesOpened++;
      const opening = this.#opening;
      this.#opening = new AbortController();
      opening.abort();
    }
    this.#changed(state);
  }
}

/** The breakers of the two backends. */
export class BackendCircuits {
  readonly redis: CircuitBreaker;
  readonly sql: CircuitBreaker;

  constructor(
    config: { readonly redis?: CircuitConfig; readonly sql?: CircuitConfig } = {},
    ports: {
      readonly clock?: Clock;
      readonly changed?: (backend: 'redis' | 'sql', state: CircuitState) => void;
    } = {},
  ) {
    const { clock, changed } = ports;
    const of = (name: 'redis' | 'sql'): CircuitBreaker =>
      new CircuitBreaker(name, config[name], {
        ...(clock === undefined ? {} : { clock }),
        changed: (state) => changed?.(name, state),
      });
    this.redis = of('redis');
    this.sql = of('sql');
  }
}
