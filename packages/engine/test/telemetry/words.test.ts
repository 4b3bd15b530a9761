/** What is said of one outage: each event once in the log; no content in metrics, spans and lines. */
import { expect, onTestFinished, test } from 'vitest';
import { SyncEngine, SyncItem } from '#engine/index.js';
import { FakeArchive } from '../support/fake-archive.js';
import { FakeRecordStore } from '../support/fake-record-store.js';
import { manualPorts } from '../support/manual-ports.js';
import { meters, tracers } from './sdk.js';

const CONTENT = 'the-content-of-an-item';

async function outage() {
  const [metrics, spans] = [meters(), tracers()];
  const ports = manualPorts();
  const archive = new FakeArchive();
  const telemetry = { meterProvider: metrics.meterProvider, tracerProvider: spans.tracerProvider };
  const stores = { archive, recordStore: new FakeRecordStore() };
  const engine = new SyncEngine({ nodeId: 'test' }, { ...ports, ...stores, telemetry });
  onTestFinished(() => void engine.shutdown({ deadlineMs: 1 }));
  await engine.start();
  archive.refuses = (write) => (write.id === 'bad' ? `constraint on ${write.content}` : undefined);
  await engine.submit(new SyncItem('bad', CONTENT), { ack: 'wal' });
  await ports.clock.pass(1000);
  archive.down = true;
  const writes = ['a', 'b'].map((id) => engine.submit(new SyncItem(id, CONTENT), { ack: 'wal' }));
  await spans.below(() => Promise.all(writes));
  await ports.clock.pass(60_000);
  archive.down = false;
  await ports.clock.pass(5000);
  return { engine, ports, metrics, spans };
}

test('each event of an outage is in the log once', async () => {
  const { engine, ports } = await outage();
  const closing = engine.shutdown({ deadlineMs: 1000 });
  await ports.clock.pass(1000);
  await closing;
  const said = (level: string, text: string) =>
    ports.logger.lines.filter((line) => line.level === level && line.message.includes(text)).length;
  expect(said('info', 'The engine is Running')).toBe(1);
  expect(said('error', 'SQL refuses this row')).toBe(1);
  expect(said('warn', 'The breaker of SQL is open')).toBe(1);
  expect(said('warn', 'The breaker of SQL is closed')).toBe(1);
  expect(said('info', 'is being brought there')).toBe(1);
  expect(said('info', 'has been brought there')).toBe(1);
  expect(said('info', 'The engine is Closed')).toBe(1);
});

test('writes that a shutdown leaves behind are in the log', async () => {
  const ports = manualPorts();
  const archive = new FakeArchive();
  const engine = new SyncEngine({}, { ...ports, archive, recordStore: new FakeRecordStore() });
  await engine.start();
  archive.down = true;
  await engine.submit(new SyncItem('a', CONTENT), { ack: 'wal' });
  await ports.clock.pass(5000);
  const closing = engine.shutdown({ deadlineMs: 1000 });
  await ports.clock.pass(5000);
  expect(await closing).toMatchObject({ remaining: 1 });
  const left = ports.logger.lines.filter(({ message }) => message.startsWith('Closed with writes'));
  expect(left).toMatchObject([{ level: 'warn', fields: { remaining: 1 } }]);
});

test('neither metrics nor spans repeat content', async () => {
  const { engine, metrics, spans } = await outage();
  const seen = [
    await metrics.text(),
    JSON.stringify(engine.metrics()),
    JSON.stringify(engine.latencies()),
    ...spans.spans.map(({ name, attributes, events, status, links }) =>
      JSON.stringify({ name, attributes, events, status, links }),
    ),
  ];
  expect(spans.named('sync_engine.flush').length).toBeGreaterThan(2);
  expect(seen.join('\n')).toContain('TIER_UNAVAILABLE');
  expect(seen.join('\n')).toContain('REJECTED');
  for (const text of seen) expect(text).not.toContain(CONTENT);
});
