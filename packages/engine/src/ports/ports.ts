/**
 * Everything the engine takes from the machine: time, timers, randomness, a place for words. `ports/system/`
 * holds the real ones; a test passes a virtual clock and a seeded scheduler and gets the same run again.
 */

/** Time. */
export interface Clock {
  /** Wall clock, milliseconds since 1970. May jump. */
  now(): number;
  /** Milliseconds since an arbitrary point; never runs backwards. */
  monotonic(): number;
}

/** A timer under way. */
export interface Timer {
  /** Nothing is called any more. */
  cancel(): void;
}

/** Timers. */
export interface Scheduler {
  /**
   * Calls `run` once after `delayMs`. `keepAlive` (default true) keeps the process alive until then; timers
   * of pure maintenance pass false.
   */
  after(delayMs: number, run: () => void, keepAlive?: boolean): Timer;
  /** Calls `run` after the work of the present turn of the event loop. */
  soon(run: () => void): void;
}

/** Randomness. */
export interface Random {
  /** `count` unpredictable bytes. */
  bytes(count: number): Uint8Array;
  /** A number from 0 up to, but not including, 1. */
  number(): number;
}

/** Shaped like pino: fields first, message second. */
export interface Logger {
  /** For who looks into the engine. */
  debug(fields: object, message: string): void;
  /** Said once, or at a change for the better. */
  info(fields: object, message: string): void;
  /** Something is worse than it should be; the engine goes on. */
  warn(fields: object, message: string): void;
  /** Someone should look. */
  error(fields: object, message: string): void;
}

/** What the engine takes from the machine. */
export interface SystemPorts {
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly logger: Logger;
}
