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
    expect(() => new TanCurveMemoryPressure({ criticalPercent: Number.NaN })).toThrow(RangeError);
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
