/** The filter answers for ids that do not exist, and never denies one that does. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SyncItem } from '#engine/index.js';
import { fileEngine, startedFakes, temporaryDirectory } from '../support/engines.js';
import { FakeArchive } from '../support/fake-archive.js';
import { settle } from '../support/manual-ports.js';

function open(): FakeArchive {
  const archive = new FakeArchive();
  archive.hidden = false;
  return archive;
}

const soon = { batchFlushCount: 1 };

test('trusted, it answers for ids that do not exist without SQL, in an outage too', async () => {
  const archive = open();
  const { engine } = await startedFakes(soon, { archive });
  await engine.submit(new SyncItem('a', 'x'), { ack: 'stored' });
  archive.reads = [];
  expect(await engine.get('missing')).toBeUndefined();
  expect(await engine.getMany(['missing', 'a', 'none'])).toMatchObject([undefined, { id: 'a' }, undefined]);
  expect(await engine.contains('missing')).toBe(false);
  expect(archive.reads).toEqual([]);
  archive.down = true;
  expect(await engine.get('missing')).toBeUndefined();
  expect(engine.definitelyMissing('missing')).toBe(true);
  expect(engine.mightExist('a')).toBe(true);
  expect(engine.filterStats()).toMatchObject({ trust: 'trusted', items: 1, excluded: 6 });
});

test('an id is not missing from the moment it is submitted, nor existing from that of its delete', async () => {
  const archive = open();
  const { engine } = await startedFakes({}, { archive });
  archive.hold('apply');
  await engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
  expect(engine.definitelyMissing('a')).toBe(false);
  await engine.delete('a', { ack: 'memory' });
  expect(engine.definitelyMissing('a')).toBe(true);
});

test('evicted from memory, an id is still known', async () => {
  const engine = await fileEngine(temporaryDirectory(), { l1MaxBytes: 64 * 1024 });
  for (let at = 0; at < 500; at++)
    await engine
      .submit(new SyncItem(`id${at}`, 'x'.repeat(100)), { ack: 'memory' })
      .catch(() => engine.flush());
  await engine.flush();
  expect(engine.size).toBeLessThan(200);
  const present = await engine.getMany(Array.from({ length: 500 }, (_, at) => `id${at}`));
  expect(present.filter((item) => item !== undefined).length).toBe(await engine.countPrefix('id'));
  expect(await engine.verifyFilter()).toMatchObject({ trusted: true, missing: 0 });
});

test('a commit whose answer was lost is learned when it is repeated', async () => {
  const archive = open();
  const { engine, ports } = await startedFakes({ batchFlushMs: 10 }, { archive });
  archive.loseReplies = 1;
  await engine.submit(new SyncItem('a', 'x'));
  await ports.clock.pass(5000);
  await engine.submit(new SyncItem('b', 'x'));
  await ports.clock.pass(5000);
  expect(archive.tables.head.position).toBe(2);
  expect(await engine.verifyFilter()).toEqual({ trusted: true, checked: 2, missing: 0 });
});

test('rows that another process wrote while SQL was away are learned before "no" is said again', async () => {
  const archive = open();
  const { engine, ports } = await startedFakes({ ...soon, batchFlushMs: 10 }, { archive });
  await engine.submit(new SyncItem('a', 'x'), { ack: 'stored' });
  archive.down = true;
  await engine.submit(new SyncItem('b', 'x'));
  await ports.clock.pass(5000);
  archive.tables.apply([
    {
      id: 'foreign',
      version: 1,
      origin: 'other\0\0\0\0\0\0\0\0\0\0\x01',
      deleted: false,
      contentType: 'binary',
      state: 'default',
      content: Buffer.from('y'),
    },
  ]);
  const release = archive.hold('read');
  archive.down = false;
  await ports.clock.pass(1100);
  expect(engine.definitelyMissing('foreign')).toBe(false);
  expect(engine.filterStats().trust).toBe('untrusted');
  release();
  await ports.clock.pass(1100);
  await settle();
  expect(engine.filterStats().trust).toBe('trusted');
  expect((await engine.get('foreign'))?.text()).toBe('y');
});

test('after a crash the snapshot is caught up with; after a loss of it every id is read', async () => {
  const directory = temporaryDirectory();
  const first = await fileEngine(directory, { filterSnapshotInsertThreshold: 1 });
  for (let at = 0; at < 300; at++) await first.submit(new SyncItem(`id${at}`, 'x'), { ack: 'memory' });
  await first.flush();
  await first.shutdown();
  const snapshot = join(directory, 'log.db-filter');
  expect(existsSync(snapshot)).toBe(true);
  const old = readFileSync(snapshot);
  const second = await fileEngine(directory);
  expect(second.filterStats().trust).toBe('trusted');
  expect(second.definitelyMissing('none')).toBe(true);
  await second.submit(new SyncItem('later', 'x'), { ack: 'stored' });
  await second.shutdown();
  // As after a crash before the next save: the snapshot is older than SQL.
  writeFileSync(snapshot, old);
  const third = await fileEngine(directory);
  await third.warmUp();
  expect(await third.verifyFilter()).toEqual({ trusted: true, checked: 301, missing: 0 });
  await third.shutdown();
  writeFileSync(snapshot, Buffer.concat([old.subarray(0, 1000), Buffer.alloc(100), old.subarray(1100)]));
  const fourth = await fileEngine(directory);
  await fourth.warmUp();
  expect(await fourth.verifyFilter()).toEqual({ trusted: true, checked: 301, missing: 0 });
  expect((await fourth.healthCheck()).filterItems).toBe(301);
});

test('a filter that denies a row is distrusted and built anew', async () => {
  const archive = open();
  const { engine } = await startedFakes(soon, { archive });
  await engine.submit(new SyncItem('a', 'x'), { ack: 'stored' });
  // Behind the engine's back, as no owner of a file ever sees it.
  const row = archive.rows.get('a');
  if (row !== undefined) archive.rows.set('hidden', { ...row, id: 'hidden' });
  expect(await engine.verifyFilter()).toEqual({ trusted: false, checked: 2, missing: 1 });
  await settle();
  expect(engine.filterStats()).toMatchObject({ trust: 'trusted', items: 2 });
  expect((await engine.get('hidden'))?.text()).toBe('x');
});

test('while it is being built, health says how far, and every miss asks SQL', async () => {
  const archive = new FakeArchive();
  const { engine } = await startedFakes({}, { archive });
  archive.reads = [];
  expect(await engine.get('missing')).toBeUndefined();
  expect(archive.reads).toEqual([['missing']]);
  expect((await engine.healthCheck()).filterTrust).toBe('untrusted');
  expect((await engine.healthCheck()).warnings.join()).toContain('The filter is being built');
});

test('when more than a tenth of the ids was collected, it is built anew without them, and goes on serving', async () => {
  const archive = open();
  const { engine, ports } = await startedFakes(soon, { archive });
  for (let at = 0; at < 20; at++) await engine.submit(new SyncItem(`id${at}`, 'x'), { ack: 'stored' });
  for (let at = 0; at < 10; at++) await engine.delete(`id${at}`, { ack: 'stored' });
  await settle();
  expect(engine.filterStats().items).toBe(20);
  ports.clock.jumpWall(8 * 24 * 60 * 60 * 1000);
  await engine.tick();
  expect(engine.filterStats().trust).toBe('trusted');
  await settle();
  expect(archive.rows.size).toBe(10);
  expect(engine.filterStats()).toMatchObject({ trust: 'trusted', items: 10, building: undefined });
  expect(await engine.verifyFilter()).toEqual({ trusted: true, checked: 10, missing: 0 });
});
