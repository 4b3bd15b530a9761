/** The segments below a wide path, by bucket, against plain sets. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bucketOf } from '#engine/merkle/bucket-tree.js';
import { SegmentIndex } from '#engine/merkle/segment-index.js';

/** Two of them in one bucket, found by trial. */
const MEETING = ['s25', 's68'] as const;

const segments = fc.uniqueArray(
  fc.oneof(fc.constantFrom('', 'é', '\u{10ffff}', ...MEETING), fc.nat(3000).map(String)),
  { maxLength: 40 },
);

test('every bucket has the segments that fall into it, each once, those that came later among them', () => {
  fc.assert(
    fc.property(segments, segments, (built, later) => {
      const index = new SegmentIndex();
      for (const segment of built) index.add(segment);
      index.seal();
      // What comes later may be known already, and come again.
      for (const segment of [...later, ...built.slice(0, 3), ...later]) index.add(segment);
      const all = [...new Set([...built, ...later])];
      for (const segment of all) {
        const bucket = bucketOf(segment);
        const expected = all.filter((one) => bucketOf(one) === bucket);
        expect(index.of(bucket).toSorted()).toEqual(expected.toSorted());
      }
    }),
    { numRuns: 30 },
  );
});

test('segments of one bucket are kept apart, those of its neighbours are not mixed in', () => {
  const bucket = bucketOf(MEETING[0]);
  expect(bucketOf(MEETING[1])).toBe(bucket);
  const index = new SegmentIndex();
  for (const segment of ['x', MEETING[0], 'y', MEETING[1], 'z']) index.add(segment);
  index.seal();
  expect(index.of(bucket)).toEqual(MEETING);
  expect(index.of(bucket + 1)).toEqual([]);
  expect(index.of(bucket - 1)).toEqual([]);
});

test('an index of nothing has nothing, and takes what comes later', () => {
  const index = new SegmentIndex();
  index.seal();
  expect([index.of(0), index.of(262_143)]).toEqual([[], []]);
  index.add('late');
  expect(index.of(bucketOf('late'))).toEqual(['late']);
});
