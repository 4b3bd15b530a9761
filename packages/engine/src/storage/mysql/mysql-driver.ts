/**
 * MariaDB and MySQL: connections, and the statements whose form is theirs. Statements are prepared, and the number of
 * their parameters is one of a few, so that a connection prepares each once.
 */
import type { Pool, PoolConnection } from 'mysql2';
import { SyncEngineError } from '../../base/errors.js';
import type { Scheduler } from '../../ports/ports.js';
import { HostRota, type ServerHost } from '../host-rota.js';
import { portionsOf } from '../server/portions.js';
import type {
  Row,
  SchemaStep,
  SessionKind,
  SqlDriver,
  SqlSession,
  Table,
  Value,
} from '../server/sql-driver.js';
import { addressOf, type ServerAddress } from '../server/url.js';

const DEFAULT_PORT = 3306;
/** Connections that are open at most: writers beside readers. */
const CONNECTIONS_MAX = 12;
/** Parameters of a list are filled up to one of these. */
const LIST_SIZES = [1, 4, 16, 64, 256, 1000] as const;
/** Rows of one statement. */
const ROW_SIZES = [1000, 256, 64, 16, 4, 1] as const;
/** Room for everything of a statement that is not a row. */
const STATEMENT_BYTES = 64 * 1024;
const CONFLICTS = new Set([1205, 1213, 1020]);
const DUPLICATE = 1062;
/** `wsrep_local_state` of a node that has everything. */
const SYNCED = '4';
/** Too long, out of range, not of the type, refused by a check, a trigger or a foreign key. */
const REFUSALS = new Set([
  1048, 1062, 1118, 1216, 1217, 1264, 1265, 1292, 1364, 1366, 1406, 1451, 1452, 1644, 1690, 3819, 4025,
]);
const ADVICE: Readonly<Record<number, string>> = {
  1040: 'The server has no connection left: raise max_connections.',
  1044: 'The user may not use this database: grant it.',
  1045: 'User or password is wrong: correct sqlUrl.',
  1049: 'The database does not exist: create it, or correct sqlUrl.',
  1142: 'The user lacks a right: grant SELECT, INSERT, UPDATE, DELETE, CREATE, INDEX and CREATE VIEW.',
  1146: 'A table is gone: restore a backup.',
  1290: 'The server is read-only: it may be a replica.',
  1836: 'The server is read-only: it may be a replica.',
  1047: 'The node is not part of a cluster that may write: it is tried again.',
};

const MIGRATIONS: readonly (readonly SchemaStep[])[] = [
  [
    `CREATE TABLE IF NOT EXISTS sync_items (
      id VARBINARY(1024) NOT NULL,
      version BIGINT NOT NULL,
      origin BINARY(16) NOT NULL,
      deleted TINYINT NOT NULL,
      content_hash BINARY(32) NOT NULL,
      leaf VARBINARY(32) NOT NULL,
      checksum BIGINT NOT NULL,
      content_type VARBINARY(16) NOT NULL,
      state VARBINARY(64) NOT NULL,
      home_instance_id VARBINARY(255) NOT NULL,
      trace_parent VARBINARY(1024) NOT NULL,
      trace_state VARBINARY(1024) NOT NULL,
      content LONGBLOB NOT NULL,
      PRIMARY KEY (id),
      KEY sync_items_states (state),
      KEY sync_items_tombstones (deleted, version)
    ) ENGINE = InnoDB ROW_FORMAT = DYNAMIC`,
    `CREATE TABLE IF NOT EXISTS sync_paths (
      path VARBINARY(1025) NOT NULL,
      parent VARBINARY(1024) NOT NULL,
      segment VARBINARY(1024) NOT NULL,
      count BIGINT NOT NULL,
      leaves BIGINT NOT NULL,
      subtrees BIGINT NOT NULL,
      both_kinds BIGINT NOT NULL,
      sum BINARY(32) NOT NULL,
      PRIMARY KEY (path),
      KEY sync_paths_children (parent, segment)
    ) ENGINE = InnoDB ROW_FORMAT = DYNAMIC`,
    `CREATE TABLE IF NOT EXISTS sync_root (
      one TINYINT NOT NULL,
      position BIGINT NOT NULL,
      chain BINARY(32) NOT NULL,
      changes BIGINT NOT NULL,
      high_version BIGINT NOT NULL,
      horizon BIGINT NOT NULL,
      checksum BIGINT NOT NULL,
      count BIGINT NOT NULL,
      leaves BIGINT NOT NULL,
      subtrees BIGINT NOT NULL,
      both_kinds BIGINT NOT NULL,
      sum BINARY(32) NOT NULL,
      PRIMARY KEY (one)
    ) ENGINE = InnoDB`,
    `CREATE TABLE IF NOT EXISTS sync_changes (
      position BIGINT NOT NULL,
      chain BINARY(32) NOT NULL,
      total BIGINT NOT NULL,
      newest BIGINT NOT NULL,
      changes LONGBLOB NOT NULL,
      PRIMARY KEY (position)
    ) ENGINE = InnoDB`,
    `CREATE TABLE IF NOT EXISTS sync_logs (
      log_id VARBINARY(64) NOT NULL,
      lower_bound BIGINT NOT NULL,
      seen_ms BIGINT NOT NULL,
      PRIMARY KEY (log_id)
    ) ENGINE = InnoDB`,
    `CREATE TABLE IF NOT EXISTS sync_letters (
      id VARBINARY(1024) NOT NULL,
      record LONGBLOB NOT NULL,
      reason BLOB NOT NULL,
      set_aside_ms BIGINT NOT NULL,
      PRIMARY KEY (id)
    ) ENGINE = InnoDB ROW_FORMAT = DYNAMIC`,
    `CREATE TABLE IF NOT EXISTS sync_meta (
      name VARBINARY(64) NOT NULL,
      value VARBINARY(1024) NOT NULL,
      PRIMARY KEY (name)
    ) ENGINE = InnoDB`,
    `CREATE OR REPLACE VIEW sync_items_json AS
      SELECT CONVERT(id USING utf8mb4) AS id, CONVERT(state USING utf8mb4) AS state, version,
             version DIV 2048 AS updated_at_ms,
             IF(JSON_VALID(CONVERT(content USING utf8mb4)), CONVERT(content USING utf8mb4), NULL) AS content
        FROM sync_items WHERE deleted = 0 AND content_type = 'json'`,
  ],
  // Life of the copy in Redis, 0 for none, -1 for the default.
  [{ table: 'sync_items', column: 'redis_ttl_ms', type: 'BIGINT NOT NULL DEFAULT -1' }],
];

export interface MysqlDriverConfig {
  readonly sqlTimeoutMs: number;
}

export class MysqlDriver implements SqlDriver {
  readonly place: string;
  readonly migrations = MIGRATIONS;
  readonly #address: ServerAddress;
  readonly #config: MysqlDriverConfig;
  readonly #scheduler: Scheduler;
  readonly #rota: HostRota;
  #pool: Pool | undefined;
  #isMaria = false;
  #packetBytes = 16 * 1024 * 1024;
  readonly #connections = new Set<PoolConnection>();
  /** Connections whose session was set up. */
  #ready = new WeakSet<PoolConnection>();

  /** @throws `CONFIG` for a URL that cannot be used. */
  constructor(url: string, config: MysqlDriverConfig, scheduler: Scheduler) {
    this.#address = addressOf(url, DEFAULT_PORT);
    this.place = this.#address.place;
    this.#rota = new HostRota(this.#address.hosts);
    this.#config = config;
    this.#scheduler = scheduler;
  }

  get rowBytesMax(): number {
    return this.#packetBytes - STATEMENT_BYTES;
  }

  async connect(): Promise<void> {
    const { createPool } = await loadDriver();
    await this.#rota.connect(
      (one) => this.#connectTo(one, createPool),
      () => this.close(),
    );
  }

  async #connectTo(
    { host, port }: ServerHost,
    createPool: typeof import('mysql2').createPool,
  ): Promise<void> {
    const { hosts, user, password, database, tls } = this.#address;
    this.#pool = createPool({
      host,
      port,
      user,
      password,
      database,
      connectionLimit: CONNECTIONS_MAX,
      connectTimeout: this.#config.sqlTimeoutMs / hosts.length,
      charset: 'utf8mb4',
      supportBigNumbers: false,
      ...(tls === undefined
        ? undefined
        : {
            ssl: { rejectUnauthorized: tls.verify, ...(tls.ca === undefined ? undefined : { ca: tls.ca }) },
          }),
    });
    this.#pool.on('connection', (connection) => {
      this.#connections.add(connection);
      connection.on('end', () => this.#connections.delete(connection));
    });
    await this.session('read', this.#config.sqlTimeoutMs / hosts.length, async (session) => {
      const [row] = await session.run('SELECT @@max_allowed_packet, @@read_only');
      // With one server it is the writes that say so, and reads go on.
      if (hosts.length > 1 && Number(row?.[1]) === 1) throw refusedBy(1290, 'it is read-only');
      this.#packetBytes = Number(row?.[0]);
    });
  }

  async session<T>(
    kind: SessionKind,
    timeoutMs: number,
    work: (session: SqlSession) => Promise<T>,
  ): Promise<T> {
    return this.#within(timeoutMs, async (connection) => {
      const session = new MysqlSession(connection, this.#packetBytes - STATEMENT_BYTES);
      if (kind === 'read') return work(session);
      if (kind === 'snapshot') await ask(connection, 'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
      await ask(
        connection,
        kind === 'snapshot'
          ? 'START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY'
          : 'START TRANSACTION READ WRITE',
      );
      try {
        const result = await work(session);
        await session.settled();
        await ask(connection, 'COMMIT');
        return result;
      } catch (error) {
        await ask(connection, 'ROLLBACK').catch(() => connection.destroy());
        throw error;
      }
    });
  }

  exclusively<T>(timeoutMs: number, work: (session: SqlSession) => Promise<T>): Promise<T> {
    return this.#within(timeoutMs, async (connection) => {
      const session = new MysqlSession(connection, this.#packetBytes - STATEMENT_BYTES);
      const seconds = Math.max(1, Math.floor(timeoutMs / 1000) - 1);
      const name = "CONCAT('sync-engine.', LEFT(SHA2(DATABASE(), 256), 32))";
      const [row] = await session.run(`SELECT GET_LOCK(${name}, ${seconds})`);
      if (row?.[0] !== 1) throw new Error('another engine is making the tables');
      try {
        const result = await work(session);
        await session.settled();
        return result;
      } finally {
        await session.run(`SELECT RELEASE_LOCK(${name})`);
      }
    });
  }

  async columnsOf(session: SqlSession, table: string): Promise<string[]> {
    const rows = await session.run(
      'SELECT CAST(column_name AS BINARY) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ?',
      [Buffer.from(table)],
    );
    return rows.map((row) => String(row[0]));
  }

  async warnings(session: SqlSession): Promise<string[]> {
    const found: string[] = [];
    const [settings] = await session.run(
      'SELECT @@innodb_flush_log_at_trx_commit, @@innodb_doublewrite, @@log_bin, @@sync_binlog',
    );
    const [flush, doublewrite, binlog, syncBinlog] = settings ?? [];
    if (Number(flush) !== 1)
      found.push(
        `SQL may lose what it has committed when its machine fails: innodb_flush_log_at_trx_commit is ${flush}. Set it to 1.`,
      );
    if (['0', 'OFF'].includes(String(doublewrite)))
      found.push('SQL may tear a page when its machine fails: innodb_doublewrite is off. Set it to 1.');
    if (Number(binlog) === 1 && Number(syncBinlog) !== 1)
      found.push(
        `SQL may lose its binary log when its machine fails: sync_binlog is ${syncBinlog}. Set it to 1, or replicas and restored backups may lack what was committed.`,
      );
    return found;
  }

  isConflict(error: unknown): boolean {
    const errno = errnoOf(error);
    if (errno === undefined) return false;
    if (CONFLICTS.has(errno)) return true;
    return errno === DUPLICATE && /for key '(\w+\.)?PRIMARY'/.test((error as Error).message);
  }

  isRefusalOfRow(error: unknown): boolean {
    const errno = errnoOf(error);
    return errno !== undefined && REFUSALS.has(errno);
  }

  adviceOn(error: unknown): string | undefined {
    return ADVICE[errnoOf(error) ?? 0];
  }

  async close(): Promise<void> {
    const pool = this.#pool;
    this.#pool = undefined;
    this.#ready = new WeakSet();
    if (pool === undefined) return;
    // Not by asking the server: it may stand still, and an open connection would keep the process alive.
    for (const connection of this.#connections) connection.destroy();
    this.#connections.clear();
    pool.end(() => {});
  }

  /** Gives `work` a connection. One that is late is ended: the statement would go on. */
  async #within<T>(timeoutMs: number, work: (connection: PoolConnection) => Promise<T>): Promise<T> {
    let connection: PoolConnection | undefined;
    let expired = false;
    let fail: (error: Error) => void = () => {};
    const late = new Promise<never>((_resolve, reject) => {
      fail = reject;
    });
    const timer = this.#scheduler.after(timeoutMs, () => {
      expired = true;
      connection?.destroy();
      fail(new Error(`no answer within ${timeoutMs} ms`));
    });
    const run = async (): Promise<T> => {
      connection = await this.#acquire();
      if (expired) {
        connection.release();
        throw new Error(`no answer within ${timeoutMs} ms`);
      }
      // A connection that breaks while nothing is asked says so by an event; the next question says it too.
      connection.on('error', ignore);
      try {
        if (!this.#ready.has(connection)) await this.#prepare(connection);
        return await work(connection);
      } catch (error) {
        if (isFatal(error)) connection.destroy();
        throw error;
      } finally {
        connection.removeListener('error', ignore);
        if (!expired) connection.release();
      }
    };
    try {
      const running = run();
      running.catch(() => {});
      return await Promise.race([running, late]);
    } finally {
      timer.cancel();
    }
  }

  #acquire(): Promise<PoolConnection> {
    return new Promise((resolve, reject) => {
      if (this.#pool === undefined) {
        reject(new Error('it is not connected'));
        return;
      }
      this.#pool.getConnection((error, connection) => {
        if (error) reject(error);
        else resolve(connection);
      });
    });
  }

  async #prepare(connection: PoolConnection): Promise<void> {
    const [[version]] = (await ask(connection, 'SELECT VERSION()')) as unknown as [[string]];
    this.#isMaria = /mariadb/i.test(version);
    const galera = await isGalera(connection);
    // All below what the engine waits for, so that a writer that stands still lets go of its locks.
    const seconds = Math.max(1, Math.floor(this.#config.sqlTimeoutMs / 2000));
    const settings = [
      "sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
      `innodb_lock_wait_timeout = ${seconds}`,
      'autocommit = 1',
      ...(this.#isMaria
        ? [`idle_transaction_timeout = ${seconds}`, `max_statement_time = ${seconds * 2}`]
        : []),
      // A read sees what any node had committed before it, also on the node that took over.
      ...(galera ? ['wsrep_sync_wait = 1'] : []),
    ];
    await ask(connection, `SET SESSION ${settings.join(', ')}`);
    await ask(connection, 'SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED');
    this.#ready.add(connection);
  }
}

/** Whether this is a node of a Galera cluster. @throws where it is, and cannot serve now. */
async function isGalera(connection: PoolConnection): Promise<boolean> {
  // Also a server that could be a node, and is none, has the status of a node without a cluster.
  const on = await named(connection, "SHOW GLOBAL VARIABLES WHERE Variable_name = 'wsrep_on'");
  if (on.get('wsrep_on') !== 'ON') return false;
  const names = ['wsrep_cluster_status', 'wsrep_ready', 'wsrep_local_state'];
  const found = await named(
    connection,
    `SHOW GLOBAL STATUS WHERE Variable_name IN ('${names.join("', '")}')`,
  );
  const [cluster, ready, state] = names.map((name) => found.get(name));
  if (cluster !== 'Primary' || ready !== 'ON' || state !== SYNCED)
    throw refusedBy(1047, names.map((name) => `${name} is ${found.get(name)}`).join(', '));
  return true;
}

async function named(connection: PoolConnection, sql: string): Promise<Map<string, string>> {
  const rows = (await ask(connection, sql)) as unknown as readonly (readonly [unknown, unknown])[];
  return new Map(rows.map(([name, value]) => [String(name), String(value)]));
}

/** An error as the server would have sent it. */
function refusedBy(errno: number, message: string): Error {
  return Object.assign(new Error(message), { errno });
}

class MysqlSession implements SqlSession {
  readonly #connection: PoolConnection;
  readonly #bytesMax: number;
  /**
   * The statement that was called last. The next one is sent when it has succeeded: a deadlock ends the transaction, and
   * what this server is sent after it is kept for good.
   */
  #last: Promise<unknown> = Promise.resolve();

  constructor(connection: PoolConnection, bytesMax: number) {
    this.#connection = connection;
    this.#bytesMax = bytesMax;
  }

  run(sql: string, values: readonly Value[] = []): Promise<readonly Row[]> {
    return this.#next(() => execute(this.#connection, sql, values));
  }

  async among(head: string, column: string, keys: readonly Buffer[], tail = ''): Promise<Row[]> {
    const portions = listsOf(keys).map((keysOf) =>
      this.run(`${head} WHERE ${column} IN (${marks(keysOf.length)}) ${tail}`, keysOf),
    );
    return (await Promise.all(portions)).flat();
  }

  insert(table: Table, rows: readonly Row[]): void {
    this.#write(table, rows, '');
  }

  replace(table: Table, rows: readonly Row[]): void {
    const [, ...changing] = table.columns;
    const sets = changing.map(({ name }) => `${name} = VALUES(${name})`);
    this.#write(table, rows, ` ON DUPLICATE KEY UPDATE ${sets.join(', ')}`);
  }

  remove(table: Table, keys: readonly Buffer[]): void {
    for (const some of listsOf(keys)) {
      const sql = `DELETE FROM ${table.name} WHERE ${table.columns[0]?.name} IN (${marks(some.length)})`;
      void this.run(sql, some);
    }
  }

  /** Waits for everything that was called. */
  async settled(): Promise<void> {
    await this.#last;
  }

  #write(table: Table, rows: readonly Row[], tail: string): void {
    const names = table.columns.map(({ name }) => name).join(', ');
    const one = `(${marks(table.columns.length)})`;
    for (const portion of portionsOf(rows, this.#bytesMax)) {
      for (let from = 0; from < portion.length; ) {
        const size = ROW_SIZES.find((count) => count <= portion.length - from) as number;
        const sql = `INSERT INTO ${table.name} (${names}) VALUES ${new Array(size).fill(one).join(', ')}${tail}`;
        void this.run(sql, portion.slice(from, from + size).flat());
        from += size;
      }
    }
  }

  #next<T>(run: () => Promise<T>): Promise<T> {
    const next = this.#last.then(run);
    // Whoever waits for it, or for what follows, is told.
    next.catch(ignore);
    this.#last = next;
    return next;
  }
}

/** Keys in lists of the sizes that are prepared. The last key stands there again and again: it is found once. */
function listsOf(keys: readonly Buffer[]): Buffer[][] {
  const lists: Buffer[][] = [];
  const largest = LIST_SIZES.at(-1) as number;
  for (let from = 0; from < keys.length; from += largest) {
    const some = keys.slice(from, from + largest);
    const size = LIST_SIZES.find((one) => one >= some.length) as number;
    lists.push([...some, ...new Array<Buffer>(size - some.length).fill(some.at(-1) as Buffer)]);
  }
  return lists;
}

function marks(count: number): string {
  return new Array(count).fill('?').join(', ');
}

function execute(connection: PoolConnection, sql: string, values: readonly Value[]): Promise<readonly Row[]> {
  return new Promise((resolve, reject) => {
    connection.execute({ sql, values: values as Value[], rowsAsArray: true }, (error, rows) => {
      if (error) reject(error);
      else resolve(Array.isArray(rows) ? (rows as unknown as Row[]) : []);
    });
  });
}

/** A statement of our own, without parameters. */
function ask(connection: PoolConnection, sql: string): Promise<readonly Row[]> {
  return new Promise((resolve, reject) => {
    connection.query({ sql, rowsAsArray: true }, (error, rows) => {
      if (error) reject(error);
      else resolve(Array.isArray(rows) ? (rows as unknown as Row[]) : []);
    });
  });
}

const ignore = (): void => {};

function errnoOf(error: unknown): number | undefined {
  const errno = (error as { errno?: unknown } | null)?.errno;
  return typeof errno === 'number' && errno > 0 ? errno : undefined;
}

function isFatal(error: unknown): boolean {
  return (error as { fatal?: unknown } | null)?.fatal === true;
}

async function loadDriver(): Promise<typeof import('mysql2')> {
  try {
    return await import('mysql2');
  } catch (cause) {
    throw new SyncEngineError(
      'CONFIG',
      'MySQL and MariaDB need the package mysql2, which could not be loaded. Install it: npm install mysql2.',
      { cause },
    );
  }
}
