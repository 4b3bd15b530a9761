import { describe, expect, test } from 'vitest';
import { type CacheEntry, TanCurveMemoryPressure, TanCurvePolicy } from '#engine/memory/tan-curve.js';

const BUDGET = 256 * 1024 * 1024;

describe('pressure', () => {
  const pressure = new TanCurveMemoryPressure();
  const at = (percent: number): number => pressure.bytesToFree((BUDGET * percent) / 100, BUDGET);

  test('frees nothing up to the center', () => {
    expect([0, 50, 75].map(at)).toEqual([0, 0, 0]);
    expect(at(75.5)).toBeGreaterThan(0);
  });

  test('rises ever more steeply towards critical', () => {
    const freed = [76, 79, 82, 85, 88, 91].map(at);
    const steps = freed.slice(1).map((bytes, index) => bytes - (freed[index] as number));
    expect(steps).toEqual([...steps].sort((a, b) => a - b));
    expect(at(85)).toBe(BUDGET / 1024);
    expect(at(94.9)).toBe(BUDGET / 64);
  });

  test('from critical on frees all above it at once', () => {
    for (const percent of [96, 100, 130]) {
      const left = (BUDGET * percent) / 100 - at(percent);
      expect(left).toBeLessThanOrEqual(BUDGET * 0.95);
      expect(left).toBeGreaterThanOrEqual(BUDGET * 0.75);
    }
  });

  test('never falls as use grows', () => {
    let before = 0;
    for (let percent = 70; percent < 120; percent += 0.05) {
      const bytes = at(percent);
      expect(bytes).toBeGreaterThanOrEqual(before);
      before = bytes;
    }
  });

  test('never frees below the center, however near critical is', () => {
    const narrow = new TanCurveMemoryPressure({ centerPercent: 75, criticalPercent: 75.5 });
    for (const permille of [751, 753, 754.9, 756]) {
      const used = (BUDGET * permille) / 1_000;
      const left = used - narrow.bytesToFree(used, BUDGET);
      expect(left).toBeGreaterThanOrEqual(BUDGET * 0.75 - 1);
      expect(left).toBeLessThan(used);
    }
  });

  test('percentages out of order are refused', () => {
    expect(() => new TanCurveMemoryPressure({ centerPercent: 95, criticalPercent: 80 })).toThrow(/95 and 80/);
    for (const [centerPercent, criticalPercent] of [
      [-1, 50],
      [50, 50],
      [50, 101],
      [Number.NaN, 50],
      [50, Number.NaN],
    ] as const) {
      expect(() => new TanCurveMemoryPressure({ centerPercent, criticalPercent })).toThrow(RangeError);
    }
    expect(new TanCurveMemoryPressure({ centerPercent: 0, criticalPercent: 100 })).toMatchObject({
      centerPercent: 0,
      criticalPercent: 100,
    });
    expect(new TanCurveMemoryPressure()).toMatchObject({ centerPercent: 75, criticalPercent: 95 });
  });

  test('the message says what is wrong and what is usual', () => {
    expect(() => new TanCurveMemoryPressure({ centerPercent: 95, criticalPercent: 80 })).toThrow(
      'Memory pressure needs 0 ≤ centerPercent < criticalPercent ≤ 100, got 95 and 80; leave both out for 75 and 95.',
    );
  });

  test('at critical a tick frees a 64th, a byte above it one more', () => {
    const budget = 1024 * 1000;
    const wide = new TanCurveMemoryPressure({ centerPercent: 50, criticalPercent: 75 });
    expect(wide.bytesToFree(budget * 0.75, budget)).toBe(16_000);
    expect(wide.bytesToFree(budget * 0.75 + 1, budget)).toBe(16_001);
    expect(wide.bytesToFree(budget, budget)).toBe(16_000 + budget / 4);
    expect(wide.bytesToFree(budget * 0.625, budget)).toBe(1000);
    expect(wide.bytesToFree(budget * 0.5, budget)).toBe(0);
    expect(wide.bytesToFree(budget * 0.5 + 1, budget)).toBe(1);
    expect(wide.bytesToFree(Number.NaN, budget)).toBe(0);
  });
});

describe('policy', () => {
  const entry = (change: Partial<CacheEntry> = {}): CacheEntry => ({
    id: 'a',
    sizeBytes: 1_000,
    lastAccess: 0,
    accessCount: 1,
    isDirty: false,
    ...change,
  });

  test('what is older, larger or less often used scores lower', () => {
    const policy = new TanCurvePolicy();
    const base = policy.score(entry({ lastAccess: 500 }), 1_000);
    expect(policy.score(entry({ lastAccess: 400 }), 1_000)).toBeLessThan(base);
    expect(policy.score(entry({ lastAccess: 500, sizeBytes: 2_000 }), 1_000)).toBeLessThan(base);
    expect(policy.score(entry({ lastAccess: 500, accessCount: 0 }), 1_000)).toBeLessThan(base);
  });

  test('entries that are old beyond all measure still differ', () => {
    const policy = new TanCurvePolicy({ residencyMs: 1 });
    const now = 1e12;
    expect(policy.score(entry({ lastAccess: 0 }), now)).toBeLessThan(
      policy.score(entry({ lastAccess: 9 }), now),
    );
  });

  test('a score is uses by bytes as a power of two, less two for each residency without a read', () => {
    const policy = new TanCurvePolicy();
    expect(policy.residencyMs).toBe(60_000);
    expect(policy.score(entry({ sizeBytes: 1, accessCount: 7, lastAccess: 0 }), 90_000)).toBeCloseTo(0);
    expect(policy.score(entry({ sizeBytes: 8, accessCount: 0, lastAccess: 0 }), 0)).toBeCloseTo(-3);
    expect(policy.score(entry({ sizeBytes: 0, accessCount: 0, lastAccess: 0 }), 0)).toBe(0);
    expect(policy.score(entry({ sizeBytes: 1, accessCount: 0, lastAccess: 500 }), 0)).toBe(0);
  });

  test('the first victim sets the residency, each later one moves it by a 256th; none is below a millisecond', () => {
    const policy = new TanCurvePolicy({ residencyMs: 5 });
    expect(policy.residencyMs).toBe(5);
    policy.evicted(entry({ lastAccess: 100 }), 356);
    expect(policy.residencyMs).toBe(256);
    policy.evicted(entry({ lastAccess: 100 }), 612);
    expect(policy.residencyMs).toBe(257);
    const young = new TanCurvePolicy();
    young.evicted(entry({ lastAccess: 9 }), 9);
    expect(young.residencyMs).toBe(1);
  });

  test('a dirty entry outscores every clean one', () => {
    const policy = new TanCurvePolicy();
    expect(policy.score(entry({ isDirty: true }), 1e9)).toBe(Number.POSITIVE_INFINITY);
  });

  test('how much age weighs follows how long victims lasted', () => {
    const policy = new TanCurvePolicy();
    const lossOf = (idleMs: number): number =>
      policy.score(entry({ lastAccess: idleMs }), idleMs) - policy.score(entry(), idleMs);
    policy.evicted(entry({ lastAccess: 0 }), 10);
    expect(policy.residencyMs).toBe(10);
    expect(lossOf(10)).toBeCloseTo(2);
    for (let n = 0; n < 5_000; n++) policy.evicted(entry({ lastAccess: 0 }), 1_000);
    expect(policy.residencyMs).toBeCloseTo(1_000);
    expect(lossOf(10)).toBeCloseTo(0.02);
  });
});
