/** Trying again: how often, after which waits, and when not. */
import { SyncEngineError } from '../base/errors.js';
import type { Random, Scheduler } from '../ports/ports.js';
import { systemPorts } from '../ports/system/system-ports.js';

/** Waits between attempts: `initialDelayMs × factor ^ n`, at most `maxDelayMs`. */
export interface RetryConfig {
  readonly initialDelayMs: number;
  readonly maxDelayMs: number;
  readonly factor: number;
  /** Attempts after the first; without it, for ever. */
  readonly maxRetries?: number;
  /** Share of each wait that is random, 0 to 1, so that many who failed together do not come back together. */
  readonly jitter: number;
}

/** For the start of a service, a background task, a query, and a batch that is written. */
export const RETRY_PRESETS = {
  startup: { initialDelayMs: 200, maxDelayMs: 5000, factor: 2, maxRetries: 5, jitter: 0.2 },
  daemon: { initialDelayMs: 1000, maxDelayMs: 300_000, factor: 2, jitter: 0.2 },
  query: { initialDelayMs: 100, maxDelayMs: 1000, factor: 2, maxRetries: 3, jitter: 0.2 },
  batchWrite: { initialDelayMs: 150, maxDelayMs: 5000, factor: 2, maxRetries: 5, jitter: 2 / 3 },
} as const satisfies Record<string, RetryConfig>;

/** Beside the operation. */
export interface RetryOptions {
  /** Ends the waiting: the rejection is `ABORTED`. */
  readonly signal?: AbortSignal;
  readonly scheduler?: Scheduler;
  readonly random?: Random;
}

/** The wait before retry `n` (from 0), milliseconds. `random` is from 0 to 1. */
export function retryDelayMs(config: RetryConfig, n: number, random: number): number {
  const full = Math.min(config.maxDelayMs, config.initialDelayMs * config.factor ** n);
  return full * (1 - config.jitter * random);
}

/**
 * Calls `operation` until it resolves. A `SyncEngineError` that is not `retryable` is passed on at once; so is the last
 * error when `maxRetries` are used up.
 * @param operation Is given the number of the attempt, from 0.
 * @throws what `operation` threw last; `ABORTED`.
 */
export async function retry<T>(
  name: string,
  config: RetryConfig,
  operation: (attempt: number) => Promise<T>,
  options: RetryOptions = {},
): Promise<T> {
  const { signal, scheduler = systemPorts.scheduler, random = systemPorts.random } = options;
  for (let attempt = 0; ; attempt++) {
    if (signal?.aborted === true) throw aborted(name);
    try {
      return await operation(attempt);
    } catch (error) {
      if (error instanceof SyncEngineError && !error.retryable) throw error;
      if (config.maxRetries !== undefined && attempt >= config.maxRetries) throw error;
    }
    await wait(retryDelayMs(config, attempt, random.number()), name, scheduler, signal);
  }
}

function wait(
  delayMs: number,
  name: string,
  scheduler: Scheduler,
  signal: AbortSignal | undefined,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      timer.cancel();
      reject(aborted(name));
    };
    const timer = scheduler.after(delayMs, () => {
      signal?.removeEventListener('abort', abort);
      resolve();
    });
    signal?.addEventListener('abort', abort, { once: true });
  });
}

function aborted(name: string): SyncEngineError {
  return new SyncEngineError('ABORTED', `The caller gave up while ${name} was being tried again.`, {
    context: { operation: name },
  });
}
