/**
 * The configuration: one plain object, checked as a whole. Every mistake is listed at once, an unknown key is
 * refused with the nearest known one.
 */
import * as v from 'valibot';
import { SyncEngineError } from '../base/errors.js';

import { nearest } from './nearest.js';
import type { AckLevel } from './submit-options.js';

/** What an engine is made with. Every key is optional; an unknown one is refused, naming the nearest known. */
export interface SyncEngineConfig {
  /**
   * `sqlite:path/of/file.db`, or `mariadb://`, `mysql://`, `postgres://` with `user:password@host:port/database`, and with
   * `?sslmode=verify-full&sslca=path` for TLS. Several nodes of one cluster: `host:port,host:port`. Without it the engine
   * is a cache: what memory has no room for is gone.
   */
  readonly sqlUrl?: string;
  /**
   * `redis://user:password@host:port/0`, or `rediss://` for TLS, with `?sslca=path`. Without it there is no cache between
   * memory and SQL.
   */
  readonly redisUrl?: string;
  /** Before every key in Redis. Default none. */
  readonly redisPrefix?: string;
  /** Bound of one answer of Redis. Default 2,000. */
  readonly redisTimeoutMs?: number;
  /** Make room in Redis before its `maxmemory` is reached. Default true. */
  readonly redisEvictionEnabled?: boolean;
  /** Share of `maxmemory` at which copies begin to go … Default 0.75. */
  readonly redisEvictionStart?: number;
  /** … and at which they stop. Default 0.6. */
  readonly redisEvictionTarget?: number;
  /** File of the write-ahead log. Without it `wal` acknowledgements cannot be asked for. */
  readonly walPath?: string;
  /** `always`: every write is logged. `outage`: only what SQL could not take. Default `always`. */
  readonly walMode?: 'always' | 'outage';
  /** Default acknowledgement; `wal` with a log, else `memory`. */
  readonly ack?: AckLevel;
  /** Budget of memory, bytes. Default 256 MiB. */
  readonly l1MaxBytes?: number;
  /** Largest content of one item, bytes. Default 16 MiB − 64 KiB, which is also the most; at most a quarter of `l1MaxBytes`. */
  readonly maxPayloadBytes?: number;
  /** Share of memory or log, filled with what SQL has not taken, at which pressure is announced. Default 0.7. */
  readonly backpressureWarn?: number;
  /** … and at which writes are refused; halfway between, writers are held until there is room. Default 0.9. */
  readonly backpressureCritical?: number;
  /** Bound of one submit or delete, from call to answer. Default 5,000. */
  readonly submitTimeoutMs?: number;
  /** A batch leaves for SQL at this age … Default 100. */
  readonly batchFlushMs?: number;
  /** … or this many items … Default 1,000. */
  readonly batchFlushCount?: number;
  /** … or this many bytes. Default 1 MiB, at most a quarter of `l1MaxBytes`. */
  readonly batchFlushBytes?: number;
  /** Most records that wait in the log. Default 2,000,000. */
  readonly walMaxItems?: number;
  /** Most bytes that wait in the log. Default 1 GiB. */
  readonly walMaxBytes?: number;
  /** Items of one batch while a backlog is drained. Default 1,000. */
  readonly walDrainBatchSize?: number;
  /** Bound of one flush transaction and of one connection attempt. Default 10,000. */
  readonly sqlTimeoutMs?: number;
  /** Bound of one SQL read. Default 2,000. */
  readonly sqlReadTimeoutMs?: number;
  /** Flush transactions under way at once on a server. A SQLite file takes one after the other. Default 4. */
  readonly sqlWriteConcurrency?: number;
  /** Keep Merkle digests in the archive. Fixed when the archive is created. Default true. */
  readonly merkleEnabled?: boolean;
  /**
   * Key of the digests, 64 hex digits; the same on every site that compares. A secret. Fixed when the archive is
   * created. Default: random, kept in the archive.
   */
  readonly clusterKey?: string;
  /**
   * Where several engines share an archive: how old what an engine knows of the others' writes may be before what it
   * holds counts as stale. Default 1,000.
   */
  readonly coherenceLeaseMs?: number;
  /** How long SQL remembers a delete. Default 7 days. */
  readonly tombstoneRetentionMs?: number;
  /** How long a log that does not come back holds up the collection of tombstones. Default 30 days. */
  readonly peerExpiryMs?: number;
  /** Ids read at a time while the filter is built from SQL. Default 10,000. */
  readonly filterWarmupBatchSize?: number;
  /** The filter is saved beside the log this often, if it changed … Default 30,000. */
  readonly filterSnapshotIntervalMs?: number;
  /** … and after this many new ids. Default 10,000. */
  readonly filterSnapshotInsertThreshold?: number;
  /** 1 to 12 of `A-Z a-z 0-9 . _ -`. Default: random, kept beside the log. */
  readonly nodeId?: string;
  /** Start although SQL cannot be reached: writes go to the log. Default: true where there is a log. */
  readonly startDegraded?: boolean;
  /** Accept, once, an archive other than the one that the log knows, or create a missing one. Default false. */
  readonly allowNewArchive?: boolean;
}

export interface ResolvedConfig
  extends Required<Omit<SyncEngineConfig, 'sqlUrl' | 'redisUrl' | 'walPath' | 'nodeId' | 'clusterKey'>> {
  readonly sqlUrl: string | undefined;
  readonly redisUrl: string | undefined;
  readonly walPath: string | undefined;
  readonly nodeId: string | undefined;
  readonly clusterKey: string | undefined;
}

const MIB = 1024 * 1024;
/** Of an item beside its content, at most: its texts and what memory needs to keep it. */
const ITEM_BYTES_MAX = 8192;
const PAYLOAD_BYTES_MAX = 16 * MIB - 64 * 1024;
/** Longest timer, and long enough for every bound in milliseconds. */
const MS_MAX = 2 ** 31 - 1;

const integer = (least: number, most: number) =>
  v.pipe(
    v.number('must be a number'),
    v.integer('must be a whole number'),
    v.minValue(least, `must be at least ${least.toLocaleString('en')}`),
    v.maxValue(most, `must be at most ${most.toLocaleString('en')}`),
  );
const share = v.pipe(
  v.number('must be a number'),
  v.gtValue(0, 'must be above 0'),
  v.ltValue(1, 'must be below 1'),
);
const ms = integer(1, MS_MAX);
const count = integer(1, 2 ** 31);
const bytes = integer(1, Number.MAX_SAFE_INTEGER);
const path = v.pipe(
  v.string('must be a string'),
  v.nonEmpty('must not be empty'),
  v.check((text) => !text.includes('\0'), 'must not contain U+0000'),
);
const DAY_MS = 24 * 60 * 60 * 1000;
/** Spans that no timer waits for. */
const longMs = integer(1, 3650 * DAY_MS);
const flag = v.boolean('must be true or false');

const schema = v.object(
  {
    sqlUrl: v.optional(
      v.pipe(
        path,
        v.regex(
          /^(sqlite:.|(mariadb|mysql|postgres|postgresql):\/\/.)/,
          'must be a URL: sqlite:path/of/file.db, mariadb://, mysql:// or postgres://user:password@host:port/database',
        ),
      ),
    ),
    redisUrl: v.optional(
      v.pipe(
        path,
        v.regex(/^rediss?:\/\/./, 'must be a URL: redis://user:password@host:port/0, or rediss:// for TLS'),
      ),
    ),
    redisPrefix: v.optional(
      v.pipe(
        v.string('must be a string'),
        v.maxLength(256, 'must have at most 256 characters'),
        v.check((text) => !/[{}]/.test(text), 'must not contain { or }: they choose the slot in a cluster'),
      ),
      '',
    ),
    redisTimeoutMs: v.optional(ms, 2000),
    redisEvictionEnabled: v.optional(flag, true),
    redisEvictionStart: v.optional(share, 0.75),
    redisEvictionTarget: v.optional(share, 0.6),
    walPath: v.optional(path),
    walMode: v.optional(v.picklist(['always', 'outage'], "must be 'always' or 'outage'"), 'always'),
    ack: v.optional(v.picklist(['memory', 'wal', 'stored'], "must be 'memory', 'wal' or 'stored'")),
    l1MaxBytes: v.optional(integer(64 * 1024, Number.MAX_SAFE_INTEGER), 256 * MIB),
    maxPayloadBytes: v.optional(integer(1, PAYLOAD_BYTES_MAX)),
    backpressureWarn: v.optional(share, 0.7),
    backpressureCritical: v.optional(share, 0.9),
    submitTimeoutMs: v.optional(ms, 5000),
    batchFlushMs: v.optional(ms, 100),
    batchFlushCount: v.optional(integer(1, 100_000), 1000),
    batchFlushBytes: v.optional(bytes),
    walMaxItems: v.optional(count, 2_000_000),
    walMaxBytes: v.optional(bytes, 1024 * MIB),
    walDrainBatchSize: v.optional(integer(1, 100_000), 1000),
    sqlTimeoutMs: v.optional(ms, 10_000),
    sqlReadTimeoutMs: v.optional(ms, 2000),
    sqlWriteConcurrency: v.optional(integer(1, 64), 4),
    merkleEnabled: v.optional(flag, true),
    clusterKey: v.optional(
      v.pipe(
        v.string('must be a string'),
        v.regex(/^[0-9a-fA-F]{64}$/, 'must be 64 hex digits (openssl rand -hex 32 makes some)'),
      ),
    ),
    coherenceLeaseMs: v.optional(integer(10, 60_000), 1000),
    tombstoneRetentionMs: v.optional(longMs, 7 * DAY_MS),
    peerExpiryMs: v.optional(longMs, 30 * DAY_MS),
    filterWarmupBatchSize: v.optional(integer(1, 1_000_000), 10_000),
    filterSnapshotIntervalMs: v.optional(ms, 30_000),
    filterSnapshotInsertThreshold: v.optional(count, 10_000),
    nodeId: v.optional(
      v.pipe(
        v.string('must be a string'),
        v.regex(/^[A-Za-z0-9._-]{1,12}$/, 'must be 1 to 12 of A-Z a-z 0-9 . _ -'),
      ),
    ),
    startDegraded: v.optional(flag),
    allowNewArchive: v.optional(flag, false),
  },
  'must be an object',
);

type Parsed = v.InferOutput<typeof schema>;

/** Every key of the configuration. */
export const CONFIG_KEYS = Object.keys(schema.entries) as readonly (keyof SyncEngineConfig)[];

/** Keys that `updateConfig` may change; the others are decided at start. */
export const LIVE_KEYS: ReadonlySet<keyof SyncEngineConfig> = new Set<keyof SyncEngineConfig>([
  'l1MaxBytes',
  'maxPayloadBytes',
  'backpressureWarn',
  'backpressureCritical',
  'submitTimeoutMs',
  'batchFlushMs',
  'batchFlushCount',
  'batchFlushBytes',
  'walMaxItems',
  'walMaxBytes',
  'walDrainBatchSize',
  'redisTimeoutMs',
  'redisEvictionEnabled',
  'redisEvictionStart',
  'redisEvictionTarget',
  'sqlTimeoutMs',
  'sqlReadTimeoutMs',
  'sqlWriteConcurrency',
  'coherenceLeaseMs',
  'tombstoneRetentionMs',
  'peerExpiryMs',
  'filterWarmupBatchSize',
  'filterSnapshotIntervalMs',
  'filterSnapshotInsertThreshold',
]);

/** Where ready-made stores take the place of `sqlUrl` and `walPath`. */
export interface ReadyMade {
  readonly cache: boolean;
  readonly archive: boolean;
  readonly log: boolean;
}

/** @throws `CONFIG` with every problem in the message and in `context.problems`. */
export function resolveConfig(input: unknown, readyMade: ReadyMade): ResolvedConfig {
  if (Array.isArray(input)) throw configError(['the configuration must be an object, got an array']);
  const result = v.safeParse(schema, input);
  const problems = [...unknownKeys(input)];
  if (!result.success) {
    for (const issue of result.issues) problems.push(describe(issue));
  }
  // What depends on several keys is checked on those that are well-formed, so that one run lists everything.
  const parsed = (result.success ? result.output : partially(input)) as Partial<Parsed>;
  problems.push(...contradictions(parsed, readyMade));
  if (problems.length > 0) throw configError(problems);
  return withDefaults(parsed as Parsed, readyMade);
}

/**
 * The changed configuration, checked as a whole.
 * @throws `CONFIG` with every problem; also for a key that a running engine cannot change.
 */
export function changedConfig(
  present: ResolvedConfig,
  given: SyncEngineConfig,
  change: unknown,
  readyMade: ReadyMade,
): ResolvedConfig {
  if (typeof change !== 'object' || change === null || Array.isArray(change))
    throw configError(['the change must be an object']);
  const resolved = resolveConfig({ ...given, ...change }, readyMade);
  const fixed = CONFIG_KEYS.filter((key) => !LIVE_KEYS.has(key) && resolved[key] !== present[key]);
  if (fixed.length === 0) return resolved;
  throw configError(
    fixed.map((key) => `${key} cannot change while the engine runs: restart it with the new one`),
  );
}

function configError(problems: readonly string[]): SyncEngineError {
  const heading =
    problems.length === 1
      ? 'The configuration has a mistake'
      : `The configuration has ${problems.length} mistakes`;
  return new SyncEngineError('CONFIG', `${heading}: ${problems.join('; ')}.`, { context: { problems } });
}

const SECRETS: ReadonlySet<string> = new Set(['sqlUrl', 'redisUrl', 'clusterKey']);

function describe(issue: v.BaseIssue<unknown>): string {
  const key = issue.path?.map((item) => String(item.key)).join('.') ?? 'the configuration';
  // A URL can hold credentials, and the key is one: they are never repeated.
  const shown = SECRETS.has(key) ? '' : `, got ${show(issue.input)}`;
  return `${key} ${issue.message}${shown}`;
}

function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  return typeof value === 'object' && value !== null ? typeof value : String(value);
}

function* unknownKeys(input: unknown): Generator<string> {
  if (typeof input !== 'object' || input === null) return;
  const known = Object.keys(schema.entries);
  for (const key of Object.keys(input)) {
    if (known.includes(key)) continue;
    const suggestion = nearest(key, known);
    yield `unknown key ${JSON.stringify(key)}${suggestion === undefined ? '' : ` (did you mean ${suggestion}?)`}`;
  }
}

/** The keys that are well-formed by themselves, defaults filled in for absent ones. */
function partially(input: unknown): Partial<Parsed> {
  if (typeof input !== 'object' || input === null) return {};
  const source = input as Record<string, unknown>;
  const parsed: Record<string, unknown> = {};
  for (const [key, entry] of Object.entries(schema.entries)) {
    const result = v.safeParse(entry as v.GenericSchema, source[key]);
    if (result.success) parsed[key] = result.output;
  }
  return parsed as Partial<Parsed>;
}

function* contradictions(config: Partial<Parsed>, readyMade: ReadyMade): Generator<string> {
  const hasLog = config.walPath !== undefined || readyMade.log;
  const hasArchive = config.sqlUrl !== undefined || readyMade.archive;
  if (config.walPath !== undefined && readyMade.log)
    yield 'walPath and a ready-made record store exclude each other';
  if (config.sqlUrl !== undefined && readyMade.archive)
    yield 'sqlUrl and a ready-made archive exclude each other';
  if (config.redisUrl !== undefined && readyMade.cache)
    yield 'redisUrl and a ready-made cache exclude each other';
  if (hasLog && !hasArchive) {
    yield 'walPath needs sqlUrl: a log without an archive to drain into would only grow';
  }
  if (config.ack === 'wal' && !hasLog) yield "ack 'wal' needs walPath";
  if (config.ack === 'stored' && !hasArchive) yield "ack 'stored' needs sqlUrl";
  if (config.startDegraded === true && !hasLog) {
    yield 'startDegraded needs walPath: without a log, writes would have nowhere to wait';
  }
  if (config.sqlUrl !== undefined && config.walPath === config.sqlUrl.slice('sqlite:'.length)) {
    yield 'walPath and sqlUrl name the same file';
  }
  if (config.clusterKey !== undefined && config.merkleEnabled === false) {
    yield 'clusterKey is given, but merkleEnabled is false: there are no digests to make with it';
  }
  const { backpressureWarn: warn, backpressureCritical: critical } = config;
  const { redisEvictionStart: start, redisEvictionTarget: target } = config;
  if (start !== undefined && target !== undefined && target >= start) {
    yield `redisEvictionTarget (${target}) must be below redisEvictionStart (${start})`;
  }
  if (warn !== undefined && critical !== undefined && warn >= critical) {
    yield `backpressureWarn (${warn}) must be below backpressureCritical (${critical})`;
  }
  const l1 = config.l1MaxBytes;
  if (l1 === undefined) return;
  const room = l1 - ITEM_BYTES_MAX;
  if (config.maxPayloadBytes !== undefined && config.maxPayloadBytes > room) {
    yield `maxPayloadBytes (${config.maxPayloadBytes}) does not fit into l1MaxBytes (${l1})`;
  }
  if (config.batchFlushBytes !== undefined && config.batchFlushBytes > l1) {
    yield `batchFlushBytes (${config.batchFlushBytes}) is above l1MaxBytes (${l1}), so it could never be reached`;
  }
}

function withDefaults(parsed: Parsed, readyMade: ReadyMade): ResolvedConfig {
  const hasLog = parsed.walPath !== undefined || readyMade.log;
  return {
    ...parsed,
    sqlUrl: parsed.sqlUrl,
    redisUrl: parsed.redisUrl,
    walPath: parsed.walPath,
    nodeId: parsed.nodeId,
    clusterKey: parsed.clusterKey?.toLowerCase(),
    ack: parsed.ack ?? (hasLog ? 'wal' : 'memory'),
    maxPayloadBytes: parsed.maxPayloadBytes ?? Math.min(PAYLOAD_BYTES_MAX, Math.floor(parsed.l1MaxBytes / 4)),
    batchFlushBytes: parsed.batchFlushBytes ?? Math.min(MIB, Math.floor(parsed.l1MaxBytes / 4)),
    startDegraded: parsed.startDegraded ?? hasLog,
  };
}
