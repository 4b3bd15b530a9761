/** Redis: guarded writes beside unguarded ones, and gets that only Redis can answer beside MGET by hand. */
import { join } from 'node:path';
import { createClient } from 'redis';
import { SyncEngine, SyncItem } from 'sync-engine';
import { systemPorts } from '../packages/engine/dist/ports/system/system-ports.js';
import { RedisStore } from '../packages/engine/dist/storage/redis/redis-store.js';
import { startServer } from '../scripts/servers/servers.mjs';
import { compete, rateOf, report, temporaryDirectory } from './measure.mjs';

const WRITES = 100_000;
const BATCH = 1000;
const IN_FLIGHT = 4;
const READS = 10_000;
const SINGLE_READS = 1000;
const content = Buffer.alloc(256, 7);
const idOf = (at) => `geo.GB.${(at * 7919) % 50}.${at}`;

const server = await startServer('redis', { args: ['--save', ''] });
const client = createClient({ url: server.url(), RESP: 2 });
client.on('error', () => {});
await client.connect();

/** Batches, a few on their way at once. */
async function batches(send) {
  let next = 0;
  const one = async () => {
    while (next < WRITES) {
      const from = next;
      next += BATCH;
      await send(from);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, one));
}

const ARCHIVE = '5a'.repeat(16);
const GENERATION = '5a5a5a0000000001';
const CHAIN = '0'.repeat(64);
const store = new RedisStore(server.url(), '', { redisTimeoutMs: 10_000 }, systemPorts);
await store.open({ archiveId: ARCHIVE, lost: () => {} });
await store.moveHead(undefined, { generation: GENERATION, position: 0, chain: CHAIN });
let position = 0;

const origin = 'bench'.padEnd(16, '\0');
const writes = await compete({
  guarded: (round) => {
    const puts = Array.from({ length: WRITES }, (_, at) => ({
      revision: {
        id: idOf(at),
        version: (round + 1) * 1_000_000 + at,
        origin,
        deleted: false,
        contentType: 'binary',
        state: 'default',
        content,
      },
      kind: 'value',
      ttlMs: 86_400_000,
    }));
    return rateOf(WRITES, () =>
      batches((from) =>
        store.putMany({
          generation: GENERATION,
          known: ++position,
          begins: true,
          withinMs: 10_000,
          puts: puts.slice(from, from + BATCH),
          confirms: CHAIN,
        }),
      ),
    );
  },
  mset: () =>
    rateOf(WRITES, () =>
      batches((from) => {
        const command = ['MSET'];
        for (let at = from; at < from + BATCH; at++) command.push(`bare:${idOf(at)}`, content);
        return client.sendCommand(command);
      }),
    ),
  set: () =>
    rateOf(WRITES, () =>
      batches((from) =>
        Promise.all(
          Array.from({ length: BATCH }, (_, at) =>
            client.sendCommand(['SET', `bare:${idOf(from + at)}`, content, 'PX', '86400000']),
          ),
        ),
      ),
    ),
});
await store.close();
await client.flushAll();

const directory = temporaryDirectory();
const sqlUrl = `sqlite:${join(directory, 'archive.db')}`;
const redisUrl = server.url();
const writer = new SyncEngine({ sqlUrl, redisUrl, walPath: join(directory, 'log') });
await writer.start();
const ids = Array.from({ length: READS * 5 }, (_, at) => idOf(at));
await writer.submitMany(
  ids.map((id) => new SyncItem(id, content)),
  { ack: 'memory' },
);
await writer.flush({ timeoutMs: 120_000 });
while ((await writer.healthCheck()).redisLag !== 0) await new Promise((resolve) => setTimeout(resolve, 20));
await writer.shutdown();

const reader = new SyncEngine({ sqlUrl, redisUrl, l1MaxBytes: 64 * 1024 });
await reader.start();
await reader.warmUp();
const head = (await client.keys('{0}head:*'))[0];
const generation = (await client.get(head)).split(' ')[0];
const raw = client.withTypeMapping({ 36: Buffer });
const chosen = (round, count) =>
  Array.from({ length: count }, (_, at) => ids[(round * 20_011 + at * 31) % ids.length]);
const sqlReads = () =>
  reader
    .metrics()
    .find(
      ({ name, labels }) =>
        name === 'sync_engine_operations' && labels.tier === 'sql' && labels.operation === 'read',
    )?.value;
const before = sqlReads();
const reads = await compete({
  once: (round) => {
    const wanted = chosen(round, READS);
    return rateOf(READS, () => Promise.all(wanted.map((id) => reader.get(id))));
  },
  hand: (round) => {
    const wanted = chosen(round, READS);
    return rateOf(READS, async () => {
      const parts = [];
      for (let from = 0; from < READS; from += BATCH) {
        const keys = wanted.slice(from, from + BATCH).map((id) => `{0}v:${generation}:${id}`);
        parts.push(raw.mGet(keys));
      }
      const values = (await Promise.all(parts)).flat();
      if (values.includes(null)) throw new Error('a copy is missing');
    });
  },
  single: (round) => {
    const wanted = chosen(round, SINGLE_READS);
    return rateOf(SINGLE_READS, async () => {
      for (const id of wanted) await reader.get(id);
    });
  },
});
if (sqlReads() !== before) throw new Error('SQL was asked');
await reader.shutdown();
client.destroy();
await server.stop();

report('Redis, 256 bytes, on the same machine', [
  { what: 'guarded writes, 1,000 a batch, 4 at once', rate: writes.guarded, wantedRate: 200_000 },
  { what: 'bare MSET of 1,000', rate: writes.mset, ratio: writes.guarded / writes.mset, wanted: 0.35 },
  { what: 'bare SET with a TTL, pipelined', rate: writes.set, ratio: writes.guarded / writes.set },
  { what: '10,000 gets at once that Redis answers', rate: reads.once },
  { what: 'hand-written MGET of 1,000', rate: reads.hand, ratio: reads.once / reads.hand, wanted: 0.7 },
  { what: 'gets one after the other', rate: reads.single, ratio: reads.once / reads.single, wanted: 8 },
]);
process.exit(0);
