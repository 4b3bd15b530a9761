/**
 * Any archive, made safe to depend on: opened once with its identity checked, every call within a deadline,
 * a breaker in front, and a probe that reopens it. The store behind stays naive.
 *
 * Invariant: no call waits longer than its deadline, and a call that was given up keeps no one waiting: its
 * late answer is dropped, and what it may still do is harmless, because `apply` is idempotent and keeps the
 * order.
 */
import { CircuitError, messageOf, SyncEngineError } from '../base/errors.js';
import type { Revision } from '../item/revision.js';
import type { SystemPorts } from '../ports/ports.js';
import { CIRCUIT_PRESETS, CircuitBreaker, type CircuitState } from '../resilience/circuit-breaker.js';
import { type BackendHealth, BackendHealthChecker } from '../resilience/health-checker.js';
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
} from './archive-store.js';

const PROBE_INTERVAL_MS = 1000;

export interface GuardedArchiveConfig {
  readonly sqlTimeoutMs: number;
  readonly sqlReadTimeoutMs: number;
}

export interface ArchiveHealth extends BackendHealth {
  readonly warnings: readonly string[];
}

/** Errors that say something about the request, not about whether the archive answers. */
const NOT_AN_OUTAGE: ReadonlySet<string> = new Set(['CONFIG', 'ENGINE_STATE', 'REJECTED']);

export class GuardedArchive {
  readonly #store: ArchiveStore;
  readonly #config: GuardedArchiveConfig;
  readonly #ports: SystemPorts;
  readonly #breaker: CircuitBreaker;
  readonly #events: GuardedArchiveEvents;
  #openOptions: ArchiveOpenOptions | undefined;
  readonly #checker: BackendHealthChecker;
  #closed = false;
  #warnings: readonly string[] = [];

  constructor(
    store: ArchiveStore,
    config: GuardedArchiveConfig,
    ports: SystemPorts,
    events: GuardedArchiveEvents,
  ) {
    this.#store = store;
    this.#config = config;
    this.#ports = ports;
    this.#events = events;
    this.#breaker = new CircuitBreaker('sql', CIRCUIT_PRESETS.default, {
      clock: ports.clock,
      changed: (state) => this.#circuitChanged(state),
    });
    const backend = {
      connect: () => this.#connect(),
      ping: () => this.#call('ping', this.#config.sqlReadTimeoutMs, () => this.#store.ping()),
    };
    this.#checker = new BackendHealthChecker(this.#breaker, backend, {
      clock: ports.clock,
      scheduler: ports.scheduler,
      intervalMs: PROBE_INTERVAL_MS,
    });
  }

  /** Whether nobody else writes it. */
  get exclusive(): boolean {
    return this.#store.exclusive === true;
  }

  /** Whether a call would be tried now. */
  get available(): boolean {
    return this.#checker.connected && this.#breaker.allows();
  }

  get health(): ArchiveHealth {
    return { ...this.#checker.health, warnings: this.#warnings };
  }

  /** First attempt to connect. After `TIER_UNAVAILABLE` or `DEADLINE` it goes on trying in the background. */
  async open(options: ArchiveOpenOptions): Promise<ArchiveInfo> {
    this.#openOptions = options;
    try {
      return await this.#connect();
    } catch (error) {
      const failure = this.#noteFailure(error, 'open');
      this.#breaker.trip();
      throw failure;
    }
  }

  /** @throws `CIRCUIT_OPEN`, `TIER_UNAVAILABLE`, `DEADLINE`. */
  getMany(ids: readonly string[]): Promise<(Revision | SyncEngineError | undefined)[]> {
    return this.#call('read', this.#config.sqlReadTimeoutMs, () => this.#store.getMany(ids));
  }

  /** @throws as `getMany`, with outcome `indeterminate` where the transaction may have been committed. */
  apply(writes: readonly Revision[]): Promise<ApplyResult> {
    return this.#call('apply', this.#config.sqlTimeoutMs, () => this.#store.apply(writes));
  }

  scan(range: RowRange, after: string | undefined, limit: number): Promise<RowPage> {
    return this.#search('scan', () => this.#store.scan(range, after, limit));
  }

  count(range: RowRange, except: readonly string[]): Promise<number> {
    return this.#search('count', () => this.#store.count(range, except));
  }

  ids(after: string | undefined, limit: number): Promise<string[]> {
    return this.#search('ids', () => this.#store.ids(after, limit));
  }

  /** `changesSince` as often as the lease asks for it: an archive that does not answer is away. */
  look(from: ChangeHead, limit: number): Promise<ChangePage> {
    return this.#call('look', this.#config.sqlReadTimeoutMs, () => this.#store.changesSince(from, limit));
  }

  changesSince(from: ChangeHead, limit: number): Promise<ChangePage> {
    return this.#search('changesSince', () => this.#store.changesSince(from, limit));
  }

  digests(paths: readonly (readonly string[])[]): Promise<(PathDigest | undefined)[]> {
    return this.#search('digests', () => this.#store.digests(paths));
  }

  children(
    path: readonly string[],
    after: string | undefined,
    limit: number,
  ): Promise<{ readonly children: ChildDigest[]; readonly head: ChangeHead }> {
    return this.#search('children', () => this.#store.children(path, after, limit));
  }

  scrub(after: string | undefined, limit: number): Promise<ScrubPage> {
    return this.#search('scrub', () => this.#store.scrub(after, limit));
  }

  verifyPath(path: readonly string[]): Promise<boolean> {
    return this.#search('verifyPath', () => this.#store.verifyPath(path));
  }

  collect(request: CollectRequest): Promise<CollectResult> {
    return this.#call('apply', this.#config.sqlTimeoutMs, () => this.#store.collect(request));
  }

  keepLetters(letters: readonly StoredLetter[]): Promise<void> {
    return this.#call('apply', this.#config.sqlTimeoutMs, () => this.#store.keepLetters(letters));
  }

  dropLetters(ids: readonly string[]): Promise<void> {
    return this.#call('apply', this.#config.sqlTimeoutMs, () => this.#store.dropLetters(ids));
  }

  letters(): Promise<StoredLetter[]> {
    return this.#call('read', this.#config.sqlReadTimeoutMs, () => this.#store.letters());
  }

  /** The error of a call that is not made, `undefined` while calls go through. */
  get refusal(): SyncEngineError | undefined {
    return this.available ? undefined : this.#unavailable();
  }

  async close(deadlineMs: number): Promise<void> {
    this.#closed = true;
    this.#checker.stop();
    await this.#within(deadlineMs, 'close', () => this.#store.close()).catch(() => this.#store.close());
  }

  async #connect(): Promise<ArchiveInfo> {
    const options = this.#openOptions as ArchiveOpenOptions;
    const info = await this.#checker.connect(() => this.#open(options));
    this.#warnings = info.warnings;
    // From here on only this archive will do, and it is never created a second time.
    this.#openOptions = { ...options, expectedId: info.archiveId, mayCreate: false, mayDiffer: false };
    this.#events.connected(info);
    return info;
  }

  async #open(options: ArchiveOpenOptions): Promise<ArchiveInfo> {
    const info = await this.#within(this.#config.sqlTimeoutMs, 'open', () => this.#store.open(options));
    if (!this.#closed) return info;
    void this.#store.close();
    throw new SyncEngineError('ENGINE_STATE', 'The engine was closed while the archive was being opened.');
  }

  /** A read that may take long. */
  #search<T>(operation: string, run: () => Promise<T>): Promise<T> {
    return this.#call(operation, this.#config.sqlTimeoutMs, run, true);
  }

  async #call<T>(
    operation: string,
    deadlineMs: number,
    run: () => Promise<T>,
    mayTakeLong = false,
  ): Promise<T> {
    if (!this.available) {
      const refusal = this.#unavailable();
      this.#events.called?.(operation, undefined, refusal.code);
      throw refusal;
    }
    const started = this.#ports.clock.monotonic();
    try {
      const value = await this.#within(deadlineMs, operation, run);
      const ms = this.#ports.clock.monotonic() - started;
      this.#checker.answered(ms);
      this.#breaker.succeeded();
      this.#events.called?.(operation, ms, undefined);
      return value;
    } catch (error) {
      const failure = this.#noteFailure(error, operation);
      this.#events.called?.(operation, this.#ports.clock.monotonic() - started, failure.code);
      // A transaction that hangs holds up all that follow: only a new connection helps.
      if (failure.code === 'DEADLINE' && operation === 'apply') this.#breaker.trip();
      else if (failure.code === 'DEADLINE' && mayTakeLong) {
        // That much work is no outage: reads of ids have a thread or a connection of their own.
      } else if (!NOT_AN_OUTAGE.has(failure.code)) this.#breaker.failed();
      throw failure;
    }
  }

  #unavailable(): SyncEngineError {
    if (this.#breaker.state === 'open')
      return new CircuitError('sql', PROBE_INTERVAL_MS, this.#checker.lastError);
    return new SyncEngineError('TIER_UNAVAILABLE', 'SQL is not connected.', {
      context: { tier: 'sql' },
      cause: this.#checker.lastError,
    });
  }

  #noteFailure(error: unknown, operation: string): SyncEngineError {
    const failure =
      error instanceof SyncEngineError
        ? error
        : new SyncEngineError('TIER_UNAVAILABLE', `SQL failed to ${operation}: ${messageOf(error)}`, {
            outcome: 'indeterminate',
            context: { tier: 'sql', operation },
            cause: error,
          });
    this.#checker.failed(failure);
    return failure;
  }

  #within<T>(deadlineMs: number, operation: string, run: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const timer = this.#ports.scheduler.after(deadlineMs, () =>
        reject(
          new SyncEngineError('DEADLINE', `SQL did not answer within ${deadlineMs} ms (${operation}).`, {
            outcome: operation === 'apply' ? 'indeterminate' : 'not-applied',
            context: { tier: 'sql', operation, deadlineMs },
          }),
        ),
      );
      run().then(
        (value) => {
          timer.cancel();
          resolve(value);
        },
        (error: unknown) => {
          timer.cancel();
          reject(error);
        },
      );
    });
  }

  #circuitChanged(state: CircuitState): void {
    if (this.#closed) return;
    this.#checker.circuitChanged(state);
    this.#events.circuit(state);
  }
}

export interface GuardedArchiveEvents {
  /** After each successful connection, before calls go through. */
  connected(info: ArchiveInfo): void;
  circuit(state: CircuitState): void;
  /** A call ended after `ms`, or was not made (`undefined`); with the code of its error. */
  called?(operation: string, ms: number | undefined, code: string | undefined): void;
}
