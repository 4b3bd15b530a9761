/** A plain cache in memory that keeps the contract, and can be broken like a real one: lost, cut off, restored. */
import { SyncEngineError } from '#engine/base/errors.js';
import { isNewer } from '#engine/item/order.js';
import { contentHashOf } from '#engine/item/revision.js';
import {
  type CacheBatch,
  type CacheHead,
  type CacheInfo,
  type CacheMemory,
  type CacheOpenOptions,
  type CachePut,
  type CacheRead,
  type CacheSample,
  type CacheStore,
  type CacheWritten,
  PUT_NEWER_THERE,
  PUT_NOT_FILLED,
  PUT_WRITTEN,
} from '#engine/storage/cache-store.js';

interface Kept extends CachePut {
  readonly endsAtMs: number;
}

/** What the server would hold; survives its clients. */
export class CacheServer {
  values = new Map<string, Kept>();
  head: (CacheHead & { begun: number }) | undefined;
  confirmed = new Map<number, string>();
  down = false;
  readonly clients = new Set<MemoryCacheStore>();
  readonly nowMs: () => number;

  constructor(nowMs: () => number = () => Date.now()) {
    this.nowMs = nowMs;
  }

  /** What a snapshot of now would bring back. */
  snapshot(): () => void {
    const values = new Map(this.values);
    const { head } = this;
    const confirmed = new Map(this.confirmed);
    return () => {
      this.values = values;
      this.head = head;
      this.confirmed = confirmed;
    };
  }

  /** Every connection ends, and none is made before `start`. */
  stop(): void {
    this.down = true;
    for (const client of [...this.clients]) client.disconnect();
  }

  start(): void {
    this.down = false;
  }

  /** Loses everything. */
  flushAll(): void {
    this.values.clear();
    this.head = undefined;
    this.confirmed.clear();
  }

  /** Evicts one of the values, chosen by a number from 0 to below 1. */
  evictOne(chosen: number): void {
    const keys = [...this.values.keys()];
    const key = keys[Math.floor(chosen * keys.length)];
    if (key !== undefined) this.values.delete(key);
  }
}

export class MemoryCacheStore implements CacheStore {
  readonly #server: CacheServer;
  #lost: ((reason: Error) => void) | undefined;
  #connected = false;
  /** Awaited between a call and what it does … */
  arriving: (operation: string) => Promise<void> = () => Promise.resolve();
  /** … and between that and its answer. */
  answering: (operation: string) => Promise<void> = () => Promise.resolve();

  constructor(server: CacheServer = new CacheServer()) {
    this.#server = server;
  }

  disconnect(): void {
    this.#connected = false;
    this.#server.clients.delete(this);
    this.#lost?.(new Error('the connection ended'));
  }

  async open({ lost }: CacheOpenOptions): Promise<CacheInfo> {
    await this.arriving('open');
    if (this.#server.down) throw away();
    this.#lost = lost;
    this.#connected = true;
    this.#server.clients.add(this);
    return { warnings: [] };
  }

  head(): Promise<CacheHead | undefined> {
    return this.#run('head', () => this.#head());
  }

  moveHead(expected: string | undefined, next: CacheHead): Promise<CacheHead> {
    return this.#run('head', () => {
      const server = this.#server;
      if (server.head?.generation === expected) {
        server.head = { ...next, begun: next.position };
        server.confirmed.clear();
      }
      return this.#head() as CacheHead;
    });
  }

  getMany(generation: string, ids: readonly string[]): Promise<CacheRead> {
    return this.#run('read', () => ({
      head: this.#head(),
      values: ids.map((id) => {
        const kept = this.#server.values.get(`${generation}:${id}`);
        const leftMs = (kept?.endsAtMs ?? 0) - this.#server.nowMs();
        if (kept === undefined || isMarker(kept) || leftMs <= 0) return undefined;
        return { revision: kept.revision, cacheOnly: kept.kind === 'only', leftMs };
      }),
    }));
  }

  putMany(batch: CacheBatch): Promise<CacheWritten> {
    const sentAtMs = this.#server.nowMs();
    return this.#run('write', () => this.#put(batch, sentAtMs + batch.withinMs));
  }

  #put(batch: CacheBatch, deadlineMs: number): CacheWritten {
    const server = this.#server;
    const { head } = server;
    const none = new Uint8Array(0);
    if (head === undefined || head.generation !== batch.generation)
      return { status: 'moved', position: 0, outcomes: none };
    if (server.nowMs() > deadlineMs) return { status: 'late', position: head.position, outcomes: none };
    const { known, confirms } = batch;
    const begun = batch.begins ? Math.max(head.begun, known as number) : head.begun;
    server.head = { ...head, begun };
    const outcomes = batch.puts.map((put) => {
      const key = `${batch.generation}:${put.revision.id}`;
      const there = server.values.get(key);
      if (there === undefined && (put.kind === 'mark' || (known !== undefined && known < begun)))
        return PUT_NOT_FILLED;
      if (there !== undefined && !isNewer(put.revision, there.revision)) return PUT_NEWER_THERE;
      if (!isMarker(put)) contentHashOf(put.revision);
      server.values.set(key, { ...put, endsAtMs: server.nowMs() + put.ttlMs });
      return PUT_WRITTEN;
    });
    if (confirms !== undefined) this.#confirm(known as number, confirms);
    return {
      status: 'done',
      position: (server.head as CacheHead).position,
      outcomes: Uint8Array.from(outcomes),
    };
  }

  #confirm(position: number, chain: string): void {
    const { confirmed } = this.#server;
    confirmed.set(position, chain);
    for (;;) {
      const head = this.#server.head as CacheHead & { begun: number };
      const next = confirmed.get(head.position + 1);
      if (next === undefined) return;
      confirmed.delete(head.position + 1);
      this.#server.head = { ...head, position: head.position + 1, chain: next };
    }
  }

  exists(generation: string, ids: readonly string[]): Promise<boolean[]> {
    return this.#run('read', () =>
      ids.map((id) => {
        const kept = this.#server.values.get(`${generation}:${id}`);
        return kept !== undefined && !isMarker(kept);
      }),
    );
  }

  deleteMany(generation: string, ids: readonly string[]): Promise<void> {
    return this.#run('write', () => {
      for (const id of ids) this.#server.values.delete(`${generation}:${id}`);
    });
  }

  memory(): Promise<CacheMemory> {
    return this.#run('memory', () => ({ usedBytes: this.#server.values.size, maxBytes: 0 }));
  }

  sample(): Promise<CacheSample> {
    return this.#run('evict', () => ({
      entries: [...this.#server.values].map(([key, { revision }]) => ({
        key: Buffer.from(key),
        bytes: revision.content.length,
        idleMs: 0,
        unreachable: !key.startsWith(`${this.#server.head?.generation}:`),
      })),
      next: undefined,
    }));
  }

  evict(keys: readonly Uint8Array[]): Promise<number> {
    return this.#run(
      'evict',
      () => keys.filter((key) => this.#server.values.delete(Buffer.from(key).toString())).length,
    );
  }

  ping(): Promise<void> {
    return this.#run('ping', () => {});
  }

  close(): Promise<void> {
    this.#connected = false;
    this.#lost = undefined;
    this.#server.clients.delete(this);
    return Promise.resolve();
  }

  #head(): CacheHead | undefined {
    const { head } = this.#server;
    return head && { generation: head.generation, position: head.position, chain: head.chain };
  }

  async #run<T>(operation: string, work: () => T): Promise<T> {
    if (!this.#connected) throw away();
    await this.arriving(operation);
    if (this.#server.down) throw away();
    const answer = work();
    await this.answering(operation);
    if (!this.#connected) throw away();
    return answer;
  }
}

const isMarker = ({ kind }: CachePut): boolean => kind === 'marker' || kind === 'mark';

function away(): SyncEngineError {
  return new SyncEngineError('TIER_UNAVAILABLE', 'There is no connection.', {
    outcome: 'indeterminate',
    context: { tier: 'redis' },
  });
}
