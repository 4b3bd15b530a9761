/** The cache in a Redis cluster: the contract, then engines on it while masters die, are deposed, and slots move. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { CacheTtl, SubmitOptions, SyncEngine, type SyncEngineConfig, SyncItem } from '#engine/index.js';
import { systemPorts } from '#engine/ports/system/system-ports.js';
import type { CacheHead } from '#engine/storage/cache-store.js';
import { RedisStore } from '#engine/storage/redis/redis-store.js';
import { cacheContract } from '#engine/testing/cache-contract.js';
import { revision } from '#engine/testing/revisions.js';
import { lackOfRedisCluster, RedisCluster } from '../../../../scripts/servers/redis-cluster.mjs';
import { createDatabase, type PrivateServer, startServer } from '../../../../scripts/servers/servers.mjs';
import { rejection } from '../support/engines.js';

const START_MS = 120_000;
const ARCHIVE = '5a'.repeat(16);
const GENERATION = '5a5a5a0000000001';
/** Slots of two of the tags that the store uses. */
const [SLOT_3, SLOT_62] = [1584, 14_626];
const lack = lackOfRedisCluster();

describe.skipIf(lack !== undefined)(lack === undefined ? 'on a Redis cluster' : `${lack} Skipped`, () => {
  let cluster: RedisCluster;
  let sql: PrivateServer;
  let prefixes = 0;

  beforeAll(async () => {
    cluster = new RedisCluster();
    [sql] = await Promise.all([startServer('postgres'), cluster.start()]);
  }, START_MS);
  afterAll(async () => {
    await Promise.all([cluster.stop(), sql.stop()]);
  }, START_MS);

  function storeOn(prefix = `s${prefixes++}:`): RedisStore {
    const store = new RedisStore(cluster.url(), prefix, { redisTimeoutMs: 3000 }, systemPorts);
    onTestFinished(() => store.close());
    return store;
  }

  const chainAt = (position: number): string => position.toString(16).padStart(64, '0');
  const headAt = (position: number, generation = GENERATION): CacheHead => ({
    generation,
    position,
    chain: chainAt(position),
  });

  async function begun(prefix?: string, lost: (reason: Error) => void = () => {}): Promise<RedisStore> {
    const store = storeOn(prefix);
    await store.open({ archiveId: ARCHIVE, lost });
    await store.moveHead(undefined, headAt(10));
    return store;
  }

  const ids = Array.from({ length: 200 }, (_, at) => `i.${at}`);

  function write(store: RedisStore, known: number, generation = GENERATION, version = known) {
    const puts = ids.map((id) => ({
      revision: revision({ id, version }),
      kind: 'value' as const,
      ttlMs: 60_000,
    }));
    const confirms = chainAt(known);
    return store.putMany({ generation, known, begins: true, withinMs: 3000, puts, confirms });
  }

  async function countOf(store: RedisStore, generation: string): Promise<number> {
    const { values } = await store.getMany(generation, ids);
    return values.filter((value) => value !== undefined).length;
  }

  /** Two engines on one archive, with so little memory that most reads go to Redis. */
  async function pair(
    config: SyncEngineConfig = {},
  ): Promise<{ one: SyncEngine; two: SyncEngine; url: string }> {
    const url = await createDatabase(sql, `t${randomBytes(5).toString('hex')}`);
    const made = ['one', 'two'].map(async (nodeId) => {
      const engine = new SyncEngine({
        sqlUrl: url,
        redisUrl: cluster.url(),
        redisPrefix: `${url.slice(-11)}:`,
        redisTimeoutMs: 1000,
        l1MaxBytes: 64 * 1024,
        coherenceLeaseMs: 200,
        batchFlushMs: 2,
        nodeId,
        ...config,
      });
      onTestFinished(async () => void (await engine.shutdown({ deadlineMs: 10_000 })));
      await engine.start();
      return engine;
    });
    const [one, two] = (await Promise.all(made)) as [SyncEngine, SyncEngine];
    return { one, two, url };
  }

  /**
   * One engine writes, another reads at its lease: each answer is at least as new as what was stored a lease before it was
   * asked for. Runs while `strike` does its work, and until Redis answers both again.
   */
  async function judged({ one, two }: { one: SyncEngine; two: SyncEngine }, strike: () => Promise<void>) {
    const stored = new Map<string, { number: number; sinceMs: number }[]>();
    const wrong: string[] = [];
    let ending = false;
    let reads = 0;
    const writer = async (client: number): Promise<void> => {
      for (let number = 1; !ending; number++) {
        const id = `w.${client}.${number % 60}`;
        const item = new SyncItem(id, `${number}|`.padEnd(600, 'x'));
        await one.submit(item, { ack: 'stored' });
        stored.set(id, [...(stored.get(id) ?? []), { number, sinceMs: performance.now() }].slice(-50));
      }
    };
    const reader = async (client: number): Promise<void> => {
      for (let at = 0; !ending; at++) {
        const id = `w.${client}.${at % 60}`;
        // The lease, and a second for a machine that is busy.
        const before = performance.now() - 1200;
        const least = stored.get(id)?.findLast(({ sinceMs }) => sinceMs < before)?.number ?? 0;
        try {
          const item = await two.get(id);
          const number = item === undefined ? 0 : Number.parseInt(item.text(), 10);
          if (number < least) wrong.push(`${id} is ${number}, and was ${least} long before`);
          reads++;
        } catch (error) {
          if (!(error instanceof Error && 'retryable' in error && error.retryable)) throw error;
        }
      }
    };
    const running = Promise.all([0, 1, 2].flatMap((client) => [writer(client), reader(client)]));
    await expect.poll(() => reads, { timeout: 20_000 }).toBeGreaterThan(300);
    await strike();
    const hits = async (): Promise<number> => {
      const { one: own, two: other } = { one: await one.healthCheck(), two: await two.healthCheck() };
      return own.redis?.circuit === 'closed' && other.redis?.circuit === 'closed' ? 1 : 0;
    };
    await expect.poll(hits, { timeout: 40_000, interval: 100 }).toBe(1);
    const before = reads;
    await expect.poll(() => reads, { timeout: 20_000 }).toBeGreaterThan(before + 300);
    ending = true;
    await running;
    expect(wrong).toEqual([]);
    await expect.poll(async () => (await one.healthCheck()).redisLag, { timeout: 20_000 }).toBe(0);
  }

  cacheContract('Redis cluster', () => {
    const prefix = `s${prefixes++}:`;
    return { open: () => storeOn(prefix), passMs: (ms) => sleep(ms) };
  });

  test('ids are dealt to all masters, and one batch is confirmed in all shards', async () => {
    const store = await begun('dealt:');
    expect(await write(store, 11)).toMatchObject({ status: 'done', position: 11 });
    expect(await store.head()).toEqual(headAt(11));
    for (const master of cluster.nodes.slice(0, 3)) {
      const keys = (await cluster.tell(master, ['KEYS', 'dealt:*v:*'])).split(',');
      expect(keys.length).toBeGreaterThan(30);
    }
    const other = await begun('dealt:');
    expect(await countOf(other, GENERATION)).toBe(ids.length);
  });

  test('a shard that is behind holds back the head of all, and those ahead are named', async () => {
    const store = await begun('behind:');
    await write(store, 11);
    const master = await cluster.masterOf(SLOT_3);
    await cluster.tell(master, ['SET', `behind:{3}head:${ARCHIVE}`, `${GENERATION} 10 10 ${chainAt(10)}`]);
    const head = await store.head();
    expect(head).toMatchObject(headAt(10));
    expect(new Set(head?.others?.map(({ position }) => position))).toEqual(new Set([11]));
    const { head: seen } = await store.getMany(GENERATION, ids);
    expect(seen).toEqual(headAt(10));
    expect(await write(store, 11)).toMatchObject({ status: 'done', position: 11 });
  });

  test('a shard that lost its head is a new generation, and takes the values of no other with it', async () => {
    const store = await begun('shard:');
    await write(store, 11);
    const master = await cluster.masterOf(SLOT_3);
    await cluster.tell(master, ['DEL', `shard:{3}head:${ARCHIVE}`]);
    expect((await store.getMany(GENERATION, ids)).head).toBeUndefined();
    expect(await store.head()).toBeUndefined();
    const next = await store.moveHead(undefined, headAt(12, '5a5a5a0000000002'));
    expect(next?.generation).not.toBe(GENERATION);
    expect(next).toMatchObject({ position: 11, chain: chainAt(11) });
    expect(next?.generation).toMatch(/^5a5a5a[0-9a-f]{10}$/);
    const left = await countOf(store, next?.generation as string);
    expect(left).toBeGreaterThan(ids.length * 0.8);
    expect(left).toBeLessThan(ids.length);
    expect(await write(store, 12)).toMatchObject({ status: 'moved' });
    expect(await write(store, 12, next?.generation)).toMatchObject({ status: 'done' });
    // Another client finds the same name for it.
    const other = storeOn('shard:');
    await other.open({ archiveId: ARCHIVE, lost: () => {} });
    expect((await other.head())?.generation).toBe(next?.generation);
    // Who moves it from there moves all of it.
    const last = await other.moveHead(next?.generation, headAt(20, '5a5a5a0000000003'));
    expect(last).toEqual(headAt(20, '5a5a5a0000000003'));
    expect(await countOf(other, '5a5a5a0000000003')).toBe(0);
  });

  test('the loss of one connection is told once, and the rest is usable after the next opening', async () => {
    const told: Error[] = [];
    const store = await begun('loss:', (reason) => told.push(reason));
    const master = await cluster.masterOf(SLOT_3);
    await cluster.tell(master, ['CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes']);
    await expect.poll(() => told.length, { timeout: 5000 }).toBe(1);
    await store.open({ archiveId: ARCHIVE, lost: () => {} });
    expect(await store.head()).toEqual(headAt(10));
    expect(told).toHaveLength(1);
  });

  test('a slot that moves: what needs keys of both sides waits until it has moved, and the rest is asked for over there', async () => {
    const store = await begun('moves:');
    await write(store, 11);
    const there = await cluster.masterOf(SLOT_62);
    const here = await cluster.masterOf(SLOT_3);
    const move = await cluster.beginMove(SLOT_62, here);
    await move.some();
    const waiting = [write(store, 12), store.getMany(GENERATION, [...ids, 'not there'])] as const;
    await sleep(50);
    await move.rest();
    // Its head is over there, and the slot is still this side's.
    expect((await store.head())?.generation).toBe(GENERATION);
    await move.end();
    expect(await waiting[0]).toMatchObject({ status: 'done', position: 12 });
    const { values } = await waiting[1];
    expect(values.filter((value) => value !== undefined)).toHaveLength(ids.length);
    expect(await write(store, 13)).toMatchObject({ status: 'done', position: 13 });
    expect(await countOf(store, GENERATION)).toBe(ids.length);
    expect(await store.head()).toEqual(headAt(13));
    const back = await cluster.beginMove(SLOT_62, there);
    await back.rest();
    await back.end();
    await cluster.settled();
    expect(await countOf(store, GENERATION)).toBe(ids.length);
  });

  test('a replica that was told to take over is followed without a new connection', async () => {
    const told: Error[] = [];
    const store = await begun('takes:', (reason) => told.push(reason));
    await write(store, 11);
    const master = await cluster.masterOf(SLOT_3);
    const replica = await cluster.replicaOf(master);
    await cluster.tell(replica, ['CLUSTER', 'FAILOVER']);
    await expect.poll(() => cluster.masterOf(SLOT_3), { timeout: 10_000 }).toBe(replica);
    await cluster.settled();
    expect(await write(store, 12)).toMatchObject({ status: 'done', position: 12 });
    expect(await countOf(store, GENERATION)).toBe(ids.length);
    expect(told).toEqual([]);
  });

  test('what a part confirmed in another history is not believed, although the earliest part is right', async () => {
    const { one, url } = await pair();
    await one.submit(new SyncItem('a', 'right'), { ack: 'stored' });
    await expect.poll(async () => (await one.healthCheck()).redisLag, { timeout: 10_000 }).toBe(0);
    await one.shutdown();
    const master = await cluster.masterOf(SLOT_62);
    const prefix = `${url.slice(-11)}:`;
    const [key = ''] = (await cluster.tell(master, ['KEYS', `${prefix}{62}head:*`])).split(',');
    const [generation, position, begins] = (await cluster.tell(master, ['GET', key])).split(' ');
    const foreign = `${generation} ${position} ${begins} ${'f'.repeat(64)}`;
    await cluster.tell(master, ['SET', key, foreign]);
    const said: string[] = [];
    const note = (_fields: object, text: string): void => void said.push(text);
    const again = new SyncEngine(
      { sqlUrl: url, redisUrl: cluster.url(), redisPrefix: prefix },
      { logger: { debug: note, info: note, warn: note, error: note } },
    );
    onTestFinished(async () => void (await again.shutdown()));
    await again.start();
    await expect.poll(() => said.filter((text) => text.includes('another history'))).toHaveLength(1);
    expect(await cluster.tell(master, ['GET', key])).not.toContain(generation);
    expect((await again.get('a'))?.text()).toBe('right');
  });

  test(
    'a master is killed under load: nothing older is read, and its replica is used once it took over',
    async () => {
      const master = await cluster.masterOf(SLOT_3);
      const engines = await pair();
      await judged(engines, async () => {
        await master.kill();
        await expect
          .poll(async () => (await engines.two.healthCheck()).redis?.circuit, { timeout: 20_000 })
          .not.toBe('closed');
        await expect
          .poll(() => cluster.masterOf(SLOT_3).catch(() => master), { timeout: 20_000 })
          .not.toBe(master);
      });
      await master.start();
      await cluster.settled();
    },
    START_MS,
  );

  test(
    'a replica that is behind takes over by force: what it lacks is not answered from it',
    async () => {
      const master = await cluster.masterOf(SLOT_62);
      const replica = await cluster.replicaOf(master);
      const engines = await pair();
      await judged(engines, async () => {
        // It gets nothing for a while, and does not know it.
        replica.pause();
        await sleep(700);
        replica.resume();
        await cluster.tell(replica, ['CLUSTER', 'FAILOVER', 'TAKEOVER']);
        await expect
          .poll(() => cluster.masterOf(SLOT_62).catch(() => master), { timeout: 20_000 })
          .toBe(replica);
      });
      await cluster.settled();
    },
    START_MS,
  );

  test(
    'without a majority the cluster refuses everything: items come from SQL, cache-only ones are refused, and both return',
    async () => {
      const { one, two } = await pair();
      const cacheOnly = { ...SubmitOptions.cache(CacheTtl.Hour), ack: 'stored' } as const;
      await one.submit(new SyncItem('s', 'session'), cacheOnly);
      await one.submit(new SyncItem('a', 'kept'), { ack: 'stored' });
      const masters = [await cluster.masterOf(SLOT_3), await cluster.masterOf(SLOT_62)];
      const killed = [
        ...masters,
        await cluster.replicaOf(masters[0] as PrivateServer),
        await cluster.replicaOf(masters[1] as PrivateServer),
      ];
      for (const node of killed) node.pause();
      onTestFinished(() => {
        for (const node of killed) node.resume();
      });
      await expect
        .poll(async () => (await two.healthCheck()).redis?.circuit, { timeout: 20_000 })
        .toBe('open');
      expect((await two.get('a'))?.text()).toBe('kept');
      const refused = await rejection(two.submit(new SyncItem('s2', 'session'), cacheOnly));
      expect(refused).toMatchObject({ retryable: true });
      for (const node of killed) node.resume();
      await cluster.settled();
      await expect
        .poll(async () => (await two.healthCheck()).redis?.circuit, { timeout: 20_000 })
        .toBe('closed');
      await expect
        .poll(
          () =>
            two.submit(new SyncItem('s3', 'session'), cacheOnly).then(
              ({ ack }) => ack,
              () => 'refused',
            ),
          { timeout: 20_000 },
        )
        .toBe('stored');
    },
    START_MS,
  );

  test('a database other than 0, and a cluster that is away, are told with what to do', async () => {
    const other = new RedisStore(`${cluster.url()}/3`, 'p:', { redisTimeoutMs: 2000 }, systemPorts);
    const error = await rejection(other.open({ archiveId: ARCHIVE, lost: () => {} }));
    expect(error.message).toContain('only database 0');
    await other.close();
  });
});
