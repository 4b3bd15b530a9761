/**
 * A read that memory could not answer.
 *
 *   pending and L1, or the log where it was spilled ─► one flight per id ─► one SQL read for all misses of this turn
 *                                                             │
 *                                promote into L1, unless a write overtook the flight
 *
 * Invariant: a flight's value enters memory only if no submit or delete of the id was called since the
 * flight began. So a value read before a write can never hide the write.
 */
import { SyncEngineError } from '../base/errors.js';
import type { ChangeFollower } from '../coherence/change-follower.js';
import type { FilterManager } from '../filter/filter-manager.js';
import type { HybridClock } from '../item/hybrid-clock.js';
import type { Revision } from '../item/revision.js';
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

  constructor(id: string) {
    this.id = id;
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }
}

export interface ReadParts {
  readonly memory: MemoryCache;
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
    if (this.#parts.archive === undefined) return Promise.resolve(undefined);
    const flight = this.#flights.get(id);
    if (flight !== undefined) return flight.promise;
    if (this.#parts.filter?.mightExist(id) === false)
      return this.current ? Promise.resolve(undefined) : this.#renewedThen(id);
    return this.#traced(this.#begin(id).promise);
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
    return this.#traced(this.#begin(id).promise);
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

  #begin(id: string): Flight {
    const flight = new Flight(id);
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

  async #read(flights: readonly Flight[]): Promise<void> {
    const archive = this.#parts.archive as GuardedArchive;
    const { clock } = this.#parts.ports;
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
    for (let at = 0; at < flights.length; at++) this.#answer(flights[at] as Flight, rows[at]);
    this.#parts.memory.pace();
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
