/**
 * How long operations take, by tier, operation and status. Each engine keeps a table of its own parts; the one of
 * `timeOperation` and `LatencyTimer` belongs to the process, and every engine with a meter exports it too.
 */
import type { Clock } from '../ports/ports.js';
import { systemPorts } from '../ports/system/system-ports.js';
import { Histogram, type HistogramStats } from './histogram.js';

/** How an operation ended. */
export type OperationStatus = 'ok' | 'error';

/** How long one operation took, in figures. */
export interface LatencyStats extends HistogramStats {
  readonly tier: string;
  readonly operation: string;
  readonly status: OperationStatus;
}

/** Told of each measurement, milliseconds. */
export type LatencyListener = (tier: string, operation: string, status: OperationStatus, ms: number) => void;

/** A caller that makes operations up from ids would fill memory: what comes later shares one row. */
const ROWS_MAX = 1000;
const OTHER = 'other';
const US_PER_MS = 1000;

interface Row {
  readonly tier: string;
  readonly operation: string;
  readonly status: OperationStatus;
  readonly microseconds: Histogram;
}

export class Latencies {
  readonly #rows = new Map<string, Row>();
  readonly #listeners = new Set<LatencyListener>();

  record(tier: string, operation: string, status: OperationStatus, ms: number): void {
    const row = this.#rowOf(tier, operation, status);
    row.microseconds.record(ms * US_PER_MS);
    for (const listener of this.#listeners) listener(row.tier, row.operation, status, ms);
  }

  /** @returns a function that ends the listening. Listeners do not throw. */
  listen(listener: LatencyListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Times in milliseconds, exact to 6.25 %. */
  get stats(): LatencyStats[] {
    return [...this.#rows.values()].map(({ tier, operation, status, microseconds }) => {
      const { count, sum, min, max, p50, p90, p99 } = microseconds.stats;
      const ms = (value: number): number => value / US_PER_MS;
      return {
        tier,
        operation,
        status,
        count,
        sum: ms(sum),
        min: ms(min),
        max: ms(max),
        p50: ms(p50),
        p90: ms(p90),
        p99: ms(p99),
      };
    });
  }

  #rowOf(tier: string, operation: string, status: OperationStatus): Row {
    const key = `${tier}\0${operation}\0${status}`;
    const row = this.#rows.get(key);
    if (row !== undefined) return row;
    const crowded = this.#rows.size >= ROWS_MAX && tier !== OTHER;
    if (crowded) return this.#rowOf(OTHER, OTHER, status);
    const made = { tier, operation, status, microseconds: new Histogram() };
    this.#rows.set(key, made);
    return made;
  }
}

/** What this process timed with `timeOperation` and `LatencyTimer`. */
export const processLatencies = new Latencies();

/** Statistics of everything that `timeOperation` and `LatencyTimer` measured in this process. */
export function latencyStats(): LatencyStats[] {
  return processLatencies.stats;
}

/** A stopwatch for one operation. It begins with the construction; the first `stop` counts. */
export class LatencyTimer {
  readonly #tier: string;
  readonly #operation: string;
  readonly #clock: Clock;
  readonly #startedMs: number;
  #elapsedMs: number | undefined;

  /** Few values for both: they become labels. No ids. */
  constructor(tier: string, operation: string, ports: { readonly clock: Clock } = systemPorts) {
    this.#tier = tier;
    this.#operation = operation;
    this.#clock = ports.clock;
    this.#startedMs = ports.clock.monotonic();
  }

  /** Records, and returns the milliseconds since the construction; a second call only returns them. */
  stop(status: OperationStatus = 'ok'): number {
    if (this.#elapsedMs !== undefined) return this.#elapsedMs;
    this.#elapsedMs = this.#clock.monotonic() - this.#startedMs;
    processLatencies.record(this.#tier, this.#operation, status, this.#elapsedMs);
    return this.#elapsedMs;
  }
}

/**
 * Runs and times an operation; what it returns or throws is passed on. A promise is timed until it settles. Read with `latencyStats`, and exported by every engine that has a meter.
 */
export function timeOperation<T>(tier: string, operation: string, run: () => T): T {
  const timer = new LatencyTimer(tier, operation);
  let value: T;
  try {
    value = run();
  } catch (error) {
    timer.stop('error');
    throw error;
  }
  if (!isThenable(value)) {
    timer.stop();
    return value;
  }
  // What is returned follows the promise: a rejection that the caller leaves unhandled is still reported as such.
  return value.then(
    (result) => {
      timer.stop();
      return result;
    },
    (error: unknown) => {
      timer.stop('error');
      throw error;
    },
  ) as T;
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function';
}
