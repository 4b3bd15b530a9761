/** Spans of whole engines, as a real SDK keeps them. */
import { trace } from '@opentelemetry/api';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SyncEngine, SyncItem } from '#engine/index.js';
import { parseTraceParent } from '#engine/telemetry/trace-context.js';
import { type Fakes, rejection } from '../support/engines.js';
import { FakeArchive } from '../support/fake-archive.js';
import { FakeRecordStore } from '../support/fake-record-store.js';
import { manualPorts } from '../support/manual-ports.js';
import { type Tracers, tracers } from './sdk.js';

const TRACE = 'a'.repeat(32);
const TRACE_PARENT = `00-${TRACE}-${'b'.repeat(16)}-01`;

async function traced(config = {}): Promise<Fakes & { readonly sdk: Tracers }> {
  const sdk = tracers();
  const archive = new FakeArchive();
  const store = new FakeRecordStore();
  const ports = manualPorts();
  const telemetry = { tracerProvider: sdk.tracerProvider };
  const stores = { archive, recordStore: store };
  const engine = new SyncEngine({ nodeId: 'test', ...config }, { ...ports, ...stores, telemetry });
  onTestFinished(() => void engine.shutdown({ deadlineMs: 1 }));
  await engine.start();
  return { engine, archive, store, ports, sdk };
}

async function flushed({ engine, ports }: Fakes): Promise<void> {
  const done = engine.flush();
  await ports.clock.pass(200);
  await done;
}

describe('a submit', () => {
  test('whose level is waited for has a span below the one of its caller', async () => {
    const { engine, sdk } = await traced();
    await sdk.below(() => engine.submit(new SyncItem('a', 'x'), { ack: 'wal' }));
    const [caller] = sdk.named('caller');
    const [span] = sdk.named('sync_engine.submit');
    expect(span?.parentSpanContext?.spanId).toBe(caller?.spanContext().spanId);
    expect(span?.attributes).toMatchObject({ 'sync_engine.id': 'a', 'sync_engine.ack': 'wal' });
  });

  test('has none at memory, and none where nobody traces', async () => {
    const { engine, sdk } = await traced();
    await sdk.below(() => engine.submit(new SyncItem('a', 'x'), { ack: 'memory' }));
    await engine.submit(new SyncItem('b', 'x'), { ack: 'wal' });
    expect(sdk.named('sync_engine.submit')).toEqual([]);
  });

  test('belongs to the trace that the item names, where there is no active span', async () => {
    const { engine, sdk } = await traced();
    await engine.submit(new SyncItem('a', 'x', { traceParent: TRACE_PARENT }), { ack: 'wal' });
    const [span] = sdk.named('sync_engine.submit');
    expect(span?.spanContext().traceId).toBe(TRACE);
    expect(span?.parentSpanContext?.spanId).toBe('b'.repeat(16));
  });

  test('links the trace that the item names, where the active span is of another', async () => {
    const { engine, sdk } = await traced();
    const item = new SyncItem('a', 'x', { traceParent: TRACE_PARENT });
    await sdk.below(() => engine.submit(item, { ack: 'wal' }));
    const [span] = sdk.named('sync_engine.submit');
    expect(span?.links.map(({ context }) => context.traceId)).toEqual([TRACE]);
  });

  test('that fails notes the code of its error, and no message', async () => {
    const { engine, sdk, store, archive, ports } = await traced({ submitTimeoutMs: 100 });
    store.hold();
    archive.hold('apply');
    const late = sdk.below(() => rejection(engine.submit(new SyncItem('a', 'x'), { ack: 'wal' })));
    await ports.clock.pass(100);
    await late;
    const [span] = sdk.named('sync_engine.submit');
    expect(span?.status).toEqual({ code: 2, message: 'DEADLINE' });
    expect(span?.attributes['error.type']).toBe('DEADLINE');
    expect(span?.events).toEqual([]);
  });

  test('a delete has its own name', async () => {
    const { engine, sdk } = await traced();
    await sdk.below(() => engine.delete('a', { ack: 'wal' }));
    expect(sdk.named('sync_engine.delete')).toHaveLength(1);
  });
});

describe('a get', () => {
  test('that goes to SQL has a span; one that memory answers has none', async () => {
    const { engine, sdk } = await traced();
    await sdk.below(() => engine.get('missing'));
    expect(sdk.named('sync_engine.get')).toHaveLength(1);
    await engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
    await sdk.below(() => engine.get('a'));
    expect(sdk.named('sync_engine.get')).toHaveLength(1);
  });

  test('for which SQL is away ends its span with an error', async () => {
    const { engine, archive, sdk } = await traced();
    archive.down = true;
    await sdk.below(() => rejection(engine.get('a')));
    expect(sdk.named('sync_engine.get')[0]?.status.message).toBe('TIER_UNAVAILABLE');
  });
});

describe('a flush', () => {
  test('begins a trace, has its transaction below it, and links the traces of its items', async () => {
    const fakes = await traced();
    const { engine, sdk } = fakes;
    const init = { traceParent: TRACE_PARENT, traceState: 'vendor=1' };
    await engine.submit(new SyncItem('a', 'four', init), { ack: 'memory' });
    await engine.submit(new SyncItem('b', 'four', init), { ack: 'memory' });
    await engine.submit(new SyncItem('c', 'four'), { ack: 'memory' });
    await flushed(fakes);
    const [flush] = sdk.named('sync_engine.flush');
    const [apply] = sdk.named('sync_engine.apply');
    expect(flush?.parentSpanContext).toBeUndefined();
    expect(apply?.parentSpanContext?.spanId).toBe(flush?.spanContext().spanId);
    expect(flush?.attributes).toMatchObject({
      'sync_engine.items': 3,
      'sync_engine.bytes': 12,
      'sync_engine.stored': 3,
    });
    expect(flush?.links).toHaveLength(1);
    expect(flush?.links[0]?.context).toMatchObject({ traceId: TRACE, isRemote: true });
    expect(flush?.links[0]?.context.traceState?.serialize()).toBe('vendor=1');
  });

  test('is no part of the trace of who happened to call', async () => {
    const fakes = await traced();
    await fakes.engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
    await fakes.sdk.below(() => flushed(fakes));
    const [caller] = fakes.sdk.named('caller');
    const [flush] = fakes.sdk.named('sync_engine.flush');
    expect(flush?.spanContext().traceId).not.toBe(caller?.spanContext().traceId);
  });

  test('links at most 128 traces', async () => {
    const fakes = await traced();
    const items = Array.from({ length: 200 }, (_, at) => {
      const traceParent = `00-${String(at + 1).padStart(32, '0')}-${'b'.repeat(16)}-01`;
      return new SyncItem(`i${at}`, 'x', { traceParent });
    });
    await fakes.engine.submitMany(items, { ack: 'memory' });
    await flushed(fakes);
    expect(fakes.sdk.named('sync_engine.flush')[0]?.links).toHaveLength(128);
  });

  test('of which a row is refused has a transaction for each half', async () => {
    const { engine, archive, ports, sdk } = await traced();
    archive.refuses = (write) => (write.id === 'bad' ? 'no' : undefined);
    await engine.submitMany([new SyncItem('good', 'x'), new SyncItem('bad', 'x')], { ack: 'memory' });
    await ports.clock.pass(1000);
    expect(sdk.named('sync_engine.apply').map((span) => span.status.message)).toEqual([
      'REJECTED',
      undefined,
      'REJECTED',
    ]);
    expect(sdk.named('sync_engine.flush')[0]?.attributes['sync_engine.stored']).toBe(1);
  });
});

test('start and shutdown have spans, the start with its states', async () => {
  const { engine, ports, sdk } = await traced();
  const [start] = sdk.named('sync_engine.start');
  expect(start?.events.map(({ name }) => name)).toEqual([
    'DrainingWal',
    'SyncingRedis',
    'WarmingUp',
    'Ready',
    'Running',
  ]);
  await engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
  const closing = engine.shutdown({ deadlineMs: 1000 });
  await ports.clock.pass(1000);
  await closing;
  const facts = { 'sync_engine.flushed': 1, 'sync_engine.remaining': 0 };
  expect(sdk.named('sync_engine.shutdown')[0]?.attributes).toEqual(facts);
});

test('a drain has a span from the return of SQL to the last of the backlog', async () => {
  const { engine, archive, ports, sdk } = await traced();
  archive.down = true;
  await engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
  await ports.clock.pass(5000);
  const before = sdk.named('sync_engine.drain').length;
  archive.down = false;
  await ports.clock.pass(5000);
  const drains = sdk.named('sync_engine.drain');
  expect(drains).toHaveLength(before + 1);
  expect(drains.at(-1)?.status.code).toBe(0);
});

test('the global provider is taken where it is asked for', async () => {
  const sdk = tracers();
  trace.setGlobalTracerProvider(sdk.tracerProvider);
  onTestFinished(() => trace.disable());
  const engine = new SyncEngine({}, { telemetry: { tracerProvider: 'global' } });
  onTestFinished(() => void engine.shutdown());
  await engine.start();
  expect(sdk.named('sync_engine.start')).toHaveLength(1);
});

describe('a traceparent', () => {
  test('of the W3C form is taken apart', () => {
    expect(parseTraceParent(TRACE_PARENT)).toEqual({ traceId: TRACE, spanId: 'b'.repeat(16), traceFlags: 1 });
  });

  test('of a later version may have more behind it', () => {
    expect(parseTraceParent(`cc-${TRACE}-${'b'.repeat(16)}-00-more`)).toMatchObject({ traceFlags: 0 });
  });

  test.each([
    undefined,
    '',
    'nonsense',
    `00-${'0'.repeat(32)}-${'b'.repeat(16)}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `ff-${TRACE}-${'b'.repeat(16)}-01`,
    `00-${TRACE}-${'b'.repeat(16)}-01-more`,
    `00-${TRACE.toUpperCase()}-${'b'.repeat(16)}-01`,
    `00-${TRACE}-${'b'.repeat(16)}-01\n`,
  ])('%j is none', (text) => {
    expect(parseTraceParent(text)).toBeUndefined();
  });
});
