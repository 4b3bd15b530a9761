import { execFileSync, spawn } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SyncEngineError as EngineError, type SyncEngineError } from '#engine/base/errors.js';
import { STEP_CHANNEL } from '#engine/base/steps.js';
import type { Revision } from '#engine/item/revision.js';
import { essence, revision } from '#engine/testing/revisions.js';
import { packRecords, unpackLoaded } from '#engine/wal/record-codec.js';
import { RecordFile } from '#engine/wal/record-file.js';
import type { DamagedRecord, LoadedRecord, LogMeta } from '#engine/wal/record-store.js';
import { temporaryDirectory } from '../support/engines.js';
import { failingDriver } from '../support/failing-driver.js';
import { slowTest } from '../support/slow.js';

const OPTIONS = { nodeId: 'n', newLogId: 'f'.repeat(32), newNodeId: 'other' };

function logPath(): string {
  return join(temporaryDirectory(), 'log.db');
}

function opened(path: string, driver: typeof Database = Database): { file: RecordFile; meta: LogMeta } {
  const file = new RecordFile(driver, path, 'the test');
  onTestFinished(() => file.close());
  return { file, meta: file.open(OPTIONS) };
}

function append(file: RecordFile, revisions: readonly Revision[], removes: readonly number[] = []): number {
  const firstPosition = file.nextPosition;
  file.commit({ firstPosition, pack: packRecords(revisions), removes, meta: undefined });
  return firstPosition;
}

function load(file: RecordFile): { records: LoadedRecord[]; damaged: DamagedRecord[] } {
  const records: LoadedRecord[] = [];
  const damaged: DamagedRecord[] = [];
  for (let from: number | undefined = 0; from !== undefined; ) {
    const portion = file.load(from);
    records.push(...unpackLoaded(portion));
    damaged.push(...portion.damaged);
    from = portion.next;
  }
  return { records, damaged };
}

/** The files as the death of the process at this moment leaves them; a power loss may take the mark as well. */
function crashCopy(path: string, after: 'death' | 'power loss' = 'death'): string {
  const copy = logPath();
  for (const suffix of after === 'death' ? ['', '-wal', '-mark'] : ['', '-wal'])
    copyFileSync(path + suffix, copy + suffix);
  return copy;
}

function failure(run: () => unknown): SyncEngineError {
  try {
    run();
  } catch (error) {
    if (error instanceof EngineError) return error;
    throw error;
  }
  throw new Error('It did not fail.');
}

const many = (count: number, bytes = 200): Revision[] =>
  Array.from({ length: count }, (_, at) =>
    revision({ id: `id${at}`, version: at + 1, content: Buffer.alloc(bytes, at) }),
  );

describe('what was committed is there', () => {
  slowTest('after a close, in order, in portions', () => {
    const path = logPath();
    const first = opened(path);
    const written = many(5000, 1000);
    append(first.file, written);
    first.file.close();
    const { file } = opened(path);
    const { records, damaged } = load(file);
    expect(damaged).toEqual([]);
    expect(records.map((record) => essence(record.revision))).toEqual(written.map(essence));
  });

  test('without a close', () => {
    const path = logPath();
    const { file } = opened(path);
    append(file, many(10));
    const copy = crashCopy(path);
    const again = opened(copy).file;
    expect(load(again).records).toHaveLength(10);
    again.close();
    expect(readdirSync(dirname(copy)).sort()).toEqual(['log.db', 'log.db-lock', 'log.db-mark']);
  });

  test('removes are exact, and removed records stay away', () => {
    const path = logPath();
    const { file } = opened(path);
    const from = append(file, many(10));
    append(file, [], [from, from + 3]);
    file.close();
    const again = opened(path).file;
    expect(load(again).damaged).toEqual([]);
    expect(load(again).records.map((record) => record.revision.id)).toEqual(
      many(10)
        .map((one) => one.id)
        .filter((id) => id !== 'id0' && id !== 'id3'),
    );
  });

  test.each([1, 31, 32, 33, 64, 65, 100])('a group of %i is whole and in order', (count) => {
    const { file } = opened(logPath());
    const from = append(file, many(count));
    const { records } = load(file);
    expect(records.map(({ position }) => position)).toEqual(many(count).map((_, at) => from + at));
    expect(records.map(({ revision }) => essence(revision))).toEqual(many(count).map(essence));
  });

  test('removes in any order, named twice, or gone already, take and count what was there once', () => {
    const { file } = opened(logPath());
    const from = append(file, many(12));
    append(file, [], [from + 5]);
    const removes = [8, 1, 2, 2, 9, 5, 4, 11, 400].map((at) => from + at);
    const { nextPosition } = file;
    const removed = file.commit({
      firstPosition: nextPosition,
      pack: packRecords([]),
      removes,
      meta: undefined,
    });
    expect(removed).toBe(6);
    expect(load(file).records.map(({ position }) => position - from)).toEqual([0, 3, 6, 7, 10]);
  });

  test('identities, marks, incarnations and positions only go forward', () => {
    const path = logPath();
    const first = opened(path);
    expect(first.meta).toMatchObject({ nodeId: 'n', incarnation: 1, clockMark: 0, archiveId: undefined });
    const from = append(first.file, many(3));
    append(first.file, [], [from, from + 1, from + 2]);
    const meta = { clockMark: 12345, archiveId: 'e'.repeat(32) };
    first.file.commit({ firstPosition: first.file.nextPosition, pack: packRecords([]), removes: [], meta });
    const reached = first.file.nextPosition;
    first.file.close();
    const second = opened(path);
    expect(second.meta).toMatchObject({ ...meta, incarnation: 2, logId: first.meta.logId });
    expect(second.file.nextPosition).toBeGreaterThanOrEqual(reached);
  });

  test('positions of released records are not used again, even after a crash', () => {
    const path = logPath();
    const { file } = opened(path);
    // Far behind what the first incarnation reserved, so that it has to reserve more.
    const firstPosition = 3_000_000;
    file.commit({ firstPosition, pack: packRecords(many(2)), removes: [], meta: undefined });
    append(file, [], [firstPosition, firstPosition + 1]);
    const copy = crashCopy(path);
    expect(opened(copy).file.nextPosition).toBeGreaterThanOrEqual(firstPosition + 2);
  });

  test('portions are bounded, own their memory, and cover every record once', () => {
    const { file } = opened(logPath());
    const sizes = [10, 700_000, 700_000, 3_000_000, 10, 10];
    append(
      file,
      sizes.map((bytes, at) => revision({ id: `id${at}`, content: Buffer.alloc(bytes, at) })),
    );
    const counts: number[] = [];
    for (let from: number | undefined = 0; from !== undefined; ) {
      const portion = file.load(from);
      expect(portion.bytes.buffer.byteLength).toBe(portion.bytes.byteLength);
      if (portion.positions.length > 1) expect(portion.bytes.byteLength).toBeLessThanOrEqual(1024 * 1024);
      counts.push(portion.positions.length);
      from = portion.next;
    }
    expect(counts).toEqual([2, 1, 1, 2]);
  });

  test('each commit says where it is, releases and appends apart', () => {
    const { file } = opened(logPath());
    const steps: unknown[] = [];
    const listener = (name: unknown): unknown => steps.push(name);
    subscribe(STEP_CHANNEL, listener);
    onTestFinished(() => void unsubscribe(STEP_CHANNEL, listener));
    const from = append(file, many(2));
    append(file, [], [from]);
    append(file, many(1), [from + 1]);
    const before = ['log.commit.begun', 'log.commit.written'];
    expect(steps).toEqual([
      ...[...before, 'log.commit.done'],
      ...[...before, 'log.release.done'],
      ...[...before, 'log.commit.done', 'log.release.done'],
    ]);
  });

  test('the node id is kept, and a given one replaces it', () => {
    const path = logPath();
    const file = new RecordFile(Database, path, 'the test');
    expect(file.open({ ...OPTIONS, nodeId: undefined }).nodeId).toBe('other');
    expect(file.open({ ...OPTIONS, nodeId: undefined, newNodeId: 'third' }).nodeId).toBe('other');
    expect(file.open({ ...OPTIONS, nodeId: 'given' }).nodeId).toBe('given');
    file.close();
  });

  slowTest('the file does not grow while as much is released as appended', () => {
    const path = logPath();
    const { file } = opened(path);
    let previous: number[] = [];
    let largest = 0;
    for (let round = 0; round < 300; round++) {
      const from = append(file, many(256), previous);
      previous = Array.from({ length: 256 }, (_, at) => from + at);
      largest = Math.max(largest, file.fileBytes);
    }
    // Three times as much went through the write-ahead file, and twenty times as much into the database.
    expect(largest).toBeLessThan(20_000_000);
    file.close();
    expect(statSync(path).size).toBeLessThan(1_000_000);
  });
});

describe('creation', () => {
  test('what a crash left of one is replaced', () => {
    const path = logPath();
    writeFileSync(`${path}.new`, 'half of a file');
    const { file } = opened(path);
    append(file, many(1));
    expect(existsSync(`${path}.new`)).toBe(false);
  });

  slowTest('killed before its file got its name, it begins anew', async () => {
    const path = logPath();
    await child(
      `
      const { subscribe } = await import('node:diagnostics_channel');
      subscribe(${JSON.stringify(STEP_CHANNEL)}, (step) => {
        if (step === 'start.log-created') process.kill(process.pid, 'SIGKILL');
      });
      file.open(options);
      `,
      path,
    );
    expect(existsSync(path)).toBe(false);
    expect(existsSync(`${path}.new`)).toBe(true);
    expect(opened(path).meta.incarnation).toBe(1);
    expect(existsSync(`${path}.new`)).toBe(false);
  });

  test.each([
    ['empty', ''],
    ['garbage', 'no database, but long enough to look like something that could be one. '.repeat(50)],
    ['short', 'SQLite format 3\0'],
  ])('a file that is %s is damage, not a beginning', (_name, content) => {
    const path = logPath();
    writeFileSync(path, content);
    const error = failure(() => opened(path));
    expect(error).toMatchObject({ code: 'CORRUPTION', context: { path } });
    expect(error.message).toContain('keep the file');
    expect(readFileSync(path, 'utf8')).toBe(content);
  });

  test('a database of someone else is not taken', () => {
    const path = logPath();
    const other = new Database(path);
    other.exec('CREATE TABLE theirs (x)');
    other.pragma('user_version = 1');
    other.close();
    expect(failure(() => opened(path)).code).toBe('CORRUPTION');
  });

  test('a lost database beside its write-ahead file is damage', () => {
    const path = logPath();
    const { file } = opened(path);
    append(file, many(10));
    const copy = join(temporaryDirectory(), 'log.db');
    copyFileSync(`${path}-wal`, `${copy}-wal`);
    expect(failure(() => opened(copy)).code).toBe('CORRUPTION');
    expect(existsSync(copy)).toBe(false);
  });

  test('a newer format is refused and not touched', () => {
    const path = logPath();
    const { file } = opened(path);
    append(file, many(3));
    file.close();
    const connection = new Database(path);
    connection.pragma('user_version = 2');
    connection.close();
    const before = readFileSync(path);
    expect(failure(() => opened(path)).code).toBe('SCHEMA');
    expect(readFileSync(path)).toEqual(before);
  });

  test('a newer format that a crash left in the write-ahead file is not touched either', () => {
    const path = logPath();
    opened(path).file.close();
    const connection = new Database(path);
    onTestFinished(() => void connection.close());
    connection.pragma('user_version = 2');
    const copy = crashCopy(path);
    const before = ['', '-wal'].map((suffix) => readFileSync(copy + suffix));
    expect(failure(() => opened(copy)).code).toBe('SCHEMA');
    expect(['', '-wal'].map((suffix) => readFileSync(copy + suffix))).toEqual(before);
  });
});

describe('damage on the disk', () => {
  slowTest(
    'no bit flip is served: a record is right, reported as damaged, or the log says that it is damaged',
    () => {
      const path = logPath();
      const written = many(40, 100);
      const { file } = opened(path);
      append(file, written);
      file.close();
      const intact = readFileSync(path);
      const target = logPath();
      const outcomes = { right: 0, damaged: 0, refused: 0 };
      // The head of a page says how many records it has: there, every bit.
      const places = Array.from({ length: intact.length * 8 }, (_, bit) => bit).filter(
        (bit) => (bit >> 3) % 4096 < 8 || bit % (37 * 8) === (bit >> 3) % 8,
      );
      for (const place of places) {
        const at = place >> 3;
        const flipped = Buffer.from(intact);
        flipped[at] = (flipped[at] as number) ^ (1 << (place & 7));
        for (const name of readdirSync(join(target, '..'))) rmSync(join(target, '..', name), { force: true });
        writeFileSync(target, flipped);
        const damagedFile = new RecordFile(Database, target, 'the test');
        try {
          damagedFile.open(OPTIONS);
          const { records, damaged } = load(damagedFile);
          for (const { revision: read } of records) {
            expect(essence(read)).toEqual(essence(written.find((one) => one.id === read.id) as Revision));
          }
          expect(records.length + damaged.length).toBe(written.length);
          if (damaged.length === 0) outcomes.right++;
          else outcomes.damaged++;
        } catch (error) {
          expect(['CORRUPTION', 'SCHEMA', 'WAL_FAILED']).toContain((error as SyncEngineError).code);
          outcomes.refused++;
        } finally {
          damagedFile.close();
        }
      }
      expect(outcomes.damaged).toBeGreaterThan(10);
      expect(outcomes.refused).toBeGreaterThan(0);
    },
  );

  test('a flip inside a record is reported with its id where that is to be trusted, and the record stays', () => {
    const path = logPath();
    const { file } = opened(path);
    append(file, [revision({ id: 'first' }), revision({ id: 'second' }), revision({ id: 'third' })]);
    file.close();
    const bytes = readFileSync(path);
    const flip = (at: number): void => {
      bytes[at] = (bytes[at] as number) ^ 1;
    };
    flip(bytes.indexOf('first'));
    flip(bytes.indexOf('content', bytes.indexOf('second')));
    writeFileSync(path, bytes);
    for (let round = 0; round < 2; round++) {
      const again = opened(path).file;
      const { records, damaged } = load(again);
      expect(records.map((record) => record.revision.id)).toEqual(['third']);
      expect(damaged.map((record) => record.id).sort()).toEqual(['second', undefined]);
      append(again, []);
      again.close();
    }
  });

  test('a meta table with a changed mark or identity is damage', () => {
    const path = logPath();
    opened(path).file.close();
    const connection = new Database(path);
    connection.exec("UPDATE meta SET value = '5' WHERE key = 'clockMark'");
    connection.close();
    expect(failure(() => opened(path)).code).toBe('CORRUPTION');
  });

  slowTest.each(['death', 'power loss'] as const)(
    'a flip in the write-ahead file after a %s: nothing is lost without a word but, after a power loss, the last group',
    (after) => {
      const path = logPath();
      const { file } = opened(path);
      const groups = [5, 1, 30, 2, 10];
      for (const count of groups) append(file, many(count));
      const all = groups.reduce((sum, count) => sum + count);
      const crashed = crashCopy(path, after);
      const database = readFileSync(crashed);
      const journal = readFileSync(`${crashed}-wal`);
      const mark = after === 'death' ? readFileSync(`${crashed}-mark`) : undefined;
      const outcomes = { all: 0, butTheLast: 0, refused: 0 };
      for (let at = 0; at < journal.length; at += (at - 32) % 4120 < 24 ? 1 : 61) {
        const flipped = Buffer.from(journal);
        flipped[at] = (flipped[at] as number) ^ (1 << (at % 8));
        writeFileSync(crashed, database);
        writeFileSync(`${crashed}-wal`, flipped);
        if (mark === undefined) rmSync(`${crashed}-mark`, { force: true });
        else writeFileSync(`${crashed}-mark`, mark);
        const again = new RecordFile(Database, crashed, 'the test');
        try {
          again.open(OPTIONS);
          const { records, damaged } = load(again);
          expect(damaged).toEqual([]);
          expect([all, all - 10]).toContain(records.length);
          if (records.length === all) outcomes.all++;
          else outcomes.butTheLast++;
        } catch (error) {
          expect(error).toMatchObject({ code: 'CORRUPTION' });
          outcomes.refused++;
        } finally {
          again.close();
        }
      }
      expect(outcomes.refused).toBeGreaterThan(outcomes.butTheLast);
      if (after === 'death') expect(outcomes.butTheLast).toBe(0);
      else expect(outcomes.butTheLast).toBeGreaterThan(0);
    },
  );

  test('a write-ahead file that was removed takes groups with it, and that is told; nothing is touched', () => {
    const path = logPath();
    const { file } = opened(path);
    append(file, many(3));
    append(file, many(2));
    const crashed = crashCopy(path);
    rmSync(`${crashed}-wal`);
    const before = readFileSync(crashed);
    const error = failure(() => opened(crashed));
    expect(error.code).toBe('CORRUPTION');
    expect(error.message).toContain('the last 2 group(s) of acknowledged writes are missing');
    expect(readFileSync(crashed)).toEqual(before);
    // What the message names, to go on with what is there.
    rmSync(`${crashed}-mark`);
    expect(load(opened(crashed).file).records).toEqual([]);
  });

  test('an older copy in the place of the log is told, as often as it is opened', () => {
    const path = logPath();
    const first = opened(path).file;
    append(first, many(3));
    first.close();
    const old = readFileSync(path);
    const second = opened(path).file;
    append(second, many(2));
    second.close();
    writeFileSync(path, old);
    for (let attempt = 0; attempt < 2; attempt++)
      expect(failure(() => opened(path)).message).toContain('the last 1 group(s)');
  });

  test('a mark that is damaged, cut, absent, of another log or behind accuses nobody', () => {
    const path = logPath();
    const { file } = opened(path);
    append(file, many(3));
    const behind = readFileSync(`${path}-mark`);
    append(file, many(3));
    file.close();
    const mark = readFileSync(`${path}-mark`);
    const other = logPath();
    const otherFile = new RecordFile(Database, other, 'the test');
    otherFile.open({ ...OPTIONS, newLogId: 'e'.repeat(32) });
    for (let group = 0; group < 5; group++) append(otherFile, many(1));
    otherFile.close();
    const marks = [behind, mark.subarray(0, 20), Buffer.alloc(32), readFileSync(`${other}-mark`)];
    for (let bit = 0; bit < mark.length * 8; bit++) {
      const flipped = Buffer.from(mark);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      marks.push(flipped);
    }
    for (const wrong of marks) {
      writeFileSync(`${path}-mark`, wrong);
      const again = new RecordFile(Database, path, 'the test');
      again.open(OPTIONS);
      expect(load(again).records).toHaveLength(6);
      again.close();
      expect(readFileSync(`${path}-mark`)).toEqual(mark);
    }
  });

  slowTest('a write-ahead file that a power loss cut gives whole groups, the oldest ones', () => {
    const path = logPath();
    const { file } = opened(path);
    const groups = [5, 1, 30, 2, 10];
    for (const count of groups) append(file, many(count));
    const crashed = crashCopy(path, 'power loss');
    const database = readFileSync(crashed);
    const journal = readFileSync(`${crashed}-wal`);
    const possible = groups.map((_, at) => groups.slice(0, at).reduce((sum, count) => sum + count, 0));
    for (let length = 0; length < journal.length; length += 509) {
      writeFileSync(crashed, database);
      writeFileSync(`${crashed}-wal`, journal.subarray(0, length));
      rmSync(`${crashed}-mark`, { force: true });
      const again = new RecordFile(Database, crashed, 'the test');
      again.open(OPTIONS);
      expect(possible).toContain(load(again).records.length);
      again.close();
    }
  });

  test('no truncation is served as a shorter log', () => {
    const path = logPath();
    const { file } = opened(path);
    append(file, many(200));
    file.close();
    const size = statSync(path).size;
    let refused = 0;
    for (let length = 0; length < size; length += 700) {
      const target = logPath();
      copyFileSync(path, target);
      truncateSync(target, length);
      try {
        // SQLite reads a last page that is cut as if zeros followed: its records are damaged, not gone.
        const { records, damaged } = load(opened(target).file);
        expect(records.length + damaged.length).toBe(200);
      } catch (error) {
        expect(error).toMatchObject({ code: 'CORRUPTION' });
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(80);
  });
});

describe('places that cannot be written', () => {
  test('a missing directory, and a directory in place of the file', () => {
    const directory = temporaryDirectory();
    const missing = failure(() => opened(join(directory, 'missing', 'log.db')));
    expect(missing).toMatchObject({ code: 'WAL_FAILED' });
    expect(missing.message).toContain(join(directory, 'missing'));
    mkdirSync(join(directory, 'folder'));
    expect(failure(() => opened(join(directory, 'folder'))).code).toBe('WAL_FAILED');
    writeFileSync(join(directory, 'file'), '');
    expect(failure(() => opened(join(directory, 'file', 'log.db'))).code).toBe('WAL_FAILED');
  });

  slowTest('a read-only file', async () => {
    const directory = temporaryDirectory();
    const path = join(directory, 'log.db');
    opened(path).file.close();
    rmSync(`${path}-lock`);
    chmodSync(path, 0o444);
    if (process.getuid?.() === 0) chownSync(directory, NOBODY, NOBODY);
    expect(await child(openAsNobody, path)).toMatch(/^WAL_FAILED .*and so must the file/);
  });

  slowTest('a read-only directory', async () => {
    const directory = temporaryDirectory();
    chmodSync(directory, 0o555);
    const result = await child(openAsNobody, join(directory, 'log.db'));
    chmodSync(directory, 0o755);
    expect(result).toMatch(/^WAL_FAILED .*must exist and be writable/);
  });
});

describe('one process owns the log', () => {
  slowTest('a second one is told who has it, and may have it when the first was killed', async () => {
    const path = logPath();
    const holder = spawn(process.execPath, [
      '--input-type=module',
      '-e',
      script(
        `file.open(options); console.log('open'); setInterval(() => {}, 1000);`,
        path,
        'the first process',
      ),
    ]);
    await once(holder.stdout, 'data');
    const error = failure(() => opened(path));
    expect(error).toMatchObject({ code: 'CONFLICT', context: { holder: 'the first process' } });
    expect(error.message).toContain('the first process');
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    const { file } = opened(path);
    append(file, many(1));
  });

  test('a second one in the same process is refused as well', () => {
    const path = logPath();
    opened(path);
    expect(failure(() => opened(path)).code).toBe('CONFLICT');
  });

  test('a second one that comes by another name is refused too', () => {
    const path = logPath();
    opened(path);
    const alias = logPath();
    symlinkSync(path, alias);
    expect(failure(() => opened(alias)).code).toBe('CONFLICT');
  });

  test('a lock file without sense, as a power loss can leave it, is made anew', () => {
    const path = logPath();
    opened(path).file.close();
    writeFileSync(`${path}-lock`, 'no database '.repeat(500));
    opened(path);
    expect(failure(() => opened(path)).code).toBe('CONFLICT');
  });
});

describe('a commit that fails', () => {
  test('on a full disk leaves nothing of the group, and the log goes on when there is space', () => {
    const path = logPath();
    const driver = failingDriver();
    const { file } = opened(path, driver.driver);
    const from = append(file, many(10));
    driver.limitPages(path, 20);
    expect(failure(() => append(file, many(1000), [from]))).toMatchObject({
      code: 'WAL_FULL',
      outcome: 'indeterminate',
    });
    expect(load(file).records).toHaveLength(10);
    append(file, many(1));
    driver.limitPages(path, 1_000_000);
    append(file, many(1000), [from]);
    expect(load(file).records).toHaveLength(10 + 1 + 1000 - 1);
  });

  test('on a disk that is found full at the very end leaves nothing of the group either', () => {
    const driver = failingDriver();
    const { file } = opened(logPath(), driver.driver);
    append(file, many(10));
    let full = true;
    driver.beforeNextCommit(() => {
      if (!full) return;
      full = false;
      throw Object.assign(new Error('database or disk is full'), { code: 'SQLITE_FULL' });
    });
    expect(failure(() => append(file, many(5)))).toMatchObject({ code: 'WAL_FULL' });
    expect(load(file).records).toHaveLength(10);
    append(file, many(5));
    expect(load(file).records).toHaveLength(15);
  });

  test.runIf(canMount())('on a real full disk: the same, and releases go on without new space', () => {
    const disk = smallDisk(4);
    const path = join(disk, 'log.db');
    const backlog = opened(path);
    const from = append(backlog.file, many(1280));
    backlog.file.close();
    const { file } = opened(path);
    fillDisk(disk, 48 * 1024);
    expect(failure(() => append(file, many(1000)))).toMatchObject({ code: 'WAL_FULL' });
    expect(load(file).records).toHaveLength(1280);
    for (let at = 0; at < 1000; at++) {
      try {
        append(file, [], [from + at]);
      } catch (error) {
        // The write-ahead file was full, and begins anew with the next one.
        expect(error).toMatchObject({ code: 'WAL_FULL' });
        append(file, [], [from + at]);
      }
    }
    expect(load(file).records).toHaveLength(280);
    rmSync(join(disk, 'filler'));
    append(file, many(1000));
    file.close();
    expect(load(opened(path).file).records).toHaveLength(1280);
  });

  test.each(['before', 'after'] as const)(
    'whose fsync failed %s taking effect closes the log until it is opened again',
    (when) => {
      const path = logPath();
      const driver = failingDriver();
      const { file } = opened(path, driver.driver);
      append(file, many(10));
      driver.failNextCommit(when);
      expect(failure(() => append(file, many(5)))).toMatchObject({
        code: 'WAL_FAILED',
        outcome: 'indeterminate',
      });
      expect(failure(() => append(file, many(5))).code).toBe('WAL_FAILED');
      expect(failure(() => load(file)).code).toBe('WAL_FAILED');
      file.open(OPTIONS);
      const { records } = load(file);
      expect(records).toHaveLength(when === 'before' ? 10 : 15);
      append(file, many(3));
      expect(load(file).records).toHaveLength(records.length + 3);
    },
  );

  test('a checkpoint that fails while opening keeps the log closed', () => {
    const path = logPath();
    const driver = failingDriver();
    const { file } = opened(path, driver.driver);
    append(file, many(10));
    driver.failNextCommit('before');
    failure(() => append(file, many(1)));
    driver.failCheckpoints = true;
    expect(failure(() => file.open(OPTIONS)).code).toBe('WAL_FAILED');
    driver.failCheckpoints = false;
    file.open(OPTIONS);
    expect(load(file).records).toHaveLength(10);
  });
});

slowTest(
  'killed at random moments, the log has every group that was acknowledged, and no half of one',
  async () => {
    const path = logPath();
    for (let round = 0; round < 8; round++) {
      const before = round === 0 ? 0 : groupsIn(path);
      const writer = spawn(process.execPath, [
        '--input-type=module',
        '-e',
        script(
          `
        file.open(options);
        const { writeSync } = await import('node:fs');
        for (let group = ${before}; ; group++) {
          const revisions = Array.from({ length: 7 }, (_, at) => ({ ...template, id: group + '.' + at, content: Buffer.alloc(300) }));
          file.commit({ firstPosition: file.nextPosition, pack: packRecords(revisions), removes: [], meta: undefined });
          writeSync(1, group + '\\n');
        }
        `,
          path,
          'the writer',
        ),
      ]);
      let told = '';
      writer.stdout.on('data', (text: Buffer) => {
        told += text;
        if (told.length > 20 + round * 30) writer.kill('SIGKILL');
      });
      await once(writer, 'close');
      const acknowledged = told.trim().split('\n').map(Number);
      const groups = groupsIn(path);
      expect(groups).toBeGreaterThan(Math.max(...acknowledged));
    }
  },
);

/** Counts the groups of seven in a log, each of which must be whole. */
function groupsIn(path: string): number {
  const file = new RecordFile(Database, path, 'the test');
  file.open(OPTIONS);
  const perGroup = new Map<string, number>();
  for (const { revision: read } of load(file).records) {
    const group = read.id.split('.')[0] as string;
    perGroup.set(group, (perGroup.get(group) ?? 0) + 1);
  }
  file.close();
  expect([...perGroup.values()].every((count) => count === 7)).toBe(true);
  return perGroup.size;
}

const NOBODY = 65534;
const MOUNT = '/bin/mount';
const UNMOUNT = '/bin/umount';
const openAsNobody = `
  if (process.getuid?.() === 0) process.setuid(${NOBODY});
  try { file.open(options); console.log('opened'); } catch (error) { console.log(error.code, error.message); }
`;

function canMount(): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false;
  try {
    const directory = mkdtempSync(join(tmpdir(), 'sync-engine-test-'));
    execFileSync(MOUNT, ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', directory], { stdio: 'ignore' });
    execFileSync(UNMOUNT, [directory]);
    rmSync(directory, { recursive: true });
    return true;
  } catch {
    return false;
  }
}

function smallDisk(mebibytes: number): string {
  const directory = temporaryDirectory();
  execFileSync(MOUNT, ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', directory]);
  onTestFinished(() => void execFileSync(UNMOUNT, ['-l', directory]));
  return directory;
}

/** Leaves `bytes` free. */
function fillDisk(disk: string, bytes: number): void {
  const { bavail, bsize } = statfsSync(disk);
  writeFileSync(join(disk, 'filler'), Buffer.alloc(bavail * bsize - bytes));
}

function script(body: string, path: string, holder: string): string {
  const dist = new URL('../../dist/', import.meta.url).href;
  const driver = new URL('../../../../node_modules/better-sqlite3/lib/index.js', import.meta.url).href;
  return `
    import Database from ${JSON.stringify(driver)};
    import { RecordFile } from ${JSON.stringify(`${dist}wal/record-file.js`)};
    import { packRecords } from ${JSON.stringify(`${dist}wal/record-codec.js`)};
    const options = ${JSON.stringify(OPTIONS)};
    const template = { id: '', version: 1, origin: '0'.repeat(16), deleted: false, contentType: 'binary', state: 'default' };
    const file = new RecordFile(Database, ${JSON.stringify(path)}, ${JSON.stringify(holder)});
    ${body}
  `;
}

async function child(body: string, path: string): Promise<string> {
  const run = spawn(process.execPath, ['--input-type=module', '-e', script(body, path, 'a child')]);
  let out = '';
  run.stdout.on('data', (text: Buffer) => {
    out += text;
  });
  run.stderr.on('data', (text: Buffer) => {
    out += text;
  });
  await once(run, 'close');
  return out;
}
