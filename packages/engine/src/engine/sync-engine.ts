/** The engine as its users see it. Every verb checks its arguments and delegates. */
import { hash } from 'node:crypto';
import { SyncEngineError } from '../base/errors.js';
import { resolveConfig, type SyncEngineConfig } from '../config/config.js';
import {
  type AckLevel,
  assertKnown,
  assertSignal,
  assertSubmitOptions,
  assertWriteOptions,
  type SubmitOptions,
  type SubmitReceipt,
  type WriteOptions,
} from '../config/submit-options.js';
import { assertId } from '../item/object-id.js';
import { contentHashOf, DEFAULT_STATE, EMPTY_CONTENT, type Revision } from '../item/revision.js';
import { revisionOf, SyncItem } from '../item/sync-item.js';
import type { MemoryStats } from '../memory/memory-cache.js';
import type { WalStats } from '../wal/write-ahead-log.js';
import { abortable } from './abortable.js';
import { type BatchResult, ManyWrites, NOBODY, SingleWrite } from './ack-targets.js';
import { composePorts, type Ports } from './compose.js';
import type { EngineEventName, EngineListener } from './events.js';
import { getOrInsert, type LoadFactory, type LoadParts } from './get-or-insert.js';
import type { HealthCheck } from './health.js';
import type { EngineState } from './lifecycle.js';
import { EngineRuntime, type ShutdownResult } from './runtime.js';
import type { WriteRequest } from './write-path.js';

const FLUSH_TIMEOUT_MS = 30_000;
const SHUTDOWN_DEADLINE_MS = 30_000;

export interface ReadOptions {
  readonly signal?: AbortSignal;
}

export interface GetOptions extends ReadOptions {
  /** Ask SQL although memory holds the id. */
  readonly fresh?: boolean;
}

export interface FlushOptions {
  /** Default 30,000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export type ItemStatus =
  | { readonly kind: 'pending'; readonly ack: AckLevel }
  | { readonly kind: 'synced'; readonly l1: boolean; readonly l2: boolean; readonly l3: boolean }
  | { readonly kind: 'missing' };

export class SyncEngine implements AsyncDisposable {
  readonly #runtime: EngineRuntime;
  readonly #loadParts: LoadParts;

  /**
   * Connects to nothing; `start()` does.
   * @throws `CONFIG` listing every problem of the configuration.
   */
  constructor(config: SyncEngineConfig = {}, ports: Partial<Ports> = {}) {
    const readyMade = { archive: ports.archive !== undefined, log: ports.recordStore !== undefined };
    this.#runtime = new EngineRuntime(resolveConfig(config, readyMade), composePorts(ports));
    this.#loadParts = {
      memory: this.#runtime.memory,
      loads: this.#runtime.loads,
      get: (id) => this.get(id),
      submit: (item, options) => this.submit(item, options),
    };
  }

  // ── Lifecycle ──────────────────────────────────────────────────────────────────────────────────────────

  get state(): EngineState {
    return this.#runtime.state;
  }

  on<Name extends EngineEventName>(event: Name, listener: EngineListener<Name>): this {
    this.#runtime.emitter.on(event, listener);
    return this;
  }

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

  /** One round of the maintenance that the engine otherwise does every second. */
  async tick(): Promise<void> {
    this.#assertRunning('tick');
    this.#runtime.maintain();
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
      if (options !== undefined) assertSubmitOptions(options);
      request = this.#submission(item, options);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#write(request);
  }

  /** Writes many. All are checked before the first is taken; one that is refused later harms only itself. */
  async submitMany(items: Iterable<SyncItem>, options?: SubmitOptions): Promise<BatchResult> {
    this.#assertRunning('submitMany');
    if (options !== undefined) assertSubmitOptions(options);
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

  // ── Reads ──────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * The item, or `undefined` where it is known not to exist.
   * @throws `TIER_UNAVAILABLE` where that cannot be known because SQL cannot be asked; `CORRUPTION`; `ABORTED`.
   */
  get(id: string, options?: GetOptions): Promise<SyncItem | undefined> {
    const runtime = this.#runtime;
    if (runtime.state !== 'Running') return Promise.reject(this.#stateError('get'));
    if (options !== undefined) return this.#getWith(id, options);
    const entry = runtime.memory.read(id);
    if (entry !== undefined) return Promise.resolve(entry.revision.deleted ? undefined : entry.item);
    return this.#miss(id);
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
    const entry = this.#runtime.memory.find(id);
    if (entry?.dirty === false) this.#runtime.memory.drop(entry);
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
    for (let at = 0; at < ids.length; at++) {
      const id = ids[at] as string;
      const entry = this.#runtime.memory.read(id);
      if (entry !== undefined) {
        items[at] = entry.revision.deleted ? undefined : entry.item;
        continue;
      }
      const fill = (item: SyncItem | undefined): void => {
        items[at] = item;
      };
      misses.push(this.#miss(id).then(fill));
    }
    if (misses.length > 0) await abortable(Promise.all(misses), options?.signal);
    return items;
  }

  /** What memory holds, at once; `undefined` says nothing about the tiers below. @throws `ENGINE_STATE`. */
  peek(id: string): SyncItem | undefined {
    const runtime = this.#runtime;
    if (runtime.state !== 'Running') throw this.#stateError('peek');
    const entry = runtime.memory.read(id);
    return entry === undefined || entry.revision.deleted ? undefined : entry.item;
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
      this.#levelOf(options);
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

  /** How far the newest write of an id got. @throws as `get`. */
  async status(id: string, options?: ReadOptions): Promise<ItemStatus> {
    this.#assertRunning('status');
    const { memory, archive } = this.#runtime;
    const entry = memory.find(id);
    if (entry?.dirty === true) {
      const { version } = entry.revision;
      if (entry.storedVersion >= version) return { kind: 'pending', ack: 'stored' };
      return { kind: 'pending', ack: entry.durableVersion >= version ? 'wal' : 'memory' };
    }
    const l1 = entry !== undefined;
    if ((await this.get(id, options)) === undefined) return { kind: 'missing' };
    return { kind: 'synced', l1, l2: false, l3: archive !== undefined };
  }

  /** Entries in memory, tombstones included. */
  get size(): number {
    return this.#runtime.memory.size;
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

  l1Stats(): MemoryStats {
    return this.#runtime.memory.stats;
  }

  /** Share of the memory budget that cannot be evicted, 0 to 1. */
  memoryPressure(): number {
    return this.#runtime.health().memoryPressure;
  }

  // ── Checks ─────────────────────────────────────────────────────────────────────────────────────────────

  #submission(item: SyncItem, options: SubmitOptions | undefined): WriteRequest {
    if (!(item instanceof SyncItem)) {
      throw new TypeError('An item is a SyncItem: new SyncItem(id, bytes) or SyncItem.fromJson(id, value).');
    }
    const source = revisionOf(item);
    this.#runtime.writes.assertSize(source);
    return {
      source,
      deleted: false,
      state: options?.state ?? source.state,
      ack: this.#levelOf(options),
      signal: options?.signal,
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

  #write(request: WriteRequest): Promise<SubmitReceipt> {
    const { writes } = this.#runtime;
    if (request.ack === 'memory') {
      try {
        return Promise.resolve(writes.write(request, NOBODY, 0) as SubmitReceipt);
      } catch (error) {
        return Promise.reject(error);
      }
    }
    return new Promise((resolve, reject) => {
      writes.write(request, new SingleWrite(resolve, reject), 0);
    });
  }

  #writeMany(requests: readonly WriteRequest[]): Promise<BatchResult> {
    const batch = new ManyWrites(requests.length);
    const { writes } = this.#runtime;
    for (let at = 0; at < requests.length; at++) {
      try {
        const receipt = writes.write(requests[at] as WriteRequest, batch, at);
        if (receipt !== undefined) batch.acknowledged(at, receipt);
      } catch (error) {
        batch.failed(at, error as SyncEngineError);
      }
    }
    return batch.promise;
  }

  #miss(id: string): Promise<SyncItem | undefined> {
    try {
      assertId(id);
      this.#runtime.damaged.check(id);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#runtime.reads.miss(id);
  }

  #getWith(id: string, options: GetOptions): Promise<SyncItem | undefined> {
    const { memory, damaged, reads } = this.#runtime;
    try {
      assertKnown(options, ['fresh', 'signal']);
      assertSignal(options.signal);
      assertId(id);
      if (options.fresh !== true) return abortable(this.get(id), options.signal);
      if (memory.find(id) === undefined) damaged.check(id);
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

/** A tombstone before it is stamped. */
function tombstone(id: string): Revision {
  return {
    id,
    version: 0,
    origin: '',
    deleted: true,
    contentType: 'binary',
    state: DEFAULT_STATE,
    content: EMPTY_CONTENT,
  };
}

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
