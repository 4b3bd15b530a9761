/**
 * Stops calling what keeps failing, and notices quickly when it answers again.
 *
 *   closed ──failureThreshold failures in a row──► open ──a probe succeeds, or recoveryMs──► half-open
 *   half-open ──successThreshold successes──► closed          half-open ──one failure──► open
 *
 * It counts and decides; it neither makes calls nor owns timers, so whoever calls can run on any clock.
 */
import type { Clock } from '../ports/ports.js';

export interface CircuitConfig {
  readonly failureThreshold: number;
  readonly successThreshold: number;
  /** Longest wait in the open state, milliseconds; a successful probe ends it sooner. */
  readonly recoveryMs: number;
}

/** `closed`: calls go through. `open`: they are refused. `half-open`: a few are tried. */
export type CircuitState = 'closed' | 'open' | 'half-open';

export const DEFAULT_CIRCUIT: CircuitConfig = {
  failureThreshold: 5,
  successThreshold: 2,
  recoveryMs: 30_000,
};

export class CircuitBreaker {
  readonly name: string;
  readonly #config: CircuitConfig;
  readonly #clock: Clock;
  readonly #changed: (state: CircuitState) => void;
  #state: CircuitState = 'closed';
  #failures = 0;
  #successes = 0;
  #openedAt = 0;

  /** @param changed Called after each change of state. */
  constructor(name: string, config: CircuitConfig, clock: Clock, changed: (state: CircuitState) => void) {
    this.name = name;
    this.#config = config;
    this.#clock = clock;
    this.#changed = changed;
  }

  get state(): CircuitState {
    return this.#state;
  }

  /** Whether a call may be made now. */
  allows(): boolean {
    if (this.#state === 'open' && this.#clock.monotonic() - this.#openedAt >= this.#config.recoveryMs) {
      this.#become('half-open');
    }
    return this.#state !== 'open';
  }

  succeeded(): void {
    this.#failures = 0;
    if (this.#state !== 'half-open') return;
    this.#successes++;
    if (this.#successes >= this.#config.successThreshold) this.#become('closed');
  }

  failed(): void {
    this.#failures++;
    if (
      this.#state === 'half-open' ||
      (this.#state === 'closed' && this.#failures >= this.#config.failureThreshold)
    ) {
      this.trip();
    }
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

  #become(state: CircuitState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#successes = 0;
    this.#failures = 0;
    this.#changed(state);
  }
}
