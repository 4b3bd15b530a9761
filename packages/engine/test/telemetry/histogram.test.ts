import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Histogram } from '#engine/telemetry/histogram.js';

const VALUE_MAX = 2 ** 31 - 1;
const values = fc.array(fc.oneof(fc.nat(40), fc.nat(5000), fc.nat(VALUE_MAX)), { minLength: 1 });

function filled(all: readonly number[]): Histogram {
  const histogram = new Histogram();
  for (const value of all) histogram.record(value);
  return histogram;
}

describe('a percentile', () => {
  test('is never below the value it stands for, and at most 6.25 % above it', () => {
    fc.assert(
      fc.property(values, fc.double({ min: 0, max: 1, noNaN: true }), (all, share) => {
        const sorted = [...all].sort((a, b) => a - b);
        const exact = sorted[Math.max(1, Math.ceil(share * all.length)) - 1] as number;
        const found = filled(all).percentile(share);
        expect(found).toBeGreaterThanOrEqual(exact);
        expect(found).toBeLessThanOrEqual(exact * 1.0625);
      }),
    );
  });

  test('is exact up to 31, and at the largest value', () => {
    for (let value = 0; value < 32; value++) expect(filled([value, VALUE_MAX]).percentile(0.5)).toBe(value);
    expect(filled([1, VALUE_MAX]).percentile(1)).toBe(VALUE_MAX);
  });
});

test('count, sum and extremes are exact', () => {
  fc.assert(
    fc.property(values, (all) => {
      const { count, sum, min, max } = filled(all).stats;
      expect(count).toBe(all.length);
      expect(sum).toBe(all.reduce((a, b) => a + b));
      expect([min, max]).toEqual([Math.min(...all), Math.max(...all)]);
    }),
  );
});

test('without records everything is 0', () => {
  expect(new Histogram().stats).toEqual({ count: 0, sum: 0, min: 0, max: 0, p50: 0, p90: 0, p99: 0 });
});

test('what is no number, negative or too large falls into the first or last bucket', () => {
  const { count, min, max } = filled([Number.NaN, -5, Number.POSITIVE_INFINITY]).stats;
  expect([count, min, max]).toEqual([3, 0, VALUE_MAX]);
});
