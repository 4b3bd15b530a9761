/** Sustained writing into MariaDB and PostgreSQL: the engine, and a bare bulk upsert on the same server. */
import { join } from 'node:path';
import mysql from 'mysql2/promise';
import pg from 'pg';
import { SyncEngine, SyncItem } from 'sync-engine';
import { createDatabase, startServer } from '../scripts/servers/servers.mjs';
import { compete, rateOf, report, temporaryDirectory } from './measure.mjs';

const ROWS = 50_000;
const BATCH = 1000;
const READS = 10_000;
const SINGLE_READS = 500;
const content = Buffer.alloc(256, 7);
const number = (at) => (at * 7919) % ROWS;
/** Four levels deep, a thousand ids below one path. */
const idOf = (round, at) => `geo.GB.${number(at) % 50}.${number(at)}-${round}`;

/** A bulk upsert of one batch, as one writes it by hand. */
const BARE = {
  async mariadb(url) {
    const connection = await mysql.createConnection(url.replace('mariadb', 'mysql'));
    await connection.query(
      'CREATE TABLE bare (id VARBINARY(1024) NOT NULL PRIMARY KEY, content LONGBLOB NOT NULL)',
    );
    const values = new Array(BATCH).fill('(?, ?)').join(', ');
    const sql = `INSERT INTO bare VALUES ${values} ON DUPLICATE KEY UPDATE content = VALUES(content)`;
    const select = `SELECT id, content FROM sync_items WHERE id IN (${new Array(BATCH).fill('?').join(', ')})`;
    return {
      write: (rows) => connection.execute(sql, rows.flat()),
      read: async (ids) => (await connection.execute({ sql: select, values: ids, rowsAsArray: true }))[0],
      end: () => connection.end(),
    };
  },
  async postgres(url) {
    const client = new pg.Client(url);
    await client.connect();
    await client.query('CREATE TABLE bare (id BYTEA PRIMARY KEY, content BYTEA NOT NULL)');
    const text =
      'INSERT INTO bare SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT (id) DO UPDATE SET content = excluded.content';
    const select = 'SELECT id, content FROM sync_items WHERE id = ANY($1::bytea[])';
    return {
      write: (rows) =>
        client.query({
          name: 'write',
          text,
          values: [rows.map(([id]) => id), rows.map(([, bytes]) => bytes)],
        }),
      read: async (ids) =>
        (await client.query({ name: 'read', text: select, values: [ids], rowMode: 'array' })).rows,
      end: () => client.end(),
    };
  },
};

const rows = [];
for (const kind of ['mariadb', 'postgres']) {
  const [server, redis] = await Promise.all([
    startServer(kind),
    startServer('redis', { args: ['--save', ''] }),
  ]);
  const redisUrl = redis.url();
  const sqlUrl = await createDatabase(server);
  const directory = temporaryDirectory();
  const engine = new SyncEngine({
    sqlUrl,
    redisUrl,
    walPath: join(directory, 'log'),
    l1MaxBytes: 1024 ** 3,
  });
  await engine.start();
  const bare = await BARE[kind](sqlUrl);
  const write = (ids) => ({
    engine: (round) => {
      const items = Array.from({ length: ROWS }, (_, at) => new SyncItem(ids(round, at), content));
      return rateOf(ROWS, async () => {
        await engine.submitMany(items, { ack: 'memory' });
        await engine.flush({ timeoutMs: 120_000 });
      });
    },
    bare: (round) =>
      rateOf(ROWS, async () => {
        for (let from = 0; from < ROWS; from += BATCH) {
          const batch = Array.from({ length: BATCH }, (_, at) => [
            Buffer.from(ids(round, from + at)),
            content,
          ]);
          await bare.write(batch);
        }
      }),
  });
  for (const [name, ids] of [
    ['new rows', idOf],
    ['updates', (_round, at) => idOf(0, at)],
  ]) {
    const rates = await compete(write(ids), 3);
    rows.push(
      { what: `${kind}: bare bulk upsert, ${name}`, rate: rates.bare },
      {
        what: `${kind}: engine, log, digests, SQL and Redis, ${name}`,
        rate: rates.engine,
        ratio: rates.engine / rates.bare,
        wanted: 0.4,
      },
    );
  }
  await engine.shutdown();

  const reader = new SyncEngine({ sqlUrl, l1MaxBytes: 64 * 1024 });
  await reader.start();
  await reader.warmUp();
  const chosen = (round, count) =>
    Array.from({ length: count }, (_, at) => idOf(0, (round * 20_011 + at * 31) % ROWS));
  const reads = await compete({
    once: (round) => {
      const ids = chosen(round, READS);
      return rateOf(READS, () => Promise.all(ids.map((id) => reader.get(id))));
    },
    hand: (round) => {
      const ids = chosen(round, READS).map((id) => Buffer.from(id));
      return rateOf(READS, async () => {
        for (let from = 0; from < READS; from += BATCH) {
          const found = new Map();
          for (const [id, bytes] of await bare.read(ids.slice(from, from + BATCH)))
            found.set(id.toString(), bytes);
        }
      });
    },
    single: (round) => {
      const ids = chosen(round, SINGLE_READS);
      return rateOf(SINGLE_READS, async () => {
        for (const id of ids) await reader.get(id);
      });
    },
  });
  rows.push(
    { what: `${kind}: ${READS.toLocaleString('en')} cold gets at once`, rate: reads.once },
    {
      what: `${kind}: hand-written list of ids`,
      rate: reads.hand,
      ratio: reads.once / reads.hand,
      wanted: 0.7,
    },
    {
      what: `${kind}: gets one after the other`,
      rate: reads.single,
      ratio: reads.once / reads.single,
      wanted: 8,
    },
  );
  await bare.end();
  await reader.shutdown();
  await Promise.all([server.stop(), redis.stop()]);
}
report('MariaDB and PostgreSQL, 256 bytes, 1,000 rows a transaction, defaults of the servers', rows);
process.exit(0);
