/** The real machine. The only file that touches Date, performance, timers and randomness. */
import { randomBytes } from 'node:crypto';
import type { Clock, Logger, Random, Scheduler, SystemPorts, Timer } from '../ports.js';

const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
};

/** setTimeout counts in 32 bits: a longer delay would fire at once. */
const DELAY_MS_MAX = 2 ** 31 - 1;

class SystemTimer implements Timer {
  readonly #timeout: NodeJS.Timeout;

  constructor(delayMs: number, run: () => void, keepAlive: boolean) {
    this.#timeout = setTimeout(run, Math.min(Math.max(0, delayMs), DELAY_MS_MAX));
    if (!keepAlive) this.#timeout.unref();
  }

  cancel(): void {
    clearTimeout(this.#timeout);
  }
}

const systemScheduler: Scheduler = {
  after: (delayMs, run, keepAlive = true) => new SystemTimer(delayMs, run, keepAlive),
  soon: (run) => {
    setImmediate(run);
  },
};

const systemRandom: Random = {
  bytes: (count) => randomBytes(count),
  number: () => Math.random(),
};

const silent = (): void => {};
const silentLogger: Logger = { debug: silent, info: silent, warn: silent, error: silent };

export const systemPorts: SystemPorts = {
  clock: systemClock,
  scheduler: systemScheduler,
  random: systemRandom,
  logger: silentLogger,
};
