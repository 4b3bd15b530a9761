import { describe, expect, onTestFinished, test } from 'vitest';
import { SyncEngineError } from '#engine/base/errors.js';
import { Entry } from '#engine/memory/entry.js';
import { revision } from '#engine/testing/revisions.js';
import { type CommittedGroup, type LogEvents, WriteAheadLog } from '#engine/wal/write-ahead-log.js';
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

/** A log with everything it tells written down, and time that a test moves. */
async function watchedLog(setUp: (store: FakeRecordStore) => void = () => {}) {
  const store = new FakeRecordStore();
  setUp(store);
  const ports = manualPorts();
  const entries = new Map<string, Entry>();
  const spilled = new Map<string, number>();
  const told: string[] = [];
  const committed: CommittedGroup[] = [];
  const events: LogEvents = {
    logged: (entry, version) => told.push(`${entry.id} ${version} logged`),
    notLogged: (entry, version, error) => told.push(`${entry.id} ${version} ${error.code}`),
    damaged: (records) => told.push(`damaged ${records.map(({ position }) => position)}`),
    spilledLost: (id, position) => told.push(`${id} lost at ${position}`),
    statusChanged: (status, error) => told.push(`log ${status} ${error?.code}`),
    committed: (group) => committed.push(group),
  };
  const pending = {
    pending: (id: string) => entries.get(id),
    spilledPosition: (id: string) => spilled.get(id) ?? 0,
    spilled: () => [...spilled].map(([id, position]) => ({ id, position })),
    get dirty() {
      return [...entries.values()].filter(({ dirty }) => dirty);
    },
  };
  const log = new WriteAheadLog(store, ports, pending, events);
  await log.open(OPTIONS);
  const found: [string, number][] = [];
  await log.load((one, position) => found.push([one.id, position]));
  onTestFinished(() => log.close());
  const write = (id: string, version: number, bytes = 10): Entry => {
    const made = revision({ id, version, content: Buffer.alloc(bytes) });
    const entry = entries.get(id) ?? new Entry(made, entries.size, false);
    entry.revision = made;
    entry.sizeBytes = Math.max(entry.sizeBytes, bytes);
    entries.set(id, entry);
    log.append(entry);
    return entry;
  };
  const held = () => [...store.records].map(([position, { id, version }]) => `${position} ${id} ${version}`);
  return { store, ports, log, entries, spilled, told, committed, found, write, held };
}

const full = new SyncEngineError('WAL_FULL', 'the disk is full');
const failed = new SyncEngineError('WAL_FAILED', 'fsync failed', { context: { path: 'p' } });

test('of one id the log holds the newest record alone, and what was written twice in a turn goes there once', async () => {
  const { store, log, write, held, told } = await watchedLog();
  write('a', 1);
  write('b', 1);
  write('a', 2);
  await log.settled();
  expect(held()).toEqual(['1 a 2', '2 b 1']);
  write('a', 3);
  await log.settled();
  expect(held()).toEqual(['2 b 1', '3 a 3']);
  expect(store.groups[1]).toMatchObject({ firstPosition: 3, removes: [1] });
  expect(told).toEqual(['log open undefined', 'a 2 logged', 'b 1 logged', 'a 3 logged']);
});

test('what was stored, dropped or logged meanwhile is not logged, unless its refusal is missing there', async () => {
  const { store, log, write, held } = await watchedLog();
  const kept = write('kept', 5);
  await log.settled();
  write('stored', 2).storedVersion = 2;
  write('dropped', 1).dirty = false;
  log.append(kept);
  await log.settled();
  expect(held()).toEqual(['1 kept 5']);
  expect(store.groups).toHaveLength(1);
  write('half', 3).storedVersion = 2;
  kept.logStale = true;
  log.append(kept);
  await log.settled();
  expect(held()).toEqual(['2 half 3', '3 kept 5']);
  expect(kept.logStale).toBe(false);
});

test('a group ends at 2,048 records, and at a mebibyte', async () => {
  const { store, log, write } = await watchedLog();
  for (let at = 0; at < 2049; at++) write(`many${at}`, 1).sizeBytes = 10;
  await log.settled();
  expect(store.groups.map(({ appends }) => appends.length)).toEqual([2048, 1]);
  for (let at = 0; at < 5; at++) write(`large${at}`, 1, 512 * 1024);
  await log.settled();
  expect(store.groups.slice(2).map(({ appends }) => appends.length)).toEqual([2, 2, 1]);
  expect(store.groups[1]).toMatchObject({ firstPosition: 2049 });
  expect(store.groups[2]).toMatchObject({ firstPosition: 2050 });
});

test('stats count records, appends and releases, and say whether the log is well', async () => {
  const { store, log, write } = await watchedLog((made) => {
    made.records.set(4, revision({ id: 'old' }));
    made.nextPosition = 9;
  });
  write('a', 1);
  write('b', 1);
  await log.settled();
  log.release([4, 9, 77], () => {});
  await log.settled();
  expect(log.stats(123, true)).toEqual({
    pendingItems: 1,
    pendingBytes: 123,
    totalAppended: 2,
    totalReleased: 3,
    draining: true,
    fileBytes: 100,
    backendHealthy: true,
  });
  store.failure = { error: full, keep: false };
  write('c', 1);
  await settle();
  expect(log.stats(0, false)).toMatchObject({ backendHealthy: false, draining: false, totalAppended: 2 });
});

test('every record is handed over at the start, and positions go on behind them', async () => {
  const { found, log, write, held } = await watchedLog((store) => {
    store.records.set(3, revision({ id: 'x' }));
    store.records.set(7, revision({ id: 'x' }));
    store.nextPosition = 20;
  });
  expect(found).toEqual([
    ['x', 3],
    ['x', 7],
  ]);
  write('a', 1);
  await log.settled();
  expect(held().at(-1)).toBe('20 a 1');
});

test('releases and facts run what waits for them when they are durable, in the order of the calls', async () => {
  const { store, log, write, committed } = await watchedLog();
  const ran: unknown[] = [];
  const release = store.hold();
  write('a', 1);
  await settle();
  log.release([5], () => ran.push('first'));
  log.keep({ clockMark: 7 }, (kept) => ran.push(kept));
  log.keep({ archiveId: 'x' });
  log.release([], () => ran.push('second'));
  await settle();
  expect(ran).toEqual([]);
  release();
  await log.settled();
  expect(ran).toEqual(['first', 'second', { clockMark: 7, archiveId: 'x' }]);
  expect(store.meta).toMatchObject({ clockMark: 7, archiveId: 'x' });
  expect(committed.map(({ appends, released, error }) => [appends.length, released, error])).toEqual([
    [1, 0, undefined],
    [0, 1, undefined],
  ]);
  // Nothing to commit: what waits runs all the same.
  log.release([], () => ran.push('third'));
  await log.settled();
  expect(ran.at(-1)).toBe('third');
  expect(store.groups).toHaveLength(2);
});

test('a group says how long it took', async () => {
  const { store, ports, log, write, committed } = await watchedLog();
  const release = store.hold();
  write('a', 1);
  await ports.clock.pass(30);
  release();
  await log.settled();
  expect(committed[0]).toMatchObject({ durationMs: 30 });
});

test('a log with nothing to do has settled, one that cannot go on as well', async () => {
  const { store, ports, log, write } = await watchedLog();
  await log.settled();
  store.failure = { error: full, keep: false };
  write('a', 1);
  const settled = log.settled();
  await settled;
  expect(log.status).toBe('full');
  await log.settled();
  await ports.clock.pass(1000);
  expect(log.status).toBe('open');
  expect(log.lastError).toBeUndefined();
});

test('a full disk is tried again every second; what was said of the failed group is taken back', async () => {
  const { store, ports, log, write, held, told, committed } = await watchedLog();
  write('a', 1);
  await log.settled();
  store.failure = { error: full, keep: false };
  const entry = write('a', 2);
  const kept: unknown[] = [];
  log.keep({ clockMark: 5 }, (meta) => kept.push(meta));
  await settle();
  expect([entry.logPosition, entry.loggedVersion, entry.logUnknown, entry.replacedPosition]).toEqual([
    1,
    1,
    false,
    0,
  ]);
  expect(log.lastError).toMatchObject({ code: 'WAL_FULL', outcome: 'indeterminate' });
  expect(committed.at(-1)?.error).toMatchObject({ code: 'WAL_FULL' });
  expect(told.slice(2)).toEqual(['log full WAL_FULL', 'a 2 WAL_FULL']);
  log.keep({ clockMark: 6, archiveId: 'x' });
  await ports.clock.pass(999);
  expect(held()).toEqual(['1 a 1']);
  await ports.clock.pass(1);
  expect(held()).toEqual(['3 a 2']);
  expect(kept).toEqual([{ clockMark: 6, archiveId: 'x' }]);
  expect(told.slice(4)).toEqual(['log open undefined', 'a 2 logged']);
  expect(ports.clock.plannedCount).toBe(0);
});

test('on a full disk releases go alone first; then what was queued follows', async () => {
  const { store, ports, log, write, held } = await watchedLog();
  write('a', 1);
  await log.settled();
  store.failure = { error: full, keep: false };
  write('b', 1);
  await settle();
  const groups = store.groups.length;
  let forgotten = false;
  log.release([1], () => {
    forgotten = true;
  });
  await ports.clock.pass(1000);
  expect(store.groups.slice(groups).map(({ appends, removes }) => [appends.length, removes])).toEqual([
    [0, [1]],
    [1, []],
  ]);
  expect(forgotten).toBe(true);
  expect(held()).toEqual(['3 b 1']);
});

test('a write that was stored while its group failed is not logged again, and its older record goes', async () => {
  const { store, ports, log, write, held } = await watchedLog();
  write('a', 1);
  await log.settled();
  const release = store.hold();
  store.failure = { error: full, keep: false };
  const entry = write('a', 2);
  await settle();
  entry.storedVersion = 2;
  release();
  await settle();
  await ports.clock.pass(1000);
  expect(held()).toEqual([]);
});

test('reads are answered while the log is open or its disk full, and refused otherwise with the reason', async () => {
  const { store, log, write } = await watchedLog();
  write('a', 1);
  await log.settled();
  expect(await log.read([1, 2])).toMatchObject([{ position: 1, revision: { id: 'a' } }, undefined]);
  store.failure = { error: full, keep: false };
  write('b', 1);
  await settle();
  expect(await log.read([1])).toMatchObject([{ position: 1 }]);
  await log.close();
  await expect(log.read([1])).rejects.toMatchObject({ code: 'WAL_FULL' });
  const unopened = new WriteAheadLog(
    store,
    manualPorts(),
    { pending: () => undefined, spilledPosition: () => 0, spilled: () => [], dirty: [] },
    { logged() {}, notLogged() {}, damaged() {}, spilledLost() {}, statusChanged() {} },
  );
  await expect(unopened.read([1])).rejects.toMatchObject({
    code: 'WAL_FAILED',
    message: 'The log is not open.',
  });
});

describe('forget', () => {
  test('resolves when the record is durably gone', async () => {
    const { store, log, write, held } = await watchedLog();
    write('a', 1);
    await log.settled();
    const release = store.hold();
    let gone = false;
    const forgotten = log.forget(1).then(() => {
      gone = true;
    });
    await settle();
    expect(gone).toBe(false);
    release();
    await forgotten;
    expect(held()).toEqual([]);
  });

  test('fails with the log, says what may happen, and is tried again all the same', async () => {
    const { store, ports, log, write, held } = await watchedLog();
    write('a', 1);
    await log.settled();
    store.failure = { error: full, keep: false };
    await expect(log.forget(1)).rejects.toMatchObject({
      code: 'WAL_FAILED',
      outcome: 'indeterminate',
      context: { tier: 'wal' },
      cause: { code: 'WAL_FULL' },
      message: expect.stringContaining('could not forget it yet (the disk is full)'),
    });
    await expect(log.forget(1)).rejects.toMatchObject({ code: 'WAL_FAILED', cause: { code: 'WAL_FULL' } });
    expect(held()).toEqual(['1 a 1']);
    await ports.clock.pass(1000);
    expect(held()).toEqual([]);
  });

  test('fails when the log is closed, before and after the call', async () => {
    const { store, log } = await watchedLog();
    store.hold();
    const under = log.forget(1);
    under.catch(() => {});
    await log.close();
    await expect(under).rejects.toMatchObject({ message: expect.stringContaining('(it is closed)') });
    await expect(log.forget(1)).rejects.toMatchObject({ code: 'WAL_FAILED' });
  });
});

describe('after a failure of unknown extent', () => {
  test('anything thrown is a failure of the log', async () => {
    const { store, log, write } = await watchedLog();
    store.openFailure = failed;
    store.commit = () => Promise.reject(new TypeError('odd'));
    write('a', 1);
    await settle();
    expect(log.status).toBe('failed');
    expect(log.lastError).toMatchObject({
      code: 'WAL_FAILED',
      message: 'fsync failed',
      outcome: 'indeterminate',
      context: { path: 'p' },
    });
    store.openFailure = new TypeError('odder') as never;
    await settle();
    const other = await watchedLog((made) => {
      made.commit = () => Promise.reject(new TypeError('odd'));
    });
    const seen: unknown[] = [];
    other.store.open = () => new Promise(() => {});
    other.write('a', 1);
    await settle();
    seen.push(other.log.lastError);
    expect(seen[0]).toMatchObject({
      code: 'WAL_FAILED',
      message: 'The log failed: odd',
      outcome: 'indeterminate',
      context: { tier: 'wal' },
      cause: { message: 'odd' },
    });
  });

  test('what memory holds is compared with what is there: nothing is lost, nothing doubled', async () => {
    const { store, ports, log, write, held, told, spilled, entries } = await watchedLog();
    write('kept', 1);
    write('older', 1);
    write('stored', 1);
    await log.settled();
    const [kept, older, stored] = ['kept', 'older', 'stored'].map((id) => entries.get(id) as Entry);
    store.records.set(10, revision({ id: 'orphan' }));
    store.records.set(11, revision({ id: 'spilled', version: 4 }));
    store.records.set(12, revision({ id: 'older', version: 9 }));
    store.records.set(13, revision({ id: 'kept', version: 0 }));
    store.records.delete(2);
    store.nextPosition = 30;
    store.damaged.push({ position: 14, id: 'torn' });
    spilled.set('spilled', 11).set('gone', 15);
    (stored as Entry).storedVersion = 1;
    told.length = 0;
    store.failure = { error: failed, keep: false };
    log.release([999], () => told.push('released'));
    await settle();
    await log.settled();
    expect(store.opens).toBe(2);
    // A record newer than memory knows is not of this process. Of "kept" the newest stays, the orphan goes.
    expect(held()).toEqual(['1 kept 1', '11 spilled 4', '12 older 9', '30 older 1']);
    expect(told).toEqual([
      'log failed WAL_FAILED',
      'damaged 14',
      'gone lost at 15',
      'kept 1 logged',
      'stored 1 logged',
      'log open undefined',
      'released',
      'older 1 logged',
    ]);
    expect([kept?.logPosition, older?.logPosition]).toEqual([1, 30]);
    expect(log.stats(0, false).pendingItems).toBe(4);
    expect(ports.clock.plannedCount).toBe(0);
  });

  test('a store that cannot be opened is tried every second, until the log is closed', async () => {
    const { store, ports, log, write, told } = await watchedLog();
    store.failure = { error: failed, keep: false };
    store.openFailure = failed;
    const entry = write('a', 1);
    await settle();
    expect(entry.logUnknown).toBe(true);
    expect(store.opens).toBe(2);
    await ports.clock.pass(2000);
    expect(store.opens).toBe(4);
    expect(told.slice(1)).toEqual(['log failed WAL_FAILED', 'a 1 WAL_FAILED']);
    await log.close();
    expect(ports.clock.plannedCount).toBe(0);
    await ports.clock.pass(5000);
    expect(store.opens).toBe(4);
    expect(log.status).toBe('closed');
  });

  test('closed while the store is being opened again, the log does not leave it open', async () => {
    const { store, log, write } = await watchedLog();
    let opened = (): void => {};
    let closes = 0;
    const open = store.open.bind(store);
    store.open = async (options) => {
      await new Promise<void>((resolve) => {
        opened = resolve;
      });
      return open(options);
    };
    const close = store.close.bind(store);
    store.close = () => {
      closes++;
      return close();
    };
    store.failure = { error: failed, keep: false };
    write('a', 1);
    await settle();
    await log.close();
    expect(closes).toBe(1);
    opened();
    await settle();
    expect(closes).toBe(2);
    expect(log.status).toBe('closed');
  });

  test('the node keeps the name that it had when the log was opened first', async () => {
    const { store, write, log } = await watchedLog();
    const options: unknown[] = [];
    const open = store.open.bind(store);
    store.open = (given) => {
      options.push(given);
      return open(given);
    };
    store.meta = { ...(store.meta as NonNullable<typeof store.meta>), nodeId: 'other' };
    store.failure = { error: failed, keep: false };
    write('a', 1);
    await settle();
    await log.settled();
    expect(options).toEqual([{ ...OPTIONS, nodeId: 'n' }]);
  });
});

test("a group that fails while the log is being closed is nobody's failure any more", async () => {
  const { store, log, write, told } = await watchedLog();
  const release = store.hold();
  store.failure = { error: failed, keep: false };
  write('a', 1);
  await settle();
  await log.close();
  release();
  await settle();
  expect(told).toEqual(['log open undefined']);
  expect(store.opens).toBe(1);
});
