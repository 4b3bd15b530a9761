// @ts-check
/**
 * What an engine of the matrix is put on: a place of its own for each cell, on servers that a lane of cells shares. Between
 * the engine and each server is a proxy; who looks afterwards goes past it.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createConnection } from 'mysql2/promise';
import pg from 'pg';
import { createClient } from 'redis';
import { GaleraCluster } from '../../scripts/servers/galera.mjs';
import { RedisCluster } from '../../scripts/servers/redis-cluster.mjs';
import { createDatabase, startServer } from '../../scripts/servers/servers.mjs';
import { FaultyProxy } from './proxy.mjs';

/** @typedef {import('../../scripts/servers/servers.mjs').PrivateServer} PrivateServer */
/** @typedef {'sqlite' | 'mariadb' | 'postgres'} SqlKind */
/** @typedef {{ sql: SqlKind | 'galera', redis: boolean | 'cluster' }} Backend */
/**
 * @typedef {object} SqlTarget
 * @property {SqlKind} kind
 * @property {string} database
 * @property {PrivateServer} server
 * @property {FaultyProxy} proxy
 * @property {(text: string) => Promise<any[]>} admin One statement of an administrator, in this database.
 * @property {() => Promise<Session>} session A connection of an administrator, to hold locks with.
 */
/** @typedef {{ run: (text: string) => Promise<any[]>, end: () => Promise<void> }} Session */
/**
 * @typedef {object} RedisTarget
 * @property {string} prefix
 * @property {PrivateServer} server
 * @property {FaultyProxy} proxy
 * @property {(command: readonly string[]) => Promise<any>} admin One command of an administrator.
 * @property {() => Promise<{ run: (command: readonly string[]) => Promise<any>, end: () => Promise<void> }>} session
 */
/**
 * @typedef {object} Place
 * @property {string} directory
 * @property {Record<string, unknown>} config For the engine under test.
 * @property {Record<string, unknown>} direct For who looks afterwards.
 * @property {SqlTarget | undefined} sql
 * @property {RedisTarget | undefined} redis
 * @property {GaleraCluster | undefined} galera
 * @property {RedisCluster | undefined} redisCluster
 * @property {() => Promise<void>} remove
 */

/** How an engine of the matrix is set. */
const SETTINGS = {
  submitTimeoutMs: 3000,
  sqlTimeoutMs: 1500,
  sqlReadTimeoutMs: 800,
  redisTimeoutMs: 300,
  batchFlushMs: 5,
  l1MaxBytes: 1024 * 1024,
  coherenceLeaseMs: 500,
};
const APP_PASSWORD = 'app-of-the-matrix';
const CONNECT_MS = 5000;
const REDIS_ARGS = [
  ...['--save', '', '--appendonly', 'yes', '--appendfsync', 'everysec'],
  ...['--user', 'app', 'on', `>${APP_PASSWORD}`, '~*', '&*', '+@all'],
];

/** Servers of one lane. */
export class Lane {
  /** @type {Map<string, PrivateServer>} */
  #servers = new Map();
  /** @type {GaleraCluster | undefined} */
  #galera;
  /** @type {RedisCluster | undefined} */
  #redisCluster;

  /** @param {'mariadb' | 'postgres' | 'redis'} kind */
  async server(kind) {
    let server = this.#servers.get(kind);
    if (server === undefined) {
      server = await startServer(kind, { args: kind === 'redis' ? REDIS_ARGS : [] });
      this.#servers.set(kind, server);
    }
    if (server.pid === undefined) await server.start();
    return server;
  }

  /** @param {Backend} backend @returns {Promise<Place>} */
  async place({ sql, redis }) {
    const directory = mkdtempSync(join(tmpdir(), 'sync-engine-fault-'));
    const galera = sql === 'galera' ? await this.#galeraCluster() : undefined;
    const redisCluster = redis === 'cluster' ? await this.#clusterOfRedis() : undefined;
    const onSql = sql === 'mariadb' || sql === 'postgres' ? await this.#sql(sql) : undefined;
    const onRedis = redis === true ? await this.#redis() : undefined;
    const ofCluster = redisCluster && {
      redisUrl: redisCluster.url(),
      redisPrefix: `f${randomBytes(5).toString('hex')}:`,
    };
    const database = galera && `f${randomBytes(5).toString('hex')}`;
    if (galera !== undefined) await createDatabase(/** @type {PrivateServer} */ (galera.nodes[0]), database);
    const galeraUrl = galera?.url(/** @type {string} */ (database));
    const file = `sqlite:${join(directory, 'archive.db')}`;
    const common = { ...SETTINGS, walPath: join(directory, 'log.db') };
    const ofRedis = onRedis && { redisPrefix: onRedis.target.prefix };
    return {
      directory,
      config: {
        ...common,
        sqlUrl: galeraUrl ?? onSql?.url ?? file,
        ...ofCluster,
        ...(onRedis && { ...ofRedis, redisUrl: onRedis.url }),
      },
      direct: {
        ...common,
        // Nothing is hurried when the answer counts.
        submitTimeoutMs: 20_000,
        sqlTimeoutMs: 20_000,
        sqlReadTimeoutMs: 10_000,
        redisTimeoutMs: 3000,
        sqlUrl: galeraUrl ?? onSql?.direct ?? file,
        ...ofCluster,
        ...(onRedis && { ...ofRedis, redisUrl: onRedis.direct }),
      },
      sql: onSql?.target,
      redis: onRedis?.target,
      galera,
      redisCluster,
      async remove() {
        onSql?.target.proxy.close();
        onRedis?.target.proxy.close();
        rmSync(directory, { recursive: true, force: true });
      },
    };
  }

  async stop() {
    const servers = [...this.#servers.values(), this.#galera, this.#redisCluster];
    await Promise.all(servers.map((server) => server?.stop()));
  }

  async #galeraCluster() {
    this.#galera ??= await new GaleraCluster().start();
    await this.#galera.settled();
    return this.#galera;
  }

  async #clusterOfRedis() {
    this.#redisCluster ??= await new RedisCluster().start();
    await this.#redisCluster.settled();
    return this.#redisCluster;
  }

  /** A database, and a user who is no administrator. @param {'mariadb' | 'postgres'} kind */
  async #sql(kind) {
    const server = await this.server(kind);
    const proxy = await new FaultyProxy(server.port).listen();
    const database = `f${randomBytes(5).toString('hex')}`;
    const open = () =>
      kind === 'mariadb' ? mariadbSession(server, database) : postgresSession(server, database);
    /** @param {string} text */
    const admin = async (text) => {
      const session = await open();
      try {
        return await session.run(text);
      } finally {
        await session.end();
      }
    };
    if (kind === 'mariadb') {
      const session = await mariadbSession(server, 'mysql');
      await session.run(`CREATE DATABASE ${database}`);
      await session.run(`CREATE USER IF NOT EXISTS app@'%' IDENTIFIED BY '${APP_PASSWORD}'`);
      await session.run(`GRANT ALL ON ${database}.* TO app@'%'`);
      await session.end();
    } else {
      const session = await postgresSession(server, 'postgres');
      const roles = await session.run("SELECT 1 AS there FROM pg_roles WHERE rolname = 'app'");
      if (roles.length === 0) await session.run(`CREATE ROLE app LOGIN PASSWORD '${APP_PASSWORD}'`);
      await session.run(`CREATE DATABASE ${database} OWNER app`);
      await session.end();
    }
    const scheme = kind === 'mariadb' ? 'mariadb' : 'postgres';
    /** @param {number} port */
    const url = (port) => `${scheme}://app:${APP_PASSWORD}@127.0.0.1:${port}/${database}`;
    /** @type {SqlTarget} */
    const target = { kind, database, server, proxy, admin, session: open };
    return { target, url: url(proxy.port), direct: url(server.port) };
  }

  async #redis() {
    const server = await this.server('redis');
    const proxy = await new FaultyProxy(server.port).listen();
    const prefix = `f${randomBytes(5).toString('hex')}:`;
    const session = async () => {
      const client = createClient({ url: server.url(), RESP: 2, socket: { reconnectStrategy: false } });
      client.on('error', () => {});
      await client.connect();
      return {
        /** @param {readonly string[]} command */
        run: (command) => client.sendCommand([...command]),
        end: async () => client.destroy(),
      };
    };
    /** @param {readonly string[]} command */
    const admin = async (command) => {
      const one = await session();
      try {
        return await one.run(command);
      } finally {
        await one.end();
      }
    };
    /** @param {number} port */
    const url = (port) => `redis://app:${APP_PASSWORD}@127.0.0.1:${port}`;
    return {
      target: { prefix, server, proxy, admin, session },
      url: url(proxy.port),
      direct: url(server.port),
    };
  }
}

/** @param {PrivateServer} server @param {string} database @returns {Promise<Session>} */
async function mariadbSession(server, database) {
  const connection = await createConnection({
    host: '127.0.0.1',
    port: server.port,
    user: 'sync',
    password: server.password,
    database,
    connectTimeout: CONNECT_MS,
  });
  connection.on('error', () => {});
  return {
    run: async (text) => /** @type {any[]} */ ((await connection.query(text))[0]),
    end: async () => connection.destroy(),
  };
}

/** @param {PrivateServer} server @param {string} database @returns {Promise<Session>} */
async function postgresSession(server, database) {
  const client = new pg.Client({
    connectionString: server.url(database),
    connectionTimeoutMillis: CONNECT_MS,
  });
  client.on('error', () => {});
  await client.connect();
  return { run: async (text) => (await client.query(text)).rows, end: async () => void (await client.end()) };
}
