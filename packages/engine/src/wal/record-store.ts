/**
 * The contract of the log's storage: atomic, durable groups of records. `SqliteRecordStore` is the real
 * one; the simulation has one that loses and tears what was not yet committed when the process died.
 */
import type { Revision } from '../item/revision.js';

/** What a log knows of itself. */
export interface LogMeta {
  /** Random identity of this log; 32 hex digits. */
  readonly logId: string;
  readonly nodeId: string;
  /** Raised by one at every open. */
  readonly incarnation: number;
  /** High-water mark of the clock: no version at or above it was ever stamped. */
  readonly clockMark: number;
  /** Identity of the archive that this log writes to, once one was seen. */
  readonly archiveId: string | undefined;
}

/** What a log is opened, or created, with. */
export interface LogOpenOptions {
  /** For a new log; a given one replaces the stored one. */
  readonly nodeId: string | undefined;
  /** Randomness for identities of a new log. */
  readonly newLogId: string;
  readonly newNodeId: string;
}

/** What is committed together, or not at all. */
export interface LogGroup {
  /** Position of the first append; the others follow by one. Positions are never used again. */
  readonly firstPosition: number;
  readonly appends: readonly Revision[];
  /** Positions that the log forgets: released, or replaced by a newer record of the same id. */
  readonly removes: readonly number[];
  readonly meta?: { readonly clockMark?: number; readonly archiveId?: string } | undefined;
}

/** A record as it was read back. */
export interface LoadedRecord {
  readonly position: number;
  readonly revision: Revision;
}

/** A record whose checksum does not fit. */
export interface DamagedRecord {
  readonly position: number;
  /** Absent where not even the id can be trusted. */
  readonly id: string | undefined;
}

/** What was found beside the records. */
export interface LogContents {
  readonly damaged: readonly DamagedRecord[];
  /** No position at or above it was ever used. */
  readonly nextPosition: number;
}

/** The contract of the storage under the log: groups that are durable whole, or not at all. */
export interface RecordStore {
  /**
   * Opens or creates the log, exclusively for this process. After a failure the store is closed.
   * @throws `CONFLICT` naming the holder, `CORRUPTION`, `SCHEMA` (newer format), `WAL_FAILED` (directory
   * missing or read-only), `WAL_FULL`, `CONFIG` (driver missing).
   */
  open(options: LogOpenOptions): Promise<LogMeta>;
  /** Reads and verifies every record, oldest first, in portions. */
  load(visit: (records: readonly LoadedRecord[]) => void): Promise<LogContents>;
  /** Records by position, verified, in the order asked for; undefined where there is none. May be called during a commit. */
  read(positions: readonly number[]): Promise<(LoadedRecord | DamagedRecord | undefined)[]>;
  /**
   * Durable when it resolves, with the number of `removes` that were there. Groups take effect in the order of
   * the calls.
   * @throws `WAL_FULL`: nothing of the group was kept and the store goes on. `WAL_FAILED`: unknown what was
   * kept; the store is closed and must be opened and loaded again before the next commit.
   */
  commit(group: LogGroup): Promise<number>;
  /** Size on disk in bytes, as of the last commit. */
  readonly fileBytes: number;
  /** Never rejects. Called again before it has ended, it waits for nothing any more. */
  close(): Promise<void>;
}
