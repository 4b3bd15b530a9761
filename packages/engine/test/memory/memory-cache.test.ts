import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Revision } from '#engine/item/revision.js';
import { accountedBytes } from '#engine/memory/entry.js';
import { MemoryCache } from '#engine/memory/memory-cache.js';
import { revision } from '../support/revisions.js';

const of = (id: string, version: number, bytes = 100): Revision =>
  revision({ id, version, content: Buffer.alloc(bytes) });

describe('the budget', () => {
  test('the least recently used clean entries leave first, dirty ones never', () => {
    const cache = new MemoryCache(4000);
    const dirty = cache.write(of('dirty', 1));
    for (let at = 0; at < 4; at++) cache.promote(of(`p${at}`, 1));
    cache.read('p0');
    for (let at = 4; at < 7; at++) cache.promote(of(`p${at}`, 1));
    expect(cache.find('dirty')).toBe(dirty);
    expect(cache.find('p0')).toBeDefined();
    expect(cache.find('p1')).toBeUndefined();
    expect(cache.stats.bytes).toBeLessThanOrEqual(4000);
    expect(cache.stats.evictions).toBeGreaterThan(0);
  });

  test('what does not fit beside the dirty entries is not promoted', () => {
    const cache = new MemoryCache(2000);
    cache.write(of('dirty', 1, 1000));
    expect(cache.promote(of('a', 1, 1000)).id).toBe('a');
    expect(cache.find('a')).toBeUndefined();
    expect(cache.hasRoom('b', 600)).toBe(false);
    expect(cache.hasRoom('dirty', 1900)).toBe(true);
  });
});

test('a promotion never replaces what is newer, nor what is pending', () => {
  const cache = new MemoryCache(100_000);
  cache.promote(of('a', 5));
  expect(cache.promote(of('a', 4)).version).toBe(5);
  expect(cache.promote(of('a', 6)).version).toBe(6);
  cache.write(of('b', 1));
  expect(cache.promote(of('b', 9)).version).toBe(1);
  expect(cache.find('a')?.revision.version).toBe(6);
});

test('whatever happens, an entry is in one list, the sums are right, and the budget holds', () => {
  const step = fc.record({
    kind: fc.constantFrom('write', 'promote', 'settle', 'drop', 'read'),
    id: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'),
    bytes: fc.nat(900),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const cache = new MemoryCache(5000);
      let version = 0;
      for (const { kind, id, bytes } of steps) {
        const made = of(id, ++version, bytes);
        const entry = cache.find(id);
        if (kind === 'write' && cache.hasRoom(id, accountedBytes(made))) cache.write(made);
        if (kind === 'promote') cache.promote(made);
        if (kind === 'settle' && entry?.dirty) cache.settle(entry);
        if (kind === 'drop' && entry) cache.drop(entry);
        if (kind === 'read') cache.read(id);
        const present = ['a', 'b', 'c', 'd', 'e', 'f']
          .map((one) => cache.find(one))
          .filter((one) => one !== undefined);
        const { stats } = cache;
        expect(stats.bytes).toBeLessThanOrEqual(5000);
        expect(stats.items).toBe(present.length);
        expect(stats.bytes).toBe(present.reduce((sum, one) => sum + one.sizeBytes, 0));
        expect(stats.dirtyItems).toBe(present.filter((one) => one.dirty).length);
        expect([...cache.dirty]).toHaveLength(stats.dirtyItems);
      }
    }),
  );
});
