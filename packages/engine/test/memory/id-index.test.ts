import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hashOfId, IdIndex } from '#engine/memory/id-index.js';

/** Slots with ids as a plain array. */
function index(hashOf: (id: string) => number) {
  const ids: (string | undefined)[] = [];
  const slots = {
    hashes: new Int32Array(5000),
    hasId: (slot: number, id: string) => ids[slot] === id,
  };
  const made = new IdIndex(slots);
  return {
    made,
    find: (id: string) => made.find(id, hashOf(id)),
    add(id: string, slot: number) {
      ids[slot] = id;
      slots.hashes[slot] = hashOf(id);
      made.add(slot, hashOf(id));
    },
    remove(id: string, slot: number) {
      made.remove(slot, hashOf(id));
      ids[slot] = undefined;
    },
  };
}

const step = fc.record({ add: fc.boolean(), id: fc.nat(400).map((number) => `id.${number}`) });

test.each([
  ['spread ids', (id: string) => hashOfId(id, 12345)],
  // Everything in one table, around its end: probing wraps, and removal has to shift back across it.
  ['ids that collide', (id: string) => 0x7f0000fd + (hashOfId(id, 1) & 3)],
])('finds what was added and not removed: %s', (_what, hashOf) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 600 }), (steps) => {
      const { made, find, add, remove } = index(hashOf);
      const known = new Map<string, number>();
      let next = 0;
      for (const { add: adding, id } of steps) {
        const slot = known.get(id);
        if (adding && slot === undefined) {
          known.set(id, next);
          add(id, next++);
        } else if (!adding && slot !== undefined) {
          known.delete(id);
          remove(id, slot);
        }
      }
      expect(made.count).toBe(known.size);
      for (let number = 0; number <= 400; number++) {
        const id = `id.${number}`;
        expect(find(id)).toBe(known.get(id) ?? -1);
      }
    }),
  );
});

test('gives its memory back when it has emptied', () => {
  const { made, add, remove } = index((id) => hashOfId(id, 7));
  for (let at = 0; at < 5000; at++) add(`id${at}`, at);
  const full = made.bytes;
  for (let at = 0; at < 5000; at++) remove(`id${at}`, at);
  expect(full).toBeGreaterThan(5000 * 4);
  expect(made.bytes).toBeLessThan(full / 8);
});

test('every bit of the hash depends on the id and on the seed', () => {
  const counts = new Uint32Array(32);
  for (let at = 0; at < 4000; at++) {
    const difference = hashOfId(`user.${at}`, 1) ^ hashOfId(`user.${at + 1}`, 1);
    for (let bit = 0; bit < 32; bit++) counts[bit] = (counts[bit] as number) + ((difference >>> bit) & 1);
  }
  for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(200);
  expect(hashOfId('a', 1)).not.toBe(hashOfId('a', 2));
});
