import fc from 'fast-check';
import { expect, test } from 'vitest';
import { sha256 } from '#engine/base/hash.js';
import { LaneSum } from '#engine/merkle/digest.js';
import { MerkleBatch, PathMerkle } from '#engine/merkle/path-merkle.js';

const leafOf = (text: string) => sha256(Buffer.from(text));
const anyId = fc.stringMatching(/^[ab.]{1,6}$/);

test('a batch adds to each path what the rows below it gained, deepest paths first', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(anyId, fc.nat(3)), { maxLength: 12 }), (changes) => {
      const rows = new Map<string, Buffer>();
      const batch = new MerkleBatch();
      for (const [id, value] of changes) {
        const before = rows.get(id);
        if (value === 0) {
          batch.delete(id, before);
          rows.delete(id);
        } else {
          const leaf = leafOf(`${id} ${value}`);
          batch.insert(id, leaf, before);
          rows.set(id, leaf);
        }
      }
      expect(batch.size).toBe(new Set(changes.map(([id]) => id)).size);
      const deltas = batch.deltas();
      for (const { path, count, sum } of deltas) {
        const expected = new LaneSum();
        let below = 0;
        for (const [id, leaf] of rows) {
          const segments = PathMerkle.split(id);
          if (segments.length <= path.length || path.some((one, at) => segments[at] !== one)) continue;
          expected.add(leaf);
          below++;
        }
        expect([count, Buffer.from(sum)]).toEqual([below, expected.bytes()]);
      }
      const depths = deltas.map(({ path }) => path.length);
      expect(depths).toEqual([...depths].sort((a, b) => b - a));
      expect(batch.affectedPrefixes().map(String).sort()).toEqual(
        deltas.map(({ path }) => String(path)).sort(),
      );
    }),
  );
});

test('a row that was there before counts as a change, not as one more, and one that goes takes its leaf along', () => {
  const batch = new MerkleBatch();
  const [old, young, gone] = ['old', 'young', 'gone'].map(leafOf) as [Buffer, Buffer, Buffer];
  batch.insert('a.x', young, old);
  batch.insert('a.x', leafOf('newest'), young);
  batch.delete('a.b.y', gone);
  batch.delete('z');
  const changed = LaneSum.of(leafOf('newest'));
  changed.subtract(old);
  const taken = new LaneSum();
  taken.subtract(gone);
  const both = LaneSum.of(changed.bytes());
  both.addSum(taken);
  expect(batch.deltas().map(({ path, count, sum }) => [path, count, Buffer.from(sum)])).toEqual([
    [['a', 'b'], -1, taken.bytes()],
    [['a'], -1, both.bytes()],
    [[], -1, both.bytes()],
  ]);
  expect(batch.affectedPrefixes()).toEqual([['a', 'b'], ['a'], []]);
  expect(batch.size).toBe(3);
});

test('paths above an id, and the parent of a path', () => {
  expect(PathMerkle.ancestors('uk.nhs.1')).toEqual([[], ['uk'], ['uk', 'nhs']]);
  expect(PathMerkle.ancestors('.')).toEqual([[], ['']]);
  expect(PathMerkle.parent('uk.nhs')).toEqual(['uk']);
  expect(PathMerkle.parent([''])).toEqual([]);
  expect(PathMerkle.parent('')).toBeUndefined();
});

test('a leaf tells apart everything that makes a row, and the key', () => {
  const key = Buffer.alloc(32, 1);
  const hash = leafOf('content');
  const row = {
    id: 'a',
    version: 1,
    origin: 'o'.repeat(16),
    deleted: false,
    contentType: 'json',
    state: 's',
  } as const;
  const leaf = PathMerkle.leafHash(key, row, hash);
  expect(leaf).toHaveLength(32);
  const others = [
    PathMerkle.leafHash(Buffer.alloc(32, 2), row, hash),
    PathMerkle.leafHash(key, row, leafOf('other')),
    ...[
      { id: 'b' },
      { version: 2 },
      { version: 2 ** 40 },
      { origin: 'p'.repeat(16) },
      { deleted: true },
      { contentType: 'binary' as const },
      { state: 't' },
    ].map((change) => PathMerkle.leafHash(key, { ...row, ...change }, hash)),
  ];
  expect(new Set([leaf, ...others].map((one) => Buffer.from(one).toString('hex'))).size).toBe(
    others.length + 1,
  );
});
