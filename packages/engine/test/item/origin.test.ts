/** Node and incarnation in 16 characters that compare like bytes. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatOrigin, makeOrigin, NODE_ID_LENGTH_MAX, ORIGIN_BYTES } from '#engine/item/origin.js';

const nodeId = fc
  .array(fc.integer({ min: 0x21, max: 0x7e }), { minLength: 1, maxLength: NODE_ID_LENGTH_MAX })
  .map((codes) => String.fromCharCode(...codes));
const incarnation = fc.oneof(
  fc.constantFrom(0, 1, 127, 128, 255, 256, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1),
  fc.integer({ min: 0, max: 2 ** 32 - 1 }),
);

test('an origin has 16 characters of one byte each', () => {
  fc.assert(
    fc.property(nodeId, incarnation, (node, count) => {
      const origin = makeOrigin(node, count);
      expect(origin).toHaveLength(ORIGIN_BYTES);
      expect(Buffer.from(origin, 'latin1').toString('latin1')).toBe(origin);
      expect(Buffer.from(origin, 'latin1').readUInt32BE(NODE_ID_LENGTH_MAX)).toBe(count);
    }),
  );
});

test('node and incarnation can be read back from it', () => {
  fc.assert(
    fc.property(nodeId, incarnation, (node, count) => {
      expect(formatOrigin(makeOrigin(node, count))).toBe(`${node}#${count}`);
    }),
  );
});

test('a later incarnation of a node is greater, also beyond 31 bits', () => {
  fc.assert(
    fc.property(nodeId, incarnation, incarnation, (node, a, b) => {
      expect(makeOrigin(node, a) < makeOrigin(node, b)).toBe(a < b);
    }),
  );
});

test('two nodes never share an origin, whatever their incarnations', () => {
  fc.assert(
    fc.property(nodeId, nodeId, incarnation, incarnation, (a, b, countA, countB) => {
      fc.pre(a !== b);
      expect(makeOrigin(a, countA)).not.toBe(makeOrigin(b, countB));
    }),
  );
});

test('comparing origins as strings is comparing their bytes', () => {
  fc.assert(
    fc.property(nodeId, nodeId, incarnation, incarnation, (a, b, countA, countB) => {
      const [first, second] = [makeOrigin(a, countA), makeOrigin(b, countB)];
      const bytes = Buffer.compare(Buffer.from(first, 'latin1'), Buffer.from(second, 'latin1'));
      expect(first < second ? -1 : first > second ? 1 : 0).toBe(bytes);
    }),
  );
});
