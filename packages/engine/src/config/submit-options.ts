/** What a caller may say about one write, and the check of it. */
import { SyncEngineError } from '../base/errors.js';
import { assertState } from '../item/sync-item.js';
import { CacheTtl } from './cache-ttl.js';
import { nearest } from './nearest.js';

/** `memory`: in L1 and queued. `wal`: in the local log, fsynced. `stored`: durably committed in SQL. */
export type AckLevel = 'memory' | 'wal' | 'stored';

/** What every write takes. */
export interface WriteOptions {
  /** What the promise waits for; default is the engine's `ack`. */
  readonly ack?: AckLevel;
  /** Ends the waiting, not the write: the rejection is `ABORTED`, outcome `indeterminate`. */
  readonly signal?: AbortSignal;
}

/** What `submit` takes. What is given here beats what the item carries (`SyncItem.withOptions`). */
export interface SubmitOptions extends WriteOptions {
  /** Beats the item's state; 1 to 64 UTF-8 bytes. */
  readonly state?: string;
  /** Whether Redis gets a copy, where there is Redis. Default true. */
  readonly redis?: boolean;
  /** How long the cached copy lives; of a cache-only item, how long the item lives. */
  readonly redisTtl?: CacheTtl;
  /**
   * Whether SQL gets it. Default true. With `false` the item is cache-only: it needs `redisTtl`, its level is `memory`
   * where there is no Redis, and it may vanish before its time.
   */
  readonly sql?: boolean;
}

/** Options for the usual routes. */
export const SubmitOptions = {
  /** Redis and SQL. */
  default(): SubmitOptions {
    return {};
  },
  /** Cache-only: gone after `ttl`, or sooner where memory is needed. */
  cache(ttl: CacheTtl): SubmitOptions {
    return { sql: false, redisTtl: ttl };
  },
  /** SQL without a copy in Redis. */
  durable(): SubmitOptions {
    return { redis: false, sql: true };
  },
};

/** Equal for options that may share a pipeline: the same tiers, and the same life of the copy. */
export type OptionsKey = string;

/** Makes such keys. */
export const OptionsKey = {
  /** `redis`, `sql` and `redisTtl` decide; state, level and signal do not. */
  of(options: SubmitOptions): OptionsKey {
    return `${options.redis === false ? '' : 'redis'}|${options.sql === false ? '' : 'sql'}|${options.redisTtl?.ms ?? ''}`;
  },
};

/** What an acknowledged write answers. */
export interface SubmitReceipt {
  readonly id: string;
  /** Place of this write in the order, `milliseconds × 2048 + counter`. */
  readonly version: number;
  /** The level reached: at least the one asked for. */
  readonly ack: AckLevel;
  /** Something newer had already won when the level was reached. */
  readonly superseded?: boolean;
  /** Whether a live item existed in SQL before this write; known at `stored`, absent where it cannot be known. */
  readonly existed?: boolean;
}

const WRITE_OPTIONS = ['ack', 'signal'];
/** Names of what `submit` takes. */
export const SUBMIT_OPTIONS = ['ack', 'signal', 'state', 'redis', 'redisTtl', 'sql'];
const ACK_LEVELS: readonly unknown[] = ['memory', 'wal', 'stored'] satisfies AckLevel[];

/** @throws TypeError for wrong types, `CONFIG` for an unknown option or level. */
export function assertSubmitOptions(options: SubmitOptions): void {
  assertOptions(options, SUBMIT_OPTIONS);
  if (options.state !== undefined) assertState(options.state);
  for (const name of ['redis', 'sql'] as const) {
    if (options[name] !== undefined && typeof options[name] !== 'boolean')
      throw new TypeError(`${name} is true or false; got ${typeof options[name]}.`);
  }
  if (options.redisTtl !== undefined && !(options.redisTtl instanceof CacheTtl))
    throw new TypeError('redisTtl is a CacheTtl: CacheTtl.Hour, or CacheTtl.seconds(90).');
  if (options.sql !== false) return;
  if (options.redis === false)
    throw new SyncEngineError('CONFIG', 'redis: false and sql: false leave nowhere for the item to go.');
  if (options.redisTtl === undefined) {
    throw new SyncEngineError(
      'CONFIG',
      'A cache-only item (sql: false) needs redisTtl: SubmitOptions.cache(CacheTtl.Hour).',
    );
  }
}

/** @throws TypeError for wrong types, `CONFIG` for an unknown option or level. */
export function assertWriteOptions(options: WriteOptions): void {
  assertOptions(options, WRITE_OPTIONS);
}

function assertOptions(options: WriteOptions, known: readonly string[]): void {
  assertKnown(options, known);
  if (options.ack !== undefined && !ACK_LEVELS.includes(options.ack)) {
    throw new SyncEngineError(
      'CONFIG',
      `ack is 'memory', 'wal' or 'stored'; got ${JSON.stringify(options.ack)}.`,
    );
  }
  assertSignal(options.signal);
}

/** @throws TypeError for a non-object, `CONFIG` for an option that is not in `known`. */
export function assertKnown(options: unknown, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new TypeError(
      `Options are an object; got ${Array.isArray(options) ? 'an array' : typeof options}.`,
    );
  }
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    const suggestion = nearest(name, known);
    throw new SyncEngineError(
      'CONFIG',
      `Unknown option ${JSON.stringify(name)}${suggestion === undefined ? `; known are ${known.join(', ')}` : `; did you mean ${suggestion}?`}`,
    );
  }
}

/** @throws TypeError for anything that is neither undefined nor an AbortSignal. */
export function assertSignal(signal: unknown): asserts signal is AbortSignal | undefined {
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw new TypeError('signal is an AbortSignal.');
}
