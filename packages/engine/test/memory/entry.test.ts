/** A pending write of one id: what later writes of it replace, who waits for which of them, what memory it takes. */
import { expect, test } from 'vitest';
import { SyncEngineError } from '#engine/base/errors.js';
import type { AckLevel, SubmitReceipt } from '#engine/config/submit-options.js';
import { AckWaiter } from '#engine/memory/ack-waiter.js';
import { accountedSize, Entry } from '#engine/memory/entry.js';
import { revision } from '#engine/testing/revisions.js';

const FAILURE = new SyncEngineError('WAL_FAILED', 'fsync failed');

function entryOf(version: number, bytes = 10): Entry {
  return new Entry(revision({ version, content: Buffer.alloc(bytes) }), 4, true);
}

/** Waiters for an entry, and what became of each. */
function waiting(entry: Entry) {
  const outcomes: (string | undefined)[] = [];
  const receipts: SubmitReceipt[] = [];
  const target = {
    acknowledged: (index: number, receipt: SubmitReceipt) => {
      receipts.push(receipt);
      outcomes[index] = `${receipt.ack}${receipt.superseded === true ? ' superseded' : ''}`;
    },
    failed: (index: number, error: SyncEngineError) => {
      outcomes[index] = error.code;
    },
  };
  const add = (version: number, level: AckLevel): AckWaiter => {
    const waiter = new AckWaiter(entry.id, version, level, 0, target, outcomes.push(undefined) - 1);
    entry.addWaiter(waiter);
    return waiter;
  };
  return { outcomes, receipts, add };
}

/** The log holds its newest version, and nothing else is under way. */
function loggedEntry(): Entry {
  const entry = entryOf(3);
  entry.logPosition = 9;
  entry.loggedVersion = 3;
  entry.durableVersion = 3;
  return entry;
}

test('a newer write takes the place of the one before, and nothing said of that one holds for it', () => {
  const entry = loggedEntry();
  entry.logStale = true;
  entry.overtaken = true;
  entry.cover(revision({ content: Buffer.alloc(1000) }));
  const newer = revision({ version: 4, content: Buffer.alloc(50) });
  entry.replace(newer);
  expect(entry.revision).toBe(newer);
  expect(entry.sizeBytes).toBe(accountedSize(1, 50));
  expect([entry.logStale, entry.overtaken, entry.cached]).toEqual([false, false, undefined]);
  // The record of the older one is still there, and is replaced by the next group.
  expect([entry.logPosition, entry.loggedVersion, entry.dirty]).toEqual([9, 3, true]);
  expect(entry.hasOlderRecord(4)).toBe(true);
});

test('what covers a write is counted beside it', () => {
  const entry = entryOf(1, 10);
  const before = entry.sizeBytes;
  entry.cover(revision({ content: Buffer.alloc(1000) }));
  expect(entry.sizeBytes).toBe(before + accountedSize(1, 1000));
  entry.cover(undefined);
  expect(entry.sizeBytes).toBe(before);
});

test('an entry counts 560 bytes, its id by its width, and texts with 24 bytes and two a unit', () => {
  const sizeOf = (change: Parameters<typeof revision>[0]): number =>
    new Entry(revision({ content: Buffer.alloc(100), ...change }), 0, false).sizeBytes;
  expect(sizeOf({ id: 'abc' })).toBe(560 + 3 + 100);
  expect(sizeOf({ id: 'ab\u0100' })).toBe(560 + 6 + 100);
  for (const text of ['state', 'homeInstanceId', 'traceParent', 'traceState'] as const)
    expect(sizeOf({ id: 'abc', [text]: 'twelve units' })).toBe(560 + 3 + 100 + 24 + 24);
});

test('the log answers for a write once its newest version is there and nothing about it is under way', () => {
  expect(loggedEntry().spillable).toBe(true);
  const changes: readonly ((entry: Entry) => void)[] = [
    (entry) => entry.replace(revision({ version: 4 })),
    (entry) => {
      entry.durableVersion = 2;
    },
    (entry) => {
      entry.loggedVersion = 2;
    },
    (entry) => {
      entry.logPosition = 0;
    },
    (entry) => {
      entry.storedVersion = 3;
    },
    (entry) => {
      entry.flushingVersion = 3;
    },
    (entry) => {
      entry.replacedPosition = 5;
    },
    (entry) => {
      entry.logQueued = true;
    },
    (entry) => {
      entry.logStale = true;
    },
    (entry) => {
      entry.logUnknown = true;
    },
    (entry) => {
      entry.setAside({ reason: 'refused', atMs: 1 });
      entry.logStale = false;
    },
    (entry) => void waiting(entry).add(3, 'stored'),
  ];
  for (const [at, change] of changes.entries()) {
    const entry = loggedEntry();
    change(entry);
    expect(entry.spillable, `change ${at}`).toBe(false);
  }
  const older = loggedEntry();
  older.storedVersion = 2;
  expect(older.spillable).toBe(true);
});

test('an older record may be in the log while one is replaced, none is known, or the logged one is older', () => {
  const entry = loggedEntry();
  expect([entry.hasOlderRecord(3), entry.hasOlderRecord(4)]).toEqual([false, true]);
  entry.logPosition = 0;
  expect(entry.hasOlderRecord(4)).toBe(false);
  entry.replacedPosition = 2;
  expect(entry.hasOlderRecord(3)).toBe(true);
  entry.replacedPosition = 0;
  entry.logUnknown = true;
  expect(entry.hasOlderRecord(3)).toBe(true);
});

test('a refused write stays as it is, with the refusal, which the log does not have yet', () => {
  const entry = loggedEntry();
  entry.setAside({ reason: 'too long', atMs: 5 });
  expect(entry.revision).toMatchObject({ version: 3, refusal: { reason: 'too long', atMs: 5 } });
  expect(entry.logStale).toBe(true);
});

test('SQL answers everyone up to a version; who wrote it learns who won, those before that they were replaced', () => {
  const entry = entryOf(4);
  const { outcomes, receipts, add } = waiting(entry);
  for (const version of [1, 2, 3, 4]) add(version, 'stored');
  entry.acknowledgeStored(2, true, false);
  expect(outcomes).toEqual(['stored superseded', 'stored', undefined, undefined]);
  expect(receipts).toEqual([
    { id: 'a', version: 1, ack: 'stored', superseded: true },
    { id: 'a', version: 2, ack: 'stored', existed: false },
  ]);
  expect(entry.awaited).toBe(true);
  entry.acknowledgeStored(4, false, true);
  expect(outcomes.slice(2)).toEqual(['stored superseded', 'stored superseded']);
  expect(receipts.at(-1)).toEqual({ id: 'a', version: 4, ack: 'stored', superseded: true, existed: true });
  expect(entry.awaited).toBe(false);
});

test('the log answers those who wait for it alone, and leaves the others waiting', () => {
  const entry = entryOf(3);
  const { outcomes, add } = waiting(entry);
  add(1, 'wal');
  add(1, 'stored');
  add(2, 'wal');
  add(3, 'wal');
  entry.acknowledgeLogged(2);
  expect(outcomes).toEqual(['wal superseded', undefined, 'wal', undefined]);
  entry.acknowledgeStored(3, true, undefined);
  expect(outcomes).toEqual(['wal superseded', 'stored superseded', 'wal', 'stored']);
});

test('a failure ends the waiting up to its version, of one level where one is named', () => {
  const entry = entryOf(3);
  const { outcomes, add } = waiting(entry);
  add(1, 'wal');
  add(2, 'stored');
  add(2, 'wal');
  add(3, 'wal');
  entry.failWaiters(2, FAILURE, 'wal');
  expect(outcomes).toEqual(['WAL_FAILED', undefined, 'WAL_FAILED', undefined]);
  entry.failWaiters(2, FAILURE);
  expect(outcomes).toEqual(['WAL_FAILED', 'WAL_FAILED', 'WAL_FAILED', undefined]);
  expect(entry.awaited).toBe(true);
  entry.failWaiters(3, FAILURE);
  expect(entry.awaited).toBe(false);
});

test('those who wait for a write that is made anew wait for the new one, and nobody else does', () => {
  const entry = entryOf(2);
  const { outcomes, receipts, add } = waiting(entry);
  add(1, 'stored');
  add(2, 'stored');
  entry.renumberWaiters(2, 7);
  entry.acknowledgeStored(6, true, undefined);
  expect(outcomes).toEqual(['stored superseded', undefined]);
  entry.acknowledgeStored(7, true, undefined);
  expect(receipts.at(-1)).toEqual({ id: 'a', version: 7, ack: 'stored' });
});

test('who gave up in between is passed over, and who comes later is told all the same', () => {
  const entry = entryOf(1);
  const { outcomes, add } = waiting(entry);
  const settled: string[] = [];
  const first = add(1, 'stored');
  first.onSettled = (waiter) => settled.push(waiter.id);
  first.fail(new SyncEngineError('ABORTED', 'gave up'));
  first.fail(FAILURE);
  first.acknowledge('stored', false, undefined);
  expect([settled, first.settled, entry.awaited]).toEqual([['a'], true, false]);
  add(1, 'wal');
  const middle = add(1, 'stored');
  add(1, 'stored');
  middle.fail(new SyncEngineError('DEADLINE', 'too late'));
  entry.acknowledgeLogged(1);
  expect(entry.awaited).toBe(true);
  add(1, 'stored');
  entry.acknowledgeStored(1, true, undefined);
  expect(outcomes).toEqual(['ABORTED', 'wal', 'DEADLINE', 'stored', 'stored']);
});

test('an item says how often its entry was read, and when', () => {
  const entry = entryOf(1);
  entry.accessCount = 3;
  entry.lastAccessedSeconds = 20;
  expect(entry.item).toMatchObject({ id: 'a', version: 1, accessCount: 3, lastAccessed: 20_000 });
});
