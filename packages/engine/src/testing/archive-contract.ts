/** What every archive must do. Each store runs this one suite. */

import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SyncEngineError } from '../base/errors.js';
import { compareOrder } from '../item/order.js';
import { contentHashOf, NO_CONTENT_HASH, type Revision } from '../item/revision.js';
import { keyIdOf, LaneSum, LeafHasher } from '../merkle/digest.js';
import { split } from '../merkle/path.js';
import {
  APPLY_EXISTED,
  APPLY_REDO,
  APPLY_STORED,
  APPLY_TOO_OLD,
  APPLY_UNCHANGED,
  type ArchiveOpenOptions,
  type ArchiveStore,
  type ChangeBatch,
  type ChangeHead,
  type ChildDigest,
  type CollectRequest,
  type PathDigest,
  type RowRange,
  type StoredLetter,
} from '../storage/archive-store.js';
import { anyRevision, essence, revision } from './revisions.js';
import { STRANGE_IDS } from './strange-ids.js';

export const CREATE: ArchiveOpenOptions = {
  expectedId: undefined,
  mayCreate: true,
  mayDiffer: false,
  merkleEnabled: true,
  clusterKey: undefined,
};

const KEY = '5a'.repeat(32);
const KEYED: ArchiveOpenOptions = { ...CREATE, clusterKey: KEY };
const EVERYTHING: RowRange = { prefix: '', state: undefined };
const ROOT: readonly string[] = [];

export interface ArchiveUnderTest {
  /** A store on the same data each time it is called. */
  open(): ArchiveStore;
}

export function archiveContract(name: string, prepare: () => ArchiveUnderTest): void {
  async function opened(place = prepare(), options = KEYED): Promise<ArchiveStore> {
    const store = place.open();
    onTestFinished(() => store.close());
    await store.open(options);
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
        redisTtlMs: 0,
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
      expect(await again.open({ ...CREATE, expectedId: archiveId, mayCreate: false })).toMatchObject({
        archiveId,
        highVersion: 4096 * 1000,
      });
      expect((await again.getMany(['a']))[0]).toBeDefined();
    });

    test('is refused with another identity, unless that is allowed', async () => {
      const place = prepare();
      await (await opened(place, CREATE)).close();
      const store = place.open();
      onTestFinished(() => store.close());
      const expected = { ...CREATE, expectedId: '0'.repeat(32), mayCreate: false };
      expect(await rejection(store.open(expected))).toMatchObject({ code: 'CONFLICT' });
      await store.open({ ...expected, mayDiffer: true });
    });

    test('rejects after close, and can be opened again', async () => {
      const store = await opened();
      await store.apply([revision()]);
      await store.close();
      await store.close();
      const calls: (() => Promise<unknown>)[] = [
        () => store.getMany(['a']),
        () => store.apply([revision()]),
        () => store.scan(EVERYTHING, undefined, 1),
        () => store.count(EVERYTHING, []),
        () => store.ids(undefined, 1),
        () => store.changesSince({ position: 0, chain: '0'.repeat(64) }, 1),
        () => store.digests([ROOT]),
        () => store.children(ROOT, undefined, 1),
        () => store.scrub(undefined, 1),
        () => store.verifyPath(ROOT),
        () => store.collect(collecting({})),
        () => store.keepLetters([letter()]),
        () => store.dropLetters(['a']),
        () => store.letters(),
        () => store.ping(),
      ];
      for (const call of calls) {
        expect((await rejection(call())).code, String(call)).toBe('TIER_UNAVAILABLE');
      }
      await store.open(KEYED);
      await store.ping();
      expect(await read(store, 'a')).toBeDefined();
    });

    test('two batches under way at once both take effect', async () => {
      const store = await opened();
      const [first, second] = await Promise.all([
        store.apply([revision({ version: 5, content: Buffer.from('newer') })]),
        store.apply([revision({ version: 4, content: Buffer.from('older') }), revision({ id: 'b' })]),
      ]);
      // Whichever was first: on a server neither waits for the other to begin.
      const outcomes = [
        [APPLY_STORED, 0],
        [APPLY_STORED | APPLY_EXISTED, APPLY_STORED],
      ];
      expect(outcomes).toContainEqual([first.flags[0], second.flags[0]]);
      expect(second.flags[1]).toBe(APPLY_STORED);
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

    test('a missing one is not created where that is not allowed', async () => {
      const store = prepare().open();
      onTestFinished(() => store.close());
      const only = { ...CREATE, expectedId: '0'.repeat(32), mayCreate: false };
      expect((await rejection(store.open(only))).code).toBe('TIER_UNAVAILABLE');
      expect((await rejection(store.open({ ...only, mayDiffer: true }))).code).toBe('TIER_UNAVAILABLE');
    });
  });

  describe(`${name}: the settings of its digests`, () => {
    test('a given key is the key, and a different one is refused', async () => {
      const place = prepare();
      const store = place.open();
      onTestFinished(() => store.close());
      const keyId = keyIdOf(Buffer.from(KEY, 'hex'));
      expect((await store.open(KEYED)).keyId).toBe(keyId);
      await store.close();
      expect((await rejection(store.open({ ...KEYED, clusterKey: '5b'.repeat(32) }))).code).toBe('CONFIG');
      expect((await rejection(store.ping())).code).toBe('TIER_UNAVAILABLE');
      // It is not kept in the archive: who has the file alone cannot make digests.
      expect((await rejection(store.open(CREATE))).code).toBe('CONFIG');
      expect((await store.open(KEYED)).keyId).toBe(keyId);
    });

    test('without one, each archive has its own and keeps it', async () => {
      const keyIds = [];
      for (const place of [prepare(), prepare()]) {
        const store = place.open();
        onTestFinished(() => store.close());
        const { keyId } = await store.open(CREATE);
        await store.close();
        expect((await store.open(CREATE)).keyId).toBe(keyId);
        keyIds.push(keyId);
      }
      expect(keyIds[0]).toMatch(/^[0-9a-f]{16}$/);
      expect(keyIds[1]).not.toBe(keyIds[0]);
    });

    test.each([true, false])(
      'created with merkleEnabled %s, it is refused with the other',
      async (enabled) => {
        const place = prepare();
        const store = await opened(place, { ...KEYED, merkleEnabled: enabled });
        await store.apply([revision()]);
        await store.close();
        const error = await rejection(store.open({ ...KEYED, merkleEnabled: !enabled }));
        expect(error.code).toBe('CONFIG');
        await store.open({ ...KEYED, merkleEnabled: enabled });
        expect(await read(store, 'a')).toBeDefined();
      },
    );

    test('without digests everything else is as it is with them', async () => {
      const store = await opened(prepare(), { ...KEYED, merkleEnabled: false });
      const start = await headOf(store);
      const first = await store.apply([revision({ id: 'a.b' }), revision({ id: 'a.c' })]);
      expect([...first.flags]).toEqual([APPLY_STORED, APPLY_STORED]);
      const second = await store.apply([revision({ id: 'a.b', version: 2, deleted: true })]);
      expect([...second.flags]).toEqual([APPLY_STORED | APPLY_EXISTED]);
      expect(await scanIds(store, EVERYTHING)).toEqual(['a.c']);
      expect(await store.count(EVERYTHING, [])).toBe(1);
      expect(await store.collect(collecting({ upTo: 2 }))).toMatchObject({ horizon: 2, removed: 1 });
      expect(await store.ids(undefined, 10)).toEqual(['a.c']);
      const changes = (await changesOf(store, start)).flatMap((batch) => batch.changes);
      expect(changes.map((change) => [change.id, change.kind])).toEqual(
        expect.arrayContaining([
          ['a.b', 'put'],
          ['a.c', 'put'],
          ['a.b', 'delete'],
          ['a.b', 'collected'],
        ]),
      );
      expect(changes.map((change) => change.delta.length)).toEqual([0, 0, 0, 0]);
    });
  });

  describe(`${name}: writes made from a base`, () => {
    const base = (version: number, rule: 'exactly' | 'atMost', origin = origins.b) => ({
      version,
      origin,
      rule,
    });
    const row = revision({ version: 5, origin: origins.b, content: Buffer.from('row') });

    async function holding(present: Revision): Promise<ArchiveStore> {
      const store = await opened();
      await store.apply([present]);
      return store;
    }

    test.each([
      ['a newer write', base(6, 'exactly')],
      ['an older write', base(4, 'exactly')],
      ['a write of the same version with an origin before it', base(5, 'exactly', origins.a)],
      ['a write of the same version with an origin behind it', base(5, 'exactly', origins.c)],
    ])('exactly: made from %s than the row, it is to be made anew', async (_what, made) => {
      const store = await holding(row);
      const before = await headOf(store);
      const result = await store.apply([
        revision({ version: 9, base: made }),
        revision({ id: 'other', version: 9 }),
      ]);
      expect((result.flags[0] as number) & ~APPLY_EXISTED).toBe(APPLY_REDO);
      expect(result.flags[1]).toBe(APPLY_STORED);
      expect(result.newer.size).toBe(0);
      expect(essence((await read(store, 'a')) as Revision)).toEqual(essence(row));
      const [batch] = await changesOf(store, before);
      expect(batch?.changes.map((change) => change.id)).toEqual(['other']);
    });

    test('exactly: nothing is logged where all are to be made anew', async () => {
      const store = await holding(row);
      const before = await headOf(store);
      const result = await store.apply([revision({ version: 9, base: base(4, 'exactly') })]);
      expect(result).toMatchObject({ changed: false, head: before });
    });

    test('exactly: a tombstone that is not the base is one too', async () => {
      const store = await holding(revision({ version: 5, origin: origins.b, deleted: true }));
      const result = await store.apply([revision({ version: 9, base: base(4, 'exactly') })]);
      expect(result.flags[0]).toBe(APPLY_REDO);
      expect((await read(store, 'a'))?.deleted).toBe(true);
    });

    test('exactly: made from the row, it is stored, and is unchanged when it comes again', async () => {
      const store = await holding(row);
      const write = revision({ version: 9, state: 'next', base: base(5, 'exactly') });
      expect((await store.apply([write])).flags[0]).toBe(APPLY_STORED | APPLY_EXISTED);
      const present = (await read(store, 'a')) as Revision;
      expect(present).toMatchObject({ version: 9, state: 'next' });
      expect(present.base).toBeUndefined();
      const again = await store.apply([write]);
      expect(again.flags[0]).toBe(APPLY_STORED | APPLY_EXISTED | APPLY_UNCHANGED);
      expect(again.changed).toBe(false);
    });

    test.each(['exactly', 'atMost'] as const)(
      '%s: a row newer than the write wins as always',
      async (rule) => {
        const store = await holding(row);
        const result = await store.apply([revision({ version: 4, base: base(3, rule) })]);
        expect(result.flags[0]).toBe(0);
        expect(result.newer.get(0)).toBe(5);
      },
    );

    test.each(['exactly', 'atMost'] as const)('%s: without a row it is stored', async (rule) => {
      const store = await opened();
      expect((await store.apply([revision({ version: 9, base: base(5, rule) })])).flags[0]).toBe(
        APPLY_STORED,
      );
      expect((await read(store, 'a'))?.base).toBeUndefined();
    });

    test('exactly: without a row, a base from below the horizon may have been deleted since', async () => {
      const store = await opened();
      await store.collect({ upTo: 5, log: undefined, nowMs: 1, expiryMs: 1, limit: 10 });
      const made = [
        revision({ id: 'old', version: 9, base: base(5, 'exactly') }),
        revision({ id: 'young', version: 9, base: base(6, 'exactly') }),
        revision({ id: 'retried', version: 9, base: base(5, 'atMost') }),
      ];
      expect([...(await store.apply(made)).flags]).toEqual([APPLY_TOO_OLD, APPLY_STORED, APPLY_STORED]);
    });

    test.each([
      ['of a lower version', base(4, 'atMost', origins.c)],
      ['of the same version, with an origin before the row', base(5, 'atMost', origins.a)],
    ])('atMost: a row newer than a base %s wins', async (_what, made) => {
      const store = await holding(row);
      const result = await store.apply([revision({ version: 9, base: made })]);
      expect(result.flags[0]).toBe(0);
      expect([...result.newer]).toEqual([[0, 5]]);
      expect(result.changed).toBe(false);
      expect(essence((await read(store, 'a')) as Revision)).toEqual(essence(row));
    });

    test.each([
      ['the base', base(5, 'atMost')],
      ['older than a base of the same version', base(5, 'atMost', origins.c)],
      ['of a lower version than the base', base(6, 'atMost', origins.a)],
    ])('atMost: a row that is %s is replaced', async (_what, made) => {
      const store = await holding(row);
      const write = revision({ version: 9, base: made });
      expect((await store.apply([write])).flags[0]).toBe(APPLY_STORED | APPLY_EXISTED);
      expect(await read(store, 'a')).toMatchObject({ version: 9 });
      expect((await store.apply([write])).flags[0]).toBe(APPLY_STORED | APPLY_EXISTED | APPLY_UNCHANGED);
    });
  });

  describe(`${name}: ranges`, () => {
    test('scans, counts and ids go by the bytes of the ids', async () => {
      const store = await opened();
      // By UTF-16 units the surrogates of the fourth and fifth would come before the first.
      const ordered = ['\ue000', '\ufffd', '\uffff', '\u{10000}', '😀', '\u{10ffff}'];
      await store.apply([...ordered].reverse().map((id) => revision({ id })));
      expect(await scanIds(store, EVERYTHING)).toEqual(ordered);
      expect(await store.ids(undefined, 100)).toEqual(ordered);
      expect((await store.scan(EVERYTHING, '\uffff', 1)).rows.map(idOfRow)).toEqual(['\u{10000}']);
      expect(await store.ids('\uffff', 1)).toEqual(['\u{10000}']);
    });

    test('a prefix is taken as it is, byte by byte', async () => {
      const store = await opened();
      const more = [
        'users',
        'users.1',
        'users.2',
        'users2',
        'Users.1',
        'user',
        'a%_b',
        'a%_',
        'axyb',
        '\u{10ffff}\u{10ffff}',
      ];
      const ids = sorted([...new Set([...STRANGE_IDS, ...more])]);
      await store.apply(ids.map((id) => revision({ id })));
      const prefixes = [...ids, 'a%_', 'users.', 'b', 'xx', '\u{10fffe}', '\ud7ff', 'é'.repeat(511), '💣'];
      for (const prefix of prefixes) {
        const expected = ids.filter((id) => id.startsWith(prefix));
        expect(await scanIds(store, { prefix, state: undefined }), JSON.stringify(prefix)).toEqual(expected);
        expect(await store.count({ prefix, state: undefined }, []), JSON.stringify(prefix)).toBe(
          expected.length,
        );
      }
      expect(await scanIds(store, { prefix: 'users.', state: undefined })).toEqual(['users.1', 'users.2']);
      expect(await scanIds(store, { prefix: 'a%_', state: undefined })).toEqual(['a%_', 'a%_b']);
    });

    test('a state is taken as it is, the default one too, and only its own rows are in it', async () => {
      const store = await opened();
      const states = ['default', 'Default', 'default ', 'done', '%', '_', 'ü', '\0', '😀'.repeat(16)];
      const rows = ['x', 'y'].flatMap((side) =>
        states.map((state, at) => revision({ id: `${side}.${at}`, state })),
      );
      await store.apply(rows);
      for (const [at, state] of states.entries()) {
        expect(await scanIds(store, { prefix: '', state }), state).toEqual([`x.${at}`, `y.${at}`]);
        expect(await scanIds(store, { prefix: 'y.', state }), state).toEqual([`y.${at}`]);
        expect(await store.count({ prefix: '', state }, []), state).toBe(2);
        expect(await store.count({ prefix: 'x.', state }, [`x.${at}`]), state).toBe(0);
      }
      expect(await store.count({ prefix: '', state: 'never' }, [])).toBe(0);
      await store.apply([
        revision({ id: 'x.0', version: 2, state: 'done' }),
        revision({ id: 'x.3', version: 2 }),
      ]);
      expect(await scanIds(store, { prefix: '', state: 'done' })).toEqual(['x.0', 'y.3']);
      expect(await scanIds(store, { prefix: '', state: 'default' })).toEqual(['x.3', 'y.0']);
    });

    test('tombstones are in no range, but among the ids', async () => {
      const store = await opened();
      await store.apply([revision({ id: 'a' }), revision({ id: 'b' }), revision({ id: 'c', deleted: true })]);
      await store.apply([revision({ id: 'a', version: 2, deleted: true })]);
      expect(await scanIds(store, EVERYTHING)).toEqual(['b']);
      expect(await scanIds(store, { prefix: '', state: 'default' })).toEqual(['b']);
      expect(await store.count(EVERYTHING, [])).toBe(1);
      expect(await store.count({ prefix: '', state: 'default' }, [])).toBe(1);
      expect(await store.ids(undefined, 100)).toEqual(['a', 'b', 'c']);
    });

    test('a scan brings whole rows', async () => {
      const store = await opened();
      const rows = [
        revision({
          id: 'a',
          contentType: 'json',
          state: 'ü',
          homeInstanceId: 'h',
          traceParent: 'p',
          traceState: 's',
          redisTtlMs: 315_360_000_000,
        }),
        revision({ id: 'b', content: Buffer.alloc(0) }),
      ];
      await store.apply(rows);
      const page = await store.scan(EVERYTHING, undefined, 10);
      expect((page.rows as Revision[]).map(essence)).toEqual(rows.map(essence));
      expect((page.rows as Revision[]).map((row) => row.contentHash)).toEqual(rows.map(contentHashOf));
    });

    test('pages of any size bring the same as one', async () => {
      const store = await opened();
      const ids = sorted(STRANGE_IDS);
      await store.apply(ids.map((id, at) => revision({ id, state: at % 3 === 0 ? 'third' : 'default' })));
      const ranges: RowRange[] = [
        EVERYTHING,
        { prefix: 'a', state: undefined },
        { prefix: '', state: 'third' },
        { prefix: 'a', state: 'third' },
      ];
      for (const range of ranges) {
        const whole = await scanIds(store, range, 10_000);
        expect(whole.length).toBeGreaterThan(1);
        for (const limit of [1, 2, 7, whole.length - 1, whole.length, whole.length + 1]) {
          expect(await scanIds(store, range, limit), `${JSON.stringify(range)} ${limit}`).toEqual(whole);
        }
      }
      for (const limit of [1, 2, 7, ids.length, ids.length + 1]) {
        expect(await allIds(store, limit), String(limit)).toEqual(ids);
      }
    });

    test('a page starts behind any string, whether there is such a row or not', async () => {
      const store = await opened();
      await store.apply(['a', 'b', 'b.1', 'b.2', 'c'].map((id) => revision({ id })));
      await store.apply([revision({ id: 'b.1', version: 2, deleted: true })]);
      const from = async (after: string, prefix = ''): Promise<string[]> =>
        (await store.scan({ prefix, state: undefined }, after, 10)).rows.map(idOfRow);
      expect(await from('')).toEqual(['a', 'b', 'b.2', 'c']);
      expect(await from('b.1')).toEqual(['b.2', 'c']);
      expect(await from('b\0')).toEqual(['b.2', 'c']);
      expect(await from('c')).toEqual([]);
      expect(await from('a', 'b')).toEqual(['b', 'b.2']);
      expect(await from('b', 'b')).toEqual(['b.2']);
      expect(await from('c', 'b')).toEqual([]);
      expect(await store.ids('b', 10)).toEqual(['b.1', 'b.2', 'c']);
      expect(await store.ids('bb', 10)).toEqual(['c']);
      expect(await store.ids('c', 10)).toEqual([]);
    });

    test('a page has at most as many rows as it was asked for, and large rows are all brought', async () => {
      const store = await opened();
      const rows = Array.from({ length: 12 }, (_, at) =>
        revision({ id: `k${at + 10}`, content: Buffer.alloc(1024 * 1024, at) }),
      );
      for (const row of rows) await store.apply([row]);
      const page = await store.scan(EVERYTHING, undefined, 2);
      expect(page.rows.length).toBeLessThanOrEqual(2);
      expect(page.more).toBe(true);
      const found = await scanAll(store, EVERYTHING, 1000);
      expect(found.map((row) => row.id)).toEqual(rows.map((row) => row.id));
      expect(found.every((row, at) => row.content.equals((rows[at] as Revision).content))).toBe(true);
    });

    test('counts without the exceptions, of which some are not there at all', async () => {
      const store = await opened();
      const ids = Array.from({ length: 3000 }, (_, at) => `k.${at}`);
      await store.apply(ids.map((id) => revision({ id })));
      await store.apply([
        revision({ id: 'k.0', version: 2, deleted: true }),
        revision({ id: 'k.1', version: 2, state: 'done' }),
        revision({ id: 'other' }),
      ]);
      const range = { prefix: 'k.', state: undefined };
      expect(await store.count(range, [])).toBe(2999);
      expect(await store.count(range, ['k.0', 'missing', 'other', 'k.', 'K.5'])).toBe(2999);
      expect(await store.count(range, ['k.5', 'k.6', 'k.0'])).toBe(2997);
      expect(await store.count({ prefix: 'k.', state: 'default' }, ['k.1', 'k.2'])).toBe(2997);
      expect(await store.count(range, ids.slice(0, 2500))).toBe(500);
      expect(await store.count(EVERYTHING, [...ids, 'other'])).toBe(0);
    });

    test('do what a filter over a map would do', async () => {
      const id = fc.oneof(fc.constantFrom(...STRANGE_IDS), anyPathId);
      const write = fc.record({ id, deleted: fc.boolean(), state: fc.constantFrom('default', 'done', 'ü') });
      const asked = fc.record({
        prefix: fc.oneof(
          fc.constant(''),
          id,
          id.map((one) => [...one].slice(0, 1).join('')),
        ),
        state: fc.constantFrom(undefined, 'default', 'done'),
        after: fc.option(id, { nil: undefined }),
        limit: fc.integer({ min: 1, max: 9 }),
        except: fc.uniqueArray(id, { maxLength: 5 }),
      });
      await fc.assert(
        fc.asyncProperty(
          fc.uniqueArray(write, { selector: (one) => one.id, maxLength: 40 }),
          fc.array(asked, { minLength: 5, maxLength: 10 }),
          async (writes, questions) => {
            const store = await opened();
            const rows = writes.map((one) => revision(one));
            await store.apply(rows);
            const live = new Map(rows.filter((row) => !row.deleted).map((row) => [row.id, row]));
            for (const { prefix, state, after, limit, except } of questions) {
              const range = { prefix, state };
              const found = sorted(live.keys()).filter(
                (one) => one.startsWith(prefix) && (state === undefined || live.get(one)?.state === state),
              );
              const behind = found.filter((one) => after === undefined || compareBytes(one, after) > 0);
              expect(await scanIds(store, range, limit, after)).toEqual(behind);
              expect(await store.count(range, except)).toBe(
                found.filter((one) => !except.includes(one)).length,
              );
            }
            await store.close();
          },
        ),
        { numRuns: 25 },
      );
    }, 60_000);
  });

  describe(`${name}: the change log`, () => {
    test('an empty archive is at its beginning', async () => {
      const place = prepare();
      const store = place.open();
      onTestFinished(() => store.close());
      const info = await store.open(CREATE);
      expect(info).toMatchObject({ highVersion: 0, horizon: 0, head: { position: 0 } });
      expect(info.head.chain).toMatch(/^[0-9a-f]{64}$/);
      expect(await store.changesSince(info.head, 10)).toEqual({ batches: [], head: info.head, gap: 'none' });
    });

    test('numbers the transactions that changed something, and no others', async () => {
      const store = await opened();
      const start = await headOf(store);
      const heads: ChangeHead[] = [];
      const apply = async (...writes: Revision[]): Promise<boolean> => {
        const { head, changed } = await store.apply(writes);
        heads.push(head);
        return changed;
      };
      expect(await apply(revision({ version: 5 }))).toBe(true);
      expect(await apply(revision({ version: 5 }))).toBe(false);
      expect(await apply(revision({ version: 4 }))).toBe(false);
      expect(await apply()).toBe(false);
      expect(await apply(revision({ version: 4 }), revision({ id: 'b', version: 6 }))).toBe(true);
      expect(await apply(revision({ version: 7, deleted: true }))).toBe(true);
      expect(heads.map((head) => head.position)).toEqual([1, 1, 1, 1, 2, 3]);
      expect(new Set([start, ...heads].map((head) => head.chain)).size).toBe(4);
      const batches = await changesOf(store, start);
      expect(batches.map(({ position, chain }) => ({ position, chain }))).toEqual([
        heads[0],
        heads[4],
        heads[5],
      ]);
      const { origin } = revision();
      expect(batches.map((batch) => batch.changes.map(({ delta: _delta, ...change }) => change))).toEqual([
        [{ id: 'a', version: 5, origin, kind: 'put', countDelta: 1 }],
        [{ id: 'b', version: 6, origin, kind: 'put', countDelta: 1 }],
        [{ id: 'a', version: 7, origin, kind: 'delete', countDelta: 0 }],
      ]);
    });

    test('keeps what each change added to the digests', async () => {
      const store = await opened();
      const start = await headOf(store);
      const writes = [
        revision({ id: 'a.b', origin: '\0\xff'.repeat(8) }),
        revision({ id: 'a.b', version: 2, state: 'done' }),
        revision({ id: 'a.b', version: 3, deleted: true }),
      ];
      for (const write of writes) await store.apply([write]);
      await store.collect(collecting({ upTo: 3 }));
      const leaves = writes.map(leafOf);
      const changes = (await changesOf(store, start)).flatMap((batch) => batch.changes);
      expect(changes.map((change) => change.kind)).toEqual(['put', 'put', 'delete', 'collected']);
      expect(changes.map((change) => change.origin)).toEqual(
        [...writes, writes[2]].map((write) => write?.origin),
      );
      expect(changes.map((change) => change.version)).toEqual([1, 2, 3, 3]);
      expect(changes.map((change) => change.countDelta)).toEqual([1, 0, 0, -1]);
      expect(changes.map((change) => change.delta.toString('hex'))).toEqual(
        [0, 1, 2, 3].map((at) => {
          const sum = new LaneSum();
          const [before, after] = [leaves[at - 1], leaves[at]];
          if (after !== undefined) sum.add(after);
          if (before !== undefined) sum.subtract(before);
          return sum.bytes().toString('hex');
        }),
      );
    });

    test('gives transactions that are under way at once a place each', async () => {
      const store = await opened();
      const start = await headOf(store);
      const results = await Promise.all(
        Array.from({ length: 20 }, (_, at) => store.apply([revision({ id: `k${at}` })])),
      );
      const heads = results.map((result) => result.head).sort((a, b) => a.position - b.position);
      expect(heads.map((head) => head.position)).toEqual(Array.from({ length: 20 }, (_, at) => at + 1));
      expect((await changesOf(store, start)).map((batch) => batch.chain)).toEqual(
        heads.map((head) => head.chain),
      );
      for (const [at, { head }] of results.entries()) {
        const batch = (await changesOf(store, start)).find((one) => one.position === head.position);
        expect(batch?.changes.map((change) => change.id)).toEqual([`k${at}`]);
      }
    });

    test('goes on where it was after a close', async () => {
      const store = await opened();
      const start = await headOf(store);
      const first = await store.apply([revision({ id: 'a' })]);
      await store.close();
      const info = await store.open(KEYED);
      expect(info.head).toEqual(first.head);
      const second = await store.apply([revision({ id: 'b' })]);
      expect(second.head.position).toBe(2);
      expect(
        (await changesOf(store, start)).flatMap((batch) => batch.changes.map((change) => change.id)),
      ).toEqual(['a', 'b']);
    });

    test('different histories have different chains', async () => {
      const [a, b] = [revision({ id: 'a' }), revision({ id: 'b' })];
      const histories: Revision[][][] = [
        [[a], [b]],
        [[b], [a]],
        [[a, b]],
        [[a], [{ ...b, id: 'c' }]],
        [[a], [{ ...b, version: 2 }]],
        [[a], [{ ...b, origin: origins.c }]],
        [[a], [revision({ id: 'b', deleted: true })]],
        [[{ ...a, version: 2 }], [b]],
        [[a], [b], [revision({ id: 'b', version: 2 })]],
      ];
      const chains = new Set<string>();
      const heads: ChangeHead[] = [];
      for (const history of histories) {
        const store = await opened();
        for (const batch of history) heads.push((await store.apply(batch)).head);
        chains.add((await headOf(store)).chain);
        await store.close();
      }
      expect(chains.size).toBe(histories.length);
      expect(heads.every((head) => /^[0-9a-f]{64}$/.test(head.chain))).toBe(true);
    });

    test('pages bring whole transactions, about as many changes as were asked for', async () => {
      const store = await opened();
      const start = await headOf(store);
      const sizes = Array.from({ length: 20 }, (_, at) => 1 + (at % 5));
      for (const [at, size] of sizes.entries()) {
        await store.apply(Array.from({ length: size }, (_, of) => revision({ id: `k${at}.${of}` })));
      }
      const head = await headOf(store);
      const whole = await store.changesSince(start, 10_000);
      expect(whole).toMatchObject({ gap: 'none', head });
      expect(whole.batches.map((batch) => batch.position)).toEqual(sizes.map((_, at) => at + 1));
      for (const [at, batch] of whole.batches.entries()) {
        const expected = Array.from({ length: sizes[at] as number }, (_, of) => `k${at}.${of}`);
        expect(sorted(batch.changes.map((change) => change.id))).toEqual(sorted(expected));
      }
      for (const limit of [1, 2, 4, 7, 30, 60]) {
        const first = await store.changesSince(start, limit);
        expect(first.head).toEqual(head);
        expect(first.batches.flatMap((batch) => batch.changes).length).toBeLessThanOrEqual(limit + 5);
        expect(await changesOf(store, start, limit), String(limit)).toEqual(whole.batches);
      }
      for (const batch of whole.batches) {
        const { position, chain } = batch;
        const rest = await store.changesSince({ position, chain }, 10_000);
        expect(rest).toEqual({ batches: whole.batches.slice(position), head, gap: 'none' });
      }
    });

    test('knows places of another history', async () => {
      const one = await opened();
      const other = await opened();
      const heads: ChangeHead[] = [];
      for (const id of ['a', 'b', 'c']) heads.push((await one.apply([revision({ id })])).head);
      for (const id of ['A', 'B', 'C', 'D']) await other.apply([revision({ id })]);
      const [, second, third] = heads as [ChangeHead, ChangeHead, ChangeHead];
      const strangers: ChangeHead[] = [
        await headOf(other),
        { position: 4, chain: third.chain },
        { position: 1000, chain: third.chain },
        { position: 3, chain: second.chain },
        { position: 2, chain: third.chain },
        { position: 2, chain: second.chain.replace(/^./, (digit) => (digit === '0' ? '1' : '0')) },
      ];
      for (const from of strangers) {
        expect(await one.changesSince(from, 10), JSON.stringify(from)).toEqual({
          batches: [],
          head: third,
          gap: 'foreign',
        });
      }
      expect((await other.changesSince(second, 10)).gap).toBe('foreign');
      expect((await one.changesSince(second, 10)).batches).toHaveLength(1);
    });
  });

  describe(`${name}: digests`, () => {
    test('equal those added up from the rows, at every path, whatever was applied', async () => {
      await fc.assert(
        fc.asyncProperty(anyHistory, async (steps) => {
          const place = prepare();
          const store = await opened(place);
          const start = await headOf(store);
          for (const step of steps) {
            if (typeof step === 'number') await store.collect(collecting({ upTo: step, limit: 3 }));
            else await store.apply(step);
          }
          const rows = await allRows(store);
          const expected = addedUp(rows);
          const paths = [...expected.keys()].map((key) => JSON.parse(key) as string[]);
          const digests = await store.digests(paths);
          expect(digests.map(shown)).toEqual([...expected.values()].map(shown));
          for (const path of paths) expect(await store.verifyPath(path), JSON.stringify(path)).toBe(true);
          const absent = paths
            .flatMap((path) => [
              [...path, 'absent'],
              [...path, ''],
            ])
            .filter((path) => !expected.has(JSON.stringify(path)) && path.length <= 64);
          expect((await store.digests(absent)).every((digest) => digest === undefined)).toBe(true);

          const sums = new Map<string, { sum: LaneSum; count: number }>();
          for (const change of (await changesOf(store, start)).flatMap((batch) => batch.changes)) {
            for (const path of pathsOf(change.id)) {
              const node = entry(sums, JSON.stringify(path), () => ({ sum: new LaneSum(), count: 0 }));
              node.sum.add(change.delta);
              node.count += change.countDelta;
            }
          }
          for (const [key, { sum, count }] of sums) {
            const node = expected.get(key);
            expect(count, key).toBe(node?.count ?? 0);
            expect(sum.bytes(), key).toEqual(node?.sum ?? Buffer.alloc(32));
          }

          await store.close();
          await store.open(KEYED);
          expect((await store.digests(paths)).map(shown)).toEqual(digests.map(shown));
          await store.close();
        }),
        { numRuns: 30 },
      );
    }, 120_000);

    test('do not depend on the order in which writes came', async () => {
      const writes = fc.array(
        fc.record({
          change: anyRevision,
          id: fc.constantFrom('a', 'a.b', 'a.b.c', 'a..', '.'),
          version: fc.nat(3),
        }),
        { minLength: 1, maxLength: 12 },
      );
      const shuffled = writes.chain((all) =>
        fc.tuple(
          fc.constant(all),
          fc.shuffledSubarray(all, { minLength: all.length, maxLength: all.length }),
        ),
      );
      await fc.assert(
        fc.asyncProperty(shuffled, async (orders) => {
          const roots: unknown[] = [];
          for (const order of orders) {
            const store = await opened();
            for (const { change, id, version } of order) {
              await store.apply([{ ...change, id, version: version + 1 }]);
            }
            roots.push((await store.digests([ROOT, ['a'], ['a', 'b'], ['']])).map(shown));
            await store.close();
          }
          expect(roots[1]).toEqual(roots[0]);
        }),
        { numRuns: 20 },
      );
    }, 120_000);

    test('do not depend on how writes were cut into transactions', async () => {
      const rows = STRANGE_IDS.map((id) => revision({ id, content: Buffer.from(id) }));
      const whole = await opened();
      await whole.apply(rows);
      const single = await opened();
      for (const row of [...rows].reverse()) await single.apply([row]);
      expect((await single.digests([ROOT])).map(shown)).toEqual((await whole.digests([ROOT])).map(shown));
    });

    test('change with everything that a leaf speaks of', async () => {
      const row = revision({ id: 'a.b' });
      const others = [
        row,
        { ...row, id: 'a.c' },
        { ...row, version: 2 },
        { ...row, origin: origins.c },
        { ...row, content: Buffer.from('other') },
        { ...row, state: 'done' },
        { ...row, contentType: 'json' as const },
        revision({ id: 'a.b', deleted: true }),
      ];
      const sums = new Set<string>();
      for (const other of others) {
        const store = await opened();
        await store.apply([{ ...other, contentHash: undefined }]);
        sums.add(((await store.digests([ROOT]))[0] as PathDigest).sum.toString('hex'));
        await store.close();
      }
      expect(sums.size).toBe(others.length);
    });

    test('of an empty archive are none', async () => {
      const store = await opened();
      expect(await store.digests([ROOT, [''], ['a']])).toEqual([undefined, undefined, undefined]);
      expect(await store.digests([])).toEqual([]);
      expect(await store.children(ROOT, undefined, 10)).toEqual({ children: [], head: await headOf(store) });
      expect(await store.verifyPath(ROOT)).toBe(true);
    });

    test('count each child once, whether it is a row, has rows below, or both', async () => {
      const store = await opened();
      const ids = [
        'uk',
        'uk.nhs',
        'uk.nhs.patient',
        'uk.nhs.patient.1',
        'uk.',
        'uk..a',
        'uk.bare',
        'us.only.deep',
        '.',
        '..',
      ];
      await store.apply(ids.map((id) => revision({ id })));
      const shape = async (...path: string[]): Promise<unknown> => {
        const [digest] = await store.digests([path]);
        return digest && [digest.count, digest.isLeaf, digest.childCount];
      };
      expect(await shape()).toEqual([10, false, 3]);
      expect(await shape('uk')).toEqual([7, true, 3]);
      expect(await shape('uk', 'nhs')).toEqual([3, true, 1]);
      expect(await shape('uk', 'nhs', 'patient')).toEqual([2, true, 1]);
      expect(await shape('uk', '')).toEqual([2, true, 1]);
      expect(await shape('uk', 'bare')).toEqual([1, true, 0]);
      expect(await shape('us')).toEqual([1, false, 1]);
      expect(await shape('')).toEqual([2, false, 1]);
      expect(await shape('', '')).toEqual([2, true, 1]);
      expect(await shape('', '', '')).toEqual([1, true, 0]);
      expect(await shape('uk', 'n')).toBeUndefined();
      expect(await shape('u')).toBeUndefined();
      // A tombstone is a row; only collection takes it away.
      await store.apply(
        ['uk.nhs', 'uk.bare', 'uk.', 'us.only.deep'].map((id) => revision({ id, version: 2, deleted: true })),
      );
      expect(await shape('uk')).toEqual([7, true, 3]);
      await store.collect(collecting({ upTo: 2 }));
      expect(await shape('uk')).toEqual([4, true, 2]);
      expect(await shape('uk', 'nhs')).toEqual([2, false, 1]);
      expect(await shape('uk', '')).toEqual([1, false, 1]);
      expect(await shape('uk', 'bare')).toBeUndefined();
      expect(await shape('us')).toBeUndefined();
      expect(await shape('us', 'only')).toBeUndefined();
      expect(await shape()).toEqual([6, false, 2]);
      await store.apply([revision({ id: 'uk.bare', version: 3 })]);
      expect(await shape('uk')).toEqual([5, true, 3]);
    });

    test('take what lies beyond 64 segments as one', async () => {
      const store = await opened();
      const deep = (count: number): string[] => Array.from({ length: count }, (_, at) => `s${at}`);
      const ids = [deep(63), deep(64), deep(65), deep(66), [...deep(63), 's63x']].map((path) =>
        path.join('.'),
      );
      await store.apply(ids.map((id) => revision({ id })));
      const above = deep(63);
      const { children } = await store.children(above, undefined, 10);
      expect(children.map((child) => child.segment)).toEqual(['s63', 's63.s64', 's63.s64.s65', 's63x']);
      for (const child of children) {
        expect(child).toMatchObject({ count: 1, isLeaf: true, childCount: 0 });
      }
      const [node, last] = await store.digests([above, deep(64)]);
      expect(node).toMatchObject({ count: 5, isLeaf: true, childCount: 4 });
      expect(last).toMatchObject({ count: 1, isLeaf: true, childCount: 0 });
      expect((await store.children(deep(64), undefined, 10)).children).toEqual([]);
      expect((await store.children(above, 's63', 2)).children.map((child) => child.segment)).toEqual([
        's63.s64',
        's63.s64.s65',
      ]);
    });

    test('children come in byte order with their digests, and add up to their parent', async () => {
      const store = await opened();
      const segments = ['', 'A', 'a', 'a b', 'a%', 'a_', 'é', '\ue000', '\uffff', '\u{10000}', '😀', 'z'];
      const ids = segments.flatMap((segment, at) => {
        const [row, below] = [`top.${segment}`, `top.${segment}.below`];
        return at % 3 === 0 ? [row] : at % 3 === 1 ? [below] : [row, below];
      });
      await store.apply([...ids, 'top', 'topper', 'top2.a', 'to'].map((id) => revision({ id })));
      const expected = addedUp(await allRows(store));
      for (const limit of [1, 2, 5, segments.length, 100]) {
        const children = await childrenOf(store, ['top'], limit);
        expect(children.map((child) => child.segment)).toEqual(sorted(segments));
        for (const child of children) {
          expect(shown(child), child.segment).toEqual(
            shown(expected.get(JSON.stringify(['top', child.segment]))),
          );
        }
      }
      const [parent] = (await store.digests([['top']])) as [PathDigest];
      const sum = LaneSum.of(leafOf(revision({ id: 'top' })));
      let count = 1;
      for (const child of await childrenOf(store, ['top'], 4)) {
        sum.add(child.sum);
        count += child.count;
      }
      expect({ count, sum: sum.bytes() }).toEqual({ count: parent.count, sum: parent.sum });
      const page = await store.children(['top'], 'b', 1);
      expect(page.children.map((child) => child.segment)).toEqual(['z']);
      expect(page.head).toEqual(await headOf(store));
      expect((await store.children(['top'], '\u{10ffff}', 10)).children).toEqual([]);
      expect((await store.children(['nothing'], undefined, 10)).children).toEqual([]);
      expect((await store.children(ROOT, undefined, 10)).children.map((child) => child.segment)).toEqual([
        'to',
        'top',
        'top2',
        'topper',
      ]);
      expect((await store.children([''], undefined, 10)).children).toEqual([]);
    });

    test('a scrub goes over every row and finds nothing where nothing is wrong', async () => {
      const store = await opened();
      const ids = sorted(STRANGE_IDS);
      await store.apply(ids.map((id, at) => revision({ id, deleted: at % 4 === 0 })));
      await store.apply(ids.filter((_, at) => at % 3 === 0).map((id) => revision({ id, version: 2 })));
      for (const limit of [1, 10, 1000]) {
        let after: string | undefined;
        let checked = 0;
        for (let turn = 0; turn <= ids.length + 1; turn++) {
          const page = await store.scrub(after, limit);
          expect(page.corrupt).toEqual([]);
          expect(page.checked).toBeLessThanOrEqual(limit);
          checked += page.checked;
          after = page.last;
          if (after === undefined) break;
          expect(after).toBe(ids[checked - 1]);
        }
        expect(after).toBeUndefined();
        expect(checked).toBe(ids.length);
      }
    });
  });

  describe(`${name}: collection`, () => {
    const tombstones = Array.from({ length: 10 }, (_, at) =>
      revision({ id: `t${at + 1}`, version: at + 1, deleted: true }),
    );

    async function withTombstones(): Promise<ArchiveStore> {
      const store = await opened();
      await store.apply(tombstones);
      return store;
    }

    test('removes tombstones up to the horizon, and nothing else', async () => {
      const store = await withTombstones();
      await store.apply([revision({ id: 'live', version: 1 }), revision({ id: 't1', version: 2 })]);
      const result = await store.collect(collecting({ upTo: 4 }));
      expect(result).toMatchObject({ horizon: 4, removed: 3, more: false });
      expect(await store.ids(undefined, 100)).toEqual(
        sorted(['live', 't1', 't5', 't6', 't7', 't8', 't9', 't10']),
      );
      expect(await store.getMany(['t2', 't3', 't4'])).toEqual([undefined, undefined, undefined]);
      expect((await read(store, 'live'))?.version).toBe(1);
    });

    test('records what it removed, and nothing where it removed nothing', async () => {
      const store = await withTombstones();
      const before = await headOf(store);
      const result = await store.collect(collecting({ upTo: 3 }));
      const changes = (await changesOf(store, before)).flatMap((batch) => batch.changes);
      expect(result.head).toEqual(await headOf(store));
      expect(result.head.position).toBeGreaterThan(before.position);
      expect(
        changes.map(({ id, version, origin, kind, countDelta }) => ({
          id,
          version,
          origin,
          kind,
          countDelta,
        })),
      ).toEqual(
        tombstones
          .slice(0, 3)
          .map(({ id, version, origin }) => ({ id, version, origin, kind: 'collected', countDelta: -1 })),
      );
      const again = await store.collect(collecting({ upTo: 3 }));
      expect(again).toEqual({ horizon: 3, removed: 0, more: false, head: result.head });
    });

    test('takes them out of the digests', async () => {
      const store = await withTombstones();
      await store.apply([revision({ id: 't2.child', version: 20 })]);
      await store.collect(collecting({ upTo: 9 }));
      const expected = addedUp(await allRows(store));
      const digests = await store.digests([ROOT, ['t2'], ['t3']]);
      expect(digests.map(shown)).toEqual([
        shown(expected.get('[]')),
        shown(expected.get('["t2"]')),
        undefined,
      ]);
      expect(digests[0]).toMatchObject({ count: 2, childCount: 2 });
      expect(digests[1]).toMatchObject({ count: 1, isLeaf: false, childCount: 1 });
      expect(await childrenOf(store, ROOT, 1)).toHaveLength(2);
      expect(await store.verifyPath(ROOT)).toBe(true);
    });

    test('removes at most as many as it was told, and says whether there are more', async () => {
      const store = await withTombstones();
      const turns = [];
      for (let turn = 0; turn < 4; turn++) {
        const { horizon, removed, more } = await store.collect(collecting({ upTo: 9, limit: 4 }));
        turns.push([horizon, removed, more, (await store.ids(undefined, 100)).length]);
      }
      expect(turns).toEqual([
        [9, 4, true, 6],
        [9, 4, true, 2],
        [9, 1, false, 1],
        [9, 0, false, 1],
      ]);
    });

    test('the horizon stays behind what a log may still hold, until the log was silent for too long', async () => {
      const store = await withTombstones();
      const at = async (
        nowMs: number,
        logId: string | undefined,
        lowerBound: number,
        upTo = 8,
      ): Promise<number> => {
        const log = logId === undefined ? undefined : { logId, lowerBound };
        return (await store.collect(collecting({ upTo, nowMs, log }))).horizon;
      };
      expect(await at(10_000, 'one', 3)).toBe(3);
      expect(await store.ids(undefined, 1)).toEqual(['t10']);
      expect((await store.getMany(['t3', 't4'])).map((row) => row !== undefined)).toEqual([false, true]);
      expect(await at(10_500, 'two', 5)).toBe(3);
      expect(await at(10_500, undefined, 0)).toBe(3);
      expect(await at(11_000, undefined, 0)).toBe(3);
      expect(await at(11_001, undefined, 0)).toBe(5);
      expect(await at(11_400, 'two', 6)).toBe(6);
      // It is back with something older: the horizon does not go back, nor on.
      expect(await at(11_500, 'one', 2)).toBe(6);
      expect(await at(11_600, 'two', 100)).toBe(6);
      expect(await at(11_700, 'one', 7)).toBe(7);
      expect(await at(11_800, 'one', 100)).toBe(8);
      expect(await at(11_800, 'one', 100, 4)).toBe(8);
      expect(await at(20_000, undefined, 0, 9)).toBe(9);
      expect(await store.ids(undefined, 100)).toEqual(['t10']);
    });

    test('logs and horizon are remembered across a close', async () => {
      const store = await withTombstones();
      await store.collect(collecting({ upTo: 8, log: { logId: 'one', lowerBound: 3 } }));
      await store.close();
      expect(await store.open(KEYED)).toMatchObject({ horizon: 3, highVersion: 10 });
      expect((await store.collect(collecting({ upTo: 8 }))).horizon).toBe(3);
      await store.collect(collecting({ upTo: 8, log: { logId: 'one', lowerBound: 100 }, limit: 1 }));
      await store.close();
      expect((await store.open(KEYED)).horizon).toBe(8);
    });

    test('the horizon moves without tombstones too, and before all are removed', async () => {
      const empty = await opened();
      expect(await empty.collect(collecting({ upTo: 50 }))).toMatchObject({
        horizon: 50,
        removed: 0,
        more: false,
      });
      expect((await empty.apply([revision({ version: 50 })])).flags[0]).toBe(APPLY_TOO_OLD);
      const store = await withTombstones();
      await store.collect(collecting({ upTo: 9, limit: 1 }));
      expect((await store.apply([revision({ id: 'other', version: 9 })])).flags[0]).toBe(APPLY_TOO_OLD);
    });

    test('a put from below the horizon, of an id without a row, is too old', async () => {
      const store = await withTombstones();
      const { head } = await store.collect(collecting({ upTo: 8 }));
      const old = [revision({ id: 't5', version: 4 }), revision({ id: 'never', version: 8 })];
      const refused = await store.apply(old);
      expect([...refused.flags]).toEqual([APPLY_TOO_OLD, APPLY_TOO_OLD]);
      expect(refused.newer.size).toBe(0);
      expect(refused).toMatchObject({ changed: false, head });
      const mixed = await store.apply([...old, revision({ id: 'new', version: 9 })]);
      expect([...mixed.flags]).toEqual([APPLY_TOO_OLD, APPLY_TOO_OLD, APPLY_STORED]);
      expect(mixed.changed).toBe(true);
      expect(mixed.head.position).toBe(head.position + 1);
      expect(await store.ids(undefined, 100)).toEqual(['new', 't10', 't9']);
    });

    test('a delete from there has nothing left to do', async () => {
      const store = await withTombstones();
      const { head } = await store.collect(collecting({ upTo: 8 }));
      const result = await store.apply([
        revision({ id: 't5', version: 4, deleted: true }),
        revision({ id: 'never', version: 8, deleted: true }),
      ]);
      expect([...result.flags]).toEqual([APPLY_STORED, APPLY_STORED]);
      expect(result.newer.size).toBe(0);
      expect(result).toMatchObject({ changed: false, head });
      expect(await store.ids(undefined, 100)).toEqual(['t10', 't9']);
      expect(((await store.digests([ROOT]))[0] as PathDigest).count).toBe(2);
      const above = await store.apply([revision({ id: 'never', version: 9, deleted: true })]);
      expect(above).toMatchObject({ changed: true });
      expect(await store.ids(undefined, 100)).toEqual(['never', 't10', 't9']);
    });

    test('where there is a row, the order decides as above the horizon', async () => {
      const store = await withTombstones();
      await store.apply([revision({ id: 'live', version: 2 })]);
      await store.collect(collecting({ upTo: 8 }));
      const result = await store.apply([
        revision({ id: 'live', version: 3 }),
        revision({ id: 't9', version: 5 }),
        revision({ id: 't10', version: 10, deleted: true }),
      ]);
      expect([...result.flags]).toEqual([APPLY_STORED | APPLY_EXISTED, 0, APPLY_STORED | APPLY_UNCHANGED]);
      expect([...result.newer]).toEqual([[1, 9]]);
      const older = await store.apply([revision({ id: 'live', version: 1 })]);
      expect(older.flags[0]).toBe(0);
      expect(older.newer.get(0)).toBe(3);
      const deleted = await store.apply([revision({ id: 'live', version: 4, deleted: true })]);
      expect(deleted.flags[0]).toBe(APPLY_STORED | APPLY_EXISTED);
    });
  });

  describe(`${name}: letters`, () => {
    test('are kept with all their fields, also across a close, and are no rows', async () => {
      const store = await opened();
      const { head } = await store.apply([revision({ id: 'row' })]);
      const letters = [
        letter({
          contentType: 'json',
          state: 'ü',
          homeInstanceId: 'h',
          traceParent: 'p',
          traceState: 's',
          redisTtlMs: 1000,
          version: 2048 * 9,
        }),
        letter({ id: 'gone', deleted: true }, 'too old', 0),
        ...STRANGE_IDS.map((id, at) =>
          letter({ id: `${id}!`.slice(-500).toWellFormed(), content: Buffer.from(id) }, `Grund ü ${at}`, at),
        ),
      ];
      await store.keepLetters(letters);
      const shownLetters = (all: readonly StoredLetter[]): unknown[] =>
        all
          .map((one) => ({ ...one, revision: essence(one.revision), id: one.revision.id }))
          .sort((a, b) => compareBytes(a.id, b.id));
      expect(shownLetters(await store.letters())).toEqual(shownLetters(letters));
      await store.close();
      expect((await store.open(KEYED)).head).toEqual(head);
      expect(shownLetters(await store.letters())).toEqual(shownLetters(letters));
      expect(await store.ids(undefined, 100)).toEqual(['row']);
      expect(await store.count(EVERYTHING, [])).toBe(1);
      expect(await store.getMany(['a'])).toEqual([undefined]);
      expect(((await store.digests([ROOT]))[0] as PathDigest).count).toBe(1);
    });

    test('replace older ones of the same id, and are dropped by id', async () => {
      const store = await opened();
      expect(await store.letters()).toEqual([]);
      await store.keepLetters([letter({ id: 'a' }), letter({ id: 'b' }), letter({ id: 'A' })]);
      await store.keepLetters([letter({ id: 'a', version: 2, content: Buffer.from('new') }, 'again', 77)]);
      const kept = await store.letters();
      expect(sorted(kept.map((one) => one.revision.id))).toEqual(['A', 'a', 'b']);
      const replaced = kept.find((one) => one.revision.id === 'a');
      expect(replaced).toMatchObject({ reason: 'again', setAsideAtMs: 77, revision: { version: 2 } });
      expect(replaced?.revision.content.toString()).toBe('new');
      await store.dropLetters(['a', 'missing']);
      await store.dropLetters([]);
      await store.keepLetters([]);
      expect(sorted((await store.letters()).map((one) => one.revision.id))).toEqual(['A', 'b']);
      await store.dropLetters(['A', 'b']);
      expect(await store.letters()).toEqual([]);
    });
  });
}

const origins = { a: 'a'.padEnd(16, '\0'), b: 'b'.padEnd(16, '\0'), c: 'c'.padEnd(16, '\xff') };

function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function sorted(ids: Iterable<string>): string[] {
  return [...ids].sort(compareBytes);
}

function idOfRow(row: Revision | SyncEngineError): string {
  if (row instanceof SyncEngineError) throw row;
  return row.id;
}

function collecting(change: Partial<CollectRequest>): CollectRequest {
  return { upTo: 0, log: undefined, nowMs: 10_000, expiryMs: 1000, limit: 1000, ...change };
}

function letter(
  change: Partial<Revision> = {},
  reason = 'refused',
  setAsideAtMs = 1_800_000_000_000,
): StoredLetter {
  return { revision: revision(change), reason, setAsideAtMs };
}

async function scanAll(
  store: ArchiveStore,
  range: RowRange,
  limit = 100,
  start?: string | undefined,
): Promise<Revision[]> {
  const found: Revision[] = [];
  for (let after = start; ; ) {
    const { rows, more } = await store.scan(range, after, limit);
    expect(rows.length).toBeLessThanOrEqual(limit);
    for (const row of rows) {
      if (row instanceof SyncEngineError) throw row;
      found.push(row);
    }
    if (!more) return found;
    expect(rows.length).toBeGreaterThan(0);
    after = found.at(-1)?.id;
  }
}

async function scanIds(
  store: ArchiveStore,
  range: RowRange,
  limit?: number,
  after?: string | undefined,
): Promise<string[]> {
  return (await scanAll(store, range, limit, after)).map((row) => row.id);
}

async function allIds(store: ArchiveStore, limit = 100): Promise<string[]> {
  const found: string[] = [];
  for (;;) {
    const page = await store.ids(found.at(-1), limit);
    expect(page.length).toBeLessThanOrEqual(limit);
    found.push(...page);
    if (page.length < limit) return found;
  }
}

async function allRows(store: ArchiveStore): Promise<Revision[]> {
  return (await store.getMany(await allIds(store))).map((row) => {
    if (row instanceof SyncEngineError || row === undefined) throw row ?? new Error('An id has no row.');
    return row;
  });
}

/** The end of the log, asked from a place that no archive has. */
async function headOf(store: ArchiveStore): Promise<ChangeHead> {
  const page = await store.changesSince({ position: Number.MAX_SAFE_INTEGER, chain: '0'.repeat(64) }, 1);
  expect(page.gap).toBe('foreign');
  return page.head;
}

/** Everything behind `from`, in pages of about `limit` changes. */
async function changesOf(store: ArchiveStore, from: ChangeHead, limit = 100): Promise<ChangeBatch[]> {
  const found: ChangeBatch[] = [];
  let place = from;
  for (;;) {
    const { batches, head, gap } = await store.changesSince(place, limit);
    expect(gap).toBe('none');
    found.push(...batches);
    for (const batch of batches) {
      expect(batch.position).toBe(place.position + 1);
      expect(batch.changes.length).toBeGreaterThan(0);
      place = { position: batch.position, chain: batch.chain };
    }
    if (place.position === head.position) {
      expect(place).toEqual(head);
      return found;
    }
    expect(batches.length).toBeGreaterThan(0);
  }
}

async function childrenOf(
  store: ArchiveStore,
  path: readonly string[],
  limit: number,
): Promise<ChildDigest[]> {
  const found: ChildDigest[] = [];
  for (;;) {
    const { children } = await store.children(path, found.at(-1)?.segment, limit);
    expect(children.length).toBeLessThanOrEqual(limit);
    found.push(...children);
    if (children.length < limit) return found;
  }
}

function leafOf(row: Revision): Buffer {
  const hash = row.deleted ? NO_CONTENT_HASH : contentHashOf({ ...row, contentHash: undefined });
  return new LeafHasher(Buffer.from(KEY, 'hex')).leaf(row, Buffer.from(hash, 'hex'));
}

/** The root, every path above the id, and the id's own. */
function pathsOf(id: string): string[][] {
  const segments = split(id);
  return [[], ...segments.map((_, at) => segments.slice(0, at + 1))];
}

function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const value = map.get(key) ?? make();
  map.set(key, value);
  return value;
}

/** Digests of all paths that rows lie at or below, by `JSON.stringify(path)`, added up row by row. */
function addedUp(rows: readonly Revision[]): Map<string, PathDigest> {
  interface Node {
    readonly sum: LaneSum;
    readonly below: Set<string>;
    count: number;
    isLeaf: boolean;
  }
  const nodes = new Map<string, Node>();
  for (const row of rows) {
    const segments = split(row.id);
    const leaf = leafOf(row);
    for (const path of pathsOf(row.id)) {
      const node = entry(nodes, JSON.stringify(path), () => ({
        sum: new LaneSum(),
        below: new Set<string>(),
        count: 0,
        isLeaf: false,
      }));
      node.sum.add(leaf);
      node.count++;
      const next = segments[path.length];
      if (next === undefined) node.isLeaf = true;
      else node.below.add(next);
    }
  }
  return new Map(
    [...nodes].map(([key, { sum, below, count, isLeaf }]) => [
      key,
      { count, sum: sum.bytes(), isLeaf, childCount: below.size },
    ]),
  );
}

function shown(digest: PathDigest | undefined): object | undefined {
  if (digest === undefined) return undefined;
  const { count, sum, isLeaf, childCount } = digest;
  return { count, sum: sum.toString('hex'), isLeaf, childCount };
}

/** Ids that share paths, have empty segments, are prefixes of others, or are deeper than 64 segments. */
const anyPathId: fc.Arbitrary<string> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .array(fc.constantFrom('a', 'b', '', 'é', '%', '😀', '\uffff'), { minLength: 1, maxLength: 5 })
      .map((segments) => segments.join('.'))
      .filter((id) => id !== ''),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.integer({ min: 60, max: 66 }), fc.constantFrom('a', 'a.b', 'a.', '.', 'b..a', 'a.b.c'))
      .map(([depth, end]) => 'a.'.repeat(depth) + end),
  },
  { weight: 1, arbitrary: fc.constantFrom(...STRANGE_IDS) },
);

/** Batches of writes to few ids, and versions to collect up to. */
const anyHistory: fc.Arbitrary<(Revision[] | number)[]> = fc
  .uniqueArray(anyPathId, { minLength: 1, maxLength: 14 })
  .chain((ids) => {
    const write = fc.record({
      change: anyRevision,
      id: fc.constantFrom(...ids),
      version: fc.integer({ min: 1, max: 30 }),
    });
    const batch = fc
      .uniqueArray(write, { selector: (one) => one.id, maxLength: 6 })
      .map((writes) => writes.map(({ change, id, version }) => ({ ...change, id, version })));
    const step: fc.Arbitrary<Revision[] | number> = fc.oneof(
      { weight: 5, arbitrary: batch },
      { weight: 1, arbitrary: fc.integer({ min: 1, max: 12 }) },
    );
    return fc.array(step, { minLength: 1, maxLength: 10 });
  });

/** The error that `work` rejects with; fails where it does not. */
async function rejection(work: Promise<unknown>): Promise<SyncEngineError> {
  try {
    await work;
  } catch (error) {
    return error as SyncEngineError;
  }
  throw new Error('It did not reject.');
}
