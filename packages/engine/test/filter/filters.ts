/** Filters and ids for the tests of this folder. */
import { expect } from 'vitest';
import { CuckooFilter, type CuckooFilterOptions } from '#engine/filter/cuckoo-filter.js';
import { type CuckooLeaf, PAGES } from '#engine/filter/cuckoo-leaf.js';

/** Seeds differ by `salt` alone, so that a failure can be repeated. */
export function seedOf(salt: number): Uint8Array {
  return Uint8Array.from({ length: 16 }, (_, at) => (salt * 251 + at * 37 + 11) & 0xff);
}

export function filterOf(ids: Iterable<string>, options: CuckooFilterOptions = {}, salt = 1): CuckooFilter {
  const filter = new CuckooFilter(seedOf(salt), options);
  for (const id of ids) filter.insert(id);
  return filter;
}

/** Entries at which a leaf splits. */
export const SPLIT_AT = 15_400;

/** A filter whose last leaf splits with its next id. Filled by hand: by ids it would take a third of a million. */
export function almostFull(): CuckooFilter {
  const empty = filterOf([]);
  const leaves = Array.from({ length: empty.leaves }, (_, place) => empty.leafAt(place));
  const last = leaves.at(-1) as CuckooLeaf;
  for (let n = 1; last.count < SPLIT_AT - 1; n++) {
    const spread = Math.imul(n, 0x9e3779b1);
    last.place({ fingerprint: spread >>> 8 || 1, bucket: spread & 4095 }, 500);
  }
  return CuckooFilter.fromLeaves(seedOf(1), leaves) as CuckooFilter;
}

export function* idsFrom(start: number, count: number): Generator<string> {
  for (let at = start; at < start + count; at++) yield `user.${at}.cart`;
}

export function missing(filter: CuckooFilter, ids: Iterable<string>): string[] {
  return [...ids].filter((id) => !filter.mightContain(id));
}

/** What each leaf says of itself against what lies in it. */
export function expectSound(filter: CuckooFilter): void {
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
