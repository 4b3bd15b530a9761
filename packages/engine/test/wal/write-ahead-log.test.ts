import { expect, test } from 'vitest';
import { SyncEngineError } from '#engine/base/errors.js';
import { Entry } from '#engine/memory/entry.js';
import { revision } from '#engine/testing/revisions.js';
import { type LogEvents, WriteAheadLog } from '#engine/wal/write-ahead-log.js';
import { FakeRecordStore } from '../support/fake-record-store.js';
import { manualPorts, settle } from '../support/manual-ports.js';

const OPTIONS = { nodeId: 'n', newLogId: 'f'.repeat(32), newNodeId: 'other' };

/** A log of dirty entries that writes down what it tells, with the turn of the event loop. */
async function openedLog() {
  const store = new FakeRecordStore();
  const entries = new Map<string, Entry>();
  const told: { id: string; logged: boolean; turn: number; groups: number }[] = [];
  let turn = 0;
  let counting = true;
  const count = () => {
    turn++;
    if (counting) setImmediate(count);
  };
  const tell = (entry: Entry, logged: boolean) =>
    told.push({ id: entry.id, logged, turn, groups: store.groups.length });
  const events: LogEvents = {
    logged: (entry) => tell(entry, true),
    notLogged: (entry) => tell(entry, false),
    damaged: () => {},
    spilledLost: () => {},
    statusChanged: () => {},
  };
  const pending = {
    pending: (id: string) => entries.get(id),
    spilledPosition: () => 0,
    spilled: () => [],
    dirty: entries.values(),
  };
  const log = new WriteAheadLog(store, manualPorts(), pending, events);
  await log.open(OPTIONS);
  await log.load(() => {});
  setImmediate(count);
  let version = 1;
  const append = (name: string, writes: number) => {
    for (let at = 0; at < writes; at++) {
      const entry = new Entry(revision({ id: `${name}${at}`, version: version++ }), at, false);
      entry.dirty = true;
      entries.set(entry.id, entry);
      log.append(entry);
    }
  };
  const stop = async () => {
    counting = false;
    await log.close();
  };
  return { log, store, told, append, stop };
}

test('groups that are committed faster than the loop turns do not pile up until their writers are told', async () => {
  const { store, told, append, stop } = await openedLog();
  append('a', 40_000);
  await settle(1);
  // Commits end, and the loop takes no turn.
  let most = 0;
  for (let microtask = 0; microtask < 2000; microtask++) {
    await Promise.resolve();
    most = Math.max(most, store.records.size - told.length);
  }
  expect(store.records.size).toBeGreaterThan(30_000);
  expect(most).toBeLessThan(10_000);
  await settle(40);
  expect(told).toHaveLength(40_000);
  await stop();
});

test('the writers of a large group are told in order, over several turns of the event loop', async () => {
  const { store, told, append, stop } = await openedLog();
  append('a', 1200);
  await settle(40);
  await stop();
  expect(store.groups).toHaveLength(1);
  expect(told.map(({ id }) => id)).toEqual(Array.from({ length: 1200 }, (_, at) => `a${at}`));
  const perTurn = new Map<number, number>();
  for (const { turn } of told) perTurn.set(turn, (perTurn.get(turn) ?? 0) + 1);
  expect(Math.max(...perTurn.values())).toBeLessThanOrEqual(512);
});

test('the next group is sent before the writers of the one before it are told', async () => {
  const { store, told, append, stop } = await openedLog();
  const release = store.hold();
  append('a', 10);
  await settle(2);
  append('b', 10);
  await settle(2);
  expect(store.groups).toHaveLength(1);
  release();
  await settle();
  await stop();
  const first = told.find(({ id }) => id === 'a0');
  expect(first).toMatchObject({ logged: true, groups: 2 });
});

test('the log has settled only when all writers were told', async () => {
  const { log, told, append, stop } = await openedLog();
  append('a', 1200);
  await log.settled();
  expect(told).toHaveLength(1200);
  await stop();
});

test('what one group committed is told as logged although the next one fails meanwhile', async () => {
  const { store, told, append, stop } = await openedLog();
  const release = store.hold();
  append('a', 1200);
  await settle(2);
  append('b', 1);
  await settle(2);
  release();
  await Promise.resolve();
  store.failure = {
    error: new SyncEngineError('WAL_FULL', 'full', { outcome: 'indeterminate' }),
    keep: false,
  };
  await settle(40);
  await stop();
  expect(told.filter(({ logged }) => logged).map(({ id }) => id)).toEqual(
    Array.from({ length: 1200 }, (_, at) => `a${at}`),
  );
  expect(told.at(-1)).toMatchObject({ id: 'b0', logged: false });
});
