/** The engine as its users see it. Every verb checks its arguments and delegates. */
import { hash } from 'node:crypto';
import { SyncEngineError } from '../base/errors.js';
import { changedConfig, type ReadyMade, resolveConfig, type SyncEngineConfig } from '../config/config.js';
import {
  type AckLevel,
  assertKnown,
  assertSignal,
  assertSubmitOptions,
  assertWriteOptions,
  SUBMIT_OPTIONS,
  type SubmitOptions,
  type SubmitReceipt,
  type WriteOptions,
} from '../config/submit-options.js';
import { assertId } from '../item/object-id.js';
import { contentHashOf, DEFAULT_STATE } from '../item/revision.js';
import { assertState, optionsOf, revisionOf, SyncItem, staleOf } from '../item/sync-item.js';
import type { Absence, MemoryStats } from '../memory/memory-cache.js';
import { drillDown, findDivergentPaths } from '../merkle/diff.js';
import { LaneSum, wireHash } from '../merkle/digest.js';
import type { MerkleDiff, MerkleNode, MerkleSource } from '../merkle/merkle-source.js';
import { type MerklePath, pathOf } from '../merkle/path.js';
import type { BackpressureLevel } from '../resilience/backpressure.js';
import type { Counters } from '../telemetry/counters.js';
import type { LatencyStats } from '../telemetry/latency-timer.js';
import type { Measurement } from '../telemetry/metrics.js';
import type { WalStats } from '../wal/write-ahead-log.js';
import { abortable } from './abortable.js';
import { type BatchResult, ManyWrites, NOBODY, SingleWrite } from './ack-targets.js';
import { type Change, type ChangeOptions, streamChanges } from './change-stream.js';
import { composePorts, type Ports } from './compose.js';
import { type DeadLetter, noLetter, rejectedError } from './dead-letters.js';
import type { EngineEventName, EngineListener } from './events.js';
import type { FilterStatus } from './filter-keeper.js';
import { getOrInsert, type LoadFactory, type LoadParts } from './get-or-insert.js';
import type { HealthCheck } from './health.js';
import type { EngineState } from './lifecycle.js';
import { assertPorts } from './port-check.js';
import { type PageOptions, Queries, type ScanOptions, tombstone } from './queries.js';
import { EngineRuntime, type ShutdownResult } from './runtime.js';
import { type ScrubResult, scrub } from './scrub.js';
import type { WriteRequest } from './write-path.js';

const FLUSH_TIMEOUT_MS = 30_000;
const SHUTDOWN_DEADLINE_MS = 30_000;
const SCRUB_PAGE = 1000;
const LETTERS_DEFAULT = 1000;
const PAGE_OPTIONS = ['after', 'limit', 'signal'];
const SCAN_OPTIONS = [...PAGE_OPTIONS, 'pageSize'];
/** Of an archive without rows. */
const EMPTY_ROOT = wireHash(new LaneSum().bytes(), 0).toString('hex');

/** What every read takes. */
export interface ReadOptions {
  readonly signal?: AbortSignal;
}

/** What `get` takes. */
export interface GetOptions extends ReadOptions {
  /** Ask SQL although memory holds the id. */
  readonly fresh?: boolean;
}

/** What `flush` takes. */
export interface FlushOptions {
  /** Default 30,000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** How far the newest write of an id got, and which tiers hold it. */
export type ItemStatus =
  | { readonly kind: 'pending'; readonly ack: AckLevel }
  | { readonly kind: 'synced'; readonly l1: boolean; readonly l2: boolean; readonly l3: boolean }
  /** SQL refuses the newest write because of the row itself. */
  | { readonly kind: 'deadLetter'; readonly error: SyncEngineError }
  | { readonly kind: 'missing' };

/** What SQL refuses because of the row itself. */
export interface DeadLetterBox {
  /** In byte order of the ids. */
  list(page?: PageOptions): Promise<DeadLetter[]>;
  /**
   * Tries a write again under a new version; resolves when it is stored, or has lost to something newer.
   * @throws `CONFIG` where there is no such letter, `REJECTED` where SQL refuses it again, what `submit` throws.
   */
  retry(id: string): Promise<void>;
  /** Forgets a write: reads find what SQL holds. @throws `CONFIG` where there is no such letter. */
  discard(id: string): Promise<void>;
}

/** What a comparison of the filter with SQL found. */
export interface FilterCheck {
  readonly trusted: boolean;
  /** Ids of rows in SQL that the filter was asked for. */
  readonly checked: number;
  /** Those that it denied: none, or the filter is broken and is built anew. */
  readonly missing: number;
}

/** What `scrub` takes. */
export interface ScrubOptions extends ReadOptions {
  /** Rows read at a time; default 1,000. */
  readonly pageSize?: number;
}

/**
 * Memory, a write-ahead log and SQL behind one `submit` and one `get`. One instance owns its log and its SQLite
 * file.
 */
export class SyncEngine implements AsyncDisposable {
  readonly #runtime: EngineRuntime;
  readonly #loadParts: LoadParts;
  readonly #queries: Queries;
  readonly #counters: Counters;
  /** Writes that SQL refuses because of the row itself. */
  readonly deadLetters: DeadLetterBox;

  readonly #readyMade: ReadyMade;
  /** What the caller configured: defaults that follow from it are derived anew when it changes. */
  #given: SyncEngineConfig;

  /**
   * Connects to nothing; `start()` does.
   * @throws `CONFIG` listing every problem of the configuration, or of the ports.
   */
  constructor(config: SyncEngineConfig = {}, ports: Partial<Ports> = {}) {
    assertPorts(ports);
    this.#readyMade = {
      cache: ports.cache !== undefined,
      archive: ports.archive !== undefined,
      log: ports.recordStore !== undefined,
    };
    this.#given = { ...config };
    this.#runtime = new EngineRuntime(resolveConfig(config, this.#readyMade), composePorts(ports));
    this.#counters = this.#runtime.telemetry.core.counters;
    this.#loadParts = {
      memory: this.#runtime.memory,
      loads: this.#runtime.loads,
      current: () => this.#runtime.reads.current,
      get: (id) => this.get(id),
      submit: (item, options) => this.submit(item, options),
    };
    this.#queries = new Queries({
      memory: this.#runtime.memory,
      clock: this.#runtime.clock,
      scans: this.#runtime.scans,
      scheduler: this.#runtime.ports.scheduler,
      writes: () => this.#runtime.writes,
      telemetry: this.#runtime.telemetry,
      get: (id) => this.get(id),
    });
    this.deadLetters = {
      list: async (page = {}) => {
        this.#assertRunning('deadLetters.list');
        checkPage(page, PAGE_OPTIONS);
        return this.#runtime.letters.list(page.after, page.limit ?? LETTERS_DEFAULT);
      },
      retry: async (id) => {
        this.#assertRunning('deadLetters.retry');
        assertId(id);
        await this.#retryLetter(id);
      },
      discard: async (id) => {
        this.#assertRunning('deadLetters.discard');
        assertId(id);
        await this.#runtime.letters.discard(id);
      },
    };
  }

  // ── Lifecycle ──────────────────────────────────────────────────────────────────────────────────────────

  /** Where in its life the engine is. */
  get state(): EngineState {
    return this.#runtime.state;
  }

  /**
   * Calls `listener` at every event of this name.
   * @throws `CONFIG` for a name that no event has, TypeError for a listener that is no function.
   */
  on<Name extends EngineEventName>(event: Name, listener: EngineListener<Name>): this {
    this.#runtime.emitter.on(event, listener);
    return this;
  }

  /** Stops calling it. */
  off<Name extends EngineEventName>(event: Name, listener: EngineListener<Name>): this {
    this.#runtime.emitter.off(event, listener);
    return this;
  }

  /**
   * Opens log and archive, takes over what the log holds, and resolves in state `Running`. The backlog is
   * drained in the background.
   * @throws `CONFLICT`, `CORRUPTION`, `SCHEMA`, `CONFIG`, `WAL_FAILED`, `WAL_FULL`; `TIER_UNAVAILABLE` or
   * `DEADLINE` where SQL is away and `startDegraded` is false; `ABORTED`; `ENGINE_STATE` for a second start.
   */
  async start(options: ReadOptions = {}): Promise<void> {
    checkRead(options);
    if (this.state !== 'Created') throw this.#stateError('start');
    if (options.signal?.aborted === true)
      throw new SyncEngineError('ABORTED', 'The caller gave up before the start.');
    await this.#runtime.start(options.signal);
  }

  /**
   * Takes no more writes, brings what is pending into SQL, closes everything. A second call gets the same
   * answer.
   * @param options.deadlineMs Bound of the whole; default 30,000.
   */
  async shutdown(options: { readonly deadlineMs?: number } = {}): Promise<ShutdownResult> {
    assertKnown(options, ['deadlineMs']);
    assertDuration(options.deadlineMs, 'deadlineMs');
    return this.#runtime.shutdown(options.deadlineMs ?? SHUTDOWN_DEADLINE_MS);
  }

  /** `shutdown()` at the end of an `await using` block. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  /**
   * Resolves when everything submitted before the call is stored in SQL.
   * @throws `CIRCUIT_OPEN` or `TIER_UNAVAILABLE` at once where SQL is away, `DEADLINE`, `ABORTED`.
   */
  async flush(options: FlushOptions = {}): Promise<void> {
    this.#assertRunning('flush');
    assertKnown(options, ['timeoutMs', 'signal']);
    assertSignal(options.signal);
    assertDuration(options.timeoutMs, 'timeoutMs');
    if (options.signal?.aborted === true)
      throw new SyncEngineError('ABORTED', 'The caller gave up before the flush.');
    await this.#runtime.flush(options.timeoutMs ?? FLUSH_TIMEOUT_MS, options.signal);
  }

  /** One round of the maintenance that the engine otherwise does by itself: clock, filter, tombstones. */
  async tick(): Promise<void> {
    this.#assertRunning('tick');
    this.#runtime.maintain();
    await this.#runtime.collect();
  }

  /** Resolves when the filter is complete and trusted. @throws `TIER_UNAVAILABLE` while SQL is away, `ABORTED`. */
  async warmUp(options: ReadOptions = {}): Promise<void> {
    this.#assertRunning('warmUp');
    checkRead(options);
    const { filter, archive } = this.#runtime;
    if (filter === undefined) return;
    await abortable(filter.settled(), options.signal);
    if (filter.manager.trust === 'untrusted') throw archive?.refusal ?? unfinished(filter.status.reason);
  }

  // ── Writes ─────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Writes an item. The caller's object is not changed; the receipt has the version.
   * @throws TypeError and `CONFIG` for bad input, `PAYLOAD_TOO_LARGE`, `BACKPRESSURE`: nothing was changed.
   * `DEADLINE`, `WAL_FAILED`, `WAL_FULL`, `ABORTED` with outcome `indeterminate`: the write is pending and may
   * still be applied.
   */
  submit(item: SyncItem, options?: SubmitOptions): Promise<SubmitReceipt> {
    let request: WriteRequest;
    try {
      this.#assertRunning('submit');
      request = this.#submission(item, options);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#write(request);
  }

  /** Writes many. All are checked before the first is taken; one that is refused later harms only itself. */
  async submitMany(items: Iterable<SyncItem>, options?: SubmitOptions): Promise<BatchResult> {
    this.#assertRunning('submitMany');
    if (options !== undefined) assertKnown(options, SUBMIT_OPTIONS);
    const requests: WriteRequest[] = [];
    for (const item of iterable(items, 'items')) requests.push(this.#submission(item, options));
    return this.#writeMany(requests);
  }

  /** Writes a tombstone, whether or not the id exists. Errors as `submit`. */
  delete(id: string, options?: WriteOptions): Promise<SubmitReceipt> {
    let request: WriteRequest;
    try {
      this.#assertRunning('delete');
      if (options !== undefined) assertWriteOptions(options);
      request = this.#deletion(id, options);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#write(request);
  }

  /** Deletes many, as `submitMany`. */
  async deleteMany(ids: Iterable<string>, options?: WriteOptions): Promise<BatchResult> {
    this.#assertRunning('deleteMany');
    if (options !== undefined) assertWriteOptions(options);
    const requests: WriteRequest[] = [];
    for (const id of iterable(ids, 'ids')) requests.push(this.#deletion(id, options));
    return this.#writeMany(requests);
  }

  /**
   * Writes tombstones for every item whose id begins with `prefix` and that is older than the call; resolves with
   * how many. A prefix of the string, not of segments. Waits for room instead of failing with `BACKPRESSURE`.
   * @throws as `delete`; what was deleted by then stays deleted.
   */
  async deletePrefix(prefix: string, options: WriteOptions = {}): Promise<number> {
    this.#assertRunning('deletePrefix');
    assertPrefix(prefix);
    assertWriteOptions(options);
    return this.#queries.deleteRange({ prefix, state: undefined }, this.#levelOf(options), options);
  }

  /** The same for every item in a state. */
  async deleteByState(state: string, options: WriteOptions = {}): Promise<number> {
    this.#assertRunning('deleteByState');
    assertState(state);
    assertWriteOptions(options);
    return this.#queries.deleteRange({ prefix: '', state }, this.#levelOf(options), options);
  }

  /**
   * A new version of the item in another state, made from its newest one; `undefined` where there is none. Where
   * something else wrote the item meanwhile, it is made anew from that.
   * @throws as `submit`, and as `get`.
   */
  async setState(id: string, state: string, options: WriteOptions = {}): Promise<SubmitReceipt | undefined> {
    this.#assertRunning('setState');
    assertId(id);
    assertState(state);
    assertWriteOptions(options);
    return this.#queries.setState(id, state, this.#levelOf(options), options);
  }

  // ── Reads ──────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * The item, or `undefined` where it is known not to exist.
   * @throws `TIER_UNAVAILABLE` where that cannot be known because SQL cannot be asked; `CORRUPTION`; `ABORTED`.
   */
  get(id: string, options?: GetOptions): Promise<SyncItem | undefined> {
    const runtime = this.#runtime;
    if (runtime.state !== 'Running') return Promise.reject(this.#stateError('get'));
    if (options !== undefined) return this.#getWith(id, options);
    const found = runtime.memory.read(id);
    if (typeof found === 'object') {
      this.#counters.getHits++;
      return runtime.reads.current ? Promise.resolve(found) : runtime.reads.lapsed(id, found);
    }
    return this.#absent(id, found);
  }

  /** As `get`, and recomputes the SHA-256 of the content. @throws `CORRUPTION` where it does not fit. */
  async getVerified(id: string, options?: GetOptions): Promise<SyncItem | undefined> {
    let item = await this.get(id, options);
    // Memory has no hash of what was written here and never read back. SQL has.
    if (item !== undefined && revisionOf(item).contentHash === undefined) {
      item = await this.get(id, { ...options, fresh: true });
    }
    if (item === undefined) return undefined;
    const revision = revisionOf(item);
    if (hash('sha256', revision.content) === contentHashOf(revision)) return item;
    this.#runtime.memory.forget(id);
    this.#runtime.corrupt('memory', id);
    throw new SyncEngineError(
      'CORRUPTION',
      'The content in memory does not fit its hash. The copy was dropped; the next get reads SQL.',
      { context: { tier: 'memory', id } },
    );
  }

  /** Items in input order; an id that occurs twice is answered twice. Rejects as `get` if any read does. */
  async getMany(ids: readonly string[], options?: ReadOptions): Promise<(SyncItem | undefined)[]> {
    this.#assertRunning('getMany');
    if (options !== undefined) checkRead(options);
    for (const id of iterable(ids, 'ids')) assertId(id);
    const items: (SyncItem | undefined)[] = new Array(ids.length);
    const misses: Promise<unknown>[] = [];
    const { current } = this.#runtime.reads;
    for (let at = 0; at < ids.length; at++) {
      const id = ids[at] as string;
      const found = this.#runtime.memory.read(id);
      const fill = (item: SyncItem | undefined): void => {
        items[at] = item;
      };
      if (typeof found === 'object') {
        this.#counters.getHits++;
        if (current) items[at] = found;
        else misses.push(this.#runtime.reads.lapsed(id, found).then(fill));
      } else misses.push(this.#absent(id, found).then(fill));
    }
    if (misses.length > 0) await abortable(Promise.all(misses), options?.signal);
    return items;
  }

  /**
   * What memory holds, at once; `undefined` says nothing about the tiers below.
   * @throws `ENGINE_STATE`; TypeError and `CONFIG` for what is no id.
   */
  peek(id: string): SyncItem | undefined {
    const runtime = this.#runtime;
    if (runtime.state !== 'Running') throw this.#stateError('peek');
    const found = runtime.memory.read(id);
    if (found === 'absent' || found === 'spilled') {
      assertId(id); // Only here: what memory holds has an id, and a hit pays for nothing.
      this.#counters.peekMisses++;
      return undefined;
    }
    this.#counters.peekHits++;
    if (found === 'deleted') return undefined;
    if (runtime.reads.current || runtime.memory.isPending(id)) return found;
    return runtime.memory.cached(id) === undefined ? staleOf(found) : found;
  }

  /**
   * The item, or what `factory` makes of the id, submitted. One factory call per id and instance at a time; a
   * failed one is not cached. A write of the id during the call wins over what the factory returns.
   * @throws what `get`, `submit` or the factory throws.
   */
  async getOrInsert(id: string, factory: LoadFactory, options?: SubmitOptions): Promise<SyncItem> {
    this.#assertRunning('getOrInsert');
    assertId(id);
    if (typeof factory !== 'function') throw new TypeError('factory is a function that returns a SyncItem.');
    if (options !== undefined) {
      assertSubmitOptions(options);
      if (options.sql === false) this.#cacheLevelOf(options);
      else this.#levelOf(options);
    }
    return abortable(getOrInsert(id, factory, options, this.#loadParts), options?.signal);
  }

  /** Whether `get` would return an item. */
  async contains(id: string, options?: GetOptions): Promise<boolean> {
    return (await this.get(id, options)) !== undefined;
  }

  /** Whether the item exists with this SHA-256 of its content, 64 hex digits. */
  async isCurrent(id: string, contentHash: string, options?: GetOptions): Promise<boolean> {
    if (typeof contentHash !== 'string') throw new TypeError('contentHash is a string of 64 hex digits.');
    const item = await this.get(id, options);
    return item?.contentHash === contentHash.toLowerCase();
  }

  /** Whether it is known, at once, that there is no such item: by memory and the filter. */
  definitelyMissing(id: string): boolean {
    this.#assertRunning('definitelyMissing');
    assertId(id);
    const { memory, damaged, filter, reads } = this.#runtime;
    const presence = memory.presence(id);
    if (presence === 'live') return false;
    if (!reads.current && !memory.isPending(id)) return false;
    if (presence === 'deleted') return true;
    if (filter === undefined) return true;
    return !damaged.has(id) && filter.manager.mightExist(id) === false;
  }

  /** Whether it is not known that there is no such item. */
  mightExist(id: string): boolean {
    return !this.definitelyMissing(id);
  }

  // ── Many items ─────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Items whose ids begin with `prefix` (of the string, not of segments), in byte order of the ids, pending ones
   * included. What exists throughout the scan comes exactly once, whoever writes meanwhile.
   * @throws `TIER_UNAVAILABLE`; `CORRUPTION` with the id of a damaged row: a new scan can go on `after` it; `ABORTED`.
   */
  scanPrefix(prefix: string, options: ScanOptions = {}): AsyncIterable<SyncItem> {
    this.#assertRunning('scanPrefix');
    assertPrefix(prefix);
    checkPage(options, SCAN_OPTIONS);
    return this.#queries.scan({ prefix, state: undefined }, options);
  }

  /** How many items have ids that begin with `prefix`. @throws `TIER_UNAVAILABLE`, `CORRUPTION`, `ABORTED`. */
  async countPrefix(prefix: string, options: ReadOptions = {}): Promise<number> {
    this.#assertRunning('countPrefix');
    assertPrefix(prefix);
    checkRead(options);
    return abortable(this.#runtime.scans.count({ prefix, state: undefined }), options.signal);
  }

  /** One page of the items in a state, in byte order of the ids; `after` the last one is the next. */
  async getByState(state: string, page: PageOptions = {}): Promise<SyncItem[]> {
    this.#assertRunning('getByState');
    assertState(state);
    checkPage(page, PAGE_OPTIONS);
    return this.#queries.page({ prefix: '', state }, page);
  }

  /** The same, ids alone. */
  async listStateIds(state: string, page: PageOptions = {}): Promise<string[]> {
    return (await this.getByState(state, page)).map((item) => item.id);
  }

  /** How many items are in a state. @throws `TIER_UNAVAILABLE`, `CORRUPTION`, `ABORTED`. */
  async countByState(state: string, options: ReadOptions = {}): Promise<number> {
    this.#assertRunning('countByState');
    assertState(state);
    checkRead(options);
    return abortable(this.#runtime.scans.count({ prefix: '', state }), options.signal);
  }

  /**
   * What was committed to SQL, in order, at least once. By default it waits for more at the end.
   * @throws `CONFIG` for a position that is none or without SQL; `TIER_UNAVAILABLE`; `ABORTED`.
   */
  changes(options: ChangeOptions = {}): AsyncIterable<Change> {
    this.#assertRunning('changes');
    assertKnown(options, ['from', 'tail', 'signal']);
    assertSignal(options.signal);
    const runtime = this.#runtime;
    if (runtime.archive === undefined) {
      throw new SyncEngineError('CONFIG', 'There is no change log without SQL; sqlUrl configures it.');
    }
    return streamChanges(options, {
      archive: runtime.archive,
      commits: () => runtime.commits,
      nextCommit: (ms) => runtime.nextCommit(ms),
      closed: () => runtime.state !== 'Running',
    });
  }

  // ── Digests ────────────────────────────────────────────────────────────────────────────────────────────

  /** This engine as one side of a comparison. Digests speak of what SQL has committed: `flush()` first. */
  get merkle(): MerkleSource {
    return this.#runtime.merkle;
  }

  /** Hash over all rows, 32 hex digits: equal on two engines with one key exactly where their rows are equal. */
  async merkleRoot(options: ReadOptions = {}): Promise<string> {
    return (await this.merkleNode([], options))?.hash ?? EMPTY_ROOT;
  }

  /** Hash of the rows at and below a path; `undefined` where there are none. */
  async merkleHash(path: MerklePath, options: ReadOptions = {}): Promise<string | undefined> {
    return (await this.merkleNode(path, options))?.hash;
  }

  /** @throws `CONFIG` without digests, `TIER_UNAVAILABLE`, `ABORTED`. */
  async merkleNode(path: MerklePath, options: ReadOptions = {}): Promise<MerkleNode | undefined> {
    this.#assertRunning('merkleNode');
    checkRead(options);
    const [node] = await abortable(this.merkle.nodes([pathOf(path)]), options.signal);
    return node;
  }

  /** Segment → hash of one page of the children, in byte order of the segments. */
  async merkleChildren(path: MerklePath, page: PageOptions = {}): Promise<ReadonlyMap<string, string>> {
    this.#assertRunning('merkleChildren');
    checkPage(page, PAGE_OPTIONS);
    return abortable(this.merkle.children(pathOf(path), page), page.signal);
  }

  /** Which ids differ between this engine and another side, by their parents. */
  async findDivergentPaths(remote: MerkleSource, from: MerklePath = []): Promise<MerkleDiff> {
    this.#assertRunning('findDivergentPaths');
    this.#counters.merkleComparisons++;
    return findDivergentPaths(this.merkle, remote, pathOf(from));
  }

  /** The differing ids, one by one as they are found. */
  drillDownDivergence(
    remote: MerkleSource,
    from: MerklePath = [],
  ): AsyncIterable<{ id: string; side: 'local' | 'remote' | 'both' }> {
    this.#assertRunning('drillDownDivergence');
    this.#counters.merkleComparisons++;
    return drillDown(this.merkle, remote, pathOf(from));
  }

  /**
   * Re-reads every row, and adds up the digests below a path picked at random. Raises `corruption` for what it finds.
   * @throws `TIER_UNAVAILABLE`, `ABORTED`.
   */
  async scrub(options: ScrubOptions = {}): Promise<ScrubResult> {
    this.#assertRunning('scrub');
    assertKnown(options, ['pageSize', 'signal']);
    assertSignal(options.signal);
    assertCount(options.pageSize, 'pageSize');
    return scrub(options.pageSize ?? SCRUB_PAGE, options.signal, this.#runtime);
  }

  /** Asks the filter for the id of every row. Where it denies one, it is distrusted and built anew. */
  async verifyFilter(options: ReadOptions = {}): Promise<FilterCheck> {
    this.#assertRunning('verifyFilter');
    checkRead(options);
    const { filter, config } = this.#runtime;
    if (filter === undefined) return { trusted: false, checked: 0, missing: 0 };
    return abortable(filter.verify(config.filterWarmupBatchSize), options.signal);
  }

  /** How far the newest write of an id got. @throws as `get`. */
  async status(id: string, options?: ReadOptions): Promise<ItemStatus> {
    this.#assertRunning('status');
    const { memory, archive } = this.#runtime;
    const holds = (): Promise<boolean> => this.#runtime.cache?.holds(id) ?? Promise.resolve(false);
    if (memory.cached(id) !== undefined) return { kind: 'synced', l1: true, l2: await holds(), l3: false };
    const entry = memory.pending(id);
    if (memory.spilledPosition(id) !== 0) return { kind: 'pending', ack: 'wal' };
    if (entry !== undefined) {
      const { version, refusal } = entry.revision;
      if (refusal !== undefined) return { kind: 'deadLetter', error: rejectedError(id, refusal.reason) };
      if (entry.storedVersion >= version) return { kind: 'pending', ack: 'stored' };
      return { kind: 'pending', ack: entry.durableVersion >= version ? 'wal' : 'memory' };
    }
    const l1 = memory.presence(id) !== 'absent';
    if ((await this.get(id, options)) === undefined) return { kind: 'missing' };
    const l3 = archive !== undefined && memory.cached(id) === undefined;
    return { kind: 'synced', l1, l2: await holds(), l3 };
  }

  /** Entries in memory, tombstones included. */
  get size(): number {
    return this.#runtime.memory.size;
  }

  /**
   * Changes what can change while the engine runs (docs/configuration.md), all of it or nothing. What is under way keeps
   * its bounds; a smaller `l1MaxBytes` evicts in portions.
   * @throws `CONFIG` with every problem; also for keys that need a restart. `ENGINE_STATE` once closed.
   */
  updateConfig(change: Partial<SyncEngineConfig>): void {
    const { state } = this.#runtime;
    if (state === 'Closed' || state === 'Failed' || state === 'ShuttingDown')
      throw this.#stateError('updateConfig');
    const changed = changedConfig(this.#runtime.config, this.#given, change, this.#readyMade);
    const { bytesMax, bytesMin } = this.#runtime.memory;
    if (changed.l1MaxBytes < bytesMax && changed.l1MaxBytes < bytesMin) {
      throw new SyncEngineError(
        'CONFIG',
        `l1MaxBytes cannot be lowered to ${changed.l1MaxBytes} while the engine runs: the tables that memory has grown leave too little room below ${bytesMin}. Choose more, or restart with the new budget.`,
      );
    }
    this.#given = { ...this.#given, ...change };
    this.#runtime.reconfigure(changed);
  }

  // ── Observation ────────────────────────────────────────────────────────────────────────────────────────

  /** In every state, and without asking anyone: what the engine knows. */
  async healthCheck(): Promise<HealthCheck> {
    return this.#runtime.health();
  }

  /** @throws `CONFIG` where there is no log. */
  walStats(): WalStats {
    const { wal } = this.#runtime.health();
    if (wal === undefined) throw new SyncEngineError('CONFIG', 'There is no log; walPath configures one.');
    return wal;
  }

  /** What memory holds. */
  l1Stats(): MemoryStats {
    return this.#runtime.memory.stats;
  }

  /** @throws `CONFIG` where there is no SQL. */
  filterStats(): FilterStatus {
    const { filter } = this.#runtime;
    if (filter === undefined)
      throw new SyncEngineError('CONFIG', 'There is no filter without SQL; sqlUrl configures it.');
    return filter.status;
  }

  /** Share of the memory budget that cannot be evicted, 0 to 1. */
  memoryPressure(): number {
    return this.#runtime.pressure.share().ratio;
  }

  /** What that means for writers. */
  backpressure(): BackpressureLevel {
    return this.#runtime.pressure.review();
  }

  /** Every counter and gauge as it is now, in every state; `docs/telemetry.md` says what each means. */
  metrics(): Measurement[] {
    return this.#runtime.telemetry.measurements;
  }

  /** How long calls to the log and to SQL took so far, milliseconds; and what `timeOperation` measured. */
  latencies(): LatencyStats[] {
    return this.#runtime.telemetry.latencies;
  }

  // ── Checks ─────────────────────────────────────────────────────────────────────────────────────────────

  #submission(item: SyncItem, options: SubmitOptions | undefined): WriteRequest {
    if (!(item instanceof SyncItem)) {
      throw new TypeError('An item is a SyncItem: new SyncItem(id, bytes) or SyncItem.fromJson(id, value).');
    }
    const source = revisionOf(item);
    this.#runtime.writes.assertSize(source);
    const merged = mergedOptions(item, options);
    return {
      source,
      deleted: false,
      state: merged?.state ?? source.state,
      ack: merged?.sql === false ? this.#cacheLevelOf(merged) : this.#levelOf(merged),
      signal: merged?.signal,
      redisTtlMs: merged?.redis === false ? 0 : merged?.redisTtl?.ms,
      cacheTtlMs: merged?.sql === false ? merged.redisTtl?.ms : undefined,
    };
  }

  #deletion(id: string, options: WriteOptions | undefined): WriteRequest {
    assertId(id);
    return {
      source: tombstone(id),
      deleted: true,
      state: DEFAULT_STATE,
      ack: this.#levelOf(options),
      signal: options?.signal,
    };
  }

  #cacheLevelOf({ ack }: SubmitOptions): AckLevel {
    if (ack === undefined || ack === 'memory') return 'memory';
    if (ack === 'stored' && this.#runtime.cache !== undefined) return ack;
    const why = ack === 'wal' ? 'no log holds it' : "its 'stored' is Redis, and redisUrl is not set";
    throw new SyncEngineError(
      'CONFIG',
      `A cache-only item (sql: false) cannot reach '${ack}': ${why}. Leave ack out.`,
    );
  }

  #levelOf(options: WriteOptions | undefined): AckLevel {
    const { config, log, archive } = this.#runtime;
    const ack = options?.ack ?? config.ack;
    if (ack === 'wal' && log === undefined) {
      throw new SyncEngineError('CONFIG', "ack 'wal' needs walPath: there is no log that could acknowledge.");
    }
    if (ack === 'stored' && archive === undefined) {
      throw new SyncEngineError(
        'CONFIG',
        "ack 'stored' needs sqlUrl: there is no archive that could acknowledge.",
      );
    }
    return ack;
  }

  async #retryLetter(id: string): Promise<void> {
    const entry = this.#runtime.letters.find(id);
    if (entry === undefined) throw noLetter(id);
    const { version, origin, deleted, state } = entry.revision;
    await this.#write({
      source: entry.revision,
      deleted,
      state,
      ack: 'stored',
      signal: undefined,
      base: { version, origin, rule: 'atMost' },
    });
  }

  #write(request: WriteRequest): Promise<SubmitReceipt> {
    const { writes, telemetry } = this.#runtime;
    this.#count(request);
    const failures = request.deleted ? telemetry.deletes : telemetry.submits;
    if (request.ack === 'memory' && writes.open) {
      try {
        return Promise.resolve(writes.write(request, NOBODY, 0) as SubmitReceipt);
      } catch (error) {
        this.#countRefused(request);
        failures.failed(error as SyncEngineError);
        return Promise.reject(error);
      }
    }
    const span = telemetry.tracing && telemetry.tracedWrite(request.source, request.deleted, request.ack);
    const written = new Promise<SubmitReceipt>((resolve, reject) => {
      const target = new SingleWrite(resolve, reject, failures);
      try {
        const receipt = writes.write(request, target, 0);
        if (receipt !== undefined) resolve(receipt);
      } catch (error) {
        this.#countRefused(request);
        target.failed(0, error as SyncEngineError);
      }
    });
    return span === undefined ? written : span.during(written);
  }

  #count(request: WriteRequest): void {
    if (request.deleted) this.#counters.deletes++;
    else this.#counters.submits++;
  }

  #countRefused(request: WriteRequest): void {
    if (request.deleted) this.#counters.deletesRefused++;
    else this.#counters.submitsRefused++;
  }

  #writeMany(requests: readonly WriteRequest[]): Promise<BatchResult> {
    const { writes, telemetry } = this.#runtime;
    const deletes = requests[0]?.deleted === true;
    const batch = new ManyWrites(requests.length, deletes ? telemetry.deletes : telemetry.submits);
    for (let at = 0; at < requests.length; at++) {
      const request = requests[at] as WriteRequest;
      this.#count(request);
      try {
        const receipt = writes.write(request, batch, at);
        if (receipt !== undefined) batch.acknowledged(at, receipt);
      } catch (error) {
        this.#countRefused(request);
        batch.failed(at, error as SyncEngineError);
      }
    }
    return batch.promise;
  }

  /** A read that memory had no item for. */
  #absent(id: string, absence: Absence): Promise<SyncItem | undefined> {
    try {
      assertId(id);
    } catch (error) {
      return Promise.reject(error);
    }
    if (absence === 'deleted') this.#counters.getHits++;
    else if (absence === 'absent') this.#counters.getMisses++;
    return this.#runtime.reads.absent(id, absence);
  }

  #getWith(id: string, options: GetOptions): Promise<SyncItem | undefined> {
    const { memory, damaged, reads } = this.#runtime;
    try {
      assertKnown(options, ['fresh', 'signal']);
      assertSignal(options.signal);
      assertId(id);
      if (options.fresh !== true) return abortable(this.get(id), options.signal);
      if (memory.presence(id) === 'absent') damaged.check(id);
    } catch (error) {
      return Promise.reject(error);
    }
    return abortable(reads.fresh(id), options.signal);
  }

  #assertRunning(operation: string): void {
    if (this.#runtime.state !== 'Running') throw this.#stateError(operation);
  }

  #stateError(operation: string): SyncEngineError {
    const { state } = this.#runtime;
    return new SyncEngineError(
      'ENGINE_STATE',
      `${operation}() is not possible in state ${state}. ${NEXT_STEP[state]}`,
      {
        context: { operation, state },
      },
    );
  }
}

/** What the item carries, and what the call says; the call wins. Checked as a whole. */
function mergedOptions(item: SyncItem, options: SubmitOptions | undefined): SubmitOptions | undefined {
  const own = optionsOf(item);
  if (options !== undefined) assertKnown(options, SUBMIT_OPTIONS);
  const merged = own === undefined ? options : ({ ...own, ...options } as SubmitOptions);
  if (merged !== undefined) assertSubmitOptions(merged);
  return merged;
}

const AWAIT_START = 'Await start() first.';
const NEW_ENGINE = 'Make a new engine.';
const NEXT_STEP: Readonly<Record<EngineState, string>> = {
  Created: 'Call start() first.',
  Connecting: AWAIT_START,
  DrainingWal: AWAIT_START,
  SyncingRedis: AWAIT_START,
  WarmingUp: AWAIT_START,
  Ready: AWAIT_START,
  Running: 'It was started already.',
  ShuttingDown: NEW_ENGINE,
  Closed: NEW_ENGINE,
  Failed: NEW_ENGINE,
};

function checkRead(options: ReadOptions): void {
  assertKnown(options, ['signal']);
  assertSignal(options.signal);
}

function iterable<T>(values: Iterable<T>, name: string): Iterable<T> {
  if (typeof values === 'string' || typeof (values as Iterable<T> | null)?.[Symbol.iterator] !== 'function') {
    throw new TypeError(`${name} is an array or another iterable.`);
  }
  return values;
}

function assertDuration(value: unknown, name: string): void {
  if (value !== undefined && !(typeof value === 'number' && value > 0)) {
    throw new TypeError(`${name} is a positive number of milliseconds; got ${String(value)}.`);
  }
}

function assertPrefix(prefix: unknown): asserts prefix is string {
  if (typeof prefix !== 'string') throw new TypeError(`A prefix is a string; got ${typeof prefix}.`);
  if (!prefix.isWellFormed())
    throw new SyncEngineError('CONFIG', 'The prefix has half of a surrogate pair, so no id begins with it.');
}

function checkPage(page: ScanOptions, known: readonly string[]): void {
  assertKnown(page, known);
  assertSignal(page.signal);
  if (page.after !== undefined && typeof page.after !== 'string') throw new TypeError('after is an id.');
  assertCount(page.limit, 'limit');
  assertCount(page.pageSize, 'pageSize');
}

function assertCount(value: unknown, name: string): void {
  if (value !== undefined && !(Number.isSafeInteger(value) && (value as number) > 0))
    throw new TypeError(`${name} is a whole number above 0; got ${String(value)}.`);
}

function unfinished(reason: string | undefined): SyncEngineError {
  return new SyncEngineError(
    'TIER_UNAVAILABLE',
    `The filter could not be completed: ${reason ?? 'unknown'}. It goes on by itself; try again.`,
    { context: { tier: 'sql', operation: 'warmUp' } },
  );
}
