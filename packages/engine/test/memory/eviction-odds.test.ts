import { describe, expect, test } from 'vitest';
import { NEW_HISTORY, ReuseOdds } from '#engine/memory/eviction-odds.js';

/** History of what was used again `uses` times, always after `gap`. */
function historyOf(odds: ReuseOdds, gap: number, uses: number): number {
  let history = NEW_HISTORY;
  for (let n = 0; n < uses; n++) history = odds.used(history, gap);
  return history;
}

describe('where nothing was observed', () => {
  test('rank falls with idle time as under LRU, for every count', () => {
    const odds = new ReuseOdds();
    for (const uses of [0, 1, 2, 3]) {
      const history = historyOf(odds, 100, uses);
      const ranks = [1, 4, 64, 5_000, 2 ** 20, 2 ** 31].map((gap) => odds.rank(history, gap));
      expect(ranks).toEqual([...ranks].sort((a, b) => b - a));
      expect(new Set(ranks).size).toBe(ranks.length);
    }
  });

  test('every idle time of 32 bits has a rank that is a positive number', () => {
    const odds = new ReuseOdds();
    for (let exponent = 0; exponent < 32; exponent++) {
      for (const gap of [2 ** exponent, 2 ** exponent * 2 - 1]) {
        expect(odds.rank(NEW_HISTORY, gap)).toBeGreaterThan(0);
      }
    }
  });
});

test('what always comes back after the same gap ranks higher the nearer that is', () => {
  const odds = new ReuseOdds();
  const history = historyOf(odds, 10_000, 3);
  for (let n = 0; n < 5_000; n++) odds.used(history, 10_000);
  odds.fit();
  const ranks = [10, 1_000, 4_000, 9_000].map((gap) => odds.rank(history, gap));
  expect(ranks).toEqual([...ranks].sort((a, b) => a - b));
  expect(odds.rank(history, 9_000)).toBeGreaterThan(odds.rank(history, 40_000) * 10);
});

test('what was used once more is expected to come back as it did before, until it is known better', () => {
  const odds = new ReuseOdds();
  for (let n = 0; n < 5_000; n++) odds.used(NEW_HISTORY, 10_000);
  odds.fit();
  const history = historyOf(odds, 10_000, 1);
  expect(odds.rank(history, 8_000)).toBeGreaterThan(odds.rank(history, 2_000));
  for (let n = 0; n < 5_000; n++) odds.used(history, 100);
  odds.fit();
  expect(odds.rank(history, 8_000)).toBeLessThan(odds.rank(history, 64));
});

test('a rank is the best yield over all later ends: half are used within the next bin, half never', () => {
  const odds = new ReuseOdds();
  for (let n = 0; n < 100_000; n++) {
    odds.used(NEW_HISTORY, 1_024);
    odds.lost(NEW_HISTORY, 2 ** 30);
  }
  odds.fit();
  // The bin is 512 wide; what is used within it is used halfway: 0.5 uses in 512 × (1 − 0.25) operations.
  expect(odds.rank(NEW_HISTORY, 1_024)).toBeCloseTo(0.5 / 384, 5);
  // Before it, waiting through the bin of 768 to 1,023 comes on top.
  expect(odds.rank(NEW_HISTORY, 768)).toBeCloseTo(0.5 / (384 + 256), 5);
});

test('entries that still wait count against those that were used early', () => {
  const odds = new ReuseOdds();
  for (let n = 0; n < 1_000; n++) odds.used(NEW_HISTORY, 10);
  odds.fit();
  const hopeful = odds.rank(NEW_HISTORY, 8);
  odds.waits(NEW_HISTORY, 10_000, 9_000);
  odds.fit();
  expect(odds.rank(NEW_HISTORY, 8)).toBeLessThan(hopeful / 5);
  odds.fit();
  expect(odds.rank(NEW_HISTORY, 8)).toBe(hopeful);
});

test('observations fade, so that what was so long ago gives way to what is', () => {
  const odds = new ReuseOdds();
  for (let n = 0; n < 10_000; n++) odds.used(NEW_HISTORY, 1_000);
  odds.fade(200_000, 100);
  for (let n = 0; n < 10_000; n++) odds.lost(NEW_HISTORY, 1_000_000);
  odds.fit();
  expect(odds.rank(NEW_HISTORY, 1_000)).toBeLessThan(1e-5);
});
