/**
 * Who is killed, each used as its documentation shows. `open(place)` gives `set`, which resolves to whether the
 * write was acknowledged; `read(place)` gives what a fresh process finds: `getMany`, in the order of the ids.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import KeyvSqlite from '@keyv/sqlite';
import Database from 'better-sqlite3';
import { createCache } from 'cache-manager';
import { Keyv } from 'keyv';
import { SyncEngine, SyncItem } from 'sync-engine';

/** The database lies in one directory, what a contender keeps beside it in another. */
const database = (place) => join(place, 'sql', 'rows.db');

export const contenders = {
  'sync-engine, wal': {
    promises: 'acknowledged: in a log of its own, fsynced; stored in SQLite behind it',
    ...syncEngine('wal'),
  },
  'sync-engine, memory': {
    promises: 'acknowledged: in memory and queued; a crash may lose it',
    ...syncEngine('memory'),
  },
  keyv: {
    promises: '@keyv/sqlite as it comes: acknowledged when SQLite has committed, one commit a write',
    async open(place) {
      const keyv = keyvOf(place);
      return {
        set: (id, text) => keyv.set(id, text),
        get: (id) => keyv.get(id),
        close: () => keyv.disconnect(),
      };
    },
    read: readKeyv,
  },
  'cache-manager': {
    promises: 'memory over @keyv/sqlite as it comes: waits for every store',
    open: (place) => cacheManager(place, { nonBlocking: false }),
    read: readKeyv,
  },
  'cache-manager, nonBlocking': {
    promises: 'the same with nonBlocking: "set … will not wait for all stores to finish"',
    open: (place) => cacheManager(place, { nonBlocking: true }),
    read: readKeyv,
  },
  'write-behind queue': {
    promises: 'a Map that is written to SQLite every 100 ms, as people glue it; promises nothing',
    open: writeBehind,
    read: readWriteBehind,
  },
};

function syncEngine(ack) {
  const make = async (place) => {
    const engine = new SyncEngine({ sqlUrl: `sqlite:${database(place)}`, walPath: join(place, 'rows.wal') });
    await engine.start();
    return engine;
  };
  return {
    async open(place) {
      const engine = await make(place);
      return {
        set: (id, text) => engine.submit(new SyncItem(id, text), { ack }).then(() => true),
        get: async (id) => (await engine.get(id))?.text(),
        close: () => engine.shutdown(),
      };
    },
    async read(place) {
      const engine = await make(place);
      return {
        getMany: async (ids) => (await engine.getMany(ids)).map((item) => item?.text()),
        close: () => engine.shutdown(),
      };
    },
  };
}

function keyvOf(place) {
  const keyv = new Keyv(new KeyvSqlite(`sqlite://${database(place)}`));
  keyv.on('error', () => {}); // As the documentation asks for; without a listener the error would be thrown.
  return keyv;
}

async function readKeyv(place) {
  const keyv = keyvOf(place);
  return { getMany: (ids) => keyv.getMany(ids), close: () => keyv.disconnect() };
}

async function cacheManager(place, options) {
  const cache = createCache({ stores: [new Keyv(), keyvOf(place)], ...options });
  return {
    set: async (id, text) => (await cache.set(id, text)) === text,
    get: (id) => cache.get(id),
    close: () => cache.disconnect(),
  };
}

async function writeBehind(place) {
  const sql = new Database(database(place));
  sql.pragma('journal_mode = WAL');
  sql.exec('CREATE TABLE IF NOT EXISTS kv (id TEXT PRIMARY KEY, text TEXT)');
  const upsert = sql.prepare('INSERT OR REPLACE INTO kv VALUES (?, ?)');
  const find = sql.prepare('SELECT text FROM kv WHERE id = ?').pluck();
  let waiting = new Map();
  const flush = () => {
    const batch = waiting;
    waiting = new Map();
    sql.transaction(() => {
      for (const [id, text] of batch) upsert.run(id, text);
    })();
  };
  const timer = setInterval(flush, 100);
  return {
    set: async (id, text) => waiting.set(id, text) !== undefined,
    get: async (id) => waiting.get(id) ?? find.get(id),
    close: async () => {
      clearInterval(timer);
      flush();
      sql.close();
    },
  };
}

async function readWriteBehind(place) {
  if (!existsSync(database(place))) return { getMany: async (ids) => ids.map(() => undefined), close() {} };
  const sql = new Database(database(place));
  const find = sql.prepare('SELECT text FROM kv WHERE id = ?').pluck();
  return { getMany: async (ids) => ids.map((id) => find.get(id)), close: () => sql.close() };
}
