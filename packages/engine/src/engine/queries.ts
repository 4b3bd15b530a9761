/** Verbs that speak of many items at once: scans, states, bulk deletes. */
import { SyncEngineError } from '../base/errors.js';
import type { AckLevel, SubmitReceipt, WriteOptions } from '../config/submit-options.js';
import type { HybridClock } from '../item/hybrid-clock.js';
import { DEFAULT_STATE, EMPTY_CONTENT, type Revision, type RevisionBase } from '../item/revision.js';
import { itemOf, revisionOf, type SyncItem } from '../item/sync-item.js';
import type { MemoryCache } from '../memory/memory-cache.js';
import type { Scheduler } from '../ports/ports.js';
import type { RowRange } from '../storage/archive-store.js';
import { abortable } from './abortable.js';
import { ManyWrites, SingleWrite } from './ack-targets.js';
import type { EngineTelemetry } from './engine-telemetry.js';
import type { Scan, Scans } from './scans.js';
import type { WritePath, WriteRequest } from './write-path.js';

const PAGE_DEFAULT = 1000;
/** Waits for room of a bulk delete, where the engine does not say how long. */
const RETRY_MS = 100;

/** Which part of many items. */
export interface PageOptions {
  /** Only ids behind this one, in byte order. */
  readonly after?: string;
  /** Most items; default 1,000 for a page, no limit for a scan. */
  readonly limit?: number;
  readonly signal?: AbortSignal;
}

/** Which part of a scan, and in what portions it is read. */
export interface ScanOptions extends PageOptions {
  /** Rows read from SQL at a time; default 1,000. */
  readonly pageSize?: number;
}

export interface QueryParts {
  readonly memory: MemoryCache;
  readonly clock: HybridClock;
  readonly scans: Scans;
  readonly scheduler: Scheduler;
  readonly writes: () => WritePath;
  readonly get: (id: string) => Promise<SyncItem | undefined>;
  readonly telemetry: EngineTelemetry;
}

export class Queries {
  readonly #parts: QueryParts;

  constructor(parts: QueryParts) {
    this.#parts = parts;
  }

  async *scan(range: RowRange, options: ScanOptions): AsyncGenerator<SyncItem> {
    let left = options.limit ?? Number.POSITIVE_INFINITY;
    const scan = this.#parts.scans.begin(range, options.after);
    while (!scan.ended && left > 0) {
      const pageSize = Math.min(options.pageSize ?? PAGE_DEFAULT, left);
      const page = await abortable(scan.next(pageSize), options.signal);
      for (const revision of page) {
        left--;
        yield this.#itemOf(revision);
      }
    }
  }

  /** One page. */
  async page(range: RowRange, options: PageOptions): Promise<SyncItem[]> {
    const items: SyncItem[] = [];
    const limit = options.limit ?? PAGE_DEFAULT;
    for await (const item of this.scan(range, { ...options, limit, pageSize: limit })) items.push(item);
    return items;
  }

  /**
   * A new version in another state, made from the newest one. `undefined` where there is no such item.
   */
  async setState(
    id: string,
    state: string,
    ack: AckLevel,
    options: WriteOptions,
  ): Promise<SubmitReceipt | undefined> {
    let source: Revision | undefined | 'again';
    // Nothing is awaited between the answer and the write: what comes in between would be overwritten unseen.
    do source = this.#sourceOf(id, await abortable(this.#parts.get(id), options.signal));
    while (source === 'again');
    const cached = this.#parts.memory.cached(id);
    if (cached !== undefined) {
      const request = { source: cached, deleted: false, state, ack, signal: options.signal };
      return this.#parts.writes().recache(request, cached);
    }
    if (source === undefined || source.deleted) return undefined;
    return this.#write({
      source,
      deleted: false,
      state,
      ack,
      signal: options.signal,
      redisTtlMs: source.redisTtlMs,
      base: this.#parts.memory.isPending(id) ? source.base : baseOf(source),
    });
  }

  /** The newest revision now. @param found What a read has just answered; what was written since is newer. */
  #sourceOf(id: string, found: SyncItem | undefined): Revision | undefined | 'again' {
    const { memory } = this.#parts;
    const newest = memory.newest(id);
    if (newest === 'absent') return found === undefined ? undefined : revisionOf(found);
    if (newest !== 'spilled') return newest;
    if (memory.presence(id) === 'deleted') return undefined;
    return found?.version === memory.versionOf(id) ? revisionOf(found) : 'again';
  }

  /** Tombstones for every item of the range that is older than the call. Returns how many. */
  async deleteRange(range: RowRange, ack: AckLevel, options: WriteOptions): Promise<number> {
    const version = this.#parts.writes().stamp();
    const scan = this.#parts.scans.begin(range, undefined);
    let deleted = 0;
    while (!scan.ended) {
      const ids = await abortable(pageOrDamaged(scan, version), options.signal);
      deleted += await this.#deletePage(ids, version, ack, options.signal);
    }
    return deleted;
  }

  async #deletePage(
    ids: readonly string[],
    version: number,
    ack: AckLevel,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const batch = new ManyWrites(ids.length, this.#parts.telemetry.deletes);
    const { memory } = this.#parts;
    const writes = this.#parts.writes();
    let deleted = 0;
    for (let at = 0; at < ids.length; ) {
      const id = ids[at] as string;
      const present = memory.versionOf(id);
      if (present >= version || memory.presence(id) === 'deleted') {
        batch.acknowledged(at, { id, version: present, ack: 'memory' });
        at++;
        continue;
      }
      const request: WriteRequest = {
        source: tombstone(id),
        deleted: true,
        state: DEFAULT_STATE,
        ack,
        signal,
        version,
      };
      try {
        while (!writes.roomy) await abortable(this.#pause(RETRY_MS), signal);
        const receipt = writes.write(request, batch, at);
        if (receipt !== undefined) batch.acknowledged(at, receipt);
        this.#parts.telemetry.core.counters.deletes++;
        deleted++;
        at++;
      } catch (error) {
        // Memory is full of what waits for SQL: room comes as that is stored.
        if (!(error instanceof SyncEngineError) || error.code !== 'BACKPRESSURE') throw error;
        await abortable(this.#pause(error.context.retryAfterMs ?? RETRY_MS), signal);
      }
    }
    const { results } = await batch.promise;
    const failure = results.find((result) => result instanceof SyncEngineError);
    if (failure !== undefined) throw failure;
    return deleted;
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.#parts.scheduler.after(delayMs, resolve));
  }

  #write(request: WriteRequest): Promise<SubmitReceipt> {
    return new Promise((resolve, reject) => {
      const { submits, core } = this.#parts.telemetry;
      core.counters.submits++;
      const target = new SingleWrite(resolve, reject, submits);
      try {
        const receipt = this.#parts.writes().write(request, target, 0);
        if (receipt !== undefined) resolve(receipt);
      } catch (error) {
        core.counters.submitsRefused++;
        target.failed(0, error as SyncEngineError);
      }
    });
  }

  #itemOf(revision: Revision): SyncItem {
    return itemOf(revision);
  }
}

/** Ids of the next page that are older than `version`. A damaged one is an id like any other: a delete is what mends it. */
async function pageOrDamaged(scan: Scan, version: number): Promise<string[]> {
  try {
    const page = await scan.next(PAGE_DEFAULT);
    return page.filter((revision) => revision.version < version).map((revision) => revision.id);
  } catch (error) {
    const id = error instanceof SyncEngineError && error.code === 'CORRUPTION' ? error.context.id : undefined;
    if (id === undefined) throw error;
    return [id];
  }
}

function baseOf({ version, origin }: Revision): RevisionBase {
  return { version, origin, rule: 'exactly' };
}

/** A tombstone before it is stamped. */
export function tombstone(id: string): Revision {
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
