/**
 * Watches one backend: while its breaker is open, it is probed every second, and a success makes the breaker half-open at
 * once; then it is asked until the breaker closes, since an idle process would stay half-open for want of calls.
 */
import { messageOf } from '../base/errors.js';
import type { Clock, Scheduler, Timer } from '../ports/ports.js';
import { systemPorts } from '../ports/system/system-ports.js';
import type { CircuitBreaker, CircuitState } from './circuit-breaker.js';

/** How one backend is. */
export interface BackendHealth {
  /** Whether there is a connection. */
  readonly connected: boolean;
  /** Of the last call that was answered, milliseconds. */
  readonly latencyMs?: number;
  readonly circuit: CircuitState;
  /** The last failure, until it is connected anew. */
  readonly lastError?: string;
  /** For how long it has not been answering, milliseconds: since the first failure after the last answer. */
  readonly failingForMs?: number;
}

/** What the checker asks. Each rejects where the backend does not answer; each has a deadline of its own. */
export interface ProbedBackend {
  /** Makes a new connection: what failed may have left the old one unusable. */
  connect(): Promise<unknown>;
  /** The cheapest question, on the present connection. */
  ping(): Promise<unknown>;
}

/** Ports of a checker; without them those of the machine. */
export interface HealthCheckerPorts {
  readonly clock?: Clock;
  readonly scheduler?: Scheduler;
  /** Milliseconds between two probes; default 1,000. */
  readonly intervalMs?: number;
}

/** Probes a backend for as long as its breaker is open. */
export class BackendHealthChecker {
  readonly #circuit: CircuitBreaker;
  readonly #backend: ProbedBackend;
  readonly #clock: Clock;
  readonly #scheduler: Scheduler;
  readonly #intervalMs: number;
  #connected = false;
  #latencyMs: number | undefined;
  #lastError: unknown;
  /** Monotonic; `undefined` while it answers. */
  #failingSinceMs: number | undefined;
  #timer: Timer | undefined;
  #probing = false;
  #stopped = false;

  constructor(circuit: CircuitBreaker, backend: ProbedBackend, ports: HealthCheckerPorts = {}) {
    this.#circuit = circuit;
    this.#backend = backend;
    this.#clock = ports.clock ?? systemPorts.clock;
    this.#scheduler = ports.scheduler ?? systemPorts.scheduler;
    this.#intervalMs = ports.intervalMs ?? 1000;
  }

  /** As of now, without asking the backend. */
  get health(): BackendHealth {
    return {
      connected: this.#connected,
      circuit: this.#circuit.state,
      ...(this.#latencyMs === undefined ? undefined : { latencyMs: this.#latencyMs }),
      ...(this.#lastError === undefined ? undefined : { lastError: messageOf(this.#lastError) }),
      ...(this.#failingSinceMs === undefined
        ? undefined
        : { failingForMs: this.#clock.monotonic() - this.#failingSinceMs }),
    };
  }

  /** Whether there is a connection. */
  get connected(): boolean {
    return this.#connected;
  }

  /** The last failure, `undefined` since the last connection. */
  get lastError(): unknown {
    return this.#lastError;
  }

  /** Connects. @throws what the backend throws. */
  async connect<T>(connect: () => Promise<T>): Promise<T> {
    const started = this.#clock.monotonic();
    const value = await connect();
    this.#latencyMs = this.#clock.monotonic() - started;
    this.#connected = true;
    this.#lastError = undefined;
    this.#failingSinceMs = undefined;
    return value;
  }

  /** A call was answered after `ms`. */
  answered(ms: number): void {
    this.#latencyMs = ms;
    this.#failingSinceMs = undefined;
  }

  /** A call failed. */
  failed(error: unknown): void {
    if (this.#stopped) return;
    this.#lastError = error;
    this.#failingSinceMs ??= this.#clock.monotonic();
  }

  /** To be called with each new state of the breaker. */
  circuitChanged(state: CircuitState): void {
    if (state === 'open' && !this.#stopped) this.#schedule(0);
  }

  /** Nothing is asked any more. */
  stop(): void {
    this.#stopped = true;
    this.#connected = false;
    this.#timer?.cancel();
  }

  #schedule(delayMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.#scheduler.after(delayMs, () => void this.#probe(), false);
  }

  async #probe(): Promise<void> {
    if (this.#stopped || this.#probing || this.#circuit.state !== 'open') return;
    this.#probing = true;
    try {
      this.#connected = false;
      await this.#backend.connect();
      this.#circuit.probed();
    } catch (error) {
      this.failed(error);
    } finally {
      this.#probing = false;
    }
    if (!this.#stopped && this.#circuit.state === 'open') this.#schedule(this.#intervalMs);
    else await this.#confirm();
  }

  async #confirm(): Promise<void> {
    while (!this.#stopped && this.#circuit.state === 'half-open') {
      try {
        await this.#backend.ping();
      } catch {
        // The breaker took note, and is probed again where it opened.
        return;
      }
    }
  }
}
