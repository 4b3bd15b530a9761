/**
 * One write, from the call to its acknowledgement. Everything up to the receipt of level `memory` happens
 * within the call, in this order:
 *
 *   room? ─► stamp version ─► overtake reads under way ─► memory (dirty) ─► log queue ─► batcher
 *                                                                            │            │
 *                                                             ack 'wal' ◄────┘            └──► ack 'stored'
 *
 * From "memory" on a failure is `indeterminate`: the write is pending and may still be applied.
 */
import { SyncEngineError, withOutcome } from '../base/errors.js';
import { step } from '../base/steps.js';
import type { CacheTier } from '../coherence/cache-tier.js';
import type { AckLevel, SubmitReceipt } from '../config/submit-options.js';
import type { FilterManager } from '../filter/filter-manager.js';
import type { HybridClock } from '../item/hybrid-clock.js';
import {
  changed,
  DEFAULT_STATE,
  EMPTY_CONTENT,
  NO_CONTENT_HASH,
  type Revision,
  type RevisionBase,
} from '../item/revision.js';
import { type AckTarget, AckWaiter } from '../memory/ack-waiter.js';
import { Deadlines } from '../memory/deadlines.js';
import { accountedBytes, type Entry } from '../memory/entry.js';
import type { MemoryCache } from '../memory/memory-cache.js';
import type { SystemPorts } from '../ports/ports.js';
import { BackpressureLevel } from '../resilience/backpressure.js';
import type { GuardedArchive } from '../storage/guarded-archive.js';
import type { WriteAheadLog } from '../wal/write-ahead-log.js';
import { NOBODY } from './ack-targets.js';
import type { DeadLetters } from './dead-letters.js';
import type { Flusher } from './flush.js';
import { HeldAck, HeldAcks } from './held-acks.js';
import type { Loads } from './loads.js';
import type { Pressure, PressureShare } from './pressure.js';
import type { ReadPath } from './read-path.js';

/** Most writers that are held at Throttle; those beyond are refused, since each takes memory of its own. */
const HELD_MAX = 10_000;
/** When a refused writer should come again, at least, while SQL is away. */
const RETRY_AFTER_OUTAGE_MS = 1000;

export interface WriteConfig {
  readonly submitTimeoutMs: number;
  readonly maxPayloadBytes: number;
  readonly walMode: 'always' | 'outage';
  readonly l1MaxBytes: number;
  readonly coherenceLeaseMs: number;
}

export interface WriteParts {
  readonly memory: MemoryCache;
  readonly clock: HybridClock;
  readonly reads: ReadPath;
  readonly loads: Loads;
  readonly letters: DeadLetters;
  /** Says which ids SQL has no row of, where it is trusted. */
  readonly filter: FilterManager | undefined;
  readonly pressure: Pressure;
  readonly log: WriteAheadLog | undefined;
  readonly archive: GuardedArchive | undefined;
  /** Where there is Redis. */
  readonly cache: CacheTier | undefined;
  readonly flusher: Flusher | undefined;
  readonly ports: SystemPorts;
  readonly origin: string;
  /** The clock needs a higher mark before it can stamp again. */
  readonly markReached: () => void;
}

/** A write that was checked: what to write, and what the caller waits for. */
export interface WriteRequest {
  readonly source: Revision;
  readonly deleted: boolean;
  readonly state: string;
  readonly ack: AckLevel;
  readonly signal: AbortSignal | undefined;
  /** The route: life of the copy in Redis, 0 for none; `undefined`: the default. */
  readonly redisTtlMs?: number | undefined;
  /** Of a cache-only item: how long it lives. */
  readonly cacheTtlMs?: number | undefined;
  /** What the write was made from (`Revision.base`). */
  readonly base?: RevisionBase | undefined;
  /** A version stamped before, newer than what memory holds of the id. */
  readonly version?: number;
}

export class WritePath {
  readonly #config: WriteConfig;
  readonly #parts: WriteParts;
  readonly #deadlines: Deadlines;
  readonly #held: HeldAcks;
  /** Why nothing is taken any more. */
  #closed: SyncEngineError | undefined;

  constructor(config: WriteConfig, parts: WriteParts) {
    this.#config = config;
    this.#parts = parts;
    this.#deadlines = new Deadlines(parts.ports, (waiter) => waiter.fail(deadlineError(waiter, config)));
    this.#held = new HeldAcks(parts.ports);
  }

  /** Whether a write is neither held nor refused for want of room. */
  get open(): boolean {
    return this.#parts.archive === undefined || this.#parts.pressure.calm;
  }

  /** As `open`, after a close look. @throws once the engine is closed: there will be no room any more. */
  get roomy(): boolean {
    if (this.#closed !== undefined) throw this.#closed;
    return this.#parts.pressure.review().rank < BackpressureLevel.Throttle.rank;
  }

  /** Writers that wait for room. */
  get heldCount(): number {
    return this.#held.count;
  }

  /**
   * Takes a write. Returns the receipt if its level is reached at once and nothing holds it; else `target` is told.
   * @throws SyncEngineError, outcome `not-applied`: the write was not taken.
   */
  write(request: WriteRequest, target: AckTarget, index: number): SubmitReceipt | undefined {
    const { signal, source } = request;
    if (this.#closed !== undefined) throw this.#closed;
    if (signal?.aborted === true) throw abortedError(source.id, 'not-applied');
    if (request.cacheTtlMs !== undefined) {
      return this.#cache(request, request.cacheTtlMs, target, index);
    }
    if (this.open) return this.#take(request, target, index);
    const level = this.#parts.pressure.review();
    if (!level.acceptsWrites) throw this.#backpressure();
    if (level !== BackpressureLevel.Throttle) return this.#take(request, target, index);
    if (this.#held.count >= Math.min(HELD_MAX, this.#parts.pressure.entriesMax / 8))
      throw this.#backpressure();
    const held = new HeldAck(target, index);
    const receipt = this.#take(request, held, 0);
    const deadlineAt = this.#parts.ports.clock.monotonic() + this.#config.submitTimeoutMs;
    this.#held.hold(held, deadlineAt, signal, () => abortedError(source.id, 'indeterminate'));
    if (receipt !== undefined) held.acknowledged(0, receipt);
    return undefined;
  }

  /** There may be room again. */
  relieved(): void {
    if (this.#closed !== undefined) return;
    if (this.#held.count === 0 && this.#parts.pressure.calm) return;
    if (this.roomy) this.#held.release();
  }

  /** As `write`, of a cache-only item that is changed: it lives as long as it would have. */
  recache(request: WriteRequest, cached: Revision): Promise<SubmitReceipt> {
    if (request.signal?.aborted === true) throw abortedError(cached.id, 'not-applied');
    const { ports, cache } = this.#parts;
    const covered = cache === undefined ? 0 : Math.max(0, (cached.redisTtlMs ?? 0) - this.#leaseMs);
    const leftMs = (cached.cachedUntilMs as number) + covered - ports.clock.monotonic();
    return new Promise((resolve, reject) => {
      const target = {
        acknowledged: (_index: number, receipt: SubmitReceipt) => resolve(receipt),
        failed: (_index: number, error: SyncEngineError) => reject(error),
      };
      const receipt = this.#cache(request, Math.max(1, leftMs), target, 0);
      if (receipt !== undefined) resolve(receipt);
    });
  }

  /** How long memory may answer for Redis, which others write too. */
  get #leaseMs(): number {
    return this.#parts.archive?.exclusive === true ? Number.POSITIVE_INFINITY : this.#config.coherenceLeaseMs;
  }

  /**
   * Takes a cache-only item: memory and Redis hold it for so long, nothing else does. Where SQL may hold something of the
   * id, a tombstone stamped just before goes there, so that no older row shines through when the item has gone.
   * @throws as `write`.
   */
  #cache(request: WriteRequest, ttlMs: number, target: AckTarget, index: number): SubmitReceipt | undefined {
    const { memory, reads, loads, origin, cache, ports } = this.#parts;
    const { source, state, ack } = request;
    const { id } = source;
    if (ack === 'stored' && cache?.synced !== true) throw noRedis(id);
    if (this.#mayBeStored(id)) {
      const tombstone = {
        source,
        deleted: true,
        state: DEFAULT_STATE,
        ack: 'memory',
        signal: undefined,
      } as const;
      this.write(tombstone, NOBODY, 0);
    }
    const version = request.version ?? this.stamp();
    reads.detach(id);
    loads.overtake(id);
    const untilMs = ports.clock.monotonic() + ttlMs;
    const revision = changed(source, {
      version,
      origin,
      state,
      redisTtlMs: ttlMs,
      base: undefined,
      refusal: undefined,
      cachedUntilMs: untilMs,
    });
    memory.cache(revision);
    if (cache?.synced !== true) return { id, version, ack: 'memory' };
    const put = cache.putOnly(revision, ttlMs).then((fate) => {
      const superseded = fate === 'superseded';
      this.#shared(revision, superseded);
      return superseded;
    });
    if (ack !== 'stored') {
      // Redis is asked to keep it longer and for others; memory has it.
      put.catch(() => {});
      return { id, version, ack: 'memory' };
    }
    put.then(
      (superseded) =>
        target.acknowledged(index, {
          id,
          version,
          ack: 'stored',
          ...(superseded ? { superseded } : undefined),
        }),
      (error: SyncEngineError) => target.failed(index, withOutcome(error, 'indeterminate')),
    );
    return undefined;
  }

  /** Redis has a cache-only item: from now on others may change it there. */
  #shared(revision: Revision, superseded: boolean): void {
    const { memory, ports } = this.#parts;
    const cached = memory.cached(revision.id);
    if (cached?.version !== revision.version || cached.origin !== revision.origin) return;
    const leaseEndMs = ports.clock.monotonic() + this.#leaseMs;
    if (superseded) memory.cache(changed(cached, { cachedUntilMs: ports.clock.monotonic() }));
    else if ((cached.cachedUntilMs as number) > leaseEndMs)
      memory.cache(changed(cached, { cachedUntilMs: leaseEndMs }));
  }

  /** Whether SQL holds a live row of the id, now or after what is pending, or may. */
  #mayBeStored(id: string): boolean {
    const { memory, archive, filter, reads } = this.#parts;
    if (archive === undefined || memory.cached(id) !== undefined) return false;
    const newest = memory.newest(id);
    if (typeof newest === 'object') return !newest.deleted;
    return newest === 'spilled' || filter?.mightExist(id) !== false || !reads.current;
  }

  #take(request: WriteRequest, target: AckTarget, index: number): SubmitReceipt | undefined {
    const { memory, log, archive, flusher } = this.#parts;
    const { source, deleted, ack, signal } = request;
    const { id } = source;
    this.#assertRoom(source);
    if (ack === 'wal') this.#assertLogOrArchive();
    const version = request.version ?? this.stamp();

    const revision: Revision = {
      id,
      version,
      origin: this.#parts.origin,
      deleted,
      contentType: source.contentType,
      state: request.state,
      content: deleted ? EMPTY_CONTENT : ownContent(source.content),
      contentHash: deleted ? NO_CONTENT_HASH : source.contentHash,
      homeInstanceId: source.homeInstanceId,
      traceParent: source.traceParent,
      traceState: source.traceState,
      redisTtlMs: request.redisTtlMs,
      base: request.base,
    };
    this.#parts.letters.superseded(id);
    this.#parts.reads.detach(id);
    this.#parts.loads.overtake(id);
    const spilled = memory.spilledCount > 0 && memory.spilledPosition(id) !== 0;
    const entry = memory.write(revision);
    if (spilled) flusher?.replacedSpilled(entry);
    if (archive === undefined || flusher === undefined) {
      memory.settle(entry);
      this.#parts.cache?.supersede(revision);
      return { id, version, ack: 'memory' };
    }
    let waiter: AckWaiter | undefined;
    if (ack !== 'memory') {
      const deadlineAt = this.#parts.ports.clock.monotonic() + this.#config.submitTimeoutMs;
      waiter = new AckWaiter(id, version, ack, deadlineAt, target, index);
      waiter.onSettled = signal === undefined ? this.#removeDeadline : this.#watch(signal, waiter);
      this.#deadlines.add(waiter);
      entry.addWaiter(waiter);
    }
    if (log !== undefined && (this.#config.walMode === 'always' || !archive.available)) {
      log.append(entry);
      step('append.queued');
    }
    flusher.add(entry);
    return waiter === undefined ? { id, version, ack: 'memory' } : undefined;
  }

  /** A version newer than every one before. @throws `WAL_FAILED` where the log cannot raise the clock's mark. */
  stamp(): number {
    const version = this.#parts.clock.next();
    if (version !== undefined) return version;
    this.#parts.markReached();
    throw markError();
  }

  /** @throws `PAYLOAD_TOO_LARGE`. */
  assertSize(source: Revision): void {
    const bytes = source.content.length;
    const { maxPayloadBytes } = this.#config;
    if (bytes <= maxPayloadBytes) return;
    throw new SyncEngineError(
      'PAYLOAD_TOO_LARGE',
      `The content has ${bytes} bytes; maxPayloadBytes is ${maxPayloadBytes}. Split it, or raise maxPayloadBytes.`,
      { context: { id: source.id, bytes, bytesMax: maxPayloadBytes } },
    );
  }

  /**
   * Makes a write anew from `row`, what SQL holds in the place of its base. Those who wait for the old version
   * wait for the new one. False where the item is gone: then the write has nothing to change and has lost.
   */
  redo(entry: Entry, refused: Revision, row: Revision): boolean {
    const { memory, log, flusher } = this.#parts;
    if (row.deleted) return false;
    const version = this.stamp();
    const { origin } = this.#parts;
    const base: RevisionBase = { version: row.version, origin: row.origin, rule: 'exactly' };
    memory.write(changed(row, { version, origin, state: refused.state, base, refusal: undefined }));
    entry.renumberWaiters(refused.version, version);
    if (entry.loggedVersion !== 0 || this.#config.walMode === 'always') log?.append(entry);
    flusher?.add(entry);
    return true;
  }

  /** Nothing is taken any more. Those who wait go on waiting. */
  stopTaking(error: SyncEngineError): void {
    this.#closed = withOutcome(error, 'not-applied');
  }

  /** Ends the waiting of everyone: the engine closes. */
  failAll(error: SyncEngineError): void {
    this.#closed = withOutcome(error, 'not-applied');
    for (const waiter of this.#deadlines) waiter.fail(error);
    this.#held.release();
  }

  readonly #removeDeadline = (waiter: AckWaiter): void => this.#deadlines.remove(waiter);

  #watch(signal: AbortSignal, waiter: AckWaiter): (waiter: AckWaiter) => void {
    const abort = (): void => waiter.fail(abortedError(waiter.id, 'indeterminate'));
    signal.addEventListener('abort', abort, { once: true });
    return (settled) => {
      signal.removeEventListener('abort', abort);
      this.#deadlines.remove(settled);
    };
  }

  /** The levels leave room for small writes; one that is larger than what is left is refused by itself. */
  #assertRoom(source: Revision): void {
    const { memory, archive } = this.#parts;
    if (archive !== undefined && !memory.hasRoom(source.id, accountedBytes(source)))
      throw this.#backpressure('l1MaxBytes');
  }

  /** A log that takes nothing is no hope for who waits for it, unless SQL acknowledges in its place. */
  #assertLogOrArchive(): void {
    const { log, archive } = this.#parts;
    if (log === undefined || log.status === 'open' || archive?.available === true) return;
    const code = log.status === 'full' ? 'WAL_FULL' : 'WAL_FAILED';
    throw new SyncEngineError(
      code,
      `The log takes no writes (${log.lastError?.message ?? log.status}) and SQL is not reachable either. It is tried again every second; the write was not taken.`,
      { context: { tier: 'wal' }, cause: log.lastError },
    );
  }

  #backpressure(full?: PressureShare['limit']): SyncEngineError {
    const { pressure, archive } = this.#parts;
    const { level } = pressure;
    const { ratio, limit: fullest } = pressure.share();
    const limit = full ?? fullest;
    const flowing = archive?.available !== false;
    const name = level.acceptsWrites && full !== undefined ? BackpressureLevel.Shutdown : level;
    const retryAfterMs = Math.max(name.retryAfterMs ?? 0, flowing ? 0 : RETRY_AFTER_OUTAGE_MS);
    return new SyncEngineError(
      'BACKPRESSURE',
      `The write was not taken: what waits for SQL fills ${Math.round(ratio * 100)} % of ${limit === 'heap' ? "the process's heap" : limit}, and SQL is ${flowing ? 'taking it more slowly than it comes' : 'not reachable'}. Try again after ${retryAfterMs} ms (retryAfterMs), or raise ${limit === 'heap' ? '--max-old-space-size' : limit}.`,
      {
        context: {
          tier: limit === 'l1MaxBytes' || limit === 'heap' ? 'memory' : 'wal',
          limit,
          level: name.name,
          httpStatus: name.httpStatus ?? 429,
          retryAfterMs,
        },
      },
    );
  }
}

function noRedis(id: string): SyncEngineError {
  return new SyncEngineError(
    'TIER_UNAVAILABLE',
    "Redis is not reachable, so a cache-only item cannot be 'stored' now; nothing was written. Try again, or leave ack out: memory takes it.",
    { outcome: 'not-applied', context: { tier: 'redis', id } },
  );
}

/** Above it a buffer is no part of Node's pool. */
const POOL_BYTES = 8192;

/** Content that came from memory is a view of a slab: a pending write must not keep all of that alive. */
function ownContent(content: Buffer): Buffer {
  const held = content.buffer.byteLength;
  return held > POOL_BYTES && content.length * 2 < held ? Buffer.from(content) : content;
}

function deadlineError(waiter: AckWaiter, config: WriteConfig): SyncEngineError {
  return new SyncEngineError(
    'DEADLINE',
    `The write did not reach '${waiter.level}' within submitTimeoutMs (${config.submitTimeoutMs}). It is pending and may still be applied; healthCheck() says what it waits for.`,
    {
      outcome: 'indeterminate',
      context: { id: waiter.id, operation: 'submit', deadlineMs: config.submitTimeoutMs },
    },
  );
}

function abortedError(id: string, outcome: 'not-applied' | 'indeterminate'): SyncEngineError {
  const fate =
    outcome === 'not-applied'
      ? 'The write was not taken.'
      : 'The write is pending and will still be applied.';
  return new SyncEngineError('ABORTED', `The caller gave up. ${fate}`, { outcome, context: { id } });
}

function markError(): SyncEngineError {
  return new SyncEngineError(
    'WAL_FAILED',
    'The log could not raise the high-water mark of the clock, and a version above it could be given twice after a restart. The write was not taken; free the log (healthCheck().warnings).',
    { context: { tier: 'wal' } },
  );
}
