/** Buckets of a wide path are right although others write while they are built. */
import { expect, test } from 'vitest';
import { LocalMerkle } from '#engine/engine/local-merkle.js';
import { revision } from '#engine/testing/revisions.js';
import { MemoryTables } from '../support/memory-tables.js';

/** What `LocalMerkle` asks of an archive, straight from the tables; `between` runs before each page but the first. */
function merkleOf(tables: MemoryTables, between: () => void = () => {}): LocalMerkle {
  let pages = 0;
  const archive = {
    digests: async (paths: string[][]) => tables.digests(paths),
    changesSince: async (from: never, limit: number) => tables.changesSince(from, limit),
    children: async (path: string[], after: string | undefined, limit: number) => {
      if (pages++ > 0) between();
      return tables.children(path, after, limit);
    },
  };
  return new LocalMerkle(
    () => archive as never,
    () => 'key',
  );
}

async function answers(merkle: LocalMerkle): Promise<unknown> {
  const all = Array.from({ length: 64 }, (_, bucket) => bucket);
  const [top, inner] = [await merkle.buckets(['w'], 0, [0]), await merkle.buckets(['w'], 1, all)];
  return JSON.parse(JSON.stringify([top, inner]));
}

test('a change between two pages is counted once, whichever page it falls into', async () => {
  const tables = new MemoryTables('a'.repeat(32));
  const ids = Array.from({ length: 2500 }, (_, at) => `w.${String(at).padStart(4, '0')}`);
  tables.apply(ids.map((id) => revision({ id })));
  let version = 2;
  const built = merkleOf(tables, () => {
    version++;
    // One in a page that was read already, one in a page to come; one new in each, and one below a child.
    for (const id of ['w.0001', 'w.2400', 'w.0001-new', 'w.2400-new', 'w.2300.below'])
      tables.apply([revision({ id, version })]);
  });
  expect(await answers(built)).toEqual(await answers(merkleOf(tables)));
  tables.apply([
    revision({ id: 'w.1500', version: 99 }),
    revision({ id: 'w.1501', version: 99, deleted: true }),
  ]);
  expect(await answers(built)).toEqual(await answers(merkleOf(tables)));
});

test('where the change log cannot say what was missed, the buckets are built anew', async () => {
  const tables = new MemoryTables('a'.repeat(32));
  tables.apply([revision({ id: 'w.a' })]);
  const built = merkleOf(tables);
  await answers(built);
  tables.apply([revision({ id: 'w.b' })]);
  tables.apply([revision({ id: 'w.c' })]);
  tables.trim(3);
  expect(await answers(built)).toEqual(await answers(merkleOf(tables)));
});
