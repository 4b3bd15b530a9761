/** The order of two writes, against its definition as bytes. */
import { hash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compareOrder, isNewer } from '#engine/item/order.js';
import type { Revision } from '#engine/item/revision.js';
import { revision } from '#engine/testing/revisions.js';

/** `version (u64 big-endian) | origin | deleted | content hash`, as archives and caches may compare it. */
function orderKey(one: Revision): Buffer {
  const key = Buffer.alloc(8 + 16 + 1 + 32);
  key.writeBigUInt64BE(BigInt(one.version), 0);
  key.write(one.origin, 8, 16, 'latin1');
  key[24] = one.deleted ? 1 : 0;
  if (!one.deleted) key.write(hash('sha256', one.content), 25, 32, 'hex');
  return key;
}

const origin = (bytes: readonly number[]): string => Buffer.from(bytes).toString('latin1');

/** Few values for each field, so that ties are frequent; some on both sides of 32 bits and of ASCII. */
const tied: fc.Arbitrary<Revision> = fc
  .record({
    version: fc.constantFrom(1, 2, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 52, Number.MAX_SAFE_INTEGER),
    origin: fc.constantFrom(
      origin(Array(16).fill(0)),
      origin([...Array(15).fill(0), 255]),
      origin([...Array(14).fill(97), 0, 127]),
      origin([...Array(14).fill(97), 0, 128]),
      origin(Array(16).fill(255)),
    ),
    deleted: fc.boolean(),
    content: fc.constantFrom('', 'a', 'b', 'c').map((text) => Buffer.from(text)),
  })
  .map((made) => revision({ ...made, content: made.deleted ? Buffer.alloc(0) : made.content }));

test('the order is the order of the key bytes', () => {
  fc.assert(
    fc.property(tied, tied, (a, b) => {
      expect(Math.sign(compareOrder(a, b))).toBe(Buffer.compare(orderKey(a), orderKey(b)));
      expect(isNewer(a, b)).toBe(Buffer.compare(orderKey(a), orderKey(b)) > 0);
    }),
    { numRuns: 1000 },
  );
});

test('of two different writes exactly one is newer', () => {
  fc.assert(
    fc.property(tied, tied, (a, b) => {
      expect(compareOrder(a, a)).toBe(0);
      expect(Math.sign(compareOrder(a, b)) + Math.sign(compareOrder(b, a))).toBe(0);
      expect(compareOrder(a, b) === 0).toBe(orderKey(a).equals(orderKey(b)));
    }),
    { numRuns: 500 },
  );
});

test('what is newer than the newer is newer', () => {
  fc.assert(
    fc.property(tied, tied, tied, (a, b, c) => {
      fc.pre(compareOrder(a, b) >= 0 && compareOrder(b, c) >= 0);
      expect(compareOrder(a, c)).toBeGreaterThanOrEqual(0);
      if (compareOrder(a, b) > 0) expect(compareOrder(a, c)).toBeGreaterThan(0);
    }),
    { numRuns: 500 },
  );
});

test('writes that arrive in any order leave the same winner', () => {
  const newest = (writes: readonly Revision[]): Revision =>
    writes.reduce((kept, write) => (isNewer(write, kept) ? write : kept));
  const shuffled = fc
    .array(tied, { minLength: 1, maxLength: 8 })
    .chain((writes) =>
      fc.tuple(
        fc.constant(writes),
        fc.shuffledSubarray(writes, { minLength: writes.length, maxLength: writes.length }),
      ),
    );
  fc.assert(
    fc.property(shuffled, ([first, second]) => {
      expect(orderKey(newest(first))).toEqual(orderKey(newest(second)));
    }),
  );
});

test('at equal version and origin a delete is newer than a put, whatever the put holds', () => {
  const put = revision({ deleted: false, content: Buffer.from('anything') });
  const deletion = revision({ deleted: true });
  expect(compareOrder(deletion, put)).toBeGreaterThan(0);
  expect(compareOrder(put, deletion)).toBeLessThan(0);
});

test('at equal version, origin and kind the greater content hash is newer', () => {
  const [a, b] = ['a', 'b'].map((text) => revision({ content: Buffer.from(text) })) as [Revision, Revision];
  expect(compareOrder(a, b) > 0).toBe(hash('sha256', 'a') > hash('sha256', 'b'));
  expect(compareOrder(a, b)).not.toBe(0);
});

test('state, content type and texts have no part in the order', () => {
  const a = revision({ state: 'x', contentType: 'json', traceParent: 't' });
  expect(compareOrder(a, revision({ state: 'y', homeInstanceId: 'h' }))).toBe(0);
});

test('two deletes of one version are the same write, whatever hash came with them', () => {
  const [a, b] = ['0', 'f'].map((digit) => revision({ deleted: true, contentHash: digit.repeat(64) }));
  expect(compareOrder(a as Revision, b as Revision)).toBe(0);
});
