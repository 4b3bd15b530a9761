/** Random rows under strange ids, and their plain difference. */
import { hash } from 'node:crypto';
import fc from 'fast-check';
import { STRANGE_IDS } from '#engine/testing/strange-ids.js';

/** Few of them, so that ids are often prefixes of each other; some sort otherwise by UTF-16 than by bytes. */
const segment = fc.constantFrom('', 'a', 'b', 'é', '😀', '\uffff', '\u{10000}', '__proto__', '0', '\0');

/** Dots at any place, empty segments, more than 64 segments. */
export const ids: fc.Arbitrary<string> = fc
  .oneof(
    { weight: 6, arbitrary: fc.array(segment, { minLength: 1, maxLength: 4 }).map((all) => all.join('.')) },
    {
      weight: 2,
      arbitrary: fc
        .tuple(fc.constantFrom('', 'a'), fc.integer({ min: 61, max: 67 }), segment)
        .map(([one, times, last]) => [...Array<string>(times).fill(one), last].join('.')),
    },
    { weight: 1, arbitrary: fc.constantFrom(...STRANGE_IDS) },
  )
  .filter((id) => id !== '');

export type Rows = ReadonlyMap<string, Buffer>;

export function leafOf(id: string, value: number): Buffer {
  return Buffer.from(hash('sha256', `${value}:${id}`, 'hex'), 'hex');
}

/** Both sides: an id is on one of them, on both alike, or on both with different values. */
export function sides(of: fc.Arbitrary<string>, maxLength: number): fc.Arbitrary<readonly [Rows, Rows]> {
  const value = fc.constantFrom(undefined, 1, 1, 1, 2);
  const row = fc.record({ id: of, local: value, remote: value });
  return fc.uniqueArray(row, { maxLength, selector: ({ id }) => id }).map((rows) => {
    const local = new Map<string, Buffer>();
    const remote = new Map<string, Buffer>();
    for (const { id, local: here, remote: there } of rows) {
      if (here !== undefined) local.set(id, leafOf(id, here));
      if (there !== undefined) remote.set(id, leafOf(id, there));
    }
    return [local, remote] as const;
  });
}

/** id → side, by looking at every row. */
export function plainDifference(local: Rows, remote: Rows): Map<string, 'local' | 'remote' | 'both'> {
  const found = new Map<string, 'local' | 'remote' | 'both'>();
  for (const [id, leaf] of local) {
    const other = remote.get(id);
    if (other === undefined) found.set(id, 'local');
    else if (!leaf.equals(other)) found.set(id, 'both');
  }
  for (const id of remote.keys()) if (!local.has(id)) found.set(id, 'remote');
  return found;
}
