/** What a caller may say about one write, and the check of it. */
import { SyncEngineError } from '../base/errors.js';
import { assertState } from '../item/sync-item.js';
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

/** What `submit` takes. */
export interface SubmitOptions extends WriteOptions {
  /** Beats the item's state; 1 to 64 UTF-8 bytes. */
  readonly state?: string;
}

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
const SUBMIT_OPTIONS = ['ack', 'signal', 'state'];
const ACK_LEVELS: readonly unknown[] = ['memory', 'wal', 'stored'] satisfies AckLevel[];

/** @throws TypeError for wrong types, `CONFIG` for an unknown option or level. */
export function assertSubmitOptions(options: SubmitOptions): void {
  assertOptions(options, SUBMIT_OPTIONS);
  if (options.state !== undefined) assertState(options.state);
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
