/**
 * The log's file: a SQLite database that belongs to one process. Runs in the log's worker thread; it is
 * synchronous and plain, so tests run it in-process as well.
 *
 *   meta(key, value)                 format, identities, incarnation, the clock's mark, next position
 *   records(position, record)        one row per record, `record-codec.ts`
 *
 * A file that exists is never taken for a new log: it is created complete under another name and renamed. So
 * an empty or truncated file is damage, not a beginning.
 */
import { closeSync, openSync, readSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Statement } from 'better-sqlite3';
import { messageOf, SyncEngineError } from '../base/errors.js';
import { removeDatabase, sizeOf, syncDirectoryOf, syncPath } from '../base/files.js';
import { type Connection, type Driver, FileLock, isCorruption, isFull, sqliteCode } from '../base/sqlite.js';
import { step } from '../base/steps.js';
import { decodeRecord, sealRecord, unpackRecords } from './record-codec.js';
import type { DamagedRecord, LogMeta, LogOpenOptions } from './record-store.js';

/** "SyLg", so that tools and this code know the file. */
const APPLICATION_ID = 0x53794c67;
const FORMAT = 1;
/** Pages of 4 KiB after which SQLite moves its write-ahead file into the database; measured. */
const CHECKPOINT_PAGES = 4000;
const JOURNAL_BYTES_MAX = 64 * 1024 * 1024;
const PORTION_BYTES = 1024 * 1024;

/** A group as it reaches the worker. */
export interface PackedGroup {
  readonly firstPosition: number;
  /** `packRecords`. */
  readonly pack: Uint8Array;
  readonly removes: readonly number[];
  readonly meta: { readonly clockMark?: number; readonly archiveId?: string } | undefined;
}

/** A portion of records on its way to the main thread. */
export interface RecordPortion {
  readonly positions: number[];
  /** Bare records behind each other, `ends[i]` behind the i-th. */
  readonly bytes: Uint8Array;
  readonly ends: number[];
  readonly damaged: readonly DamagedRecord[];
  /** Where to go on; `undefined` at the end. */
  readonly next: number | undefined;
}

interface Open {
  readonly connection: Connection;
  readonly lock: FileLock;
  readonly insert: Statement<[number, Buffer]>;
  readonly remove: Statement<[number]>;
  readonly setMeta: Statement<[string, string]>;
  readonly begin: Statement;
  readonly commit: Statement;
}

export class RecordFile {
  readonly #driver: Driver;
  readonly #path: string;
  readonly #holder: string;
  #open: Open | undefined;
  #nextPosition = 1;

  constructor(driver: Driver, path: string, holder: string) {
    this.#driver = driver;
    this.#path = path;
    this.#holder = holder;
  }

  /** Database and write-ahead file together, bytes. */
  get fileBytes(): number {
    return (sizeOf(this.#path) ?? 0) + (sizeOf(`${this.#path}-wal`) ?? 0);
  }

  open(options: LogOpenOptions): LogMeta {
    this.close();
    const lock = this.#guard('open', () => FileLock.acquire(this.#driver, this.#path, this.#holder, 'wal'));
    try {
      return this.#guard('open', () => this.#openLocked(lock, options));
    } catch (error) {
      this.#open?.connection.close();
      this.#open = undefined;
      lock.release();
      throw error;
    }
  }

  /** Records from `from` on, about a mebibyte of them, each verified. */
  load(from: number): RecordPortion {
    const { connection } = this.#opened();
    return this.#guard('read', () => {
      const rows = connection
        .prepare<[number], { position: number; record: Buffer }>(
          'SELECT position, record FROM records WHERE position >= ? ORDER BY position',
        )
        .iterate(from);
      const positions: number[] = [];
      const parts: Buffer[] = [];
      const ends: number[] = [];
      const damaged: DamagedRecord[] = [];
      let bytes = 0;
      for (const { position, record } of rows) {
        if (bytes >= PORTION_BYTES) {
          return { positions, bytes: Buffer.concat(parts), ends, damaged, next: position };
        }
        const decoded: ReturnType<typeof decodeRecord> = Buffer.isBuffer(record)
          ? decodeRecord(record)
          : { kind: 'damaged', id: undefined };
        if (decoded.kind === 'damaged') {
          damaged.push({ position, id: decoded.id });
          continue;
        }
        bytes += record.length;
        positions.push(position);
        parts.push(record);
        ends.push(bytes);
      }
      return { positions, bytes: Buffer.concat(parts), ends, damaged, next: undefined };
    });
  }

  get nextPosition(): number {
    return this.#nextPosition;
  }

  /** Durable when it returns; returns how many of the removes were there. */
  commit(group: PackedGroup): number {
    const open = this.#opened();
    let inTransaction = false;
    try {
      open.begin.run();
      inTransaction = true;
      step('log.commit.begun');
      const { appended, removed } = this.#write(open, group);
      step('log.commit.written');
      open.commit.run();
      inTransaction = false;
      if (appended > 0) step('log.commit.done');
      if (group.removes.length > 0) step('log.release.done');
      this.#nextPosition = Math.max(this.#nextPosition, group.firstPosition + appended);
      return removed;
    } catch (error) {
      throw this.#commitFailed(open, error, inTransaction);
    }
  }

  /** Ends everything; a second call does nothing. */
  close(): void {
    const open = this.#open;
    this.#open = undefined;
    if (open === undefined) return;
    try {
      open.connection.close();
    } catch {
      // What could not be checkpointed is recovered at the next start.
    } finally {
      open.lock.release();
    }
  }

  #write(open: Open, group: PackedGroup): { appended: number; removed: number } {
    const pack = Buffer.from(group.pack.buffer, group.pack.byteOffset, group.pack.byteLength);
    let position = group.firstPosition;
    for (const record of unpackRecords(pack)) {
      sealRecord(record);
      open.insert.run(position++, record);
    }
    let removed = 0;
    for (const one of group.removes) removed += open.remove.run(one).changes;
    if (group.meta?.clockMark !== undefined) open.setMeta.run('clockMark', String(group.meta.clockMark));
    if (group.meta?.archiveId !== undefined) open.setMeta.run('archiveId', group.meta.archiveId);
    return { appended: position - group.firstPosition, removed };
  }

  /**
   * A full disk leaves the file as it was. After anything else the connection is given up: what SQLite holds
   * in memory of the file may no longer be what is on the disk.
   */
  #commitFailed(open: Open, error: unknown, inTransaction: boolean): SyncEngineError {
    if (isFull(error) && inTransaction) {
      try {
        if (open.connection.inTransaction) open.connection.exec('ROLLBACK');
        return new SyncEngineError(
          'WAL_FULL',
          `The disk of the log ${this.#path} is full. Nothing of the group was kept; it is tried again every second. Free space there.`,
          { outcome: 'indeterminate', context: { tier: 'wal', path: this.#path }, cause: error },
        );
      } catch {
        // The rollback failed too: the connection is of no more use.
      }
    }
    this.#open = undefined;
    try {
      open.connection.close();
    } catch {
      // A transaction that cannot be ended keeps it open until the thread ends.
    }
    open.lock.release();
    return new SyncEngineError(
      'WAL_FAILED',
      `The log ${this.#path} failed to commit: ${messageOf(error)}. It is opened and verified again before the next write.`,
      { outcome: 'indeterminate', context: { tier: 'wal', path: this.#path }, cause: error },
    );
  }

  #openLocked(lock: FileLock, options: LogOpenOptions): LogMeta {
    const size = sizeOf(this.#path);
    if (size === undefined) this.#create(options);
    else this.#assertSqlite(size);
    const connection = new this.#driver(this.#path, { timeout: 0 });
    try {
      this.#assertFormat(connection);
      connection.pragma('locking_mode = EXCLUSIVE');
      connection.pragma('journal_mode = WAL');
      connection.pragma('synchronous = FULL');
      connection.pragma(`journal_size_limit = ${JOURNAL_BYTES_MAX}`);
      connection.pragma(`wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
      this.#syncRecovered(connection);
      const meta = this.#raiseIncarnation(connection, options);
      this.#open = {
        connection,
        lock,
        insert: connection.prepare('INSERT INTO records (position, record) VALUES (?, ?)'),
        remove: connection.prepare('DELETE FROM records WHERE position = ?'),
        setMeta: connection.prepare(
          'INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
        ),
        begin: connection.prepare('BEGIN IMMEDIATE'),
        commit: connection.prepare('COMMIT'),
      };
      return meta;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /**
   * After a failed fsync, pages that SQLite's recovery accepts may never have reached the disk: the kernel
   * reports the failure once and then serves them from its cache. Appending behind them would put
   * acknowledged records behind a hole. A checkpoint writes all of them into the database and syncs it, and
   * the write-ahead file begins anew. Where that fails the log stays closed.
   */
  #syncRecovered(connection: Connection): void {
    const [result] = connection.pragma('wal_checkpoint(TRUNCATE)') as { busy: number }[];
    if (result === undefined || result.busy !== 0) throw new Error('The log could not be checkpointed.');
  }

  #raiseIncarnation(connection: Connection, options: LogOpenOptions): LogMeta {
    const stored = readMeta(connection);
    const last = connection.prepare('SELECT max(position) FROM records').pluck().get() as number | null;
    this.#nextPosition = Math.max(number(stored, 'nextPosition'), (last ?? 0) + 1);
    const incarnation = number(stored, 'incarnation') + 1;
    const nodeId = options.nodeId ?? text(stored, 'nodeId');
    const set = connection.prepare('UPDATE meta SET value = ? WHERE key = ?');
    connection.transaction(() => {
      set.run(String(incarnation), 'incarnation');
      set.run(nodeId, 'nodeId');
      // Records that are appended and released within one run leave no trace of their positions: the next
      // run begins behind anything that this one can use.
      set.run(String(this.#nextPosition + POSITIONS_PER_RUN), 'nextPosition');
    })();
    return {
      logId: text(stored, 'logId'),
      nodeId,
      incarnation,
      clockMark: number(stored, 'clockMark'),
      archiveId: stored.get('archiveId'),
    };
  }

  #create(options: LogOpenOptions): void {
    if ((sizeOf(`${this.#path}-wal`) ?? 0) > 0) {
      throw this.#corruption('it is missing, but its write-ahead file is there');
    }
    const building = `${this.#path}.new`;
    removeDatabase(building);
    const connection = new this.#driver(building);
    try {
      connection.pragma('synchronous = FULL');
      connection.pragma(`application_id = ${APPLICATION_ID}`);
      connection.pragma(`user_version = ${FORMAT}`);
      connection.exec(`
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
        CREATE TABLE records (position INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT;
      `);
      const set = connection.prepare('INSERT INTO meta VALUES (?, ?)');
      set.run('logId', options.newLogId);
      set.run('nodeId', options.nodeId ?? options.newNodeId);
      set.run('incarnation', '0');
      set.run('clockMark', '0');
      set.run('nextPosition', '1');
    } finally {
      connection.close();
    }
    syncPath(building);
    step('start.log-created');
    renameSync(building, this.#path);
    syncDirectoryOf(this.#path);
  }

  #assertSqlite(size: number): void {
    // SQLite takes an empty file for a new database, so this has to be seen before it is opened.
    if (size < 512) throw this.#corruption(size === 0 ? 'it is empty' : 'it is truncated');
    const head = Buffer.alloc(16);
    const handle = openSync(this.#path, 'r');
    try {
      readSync(handle, head, 0, head.length, 0);
    } finally {
      closeSync(handle);
    }
    if (head.toString('latin1') !== 'SQLite format 3\0') throw this.#corruption('it is not a SQLite file');
  }

  #assertFormat(connection: Connection): void {
    const application = connection.pragma('application_id', { simple: true }) as number;
    if (application !== APPLICATION_ID) throw this.#corruption('it is not a log of this engine');
    const format = connection.pragma('user_version', { simple: true }) as number;
    if (format > FORMAT) {
      throw new SyncEngineError(
        'SCHEMA',
        `The log ${this.#path} has format ${format}; this version knows ${FORMAT}. It was not touched. Start the newer version, let it drain the log, or give this one another walPath.`,
        { context: { tier: 'wal', path: this.#path } },
      );
    }
    if (format < 1) throw this.#corruption('its format is not set');
  }

  #corruption(what: string, cause?: unknown): SyncEngineError {
    return new SyncEngineError(
      'CORRUPTION',
      `The log ${this.#path} is damaged: ${what}. It may hold acknowledged writes: keep the file. To start without them, move it and the files beside it aside.`,
      { context: { tier: 'wal', path: this.#path }, ...(cause === undefined ? {} : { cause }) },
    );
  }

  #opened(): Open {
    if (this.#open !== undefined) return this.#open;
    throw new SyncEngineError('WAL_FAILED', `The log ${this.#path} is not open.`, {
      outcome: 'indeterminate',
      context: { tier: 'wal', path: this.#path },
    });
  }

  /** Runs `work`; what SQLite and the file system throw gets a code and says what to do. */
  #guard<T>(operation: 'open' | 'read', work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (error instanceof SyncEngineError) throw error;
      if (isCorruption(error)) throw this.#corruption(messageOf(error), error);
      const full = isFull(error);
      throw new SyncEngineError(
        full ? 'WAL_FULL' : 'WAL_FAILED',
        full
          ? `The disk of the log ${this.#path} is full. Free space there and start again.`
          : `The log ${this.#path} cannot be ${operation === 'open' ? 'opened' : 'read'}: ${reason(error)}. Its directory ${dirname(this.#path)} must exist and be writable for this user.`,
        { context: { tier: 'wal', path: this.#path }, cause: error },
      );
    }
  }
}

/** More than one run can append, so far below 2^53 that a log can be started a million times. */
const POSITIONS_PER_RUN = 2 ** 32;

function reason(error: unknown): string {
  const code = sqliteCode(error);
  return code === undefined ? messageOf(error) : `${messageOf(error)} (${code})`;
}

function readMeta(connection: Connection): Map<string, string> {
  const rows = connection.prepare('SELECT key, value FROM meta').raw().all() as [string, string][];
  return new Map(rows);
}

function text(meta: ReadonlyMap<string, string>, key: string): string {
  const value = meta.get(key);
  if (value === undefined) throw new Error(`Its meta table lacks ${key}.`);
  return value;
}

function number(meta: ReadonlyMap<string, string>, key: string): number {
  const value = Number(text(meta, key));
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`Its meta table has a bad ${key}.`);
  return value;
}
