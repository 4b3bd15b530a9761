import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NEW_HISTORY, ReuseOdds } from '#engine/memory/eviction-odds.js';

/** History of what was used again `uses` times, always after `gap`. */
function historyOf(odds: ReuseOdds, gap: number, uses: number): number {
  let history = NEW_HISTORY;
  for (let n = 0; n < uses; n++) history = odds.used(history, gap);
  return history;
}

interface Observed {
  readonly history: number;
  readonly gap: number;
  readonly kind: 'used' | 'lost' | 'waits';
  readonly count: number;
}

/** Half an octave each: 1, 1.5, 2, 3, 4, 6, 8, 12, … */
const STARTS = Array.from({ length: 65 }, (_, bin) => (bin % 2 === 0 ? 1 : 1.5) * 2 ** Math.floor(bin / 2));
const PRIOR = [0.06, 0.12, 0.18, 0.24, 0.3];
const groupOf = (history: number): number => [0, 1, 2, 3, 3, 4, 4, 4][history >> 5] as number;
const classOf = (history: number): number => (groupOf(history) === 0 ? 0 : (history & 31) >> 1);

/** Chance of a use in each bin for what got that far, with so many observations taken from what is expected. */
function chances(observed: readonly Observed[], weight: number, expected: readonly number[]): number[] {
  const inBin = (bin: number, kinds: readonly string[]): number =>
    observed
      .filter(({ gap, kind }) => kinds.includes(kind) && gap >= STARTS[bin]! && gap < STARTS[bin + 1]!)
      .reduce((sum, { count }) => sum + count, 0);
  return expected.map((chance, bin) => {
    const [used, lost] = [inBin(bin, ['used']), inBin(bin, ['lost', 'waits'])];
    const later = observed
      .filter(({ gap }) => gap >= STARTS[bin]!)
      .reduce((sum, { count }) => sum + count, 0);
    return (used + weight * chance) / (later - lost / 2 + weight);
  });
}

function pooled(observed: readonly Observed[], group: number): number[] {
  const prior = PRIOR[group] as number;
  const expected =
    group === 0
      ? Array<number>(64).fill(prior)
      : pooled(observed, group - 1).map((below) => (prior + below) / 2);
  return chances(
    observed.filter(({ history }) => groupOf(history) === group),
    16,
    expected,
  );
}

/** The rank by its definition: the best yield over all later ends, each tried. */
function ranksOf(observed: readonly Observed[], history: number): number[] {
  const alike = observed.filter(
    (one) => groupOf(one.history) === groupOf(history) && classOf(one.history) === classOf(history),
  );
  const chance = chances(alike, 4, pooled(observed, groupOf(history)));
  return chance.map((_, from) => {
    let [best, hits, time, waiting] = [0, 0, 0, 1];
    for (let bin = from; bin < 64; bin++) {
      const used = chance[bin] as number;
      hits += waiting * used;
      time += waiting * (STARTS[bin + 1]! - STARTS[bin]!) * (1 - used / 2);
      waiting *= 1 - used;
      best = Math.max(best, hits / time);
    }
    return best;
  });
}

function learnt(observed: readonly Observed[]): ReuseOdds {
  const odds = new ReuseOdds();
  for (const { history, gap, kind, count } of observed) {
    if (kind === 'waits') odds.waits(history, gap, count);
    else for (let n = 0; n < count; n++) odds[kind](history, gap);
  }
  return odds;
}

function expectRanks(odds: ReuseOdds, history: number, ranks: readonly number[]): void {
  const wrong = ranks.flatMap((rank, bin) => {
    const answered = odds.rank(history, Math.ceil(STARTS[bin] as number));
    return Math.abs(answered - rank) <= rank * 1e-5 ? [] : [[bin, answered, rank]];
  });
  // The bin from 1.5 to 2 has no whole number in it.
  expect(wrong.filter(([bin]) => bin !== 1)).toEqual([]);
}

test('ranks are those of the definition, whatever was observed', () => {
  const history = fc.constantFrom(0, 32, 33, 40, 63, 64, 70, 96, 100, 128, 140, 160, 200, 224, 255);
  const observed = fc.record({
    history,
    gap: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 2 ** 32 - 1 })),
    kind: fc.constantFrom('used' as const, 'lost' as const, 'waits' as const),
    count: fc.integer({ min: 1, max: 60 }),
  });
  fc.assert(
    fc.property(fc.array(observed, { maxLength: 25 }), fc.array(history, { maxLength: 3 }), (all, others) => {
      const odds = learnt(all);
      odds.fit();
      for (const one of [...all.map((each) => each.history), ...others])
        expectRanks(odds, one, ranksOf(all, one));
    }),
    { numRuns: 40 },
  );
});

test('before the first observation ranks are those of the prior', () => {
  for (const history of [0, 32, 64, 96, 224]) expectRanks(new ReuseOdds(), history, ranksOf([], history));
});

test('what was observed weighs 1/e after 20,000 operations, or 40 for each entry where that is more', () => {
  const all: Observed[] = [
    { history: 0, gap: 100, kind: 'used', count: 50 },
    { history: 0, gap: 5000, kind: 'lost', count: 70 },
    { history: 64, gap: 100, kind: 'used', count: 40 },
  ];
  for (const [operations, entries, factor] of [
    [20_000, 10, Math.exp(-1)],
    [20_000, 500, Math.exp(-1)],
    [20_000, 1000, Math.exp(-0.5)],
    [0, 10, 1],
  ] as const) {
    const odds = learnt(all);
    odds.fade(operations, entries);
    odds.fit();
    const faded = all.map((one) => ({ ...one, count: one.count * factor }));
    for (const history of [0, 64]) expectRanks(odds, history, ranksOf(faded, history));
  }
});

test('a history counts uses up to seven, and its mean gap follows the newest by half', () => {
  const odds = new ReuseOdds();
  const uses = (gaps: readonly number[]): [number, number] => {
    const history = gaps.reduce((before, gap) => odds.used(before, gap), NEW_HISTORY);
    return [history >> 5, history & 31];
  };
  expect(uses([1])).toEqual([1, 0]);
  expect(uses([1023])).toEqual([1, 9]);
  expect(uses([2 ** 32 - 1])).toEqual([1, 31]);
  expect(uses(Array(9).fill(1024))).toEqual([7, 10]);
  expect(uses([1024, 16])).toEqual([2, 7]);
  expect(uses([1024, 16, 16])).toEqual([3, 5]);
  expect(uses([16, 1024])).toEqual([2, 7]);
  expect(uses([16, 1536])).toEqual([2, 7]);
  expect(uses([32, 1536])).toEqual([2, 8]);
  expect(uses([32, 1024])).toEqual([2, 7]);
});

test('what is learnt takes 67 KiB', () => {
  expect(new ReuseOdds().overheadBytes).toBe(67 * 1024);
});

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
