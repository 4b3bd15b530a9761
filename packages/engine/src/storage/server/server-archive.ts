/**
 * The archive on a database server, which several engines may share. What it does is the same everywhere; how a server
 * is spoken to is its driver's business (`storage/mysql`, `storage/postgres`).
 */

import { messageOf, SyncEngineError } from '../../base/errors.js';
import { step } from '../../base/steps.js';
import { decodeEnvelope, encodeEnvelope, envelopeBytesMax } from '../../item/envelope.js';
import type { Revision } from '../../item/revision.js';
import { keyIdOf, LeafHasher } from '../../merkle/digest.js';
import type { Random, Scheduler } from '../../ports/ports.js';
import { retryDelayMs } from '../../resilience/retry.js';
import type {
  ApplyResult,
  ArchiveInfo,
  ArchiveOpenOptions,
  ArchiveStore,
  ChangeHead,
  ChangePage,
  ChildDigest,
  CollectRequest,
  CollectResult,
  PathDigest,
  RowPage,
  RowRange,
  ScrubPage,
  StoredLetter,
} from '../archive-store.js';
import {
  assertIdentity,
  checksumOfMeta,
  digestKeyOf,
  type Meta,
  type NewArchive,
  newMeta,
} from '../identity.js';
import { ArchiveQueries } from './archive-queries.js';
import { ArchiveTransactions, headOf, readRoot } from './archive-transactions.js';
import { sortedBytes } from './path-deltas.js';
import type { SessionKind, SqlDriver, SqlSession } from './sql-driver.js';
import { asNumber, asText, EMPTY_ROOT, ITEMS, LETTERS, META, ROOT, rootRow, TABLES } from './tables.js';

/** How a transaction is tried again that others were in the way of: it is short, and so are theirs. */
const CONFLICT_RETRY = { initialDelayMs: 5, maxDelayMs: 200, factor: 2, maxRetries: 12, jitter: 1 };

/** Bounds, read at each use: they may change while the engine runs. */
export interface ServerArchiveConfig {
  readonly sqlTimeoutMs: number;
  readonly sqlReadTimeoutMs: number;
}

export interface ServerArchivePorts {
  readonly scheduler: Scheduler;
  readonly random: Random;
}

type Operation = 'open' | 'read' | 'apply' | 'search' | 'ping';

export class ServerArchive implements ArchiveStore {
  readonly #driver: SqlDriver;
  readonly #config: ServerArchiveConfig;
  readonly #ports: ServerArchivePorts;
  readonly #fresh: NewArchive;
  #transactions: ArchiveTransactions | undefined;
  #queries: ArchiveQueries | undefined;

  /** @param fresh For the case that the archive is created. */
  constructor(driver: SqlDriver, config: ServerArchiveConfig, ports: ServerArchivePorts, fresh: NewArchive) {
    this.#driver = driver;
    this.#config = config;
    this.#ports = ports;
    this.#fresh = fresh;
  }

  async open(options: ArchiveOpenOptions): Promise<ArchiveInfo> {
    this.#transactions = undefined;
    this.#queries = undefined;
    return this.#guarded('open', async () => {
      await this.#driver.connect();
      const { sqlTimeoutMs } = this.#config;
      const meta =
        (await this.#driver.session('read', sqlTimeoutMs, (session) => this.#meta(session))) ??
        (await this.#create(options));
      const place = this.#driver.place;
      const key = digestKeyOf(meta, options, place);
      assertIdentity(meta, options, place);
      const hasher = key === undefined ? undefined : new LeafHasher(key);
      const info = await this.#driver.session('snapshot', sqlTimeoutMs, async (session) => {
        await this.#assertTables(session);
        const root = await readRoot(session);
        return {
          archiveId: meta.get('archive_id') as string,
          highVersion: root.highVersion,
          warnings: await this.#driver.warnings(session),
          head: headOf(root),
          horizon: root.horizon,
          keyId: key === undefined ? '' : keyIdOf(key),
        };
      });
      this.#transactions = new ArchiveTransactions(key);
      this.#queries = new ArchiveQueries(hasher, (id) => this.#damaged(id));
      return info;
    });
  }

  getMany(ids: readonly string[]): Promise<(Revision | SyncEngineError | undefined)[]> {
    if (ids.length === 0) return Promise.resolve([]);
    return this.#query('read', 'read', (queries, session) => queries.getMany(session, ids));
  }

  async apply(writes: readonly Revision[]): Promise<ApplyResult> {
    for (const write of writes) this.#assertFits(write);
    const pause = (): Promise<void> => new Promise((resolve) => this.#ports.scheduler.soon(resolve));
    const rows = await this.#opened(this.#transactions).prepare(writes, pause);
    const result = await this.#transaction((transactions, session) =>
      transactions.apply(session, writes, rows),
    );
    step('archive.apply.done');
    return result;
  }

  scan(range: RowRange, after: string | undefined, limit: number): Promise<RowPage> {
    return this.#query('search', 'snapshot', (queries, session) =>
      queries.scan(session, range, after, limit),
    );
  }

  count(range: RowRange, except: readonly string[]): Promise<number> {
    return this.#query('search', 'snapshot', (queries, session) => queries.count(session, range, except));
  }

  ids(after: string | undefined, limit: number): Promise<string[]> {
    return this.#query('search', 'read', (queries, session) => queries.ids(session, after, limit));
  }

  changesSince(from: ChangeHead, limit: number): Promise<ChangePage> {
    return this.#query('search', 'snapshot', (queries, session) =>
      queries.changesSince(session, from, limit),
    );
  }

  digests(paths: readonly (readonly string[])[]): Promise<(PathDigest | undefined)[]> {
    return this.#query('search', 'snapshot', (queries, session) => queries.digests(session, paths));
  }

  children(
    path: readonly string[],
    after: string | undefined,
    limit: number,
  ): Promise<{ readonly children: ChildDigest[]; readonly head: ChangeHead }> {
    return this.#query('search', 'snapshot', (queries, session) =>
      queries.children(session, path, after, limit),
    );
  }

  scrub(after: string | undefined, limit: number): Promise<ScrubPage> {
    return this.#query('search', 'read', (queries, session) => queries.scrub(session, after, limit));
  }

  verifyPath(path: readonly string[]): Promise<boolean> {
    return this.#query('search', 'snapshot', (queries, session) => queries.verifyPath(session, path));
  }

  async collect(request: CollectRequest): Promise<CollectResult> {
    const horizon = await this.#transaction((transactions, session) =>
      transactions.moveHorizon(session, request),
    );
    return this.#transaction((transactions, session) =>
      transactions.removeTombstones(session, horizon, request.limit),
    );
  }

  keepLetters(letters: readonly StoredLetter[]): Promise<void> {
    const rows = letters.map(({ revision, reason, setAsideAtMs }) => [
      Buffer.from(revision.id),
      packed(revision),
      Buffer.from(reason),
      setAsideAtMs,
    ]);
    return this.#transaction(async (_transactions, session) => session.replace(LETTERS, rows));
  }

  dropLetters(ids: readonly string[]): Promise<void> {
    return this.#transaction(async (_transactions, session) => {
      session.remove(LETTERS, sortedBytes(ids));
    });
  }

  letters(): Promise<StoredLetter[]> {
    return this.#query('read', 'read', async (_queries, session) => {
      const rows = await session.run(`SELECT record, reason, set_aside_ms FROM ${LETTERS.name} ORDER BY id`);
      return rows.map(([record, reason, setAsideAtMs]) => ({
        revision: decodeEnvelope(record as Buffer, 0),
        reason: asText(reason),
        setAsideAtMs: asNumber(setAsideAtMs),
      }));
    });
  }

  ping(): Promise<void> {
    return this.#query('ping', 'read', async (_queries, session) => {
      await session.run('SELECT 1');
    });
  }

  async close(): Promise<void> {
    this.#transactions = undefined;
    this.#queries = undefined;
    await this.#driver.close().catch(() => {});
  }

  /** Facts of an archive that is complete; `undefined` where there is none. @throws `SCHEMA`, `CORRUPTION`. */
  async #meta(session: SqlSession): Promise<Meta | undefined> {
    if ((await this.#driver.columnsOf(session, META.name)).length === 0) return undefined;
    const rows = await session.run(`SELECT name, value FROM ${META.name}`);
    if (rows.length === 0) return undefined;
    const facts = new Map(rows.map(([name, value]) => [asText(name), asText(value)]));
    // It comes last. Without it another engine is making the archive, row by row, or died doing so.
    if (!facts.has('schema')) {
      const items = await session.run(`SELECT version FROM ${ITEMS.name} LIMIT 1`);
      if (items.length === 0) return undefined;
    }
    const schema = Number(facts.get('schema'));
    facts.delete('schema');
    const known = this.#driver.migrations.length;
    if (!(schema <= known)) {
      throw new SyncEngineError(
        'SCHEMA',
        `The archive ${this.#driver.place} has schema ${schema}; this version knows ${known}. It was not touched. Upgrade this engine, or give it another archive.`,
        { context: { tier: 'sql', path: this.#driver.place } },
      );
    }
    if (facts.get('checksum') !== checksumOfMeta(facts)) {
      throw new SyncEngineError(
        'CORRUPTION',
        `The archive ${this.#driver.place} is damaged: its meta table does not fit its checksum. Restore a backup; what is not yet stored stays in the log.`,
        { context: { tier: 'sql', path: this.#driver.place } },
      );
    }
    return schema < known ? this.#migrate(schema, facts) : facts;
  }

  /** Engines that start at once on an empty database agree on who makes the tables. */
  #create(options: ArchiveOpenOptions): Promise<Meta> {
    const { place } = this.#driver;
    if (!options.mayCreate) {
      throw new SyncEngineError(
        'TIER_UNAVAILABLE',
        `The archive ${place} is missing; it has identity ${options.expectedId}. Bring it back: it is tried every second. Or start with an empty one, once, with allowNewArchive: true.`,
        { context: { tier: 'sql', path: place } },
      );
    }
    return this.#driver.exclusively(this.#config.sqlTimeoutMs, async (session) => {
      const made = await this.#meta(session);
      if (made !== undefined) return made;
      await this.#changeSchema(session, 0);
      session.replace(ROOT, [rootRow(EMPTY_ROOT)]);
      const meta = newMeta(options, this.#fresh);
      const facts = [...meta, ['schema', String(this.#driver.migrations.length)]];
      // Last: with it the archive is there.
      session.replace(
        META,
        facts.map(([name, value]) => [Buffer.from(name as string), Buffer.from(value as string)]),
      );
      step('start.archive-created');
      return meta;
    });
  }

  #migrate(from: number, facts: Meta): Promise<Meta> {
    return this.#driver.exclusively(this.#config.sqlTimeoutMs, async (session) => {
      await this.#changeSchema(session, from);
      const schema = String(this.#driver.migrations.length);
      session.replace(META, [[Buffer.from('schema'), Buffer.from(schema)]]);
      return facts;
    });
  }

  /** Whatever of it an engine that died had done already. */
  async #changeSchema(session: SqlSession, from: number): Promise<void> {
    for (const change of this.#driver.migrations.slice(from).flat()) {
      if (typeof change === 'string') await session.run(change);
      else {
        const { table, column, type } = change;
        const there = await this.#driver.columnsOf(session, table);
        if (!there.includes(column)) await session.run(`ALTER TABLE ${table} ADD COLUMN ${column} ${type}`);
      }
    }
  }

  /** @throws `SCHEMA` where somebody changed the tables. */
  async #assertTables(session: SqlSession): Promise<void> {
    const missing: string[] = [];
    for (const table of TABLES) {
      const columns = new Set(await this.#driver.columnsOf(session, table.name));
      for (const { name } of table.columns) if (!columns.has(name)) missing.push(`${table.name}.${name}`);
    }
    if (missing.length === 0) return;
    throw new SyncEngineError(
      'SCHEMA',
      `The archive ${this.#driver.place} lacks ${missing.join(', ')}. Somebody changed its tables: bring the columns back, or restore a backup.`,
      { context: { tier: 'sql', path: this.#driver.place } },
    );
  }

  /** A row that no statement can hold would take the connection with it. */
  #assertFits(write: Revision): void {
    const bytes = envelopeBytesMax(write);
    if (bytes <= this.#driver.rowBytesMax) return;
    const cause = new Error(
      `it takes ${bytes} bytes, and the server takes statements with ${this.#driver.rowBytesMax} at most; raise max_allowed_packet`,
    );
    throw this.#rejected(cause);
  }

  async #transaction<T>(
    work: (transactions: ArchiveTransactions, session: SqlSession) => Promise<T>,
  ): Promise<T> {
    return this.#guarded('apply', async () => {
      for (let attempt = 0; ; attempt++) {
        const transactions = this.#opened(this.#transactions);
        try {
          return await this.#driver.session('write', this.#config.sqlTimeoutMs, (session) =>
            work(transactions, session),
          );
        } catch (error) {
          if (!this.#driver.isConflict(error) || attempt >= CONFLICT_RETRY.maxRetries) throw error;
          const wait = retryDelayMs(CONFLICT_RETRY, attempt, this.#ports.random.number());
          await new Promise<void>((resolve) => this.#ports.scheduler.after(wait, resolve));
        }
      }
    });
  }

  #query<T>(
    operation: Operation,
    kind: SessionKind,
    work: (queries: ArchiveQueries, session: SqlSession) => Promise<T>,
  ): Promise<T> {
    const { sqlTimeoutMs, sqlReadTimeoutMs } = this.#config;
    return this.#guarded(operation, async () => {
      const queries = this.#opened(this.#queries);
      const timeoutMs = operation === 'search' ? sqlTimeoutMs : sqlReadTimeoutMs;
      return this.#driver.session(kind, timeoutMs, (session) => work(queries, session));
    });
  }

  #opened<T>(part: T | undefined): T {
    if (part !== undefined) return part;
    throw new SyncEngineError('TIER_UNAVAILABLE', `The archive ${this.#driver.place} is not open.`, {
      context: { tier: 'sql', path: this.#driver.place },
    });
  }

  #damaged(id: string): SyncEngineError {
    return new SyncEngineError(
      'CORRUPTION',
      'The row of this id in SQL does not fit its checksum; it was not served. Restore the archive from a backup, or submit or delete the id to replace the row.',
      { context: { tier: 'sql', id, path: this.#driver.place } },
    );
  }

  #rejected(cause: unknown): SyncEngineError {
    return new SyncEngineError(
      'REJECTED',
      `The archive ${this.#driver.place} refuses a row: ${messageOf(cause)}.`,
      { context: { tier: 'sql', path: this.#driver.place }, cause },
    );
  }

  /** Runs `work`; what the server and its driver say gets a code. */
  async #guarded<T>(operation: Operation, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof SyncEngineError) throw error;
      if (operation === 'apply' && this.#driver.isRefusalOfRow(error)) throw this.#rejected(error);
      const advice = this.#driver.adviceOn(error);
      throw new SyncEngineError(
        'TIER_UNAVAILABLE',
        `The archive ${this.#driver.place} failed to ${operation}: ${messageOf(error)}.${advice === undefined ? '' : ` ${advice}`}`,
        {
          outcome: operation === 'apply' ? 'indeterminate' : 'not-applied',
          context: { tier: 'sql', path: this.#driver.place, operation },
          cause: error,
        },
      );
    }
  }
}

function packed(revision: Revision): Buffer {
  const bytes = Buffer.allocUnsafe(envelopeBytesMax(revision));
  return bytes.subarray(0, encodeEnvelope(revision, bytes, 0, true));
}
