/** Ports whose time stands still until a test moves it. */
import type { Clock, Logger, Random, Scheduler, SystemPorts, Timer } from '#engine/ports/ports.js';

interface Planned {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

export class ManualTime implements Clock, Scheduler {
  #now: number;
  #wallOffset = 0;
  #order = 0;
  #planned: Planned[] = [];

  constructor(startMs = 1_800_000_000_000) {
    this.#now = startMs;
  }

  now(): number {
    return this.#now + this.#wallOffset;
  }

  monotonic(): number {
    return this.#now;
  }

  /** The wall clock jumps; monotonic time does not. */
  jumpWall(ms: number): void {
    this.#wallOffset += ms;
  }

  get plannedCount(): number {
    return this.#planned.length;
  }

  after(delayMs: number, run: () => void): Timer {
    const planned = { at: this.#now + Math.max(0, delayMs), order: this.#order++, run };
    this.#planned.push(planned);
    return {
      cancel: () => {
        this.#planned = this.#planned.filter((one) => one !== planned);
      },
    };
  }

  soon(run: () => void): void {
    setImmediate(run);
  }

  /** Lets `ms` pass, running timers in order and everything they set off. */
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const next = this.#planned
        .filter((one) => one.at <= end)
        .sort((a, b) => a.at - b.at || a.order - b.order)[0];
      if (next === undefined) break;
      this.#planned = this.#planned.filter((one) => one !== next);
      this.#now = Math.max(this.#now, next.at);
      next.run();
      await settle();
    }
    this.#now = end;
    await settle();
  }
}

/** Everything that is ready to run has run: promises, and what they planned for the next turns. */
export async function settle(turns = 12): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
}

export interface LogLine {
  readonly level: string;
  readonly fields: object;
  readonly message: string;
}

export class RecordingLogger implements Logger {
  readonly lines: LogLine[] = [];

  debug(fields: object, message: string): void {
    this.lines.push({ level: 'debug', fields, message });
  }
  info(fields: object, message: string): void {
    this.lines.push({ level: 'info', fields, message });
  }
  warn(fields: object, message: string): void {
    this.lines.push({ level: 'warn', fields, message });
  }
  error(fields: object, message: string): void {
    this.lines.push({ level: 'error', fields, message });
  }
}

/** The same bytes every time. */
class CountingRandom implements Random {
  #next = 1;

  bytes(count: number): Uint8Array {
    return Uint8Array.from({ length: count }, () => this.#next++ & 255);
  }

  number(): number {
    return 0.5;
  }
}

export interface ManualPorts extends SystemPorts {
  readonly clock: ManualTime;
  readonly scheduler: ManualTime;
  readonly logger: RecordingLogger;
}

export function manualPorts(): ManualPorts {
  const time = new ManualTime();
  return { clock: time, scheduler: time, random: new CountingRandom(), logger: new RecordingLogger() };
}
