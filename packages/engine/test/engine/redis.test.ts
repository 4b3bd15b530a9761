/** Engines with a real Redis between memory and SQL: what it holds, and what it may not make of an answer. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { createClient } from 'redis';
import { expect, onTestFinished, test } from 'vitest';
import { CacheTtl, SubmitOptions, SyncEngine, type SyncEngineConfig, SyncItem } from '#engine/index.js';
import { startServer } from '../../../../scripts/servers/servers.mjs';
import { rejection, temporaryDirectory } from '../support/engines.js';
import { onServer } from '../support/servers.js';

const until = (fits: () => unknown, timeout = 20_000): Promise<void> =>
  expect.poll(fits, { timeout, interval: 20 }).toBeTruthy();

/** Everything that SQL has was told to Redis, and Redis said so. */
async function settled(engine: SyncEngine): Promise<void> {
  await engine.flush();
  await until(async () => (await engine.healthCheck()).redisLag === 0);
}

const redisWell = async (engine: SyncEngine): Promise<boolean> => {
  const { redis, redisLag } = await engine.healthCheck();
  return redis?.circuit === 'closed' && redisLag === 0;
};

/** Calls of a tier that were answered. */
const calls = (engine: SyncEngine, tier: string, operation: string): number =>
  engine
    .metrics()
    .filter(({ name }) => name === 'sync_engine_operations')
    .filter(({ labels }) => labels['tier'] === tier && labels['operation'] === operation)
    .reduce((sum, { value }) => sum + value, 0);

onServer('redis', (server) => {
  let prefixes = 0;

  async function engineOn(config: SyncEngineConfig): Promise<SyncEngine> {
    const engine = new SyncEngine({
      redisUrl: server().url(),
      redisTimeoutMs: 300,
      batchFlushMs: 5,
      ...config,
    });
    onTestFinished(async () => void (await engine.shutdown({ deadlineMs: 5000 })));
    await engine.start();
    return engine;
  }

  /** An archive in a file, and Redis keys of its own. */
  function place(): SyncEngineConfig & { readonly redisPrefix: string } {
    const directory = temporaryDirectory();
    return {
      sqlUrl: `sqlite:${join(directory, 'archive.db')}`,
      walPath: join(directory, 'log.db'),
      redisPrefix: `t${prefixes++}:`,
    };
  }

  async function client() {
    const one = createClient({ url: server().url(), RESP: 2 });
    one.on('error', () => {});
    await one.connect();
    onTestFinished(() => {
      if (one.isOpen) one.destroy();
    });
    return one;
  }

  /** An engine whose memory is empty, on what another one left. */
  async function afterRestart(engine: SyncEngine, config: SyncEngineConfig): Promise<SyncEngine> {
    await engine.shutdown();
    return engineOn(config);
  }

  const textOf = async (engine: SyncEngine, id: string): Promise<string | undefined> =>
    (await engine.get(id))?.text();

  test('what SQL has committed is copied whole, and a new engine reads it from Redis alone', async () => {
    const config = place();
    const first = await engineOn(config);
    const items = Array.from(
      { length: 250 },
      (_, at) => new SyncItem(`a.${at}`, Buffer.from([at, 0, 255]), { state: 'ü', homeInstanceId: 'h' }),
    );
    await first.submitMany(items);
    await first.submit(SyncItem.fromJson('json', { a: 1 }));
    await settled(first);
    const before = await first.getMany(['a.7', 'json']);
    const second = await afterRestart(first, config);
    const found = await second.getMany(items.map(({ id }) => id));
    expect(found.map((item) => item?.content.toString('hex'))).toEqual(
      items.map((item) => item.content.toString('hex')),
    );
    const [seven, json] = await second.getMany(['a.7', 'json']);
    for (const key of [
      'version',
      'origin',
      'contentHash',
      'state',
      'homeInstanceId',
      'contentType',
    ] as const) {
      expect(seven?.[key]).toBe(before[0]?.[key]);
      expect(json?.[key]).toBe(before[1]?.[key]);
    }
    expect(json?.json()).toEqual({ a: 1 });
    expect(calls(second, 'redis', 'read')).toBe(2);
    expect(calls(second, 'sql', 'read')).toBe(0);
    expect(await second.status('a.7')).toEqual({ kind: 'synced', l1: true, l2: true, l3: true });
  });

  test('what only SQL has is copied when it is read', async () => {
    const config = place();
    const first = await engineOn({ ...config, redisUrl: undefined as never });
    await first.submit(new SyncItem('a', 'x'), { ack: 'stored' });
    const second = await afterRestart(first, config);
    expect(await textOf(second, 'a')).toBe('x');
    await until(
      async () => (await second.status('a')).kind === 'synced' && calls(second, 'redis', 'write') > 0,
    );
    await settled(second);
    const third = await afterRestart(second, config);
    expect(await textOf(third, 'a')).toBe('x');
    expect(calls(third, 'sql', 'read')).toBe(0);
  });

  test('a delete leaves a marker for an hour, and the deleted item never comes back from Redis', async () => {
    const config = place();
    const first = await engineOn(config);
    await first.submit(new SyncItem('a', 'x'), { ack: 'stored' });
    await settled(first);
    await first.delete('a', { ack: 'stored' });
    await settled(first);
    const redis = await client();
    const [key] = await redis.keys(`${config.redisPrefix}*:a`);
    expect(await redis.pTTL(key as string)).toBeGreaterThan(3_590_000);
    const second = await afterRestart(first, config);
    expect(await second.get('a')).toBeUndefined();
  });

  test.each(['default', 'durable', 'cache', 'delete'] as const)(
    'an id that goes from every route to %s shows its newest item alone, here and after a restart',
    async (to) => {
      const config = place();
      let engine = await engineOn(config);
      const write = async (id: string, route: string, text: string): Promise<void> => {
        if (route === 'delete') await engine.delete(id, { ack: 'stored' });
        else if (route === 'default') await engine.submit(new SyncItem(id, text), { ack: 'stored' });
        else if (route === 'durable')
          await engine.submit(new SyncItem(id, text), { ...SubmitOptions.durable(), ack: 'stored' });
        else
          await engine.submit(new SyncItem(id, text), {
            ...SubmitOptions.cache(CacheTtl.Hour),
            ack: 'stored',
          });
      };
      const ids: string[] = [];
      for (const from of ['default', 'durable', 'cache', 'delete']) {
        const id = `${from} ${to}`;
        ids.push(id);
        await write(id, from, 'old');
        await settled(engine);
        await write(id, to, 'new');
      }
      await settled(engine);
      const expected = to === 'delete' ? undefined : 'new';
      for (const id of ids) expect(await textOf(engine, id), id).toBe(expected);
      engine = await afterRestart(engine, config);
      for (const id of ids) expect(await textOf(engine, id), id).toBe(expected);
      // In SQL alone: what Redis held of it before is no answer either.
      const rows = [];
      for await (const { id, text } of rowsOf(engine)) rows.push(`${id}=${text}`);
      const inSql = to === 'default' || to === 'durable' ? ids.map((id) => `${id}=new`).sort() : [];
      expect(rows).toEqual(inSql);
      const redis = await client();
      for (const key of await redis.keys(`${config.redisPrefix}*v:*`)) {
        const value = await redis.get(key);
        expect(value?.includes('old')).toBe(false);
        if (to === 'durable') expect(value?.includes('new')).toBe(false);
      }
    },
  );

  test('a copy lives as long as its writer said, also one that was made by reading', async () => {
    const config = place();
    const first = await engineOn(config);
    await first.submit(new SyncItem('a', 'x'), { redisTtl: CacheTtl.seconds(100), ack: 'stored' });
    await settled(first);
    const redis = await client();
    const ttl = async (): Promise<number> => {
      const [key] = await redis.keys(`${config.redisPrefix}*v:*:a`);
      return key === undefined ? 0 : redis.pTTL(key);
    };
    expect(Math.round((await ttl()) / 10_000)).toBe(10);
    const [key] = await redis.keys(`${config.redisPrefix}*v:*:a`);
    await redis.del(key as string);
    const second = await afterRestart(first, config);
    expect(await textOf(second, 'a')).toBe('x');
    await until(async () => Math.round((await ttl()) / 10_000) === 10);
    // Also after a change that keeps the rest.
    await second.setState('a', 'done', { ack: 'stored' });
    await settled(second);
    await until(async () => Math.round((await ttl()) / 10_000) === 10);
  });

  test('a cache-only item is in Redis when its receipt says so, in no archive, and gone when its life is over', async () => {
    const config = place();
    const engine = await engineOn(config);
    const cache = (ttl: CacheTtl) => ({ ...SubmitOptions.cache(ttl), ack: 'stored' }) as const;
    expect((await engine.submit(new SyncItem('s.1', 'session'), cache(CacheTtl.Minute))).ack).toBe('stored');
    await engine.submit(new SyncItem('s.2', 'short'), cache(CacheTtl.seconds(1)));
    expect(await textOf(engine, 's.2')).toBe('short');
    const redis = await client();
    const keys = await redis.keys(`${config.redisPrefix}*s.1`);
    expect(keys).toHaveLength(1);
    expect(Math.round((await redis.pTTL(keys[0] as string)) / 10_000)).toBeGreaterThanOrEqual(6);
    await until(async () => (await engine.get('s.2')) === undefined);
    const next = await afterRestart(engine, config);
    expect(await textOf(next, 's.1')).toBe('session');
    expect(await next.countPrefix('')).toBe(0);
    await next.setState('s.1', 'seen');
    expect((await next.get('s.1'))?.state).toBe('seen');
  });

  test('without SQL a delete and a write of memory end what Redis has, for every engine', async () => {
    const redisPrefix = `t${prefixes++}:`;
    const one = await engineOn({ redisPrefix });
    const other = await engineOn({ redisPrefix, coherenceLeaseMs: 50 });
    const cached = { ...SubmitOptions.cache(CacheTtl.Hour), ack: 'stored' } as const;
    for (const id of ['deleted', 'written']) {
      await one.submit(new SyncItem(id, 'old'), cached);
      expect(await textOf(other, id)).toBe('old');
    }
    await one.delete('deleted');
    await one.submit(new SyncItem('written', 'new'));
    expect(await textOf(one, 'deleted')).toBeUndefined();
    expect(await textOf(one, 'written')).toBe('new');
    await until(async () => (await textOf(other, 'deleted')) === undefined);
    await until(async () => (await textOf(other, 'written')) === undefined);
    // A later one is newer than what ended it.
    await other.submit(new SyncItem('deleted', 'back'), cached);
    expect(await textOf(await engineOn({ redisPrefix }), 'deleted')).toBe('back');
  });

  test('a Redis that comes back older than SQL serves nothing old', async () => {
    const config = place();
    const own = await startServer('redis');
    onTestFinished(() => own.stop());
    const engine = await engineOn({ ...config, redisUrl: own.url() });
    for (const id of ['changed', 'deleted', 'same'])
      await engine.submit(new SyncItem(id, 'old'), { ack: 'stored' });
    await settled(engine);
    const redis = createClient({ url: own.url(), RESP: 2 }).on('error', () => {});
    await redis.connect();
    await redis.sendCommand(['SAVE']);
    redis.destroy();
    await engine.submit(new SyncItem('changed', 'new'), { ack: 'stored' });
    await engine.delete('deleted', { ack: 'stored' });
    await settled(engine);
    await own.restart();
    // The engine that saw it, and one that did not.
    await until(() => redisWell(engine));
    const next = await afterRestart(engine, { ...config, redisUrl: own.url() });
    expect(await textOf(next, 'changed')).toBe('new');
    expect(await next.get('deleted')).toBeUndefined();
    expect(await textOf(next, 'same')).toBe('old');
    // What was not touched is still served from Redis: these two were asked for in SQL.
    expect(calls(next, 'sql', 'read')).toBe(2);
  }, 60_000);

  test('what was written while Redis was away is marked before its copies are believed again', async () => {
    const config = place();
    const own = await startServer('redis', { args: ['--appendonly', 'yes', '--appendfsync', 'always'] });
    onTestFinished(() => own.stop());
    const url = { ...config, redisUrl: own.url() };
    const first = await engineOn(url);
    const ids = Array.from({ length: 300 }, (_, at) => `a.${at}`);
    await first.submitMany(ids.map((id) => new SyncItem(id, 'old')));
    await settled(first);
    await own.kill();
    await until(async () => (await first.healthCheck()).redis?.circuit === 'open');
    expect((await first.healthCheck()).warnings.join()).toContain('Redis is not reachable');
    for (let at = 0; at < 300; at += 3) await first.submit(new SyncItem(`a.${at}`, 'new'));
    await first.flush();
    // It dies before it could tell Redis: what it knew of the outage died with it.
    const second = await afterRestart(first, url);
    expect(await textOf(second, 'a.3')).toBe('new');
    await own.restart();
    await until(() => redisWell(second));
    const third = await afterRestart(second, url);
    const found = await third.getMany(ids);
    expect(found.map((item) => item?.text())).toEqual(ids.map((_, at) => (at % 3 === 0 ? 'new' : 'old')));
    expect(calls(third, 'redis', 'read')).toBeGreaterThan(0);
  }, 60_000);

  test('while Redis loads its data SQL answers, and afterwards it is believed no more than its position', async () => {
    const config = place();
    const own = await startServer('redis', { args: ['--save', ''] });
    onTestFinished(() => own.stop());
    const first = await engineOn({ ...config, redisUrl: own.url() });
    const ids = Array.from({ length: 300 }, (_, at) => `a.${at}`);
    // Large enough for Redis to look after its clients between two of them.
    const old = randomBytes(1024).toString('hex');
    await first.submitMany(ids.map((id) => new SyncItem(id, old)));
    await settled(first);
    const redis = createClient({ url: own.url(), RESP: 2 }).on('error', () => {});
    await redis.connect();
    await redis.sendCommand(['SAVE']);
    redis.destroy();
    const engine = await afterRestart(first, { ...config, redisUrl: own.url() });
    await own.kill();
    // It takes connections at once, and some seconds for its 300 keys.
    const slow = ['--key-load-delay', '15000', '--loading-process-events-interval-bytes', '1024'];
    const back = own.restart(['--save', '', ...slow]);
    await until(async () => (await engine.healthCheck()).redis?.lastError?.includes('LOADING'));
    await engine.submit(new SyncItem('a.0', 'new'), { ack: 'stored' });
    expect(await textOf(engine, 'a.0')).toBe('new');
    expect(await textOf(engine, 'a.1')).toBe(old);
    expect((await engine.healthCheck()).redis?.circuit).not.toBe('closed');
    expect(own.log.match(/Ready to accept connections/g)).toHaveLength(1);
    await back;
    await until(() => redisWell(engine));
    const next = await afterRestart(engine, { ...config, redisUrl: own.url() });
    expect((await next.getMany(ids)).map((item) => item?.text())).toEqual(
      ids.map((_, at) => (at === 0 ? 'new' : old)),
    );
    expect(calls(next, 'redis', 'read')).toBeGreaterThan(0);
  }, 60_000);

  test('a Redis that comes back empty is filled anew', async () => {
    const config = place();
    const own = await startServer('redis', { args: ['--save', ''] });
    onTestFinished(() => own.stop());
    const engine = await engineOn({ ...config, redisUrl: own.url() });
    await engine.submit(new SyncItem('a', 'x'), { ack: 'stored' });
    await settled(engine);
    await own.restart();
    await until(() => redisWell(engine));
    expect(await textOf(engine, 'a')).toBe('x');
    await engine.submit(new SyncItem('b', 'y'), { ack: 'stored' });
    await settled(engine);
    const next = await afterRestart(engine, { ...config, redisUrl: own.url() });
    expect(await textOf(next, 'b')).toBe('y');
    expect(calls(next, 'sql', 'read')).toBe(0);
  }, 60_000);

  test('while Redis stands still nothing waits longer than its bound, and SQL answers', async () => {
    const config = place();
    const own = await startServer('redis');
    onTestFinished(() => own.stop());
    const first = await engineOn({ ...config, redisUrl: own.url() });
    await first.submitMany(Array.from({ length: 50 }, (_, at) => new SyncItem(`a.${at}`, `${at}`)));
    await settled(first);
    const engine = await afterRestart(first, { ...config, redisUrl: own.url() });
    own.pause();
    try {
      expect(await textOf(engine, 'a.1')).toBe('1');
      await until(async () => (await engine.healthCheck()).redis?.circuit === 'open');
      expect(await textOf(engine, 'a.2')).toBe('2');
      expect(await engine.get('never')).toBeUndefined();
      expect((await engine.submit(new SyncItem('a.2', 'new'), { ack: 'stored' })).ack).toBe('stored');
      const cacheOnly = { ...SubmitOptions.cache(CacheTtl.Hour), ack: 'stored' } as const;
      expect((await rejection(engine.submit(new SyncItem('s', 'x'), cacheOnly))).code).toBe(
        'TIER_UNAVAILABLE',
      );
      expect((await engine.submit(new SyncItem('s', 'x'), SubmitOptions.cache(CacheTtl.Hour))).ack).toBe(
        'memory',
      );
      expect(await textOf(engine, 's')).toBe('x');
    } finally {
      own.resume();
    }
    await until(() => redisWell(engine));
    const next = await afterRestart(engine, { ...config, redisUrl: own.url() });
    expect(await textOf(next, 'a.2')).toBe('new');
  }, 60_000);

  test('damaged bytes in Redis are not served, counted, and replaced', async () => {
    const config = place();
    const first = await engineOn(config);
    await first.submit(new SyncItem('a', 'content'), { ack: 'stored' });
    await settled(first);
    const redis = await client();
    const [key] = await redis.keys(`${config.redisPrefix}*v:*:a`);
    await redis.setRange(key as string, 90, '!');
    const second = await afterRestart(first, config);
    const corrupt: unknown[] = [];
    second.on('corruption', (event) => corrupt.push(event));
    expect(await textOf(second, 'a')).toBe('content');
    expect(corrupt).toEqual([{ tier: 'redis', id: 'a' }]);
    await until(
      async () => (await second.status('a')).kind === 'synced' && (await redis.exists(key as string)) === 1,
    );
    const third = await afterRestart(second, config);
    expect(await textOf(third, 'a')).toBe('content');
    expect(calls(third, 'sql', 'read')).toBe(0);
  });

  test('a start without Redis goes on without it, and it joins when it comes', async () => {
    const config = place();
    const own = await startServer('redis');
    onTestFinished(() => own.stop());
    await own.kill();
    const engine = await engineOn({ ...config, redisUrl: own.url() });
    await engine.submit(new SyncItem('a', 'x'), { ack: 'stored' });
    expect((await engine.healthCheck()).healthy).toBe(false);
    await own.start();
    await until(() => redisWell(engine));
    await engine.submit(new SyncItem('b', 'y'), { ack: 'stored' });
    await settled(engine);
    expect((await engine.status('b')) as object).toMatchObject({ l2: true });
  }, 60_000);

  test('without SQL at the start, what Redis holds is served as stale, and nothing is called missing', async () => {
    const config = place();
    const first = await engineOn(config);
    await first.submit(new SyncItem('a', 'x'), { ack: 'stored' });
    await settled(first);
    await first.shutdown();
    const path = (config.sqlUrl as string).slice('sqlite:'.length);
    const { renameSync } = await import('node:fs');
    renameSync(path, `${path}.away`);
    const second = await engineOn(config);
    const item = await second.get('a');
    expect(item?.text()).toBe('x');
    expect(item?.stale).toBe(true);
    expect((await rejection(second.get('b'))).code).toBe('TIER_UNAVAILABLE');
    expect((await rejection(second.get('a', { fresh: true }))).code).toBe('TIER_UNAVAILABLE');
    renameSync(`${path}.away`, path);
    await until(async () => (await second.get('a'))?.stale !== true);
    expect(await textOf(second, 'a')).toBe('x');
  }, 60_000);

  test('a Redis that is full keeps nothing old, and costs no write', async () => {
    const config = { ...place(), redisEvictionEnabled: false };
    const own = await startServer('redis', { args: ['--save', ''] });
    onTestFinished(() => own.stop());
    const url = { ...config, redisUrl: own.url() };
    const engine = await engineOn(url);
    const ids = Array.from({ length: 50 }, (_, at) => `a.${at}`);
    await engine.submitMany(ids.map((id) => new SyncItem(id, 'old')));
    await settled(engine);
    const redis = createClient({ url: own.url(), RESP: 2 }).on('error', () => {});
    await redis.connect();
    await redis.configSet('maxmemory', '1');
    const { failed } = await engine.submitMany(ids.map((id) => new SyncItem(id, 'new'.repeat(10))));
    expect(failed).toBe(0);
    await engine.flush();
    expect(
      (
        await rejection(
          engine.submit(new SyncItem('s', 'x'), { ...SubmitOptions.cache(CacheTtl.Hour), ack: 'stored' }),
        )
      ).code,
    ).toBe('TIER_UNAVAILABLE');
    const second = await afterRestart(engine, url);
    expect((await second.getMany(ids)).map((item) => item?.text())).toEqual(ids.map(() => 'new'.repeat(10)));
    await until(async () => (await second.healthCheck()).warnings.join().includes('of its maxmemory'));
    await redis.configSet('maxmemory', '0');
    redis.destroy();
    await until(() => redisWell(second));
    const third = await afterRestart(second, url);
    expect((await third.getMany(ids)).map((item) => item?.text())).toEqual(ids.map(() => 'new'.repeat(10)));
  }, 60_000);

  test('a master that becomes a replica is not written to, and is used again when it is master', async () => {
    const config = place();
    const own = await startServer('redis', { args: ['--save', ''] });
    onTestFinished(() => own.stop());
    const engine = await engineOn({ ...config, redisUrl: own.url() });
    await engine.submit(new SyncItem('a', 'old'), { ack: 'stored' });
    await settled(engine);
    const redis = createClient({ url: own.url(), RESP: 2 }).on('error', () => {});
    await redis.connect();
    onTestFinished(() => {
      if (redis.isOpen) redis.destroy();
    });
    // Of nobody: it keeps what it has.
    await redis.sendCommand(['REPLICAOF', '127.0.0.1', '1']);
    await engine.submit(new SyncItem('a', 'new'), { ack: 'stored' });
    for (let more = 0; more < 10; more++) {
      await engine.submit(new SyncItem(`b.${more}`, 'x'), { ack: 'stored' });
      expect(await textOf(engine, 'a')).toBe('new');
    }
    await until(async () => (await engine.healthCheck()).redis?.circuit === 'open');
    expect((await engine.healthCheck()).warnings.join()).toMatch(/replica.*let redisUrl name the master/);
    await redis.sendCommand(['REPLICAOF', 'NO', 'ONE']);
    await until(() => redisWell(engine));
    const next = await afterRestart(engine, { ...config, redisUrl: own.url() });
    expect(await textOf(next, 'a')).toBe('new');
  }, 60_000);

  test('no secret of the URL is told by anything', async () => {
    const config = place();
    const own = await startServer('redis');
    onTestFinished(() => own.stop());
    const lines: string[] = [];
    const write = (fields: object, message: string): void => {
      lines.push(`${JSON.stringify(fields)} ${message}`);
    };
    const logger = { debug: write, info: write, warn: write, error: write };
    const engine = new SyncEngine({ ...config, redisUrl: own.url(), redisTimeoutMs: 300 }, { logger });
    onTestFinished(async () => void (await engine.shutdown()));
    engine.on('error', (error) => lines.push(String(error), JSON.stringify(error)));
    await engine.start();
    await own.kill();
    await engine.submit(new SyncItem('a', 'x'), { ack: 'stored' });
    await until(async () => (await engine.healthCheck()).redis?.circuit === 'open');
    lines.push(JSON.stringify(await engine.healthCheck()), JSON.stringify(engine.metrics()));
    expect(lines.join('\n')).toContain('Redis');
    expect(lines.join('\n')).not.toContain(own.password);
  }, 60_000);

  test('with both away writes go to the log, and everything is there when both are back', async () => {
    const config = place();
    const own = await startServer('redis');
    onTestFinished(() => own.stop());
    const url = { ...config, redisUrl: own.url() };
    const first = await engineOn(url);
    await first.submit(new SyncItem('a', 'old'), { ack: 'stored' });
    await settled(first);
    await first.shutdown();
    const { renameSync } = await import('node:fs');
    const path = (config.sqlUrl as string).slice('sqlite:'.length);
    renameSync(path, `${path}.away`);
    await own.kill();
    const engine = await engineOn(url);
    expect((await engine.submit(new SyncItem('a', 'new'))).ack).toBe('wal');
    expect(await textOf(engine, 'a')).toBe('new');
    expect((await rejection(engine.get('b'))).code).toBe('TIER_UNAVAILABLE');
    renameSync(`${path}.away`, path);
    await own.start();
    await until(async () => (await engine.healthCheck()).healthy && (await redisWell(engine)));
    await settled(engine);
    const next = await afterRestart(engine, url);
    expect(await textOf(next, 'a')).toBe('new');
    expect(await next.get('b')).toBeUndefined();
  }, 60_000);
});

async function* rowsOf(engine: SyncEngine): AsyncGenerator<{ id: string; text: string }> {
  for await (const item of engine.scanPrefix('')) yield { id: item.id, text: item.text() };
}
