/**
 * A read that memory could not answer.
 *
 *   pending and L1, or the log where it was spilled ─► one flight per id ─► one read of Redis for all misses of this turn
 *                                                             │             ─► filter ─► one of SQL for those that are left
 *                             promote into L1 and Redis, unless a write overtook the flight
 *
 * Invariant: a flight's value enters memory only if no submit or delete of the id was called since the
 * flight began. So a value read before a write can never hide the write.
 */
import { SyncEngineError } from '../base/errors.js';
import type { CacheHit, CacheTier } from '../coherence/cache-tier.js';
import type { ChangeFollower } from '../coherence/change-follower.js';
import type { FilterManager } from '../filter/filter-manager.js';
import type { HybridClock } from '../item/hybrid-clock.js';
import { isNewer } from '../item/order.js';
import { changed, type Revision } from '../item/revision.js';
import { itemOf, type SyncItem, staleOf } from '../item/sync-item.js';
import type { Absence, MemoryCache } from '../memory/memory-cache.js';
import type { SystemPorts } from '../ports/ports.js';
import type { GuardedArchive } from '../storage/guarded-archive.js';
import type { DamagedIds } from './damaged-ids.js';
import type { Spill } from './spill.js';

const IDS_PER_READ_MAX = 1000;

class Flight {
  readonly id: string;
  readonly promise: Promise<SyncItem | undefined>;
  resolve!: (item: SyncItem | undefined) => void;
  reject!: (error: SyncEngineError) => void;
  /** A write came by: the value is an answer for those who asked before it, and nothing more. */
  detached = false;
  /** Only SQL's answer counts. */
  readonly fresh: boolean;

  constructor(id: string, fresh: boolean) {
    this.id = id;
    this.fresh = fresh;
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }
}

export interface ReadParts {
  readonly memory: MemoryCache;
  /** Where there is Redis. */
  readonly cache: CacheTier | undefined;
  /** How long memory may hold a cache-only item that Redis keeps for `leftMs`. */
  readonly cacheOnlyMs: (leftMs: number) => number;
  /** Without one the engine is memory only, and what memory does not hold does not exist. */
  readonly archive: GuardedArchive | undefined;
  readonly clock: HybridClock;
  readonly ports: SystemPorts;
  readonly corrupt: (id: string) => void;
  /** Says which ids SQL has no row of, where it is trusted. */
  readonly filter: FilterManager | undefined;
  readonly damaged: DamagedIds;
  /** Where there is a log. */
  readonly spill: Spill | undefined;
  /** Where others write the archive too. */
  readonly follower: ChangeFollower | undefined;
  /** A stale item was served. */
  readonly stale: (id: string) => void;
  /** Puts a span around a read of SQL, where spans are wanted. */
  readonly traced?: (found: Promise<SyncItem | undefined>) => Promise<SyncItem | undefined>;
}

export class ReadPath {
  readonly #parts: ReadParts;
  readonly #flights = new Map<string, Flight>();
  #waiting: Flight[] = [];

  constructor(parts: ReadParts) {
    this.#parts = parts;
  }

  get(id: string): Promise<SyncItem | undefined> {
    const found = this.#parts.memory.read(id);
    if (typeof found !== 'object') return this.absent(id, found);
    return this.current ? Promise.resolve(found) : this.lapsed(id, found);
  }

  /** Whether what memory and filter say of what others may write is to be believed. */
  get current(): boolean {
    return this.#parts.follower === undefined || this.#parts.follower.current;
  }

  /** An item that memory holds while it is not known what others have written. */
  async lapsed(id: string, item: SyncItem): Promise<SyncItem | undefined> {
    const { memory, follower, stale } = this.#parts;
    // What is pending here, or cache-only, others do not change.
    if (memory.isPending(id) || memory.cached(id) !== undefined) return item;
    if (await (follower as ChangeFollower).renewed()) return this.get(id);
    const found = memory.read(id);
    if (typeof found !== 'object') return this.absent(id, found);
    if (memory.isPending(id)) return found;
    stale(id);
    return staleOf(found);
  }

  /** A read that memory has no item for. */
  absent(id: string, absence: Absence): Promise<SyncItem | undefined> {
    if (absence === 'deleted') {
      // Others may have made a cache-only item of it, which only Redis knows.
      if (this.#parts.cache?.usable === true && !this.#parts.memory.isPending(id)) return this.miss(id);
      if (this.current || this.#parts.memory.isPending(id)) return Promise.resolve(undefined);
      return this.#renewedThen(id);
    }
    if (absence === 'spilled') return this.spilled(id);
    try {
      this.#parts.damaged.check(id);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.miss(id);
  }

  /** A read of an id whose newest write only the log holds. */
  spilled(id: string): Promise<SyncItem | undefined> {
    return (this.#parts.spill as Spill).get(id);
  }

  /** A read of an id that memory does not hold. Joins a flight of the same id. */
  miss(id: string): Promise<SyncItem | undefined> {
    const { archive, cache } = this.#parts;
    if (archive === undefined && cache?.usable !== true) return Promise.resolve(undefined);
    const flight = this.#flights.get(id);
    if (flight !== undefined) return flight.promise;
    if (cache?.usable === true) return this.#traced(this.#begin(id, false).promise);
    if (this.#parts.filter?.mightExist(id) === false)
      return this.current ? Promise.resolve(undefined) : this.#renewedThen(id);
    return this.#traced(this.#begin(id, false).promise);
  }

  /** A "no" that others may have made untrue: after one look it is final, without one SQL has to be asked. */
  async #renewedThen(id: string): Promise<SyncItem | undefined> {
    if (await (this.#parts.follower as ChangeFollower).renewed()) return this.get(id);
    if (this.#parts.memory.isPending(id)) return this.get(id);
    return this.fresh(id);
  }

  /** Asks SQL although memory may hold the id. A write that is still pending is newer, and is the answer. */
  fresh(id: string): Promise<SyncItem | undefined> {
    const { memory, archive } = this.#parts;
    if (archive === undefined || memory.isPending(id) || memory.cached(id) !== undefined) {
      const found = memory.read(id);
      if (found === 'spilled') return this.spilled(id);
      return Promise.resolve(typeof found === 'string' ? undefined : found);
    }
    // An earlier flight may have read before this call: nobody who comes now may join it.
    this.detach(id);
    return this.#traced(this.#begin(id, true).promise);
  }

  /** Anything may have been written: no flight under way may fill memory. */
  detachAll(): void {
    for (const flight of this.#flights.values()) flight.detached = true;
    this.#flights.clear();
  }

  /** A write of `id` is being taken, here, or was committed by somebody else. */
  detach(id: string): void {
    if (this.#flights.size === 0) return;
    const flight = this.#flights.get(id);
    if (flight === undefined) return;
    flight.detached = true;
    this.#flights.delete(id);
  }

  /** Who joins a flight joins its span too. */
  #traced(found: Promise<SyncItem | undefined>): Promise<SyncItem | undefined> {
    return this.#parts.traced === undefined ? found : this.#parts.traced(found);
  }

  #begin(id: string, fresh: boolean): Flight {
    const flight = new Flight(id, fresh);
    this.#flights.set(id, flight);
    if (this.#waiting.length === 0) this.#parts.ports.scheduler.soon(() => this.#send());
    this.#waiting.push(flight);
    return flight;
  }

  #send(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (let at = 0; at < waiting.length; at += IDS_PER_READ_MAX) {
      void this.#read(waiting.slice(at, at + IDS_PER_READ_MAX));
    }
  }

  async #read(all: readonly Flight[]): Promise<void> {
    const { archive, cache } = this.#parts;
    const { clock } = this.#parts.ports;
    const flights = cache?.usable === true ? await this.#readCache(cache, all) : all;
    if (flights.length === 0) return;
    if (archive === undefined) {
      for (const flight of flights) this.#absentFrom(flight);
      return;
    }
    const known = cache?.knownPosition ?? 0;
    let rows: (Revision | SyncEngineError | undefined)[];
    try {
      rows = await archive.getMany(flights.map((flight) => flight.id));
    } catch (cause) {
      for (const flight of flights) {
        this.#land(flight);
        flight.reject(unavailable(flight.id, cause));
      }
      return;
    }
    this.#parts.memory.setTime(clock.now(), clock.monotonic());
    const copied: Revision[] = [];
    for (let at = 0; at < flights.length; at++) {
      const flight = flights[at] as Flight;
      const row = rows[at];
      if (cache !== undefined && !flight.detached && row !== undefined && !(row instanceof SyncEngineError))
        copied.push(row);
      this.#answer(flight, row);
    }
    if (cache !== undefined && !this.#parts.memory.pinnedOnly) cache.promote(copied, known);
    this.#parts.memory.pace();
  }

  /** Lands what Redis has, and what is known not to be anywhere else; the others go on to SQL. */
  async #readCache(cache: CacheTier, all: readonly Flight[]): Promise<readonly Flight[]> {
    const { filter, memory } = this.#parts;
    const { clock } = this.#parts.ports;
    const asked = all.filter((flight) => !flight.fresh);
    if (asked.length === 0) return all;
    const hits = await cache.read(asked.map((flight) => flight.id));
    memory.setTime(clock.now(), clock.monotonic());
    const left = all.filter((flight) => flight.fresh);
    for (let at = 0; at < asked.length; at++) {
      const flight = asked[at] as Flight;
      const hit = hits[at];
      if (hit !== undefined) this.#hit(flight, hit);
      else if (memory.presence(flight.id) === 'deleted' || filter?.mightExist(flight.id) === false)
        this.#absentFrom(flight);
      else left.push(flight);
    }
    memory.pace();
    return left;
  }

  /** Memory, filter or the want of an archive say no; others may have made that untrue. */
  #absentFrom(flight: Flight): void {
    this.#land(flight);
    if (this.current || this.#parts.memory.isPending(flight.id)) flight.resolve(undefined);
    else this.#renewedThen(flight.id).then(flight.resolve, flight.reject);
  }

  #hit(flight: Flight, { revision, cacheOnly, leftMs, stale }: CacheHit): void {
    const { memory, clock, ports } = this.#parts;
    const { id } = flight;
    this.#land(flight);
    clock.merge(revision.version);
    if (stale) {
      this.#parts.stale(id);
      flight.resolve(staleOf(itemOf(revision)));
    } else if (flight.detached) flight.resolve(itemOf(revision));
    else if (cacheOnly) {
      const newest = memory.newest(id);
      if (typeof newest === 'object' && isNewer(newest, revision)) {
        flight.resolve(newest.deleted ? undefined : itemOf(newest));
        return;
      }
      const untilMs = ports.clock.monotonic() + this.#parts.cacheOnlyMs(leftMs);
      const kept = changed(revision, { redisTtlMs: leftMs, cachedUntilMs: untilMs });
      memory.cache(kept);
      flight.resolve(itemOf(kept));
    } else {
      const newest = memory.promote(revision);
      if (newest === 'spilled') this.spilled(id).then(flight.resolve, flight.reject);
      else if (typeof newest === 'string') flight.resolve(undefined);
      else if (this.current) flight.resolve(newest);
      else this.lapsed(id, newest).then(flight.resolve, flight.reject);
    }
  }

  #answer(flight: Flight, row: Revision | SyncEngineError | undefined): void {
    this.#land(flight);
    if (row instanceof SyncEngineError) {
      this.#parts.corrupt(flight.id);
      flight.reject(row);
      return;
    }
    if (row === undefined) {
      this.#parts.filter?.noteFalsePositive();
      this.#forget(flight);
      flight.resolve(undefined);
      return;
    }
    this.#parts.clock.merge(row.version);
    if (flight.detached) {
      flight.resolve(row.deleted ? undefined : itemOf(row));
      return;
    }
    const newest = this.#parts.memory.promote(row);
    if (newest === 'spilled') this.spilled(flight.id).then(flight.resolve, flight.reject);
    else flight.resolve(typeof newest === 'string' ? undefined : newest);
  }

  /** SQL has no row of what a fresh read found in memory: the copy outlived its row. */
  #forget(flight: Flight): void {
    if (!flight.detached) this.#parts.memory.forget(flight.id);
  }

  #land(flight: Flight): void {
    if (this.#flights.get(flight.id) === flight) this.#flights.delete(flight.id);
  }
}

function unavailable(id: string, cause: unknown): SyncEngineError {
  return new SyncEngineError(
    'TIER_UNAVAILABLE',
    'SQL cannot be asked for this id and no higher tier holds it, so whether it exists is unknown. Try again; healthCheck() says what SQL is doing.',
    { context: { tier: 'sql', id }, cause },
  );
}
