/** What every cache must do. Each store runs this one suite. */

import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SyncEngineError } from '../base/errors.js';
import { compareOrder } from '../item/order.js';
import { contentHashOf, type Revision } from '../item/revision.js';
import {
  type CacheBatch,
  type CachedValue,
  type CacheHead,
  type CachePut,
  type CacheSampleEntry,
  type CacheStore,
  PUT_NEWER_THERE,
  PUT_NOT_FILLED,
  PUT_WRITTEN,
} from '../storage/cache-store.js';
import { anyRevision, essence, revision } from './revisions.js';
import { STRANGE_IDS } from './strange-ids.js';

const ARCHIVE = '5a'.repeat(16);
const GENERATION = '5a5a5a0000000001';
const LATER = '5a5a5a0000000002';
const HOUR_MS = 3_600_000;

export interface CacheUnderTest {
  /** A store on the same data each time it is called. */
  open(): CacheStore;
  /** Lets time pass for the data, where a test can: without it, the ends of lives are not tested. */
  passMs?(ms: number): Promise<void>;
}

/** @param prepare Called for each test: a place without data, and stores on it. */
export function cacheContract(name: string, prepare: () => CacheUnderTest): void {
  const chainAt = (position: number): string => position.toString(16).padStart(64, '0');
  const headAt = (position: number, generation = GENERATION): CacheHead => ({
    generation,
    position,
    chain: chainAt(position),
  });

  async function opened(place = prepare(), lost: (reason: Error) => void = () => {}): Promise<CacheStore> {
    const store = place.open();
    onTestFinished(() => store.close());
    await store.open({ archiveId: ARCHIVE, lost });
    return store;
  }

  /** A store with a head at position 10. */
  async function begun(place?: CacheUnderTest): Promise<CacheStore> {
    const store = await opened(place);
    await store.moveHead(undefined, headAt(10));
    return store;
  }

  const put = (made: Revision, kind: CachePut['kind'] = 'value', ttlMs = HOUR_MS): CachePut => ({
    revision: made,
    kind,
    ttlMs,
  });

  const batch = (puts: readonly CachePut[], change: Partial<CacheBatch> = {}): CacheBatch => ({
    generation: GENERATION,
    known: 10,
    begins: false,
    withinMs: 60_000,
    puts,
    confirms: undefined,
    ...change,
  });

  const write = async (store: CacheStore, puts: readonly CachePut[], change?: Partial<CacheBatch>) => [
    ...(await store.putMany(batch(puts, change))).outcomes,
  ];

  async function read(store: CacheStore, id = 'a'): Promise<Revision | undefined> {
    const [value] = (await store.getMany(GENERATION, [id])).values;
    if (value === 'damaged') throw new Error(`${id} is damaged`);
    return value?.revision;
  }

  const confirm = (store: CacheStore, position: number) =>
    store.putMany(batch([], { known: position, begins: true, confirms: chainAt(position) }));

  /** Everything that samples show, however many calls that takes. */
  async function sampled(store: CacheStore): Promise<CacheSampleEntry[]> {
    const found: CacheSampleEntry[] = [];
    let from: string | undefined;
    do {
      const { entries, next } = await store.sample(from, 100);
      found.push(...entries);
      from = next;
    } while (from !== undefined);
    return found;
  }

  describe(`${name} as a cache`, () => {
    test('gives back every field of a value, whatever it holds', async () => {
      const store = await begun();
      await fc.assert(
        fc.asyncProperty(anyRevision, async (made) => {
          if (made.deleted) return;
          const one = { ...made, redisTtlMs: made.redisTtlMs || undefined };
          await store.deleteMany(GENERATION, [one.id]);
          expect(await write(store, [put(one)])).toEqual([PUT_WRITTEN]);
          const found = (await read(store, one.id)) as Revision;
          expect(essence({ ...found, base: undefined })).toEqual(essence({ ...one, base: undefined }));
          expect(found.contentHash).toBe(contentHashOf(one));
        }),
        { numRuns: 60 },
      );
    });

    test('says of a value whether it is cache-only, and how long it lives', async () => {
      const store = await begun();
      await write(store, [put(revision(), 'value', 50_000)]);
      await write(store, [put(revision({ id: 'b' }), 'only', 90_000)], { known: undefined });
      const { values } = await store.getMany(GENERATION, ['a', 'b']);
      const [value, only] = values as readonly CachedValue[];
      expect([value?.cacheOnly, only?.cacheOnly]).toEqual([false, true]);
      expect(Math.round((value?.leftMs ?? 0) / 10_000)).toBe(5);
      expect(Math.round((only?.leftMs ?? 0) / 10_000)).toBe(9);
    });

    test('never replaces a newer write by an older one, by every part of the order', async () => {
      const node = (text: string): string => text.padEnd(16, '\0');
      const ascending = [
        revision({ version: 255, origin: node('z') }),
        revision({ version: 256, origin: node('a') }),
        revision({ version: 256, origin: node('b'), content: Buffer.from('y') }),
        revision({ version: 256, origin: node('\u00ff'), content: Buffer.from('x') }),
        revision({ version: 2 ** 52 + 1, origin: node('a') }),
      ];
      const store = await begun();
      for (let newer = 1; newer < ascending.length; newer++) {
        const [older, next] = [ascending[newer - 1] as Revision, ascending[newer] as Revision];
        await store.deleteMany(GENERATION, ['a']);
        expect(await write(store, [put(next)])).toEqual([PUT_WRITTEN]);
        expect(await write(store, [put(older)])).toEqual([PUT_NEWER_THERE]);
        expect((await read(store))?.version).toBe(next.version);
        await store.deleteMany(GENERATION, ['a']);
        await write(store, [put(older)]);
        expect(await write(store, [put(next)])).toEqual([PUT_WRITTEN]);
        expect((await read(store))?.origin).toBe(next.origin);
      }
    });

    test('of any two writes of an id the newer one stays, in whatever order they come', async () => {
      const store = await begun();
      const close = fc.record({
        version: fc.constantFrom(1, 255, 256, 65_536, 2 ** 40),
        origin: fc.constantFrom('a', 'b').map((text) => text.padEnd(16, '\0')),
        content: fc.constantFrom('x', 'y').map((text) => Buffer.from(text)),
      });
      await fc.assert(
        fc.asyncProperty(close, close, async (one, two) => {
          const [a, b] = [revision(one), revision(two)];
          await store.deleteMany(GENERATION, ['a']);
          await write(store, [put(a)]);
          await write(store, [put(b)]);
          const newest = compareOrder(a, b) >= 0 ? a : b;
          expect((await read(store))?.contentHash).toBe(contentHashOf(newest));
        }),
        { numRuns: 60 },
      );
    });

    test('a write that comes twice changes nothing', async () => {
      const store = await begun();
      expect(await write(store, [put(revision())])).toEqual([PUT_WRITTEN]);
      expect(await write(store, [put(revision())])).toEqual([PUT_NEWER_THERE]);
    });

    test('a marker hides what is older, and makes room for what is newer', async () => {
      const store = await begun();
      await write(store, [put(revision({ version: 5 }))]);
      const deleted = revision({ version: 6, deleted: true });
      expect(await write(store, [put(deleted, 'marker')])).toEqual([PUT_WRITTEN]);
      expect(await read(store)).toBeUndefined();
      expect(await store.exists(GENERATION, ['a', 'b'])).toEqual([false, false]);
      expect(await write(store, [put(revision({ version: 5 }))])).toEqual([PUT_NEWER_THERE]);
      expect(await write(store, [put(revision({ version: 7 }))])).toEqual([PUT_WRITTEN]);
      expect(await store.exists(GENERATION, ['a', 'b'])).toEqual([true, false]);
    });

    test('a marker of a write gives way to that write itself', async () => {
      const store = await begun();
      const made = revision({ version: 6 });
      await write(store, [put({ ...made, contentHash: '0'.repeat(64) }, 'marker')]);
      expect(await write(store, [put(made)])).toEqual([PUT_WRITTEN]);
      expect((await read(store))?.version).toBe(6);
    });

    test('a mark takes the place of what is older, and of nothing where nothing is', async () => {
      const store = await begun();
      await write(store, [put(revision({ version: 5 })), put(revision({ id: 'b', version: 9 }))]);
      const marks = ['a', 'b', 'c'].map((id) => put(revision({ id, version: 6 }), 'mark'));
      expect(await write(store, marks)).toEqual([PUT_WRITTEN, PUT_NEWER_THERE, PUT_NOT_FILLED]);
      expect(await read(store)).toBeUndefined();
      expect((await read(store, 'b'))?.version).toBe(9);
    });

    test('an empty place is filled only by who knows of the latest position that has begun to be written', async () => {
      const store = await begun();
      expect(await write(store, [put(revision())], { known: 9 })).toEqual([PUT_NOT_FILLED]);
      expect(await write(store, [put(revision())], { known: 10 })).toEqual([PUT_WRITTEN]);
      await write(store, [put(revision({ id: 'b' }))], { known: 12, begins: true });
      expect(await write(store, [put(revision({ id: 'c' }))], { known: 11 })).toEqual([PUT_NOT_FILLED]);
      // What is there and older is replaced all the same.
      expect(await write(store, [put(revision({ version: 2 }))], { known: 11 })).toEqual([PUT_WRITTEN]);
      // An earlier position does not begin anew.
      await write(store, [], { known: 11, begins: true });
      expect(await write(store, [put(revision({ id: 'c' }))], { known: 11 })).toEqual([PUT_NOT_FILLED]);
      expect(await write(store, [put(revision({ id: 'c' }))], { known: 12 })).toEqual([PUT_WRITTEN]);
      expect(await write(store, [put(revision({ id: 'd' }), 'only')], { known: undefined })).toEqual([
        PUT_WRITTEN,
      ]);
    });

    test('a batch is written whole, over many groups, and read in the order asked for', async () => {
      const store = await begun();
      const ids = Array.from({ length: 1000 }, (_, at) => `i.${at}`);
      const puts = ids.map((id, at) => put(revision({ id, version: at + 1 })));
      const { outcomes } = await store.putMany(
        batch(puts, { known: 11, begins: true, confirms: chainAt(11) }),
      );
      expect(outcomes).toEqual(new Uint8Array(1000).fill(PUT_WRITTEN));
      expect(await store.head()).toEqual(headAt(11));
      const asked = [...ids].reverse().concat('nobody');
      const { values, head } = await store.getMany(GENERATION, asked);
      expect(head).toEqual(headAt(11));
      expect(
        values.map((value) => (value === undefined ? 0 : (value as { revision: Revision }).revision.version)),
      ).toEqual([...ids.map((_, at) => at + 1).reverse(), 0]);
    });

    test('keeps every strange id apart from every other, byte for byte', async () => {
      const store = await begun();
      const ids = [...new Set(STRANGE_IDS)];
      await write(
        store,
        ids.map((id, at) => put(revision({ id, content: Buffer.from(`${at} ${id}`) }))),
      );
      const { values } = await store.getMany(GENERATION, ids);
      expect(values.map((value) => (value as { revision: Revision }).revision.content.toString())).toEqual(
        ids.map((id, at) => `${at} ${id}`),
      );
      await store.deleteMany(GENERATION, ids.slice(0, 3));
      expect(await store.exists(GENERATION, ids)).toEqual(ids.map((_, at) => at >= 3));
    });

    test('a batch that came too late is not written, nor does it confirm', async () => {
      const store = await begun();
      const late = batch([put(revision())], {
        known: 11,
        begins: true,
        withinMs: -1000,
        confirms: chainAt(11),
      });
      expect(await store.putMany(late)).toMatchObject({ status: 'late', position: 10 });
      expect(await read(store)).toBeUndefined();
      expect(await store.head()).toEqual(headAt(10));
    });

    test('two clients that write at once leave the newest of each id', async () => {
      const place = prepare();
      const [one, two] = [await begun(place), await opened(place)];
      const ids = Array.from({ length: 150 }, (_, at) => `i.${at}`);
      const of = (from: number) =>
        ids.map((id, at) => put(revision({ id, version: from + ((at * 7) % 10) })));
      await Promise.all([1, 4, 2, 3, 5].map((from, at) => write(at % 2 === 0 ? one : two, of(from))));
      const { values } = await two.getMany(GENERATION, ids);
      expect(values.map((value) => (value as { revision: Revision }).revision.version)).toEqual(
        ids.map((_, at) => 5 + ((at * 7) % 10)),
      );
    });
  });

  describe(`${name}: head`, () => {
    test('there is none at first; who expects none makes it, and who expects another does not', async () => {
      const store = await opened();
      expect(await store.head()).toBeUndefined();
      expect(await store.moveHead('5a5a5a00000000ff', headAt(5, LATER))).not.toEqual(headAt(5, LATER));
      const first = await store.moveHead(undefined, headAt(10));
      expect(first).toEqual(headAt(10));
      expect(await store.moveHead(undefined, headAt(11, LATER))).toEqual(headAt(10));
      expect(await store.moveHead(GENERATION, headAt(11, LATER))).toEqual(headAt(11, LATER));
      expect(await store.head()).toEqual(headAt(11, LATER));
    });

    test('a generation hides every other one, and nothing is written under one that is over', async () => {
      const store = await begun();
      await write(store, [put(revision())]);
      await store.moveHead(GENERATION, headAt(10, LATER));
      const { head, values } = await store.getMany(LATER, ['a']);
      expect([head, values[0]]).toEqual([headAt(10, LATER), undefined]);
      expect(await store.putMany(batch([put(revision({ version: 9 }))]))).toMatchObject({ status: 'moved' });
      expect(await write(store, [put(revision())], { generation: LATER })).toEqual([PUT_WRITTEN]);
    });

    test('moves on when a position is confirmed, and over those that were confirmed before their turn', async () => {
      const store = await begun();
      expect(await confirm(store, 11)).toMatchObject({ status: 'done', position: 11 });
      expect(await confirm(store, 14)).toMatchObject({ position: 11 });
      expect(await confirm(store, 13)).toMatchObject({ position: 11 });
      expect(await store.head()).toEqual(headAt(11));
      expect(await confirm(store, 12)).toMatchObject({ position: 14 });
      expect(await store.head()).toEqual(headAt(14));
      expect(await confirm(store, 12)).toMatchObject({ position: 14 });
      expect(await confirm(store, 15)).toMatchObject({ position: 15 });
    });

    test('holds at large positions', async () => {
      const store = await opened();
      const far = 9_007_199_254_740_000;
      await store.moveHead(undefined, headAt(far));
      expect(await confirm(store, far + 1)).toMatchObject({ position: far + 1 });
      expect(await confirm(store, far + 3)).toMatchObject({ position: far + 1 });
      expect(await confirm(store, far + 2)).toMatchObject({ position: far + 3 });
      expect(await store.head()).toEqual(headAt(far + 3));
    });

    test('outlives the connection', async () => {
      const place = prepare();
      const store = await begun(place);
      await write(store, [put(revision())]);
      await store.close();
      const again = await opened(place);
      expect(await again.head()).toEqual(headAt(10));
      expect((await read(again))?.version).toBe(1);
    });
  });

  describe(`${name}: upkeep`, () => {
    test('samples its values and nothing else, and evicts those that it is told to', async () => {
      const store = await begun();
      const ids = ['a', 'b', 'c'];
      await write(
        store,
        ids.map((id) => put(revision({ id, content: Buffer.alloc(1000) }))),
      );
      const entries = await sampled(store);
      for (const { bytes, unreachable } of entries) {
        expect(bytes).toBeGreaterThanOrEqual(1000);
        expect(unreachable).toBe(false);
      }
      const keys = entries.map(({ key }) => key);
      expect(keys).toHaveLength(3);
      expect(await store.evict(keys)).toBe(3);
      expect(await store.exists(GENERATION, ids)).toEqual([false, false, false]);
      expect(await store.head()).toEqual(headAt(10));
      expect(await store.evict([])).toBe(0);
    });

    test('what belongs to a generation that is over is said to be unreachable', async () => {
      const store = await begun();
      await write(store, [put(revision())]);
      await store.moveHead(GENERATION, headAt(10, LATER));
      expect((await sampled(store)).map(({ unreachable }) => unreachable)).toEqual([true]);
    });

    test('answers, and says how full it is', async () => {
      const store = await begun();
      await store.ping();
      expect((await store.memory()).usedBytes).toBeGreaterThanOrEqual(0);
    });

    test('calls after a close reject, and a new connection takes them again', async () => {
      const store = await begun();
      await store.close();
      await store.close();
      const failed = await store.head().catch((error: unknown) => error);
      expect(failed).toBeInstanceOf(SyncEngineError);
      expect((failed as SyncEngineError).code).toBe('TIER_UNAVAILABLE');
      await store.open({ archiveId: ARCHIVE, lost: () => {} });
      expect(await store.head()).toEqual(headAt(10));
    });

    test('empty lists are no calls', async () => {
      const store = await begun();
      expect(await write(store, [])).toEqual([]);
      expect((await store.getMany(GENERATION, [])).values).toEqual([]);
      expect(await store.exists(GENERATION, [])).toEqual([]);
      await store.deleteMany(GENERATION, []);
    });
  });

  describe(`${name}: lives`, () => {
    test('a value is gone when its life is over, and still refuses what is older for a while', async (context) => {
      const place = prepare();
      if (place.passMs === undefined) {
        context.skip('time cannot be made to pass');
        return;
      }
      const store = await begun(place);
      await write(store, [put(revision({ version: 5 }), 'value', 1000)]);
      expect((await read(store))?.version).toBe(5);
      await place.passMs(1100);
      expect(await read(store)).toBeUndefined();
      expect(await write(store, [put(revision({ version: 4 }))])).toEqual([PUT_NEWER_THERE]);
      expect(await write(store, [put(revision({ version: 6 }))])).toEqual([PUT_WRITTEN]);
    });
  });
}
