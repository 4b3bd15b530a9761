import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Evictor } from '#engine/memory/eviction.js';
import { slowTest } from '../support/slow.js';

/** Spreads small numbers over 32 bits, as a hash of ids does. */
const hashOf = (id: number): number => {
  const first = Math.imul(id ^ 0x1234567, 0x85ebca6b);
  return Math.imul(first ^ (first >>> 15), 0xc2b2ae35) >>> 0;
};

const make = (seed = 1): Evictor => new Evictor({ seed });

/** A cache of `capacity` entries of one size in front of an Evictor, as L1 drives it. */
class Cache {
  readonly evictor = make();
  readonly #capacity: number;
  readonly #slots = new Map<number, number>();
  readonly #ids: number[] = [];
  readonly #free: number[] = [];
  hits = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  has(id: number): boolean {
    return this.#slots.has(id);
  }

  get(id: number): void {
    const slot = this.#slots.get(id);
    if (slot !== undefined) {
      this.hits++;
      this.evictor.accessed(slot);
      return;
    }
    if (this.evictor.count === this.#capacity) {
      const victim = this.evictor.victim(0);
      this.#slots.delete(this.#ids[victim] as number);
      this.#free.push(victim);
    }
    const taken = this.#free.pop() ?? this.#slots.size;
    this.#slots.set(id, taken);
    this.#ids[taken] = id;
    this.evictor.added(taken, hashOf(id), 1);
  }
}

function victims(evictor: Evictor, count: number): number[] {
  return Array.from({ length: count }, () => evictor.victim(0));
}

describe('bookkeeping', () => {
  test('every entry is a victim once, then there is none', () => {
    const evictor = make();
    for (let slot = 0; slot < 1_000; slot++) evictor.added(slot, hashOf(slot), 10);
    const taken = victims(evictor, 1_000);
    expect(new Set(taken).size).toBe(1_000);
    expect(taken).not.toContain(-1);
    expect(evictor.victim(0)).toBe(-1);
    expect(evictor.bytes).toBe(0);
  });

  test('a pinned entry is no victim, however low; unpinned it is one again', () => {
    const evictor = make();
    for (let slot = 0; slot < 100; slot++) evictor.added(slot, hashOf(slot), slot < 50 ? 1_000_000 : 1);
    for (let slot = 0; slot < 50; slot++) evictor.pin(slot);
    evictor.added(100, hashOf(100), 1_000_000);
    evictor.pin(100);
    const taken = victims(evictor, 51);
    expect([...taken.slice(0, 50)].sort((a, b) => a - b)).toEqual(
      Array.from({ length: 50 }, (_, at) => at + 50),
    );
    expect(taken[50]).toBe(-1);
    expect(evictor.pinnedCount).toBe(51);
    evictor.unpin(7);
    expect(victims(evictor, 2)).toEqual([7, -1]);
  });

  test('an entry that was pinned between two victims is left alone, though it was next in line', () => {
    const evictor = make();
    for (let slot = 0; slot < 40; slot++) evictor.added(slot, hashOf(slot), slot < 10 ? 1_000 : 1);
    const first = evictor.victim(0);
    expect(first).toBeLessThan(10);
    for (let slot = 0; slot < 10; slot++) if (slot !== first) evictor.pin(slot);
    expect(Math.min(...victims(evictor, 30))).toBe(10);
  });

  test('count and bytes equal those of a plain map, after any operations', () => {
    // Few slots, so that each meets every verb; now and then one beyond the arrays.
    const slot = fc.oneof({ weight: 30, arbitrary: fc.nat(11) }, { weight: 1, arbitrary: fc.nat(300) });
    const size = fc.integer({ min: 0, max: 5_000 });
    const step = fc.oneof(
      fc.record({ verb: fc.constant('added' as const), slot, size }),
      fc.record({ verb: fc.constant('resized' as const), slot, size }),
      fc.record({ verb: fc.constantFrom('accessed', 'pin', 'unpin', 'removed', 'victim'), slot }),
    );
    const property = fc.property(
      fc.array(step, { minLength: 100, maxLength: 300 }),
      fc.nat(),
      (steps, seed) => {
        const evictor = make(seed);
        const model = new Map<number, { size: number; pinned: boolean }>();
        for (const { verb, slot: at, ...rest } of steps) {
          const entry = model.get(at);
          if (verb === 'added' && 'size' in rest) {
            // Slots come back with other ids, so that ghosts are met as well.
            evictor.added(at, hashOf(at % 7), rest.size);
            model.set(at, { size: rest.size, pinned: false });
          } else if (verb === 'victim') {
            const victim = evictor.victim(0);
            const evictable = [...model].filter(([, { pinned }]) => !pinned).map(([one]) => one);
            if (evictable.length === 0) expect(victim).toBe(-1);
            else expect(evictable).toContain(victim);
            model.delete(victim);
          } else if (verb === 'removed') {
            evictor.removed(at);
            model.delete(at);
          } else if (entry !== undefined) {
            if (verb === 'resized' && 'size' in rest) {
              evictor.resized(at, rest.size);
              entry.size = rest.size;
            } else if (verb === 'pin' || verb === 'unpin') {
              evictor[verb](at);
              entry.pinned = verb === 'pin';
            } else evictor.accessed(at);
          }
          const entries = [...model.values()];
          const pinned = entries.filter((one) => one.pinned);
          const sum = (of: readonly { size: number }[]): number =>
            of.reduce((total, one) => total + one.size, 0);
          expect([evictor.count, evictor.bytes, evictor.pinnedCount, evictor.pinnedBytes]).toEqual([
            entries.length,
            sum(entries),
            pinned.length,
            sum(pinned),
          ]);
        }
      },
    );
    fc.assert(property, { numRuns: 50 });
  });

  test('ghosts are bounded by the entries there were, and what they take is counted', () => {
    const evictor = make();
    for (let slot = 0; slot < 2_000; slot++) evictor.added(slot, hashOf(slot), 1);
    const before = evictor.overheadBytes;
    for (let id = 2_000; id < 60_000; id++) evictor.added(evictor.victim(0), hashOf(id), 1);
    expect(evictor.ghostCount).toBeGreaterThan(2_000);
    expect(evictor.ghostCount).toBeLessThanOrEqual(4_004);
    expect(evictor.overheadBytes - before).toBe((4_000 - 1_024) * 8);
  });

  test('slots take 21 bytes each, with at most half as many again in store', () => {
    const evictor = make();
    const before = evictor.overheadBytes;
    for (let slot = 0; slot < 10_000; slot++) evictor.added(slot, hashOf(slot), 1);
    expect(evictor.overheadBytes - before).toBeGreaterThan(9_900 * 21);
    expect(evictor.overheadBytes - before).toBeLessThan(15_000 * 21);
  });

  test('a deleted entry leaves no ghost, an evicted one does until its id is back', () => {
    const evictor = make();
    evictor.added(0, hashOf(0), 1);
    evictor.removed(0);
    expect(evictor.ghostCount).toBe(0);
    evictor.added(0, hashOf(0), 1);
    evictor.victim(0);
    expect(evictor.ghostCount).toBe(1);
    evictor.added(5, hashOf(0), 1);
    expect(evictor.ghostCount).toBe(0);
  });
});

describe('at the edges', () => {
  test('the same seed draws the same victims, another seed others', () => {
    const drawn = (seed: number): number[] => {
      const evictor = make(seed);
      for (let slot = 0; slot < 300; slot++) evictor.added(slot, hashOf(slot), 1);
      return victims(evictor, 50);
    };
    expect(drawn(5)).toEqual(drawn(5));
    expect(drawn(5)).not.toEqual(drawn(6));
    // The seed that would be spread to zero, from which nothing could be drawn.
    expect(new Set(drawn(0x5bd1e995)).size).toBe(50);
  });

  test('an empty one takes 67 KiB, 21 bytes for each of 64 slots, and 8 for each of 1,024 ghosts', () => {
    expect(make().overheadBytes).toBe(67 * 1024 + 64 * 21 + 1024 * 8 + 8 * 12 + 8);
  });

  test('what was never there can be removed; what is added again is there once', () => {
    const evictor = make();
    evictor.removed(3);
    evictor.removed(100_000);
    evictor.added(3, hashOf(3), 10);
    evictor.added(3, hashOf(4), 20);
    expect([evictor.count, evictor.bytes]).toEqual([1, 20]);
    expect(victims(evictor, 2)).toEqual([3, -1]);
  });

  test('a pinned entry that is resized, removed or unpinned takes its bytes along', () => {
    const evictor = make();
    for (const slot of [0, 1, 2]) evictor.added(slot, hashOf(slot), 10);
    evictor.pin(1);
    evictor.pin(1);
    evictor.resized(1, 25);
    evictor.resized(0, 5);
    expect([evictor.bytes, evictor.pinnedBytes, evictor.pinnedCount]).toEqual([40, 25, 1]);
    evictor.unpin(1);
    evictor.unpin(1);
    expect([evictor.bytes, evictor.pinnedBytes, evictor.pinnedCount]).toEqual([40, 0, 0]);
    evictor.pin(2);
    evictor.removed(2);
    expect([evictor.bytes, evictor.pinnedBytes, evictor.count]).toEqual([30, 0, 2]);
  });

  test('the newest of many is among those that are compared, as are sixteen others', () => {
    const policy = { score: ({ lastAccess }: { lastAccess: number }) => -lastAccess };
    const seen = new Set<number>();
    const evictor = new Evictor({
      seed: 1,
      plugged: {
        policy,
        entryOf: (slot) => {
          seen.add(slot);
          return { id: '', sizeBytes: 1, lastAccess: slot, accessCount: 0, isDirty: false };
        },
      },
    });
    for (let slot = 0; slot < 1000; slot++) evictor.added(slot, hashOf(slot), 1);
    expect(evictor.victim(0)).toBe(999);
    expect(seen.size).toBeGreaterThan(14);
    expect(seen.size).toBeLessThanOrEqual(17);
    // The lowest that were left over are compared once more, and the best of them goes now.
    const second = [...seen].sort((a, b) => b - a)[1] as number;
    expect(evictor.victim(0)).toBeGreaterThanOrEqual(second);
  });

  test('of few entries all are compared', () => {
    const policy = { score: ({ lastAccess }: { lastAccess: number }) => lastAccess };
    const entryOf = (slot: number) => ({
      id: '',
      sizeBytes: 1,
      lastAccess: slot,
      accessCount: 0,
      isDirty: false,
    });
    const evictor = new Evictor({ seed: 1, plugged: { policy, entryOf } });
    for (const slot of [7, 3, 12, 5, 9, 0, 15, 1, 11, 2, 14, 4, 13, 6, 10, 8]) evictor.added(slot, slot, 1);
    expect(victims(evictor, 17)).toEqual([...Array(16).keys(), -1]);
  });

  test('a policy that does not want to be told of victims need not be', () => {
    const entryOf = (slot: number) => ({
      id: '',
      sizeBytes: 1,
      lastAccess: slot,
      accessCount: 0,
      isDirty: false,
    });
    const evictor = new Evictor({ seed: 1, plugged: { policy: { score: () => 0 }, entryOf } });
    evictor.added(0, 1, 1);
    expect(evictor.victim(0)).toBe(0);
    expect(evictor.ghostCount).toBe(0);
  });
});

describe('before anything was learnt', () => {
  /** Ten entries of 100 bytes that were all added about a thousand uses ago. */
  const alike = (): Evictor => {
    const evictor = make();
    for (let slot = 0; slot <= 10; slot++) evictor.added(slot, hashOf(slot), 100);
    for (let n = 0; n < 1_100; n++) evictor.accessed(10);
    evictor.pin(10);
    return evictor;
  };

  test('of two entries used alike the larger leaves first', () => {
    const evictor = alike();
    evictor.resized(6, 102);
    evictor.resized(4, 101);
    expect(victims(evictor, 2)).toEqual([6, 4]);
  });

  test('what was never used again leaves before what was', () => {
    const evictor = make();
    for (let slot = 0; slot < 8; slot++) evictor.added(slot, hashOf(slot), 100);
    for (let slot = 0; slot < 8; slot++) evictor.accessed(slot);
    for (let slot = 8; slot <= 16; slot++) evictor.added(slot, hashOf(slot), 100);
    for (let n = 0; n < 1_100; n++) evictor.accessed(16);
    expect(Math.min(...victims(evictor, 8))).toBe(8);
  });

  test('of entries used alike the one that was idle longest leaves first', () => {
    const evictor = make();
    for (let slot = 0; slot < 16; slot++) evictor.added(slot, hashOf(slot), 100);
    for (let round = 0; round < 3; round++) for (let slot = 0; slot < 16; slot++) evictor.accessed(slot);
    for (let slot = 1; slot < 16; slot++) for (let n = 0; n < 20; n++) evictor.accessed(slot);
    expect(evictor.victim(0)).toBe(0);
  });

  test('an id that comes back after its eviction counts as used again, one that was deleted does not', () => {
    const back = alike();
    back.resized(3, 101);
    expect(back.victim(0)).toBe(3);
    back.added(3, hashOf(3), 100);
    for (let n = 0; n < 1_000; n++) back.accessed(10);
    expect(victims(back, 9)).not.toContain(3);

    const deleted = alike();
    deleted.removed(3);
    deleted.added(3, hashOf(3), 101);
    for (let n = 0; n < 50_000; n++) deleted.accessed(10);
    expect(deleted.victim(0)).toBe(3);
  });
});

describe('what is learnt', () => {
  test('a hot set survives a scan of a hundred times the cache', () => {
    const cache = new Cache(500);
    for (let round = 0; round < 20; round++) for (let id = 0; id < 200; id++) cache.get(id);
    for (let id = 0; id < 50_000; id++) {
      cache.get(1_000 + id);
      // The hot set itself is used rarely: one in five.
      if (id % 4 === 0) cache.get((id / 4) % 200);
    }
    const kept = Array.from({ length: 200 }, (_, id) => id).filter((id) => cache.has(id));
    expect(kept.length).toBe(200);
  });

  test('of a loop that is too long, what fits is kept, where recency alone would hit nothing', () => {
    const cache = new Cache(1_000);
    for (let at = 0; at < 50_000; at++) cache.get(at % 1_250);
    cache.hits = 0;
    for (let at = 0; at < 12_500; at++) cache.get(at % 1_250);
    // 1,000 of 1,250 is the most there can be.
    expect(cache.hits / 12_500).toBeGreaterThan(0.795);
  });

  test('a hot set that turns cold makes way for the next one', () => {
    const cache = new Cache(300);
    for (let round = 0; round < 200; round++) for (let id = 0; id < 300; id++) cache.get(id);
    for (let round = 0; round < 30; round++) for (let id = 1_000; id < 1_300; id++) cache.get(id);
    const kept = Array.from({ length: 300 }, (_, at) => 1_000 + at).filter((id) => cache.has(id));
    expect(kept.length).toBeGreaterThan(285);
  });
});

slowTest('what a long time taught is unlearnt when the traffic changes', () => {
  const cache = new Cache(1_000);
  // Every id comes twice, 600 requests apart, and never again: newcomers are worth keeping.
  for (let at = 0; at < 400_000; at++) cache.get(10_000 + Math.floor(at / 2) - (at % 2) * 300);
  // Then newcomers never come back, and one request in three goes to a set that would fit.
  const change = (at: number): void => cache.get(at % 3 === 0 ? (at / 3) % 900 : 1_000_000 + at);
  for (let at = 0; at < 60_000; at++) change(at);
  cache.hits = 0;
  for (let at = 60_000; at < 80_000; at++) change(at);
  expect(cache.hits / 20_000).toBeGreaterThan(0.3);
});

describe('a plugged policy', () => {
  const entryOf = (slot: number) => ({
    id: `id.${slot}`,
    sizeBytes: 100,
    lastAccess: slot,
    accessCount: 1,
    isDirty: false,
  });

  test('decides, and is told the time and each victim', () => {
    const told: unknown[] = [];
    const policy = {
      score: (entry: { lastAccess: number }, now: number) => -Math.abs(entry.lastAccess - now),
      evicted: (entry: { id: string }, now: number) => told.push([entry.id, now]),
    };
    const evictor = new Evictor({ seed: 1, plugged: { policy, entryOf } });
    for (let slot = 0; slot < 12; slot++) evictor.added(slot, hashOf(slot), 100);
    expect(evictor.victim(0)).toBe(11);
    expect(evictor.victim(10)).toBe(0);
    expect(told).toEqual([
      ['id.11', 0],
      ['id.0', 10],
    ]);
  });

  test('that answers NaN for some evicts these first', () => {
    const policy = { score: (entry: { lastAccess: number }) => (entry.lastAccess === 5 ? Number.NaN : 1) };
    const evictor = new Evictor({ seed: 1, plugged: { policy, entryOf } });
    for (let slot = 0; slot < 12; slot++) evictor.added(slot, hashOf(slot), 100);
    expect(evictor.victim(0)).toBe(5);
  });
});
