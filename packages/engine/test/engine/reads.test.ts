import { describe, expect, test } from 'vitest';
import { SyncEngineError, SyncItem } from '#engine/index.js';
import { fileEngine, rejection, startedFakes, temporaryDirectory } from '../support/engines.js';
import { manualPorts, settle } from '../support/manual-ports.js';

const small = { l1MaxBytes: 64 * 1024 } as const;

describe('a read sees what was written before it', () => {
  test('from the moment submit is called, before anything is awaited', async () => {
    const { engine } = await startedFakes();
    void engine.submit(new SyncItem('a', '1'));
    expect((await engine.get('a'))?.text()).toBe('1');
    expect(engine.peek('a')?.text()).toBe('1');
    void engine.delete('a');
    expect(await engine.get('a')).toBeUndefined();
    expect((await engine.getMany(['a', 'b']))[0]).toBeUndefined();
  });

  test('a get during a flush sees the submitted value', async () => {
    const { engine, archive, ports } = await startedFakes();
    const release = archive.hold('apply');
    await engine.submit(new SyncItem('a', '1'));
    await ports.clock.pass(100);
    expect((await engine.get('a'))?.text()).toBe('1');
    release();
    await settle();
    expect((await engine.get('a'))?.text()).toBe('1');
  });

  test('after eviction it is read from SQL', async () => {
    const engine = await fileEngine(temporaryDirectory(), { ...small, ack: 'stored' });
    for (let from = 0; from < 200; from += 20) {
      const items = Array.from(
        { length: 20 },
        (_, at) => new SyncItem(`a${from + at}`, Buffer.alloc(1000, from + at)),
      );
      await engine.submitMany(items);
    }
    expect(engine.l1Stats().evictions).toBeGreaterThan(0);
    expect(engine.l1Stats().bytes).toBeLessThanOrEqual(small.l1MaxBytes);
    expect(engine.peek('a0')).toBeUndefined();
    for (let at = 0; at < 200; at++) {
      expect((await engine.get(`a${at}`))?.content).toEqual(Buffer.alloc(1000, at));
    }
  });

  test('an entry that SQL has not taken is never evicted', async () => {
    const { engine, archive, ports } = await startedFakes(small);
    archive.down = true;
    await engine.submit(new SyncItem('pinned', 'x'));
    archive.down = false;
    for (let at = 0; at < 300; at++) archive.rows.set(`r${at}`, row(`r${at}`));
    for (let at = 0; at < 300; at++) await engine.get(`r${at}`);
    expect(engine.peek('pinned')?.text()).toBe('x');
    await ports.clock.pass(5000);
    expect(archive.rows.has('pinned')).toBe(true);
  });
});

describe('a read that raced a write is not promoted', () => {
  test('a value read before a submit does not hide it', async () => {
    const { engine, archive, ports } = await startedFakes();
    archive.rows.set('a', row('a', 'old'));
    const release = archive.hold('read');
    const racing = engine.get('a');
    await settle();
    const stored = engine.submit(new SyncItem('a', 'new'), { ack: 'stored' });
    await ports.clock.pass(200);
    await stored;
    expect((await engine.get('a'))?.text()).toBe('new');
    release();
    await racing;
    expect((await engine.get('a'))?.text()).toBe('new');
  });

  test('a value read before a delete does not resurrect it, even after the tombstone was evicted', async () => {
    // The field: an invalidation during a load is lost (FusionCache, layered-loader).
    let first = 'a';
    const { engine, archive, ports } = await startedFakes(
      { ...small, sqlReadTimeoutMs: 600_000 },
      // The tombstone goes first, whatever the engine would keep.
      { ports: { ...manualPorts(), evictionPolicy: { score: ({ id }) => (id === first ? 0 : 1) } } },
    );
    archive.rows.set('a', row('a', 'old'));
    const release = archive.hold('read');
    const racing = engine.get('a');
    await settle();
    const deleted = engine.delete('a', { ack: 'stored' });
    await ports.clock.pass(200);
    await deleted;
    for (let at = 0; at < 300; at++) {
      const stored = engine.submit(new SyncItem(`f${at}`, Buffer.alloc(500)), { ack: 'stored' });
      await ports.clock.pass(100);
      await stored;
    }
    // Memory does not know of the delete any more.
    expect(engine.definitelyMissing('a')).toBe(false);
    first = '';
    release();
    await racing;
    expect(engine.peek('a')).toBeUndefined();
    expect(await engine.get('a')).toBeUndefined();
  });

  test('a get that comes after a write does not join the flight from before it', async () => {
    const { engine, archive } = await startedFakes();
    archive.rows.set('a', row('a', 'old'));
    archive.hold('read');
    void engine.get('a').catch(() => {});
    await settle();
    void engine.submit(new SyncItem('a', 'new'));
    expect((await engine.get('a'))?.text()).toBe('new');
  });
});

describe('"not found" is the truth', () => {
  test('while SQL cannot be asked an unknown id is refused, not called missing', async () => {
    const { engine, archive } = await startedFakes();
    archive.down = true;
    for (const read of [engine.get('a'), engine.getMany(['a']), engine.contains('a'), engine.status('a')]) {
      const error = await rejection(read);
      expect(error).toMatchObject({ code: 'TIER_UNAVAILABLE', retryable: true });
      expect(error.context.tier).toBe('sql');
    }
    expect(await rejection(engine.getOrInsert('a', (id) => new SyncItem(id, 'made')))).toMatchObject({
      code: 'TIER_UNAVAILABLE',
    });
  });

  test('what memory holds is answered during an outage, and a pending delete is an answer', async () => {
    const { engine, archive } = await startedFakes();
    archive.down = true;
    await engine.submit(new SyncItem('a', 'x'));
    await engine.delete('b');
    expect((await engine.get('a'))?.text()).toBe('x');
    expect(await engine.get('b')).toBeUndefined();
  });

  test('a read that SQL does not answer is refused when its deadline has passed', async () => {
    const { engine, archive, ports } = await startedFakes({ sqlReadTimeoutMs: 300 });
    archive.hold('read');
    const read = rejection(engine.get('a'));
    await ports.clock.pass(300);
    const error = await read;
    expect(error.code).toBe('TIER_UNAVAILABLE');
    expect((error.cause as SyncEngineError).code).toBe('DEADLINE');
  });

  test('a damaged row is refused, reported, and mended by writing it again', async () => {
    const { engine, archive, ports } = await startedFakes();
    const found: unknown[] = [];
    engine.on('corruption', (event) => found.push(event));
    archive.rows.set('a', new SyncEngineError('CORRUPTION', 'the row is damaged') as never);
    expect(await rejection(engine.get('a'))).toMatchObject({ code: 'CORRUPTION' });
    expect(found).toEqual([{ tier: 'sql', id: 'a' }]);
    archive.rows.delete('a');
    const stored = engine.submit(new SyncItem('a', 'again'), { ack: 'stored' });
    await ports.clock.pass(200);
    await stored;
    expect((await engine.get('a', { fresh: true }))?.text()).toBe('again');
  });

  test('an id whose record in the log is damaged is refused until it is written again', async () => {
    const { engine: first, archive, store } = await startedFakes();
    archive.down = true;
    await first.submit(new SyncItem('a', 'acknowledged'));
    archive.down = false;
    const [position] = [...store.records.keys()];
    if (position === undefined) throw new Error('Nothing was logged.');
    store.records.delete(position);
    store.damaged.push({ position, id: 'a' });
    archive.rows.set('a', row('a', 'older'));
    archive.hidden = false;
    const { engine, ports } = await startedFakes({}, { archive, store });
    expect(await rejection(engine.get('a'))).toMatchObject({ code: 'CORRUPTION' });
    expect(await rejection(engine.get('a', { fresh: true }))).toMatchObject({ code: 'CORRUPTION' });
    expect((await engine.healthCheck()).warnings.join()).toContain('damaged');
    const stored = engine.submit(new SyncItem('a', 'again'), { ack: 'stored' });
    await ports.clock.pass(200);
    await stored;
    expect((await engine.get('a'))?.text()).toBe('again');
    expect(await engine.healthCheck()).toMatchObject({ warnings: [] });
    expect(store.groups.some((group) => group.removes.includes(position))).toBe(true);
  });
});

describe('reads are cheap on SQL', () => {
  test('misses of one turn are one read, and misses of one id are one flight', async () => {
    const { engine, archive } = await startedFakes();
    archive.rows.set('a', row('a', 'x'));
    const items = await Promise.all([
      engine.get('a'),
      engine.get('b'),
      engine.get('a'),
      engine.getMany(['a', 'c']),
    ]);
    expect(archive.reads).toEqual([['a', 'b', 'c']]);
    expect((items[0] as SyncItem).text()).toBe('x');
    expect((items[3] as SyncItem[])[0]?.text()).toBe('x');
  });

  test('what was read is answered from memory afterwards', async () => {
    const { engine, archive } = await startedFakes();
    archive.rows.set('a', row('a', 'x'));
    await engine.get('a');
    await engine.get('a');
    expect(archive.reads).toHaveLength(1);
    expect(engine.peek('a')?.accessCount).toBe(3);
  });

  test('fresh asks SQL although memory holds the id, and replaces what it holds', async () => {
    const { engine, archive } = await startedFakes();
    archive.rows.set('a', row('a', 'x', 10));
    await engine.get('a');
    archive.rows.set('a', row('a', 'y', 11));
    expect((await engine.get('a'))?.text()).toBe('x');
    expect((await engine.get('a', { fresh: true }))?.text()).toBe('y');
    expect((await engine.get('a'))?.text()).toBe('y');
  });

  test('a fresh read that finds no row forgets the copy in memory, unless a write came meanwhile', async () => {
    const { engine, archive } = await startedFakes();
    archive.rows.set('a', row('a', 'x'));
    await engine.get('a');
    archive.rows.delete('a');
    expect(await engine.get('a', { fresh: true })).toBeUndefined();
    expect(await engine.get('a')).toBeUndefined();
    const release = archive.hold('read');
    const racing = engine.get('a', { fresh: true });
    await settle();
    void engine.submit(new SyncItem('a', 'new'));
    release();
    await racing;
    expect((await engine.get('a'))?.text()).toBe('new');
  });

  test('a fresh read never brings back what is older than memory', async () => {
    const { engine, archive } = await startedFakes();
    archive.rows.set('a', row('a', 'new', 20));
    await engine.get('a');
    archive.rows.set('a', row('a', 'restored from a backup', 10));
    await engine.get('a', { fresh: true });
    expect((await engine.get('a'))?.text()).toBe('new');
  });
});

describe('other reads', () => {
  test('getMany keeps the order, answers repetitions, and mixes memory with SQL', async () => {
    const { engine, archive } = await startedFakes();
    archive.rows.set('b', row('b', 'B'));
    void engine.submit(new SyncItem('a', 'A'));
    const items = await engine.getMany(['b', 'x', 'a', 'b']);
    expect(items.map((item) => item?.text())).toEqual(['B', undefined, 'A', 'B']);
  });

  test('getVerified compares with the hash that SQL keeps', async () => {
    const engine = await fileEngine(temporaryDirectory(), { ack: 'stored' });
    await engine.submit(new SyncItem('a', 'x'));
    const item = await engine.getVerified('a');
    expect(item?.contentHash).toBe('2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881');
    expect(await engine.getVerified('b')).toBeUndefined();
  });

  test('getVerified refuses a content that does not fit its hash', async () => {
    const { engine, archive } = await startedFakes();
    archive.rows.set('a', { ...row('a', 'x'), contentHash: '0'.repeat(63).concat('1') });
    expect(await rejection(engine.getVerified('a'))).toMatchObject({ code: 'CORRUPTION' });
  });

  test('isCurrent and contains', async () => {
    const { engine } = await startedFakes();
    void engine.submit(new SyncItem('a', 'x'));
    const hash = engine.peek('a')?.contentHash ?? '';
    expect(await engine.isCurrent('a', hash.toUpperCase())).toBe(true);
    expect(await engine.isCurrent('a', '0'.repeat(64))).toBe(false);
    expect(await engine.contains('a')).toBe(true);
    expect(await engine.contains('b')).toBe(false);
  });

  test('status follows a write from memory to SQL', async () => {
    const { engine, archive, ports } = await startedFakes();
    const release = archive.hold('apply');
    const submitted = engine.submit(new SyncItem('a', 'x'));
    expect(await engine.status('a')).toEqual({ kind: 'pending', ack: 'memory' });
    await submitted;
    expect(await engine.status('a')).toEqual({ kind: 'pending', ack: 'wal' });
    await ports.clock.pass(100);
    release();
    await settle();
    expect(await engine.status('a')).toEqual({ kind: 'synced', l1: true, l2: false, l3: true });
    expect(await engine.status('b')).toEqual({ kind: 'missing' });
  });

  test('a signal ends a read; others who wait for the same flight are answered', async () => {
    const { engine, archive } = await startedFakes();
    archive.rows.set('a', row('a', 'x'));
    const release = archive.hold('read');
    const controller = new AbortController();
    const given = rejection(engine.get('a', { signal: controller.signal }));
    const waiting = engine.get('a');
    await settle();
    controller.abort();
    expect(await given).toMatchObject({ code: 'ABORTED' });
    release();
    expect((await waiting)?.text()).toBe('x');
  });

  test('an item handed out cannot be changed by who holds it', async () => {
    const { engine } = await startedFakes();
    const source = Buffer.from('abc');
    void engine.submit(new SyncItem('a', source));
    source.fill('z');
    const item = engine.peek('a');
    item?.content.fill('y');
    expect(engine.peek('a')?.text()).toBe('abc');
  });
});

function row(id: string, text = 'x', version = 1) {
  return {
    id,
    version,
    origin: '\0'.repeat(16),
    deleted: false,
    contentType: 'binary' as const,
    state: 'default',
    content: Buffer.from(text),
  };
}
