/**
 * The contract of an archive (L3): what the engine needs of a database, and no more. A store is naive: it
 * neither retries nor counts time nor keeps state about its health (`guarded-archive.ts` does that for
 * every store). It must keep the order: a write never replaces a newer one.
 *
 * One transaction (`apply`) brings the winners of a batch, the digests of every path above them, and one entry
 * of the change log, which numbers the transactions without a gap and chains them by hash. Ids are compared by
 * their UTF-8 bytes everywhere.
 */
import type { SyncEngineError } from '../base/errors.js';
import type { Revision } from '../item/revision.js';

/** What the engine expects of the archive it opens. */
export interface ArchiveOpenOptions {
  /** Identity that the archive must have; `undefined` where none was seen yet. */
  readonly expectedId: string | undefined;
  /** Whether a missing archive may be created. Where it may not, a missing one is `TIER_UNAVAILABLE`. */
  readonly mayCreate: boolean;
  /** Accept an archive whose identity is not the expected one. */
  readonly mayDiffer: boolean;
  /** Whether digests are kept. An archive that was created otherwise is refused with `CONFIG`. */
  readonly merkleEnabled: boolean;
  /** Key of the digests, 64 hex digits; `undefined`: the archive's own. A different one is `CONFIG`. */
  readonly clusterKey: string | undefined;
}

/** What an opened archive tells of itself. */
export interface ArchiveInfo {
  /** Random identity, written when the archive was created; 32 hex digits. */
  readonly archiveId: string;
  /** Highest version ever applied, 0 for an empty archive. */
  readonly highVersion: number;
  /** Facts an operator should know: settings that weaken a promise, one sentence each. */
  readonly warnings: readonly string[];
  /** Where the change log ends. */
  readonly head: ChangeHead;
  /** Tombstones up to this version may have been collected; 0 before the first collection. */
  readonly horizon: number;
  /** Names the key of the digests (`keyIdOf`). */
  readonly keyId: string;
}

/** A place in the change log. */
export interface ChangeHead {
  /** Transactions so far; 0 for none. */
  readonly position: number;
  /** Hash over everything up to there, 64 hex digits: equal positions of different histories differ in it. */
  readonly chain: string;
}

/** Bits of `ApplyResult.flags`. */
export const APPLY_STORED = 1;
export const APPLY_EXISTED = 2;
export const APPLY_UNCHANGED = 4;
/** The write was made from a base (`Revision.base`) that is not the row that was found. Nothing was written. */
export const APPLY_REDO = 8;
/**
 * A put of an id without a row, from below the horizon or made from (`exactly`) a write below it: it may be what a
 * collected tombstone deleted.
 */
export const APPLY_TOO_OLD = 16;

/** What became of each write of a batch. */
export interface ApplyResult {
  /**
   * One byte per write, in input order. `APPLY_STORED`: the archive now holds this write.
   * `APPLY_UNCHANGED` (with it): it held it before, so the batch was a repetition. `APPLY_EXISTED`: before
   * this write a live row existed. Without `APPLY_STORED`, `APPLY_REDO` and `APPLY_TOO_OLD` a newer row won.
   */
  readonly flags: Uint8Array;
  /** Version of the row that won, for each index where one did. */
  readonly newer: ReadonlyMap<number, number>;
  /** The change log's end after the transaction. A transaction that changed no row adds nothing to it. */
  readonly head: ChangeHead;
  /** Whether it added something to it. */
  readonly changed: boolean;
}

/** Live rows: those whose id begins with `prefix`, and those in `state` where one is given. */
export interface RowRange {
  readonly prefix: string;
  readonly state: string | undefined;
}

/** Rows of a scan. */
export interface RowPage {
  /** In byte order of the ids. An error in the place of a damaged row, with its id in the context. */
  readonly rows: readonly (Revision | SyncEngineError)[];
  /** Whether rows may follow. A page ends early when it gets large, so a short page is not the last. */
  readonly more: boolean;
}

/** One row's change as the change log keeps it. */
export interface RowChange {
  readonly id: string;
  readonly version: number;
  /** 16 characters, each one byte. */
  readonly origin: string;
  readonly kind: 'put' | 'delete' | 'collected';
  /** What it added to the digest of every path above: 32 bytes, lanes of 32 bits. Empty without digests. */
  readonly delta: Buffer;
  /** What it added to their counts: 1, 0 or −1. */
  readonly countDelta: number;
}

/** One transaction of the change log. */
export interface ChangeBatch extends ChangeHead {
  readonly changes: readonly RowChange[];
}

/**
 * `trimmed`: what follows the position is not all there any more. `foreign`: the position belongs to another
 * history, so the archive is a restored copy or another one. Then `batches` is empty.
 */
export interface ChangePage {
  readonly batches: readonly ChangeBatch[];
  readonly head: ChangeHead;
  readonly gap: 'none' | 'trimmed' | 'foreign';
}

/** What lies at and below one path: rows (tombstones included) and the sum of their leaves. */
export interface PathDigest {
  readonly count: number;
  /** 32 bytes, lanes of 32 bits. Never leaves the node. */
  readonly sum: Buffer;
  /** Whether a row has exactly this path as its id. */
  readonly isLeaf: boolean;
  /** Leaf of that row, 32 bytes; absent where there is none. */
  readonly own?: Buffer | undefined;
  /** Distinct segments directly below. */
  readonly childCount: number;
}

export interface ChildDigest extends PathDigest {
  readonly segment: string;
}

/** How far tombstones may be collected. */
export interface CollectRequest {
  /** The horizon moves up to this version, as far as the logs allow. */
  readonly upTo: number;
  /** The own log holds nothing at or below `lowerBound`, and will not; `undefined` without a log. */
  readonly log: { readonly logId: string; readonly lowerBound: number } | undefined;
  readonly nowMs: number;
  /** A log that was silent for longer holds up nothing any more. */
  readonly expiryMs: number;
  /** Most tombstones to remove in this call. */
  readonly limit: number;
}

/** What was collected. */
export interface CollectResult {
  readonly horizon: number;
  /** Tombstones removed. */
  readonly removed: number;
  /** Whether tombstones at or below the horizon are left. */
  readonly more: boolean;
  readonly head: ChangeHead;
}

/** What re-reading some rows found. */
export interface ScrubPage {
  readonly checked: number;
  /** Last id looked at; `undefined` when there are no more. */
  readonly last: string | undefined;
  /** Rows that do not fit their checksum or their leaf. */
  readonly corrupt: readonly string[];
}

/** A write that was set aside without a log (`docs/formats.md`). */
export interface StoredLetter {
  readonly revision: Revision;
  readonly reason: string;
  readonly setAsideAtMs: number;
}

/** The contract of an archive. Stores are naive: the engine gives them deadlines, retries and a breaker. */
export interface ArchiveStore {
  /** Whether no other process can write the archive while this one has it open. Default false. */
  readonly exclusive?: boolean;
  /**
   * Connects, migrates, checks the identity. May be called again after a failure or a close.
   * @throws `TIER_UNAVAILABLE` (not there now), `CONFLICT` (another process has it, or another identity),
   * `SCHEMA` (written by a newer version), `CORRUPTION`, `CONFIG` (driver missing, other digests).
   */
  open(options: ArchiveOpenOptions): Promise<ArchiveInfo>;
  /** Rows of `ids`, tombstones included, in input order; `CORRUPTION` in the place of a damaged row. */
  getMany(ids: readonly string[]): Promise<(Revision | SyncEngineError | undefined)[]>;
  /**
   * One durable transaction over writes with distinct ids: all of it or nothing. Idempotent.
   * @throws `REJECTED` where the database refuses the batch because of one of its rows; nothing was written.
   */
  apply(writes: readonly Revision[]): Promise<ApplyResult>;
  /** The first live rows behind `after` (from the start where it is `undefined`). One snapshot. */
  scan(range: RowRange, after: string | undefined, limit: number): Promise<RowPage>;
  /** How many live rows there are in the range, those of `except` (distinct ids) not counted. One snapshot. */
  count(range: RowRange, except: readonly string[]): Promise<number>;
  /** Ids of all rows behind `after`, tombstones included, in byte order; fewer than `limit` means the end. */
  ids(after: string | undefined, limit: number): Promise<string[]>;
  /** Change log behind `from`; about `limit` changes, whole transactions. */
  changesSince(from: ChangeHead, limit: number): Promise<ChangePage>;
  /** Digests of paths given as segments; `undefined` where no row lies at or below. One snapshot. */
  digests(paths: readonly (readonly string[])[]): Promise<(PathDigest | undefined)[]>;
  /** Children of a path in byte order of their segments, with the change log's end at that moment. */
  children(
    path: readonly string[],
    after: string | undefined,
    limit: number,
  ): Promise<{ readonly children: ChildDigest[]; readonly head: ChangeHead }>;
  /** Re-reads rows behind `after`: checksums, content hashes, leaves. */
  scrub(after: string | undefined, limit: number): Promise<ScrubPage>;
  /** Adds up the rows below a path anew; false where the path's digest differs. One snapshot. */
  verifyPath(path: readonly string[]): Promise<boolean>;
  /** Registers the log's bound, moves the horizon (durably, before any row goes), removes tombstones below it. */
  collect(request: CollectRequest): Promise<CollectResult>;
  /** Keeps what the archive refused, for engines without a log; replaces an older one of the same id. */
  keepLetters(letters: readonly StoredLetter[]): Promise<void>;
  /** Forgets what was set aside under these ids. */
  dropLetters(ids: readonly string[]): Promise<void>;
  /** Everything set aside. */
  letters(): Promise<StoredLetter[]>;
  /** Resolves when the archive answers. */
  ping(): Promise<void>;
  /**
   * Ends everything under way. Never rejects; calls after it reject until the next `open`. Called again before
   * it has ended, it waits for nothing any more.
   */
  close(): Promise<void>;
}
