/** The clock that stamps versions: against wall clocks that jump, and across crashes. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { HybridClock, msOfVersion, versionOfMs } from '#engine/item/hybrid-clock.js';
import type { Clock } from '#engine/ports/ports.js';

/** 2027; far from 0, so that a jump backwards stays positive. */
const NOW = 1_800_000_000_000;

class WallClock implements Clock {
  ms: number;

  constructor(ms = NOW) {
    this.ms = ms;
  }

  now(): number {
    return this.ms;
  }

  monotonic(): number {
    throw new Error('A version does not depend on monotonic time.');
  }
}

/** What can happen to a clock: the wall clock jumps, a write is stamped, a version is read, the mark is kept. */
type Happening =
  | { readonly kind: 'jump'; readonly ms: number }
  | { readonly kind: 'stamp' | 'keep' | 'crash' }
  | { readonly kind: 'merge'; readonly ahead: number };

const DAY_MS = 24 * 60 * 60 * 1000;

const jump = fc.record({
  kind: fc.constant('jump' as const),
  ms: fc.oneof(fc.double({ min: -5, max: 5, noNaN: true }), fc.integer({ min: -DAY_MS, max: DAY_MS })),
});
const merge = fc.record({
  kind: fc.constant('merge' as const),
  ahead: fc.oneof(fc.integer({ min: -10, max: 10 }), fc.integer({ min: -(2 ** 40), max: 2 ** 40 })),
});
const stamp = fc.constant({ kind: 'stamp' as const });
const keep = fc.constant({ kind: 'keep' as const });
const crash = fc.constant({ kind: 'crash' as const });

test('stamps grow strictly, whatever the wall clock does and whatever is merged', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(jump, merge, stamp, stamp), { maxLength: 60 }), (happenings) => {
      const wall = new WallClock();
      const clock = new HybridClock(wall);
      let newest = 0;
      for (const happening of happenings as Happening[]) {
        if (happening.kind === 'jump') wall.ms += happening.ms;
        else if (happening.kind === 'merge') {
          const version = Math.max(1, clock.last + happening.ahead);
          clock.merge(version);
          newest = Math.max(newest, version);
        } else {
          const version = clock.next() as number;
          expect(version).toBeGreaterThan(newest);
          expect(Number.isSafeInteger(version)).toBe(true);
          newest = version;
        }
        expect(clock.last).toBe(newest);
      }
    }),
    { numRuns: 300 },
  );
});

test('with marks and crashes no version is stamped twice, and none at or above the durable mark', () => {
  const happenings = fc.array(fc.oneof(jump, merge, stamp, stamp, stamp, keep, crash), { maxLength: 80 });
  fc.assert(
    fc.property(happenings, (run) => {
      const wall = new WallClock();
      let durableMark = 0;
      let newestStamp = 0;
      const started = (): HybridClock => {
        const clock = new HybridClock(wall);
        clock.merge(durableMark);
        durableMark = clock.markNeeded() as number;
        clock.markKept(durableMark);
        return clock;
      };
      let clock = started();
      for (const happening of run as Happening[]) {
        if (happening.kind === 'jump') wall.ms += happening.ms;
        else if (happening.kind === 'merge') clock.merge(Math.max(1, clock.last + happening.ahead));
        else if (happening.kind === 'crash') clock = started();
        else if (happening.kind === 'keep') {
          const mark = clock.markNeeded();
          if (mark === undefined) continue;
          durableMark = mark;
          clock.markKept(mark);
        } else {
          const version = clock.next();
          if (version === undefined) continue;
          expect(version).toBeGreaterThan(newestStamp);
          expect(version).toBeLessThan(durableMark);
          newestStamp = version;
        }
      }
    }),
    { numRuns: 300 },
  );
});

describe('without a mark', () => {
  test('a stamp follows the wall clock, and counts on within a millisecond', () => {
    const wall = new WallClock();
    const clock = new HybridClock(wall);
    expect(clock.next()).toBe(versionOfMs(NOW));
    expect(clock.next()).toBe(versionOfMs(NOW) + 1);
    wall.ms += 1;
    expect(clock.next()).toBe(versionOfMs(NOW + 1));
  });

  test('a wall clock that went back is waited for by counting, and followed again later', () => {
    const wall = new WallClock();
    const clock = new HybridClock(wall);
    clock.next();
    wall.ms -= DAY_MS;
    expect(clock.next()).toBe(versionOfMs(NOW) + 1);
    wall.ms = NOW + 5;
    expect(clock.next()).toBe(versionOfMs(NOW + 5));
  });

  test('a merged version is never passed by an older one', () => {
    const clock = new HybridClock(new WallClock());
    clock.merge(versionOfMs(NOW + DAY_MS));
    clock.merge(versionOfMs(NOW));
    expect(clock.last).toBe(versionOfMs(NOW + DAY_MS));
    expect(clock.next()).toBe(versionOfMs(NOW + DAY_MS) + 1);
  });
});

describe('with a mark', () => {
  function marked(wall: WallClock): { clock: HybridClock; mark: number } {
    const clock = new HybridClock(wall);
    const mark = clock.markNeeded() as number;
    clock.markKept(mark);
    return { clock, mark };
  }

  test('the first mark is always needed, and lies ahead of the wall clock', () => {
    const { mark } = marked(new WallClock());
    expect(mark).toBeGreaterThan(versionOfMs(NOW + 1000));
    expect(mark).toBeLessThanOrEqual(versionOfMs(NOW + 10_000));
  });

  test('a kept mark is enough until the wall clock comes near it', () => {
    const wall = new WallClock();
    const { clock, mark } = marked(wall);
    expect(clock.markNeeded()).toBeUndefined();
    wall.ms = msOfVersion(mark) - 7000;
    expect(clock.markNeeded()).toBeUndefined();
    wall.ms = msOfVersion(mark) - 5000;
    expect(clock.markNeeded()).toBeGreaterThan(mark);
  });

  test('the last version below the mark is stamped, the mark itself is not, until it is raised', () => {
    const { clock, mark } = marked(new WallClock());
    clock.merge(mark - 2);
    expect(clock.next()).toBe(mark - 1);
    expect(clock.next()).toBeUndefined();
    expect(clock.last).toBe(mark - 1);
    const raised = clock.markNeeded() as number;
    expect(clock.next()).toBeUndefined();
    clock.markKept(raised);
    expect(clock.next()).toBe(mark);
  });

  test('a wall clock that jumps beyond the mark is not followed there; stamps count on below it', () => {
    const wall = new WallClock();
    const { clock, mark } = marked(wall);
    wall.ms += DAY_MS;
    const first = clock.next() as number;
    expect(first).toBeLessThan(mark - 1_000_000);
    expect(first).toBeGreaterThan(versionOfMs(NOW));
    expect(clock.next()).toBe(first + 1);
    clock.markKept(clock.markNeeded() as number);
    expect(clock.next()).toBe(versionOfMs(NOW + DAY_MS));
  });

  test('a version merged from beyond the mark stops the stamps until the mark is above it', () => {
    const { clock, mark } = marked(new WallClock());
    clock.merge(mark + 5);
    expect(clock.next()).toBeUndefined();
    clock.markKept(clock.markNeeded() as number);
    expect(clock.next()).toBe(mark + 6);
  });

  test('a mark far ahead of the wall clock is raised when the versions come near it', () => {
    const { clock, mark } = marked(new WallClock());
    clock.merge(mark - 500 * 2048);
    expect(clock.markNeeded()).toBeGreaterThan(mark);
  });

  test('after a crash the stamps begin above the mark, however far back the wall clock went', () => {
    const wall = new WallClock();
    const { mark } = marked(wall);
    wall.ms -= 365 * DAY_MS;
    const restarted = new HybridClock(wall);
    restarted.merge(mark);
    restarted.markKept(restarted.markNeeded() as number);
    expect(restarted.next()).toBe(mark + 1);
  });

  test('a process that crashes again and again is carried at most two seconds ahead by each crash', () => {
    const wall = new WallClock();
    let mark = 0;
    for (let crashes = 0; crashes < 100; crashes++) {
      const clock = new HybridClock(wall);
      clock.merge(mark);
      mark = clock.markNeeded() as number;
      clock.markKept(mark);
      clock.next();
    }
    expect(msOfVersion(mark) - NOW).toBeLessThanOrEqual(10_000 + 100 * 2000);
  });
});

test('a version is a safe integer up to the year 2109, and gives its millisecond back', () => {
  const end = Date.UTC(2109, 0, 1);
  expect(Number.isSafeInteger(versionOfMs(end) + 2047)).toBe(true);
  for (const ms of [0, 1, NOW, 2 ** 31, 2 ** 32 + 1, end]) {
    expect(msOfVersion(versionOfMs(ms))).toBe(ms);
    expect(msOfVersion(versionOfMs(ms) + 2047)).toBe(ms);
    expect(versionOfMs(ms + 1) - versionOfMs(ms)).toBe(2048);
  }
  expect(versionOfMs(NOW + 0.9)).toBe(versionOfMs(NOW));
});

test('a mark is enough up to its limits: six seconds ahead of the wall clock, one ahead of the newest version', () => {
  const wall = new WallClock();
  const clock = new HybridClock(wall);
  clock.markKept(clock.markNeeded() as number);
  wall.ms += 4000;
  expect(clock.markNeeded()).toBeUndefined();
  clock.merge(versionOfMs(NOW + 9000));
  expect(clock.markNeeded()).toBeUndefined();
  clock.merge(versionOfMs(NOW + 9000) + 1);
  expect(clock.markNeeded()).toBe(versionOfMs(NOW + 14_000));
  const other = new HybridClock(wall);
  other.markKept(versionOfMs(NOW + 10_000));
  wall.ms += 1;
  expect(other.markNeeded()).toBe(versionOfMs(NOW + 14_001));
});
