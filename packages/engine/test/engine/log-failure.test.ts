/** The log fails in every way it can, and the engine goes on. */

import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SyncEngine, SyncEngineError, SyncItem } from '#engine/index.js';
import { rejection, startedFakes, temporaryDirectory } from '../support/engines.js';
import { FakeArchive } from '../support/fake-archive.js';
import { settle } from '../support/manual-ports.js';
import { slowTest } from '../support/slow.js';

const full = new SyncEngineError('WAL_FULL', 'the disk is full', { outcome: 'indeterminate' });
const failed = new SyncEngineError('WAL_FAILED', 'fsync failed', { outcome: 'indeterminate' });

describe('a full disk', () => {
  test('fails who waits for it, keeps the write, and is tried again until there is space', async () => {
    const archive = new FakeArchive();
    archive.hidden = false;
    const { engine, store, ports } = await startedFakes({}, { archive });
    archive.hold('apply');
    store.failure = { error: full, keep: false };
    const error = await rejection(engine.submit(new SyncItem('a', 'x')));
    expect(error).toMatchObject({ code: 'WAL_FULL', outcome: 'indeterminate', retryable: true });
    expect((await engine.get('a'))?.text()).toBe('x');
    expect((await engine.healthCheck()).warnings.join()).toContain('disk is full');
    await ports.clock.pass(1000);
    expect(store.of('a')).toHaveLength(1);
    expect((await engine.submit(new SyncItem('b', 'y'))).ack).toBe('wal');
    expect((await engine.healthCheck()).warnings).toEqual([]);
  });

  test('SQL acknowledges in its place', async () => {
    const { engine, store, ports } = await startedFakes();
    store.failure = { error: full, keep: false };
    await rejection(engine.submit(new SyncItem('a', 'x')));
    const submitted = engine.submit(new SyncItem('b', 'y'), { ack: 'wal' });
    await ports.clock.pass(100);
    expect(await submitted).toMatchObject({ ack: 'stored' });
  });

  test('with SQL away as well, who waits for the log is refused at once', async () => {
    const { engine, archive, store, ports } = await startedFakes();
    archive.down = true;
    await rejection(engine.get('probe'));
    await engine.submit(new SyncItem('first', 'x'));
    await ports.clock.pass(2000);
    store.failure = { error: full, keep: false };
    await rejection(engine.submit(new SyncItem('a', 'x')));
    const error = await rejection(engine.submit(new SyncItem('b', 'y')));
    expect(error).toMatchObject({ code: 'WAL_FULL', outcome: 'not-applied' });
    expect(engine.peek('b')).toBeUndefined();
    expect((await engine.submit(new SyncItem('c', 'z'), { ack: 'memory' })).ack).toBe('memory');
  });

  test('the older record of an id stays until the newer one is there', async () => {
    const { engine, archive, store, ports } = await startedFakes();
    archive.hold('apply');
    await engine.submit(new SyncItem('a', 'acknowledged'));
    store.failure = { error: full, keep: false };
    await rejection(engine.submit(new SyncItem('a', 'newer')));
    expect(store.of('a').map((record) => record.content.toString())).toEqual(['acknowledged']);
    await ports.clock.pass(1000);
    expect(store.of('a').map((record) => record.content.toString())).toEqual(['newer']);
  });

  test('releases go first when there is space for nothing else', async () => {
    const { engine, archive, store, ports } = await startedFakes();
    const release = archive.hold('apply');
    await engine.submit(new SyncItem('a', 'x'));
    await ports.clock.pass(100);
    store.failure = { error: full, keep: false };
    const waiting = rejection(engine.submit(new SyncItem('b', 'y')));
    release();
    await waiting;
    const groups = store.groups.length;
    await ports.clock.pass(1000);
    const [first] = store.groups.slice(groups);
    expect(first).toMatchObject({ appends: [] });
    expect(first?.removes.length).toBeGreaterThan(0);
  });
});

describe.each([true, false])('a commit of unknown fate (kept: %s)', (keep) => {
  test('fails its writers; the log is opened again and holds exactly what is pending', async () => {
    const { engine, archive, store } = await startedFakes();
    archive.hold('apply');
    await engine.submit(new SyncItem('before', '1'));
    store.failure = { error: failed, keep };
    const lost = rejection(engine.submit(new SyncItem('a', '2')));
    expect(await lost).toMatchObject({ code: 'WAL_FAILED', outcome: 'indeterminate' });
    await settle();
    expect(store.opens).toBe(2);
    expect(store.of('before')).toHaveLength(1);
    expect(store.of('a')).toHaveLength(1);
    expect(await engine.status('a')).toEqual({ kind: 'pending', ack: 'wal' });
    expect((await engine.submit(new SyncItem('after', '3'))).ack).toBe('wal');
    expect(engine.walStats().pendingItems).toBe(3);
  });

  test('writes that come meanwhile are logged when it is open again', async () => {
    const { engine, archive, store } = await startedFakes();
    archive.hold('apply');
    store.failure = { error: failed, keep };
    const first = rejection(engine.submit(new SyncItem('a', '1')));
    await settle(1);
    const second = engine.submit(new SyncItem('a', '2'));
    await first;
    expect((await second).ack).toBe('wal');
    expect(store.of('a').map((record) => record.content.toString())).toEqual(['2']);
  });

  test('what was released in the group is released in the end, and nothing else', async () => {
    const { engine, archive, store, ports } = await startedFakes();
    await engine.submit(new SyncItem('a', '1'));
    await ports.clock.pass(99);
    store.failure = { error: failed, keep };
    await ports.clock.pass(5000);
    expect(archive.rows.has('a')).toBe(true);
    expect(store.records.size).toBe(0);
    expect(engine.walStats().pendingItems).toBe(0);
    expect(await engine.status('a')).toMatchObject({ kind: 'synced' });
    expect(await engine.healthCheck()).toMatchObject({ healthy: true });
  });
});

test('a log that cannot be opened again is tried every second', async () => {
  const { engine, store, ports } = await startedFakes();
  store.openFailure = failed;
  store.failure = { error: failed, keep: false };
  await rejection(engine.submit(new SyncItem('a', 'x')));
  await ports.clock.pass(3500);
  expect(store.opens).toBe(5);
  expect((await engine.healthCheck()).warnings.join()).toContain('opened and verified again every second');
  store.openFailure = undefined;
  await ports.clock.pass(1000);
  expect(await engine.healthCheck()).toMatchObject({ healthy: true });
});

test('nobody is told "stored" while the log holds an older record of the id', async () => {
  // A crash would replay the older record, and it would be read until it had lost to the newer row.
  const { engine, archive, store, ports } = await startedFakes();
  const applied = archive.hold('apply');
  await engine.submit(new SyncItem('a', 'older'));
  const committed = store.hold();
  let told = false;
  const newer = engine.submit(new SyncItem('a', 'newer'), { ack: 'stored' }).then((receipt) => {
    told = true;
    return receipt;
  });
  applied();
  await ports.clock.pass(1000);
  expect(archive.rows.get('a')?.content.toString()).toBe('newer');
  expect(store.of('a').map((record) => record.content.toString())).toEqual(['older']);
  expect(told).toBe(false);
  committed();
  expect((await newer).ack).toBe('stored');
});

test("with walMode 'outage' only what SQL could not take is logged", async () => {
  const { engine, archive, store, ports } = await startedFakes({ walMode: 'outage' });
  const submitted = engine.submit(new SyncItem('a', 'x'), { ack: 'wal' });
  await ports.clock.pass(200);
  expect(await submitted).toMatchObject({ ack: 'stored' });
  expect(store.groups.every((group) => group.appends.length === 0)).toBe(true);
  archive.down = true;
  const logged = engine.submit(new SyncItem('b', 'y'), { ack: 'wal' });
  await ports.clock.pass(200);
  expect(await logged).toMatchObject({ ack: 'wal' });
  expect(store.of('b')).toHaveLength(1);
  await ports.clock.pass(3000);
  expect((await engine.submit(new SyncItem('c', 'z'), { ack: 'wal' })).ack).toBe('wal');
  archive.down = false;
  await ports.clock.pass(3000);
  expect(archive.rows.size).toBe(3);
  expect(store.records.size).toBe(0);
});

test('two records of one id, which only a torn file can hold: the newer wins and the older is removed', async () => {
  const { engine: first, archive, store } = await startedFakes();
  archive.down = true;
  await first.submit(new SyncItem('a', 'older'));
  await first.submit(new SyncItem('b', 'x'));
  const [older] = store.of('a');
  await first.submit(new SyncItem('a', 'newer'));
  if (older === undefined) throw new Error('Nothing was logged.');
  store.records.set(store.nextPosition++, older);
  const { engine, ports } = await startedFakes({}, { archive, store });
  await ports.clock.pass(10);
  expect((await engine.get('a'))?.text()).toBe('newer');
  expect(store.of('a').map((record) => record.content.toString())).toEqual(['newer']);
});

// Memory took it that nothing of the group was kept. It was, so the log held an older record than what SQL had: after a
// restart the deleted item was back.
test('a delete is not called stored while a group that failed may have left an older record', async () => {
  const { engine, archive, store, ports } = await startedFakes({});
  store.failure = { error: new SyncEngineError('WAL_FAILED', 'fsync'), keep: true };
  store.openFailure = new SyncEngineError('WAL_FAILED', 'cannot be opened yet');
  await engine.submit(new SyncItem('a', 'v1'), { ack: 'memory' });
  await ports.clock.pass(500);
  let told = false;
  const deleted = engine.delete('a', { ack: 'stored' }).then((receipt) => {
    told = true;
    return receipt;
  });
  await ports.clock.pass(500);
  expect(archive.rows.get('a')?.deleted).toBe(true);
  expect(store.of('a')).toHaveLength(1);
  expect(told).toBe(false);
  store.openFailure = undefined;
  await ports.clock.pass(3000);
  expect(await deleted).toMatchObject({ ack: 'stored' });
  expect(store.records.size).toBe(0);
});

// The text of a refusal did not fit into its record: the log failed with every group, for ever.
slowTest('a refusal with a long text does not stop the log', async () => {
  const archive = new FakeArchive();
  archive.refuses = (write) => (write.id === 'bad' ? '\ud83dx'.repeat(70_000) : undefined);
  const engine = new SyncEngine(
    { walPath: join(temporaryDirectory(), 'log.db'), batchFlushMs: 1 },
    { archive },
  );
  onTestFinished(async () => void (await engine.shutdown({ deadlineMs: 100 })));
  await engine.start();
  const refused = new Promise((resolve) => engine.on('deadLetter', resolve));
  await engine.submit(new SyncItem('bad', 'v1'), { ack: 'memory' });
  await refused;
  archive.hold('apply');
  expect((await engine.submit(new SyncItem('good', 'v1'), { ack: 'wal' })).ack).toBe('wal');
  expect((await engine.healthCheck()).warnings.join()).not.toContain('The log has failed');
  const [letter] = await engine.deadLetters.list();
  expect(letter?.reason.length).toBeLessThan(2000);
});
