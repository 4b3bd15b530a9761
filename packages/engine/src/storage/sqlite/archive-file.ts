/**
 * The archive's file: a SQLite database that belongs to one process. Runs in worker threads, once as writer
 * and once as reader; it is synchronous and plain, so tests run it in-process as well.
 *
 * A file that exists is never taken for a new archive: it is created complete under another name and renamed.
 *
 * The file can be moved or deleted while it is open, and SQLite would go on writing into what has no name any
 * more. So the writer compares the path with what it opened before each transaction, and again after the
 * commit: only then is anything reported as stored.
 */
import { renameSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Statement } from 'better-sqlite3';
import { messageOf, SyncEngineError } from '../../base/errors.js';
import { removeDatabase, sizeOf, syncDirectoryOf, syncPath } from '../../base/files.js';
import { type Connection, type Driver, FileLock, isCorruption, problemOfHead } from '../../base/sqlite.js';
import { step } from '../../base/steps.js';
import { encodeEnvelope, envelopeBytesMax } from '../../item/envelope.js';
import { compareOrder } from '../../item/order.js';
import { contentHashOf, EMPTY_CONTENT, type Revision } from '../../item/revision.js';
import {
  APPLY_EXISTED,
  APPLY_STORED,
  APPLY_UNCHANGED,
  type ApplyResult,
  type ArchiveInfo,
  type ArchiveOpenOptions,
} from '../archive-store.js';
import { unpackRevisions } from './pack.js';
import { type PackedRows, RowPacker, type RowValues, rowChecksum } from './row-packer.js';
import { APPLICATION_ID, migrate } from './schema.js';

/** Pages of 4 KiB after which SQLite moves its write-ahead file into the database; measured. */
const CHECKPOINT_PAGES = 8000;
const JOURNAL_BYTES_MAX = 128 * 1024 * 1024;
const BUSY_TIMEOUT_MS = 1000;
const COLUMNS =
  'id, version, origin, deleted, content_type, state, content, content_hash, home_instance_id, trace_parent, trace_state, checksum';

/** All but the id, which would make SQLite rewrite its index; then the rowid. */
type UpdateValues = [...(RowValues extends [string, ...infer Rest] ? Rest : never), rowid: number];

interface Statements {
  readonly begin: Statement;
  readonly commit: Statement;
  readonly order: Statement<[string], [number, number, Buffer, number, Buffer]>;
  readonly insert: Statement<RowValues>;
  readonly update: Statement<UpdateValues>;
  readonly highVersion: Statement<[string]>;
}

export type ArchiveRole = 'writer' | 'reader';

export class ArchiveFile {
  readonly #driver: Driver;
  readonly #path: string;
  readonly #holder: string;
  readonly #role: ArchiveRole;
  #connection: Connection | undefined;
  #lock: FileLock | undefined;
  #statements: Statements | undefined;
  #row: Statement<[string], RowValues> | undefined;
  #identity: string | undefined;
  #highVersion = 0;
  #scratch = Buffer.allocUnsafeSlow(64 * 1024);

  constructor(driver: Driver, path: string, holder: string, role: ArchiveRole) {
    this.#driver = driver;
    this.#path = path;
    this.#holder = holder;
    this.#role = role;
  }

  /** @param newArchiveId Identity for the case that the archive is created. */
  open(options: ArchiveOpenOptions, newArchiveId: string): ArchiveInfo {
    this.close();
    return this.#guard('open', () => {
      try {
        return this.#open(options, newArchiveId);
      } catch (error) {
        this.#giveUp();
        throw error;
      }
    });
  }

  /** Rows in input order, damaged ones as errors. */
  getMany(ids: readonly string[]): (Revision | SyncEngineError | undefined)[] {
    const { places, rows, damaged } = this.readPacked(ids);
    const answers = new Array<Revision | SyncEngineError | undefined>(ids.length).fill(undefined);
    unpackRevisions(rows).forEach((row, at) => {
      answers[places[at] as number] = row;
    });
    for (const { place, error } of damaged) answers[place] = error;
    return answers;
  }

  /** The same as one buffer that can be transferred. All rows are of one moment. */
  readPacked(ids: readonly string[]): PackedRows {
    return this.#guard('read', () => {
      const connection = this.#opened();
      const row = this.#row as Statement<[string], RowValues>;
      this.#assertInPlace('not-applied');
      const packer = new RowPacker();
      connection.exec('BEGIN');
      try {
        for (let place = 0; place < ids.length; place++) {
          const values = row.get(ids[place] as string);
          if (values !== undefined && !packer.add(place, values))
            packer.refuse(place, this.#damaged(values[0]));
        }
      } finally {
        connection.exec('COMMIT');
      }
      return packer.packed();
    });
  }

  /** One transaction; durable when it returns. */
  apply(writes: readonly Revision[]): ApplyResult {
    return this.#guard('apply', () => {
      const connection = this.#opened();
      const statements = this.#statements as Statements;
      this.#assertInPlace('not-applied');
      const result = { flags: new Uint8Array(writes.length), newer: new Map<number, number>() };
      statements.begin.run();
      try {
        step('archive.apply.begun');
        this.#write(statements, writes, result);
        step('archive.apply.written');
        statements.commit.run();
      } catch (error) {
        if (connection.inTransaction) connection.exec('ROLLBACK');
        throw error;
      }
      step('archive.apply.done');
      this.#assertInPlace('indeterminate');
      return result;
    });
  }

  ping(): void {
    this.#guard('ping', () => {
      this.#opened().pragma('user_version');
      this.#assertInPlace('not-applied');
    });
  }

  /** Moves everything into the one file and lets it go. A second call does nothing. */
  close(): void {
    const connection = this.#connection;
    try {
      if (connection !== undefined && this.#role === 'writer' && !connection.inTransaction) {
        connection.pragma('wal_checkpoint(TRUNCATE)');
      }
    } catch {
      // The write-ahead file stays beside the archive and is read at the next start.
    } finally {
      this.#giveUp();
    }
  }

  #open(options: ArchiveOpenOptions, newArchiveId: string): ArchiveInfo {
    if (this.#role === 'writer') this.#prepareFile(options, newArchiveId);
    const connection = new this.#driver(this.#path, {
      timeout: BUSY_TIMEOUT_MS,
      fileMustExist: true,
      readonly: this.#role === 'reader',
    });
    this.#connection = connection;
    this.#identity = identityOf(this.#path);
    if ((connection.pragma('application_id', { simple: true }) as number) !== APPLICATION_ID) {
      throw this.#corruption('it is not an archive of this engine');
    }
    if (this.#role === 'writer') {
      migrate(connection, this.#path);
      connection.pragma('journal_mode = WAL');
      connection.pragma('synchronous = FULL');
      connection.pragma(`wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
      connection.pragma(`journal_size_limit = ${JOURNAL_BYTES_MAX}`);
      this.#statements = prepare(connection);
    }
    this.#row = connection
      .prepare<[string], RowValues>(`SELECT ${COLUMNS} FROM sync_items WHERE id = ?`)
      .raw();
    const info = this.#info(connection, options);
    this.#highVersion = info.highVersion;
    return info;
  }

  #info(connection: Connection, options: ArchiveOpenOptions): ArchiveInfo {
    const rows = connection.prepare('SELECT key, value FROM sync_meta').raw().all() as [string, string][];
    const meta = new Map(rows);
    const archiveId = meta.get('archive_id');
    const highVersion = Number(meta.get('high_version'));
    if (archiveId === undefined || !Number.isSafeInteger(highVersion)) {
      throw this.#corruption('its meta table is incomplete');
    }
    if (options.expectedId !== undefined && archiveId !== options.expectedId && !options.mayDiffer) {
      throw new SyncEngineError(
        'CONFLICT',
        `The archive ${this.#path} has identity ${archiveId}, but the log belongs to ${options.expectedId}. Bring that archive back, or accept this one once with allowNewArchive: true.`,
        { context: { tier: 'sql', path: this.#path, expectedId: options.expectedId, archiveId } },
      );
    }
    return { archiveId, highVersion, warnings: [] };
  }

  #prepareFile(options: ArchiveOpenOptions, newArchiveId: string): void {
    if (sizeOf(dirname(this.#path)) === undefined) throw this.#noDirectory(options);
    const size = sizeOf(this.#path);
    if (size === undefined && !options.mayCreate) throw this.#missing(options);
    this.#lock = FileLock.acquire(this.#driver, this.#path, this.#holder, 'sql');
    if (size === undefined) this.#create(newArchiveId);
    else this.#assertSqlite(size);
  }

  #create(archiveId: string): void {
    if ((sizeOf(`${this.#path}-wal`) ?? 0) > 0) {
      throw this.#corruption('it is missing, but its write-ahead file is there');
    }
    const building = `${this.#path}.new`;
    removeDatabase(building);
    const connection = new this.#driver(building);
    try {
      connection.pragma('synchronous = FULL');
      connection.pragma(`application_id = ${APPLICATION_ID}`);
      migrate(connection, building);
      connection.prepare("INSERT INTO sync_meta VALUES ('archive_id', ?)").run(archiveId);
    } finally {
      connection.close();
    }
    syncPath(building);
    step('start.archive-created');
    renameSync(building, this.#path);
    syncDirectoryOf(this.#path);
  }

  #write(
    statements: Statements,
    writes: readonly Revision[],
    result: { flags: Uint8Array; newer: Map<number, number> },
  ): void {
    let highVersion = this.#highVersion;
    for (let at = 0; at < writes.length; at++) {
      const write = writes[at] as Revision;
      if (write.version > highVersion) highVersion = write.version;
      const present = statements.order.get(write.id);
      if (present === undefined) {
        statements.insert.run(...this.#valuesOf(write));
        result.flags[at] = APPLY_STORED;
        continue;
      }
      const [rowid, version, origin, deleted, hash] = present;
      const order = compareOrder(write, orderKey(version, origin, deleted, hash));
      if (order < 0) {
        result.newer.set(at, version);
        continue;
      }
      result.flags[at] =
        APPLY_STORED | (deleted === 0 ? APPLY_EXISTED : 0) | (order === 0 ? APPLY_UNCHANGED : 0);
      if (order > 0) {
        const [, ...values] = this.#valuesOf(write);
        statements.update.run(...values, rowid);
      }
    }
    if (highVersion > this.#highVersion) {
      statements.highVersion.run(String(highVersion));
      this.#highVersion = highVersion;
    }
  }

  #valuesOf(write: Revision): RowValues {
    const hash = Buffer.from(contentHashOf(write), 'hex');
    return [
      write.id,
      write.version,
      Buffer.from(write.origin, 'latin1'),
      write.deleted ? 1 : 0,
      write.contentType,
      write.state,
      write.content,
      hash,
      write.homeInstanceId ?? null,
      write.traceParent ?? null,
      write.traceState ?? null,
      this.#checksumOf(write, hash),
    ];
  }

  #checksumOf(revision: Revision, hash: Buffer): number {
    const room = envelopeBytesMax(revision);
    if (room > this.#scratch.length) this.#scratch = Buffer.allocUnsafeSlow(room);
    const end = encodeEnvelope(revision, this.#scratch, 0, false);
    return rowChecksum(this.#scratch, 0, end, hash);
  }

  #damaged(id: string): SyncEngineError {
    return new SyncEngineError(
      'CORRUPTION',
      'The row of this id in SQL does not fit its checksum; it was not served. Restore the archive from a backup, or submit or delete the id to replace the row.',
      { context: { tier: 'sql', id, path: this.#path } },
    );
  }

  #assertInPlace(outcome: 'not-applied' | 'indeterminate'): void {
    if (identityOf(this.#path) === this.#identity) return;
    this.#giveUp();
    throw new SyncEngineError(
      'TIER_UNAVAILABLE',
      `The archive ${this.#path} was moved, deleted or replaced while it was open. Bring it back; it is tried every second.`,
      { outcome, context: { tier: 'sql', path: this.#path } },
    );
  }

  #assertSqlite(size: number): void {
    const problem = problemOfHead(this.#path, size);
    if (problem !== undefined) throw this.#corruption(problem);
  }

  #opened(): Connection {
    if (this.#connection !== undefined) return this.#connection;
    throw new SyncEngineError('TIER_UNAVAILABLE', `The archive ${this.#path} is not open.`, {
      context: { tier: 'sql', path: this.#path },
    });
  }

  #giveUp(): void {
    this.#row = undefined;
    this.#statements = undefined;
    const connection = this.#connection;
    this.#connection = undefined;
    try {
      connection?.close();
    } catch {
      // A transaction that cannot be ended keeps it open until the thread ends.
    }
    this.#lock?.release();
    this.#lock = undefined;
  }

  #missing(options: ArchiveOpenOptions): SyncEngineError {
    return new SyncEngineError(
      'TIER_UNAVAILABLE',
      `The archive ${this.#path} is missing; it has identity ${options.expectedId}. Bring it back: it is tried every second. Or start with an empty one, once, with allowNewArchive: true.`,
      { context: { tier: 'sql', path: this.#path } },
    );
  }

  #noDirectory(options: ArchiveOpenOptions): SyncEngineError {
    return new SyncEngineError(
      options.mayCreate ? 'CONFIG' : 'TIER_UNAVAILABLE',
      `The directory ${dirname(this.#path)} of the archive does not exist. ${options.mayCreate ? 'Create it, or correct sqlUrl.' : 'Bring it back: it is tried every second.'}`,
      { context: { tier: 'sql', path: this.#path } },
    );
  }

  #corruption(what: string, cause?: unknown): SyncEngineError {
    return new SyncEngineError(
      'CORRUPTION',
      `The archive ${this.#path} is damaged: ${what}. Keep the file, and restore a backup in its place; what is not yet stored stays in the log.`,
      { context: { tier: 'sql', path: this.#path }, ...(cause === undefined ? {} : { cause }) },
    );
  }

  /** Runs `work`; what SQLite and the file system throw gets a code. */
  #guard<T>(operation: 'open' | 'read' | 'apply' | 'ping', work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (error instanceof SyncEngineError) throw error;
      if (isCorruption(error)) throw this.#corruption(messageOf(error), error);
      throw new SyncEngineError(
        'TIER_UNAVAILABLE',
        `The archive ${this.#path} failed to ${operation}: ${messageOf(error)}.`,
        {
          outcome: operation === 'apply' ? 'indeterminate' : 'not-applied',
          context: { tier: 'sql', path: this.#path, operation },
          cause: error,
        },
      );
    }
  }
}

function prepare(connection: Connection): Statements {
  const marks = COLUMNS.replaceAll(/[a-z_]+/g, '?');
  const [, ...changing] = COLUMNS.split(', ');
  const sets = changing.map((column) => `${column} = ?`);
  return {
    begin: connection.prepare('BEGIN IMMEDIATE'),
    commit: connection.prepare('COMMIT'),
    order: connection
      .prepare<[string], [number, number, Buffer, number, Buffer]>(
        'SELECT rowid, version, origin, deleted, content_hash FROM sync_items WHERE id = ?',
      )
      .raw(),
    insert: connection.prepare<RowValues>(`INSERT INTO sync_items (${COLUMNS}) VALUES (${marks})`),
    update: connection.prepare<UpdateValues>(`UPDATE sync_items SET ${sets.join(', ')} WHERE rowid = ?`),
    highVersion: connection.prepare<[string]>("UPDATE sync_meta SET value = ? WHERE key = 'high_version'"),
  };
}

/** A row's place in the order, as `compareOrder` takes it. */
function orderKey(version: number, origin: Buffer, deleted: number, hash: Buffer): Revision {
  return {
    id: '',
    version,
    origin: origin.toString('latin1'),
    deleted: deleted !== 0,
    contentType: 'binary',
    state: '',
    content: EMPTY_CONTENT,
    contentHash: hash.toString('hex'),
  };
}

/** Device and inode of what a path names now; `undefined` where it names nothing. */
function identityOf(path: string): string | undefined {
  const stat = statSync(path, { throwIfNoEntry: false, bigint: true });
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`;
}
