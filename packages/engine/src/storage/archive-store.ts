/**
 * The contract of an archive (L3): what the engine needs of a database, and no more. A store is naive: it
 * neither retries nor counts time nor keeps state about its health (`guarded-archive.ts` does that for
 * every store). It must keep the order: a write never replaces a newer one.
 */
import type { SyncEngineError } from '../base/errors.js';
import type { Revision } from '../item/revision.js';

export interface ArchiveOpenOptions {
  /** Identity that the archive must have; `undefined` where none was seen yet. */
  readonly expectedId: string | undefined;
  /** Whether a missing archive may be created. Where it may not, a missing one is `TIER_UNAVAILABLE`. */
  readonly mayCreate: boolean;
  /** Accept an archive whose identity is not the expected one. */
  readonly mayDiffer: boolean;
}

export interface ArchiveInfo {
  /** Random identity, written when the archive was created; 32 hex digits. */
  readonly archiveId: string;
  /** Highest version ever applied, 0 for an empty archive. */
  readonly highVersion: number;
  /** Facts an operator should know: settings that weaken a promise, one sentence each. */
  readonly warnings: readonly string[];
}

/** Bits of `ApplyResult.flags`. */
export const APPLY_STORED = 1;
export const APPLY_EXISTED = 2;
export const APPLY_UNCHANGED = 4;

export interface ApplyResult {
  /**
   * One byte per write, in input order. `APPLY_STORED`: the archive now holds this write.
   * `APPLY_UNCHANGED` (with it): it held it before, so the batch was a repetition. `APPLY_EXISTED`: before
   * this write a live row existed. Without `APPLY_STORED` a newer row won.
   */
  readonly flags: Uint8Array;
  /** Version of the row that won, for each index without `APPLY_STORED`. */
  readonly newer: ReadonlyMap<number, number>;
}

export interface ArchiveStore {
  /**
   * Connects, migrates, checks the identity. May be called again after a failure or a close.
   * @throws `TIER_UNAVAILABLE` (not there now), `CONFLICT` (another process has it, or another identity),
   * `SCHEMA` (written by a newer version), `CORRUPTION`, `CONFIG` (driver missing).
   */
  open(options: ArchiveOpenOptions): Promise<ArchiveInfo>;
  /** Rows of `ids`, tombstones included, in input order; `CORRUPTION` in the place of a damaged row. */
  getMany(ids: readonly string[]): Promise<(Revision | SyncEngineError | undefined)[]>;
  /** One durable transaction over writes with distinct ids: all of it or nothing. Idempotent. */
  apply(writes: readonly Revision[]): Promise<ApplyResult>;
  /** Resolves when the archive answers. */
  ping(): Promise<void>;
  /**
   * Ends everything under way. Never rejects; calls after it reject until the next `open`. Called again before
   * it has ended, it waits for nothing any more.
   */
  close(): Promise<void>;
}
