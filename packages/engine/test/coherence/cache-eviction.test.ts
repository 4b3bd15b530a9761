/** Room in a real Redis: copies go before it has to choose, and nothing else does. */
import { createClient } from 'redis';
import { expect, onTestFinished, test } from 'vitest';
import { CacheEviction } from '#engine/coherence/cache-eviction.js';
import { systemPorts } from '#engine/ports/system/system-ports.js';
import { GuardedCache } from '#engine/storage/guarded-cache.js';
import { RedisStore } from '#engine/storage/redis/redis-store.js';
import { revision } from '#engine/testing/revisions.js';
import { onServer } from '../support/servers.js';

const ARCHIVE = 'ab'.repeat(16);
const GENERATION = 'ababab0000000001';
const OLD_GENERATION = 'ababab0000000000';

onServer(
  'redis',
  (server) => {
    test('copies go from 75 % of maxmemory down to 60 %, unreachable ones first, and no other key', async () => {
      const store = new RedisStore(server().url(), 'p*[', { redisTimeoutMs: 2000 }, systemPorts);
      const events = { connected() {}, circuit() {} };
      const cache = new GuardedCache(store, { redisTimeoutMs: 2000 }, systemPorts, events);
      onTestFinished(() => cache.close());
      await cache.open(ARCHIVE);
      const put = async (generation: string, count: number): Promise<void> => {
        for (let at = 0; at < count; at += 100) {
          const puts = Array.from({ length: 100 }, (_, more) => ({
            revision: revision({ id: `i.${at + more}`, content: Buffer.alloc(1000, 1) }),
            kind: 'value' as const,
            ttlMs: 100_000,
          }));
          await cache.putMany({ generation, known: 1, begins: true, puts, confirms: undefined });
        }
      };
      const chain = '0'.repeat(64);
      await cache.moveHead(undefined, { generation: OLD_GENERATION, position: 0, chain });
      await put(OLD_GENERATION, 1000);
      await cache.moveHead(OLD_GENERATION, { generation: GENERATION, position: 0, chain });
      const redis = createClient({ url: server().url(), RESP: 2 }).on('error', () => {});
      await redis.connect();
      onTestFinished(() => void redis.destroy());
      const foreign = ['other', 'p*[other', 'pxx{0}v:ababab:x', 'p*[{0}v:cdcdcd0000000001:x'];
      for (const key of foreign) await redis.set(key, 'x'.repeat(5000));
      await put(GENERATION, 9000);
      let evicted = 0;
      const eviction = new CacheEviction({
        config: { redisEvictionEnabled: true, redisEvictionStart: 0.75, redisEvictionTarget: 0.6 },
        cache,
        clock: systemPorts.clock,
        scheduler: systemPorts.scheduler,
        policy: undefined,
        evicted: (count) => {
          evicted += count;
        },
      });
      const { usedBytes, maxBytes } = await cache.memory();
      expect(usedBytes / maxBytes).toBeGreaterThan(0.75);
      await eviction.look();
      expect(eviction.share).toBeLessThanOrEqual(0.6);
      expect(evicted).toBeGreaterThan(1000);
      for (const key of foreign) expect(await redis.exists(key), key).toBe(1);
      expect(await cache.head()).toMatchObject({ generation: GENERATION });
      // Some reachable copies are left, of the unreachable ones almost none.
      const left = async (generation: string): Promise<number> => {
        const ids = Array.from({ length: 1000 }, (_, at) => `i.${at}`);
        return (await cache.exists(generation, ids)).filter(Boolean).length;
      };
      expect(await left(OLD_GENERATION)).toBeLessThan(await left(GENERATION));
      const before = evicted;
      await eviction.look();
      expect(evicted).toBe(before);
    }, 60_000);
  },
  ['--maxmemory', '16mb', '--maxmemory-policy', 'noeviction', '--save', ''],
);
