/** The cache in Redis: the contract, and what only Redis can do to it. */
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { createClient } from 'redis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { compareOrder } from '#engine/item/order.js';
import { systemPorts } from '#engine/ports/system/system-ports.js';
import { type CacheBatch, PUT_NO_ROOM, PUT_WRITTEN } from '#engine/storage/cache-store.js';
import { RedisStore } from '#engine/storage/redis/redis-store.js';
import { encodeValue } from '#engine/storage/redis/value-codec.js';
import { cacheContract } from '#engine/testing/cache-contract.js';
import { anyRevision, revision } from '#engine/testing/revisions.js';
import { type PrivateServer, startServer } from '../../../../scripts/servers/servers.mjs';
import { rejection } from '../support/engines.js';
import { onServer, TLS } from '../support/servers.js';

const ARCHIVE = '5a'.repeat(16);
const GENERATION = '5a5a5a0000000001';
const CHAIN = '0'.repeat(64);

let prefixes = 0;

function storeOn(url: string, prefix = `s${prefixes++}:`): RedisStore {
  const store = new RedisStore(url, prefix, { redisTimeoutMs: 3000 }, systemPorts);
  onTestFinished(() => store.close());
  return store;
}

async function opened(url: string, prefix?: string): Promise<RedisStore> {
  const store = storeOn(url, prefix);
  await store.open({ archiveId: ARCHIVE, lost: () => {} });
  await store.moveHead(undefined, { generation: GENERATION, position: 10, chain: CHAIN });
  return store;
}

const batch = (change: Partial<CacheBatch> = {}): CacheBatch => ({
  generation: GENERATION,
  known: 10,
  begins: false,
  withinMs: 60_000,
  puts: [{ revision: revision(), kind: 'value', ttlMs: 60_000 }],
  confirms: undefined,
  ...change,
});

async function clientOn(url: string) {
  const client = createClient({ url, RESP: 2 });
  client.on('error', () => {});
  await client.connect();
  onTestFinished(() => {
    if (client.isOpen) client.destroy();
  });
  return client;
}

/** Of everything that samples show: whether nobody can reach it. */
async function reachability(store: RedisStore): Promise<boolean[]> {
  const found: boolean[] = [];
  let from: string | undefined;
  do {
    const { entries, next } = await store.sample(from, 1000);
    found.push(...entries.map(({ unreachable }) => unreachable));
    from = next;
  } while (from !== undefined);
  return found;
}

/** Of stores, not those of tests. */
async function connectionsOf(client: Awaited<ReturnType<typeof clientOn>>): Promise<number> {
  return (await client.clientList()).length - 1;
}

async function ownServer(args: readonly string[] = []): Promise<PrivateServer> {
  const server = await startServer('redis', { args: ['--save', '', ...args] });
  onTestFinished(() => server.stop());
  return server;
}

test('two values compare byte by byte as their writes do', () => {
  fc.assert(
    fc.property(anyRevision, anyRevision, fc.boolean(), (a, b, close) => {
      const other = close ? { ...b, version: a.version, origin: a.origin } : b;
      const bytes = (made: typeof a): Buffer => {
        const target = Buffer.alloc(8192);
        encodeValue({ revision: made, kind: made.deleted ? 'marker' : 'value', ttlMs: 1 }, 1, target, 0);
        return target.subarray(0, 57);
      };
      expect(Math.sign(Buffer.compare(bytes(a), bytes(other)))).toBe(Math.sign(compareOrder(a, other)));
    }),
  );
});

onServer('redis', (server) => {
  cacheContract('Redis', () => {
    const prefix = `s${prefixes++}:`;
    return {
      open: () => storeOn(server().url(), prefix),
      passMs: async (ms) => {
        await sleep(ms);
      },
    };
  });

  describe('Redis', () => {
    test('a prefix of any characters keeps its keys apart', async () => {
      const [one, two] = [await opened(server().url(), 'a*[?\\'), await opened(server().url(), 'ab')];
      await one.putMany(batch());
      expect(await two.exists(GENERATION, ['a'])).toEqual([false]);
      const { entries } = await two.sample(undefined, 1000);
      expect(entries).toEqual([]);
    });

    test('its own values are known as such under a prefix that is not ASCII', async () => {
      const store = await opened(server().url(), `größe${prefixes++}:`);
      await store.putMany(batch());
      expect(await reachability(store)).toEqual([false]);
    });

    test('without an archive, values of those who have one are not sampled', async () => {
      const prefix = `s${prefixes++}:`;
      await (await opened(server().url(), prefix)).putMany(batch());
      const store = storeOn(server().url(), prefix);
      await store.open({ archiveId: '', lost: () => {} });
      const generation = '0000000000000007';
      await store.moveHead(undefined, { generation, position: 0, chain: CHAIN });
      await store.putMany(batch({ generation, known: undefined }));
      expect(await reachability(store)).toEqual([false]);
    });

    test('no flipped bit of a value, and no cut one, is ever served', async () => {
      const prefix = `s${prefixes++}:`;
      const store = await opened(server().url(), prefix);
      await store.putMany(batch());
      const client = await clientOn(server().url());
      const [key] = (await client.keys(`${prefix}*v:*`)) as [string];
      const raw = client.withTypeMapping({ 36: Buffer });
      const whole = (await raw.get(key)) as unknown as Buffer;
      for (let bit = 0; bit < whole.length * 8; bit++) {
        const damaged = Buffer.from(whole);
        damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
        await client.set(key, damaged);
        expect((await store.getMany(GENERATION, ['a'])).values, `bit ${bit}`).toEqual(['damaged']);
      }
      for (const length of [1, 40, 87, whole.length - 1]) {
        await client.set(key, whole.subarray(0, length));
        expect((await store.getMany(GENERATION, ['a'])).values).toEqual(['damaged']);
      }
      // The value of one id is none of another.
      await client.set(key.replace(/a$/, 'b'), whole);
      expect((await store.getMany(GENERATION, ['b'])).values).toEqual(['damaged']);
    });

    test('a key of another type is no answer, and is replaced', async () => {
      const prefix = `s${prefixes++}:`;
      const store = await opened(server().url(), prefix);
      const client = await clientOn(server().url());
      await client.hSet(`${prefix}{0}v:${GENERATION}:a`, 'field', 'value');
      expect((await store.getMany(GENERATION, ['a'])).values).toEqual([undefined]);
      expect([...(await store.putMany(batch())).outcomes]).toEqual([PUT_WRITTEN]);
      expect(await store.exists(GENERATION, ['a'])).toEqual([true]);
    });

    test('a server that forgot its scripts is given them again', async () => {
      const store = await opened(server().url());
      const client = await clientOn(server().url());
      await client.sendCommand(['SCRIPT', 'FLUSH']);
      expect((await store.putMany(batch())).status).toBe('done');
    });

    test('a database by its number is another place', async () => {
      const prefix = `s${prefixes++}:`;
      const one = await opened(`${server().url()}/0`, prefix);
      const two = await opened(`${server().url()}/3`, prefix);
      await one.putMany(batch());
      expect(await two.exists(GENERATION, ['a'])).toEqual([false]);
    });

    test('a wrong password is named, and never repeated', async () => {
      const { port } = new URL(server().url());
      for (const login of ['', ':wrong-secret@', 'nobody:wrong-secret@']) {
        const store = storeOn(`redis://${login}127.0.0.1:${port}`);
        const error = await rejection(store.open({ archiveId: ARCHIVE, lost: () => {} }));
        expect(error.code).toBe('TIER_UNAVAILABLE');
        expect(error.message).toMatch(/password/);
        expect(error.message).not.toContain('wrong-secret');
      }
    });

    test('a user with its rights gets in, and one without them is told which it needs', async () => {
      const own = await ownServer();
      const client = await clientOn(own.url());
      const { port } = new URL(own.url());
      await client.sendCommand(['ACL', 'SETUSER', 'shop', 'on', '>s3cret', '~s:*', '+@all']);
      await client.sendCommand([
        'ACL',
        'SETUSER',
        'guest',
        'on',
        '>s3cret',
        '~s:*',
        '+ping',
        '+time',
        '+client',
      ]);
      const store = await opened(`redis://shop:s3cret@127.0.0.1:${port}`, 's:');
      expect((await store.putMany(batch())).status).toBe('done');
      const guest = storeOn(`redis://guest:s3cret@127.0.0.1:${port}`, 's:');
      const refused = await rejection(guest.open({ archiveId: ARCHIVE, lost: () => {} }));
      expect(refused.message).toContain('lacks a right');
    });

    test('what does not fit is not written, and what it would have replaced is gone', async () => {
      const own = await ownServer(['--maxmemory-policy', 'noeviction']);
      const store = await opened(own.url());
      const old = { revision: revision({ version: 1 }), kind: 'value', ttlMs: 60_000 } as const;
      await store.putMany(batch({ puts: [old] }));
      const client = await clientOn(own.url());
      await client.configSet('maxmemory', '1');
      const large = { ...old, revision: revision({ version: 2, content: Buffer.alloc(900_000, 1) }) };
      const other = { ...old, revision: revision({ id: 'b', content: Buffer.alloc(900_000, 1) }) };
      const { outcomes } = await store.putMany(batch({ puts: [large, other] }));
      expect([...outcomes]).toEqual([PUT_NO_ROOM, PUT_NO_ROOM]);
      expect((await store.getMany(GENERATION, ['a', 'b'])).values).toEqual([undefined, undefined]);
      const position = store.putMany(batch({ known: 11, begins: true, confirms: CHAIN }));
      expect((await rejection(position)).message).toContain('out of memory');
    });

    test('a replica is refused by name', async () => {
      const master = await ownServer();
      const { port } = new URL(master.url());
      const replica = await ownServer(['--replicaof', `127.0.0.1 ${port}`, '--masterauth', master.password]);
      const store = storeOn(replica.url());
      const error = await rejection(store.open({ archiveId: ARCHIVE, lost: () => {} }));
      expect(error.message).toMatch(/replica.*master/);
    });

    test('a command that was stuck in a server that stood still does not run when it goes on', async () => {
      const own = await ownServer();
      const store = await opened(own.url());
      own.pause();
      const stuck = store.putMany(batch({ withinMs: 100, known: 11, begins: true, confirms: CHAIN }));
      await sleep(400);
      own.resume();
      expect(await stuck).toMatchObject({ status: 'late', position: 10 });
      expect(await store.exists(GENERATION, ['a'])).toEqual([false]);
    });

    test('a server whose clock was set is asked for the time again, and takes writes', async () => {
      let skewMs = 0;
      const clock = { now: () => 0, monotonic: () => systemPorts.clock.monotonic() + skewMs };
      const store = new RedisStore(
        server().url(),
        `s${prefixes++}:`,
        { redisTimeoutMs: 3000 },
        {
          ...systemPorts,
          clock,
        },
      );
      onTestFinished(() => store.close());
      await store.open({ archiveId: ARCHIVE, lost: () => {} });
      await store.moveHead(undefined, { generation: GENERATION, position: 10, chain: CHAIN });
      // As if the server's had gone a minute ahead.
      skewMs = -60_000;
      expect((await store.putMany(batch({ withinMs: 2000 }))).status).toBe('late');
      // It has asked by itself: what is sent now stands behind that question.
      await store.head();
      expect((await store.putMany(batch({ withinMs: 2000 }))).status).toBe('done');
    });

    test('a connection that is given up while it is being made leaves nothing open', async () => {
      const own = await ownServer();
      const watcher = await clientOn(own.url());
      for (let turns = 0; turns < 40; turns++) {
        const store = storeOn(own.url());
        const opening = store.open({ archiveId: ARCHIVE, lost: () => {} }).catch(() => {});
        for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
        await store.close();
        await opening;
      }
      await expect.poll(() => connectionsOf(watcher), { timeout: 5000 }).toBe(0);
    });

    test('of two that connect at once one connection is left, and it works', async () => {
      const own = await ownServer();
      const watcher = await clientOn(own.url());
      const store = storeOn(own.url());
      const open = () => store.open({ archiveId: ARCHIVE, lost: () => {} });
      const opened = await Promise.allSettled([open(), open()]);
      expect(opened.map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
      await store.ping();
      await expect.poll(() => connectionsOf(watcher), { timeout: 5000 }).toBe(1);
    });

    test('the loss of the connection is told once, and what was under way rejects', async () => {
      const own = await ownServer();
      const store = storeOn(own.url());
      const told: Error[] = [];
      await store.open({ archiveId: ARCHIVE, lost: (reason) => told.push(reason) });
      own.pause();
      const stuck = rejection(store.head());
      await own.kill();
      expect((await stuck).code).toBe('TIER_UNAVAILABLE');
      await expect.poll(() => told.length).toBeGreaterThan(0);
      expect((await rejection(store.head())).code).toBe('TIER_UNAVAILABLE');
      await own.start();
      await store.open({ archiveId: ARCHIVE, lost: () => {} });
      expect(await store.head()).toBeUndefined();
    });

    test('TLS with an authority of our own, and nothing without it', async () => {
      const own = await ownServer();
      const client = await clientOn(own.url());
      for (const [key, value] of [
        ['tls-cert-file', TLS.cert],
        ['tls-key-file', TLS.key],
        ['tls-ca-cert-file', TLS.ca],
        ['tls-auth-clients', 'no'],
      ] as const)
        await client.configSet(key, value);
      const { port } = new URL(own.url());
      const tlsPort = Number(port) > 60_000 ? Number(port) - 1 : Number(port) + 1;
      await client.configSet('tls-port', String(tlsPort));
      const url = (query: string): string => `rediss://:${own.password}@127.0.0.1:${tlsPort}/0${query}`;
      const store = await opened(url(`?sslca=${TLS.ca}`));
      expect((await store.putMany(batch())).status).toBe('done');
      for (const query of ['', `?sslca=${TLS.otherCa}`]) {
        const stranger = storeOn(url(query));
        expect((await rejection(stranger.open({ archiveId: ARCHIVE, lost: () => {} }))).code).toBe(
          'TIER_UNAVAILABLE',
        );
      }
      const unverified = await opened(url('?sslmode=require'));
      expect((await unverified.putMany(batch())).status).toBe('done');
    });

    test.each([
      ['redis://h?sslmode=require', 'need rediss://'],
      ['rediss://h?sslmode=never', 'sslmode is one of'],
      ['redis://h/shop', 'number of a database'],
      ['redis://h?timeout=1', 'unknown option'],
      ['rediss://h?sslca=/nowhere', 'cannot be read'],
      ['redis://:p%zz@h', 'encode user and password'],
    ])('the URL %s is refused: %s', (url, said) => {
      expect(() => storeOn(url)).toThrow(said);
    });
  });
});
