import { expect, test } from 'vitest';
import { HybridBatcher } from '#engine/batching/hybrid-batcher.js';
import { manualPorts } from '../support/manual-ports.js';

const config = { flushMs: 100, flushCount: 3, flushBytes: 1000 };
const item = (id: string, sizeBytes = 10, value = '') => ({ id, sizeBytes, value });

test('is ready by count, by bytes, and by age', async () => {
  const ports = manualPorts();
  const batcher = new HybridBatcher<ReturnType<typeof item>>(config, ports);
  expect(batcher.takeIfReady()).toBeUndefined();
  expect(batcher.add(item('a'))).toBeUndefined();
  expect(batcher.add(item('b'))).toBeUndefined();
  expect(batcher.takeIfReady()).toBeUndefined();
  expect(batcher.add(item('c'))).toBe('count');
  expect(batcher.takeIfReady()).toMatchObject({ reason: 'count', totalBytes: 30 });
  expect(batcher.add(item('d', 1000))).toBe('size');
  expect(batcher.takeIfReady()?.reason).toBe('size');
  batcher.add(item('e'));
  await ports.clock.pass(99);
  batcher.add(item('f'));
  expect(batcher.takeIfReady()).toBeUndefined();
  await ports.clock.pass(1);
  expect(batcher.takeIfReady()).toMatchObject({ reason: 'time', items: [{ id: 'e' }, { id: 'f' }] });
  expect(batcher.stats).toMatchObject({ items: 0, bytes: 0, batches: 3 });
});

test('keeps the newest of an id, in the place of the first, and counts its bytes once', () => {
  const batcher = new HybridBatcher<ReturnType<typeof item>>(config, manualPorts());
  batcher.add(item('a', 400, 'old'));
  batcher.add(item('b', 100));
  expect(batcher.add(item('a', 200, 'new'))).toBeUndefined();
  expect(batcher.contains('a')).toBe(true);
  expect(batcher.stats).toMatchObject({ items: 2, bytes: 300, coalesced: 1 });
  expect(batcher.forceFlush()).toMatchObject({
    reason: 'manual',
    items: [{ id: 'a', value: 'new' }, { id: 'b' }],
  });
  expect(batcher.contains('a')).toBe(false);
  expect(batcher.forceFlush('shutdown')).toBeUndefined();
});

test('an item that grew after it was added is counted with what it was, until it is added again', () => {
  const batcher = new HybridBatcher<ReturnType<typeof item>>(config, manualPorts());
  const growing = item('a', 10);
  batcher.add(growing);
  growing.sizeBytes = 990;
  batcher.add(growing);
  expect(batcher.stats.bytes).toBe(990);
  expect(batcher.add(item('b', 10))).toBe('size');
});

test('many are added as one after the other, whole even above the limits', () => {
  const batcher = new HybridBatcher<ReturnType<typeof item>>(config, manualPorts());
  expect(batcher.addMany([])).toBeUndefined();
  expect(batcher.addMany([item('a', 10, 'old'), item('b'), item('a', 10, 'new')])).toBeUndefined();
  expect(batcher.addMany(new Set([item('c'), item('d')]))).toBe('count');
  expect(batcher.addMany([])).toBe('count');
  expect(batcher.takeIfReady()).toMatchObject({
    reason: 'count',
    totalBytes: 40,
    items: [{ id: 'a', value: 'new' }, { id: 'b' }, { id: 'c' }, { id: 'd' }],
  });
});

test('limits that could never be reached are refused', () => {
  for (const bad of [0, -1, Number.NaN, '3', undefined]) {
    const given = { ...config, flushCount: bad as number };
    expect(() => new HybridBatcher(given)).toThrow(`flushCount must be a positive number, got ${bad}.`);
  }
});

test('the bytes of an id that is replaced in a later batch are those of that batch', () => {
  const batcher = new HybridBatcher<ReturnType<typeof item>>(config, manualPorts());
  for (const sizes of [
    [700, 200],
    [300, 500],
  ]) {
    for (const size of sizes) batcher.add(item('a', size));
    expect(batcher.forceFlush()).toMatchObject({ totalBytes: sizes[1], items: [{ sizeBytes: sizes[1] }] });
  }
});
