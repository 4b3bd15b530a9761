import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { transition } from '#engine/engine/lifecycle.js';
import { type EngineState, SyncEngine, SyncItem } from '#engine/index.js';
import {
  fakeEngine,
  fileConfig,
  fileEngine,
  rejection,
  startedFakes,
  temporaryDirectory,
} from '../support/engines.js';
import { FakeArchive } from '../support/fake-archive.js';
import { settle } from '../support/manual-ports.js';

describe('states', () => {
  test('a start goes through all of them, a shutdown to Closed', async () => {
    const { engine } = fakeEngine();
    const states: EngineState[] = [engine.state];
    engine.on('state', (event) => states.push(event.state));
    await engine.start();
    await engine.shutdown();
    expect(states).toEqual([
      'Created',
      'Connecting',
      'DrainingWal',
      'SyncingRedis',
      'WarmingUp',
      'Ready',
      'Running',
      'ShuttingDown',
      'Closed',
    ]);
  });

  test('an illegal transition is a bug and throws', () => {
    expect(() => transition('Closed', 'start')).toThrow('cannot start in state Closed');
    expect(() => transition('Running', 'connected')).toThrow();
  });

  test('calls in the wrong state reject and say what to do', async () => {
    const { engine } = fakeEngine();
    const calls = (): Promise<unknown>[] => [
      engine.get('a'),
      engine.getMany(['a']),
      engine.submit(new SyncItem('a', 'x')),
      engine.submitMany([]),
      engine.delete('a'),
      engine.deleteMany([]),
      engine.flush(),
      engine.tick(),
      engine.status('a'),
      engine.getOrInsert('a', (id) => new SyncItem(id, 'x')),
    ];
    for (const call of calls()) {
      expect(await rejection(call)).toMatchObject({ code: 'ENGINE_STATE', retryable: false });
    }
    expect((await rejection(engine.get('a'))).message).toContain('Call start() first.');
    expect(() => engine.peek('a')).toThrow('Call start() first.');
    await engine.start();
    expect((await rejection(engine.start())).code).toBe('ENGINE_STATE');
    await engine.shutdown();
    for (const call of calls()) expect(await rejection(call)).toMatchObject({ code: 'ENGINE_STATE' });
    expect((await engine.healthCheck()).state).toBe('Closed');
  });

  test('a listener that throws harms nobody; a removed one is not called', async () => {
    const { engine, ports } = fakeEngine();
    let calls = 0;
    const count = (): void => {
      calls++;
    };
    engine.on('state', () => {
      throw new Error('from the listener');
    });
    engine.on('state', count).off('state', count);
    await engine.start();
    expect(engine.state).toBe('Running');
    expect(calls).toBe(0);
    expect(ports.logger.lines.some((line) => line.message.includes('from the listener'))).toBe(true);
  });
});

describe('shutdown', () => {
  test('brings what is pending into SQL and returns how much', async () => {
    const directory = temporaryDirectory();
    let engine = await fileEngine(directory, { batchFlushMs: 60_000 });
    for (let at = 0; at < 50; at++) await engine.submit(new SyncItem(`a${at}`, 'x'));
    expect(await engine.shutdown()).toEqual({ flushed: 50, remaining: 0 });
    expect(await engine.shutdown()).toEqual({ flushed: 50, remaining: 0 });
    expect(existsSync(join(directory, 'archive.db-wal'))).toBe(false);
    engine = await fileEngine(directory);
    expect(engine.walStats().pendingItems).toBe(0);
    expect(await engine.contains('a49')).toBe(true);
  });

  test('within its deadline; what is left stays in the log', async () => {
    const { engine, archive, store, ports } = await startedFakes();
    archive.hold('apply');
    await engine.submit(new SyncItem('a', 'x'));
    const closing = engine.shutdown({ deadlineMs: 500 });
    await ports.clock.pass(600);
    expect(await closing).toEqual({ flushed: 0, remaining: 1 });
    expect(store.of('a')).toHaveLength(1);
    expect(engine.state).toBe('Closed');
    await ports.clock.pass(60_000);
    expect(ports.clock.plannedCount).toBe(0);
  });

  test('waits for nothing where SQL is away and the log holds everything', async () => {
    const { engine, archive, store, ports } = await startedFakes();
    archive.down = true;
    await engine.submit(new SyncItem('a', 'x'));
    await ports.clock.pass(3000);
    expect(await engine.shutdown()).toEqual({ flushed: 0, remaining: 1 });
    expect(store.of('a')).toHaveLength(1);
  });

  test('callers that still wait are told what became of their write', async () => {
    const { engine, archive, ports } = await startedFakes();
    archive.hold('apply');
    const waiting = rejection(engine.submit(new SyncItem('a', 'x'), { ack: 'stored' }));
    const flushing = rejection(engine.flush());
    const closing = engine.shutdown({ deadlineMs: 100 });
    await ports.clock.pass(200);
    await closing;
    expect(await waiting).toMatchObject({ code: 'ENGINE_STATE', outcome: 'indeterminate' });
    expect(await flushing).toMatchObject({ code: 'ENGINE_STATE' });
  });

  test('of an engine that was never started, and one that is starting', async () => {
    const { engine } = fakeEngine();
    expect(await engine.shutdown()).toEqual({ flushed: 0, remaining: 0 });
    expect(engine.state).toBe('Closed');
    const archive = new FakeArchive();
    const starting = fakeEngine({}, { archive });
    const release = archive.hold('open');
    const started = rejection(starting.engine.start());
    await settle();
    const closing = starting.engine.shutdown();
    release();
    await starting.ports.clock.pass(20_000);
    expect((await started).code).toBe('ENGINE_STATE');
    await closing;
    expect(starting.engine.state).toBe('Closed');
  });

  test('await using closes', async () => {
    const { engine } = await startedFakes();
    await engine[Symbol.asyncDispose]();
    expect(engine.state).toBe('Closed');
  });
});

describe('start', () => {
  test('without SQL is degraded where there is a log: writes go on, and are drained within 2 s of recovery', async () => {
    const archive = new FakeArchive();
    archive.hidden = false;
    archive.down = true;
    const { engine, ports } = await startedFakes({}, { archive });
    expect(engine.state).toBe('Running');
    expect((await engine.submit(new SyncItem('a', 'x'))).ack).toBe('wal');
    expect((await engine.get('a'))?.text()).toBe('x');
    expect((await rejection(engine.get('b'))).code).toBe('TIER_UNAVAILABLE');
    const health = await engine.healthCheck();
    expect(health).toMatchObject({ healthy: false, ready: true, acceptingWrites: true });
    expect(health.warnings.join()).toContain('1 writes wait in the log');
    await ports.clock.pass(60_000);
    archive.down = false;
    await ports.clock.pass(2000);
    expect(archive.rows.get('a')?.content.toString()).toBe('x');
    expect(await engine.get('b')).toBeUndefined();
    expect(await engine.healthCheck()).toMatchObject({ healthy: true, warnings: [] });
  });

  test('without SQL fails where startDegraded is false, or where there is no log', async () => {
    const archive = new FakeArchive();
    archive.down = true;
    for (const fakes of [
      fakeEngine({ startDegraded: false }, { archive }),
      fakeEngine({}, { archive, withLog: false }),
    ]) {
      expect((await rejection(fakes.engine.start())).code).toBe('TIER_UNAVAILABLE');
      expect(fakes.engine.state).toBe('Failed');
      expect(await fakes.engine.shutdown()).toEqual({ flushed: 0, remaining: 0 });
    }
  });

  test('an archive that hangs does not hang the start', async () => {
    const archive = new FakeArchive();
    archive.hold('open');
    const { engine, ports } = fakeEngine({ sqlTimeoutMs: 700 }, { archive });
    const started = engine.start();
    await ports.clock.pass(700);
    await started;
    expect(engine.state).toBe('Running');
  });

  test('a signal ends it', async () => {
    const archive = new FakeArchive();
    const release = archive.hold('open');
    const { engine, ports } = fakeEngine({}, { archive });
    const controller = new AbortController();
    const started = rejection(engine.start({ signal: controller.signal }));
    await settle();
    controller.abort();
    release();
    await ports.clock.pass(100);
    expect((await started).code).toBe('ABORTED');
    expect(engine.state).toBe('Failed');
  });

  test('a missing archive is an outage and never created anew', async () => {
    const directory = temporaryDirectory();
    const first = await fileEngine(directory);
    await first.submit(new SyncItem('a', 'x'), { ack: 'stored' });
    await first.shutdown();
    const file = join(directory, 'archive.db');
    renameSync(file, `${file}.away`);
    const engine = await fileEngine(directory);
    expect((await rejection(engine.get('a'))).code).toBe('TIER_UNAVAILABLE');
    await engine.submit(new SyncItem('b', 'y'));
    expect(existsSync(file)).toBe(false);
    renameSync(`${file}.away`, file);
    await expect
      .poll(
        () =>
          engine.get('a').then(
            (item) => item?.text(),
            () => 'away',
          ),
        { timeout: 5000 },
      )
      .toBe('x');
    await engine.flush();
    expect((await engine.get('b', { fresh: true }))?.text()).toBe('y');
  });

  test('a different archive is a conflict, accepted only when allowed', async () => {
    const directory = temporaryDirectory();
    const other = temporaryDirectory();
    for (const place of [directory, other]) await (await fileEngine(place)).shutdown();
    renameSync(join(other, 'archive.db'), join(directory, 'archive.db'));
    const engine = new SyncEngine(fileConfig(directory));
    expect((await rejection(engine.start())).message).toContain('allowNewArchive');
    const accepted = new SyncEngine({ ...fileConfig(directory), allowNewArchive: true });
    await accepted.start();
    await accepted.shutdown();
    const later = await fileEngine(directory);
    expect(later.state).toBe('Running');
  });

  test('a second engine on the same files is refused and told who has them', async () => {
    const directory = temporaryDirectory();
    await fileEngine(directory);
    const second = new SyncEngine(fileConfig(directory));
    const error = await rejection(second.start());
    expect(error).toMatchObject({ code: 'CONFLICT', context: { tier: 'wal' } });
    expect(error.message).toContain(`process ${process.pid}`);
    const archiveOnly = new SyncEngine({ sqlUrl: fileConfig(directory).sqlUrl as string });
    expect(await rejection(archiveOnly.start())).toMatchObject({
      code: 'CONFLICT',
      context: { tier: 'sql' },
    });
  });

  test('bad places are named', async () => {
    const directory = temporaryDirectory();
    const noDirectory = new SyncEngine({ sqlUrl: `sqlite:${join(directory, 'missing', 'a.db')}` });
    expect(await rejection(noDirectory.start())).toMatchObject({ code: 'CONFIG' });
    writeFileSync(
      join(directory, 'garbage'),
      'this is no database, and it is long enough to be looked at'.repeat(20),
    );
    const garbage = new SyncEngine({ sqlUrl: `sqlite:${join(directory, 'garbage')}` });
    expect(await rejection(garbage.start())).toMatchObject({ code: 'CORRUPTION' });
    mkdirSync(join(directory, 'folder'));
    const folder = new SyncEngine({ ...fileConfig(directory), walPath: join(directory, 'folder') });
    expect(await rejection(folder.start())).toMatchObject({ code: 'WAL_FAILED' });
  });
});

describe('nothing hangs, nothing leaks', () => {
  const index = new URL('../../dist/index.js', import.meta.url).href;

  /** Runs `body` as a program with `engine` started on files in a new directory. */
  function program(body: string): { code: number | null; out: string } {
    const directory = temporaryDirectory();
    const source = `
      import { SyncEngine, SyncItem } from ${JSON.stringify(index)};
      const engine = new SyncEngine(${JSON.stringify(fileConfig(directory))});
      await engine.start();
      ${body}
    `;
    const run = spawnSync(process.execPath, ['--input-type=module', '-e', source], {
      timeout: 20_000,
      encoding: 'utf8',
    });
    return { code: run.status, out: run.stdout + run.stderr };
  }

  test('after shutdown the process exits by itself', () => {
    expect(
      program(`await engine.submit(new SyncItem('a', 'x')); await engine.shutdown(); console.log('bye');`),
    ).toEqual({
      code: 0,
      out: 'bye\n',
    });
  });

  test('while a caller awaits the engine the process stays alive', () => {
    const run = program(`
      await engine.submit(new SyncItem('a', 'x'), { ack: 'stored' });
      console.log((await engine.get('a', { fresh: true })).text());
      await engine.flush();
      console.log('done');
      await engine.shutdown();
    `);
    expect(run).toEqual({ code: 0, out: 'x\ndone\n' });
  });

  test('a failed start leaves nothing that keeps the process alive', () => {
    const run = program(`
      const second = new SyncEngine(${JSON.stringify({ sqlUrl: 'sqlite:/nowhere/at/all.db' })});
      await second.start().catch((error) => console.log(error.code));
      await engine.shutdown();
    `);
    expect(run).toEqual({ code: 0, out: 'CONFIG\n' });
  });

  test('a driver that is not installed is named, with the command that installs it', () => {
    const directory = temporaryDirectory();
    const source = `
      import { SyncEngine } from ${JSON.stringify(index)};
      const { sqlUrl, walPath } = ${JSON.stringify(fileConfig(directory))};
      for (const config of [{ sqlUrl }, { sqlUrl, walPath }]) {
        await new SyncEngine(config).start().catch((error) => console.log(error.code, error.message));
      }
    `;
    const preload = new URL('../support/no-sqlite.mjs', import.meta.url).href;
    const flags = ['--import', preload, '--input-type=module', '-e', source];
    const run = spawnSync(process.execPath, flags, { timeout: 20_000, encoding: 'utf8' });
    const lines = run.stdout.trim().split('\n');
    expect(lines).toHaveLength(2);
    for (const line of lines) expect(line).toMatch(/^CONFIG .*npm install 'better-sqlite3/);
    expect(run.status).toBe(0);
  });

  test('require loads the package', () => {
    const file = new URL('../../dist/index.js', import.meta.url).pathname;
    const run = spawnSync(
      process.execPath,
      ['-e', `const { SyncEngine } = require(${JSON.stringify(file)}); console.log(typeof SyncEngine)`],
      { encoding: 'utf8' },
    );
    expect(run.stdout).toBe('function\n');
  });

  test('importing the package loads no driver and opens nothing', () => {
    const source = `
      import { SyncEngine } from ${JSON.stringify(index)};
      new SyncEngine({ sqlUrl: 'sqlite:/nowhere/a.db', walPath: '/nowhere/l.db' });
      console.log(process.report.getReport().sharedObjects.some((name) => name.includes('better_sqlite3')));
    `;
    const run = spawnSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8' });
    expect(run.stdout).toBe('false\n');
  });
});

// It went on writing tombstones after the shutdown had begun, which then counted a negative number of them.
test('a bulk delete ends where the shutdown begins', async () => {
  const { engine, archive, ports } = await startedFakes({ batchFlushMs: 1 });
  for (let from = 0; from < 5; from++)
    await engine.submitMany(Array.from({ length: 1000 }, (_, at) => new SyncItem(`d.${from}.${at}`, 'x')));
  await ports.clock.pass(1000);
  expect(archive.rows.size).toBe(5000);
  const release = archive.hold('apply');
  await engine.submit(new SyncItem('pending', 'x'));
  const deleting = rejection(engine.deletePrefix('d.'));
  const closing = engine.shutdown({ deadlineMs: 1000 });
  await ports.clock.pass(2000);
  release();
  await ports.clock.pass(2000);
  const { flushed, remaining } = await closing;
  expect({ flushed, remaining }).toEqual({ flushed: 0, remaining: 1 });
  expect((await deleting).code).toBe('ENGINE_STATE');
});
