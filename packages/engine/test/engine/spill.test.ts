/** Pending writes that leave memory while SQL is away, and come back from the log. */
import { describe, expect, test } from 'vitest';
import { SyncEngineError, SyncItem } from '#engine/index.js';
import { type Fakes, rejection, startedFakes } from '../support/engines.js';
import { settle } from '../support/manual-ports.js';

const L1_BYTES = 2 * 1024 * 1024;
const ITEMS = 2500;

const item = (at: number): SyncItem =>
  new SyncItem(`user.${at}`, Buffer.alloc(1000, at), { state: at % 2 === 0 ? 'even' : 'odd' });

/** An engine whose SQL is away and that has taken more writes than fit into memory. */
async function spilling(): Promise<Fakes> {
  const fakes = await startedFakes({ l1MaxBytes: L1_BYTES });
  fakes.archive.down = true;
  await rejection(fakes.engine.get('probe'));
  for (let at = 0; at < ITEMS; at++) await fakes.engine.submit(item(at));
  expect(fakes.engine.l1Stats().spilledItems).toBeGreaterThan(ITEMS / 4);
  return fakes;
}

/** An id that only the log holds, from `user.<from>` on. */
function spilledId({ engine }: Fakes, from = 0): string {
  for (let at = from; at < ITEMS; at++) if (engine.peek(`user.${at}`) === undefined) return `user.${at}`;
  throw new Error('Nothing is spilled.');
}

describe('while SQL is away', () => {
  test('more is taken than fits into memory, memory stays within its budget, and every write is read back', async () => {
    const { engine } = await spilling();
    expect(engine.l1Stats().bytes).toBeLessThanOrEqual(L1_BYTES);
    const items = await engine.getMany(Array.from({ length: ITEMS }, (_, at) => `user.${at}`));
    for (let at = 0; at < ITEMS; at++) {
      expect(items[at]?.content.equals(item(at).content)).toBe(true);
      expect(items[at]?.state).toBe(at % 2 === 0 ? 'even' : 'odd');
    }
  });

  test('a spilled write is pending, in the log', async () => {
    const fakes = await spilling();
    const id = spilledId(fakes);
    expect(await fakes.engine.status(id)).toEqual({ kind: 'pending', ack: 'wal' });
    expect(fakes.engine.definitelyMissing(id)).toBe(false);
    expect(await fakes.engine.get(id, { fresh: true })).toMatchObject({ id });
    expect(await fakes.engine.contains(id)).toBe(true);
  });

  test('a spilled write can be replaced, deleted, and brought into another state', async () => {
    const fakes = await spilling();
    const { engine, archive, ports } = fakes;
    const replaced = spilledId(fakes);
    await engine.submit(new SyncItem(replaced, 'new'));
    expect((await engine.get(replaced))?.text()).toBe('new');
    const deleted = spilledId(fakes, 100);
    await engine.delete(deleted);
    expect(await engine.get(deleted)).toBeUndefined();
    const changed = spilledId(fakes, 200);
    await engine.setState(changed, 'changed');
    expect((await engine.get(changed))?.state).toBe('changed');

    archive.down = false;
    await ports.clock.pass(5000);
    await engine.flush();
    expect(archive.rows.get(replaced)?.content.toString()).toBe('new');
    expect(archive.rows.get(deleted)?.deleted).toBe(true);
    expect(archive.rows.get(changed)).toMatchObject({ state: 'changed' });
    expect(archive.rows.get(changed)?.content.length).toBe(1000);
  });
});

describe('when SQL is back', () => {
  test('everything reaches it, the log is empty, and nothing is pending', async () => {
    const { engine, archive, store, ports } = await spilling();
    archive.down = false;
    await ports.clock.pass(10_000);
    expect(archive.rows.size).toBe(ITEMS);
    expect(store.records.size).toBe(0);
    expect(engine.l1Stats()).toMatchObject({ dirtyItems: 0, spilledItems: 0, dirtyBytes: 0 });
    expect((await engine.get('user.7'))?.content.equals(item(7).content)).toBe(true);
  });

  test('flush() waits for what is spilled', async () => {
    const { engine, archive, ports } = await spilling();
    archive.down = false;
    await ports.clock.pass(1100);
    await engine.flush();
    expect(archive.rows.size).toBe(ITEMS);
  });

  test('flush() waits for them even while nothing else is left to store', async () => {
    const { engine, archive, store, ports } = await spilling();
    const read = store.read.bind(store);
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    store.read = (positions) => gate.then(() => read(positions));
    archive.down = false;
    await ports.clock.pass(1100);
    let flushed = false;
    const flush = engine.flush().then(() => {
      flushed = true;
    });
    await ports.clock.pass(500);
    expect(archive.rows.size).toBeGreaterThan(0);
    expect(engine.l1Stats().spilledItems).toBeGreaterThan(0);
    expect(flushed).toBe(false);
    open();
    await ports.clock.pass(5000);
    await flush;
    expect(archive.rows.size).toBe(ITEMS);
  });

  test('flush() waits for the write that took the place of a spilled one', async () => {
    const fakes = await spilling();
    const { engine, archive, ports } = fakes;
    const id = spilledId(fakes, ITEMS / 2);
    archive.down = false;
    const release = archive.hold('apply');
    await ports.clock.pass(1100);
    expect(await engine.status(id)).toMatchObject({ kind: 'pending' });
    const flushed = engine.flush();
    await engine.submit(new SyncItem(id, 'newer'));
    release();
    await ports.clock.pass(5000);
    await flushed;
    expect(archive.rows.get(id)?.content.toString()).toBe('newer');
  });

  test('scans, counts and bulk deletes see what is spilled', async () => {
    const fakes = await spilling();
    const { engine, archive, ports } = fakes;
    archive.down = false;
    const release = archive.hold('apply');
    await ports.clock.pass(1100);
    expect(engine.l1Stats().spilledItems).toBeGreaterThan(100);
    const seen = new Set<string>();
    for await (const one of engine.scanPrefix('user.', { pageSize: 100 })) {
      expect(seen.has(one.id)).toBe(false);
      expect(one.sizeBytes).toBe(1000);
      seen.add(one.id);
    }
    expect(seen.size).toBe(ITEMS);
    expect(await engine.countByState('even')).toBe(ITEMS / 2);
    expect(await engine.countPrefix('user.')).toBe(ITEMS);
    release();
    const deletion = engine.deletePrefix('user.1');
    await ports.clock.pass(5000);
    expect(await deletion).toBe(1 + 10 + 100 + 1000);
    expect(await engine.countPrefix('user.')).toBe(ITEMS - 1111);
  });
});

test('a restart with more in the log than fits into memory keeps the budget, and drains', async () => {
  const { engine, archive, store, ports } = await spilling();
  const closed = engine.shutdown();
  await ports.clock.pass(30_000);
  expect(await closed).toEqual({ flushed: 0, remaining: ITEMS });
  expect(store.records.size).toBe(ITEMS);
  const again = await startedFakes({ l1MaxBytes: 768 * 1024 }, { archive, store });
  expect(again.engine.l1Stats().bytes).toBeLessThanOrEqual(768 * 1024);
  expect((await again.engine.get('user.3'))?.content.equals(item(3).content)).toBe(true);
  archive.down = false;
  await again.ports.clock.pass(10_000);
  expect(archive.rows.size).toBe(ITEMS);
});

test('a spilled write whose record the log lost is refused as damage, not called missing', async () => {
  const fakes = await spilling();
  const { engine, store } = fakes;
  const id = spilledId(fakes);
  const corrupt: unknown[] = [];
  engine.on('corruption', (event) => corrupt.push(event));
  for (const [position, record] of store.records) if (record.id === id) store.records.delete(position);
  expect(await rejection(engine.get(id))).toMatchObject({ code: 'CORRUPTION', context: { id } });
  expect(corrupt).toEqual([{ tier: 'wal', id }]);
  // A new write mends it.
  await engine.submit(new SyncItem(id, 'again'));
  expect((await engine.get(id))?.text()).toBe('again');
});

test('while the log cannot be read, a spilled write is unavailable, not missing', async () => {
  const fakes = await spilling();
  const id = spilledId(fakes);
  fakes.store.read = () => Promise.reject(new Error('the thread is gone'));
  expect(await rejection(fakes.engine.get(id))).toMatchObject({ code: 'TIER_UNAVAILABLE' });
  fakes.store.read = () => new Promise(() => {});
  const hanging = rejection(fakes.engine.get(id));
  await fakes.ports.clock.pass(2100);
  expect(await hanging).toMatchObject({ code: 'TIER_UNAVAILABLE' });
});

test('a log that is opened anew after a failure still knows what is spilled', async () => {
  const fakes = await spilling();
  const { engine, store, archive, ports } = fakes;
  const id = spilledId(fakes);
  store.failure = {
    error: new SyncEngineError('WAL_FAILED', 'fsync failed', { outcome: 'indeterminate' }),
    keep: false,
  };
  await rejection(engine.submit(new SyncItem('one.more', 'x')));
  await ports.clock.pass(1500);
  expect((await engine.get(id))?.sizeBytes).toBe(1000);
  archive.down = false;
  await ports.clock.pass(10_000);
  expect(archive.rows.size).toBe(ITEMS + 1);
  expect(store.records.size).toBe(0);
});

// The new entry forgot the record that it replaces: the log kept both, and after a restart the deleted item was back.
test('a delete of a spilled id while the log is opened anew leaves no older record behind', async () => {
  const fakes = await spilling();
  const { engine, store, archive, ports } = fakes;
  const id = spilledId(fakes);
  const load = store.load.bind(store);
  let open = (): void => {};
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  store.load = async (visit) => {
    const contents = await load(visit);
    await gate;
    return contents;
  };
  store.failure = {
    error: new SyncEngineError('WAL_FAILED', 'fsync failed', { outcome: 'indeterminate' }),
    keep: false,
  };
  await rejection(engine.submit(new SyncItem('one.more', 'x')));
  await settle();
  await engine.delete(id, { ack: 'memory' });
  open();
  await ports.clock.pass(2000);
  expect(store.of(id).map((record) => record.deleted)).toEqual([true]);
  archive.down = false;
  await ports.clock.pass(10_000);
  expect(store.records.size).toBe(0);
  expect(archive.rows.get(id)?.deleted).toBe(true);
});

// The record was gone when it was read, SQL did not have its successor yet, and nobody asked memory.
test('a scan finds a spilled item whose record is replaced while it is read', async () => {
  const fakes = await spilling();
  const { engine, archive, ports } = fakes;
  archive.down = false;
  const release = archive.hold('apply');
  await ports.clock.pass(1100);
  const id = spilledId(fakes);
  void engine.submit(new SyncItem('other', 'x'));
  const seen: string[] = [];
  const scan = (async () => {
    for await (const one of engine.scanPrefix('user.')) seen.push(one.id);
  })();
  void engine.submit(new SyncItem(id, 'new'));
  await scan;
  expect(seen).toContain(id);
  expect(seen).toHaveLength(ITEMS);
  release();
});

// All records of a page were asked for at once: a page of large items missed the deadline of one read every time.
test('large spilled items are read in portions, each with a deadline of its own, and pages of them end early', async () => {
  const fakes = await startedFakes({ l1MaxBytes: 24 * 1024 * 1024 });
  const { engine, archive, store, ports } = fakes;
  archive.down = true;
  await rejection(engine.get('probe'));
  const bytes = 1024 * 1024;
  for (let at = 0; at < 30; at++) {
    await engine.submit(new SyncItem(`large.${String(at).padStart(2, '0')}`, Buffer.alloc(bytes, at)));
  }
  expect(engine.l1Stats().spilledItems).toBeGreaterThan(10);
  const read = store.read.bind(store);
  const portions: number[] = [];
  store.read = async (positions) => {
    portions.push(positions.length);
    await new Promise<void>((resolve) => ports.clock.after(1500, resolve));
    return read(positions);
  };
  const ids = Array.from({ length: 30 }, (_, at) => `large.${String(at).padStart(2, '0')}`);
  const reading = engine.getMany(ids);
  await ports.clock.pass(60_000);
  expect((await reading).map((one) => one?.content[7])).toEqual(ids.map((_, at) => at));
  expect(Math.max(...portions)).toBeLessThanOrEqual(4);

  archive.down = false;
  archive.hold('apply');
  store.read = read;
  await ports.clock.pass(1100);
  portions.length = 0;
  const sizes: number[] = [];
  const scan = (engine as unknown as { scanPrefix: (prefix: string) => AsyncIterable<SyncItem> }).scanPrefix(
    'large.',
  );
  for await (const one of scan) sizes.push(one.sizeBytes);
  expect(sizes).toEqual(ids.map(() => bytes));
});

// The batch of what had failed to come back was named, and live batches waited with it.
test('while the log cannot give back what is spilled, what memory holds goes on to SQL, and the cause is named', async () => {
  const { engine, archive, store, ports } = await spilling();
  const errors: string[] = [];
  engine.on('error', (error) => errors.push(error.code));
  const read = store.read.bind(store);
  store.read = () => Promise.reject(new SyncEngineError('WAL_FAILED', 'the disk is slow'));
  archive.down = false;
  await ports.clock.pass(3000);
  const stored = archive.rows.size;
  expect(stored).toBeGreaterThan(100);
  const receipt = engine.submit(new SyncItem('live', 'x'), { ack: 'stored' });
  await ports.clock.pass(100);
  expect((await receipt).ack).toBe('stored');
  expect(new Set(errors)).toEqual(new Set(['WAL_FAILED']));
  const said = ports.logger.lines.filter((line) => line.message.includes('the disk is slow'));
  expect(said.length).toBeGreaterThan(0);
  for (const line of said) expect(line.message).toContain('Spilled writes could not be read from the log');
  store.read = read;
  await ports.clock.pass(10_000);
  expect(archive.rows.size).toBe(ITEMS + 1);
});

test('flush() does not call done what the log cannot give back', async () => {
  const fakes = await spilling();
  const { engine, archive, store, ports } = fakes;
  const id = spilledId(fakes);
  for (const [position, record] of store.records) if (record.id === id) store.records.delete(position);
  archive.down = false;
  const release = archive.hold('apply');
  await ports.clock.pass(1100);
  const flushed = rejection(engine.flush());
  release();
  await ports.clock.pass(10_000);
  expect(await flushed).toMatchObject({ code: 'CORRUPTION', context: { id } });
  expect(archive.rows.size).toBe(ITEMS - 1);
});

test('a scan of more ids than are looked at in one turn meets each of them once, whatever comes back meanwhile', async () => {
  const { engine, archive, ports } = await startedFakes({ l1MaxBytes: 8 * 1024 * 1024 });
  archive.down = true;
  await rejection(engine.get('probe'));
  const items = 25_000;
  const idOf = (at: number): string => `${at % 7}.${at}`;
  for (let from = 0; from < items; from += 1000) {
    const batch = Array.from({ length: 1000 }, (_, at) => new SyncItem(idOf(from + at), Buffer.alloc(200)));
    expect((await engine.submitMany(batch)).failed).toBe(0);
  }
  expect(engine.l1Stats().spilledItems).toBeGreaterThan(1000);
  archive.down = false;
  const seen: string[] = [];
  const scan = (async () => {
    for await (const one of engine.scanPrefix('')) seen.push(one.id);
  })();
  await ports.clock.pass(10_000);
  await scan;
  expect(seen).toHaveLength(items);
  expect(new Set(seen).size).toBe(items);
  expect(archive.rows.size).toBe(items);
});

// What the new write carried of the spilled one's record was forgotten by the reopened log, and never released.
test('a spilled id that is written and stored while the log is opened anew leaves no record behind', async () => {
  const { engine, archive, store, ports } = await spilling();
  const id = 'user.1000';
  expect(engine.peek(id)).toBeUndefined();
  const load = store.load.bind(store);
  let open = (): void => {};
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  store.load = async (visit) => {
    const contents = await load(visit);
    await gate;
    return contents;
  };
  store.failure = { error: new SyncEngineError('WAL_FAILED', 'x'), keep: false };
  void engine.submit(new SyncItem('t', 'x'), { ack: 'memory' });
  await settle();
  archive.down = false;
  await ports.clock.pass(1100);
  const stored = engine.submit(new SyncItem(id, 'NEW'), { ack: 'stored' });
  await ports.clock.pass(500);
  open();
  await ports.clock.pass(3000);
  await stored;
  expect(store.of(id)).toHaveLength(0);
  await ports.clock.pass(10_000);
  expect(store.records.size).toBe(0);
});

test('flush() does not call done what a read found to be lost meanwhile', async () => {
  const { engine, archive, store, ports } = await spilling();
  const id = 'user.1700';
  expect(engine.peek(id)).toBeUndefined();
  archive.down = false;
  const release = archive.hold('apply');
  await ports.clock.pass(1100);
  for (const [position, record] of store.records) if (record.id === id) store.records.delete(position);
  const flushed = rejection(engine.flush());
  expect(await rejection(engine.get(id))).toMatchObject({ code: 'CORRUPTION' });
  release();
  await ports.clock.pass(5000);
  expect(await flushed).toMatchObject({ code: 'CORRUPTION', context: { id } });
});

// The queue of what was spilled kept a place for each write that had been replaced since.
test('ids that are written again and again while SQL is away take no more memory for it', async () => {
  const { engine, archive } = await startedFakes({ l1MaxBytes: 256 * 1024, maxPayloadBytes: 4096 });
  archive.down = true;
  await rejection(engine.get('probe'));
  let bytes = 0;
  for (let round = 0; round < 600; round++) {
    const writes = Array.from({ length: 80 }, (_, at) =>
      engine
        .submit(new SyncItem(`o.${(round * 80 + at) % 400}`, Buffer.alloc(1500)), { ack: 'memory' })
        .catch(() => {}),
    );
    await Promise.all(writes);
    await settle(3);
    bytes = Math.max(bytes, engine.l1Stats().bytes);
  }
  expect(bytes).toBeLessThanOrEqual(256 * 1024);
  expect(engine.l1Stats().spilledItems).toBeGreaterThan(100);
});

test('reads of spilled writes wait for one deadline, not for one after the other', async () => {
  const fakes = await spilling();
  const { engine, store, ports } = fakes;
  const ids = Array.from({ length: ITEMS }, (_, at) => `user.${at}`).filter(
    (id) => engine.peek(id) === undefined,
  );
  expect(ids.length).toBeGreaterThan(1000);
  store.read = () => new Promise(() => {});
  const reads = Promise.all(ids.map((id) => rejection(engine.get(id))));
  let over = false;
  void reads.then(() => {
    over = true;
  });
  await ports.clock.pass(2100);
  expect(over).toBe(true);
});
