import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Slabs } from '#engine/memory/slabs.js';

/** Slabs whose owner is a map from slot to place. */
function slabs() {
  const places = new Map<number, number>();
  const made = new Slabs(1024, {
    placeOf: (slot) => places.get(slot) ?? -1,
    moved: (slot, place) => places.set(slot, place),
  });
  const bytesAt = (place: number) => {
    const start = made.offsetOf(place);
    return made.bufferOf(place).subarray(start, start + made.lengthOf(place));
  };
  return { made, places, bytesAt };
}

test('a record keeps its bytes, wherever it is moved, and dead slabs are let go', () => {
  const step = fc.record({ add: fc.boolean(), slot: fc.nat(300), length: fc.nat(64) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 800 }), (steps) => {
      const { made, places, bytesAt } = slabs();
      const contents = new Map<number, Buffer>();
      let fill = 0;
      for (const { add, slot, length } of steps) {
        const place = places.get(slot);
        if (place !== undefined) {
          made.free(place);
          places.delete(slot);
          contents.delete(slot);
        }
        if (!add) continue;
        const at = made.allocate(slot, length);
        places.set(slot, at);
        bytesAt(at).fill(++fill);
        contents.set(slot, Buffer.from(bytesAt(at)));
        if (made.fragmented) made.compact();
      }
      let live = 0;
      for (const [slot, bytes] of contents) {
        expect(bytesAt(places.get(slot) as number).equals(bytes)).toBe(true);
        live += 8 + Math.ceil(bytes.length / 4) * 4;
      }
      while (made.fragmented) made.compact();
      // At most a sixth of it is dead, or one slab, and the newest one is not full.
      expect(made.bytes).toBeLessThanOrEqual(Math.max(live * 1.2, live + 1024) + 1024 + 64);
    }),
  );
});

test('a view of a record is not overwritten when its place is freed and used again', () => {
  const { made, places, bytesAt } = slabs();
  for (let slot = 0; slot < 200; slot++) {
    places.set(slot, made.allocate(slot, 40));
    bytesAt(places.get(slot) as number).fill(slot);
  }
  const view = bytesAt(places.get(3) as number);
  for (let slot = 0; slot < 200; slot += 2) {
    if (slot === 4) continue;
    made.free(places.get(slot) as number);
    places.delete(slot);
  }
  while (made.fragmented) made.compact();
  for (let slot = 300; slot < 500; slot++) bytesAt(made.allocate(slot, 40)).fill(255);
  expect(view.every((byte) => byte === 3)).toBe(true);
});
