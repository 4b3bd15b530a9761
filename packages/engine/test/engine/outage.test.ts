/** SQL goes away and comes back while the engine runs. */

import { expect, test } from 'vitest';
import { SyncItem } from '#engine/index.js';
import { rejection, startedFakes } from '../support/engines.js';
import { settle } from '../support/manual-ports.js';

test('the breaker opens, writes wait in the log, and are drained within 2 s of recovery, oldest first', async () => {
  const { engine, archive, store, ports } = await startedFakes({
    batchFlushCount: 10,
    walDrainBatchSize: 10,
  });
  const states: string[] = [];
  engine.on('circuit', (event) => states.push(event.state));
  archive.down = true;
  for (let at = 0; at < 50; at++) expect((await engine.submit(new SyncItem(`id${at}`, 'x'))).ack).toBe('wal');
  await ports.clock.pass(10_000);
  expect(states).toEqual(['open']);
  expect(store.records.size).toBe(50);
  expect(engine.walStats()).toMatchObject({ pendingItems: 50, draining: true });
  archive.applies = [];
  archive.down = false;
  await ports.clock.pass(2000);
  // Batches that had failed come first, in whichever order they failed; then the rest, oldest first.
  const drained = archive.applies.flat().map((write) => write.id);
  expect(new Set(drained).size).toBe(50);
  expect(drained.slice(0, 20)).toContain('id0');
  expect(drained.slice(-10)).toEqual(Array.from({ length: 10 }, (_, at) => `id${40 + at}`));
  expect(states).toEqual(['open', 'half-open', 'closed']);
  expect(engine.walStats()).toMatchObject({ pendingItems: 0, draining: false });
});

test('health says for how long SQL has not answered', async () => {
  const { engine, archive, ports } = await startedFakes();
  archive.down = true;
  for (let at = 0; at < 5; at++) await rejection(engine.get(`id${at}`));
  await ports.clock.pass(90_000);
  const sick = await engine.healthCheck();
  expect(sick.sql?.failingForMs).toBeGreaterThanOrEqual(90_000);
  expect(sick.warnings[0]).toContain('SQL is not reachable, for 90 s now (');
  await ports.clock.pass(3_600_000);
  expect((await engine.healthCheck()).warnings[0]).toContain('for 62 minutes now');
  await ports.clock.pass(3_600_000);
  expect((await engine.healthCheck()).warnings[0]).toContain('for 2 hours now');
  archive.down = false;
  await ports.clock.pass(2000);
  const well = await engine.healthCheck();
  expect(well.sql?.failingForMs).toBeUndefined();
  expect(well.warnings.join()).not.toContain('not reachable');
});

test('a live write does not wait behind the backlog', async () => {
  const { engine, archive, ports } = await startedFakes({
    batchFlushCount: 10,
    walDrainBatchSize: 10,
    batchFlushMs: 10,
  });
  archive.down = true;
  for (let at = 0; at < 200; at++) void engine.submit(new SyncItem(`old${at}`, 'x'));
  await ports.clock.pass(10_000);
  archive.applies = [];
  archive.down = false;
  const release = archive.hold('apply');
  await ports.clock.pass(1100);
  const live = engine.submit(new SyncItem('live', 'x'), { ack: 'stored' });
  // One that waits in the backlog and is written again is live as well.
  const again = engine.submit(new SyncItem('old150', 'y'), { ack: 'stored' });
  await ports.clock.pass(20);
  release();
  await Promise.all([live, again]);
  const batches = archive.applies.map((batch) => batch.map((write) => write.id));
  expect(batches.findIndex((batch) => batch.includes('live'))).toBeLessThan(5);
  expect(batches.findIndex((batch) => batch.includes('old150'))).toBeLessThan(5);
  await ports.clock.pass(1000);
  expect(archive.rows.get('old150')?.content.toString()).toBe('y');
  expect(archive.rows.size).toBe(201);
});

test('hot ids do not make the backlog grow', async () => {
  const { engine, archive, ports } = await startedFakes({ batchFlushCount: 5 });
  archive.down = true;
  await ports.clock.pass(1);
  for (let round = 0; round < 200; round++) {
    for (let at = 0; at < 5; at++)
      void engine.submit(new SyncItem(`hot${at}`, String(round)), { ack: 'memory' });
    await ports.clock.pass(20);
  }
  archive.applies = [];
  archive.down = false;
  await ports.clock.pass(3000);
  expect(archive.applies.flat().length).toBeLessThanOrEqual(10);
  expect(archive.rows.get('hot0')?.content.toString()).toBe('199');
});

test('a batch that SQL refuses once is tried again after a short wait', async () => {
  const { engine, archive, ports } = await startedFakes();
  archive.down = true;
  const submitted = engine.submit(new SyncItem('a', 'x'), { ack: 'stored' });
  await ports.clock.pass(100);
  archive.down = false;
  await ports.clock.pass(150);
  expect((await submitted).ack).toBe('stored');
});

test('a transaction that hangs is given up at its deadline, and what it does later is harmless', async () => {
  const { engine, archive, ports } = await startedFakes({ sqlTimeoutMs: 500, submitTimeoutMs: 20_000 });
  const late = archive.hold('apply');
  void engine.submit(new SyncItem('a', '1'), { ack: 'memory' });
  await ports.clock.pass(100);
  void engine.submit(new SyncItem('a', '2'), { ack: 'memory' });
  const states: string[] = [];
  engine.on('circuit', (event) => states.push(event.state));
  await ports.clock.pass(500);
  // Given up and connected anew at once: a connection that hangs holds up all that follow.
  expect(states.slice(0, 2)).toEqual(['open', 'half-open']);
  expect(archive.opens.length).toBeGreaterThan(1);
  await ports.clock.pass(5000);
  late();
  await ports.clock.pass(5000);
  expect(archive.rows.get('a')?.content.toString()).toBe('2');
  expect((await engine.get('a'))?.text()).toBe('2');
});

test('flush waits for everything before it, and rejects at once while SQL is away', async () => {
  const { engine, archive, ports } = await startedFakes({ batchFlushMs: 60_000 });
  for (let at = 0; at < 30; at++) await engine.submit(new SyncItem(`id${at}`, 'x'));
  const release = archive.hold('apply');
  let flushed = false;
  const flushing = engine.flush().then(() => {
    flushed = true;
  });
  await settle();
  expect(flushed).toBe(false);
  await engine.submit(new SyncItem('later', 'x'));
  release();
  await flushing;
  expect(archive.rows.size).toBe(30);
  archive.down = true;
  const failing = rejection(engine.flush());
  await ports.clock.pass(3000);
  expect(await failing).toMatchObject({ code: 'CIRCUIT_OPEN', name: 'CircuitError' });
  expect(await rejection(engine.flush())).toMatchObject({ code: 'CIRCUIT_OPEN' });
});

test('flush has a deadline and takes a signal', async () => {
  const { engine, archive, ports } = await startedFakes();
  await engine.flush();
  archive.hold('apply');
  await engine.submit(new SyncItem('a', 'x'));
  const late = rejection(engine.flush({ timeoutMs: 300 }));
  const controller = new AbortController();
  const given = rejection(engine.flush({ signal: controller.signal }));
  await ports.clock.pass(300);
  controller.abort();
  expect(await late).toMatchObject({ code: 'DEADLINE', context: { remaining: 1 } });
  expect(await given).toMatchObject({ code: 'ABORTED', outcome: 'indeterminate' });
});

test('without a log, memory keeps what SQL has not taken, and health says what that means', async () => {
  const { engine, archive, ports } = await startedFakes({}, { withLog: false });
  expect((await engine.submit(new SyncItem('a', 'x'))).ack).toBe('memory');
  archive.down = true;
  await ports.clock.pass(5000);
  expect((await engine.healthCheck()).warnings.join()).toContain('a crash would lose them');
  archive.down = false;
  await ports.clock.pass(2000);
  expect(archive.rows.has('a')).toBe(true);
  expect(() => engine.walStats()).toThrow('no log');
});

test("with walMode 'outage' what waited for SQL is logged when SQL goes away", async () => {
  const { engine, archive, store, ports } = await startedFakes({ walMode: 'outage', batchFlushMs: 60_000 });
  const waiting = engine.submit(new SyncItem('a', 'x'), { ack: 'wal' });
  archive.down = true;
  for (let at = 0; at < 5; at++) await rejection(engine.get('probe'));
  await ports.clock.pass(100);
  expect(await waiting).toMatchObject({ ack: 'wal' });
  expect(store.of('a')).toHaveLength(1);
});
