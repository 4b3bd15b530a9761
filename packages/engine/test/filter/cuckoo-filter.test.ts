import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CuckooFilter, ROOTS } from '#engine/filter/cuckoo-filter.js';
import { CuckooLeaf } from '#engine/filter/cuckoo-leaf.js';
import { IdHash } from '#engine/filter/id-hash.js';
import { STRANGE_IDS } from '#engine/testing/strange-ids.js';
import { slowTest } from '../support/slow.js';
import { almostFull, expectSound, filterOf, idsFrom, missing, SPLIT_AT, seedOf } from './filters.js';

const GOLDEN_PLACES = 639_380_156;

test('an empty filter denies every id, the empty string too', () => {
  const filter = new CuckooFilter(seedOf(1));
  expect(filter.mightContain('')).toBe(false);
  expect(filter.mightContain('a')).toBe(false);
  expect(filter).toMatchObject({ count: 0, loadFactor: 0 });
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

test('a leaf that is full splits, and its ids and those to come are found on both sides of it', () => {
  const filter = almostFull();
  const last = filter.leafAt(ROOTS - 1);
  const before = filter.count;
  expect(before).toBe(SPLIT_AT - 1);
  const added: string[] = [];
  for (const id of idsFrom(0, 2000)) {
    const full = last.count === SPLIT_AT - 1 && last.depth === 0;
    if (filter.insert(id)) added.push(id);
    if (last.depth === 0) expect(filter.leaves).toBe(ROOTS);
    else if (full) expectSound(filter);
  }
  expect([filter.leaves, last.depth, filter.leafAt(ROOTS).depth]).toEqual([ROOTS + 1, 1, 1]);
  expect(filter.count).toBe(before + added.length);
  expect(filter.loadFactor).toBeCloseTo(filter.count / (33 * 16_384));
  expect(missing(filter, idsFrom(0, 2000))).toEqual([]);
  expectSound(filter);
});

test('an id lies for ever where it lies today, as snapshots outlive versions', () => {
  const filter = filterOf(idsFrom(0, 3000));
  const sums = Array.from({ length: filter.leaves }, (_, place) =>
    crc32(new Uint8Array(filter.leafAt(place).words.buffer)),
  );
  expect(crc32(Buffer.from(sums.join()))).toBe(GOLDEN_PLACES);
});

test('equal seeds and insertions make equal filters', () => {
  const [a, b] = [filterOf(idsFrom(0, 5000)), filterOf(idsFrom(0, 5000))];
  for (let place = 0; place < a.leaves; place++) {
    expect(Buffer.compare(a.leafAt(place).page(0), b.leafAt(place).page(0))).toBe(0);
    expect(a.leafAt(place).count).toBeGreaterThan(0);
  }
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

/** Leaves of a filter whose first and third root have split, the third unevenly. */
function unevenLeaves(ids = 0): CuckooLeaf[] {
  const filter = filterOf(idsFrom(0, ids));
  const leaves = Array.from({ length: filter.leaves }, (_, place) => filter.leafAt(place));
  const [first, third] = [leaves[0] as CuckooLeaf, leaves[2] as CuckooLeaf];
  leaves.push(first.split(), third.split(), third.split());
  return leaves;
}

test('leaves of unequal depth, in any order, make the filter that they are of', () => {
  for (const leaves of [unevenLeaves(3000), unevenLeaves(3000).reverse()]) {
    const filter = CuckooFilter.fromLeaves(seedOf(1), leaves) as CuckooFilter;
    expect(missing(filter, idsFrom(0, 3000))).toEqual([]);
    expect(missing(filter, idsFrom(3000, 3000)).length).toBeGreaterThan(2990);
    expect([filter.leaves, filter.count]).toEqual([35, 3000]);
    // A directory of one place for each root, of two for the first, of four for the third.
    expect(filter.bytes).toBe(35 * (49_152 + 300) + (30 + 2 + 4) * 8 + 4096);
    expectSound(filter);
  }
});

test('leaves that leave a gap, overlap or lie outside of their root make no filter', () => {
  const seed = seedOf(1);
  const refused = (change: (leaves: CuckooLeaf[]) => CuckooLeaf[]): boolean =>
    CuckooFilter.fromLeaves(seed, change(unevenLeaves())) === undefined;
  expect(refused((leaves) => leaves)).toBe(false);
  // The first and the second root, then the halves that split off.
  for (const place of [0, 1, 32, 33, 34]) {
    expect(refused((all) => all.toSpliced(place, 1))).toBe(true);
    expect(refused((all) => [...all, all[place] as CuckooLeaf])).toBe(true);
  }
  const moved = (place: number, prefix: number): boolean =>
    refused((leaves) => {
      (leaves[place] as CuckooLeaf).prefix = prefix;
      return leaves;
    });
  expect(moved(0, 1 << 20)).toBe(true);
  expect(moved(0, 2)).toBe(true);
  // As many places as there are, but one twice and one never.
  expect(moved(0, 1)).toBe(true);
  expect(moved(2, 1)).toBe(true);
  const outside = new CuckooLeaf(ROOTS, 0, 0);
  expect(refused((leaves) => [...leaves.slice(1), outside])).toBe(true);
});

slowTest('any id is there once inserted, and inserting it again stores nothing', () => {
  const anyId = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 40 }),
    fc.constantFrom(...STRANGE_IDS, '', '\ud800', '\udc00'),
  );
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      fc.array(anyId, { maxLength: 100 }),
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
    { numRuns: 20 },
  );
});
