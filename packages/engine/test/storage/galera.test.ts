/** Three MariaDB nodes as one archive: one of them is used, and another takes over. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { SyncEngine, type SyncEngineConfig, SyncItem } from '#engine/index.js';
import { GaleraCluster, lackOfGalera } from '../../../../scripts/servers/galera.mjs';
import { createDatabase, type PrivateServer } from '../../../../scripts/servers/servers.mjs';
import { rejection, temporaryDirectory } from '../support/engines.js';

const START_MS = 120_000;
const lack = lackOfGalera();

describe.skipIf(lack !== undefined)(lack === undefined ? 'on Galera' : `${lack} Skipped`, () => {
  let cluster: GaleraCluster;

  beforeAll(async () => {
    cluster = new GaleraCluster();
    await cluster.start();
  }, START_MS);
  afterAll(() => cluster.stop(), START_MS);

  async function engineOn(sqlUrl: string, config: SyncEngineConfig = {}): Promise<SyncEngine> {
    const engine = new SyncEngine({
      sqlUrl,
      walPath: join(temporaryDirectory(), 'log.db'),
      batchFlushMs: 2,
      sqlTimeoutMs: 3000,
      submitTimeoutMs: 60_000,
      ...config,
    });
    onTestFinished(async () => void (await engine.shutdown({ deadlineMs: 10_000 })));
    await engine.start();
    return engine;
  }

  const newDatabase = async (): Promise<string> => {
    const name = `t${randomBytes(5).toString('hex')}`;
    await createDatabase(cluster.nodes[0] as PrivateServer, name);
    return name;
  };

  /** Writes until it is told to end; what was acknowledged as stored is in `texts`. */
  function writing(engine: SyncEngine) {
    const texts = new Map<string, string>();
    let ending = false;
    const loop = async (client: number): Promise<void> => {
      for (let at = 0; !ending; at++) {
        const id = `w${client}.${at % 50}`;
        const text = `${client}.${at}`;
        await engine.submit(new SyncItem(id, text), { ack: 'stored' });
        texts.set(id, text);
      }
    };
    const loops = Promise.all([0, 1, 2, 3].map(loop));
    const end = async (): Promise<void> => {
      ending = true;
      await loops;
    };
    return { texts, end };
  }

  async function expectAll(engine: SyncEngine, texts: ReadonlyMap<string, string>): Promise<void> {
    const ids = [...texts.keys()];
    const found = await engine.getMany(ids);
    expect(found.map((item) => item?.text())).toEqual([...texts.values()]);
    expect(await engine.scrub()).toMatchObject({ corrupt: [], drift: [] });
  }

  test(
    'the node that is written to dies: nothing that was stored is lost, and another takes over',
    async () => {
      const url = cluster.url(await newDatabase());
      const [first] = cluster.nodes as [PrivateServer];
      const engine = await engineOn(url);
      const { texts, end } = writing(engine);
      await expect.poll(() => texts.size, { timeout: 10_000 }).toBeGreaterThan(100);
      await first.kill();
      const before = new Map(texts);
      await expect
        .poll(() => [...texts].filter(([id, text]) => before.get(id) !== text).length, { timeout: 30_000 })
        .toBeGreaterThan(100);
      await end();
      // An engine with an empty memory, on the nodes that are left.
      await expectAll(await engineOn(url), texts);
      await cluster.rejoin(first);
      await cluster.settled();
      // The one that took over is kept.
      expect((await engine.healthCheck()).sql?.circuit).toBe('closed');
    },
    START_MS,
  );

  test(
    'a node that stands still is left, and comes back by itself',
    async () => {
      const url = cluster.url(await newDatabase());
      const [first] = cluster.nodes as [PrivateServer];
      const engine = await engineOn(url);
      const { texts, end } = writing(engine);
      await expect.poll(() => texts.size, { timeout: 10_000 }).toBeGreaterThan(100);
      first.pause();
      onTestFinished(() => first.resume());
      const before = new Map(texts);
      await expect
        .poll(() => [...texts].filter(([id, text]) => before.get(id) !== text).length, { timeout: 30_000 })
        .toBeGreaterThan(100);
      first.resume();
      await end();
      await cluster.settled();
      await expectAll(
        await engineOn(cluster.url(new URL(url.replace(/@[^/]*/, '@h')).pathname.slice(1))),
        texts,
      );
    },
    START_MS,
  );

  test(
    'engines that write the same ids through different nodes leave digests, chain and change log exact',
    async () => {
      const name = await newDatabase();
      const engines: SyncEngine[] = [];
      for (const node of cluster.nodes.slice(0, 2)) {
        await cluster.settled();
        engines.push(await engineOn(node.url(name), { nodeId: `n${engines.length}` }));
      }
      const ids = Array.from({ length: 30 }, (_, at) => `hot.${at}`);
      for (let round = 0; round < 8; round++) {
        const batches = engines.map((engine, at) =>
          engine.submitMany(
            ids.map((id) => new SyncItem(id, `${at}.${round}`)),
            { ack: 'stored' },
          ),
        );
        for (const { results } of await Promise.all(batches))
          expect(results.filter((result) => result instanceof Error)).toEqual([]);
      }
      const roots = await Promise.all(engines.map((engine) => engine.merkleRoot()));
      expect(roots[0]).toBe(roots[1]);
      for (const engine of engines) expect(await engine.scrub()).toMatchObject({ corrupt: [], drift: [] });
      const seen = new Set<string>();
      for await (const change of (engines[0] as SyncEngine).changes({ tail: false }))
        if (change.op === 'put') seen.add(change.id);
      expect([...seen].sort()).toEqual([...ids].sort());
    },
    START_MS,
  );

  test(
    'the minority of a cluster is unavailable, not empty, and serves when the others are back',
    async () => {
      const url = cluster.url(await newDatabase());
      const [, second, third] = cluster.nodes as [PrivateServer, PrivateServer, PrivateServer];
      const engine = await engineOn(url, { sqlReadTimeoutMs: 1000 });
      await engine.submit(new SyncItem('there', 'x'), { ack: 'stored' });
      // Nobody knows it but SQL.
      const reader = await engineOn(url, { sqlReadTimeoutMs: 1000 });
      await Promise.all([second.kill(), third.kill()]);
      await expect
        .poll(async () => (await reader.healthCheck()).sql?.circuit, { timeout: 30_000 })
        .toBe('open');
      for (const id of ['there', 'not-there']) {
        const answer = await reader.get(id).catch((error: unknown) => error);
        expect(answer).toMatchObject({ code: expect.stringMatching(/TIER_UNAVAILABLE|DEADLINE/) });
      }
      const late = engine.submit(new SyncItem('late', 'y'), { ack: 'stored' });
      late.catch(() => {});
      expect((await engine.submit(new SyncItem('logged', 'z'), { ack: 'wal' })).ack).toBe('wal');
      // What was the cluster last has to be whole again before any part of it serves.
      await Promise.all([cluster.rejoin(second), cluster.rejoin(third)]);
      await cluster.settled();
      expect((await late).ack).toBe('stored');
      await engine.flush({ timeoutMs: 20_000 });
      await expect.poll(() => reader.get('there').catch(() => undefined), { timeout: 20_000 }).toBeDefined();
      expect((await (await engineOn(url)).get('logged'))?.text()).toBe('z');
    },
    START_MS,
  );

  test('where no node can be used, what the first said is told, without the password', async () => {
    const [first] = cluster.nodes as [PrivateServer];
    const url = `mariadb://sync:wrong-secret@127.0.0.1:${first.port},127.0.0.1:1/test`;
    const engine = new SyncEngine({ sqlUrl: url, sqlTimeoutMs: 2000 });
    const error = await rejection(engine.start());
    expect(error.message).toMatch(/password is wrong/);
    expect(JSON.stringify([error.message, error.context])).not.toContain('wrong-secret');
    await engine.shutdown();
  });
});
