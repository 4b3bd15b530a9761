/**
 * Any cache, made safe to depend on: guarded (`backend-guard.ts`), opened anew when its connection is lost. The store
 * behind stays naive. A call that was given up may still be carried out; the order, the position and the deadline that
 * travel with each write make that harmless.
 */
import { SyncEngineError } from '../base/errors.js';
import type { SystemPorts } from '../ports/ports.js';
import type { CircuitState } from '../resilience/circuit-breaker.js';
import type { BackendHealth } from '../resilience/health-checker.js';
import { BackendGuard } from './backend-guard.js';
import type {
  CacheBatch,
  CacheHead,
  CacheMemory,
  CacheRead,
  CacheSample,
  CacheStore,
  CacheWritten,
} from './cache-store.js';

export interface GuardedCacheConfig {
  readonly redisTimeoutMs: number;
}

export interface CacheHealth extends BackendHealth {
  readonly warnings: readonly string[];
}

export interface GuardedCacheEvents {
  /** After each successful connection, before calls go through: what was there may be older now, or gone. */
  connected(): void;
  circuit(state: CircuitState): void;
  called?(operation: string, ms: number | undefined, code: string | undefined): void;
}

export class GuardedCache {
  readonly #store: CacheStore;
  readonly #config: GuardedCacheConfig;
  readonly #events: GuardedCacheEvents;
  readonly #guard: BackendGuard;
  #archiveId = '';
  #warnings: readonly string[] = [];
  #opens = 0;

  constructor(store: CacheStore, config: GuardedCacheConfig, ports: SystemPorts, events: GuardedCacheEvents) {
    this.#store = store;
    this.#config = config;
    this.#events = events;
    this.#guard = new BackendGuard(
      {
        tier: 'redis',
        name: 'Redis',
        connect: () => this.#connect(),
        ping: () => this.ping(),
        circuit: (state) => events.circuit(state),
        called: (operation, ms, code) => events.called?.(operation, ms, code),
      },
      ports,
    );
  }

  get available(): boolean {
    return this.#guard.available;
  }

  get health(): CacheHealth {
    return { ...this.#guard.health, warnings: this.#warnings };
  }

  /** First attempt to connect. After `TIER_UNAVAILABLE` or `DEADLINE` it goes on trying in the background. */
  async open(archiveId: string): Promise<void> {
    this.#archiveId = archiveId;
    try {
      await this.#connect();
    } catch (error) {
      throw this.#guard.lost(error, 'open');
    }
  }

  /** @throws `CIRCUIT_OPEN`, `TIER_UNAVAILABLE`, `DEADLINE`. */
  head(): Promise<CacheHead | undefined> {
    return this.#call('head', () => this.#store.head());
  }

  moveHead(expected: string | undefined, next: CacheHead): Promise<CacheHead | undefined> {
    return this.#call('head', () => this.#store.moveHead(expected, next));
  }

  getMany(generation: string, ids: readonly string[]): Promise<CacheRead> {
    return this.#call('read', () => this.#store.getMany(generation, ids));
  }

  /** @throws as `head`, with outcome `indeterminate` where it may have been carried out. */
  putMany(batch: Omit<CacheBatch, 'withinMs'>): Promise<CacheWritten> {
    const withinMs = this.#config.redisTimeoutMs;
    return this.#call('write', () => this.#store.putMany({ ...batch, withinMs }));
  }

  exists(generation: string, ids: readonly string[]): Promise<boolean[]> {
    return this.#call('read', () => this.#store.exists(generation, ids));
  }

  deleteMany(generation: string, ids: readonly string[]): Promise<void> {
    return this.#call('write', () => this.#store.deleteMany(generation, ids));
  }

  memory(): Promise<CacheMemory> {
    return this.#call('memory', () => this.#store.memory());
  }

  sample(from: string | undefined, count: number): Promise<CacheSample> {
    return this.#call('evict', () => this.#store.sample(from, count));
  }

  evict(keys: readonly Uint8Array[]): Promise<number> {
    return this.#call('evict', () => this.#store.evict(keys));
  }

  ping(): Promise<void> {
    return this.#call('ping', () => this.#store.ping());
  }

  async close(): Promise<void> {
    this.#guard.stop();
    await this.#store.close();
  }

  async #connect(): Promise<void> {
    const opened = ++this.#opens;
    const lost = (reason: Error): void => {
      if (opened === this.#opens && !this.#guard.closed) this.#guard.lost(reason, 'stay connected');
    };
    const how = { operation: 'open', deadlineMs: this.#config.redisTimeoutMs };
    const { warnings } = await this.#guard.connected(() =>
      this.#guard.within(how, async () => {
        const info = await this.#store.open({ archiveId: this.#archiveId, lost });
        if (opened === this.#opens && !this.#guard.closed) return info;
        if (this.#guard.closed) void this.#store.close();
        throw new SyncEngineError('ENGINE_STATE', 'The engine was closed while Redis was being connected.');
      }),
    );
    this.#warnings = warnings;
    this.#events.connected();
  }

  /** A server that does not answer in time holds up everything behind it: only a new connection helps. */
  #call<T>(operation: string, run: () => Promise<T>): Promise<T> {
    const deadlineMs = this.#config.redisTimeoutMs;
    return this.#guard.call({ operation, deadlineMs, writes: operation === 'write', late: 'hangs' }, run);
  }
}
