/** The lease on the change log: how long it counts, who waits for it, and what comes before it is extended. */
import { expect, onTestFinished, test } from 'vitest';
import { ChangeFollower } from '#engine/coherence/change-follower.js';
import type { ChangeBatch, ChangeHead, ChangePage } from '#engine/storage/archive-store.js';
import { ManualTime, settle } from '../support/manual-ports.js';

const chainOf = (position: number): string => position.toString(16).padStart(64, '0');
const headAt = (position: number): ChangeHead => ({ position, chain: chainOf(position) });
const batchAt = (position: number): ChangeBatch => ({ ...headAt(position), changes: [] });

/** A change log that others add to, and whose answers a test can hold. */
function followed(leaseMs = 1000) {
  const time = new ManualTime();
  const log = {
    end: 0,
    pageSize: 100,
    asked: 0,
    available: true,
    failing: false,
    gap: 'none' as ChangePage['gap'],
  };
  let gate: Promise<void> | undefined;
  const told: string[] = [];
  const follower: ChangeFollower = new ChangeFollower({
    config: { coherenceLeaseMs: leaseMs },
    polls: true,
    clock: time,
    scheduler: time,
    archive: {
      get available() {
        return log.available;
      },
      async look({ position }): Promise<ChangePage> {
        log.asked++;
        const { end, gap } = log;
        const last = Math.min(end, position + log.pageSize);
        await gate;
        if (log.failing) throw new Error('SQL is away');
        if (gap !== 'none') return { batches: [], head: headAt(end), gap };
        const batches = Array.from({ length: last - position }, (_, at) => batchAt(position + 1 + at));
        return { batches, head: headAt(end), gap };
      },
    },
    events: {
      changed: ({ position }) => told.push(`${position}${follower.current ? ' current' : ''}`),
      missed: (gap, { position }) => told.push(`${gap} ${position}`),
    },
  });
  onTestFinished(() => follower.stop());
  const hold = (): (() => void) => {
    let open = (): void => {};
    gate = new Promise((resolve) => {
      open = resolve;
    });
    return () => {
      gate = undefined;
      open();
    };
  };
  return { follower, time, log, told, hold };
}

test('it is current for the lease, counted from when the question was sent, and renews it by itself', async () => {
  const { follower, time, log, hold } = followed();
  expect(follower.current).toBe(false);
  const open = hold();
  follower.connected(headAt(0));
  await time.pass(400);
  expect(follower.current).toBe(false);
  log.available = false;
  open();
  await settle();
  expect(follower.current).toBe(true);
  expect(follower.ageMs).toBe(400);
  await time.pass(599);
  expect(follower.current).toBe(true);
  await time.pass(1);
  expect(follower.current).toBe(false);
  log.available = true;
  await time.pass(500);
  expect(follower.current).toBe(true);
  for (let second = 0; second < 20; second++) {
    await time.pass(1000);
    expect(follower.current).toBe(true);
  }
});

test('what others committed is told once, in order, before the lease is extended; pages are read to the end', async () => {
  const { follower, time, log, told } = followed();
  log.end = 7;
  log.pageSize = 3;
  follower.connected(headAt(0));
  await settle();
  expect(told).toEqual(['1', '2', '3', '4', '5', '6', '7']);
  expect(log.asked).toBe(3);
  log.available = false;
  await time.pass(2000);
  log.available = true;
  log.end = 8;
  await follower.look();
  expect(told.slice(7)).toEqual(['8']);
});

test('its own transactions are not read where nothing lies between, and are read where something does', async () => {
  const { follower, log, told } = followed();
  follower.connected(headAt(0));
  await settle();
  log.end = 1;
  follower.committed(headAt(1), true);
  await follower.look();
  expect(told).toEqual([]);
  log.end = 3;
  follower.committed(headAt(3), true);
  await settle();
  expect(told).toEqual(['2 current', '3 current']);
});

test('a transaction of its own while a look is under way is not told twice, nor does the position go back', async () => {
  const { follower, log, told, hold } = followed();
  follower.connected(headAt(0));
  await settle();
  log.end = 2;
  const open = hold();
  const looking = follower.look();
  follower.committed(headAt(1), true);
  open();
  await looking;
  expect(told).toEqual(['2 current']);
  await follower.look();
  expect(told).toHaveLength(1);
});

test('where changes are missing it says so before it is current, and goes on behind them', async () => {
  const { follower, log, told } = followed();
  follower.connected(headAt(0));
  await settle();
  log.end = 9;
  log.gap = 'trimmed';
  await follower.look();
  log.gap = 'none';
  log.end = 10;
  await follower.look();
  expect(told).toEqual(['trimmed 9', '10 current']);
});

test('a read whose lease has lapsed waits for one look, 50 ms at most, and the next ones not at all', async () => {
  const { follower, time, log, hold } = followed();
  follower.connected(headAt(0));
  await settle();
  log.available = false;
  await time.pass(5000);
  log.available = true;
  const asked = log.asked;
  expect(await Promise.all([follower.renewed(), follower.renewed()])).toEqual([true, true]);
  expect(log.asked).toBe(asked + 1);

  log.available = false;
  await time.pass(5000);
  log.available = true;
  const open = hold();
  let answered: boolean | undefined;
  void follower.renewed().then((current) => {
    answered = current;
  });
  await time.pass(49);
  expect(answered).toBeUndefined();
  await time.pass(1);
  expect(answered).toBe(false);
  expect(await follower.renewed()).toBe(false);
  open();
  await settle();
  expect(await follower.renewed()).toBe(true);
});

test('a look that fails renews nothing, and with SQL away nobody waits', async () => {
  const { follower, time, log } = followed();
  follower.connected(headAt(0));
  await settle();
  log.failing = true;
  await time.pass(2000);
  expect(await follower.renewed()).toBe(false);
  log.available = false;
  const asked = log.asked;
  expect(await follower.renewed()).toBe(false);
  expect(log.asked).toBe(asked);
});

test('stopped, it asks nothing any more', async () => {
  const { follower, time, log } = followed();
  follower.connected(headAt(0));
  await settle();
  follower.stop();
  const asked = log.asked;
  await time.pass(10_000);
  expect(log.asked).toBe(asked);
  expect(time.plannedCount).toBe(0);
});
