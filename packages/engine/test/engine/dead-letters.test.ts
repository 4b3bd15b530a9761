/** A row that SQL refuses for its own sake harms only itself. */
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { expect, test } from 'vitest';
import { SyncEngine, SyncEngineError, SyncItem } from '#engine/index.js';
import { fileConfig, fileEngine, rejection, startedFakes, temporaryDirectory } from '../support/engines.js';
import { FakeArchive } from '../support/fake-archive.js';
import { settle } from '../support/manual-ports.js';

const bad = (text = 'bad'): SyncItem => new SyncItem('bad', text);

function refusing(): FakeArchive {
  const archive = new FakeArchive();
  archive.refuses = (write) => (write.content.toString().startsWith('bad') ? 'too odd' : undefined);
  return archive;
}

test('one refused row among many is found by halving; all others are stored', async () => {
  const { engine, archive, store, ports } = await startedFakes({ batchFlushMs: 10 }, { archive: refusing() });
  const events: string[] = [];
  engine.on('deadLetter', ({ id, error }) => events.push(`${id} ${error.code}`));
  const items = Array.from(
    { length: 100 },
    (_, at) => new SyncItem(at === 37 ? 'bad' : `ok${at}`, at === 37 ? 'bad' : 'x'),
  );
  const writing = engine.submitMany(items, { ack: 'stored' });
  await ports.clock.pass(100);
  const result = await writing;
  expect([result.succeeded, result.failed]).toEqual([99, 1]);
  expect(result.results[37]).toMatchObject({
    code: 'REJECTED',
    outcome: 'indeterminate',
    context: { id: 'bad' },
  });
  expect(archive.rows.size).toBe(99);
  expect(events).toEqual(['bad REJECTED']);
  expect(store.of('bad')).toMatchObject([{ refusal: { reason: 'too odd' } }]);
  expect(store.records.size).toBe(1);
});

test('it is shown by reads, status, health and the list, and holds up neither flush nor shutdown', async () => {
  const { engine, ports } = await startedFakes({ batchFlushMs: 10 }, { archive: refusing() });
  await engine.submit(new SyncItem('bad', 'older'), { ack: 'memory' });
  await ports.clock.pass(100);
  await engine.submit(bad());
  const flushing = rejection(engine.flush());
  await ports.clock.pass(100);
  expect((await flushing).code).toBe('REJECTED');
  expect((await engine.get('bad'))?.text()).toBe('bad');
  expect(await engine.status('bad')).toMatchObject({ kind: 'deadLetter', error: { code: 'REJECTED' } });
  const health = await engine.healthCheck();
  expect(health.deadLetters).toBe(1);
  expect(health.warnings.join()).toContain('1 writes are set aside');
  expect(await engine.deadLetters.list()).toMatchObject([{ id: 'bad', reason: 'too odd', deleted: false }]);
  await engine.flush();
  expect(await engine.shutdown()).toEqual({ flushed: 0, remaining: 0 });
});

test('it is there after a restart, and is not tried again by itself', async () => {
  const { engine, archive, store, ports } = await startedFakes({ batchFlushMs: 10 }, { archive: refusing() });
  await engine.submit(bad());
  await ports.clock.pass(100);
  await engine.shutdown();
  archive.applies = [];
  const { engine: next, ports: later } = await startedFakes({}, { archive, store });
  await later.clock.pass(5000);
  expect(archive.applies).toEqual([]);
  expect((await next.get('bad'))?.text()).toBe('bad');
  expect(await next.deadLetters.list()).toMatchObject([{ id: 'bad', reason: 'too odd' }]);
});

test('a letter that was superseded in SQL before a crash does not shadow what superseded it', async () => {
  const { engine, archive, store, ports } = await startedFakes({ batchFlushMs: 10 }, { archive: refusing() });
  const { version } = await engine.submit(bad());
  await ports.clock.pass(100);
  await engine.shutdown();
  // The newer write reached SQL; the log died before it could forget the letter.
  const [letter] = store.of('bad');
  if (letter === undefined) throw new Error('The letter was not logged.');
  const { refusal: _refusal, ...write } = letter;
  archive.tables.apply([{ ...write, version: version + 1, content: Buffer.from('newer') }]);
  const { engine: next, ports: later } = await startedFakes({}, { archive, store });
  expect((await next.get('bad'))?.text()).toBe('newer');
  expect(await next.deadLetters.list()).toEqual([]);
  await later.clock.pass(100);
  expect(store.records.size).toBe(0);
});

test('retry stores it under a new version once the cause is gone, and is refused again before', async () => {
  const { engine, archive, store, ports } = await startedFakes({ batchFlushMs: 10 }, { archive: refusing() });
  const { version } = await engine.submit(bad());
  await ports.clock.pass(100);
  const again = rejection(engine.deadLetters.retry('bad'));
  await ports.clock.pass(100);
  expect((await again).code).toBe('REJECTED');
  expect((await engine.healthCheck()).deadLetters).toBe(1);
  archive.refuses = () => undefined;
  const retrying = engine.deadLetters.retry('bad');
  await ports.clock.pass(100);
  await retrying;
  expect(archive.rows.get('bad')?.content.toString()).toBe('bad');
  expect(archive.rows.get('bad')?.version).toBeGreaterThan(version);
  expect(store.records.size).toBe(0);
  expect((await engine.healthCheck()).deadLetters).toBe(0);
  expect((await rejection(engine.deadLetters.retry('bad'))).code).toBe('CONFIG');
});

test('retry gives way to what is newer in SQL than the letter was', async () => {
  const { engine, archive, ports } = await startedFakes({ batchFlushMs: 10 }, { archive: refusing() });
  const { version } = await engine.submit(bad());
  await ports.clock.pass(100);
  archive.refuses = () => undefined;
  archive.tables.apply([
    {
      id: 'bad',
      version: version + 1,
      origin: 'other\0\0\0\0\0\0\0\0\0\0\x01',
      deleted: false,
      contentType: 'binary',
      state: 'default',
      content: Buffer.from('from elsewhere'),
    },
  ]);
  const retrying = engine.deadLetters.retry('bad');
  await ports.clock.pass(100);
  await retrying;
  expect(archive.rows.get('bad')?.content.toString()).toBe('from elsewhere');
  expect((await engine.get('bad', { fresh: true }))?.text()).toBe('from elsewhere');
});

test('discard reveals what SQL holds, a newer write supersedes, and neither comes back', async () => {
  const { engine, archive, store, ports } = await startedFakes({ batchFlushMs: 10 }, { archive: refusing() });
  const first = engine.submit(new SyncItem('bad', 'good'), { ack: 'stored' });
  await ports.clock.pass(100);
  await first;
  await engine.submit(bad());
  await ports.clock.pass(100);
  await engine.deadLetters.discard('bad');
  expect((await engine.get('bad'))?.text()).toBe('good');
  await engine.submit(bad('bad again'));
  await ports.clock.pass(100);
  const better = engine.submit(new SyncItem('bad', 'better'), { ack: 'stored' });
  await ports.clock.pass(100);
  await better;
  expect(await engine.deadLetters.list()).toEqual([]);
  expect(store.records.size).toBe(0);
  await engine.shutdown();
  const { engine: next } = await startedFakes({}, { archive, store });
  expect(await next.deadLetters.list()).toEqual([]);
  expect((await next.get('bad', { fresh: true }))?.text()).toBe('better');
});

test('without a log, a letter stays in SQL until what supersedes it is stored', async () => {
  const { engine, archive, ports } = await startedFakes(
    { batchFlushMs: 10 },
    { archive: refusing(), withLog: false },
  );
  await engine.submit(bad());
  await ports.clock.pass(100);
  await engine.submit(new SyncItem('bad', 'better'));
  // In the batcher still: a crash now would lose it.
  await settle();
  expect(archive.tables.letters()).toMatchObject([{ reason: 'too odd' }]);
  await ports.clock.pass(100);
  expect(archive.rows.get('bad')?.content.toString()).toBe('better');
  expect(archive.tables.letters()).toEqual([]);
});

test('a write that was coalesced under a newer one is not set aside', async () => {
  const { engine, archive, ports } = await startedFakes({ batchFlushMs: 10 }, { archive: refusing() });
  const release = archive.hold('apply');
  await engine.submit(bad(), { ack: 'memory' });
  await ports.clock.pass(20);
  await engine.submit(new SyncItem('bad', 'better'), { ack: 'memory' });
  release();
  await ports.clock.pass(100);
  expect((await engine.healthCheck()).deadLetters).toBe(0);
  expect(archive.rows.get('bad')?.content.toString()).toBe('better');
});

test('a refused delete is a letter without an item', async () => {
  const archive = new FakeArchive();
  archive.refuses = (write) => (write.deleted ? 'no deletes' : undefined);
  const { engine, ports } = await startedFakes({ batchFlushMs: 10 }, { archive });
  const first = engine.submit(new SyncItem('a', 'x'), { ack: 'stored' });
  await ports.clock.pass(100);
  await first;
  await engine.delete('a');
  await ports.clock.pass(100);
  expect(await engine.get('a')).toBeUndefined();
  expect(await engine.deadLetters.list()).toMatchObject([{ id: 'a', deleted: true, item: undefined }]);
  await engine.deadLetters.discard('a');
  expect((await engine.get('a'))?.text()).toBe('x');
});

test('letters count in the fill of the log', async () => {
  const { engine, ports } = await startedFakes({ batchFlushMs: 10, walMaxItems: 3 }, { archive: refusing() });
  for (const id of ['1', '2', '3']) await engine.submit(new SyncItem(id, 'bad'));
  await ports.clock.pass(100);
  expect((await engine.healthCheck()).deadLetters).toBe(3);
  expect((await rejection(engine.submit(new SyncItem('4', 'x')))).code).toBe('BACKPRESSURE');
});

test('an outage sets nothing aside', async () => {
  const { engine, archive, ports } = await startedFakes({ batchFlushMs: 10 });
  archive.down = true;
  await engine.submit(new SyncItem('a', 'x'));
  await ports.clock.pass(30_000);
  expect((await engine.healthCheck()).deadLetters).toBe(0);
  archive.down = false;
  await ports.clock.pass(2000);
  expect(archive.rows.has('a')).toBe(true);
});

test.each([
  ['with a log', true],
  ['without one, in a table of the archive', false],
])('on SQLite %s, a refused row survives a restart', async (_name, withLog) => {
  const directory = temporaryDirectory();
  const config = withLog ? {} : { walPath: undefined };
  const first = new SyncEngine({ ...fileConfig(directory), ...config } as never);
  await first.start();
  await first.submit(new SyncItem('good', 'x'), { ack: 'stored' });
  await first.shutdown();
  const database = new Database(join(directory, 'archive.db'));
  database.exec(
    `CREATE TRIGGER odd BEFORE INSERT ON sync_items WHEN NEW.id = 'bad' BEGIN SELECT RAISE(ABORT, 'an odd one'); END`,
  );
  database.close();
  const second = await fileEngine(directory, config as never);
  const result = await second.submitMany([new SyncItem('better', 'x'), bad(), new SyncItem('best', 'x')], {
    ack: 'stored',
  });
  expect([result.succeeded, result.failed]).toEqual([2, 1]);
  expect(result.results[1]).toMatchObject({ code: 'REJECTED' });
  await second.shutdown();
  const third = await fileEngine(directory, config as never);
  expect((await third.get('bad'))?.text()).toBe('bad');
  expect(await third.deadLetters.list()).toMatchObject([{ id: 'bad', reason: 'an odd one' }]);
  await third.deadLetters.discard('bad');
  await third.shutdown();
  const fourth = await fileEngine(directory, config as never);
  expect(await fourth.get('bad')).toBeUndefined();
  expect(await fourth.deadLetters.list()).toEqual([]);
});

// The promise waited for a log that had failed, or was closed, for ever.
test.each(['fails', 'is closed'])(
  'discarding one while the log %s ends, and says what is left to do',
  async (how) => {
    const fakes = await startedFakes({ batchFlushMs: 10 }, { archive: refusing() });
    const { engine, store, ports } = fakes;
    await engine.submit(bad());
    await ports.clock.pass(100);
    const open = store.hold();
    if (how === 'fails')
      store.failure = { error: new SyncEngineError('WAL_FAILED', 'fsync failed'), keep: false };
    const discarded = rejection(engine.deadLetters.discard('bad'));
    await ports.clock.pass(10);
    const closed = how === 'fails' ? undefined : engine.shutdown({ deadlineMs: 1000 });
    if (how === 'fails') open();
    await ports.clock.pass(3000);
    expect(await discarded).toMatchObject({ code: 'WAL_FAILED', outcome: 'indeterminate' });
    open();
    await closed;
    if (how === 'fails') {
      expect(store.records.size).toBe(0);
      expect(await engine.get('bad')).toBeUndefined();
    }
  },
);

// The release named the record that was under way; the one that was there stayed, and was written at the next start.
test('one that is discarded while the log is full is forgotten once there is room', async () => {
  const fakes = await startedFakes({}, { archive: refusing() });
  const { engine, store, ports } = fakes;
  await engine.submit(new SyncItem('bad', 'bad'), { ack: 'wal' });
  const release = store.hold();
  await ports.clock.pass(300);
  expect(await engine.deadLetters.list()).toHaveLength(1);
  store.failure = { error: new SyncEngineError('WAL_FULL', 'full'), keep: false };
  const discarded = engine.deadLetters.discard('bad').catch((error: SyncEngineError) => error.code);
  release();
  await ports.clock.pass(5000);
  expect(await discarded).toBe('WAL_FAILED');
  expect(store.records.size).toBe(0);
});
