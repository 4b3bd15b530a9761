import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CuckooFilter } from '#engine/filter/cuckoo-filter.js';
import { PAGES } from '#engine/filter/cuckoo-leaf.js';
import { IdHash } from '#engine/filter/id-hash.js';
import { STRANGE_IDS } from '#engine/testing/strange-ids.js';
import { filterOf, idsFrom, missing, seedOf } from './filters.js';

/** What each leaf says of itself against what lies in it. */
function expectSound(filter: CuckooFilter): void {
  let count = 0;
  for (let place = 0; place < filter.leaves; place++) {
    const leaf = filter.leafAt(place);
    let stored = 0;
    for (let page = 0; page < PAGES; page++) stored += leaf.countedIn(page) ?? Number.NaN;
    expect(stored).toBe(leaf.count);
    count += stored;
  }
  expect(count).toBe(filter.count);
}

test('an empty filter denies every id, the empty string too', () => {
  const filter = new CuckooFilter(seedOf(1));
  expect(filter.mightContain('')).toBe(false);
  expect(filter.mightContain('a')).toBe(false);
  expect(filter).toMatchObject({ count: 0, loadFactor: 0 });
});

test('any id is there once inserted, and inserting it again stores nothing', () => {
  const anyId = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 40 }),
    fc.constantFrom(...STRANGE_IDS, '', '\ud800', '\udc00'),
  );
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      fc.array(anyId, { maxLength: 300 }),
      fc.integer({ min: 0, max: 20 }),
      (seed, ids, maxKicks) => {
        const filter = new CuckooFilter(seed, { maxKicks });
        for (const id of ids) {
          const before = filter.count;
          const stored = filter.insert(id);
          expect(filter.count).toBe(before + (stored ? 1 : 0));
          expect(filter.insert(id)).toBe(false);
        }
        expect(missing(filter, ids)).toEqual([]);
      },
    ),
    { numRuns: 60 },
  );
});

test('an id whose fingerprint would mean empty is stored like any other', () => {
  const id = `user.${16_069_731}.cart`;
  const hash = new IdHash(seedOf(1));
  hash.update(id);
  expect(hash.low & 0xffffff).toBe(0);
  const filter = filterOf(idsFrom(0, 100));
  expect(filter.mightContain(id)).toBe(false);
  expect(filter.insert(id)).toBe(true);
  expect(filter.insert(id)).toBe(false);
  expect(filter.mightContain(id)).toBe(true);
  expectSound(filter);
});

describe('growth', () => {
  test('keeps all of 1,000,000 ids over splits of every root', () => {
    const filter = new CuckooFilter(seedOf(3));
    let checked = 0;
    let lost = 0;
    let leaves = filter.leaves;
    for (const id of idsFrom(0, 1_000_000)) {
      filter.insert(id);
      checked++;
      // After each split: a sample of what came before.
      if (filter.leaves === leaves) continue;
      leaves = filter.leaves;
      for (let at = checked % 97; at < checked; at += 997) {
        if (!filter.mightContain(`user.${at}.cart`)) lost++;
      }
    }
    expect(lost).toBe(0);
    expect(leaves).toBeGreaterThan(64);
    expect(missing(filter, idsFrom(0, 1_000_000))).toEqual([]);
    expectSound(filter);
  });

  test('loses no victim of failed kick-outs: 400,000 ids where leaves split because an insertion failed', () => {
    for (const maxKicks of [0, 1]) {
      const filter = filterOf(idsFrom(0, 400_000), { maxKicks });
      // Without failures it would be 37 at most.
      expect(filter.leaves).toBeGreaterThan(45);
      expect(missing(filter, idsFrom(0, 400_000))).toEqual([]);
      expectSound(filter);
    }
  });

  test('takes at most 40 bits for an id at any count above a million', () => {
    const filter = filterOf(idsFrom(0, 1_000_000), {}, 2);
    let worst = (filter.bytes * 8) / 1_000_000;
    for (let at = 1_000_000; at < 2_100_000; at++) {
      filter.insert(`user.${at}.cart`);
      if (at % 10_000 === 0) worst = Math.max(worst, (filter.bytes * 8) / at);
    }
    expect(worst).toBeLessThan(40);
    expect(worst).toBeGreaterThan(24);
  });

  test('says perhaps to fewer than one absent id in 10,000 at a million', () => {
    const filter = filterOf(idsFrom(0, 1_000_000));
    const wrong = 200_000 - missing(filter, idsFrom(2_000_000, 200_000)).length;
    expect(wrong).toBeLessThan(20);
    expect(filter.count).toBeGreaterThan(999_900);
    expect(filter.count).toBeLessThanOrEqual(1_000_000);
  });
});

test('equal seeds and insertions make equal filters', () => {
  const [a, b] = [filterOf(idsFrom(0, 50_000)), filterOf(idsFrom(0, 50_000))];
  for (let place = 0; place < a.leaves; place++) expect(a.leafAt(place).words).toEqual(b.leafAt(place).words);
});

describe('marks of changed pages', () => {
  test('one insertion marks one page, a look-up and a repeated insertion none', () => {
    const filter = filterOf(idsFrom(0, 10_000));
    const marks = (): number[] =>
      Array.from({ length: filter.leaves }, (_, place) => filter.leafAt(place).changedPages).filter(Boolean);
    for (let place = 0; place < filter.leaves; place++) filter.leafAt(place).changedPages = 0;
    expect(filter.insert('user.5.cart')).toBe(false);
    expect(filter.mightContain('something else')).toBe(false);
    expect(marks()).toEqual([]);
    expect(filter.insert('something else')).toBe(true);
    expect(marks()).toHaveLength(1);
    expect(Math.log2(marks()[0] as number) % 1).toBe(0);
  });

  test('whoever takes them over gets all', () => {
    const filter = filterOf(idsFrom(0, 10));
    const [first, second] = [{}, {}];
    expect(filter.claimMarks(first)).toBe(false);
    filter.leafAt(0).changedPages = 0;
    expect(filter.claimMarks(first)).toBe(true);
    expect(filter.leafAt(0).changedPages).toBe(0);
    expect(filter.claimMarks(second)).toBe(false);
    expect(filter.leafAt(0).changedPages).toBe(255);
    expect(filter.isMarkedFor(first)).toBe(false);
  });
});

test('leaves that leave a gap, overlap or lie outside of their root make no filter', () => {
  const build = () => {
    const filter = filterOf(idsFrom(0, 300_000), { maxKicks: 0 });
    return Array.from({ length: filter.leaves }, (_, place) => filter.leafAt(place));
  };
  const seed = seedOf(1);
  const whole = CuckooFilter.fromLeaves(seed, build());
  expect(missing(whole as CuckooFilter, idsFrom(0, 300_000))).toEqual([]);
  expect(CuckooFilter.fromLeaves(seed, build().slice(1))).toBeUndefined();
  expect(CuckooFilter.fromLeaves(seed, [...build(), ...build().slice(0, 1)])).toBeUndefined();
  const outside = build();
  (outside[0] as { prefix: number }).prefix = 1 << 20;
  expect(CuckooFilter.fromLeaves(seed, outside)).toBeUndefined();
  // As many places as there are, but one twice and one never.
  const shifted = build();
  const split = shifted.find((leaf) => leaf.depth > 0);
  if (split !== undefined) split.prefix ^= 1;
  expect(split).toBeDefined();
  expect(CuckooFilter.fromLeaves(seed, shifted)).toBeUndefined();
});
