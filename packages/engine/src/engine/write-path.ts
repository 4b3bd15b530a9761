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
import { SyncEngineError } from '../base/errors.js';
import { step } from '../base/steps.js';
import type { AckLevel, SubmitReceipt } from '../config/submit-options.js';
import type { HybridClock } from '../item/hybrid-clock.js';
import { EMPTY_CONTENT, NO_CONTENT_HASH, type Revision, type RevisionBase } from '../item/revision.js';
import { type AckTarget, AckWaiter } from '../memory/ack-waiter.js';
import { Deadlines } from '../memory/deadlines.js';
import { accountedBytes, type Entry } from '../memory/entry.js';
import type { MemoryCache } from '../memory/memory-cache.js';
import type { SystemPorts } from '../ports/ports.js';
import type { GuardedArchive } from '../storage/guarded-archive.js';
import type { WriteAheadLog } from '../wal/write-ahead-log.js';
import type { DeadLetters } from './dead-letters.js';
import type { Flusher } from './flush.js';
import type { Loads } from './loads.js';
import type { ReadPath } from './read-path.js';

/** When a refused writer should come again: soon while SQL takes writes, later while it is away. */
const RETRY_AFTER_MS = 100;
const RETRY_AFTER_OUTAGE_MS = 1000;

export interface WriteConfig {
  readonly submitTimeoutMs: number;
  readonly maxPayloadBytes: number;
  readonly walMode: 'always' | 'outage';
  readonly walMaxItems: number;
  readonly walMaxBytes: number;
}

export interface WriteParts {
  readonly memory: MemoryCache;
  readonly clock: HybridClock;
  readonly reads: ReadPath;
  readonly loads: Loads;
  readonly letters: DeadLetters;
  readonly log: WriteAheadLog | undefined;
  readonly archive: GuardedArchive | undefined;
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
  /** What the write was made from (`Revision.base`). */
  readonly base?: RevisionBase | undefined;
  /** A version stamped before, newer than what memory holds of the id. */
  readonly version?: number;
}

export class WritePath {
  readonly #config: WriteConfig;
  readonly #parts: WriteParts;
  readonly #deadlines: Deadlines;

  constructor(config: WriteConfig, parts: WriteParts) {
    this.#config = config;
    this.#parts = parts;
    this.#deadlines = new Deadlines(parts.ports, (waiter) => waiter.fail(deadlineError(waiter, config)));
  }

  /**
   * Takes a write. Returns the receipt if its level is reached at once; else `target` is told.
   * @throws SyncEngineError, outcome `not-applied`: the write was not taken.
   */
  write(request: WriteRequest, target: AckTarget, index: number): SubmitReceipt | undefined {
    const { memory, log, archive, flusher } = this.#parts;
    const { source, deleted, ack, signal } = request;
    const { id } = source;
    if (signal?.aborted === true) throw abortedError(id, 'not-applied');
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
      content: deleted ? EMPTY_CONTENT : source.content,
      contentHash: deleted ? NO_CONTENT_HASH : source.contentHash,
      homeInstanceId: source.homeInstanceId,
      traceParent: source.traceParent,
      traceState: source.traceState,
      base: request.base,
    };
    this.#parts.letters.superseded(id);
    this.#parts.reads.detach(id);
    this.#parts.loads.overtake(id);
    const entry = memory.write(revision);
    if (archive === undefined || flusher === undefined) {
      memory.settle(entry);
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
    memory.write({ ...row, version, origin, state: refused.state, base, refusal: undefined });
    entry.renumberWaiters(refused.version, version);
    if (entry.loggedVersion !== 0 || this.#config.walMode === 'always') log?.append(entry);
    flusher?.add(entry);
    return true;
  }

  /** Ends the waiting of everyone: the engine closes. */
  failAll(error: SyncEngineError): void {
    for (const waiter of this.#deadlines) waiter.fail(error);
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

  #assertRoom(source: Revision): void {
    const { memory, log } = this.#parts;
    const bytes = accountedBytes(source);
    if (!memory.hasRoom(source.id, bytes)) throw this.#backpressure('memory', 'l1MaxBytes');
    if (log === undefined) return;
    if (memory.dirtyCount >= this.#config.walMaxItems) throw this.#backpressure('wal', 'walMaxItems');
    if (memory.dirtyBytes + bytes > this.#config.walMaxBytes) throw this.#backpressure('wal', 'walMaxBytes');
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

  #backpressure(
    tier: 'memory' | 'wal',
    limit: 'l1MaxBytes' | 'walMaxItems' | 'walMaxBytes',
  ): SyncEngineError {
    const flowing = this.#parts.archive?.available !== false;
    return new SyncEngineError(
      'BACKPRESSURE',
      `Writes that wait for SQL have reached ${limit}; SQL is ${flowing ? 'taking them, more slowly than they come' : 'not reachable'}. Try again after retryAfterMs, or raise ${limit}.`,
      {
        context: {
          tier,
          limit,
          level: 'Shutdown',
          httpStatus: 503,
          retryAfterMs: flowing ? RETRY_AFTER_MS : RETRY_AFTER_OUTAGE_MS,
        },
      },
    );
  }
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
