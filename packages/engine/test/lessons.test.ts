/**
 * What went wrong in other systems that do this job, as reported by who was hit; one test each, named after the symptom.
 * Those that need several machines or a cluster are not among them.
 */
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CacheTtl, SubmitOptions, SyncEngine, SyncItem } from '#engine/index.js';
import { createDatabase } from '../../../scripts/servers/servers.mjs';
import {
  type Fakes,
  fileConfig,
  fileEngine,
  rejection,
  startedFakes,
  temporaryDirectory,
} from './support/engines.js';
import { FakeArchive } from './support/fake-archive.js';
import { type ManualPorts, manualPorts, settle } from './support/manual-ports.js';
import { CacheServer, MemoryCacheStore } from './support/memory-cache-store.js';
import { onServer } from './support/servers.js';

const textOf = async (engine: SyncEngine, id: string): Promise<string | undefined> =>
  (await engine.get(id))?.text();

async function stored({ engine, ports }: Fakes, id: string, text: string): Promise<void> {
  const written = engine.submit(new SyncItem(id, text), { ack: 'stored' });
  await ports.clock.pass(100);
  await written;
}

/** Two engines on one archive, in the same time. */
async function pair(): Promise<[Fakes, Fakes]> {
  const ports = manualPorts();
  const first = new FakeArchive();
  const second = new FakeArchive(first.tables);
  for (const archive of [first, second]) {
    archive.exclusive = false;
    archive.hidden = false;
  }
  const one = await startedFakes({ nodeId: 'one' }, { archive: first, ports });
  const two = await startedFakes({ nodeId: 'two' }, { archive: second, ports });
  await ports.clock.pass(100);
  await one.engine.warmUp();
  await two.engine.warmUp();
  return [one, two];
}

/** An engine with a cache between memory and SQL. */
async function withCache(ports: ManualPorts = manualPorts(), archive = new FakeArchive()) {
  const server = new CacheServer(() => ports.clock.now());
  const cache = new MemoryCacheStore(server);
  const fakes = await startedFakes({ redisTimeoutMs: 100 }, { archive, ports: { ...ports, cache } });
  await ports.clock.pass(10);
  return { ...fakes, ports, server, cache };
}

describe('writes', () => {
  test('put then remove resurrects the entry', async () => {
    const { engine, archive, ports } = await startedFakes();
    void engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
    void engine.delete('a', { ack: 'memory' });
    await ports.clock.pass(1000);
    expect(archive.rows.get('a')?.deleted ?? true).toBe(true);
    expect(await engine.get('a')).toBeUndefined();
  });

  test('database error loses the polled batch', async () => {
    const { engine, archive, store, ports } = await startedFakes();
    archive.down = true;
    await engine.submit(new SyncItem('a', 'x'), { ack: 'wal' });
    await ports.clock.pass(3000);
    expect(store.of('a')).toHaveLength(1);
    archive.down = false;
    await ports.clock.pass(3000);
    expect(archive.rows.get('a')?.content.toString()).toBe('x');
    expect(store.of('a')).toEqual([]);
  });

  test('queue outgrows the database', async () => {
    const { engine, archive, store, ports } = await startedFakes();
    archive.down = true;
    for (let round = 0; round < 500; round++) await engine.submit(new SyncItem('hot', `${round}`));
    expect(store.of('hot')).toHaveLength(1);
    expect((await engine.healthCheck()).wal?.pendingItems).toBe(1);
    archive.down = false;
    await ports.clock.pass(3000);
    expect(archive.rows.get('hot')?.content.toString()).toBe('499');
  });

  test('update that arrives in mid-flush is lost', async () => {
    const { engine, archive, ports } = await startedFakes();
    const release = archive.hold('apply');
    await engine.submit(new SyncItem('a', 'first'));
    await ports.clock.pass(100);
    expect(archive.applies).toHaveLength(1);
    await engine.submit(new SyncItem('a', 'second'));
    release();
    await ports.clock.pass(1000);
    expect(archive.rows.get('a')?.content.toString()).toBe('second');
  });

  test('one bad entry blocks the queue', async () => {
    const { engine, archive, ports } = await startedFakes();
    archive.refuses = ({ id }) => (id === 'bad' ? 'too bad' : undefined);
    for (const id of ['a', 'bad', 'b']) await engine.submit(new SyncItem(id, id));
    await ports.clock.pass(1000);
    expect([...archive.rows.keys()].sort()).toEqual(['a', 'b']);
    expect((await engine.deadLetters.list()).map(({ id }) => id)).toEqual(['bad']);
  });

  test('shutdown skips unflushed writes', async () => {
    const directory = temporaryDirectory();
    const engine = await fileEngine(directory, { batchFlushMs: 60_000 });
    for (let at = 0; at < 100; at++) void engine.submit(new SyncItem(`a.${at}`, 'x'), { ack: 'memory' });
    expect((await engine.shutdown()).remaining).toBe(0);
    const next = await fileEngine(directory);
    expect(await next.countPrefix('a.')).toBe(100);
  });

  test('a failed set looks successful', async () => {
    const { engine, archive, ports } = await startedFakes({ submitTimeoutMs: 1000 }, { withLog: false });
    archive.down = true;
    const failed = rejection(engine.submit(new SyncItem('a', 'x'), { ack: 'stored' }));
    await ports.clock.pass(1500);
    expect(await failed).toMatchObject({ code: 'DEADLINE', outcome: 'indeterminate' });
  });

  test('command in flight never settles after reconnect', async () => {
    const { engine, archive, ports } = await startedFakes({ submitTimeoutMs: 1000, sqlTimeoutMs: 500 });
    archive.hold('apply');
    const failed = rejection(engine.submit(new SyncItem('a', 'x'), { ack: 'stored' }));
    await ports.clock.pass(1500);
    expect((await failed).code).toBe('DEADLINE');
  });

  test('offline queue grows to out of memory', async () => {
    const { engine, archive } = await startedFakes({ l1MaxBytes: 1024 * 1024 }, { withLog: false });
    archive.down = true;
    let refused = 0;
    for (let at = 0; at < 3000; at++) {
      // Those that are held for want of room are nobody's to wait for.
      engine.submit(new SyncItem(`a.${at}`, Buffer.alloc(1000)), { ack: 'memory' }).catch(() => refused++);
      if (at % 100 === 0) await settle(1);
    }
    await settle();
    expect(refused).toBeGreaterThan(1000);
    expect((await engine.healthCheck()).l1Bytes).toBeLessThanOrEqual(1024 * 1024);
  });
});

describe('reads', () => {
  test('remove, then get returns the old value from the database', async () => {
    const fakes = await startedFakes();
    await stored(fakes, 'a', 'old');
    fakes.archive.down = true;
    await fakes.engine.delete('a');
    expect(await fakes.engine.get('a')).toBeUndefined();
    expect(fakes.archive.rows.get('a')?.deleted).toBe(false);
  });

  test('evicted dirty entry is in neither cache nor store', async () => {
    const { engine, archive } = await startedFakes({ l1MaxBytes: 256 * 1024 });
    archive.down = true;
    const ids = Array.from({ length: 400 }, (_, at) => `a.${at}`);
    for (const id of ids) await engine.submit(new SyncItem(id, id.padEnd(900)));
    const found = await engine.getMany(ids);
    expect(found.map((item) => item?.text().trimEnd())).toEqual(ids);
  });

  test('invalidation during a load is lost, stale value cached as new', async () => {
    const fakes = await startedFakes({ l1MaxBytes: 256 * 1024 });
    const { archive, engine, ports } = fakes;
    const other = await startedFakes({}, { archive: new FakeArchive(archive.tables), ports });
    await stored(other, 'a', 'old');
    const release = archive.hold('read');
    const reading = engine.get('a');
    await settle();
    await engine.submit(new SyncItem('a', 'new'), { ack: 'memory' });
    release();
    expect((await reading)?.text()).toBe('old');
    await ports.clock.pass(1000);
    expect(await textOf(engine, 'a')).toBe('new');
  });

  test('outage answers "not found"', async () => {
    const { engine, archive } = await startedFakes();
    archive.down = true;
    expect((await rejection(engine.get('cart.1'))).code).toBe('TIER_UNAVAILABLE');
  });

  test('stale L1 after failover or bus outage', async () => {
    const [one, two] = await pair();
    await stored(one, 'a', 'old');
    await one.ports.clock.pass(1100);
    expect(await textOf(two.engine, 'a')).toBe('old');
    two.archive.down = true;
    await stored(one, 'a', 'new');
    await one.ports.clock.pass(2000);
    const seen = two.engine.get('a');
    await one.ports.clock.pass(100);
    expect(await seen).toMatchObject({ stale: true });
    two.archive.down = false;
    await one.ports.clock.pass(5000);
    expect(await textOf(two.engine, 'a')).toBe('new');
  });

  test('one node clears a namespace, the others clear all or nothing', async () => {
    const [one, two] = await pair();
    for (const id of ['users.1', 'users.2', 'users2.1']) await stored(one, id, id);
    await one.ports.clock.pass(1100);
    for (const id of ['users.1', 'users.2', 'users2.1']) expect(await textOf(two.engine, id)).toBe(id);
    void one.engine.deletePrefix('users.');
    await one.ports.clock.pass(3000);
    expect(await two.engine.get('users.1')).toBeUndefined();
    expect(await two.engine.get('users.2')).toBeUndefined();
    expect(await textOf(two.engine, 'users2.1')).toBe('users2.1');
  });

  test('filter of one instance denies what another wrote', async () => {
    const [one, two] = await pair();
    expect(await two.engine.get('new')).toBeUndefined();
    await stored(one, 'new', 'here');
    await one.ports.clock.pass(1100);
    expect(await textOf(two.engine, 'new')).toBe('here');
  });

  test('cuckoo filter denies existing keys after deletes', async () => {
    const engine = await fileEngine(temporaryDirectory());
    const ids = Array.from({ length: 2000 }, (_, at) => `k.${at}`);
    await engine.submitMany(
      ids.map((id) => new SyncItem(id, id)),
      { ack: 'stored' },
    );
    await engine.deleteMany(
      ids.filter((_, at) => at % 2 === 0),
      { ack: 'stored' },
    );
    await engine.warmUp();
    expect(await engine.verifyFilter()).toMatchObject({ trusted: true, missing: 0 });
    expect(ids.filter((_, at) => at % 2 === 1).some((id) => engine.definitelyMissing(id))).toBe(false);
  });
});

describe('Redis', () => {
  test('Redis drop hangs every call', async () => {
    const { engine, archive, cache, ports } = await withCache();
    const other = await startedFakes({}, { archive: new FakeArchive(archive.tables), ports });
    await stored(other, 'a', 'x');
    cache.arriving = () => new Promise(() => {});
    const reading = textOf(engine, 'a');
    await ports.clock.pass(150);
    expect(await reading).toBe('x');
  });

  test('Redis fault surfaces as unhandled rejection', async () => {
    // Vitest fails a run in which a rejection was nobody's.
    const fakes = await withCache();
    const { engine, server, cache, ports } = fakes;
    cache.answering = () => Promise.reject(new Error('a fault'));
    await stored(fakes, 'a', 'x');
    server.stop();
    await stored(fakes, 'b', 'x');
    expect(await textOf(engine, 'b')).toBe('x');
    await ports.clock.pass(3000);
    await settle();
    expect((await engine.healthCheck()).redis?.circuit).not.toBe('closed');
  });

  test('Redis failover discards acknowledged writes', async () => {
    const fakes = await withCache();
    const { engine, archive, server, ports } = fakes;
    await stored(fakes, 'a', 'x');
    server.flushAll();
    const next = await withCache(ports, new FakeArchive(archive.tables));
    expect(await textOf(next.engine, 'a')).toBe('x');
    expect(await textOf(engine, 'a')).toBe('x');
  });

  test('TTL above 24.8 days fires after 1 ms; seconds and milliseconds mixed', async () => {
    const { engine, ports } = await startedFakes();
    const days = 24 * 3600;
    await engine.submit(new SyncItem('long', 'x'), SubmitOptions.cache(CacheTtl.seconds(60 * days)));
    await engine.submit(new SyncItem('short', 'x'), SubmitOptions.cache(CacheTtl.seconds(3)));
    await ports.clock.pass(2000);
    expect(await textOf(engine, 'long')).toBe('x');
    expect(await textOf(engine, 'short')).toBe('x');
    await ports.clock.pass(1500);
    expect(await textOf(engine, 'long')).toBe('x');
    expect(await engine.get('short')).toBeUndefined();
  });

  test('expired keys bloat the hash tree', async () => {
    const engine = await fileEngine(temporaryDirectory());
    await engine.submit(new SyncItem('kept', 'x'), { ack: 'stored' });
    const root = await engine.merkleRoot();
    for (let at = 0; at < 50; at++)
      await engine.submit(new SyncItem(`session.${at}`, 'x'), SubmitOptions.cache(CacheTtl.Minute));
    await engine.flush();
    expect(await engine.countPrefix('')).toBe(1);
    await engine.warmUp();
    expect(await engine.merkleRoot()).toBe(root);
  });
});

describe('ids and bytes', () => {
  test('clearing "users" kills "users2"', async () => {
    const engine = await fileEngine(temporaryDirectory());
    const kept = ['users2', 'users2.1', 'users*', 'usersX1', 'Users.1'];
    for (const id of ['users.1', 'users.*', ...kept]) await engine.submit(new SyncItem(id, id));
    expect(await engine.deletePrefix('users.')).toBe(2);
    for (const id of kept) expect(await textOf(engine, id)).toBe(id);
  });

  test('ids differing by case or trailing space merge', async () => {
    const ids = ['a', 'A', 'a ', 'á', 'a\u0301', 'a\u0000'];
    const directory = temporaryDirectory();
    const engine = await fileEngine(directory);
    for (const id of ids) await engine.submit(new SyncItem(id, JSON.stringify(id)), { ack: 'stored' });
    await engine.shutdown();
    const next = await fileEngine(directory);
    expect((await next.getMany(ids)).map((item) => item?.text())).toEqual(
      ids.map((id) => JSON.stringify(id)),
    );
  });

  test('`/` and `:` normalised, distinct keys collide', async () => {
    const engine = await fileEngine(temporaryDirectory());
    const ids = ['a/b', 'a:b', 'a//b', '/a/b', 'a/b/', 'a\\b', 'a.b', 'a/../b'];
    for (const id of ids) await engine.submit(new SyncItem(id, id), { ack: 'stored' });
    expect(await engine.countPrefix('')).toBe(ids.length);
    for (const id of ids) expect((await engine.get(id, { fresh: true }))?.text()).toBe(id);
  });

  test('Buffer becomes {"0":120,…} or U+FFFD', async () => {
    const bytes = Buffer.from(Array.from({ length: 512 }, (_, at) => at % 256));
    const directory = temporaryDirectory();
    const engine = await fileEngine(directory);
    await engine.submit(new SyncItem('a', bytes), { ack: 'stored' });
    await engine.shutdown();
    const found = await (await fileEngine(directory)).get('a');
    expect(Buffer.from(found?.content ?? []).equals(bytes)).toBe(true);
  });

  test('bound parameters turned into SQL fragments', async () => {
    const engine = await fileEngine(temporaryDirectory());
    await engine.submit(new SyncItem('a', 'x'), { ack: 'stored' });
    const fragment = { id: 'a' } as never;
    await expect(engine.get(fragment)).rejects.toThrow(TypeError);
    await expect(engine.delete(fragment)).rejects.toThrow(TypeError);
    await expect(engine.setState('a', fragment)).rejects.toThrow(TypeError);
    expect(() => new SyncItem(fragment, 'x')).toThrow(TypeError);
    expect(await textOf(engine, "a' OR '1'='1")).toBeUndefined();
  });

  test('`LIKE prefix%` matches `_` and `%`', async () => {
    const engine = await fileEngine(temporaryDirectory());
    for (const id of ['a_1', 'ab1', 'a%1', 'abc1']) await engine.submit(new SyncItem(id, id));
    const scanned = async (prefix: string): Promise<string[]> => {
      const found: string[] = [];
      for await (const { id } of engine.scanPrefix(prefix)) found.push(id);
      return found;
    };
    await engine.flush();
    expect(await scanned('a_')).toEqual(['a_1']);
    expect(await scanned('a%')).toEqual(['a%1']);
    expect(await engine.countPrefix('_')).toBe(0);
  });
});

describe('digests', () => {
  test('a parent with a million children costs 39 MB per write', async () => {
    const directory = temporaryDirectory();
    const engine = await fileEngine(directory);
    const journal = (): number => statSync(join(directory, 'archive.db-wal')).size;
    const grown = async (): Promise<number> => {
      const before = journal();
      await engine.submit(new SyncItem(`p.${Math.random()}`, 'x'), { ack: 'stored' });
      return journal() - before;
    };
    await engine.submit(new SyncItem('p.first', 'x'), { ack: 'stored' });
    const few = await grown();
    await engine.submitMany(
      Array.from({ length: 5000 }, (_, at) => new SyncItem(`p.${at}`, 'x')),
      { ack: 'stored' },
    );
    // Some pages more where the trees of SQLite are deeper; not one for each child.
    expect(await grown()).toBeLessThan(few + 100_000);
  });

  test('id that is both object and prefix drops out of the root', async () => {
    const engine = await fileEngine(temporaryDirectory());
    await engine.submit(new SyncItem('uk.nhs.patient', 'x'), { ack: 'stored' });
    const before = await engine.merkleRoot();
    await engine.submit(new SyncItem('uk.nhs', 'x'), { ack: 'stored' });
    const both = await engine.merkleRoot();
    expect(both).not.toBe(before);
    expect(await engine.scrub()).toMatchObject({ corrupt: [], drift: [] });
    await engine.delete('uk.nhs', { ack: 'stored' });
    expect(await engine.merkleRoot()).not.toBe(both);
    expect(await engine.scrub()).toMatchObject({ corrupt: [], drift: [] });
  });

  test('crash between row and digest leaves the tree wrong for ever', async () => {
    const directory = temporaryDirectory();
    const config = JSON.stringify(fileConfig(directory));
    const child = new URL('./crash/child.mjs', import.meta.url).pathname;
    const killAt = new URL('./crash/kill-at.mjs', import.meta.url).href;
    const { signal } = spawnSync(process.execPath, ['--import', killAt, child, config, '0', '1'], {
      env: { ...process.env, KILL_STEP: 'archive.apply.written', KILL_COUNT: '3' },
    });
    expect(signal).toBe('SIGKILL');
    const engine = await fileEngine(directory);
    expect(await engine.scrub()).toMatchObject({ corrupt: [], drift: [] });
  });
});

describe('the process and its files', () => {
  test('process does not exit', () => {
    const directory = temporaryDirectory();
    const script = `
      import { SyncEngine, SyncItem } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)};
      const engine = new SyncEngine(${JSON.stringify(fileConfig(directory))});
      await engine.start();
      await engine.submit(new SyncItem('a', 'x'), { ack: 'stored' });
      await engine.shutdown();
    `;
    const { status } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      timeout: 20_000,
    });
    expect(status).toBe(0);
  });

  test('SQLite log grows to gigabytes', async () => {
    const directory = temporaryDirectory();
    const engine = await fileEngine(directory);
    let written = 0;
    for (let round = 0; round < 60; round++) {
      const items = Array.from(
        { length: 100 },
        (_, at) => new SyncItem(`hot.${at}`, Buffer.alloc(10_000, round)),
      );
      await engine.submitMany(items, { ack: 'wal' });
      written += 1_000_000;
    }
    const size = (name: string): number =>
      statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0;
    expect(size('log.db') + size('log.db-wal')).toBeLessThan(written * 0.75);
  });
});

onServer(
  'mariadb',
  (server) => {
    test('MySQL connection killed by `max_allowed_packet`', async () => {
      const engine = new SyncEngine({ sqlUrl: await createDatabase(server()) });
      await engine.start();
      const items = Array.from({ length: 60 }, (_, at) => new SyncItem(`a.${at}`, Buffer.alloc(90_000, at)));
      const { results } = await engine.submitMany(items, { ack: 'stored' });
      expect(results.every((result) => !(result instanceof Error) && result.ack === 'stored')).toBe(true);
      await engine.shutdown();
    });

    test('concurrent upserts deadlock', async () => {
      const sqlUrl = await createDatabase(server());
      const engines = [1, 2, 3].map((at) => new SyncEngine({ sqlUrl, nodeId: `n${at}`, batchFlushMs: 1 }));
      for (const engine of engines) await engine.start();
      const ids = Array.from({ length: 100 }, (_, at) => `hot.${at}`);
      for (let round = 0; round < 5; round++) {
        const batches = engines.map((engine, at) =>
          engine.submitMany(
            (at % 2 === 0 ? ids : ids.toReversed()).map((id) => new SyncItem(id, `${at}.${round}`)),
            { ack: 'stored' },
          ),
        );
        for (const { results } of await Promise.all(batches))
          expect(results.filter((result) => result instanceof Error)).toEqual([]);
      }
      expect(await engines[0]?.scrub()).toMatchObject({ corrupt: [], drift: [] });
      for (const engine of engines) await engine.shutdown();
    });
  },
  ['--max-allowed-packet=1M'],
);
