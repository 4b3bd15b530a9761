import { expect, test } from 'vitest';
import { BackpressureLevel } from '#engine/resilience/backpressure.js';

test('levels begin where the thresholds say', () => {
  const names = (ratios: number[], thresholds = {}) =>
    ratios.map((ratio) => BackpressureLevel.fromPressure(ratio, thresholds).name);
  expect(names([0, 0.699, 0.7, 0.799, 0.8, 0.899, 0.9, 0.949, 0.95, 0.979, 0.981, 5])).toEqual([
    ...['Normal', 'Normal', 'Warn', 'Warn', 'Throttle', 'Throttle'],
    ...['Critical', 'Critical', 'Emergency', 'Emergency', 'Shutdown', 'Shutdown'],
  ]);
  expect(names([0.49, 0.5, 0.6, 0.7, 0.86, 0.95], { warn: 0.5, critical: 0.7 })).toEqual([
    ...['Normal', 'Warn', 'Throttle', 'Critical', 'Emergency', 'Shutdown'],
  ]);
});

test('writes are taken below Critical, reads always, and a refusal says which status and when to come again', () => {
  const levels = [0, 0.7, 0.8, 0.9, 0.95, 0.99].map((ratio) => BackpressureLevel.fromPressure(ratio));
  expect(levels.map((level) => level.acceptsWrites)).toEqual([true, true, true, false, false, false]);
  expect(levels.every((level) => level.acceptsReads && level.description.length > 0)).toBe(true);
  expect(levels.map((level) => level.httpStatus)).toEqual([undefined, undefined, 429, 429, 503, 503]);
  for (let at = 1; at < levels.length; at++) {
    const [lower, higher] = [levels[at - 1], levels[at]] as [BackpressureLevel, BackpressureLevel];
    expect(higher.evictionMultiplier).toBeGreaterThan(lower.evictionMultiplier);
    expect(higher.rank).toBe(lower.rank + 1);
    if (higher.rank > 2) expect(higher.retryAfterMs).toBeGreaterThan(lower.retryAfterMs as number);
  }
  expect(Object.isFrozen(levels[0])).toBe(true);
});
