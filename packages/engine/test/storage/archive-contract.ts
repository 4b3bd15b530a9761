/** What every archive must do. Each store runs this one suite. */

import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SyncEngineError } from '#engine/base/errors.js';
import { compareOrder } from '#engine/item/order.js';
import { contentHashOf, type Revision } from '#engine/item/revision.js';
import {
  APPLY_EXISTED,
  APPLY_STORED,
  APPLY_UNCHANGED,
  type ArchiveOpenOptions,
  type ArchiveStore,
} from '#engine/storage/archive-store.js';
import { rejection } from '../support/engines.js';
import { anyRevision, essence, revision } from '../support/revisions.js';
import { STRANGE_IDS } from '../support/strange-ids.js';

export const CREATE: ArchiveOpenOptions = { expectedId: undefined, mayCreate: true, mayDiffer: false };

export interface ArchiveUnderTest {
  /** A store on the same data each time it is called. */
  open(): ArchiveStore;
}

export function archiveContract(name: string, prepare: () => ArchiveUnderTest): void {
  async function opened(place = prepare()): Promise<ArchiveStore> {
    const store = place.open();
    onTestFinished(() => store.close());
    await store.open(CREATE);
    return store;
  }

  async function read(store: ArchiveStore, id: string): Promise<Revision | undefined> {
    const [row] = await store.getMany([id]);
    if (row instanceof SyncEngineError) throw row;
    return row;
  }

  describe(`${name} as an archive`, () => {
    test('gives back every field of what was applied, and the hash of its content', async () => {
      const store = await opened();
      const live = revision({
        contentType: 'json',
        state: 'ü',
        homeInstanceId: 'h',
        traceParent: 'p',
        traceState: 's',
      });
      const tombstone = revision({ id: 'b', deleted: true, version: 7 });
      await store.apply([live, tombstone]);
      expect(essence((await read(store, 'a')) as Revision)).toEqual(essence(live));
      expect((await read(store, 'a'))?.contentHash).toBe(contentHashOf(live));
      expect(essence((await read(store, 'b')) as Revision)).toEqual(essence(tombstone));
    });

    test('never replaces a newer write by an older one, by every part of the order', async () => {
      const node = (text: string): string => text.padEnd(16, '\0');
      const ascending = [
        revision({ version: 1, origin: node('z') }),
        revision({ version: 2, origin: node('a') }),
        revision({ version: 2, origin: node('b') }),
        revision({ version: 2, origin: node('b'), content: Buffer.from('other') }),
        revision({ version: 2, origin: node('b'), deleted: true }),
        revision({ version: 3, origin: node('a') }),
      ].sort(compareOrder);
      for (let older = 0; older < ascending.length; older++) {
        for (let newer = older + 1; newer < ascending.length; newer++) {
          const store = await opened();
          const winner = ascending[newer] as Revision;
          await store.apply([winner]);
          const result = await store.apply([ascending[older] as Revision]);
          expect(result.flags[0]).toBe(0);
          expect(result.newer.get(0)).toBe(winner.version);
          expect(essence((await read(store, 'a')) as Revision)).toEqual(essence(winner));
          await store.close();
        }
      }
    }, 60_000);

    test('says of each write what became of it', async () => {
      const store = await opened();
      const first = await store.apply([revision({ id: 'a' }), revision({ id: 'b', deleted: true })]);
      expect([...first.flags]).toEqual([APPLY_STORED, APPLY_STORED]);
      const second = await store.apply([
        revision({ id: 'a', version: 2 }),
        revision({ id: 'b', version: 2 }),
        revision({ id: 'c' }),
      ]);
      expect([...second.flags]).toEqual([APPLY_STORED | APPLY_EXISTED, APPLY_STORED, APPLY_STORED]);
    });

    test('a batch applied twice changes nothing', async () => {
      const store = await opened();
      const batch = [revision({ id: 'a' }), revision({ id: 'b', deleted: true })];
      await store.apply(batch);
      const before = await store.getMany(['a', 'b']);
      const again = await store.apply(batch);
      expect([...again.flags]).toEqual([
        APPLY_STORED | APPLY_UNCHANGED | APPLY_EXISTED,
        APPLY_STORED | APPLY_UNCHANGED,
      ]);
      expect(await store.getMany(['a', 'b'])).toEqual(before);
    });

    test('reads in input order, with repetitions, many at once', async () => {
      const store = await opened();
      const rows = Array.from({ length: 2500 }, (_, at) =>
        revision({ id: `k${at}`, content: Buffer.from(String(at)) }),
      );
      await store.apply(rows);
      const ids = [...rows.map((row) => row.id).reverse(), 'missing', 'k7', 'k7'];
      const answers = await store.getMany(ids);
      expect(answers.map((row) => (row as Revision | undefined)?.content.toString())).toEqual([
        ...rows.map((_, at) => String(2499 - at)),
        undefined,
        '7',
        '7',
      ]);
      expect(await store.getMany([])).toEqual([]);
    });

    test('keeps every id distinct and every byte', async () => {
      const store = await opened();
      const rows = STRANGE_IDS.map((id) =>
        revision({ id, content: Buffer.concat([Buffer.from([0, 255]), Buffer.from(id)]) }),
      );
      await store.apply(rows);
      const answers = (await store.getMany(STRANGE_IDS)) as Revision[];
      expect(answers.map(essence)).toEqual(rows.map(essence));
      const large = revision({ id: 'large', content: Buffer.alloc(1024 * 1024, 0xab) });
      await store.apply([large, revision({ id: 'empty', content: Buffer.alloc(0) })]);
      expect((await read(store, 'large'))?.content.equals(large.content)).toBe(true);
      expect((await read(store, 'empty'))?.content.length).toBe(0);
    });

    test('keeps everything across a close, its identity and its highest version too', async () => {
      const place = prepare();
      const store = place.open();
      const { archiveId } = await store.open(CREATE);
      await store.apply([revision({ version: 4096 * 1000 })]);
      await store.close();
      const again = place.open();
      onTestFinished(() => again.close());
      expect(await again.open({ expectedId: archiveId, mayCreate: false, mayDiffer: false })).toMatchObject({
        archiveId,
        highVersion: 4096 * 1000,
      });
      expect((await again.getMany(['a']))[0]).toBeDefined();
    });

    test('is refused with another identity, unless that is allowed', async () => {
      const place = prepare();
      await (await opened(place)).close();
      const store = place.open();
      onTestFinished(() => store.close());
      const expected = { expectedId: '0'.repeat(32), mayCreate: false, mayDiffer: false };
      expect(await rejection(store.open(expected))).toMatchObject({ code: 'CONFLICT' });
      await store.open({ ...expected, mayDiffer: true });
    });

    test('rejects after close, and can be opened again', async () => {
      const store = await opened();
      await store.apply([revision()]);
      await store.close();
      await store.close();
      for (const call of [store.getMany(['a']), store.apply([revision()]), store.ping()]) {
        expect((await rejection(call)).code).toBe('TIER_UNAVAILABLE');
      }
      await store.open(CREATE);
      await store.ping();
      expect(await read(store, 'a')).toBeDefined();
    });

    test('two batches under way at once both take effect', async () => {
      const store = await opened();
      const [first, second] = await Promise.all([
        store.apply([revision({ version: 5, content: Buffer.from('newer') })]),
        store.apply([revision({ version: 4, content: Buffer.from('older') }), revision({ id: 'b' })]),
      ]);
      expect(first.flags[0]).toBe(APPLY_STORED);
      expect([...second.flags]).toEqual([0, APPLY_STORED]);
      expect((await read(store, 'a'))?.content.toString()).toBe('newer');
    });

    test('does what a map and the order would do', async () => {
      const few = fc.record({
        change: anyRevision,
        id: fc.constantFrom('a', 'A', 'a ', 'ä'),
        version: fc.nat(4),
      });
      const batches = fc.array(fc.uniqueArray(few, { selector: (one) => one.id, maxLength: 4 }), {
        maxLength: 8,
      });
      await fc.assert(
        fc.asyncProperty(batches, async (all) => {
          const store = await opened();
          const model = new Map<string, Revision>();
          for (const batch of all) {
            const writes = batch.map(({ change, id, version }) => ({ ...change, id, version: version + 1 }));
            const result = await store.apply(writes);
            writes.forEach((write, at) => {
              const present = model.get(write.id);
              const order = present === undefined ? 1 : compareOrder(write, present);
              expect((result.flags[at] as number) & APPLY_STORED).toBe(order >= 0 ? APPLY_STORED : 0);
              if (order > 0) model.set(write.id, write);
            });
          }
          const ids = ['a', 'A', 'a ', 'ä'];
          const rows = await store.getMany(ids);
          expect(rows.map((row) => row && essence(row as Revision))).toEqual(
            ids.map((id) => model.get(id)).map((row) => row && essence(row)),
          );
          await store.close();
        }),
        { numRuns: 25 },
      );
    }, 60_000);
  });
}
