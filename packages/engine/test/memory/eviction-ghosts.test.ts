import { expect, test } from 'vitest';
import { Ghosts } from '#engine/memory/eviction-ghosts.js';

/** xorshift32. */
function hashes(count: number, seed: number): number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  });
}

test('a ghost is found by its whole hash, with history and time, also after the table has grown', () => {
  const ghosts = new Ghosts();
  const all = [...hashes(150, 77), 0, 0xff_ff_ff_ff, 0x80_00_00_00];
  const kept = new Map<number, number>();
  all.forEach((hash, at) => {
    const place = ghosts.placeOf(hash, 0);
    if (ghosts.lastUse(place) !== 0) return;
    ghosts.putAt(place, hash, at % 256, at + 1);
    kept.set(hash, at);
  });
  expect(kept.size).toBeGreaterThan(140);
  for (const reserved of [0, 1_500, 1_777, 20_000, 300_001]) {
    ghosts.reserve(reserved);
    expect(ghosts.count).toBe(kept.size);
    for (const [hash, at] of kept) {
      const cell = ghosts.find(hash);
      expect([ghosts.history(cell), ghosts.lastUse(cell)]).toEqual([at % 256, at + 1]);
    }
  }
  const strangers = hashes(2_000, 4_711).filter((hash) => !kept.has(hash));
  expect(strangers.filter((hash) => ghosts.find(hash) !== -1)).toEqual([]);
});

test('of four ghosts in one place the drawn one gives way, of fewer none', () => {
  const ghosts = new Ghosts();
  for (const hash of [0, 1, 2, 3]) ghosts.putAt(ghosts.placeOf(hash, 1), hash, hash, 5);
  ghosts.putAt(ghosts.placeOf(100, 0xff_ff_fe), 100, 7, 10);
  expect([0, 1, 2, 3].map((hash) => ghosts.find(hash) !== -1)).toEqual([true, true, false, true]);
  expect(ghosts.history(ghosts.find(100))).toBe(7);
  expect(ghosts.count).toBe(4);
});

test('a removed ghost is not found', () => {
  const ghosts = new Ghosts();
  ghosts.putAt(ghosts.placeOf(42, 0), 42, 1, 1);
  ghosts.remove(ghosts.find(42));
  expect(ghosts.find(42)).toBe(-1);
  expect(ghosts.count).toBe(0);
});

test('the table grows by half at least, never shrinks, and says what it takes', () => {
  const ghosts = new Ghosts();
  expect([ghosts.capacity, ghosts.overheadBytes, ghosts.count]).toEqual([1024, 8192, 0]);
  ghosts.reserve(1024);
  expect(ghosts.capacity).toBe(1024);
  ghosts.reserve(1025);
  expect(ghosts.capacity).toBe(1536);
  ghosts.reserve(100);
  expect(ghosts.capacity).toBe(1536);
  ghosts.reserve(10_001);
  expect([ghosts.capacity, ghosts.overheadBytes]).toEqual([10_004, 80_032]);
});

test('a ghost that is put where one is counts once, an empty cell has no history of its own', () => {
  const ghosts = new Ghosts();
  const cell = ghosts.placeOf(7, 0);
  expect(ghosts.lastUse(cell)).toBe(0);
  ghosts.putAt(cell, 7, 3, 10);
  ghosts.putAt(cell, 7, 4, 11);
  expect([ghosts.count, ghosts.history(cell), ghosts.lastUse(cell)]).toEqual([1, 4, 11]);
  // A hash of zero in an empty cell is no ghost.
  expect(ghosts.find(0)).toBe(-1);
  expect(new Ghosts().find(0)).toBe(-1);
});
