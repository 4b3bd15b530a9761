/**
 * One batch on its way to SQL.
 *
 *   batcher ─► live ──┐
 *                     ├─► apply (one transaction) ─► release in the log ─► clean, or dropped if it lost
 *   replay, failures ─► backlog ──┘
 *
 * A batch that SQL refuses because of a row is halved until the row is alone: that one is set aside, the others
 * are stored. A write made from something else than what SQL holds is made anew from that.
 *
 * Order of steps, and why a crash between any two is harmless: the archive commits, then the log forgets,
 * then the entry may leave memory. Before the release the log still holds the write, and applying it again
 * changes nothing.
 *
 * Nobody is told "stored" while the log holds an older record of the same id: a crash would replay that
 * record, and it would be read until it has lost to the newer row.
 *
 * Two batches are on their way at a time, more on a server, so that the archive never idles while this thread prepares
 * the next one. A live batch and one of the backlog take turns: a drain does not starve those who write now.
 */
import { messageOf, SyncEngineError } from '../base/errors.js';
import { step } from '../base/steps.js';
import { type FlushReason, HybridBatcher } from '../batching/hybrid-batcher.js';
import type { HybridClock } from '../item/hybrid-clock.js';
import type { Revision } from '../item/revision.js';
import type { Entry } from '../memory/entry.js';
import type { MemoryCache, SpilledRef } from '../memory/memory-cache.js';
import type { SystemPorts, Timer } from '../ports/ports.js';
import { RETRY_PRESETS, retryDelayMs } from '../resilience/retry.js';
import {
  APPLY_EXISTED,
  APPLY_REDO,
  APPLY_STORED,
  APPLY_TOO_OLD,
  APPLY_UNCHANGED,
  type ApplyResult,
} from '../storage/archive-store.js';
import type { GuardedArchive } from '../storage/guarded-archive.js';
import type { WriteAheadLog } from '../wal/write-ahead-log.js';
import type { DamagedIds } from './damaged-ids.js';
import { type DeadLetters, rejectedError } from './dead-letters.js';
import type { FlushBarrier } from './flush-barrier.js';
import { LaneQueue } from './lanes.js';
import { SPILL_TO, type Spill } from './spill.js';

/** Of an archive that writes one after the other: the next batch is made ready meanwhile. */
const BATCHES_UNDER_WAY_EXCLUSIVE = 2;
/** Share of the memory budget that spilled writes may take when they come back, at a time. */
const REFILL_SHARE = 0.04;

export interface FlusherConfig {
  readonly batchFlushMs: number;
  readonly batchFlushCount: number;
  readonly batchFlushBytes: number;
  readonly walDrainBatchSize: number;
  readonly sqlWriteConcurrency: number;
  readonly walMode: 'always' | 'outage';
}

export interface FlusherParts {
  readonly memory: MemoryCache;
  readonly archive: GuardedArchive;
  readonly log: WriteAheadLog | undefined;
  readonly clock: HybridClock;
  readonly damaged: DamagedIds;
  readonly letters: DeadLetters;
  /** Where there is a log. */
  readonly spill: Spill | undefined;
  /** A transaction was committed, in the order of commits; called before the log forgets its writes. */
  readonly stored: (writes: readonly Revision[], result: ApplyResult) => void;
  /** Entries turned clean: there is room. */
  readonly settled: () => void;
  /**
   * Makes a write anew from the row that SQL holds. `again`: that row has gone since, the same write goes once more.
   * Rejects where SQL cannot be asked.
   */
  readonly redo: (entry: Entry, refused: Revision) => Promise<'again' | 'done'>;
  readonly ports: SystemPorts;
  /** Something failed and is tried again; nobody waits for this error itself. */
  readonly failed: (error: SyncEngineError, what: string) => void;
  /** Told how each batch fares. */
  readonly observe?: (writes: readonly Revision[]) => FlushObserver | undefined;
}

/** How one batch fares; where it is halved, each half is applied and released by itself. */
export interface FlushObserver {
  applying(count: number): void;
  applied(result: ApplyResult): void;
  /** Not stored: put back, or set aside. */
  failed(error: unknown): void;
  /** The filter knows the ids. */
  learned(): void;
  /** The log has forgotten the writes; may come after `ended`. */
  released(): void;
  ended(): void;
}

export class Flusher {
  readonly #config: FlusherConfig;
  readonly #parts: FlusherParts;
  readonly #batcher: HybridBatcher<Entry>;
  readonly #live = new LaneQueue('live');
  readonly #backlog = new LaneQueue('backlog');
  /** Of failed batches: older than all of the backlog, so they go first. */
  readonly #returned = new LaneQueue('returned');
  /** Spilled writes that are to be read from the log next. */
  #refs: readonly SpilledRef[] = [];
  #refilling = false;
  /** Flushes that wait for spilled writes, up to and with this many taken. */
  readonly #spillBarriers = new Map<FlushBarrier, number>();
  /** Ids that lost to a newer row and whose record is not yet released. */
  readonly #losers = new Set<string>();
  #backlogsTurn = false;
  #underWay = 0;
  #ageTimer: Timer | undefined;
  #retryTimer: Timer | undefined;
  #refillTimer: Timer | undefined;
  #stopped = false;
  #whenDrained: (() => void)[] = [];

  constructor(config: FlusherConfig, parts: FlusherParts) {
    this.#config = config;
    this.#parts = parts;
    this.#batcher = new HybridBatcher<Entry>(
      {
        // Read at each use: they may change while the engine runs.
        get flushMs(): number {
          return config.batchFlushMs;
        },
        get flushCount(): number {
          return config.batchFlushCount;
        },
        get flushBytes(): number {
          return config.batchFlushBytes;
        },
      },
      parts.ports,
    );
  }

  /** Whether what failed, or was found in the log, is still being brought to SQL. */
  get draining(): boolean {
    return this.#backlog.count > 0 || this.#returned.count > 0 || this.#parts.memory.spilledCount > 0;
  }

  /** Takes an entry that was just written. */
  add(entry: Entry): void {
    switch (entry.lane) {
      case 'live':
        return; // Its turn comes, and then its newest revision is taken.
      case 'backlog':
      case 'returned':
        if (!this.#parts.archive.available) return;
        this.leave(entry);
        break;
      default:
    }
    entry.lane = 'batch';
    const reason = this.#batcher.add(entry);
    if (reason !== undefined) this.#batchReady();
    else this.#ageTimer ??= this.#parts.ports.scheduler.after(this.#config.batchFlushMs, () => this.#aged());
  }

  /** Takes an entry that the log held at start, or gave back. */
  addToBacklog(entry: Entry): void {
    this.#backlog.push(entry);
  }

  /** The entry leaves the lane that it waits in. */
  leave(entry: Entry): void {
    if (entry.lane === 'live') this.#live.leave(entry);
    else if (entry.lane === 'backlog') this.#backlog.leave(entry);
    else if (entry.lane === 'returned') this.#returned.leave(entry);
  }

  /** A write took the place of a spilled one: who waits for that one waits for the entry. */
  replacedSpilled(entry: Entry): void {
    for (const barrier of this.#spillBarriers.keys()) barrier.waitFor(entry);
  }

  /** A spilled write will not be stored, since the log cannot give it back: who waits for all of them has to know. */
  spilledLost(id: string): void {
    const error = new SyncEngineError(
      'CORRUPTION',
      'An acknowledged write could not be read back from the log, so it cannot be stored. Its id is refused with CORRUPTION until it is written again; healthCheck() counts such ids.',
      { context: { tier: 'wal', id, operation: 'flush' } },
    );
    for (const barrier of [...this.#spillBarriers.keys()]) barrier.fail(error);
    if (this.#isDrained) this.#wakeDrained();
  }

  /** `batchFlushMs` may have changed: what waits is as old as it is, and waits no longer than that from now on. */
  rearm(): void {
    if (this.#ageTimer === undefined) return;
    this.#ageTimer.cancel();
    this.#ageTimer = this.#parts.ports.scheduler.after(this.#config.batchFlushMs, () => this.#aged());
  }

  /** A `flush()` has ended, however. */
  ended(barrier: FlushBarrier): void {
    this.#spillBarriers.delete(barrier);
  }

  /** Sends what is there without waiting for count, bytes or age. */
  force(reason: FlushReason): void {
    const batch = this.#batcher.forceFlush(reason);
    if (batch !== undefined) this.#enqueue(batch.items);
    this.pump();
  }

  /** Starts as many batches as may be under way. Called whenever something may have changed. */
  pump(): void {
    if (this.#stopped || this.#retryTimer !== undefined) return;
    this.#refill();
    while (this.#underWay < this.#underWayMax && this.#parts.archive.available) {
      if (this.#live.count === 0 && this.#backlog.count === 0 && this.#returned.count === 0) return;
      const entries = this.#nextEntries();
      if (entries.length > 0) void this.#flush(entries);
    }
  }

  /**
   * Everything that is dirty now is to be stored. `barrier` is told of each entry; it ends by itself where
   * there is nothing to wait for.
   */
  raise(barrier: FlushBarrier): void {
    const { memory } = this.#parts;
    for (const entry of memory.dirty) {
      if (isUnstored(entry)) barrier.waitFor(entry);
    }
    if (memory.spilledCount > 0 || this.#refs.length > 0) {
      barrier.waitForSpilled();
      this.#spillBarriers.set(barrier, memory.spilledEnd);
    }
    barrier.armed();
    this.force('manual');
  }

  /** SQL went away: what waits for it is backlog from now on, and what comes after its return goes beside it. */
  archiveLost(): void {
    for (let entry = this.#live.take(); entry !== undefined; entry = this.#live.take()) {
      this.addToBacklog(entry);
    }
    if (this.#config.walMode === 'always') return;
    // What was not logged because SQL would take it has to be, now that SQL does not.
    for (const entry of this.#parts.memory.dirty) {
      if (isUnstored(entry)) this.#parts.log?.append(entry);
    }
  }

  /** What an entry was made from is gone in SQL: it has lost, without ever having been applied. */
  lose(entry: Entry, revision: Revision): void {
    const { id, version } = revision;
    entry.storedVersion = version;
    this.#parts.memory.drop(entry);
    this.#losers.add(id);
    const then = (): void => {
      entry.acknowledgeStored(version, false, undefined);
      this.#losers.delete(id);
      if (this.#isDrained) this.#wakeDrained();
    };
    if (this.#parts.log === undefined || entry.logPosition === 0) then();
    else this.#parts.log.release([entry.logPosition], then);
  }

  /** Resolves when nothing waits for SQL any more, or the flusher was stopped. Dead letters do not. */
  drained(): Promise<void> {
    if (this.#isDrained || this.#stopped) return Promise.resolve();
    return new Promise((resolve) => this.#whenDrained.push(resolve));
  }

  /** Nothing is taken any more; what is under way ends by itself. */
  stop(): void {
    this.#stopped = true;
    this.#ageTimer?.cancel();
    this.#retryTimer?.cancel();
    this.#refillTimer?.cancel();
    this.#wakeDrained();
  }

  get #underWayMax(): number {
    return this.#parts.archive.exclusive ? BATCHES_UNDER_WAY_EXCLUSIVE : this.#config.sqlWriteConcurrency;
  }

  get #isDrained(): boolean {
    return this.#parts.memory.dirtyCount <= this.#parts.letters.count;
  }

  #aged(): void {
    this.#ageTimer = undefined;
    if (this.#batcher.stats.items > 0) this.force('time');
  }

  #batchReady(): void {
    const batch = this.#batcher.takeIfReady();
    if (batch !== undefined) this.#enqueue(batch.items);
    this.#ageTimer?.cancel();
    this.#ageTimer = undefined;
    this.pump();
  }

  #enqueue(entries: readonly Entry[]): void {
    const outage = !this.#parts.archive.available;
    for (const entry of entries) {
      if (entry.lane === 'batch') (outage ? this.#backlog : this.#live).push(entry);
    }
  }

  #nextEntries(): Entry[] {
    const waiting = this.#backlog.count > 0 || this.#returned.count > 0;
    const fromBacklog = this.#backlogsTurn ? waiting : this.#live.count === 0;
    this.#backlogsTurn = !fromBacklog;
    if (!fromBacklog) return this.#take(this.#live, this.#config.batchFlushCount);
    const oldest = this.#returned.count > 0 ? this.#returned : this.#backlog;
    return this.#take(oldest, this.#config.walDrainBatchSize);
  }

  #take(lane: LaneQueue, countMax: number): Entry[] {
    const taken: Entry[] = [];
    let bytes = 0;
    while (taken.length < countMax && bytes < this.#config.batchFlushBytes) {
      const entry = lane.take();
      if (entry === undefined) break;
      if (!entry.dirty || !isUnstored(entry) || entry.flushingVersion === entry.revision.version) continue;
      taken.push(entry);
      bytes += entry.sizeBytes;
    }
    return taken;
  }

  /** Brings spilled writes back while the backlog is short and memory has room, or where nothing else is left to do. */
  #refill(): void {
    const { memory, archive, spill } = this.#parts;
    if (spill === undefined || this.#refilling || this.#refillTimer !== undefined) return;
    if (!archive.available) return;
    const waiting = this.#backlog.count + this.#returned.count + this.#live.count;
    if (waiting >= this.#config.walDrainBatchSize) return;
    if (memory.pinnedBytes > memory.bytesMax * SPILL_TO && waiting + this.#underWay > 0) return;
    if (this.#refs.length === 0) {
      this.#refs = memory.takeSpilled(this.#config.walDrainBatchSize, memory.bytesMax * REFILL_SHARE);
      if (this.#refs.length === 0) {
        this.#spilledTaken();
        return;
      }
    }
    this.#refilling = true;
    spill.refill(this.#refs).then(
      (entries) => {
        this.#refilling = false;
        this.#refs = [];
        for (const entry of entries) {
          this.addToBacklog(entry);
          this.replacedSpilled(entry);
        }
        this.#spilledTaken();
        this.pump();
      },
      (error: unknown) => {
        // The log's trouble: what memory holds goes on to SQL meanwhile.
        this.#refilling = false;
        if (this.#stopped) return;
        this.#parts.failed(
          asError(error),
          'Spilled writes could not be read from the log, and will be again',
        );
        this.#refillTimer = this.#retryTimerOf(() => {
          this.#refillTimer = undefined;
          this.pump();
        });
      },
    );
  }

  #spilledTaken(): void {
    const taken = this.#parts.memory.spilledTaken;
    for (const [barrier, end] of this.#spillBarriers) {
      if (taken < end) continue;
      this.#spillBarriers.delete(barrier);
      barrier.spilledTaken();
    }
    if (this.#isDrained) this.#wakeDrained();
  }

  async #flush(entries: readonly Entry[]): Promise<void> {
    this.#underWay++;
    const revisions: Revision[] = [];
    for (const entry of entries) {
      revisions.push(entry.revision);
      entry.flushingVersion = entry.revision.version;
    }
    step('flush.taken');
    const observer = this.#parts.observe?.(revisions);
    await this.#apply(entries, revisions, observer);
    observer?.ended();
    this.#underWay--;
    this.pump();
  }

  async #apply(
    entries: readonly Entry[],
    revisions: readonly Revision[],
    observer: FlushObserver | undefined,
  ): Promise<void> {
    let result: ApplyResult;
    observer?.applying(revisions.length);
    try {
      result = await this.#parts.archive.apply(revisions);
    } catch (error) {
      observer?.failed(error);
      if (!(error instanceof SyncEngineError) || error.code !== 'REJECTED') {
        this.#putBack(entries, revisions, error);
      } else if (entries.length === 1) {
        this.#setAside(entries[0] as Entry, revisions[0] as Revision, messageOf(error.cause ?? error));
      } else {
        const middle = entries.length >> 1;
        await this.#apply(entries.slice(0, middle), revisions.slice(0, middle), observer);
        await this.#apply(entries.slice(middle), revisions.slice(middle), observer);
      }
      return;
    }
    step('flush.applied');
    observer?.applied(result);
    this.#parts.stored(revisions, result);
    observer?.learned();
    this.#applied(entries, revisions, result, observer);
  }

  #applied(
    entries: readonly Entry[],
    revisions: readonly Revision[],
    result: ApplyResult,
    observer: FlushObserver | undefined,
  ): void {
    const positions = new Set<number>();
    const later: (() => void)[] = [];
    for (let at = 0; at < entries.length; at++) {
      const entry = entries[at] as Entry;
      const { id, version } = revisions[at] as Revision;
      const flags = result.flags[at] as number;
      const won = (flags & APPLY_STORED) !== 0;
      if ((flags & APPLY_TOO_OLD) !== 0) {
        this.#setAside(entry, revisions[at] as Revision, TOO_OLD);
        continue;
      }
      if ((flags & APPLY_REDO) !== 0) {
        this.#redo(entry, revisions[at] as Revision);
        continue;
      }
      if (entry.flushingVersion === version) entry.flushingVersion = 0;
      if (version > entry.storedVersion) entry.storedVersion = version;
      // Whether a row existed before is not known of a write that the archive already held.
      const existed = (flags & APPLY_UNCHANGED) !== 0 ? undefined : (flags & APPLY_EXISTED) !== 0;
      if (entry.hasOlderRecord(version) || this.#losers.has(id))
        later.push(() => entry.acknowledgeStored(version, won, existed));
      else entry.acknowledgeStored(version, won, existed);
      if (entry.logPosition !== 0 && entry.loggedVersion <= version) positions.add(entry.logPosition);
      for (const position of this.#parts.damaged.resolve(id)) positions.add(position);
      if (won) continue;
      // A newer row is in SQL: reads must find that one from now on.
      this.#parts.clock.merge(result.newer.get(at) ?? 0);
      if (entry.revision === revisions[at]) {
        this.#parts.memory.drop(entry);
        this.#losers.add(id);
      }
    }
    const clean = (): void => {
      for (const acknowledge of later) acknowledge();
      this.#settle(entries, revisions, positions);
      observer?.released();
    };
    if (this.#parts.log === undefined) clean();
    else this.#parts.log.release([...positions], clean);
  }

  /** Stored and released: what is still the newest of its id turns clean. */
  #settle(entries: readonly Entry[], revisions: readonly Revision[], released: ReadonlySet<number>): void {
    for (let at = 0; at < entries.length; at++) {
      const entry = entries[at] as Entry;
      if (released.has(entry.logPosition)) entry.logPosition = 0;
      // A write that has to be made anew is still the newest here, and not stored.
      const stored = entry.storedVersion >= entry.revision.version;
      if (entry.dirty && stored && entry.revision === revisions[at]) this.#parts.memory.settle(entry);
      if (this.#losers.size > 0) this.#losers.delete(entry.id);
    }
    step('release.clean');
    this.#parts.memory.pace();
    this.#parts.settled();
    if (this.#isDrained) this.#wakeDrained();
  }

  /** The archive refuses this row for good: only its own writers hear of it. */
  #setAside(entry: Entry, revision: Revision, reason: string): void {
    if (entry.flushingVersion === revision.version) entry.flushingVersion = 0;
    entry.failWaiters(revision.version, rejectedError(revision.id, reason));
    // Something newer has taken its place: nobody will miss it.
    if (entry.revision === revision && entry.dirty) this.#parts.letters.add(entry, reason);
    if (this.#isDrained) this.#wakeDrained();
  }

  #redo(entry: Entry, revision: Revision): void {
    if (entry.revision !== revision || !entry.dirty) {
      if (entry.flushingVersion === revision.version) entry.flushingVersion = 0;
      return;
    }
    this.#parts.redo(entry, revision).then(
      (fate) => {
        if (entry.flushingVersion === revision.version) entry.flushingVersion = 0;
        // Not before: an entry that is on its way is passed over, and would then wait nowhere.
        if (fate === 'again') this.add(entry);
        if (this.#isDrained) this.#wakeDrained();
      },
      (error: unknown) => this.#putBack([entry], [revision], error),
    );
  }

  #putBack(entries: readonly Entry[], revisions: readonly Revision[], error: unknown): void {
    for (let at = 0; at < entries.length; at++) {
      const entry = entries[at] as Entry;
      const { version } = revisions[at] as Revision;
      if (entry.flushingVersion === version) entry.flushingVersion = 0;
      if (!entry.dirty || !isUnstored(entry)) continue;
      if (entry.lane === 'none') this.#returned.push(entry);
      if (this.#config.walMode === 'outage') this.#parts.log?.append(entry);
    }
    this.#retryLater(error);
  }

  #retryLater(error: unknown): void {
    if (this.#stopped) return;
    this.#parts.failed(asError(error), 'A batch could not be stored and will be tried again');
    // With the breaker open the next attempt comes with its closing; before that, after a short wait.
    this.#retryTimer ??= this.#retryTimerOf(() => {
      this.#retryTimer = undefined;
      this.pump();
    });
  }

  #retryTimerOf(run: () => void): Timer {
    const { scheduler, random } = this.#parts.ports;
    return scheduler.after(retryDelayMs(RETRY_PRESETS.batchWrite, 0, random.number()), run);
  }

  #wakeDrained(): void {
    const waiting = this.#whenDrained;
    this.#whenDrained = [];
    for (const wake of waiting) wake();
  }
}

const TOO_OLD =
  'it is older than what the archive remembers of deletes, and the id has no row: it may have been deleted since';

function asError(error: unknown): SyncEngineError {
  if (error instanceof SyncEngineError) return error;
  return new SyncEngineError('TIER_UNAVAILABLE', `A batch failed: ${messageOf(error)}`, { cause: error });
}

/** Whether the entry's newest revision still has to reach SQL. */
function isUnstored(entry: Entry): boolean {
  return entry.storedVersion < entry.revision.version && entry.revision.refusal === undefined;
}
