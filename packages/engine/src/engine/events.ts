/** What an engine tells its listeners. A listener that throws harms nobody; an unheard error is no crash. */
import { messageOf, SyncEngineError, type Tier } from '../base/errors.js';
import { nearest } from '../config/nearest.js';
import type { Logger } from '../ports/ports.js';
import type { BackpressureLevel } from '../resilience/backpressure.js';
import type { CircuitState } from '../resilience/circuit-breaker.js';
import type { EngineState } from './lifecycle.js';

/** Events of an engine by name, with what their listeners get. */
export interface EngineEvents {
  state: { readonly state: EngineState; readonly previous: EngineState };
  backpressure: {
    readonly level: BackpressureLevel;
    readonly previous: BackpressureLevel;
    /** Share of the fullest limit, 0 to 1. */
    readonly pressure: number;
  };
  circuit: { readonly backend: 'redis' | 'sql'; readonly state: CircuitState };
  /** Damage was found; the bytes were not served. `id` where it is known. */
  corruption: { readonly tier: Tier; readonly id: string | undefined };
  /** SQL refused a write because of the row itself; it was set aside. */
  deadLetter: { readonly id: string; readonly error: SyncEngineError };
  /**
   * The change log of a shared archive could not be read for longer than `coherenceLeaseMs`, and an item was served from
   * memory all the same, marked `stale`. Once for each such time.
   */
  stale: { readonly id: string; readonly ageMs: number | undefined };
  /** Something failed that no caller was waiting for. */
  error: SyncEngineError;
}

/** Name of an event. */
export type EngineEventName = keyof EngineEvents;
/** Called at each event; what it throws goes to the logger. */
export type EngineListener<Name extends EngineEventName> = (event: EngineEvents[Name]) => void;

const NAMES = Object.keys({
  state: true,
  backpressure: true,
  circuit: true,
  corruption: true,
  deadLetter: true,
  stale: true,
  error: true,
} satisfies Record<EngineEventName, true>);

export class Emitter {
  readonly #logger: Logger;
  readonly #listeners = new Map<EngineEventName, Set<(event: never) => void>>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  on<Name extends EngineEventName>(name: Name, listener: EngineListener<Name>): void {
    assertListener(name, listener);
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    listeners.add(listener);
  }

  off<Name extends EngineEventName>(name: Name, listener: EngineListener<Name>): void {
    assertListener(name, listener);
    this.#listeners.get(name)?.delete(listener);
  }

  emit<Name extends EngineEventName>(name: Name, event: EngineEvents[Name]): void {
    for (const listener of this.#listeners.get(name) ?? []) {
      try {
        (listener as EngineListener<Name>)(event);
      } catch (error) {
        this.#logger.error({ event: name }, `A listener of '${name}' threw: ${messageOf(error)}`);
      }
    }
  }
}

/** Whoever listens to a misspelt name would wait for ever. */
function assertListener(name: unknown, listener: unknown): void {
  if (!NAMES.includes(name as string)) {
    const suggestion = typeof name === 'string' ? nearest(name, NAMES) : undefined;
    throw new SyncEngineError(
      'CONFIG',
      `There is no event ${JSON.stringify(name) ?? typeof name}${suggestion === undefined ? '' : ` (did you mean ${suggestion}?)`}; events are ${NAMES.join(', ')}.`,
    );
  }
  if (typeof listener !== 'function')
    throw new TypeError(`A listener is a function; got ${listener === null ? 'null' : typeof listener}.`);
}
