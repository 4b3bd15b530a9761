/**
 * The parts of one engine, wired, and what happens to them over time: start, maintenance, failures, shutdown.
 * The facade (`sync-engine.ts`) checks arguments and calls the parts.
 */
import { CircuitError, messageOf, SyncEngineError } from '../base/errors.js';
import { step } from '../base/steps.js';
import { CacheEviction } from '../coherence/cache-eviction.js';
import { CacheTier } from '../coherence/cache-tier.js';
import { ChangeFollower, type FollowerEvents } from '../coherence/change-follower.js';
import { CONFIG_KEYS, type ResolvedConfig } from '../config/config.js';
import { FilterSnapshotFile } from '../filter/filter-snapshot.js';
import { HybridClock, versionOfMs } from '../item/hybrid-clock.js';
import { makeOrigin } from '../item/origin.js';
import type { Revision } from '../item/revision.js';
import type { Entry } from '../memory/entry.js';
import { MemoryCache, type SpilledRef } from '../memory/memory-cache.js';
import type { Timer } from '../ports/ports.js';
import { BackpressureLevel } from '../resilience/backpressure.js';
import type { CircuitState } from '../resilience/circuit-breaker.js';
import type { ArchiveInfo, ChangeBatch, ChangeHead } from '../storage/archive-store.js';
import { GuardedArchive } from '../storage/guarded-archive.js';
import { GuardedCache } from '../storage/guarded-cache.js';
import type { DamagedRecord, LogMeta } from '../wal/record-store.js';
import { type LogStatus, WriteAheadLog } from '../wal/write-ahead-log.js';
import { composeArchive, composeCache, composeRecordStore, type Ports } from './compose.js';
import { DamagedIds } from './damaged-ids.js';
import { DeadLetters } from './dead-letters.js';
import { EngineTelemetry } from './engine-telemetry.js';
import { Emitter } from './events.js';
import { FilterKeeper } from './filter-keeper.js';
import { Flusher } from './flush.js';
import { FlushBarrier } from './flush-barrier.js';
import { assessHealth, type HealthCheck } from './health.js';
import { type EngineState, type LifecycleEvent, transition } from './lifecycle.js';
import { Loads } from './loads.js';
import { LocalMerkle } from './local-merkle.js';
import { Pressure, type PressureShare } from './pressure.js';
import { ReadPath } from './read-path.js';
import { replay } from './recovery.js';
import { Scans } from './scans.js';
import { Spill } from './spill.js';
import { WritePath } from './write-path.js';

const MAINTENANCE_MS = 1000;
/** Slots looked at for cache-only items that are over, a second: 0.1 ms. */
const SWEPT_A_ROUND = 10_000;
/** Clean entries let go of in one turn of the event loop, a few milliseconds. */
const DROPPED_AT_ONCE = 5000;
const COLLECT_MS = 60_000;
const COLLECT_AT_ONCE = 1000;
/** Of the states that an operator wants to know of; the others are for who looks closer. */
const LOG_LEVEL: Partial<Record<EngineState, 'info' | 'error'>> = {
  Running: 'info',
  Closed: 'info',
  Failed: 'error',
};

/** What a shutdown brought into SQL, and what it could not. */
export interface ShutdownResult {
  readonly flushed: number;
  /** Writes that are not in SQL. With a log they are there and continue at the next start. */
  readonly remaining: number;
}

export class EngineRuntime {
  readonly config: ResolvedConfig;
  readonly ports: Ports;
  readonly emitter: Emitter;
  readonly telemetry: EngineTelemetry;
  readonly memory: MemoryCache;
  readonly clock: HybridClock;
  readonly loads = new Loads();
  readonly damaged = new DamagedIds();
  readonly archive: GuardedArchive | undefined;
  readonly log: WriteAheadLog | undefined;
  readonly flusher: Flusher | undefined;
  readonly reads: ReadPath;
  readonly pressure: Pressure;
  readonly spill: Spill | undefined;
  readonly letters: DeadLetters;
  /** Where others may write the archive too. */
  readonly follower: ChangeFollower | undefined;
  /** Knows the change log without a gap: the follower, or, for an archive of our own, for Redis. */
  readonly #tail: ChangeFollower | undefined;
  /** Where there is Redis. */
  readonly cache: CacheTier | undefined;
  readonly #cacheGuard: GuardedCache | undefined;
  readonly #cacheEviction: CacheEviction | undefined;
  readonly filter: FilterKeeper | undefined;
  readonly scans: Scans;
  readonly merkle: LocalMerkle;
  #writes: WritePath | undefined;
  #state: EngineState = 'Created';
  #maintenance: Timer | undefined;
  #started: Promise<void> | undefined;
  #closed: Promise<ShutdownResult> | undefined;
  readonly #barriers = new Set<FlushBarrier>();
  /** Called when SQL or the log changes while a shutdown drains. */
  #drainChanged: (() => void) | undefined;
  #archiveInfo: ArchiveInfo | undefined;
  #logId: string | undefined;
  #commits = 0;
  readonly #commitWaiters = new Set<() => void>();
  #collecting: Promise<void> | undefined;
  #collectedAtMs = 0;
  /** The look that was the newest when stale items were last reported. */
  #staleSaidOf = Number.NaN;

  constructor(config: ResolvedConfig, ports: Ports) {
    this.config = config;
    this.ports = ports;
    this.emitter = new Emitter(ports.logger);
    this.telemetry = new EngineTelemetry(ports.telemetry, ports, this);
    this.telemetry.node = config.nodeId ?? '';
    this.memory = new MemoryCache(
      config.l1MaxBytes,
      Buffer.from(ports.random.bytes(4)).readInt32LE(),
      () => ports.clock.monotonic(),
      ports.evictionPolicy,
    );
    this.clock = new HybridClock(ports.clock);
    this.archive = this.#makeArchive();
    this.#cacheGuard = this.#makeCacheGuard();
    this.cache = this.#makeCache();
    this.#cacheEviction = this.#makeCacheEviction();
    this.log = this.#makeLog();
    this.pressure = new Pressure(config, {
      memory: this.memory,
      hasLog: this.log !== undefined,
      changed: (level, previous, share) => this.#pressureChanged(level, previous, share),
    });
    this.spill = this.#makeSpill();
    this.letters = this.#makeLetters();
    this.follower = this.#makeFollower();
    this.#tail = this.follower ?? this.#makeTail();
    this.filter = this.#makeFilter();
    this.merkle = new LocalMerkle(
      () => this.#digestArchive(),
      () => this.#archiveInfo?.keyId ?? '',
      this.telemetry.core.counters,
    );
    this.scans = new Scans({
      memory: this.memory,
      archive: this.archive,
      damaged: this.damaged,
      corrupt: (id) => this.corrupt('sql', id),
      spilled: (ids) => this.spill?.getMany(ids) ?? Promise.resolve([]),
      scheduler: this.ports.scheduler,
    });
    this.flusher = this.#makeFlusher();
    this.reads = new ReadPath({
      memory: this.memory,
      archive: this.archive,
      cache: this.cache,
      cacheOnlyMs: (leftMs) =>
        this.archive?.exclusive === true ? leftMs : Math.min(leftMs, this.config.coherenceLeaseMs),
      clock: this.clock,
      ports,
      corrupt: (id) => this.corrupt('sql', id),
      filter: this.filter?.manager,
      damaged: this.damaged,
      spill: this.spill,
      follower: this.follower,
      stale: (id) => this.#servedStale(id),
      traced: this.telemetry.tracedGet,
    });
  }

  get state(): EngineState {
    return this.#state;
  }

  /** Exists from state `Running` on. */
  get writes(): WritePath {
    return this.#writes as WritePath;
  }

  // ── Start ──────────────────────────────────────────────────────────────────────────────────────────────

  start(signal: AbortSignal | undefined): Promise<void> {
    this.#go('start');
    this.#started = this.#start(signal);
    return this.#started;
  }

  async #start(signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.telemetry.starting();
      const [meta] = await Promise.all([this.#openLog(), this.filter?.load()]);
      this.#logId = meta?.logId;
      this.telemetry.node = meta?.nodeId ?? this.telemetry.node;
      step('start.log-opened');
      this.#assertStarting(signal);
      await this.#openArchive(meta);
      if (this.log === undefined) await this.#restoreLetters();
      step('start.archive-opened');
      this.#assertStarting(signal);
      this.#go('connected');
      await this.#indexLog();
      await this.#verifyLetters();
      step('start.log-indexed');
      this.#assertStarting(signal);
      this.#go('logIndexed');
      await this.cache?.start(this.#archiveInfo?.archiveId ?? meta?.archiveId);
      this.#assertStarting(signal);
      this.#cacheEviction?.start();
      this.#go('redisCompared');
      this.#go('warmedUp');
      this.#writes = this.#makeWrites(this.#originOf(meta));
      this.maintain();
      this.#go('run');
      step('start.running');
      this.telemetry.started();
      this.telemetry.watchDrain();
      this.flusher?.pump();
    } catch (error) {
      this.telemetry.started(error);
      if (this.#state !== 'ShuttingDown') this.#go('fail');
      await this.#closeParts(this.config.sqlReadTimeoutMs);
      throw error;
    }
  }

  async #openLog(): Promise<LogMeta | undefined> {
    if (this.log === undefined) {
      if (this.archive === undefined) {
        this.ports.logger.warn(
          {},
          'Without sqlUrl this is a cache: what memory has no room for is gone, and what it holds goes with the process.',
        );
      }
      return undefined;
    }
    const meta = await this.log.open({
      nodeId: this.config.nodeId,
      newLogId: hex(this.ports.random.bytes(16)),
      newNodeId: hex(this.ports.random.bytes(5)),
    });
    this.clock.merge(meta.clockMark);
    return meta;
  }

  async #openArchive(meta: LogMeta | undefined): Promise<void> {
    if (this.archive === undefined) return;
    const expectedId = meta?.archiveId;
    const { allowNewArchive } = this.config;
    try {
      await this.archive.open({
        expectedId,
        mayCreate: expectedId === undefined || allowNewArchive,
        mayDiffer: allowNewArchive,
        merkleEnabled: this.config.merkleEnabled,
        clusterKey: this.config.clusterKey,
      });
    } catch (error) {
      if (!isAway(error) || !this.config.startDegraded) throw error;
      this.ports.logger.warn({ tier: 'sql' }, `Starting without SQL: ${messageOf(error)}`);
    }
  }

  async #indexLog(): Promise<void> {
    const { log, flusher } = this;
    if (log === undefined || flusher === undefined) return;
    const contents = await replay(log, this.memory, flusher, this.clock, this.letters);
    this.#noteDamage(contents.damaged);
    // The first mark must be durable before the first version is stamped.
    this.#keepMark();
    await log.settled();
    if (log.status !== 'open')
      throw log.lastError ?? new SyncEngineError('WAL_FAILED', 'The log was closed.');
  }

  /** Without a log, dead letters are kept by SQL. */
  async #restoreLetters(): Promise<void> {
    for (const { revision, reason, setAsideAtMs } of (await this.archive?.letters()) ?? []) {
      this.clock.merge(revision.version);
      const refusal = { reason, atMs: setAsideAtMs };
      this.letters.restore(this.memory.write({ ...revision, refusal }));
    }
  }

  #verifyLetters(): Promise<void> {
    return this.letters.verify((entry, revision) => this.flusher?.lose(entry, revision));
  }

  #assertStarting(signal: AbortSignal | undefined): void {
    if (this.#state === 'ShuttingDown') {
      throw new SyncEngineError('ENGINE_STATE', 'The engine was shut down while it was starting.');
    }
    if (signal?.aborted === true)
      throw new SyncEngineError('ABORTED', 'The caller gave up during the start.');
  }

  // ── Shutdown ───────────────────────────────────────────────────────────────────────────────────────────

  shutdown(deadlineMs: number): Promise<ShutdownResult> {
    this.#closed ??= this.#close(deadlineMs);
    return this.#closed;
  }

  async #close(deadlineMs: number): Promise<ShutdownResult> {
    if (this.#state === 'Failed') return { flushed: 0, remaining: this.#waiting };
    const endAt = this.ports.clock.monotonic() + deadlineMs;
    const left = (): number => Math.max(1, endAt - this.ports.clock.monotonic());
    this.telemetry.closing();
    this.#go('shutdown');
    await this.#started?.catch(() => {});
    this.#writes?.stopTaking(this.#closedError());
    const pending = this.#waiting;
    if (pending > 0) await this.#drain(left());
    if (this.letters.volatileCount > 0 && this.log !== undefined)
      await this.#within(left(), this.log.settled());
    const remaining = this.#waiting + this.letters.volatileCount;
    // Nothing is stamped any more, so the next start need not begin ahead of what was used.
    if (this.#writes !== undefined) this.log?.keep({ clockMark: this.clock.last + 1 });
    await this.#closeParts(left());
    this.#go('closed');
    // A dead letter that was set aside meanwhile was pending, and is neither.
    const flushed = Math.max(0, pending - remaining);
    this.telemetry.closed(flushed, remaining);
    return { flushed, remaining };
  }

  /** Writes that are on their way to SQL. */
  get #waiting(): number {
    return this.memory.dirtyCount - this.letters.count;
  }

  /** Until all is stored. Where SQL is away and the log holds everything, there is nothing to wait for. */
  async #drain(deadlineMs: number): Promise<void> {
    const { flusher, log, archive, memory } = this;
    if (flusher === undefined) return;
    flusher.force('shutdown');
    for (const entry of memory.dirty) {
      const newest = entry.revision.version;
      if (entry.storedVersion < newest && entry.loggedVersion < newest) log?.append(entry);
    }
    const drained = new Promise<void>((resolve) => {
      this.#drainChanged = () => {
        if (log?.status === 'open' && archive?.available !== true) resolve();
      };
      this.#drainChanged();
      void flusher.drained().then(resolve);
    });
    await this.#within(deadlineMs, drained);
    this.#drainChanged = undefined;
  }

  async #closeParts(deadlineMs: number): Promise<void> {
    this.#maintenance?.cancel();
    this.flusher?.stop();
    this.#tail?.stop();
    this.#cacheEviction?.stop();
    this.#wakeStreams();
    if (this.#state === 'ShuttingDown') void this.filter?.save();
    const filterClosed = this.filter?.close() ?? Promise.resolve();
    if (this.log !== undefined) await this.#within(deadlineMs, this.log.settled());
    if (this.cache !== undefined) await this.#within(deadlineMs, this.cache.settled());
    const error = this.#closedError();
    this.#writes?.failAll(error);
    for (const barrier of [...this.#barriers]) barrier.fail(error);
    await Promise.all([
      this.#within(deadlineMs, filterClosed),
      this.cache?.stop(),
      this.archive?.close(deadlineMs),
      this.#closeLog(deadlineMs),
    ]);
  }

  async #closeLog(deadlineMs: number): Promise<void> {
    if (this.log === undefined) return;
    if (!(await this.#within(deadlineMs, this.log.close()))) await this.log.close();
  }

  /** Whether `work` ended in time. */
  async #within(deadlineMs: number, work: Promise<void>): Promise<boolean> {
    let timer: Timer | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = this.ports.scheduler.after(deadlineMs, () => resolve(false));
    });
    const inTime = await Promise.race([work.then(() => true), late]);
    timer?.cancel();
    return inTime;
  }

  #closedError(): SyncEngineError {
    const fate =
      this.log === undefined
        ? 'It was pending in memory only.'
        : 'What the log holds of it continues at the next start.';
    return new SyncEngineError(
      'ENGINE_STATE',
      `The engine was shut down before the write reached its level. ${fate}`,
      {
        outcome: 'indeterminate',
        context: { state: this.#state },
      },
    );
  }

  // ── While it runs ──────────────────────────────────────────────────────────────────────────────────────

  /** One round of maintenance; plans the next. */
  maintain(): void {
    this.memory.setTime(this.ports.clock.now(), this.ports.clock.monotonic());
    this.#keepMark();
    this.memory.sweep(SWEPT_A_ROUND);
    this.memory.pace();
    this.#dropClean();
    this.#writes?.relieved();
    this.filter?.maintain();
    void this.#verifyLetters();
    if (this.ports.clock.monotonic() - this.#collectedAtMs >= COLLECT_MS) void this.collect();
    this.#maintenance?.cancel();
    this.#maintenance = this.ports.scheduler.after(MAINTENANCE_MS, () => this.maintain(), false);
  }

  /** Forgets tombstones that are older than `tombstoneRetentionMs`. Never rejects: the next round tries again. */
  collect(): Promise<void> {
    this.#collectedAtMs = this.ports.clock.monotonic();
    this.#collecting ??= this.#collect()
      .catch((error: unknown) => this.#reportUnlessAway(error, 'Tombstones could not be collected'))
      .finally(() => {
        this.#collecting = undefined;
      });
    return this.#collecting;
  }

  async #collect(): Promise<void> {
    const { archive, ports, config } = this;
    while (archive?.available === true && this.#state === 'Running') {
      const nowMs = ports.clock.now();
      const { removed, more, head } = await archive.collect({
        upTo: versionOfMs(Math.max(0, nowMs - config.tombstoneRetentionMs)),
        log:
          this.#logId === undefined ? undefined : { logId: this.#logId, lowerBound: this.#lowestPending() },
        nowMs,
        expiryMs: config.peerExpiryMs,
        limit: COLLECT_AT_ONCE,
      });
      if (removed > 0) this.filter?.collected(removed, head);
      if (!more) return;
    }
  }

  /** The log holds nothing at or below it, and will not: what is stamped from now on is newer. */
  #lowestPending(): number {
    let lowest = this.clock.last;
    for (const { revision, loggedVersion } of this.memory.dirty) {
      lowest = Math.min(lowest, revision.version - 1);
      if (loggedVersion > 0) lowest = Math.min(lowest, loggedVersion - 1);
    }
    return Math.min(lowest, this.memory.spilledFrom - 1);
  }

  /** Commits to SQL that this engine knows of. */
  get commits(): number {
    return this.#commits;
  }

  /** Resolves at the next commit to SQL, when the engine closes, or after `ms`. */
  nextCommit(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        timer.cancel();
        this.#commitWaiters.delete(wake);
        resolve();
      };
      const timer = this.ports.scheduler.after(ms, wake);
      this.#commitWaiters.add(wake);
    });
  }

  #wakeStreams(): void {
    this.#commits++;
    for (const wake of [...this.#commitWaiters]) wake();
  }

  /** Resolves when everything that is dirty now is stored. */
  flush(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    if (this.flusher === undefined) return Promise.resolve();
    const refusal = this.archive?.refusal;
    if (refusal !== undefined) return Promise.reject(refusal);
    const barrier = new FlushBarrier(timeoutMs, signal, this.ports, (ended) => {
      this.#barriers.delete(ended);
      this.flusher?.ended(ended);
    });
    this.#barriers.add(barrier);
    this.flusher.raise(barrier);
    return barrier.promise;
  }

  /** Takes over what may change live; parts read the configuration at each use. What is under way keeps its bounds. */
  reconfigure(changed: ResolvedConfig): void {
    const keys = CONFIG_KEYS.filter((key) => changed[key] !== this.config[key]);
    if (keys.length === 0) return;
    Object.assign(this.config, changed);
    this.#resizeMemory();
    this.ports.logger.info({ keys }, 'The configuration was changed.');
    this.#writes?.relieved();
    this.flusher?.rearm();
    this.flusher?.pump();
  }

  /** In portions: a smaller budget may mean millions of evictions. */
  #resizeMemory(): void {
    if (this.memory.resize(this.config.l1MaxBytes, DROPPED_AT_ONCE))
      this.ports.scheduler.soon(() => this.#resizeMemory());
  }

  health(): HealthCheck {
    const { archive, log, memory } = this;
    const { waitingBytes } = memory;
    return assessHealth({
      state: this.#state,
      memory: memory.stats,
      pressure: this.pressure.share(),
      backpressure: this.pressure.review(),
      throttled: this.#writes?.heldCount ?? 0,
      redis: this.#cacheGuard?.health,
      redisSynced: this.cache?.synced ?? true,
      redisLag: this.cache?.lag,
      redisUnconfirmedIds: this.cache?.unconfirmedIds ?? 0,
      redisShare: this.#cacheEviction?.share,
      archive: archive?.health,
      archiveAvailable: archive?.available ?? true,
      wal: log === undefined ? undefined : log.stats(waitingBytes, this.flusher?.draining === true),
      logStatus: log?.status,
      logError: log?.lastError?.message,
      damagedRecords: this.damaged.count,
      filter: this.filter?.status,
      deadLetters: this.letters.count,
      coherenceAgeMs: this.follower?.ageMs,
      stale: this.follower !== undefined && !this.follower.current,
    });
  }

  /** Somebody committed a transaction, perhaps we: what is older here goes, and what is on its way is not kept. */
  #changedByOthers(batch: ChangeBatch): void {
    this.filter?.learn(batch);
    for (const { id, version, origin } of batch.changes) {
      this.clock.merge(version);
      this.reads.detach(id);
      this.loads.overtake(id);
      this.memory.overtaken(id, version, origin);
    }
    this.cache?.changed(batch);
    this.telemetry.seen(batch);
    this.#wakeStreams();
  }

  #changesMissed(gap: 'trimmed' | 'foreign', head: ChangeHead): void {
    const why =
      gap === 'foreign'
        ? 'SQL is a restored copy: what was committed after it was taken is gone from it'
        : 'SQL has forgotten changes that this engine had not read';
    this.ports.logger.warn({ tier: 'sql', position: head.position }, `${why}. Memory and filter begin anew.`);
    this.reads.detachAll();
    this.memory.forgetClean();
    this.filter?.missed(why);
    this.cache?.missed(head);
    this.#wakeStreams();
  }

  #servedStale(id: string): void {
    const { lookedAtMs, ageMs } = this.follower ?? { lookedAtMs: 0, ageMs: undefined };
    if (this.#staleSaidOf === lookedAtMs) return;
    this.#staleSaidOf = lookedAtMs;
    this.ports.logger.warn(
      { tier: 'sql', ageMs },
      'The change log cannot be read: items are served as stale.',
    );
    this.emitter.emit('stale', { id, ageMs });
  }

  #pressureChanged(
    level: BackpressureLevel,
    previous: BackpressureLevel,
    { ratio, limit }: PressureShare,
  ): void {
    const fields = { level: level.name, previous: previous.name, pressure: ratio, limit };
    const message = `Backpressure: ${level.description}`;
    if (level.rank > previous.rank && level !== BackpressureLevel.Warn)
      this.ports.logger.warn(fields, message);
    else this.ports.logger.info(fields, message);
    this.memory.pinnedOnly = level.rank >= BackpressureLevel.Emergency.rank;
    this.#dropClean();
    this.telemetry.backpressure(level, previous);
    this.emitter.emit('backpressure', { level, previous, pressure: ratio });
  }

  /** From Emergency on nothing clean is kept: it goes in portions, since there may be millions. */
  #dropClean(): void {
    if (this.memory.dropClean(DROPPED_AT_ONCE)) this.ports.scheduler.soon(() => this.#dropClean());
  }

  corrupt(tier: 'memory' | 'wal' | 'redis' | 'sql', id: string | undefined): void {
    this.ports.logger.error({ tier, id }, 'Damaged bytes were found and not served.');
    this.telemetry.corrupt(tier, id);
    this.emitter.emit('corruption', { tier, id });
  }

  #archiveConnected(info: ArchiveInfo): void {
    this.clock.merge(Math.max(info.highVersion, info.horizon));
    this.#archiveInfo = info;
    this.telemetry.seen(info.head);
    this.filter?.connected(info);
    this.#tail?.connected(info.head);
    this.cache
      ?.archiveConnected(info.archiveId, info.head)
      .catch((error) => this.#report(error, 'Redis cannot be used'));
    // Queued before any release, and the log keeps the order: it never forgets a record without knowing
    // which archive took it.
    this.log?.keep({ archiveId: info.archiveId });
  }

  #cacheCircuitChanged(state: CircuitState): void {
    this.ports.logger.warn({ tier: 'redis', circuit: state }, `The breaker of Redis is ${state}.`);
    this.telemetry.circuitChanged('redis', state);
    this.emitter.emit('circuit', { backend: 'redis', state });
    if (state !== 'open') this.cache?.answers();
  }

  #circuitChanged(state: CircuitState): void {
    this.ports.logger.warn({ tier: 'sql', circuit: state }, `The breaker of SQL is ${state}.`);
    this.telemetry.circuitChanged('sql', state);
    this.emitter.emit('circuit', { backend: 'sql', state });
    if (state === 'open') {
      const error = new CircuitError('sql', MAINTENANCE_MS);
      for (const barrier of [...this.#barriers]) barrier.fail(error);
      this.flusher?.archiveLost();
    } else {
      this.flusher?.pump();
      void this.#tail?.look();
      void this.#verifyLetters();
    }
    this.#drainChanged?.();
  }

  #logStatusChanged(status: LogStatus, error: SyncEngineError | undefined): void {
    if (error === undefined) this.ports.logger.info({ tier: 'wal' }, `The log is ${status}.`);
    else this.#report(error, `The log is ${status}`);
    this.#drainChanged?.();
  }

  /** The log cannot give back a spilled write: its id is refused from now on, and who waits for it is told. */
  #spilledLost({ id, position }: SpilledRef): void {
    this.memory.dropSpilled(id, position);
    this.#noteDamage([{ id, position }]);
    this.flusher?.spilledLost(id);
  }

  #noteDamage(records: readonly DamagedRecord[]): void {
    for (const { id, position } of records) {
      this.damaged.add(id, position);
      this.corrupt('wal', id);
    }
  }

  #reportUnlessAway(error: unknown, what: string): void {
    if (error instanceof SyncEngineError && !error.retryable) this.#report(error, what);
    else this.ports.logger.warn({}, `${what}: ${messageOf(error)}`);
  }

  #report(error: SyncEngineError, what: string): void {
    this.ports.logger.warn({ code: error.code, ...error.context }, `${what}: ${error.message}`);
    this.telemetry.reported(error);
    this.emitter.emit('error', error);
  }

  #keepMark(): void {
    const mark = this.log === undefined ? undefined : this.clock.markNeeded();
    if (mark === undefined) return;
    this.log?.keep({ clockMark: mark }, ({ clockMark }) => this.clock.markKept(clockMark ?? mark));
  }

  #go(event: LifecycleEvent): void {
    const previous = this.#state;
    this.#state = transition(previous, event);
    this.ports.logger[LOG_LEVEL[this.#state] ?? 'debug'](
      { state: this.#state, previous },
      `The engine is ${this.#state}.`,
    );
    this.telemetry.stateChanged(this.#state, previous);
    this.emitter.emit('state', { state: this.#state, previous });
  }

  // ── Parts ──────────────────────────────────────────────────────────────────────────────────────────────

  #makeArchive(): GuardedArchive | undefined {
    const store = composeArchive(this.config, this.ports);
    if (store === undefined) return undefined;
    return new GuardedArchive(store, this.config, this.ports, {
      connected: (info) => this.#archiveConnected(info),
      circuit: (state) => this.#circuitChanged(state),
      called: (operation, ms, code) => this.telemetry.called('sql', operation, ms, code),
    });
  }

  #makeCacheGuard(): GuardedCache | undefined {
    const store = composeCache(this.config, this.ports);
    if (store === undefined) return undefined;
    return new GuardedCache(store, this.config, this.ports, {
      connected: () => this.cache?.connected(),
      circuit: (state) => this.#cacheCircuitChanged(state),
      called: (operation, ms, code) => this.telemetry.called('redis', operation, ms, code),
    });
  }

  #makeCache(): CacheTier | undefined {
    if (this.#cacheGuard === undefined) return undefined;
    const { clock, scheduler, random, logger } = this.ports;
    return new CacheTier({
      config: this.config,
      cache: this.#cacheGuard,
      archive: this.archive,
      clock,
      scheduler,
      random,
      events: {
        damaged: (id) => this.corrupt('redis', id),
        noticed: (message) => logger.warn({ tier: 'redis' }, message),
      },
    });
  }

  #makeCacheEviction(): CacheEviction | undefined {
    if (this.#cacheGuard === undefined) return undefined;
    const { clock, scheduler, evictionPolicy } = this.ports;
    return new CacheEviction({
      config: this.config,
      cache: this.#cacheGuard,
      clock,
      scheduler,
      policy: evictionPolicy,
      evicted: (count) => {
        this.telemetry.cacheEvictions += count;
      },
    });
  }

  #makeLog(): WriteAheadLog | undefined {
    const store = composeRecordStore(this.config, this.ports);
    if (store === undefined) return undefined;
    return new WriteAheadLog(store, this.ports, this.memory, {
      logged: (entry, version) => {
        entry.durableVersion = version;
        entry.acknowledgeLogged(version);
        this.spill?.relieve();
      },
      notLogged: (entry, version, error) => entry.failWaiters(version, error, 'wal'),
      damaged: (records) => this.#noteDamage(records),
      spilledLost: (id, position) => this.#spilledLost({ id, position }),
      statusChanged: (status, error) => this.#logStatusChanged(status, error),
      committed: (group) => this.telemetry.logCommitted(group),
    });
  }

  #makeSpill(): Spill | undefined {
    if (this.log === undefined) return undefined;
    return new Spill(this.config, {
      memory: this.memory,
      log: this.log,
      ports: this.ports,
      leaving: (entry) => this.flusher?.leave(entry),
      entriesMax: this.pressure.entriesMax,
      spilled: () => this.#writes?.relieved(),
      lost: (ref) => this.#spilledLost(ref),
      get: (id) => this.reads.get(id),
    });
  }

  #makeLetters(): DeadLetters {
    return new DeadLetters({
      memory: this.memory,
      log: this.log,
      archive: () => this.archive,
      clock: this.ports.clock,
      added: (id, error) => {
        this.ports.logger.error({ id, code: error.code }, error.message);
        this.telemetry.setAside(id);
        this.emitter.emit('deadLetter', { id, error });
      },
      failed: (error) => this.#reportUnlessAway(error, 'A dead letter could not be kept or dropped in SQL'),
    });
  }

  #makeFollower(): ChangeFollower | undefined {
    if (this.archive === undefined || this.archive.exclusive) return undefined;
    return this.#followerOf(this.archive, true, {
      changed: (batch) => this.#changedByOthers(batch),
      missed: (gap, head) => this.#changesMissed(gap, head),
    });
  }

  /** Nobody else writes the archive, but a commit whose reply was lost is known to its change log alone. */
  #makeTail(): ChangeFollower | undefined {
    const { archive, cache } = this;
    if (archive === undefined || cache === undefined) return undefined;
    return this.#followerOf(archive, false, {
      changed: (batch) => cache.changed(batch),
      missed: (_gap, head) => cache.missed(head),
    });
  }

  #followerOf(archive: GuardedArchive, polls: boolean, events: FollowerEvents): ChangeFollower {
    const { clock, scheduler } = this.ports;
    return new ChangeFollower({ config: this.config, archive, polls, clock, scheduler, events });
  }

  #makeFilter(): FilterKeeper | undefined {
    if (this.archive === undefined) return undefined;
    const { walPath } = this.config;
    return new FilterKeeper(this.config, {
      archive: this.archive,
      snapshot: walPath === undefined ? undefined : new FilterSnapshotFile(`${walPath}-filter`),
      look: this.follower === undefined ? undefined : () => (this.follower as ChangeFollower).lookAnew(),
      ports: this.ports,
      corrupt: (error) => {
        this.ports.logger.error({ ...error.context }, error.message);
        this.telemetry.corrupt('memory', undefined);
        this.emitter.emit('corruption', { tier: 'memory', id: undefined });
      },
      failed: (error) => this.#reportUnlessAway(error, 'The filter could not be saved or built'),
    });
  }

  /** The archive, for digests. @throws `CONFIG` where there are none. */
  #digestArchive(): GuardedArchive {
    if (this.archive !== undefined && this.config.merkleEnabled) return this.archive;
    throw new SyncEngineError(
      'CONFIG',
      'There are no digests: they are kept in SQL, with merkleEnabled: true.',
    );
  }

  /** A write was made from something else than what SQL holds: it is made anew from that. */
  async #redo(entry: Entry, refused: Revision): Promise<'again' | 'done'> {
    const [row] = await (this.archive as GuardedArchive).getMany([refused.id]);
    if (row instanceof SyncEngineError) throw row;
    if (entry.revision !== refused || !entry.dirty) return 'done';
    if (row === undefined) return 'again';
    if (this.writes.redo(entry, refused, row)) return 'done';
    // Redis may hold what the deleted one replaced: by then its delete is known.
    if (this.cache !== undefined) await this.#tail?.lookAnew();
    if (entry.revision === refused && entry.dirty) this.flusher?.lose(entry, refused);
    return 'done';
  }

  #makeFlusher(): Flusher | undefined {
    if (this.archive === undefined) return undefined;
    return new Flusher(this.config, {
      memory: this.memory,
      archive: this.archive,
      log: this.log,
      clock: this.clock,
      damaged: this.damaged,
      letters: this.letters,
      spill: this.spill,
      stored: (writes, result) => {
        this.filter?.stored(writes, result);
        this.letters.stored(writes, result);
        this.cache?.committed(writes, result);
        this.#tail?.committed(result.head, result.changed);
        if (result.changed) this.#wakeStreams();
        this.telemetry.stored(result);
      },
      settled: () => this.#writes?.relieved(),
      redo: (entry, refused) => this.#redo(entry, refused),
      ports: this.ports,
      failed: (error, what) => this.#report(error, what),
      observe: (writes) => this.telemetry.flush(writes),
    });
  }

  #makeWrites(origin: string): WritePath {
    return new WritePath(this.config, {
      memory: this.memory,
      clock: this.clock,
      reads: this.reads,
      loads: this.loads,
      letters: this.letters,
      pressure: this.pressure,
      filter: this.filter?.manager,
      log: this.log,
      archive: this.archive,
      cache: this.cache,
      flusher: this.flusher,
      ports: this.ports,
      origin,
      markReached: () => this.#keepMark(),
    });
  }

  #originOf(meta: LogMeta | undefined): string {
    if (meta !== undefined) return makeOrigin(meta.nodeId, meta.incarnation);
    // Nothing counts the starts of an engine without a log: a random incarnation tells them apart.
    const random = Buffer.from(this.ports.random.bytes(9));
    return makeOrigin(this.config.nodeId ?? hex(random.subarray(4)), random.readUInt32BE(0));
  }
}

function isAway(error: unknown): boolean {
  return error instanceof SyncEngineError && (error.code === 'TIER_UNAVAILABLE' || error.code === 'DEADLINE');
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
