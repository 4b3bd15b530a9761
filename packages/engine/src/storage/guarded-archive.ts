/**
 * Any archive, made safe to depend on: opened once with its identity checked, and guarded (`backend-guard.ts`). The store
 * behind stays naive. What a call that was given up may still do is harmless, because `apply` is idempotent and keeps
 * the order.
 */
import { SyncEngineError } from '../base/errors.js';
import type { Revision } from '../item/revision.js';
import type { SystemPorts } from '../ports/ports.js';
import type { CircuitState } from '../resilience/circuit-breaker.js';
import type { BackendHealth } from '../resilience/health-checker.js';
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
import { BackendGuard } from './backend-guard.js';

export interface GuardedArchiveConfig {
  readonly sqlTimeoutMs: number;
  readonly sqlReadTimeoutMs: number;
}

export interface ArchiveHealth extends BackendHealth {
  readonly warnings: readonly string[];
}

export class GuardedArchive {
  readonly #store: ArchiveStore;
  readonly #config: GuardedArchiveConfig;
  readonly #guard: BackendGuard;
  readonly #events: GuardedArchiveEvents;
  #openOptions: ArchiveOpenOptions | undefined;
  #warnings: readonly string[] = [];

  constructor(
    store: ArchiveStore,
    config: GuardedArchiveConfig,
    ports: SystemPorts,
    events: GuardedArchiveEvents,
  ) {
    this.#store = store;
    this.#config = config;
    this.#events = events;
    this.#guard = new BackendGuard(
      {
        tier: 'sql',
        name: 'SQL',
        connect: () => this.#connect(),
        ping: () => this.#read('ping', () => this.#store.ping()),
        circuit: (state) => events.circuit(state),
        called: (operation, ms, code) => events.called?.(operation, ms, code),
      },
      ports,
    );
  }

  /** Whether nobody else writes it. */
  get exclusive(): boolean {
    return this.#store.exclusive === true;
  }

  /** Whether a call would be tried now. */
  get available(): boolean {
    return this.#guard.available;
  }

  get health(): ArchiveHealth {
    return { ...this.#guard.health, warnings: this.#warnings };
  }

  /** First attempt to connect. After `TIER_UNAVAILABLE` or `DEADLINE` it goes on trying in the background. */
  async open(options: ArchiveOpenOptions): Promise<ArchiveInfo> {
    this.#openOptions = options;
    try {
      return await this.#connect();
    } catch (error) {
      throw this.#guard.lost(error, 'open');
    }
  }

  /** @throws `CIRCUIT_OPEN`, `TIER_UNAVAILABLE`, `DEADLINE`. */
  getMany(ids: readonly string[]): Promise<(Revision | SyncEngineError | undefined)[]> {
    return this.#read('read', () => this.#store.getMany(ids));
  }

  /** @throws as `getMany`, with outcome `indeterminate` where the transaction may have been committed. */
  apply(writes: readonly Revision[]): Promise<ApplyResult> {
    return this.#write(() => this.#store.apply(writes));
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
    return this.#read('look', () => this.#store.changesSince(from, limit));
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
    return this.#write(() => this.#store.collect(request));
  }

  keepLetters(letters: readonly StoredLetter[]): Promise<void> {
    return this.#write(() => this.#store.keepLetters(letters));
  }

  dropLetters(ids: readonly string[]): Promise<void> {
    return this.#write(() => this.#store.dropLetters(ids));
  }

  letters(): Promise<StoredLetter[]> {
    return this.#read('read', () => this.#store.letters());
  }

  /** The error of a call that is not made, `undefined` while calls go through. */
  get refusal(): SyncEngineError | undefined {
    return this.#guard.refusal;
  }

  async close(deadlineMs: number): Promise<void> {
    this.#guard.stop();
    await this.#guard
      .within({ operation: 'close', deadlineMs }, () => this.#store.close())
      .catch(() => this.#store.close());
  }

  async #connect(): Promise<ArchiveInfo> {
    const options = this.#openOptions as ArchiveOpenOptions;
    const info = await this.#guard.connected(() => this.#open(options));
    this.#warnings = info.warnings;
    // From here on only this archive will do, and it is never created a second time.
    this.#openOptions = { ...options, expectedId: info.archiveId, mayCreate: false, mayDiffer: false };
    this.#events.connected(info);
    return info;
  }

  async #open(options: ArchiveOpenOptions): Promise<ArchiveInfo> {
    const how = { operation: 'open', deadlineMs: this.#config.sqlTimeoutMs };
    const info = await this.#guard.within(how, () => this.#store.open(options));
    if (!this.#guard.closed) return info;
    void this.#store.close();
    throw new SyncEngineError('ENGINE_STATE', 'The engine was closed while the archive was being opened.');
  }

  #read<T>(operation: string, run: () => Promise<T>): Promise<T> {
    return this.#guard.call({ operation, deadlineMs: this.#config.sqlReadTimeoutMs }, run);
  }

  /** A read that may take long: reads of ids have a thread or a connection of their own. */
  #search<T>(operation: string, run: () => Promise<T>): Promise<T> {
    return this.#guard.call({ operation, deadlineMs: this.#config.sqlTimeoutMs, late: 'busy' }, run);
  }

  /** A transaction: one that hangs holds up all that follow, and only a new connection helps. */
  #write<T>(run: () => Promise<T>): Promise<T> {
    const deadlineMs = this.#config.sqlTimeoutMs;
    return this.#guard.call({ operation: 'apply', deadlineMs, writes: true, late: 'hangs' }, run);
  }
}

export interface GuardedArchiveEvents {
  /** After each successful connection, before calls go through. */
  connected(info: ArchiveInfo): void;
  circuit(state: CircuitState): void;
  /** A call ended after `ms`, or was not made (`undefined`); with the code of its error. */
  called?(operation: string, ms: number | undefined, code: string | undefined): void;
}
