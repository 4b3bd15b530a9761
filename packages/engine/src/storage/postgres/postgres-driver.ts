/**
 * PostgreSQL: connections, and the statements whose form is its own. Statements are named, and many values travel as one
 * array for each column, so that there is one statement for any number of rows.
 */
import { Socket } from 'node:net';
import type { Client, ClientBase, ClientConfig, Pool, PoolClient, QueryArrayConfig } from 'pg';
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
import { binaryArray } from './binary-array.js';

const DEFAULT_PORT = 5432;
/** Connections that are open at most: writers beside readers. */
const CONNECTIONS_MAX = 12;
const KEYS_MAX = 1000;
/** Of one statement. */
const STATEMENT_BYTES = 8 * 1024 * 1024;
/** A row is read as hex digits, and they have to fit into one string. */
const ROW_BYTES_MAX = 256 * 1024 * 1024;
const INT8 = 20;
/** Serialization failure, deadlock, lock not available. */
const CONFLICTS = new Set(['40001', '40P01', '55P03']);
const DUPLICATE = '23505';
/** Errors in data and violated constraints; an exception raised by a trigger. */
const REFUSALS = /^(22|23|P0001)/;
const ADVICE: readonly (readonly [RegExp, string])[] = [
  [/^28/, 'User or password is wrong, or pg_hba.conf does not let it in: correct sqlUrl.'],
  [/^3D000/, 'The database does not exist: create it, or correct sqlUrl.'],
  [/^42501/, 'The user lacks a right: grant SELECT, INSERT, UPDATE, DELETE and CREATE on the schema.'],
  [/^42P01/, 'A table is gone: restore a backup.'],
  [/^25006/, 'The server is read-only: it may be a standby.'],
  [/^53300/, 'The server has no connection left: raise max_connections.'],
  [/^53100/, "The server's disk is full: make room."],
];

const MIGRATIONS: readonly (readonly SchemaStep[])[] = [
  [
    `CREATE TABLE IF NOT EXISTS sync_items (
      id BYTEA PRIMARY KEY,
      version BIGINT NOT NULL,
      origin BYTEA NOT NULL,
      deleted BIGINT NOT NULL,
      content_hash BYTEA NOT NULL,
      leaf BYTEA NOT NULL,
      checksum BIGINT NOT NULL,
      content_type BYTEA NOT NULL,
      state BYTEA NOT NULL,
      home_instance_id BYTEA NOT NULL,
      trace_parent BYTEA NOT NULL,
      trace_state BYTEA NOT NULL,
      content BYTEA NOT NULL
    )`,
    // Content is compressed by callers, if at all.
    'ALTER TABLE sync_items ALTER COLUMN content SET STORAGE EXTERNAL',
    `CREATE INDEX IF NOT EXISTS sync_items_states ON sync_items (state, id)
      WHERE deleted = 0 AND state <> '\\x64656661756c74'`,
    'CREATE INDEX IF NOT EXISTS sync_items_tombstones ON sync_items (version) WHERE deleted = 1',
    `CREATE TABLE IF NOT EXISTS sync_paths (
      path BYTEA PRIMARY KEY,
      parent BYTEA NOT NULL,
      segment BYTEA NOT NULL,
      count BIGINT NOT NULL,
      leaves BIGINT NOT NULL,
      subtrees BIGINT NOT NULL,
      both_kinds BIGINT NOT NULL,
      sum BYTEA NOT NULL
    ) WITH (fillfactor = 70)`,
    'CREATE INDEX IF NOT EXISTS sync_paths_children ON sync_paths (parent, segment)',
    `CREATE TABLE IF NOT EXISTS sync_root (
      one BIGINT PRIMARY KEY,
      position BIGINT NOT NULL,
      chain BYTEA NOT NULL,
      changes BIGINT NOT NULL,
      high_version BIGINT NOT NULL,
      horizon BIGINT NOT NULL,
      checksum BIGINT NOT NULL,
      count BIGINT NOT NULL,
      leaves BIGINT NOT NULL,
      subtrees BIGINT NOT NULL,
      both_kinds BIGINT NOT NULL,
      sum BYTEA NOT NULL
    ) WITH (fillfactor = 10)`,
    `CREATE TABLE IF NOT EXISTS sync_changes (
      position BIGINT PRIMARY KEY,
      chain BYTEA NOT NULL,
      total BIGINT NOT NULL,
      newest BIGINT NOT NULL,
      changes BYTEA NOT NULL
    )`,
    `CREATE TABLE IF NOT EXISTS sync_logs (
      log_id BYTEA PRIMARY KEY,
      lower_bound BIGINT NOT NULL,
      seen_ms BIGINT NOT NULL
    )`,
    `CREATE TABLE IF NOT EXISTS sync_letters (
      id BYTEA PRIMARY KEY,
      record BYTEA NOT NULL,
      reason BYTEA NOT NULL,
      set_aside_ms BIGINT NOT NULL
    )`,
    'CREATE TABLE IF NOT EXISTS sync_meta (name BYTEA PRIMARY KEY, value BYTEA NOT NULL)',
    // Before version 16 nothing says whether a text is JSON without failing where it is not.
    `CREATE OR REPLACE FUNCTION sync_text(bytes BYTEA) RETURNS TEXT LANGUAGE plpgsql IMMUTABLE AS $$
      BEGIN RETURN convert_from(bytes, 'UTF8'); EXCEPTION WHEN others THEN RETURN NULL; END $$`,
    `CREATE OR REPLACE FUNCTION sync_json(bytes BYTEA) RETURNS JSON LANGUAGE plpgsql IMMUTABLE AS $$
      BEGIN RETURN convert_from(bytes, 'UTF8')::json; EXCEPTION WHEN others THEN RETURN NULL; END $$`,
    `CREATE OR REPLACE VIEW sync_items_json AS
      SELECT sync_text(id) AS id, sync_text(state) AS state, version, version / 2048 AS updated_at_ms,
             sync_json(content) AS content
        FROM sync_items WHERE deleted = 0 AND content_type = '\\x6a736f6e'`,
  ],
  // Life of the copy in Redis, 0 for none, -1 for the default.
  [{ table: 'sync_items', column: 'redis_ttl_ms', type: 'BIGINT NOT NULL DEFAULT -1' }],
];

export interface PostgresDriverConfig {
  readonly sqlTimeoutMs: number;
}

export class PostgresDriver implements SqlDriver {
  readonly place: string;
  readonly migrations = MIGRATIONS;
  readonly rowBytesMax = ROW_BYTES_MAX;
  readonly #address: ServerAddress;
  readonly #config: PostgresDriverConfig;
  readonly #scheduler: Scheduler;
  readonly #rota: HostRota;
  #pool: Pool | undefined;
  readonly #sockets = new Map<ClientBase, Socket>();

  /** @throws `CONFIG` for a URL that cannot be used. */
  constructor(url: string, config: PostgresDriverConfig, scheduler: Scheduler) {
    this.#address = addressOf(url, DEFAULT_PORT);
    this.place = this.#address.place;
    this.#rota = new HostRota(this.#address.hosts);
    this.#config = config;
    this.#scheduler = scheduler;
  }

  async connect(): Promise<void> {
    const { default: pg } = await loadDriver();
    await this.#rota.connect(
      (one) => this.#connectTo(one, pg),
      () => this.close(),
    );
  }

  async #connectTo({ host, port }: ServerHost, pg: typeof import('pg')): Promise<void> {
    const { hosts, user, password, database, tls } = this.#address;
    const { sqlTimeoutMs } = this.#config;
    const half = Math.max(1, Math.floor(sqlTimeoutMs / 2));
    const pool = new pg.Pool({
      Client: this.#clientOf(pg),
      host,
      port,
      user,
      password,
      database,
      max: CONNECTIONS_MAX,
      connectionTimeoutMillis: sqlTimeoutMs / hosts.length,
      application_name: 'sync-engine',
      keepAlive: true,
      // Statements are sent without waiting for the answers to those before.
      pipeline: true,
      // All below what the engine waits for, so that a writer that stands still lets go of its locks.
      lock_timeout: half,
      idle_in_transaction_session_timeout: half,
      statement_timeout: sqlTimeoutMs,
      types: { getTypeParser: (oid: number, format?: 'text' | 'binary') => parserOf(pg, oid, format) },
      ...(tls === undefined
        ? undefined
        : {
            ssl: { rejectUnauthorized: tls.verify, ...(tls.ca === undefined ? undefined : { ca: tls.ca }) },
          }),
    } as ConstructorParameters<typeof Pool>[0]);
    // A connection that breaks while it is idle is replaced; whoever asks next is told.
    pool.on('error', () => {});
    this.#pool = pool;
    await this.session('read', sqlTimeoutMs / hosts.length, async (session) => {
      const [row] = await session.run('SELECT CASE WHEN pg_is_in_recovery() THEN 1 ELSE 0 END');
      // With one server it is the writes that say so, and reads go on.
      if (hosts.length > 1 && row?.[0] === 1)
        throw Object.assign(new Error('it is a standby'), { code: '25006' });
    });
  }

  session<T>(kind: SessionKind, timeoutMs: number, work: (session: SqlSession) => Promise<T>): Promise<T> {
    return this.#within(timeoutMs, (client) => {
      if (kind === 'read') return work(new PostgresSession(client));
      return inTransaction(
        client,
        kind === 'snapshot'
          ? 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY'
          : 'BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE',
        work,
      );
    });
  }

  exclusively<T>(timeoutMs: number, work: (session: SqlSession) => Promise<T>): Promise<T> {
    return this.#within(timeoutMs, (client) =>
      inTransaction(client, 'BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE', async (session) => {
        await client.query("SELECT pg_advisory_xact_lock(hashtext('sync-engine'), 0)");
        return work(session);
      }),
    );
  }

  async columnsOf(session: SqlSession, table: string): Promise<string[]> {
    const rows = await session.run(
      "SELECT convert_to(column_name::text, 'UTF8') FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = convert_from(?, 'UTF8')",
      [Buffer.from(table)],
    );
    return rows.map((row) => String(row[0]));
  }

  async warnings(session: SqlSession): Promise<string[]> {
    const setting = async (name: string): Promise<string> => {
      const [row] = await session.run(`SELECT convert_to(current_setting('${name}'), 'UTF8')`);
      return String(row?.[0]);
    };
    const found: string[] = [];
    if ((await setting('fsync')) === 'off')
      found.push('SQL may lose everything when its machine fails: fsync is off. Set it to on.');
    const commit = await setting('synchronous_commit');
    if (commit === 'off')
      found.push(
        'SQL may lose what it has committed when its machine fails: synchronous_commit is off. Set it to on.',
      );
    if ((await setting('full_page_writes')) === 'off')
      found.push('SQL may tear a page when its machine fails: full_page_writes is off. Set it to on.');
    return found;
  }

  isConflict(error: unknown): boolean {
    const code = codeOf(error);
    if (CONFLICTS.has(code)) return true;
    const { constraint } = error as { constraint?: unknown };
    return code === DUPLICATE && typeof constraint === 'string' && /^sync_\w+_pkey$/.test(constraint);
  }

  isRefusalOfRow(error: unknown): boolean {
    return REFUSALS.test(codeOf(error));
  }

  adviceOn(error: unknown): string | undefined {
    const code = codeOf(error);
    return ADVICE.find(([codes]) => codes.test(code))?.[1];
  }

  async close(): Promise<void> {
    const pool = this.#pool;
    this.#pool = undefined;
    // Not by asking the server: it may stand still, and an open connection would keep the process alive.
    for (const socket of this.#sockets.values()) socket.destroy();
    this.#sockets.clear();
    pool?.end().catch(() => {});
  }

  /** Clients whose sockets we know: a pipelined one that is told to end would wait for its answers first. */
  #clientOf(pg: typeof import('pg')): typeof Client {
    const sockets = this.#sockets;
    const { password } = this.#address;
    return class extends pg.Client {
      constructor(config?: ClientConfig) {
        const socket = new Socket();
        // The pool hides the password from whoever copies its options.
        super({ ...config, password, stream: () => socket } as ClientConfig);
        sockets.set(this, socket);
        socket.on('close', () => sockets.delete(this));
      }
    };
  }

  #drop(client: PoolClient): void {
    this.#sockets.get(client)?.destroy();
    client.release(true);
  }

  /** Gives `work` a connection. One that is late is ended: the statement would go on. */
  async #within<T>(timeoutMs: number, work: (client: PoolClient) => Promise<T>): Promise<T> {
    if (this.#pool === undefined) throw new Error('it is not connected');
    let client: PoolClient | undefined;
    let expired = false;
    let fail: (error: Error) => void = () => {};
    const late = new Promise<never>((_resolve, reject) => {
      fail = reject;
    });
    const timer = this.#scheduler.after(timeoutMs, () => {
      expired = true;
      if (client !== undefined) this.#drop(client);
      fail(new Error(`no answer within ${timeoutMs} ms`));
    });
    const run = async (pool: Pool): Promise<T> => {
      const taken = await pool.connect();
      if (expired) {
        taken.release();
        throw new Error(`no answer within ${timeoutMs} ms`);
      }
      client = taken;
      let broken: unknown;
      const failed = (error: unknown): void => {
        broken = error;
      };
      taken.on('error', failed);
      try {
        return await work(taken);
      } catch (error) {
        if (codeOf(error) === '' || codeOf(error).startsWith('57') || codeOf(error).startsWith('08'))
          broken = error;
        throw error;
      } finally {
        taken.removeListener('error', failed);
        if (!expired) {
          if (broken === undefined) taken.release();
          else this.#drop(taken);
        }
      }
    };
    try {
      const running = run(this.#pool);
      running.catch(() => {});
      return await Promise.race([running, late]);
    } finally {
      timer.cancel();
    }
  }
}

async function inTransaction<T>(
  client: PoolClient,
  begin: string,
  work: (session: SqlSession) => Promise<T>,
): Promise<T> {
  const session = new PostgresSession(client);
  try {
    // Its answer comes with the first one of the session. Were it refused alone, what is sent with it would be kept:
    // locks that end at once, or a single statement whose failure is reported although it was done.
    session.send(begin);
    const result = await work(session);
    const committed = client.query('COMMIT');
    // A connection that breaks now fails what was sent before too, and that is waited for first.
    committed.catch(() => {});
    await session.settled();
    // The server ends a transaction of which a statement failed, and calls that a success.
    if ((await committed).command !== 'COMMIT') throw new Error('the transaction was rolled back');
    return result;
  } catch (error) {
    // Where that fails too, the connection is broken, and its end undoes the transaction.
    await client.query('ROLLBACK').catch(() => {});
    // What follows a failed statement fails because of it.
    throw session.failure ?? error;
  }
}

/** Texts with `?` become texts with `$n`, under a name by which a connection knows what it has prepared. */
const STATEMENTS = new Map<string, { readonly name: string; readonly text: string }>();

function statementOf(sql: string): { readonly name: string; readonly text: string } {
  let statement = STATEMENTS.get(sql);
  if (statement === undefined) {
    let at = 0;
    statement = { name: `sync${STATEMENTS.size}`, text: sql.replaceAll('?', () => `$${++at}`) };
    STATEMENTS.set(sql, statement);
  }
  return statement;
}

class PostgresSession implements SqlSession {
  readonly #client: PoolClient;
  /** What nobody has waited for yet. */
  #sent: Promise<unknown>[] = [];
  /** Of the first statement that failed. */
  failure: unknown;

  constructor(client: PoolClient) {
    this.#client = client;
  }

  run(sql: string, values: readonly Value[] = []): Promise<readonly Row[]> {
    return this.#answer(this.#query(sql, values));
  }

  async among(head: string, column: string, keys: readonly Buffer[], tail = ''): Promise<Row[]> {
    const sql = `${head} WHERE ${column} = ANY(?::bytea[]) ${tail}`;
    const portions = this.#portions(keys).map((some) => this.#query(sql, [some]));
    return (await this.#answer(Promise.all(portions))).flat();
  }

  insert(table: Table, rows: readonly Row[]): void {
    this.#write(table, rows, '');
  }

  replace(table: Table, rows: readonly Row[]): void {
    const [key, ...changing] = table.columns.map(({ name }) => name);
    const sets = changing.map((name) => `${name} = excluded.${name}`);
    this.#write(table, rows, ` ON CONFLICT (${key}) DO UPDATE SET ${sets.join(', ')}`);
  }

  remove(table: Table, keys: readonly Buffer[]): void {
    const sql = `DELETE FROM ${table.name} WHERE ${table.columns[0]?.name} = ANY(?::bytea[])`;
    for (const some of this.#portions(keys)) this.#later(this.#query(sql, [some]));
  }

  /** A statement of our own, whose answer is waited for with the next one. */
  send(sql: string): void {
    this.#later(this.#client.query(sql));
  }

  /** Waits for everything that was sent. */
  async settled(): Promise<void> {
    const sent = this.#sent;
    this.#sent = [];
    await Promise.all(sent);
  }

  #portions(keys: readonly Buffer[]): Buffer[] {
    const portions: Buffer[] = [];
    for (let from = 0; from < keys.length; from += KEYS_MAX)
      portions.push(binaryArray('bytes', keys.slice(from, from + KEYS_MAX)));
    return portions;
  }

  #write(table: Table, rows: readonly Row[], tail: string): void {
    const names = table.columns.map(({ name }) => name).join(', ');
    const arrays = table.columns.map(({ type }) => (type === 'bytes' ? '?::bytea[]' : '?::bigint[]'));
    const sql = `INSERT INTO ${table.name} (${names}) SELECT * FROM unnest(${arrays.join(', ')})${tail}`;
    for (const portion of portionsOf(rows, STATEMENT_BYTES)) {
      const columns = table.columns.map(({ type }, at) =>
        binaryArray(
          type,
          portion.map((row) => row[at] as Value),
        ),
      );
      this.#later(this.#query(sql, columns));
    }
  }

  #later(sent: Promise<unknown>): void {
    // Whoever waits next is told.
    sent.catch(() => {});
    this.#sent.push(sent);
  }

  /** The answer to a statement, where those before it succeeded too. */
  async #answer<T>(sent: Promise<T>): Promise<T> {
    this.#later(sent);
    await this.settled();
    return sent;
  }

  async #query(sql: string, values: readonly Value[]): Promise<Row[]> {
    const query: QueryArrayConfig = { ...statementOf(sql), values: values as Value[], rowMode: 'array' };
    try {
      return (await this.#client.query(query)).rows as Row[];
    } catch (error) {
      this.failure ??= error;
      throw error;
    }
  }
}

function parserOf(
  pg: typeof import('pg'),
  oid: number,
  format: 'text' | 'binary' | undefined,
): (text: string) => unknown {
  return oid === INT8 ? Number : (pg.types.getTypeParser(oid, format as 'text') as (text: string) => unknown);
}

function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : '';
}

async function loadDriver(): Promise<{ readonly default: typeof import('pg') }> {
  try {
    return (await import('pg')) as unknown as { readonly default: typeof import('pg') };
  } catch (cause) {
    throw new SyncEngineError(
      'CONFIG',
      'PostgreSQL needs the package pg, which could not be loaded. Install it: npm install pg.',
      { cause },
    );
  }
}
