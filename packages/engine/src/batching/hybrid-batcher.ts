/**
 * Collects items until there are enough of them, by count, by bytes, or by age, and hands them over as one
 * batch. Per id it keeps the newest: a put then a delete is a delete.
 */
import { SyncEngineError } from '../base/errors.js';
import type { BatchableItem } from '../item/sync-item.js';
import type { Clock } from '../ports/ports.js';
import { systemPorts } from '../ports/system/system-ports.js';

/** When a batch is ready: whichever of the three comes first. */
export interface BatchConfig {
  /** Age of the oldest item at which the batch is ready, milliseconds. */
  readonly flushMs: number;
  /** Distinct ids. */
  readonly flushCount: number;
  /** Sum of their `sizeBytes`. */
  readonly flushBytes: number;
}

/** What made a batch ready, or who took it. */
export type FlushReason = 'time' | 'count' | 'size' | 'manual' | 'shutdown';

/** Items that go together. */
export interface Batch<T> {
  /** Distinct ids, in the order in which they first came. */
  readonly items: readonly T[];
  readonly totalBytes: number;
  /** Monotonic milliseconds of the first item. */
  readonly createdAt: number;
}

/** A batch that was handed over, and why. */
export interface FlushBatch<T> extends Batch<T> {
  readonly reason: FlushReason;
}

/** What waits in a batcher, and what went through it. */
export interface BatcherStats {
  readonly items: number;
  readonly bytes: number;
  readonly batches: number;
  /** Items that a newer one of the same id replaced. */
  readonly coalesced: number;
}

/**
 * Collects items until count, bytes or age make a batch of them. Has no timer: who owns it asks `takeIfReady`.
 */
export class HybridBatcher<T extends BatchableItem> {
  readonly #config: BatchConfig;
  readonly #clock: Clock;
  /** id → place in the arrays below. Sizes are kept apart: an item may grow after it was added. */
  #places = new Map<string, number>();
  #items: T[] = [];
  #sizes: number[] = [];
  #bytes = 0;
  #createdAt = 0;
  #batches = 0;
  #coalesced = 0;

  /** @throws `CONFIG` for a limit that is not a positive number. */
  constructor(config: BatchConfig, ports: { readonly clock: Clock } = systemPorts) {
    for (const [name, value] of Object.entries(config)) {
      if (typeof value !== 'number' || !(value > 0)) {
        throw new SyncEngineError('CONFIG', `${name} must be a positive number, got ${String(value)}.`);
      }
    }
    this.#config = config;
    this.#clock = ports.clock;
  }

  /** Adds or replaces. Returns why the batch is ready now, or `undefined` while it is not. */
  add(item: T): FlushReason | undefined {
    const place = this.#places.get(item.id);
    const size = item.sizeBytes;
    if (place === undefined) {
      if (this.#items.length === 0) this.#createdAt = this.#clock.monotonic();
      this.#places.set(item.id, this.#items.length);
      this.#items.push(item);
      this.#sizes.push(size);
      this.#bytes += size;
    } else {
      this.#bytes += size - (this.#sizes[place] as number);
      this.#items[place] = item;
      this.#sizes[place] = size;
      this.#coalesced++;
    }
    return this.#full;
  }

  /**
   * Adds all of them, however many: one batch may get larger than its limits. Returns as `add` after the last one.
   */
  addMany(items: Iterable<T>): FlushReason | undefined {
    for (const item of items) this.add(item);
    return this.#full;
  }

  /** The batch, if count, bytes or age make it ready. */
  takeIfReady(): FlushBatch<T> | undefined {
    if (this.#items.length === 0) return undefined;
    const full = this.#full;
    if (full !== undefined) return this.#take(full);
    if (this.#clock.monotonic() - this.#createdAt >= this.#config.flushMs) return this.#take('time');
    return undefined;
  }

  /** Whatever is there. */
  forceFlush(reason: FlushReason = 'manual'): FlushBatch<T> | undefined {
    return this.#items.length === 0 ? undefined : this.#take(reason);
  }

  /** Whether an item of this id waits. */
  contains(id: string): boolean {
    return this.#places.has(id);
  }

  /** What waits now; `batches` and `coalesced` since the beginning. */
  get stats(): BatcherStats {
    return {
      items: this.#items.length,
      bytes: this.#bytes,
      batches: this.#batches,
      coalesced: this.#coalesced,
    };
  }

  get #full(): FlushReason | undefined {
    if (this.#items.length >= this.#config.flushCount) return 'count';
    if (this.#bytes >= this.#config.flushBytes) return 'size';
    return undefined;
  }

  #take(reason: FlushReason): FlushBatch<T> {
    const batch = { items: this.#items, totalBytes: this.#bytes, createdAt: this.#createdAt, reason };
    this.#places = new Map();
    this.#items = [];
    this.#sizes = [];
    this.#bytes = 0;
    this.#batches++;
    return batch;
  }
}
