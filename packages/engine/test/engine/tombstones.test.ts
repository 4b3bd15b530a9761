/** Deletes are remembered until nothing older can come back, and then forgotten. */
import { expect, test } from 'vitest';
import { type SyncEngine, SyncItem } from '#engine/index.js';
import { startedFakes } from '../support/engines.js';
import { settle } from '../support/manual-ports.js';

const DAY_MS = 24 * 60 * 60 * 1000;
const soon = { batchFlushCount: 1 };

async function deleted(engine: SyncEngine, id: string): Promise<void> {
  await engine.submit(new SyncItem(id, 'x'), { ack: 'stored' });
  await engine.delete(id, { ack: 'stored' });
  // The log has forgotten it, too.
  await settle();
}

test('a tombstone goes after its retention, not before, and the digest with it', async () => {
  const { engine, archive, ports } = await startedFakes(soon);
  await deleted(engine, 'a');
  ports.clock.jumpWall(6 * DAY_MS);
  await engine.tick();
  expect(archive.rows.get('a')?.deleted).toBe(true);
  ports.clock.jumpWall(2 * DAY_MS);
  await engine.tick();
  expect(archive.rows.has('a')).toBe(false);
  expect(await engine.merkleNode('')).toBeUndefined();
  expect(await engine.get('a')).toBeUndefined();
});

test('collection does not pass what the log still holds', async () => {
  const { engine, archive, ports } = await startedFakes(soon);
  await deleted(engine, 'a');
  // Refused by SQL, so it waits in the log for as long as nobody decides.
  archive.refuses = (write) => (write.id === 'waits' ? 'odd' : undefined);
  await engine.submit(new SyncItem('waits', 'x'), { ack: 'memory' });
  await ports.clock.pass(5);
  await deleted(engine, 'b');
  ports.clock.jumpWall(20 * DAY_MS);
  await engine.tick();
  expect(archive.rows.has('a')).toBe(false);
  expect(archive.rows.has('b')).toBe(true);
  await engine.deadLetters.discard('waits');
  await engine.tick();
  expect(archive.rows.has('b')).toBe(false);
});

test('a log that was away too long comes back: its old put of a forgotten id is set aside, not applied', async () => {
  const { engine, archive, store, ports } = await startedFakes(soon);
  await engine.submit(new SyncItem('a', 'old'), { ack: 'stored' });
  archive.down = true;
  await engine.submit(new SyncItem('a', 'newer, but never stored'));
  await engine.submit(new SyncItem('b', 'x'));
  const closing = engine.shutdown();
  await ports.clock.pass(40_000);
  expect(await closing).toMatchObject({ remaining: 2 });
  archive.down = false;
  const left = { records: new Map(store.records), meta: store.meta };
  // Another log on the same archive deletes the item, and forgets that after both expiries.
  const { engine: other, ports: later } = await startedFakes(soon, { archive, ports });
  await other.delete('a', { ack: 'stored' });
  await settle();
  later.clock.jumpWall(40 * DAY_MS);
  await other.tick();
  expect(archive.rows.has('a')).toBe(false);
  const { FakeRecordStore } = await import('../support/fake-record-store.js');
  const back = new FakeRecordStore();
  for (const [position, record] of left.records) back.records.set(position, record);
  back.nextPosition = 100;
  const { engine: returned } = await startedFakes(soon, { archive, store: back, ports: later });
  await later.clock.pass(2000);
  expect(archive.rows.has('a')).toBe(false);
  expect((await returned.deadLetters.list()).map((letter) => letter.id)).toEqual(['a', 'b']);
  // An operator who knows better has the last word.
  await returned.deadLetters.retry('b');
  expect(archive.rows.get('b')?.content.toString()).toBe('x');
});

test('no version is stamped below a horizon that was seen', async () => {
  const { engine, archive, ports } = await startedFakes(soon);
  archive.tables.horizon = 2048 * (ports.clock.now() + DAY_MS);
  await engine.shutdown();
  const { engine: next } = await startedFakes(soon, { archive, ports });
  const { version } = await next.submit(new SyncItem('a', 'x'), { ack: 'stored' });
  expect(version).toBeGreaterThan(archive.tables.horizon);
  expect(archive.rows.has('a')).toBe(true);
});
