/** What `healthCheck` answers: for each part how it is, and in `warnings` what an operator should know. */
import type { FilterTrust } from '../filter/filter-manager.js';
import type { MemoryStats } from '../memory/memory-cache.js';
import type { BackpressureLevel } from '../resilience/backpressure.js';
import type { BackendHealth } from '../resilience/health-checker.js';
import type { ArchiveHealth } from '../storage/guarded-archive.js';
import type { CacheHealth } from '../storage/guarded-cache.js';
import type { LogStatus, WalStats } from '../wal/write-ahead-log.js';
import type { FilterStatus } from './filter-keeper.js';
import type { EngineState } from './lifecycle.js';
import type { PressureShare } from './pressure.js';

/** How a backend answered of late. */
export interface HealthCheck {
  /** Running, and every configured part answers. */
  readonly healthy: boolean;
  readonly state: EngineState;
  /** Reads and writes are taken. */
  readonly ready: boolean;
  readonly acceptingWrites: boolean;
  /** What cannot be evicted, as a share of the fullest of its limits: memory, heap, or the log. 0 to 1. */
  readonly memoryPressure: number;
  /** What that means for writers. */
  readonly backpressure: BackpressureLevel;
  readonly l1Items: number;
  readonly l1Bytes: number;
  /** Ids in the filter, and whether its "no" is believed. Without SQL there is none. */
  readonly filterItems: number;
  readonly filterTrust: FilterTrust;
  /** Writes that SQL refuses because of the row itself. */
  readonly deadLetters: number;
  /** Where others write the archive too: how old the knowledge of their writes is. Absent before the first look. */
  readonly coherenceAgeMs?: number;
  readonly redis?: BackendHealth;
  /** Transactions in SQL that Redis has not confirmed. Absent where it is not known. */
  readonly redisLag?: number;
  readonly sql?: BackendHealth;
  readonly wal?: WalStats;
  /** One sentence each: what is wrong, what is at risk, what the engine is doing about it. */
  readonly warnings: readonly string[];
}

export interface HealthFacts {
  readonly state: EngineState;
  readonly memory: MemoryStats;
  readonly pressure: PressureShare;
  readonly backpressure: BackpressureLevel;
  /** Writers that wait for room. */
  readonly throttled: number;
  readonly redis: CacheHealth | undefined;
  /** Whether copies in Redis are believed. */
  readonly redisSynced: boolean;
  readonly redisLag: number | undefined;
  readonly redisUnconfirmedIds: number;
  /** Share of Redis's `maxmemory` in use. */
  readonly redisShare: number | undefined;
  readonly archive: ArchiveHealth | undefined;
  readonly archiveAvailable: boolean;
  readonly wal: WalStats | undefined;
  readonly logStatus: LogStatus | undefined;
  readonly logError: string | undefined;
  readonly damagedRecords: number;
  readonly filter: FilterStatus | undefined;
  readonly deadLetters: number;
  readonly coherenceAgeMs: number | undefined;
  /** Whether what memory holds is served as stale. */
  readonly stale: boolean;
}

/** From here on an operator should know. */
const UNCONFIRMED_IDS_MANY = 5000;
const REDIS_FULL = 0.9;

export function assessHealth(facts: HealthFacts): HealthCheck {
  const { state, memory, archive, redis, redisLag, wal } = facts;
  const running = state === 'Running';
  const warnings = [...warningsOf(facts)];
  const sqlWell = isWell(archive);
  const logWell = facts.logStatus === undefined || facts.logStatus === 'open';
  return {
    healthy: running && sqlWell && isWell(redis) && logWell && facts.damagedRecords === 0,
    state,
    ready: running,
    acceptingWrites: running && facts.backpressure.acceptsWrites,
    memoryPressure: facts.pressure.ratio,
    backpressure: facts.backpressure,
    l1Items: memory.items,
    l1Bytes: memory.bytes,
    filterItems: facts.filter?.items ?? 0,
    filterTrust: facts.filter?.trust ?? 'untrusted',
    deadLetters: facts.deadLetters,
    ...(facts.coherenceAgeMs === undefined ? undefined : { coherenceAgeMs: facts.coherenceAgeMs }),
    ...(redis === undefined ? undefined : { redis: backendHealth(redis) }),
    ...(redisLag === undefined ? undefined : { redisLag }),
    ...(archive === undefined ? undefined : { sql: backendHealth(archive) }),
    ...(wal === undefined ? undefined : { wal }),
    warnings,
  };
}

function isWell(backend: BackendHealth | undefined): boolean {
  return backend === undefined || (backend.connected && backend.circuit === 'closed');
}

function backendHealth({ warnings: _warnings, ...health }: ArchiveHealth | CacheHealth): BackendHealth {
  return health;
}

function* warningsOf(facts: HealthFacts): Generator<string> {
  const { archive, memory } = facts;
  const waiting = `${memory.dirtyItems - facts.deadLetters} writes wait`;
  if (archive !== undefined && !facts.archiveAvailable) {
    const safety =
      facts.logStatus === 'open'
        ? 'in the log, safe from a crash'
        : 'in memory only: a crash would lose them';
    yield `SQL is not reachable${durationOf(archive.failingForMs)} (${withoutStop(archive.lastError ?? 'not connected')}). ${waiting} ${safety}; ids that are not in memory are refused${facts.filter?.trust === 'trusted' && !facts.stale ? ', but for those that the filter rules out' : ''}, not called missing. It is probed every second.`;
  }
  if (facts.stale && facts.state === 'Running') {
    yield `What other engines wrote is not known${durationOf(facts.coherenceAgeMs)}: the change log could not be read within coherenceLeaseMs. Items in memory are served with stale: true, get(id, { fresh: true }) refuses them; it is read again by itself.`;
  }
  yield* archive?.warnings ?? [];
  yield* redisWarnings(facts);
  if (facts.logStatus === 'full') {
    yield `The log's disk is full (${facts.logError ?? ''}). Writes are acknowledged by SQL instead, while it answers. The log is tried again every second; free space on its disk.`;
  }
  if (facts.logStatus === 'failed') {
    yield `The log has failed (${facts.logError ?? ''}). Writes are acknowledged by SQL instead, while it answers. The log is opened and verified again every second.`;
  }
  if (facts.damagedRecords > 0) {
    yield `${facts.damagedRecords} acknowledged records in the log are damaged. Their ids are refused with CORRUPTION until they are written again.`;
  }
  if (facts.deadLetters > 0) {
    yield `${facts.deadLetters} writes are set aside because SQL refuses their rows. Reads show them; deadLetters.list() says why. Retry or discard them.`;
  }
  if (facts.filter?.building !== undefined) {
    yield `The filter is being built from SQL (${facts.filter.building} ids so far). Until it is complete, ids that do not exist cost a query each.`;
  }
  const { backpressure, pressure, throttled } = facts;
  if (backpressure.rank > 0) {
    const queue = throttled > 0 ? ` ${throttled} writers are held.` : '';
    yield `Backpressure is at ${backpressure.name}: what SQL has not taken fills ${Math.round(pressure.ratio * 100)} % of ${pressure.limit}. ${backpressure.description}${queue} ${waiting}.`;
  }
}

function* redisWarnings(facts: HealthFacts): Generator<string> {
  const { redis, redisLag, redisUnconfirmedIds: ids } = facts;
  if (redis === undefined || facts.state !== 'Running') return;
  if (!isWell(redis)) {
    yield `Redis is not reachable${durationOf(redis.failingForMs)} (${withoutStop(redis.lastError ?? 'not connected')}). Items are read from SQL instead; nothing is lost but speed and cache-only items that memory does not hold. It is probed every second.`;
  } else if (!facts.redisSynced) {
    yield `What Redis holds is being compared with SQL's change log${facts.archiveAvailable ? '' : ', as soon as SQL answers'}. Until then items are read from SQL.`;
  } else if (ids > UNCONFIRMED_IDS_MANY) {
    yield `Redis is ${redisLag ?? 0} transactions behind SQL: copies of ${ids} ids are not served, these are read from SQL. They are written or marked as fast as Redis takes it.`;
  }
  if ((facts.redisShare ?? 0) > REDIS_FULL) {
    yield `Redis uses ${Math.round((facts.redisShare as number) * 100)} % of its maxmemory, and removing copies does not help enough: others fill it, or maxmemory is small. Copies that do not fit are read from SQL.`;
  }
  yield* redis.warnings;
}

/** How long, for who has just been woken up. */
function durationOf(ms: number | undefined): string {
  if (ms === undefined) return '';
  if (ms < 120_000) return `, for ${Math.max(1, Math.round(ms / 1000))} s now`;
  if (ms < 7_200_000) return `, for ${Math.round(ms / 60_000)} minutes now`;
  return `, for ${Math.round(ms / 3_600_000)} hours now`;
}

/** A sentence within a sentence. */
function withoutStop(text: string): string {
  return text.endsWith('.') ? text.slice(0, -1) : text;
}
