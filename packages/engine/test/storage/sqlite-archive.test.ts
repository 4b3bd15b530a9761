import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SyncEngineError } from '#engine/base/errors.js';
import type { Revision } from '#engine/item/revision.js';
import type { ApplyResult, ChangeHead } from '#engine/storage/archive-store.js';
import type { NewArchive } from '#engine/storage/identity.js';
import { ArchiveFile } from '#engine/storage/sqlite/archive-file.js';
import { unpackRevisions } from '#engine/storage/sqlite/pack.js';
import { SqliteArchive } from '#engine/storage/sqlite/sqlite-archive.js';
import { archiveContract, CREATE } from '#engine/testing/archive-contract.js';
import { essence, revision } from '#engine/testing/revisions.js';
import { rejection, temporaryDirectory } from '../support/engines.js';
import { failingDriver } from '../support/failing-driver.js';

const ID = 'c'.repeat(32);
const NEW: NewArchive = { archiveId: ID, clusterKey: 'd'.repeat(64) };

archiveContract('SQLite', () => {
  const path = join(temporaryDirectory(), 'archive.db');
  const fresh = { archiveId: ID, clusterKey: randomBytes(32).toString('hex') };
  return { open: () => new SqliteArchive(path, 'the test', fresh) };
});

function archivePath(): string {
  return join(temporaryDirectory(), 'archive.db');
}

async function opened(path: string, archiveId = ID): Promise<SqliteArchive> {
  const store = new SqliteArchive(path, 'the test', { ...NEW, archiveId });
  onTestFinished(() => store.close());
  await store.open(CREATE);
  return store;
}

function writer(path: string, driver: typeof Database = Database): ArchiveFile {
  const file = new ArchiveFile(driver, path, 'the test', 'writer');
  onTestFinished(() => file.close());
  file.open(CREATE, NEW);
  return file;
}

function apply(file: ArchiveFile, writes: readonly Revision[]): ApplyResult {
  return file.write((to) => to.apply(writes));
}

/** Rows in input order, damaged ones as errors. */
function getMany(file: ArchiveFile, ids: readonly string[]): (Revision | SyncEngineError | undefined)[] {
  const { places, rows, damaged } = file.read((from) => from.getMany(ids));
  const answers = new Array<Revision | SyncEngineError | undefined>(ids.length).fill(undefined);
  unpackRevisions(rows).forEach((row, at) => {
    answers[places[at] as number] = row;
  });
  for (const { place, error } of damaged) answers[place] = error;
  return answers;
}

function failure(run: () => unknown): SyncEngineError {
  try {
    run();
  } catch (error) {
    if (error instanceof SyncEngineError) return error;
    throw error;
  }
  throw new Error('It did not fail.');
}

describe('the file', () => {
  test('a missing one is an outage where it may not be created', async () => {
    const path = archivePath();
    const store = new SqliteArchive(path, 'the test', NEW);
    const error = await rejection(store.open({ ...CREATE, expectedId: ID, mayCreate: false }));
    expect(error).toMatchObject({ code: 'TIER_UNAVAILABLE', context: { path } });
    expect(error.message).toContain(ID);
    expect(existsSync(path)).toBe(false);
  });

  test.each([
    ['empty', ''],
    ['garbage', 'no database, but long enough to look like something that could be one. '.repeat(50)],
    ['short', 'SQLite format 3\0'],
  ])('one that is %s is damage, not a beginning', (_name, content) => {
    const path = archivePath();
    writeFileSync(path, content);
    expect(failure(() => writer(path))).toMatchObject({ code: 'CORRUPTION', context: { path } });
    expect(readFileSync(path, 'utf8')).toBe(content);
  });

  test('what a crash left of a creation is replaced', () => {
    const path = archivePath();
    writeFileSync(`${path}.new`, 'half of a file');
    apply(writer(path), [revision()]);
    expect(existsSync(`${path}.new`)).toBe(false);
  });

  test('a newer schema is refused and not touched', () => {
    const path = archivePath();
    const file = writer(path);
    apply(file, [revision()]);
    file.close();
    const connection = new Database(path);
    connection.pragma('user_version = 99');
    connection.close();
    const before = readFileSync(path);
    expect(failure(() => writer(path)).code).toBe('SCHEMA');
    expect(readFileSync(path)).toEqual(before);
  });

  test('closed, it is complete by itself', async () => {
    const path = archivePath();
    const store = await opened(path);
    await store.apply([revision()]);
    await store.close();
    expect(existsSync(`${path}-wal`)).toBe(false);
    const copy = archivePath();
    copyFileSync(path, copy);
    expect((await (await opened(copy)).getMany(['a']))[0]).toBeDefined();
  });

  test('a second process is told who has it', async () => {
    const path = archivePath();
    await opened(path);
    const second = new SqliteArchive(path, 'the second', NEW);
    expect(await rejection(second.open(CREATE))).toMatchObject({
      code: 'CONFLICT',
      context: { holder: 'the test' },
    });
  });

  test('people read JSON content in a view; broken documents show as NULL', async () => {
    const path = archivePath();
    const store = await opened(path);
    await store.apply([
      revision({ id: 'good', contentType: 'json', content: Buffer.from('{"a":1}'), version: 2048 * 5 }),
      revision({ id: 'broken', contentType: 'json', content: Buffer.from('{') }),
      revision({ id: 'binary' }),
      revision({ id: 'gone', contentType: 'json', deleted: true }),
    ]);
    await store.close();
    const connection = new Database(path, { readonly: true });
    onTestFinished(() => {
      connection.close();
    });
    expect(
      connection.prepare('SELECT id, updated_at_ms, content FROM sync_items_json ORDER BY id').all(),
    ).toEqual([
      { id: 'broken', updated_at_ms: 0, content: null },
      { id: 'good', updated_at_ms: 5, content: '{"a":1}' },
    ]);
  });
});

describe('a file that goes away while it is open', () => {
  test.each(['moved', 'deleted'])('when it is %s nothing is reported as stored', async (how) => {
    const path = archivePath();
    const store = await opened(path);
    await store.apply([revision({ id: 'before' })]);
    if (how === 'moved') renameSync(path, `${path}.away`);
    else rmSync(path);
    expect(await rejection(store.apply([revision({ id: 'after' })]))).toMatchObject({
      code: 'TIER_UNAVAILABLE',
    });
    expect(await rejection(store.getMany(['before']))).toMatchObject({ code: 'TIER_UNAVAILABLE' });
    expect(existsSync(path)).toBe(false);
  });

  test('one put in its place is not taken for it', async () => {
    const path = archivePath();
    const store = await opened(path);
    const other = archivePath();
    await (await opened(other, 'd'.repeat(32))).close();
    renameSync(other, path);
    expect((await rejection(store.ping())).code).toBe('TIER_UNAVAILABLE');
    const reopening = store.open({ ...CREATE, expectedId: ID, mayCreate: false });
    expect((await rejection(reopening)).code).toBe('CONFLICT');
  });

  test('a move between the statements and the answer is noticed: the outcome is not known', () => {
    const path = archivePath();
    const driver = failingDriver();
    const file = writer(path, driver.driver);
    apply(file, [revision({ id: 'before' })]);
    driver.beforeNextCommit(() => renameSync(path, `${path}.away`));
    expect(failure(() => apply(file, [revision({ id: 'after' })]))).toMatchObject({
      code: 'TIER_UNAVAILABLE',
      outcome: 'indeterminate',
    });
  });
});

describe('damage on the disk', () => {
  test('no bit flip is served: a row is right, refused as damaged, or the archive says that it is damaged', () => {
    const path = archivePath();
    const rows = Array.from({ length: 30 }, (_, at) =>
      revision({ id: `id${at}`, content: Buffer.alloc(90, at) }),
    );
    const file = writer(path);
    apply(file, rows);
    file.close();
    const intact = readFileSync(path);
    const outcomes = { right: 0, damaged: 0, hidden: 0, refused: 0 };
    for (let at = 100; at < intact.length; at += 23) {
      const flipped = Buffer.from(intact);
      flipped[at] = (flipped[at] as number) ^ (1 << (at % 8));
      const target = archivePath();
      writeFileSync(target, flipped);
      const damagedFile = new ArchiveFile(Database, target, 'the test', 'writer');
      try {
        damagedFile.open(CREATE, NEW);
        for (const row of rows) {
          const [answer] = getMany(damagedFile, [row.id]);
          if (answer === undefined) outcomes.hidden++;
          else if (answer instanceof SyncEngineError) outcomes.damaged++;
          else {
            expect(essence(answer)).toEqual(essence(row));
            outcomes.right++;
          }
        }
      } catch (error) {
        if (!(error instanceof SyncEngineError)) throw error;
        expect(['CORRUPTION', 'SCHEMA', 'TIER_UNAVAILABLE']).toContain(error.code);
        outcomes.refused++;
      } finally {
        damagedFile.close();
      }
    }
    expect(outcomes.damaged).toBeGreaterThan(20);
    expect(outcomes.refused).toBeGreaterThan(5);
  }, 60_000);

  test('every column of a row is under its checksum', () => {
    const path = archivePath();
    const file = writer(path);
    apply(file, [
      revision({
        contentType: 'json',
        homeInstanceId: 'h',
        traceParent: 'p',
        traceState: 's',
        version: 1000,
      }),
    ]);
    file.close();
    const changes = [
      'version = version + 1',
      "origin = x'00000000000000000000000000000000'",
      "origin = CAST(origin || x'00' AS BLOB)",
      'deleted = 1',
      "content_type = 'binary'",
      "content_type = 'text'",
      "state = 'other'",
      "content = x'00'",
      "content_hash = x'00'",
      'home_instance_id = NULL',
      "trace_parent = 'q'",
      "trace_state = 't'",
      'checksum = checksum + 1',
    ];
    for (const change of changes) {
      const target = archivePath();
      copyFileSync(path, target);
      const connection = new Database(target);
      connection.exec(`UPDATE sync_items SET ${change}`);
      connection.close();
      const [answer] = getMany(writer(target), ['a']);
      expect(answer, change).toMatchObject({ code: 'CORRUPTION' });
    }
  });
});

describe('a transaction is all or nothing', () => {
  test.each([
    ['archive.apply.begun', 0],
    ['archive.apply.written', 0],
    ['archive.apply.done', 100],
  ])('for a process killed at %s', (step, expected) => {
    const path = archivePath();
    const dist = new URL('../../dist/', import.meta.url).href;
    const source = `
      import { subscribe } from 'node:diagnostics_channel';
      import Database from ${JSON.stringify(import.meta.resolve('better-sqlite3'))};
      import { ArchiveFile } from ${JSON.stringify(`${dist}storage/sqlite/archive-file.js`)};
      const file = new ArchiveFile(Database, ${JSON.stringify(path)}, 'child', 'writer');
      file.open(${JSON.stringify(CREATE)}, ${JSON.stringify(NEW)});
      const template = { version: 1, origin: '0'.repeat(16), deleted: false, contentType: 'binary', state: 'default', content: Buffer.alloc(10) };
      subscribe('sync-engine:step', (name) => { if (name === ${JSON.stringify(step)}) process.kill(process.pid, 'SIGKILL'); });
      file.write((to) => to.apply(Array.from({ length: 100 }, (_, at) => ({ ...template, id: 'a' + at }))));
    `;
    const run = spawnSync(process.execPath, ['--input-type=module', '-e', source]);
    expect(run.signal).toBe('SIGKILL');
    const ids = Array.from({ length: 100 }, (_, at) => `a${at}`);
    const rows = getMany(writer(path), ids);
    expect(rows.filter((row) => row !== undefined)).toHaveLength(expected);
  });

  test('for a full disk: nothing of it is kept, and it succeeds when there is space', () => {
    const path = archivePath();
    const driver = failingDriver();
    const file = writer(path, driver.driver);
    apply(file, [revision({ id: 'before' })]);
    driver.limitPages(path, 30);
    const rows: Revision[] = Array.from({ length: 200 }, (_, at) =>
      revision({ id: `a${at}`, content: Buffer.alloc(2000) }),
    );
    expect(failure(() => apply(file, rows))).toMatchObject({ code: 'TIER_UNAVAILABLE' });
    expect(getMany(file, ['before', 'a0', 'a199']).map((row) => row !== undefined)).toEqual([
      true,
      false,
      false,
    ]);
    driver.limitPages(path, 1_000_000);
    expect(apply(file, rows).flags.every((flags) => flags === 1)).toBe(true);
  });

  test('a directory in place of the file is an outage', async () => {
    const path = archivePath();
    mkdirSync(path);
    const error = await rejection(new SqliteArchive(path, 'the test', NEW).open(CREATE));
    expect(['TIER_UNAVAILABLE', 'CORRUPTION']).toContain(error.code);
  });
});

describe('the change log in SQLite', () => {
  const DAY = 24 * 60 * 60 * 1000 * 2048;

  test('forgets what is older than a week by the versions it knows, and says so', () => {
    const file = writer(archivePath());
    const heads: ChangeHead[] = [{ position: 0, chain: '0'.repeat(64) }];
    for (let day = 1; day <= 128; day++) {
      const result = file.write((to) => to.apply([revision({ id: `day${day}`, version: day * DAY })]));
      heads.push(result.head);
    }
    const gapAt = (position: number): string =>
      file.read((from) => from.changesSince(heads[position] as ChangeHead, 1000)).gap;
    expect([gapAt(0), gapAt(100), gapAt(121), gapAt(127)]).toEqual(['trimmed', 'trimmed', 'none', 'none']);
    const page = file.read((from) => from.changesSince(heads[121] as ChangeHead, 1000));
    expect(page.batches.map((batch) => batch.changes[0]?.id)).toEqual(
      Array.from({ length: 7 }, (_, at) => `day${122 + at}`),
    );
  });

  test('a damaged entry is never read: readers build anew', () => {
    const path = archivePath();
    const file = writer(path);
    const first = file.write((to) => to.apply([revision({ id: 'a' })])).head;
    for (const id of ['b', 'c']) file.write((to) => to.apply([revision({ id })]));
    file.close();
    const database = new Database(path);
    database.exec('UPDATE sync_changes SET changes = zeroblob(length(changes)) WHERE position = 2');
    database.close();
    const page = writer(path).read((from) => from.changesSince(first, 1000));
    expect(page).toMatchObject({ batches: [], gap: 'trimmed', head: { position: 3 } });
  });
});
