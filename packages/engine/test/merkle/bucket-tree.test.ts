/** Buckets against a sum over all children, and the numbers that are refused. */
import { hash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { assertBucket, BucketTree, bucketOf } from '#engine/merkle/bucket-tree.js';
import { LaneSum, wireHash } from '#engine/merkle/digest.js';
import { STRANGE_IDS } from '#engine/testing/strange-ids.js';

interface Added {
  readonly segment: string;
  readonly sum: Buffer;
  readonly count: number;
}

const segments = fc.oneof(
  fc.constantFrom('', ...STRANGE_IDS),
  fc.nat(1_000_000).map(String),
  fc.string({ unit: 'binary' }),
);
const added: fc.Arbitrary<Added> = fc.record({
  segment: segments,
  sum: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes)),
  count: fc.constantFrom(0, 1, 2, 2 ** 32, 2 ** 40),
});

function bruteForce(all: readonly Added[], level: number, bucket: number): Buffer {
  const hashes = Buffer.alloc(64 * 16);
  for (let inner = 0; inner < 64; inner++) {
    const sum = new LaneSum();
    let count = 0;
    for (const one of all) {
      if (Math.floor(bucketOf(one.segment) / 64 ** (2 - level)) !== bucket * 64 + inner) continue;
      sum.add(one.sum);
      count += one.count;
    }
    if (count !== 0 || !sum.isZero) hashes.set(wireHash(sum.bytes(), count), inner * 16);
  }
  return hashes;
}

const negative = (sum: Buffer): Buffer => {
  const lanes = new LaneSum();
  lanes.subtract(sum);
  return lanes.bytes();
};

test('every answer is the sum over the children inside, at all levels', () => {
  fc.assert(
    fc.property(fc.array(added, { minLength: 1, maxLength: 20 }), (all) => {
      const tree = new BucketTree();
      for (const { segment, sum, count } of all) tree.add(segment, sum, count);
      expect(Buffer.from(tree.answer(0, 0))).toEqual(bruteForce(all, 0, 0));
      for (const { segment } of all) {
        const leaf = bucketOf(segment);
        expect(Buffer.from(tree.answer(1, leaf >> 12))).toEqual(bruteForce(all, 1, leaf >> 12));
        expect(Buffer.from(tree.answer(2, leaf >> 6))).toEqual(bruteForce(all, 2, leaf >> 6));
      }
    }),
    { numRuns: 30 },
  );
});

test('what is added and taken away again leaves zeros', () => {
  fc.assert(
    fc.property(fc.array(added, { maxLength: 20 }), (all) => {
      const tree = new BucketTree();
      for (const { segment, sum, count } of all) tree.add(segment, sum, count);
      for (const { segment, sum, count } of all) tree.add(segment, negative(sum), -count);
      expect(tree.answer(0, 0).every((byte) => byte === 0)).toBe(true);
    }),
    { numRuns: 30 },
  );
});

test('a sum of zero with a count is not an empty bucket', () => {
  const tree = new BucketTree();
  tree.add('a', Buffer.alloc(32), 1);
  expect(tree.answer(0, 0).some((byte) => byte !== 0)).toBe(true);
});

test('the sum may be a view into a larger buffer', () => {
  const large = Buffer.from(hash('sha512', 'a', 'hex'), 'hex');
  const [viewed, copied] = [new BucketTree(), new BucketTree()];
  viewed.add('a', large.subarray(7, 39), 1);
  copied.add('a', Uint8Array.from(large.subarray(7, 39)), 1);
  expect(viewed.answer(0, 0)).toEqual(copied.answer(0, 0));
});

test('a segment has the same bucket for ever', () => {
  expect(['', 'a', 'b', 'é', '😀', '\uffff', '__proto__', 'patient-000001'].map(bucketOf)).toEqual([
    175353, 27138, 133905, 191454, 109078, 2054, 194215, 51220,
  ]);
});

test('segments spread over the buckets', () => {
  const sizes = new Uint8Array(262_144);
  for (let at = 0; at < sizes.length; at++) {
    const bucket = bucketOf(`patient-${at}`);
    sizes[bucket] = (sizes[bucket] as number) + 1;
  }
  // One per bucket on average: as many empty ones as a random function leaves, 1/e, and none crowded.
  expect(sizes.filter((size) => size === 0).length / sizes.length).toBeCloseTo(1 / Math.E, 2);
  expect(sizes.reduce((max, size) => Math.max(max, size))).toBeLessThan(16);
});

test.each([
  [0, 1],
  [1, 64],
  [2, 4096],
  [2, -1],
  [1, 0.5],
  [1, Number.NaN],
])('level %d has no bucket %d', (level, bucket) => {
  const tree = new BucketTree();
  expect(() => tree.answer(level as 0 | 1 | 2, bucket)).toThrow(
    expect.objectContaining({
      code: 'CONFIG',
      message: `There is no bucket ${bucket} at level ${level}; ask for 0 to ${64 ** level - 1}.`,
    }),
  );
});

test.each([3, 4, -1, 1.5])('level %d has no buckets inside its buckets', (level) => {
  expect(() => new BucketTree().answer(level as 0, 0)).toThrow(expect.objectContaining({ code: 'CONFIG' }));
});

test('children have a level of buckets, and nothing lies below it', () => {
  expect(() => assertBucket(3, 262_143)).not.toThrow();
  expect(() => assertBucket(3, 262_144)).toThrow('no bucket 262144 at level 3');
  expect(() => assertBucket(4, 0)).toThrow('There is no level 4 of buckets; ask for 0 to 3.');
  expect(() => new BucketTree().answer(3 as 0, 0)).toThrow('Buckets of level 3 hold children, not buckets');
});

test('leaves that add up to zeros in all lanes but one still make a bucket that is not empty', () => {
  const tree = new BucketTree();
  const sum = Buffer.alloc(32);
  sum[31] = 1;
  tree.add('a', sum, 1);
  tree.add('a', Buffer.alloc(32), -1);
  expect(tree.answer(0, 0).some((byte) => byte !== 0)).toBe(true);
});

test('a sum of another length is refused', () => {
  expect(() => new BucketTree().add('a', Buffer.alloc(31), 1)).toThrow(
    new TypeError('The sum has 31 bytes; it has 32.'),
  );
});
