/** Scans, counts, states and bulk deletes: what is pending and what SQL holds, as one. */
import { describe, expect, test } from 'vitest';
import { type Revision, type SyncEngine, SyncItem } from '#engine/index.js';
import { revisionOf } from '#engine/item/sync-item.js';
import { STRANGE_IDS } from '#engine/testing/strange-ids.js';
import { fileEngine, rejection, startedFakes, temporaryDirectory } from '../support/engines.js';

async function idsOf(items: AsyncIterable<SyncItem>): Promise<string[]> {
  const ids: string[] = [];
  for await (const item of items) ids.push(item.id);
  return ids;
}

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

async function submitted(engine: SyncEngine, ids: readonly string[], state = 'default'): Promise<void> {
  for (const id of ids) await engine.submit(new SyncItem(id, id, { state }));
}

describe('scans', () => {
  test('bring every strange id once, in byte order, pending, in memory or in SQL', async () => {
    const engine = await fileEngine(temporaryDirectory(), { l1MaxBytes: 128 * 1024, batchFlushMs: 60_000 });
    const half = STRANGE_IDS.length >> 1;
    await submitted(engine, STRANGE_IDS.slice(0, half));
    await engine.flush();
    await submitted(engine, STRANGE_IDS.slice(half));
    const expected = [...STRANGE_IDS].sort(byBytes);
    expect(await idsOf(engine.scanPrefix(''))).toEqual(expected);
    expect(await idsOf(engine.scanPrefix('', { pageSize: 3 }))).toEqual(expected);
    expect(await engine.countPrefix('')).toBe(expected.length);
    for (const prefix of ['a', 'a.', '%', '😀', '\uffff', 'x']) {
      const within = expected.filter((id) => id.startsWith(prefix));
      expect(await idsOf(engine.scanPrefix(prefix)), prefix).toEqual(within);
      expect(await engine.countPrefix(prefix), prefix).toBe(within.length);
    }
    const middle = expected[20] as string;
    expect(await idsOf(engine.scanPrefix('', { after: middle, limit: 5, pageSize: 2 }))).toEqual(
      expected.slice(21, 26),
    );
  });

  test('a pending write shadows its row: newer content, deletes, other states', async () => {
    const engine = await fileEngine(temporaryDirectory(), { batchFlushMs: 60_000 });
    await submitted(engine, ['p.1', 'p.2', 'p.3', 'p.4'], 'old');
    await engine.flush();
    await engine.submit(new SyncItem('p.1', 'newer', { state: 'old' }), { ack: 'memory' });
    await engine.delete('p.2', { ack: 'memory' });
    await engine.setState('p.3', 'new', { ack: 'memory' });
    await engine.submit(new SyncItem('p.5', 'x', { state: 'new' }), { ack: 'memory' });
    const check = async (): Promise<void> => {
      const texts: string[] = [];
      for await (const item of engine.scanPrefix('p.')) texts.push(item.text());
      expect(texts).toEqual(['newer', 'p.3', 'p.4', 'x']);
      expect(await engine.countPrefix('p.')).toBe(4);
      expect(await engine.listStateIds('old')).toEqual(['p.1', 'p.4']);
      expect(await engine.listStateIds('new')).toEqual(['p.3', 'p.5']);
      expect([await engine.countByState('old'), await engine.countByState('new')]).toEqual([2, 2]);
      expect((await engine.getByState('new', { limit: 1 })).map((item) => item.id)).toEqual(['p.3']);
      expect((await engine.getByState('new', { after: 'p.3' })).map((item) => item.id)).toEqual(['p.5']);
    };
    await check();
    await engine.flush();
    await check();
  });

  test('what is flushed while SQL is being read is found exactly once', async () => {
    const { engine, archive, ports } = await startedFakes({ batchFlushMs: 10 });
    const release = archive.hold('apply');
    for (const id of ['a', 'b', 'c']) void engine.submit(new SyncItem(id, id));
    await ports.clock.pass(20);
    const releaseRead = archive.hold('read');
    const scan = idsOf(engine.scanPrefix(''));
    const count = engine.countPrefix('');
    await ports.clock.pass(1);
    release();
    await ports.clock.pass(20);
    releaseRead();
    expect(await scan).toEqual(['a', 'b', 'c']);
    expect(await count).toBe(3);
  });

  test('an item that exists throughout is met once although others come, go and move to SQL', async () => {
    const engine = await fileEngine(temporaryDirectory(), { batchFlushMs: 1, batchFlushCount: 5 });
    const stable = Array.from({ length: 300 }, (_, at) => `k${String(at).padStart(4, '0')}`);
    await engine.submitMany(
      stable.map((id) => new SyncItem(id, 'x')),
      { ack: 'memory' },
    );
    const seen: string[] = [];
    let round = 0;
    for await (const item of engine.scanPrefix('k', { pageSize: 7 })) {
      seen.push(item.id);
      const near = `${item.id}-${round++}`;
      void engine.submit(new SyncItem(near, 'x'), { ack: 'memory' });
      if (round % 3 === 0) void engine.delete(near, { ack: 'memory' });
      if (round % 5 === 0) void engine.submit(new SyncItem(item.id, 'again'), { ack: 'memory' });
    }
    const met = seen.filter((id) => !id.includes('-'));
    expect(met).toEqual(stable);
    expect(new Set(seen).size).toBe(seen.length);
  });

  test('are refused while SQL is away, unless memory is all there is', async () => {
    const { engine, archive } = await startedFakes();
    await engine.submit(new SyncItem('a', 'x'));
    archive.down = true;
    expect((await rejection(engine.countPrefix(''))).code).toBe('TIER_UNAVAILABLE');
    expect((await rejection(idsOf(engine.scanPrefix('')))).code).toBe('TIER_UNAVAILABLE');
    expect((await rejection(engine.getByState('default'))).code).toBe('TIER_UNAVAILABLE');
  });

  test('a damaged row stops a scan, which can go on behind it', async () => {
    const { engine, archive } = await startedFakes({ batchFlushCount: 1 });
    for (const id of ['a', 'b', 'c']) await engine.submit(new SyncItem(id, id), { ack: 'stored' });
    const { engine: other } = await startedFakes({}, { archive });
    const { SyncEngineError } = await import('#engine/index.js');
    archive.rows.set('b', new SyncEngineError('CORRUPTION', 'damaged', { context: { id: 'b' } }) as never);
    const met: string[] = [];
    const error = await rejection(
      (async () => {
        for await (const item of other.scanPrefix('')) met.push(item.id);
      })(),
    );
    expect(met).toEqual(['a']);
    expect(error).toMatchObject({ code: 'CORRUPTION', context: { id: 'b' } });
    expect(await idsOf(other.scanPrefix('', { after: 'b' }))).toEqual(['c']);
  });

  test('a signal ends the waiting', async () => {
    const { engine, archive } = await startedFakes();
    archive.hold('read');
    const controller = new AbortController();
    const scan = rejection(idsOf(engine.scanPrefix('', { signal: controller.signal })));
    const count = rejection(engine.countPrefix('', { signal: controller.signal }));
    controller.abort();
    expect((await scan).code).toBe('ABORTED');
    expect((await count).code).toBe('ABORTED');
  });
});

describe('setState', () => {
  // A change of a change that was under way was refused by SQL (its base was no longer there), made anew, and called
  // clean before the new form was stored: SQL kept the first change, and a restart showed it.
  test.each([true, false])('of a change that is under way reaches SQL as well (log: %s)', async (withLog) => {
    const { engine, archive, ports } = await startedFakes({ ack: 'memory' }, { withLog });
    await engine.submit(new SyncItem('a', 'x'));
    await ports.clock.pass(1000);
    const release = archive.hold('apply');
    await engine.setState('a', 'one');
    const flushed = engine.flush();
    await ports.clock.pass(10);
    await engine.setState('a', 'two');
    release();
    await ports.clock.pass(3000);
    await flushed;
    await engine.flush();
    expect(archive.rows.get('a')).toMatchObject({ state: 'two' });
    expect((await engine.get('a', { fresh: true }))?.state).toBe('two');
    expect(engine.l1Stats().dirtyItems).toBe(0);
  });

  test('is not taken by an engine that was closed while it read', async () => {
    const { engine: earlier, archive, ports: before } = await startedFakes();
    await earlier.submit(new SyncItem('a', 'x'));
    await before.clock.pass(1000);
    const { engine, ports } = await startedFakes({}, { archive });
    expect(engine.peek('a')).toBeUndefined();
    const release = archive.hold('read');
    const late = rejection(engine.setState('a', 'late', { ack: 'memory' }));
    const closed = engine.shutdown({ deadlineMs: 50 });
    await ports.clock.pass(1000);
    await closed;
    release();
    await ports.clock.pass(1000);
    expect((await late).outcome).toBe('not-applied');
    expect(archive.rows.get('a')?.state).toBe('default');
  });

  test('of a value read from memory does not keep the memory around it alive', async () => {
    const { engine, archive, ports } = await startedFakes({ ack: 'memory', l1MaxBytes: 16 * 1024 * 1024 });
    for (let at = 0; at < 500; at++) await engine.submit(new SyncItem(`a${at}`, Buffer.alloc(200)));
    await ports.clock.pass(1000);
    const { buffer } = (revisionOf(engine.peek('a7') as SyncItem) as Revision).content;
    expect(buffer.byteLength).toBeGreaterThan(100_000);
    archive.hold('apply');
    await engine.setState('a7', 'new');
    await engine.submit((engine.peek('a8') as SyncItem).withState('new'));
    for (const id of ['a7', 'a8']) {
      const pending = revisionOf(engine.peek(id) as SyncItem) as Revision;
      expect(pending.state).toBe('new');
      expect(pending.content.buffer.byteLength).toBeLessThanOrEqual(8192);
    }
  });

  test('is a new version with the same content; undefined where there is no item', async () => {
    const engine = await fileEngine(temporaryDirectory());
    await engine.submit(SyncItem.fromJson('a', { n: 1 }), { ack: 'stored' });
    const receipt = await engine.setState('a', 'done', { ack: 'stored' });
    expect(receipt).toMatchObject({ id: 'a', ack: 'stored', existed: true });
    const item = await engine.get('a', { fresh: true });
    expect([item?.state, item?.contentType, item?.json(), item?.version]).toEqual([
      'done',
      'json',
      { n: 1 },
      receipt?.version,
    ]);
    expect(await engine.setState('none', 'done')).toBeUndefined();
    await engine.delete('a');
    expect(await engine.setState('a', 'other')).toBeUndefined();
  });

  test('on something else than its base it is made anew from what SQL holds', async () => {
    const { engine, archive, ports } = await startedFakes({ batchFlushCount: 1 });
    await engine.submit(new SyncItem('a', 'first'), { ack: 'stored' });
    await ports.clock.pass(5);
    // Someone else writes, unseen, before the change of state reaches SQL.
    const row = archive.rows.get('a');
    if (row === undefined) throw new Error('Nothing was stored.');
    archive.rows.set('a', { ...row, version: row.version + 1, content: Buffer.from('second') });
    const receipt = await engine.setState('a', 'done', { ack: 'stored' });
    const stored = archive.rows.get('a');
    expect([stored?.content.toString(), stored?.state, stored?.version]).toEqual([
      'second',
      'done',
      receipt?.version,
    ]);
    expect(receipt?.superseded).toBeUndefined();
    expect((await engine.get('a'))?.text()).toBe('second');
  });

  test('has lost where its base was deleted by someone else', async () => {
    const { engine, archive, store, ports } = await startedFakes({ batchFlushCount: 1 });
    await engine.submit(new SyncItem('a', 'first'), { ack: 'stored' });
    const row = archive.rows.get('a');
    if (row === undefined) throw new Error('Nothing was stored.');
    archive.rows.set('a', { ...row, version: row.version + 1, deleted: true, content: Buffer.alloc(0) });
    expect(await engine.setState('a', 'done', { ack: 'stored' })).toMatchObject({ superseded: true });
    await ports.clock.pass(1000);
    expect(archive.rows.get('a')?.deleted).toBe(true);
    expect(store.records.size).toBe(0);
    expect(await engine.get('a')).toBeUndefined();
  });

  // A submit in the one turn between its look and its write was overwritten, and SQL could not object.
  test.each([0, 1, 2, 3, 4])('does not overwrite a submit that comes %i turns after it', async (turns) => {
    for (const ack of ['memory', 'stored'] as const) {
      const { engine, archive, ports } = await startedFakes({ batchFlushMs: 1 });
      const first = engine.submit(new SyncItem('a', 'v1'), { ack });
      await ports.clock.pass(10);
      await first;
      const changing = engine.setState('a', 'x', { ack: 'memory' });
      for (let turn = 0; turn < turns; turn++) await null;
      await engine.submit(new SyncItem('a', 'v2'), { ack: 'memory' });
      await changing;
      expect((await engine.get('a'))?.text()).toBe('v2');
      await ports.clock.pass(100);
      expect(archive.rows.get('a')?.content.toString()).toBe('v2');
    }
  });

  // The write that is to go once more was passed over as being on its way, and then waited nowhere.
  test('on a base that SQL says is another one, and then not to be there, it is applied once more', async () => {
    const { engine, archive, ports } = await startedFakes({ batchFlushCount: 1 });
    await engine.submit(new SyncItem('a', 'first'), { ack: 'stored' });
    await ports.clock.pass(5);
    const row = archive.rows.get('a');
    if (row === undefined) throw new Error('Nothing was stored.');
    archive.rows.set('a', { ...row, version: row.version + 1 });
    const getMany = archive.getMany.bind(archive);
    archive.getMany = async (ids) => {
      archive.rows.delete('a');
      return getMany(ids);
    };
    const changing = engine.setState('a', 'done', { ack: 'stored' });
    await ports.clock.pass(1000);
    expect(await changing).toMatchObject({ ack: 'stored' });
    expect(archive.rows.get('a')?.state).toBe('done');
    await engine.flush();
  });

  test('on a pending put it has no condition, on a pending change of state the same one', async () => {
    const { engine, archive, ports } = await startedFakes({ batchFlushMs: 10 });
    archive.hold('apply');
    await engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
    await engine.setState('a', 'one', { ack: 'memory' });
    await ports.clock.pass(100);
    expect(archive.applies.flat().map((write) => [write.state, write.base])).toEqual([['one', undefined]]);
  });

  test('the condition survives a crash', async () => {
    const { engine, archive, store, ports: earlier } = await startedFakes({ batchFlushCount: 1 });
    await engine.submit(new SyncItem('a', 'first'), { ack: 'stored' });
    await earlier.clock.pass(5);
    const row = archive.rows.get('a');
    archive.down = true;
    await engine.setState('a', 'done', { ack: 'wal' });
    archive.down = false;
    if (row !== undefined)
      archive.rows.set('a', { ...row, version: row.version + 1, content: Buffer.from('second') });
    const { ports } = await startedFakes({ batchFlushCount: 1 }, { archive, store, ports: earlier });
    await ports.clock.pass(1000);
    expect([archive.rows.get('a')?.content.toString(), archive.rows.get('a')?.state]).toEqual([
      'second',
      'done',
    ]);
  });
});

describe('bulk deletes', () => {
  test('delete what the prefix has, in every tier, and nothing else', async () => {
    const engine = await fileEngine(temporaryDirectory(), { l1MaxBytes: 1024 * 1024 });
    const users = Array.from({ length: 2500 }, (_, at) => `users.${at}`);
    // By hundreds, so that a writer that has to be held is held before the next ones would be refused.
    for (let from = 0; from < users.length; from += 100) {
      const items = users.slice(from, from + 100).map((id) => new SyncItem(id, 'x'));
      expect((await engine.submitMany(items)).failed).toBe(0);
    }
    await engine.flush();
    // The tombstones alone are more than memory may hold: the deletes wait for room.
    await submitted(engine, ['users2', 'users2.1', 'user', 'users.pending']);
    expect(await engine.deletePrefix('users.')).toBe(2501);
    expect(await idsOf(engine.scanPrefix('user'))).toEqual(['user', 'users2', 'users2.1']);
    await engine.flush();
    expect(await engine.countPrefix('users.')).toBe(0);
    expect(await engine.get('users.7', { fresh: true })).toBeUndefined();
    expect(await engine.deletePrefix('users.')).toBe(0);
  });

  test('by state', async () => {
    const engine = await fileEngine(temporaryDirectory());
    await submitted(engine, ['a', 'b'], 'old');
    await submitted(engine, ['c'], 'new');
    await engine.flush();
    await submitted(engine, ['d'], 'old');
    expect(await engine.deleteByState('old')).toBe(3);
    expect(await idsOf(engine.scanPrefix(''))).toEqual(['c']);
  });

  test('what is written after the call stays', async () => {
    const { engine, archive, ports } = await startedFakes({ batchFlushCount: 1 });
    for (const id of ['a', 'b']) await engine.submit(new SyncItem(id, 'old'), { ack: 'stored' });
    const release = archive.hold('read');
    const deleting = engine.deletePrefix('', { ack: 'memory' });
    await ports.clock.pass(1);
    await engine.submit(new SyncItem('b', 'new'), { ack: 'memory' });
    await engine.submit(new SyncItem('c', 'new'), { ack: 'memory' });
    release();
    expect(await deleting).toBe(1);
    await engine.flush();
    expect(await idsOf(engine.scanPrefix(''))).toEqual(['b', 'c']);
  });
});

test('a bulk delete does not hide what someone else wrote after the call', async () => {
  const { engine, archive } = await startedFakes({ batchFlushMs: 10 });
  archive.tables.apply([foreign('b', 'old', 1)]);
  // The page shows a row that is newer than the call.
  archive.rows.set('c', foreign('c', 'new', 2 ** 52));
  expect(await engine.deletePrefix('', { ack: 'memory' })).toBe(1);
  expect(await engine.get('b')).toBeUndefined();
  expect((await engine.get('c'))?.text()).toBe('new');
});

function foreign(id: string, text: string, version: number): Revision {
  return {
    id,
    version,
    origin: 'other\0\0\0\0\0\0\0\0\0\0\x01',
    deleted: false,
    contentType: 'binary',
    state: 'default',
    content: Buffer.from(text),
  };
}

test('bad arguments are refused before anything is asked', async () => {
  const { engine } = await startedFakes();
  expect(() => engine.scanPrefix(1 as never)).toThrow(TypeError);
  expect(() => engine.scanPrefix('\ud800')).toThrow(expect.objectContaining({ code: 'CONFIG' }));
  expect(() => engine.scanPrefix('', { limit: 0 })).toThrow(TypeError);
  expect(() => engine.scanPrefix('', { pagesize: 1 } as never)).toThrow(/did you mean pageSize/);
  expect((await rejection(engine.setState('a', ''))).code).toBe('CONFIG');
  expect(await rejection(engine.getByState(1 as never))).toBeInstanceOf(TypeError);
});

test('in memory alone, scans and states work as well', async () => {
  const { SyncEngine: Engine } = await import('#engine/index.js');
  const engine = new Engine();
  await engine.start();
  await submitted(engine, ['b', 'a', 'c'], 's');
  await engine.setState('b', 't');
  expect(await idsOf(engine.scanPrefix(''))).toEqual(['a', 'b', 'c']);
  expect(await engine.listStateIds('s')).toEqual(['a', 'c']);
  expect(await engine.deleteByState('s')).toBe(2);
  expect(await engine.countPrefix('')).toBe(1);
  await engine.shutdown();
});
