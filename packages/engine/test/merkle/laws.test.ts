/** What path.ts and digest.ts promise, for any id. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { sha256 } from '#engine/base/hash.js';
import { keyIdOf, LaneSum, LeafHasher, wireHash } from '#engine/merkle/digest.js';
import {
  cutKey,
  idOf,
  keyAbove,
  keyOf,
  keysAbove,
  pathOf,
  SEGMENTS_MAX,
  segmentsOfKey,
  split,
} from '#engine/merkle/path.js';
import { ids } from './rows.js';

const leaf = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));

test('an id is its segments joined with dots, and only the 64th may hold a dot', () => {
  fc.assert(
    fc.property(ids, (id) => {
      const segments = split(id);
      expect(segments.join('.')).toBe(id);
      expect(segments).toHaveLength(Math.min(id.split('.').length, SEGMENTS_MAX));
      expect(segments.slice(0, SEGMENTS_MAX - 1).some((segment) => segment.includes('.'))).toBe(false);
      expect(idOf(segments)).toBe(id);
      expect(pathOf(id)).toEqual(pathOf(segments));
    }),
  );
});

test('the keys above an id are those of its proper prefixes, the root first', () => {
  fc.assert(
    fc.property(ids, (id) => {
      const segments = split(id);
      const keys = keysAbove(id);
      expect(keys).toEqual(segments.map((_, at) => keyOf(segments.slice(0, at))));
      expect(keyAbove(id)).toBe(keys.at(-1));
      expect(keys.map(segmentsOfKey)).toEqual(segments.map((_, at) => segments.slice(0, at)));
      expect(new Set(keys).size).toBe(keys.length);
    }),
  );
});

test('a key is cut into the key above it and its last segment', () => {
  fc.assert(
    fc.property(ids, (id) => {
      const segments = split(id);
      for (let end = 1; end < segments.length; end++) {
        const key = keyOf(segments.slice(0, end));
        expect(cutKey(key)).toEqual({
          parent: keyOf(segments.slice(0, end - 1)),
          segment: segments[end - 1],
        });
      }
    }),
  );
});

/** `lastIndexOf` takes a start of −1 for 0: the node of an empty first segment was once its own parent. */
test('the key of an empty first segment lies directly under the root', () => {
  expect(cutKey('.')).toEqual({ parent: '', segment: '' });
});

test('a path that no id can have is refused', () => {
  const config = expect.objectContaining({ code: 'CONFIG' });
  expect(() => pathOf(['a.b'])).toThrow(config);
  expect(() => pathOf(Array<string>(65).fill('a'))).toThrow(config);
  expect(pathOf([...Array<string>(63).fill('a'), 'b.c'])).toHaveLength(64);
  expect([pathOf(''), pathOf([]), pathOf([''])]).toEqual([[], [], ['']]);
  expect([idOf([]), idOf([''])]).toEqual([undefined, undefined]);
});

test('a sum does not depend on the order of its leaves', () => {
  const shuffled = fc
    .array(leaf)
    .chain((all) => fc.tuple(fc.constant(all), fc.shuffledSubarray(all, { minLength: all.length })));
  fc.assert(
    fc.property(shuffled, ([all, other]) => {
      expect(sumOf(other).bytes()).toEqual(sumOf(all).bytes());
    }),
  );
});

test('a sum of sums is the sum of all', () => {
  fc.assert(
    fc.property(fc.array(leaf), fc.array(leaf), (some, others) => {
      const sum = sumOf(some);
      sum.addSum(sumOf(others));
      expect(sum.bytes()).toEqual(sumOf([...some, ...others]).bytes());
    }),
  );
});

test('what is added and subtracted again was never there', () => {
  fc.assert(
    fc.property(fc.array(leaf), fc.array(leaf), (stay, go) => {
      const sum = sumOf([...go, ...stay]);
      for (const one of go) sum.subtract(one);
      expect(sum.bytes()).toEqual(sumOf(stay).bytes());
      for (const one of stay) sum.subtract(one);
      expect(sum.isZero).toBe(true);
    }),
  );
});

test('a replaced leaf changes a sum by the difference, whatever else is in it', () => {
  fc.assert(
    fc.property(fc.array(leaf), leaf, leaf, (others, before, after) => {
      const sum = sumOf([before, ...others]);
      const delta = LaneSum.of(after);
      delta.subtract(before);
      sum.addSum(delta);
      expect(sum.bytes()).toEqual(sumOf([...others, after]).bytes());
    }),
  );
});

test('a wire hash has 16 bytes and speaks of the sum and of the count, above 2^32 too', () => {
  const sum = Buffer.alloc(32, 1);
  const hashes = [0, 1, 2 ** 32, 2 ** 32 + 1].map((count) => wireHash(sum, count));
  hashes.push(wireHash(Buffer.alloc(32, 2), 0));
  expect(hashes.every((one) => one.length === 16)).toBe(true);
  expect(new Set(hashes.map((one) => one.toString('hex'))).size).toBe(5);
});

test('every field of a row, and the key, changes its leaf', () => {
  const row = {
    id: 'a',
    version: 1,
    origin: 'o'.repeat(16),
    deleted: false,
    contentType: 'json',
    state: 's',
  } as const;
  const content = Buffer.alloc(32, 3);
  const hasher = new LeafHasher(Buffer.alloc(32, 4));
  const leaves = [
    hasher.leaf(row, content),
    new LeafHasher(Buffer.alloc(32, 5)).leaf(row, content),
    hasher.leaf(row, Buffer.alloc(32)),
    hasher.leaf({ ...row, id: 'b' }, content),
    hasher.leaf({ ...row, version: 2 ** 32 + 1 }, content),
    hasher.leaf({ ...row, origin: 'p'.repeat(16) }, content),
    hasher.leaf({ ...row, deleted: true }, content),
    hasher.leaf({ ...row, contentType: 'binary' }, content),
    hasher.leaf({ ...row, state: '' }, content),
  ];
  expect(new Set(leaves.map((one) => one.toString('hex'))).size).toBe(leaves.length);
  expect(hasher.leaf(row, content)).toEqual(leaves[0]);
  expect(keyIdOf(Buffer.alloc(32, 4))).not.toBe(keyIdOf(Buffer.alloc(32, 5)));
});

test('a leaf, a wire hash and the name of a key are those of the written format', () => {
  const key = Buffer.alloc(32, 7);
  const contentHash = sha256(Buffer.from('content'));
  const u16 = Buffer.from([0, 4]);
  for (const [deleted, contentType, flags] of [
    [false, 'binary', 0],
    [true, 'binary', 1],
    [false, 'json', 2],
    [true, 'json', 3],
  ] as const) {
    const row = {
      id: 'id\u00e9',
      version: 2 ** 40 + 5,
      origin: '\xff'.repeat(16),
      deleted,
      contentType,
      state: 'st',
    };
    const version = Buffer.from([0, 0, 1, 0, 0, 0, 0, 5]);
    const bytes = [key, u16, Buffer.from(row.id), version, Buffer.alloc(16, 255), Buffer.from([flags])];
    bytes.push(Buffer.from(contentHash), Buffer.from([2]), Buffer.from('st'));
    expect(new LeafHasher(key).leaf(row, contentHash)).toEqual(sha256(Buffer.concat(bytes)));
  }
  const sum = Buffer.alloc(32, 9);
  const counted = Buffer.concat([sum, Buffer.from([0, 0, 1, 0, 0, 0, 0, 3])]);
  expect(wireHash(sum, 2 ** 40 + 3)).toEqual(sha256(counted).subarray(0, 16));
  const name = sha256(Buffer.concat([Buffer.from('sync-engine key id\0'), key]));
  expect(keyIdOf(key)).toBe(name.toString('hex', 0, 8));
});

test('a row with the longest id and state has a leaf, and a key of another length makes none', () => {
  const row = { version: 1, origin: 'o'.repeat(16), deleted: false, contentType: 'json' } as const;
  const hasher = new LeafHasher(Buffer.alloc(32));
  const leaves = ['x', 'y'].map((last) =>
    hasher.leaf({ ...row, id: 'i'.repeat(1024), state: `${'s'.repeat(63)}${last}` }, Buffer.alloc(32)),
  );
  expect(leaves[0]).not.toEqual(leaves[1]);
  expect(() => new LeafHasher(Buffer.alloc(31))).toThrow('The key has 31 bytes; it has 32.');
});

test('lanes are added one by one, and a sum is zero only where all of them are', () => {
  const sum = new LaneSum();
  expect(sum.isZero).toBe(true);
  sum.addLanes([1, 2, 3, 4, 5, 6, 7, 2 ** 32 - 1]);
  sum.addLanes([1, 0, 0, 0, 0, 0, 0, 1]);
  expect([...sum.lanes]).toEqual([2, 2, 3, 4, 5, 6, 7, 0]);
  for (let lane = 0; lane < 8; lane++) {
    const one = new LaneSum();
    one.addLanes(Array.from({ length: 8 }, (_, at) => (at === lane ? 1 : 0)));
    expect(one.isZero).toBe(false);
    expect(LaneSum.of(one.bytes()).lanes).toEqual(one.lanes);
  }
});

test('what is no path, or no path that an id can have, is refused with the reason', () => {
  for (const bad of [5, null, { length: 0 }, ['a', 5]]) {
    expect(() => pathOf(bad as string)).toThrow(
      new TypeError('A path is a string or an array of segments; [] is the root.'),
    );
  }
  expect(() => pathOf(Array<string>(65).fill('a'))).toThrow(/has 65 segments; from the 64th/);
  expect(() => pathOf(['a', 'b.c'])).toThrow(/Segment 1 of the path contains a dot/);
  expect(pathOf(Array<string>(64).fill('a'))).toHaveLength(64);
});

test('the path above an id of more than 64 segments is that of its first 63', () => {
  const first63 = 's.'.repeat(63);
  expect(keyAbove(`${first63}x.y.z`)).toBe(first63);
  expect(keyAbove(`${first63}x`)).toBe(first63);
  expect(keyAbove(`${'.'.repeat(62)}x`)).toBe('.'.repeat(62));
  expect(keyAbove('x')).toBe('');
  expect(split(`${first63}x.y.z`).at(-1)).toBe('x.y.z');
});

function sumOf(leaves: readonly Buffer[]): LaneSum {
  const sum = new LaneSum();
  for (const one of leaves) sum.add(one);
  return sum;
}
