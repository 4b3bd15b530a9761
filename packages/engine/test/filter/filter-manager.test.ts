/** The filter as a part of its own. */
import { expect, test } from 'vitest';
import { FilterManager, SyncEngineError } from '#engine/index.js';

const seed = Uint8Array.from({ length: 16 }, (_, at) => at);

test('untrusted it says nothing, trusted its "no" is meant', () => {
  const filter = new FilterManager(seed);
  filter.insertMany(['a', 'b']);
  expect(filter.mightExist('a')).toBeUndefined();
  expect(filter.shouldCheckL3('c')).toBe(true);
  filter.markTrusted();
  expect([filter.mightExist('a'), filter.mightExist('c')]).toEqual([true, false]);
  expect(filter.shouldCheckL3('c')).toBe(false);
  expect(filter.stats).toMatchObject({ trust: 'trusted', items: 2, checks: 3, excluded: 2 });
  filter.markUntrusted('a test');
  expect(filter.stats).toMatchObject({ trust: 'untrusted', reason: 'a test' });
  expect(filter.mightExist('c')).toBeUndefined();
});

test('exported and imported it knows the same ids, and is not yet trusted', () => {
  const filter = new FilterManager(seed);
  const ids = Array.from({ length: 60_000 }, (_, at) => `user.${at}`);
  filter.insertMany(ids);
  filter.markTrusted();
  const copy = new FilterManager(Uint8Array.from({ length: 16 }, () => 7));
  copy.import(filter.export());
  expect(copy.trust).toBe('untrusted');
  copy.markTrusted();
  expect(ids.filter((id) => copy.mightExist(id) !== true)).toEqual([]);
  expect(copy.stats.items).toBe(filter.stats.items);
  expect(
    Array.from({ length: 1000 }, (_, at) => copy.mightExist(`nobody.${at}`)).filter(Boolean).length,
  ).toBeLessThan(5);
});

test('damaged bytes never make a filter', () => {
  const filter = new FilterManager(seed);
  filter.insert('a');
  const image = Buffer.from(filter.export());
  const broken = (change: (bytes: Buffer) => Buffer): unknown => {
    try {
      new FilterManager(seed).import(change(Buffer.from(image)));
      return 'taken';
    } catch (error) {
      return error instanceof SyncEngineError ? error.code : error;
    }
  };
  for (let at = 0; at < image.length; at += 40_009) {
    const flip = broken((bytes) => {
      bytes[at] = (bytes[at] as number) ^ 4;
      return bytes;
    });
    expect(flip, `byte ${at}`).toBe('CORRUPTION');
  }
  expect(broken((bytes) => bytes.subarray(0, 1000))).toBe('CORRUPTION');
  expect(broken(() => Buffer.alloc(0))).toBe('CORRUPTION');
});
