import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isNewer } from '#engine/item/order.js';
import type { Revision } from '#engine/item/revision.js';
import { SyncItem } from '#engine/item/sync-item.js';
import type { Entry } from '#engine/memory/entry.js';
import { MemoryCache } from '#engine/memory/memory-cache.js';
import { anyRevision, essence, revision } from '#engine/testing/revisions.js';

const of = (id: string, version: number, bytes = 100): Revision =>
  revision({ id, version, content: Buffer.alloc(bytes, version) });

/** An entry that the log holds at `position`, so that it can be spilled. */
function logged(entry: Entry, position: number): Entry {
  entry.logPosition = position;
  entry.loggedVersion = entry.revision.version;
  entry.durableVersion = entry.revision.version;
  return entry;
}

const newestOf = (cache: MemoryCache, id: string): Revision => {
  const newest = cache.newest(id);
  if (typeof newest === 'string') throw new Error(`${id} is ${newest}`);
  return newest;
};

describe('what a slot gives back', () => {
  test('a revision that turned clean is answered field by field as it was, whatever it holds', () => {
    fc.assert(
      fc.property(anyRevision, fc.boolean(), (made, hashed) => {
        const cache = new MemoryCache(1024 * 1024);
        const hash = 'ab'.repeat(32);
        if (hashed && !made.deleted) made.contentHash = hash;
        cache.settle(cache.write(made));
        const { id, version, origin, deleted, contentType, state, content } = newestOf(cache, made.id);
        const { homeInstanceId, traceParent, traceState, redisTtlMs, contentHash } = newestOf(cache, made.id);
        const answered = { id, version, origin, deleted, contentType, state, content };
        expect(essence({ ...answered, homeInstanceId, traceParent, traceState, redisTtlMs })).toEqual(
          essence({ redisTtlMs: undefined, ...revision(), ...made }),
        );
        if (hashed && !made.deleted) expect(contentHash).toBe(hash);
        expect(cache.presence(`${made.id}x`)).toBe('absent');
      }),
    );
  });

  test('ids that differ in one unit, or only in length, are different', () => {
    const cache = new MemoryCache(1024 * 1024);
    const ids = ['a', 'ab', 'b', 'ä', 'Ā', '\u0000', 'a\u0000', '𝄞', '\u0161', 'a\u0161'];
    ids.forEach((id, at) => {
      cache.settle(cache.write(of(id, at + 1)));
    });
    ids.forEach((id, at) => {
      expect(newestOf(cache, id).version).toBe(at + 1);
    });
    expect([...cache.revisions()].map((one) => one.id).sort()).toEqual([...ids].sort());
  });

  test('an item that a caller holds stays as it was when its slot is used again and its slab emptied', () => {
    const cache = new MemoryCache(64 * 1024);
    cache.settle(cache.write(revision({ id: 'held', version: 1, content: Buffer.from('held content') })));
    const held = cache.read('held') as SyncItem;
    for (let at = 0; at < 5000; at++) cache.settle(cache.write(of(`other${at % 700}`, at + 2, 30)));
    expect(cache.presence('held')).toBe('absent');
    expect(held.text()).toBe('held content');
    expect(held.id).toBe('held');
  });

  test.each(['forget', 'drop', 'evict'])(
    'an id that was read often is not found any more after: %s',
    (how) => {
      const cache = new MemoryCache(64 * 1024);
      cache.settle(cache.write(of('old', 1)));
      for (let at = 0; at < 5; at++) cache.read('old');
      if (how === 'forget') cache.forget('old');
      else if (how === 'drop') cache.drop(cache.write(of('old', 2)));
      else {
        cache.pinnedOnly = true;
        cache.dropClean(10);
      }
      cache.pinnedOnly = false;
      // Its slot is used again.
      cache.settle(cache.write(of('new', 3)));
      expect(cache.read('old')).toBe('absent');
      expect(cache.presence('old')).toBe('absent');
      expect(newestOf(cache, 'new').version).toBe(3);
    },
  );

  test('an id that was read often, and then written, spilled and read back, is the same one', () => {
    const cache = new MemoryCache(2 * 1024 * 1024);
    cache.settle(cache.write(of('a', 1)));
    for (let at = 0; at < 5; at++) cache.read('a');
    cache.spill(logged(cache.write(of('a', 2)), 9));
    expect(cache.spilledPosition('a')).toBe(9);
    cache.settle(cache.unspill(of('a', 2), 9) as Entry);
    expect((cache.read('a') as SyncItem).version).toBe(2);
    expect(cache.size).toBe(1);
  });

  test.each([20, 40_000])('an item whose time is over is not answered, pending or not: %i bytes', (bytes) => {
    let now = 0;
    const cache = new MemoryCache(1024 * 1024, 0, () => now);
    const cached = { ...of('a', 2, bytes), cachedUntilMs: 100 };
    cache.cache(cached);
    cache.cache({ ...of('b', 2, bytes), cachedUntilMs: 100 });
    const covered = cache.write(revision({ id: 'c', version: 1, deleted: true }));
    cache.cache({ ...cached, id: 'c' });
    expect((cache.read('a') as SyncItem).sizeBytes).toBe(bytes);
    expect((cache.read('c') as SyncItem).sizeBytes).toBe(bytes);
    now = 100;
    expect(cache.read('a')).toBe('absent');
    expect(cache.presence('b')).toBe('absent');
    expect(cache.read('c')).toBe('deleted');
    cache.settle(covered);
    expect(cache.read('c')).toBe('deleted');
    cache.sweep(100);
    expect(cache.size).toBe(1);
  });

  test('reads are counted, and an item says how many there were when it was read', () => {
    const cache = new MemoryCache(64 * 1024);
    cache.setTime(5_000_000, 0);
    const entry = cache.write(of('a', 1));
    const first = cache.read('a') as SyncItem;
    cache.settle(entry);
    const second = cache.read('a') as SyncItem;
    expect([first.accessCount, second.accessCount]).toEqual([1, 2]);
    expect(second.lastAccessed).toBe(5_000_000);
    expect(new SyncItem('a', '').accessCount).toBeUndefined();
  });
});

describe('the budget', () => {
  test('clean entries leave, pending ones never', () => {
    const cache = new MemoryCache(64 * 1024);
    const dirty = cache.write(of('dirty', 1));
    for (let at = 0; at < 500; at++) {
      cache.promote(of(`p${at}`, 1, 200));
      cache.read('p0');
    }
    expect(cache.pending('dirty')).toBe(dirty);
    expect(cache.presence('p0')).toBe('live');
    expect(cache.presence('p1')).toBe('absent');
    expect(cache.stats.bytes).toBeLessThanOrEqual(64 * 1024);
    expect(cache.stats.evictions).toBeGreaterThan(0);
  });

  test('what does not fit beside what is pinned is answered and not kept', () => {
    const cache = new MemoryCache(64 * 1024);
    cache.write(of('dirty', 1, 40 * 1024));
    expect(cache.promote(of('a', 1, 30 * 1024))).toBeInstanceOf(SyncItem);
    expect(cache.presence('a')).toBe('absent');
    expect(cache.hasRoom('b', 30 * 1024)).toBe(false);
    expect(cache.hasRoom('dirty', 60 * 1024)).toBe(true);
  });
});

test('a promotion never replaces what is newer, nor what is pending', () => {
  const cache = new MemoryCache(100_000);
  cache.promote(of('a', 5));
  expect((cache.promote(of('a', 4)) as SyncItem).version).toBe(5);
  expect((cache.promote(of('a', 6)) as SyncItem).version).toBe(6);
  cache.write(of('b', 1));
  expect((cache.promote(of('b', 9)) as SyncItem).version).toBe(1);
  expect(newestOf(cache, 'a').version).toBe(6);
  logged(cache.write(of('c', 1)), 7);
  cache.spill(cache.pending('c') as Entry);
  expect(cache.promote(of('c', 9))).toBe('spilled');
});

describe('a spilled write', () => {
  const spilledCache = (): MemoryCache => {
    const cache = new MemoryCache(2 * 1024 * 1024);
    cache.spill(logged(cache.write(of('a', 3, 1000)), 17));
    return cache;
  };

  test('keeps its place in the log, its version and its state, and not its content', () => {
    const cache = spilledCache();
    expect(cache.read('a')).toBe('spilled');
    expect(cache.spilledPosition('a')).toBe(17);
    expect([...cache.pendings('')]).toEqual([{ id: 'a', version: 3, deleted: false, state: 'default' }]);
    expect(cache.isPending('a')).toBe(true);
    expect(cache.pinnedBytes).toBeLessThan(300);
    expect(cache.waitingBytes).toBeGreaterThan(1000);
  });

  test('comes back as the entry that it was', () => {
    const cache = spilledCache();
    expect(cache.unspill(of('a', 3, 1000), 16)).toBeUndefined();
    const entry = cache.unspill(of('a', 3, 1000), 17) as Entry;
    expect(entry).toMatchObject({ logPosition: 17, loggedVersion: 3, durableVersion: 3, dirty: true });
    expect(cache.pending('a')).toBe(entry);
    expect(cache.spilledCount).toBe(0);
  });

  test('hands its record on to the write that takes its place', () => {
    const cache = spilledCache();
    const entry = cache.write(of('a', 4));
    expect(entry).toMatchObject({ logPosition: 17, loggedVersion: 3 });
    expect(entry.hasOlderRecord(4)).toBe(true);
    expect(cache.dirtyCount).toBe(1);
  });

  test('a tombstone is known to be one without asking the log', () => {
    const cache = new MemoryCache(2 * 1024 * 1024);
    cache.spill(logged(cache.write(revision({ id: 'a', deleted: true })), 4));
    expect(cache.read('a')).toBe('deleted');
    expect(cache.presence('a')).toBe('deleted');
  });

  test('is taken in the order of spilling, once, and not after it was replaced', () => {
    const cache = new MemoryCache(2 * 1024 * 1024);
    for (const [at, id] of ['x', 'y', 'z'].entries())
      cache.spill(logged(cache.write(of(id, at + 1)), at + 10));
    const end = cache.spilledEnd;
    cache.write(of('y', 9));
    expect(cache.takeSpilled(1, 1e9)).toEqual([{ id: 'x', position: 10 }]);
    expect(cache.spilledTaken).toBeLessThan(end);
    expect(cache.takeSpilled(5, 1e9)).toEqual([{ id: 'z', position: 12 }]);
    expect(cache.spilledTaken).toBe(end);
  });
});

test('whatever happens, an id is in one place, the newest is answered, and the sums are right', () => {
  const step = fc.record({
    kind: fc.constantFrom(
      'write',
      'promote',
      'settle',
      'spill',
      'unspill',
      'drop',
      'dropSpilled',
      'forget',
      'read',
    ),
    id: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'é', 'Ω'),
    bytes: fc.oneof(fc.nat(60), fc.nat(4000)),
    deleted: fc.boolean(),
  });
  type Known = { readonly kind: 'pending' | 'spilled' | 'clean'; readonly revision: Revision };
  fc.assert(
    fc.property(fc.array(step, { maxLength: 150 }), (steps) => {
      const bytesMax = 2 * 1024 * 1024;
      const cache = new MemoryCache(bytesMax);
      const known = new Map<string, Known>();
      const positions = new Map<string, number>();
      let version = 0;
      for (const { kind, id, bytes, deleted } of steps) {
        version++;
        const content = deleted ? Buffer.alloc(0) : Buffer.alloc(bytes, version);
        const made = revision({ id, version, deleted, content });
        const before = known.get(id);
        const entry = cache.pending(id);
        const clean = before === undefined || before.kind === 'clean';
        if (kind === 'write') {
          cache.write(made);
          known.set(id, { kind: 'pending', revision: made });
        } else if (kind === 'promote') {
          cache.promote(made);
          if (clean && (before === undefined || isNewer(made, before.revision)))
            known.set(id, { kind: 'clean', revision: made });
        } else if (kind === 'settle' && entry !== undefined) {
          cache.settle(entry);
          known.set(id, { kind: 'clean', revision: entry.revision });
        } else if (kind === 'spill' && entry !== undefined) {
          positions.set(id, version);
          expect(cache.spill(logged(entry, version))).toBe(true);
          known.set(id, { kind: 'spilled', revision: entry.revision });
        } else if (kind === 'unspill' && before?.kind === 'spilled') {
          cache.unspill(before.revision, positions.get(id) as number);
          known.set(id, { kind: 'pending', revision: before.revision });
        } else if (kind === 'drop' && entry !== undefined) {
          cache.drop(entry);
          known.delete(id);
        } else if (kind === 'dropSpilled' && before?.kind === 'spilled') {
          cache.dropSpilled(id, positions.get(id) as number);
          known.delete(id);
        } else if (kind === 'forget') {
          cache.forget(id);
          if (clean) known.delete(id);
        } else if (kind === 'read') cache.read(id);
        check(cache, known);
      }
    }),
  );

  function check(cache: MemoryCache, known: ReadonlyMap<string, Known>): void {
    const kinds = [...known.values()];
    const pending = kinds.filter((one) => one.kind === 'pending');
    const spilled = kinds.filter((one) => one.kind === 'spilled');
    expect(cache.size).toBe(known.size);
    expect(cache.dirtyCount).toBe(pending.length + spilled.length);
    expect(cache.spilledCount).toBe(spilled.length);
    expect(cache.hotBytes).toBe(cache.dirty.reduce((sum, one) => sum + one.sizeBytes, 0));
    for (const [id, { kind, revision: expected }] of known) {
      expect(cache.versionOf(id)).toBe(expected.version);
      expect(cache.presence(id)).toBe(expected.deleted ? 'deleted' : 'live');
      expect(cache.isPending(id)).toBe(kind !== 'clean');
      const newest = cache.newest(id);
      if (kind === 'spilled') expect(newest).toBe('spilled');
      else expect(newestOf(cache, id).content.equals(expected.content)).toBe(true);
    }
    if (kinds.length === 0)
      expect([cache.hotBytes, cache.waitingBytes, cache.pinnedBytes]).toEqual([0, 0, 0]);
  }
});

describe('states', () => {
  // Each was kept for ever: 65,536 different ones filled a small budget, and nothing could be spilled any more.
  test('are forgotten with the last item that has them', () => {
    const cache = new MemoryCache(4 * 1024 * 1024);
    for (let at = 1; at <= 70_000; at++) {
      const id = `id${at % 50}`;
      cache.settle(cache.write(revision({ id, version: at, state: `state ${at}` })));
      if (at % 3 === 0) cache.forget(id);
      if (at % 5 === 0 && !cache.isPending(id))
        cache.spill(logged(cache.write(revision({ id, version: at + 0.5, state: `spilled ${at}` })), at));
      if (at % 7 === 0) cache.dropSpilled(id, cache.spilledPosition(id));
    }
    expect(
      cache.spill(logged(cache.write(revision({ id: 'last', version: 1, state: 'a new one' })), 80_000)),
    ).toBe(true);
    expect(cache.bytes).toBeLessThan(200_000);
  });

  test('of spilled and clean items stay what they were while others come and go', () => {
    const cache = new MemoryCache(4 * 1024 * 1024);
    cache.spill(logged(cache.write(revision({ id: 'spilled', version: 1, state: 'mine' })), 5));
    cache.settle(cache.write(revision({ id: 'clean', version: 1, state: 'yours' })));
    for (let at = 0; at < 300; at++) {
      cache.settle(
        cache.write(
          revision({ id: 'other', version: at + 2, state: ['mine', 'yours', `s${at}`][at % 3] as string }),
        ),
      );
      cache.forget('other');
    }
    expect([...cache.pendings('')]).toMatchObject([{ id: 'spilled', state: 'mine' }]);
    expect(newestOf(cache, 'clean').state).toBe('yours');
  });
});

test('texts beside the content count towards the budget', () => {
  const cache = new MemoryCache(16 * 1024 * 1024);
  const plain = cache.write(revision({ id: 'plain', version: 1 })).sizeBytes;
  for (const text of ['traceState', 'traceParent', 'homeInstanceId', 'state'] as const) {
    const entry = cache.write(revision({ id: 'plain', version: 2, [text]: 'x'.repeat(500) }));
    expect(entry.sizeBytes).toBeGreaterThanOrEqual(plain + 500);
  }
  expect(cache.write(revision({ id: 'Ā'.repeat(500), version: 1 })).sizeBytes).toBeGreaterThanOrEqual(
    plain + 990,
  );
});
