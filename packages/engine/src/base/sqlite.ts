/**
 * What log and archive share of SQLite: loading the driver on first use, the lock that makes a file belong
 * to one process, and what a SQLite error means.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import type Database from 'better-sqlite3';
import { messageOf, SyncEngineError, type Tier } from './errors.js';
import { removeDatabase } from './files.js';

export type Driver = typeof Database;
export type Connection = Database.Database;

/** @throws `CONFIG` naming the package to install. */
export async function loadDriver(): Promise<Driver> {
  try {
    return (await import('better-sqlite3')).default;
  } catch (cause) {
    throw new SyncEngineError(
      'CONFIG',
      "SQLite needs the package better-sqlite3, which could not be loaded. Install it: npm install 'better-sqlite3@^12.11.1' (npm 11 also wants: npm install-scripts approve better-sqlite3).",
      { cause },
    );
  }
}

/** Driver code such as `SQLITE_BUSY`, or `undefined` for an error that is not SQLite's. */
export function sqliteCode(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined;
  return typeof code === 'string' && code.startsWith('SQLITE_') ? code : undefined;
}

/** The file's content is not what SQLite wrote: truncated, overwritten, not a database. */
export function isCorruption(error: unknown): boolean {
  const code = sqliteCode(error);
  return code !== undefined && (code.startsWith('SQLITE_CORRUPT') || code === 'SQLITE_NOTADB');
}

/** The disk, or the limit set on the file, is full. */
export function isFull(error: unknown): boolean {
  return sqliteCode(error) === 'SQLITE_FULL';
}

/** The statement was refused because of the row that it writes; the same row would be refused again. */
export function isRefusalOfRow(error: unknown): boolean {
  const code = sqliteCode(error);
  return code !== undefined && (code.startsWith('SQLITE_CONSTRAINT') || code === 'SQLITE_TOOBIG');
}

function isBusy(error: unknown): boolean {
  const code = sqliteCode(error);
  return code !== undefined && (code.startsWith('SQLITE_BUSY') || code.startsWith('SQLITE_LOCKED'));
}

const MAGIC = 'SQLite format 3\0';
const PAGE_BYTES_MIN = 512;

/**
 * What is wrong with the beginning of a file that exists, `undefined` where nothing is. SQLite takes an empty
 * file for a new database, so this is to be asked before it is opened.
 */
export function problemOfHead(path: string, sizeBytes: number): string | undefined {
  if (sizeBytes < PAGE_BYTES_MIN) return sizeBytes === 0 ? 'it is empty' : 'it is truncated';
  const head = Buffer.alloc(MAGIC.length);
  const handle = openSync(path, 'r');
  try {
    readSync(handle, head, 0, head.length, 0);
  } finally {
    closeSync(handle);
  }
  return head.toString('latin1') === MAGIC ? undefined : 'it is not a SQLite file';
}

/**
 * Makes `path` belong to one holder: an open transaction on `<path>-lock`, which the operating system ends
 * with the process, however it dies. The holder writes its name into that file, and a reserved lock lets
 * others read it.
 */
export class FileLock {
  readonly #connection: Connection;

  private constructor(connection: Connection) {
    this.#connection = connection;
  }

  /**
   * @param holder Who asks, for the message that a second process gets.
   * @throws `CONFLICT` naming the holder; the driver's error where the lock file cannot be written.
   */
  static acquire(driver: Driver, path: string, holder: string, tier: Tier): FileLock {
    try {
      return FileLock.#take(driver, path, holder, tier);
    } catch (error) {
      if (!isCorruption(error)) throw error;
      // The lock's file is never synced, so a power loss can leave it without sense. It holds nothing but a
      // name: it is made anew.
      removeDatabase(`${path}-lock`);
      return FileLock.#take(driver, path, holder, tier);
    }
  }

  static #take(driver: Driver, path: string, holder: string, tier: Tier): FileLock {
    const connection = new driver(`${path}-lock`, { timeout: 0 });
    try {
      connection.pragma('journal_mode = DELETE');
      connection.pragma('synchronous = OFF');
      connection.exec(
        'CREATE TABLE IF NOT EXISTS holder (one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT)',
      );
      connection
        .prepare('INSERT INTO holder VALUES (1, ?) ON CONFLICT DO UPDATE SET name = excluded.name')
        .run(holder);
      connection.exec('BEGIN IMMEDIATE');
      return new FileLock(connection);
    } catch (error) {
      const owner = isBusy(error) ? readHolder(connection) : undefined;
      connection.close();
      if (owner === undefined) throw error;
      throw new SyncEngineError(
        'CONFLICT',
        `${path} belongs to ${owner}. One process owns the file; stop that one, or give this one a file of its own.`,
        { context: { tier, path, holder: owner }, cause: error },
      );
    }
  }

  release(): void {
    this.#connection.close();
  }
}

function readHolder(connection: Connection): string {
  try {
    const row = connection.prepare('SELECT name FROM holder').get() as { name: string } | undefined;
    return row?.name ?? 'another process';
  } catch (error) {
    return `another process (its name is not readable: ${messageOf(error)})`;
  }
}
