/** Whoever is told of what happens may throw: no operation fails or waits for it. */
import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { SyncEngine, type SyncEngineError, SyncItem, type TelemetryOptions } from '#engine/index.js';
import { fileConfig, temporaryDirectory } from '../support/engines.js';
import { FakeArchive } from '../support/fake-archive.js';
import { FakeRecordStore } from '../support/fake-record-store.js';
import { manualPorts } from '../support/manual-ports.js';

const broken = (): never => {
  throw new Error('broken on purpose');
};

/** Every call throws from the given depth on: 0 the provider, 1 what it gives, 2 what that gives. */
function brokenFrom(depth: number): never {
  return new Proxy(() => {}, {
    get: (_target, key) =>
      key === 'then' ? undefined : () => (depth === 0 ? broken() : brokenFrom(depth - 1)),
  }) as never;
}

/** Writes, reads, an outage, a dead letter and a shutdown: everything that anyone is told of. */
async function wholeLife(telemetry: TelemetryOptions, logger = manualPorts().logger): Promise<void> {
  const archive = new FakeArchive();
  const ports = { ...manualPorts(), logger };
  const stores = { archive, recordStore: new FakeRecordStore() };
  const engine = new SyncEngine({ nodeId: 'test' }, { ...ports, ...stores, telemetry });
  for (const event of ['state', 'circuit', 'deadLetter', 'error'] as const) engine.on(event, broken);
  await engine.start();
  expect(await engine.submit(new SyncItem('a', 'x'), { ack: 'wal' })).toMatchObject({ ack: 'wal' });
  archive.refuses = (write) => (write.id === 'bad' ? 'no' : undefined);
  await engine.submit(new SyncItem('bad', 'x'), { ack: 'wal' });
  await ports.clock.pass(1000);
  archive.down = true;
  await engine.submit(new SyncItem('b', 'x'), { ack: 'wal' });
  await ports.clock.pass(5000);
  expect((await engine.healthCheck()).sql?.circuit).toBe('open');
  archive.down = false;
  await ports.clock.pass(5000);
  expect([...archive.rows.keys()].sort()).toEqual(['a', 'b']);
  expect(await engine.get('missing')).toBeUndefined();
  expect((await engine.deadLetters.list()).map(({ id }) => id)).toEqual(['bad']);
  const closing = engine.shutdown({ deadlineMs: 1000 });
  await ports.clock.pass(1000);
  expect(await closing).toEqual({ flushed: 0, remaining: 0 });
}

describe('an engine lives as ever', () => {
  test.each([0, 1, 2])('with a meter that breaks at depth %i', async (depth) => {
    const { logger } = manualPorts();
    await wholeLife({ meterProvider: brokenFrom(depth) }, logger);
    const complaints = logger.lines.filter(({ message }) => message.startsWith('Telemetry failed'));
    expect(complaints).toHaveLength(1);
  });

  test.each([0, 1, 2])('with a tracer that breaks at depth %i', async (depth) => {
    const { logger } = manualPorts();
    await wholeLife({ tracerProvider: brokenFrom(depth) }, logger);
    const complaints = logger.lines.filter(({ message }) => message.startsWith('Telemetry failed'));
    expect(complaints).toHaveLength(1);
  });

  test('with a logger that throws', async () => {
    const logger = { debug: broken, info: broken, warn: broken, error: broken, lines: [] };
    await wholeLife({}, logger as never);
  });
});

test('a subscriber that throws is an uncaught exception of the process, and harms no engine', () => {
  const directory = temporaryDirectory();
  const source = `
    import { subscribe } from 'node:diagnostics_channel';
    import { SyncEngine, SyncItem } from ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)};
    let uncaught = 0;
    process.on('uncaughtException', () => uncaught++);
    for (const name of ['state', 'flush', 'logCommit'])
      subscribe('sync_engine:' + name, () => { throw new Error('broken on purpose'); });
    const engine = new SyncEngine(${JSON.stringify(fileConfig(directory))});
    await engine.start();
    const { ack } = await engine.submit(new SyncItem('a', 'x'), { ack: 'stored' });
    const { remaining } = await engine.shutdown();
    console.log(JSON.stringify({ ack, remaining, heard: uncaught > 3 }));
  `;
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8' });
  expect(run.stderr).toBe('');
  expect(JSON.parse(run.stdout)).toEqual({ ack: 'stored', remaining: 0, heard: true });
});

describe('telemetry that is not usable is refused by the constructor', () => {
  test.each([
    [5, /must be an object/],
    [{ meterProvider: {} }, /meterProvider must be 'global' or have getMeter/],
    [{ tracerProvider: 'globl' }, /tracerProvider must be/],
    [{ attributes: { a: {} } }, /attributes must be/],
    [{ meter: 1, attributes: [] }, /unknown key "meter".*attributes must be/],
  ])('%j', (telemetry, message) => {
    try {
      new SyncEngine({}, { telemetry: telemetry as never });
      expect.unreachable();
    } catch (error) {
      expect((error as SyncEngineError).code).toBe('CONFIG');
      expect((error as SyncEngineError).message).toMatch(message);
    }
  });
});

describe('the API of OpenTelemetry', () => {
  const index = JSON.stringify(new URL('../../dist/index.js', import.meta.url).href);
  const preload = new URL('../support/no-otel.mjs', import.meta.url).href;

  function printed(source: string): string {
    const flags = ['--import', preload, '--input-type=module', '-e', source];
    const run = spawnSync(process.execPath, flags, { timeout: 20_000, encoding: 'utf8' });
    return run.stdout + run.stderr;
  }

  test('is not needed for a meter that is handed in, nor without telemetry', () => {
    const source = `
      import { SyncEngine } from ${index};
      const names = [];
      const instrument = (name) => { names.push(name); return { record() {} }; };
      const meter = {
        createHistogram: instrument, createObservableCounter: instrument, createObservableGauge: instrument,
        addBatchObservableCallback() {}, removeBatchObservableCallback() {},
      };
      for (const telemetry of [undefined, { meterProvider: { getMeter: () => meter } }]) {
        const engine = new SyncEngine({}, { telemetry });
        await engine.start();
        await engine.shutdown();
      }
      console.log(names.length > 20);
    `;
    expect(printed(source)).toBe('true\n');
  });

  test('is named to be installed where it is needed', () => {
    const source = `
      import { SyncEngine } from ${index};
      for (const telemetry of [{ meterProvider: 'global' }, { tracerProvider: 'global' }]) {
        const engine = new SyncEngine({}, { telemetry });
        await engine.start().catch((error) => console.log(error.code, engine.state, error.message));
      }
    `;
    const lines = printed(source).trim().split('\n');
    expect(lines).toHaveLength(2);
    for (const line of lines) expect(line).toMatch(/^CONFIG Failed .*npm install @opentelemetry\/api/);
  });
});
