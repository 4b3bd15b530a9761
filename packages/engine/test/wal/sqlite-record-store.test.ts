import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { SyncEngine, SyncItem } from '#engine/index.js';
import { essence, revision } from '#engine/testing/revisions.js';
import { SqliteRecordStore } from '#engine/wal/sqlite-record-store.js';
import { fileConfig, rejection, temporaryDirectory } from '../support/engines.js';

const OPTIONS = { nodeId: 'n', newLogId: 'f'.repeat(32), newNodeId: 'other' };
const DYING = new URL('../support/dying-wal-worker.mjs', import.meta.url);

function storeOn(path: string, entry?: URL): SqliteRecordStore {
  const store = new SqliteRecordStore(path, 'the test', entry);
  onTestFinished(() => store.close());
  return store;
}

test('groups committed without waiting take effect in order and are loaded again', async () => {
  const path = join(temporaryDirectory(), 'log.db');
  const store = storeOn(path);
  await store.open(OPTIONS);
  const { nextPosition } = await store.load(() => {});
  const first = revision({ id: 'é\0😀', content: Buffer.from([0, 255, 1]) });
  const second = revision({ id: 'b', state: 'Prüfung', homeInstanceId: 'h' });
  await Promise.all([
    store.commit({ firstPosition: nextPosition, appends: [first], removes: [] }),
    store.commit({ firstPosition: nextPosition + 1, appends: [second], removes: [nextPosition] }),
    store.commit({ firstPosition: nextPosition + 2, appends: [first], removes: [], meta: { clockMark: 7 } }),
  ]);
  expect(store.fileBytes).toBeGreaterThan(0);
  await store.close();
  const again = storeOn(path);
  expect(await again.open(OPTIONS)).toMatchObject({ clockMark: 7, incarnation: 2 });
  const loaded: unknown[] = [];
  await again.load((records) => loaded.push(...records.map((record) => essence(record.revision))));
  expect(loaded).toEqual([essence(second), essence(first)]);
});

test('a large log is loaded in portions', async () => {
  const store = storeOn(join(temporaryDirectory(), 'log.db'));
  await store.open(OPTIONS);
  const { nextPosition } = await store.load(() => {});
  const appends = Array.from({ length: 3000 }, (_, at) =>
    revision({ id: `a${at}`, content: Buffer.alloc(1000, at) }),
  );
  await store.commit({ firstPosition: nextPosition, appends, removes: [] });
  const portions: number[] = [];
  await store.load((records) => portions.push(records.length));
  expect(portions.length).toBeGreaterThan(2);
  expect(portions.reduce((sum, count) => sum + count, 0)).toBe(3000);
});

test('when the thread dies in mid-commit the writer is told, and the store can be opened again', async () => {
  const path = join(temporaryDirectory(), 'log.db');
  const store = storeOn(path, DYING);
  await store.open(OPTIONS);
  const { nextPosition } = await store.load(() => {});
  await store.commit({ firstPosition: nextPosition, appends: [revision()], removes: [] });
  const deadly = { firstPosition: nextPosition + 1, appends: [revision({ id: 'die' })], removes: [] };
  expect(await rejection(store.commit(deadly))).toMatchObject({
    code: 'WAL_FAILED',
    outcome: 'indeterminate',
  });
  expect(await rejection(store.commit(deadly))).toMatchObject({ code: 'WAL_FAILED' });
  await store.open(OPTIONS);
  const ids: string[] = [];
  await store.load((records) => ids.push(...records.map((record) => record.revision.id)));
  expect(ids).toEqual(['a']);
});

test('after a commit of unknown outcome the store opens with a fresh thread, and has what was durable', async () => {
  const store = storeOn(join(temporaryDirectory(), 'log.db'));
  await store.open(OPTIONS);
  const { nextPosition } = await store.load(() => {});
  await store.commit({ firstPosition: nextPosition, appends: [revision()], removes: [] });
  const again = { firstPosition: nextPosition, appends: [revision({ id: 'b' })], removes: [] };
  expect(await rejection(store.commit(again))).toMatchObject({
    code: 'WAL_FAILED',
    outcome: 'indeterminate',
  });
  expect(await rejection(store.load(() => {}))).toMatchObject({ code: 'WAL_FAILED' });
  for (let round = 0; round < 2; round++) {
    // The second time from a store that is open: the thread that has the file makes way.
    await store.open(OPTIONS);
    const ids: string[] = [];
    await store.load((records) => ids.push(...records.map((record) => record.revision.id)));
    expect(ids).toEqual(['a']);
    expect(store.fileBytes).toBeGreaterThan(0);
  }
});

test('an engine whose log thread dies goes on, and loses nothing', async () => {
  const directory = temporaryDirectory();
  const { sqlUrl, walPath } = fileConfig(directory) as { sqlUrl: string; walPath: string };
  const store = new SqliteRecordStore(walPath, 'the test', DYING);
  const engine = new SyncEngine({ sqlUrl, batchFlushMs: 60_000 }, { recordStore: store });
  await engine.start();
  await engine.submit(new SyncItem('a', '1'));
  expect(await rejection(engine.submit(new SyncItem('die', '2')))).toMatchObject({
    code: 'WAL_FAILED',
    outcome: 'indeterminate',
  });
  // Reopened by itself; the write that killed the thread kills it again, until SQL has it.
  await engine.flush();
  expect((await engine.get('die', { fresh: true }))?.text()).toBe('2');
  await expect.poll(async () => (await engine.healthCheck()).healthy, { timeout: 10_000 }).toBe(true);
  expect((await engine.submit(new SyncItem('b', '3'))).ack).toBe('wal');
  expect(await engine.shutdown()).toMatchObject({ remaining: 0 });
});
