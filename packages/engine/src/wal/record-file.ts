/**
 * The log's file: a SQLite database that belongs to one process. Runs in the log's worker thread; it is
 * synchronous and plain, so tests run it in-process as well.
 *
 *   meta(key, value)                 format, identities, incarnation, the clock's mark, next position
 *   records(position, record)        one row per record, `record-codec.ts`
 *
 * A file that exists is never taken for a new log: it is created complete under another name and renamed. So
 * an empty or truncated file is damage, not a beginning.
 *
 * Damage is never a shorter log. Records and meta carry checksums; what holds the records together (pages,
 * the order of the write-ahead file) is checked before the file is opened for writing. Groups that are gone
 * from its end, with the write-ahead file or by damage in the last of them, are noticed by the mark beside
 * it. What cannot be told: a last group damaged by, or after, a power loss that took the mark's last lines.
 */
import { renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import type { Statement } from 'better-sqlite3';
import { messageOf, SyncEngineError } from '../base/errors.js';
import { removeDatabase, sizeOf, syncDirectoryOf, syncPath } from '../base/files.js';
import {
  type Connection,
  type Driver,
  FileLock,
  isCorruption,
  isFull,
  problemOfHead,
  sqliteCode,
} from '../base/sqlite.js';
import { groupsBehindDamage } from '../base/sqlite-journal.js';
import { step } from '../base/steps.js';
import { CommitMark, markedGroups } from './commit-mark.js';
import { damageOf, sealRecord, unpackRecords } from './record-codec.js';
import type { DamagedRecord, LogMeta, LogOpenOptions } from './record-store.js';

/** "SyLg", so that tools and this code know the file. */
const APPLICATION_ID = 0x53794c67;
const FORMAT = 1;
/** Pages of 4 KiB after which SQLite moves its write-ahead file into the database; measured. */
const CHECKPOINT_PAGES = 4000;
const JOURNAL_BYTES_MAX = 64 * 1024 * 1024;
const PORTION_BYTES = 1024 * 1024;
/** Rows of one INSERT: a third less work for each than rows of their own, measured; more gain nothing. */
const ROWS_PER_INSERT = 32;
/** Positions are reserved in blocks, so that most commits need not write the next one down. */
const POSITIONS_RESERVED = 2 ** 20;
/** How many groups were committed; in the meta table, but not under its checksum, which is made at leisure. */
const GROUPS = 'groups';

/** A group as it reaches the worker. */
export interface PackedGroup {
  readonly firstPosition: number;
  /** `packRecords`. */
  readonly pack: Uint8Array;
  readonly removes: Float64Array | readonly number[];
  readonly meta: { readonly clockMark?: number; readonly archiveId?: string } | undefined;
}

/** A portion of records on its way to the main thread. */
export interface RecordPortion {
  readonly positions: number[];
  /** Bare records behind each other, `ends[i]` behind the i-th. Owns its memory. */
  readonly bytes: Uint8Array;
  readonly ends: number[];
  readonly damaged: readonly DamagedRecord[];
  /** Where to go on; `undefined` at the end. */
  readonly next: number | undefined;
}

type Meta = ReadonlyMap<string, string>;

interface Open {
  readonly connection: Connection;
  readonly lock: FileLock;
  readonly select: Statement<[number]>;
  readonly selectOne: Statement<[number]>;
  readonly insert: Statement<[number, Buffer]>;
  /** `ROWS_PER_INSERT` rows: position, record, position, … */
  readonly insertMany: Statement<[readonly (number | Buffer)[]]>;
  /** From one position to another, both included. */
  readonly remove: Statement<[number, number]>;
  readonly setMeta: Statement<[string, string]>;
  readonly begin: Statement;
  readonly commit: Statement;
  readonly mark: CommitMark;
}

export class RecordFile {
  readonly #driver: Driver;
  readonly #path: string;
  readonly #holder: string;
  #open: Open | undefined;
  #nextPosition = 1;
  /** As committed. */
  #meta: Meta = new Map();
  #groups = 0;

  constructor(driver: Driver, path: string, holder: string) {
    this.#driver = driver;
    this.#path = path;
    this.#holder = holder;
  }

  /** Database and write-ahead file together, bytes; asks the file system. */
  get fileBytes(): number {
    return (sizeOf(this.#path) ?? 0) + (sizeOf(`${this.#path}-wal`) ?? 0);
  }

  get nextPosition(): number {
    return this.#nextPosition;
  }

  open(options: LogOpenOptions): LogMeta {
    this.close();
    const lock = this.#guard('open', () => FileLock.acquire(this.#driver, this.#path, this.#holder, 'wal'));
    try {
      return this.#guard('open', () => this.#openLocked(lock, options));
    } catch (error) {
      this.#open = undefined;
      lock.release();
      throw error;
    }
  }

  /** Records from `from` on, at most a mebibyte of them or one, each verified. */
  load(from: number): RecordPortion {
    const { select } = this.#opened();
    return this.#guard('read', () => {
      const positions: number[] = [];
      const parts: Buffer[] = [];
      const ends: number[] = [];
      const damaged: DamagedRecord[] = [];
      let seenBytes = 0;
      let bytes = 0;
      let next: number | undefined;
      for (const [position, record] of select.iterate(from) as Iterable<[number, Buffer]>) {
        if (seenBytes > 0 && seenBytes + record.length > PORTION_BYTES) {
          next = position;
          break;
        }
        seenBytes += record.length + 1;
        const damage = damageOf(record);
        if (damage !== undefined) {
          damaged.push({ position, id: damage.id });
          continue;
        }
        bytes += record.length;
        positions.push(position);
        parts.push(record);
        ends.push(bytes);
      }
      return { positions, bytes: gathered(parts, bytes), ends, damaged, next };
    });
  }

  /** The records at these positions, each verified; what is not there is left out. */
  read(wanted: Iterable<number>): RecordPortion {
    const { selectOne } = this.#opened();
    return this.#guard('read', () => {
      const positions: number[] = [];
      const parts: Buffer[] = [];
      const ends: number[] = [];
      const damaged: DamagedRecord[] = [];
      let bytes = 0;
      for (const position of wanted) {
        const record = selectOne.get(position) as Buffer | undefined;
        if (record === undefined) continue;
        const damage = damageOf(record);
        if (damage !== undefined) {
          damaged.push({ position, id: damage.id });
          continue;
        }
        bytes += record.length;
        positions.push(position);
        parts.push(record);
        ends.push(bytes);
      }
      return { positions, bytes: gathered(parts, bytes), ends, damaged, next: undefined };
    });
  }

  /** Durable when it returns; returns how many of the removes were there. */
  commit(group: PackedGroup): number {
    const open = this.#opened();
    let inTransaction = false;
    try {
      open.begin.run();
      inTransaction = true;
      step('log.commit.begun');
      const { end, removed } = writeRecords(open, group);
      const meta = this.#metaAfter(group, end);
      if (meta !== this.#meta) writeMeta(open.setMeta, meta);
      // Records whose release is lost are written to SQL once more; any other group would be missed.
      const groups = end > group.firstPosition || meta !== this.#meta ? this.#groups + 1 : this.#groups;
      if (groups !== this.#groups) open.setMeta.run(GROUPS, String(groups));
      step('log.commit.written');
      open.commit.run();
      inTransaction = false;
      if (groups !== this.#groups) open.mark.set(groups);
      this.#groups = groups;
      this.#meta = meta;
      this.#nextPosition = Math.max(this.#nextPosition, end);
      if (end > group.firstPosition) step('log.commit.done');
      if (group.removes.length > 0) step('log.release.done');
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
      open.mark.close();
      open.lock.release();
    }
  }

  #metaAfter(group: PackedGroup, end: number): Meta {
    const clockMark = group.meta?.clockMark;
    const archiveId = group.meta?.archiveId;
    const exhausted = end > numberOf(this.#meta, 'nextPosition');
    if (clockMark === undefined && archiveId === undefined && !exhausted) return this.#meta;
    const meta = new Map(this.#meta);
    if (clockMark !== undefined) meta.set('clockMark', String(clockMark));
    if (archiveId !== undefined) meta.set('archiveId', archiveId);
    if (exhausted) meta.set('nextPosition', String(end + POSITIONS_RESERVED));
    return sealMeta(meta);
  }

  /**
   * A full disk leaves the file as it was. After anything else the connection is given up: what SQLite holds
   * in memory of the file may no longer be what is on the disk.
   */
  #commitFailed(open: Open, error: unknown, inTransaction: boolean): SyncEngineError {
    if (isFull(error) && inTransaction && this.#goOnWhenFull(open.connection)) {
      return new SyncEngineError(
        'WAL_FULL',
        `The disk of the log ${this.#path} is full. Nothing of the group was kept; it is tried again every second. Free space there.`,
        { outcome: 'indeterminate', context: { tier: 'wal', path: this.#path }, cause: error },
      );
    }
    this.close();
    return new SyncEngineError(
      'WAL_FAILED',
      `The log ${this.#path} failed to commit: ${messageOf(error)}. It is opened and verified again before the next write.`,
      { outcome: 'indeterminate', context: { tier: 'wal', path: this.#path }, cause: error },
    );
  }

  /**
   * Ends the transaction. What the write-ahead file holds may find room inside the database; then that file
   * is used again from its beginning, and releases go on although the disk is full.
   */
  #goOnWhenFull(connection: Connection): boolean {
    try {
      if (connection.inTransaction) connection.exec('ROLLBACK');
      connection.pragma('wal_checkpoint(RESTART)');
    } catch (error) {
      if (!isFull(error)) return false;
    }
    return !connection.inTransaction;
  }

  #openLocked(lock: FileLock, options: LogOpenOptions): LogMeta {
    const size = sizeOf(this.#path);
    if (size === undefined) this.#create(options);
    else this.#inspect(size);
    const connection = new this.#driver(this.#path, { timeout: 0, fileMustExist: true });
    try {
      connection.pragma('locking_mode = EXCLUSIVE');
      if (connection.pragma('journal_mode = WAL', { simple: true }) !== 'wal') {
        throw new Error('SQLite cannot keep a write-ahead file there');
      }
      connection.pragma('synchronous = FULL');
      // Where fsync alone leaves data in the drive's cache (macOS), it is told to go further.
      connection.pragma('fullfsync = ON');
      connection.pragma('checkpoint_fullfsync = ON');
      connection.pragma(`journal_size_limit = ${JOURNAL_BYTES_MAX}`);
      connection.pragma(`wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
      syncRecovered(connection);
      // The inspection leaves it; this connection has the file to itself and keeps no such index.
      rmSync(`${this.#path}-shm`, { force: true });
      const setMeta = connection.prepare<[string, string]>(
        'INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
      );
      const meta = this.#begin(connection, setMeta, options);
      const mark = new CommitMark(this.#path, meta.logId);
      mark.set(this.#groups);
      this.#open = {
        connection,
        lock,
        mark,
        setMeta,
        select: connection
          .prepare<[number]>('SELECT position, record FROM records WHERE position >= ? ORDER BY position')
          .raw(),
        selectOne: connection.prepare<[number]>('SELECT record FROM records WHERE position = ?').pluck(),
        insert: connection.prepare('INSERT INTO records (position, record) VALUES (?, ?)'),
        insertMany: connection.prepare(
          `INSERT INTO records (position, record) VALUES ${'(?, ?), '.repeat(ROWS_PER_INSERT - 1)}(?, ?)`,
        ),
        remove: connection.prepare('DELETE FROM records WHERE position BETWEEN ? AND ?'),
        begin: connection.prepare('BEGIN IMMEDIATE'),
        commit: connection.prepare('COMMIT'),
      };
      return meta;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** A new incarnation begins behind every position that an earlier one can have used. */
  #begin(connection: Connection, setMeta: Open['setMeta'], options: LogOpenOptions): LogMeta {
    const { meta: stored, groups } = this.#readMeta(connection);
    const last = connection.prepare('SELECT max(position) FROM records').pluck().get() as number | null;
    const nextPosition = Math.max(numberOf(stored, 'nextPosition'), (last ?? 0) + 1);
    const incarnation = numberOf(stored, 'incarnation') + 1;
    const meta = new Map(stored);
    meta.set('incarnation', String(incarnation));
    meta.set('nodeId', options.nodeId ?? textOf(stored, 'nodeId'));
    meta.set('nextPosition', String(nextPosition + POSITIONS_RESERVED));
    sealMeta(meta);
    connection.transaction(() => writeMeta(setMeta, meta))();
    this.#meta = meta;
    this.#groups = groups;
    this.#nextPosition = nextPosition;
    return {
      logId: textOf(meta, 'logId'),
      nodeId: textOf(meta, 'nodeId'),
      incarnation,
      clockMark: numberOf(meta, 'clockMark'),
      archiveId: meta.get('archiveId'),
    };
  }

  #create(options: LogOpenOptions): void {
    for (const suffix of ['-wal', '-journal']) {
      if ((sizeOf(this.#path + suffix) ?? 0) > 0) {
        throw this.#corruption(`it is missing, but ${this.#path}${suffix} is there`);
      }
    }
    const building = `${this.#path}.new`;
    removeDatabase(building);
    const connection = new this.#driver(building);
    try {
      connection.pragma('journal_mode = WAL');
      connection.pragma('synchronous = FULL');
      connection.pragma(`application_id = ${APPLICATION_ID}`);
      connection.pragma(`user_version = ${FORMAT}`);
      connection.exec(`
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
        CREATE TABLE records (position INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT;
      `);
      const meta = sealMeta(
        new Map([
          ['logId', options.newLogId],
          ['nodeId', options.nodeId ?? options.newNodeId],
          ['incarnation', '0'],
          ['clockMark', '0'],
          ['nextPosition', '1'],
        ]),
      );
      writeMeta(connection.prepare('INSERT INTO meta VALUES (?, ?)'), meta);
    } finally {
      connection.close();
    }
    syncPath(building);
    step('start.log-created');
    renameSync(building, this.#path);
    syncDirectoryOf(this.#path);
  }

  /** Looks at a file that exists without writing to it: a newer or a damaged one stays as it is. */
  #inspect(size: number): void {
    this.#assertSqlite(size);
    const lost = groupsBehindDamage(`${this.#path}-wal`);
    if (lost) throw this.#corruption(`committed groups lie behind a damaged place of ${this.#path}-wal`);
    const connection = new this.#driver(this.#path, { timeout: 0, readonly: true });
    try {
      this.#assertFormat(connection);
      // A flipped bit in a page's head can hide its records; only this notices. A tenth of what loading costs.
      const found = connection.pragma('quick_check(1)', { simple: true }) as string;
      if (found !== 'ok') throw this.#corruption(found);
      const { meta, groups } = this.#readMeta(connection);
      const lostGroups = markedGroups(this.#path, textOf(meta, 'logId')) - groups;
      if (lostGroups > 0) throw this.#endMissing(lostGroups);
    } finally {
      connection.close();
    }
  }

  #assertSqlite(size: number): void {
    const problem = problemOfHead(this.#path, size);
    if (problem !== undefined) throw this.#corruption(problem);
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

  #readMeta(connection: Connection): { meta: Meta; groups: number } {
    const rows = connection.prepare('SELECT key, value FROM meta').raw().all() as [string, string][];
    const meta = new Map(rows);
    const groups = meta.has(GROUPS) ? numberOf(meta, GROUPS) : 0;
    meta.delete(GROUPS);
    if (meta.get('checksum') !== metaChecksum(meta)) throw this.#corruption('its meta table was changed');
    return { meta, groups };
  }

  #endMissing(groups: number): SyncEngineError {
    return new SyncEngineError(
      'CORRUPTION',
      `The log ${this.#path} ends too early: the last ${groups} group(s) of acknowledged writes are missing. Its file ${this.#path}-wal was removed or damaged, or an older copy of the log was put in its place. If the files can be had, put them back together. To go on with what is there, remove ${this.#path}-mark.`,
      { context: { tier: 'wal', path: this.#path } },
    );
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
      const context = { tier: 'wal', path: this.#path } as const;
      if (sqliteCode(error)?.startsWith('SQLITE_BUSY')) {
        const holder = 'another process';
        throw new SyncEngineError(
          'CONFLICT',
          `${this.#path} belongs to ${holder}, which opened it under another name or without this engine. Stop that one, or give this one a file of its own.`,
          { context: { ...context, holder }, cause: error },
        );
      }
      const full = isFull(error);
      throw new SyncEngineError(
        full ? 'WAL_FULL' : 'WAL_FAILED',
        full
          ? `The disk of the log ${this.#path} is full. Free space there and start again.`
          : `The log ${this.#path} cannot be ${operation === 'open' ? 'opened' : 'read'}: ${reason(error)}. Its directory ${dirname(this.#path)} must exist and be writable for this user, and so must the file if there is one.`,
        { context, cause: error },
      );
    }
  }
}

/** Returns the position behind the last record, and how many of the removes were there. */
function writeRecords(open: Open, group: PackedGroup): { end: number; removed: number } {
  const pack = Buffer.from(group.pack.buffer, group.pack.byteOffset, group.pack.byteLength);
  let position = group.firstPosition;
  let rows: (number | Buffer)[] = [];
  for (const record of unpackRecords(pack)) {
    sealRecord(record);
    rows.push(position++, record);
    if (rows.length < 2 * ROWS_PER_INSERT) continue;
    open.insertMany.run(rows);
    rows = [];
  }
  for (let at = 0; at < rows.length; at += 2) open.insert.run(rows[at] as number, rows[at + 1] as Buffer);
  return { end: position, removed: removePositions(open, group.removes) };
}

/** What is released together was mostly appended together, so its positions follow each other. */
function removePositions(open: Open, positions: PackedGroup['removes']): number {
  const sorted = Float64Array.from(positions).sort();
  let removed = 0;
  for (let at = 0; at < sorted.length; ) {
    const first = sorted[at] as number;
    let last = first;
    // A position can be named twice: released, and replaced by a newer record.
    while (++at < sorted.length && (sorted[at] as number) <= last + 1) last = sorted[at] as number;
    removed += open.remove.run(first, last).changes;
  }
  return removed;
}

/**
 * After a failed fsync, pages that SQLite's recovery accepts may never have reached the disk: the kernel
 * reports the failure once and then serves them from its cache. Appending behind them would put
 * acknowledged records behind a hole. A checkpoint writes all of them into the database and syncs it, and
 * the write-ahead file begins anew. Where that fails the log stays closed.
 */
function syncRecovered(connection: Connection): void {
  const [result] = connection.pragma('wal_checkpoint(TRUNCATE)') as { busy: number }[];
  if (result === undefined || result.busy !== 0) throw new Error('The log could not be checkpointed');
}

/** One buffer of its own, which can be transferred; `Buffer.concat` may take a part of Node's pool. */
function gathered(parts: readonly Buffer[], bytes: number): Buffer {
  const all = Buffer.allocUnsafeSlow(bytes);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function reason(error: unknown): string {
  const code = sqliteCode(error);
  return code === undefined ? messageOf(error) : `${messageOf(error)} (${code})`;
}

function sealMeta(meta: Map<string, string>): Meta {
  return meta.set('checksum', metaChecksum(meta));
}

function metaChecksum(meta: Meta): string {
  const entries = [...meta].filter(([key]) => key !== 'checksum');
  return String(crc32(JSON.stringify(entries.sort(([a], [b]) => (a < b ? -1 : 1)))));
}

function writeMeta(setMeta: Open['setMeta'], meta: Meta): void {
  for (const [key, value] of meta) setMeta.run(key, value);
}

function textOf(meta: Meta, key: string): string {
  const value = meta.get(key);
  if (value === undefined) throw new Error(`Its meta table lacks ${key}`);
  return value;
}

function numberOf(meta: Meta, key: string): number {
  const value = Number(textOf(meta, key));
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`Its meta table has a bad ${key}`);
  return value;
}
