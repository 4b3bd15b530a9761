import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SyncEngineError as EngineError, type SyncEngineError } from '#engine/base/errors.js';
import type { Revision } from '#engine/item/revision.js';
import { packRecords, unpackLoaded } from '#engine/wal/record-codec.js';
import { RecordFile } from '#engine/wal/record-file.js';
import type { DamagedRecord, LoadedRecord, LogMeta } from '#engine/wal/record-store.js';
import { temporaryDirectory } from '../support/engines.js';
import { failingDriver } from '../support/failing-driver.js';
import { essence, revision } from '../support/revisions.js';

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
  test('after a close, in order, in portions', () => {
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
    const copy = join(temporaryDirectory(), 'log.db');
    for (const suffix of ['', '-wal']) copyFileSync(path + suffix, copy + suffix);
    expect(load(opened(copy).file).records).toHaveLength(10);
  });

  test('removes are exact, and removed records stay away', () => {
    const path = logPath();
    const { file } = opened(path);
    const from = append(file, many(10));
    append(file, [], [from, from + 3]);
    file.close();
    const again = opened(path).file;
    expect(load(again).records.map((record) => record.revision.id)).toEqual(
      many(10)
        .map((one) => one.id)
        .filter((id) => id !== 'id0' && id !== 'id3'),
    );
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

  test('the node id is kept, and a given one replaces it', () => {
    const path = logPath();
    const file = new RecordFile(Database, path, 'the test');
    expect(file.open({ ...OPTIONS, nodeId: undefined }).nodeId).toBe('other');
    expect(file.open({ ...OPTIONS, nodeId: undefined, newNodeId: 'third' }).nodeId).toBe('other');
    expect(file.open({ ...OPTIONS, nodeId: 'given' }).nodeId).toBe('given');
    file.close();
  });

  test('the file does not grow while as much is released as appended', () => {
    const { file } = opened(logPath());
    let previous: number[] = [];
    let half = 0;
    for (let round = 0; round < 300; round++) {
      const from = append(file, many(256), previous);
      previous = Array.from({ length: 256 }, (_, at) => from + at);
      if (round === 150) half = file.fileBytes;
    }
    expect(file.fileBytes).toBeLessThan(half * 1.5 + 1024 * 1024);
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
});

describe('damage on the disk', () => {
  test('no bit flip is served: a record is right, reported as damaged, or the log says that it is damaged', () => {
    const path = logPath();
    const written = many(40, 100);
    const { file } = opened(path);
    append(file, written);
    file.close();
    const intact = readFileSync(path);
    const target = logPath();
    const outcomes = { right: 0, damaged: 0, refused: 0 };
    for (let at = 0; at < intact.length; at += 37) {
      const flipped = Buffer.from(intact);
      flipped[at] = (flipped[at] as number) ^ (1 << (at % 8));
      for (const name of readdirSync(join(target, '..'))) rmSync(join(target, '..', name), { force: true });
      writeFileSync(target, flipped);
      const damagedFile = new RecordFile(Database, target, 'the test');
      try {
        damagedFile.open(OPTIONS);
        const { records, damaged } = load(damagedFile);
        for (const { revision: read } of records) {
          expect(essence(read)).toEqual(essence(written.find((one) => one.id === read.id) as Revision));
        }
        if (records.length === written.length) outcomes.right++;
        else {
          expect(records.length + damaged.length).toBe(written.length);
          outcomes.damaged++;
        }
      } catch (error) {
        expect(['CORRUPTION', 'SCHEMA', 'WAL_FAILED']).toContain((error as SyncEngineError).code);
        outcomes.refused++;
      } finally {
        damagedFile.close();
      }
    }
    expect(outcomes.damaged).toBeGreaterThan(10);
    expect(outcomes.refused).toBeGreaterThan(0);
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
  });

  test('a read-only directory', async () => {
    const directory = temporaryDirectory();
    const result = await child(
      `
      if (process.getuid?.() === 0) process.setuid(65534);
      try { file.open(options); console.log('opened'); } catch (error) { console.log(error.code, error.message); }
      `,
      join(directory, 'log.db'),
      () => chmodSync(directory, 0o555),
    );
    chmodSync(directory, 0o755);
    expect(result).toMatch(/^WAL_FAILED .*must exist and be writable/);
  });
});

describe('one process owns the log', () => {
  test('a second one is told who has it, and may have it when the first was killed', async () => {
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

test('killed at random moments, the log has every group that was acknowledged, and no half of one', async () => {
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
});

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

async function child(body: string, path: string, before: () => void): Promise<string> {
  before();
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
