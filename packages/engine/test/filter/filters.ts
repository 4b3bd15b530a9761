/** Filters and ids for the tests of this folder. */
import { CuckooFilter, type CuckooFilterOptions } from '#engine/filter/cuckoo-filter.js';

/** Seeds differ by `salt` alone, so that a failure can be repeated. */
export function seedOf(salt: number): Uint8Array {
  return Uint8Array.from({ length: 16 }, (_, at) => (salt * 251 + at * 37 + 11) & 0xff);
}

export function filterOf(ids: Iterable<string>, options: CuckooFilterOptions = {}, salt = 1): CuckooFilter {
  const filter = new CuckooFilter(seedOf(salt), options);
  for (const id of ids) filter.insert(id);
  return filter;
}

export function* idsFrom(start: number, count: number): Generator<string> {
  for (let at = start; at < start + count; at++) yield `user.${at}.cart`;
}

export function missing(filter: CuckooFilter, ids: Iterable<string>): string[] {
  return [...ids].filter((id) => !filter.mightContain(id));
}
