/**
 * The world of one simulated run: virtual time, a seed that decides everything, and disks that outlive the
 * engines using them.
 *
 * Events are what would be timers, turns of the event loop, and answers of disks and servers. The driver takes
 * them one at a time, the earliest first, the seed choosing among those due at the same time, and lets all
 * promises settle between two of them. So a run depends on its seed and on nothing else.
 */
import { createHash } from 'node:crypto';
import type { Clock, Logger, Random, Scheduler, SystemPorts, Timer } from '#engine/ports/ports.js';

/** Mulberry32: small, and good enough to choose with. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 up to, but not including, 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let value = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  }

  chance(share: number): boolean {
    return this.next() < share;
  }

  between(from: number, to: number): number {
    return from + this.next() * (to - from);
  }

  below(count: number): number {
    return Math.floor(this.next() * count);
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T;
  }
}

interface PlannedEvent {
  readonly at: number;
  readonly life: Life | undefined;
  readonly run: () => void;
}

/** One process: from a start to its crash or shutdown. What it planned dies with it. */
export class Life {
  readonly number: number;
  readonly crashed: Promise<'crashed'>;
  #crash!: (word: 'crashed') => void;
  dead = false;

  constructor(number: number) {
    this.number = number;
    this.crashed = new Promise((resolve) => {
      this.#crash = resolve;
    });
  }

  end(): void {
    this.dead = true;
    this.#crash('crashed');
  }
}

const EVENTS_MAX = 300_000;

export class World {
  readonly dice: Dice;
  #nowMs = 0;
  #wallMs = 1_800_000_000_000;
  #planned: PlannedEvent[] = [];
  #events = 0;
  readonly #trace = createHash('sha256');
  readonly logLines: string[] = [];

  constructor(seed: number) {
    this.dice = new Dice(seed);
  }

  get now(): number {
    return this.#nowMs;
  }

  /** Same seed, same digest. */
  get traceDigest(): string {
    return this.#trace.copy().digest('hex');
  }

  note(text: string): void {
    if (process.env['SIM_TRACE']) console.log(this.#nowMs.toFixed(1), text);
    this.#trace.update(`${this.#nowMs.toFixed(3)} ${text}\n`);
  }

  jumpWallClock(ms: number): void {
    this.#wallMs += ms;
  }

  /** Something happens later, unless the life that planned it has ended. */
  plan(delayMs: number, life: Life | undefined, run: () => void): PlannedEvent {
    const event = { at: this.#nowMs + Math.max(0, delayMs), life, run };
    this.#planned.push(event);
    return event;
  }

  cancel(event: PlannedEvent): void {
    const at = this.#planned.indexOf(event);
    if (at >= 0) this.#planned.splice(at, 1);
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.plan(delayMs, undefined, resolve);
    });
  }

  /** Runs until `work` has settled. Throws where nothing can happen any more, or never ends. */
  async runUntil<T>(work: Promise<T>): Promise<T> {
    let settled = false;
    const watched = work.finally(() => {
      settled = true;
    });
    watched.catch(() => {});
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      if (settled) return watched;
      const event = this.#takeNext();
      if (event === undefined)
        throw new Error(`At ${this.#nowMs} ms nothing is left to happen, and work still waits.`);
      if (++this.#events > EVENTS_MAX) throw new Error(`After ${EVENTS_MAX} events the run has not ended.`);
      this.#nowMs = Math.max(this.#nowMs, event.at);
      event.run();
    }
  }

  ports(life: Life): SystemPorts {
    const clock: Clock = { now: () => this.#wallMs + this.#nowMs, monotonic: () => this.#nowMs };
    const scheduler: Scheduler = {
      after: (delayMs, run): Timer => {
        const event = this.plan(delayMs, life, run);
        return { cancel: () => this.cancel(event) };
      },
      soon: (run) => {
        this.plan(0, life, run);
      },
    };
    const random: Random = {
      bytes: (count) => Uint8Array.from({ length: count }, () => this.dice.below(256)),
      number: () => this.dice.next(),
    };
    const write = (_fields: object, message: string): void => {
      if (!life.dead) this.note(`log ${message}`);
    };
    const logger: Logger = { debug: write, info: write, warn: write, error: write };
    return { clock, scheduler, random, logger };
  }

  #takeNext(): PlannedEvent | undefined {
    let earliest = Number.POSITIVE_INFINITY;
    let due: number[] = [];
    for (let at = 0; at < this.#planned.length; at++) {
      const event = this.#planned[at] as PlannedEvent;
      if (event.life?.dead === true) continue;
      if (event.at < earliest) {
        earliest = event.at;
        due = [at];
      } else if (event.at === earliest) due.push(at);
    }
    const chosen = due.length === 0 ? undefined : this.dice.pick(due);
    if (chosen === undefined) return undefined;
    const [event] = this.#planned.splice(chosen, 1);
    if (this.#planned.length > 500) this.#planned = this.#planned.filter((one) => one.life?.dead !== true);
    return event;
  }
}
