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
import { messageOf, SyncEngineError } from '../../base/errors.js';
import { removeDatabase, sizeOf, syncDirectoryOf, syncPath } from '../../base/files.js';
import {
  type Connection,
  type Driver,
  FileLock,
  isCorruption,
  isRefusalOfRow,
  problemOfHead,
} from '../../base/sqlite.js';
import { step } from '../../base/steps.js';
import { keyIdOf } from '../../merkle/digest.js';
import type { ArchiveInfo, ArchiveOpenOptions } from '../archive-store.js';
import { assertIdentity, checksumOfMeta, digestKeyOf, type NewArchive, newMeta } from '../identity.js';
import { ArchiveReader } from './archive-reader.js';
import { ArchiveWriter } from './archive-writer.js';
import { createRoot, RootRow } from './root-row.js';
import { APPLICATION_ID, migrate } from './schema.js';

/** Pages of 4 KiB after which SQLite moves its write-ahead file into the database; measured. */
const CHECKPOINT_PAGES = 8000;
const JOURNAL_BYTES_MAX = 128 * 1024 * 1024;
const BUSY_TIMEOUT_MS = 1000;
type Operation = 'open' | 'read' | 'apply' | 'ping';

export type ArchiveRole = 'writer' | 'reader';

export class ArchiveFile {
  readonly #driver: Driver;
  readonly #path: string;
  readonly #holder: string;
  readonly #role: ArchiveRole;
  #connection: Connection | undefined;
  #lock: FileLock | undefined;
  #reader: ArchiveReader | undefined;
  #writer: ArchiveWriter | undefined;
  #identity: string | undefined;

  constructor(driver: Driver, path: string, holder: string, role: ArchiveRole) {
    this.#driver = driver;
    this.#path = path;
    this.#holder = holder;
    this.#role = role;
  }

  /** @param fresh For the case that the archive is created. */
  open(options: ArchiveOpenOptions, fresh: NewArchive): ArchiveInfo {
    this.close();
    return this.#guard('open', () => {
      try {
        return this.#open(options, fresh);
      } catch (error) {
        this.#giveUp();
        throw error;
      }
    });
  }

  /** Runs a read, having made sure that the file is still the one that was opened. */
  read<T>(work: (reader: ArchiveReader) => T): T {
    return this.#guard('read', () => {
      this.#opened();
      this.#assertInPlace('not-applied');
      return work(this.#reader as ArchiveReader);
    });
  }

  /** Runs write transactions. What they report is true only of a file that is still in its place. */
  write<T>(work: (writer: ArchiveWriter) => T): T {
    return this.#guard('apply', () => {
      this.#opened();
      this.#assertInPlace('not-applied');
      const result = work(this.#writer as ArchiveWriter);
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

  #open(options: ArchiveOpenOptions, fresh: NewArchive): ArchiveInfo {
    if (this.#role === 'writer') this.#prepareFile(options, fresh);
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
    }
    const meta = this.#meta(connection);
    const key = digestKeyOf(meta, options, this.#path);
    const info = this.#info(connection, meta, options, key);
    this.#reader = new ArchiveReader(connection, key, (id) => this.#damaged(id));
    if (this.#role === 'writer') this.#writer = new ArchiveWriter(connection, key);
    return info;
  }

  #info(
    connection: Connection,
    meta: ReadonlyMap<string, string>,
    options: ArchiveOpenOptions,
    key: Uint8Array | undefined,
  ): ArchiveInfo {
    const root = new RootRow(connection).read();
    assertIdentity(meta, options, this.#path);
    return {
      archiveId: meta.get('archive_id') as string,
      highVersion: root.highVersion,
      warnings: [],
      head: { position: root.position, chain: root.chain.toString('hex') },
      horizon: root.horizon,
      keyId: key === undefined ? '' : keyIdOf(key),
    };
  }

  #meta(connection: Connection): ReadonlyMap<string, string> {
    const rows = connection.prepare('SELECT key, value FROM sync_meta').raw().all() as [string, string][];
    const meta = new Map(rows);
    if (meta.get('checksum') !== checksumOfMeta(meta)) {
      throw this.#corruption('its meta table does not fit its checksum');
    }
    return meta;
  }

  #prepareFile(options: ArchiveOpenOptions, fresh: NewArchive): void {
    if (sizeOf(dirname(this.#path)) === undefined) throw this.#noDirectory(options);
    const size = sizeOf(this.#path);
    if (size === undefined && !options.mayCreate) throw this.#missing(options);
    this.#lock = FileLock.acquire(this.#driver, this.#path, this.#holder, 'sql');
    if (size === undefined) this.#create(options, fresh);
    else this.#assertSqlite(size);
  }

  #create(options: ArchiveOpenOptions, fresh: NewArchive): void {
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
      const insert = connection.prepare('INSERT INTO sync_meta VALUES (?, ?)');
      for (const [name, value] of newMeta(options, fresh)) insert.run(name, value);
      createRoot(connection);
    } finally {
      connection.close();
    }
    syncPath(building);
    step('start.archive-created');
    renameSync(building, this.#path);
    syncDirectoryOf(this.#path);
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
    this.#reader = undefined;
    this.#writer = undefined;
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

  #rejected(cause: unknown): SyncEngineError {
    return new SyncEngineError('REJECTED', `The archive ${this.#path} refuses a row: ${messageOf(cause)}.`, {
      context: { tier: 'sql', path: this.#path },
      cause,
    });
  }

  /** Runs `work`; what SQLite and the file system throw gets a code. */
  #guard<T>(operation: Operation, work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (error instanceof SyncEngineError) throw error;
      if (isCorruption(error)) throw this.#corruption(messageOf(error), error);
      if (operation === 'apply' && isRefusalOfRow(error)) throw this.#rejected(error);
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

/** Device and inode of what a path names now; `undefined` where it names nothing. */
function identityOf(path: string): string | undefined {
  const stat = statSync(path, { throwIfNoEntry: false, bigint: true });
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`;
}
