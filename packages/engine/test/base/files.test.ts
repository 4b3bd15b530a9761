/** Helpers around files, and the lock that makes a file belong to one holder. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SyncEngineError } from '#engine/base/errors.js';
import { removeDatabase, sizeOf, syncDirectoryOf, syncPath } from '#engine/base/files.js';
import { FileLock, loadDriver } from '#engine/base/sqlite.js';
import { temporaryDirectory } from '../support/engines.js';

function thrown(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  throw new Error('It did not throw.');
}

test('a size is that of the file, and undefined where there is none', () => {
  const path = join(temporaryDirectory(), 'a.db');
  expect(sizeOf(path)).toBeUndefined();
  writeFileSync(path, 'four');
  expect(sizeOf(path)).toBe(4);
});

test('syncing what is not there is an error, and not a success', () => {
  const path = join(temporaryDirectory(), 'a.db');
  writeFileSync(path, '');
  syncPath(path);
  syncDirectoryOf(path);
  expect(() => syncPath(`${path}-gone`)).toThrow(/ENOENT/);
  expect(() => syncDirectoryOf(join(path, 'gone', 'b.db'))).toThrow(/ENOTDIR|ENOENT/);
});

test('removing a database takes what SQLite keeps beside it, and nothing else', () => {
  const directory = temporaryDirectory();
  const path = join(directory, 'a.db');
  for (const suffix of ['', '-wal', '-shm', '-journal', '2', '-lock']) writeFileSync(path + suffix, '');
  removeDatabase(path);
  expect(readdirSync(directory).sort()).toEqual(['a.db-lock', 'a.db2']);
  removeDatabase(path);
});

test('a file has one holder; the second is told who it is', async () => {
  const driver = await loadDriver();
  const path = join(temporaryDirectory(), 'a.db');
  const first = FileLock.acquire(driver, path, 'process 1', 'wal');
  const error = thrown(() => FileLock.acquire(driver, path, 'process 2', 'wal')) as SyncEngineError;
  expect(error).toBeInstanceOf(SyncEngineError);
  expect(error).toMatchObject({ code: 'CONFLICT', context: { tier: 'wal', path, holder: 'process 1' } });
  expect(error.message).toContain('process 1');
  first.release();

  const third = FileLock.acquire(driver, path, 'process 3', 'wal');
  expect(thrown(() => FileLock.acquire(driver, path, 'x', 'sql'))).toMatchObject({
    context: { tier: 'sql', holder: 'process 3' },
  });
  third.release();
});

test('the lock does not touch the file itself', async () => {
  const driver = await loadDriver();
  const path = join(temporaryDirectory(), 'a.db');
  FileLock.acquire(driver, path, 'process 1', 'wal').release();
  expect(existsSync(path)).toBe(false);
});

test('a lock that cannot be written is the error of the driver, and not a conflict', async () => {
  const driver = await loadDriver();
  const path = join(temporaryDirectory(), 'missing', 'a.db');
  expect(thrown(() => FileLock.acquire(driver, path, 'process 1', 'wal'))).not.toBeInstanceOf(
    SyncEngineError,
  );
});
