/** Metrics of whole engines, as a real SDK collects them. */
import { metrics as otelMetrics } from '@opentelemetry/api';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SyncEngine, SyncItem, timeOperation } from '#engine/index.js';
import { METRICS } from '#engine/telemetry/metrics.js';
import {
  type FakeOptions,
  type Fakes,
  fakeEngine,
  fileConfig,
  rejection,
  temporaryDirectory,
} from '../support/engines.js';
import { FakeArchive } from '../support/fake-archive.js';
import { FakeRecordStore } from '../support/fake-record-store.js';
import { manualPorts } from '../support/manual-ports.js';
import { type Meters, meters } from './sdk.js';

interface Metered extends Fakes, Meters {}

async function metered(config = {}, options: FakeOptions = {}): Promise<Metered> {
  const sdk = meters();
  const archive = options.archive ?? new FakeArchive();
  const store = options.store ?? new FakeRecordStore();
  const ports = manualPorts();
  const telemetry = { meterProvider: sdk.meterProvider };
  const engine = new SyncEngine(
    { nodeId: 'test', ...config },
    { ...ports, archive, recordStore: store, telemetry },
  );
  onTestFinished(() => void engine.shutdown({ deadlineMs: 1 }));
  await engine.start();
  return { engine, archive, store, ports, ...sdk };
}

/** What was submitted is in SQL and released. */
async function flushed({ engine, ports }: Fakes): Promise<void> {
  const done = engine.flush();
  await ports.clock.pass(200);
  await done;
}

const operations = 'sync_engine_operations';

describe('reads', () => {
  test('of memory are counted as hits and misses, by get and peek', async () => {
    const engine = await metered();
    await engine.engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
    await engine.engine.get('a');
    await engine.engine.getMany(['a', 'b']);
    engine.engine.peek('a');
    engine.engine.peek('a');
    engine.engine.peek('b');
    await engine.engine.get('b');
    const count = (operation: string, status: string) =>
      engine.value(operations, { tier: 'memory', operation, status });
    expect(await count('get', 'hit')).toBe(2);
    expect(await count('get', 'miss')).toBe(2);
    expect(await count('peek', 'hit')).toBe(2);
    expect(await count('peek', 'miss')).toBe(1);
  });

  test('of SQL are counted and timed once for all misses of a turn', async () => {
    const { engine, value } = await metered();
    await engine.getMany(['a', 'b', 'c']);
    const labels = { tier: 'sql', operation: 'read', status: 'ok' };
    expect(await value(operations, labels)).toBe(1);
    expect(await value('sync_engine_latency', labels)).toBe(1);
  });

  test('that SQL fails are counted as errors with their code', async () => {
    const { engine, archive, value } = await metered();
    archive.down = true;
    await rejection(engine.get('a'));
    expect(await value(operations, { tier: 'sql', operation: 'read', status: 'error' })).toBe(1);
    expect(
      await value('sync_engine_errors', { tier: 'sql', operation: 'read', status: 'TIER_UNAVAILABLE' }),
    ).toBe(1);
  });
});

describe('writes', () => {
  test('are counted by kind, batches by size', async () => {
    const fakes = await metered();
    const { engine, value } = fakes;
    const items = ['a', 'b', 'c'].map((id) => new SyncItem(id, 'four'));
    await engine.submitMany(items, { ack: 'wal' });
    await engine.delete('c', { ack: 'wal' });
    expect(await value('sync_engine_queue_items', { tier: 'sql' })).toBe(3);
    await flushed(fakes);
    expect(await value(operations, { tier: 'memory', operation: 'submit', status: 'ok' })).toBe(3);
    expect(await value(operations, { tier: 'memory', operation: 'delete', status: 'ok' })).toBe(1);
    expect(await value(operations, { tier: 'sql', operation: 'apply', status: 'ok' })).toBe(1);
    expect(await value('sync_engine_batch_items', { tier: 'sql' })).toBe(1);
    expect(await value('sync_engine_queue_items', { tier: 'sql' })).toBe(0);
    expect(await value('sync_engine_log_released')).toBe(3);
    const position = (await value('sync_engine_change_position')) ?? 0;
    for (const content of ['y', 'z']) {
      await engine.submit(new SyncItem('a', content), { ack: 'wal' });
      await flushed(fakes);
    }
    expect(await value('sync_engine_change_position')).toBe(position + 2);
  });

  test('pass three phases on their way to SQL', async () => {
    const fakes = await metered();
    await fakes.engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
    await flushed(fakes);
    for (const operation of ['apply', 'learn', 'release'])
      expect(await fakes.value('sync_engine_flush_phase', { operation }), operation).toBe(1);
  });

  test('refused for want of room are counted, and raise the backpressure level until there is room', async () => {
    const fakes = await metered({ l1MaxBytes: 64 * 1024, maxPayloadBytes: 40_000 });
    const { engine, archive, ports, value } = fakes;
    const open = archive.hold('apply');
    let refused = 0;
    await engine.submit(new SyncItem('a', Buffer.alloc(39_000)), { ack: 'memory' });
    await engine.submit(new SyncItem('b', Buffer.alloc(24_000)), { ack: 'memory' });
    for (let at = 0; at < 3; at++)
      await engine.submit(new SyncItem(`i${at}`, 'x'), { ack: 'memory' }).catch(() => refused++);
    expect(refused).toBeGreaterThan(0);
    expect(await value(operations, { tier: 'memory', operation: 'submit', status: 'error' })).toBe(refused);
    const errors = { tier: 'memory', operation: 'submit', status: 'BACKPRESSURE' };
    expect(await value('sync_engine_errors', errors)).toBe(refused);
    expect(await value('sync_engine_backpressure_level')).toBeGreaterThanOrEqual(3);
    open();
    await flushed(fakes);
    await ports.clock.pass(1000);
    expect(await value('sync_engine_backpressure_level')).toBe(0);
  });

  test('that fail after they were taken are counted as errors, and as taken', async () => {
    const { engine, store, archive, ports, value } = await metered({ submitTimeoutMs: 100 });
    store.hold();
    archive.hold('apply');
    const late = rejection(engine.submit(new SyncItem('a', 'x'), { ack: 'wal' }));
    await ports.clock.pass(100);
    expect((await late).code).toBe('DEADLINE');
    expect(await value(operations, { tier: 'memory', operation: 'submit', status: 'ok' })).toBe(1);
    expect(
      await value('sync_engine_errors', { tier: 'memory', operation: 'submit', status: 'DEADLINE' }),
    ).toBe(1);
  });
});

test('an outage shows in circuit, health and queue, and its end as a drain', async () => {
  const fakes = await metered();
  const { engine, archive, ports, value } = fakes;
  const sql = { tier: 'sql' };
  expect(await value('sync_engine_circuit_state', sql)).toBe(0);
  expect(await value('sync_engine_backend_healthy', sql)).toBe(1);
  archive.down = true;
  await engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
  await ports.clock.pass(5000);
  expect(await value('sync_engine_circuit_state', sql)).toBe(2);
  expect(await value('sync_engine_backend_healthy', sql)).toBe(0);
  expect(await value('sync_engine_draining')).toBe(1);
  const drained = (await value('sync_engine_drains', { status: 'ok' })) ?? 0;
  archive.down = false;
  await ports.clock.pass(5000);
  expect(await value('sync_engine_circuit_state', sql)).toBe(0);
  expect(await value('sync_engine_draining')).toBe(0);
  expect(await value('sync_engine_drains', { status: 'ok' })).toBe(drained + 1);
  expect(await value('sync_engine_queue_items', sql)).toBe(0);
});

test('a drain that SQL interrupts is counted as such, and not as done', async () => {
  const { engine, archive, ports, value } = await metered({ walDrainBatchSize: 1 });
  archive.down = true;
  for (const id of ['a', 'b', 'c', 'd']) await engine.submit(new SyncItem(id, 'x'), { ack: 'wal' });
  await ports.clock.pass(5000);
  const before = {
    ok: (await value('sync_engine_drains', { status: 'ok' })) ?? 0,
    error: (await value('sync_engine_drains', { status: 'error' })) ?? 0,
  };
  const open = archive.hold('apply');
  archive.down = false;
  await ports.clock.pass(5000);
  archive.down = true;
  open();
  await ports.clock.pass(5000);
  expect(await value('sync_engine_drains', { status: 'error' })).toBe(before.error + 1);
  expect(await value('sync_engine_drains', { status: 'ok' })).toBe(before.ok);
  archive.down = false;
  await ports.clock.pass(5000);
  expect(await value('sync_engine_drains', { status: 'ok' })).toBe(before.ok + 1);
});

test('dead letters, corruption and comparisons are counted', async () => {
  const { engine, archive, ports, value } = await metered();
  archive.refuses = (write) => (write.id === 'bad' ? 'no' : undefined);
  await engine.submit(new SyncItem('bad', 'x'), { ack: 'memory' });
  const flushing = rejection(engine.flush());
  await ports.clock.pass(200);
  expect((await flushing).code).toBe('REJECTED');
  expect(await value('sync_engine_dead_letters')).toBe(1);
  await engine.merkleRoot();
  expect(await value('sync_engine_merkle_operations', { operation: 'nodes' })).toBe(1);
  expect(await value('sync_engine_corruption', { tier: 'sql' })).toBe(0);
});

test('what timeOperation measures is exported with the rest', async () => {
  const { value } = await metered();
  timeOperation('app', 'exported', () => 1);
  expect(await value('sync_engine_latency', { tier: 'app', operation: 'exported', status: 'ok' })).toBe(1);
});

/** Of engines that share their archive with others. */
const OF_SERVERS = new Set(['sync_engine_coherence_age', 'sync_engine_cache_lag']);

test('every metric that is declared is exported by an engine on files, and no other', async () => {
  const sdk = meters();
  const engine = new SyncEngine(fileConfig(temporaryDirectory()), {
    telemetry: { meterProvider: sdk.meterProvider },
  });
  onTestFinished(() => void engine.shutdown());
  await engine.start();
  await engine.submit(new SyncItem('a', 'x'), { ack: 'stored' });
  await rejection(engine.submit(new SyncItem('a', 'x'), { signal: AbortSignal.abort() }));
  await engine.flush();
  const exported = Object.entries(METRICS).filter(([name]) => !OF_SERVERS.has(name));
  expect((await sdk.names()).sort()).toEqual(exported.map(([name]) => name).sort());
  const kinds = new Set(engine.metrics().map(({ name }) => name));
  const pulled = exported.filter(([, { kind }]) => kind !== 'histogram');
  expect([...kinds].sort()).toEqual(pulled.map(([name]) => name).sort());
  for (const { name, labels } of engine.metrics())
    expect(Object.keys(labels).sort(), name).toEqual([...METRICS[name].labels].sort());
});

test('attributes given by the caller are on every point', async () => {
  const sdk = meters();
  const telemetry = { meterProvider: sdk.meterProvider, attributes: { shard: 'b' } };
  const engine = new SyncEngine({}, { telemetry });
  onTestFinished(() => void engine.shutdown());
  await engine.start();
  expect(await sdk.value('sync_engine_l1_items', { shard: 'b' })).toBe(0);
});

test('an engine that was shut down is no longer asked', async () => {
  const { engine, names, ports } = await metered();
  const closing = engine.shutdown({ deadlineMs: 100 });
  await ports.clock.pass(1000);
  await closing;
  expect(await names()).not.toContain('sync_engine_l1_items');
  expect(engine.metrics().find(({ name }) => name === 'sync_engine_state')?.labels).toEqual({
    status: 'Closed',
  });
});

test('the global provider is taken where it is asked for', async () => {
  const sdk = meters();
  otelMetrics.setGlobalMeterProvider(sdk.meterProvider);
  onTestFinished(() => otelMetrics.disable());
  const silent = new SyncEngine();
  const loud = new SyncEngine({}, { telemetry: { meterProvider: 'global' } });
  onTestFinished(() => void Promise.all([silent.shutdown(), loud.shutdown()]));
  await silent.start();
  expect(await sdk.names()).toEqual([]);
  await loud.start();
  expect(await sdk.names()).toContain('sync_engine_l1_items');
});

test('numbers are there without any provider', async () => {
  const { engine } = fakeEngine();
  await engine.start();
  await engine.get('a');
  const misses = engine
    .metrics()
    .find(({ labels }) => labels.operation === 'get' && labels.status === 'miss');
  expect(misses).toMatchObject({ name: operations, kind: 'counter', value: 1 });
  expect(engine.latencies()).toContainEqual(
    expect.objectContaining({ tier: 'sql', operation: 'read', count: 1 }),
  );
});
