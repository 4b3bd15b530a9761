/**
 * The log as the engine sees it: writes go in, groups of them become durable, and what is stored is released.
 *
 *   append(entry) ─► queue ─┐
 *   release(...)  ─► queue ─┼─► one group ─► RecordStore.commit ─► acknowledge, run what waited for a release
 *   keep(meta)    ─► queue ─┘     (while it is under way, the next group fills)
 *
 * Invariants
 *  - One live record per id: a group that appends an id's newer record removes the older one in the same
 *    commit. So at every instant the log holds the newest logged version of each pending id.
 *  - A record is removed only when its version, or a newer one of the same id, is durable elsewhere: in the
 *    archive (release), or in the same commit (replacement).
 *  - Groups are sent one at a time, so when one fails, nothing behind it has been built on it.
 *
 * Failures. Full disk: nothing of the group was kept; its entries are queued again and tried every second.
 * Anything else: it is unknown what was kept. The store is opened anew, every record is read and verified,
 * and what memory holds is compared with it: what is missing is appended again, what nobody waits for is
 * removed. Until then `status` is `failed`, and a caller's only hope is SQL.
 */
import { messageOf, SyncEngineError, withOutcome } from '../base/errors.js';
import { step } from '../base/steps.js';
import type { Revision } from '../item/revision.js';
import type { Entry } from '../memory/entry.js';
import type { SystemPorts, Timer } from '../ports/ports.js';
import type {
  DamagedRecord,
  LoadedRecord,
  LogContents,
  LogMeta,
  LogOpenOptions,
  RecordStore,
} from './record-store.js';

/** A group is cut here, so that a burst neither blocks the event loop nor delays its own first writers. */
const GROUP_RECORDS_MAX = 2048;
const GROUP_BYTES_MAX = 1024 * 1024;
/** Writers that are told in one turn of the event loop. */
const ACKNOWLEDGED_AT_ONCE = 512;
/** Committed writes whose writers were not told yet, at most, beside those of one group: they are kept in memory. */
const UNTOLD_MAX = 4096;
/** Until a full disk, or a log that cannot be opened, is tried again. */
const RETRY_MS = 1000;

export type LogStatus = 'open' | 'full' | 'failed' | 'closed';

/** What the log holds, and what went through it. */
export interface WalStats {
  /** Records that the log holds. */
  readonly pendingItems: number;
  /** Accounted bytes of the writes that are not yet released. */
  readonly pendingBytes: number;
  readonly totalAppended: number;
  readonly totalReleased: number;
  /** A backlog is being brought into SQL. */
  readonly draining: boolean;
  readonly fileBytes: number;
  readonly backendHealthy: boolean;
}

/** What the log needs to know of memory. */
export interface PendingEntries {
  pending(id: string): Entry | undefined;
  /** Where the spilled write of the id is, 0 where it is not spilled. */
  spilledPosition(id: string): number;
  spilled(): Iterable<{ readonly id: string; readonly position: number }>;
  readonly dirty: Iterable<Entry>;
}

export interface LogEvents {
  /** `version` of the entry, or a newer one, is durable in the log. */
  logged(entry: Entry, version: number): void;
  /** It is not known to be, and nobody should wait for the log to say so. */
  notLogged(entry: Entry, version: number, error: SyncEngineError): void;
  damaged(records: readonly DamagedRecord[]): void;
  /** A spilled write is not in the log, or damaged. */
  spilledLost(id: string, position: number): void;
  statusChanged(status: LogStatus, error: SyncEngineError | undefined): void;
  /** A group was committed, or failed. */
  committed?(group: CommittedGroup): void;
}

/** Facts about one group, for telemetry. */
export interface CommittedGroup {
  readonly appends: readonly Revision[];
  readonly released: number;
  readonly durationMs: number;
  readonly error: SyncEngineError | undefined;
}

interface LogMetaChange {
  clockMark?: number;
  archiveId?: string;
}

/** A group under way, with what is needed to undo its bookkeeping. */
interface SentGroup {
  readonly firstPosition: number;
  readonly entries: readonly Entry[];
  readonly appends: readonly Revision[];
  readonly previousPositions: readonly number[];
  readonly previousVersions: readonly number[];
  readonly released: readonly number[];
  readonly releasedThen: readonly (() => void)[];
  readonly meta: LogMetaChange | undefined;
  readonly metaThen: readonly ((meta: LogMetaChange) => void)[];
}

export class WriteAheadLog {
  readonly #store: RecordStore;
  readonly #ports: SystemPorts;
  readonly #pending: PendingEntries;
  readonly #events: LogEvents;
  #openOptions: LogOpenOptions | undefined;
  #status: LogStatus = 'closed';
  #lastError: SyncEngineError | undefined;

  /** What was taken is let go of at once: under load the queue may never be empty. */
  #queue: (Entry | undefined)[] = [];
  #queueHead = 0;
  #released: number[] = [];
  #releasedThen: (() => void)[] = [];
  #meta: LogMetaChange | undefined;
  #metaThen: ((meta: LogMetaChange) => void)[] = [];
  /** Those who wait for the log to forget something. */
  readonly #forgetting = new Set<(error: SyncEngineError) => void>();

  /** Committed groups whose writers were not all told. */
  #acknowledging: { readonly group: SentGroup; next: number }[] = [];
  /** Writes of these groups that are still to be told. */
  #untold = 0;
  #acknowledgeScheduled = false;

  #underWay = false;
  #scheduled = false;
  #closing = false;
  #retryTimer: Timer | undefined;
  #idle: (() => void)[] = [];
  #nextPosition = 1;
  #live = 0;
  #totalAppended = 0;
  #totalReleased = 0;

  constructor(store: RecordStore, ports: SystemPorts, pending: PendingEntries, events: LogEvents) {
    this.#store = store;
    this.#ports = ports;
    this.#pending = pending;
    this.#events = events;
  }

  get status(): LogStatus {
    return this.#status;
  }

  get lastError(): SyncEngineError | undefined {
    return this.#lastError;
  }

  /** The engine knows the bytes that wait, and whether it drains. */
  stats(pendingBytes: number, draining: boolean): WalStats {
    return {
      pendingItems: this.#live,
      pendingBytes,
      draining,
      totalAppended: this.#totalAppended,
      totalReleased: this.#totalReleased,
      fileBytes: this.#store.fileBytes,
      backendHealthy: this.#status === 'open',
    };
  }

  /** @throws what `RecordStore.open` throws. */
  async open(options: LogOpenOptions): Promise<LogMeta> {
    const meta = await this.#store.open(options);
    this.#openOptions = { ...options, nodeId: meta.nodeId };
    return meta;
  }

  /**
   * Hands over every record, oldest first, and is ready for appends from then on. Of two records of one id,
   * which only a damaged file can hold, `visit` gets both.
   */
  async load(visit: (revision: Revision, position: number) => void): Promise<LogContents> {
    let loaded = 0;
    const contents = await this.#store.load((records) => {
      loaded += records.length;
      for (const { revision, position } of records) visit(revision, position);
    });
    this.#live = loaded;
    this.#nextPosition = contents.nextPosition;
    this.#setStatus('open', undefined);
    this.#schedule();
    return contents;
  }

  /** The entry's present revision becomes durable with the next group; `logged` says when. */
  append(entry: Entry): void {
    if (entry.logQueued) return;
    entry.logQueued = true;
    this.#queue.push(entry);
    this.#schedule();
  }

  /** Records by position, verified; undefined where there is none (any more). Rejects while the log is not open. */
  read(positions: readonly number[]): Promise<(LoadedRecord | DamagedRecord | undefined)[]> {
    if (this.#status === 'open' || this.#status === 'full') return this.#store.read(positions);
    return Promise.reject(this.#lastError ?? new SyncEngineError('WAL_FAILED', 'The log is not open.'));
  }

  /** Forgets records. `then` runs when that is durable, in the order of the calls. */
  release(positions: readonly number[], then: () => void): void {
    for (const position of positions) this.#released.push(position);
    this.#releasedThen.push(then);
    step('release.queued');
    this.#schedule();
  }

  /**
   * As `release` of one record, for who waits for it.
   * @throws `WAL_FAILED` where the log fails, or is closed, before that is durable: it is tried again, but a crash
   * may bring the record back.
   */
  forget(position: number): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#status !== 'open') {
        reject(notForgotten(this.#lastError));
        if (this.#status === 'closed') return;
      }
      this.#forgetting.add(reject);
      this.release([position], () => {
        this.#forgetting.delete(reject);
        resolve();
      });
    });
  }

  /** Keeps a fact about the log. `then` runs when it is durable. */
  keep(change: LogMetaChange, then: (kept: LogMetaChange) => void = () => {}): void {
    this.#meta = { ...this.#meta, ...change };
    this.#metaThen.push(then);
    this.#schedule();
  }

  /** Resolves when everything queued before the call is durable, or the log has failed. */
  settled(): Promise<void> {
    this.#acknowledge(Number.POSITIVE_INFINITY);
    if (!this.#hasWork && !this.#underWay) return Promise.resolve();
    if (this.#status !== 'open') return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#retryTimer?.cancel();
    this.#status = 'closed';
    this.#failForgetting(undefined);
    this.#wakeIdle();
    await this.#store.close();
  }

  get #hasWork(): boolean {
    return (
      this.#queueHead < this.#queue.length ||
      this.#released.length > 0 ||
      this.#releasedThen.length > 0 ||
      this.#meta !== undefined
    );
  }

  #schedule(): void {
    if (this.#scheduled || this.#underWay || this.#status !== 'open') return;
    this.#scheduled = true;
    this.#ports.scheduler.soon(() => {
      this.#scheduled = false;
      this.#pump();
    });
  }

  #pump(): void {
    if (this.#underWay || this.#status !== 'open') return;
    if (!this.#hasWork) {
      this.#wakeIdle();
      return;
    }
    void this.#send(this.#takeGroup());
  }

  #takeGroup(): SentGroup {
    const entries: Entry[] = [];
    const appends: Revision[] = [];
    const previousPositions: number[] = [];
    const previousVersions: number[] = [];
    const firstPosition = this.#nextPosition;
    let bytes = 0;
    while (
      this.#queueHead < this.#queue.length &&
      appends.length < GROUP_RECORDS_MAX &&
      bytes < GROUP_BYTES_MAX
    ) {
      const entry = this.#queue[this.#queueHead] as Entry;
      this.#queue[this.#queueHead++] = undefined;
      entry.logQueued = false;
      // Stored meanwhile, so there is nothing left to protect.
      if (!entry.dirty || entry.storedVersion >= entry.revision.version) continue;
      if (entry.loggedVersion === entry.revision.version && entry.logPosition !== 0 && !entry.logStale)
        continue;
      previousPositions.push(entry.logPosition);
      previousVersions.push(entry.loggedVersion);
      entries.push(entry);
      appends.push(entry.revision);
      bytes += entry.sizeBytes;
      entry.replacedPosition = entry.logPosition;
      entry.logPosition = firstPosition + appends.length - 1;
      entry.loggedVersion = entry.revision.version;
    }
    if (this.#queueHead * 2 >= this.#queue.length) {
      this.#queue = this.#queue.slice(this.#queueHead);
      this.#queueHead = 0;
    }
    this.#nextPosition = firstPosition + appends.length;
    const group: SentGroup = {
      firstPosition,
      entries,
      appends,
      previousPositions,
      previousVersions,
      released: this.#released,
      releasedThen: this.#releasedThen,
      meta: this.#meta,
      metaThen: this.#metaThen,
    };
    this.#released = [];
    this.#releasedThen = [];
    this.#meta = undefined;
    this.#metaThen = [];
    return group;
  }

  async #send(group: SentGroup): Promise<void> {
    this.#underWay = true;
    const removes = group.released.slice();
    for (const position of group.previousPositions) if (position !== 0) removes.push(position);
    let removed = 0;
    const started = this.#ports.clock.monotonic();
    try {
      const { firstPosition, appends, meta } = group;
      if (appends.length > 0 || removes.length > 0 || meta !== undefined) {
        const committing = this.#store.commit({ firstPosition, appends, removes, meta });
        if (appends.length > 0) step('append.sent');
        removed = await committing;
      }
    } catch (error) {
      this.#underWay = false;
      const failure = asLogError(error);
      this.#committed(group, started, failure);
      if (!this.#closing) this.#failed(group, failure);
      return;
    }
    this.#underWay = false;
    this.#live += group.appends.length - removed;
    this.#totalAppended += group.appends.length;
    this.#totalReleased += group.released.length;
    this.#committed(group, started, undefined);
    for (let at = 0; at < group.entries.length; at++) {
      const entry = group.entries[at] as Entry;
      entry.replacedPosition = 0;
      if (entry.revision === group.appends[at]) entry.logStale = false;
    }
    for (const then of group.releasedThen) then();
    if (group.meta !== undefined) for (const then of group.metaThen) then(group.meta);
    this.#acknowledging.push({ group, next: 0 });
    this.#untold += group.entries.length;
    // The next group first: it is committed while those of this one are told.
    this.#pump();
    // Where the loop has no turns to spare, groups are committed faster than it would get around to telling.
    this.#acknowledge(Math.max(ACKNOWLEDGED_AT_ONCE, this.#untold - UNTOLD_MAX));
  }

  /**
   * Tells the writers of committed groups, some in each turn of the event loop: what they do next neither
   * blocks the loop, nor does it all come while the log's thread idles.
   */
  #acknowledge(countMax: number): void {
    let left = countMax;
    for (let first = this.#acknowledging[0]; first !== undefined; first = this.#acknowledging[0]) {
      const { group } = first;
      const end = Math.min(group.entries.length, first.next + left);
      left -= end - first.next;
      this.#untold -= end - first.next;
      while (first.next < end) {
        const at = first.next++;
        this.#events.logged(group.entries[at] as Entry, (group.appends[at] as Revision).version);
      }
      if (end < group.entries.length) break;
      this.#acknowledging.shift();
      if (end > 0) step('append.acknowledged');
    }
    if (this.#acknowledging.length === 0 || this.#acknowledgeScheduled) return;
    this.#acknowledgeScheduled = true;
    this.#ports.scheduler.soon(() => {
      this.#acknowledgeScheduled = false;
      this.#pump();
      this.#acknowledge(ACKNOWLEDGED_AT_ONCE);
    });
  }

  #committed(group: SentGroup, startedMs: number, error: SyncEngineError | undefined): void {
    if (this.#events.committed === undefined) return;
    const { appends, released } = group;
    const durationMs = this.#ports.clock.monotonic() - startedMs;
    this.#events.committed({ appends, released: released.length, durationMs, error });
  }

  #failed(group: SentGroup, error: SyncEngineError): void {
    // What was committed before is not to be taken for lost with it.
    this.#acknowledge(Number.POSITIVE_INFINITY);
    const full = error.code === 'WAL_FULL';
    // The next attempt takes the group's work first; the order among releases is kept.
    this.#released = [...group.released, ...this.#released];
    this.#releasedThen = [...group.releasedThen, ...this.#releasedThen];
    if (group.meta !== undefined) this.#meta = { ...group.meta, ...this.#meta };
    this.#metaThen = [...group.metaThen, ...this.#metaThen];
    this.#setStatus(full ? 'full' : 'failed', error);
    this.#failForgetting(error);
    for (let at = 0; at < group.entries.length; at++) {
      const entry = group.entries[at] as Entry;
      const version = (group.appends[at] as Revision).version;
      entry.replacedPosition = 0;
      if (entry.loggedVersion === version) {
        entry.logPosition = group.previousPositions[at] as number;
        entry.loggedVersion = group.previousVersions[at] as number;
      }
      entry.logUnknown = !full;
      if (entry.logPosition !== 0 && (!entry.dirty || entry.loggedVersion <= entry.storedVersion)) {
        // Stored, or discarded, while the group was under way: its release named the position that failed.
        this.#released.push(entry.logPosition);
      }
      if (entry.dirty && !entry.logQueued) {
        entry.logQueued = true;
        this.#queue.push(entry);
      }
      this.#events.notLogged(entry, version, error);
    }
    if (full) this.#retryLater(() => this.#retryAfterFull());
    else void this.#reopen();
    this.#wakeIdle();
  }

  #retryAfterFull(): void {
    if (this.#status !== 'full') return;
    // Releases alone first: they make room where appends would not fit.
    if (this.#released.length > 0 && this.#queueHead < this.#queue.length) {
      const queue = this.#queue;
      const head = this.#queueHead;
      this.#queue = [];
      this.#queueHead = 0;
      const group = this.#takeGroup();
      this.#queue = queue;
      this.#queueHead = head;
      this.#setStatus('open', undefined);
      void this.#send(group);
      return;
    }
    this.#setStatus('open', undefined);
    this.#pump();
  }

  /** After a failure of unknown extent: what is in the store is read, and memory's view set right by it. */
  async #reopen(): Promise<void> {
    if (this.#closing || this.#openOptions === undefined) return;
    try {
      await this.#store.open(this.#openOptions);
      if (this.#closing) {
        // Closed while it was being opened: it must not stay open behind our back.
        await this.#store.close();
        return;
      }
      // What the entries say of the log stays as it is until everything is read: they are asked meanwhile.
      const found = new Map<Entry, LoadedRecord>();
      const orphans: number[] = [];
      const spilledFound = new Map<number, string>();
      let loaded = 0;
      const contents = await this.#store.load((records) => {
        loaded += records.length;
        for (const record of records) this.#reconcile(record, found, orphans, spilledFound);
      });
      if (this.#closing) return;
      this.#live = loaded;
      this.#nextPosition = Math.max(this.#nextPosition, contents.nextPosition);
      if (contents.damaged.length > 0) this.#events.damaged(contents.damaged);
      for (const { id, position } of [...this.#pending.spilled()]) {
        if (!spilledFound.has(position)) this.#events.spilledLost(id, position);
      }
      this.#settleAfterReopen(found, orphans, spilledFound);
    } catch (error) {
      if (this.#closing) return;
      this.#setStatus('failed', asLogError(error));
      this.#retryLater(() => void this.#reopen());
    }
  }

  /** One record that is in the log: the newest of a pending entry, or nothing that anyone waits for. */
  #reconcile(
    record: LoadedRecord,
    found: Map<Entry, LoadedRecord>,
    orphans: number[],
    spilledFound: Map<number, string>,
  ): void {
    const { position, revision } = record;
    if (this.#pending.spilledPosition(revision.id) === position) {
      spilledFound.set(position, revision.id);
      return;
    }
    const entry = this.#pending.pending(revision.id);
    if (entry === undefined) {
      orphans.push(position);
      return;
    }
    // Newer than what memory holds: not of this process, and not for it to remove.
    if (revision.version > entry.revision.version) return;
    const other = found.get(entry);
    if (other === undefined || other.revision.version < revision.version) found.set(entry, record);
    const older = other === undefined || other.revision.version < revision.version ? other : record;
    if (older !== undefined) orphans.push(older.position);
  }

  /** @param spilledFound Positions of what was spilled when its record was read; it may have been written since. */
  #settleAfterReopen(
    found: ReadonlyMap<Entry, LoadedRecord>,
    orphans: readonly number[],
    spilledFound: ReadonlyMap<number, string>,
  ): void {
    // What was to be released is either gone, or was found again, as an orphan or with its entry.
    this.#released = [...orphans];
    for (const [entry, record] of found) {
      // Lost to a newer row while the log was being read; or spilled, and then the record is all there is.
      if (!entry.dirty && this.#pending.spilledPosition(entry.id) !== record.position)
        this.#released.push(record.position);
    }
    for (const [position, id] of spilledFound) {
      // Neither spilled any more nor carried by the write that took its place: that has lost, and is gone.
      if (
        this.#pending.spilledPosition(id) !== position &&
        this.#pending.pending(id)?.logPosition !== position
      )
        this.#released.push(position);
    }
    for (const entry of this.#pending.dirty) {
      const record = found.get(entry);
      // A write that took the place of a spilled one meanwhile keeps the record that it replaces.
      const carried = record === undefined && spilledFound.has(entry.logPosition);
      entry.logPosition = record?.position ?? (carried ? entry.logPosition : 0);
      entry.loggedVersion = record?.revision.version ?? (carried ? entry.loggedVersion : 0);
      entry.replacedPosition = 0;
      entry.logUnknown = false;
      if (entry.logPosition !== 0 && entry.loggedVersion <= entry.storedVersion)
        this.#released.push(entry.logPosition);
      const { refusal } = entry.revision;
      entry.logStale = refusal !== undefined && record?.revision.refusal === undefined;
      if (entry.loggedVersion === entry.revision.version) this.#events.logged(entry, entry.loggedVersion);
      if (entry.loggedVersion === entry.revision.version && !entry.logStale) continue;
      if (!entry.logQueued && entry.revision.version > entry.storedVersion) {
        entry.logQueued = true;
        this.#queue.push(entry);
      }
    }
    this.#setStatus('open', undefined);
    this.#pump();
  }

  #failForgetting(cause: SyncEngineError | undefined): void {
    for (const reject of this.#forgetting) reject(notForgotten(cause));
    this.#forgetting.clear();
  }

  #retryLater(run: () => void): void {
    this.#retryTimer?.cancel();
    this.#retryTimer = this.#ports.scheduler.after(RETRY_MS, run, false);
  }

  #setStatus(status: LogStatus, error: SyncEngineError | undefined): void {
    this.#lastError = error;
    if (this.#status === status) return;
    this.#status = status;
    this.#events.statusChanged(status, error);
  }

  #wakeIdle(): void {
    if (this.#idle.length === 0) return;
    this.#acknowledge(Number.POSITIVE_INFINITY);
    const idle = this.#idle;
    this.#idle = [];
    for (const wake of idle) wake();
  }
}

function notForgotten(cause: SyncEngineError | undefined): SyncEngineError {
  return new SyncEngineError(
    'WAL_FAILED',
    `The record is gone from memory, but the log could not forget it yet (${cause?.message ?? 'it is closed'}). It is tried again; after a crash the record may come back, then discard it again.`,
    { outcome: 'indeterminate', context: { tier: 'wal' }, cause },
  );
}

function asLogError(error: unknown): SyncEngineError {
  if (error instanceof SyncEngineError) return withOutcome(error, 'indeterminate');
  return new SyncEngineError('WAL_FAILED', `The log failed: ${messageOf(error)}`, {
    outcome: 'indeterminate',
    context: { tier: 'wal' },
    cause: error,
  });
}
