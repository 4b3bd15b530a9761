/**
 * A write that is not yet settled everywhere: its revision, how far it got, and who waits for it. One object an id,
 * pinned in memory until the write is stored and released, or kept by the log alone (*spilled*).
 */
import type { SyncEngineError } from '../base/errors.js';
import type { AckLevel } from '../config/submit-options.js';
import { changed, DEFAULT_STATE, type Refusal, type Revision } from '../item/revision.js';
import type { BatchableItem, SyncItem } from '../item/sync-item.js';
import { itemOf } from '../item/sync-item.js';
import type { AckWaiter } from './ack-waiter.js';
import { isWide } from './record.js';

/**
 * Bytes of one entry beside id and content: the entry, its revision, its buffer's object, its places in queues.
 * Measured as growth of the process per item.
 */
const ENTRY_OVERHEAD_BYTES = 560;
/** Of a string beside its units. */
const STRING_BYTES = 24;

export function accountedBytes(revision: Revision): number {
  return accountedSize(textBytes(revision), revision.content.length);
}

export function accountedSize(textBytes: number, contentBytes: number): number {
  return ENTRY_OVERHEAD_BYTES + textBytes + contentBytes;
}

/** What the texts of a revision take in V8's heap: one byte a unit, two where a unit needs them. */
export function textBytes({ id, state, homeInstanceId, traceParent, traceState }: Revision): number {
  let bytes = isWide(id) ? id.length * 2 : id.length;
  if (state !== DEFAULT_STATE) bytes += STRING_BYTES + state.length * 2;
  if (homeInstanceId !== undefined) bytes += STRING_BYTES + homeInstanceId.length * 2;
  if (traceParent !== undefined) bytes += STRING_BYTES + traceParent.length * 2;
  if (traceState !== undefined) bytes += STRING_BYTES + traceState.length * 2;
  return bytes;
}

/**
 * `batch`: in the batcher. `live`: its batch is full and waits for a free connection. `backlog`: it was pending at
 * start, or spilled, or waits since SQL went away. `returned`: its flush failed.
 */
export type Lane = 'none' | 'batch' | 'live' | 'backlog' | 'returned';

export class Entry implements BatchableItem {
  revision: Revision;
  sizeBytes: number;
  /** A cache-only item that was written after this write, which makes room for it in SQL. Reads see it, SQL does not. */
  cached: Revision | undefined;
  /** Not yet stored and released, and not spilled. An entry that is not dirty any more is never used again. */
  dirty = true;
  /** Its slot, and its place among the dirty ones. */
  readonly slot: number;
  dirtyIndex = -1;
  /** Whether the order of eviction knows the slot: it held a clean copy before. */
  readonly known: boolean;

  /** Position of this id's record in the log, 0 where it has none; and the version of that record. */
  logPosition = 0;
  loggedVersion = 0;
  /** Position of an older record that the group under way replaces, 0 for none. */
  replacedPosition = 0;
  /** Newest version known to be durable in the log. */
  durableVersion = 0;
  /** The record in the log has this version, but not its refusal. */
  logStale = false;
  /** A group with a record of it failed, and nobody knows what of it was kept: until the log is read anew. */
  logUnknown = false;
  /** Waits in a group that was not yet sent to the log. */
  logQueued = false;

  /** Newest version that the archive is known to hold or to have refused for a newer row. */
  storedVersion = 0;
  /** Another engine wrote the id since: once it is stored, this is not what SQL holds, perhaps. */
  overtaken = false;
  /** Version that is on its way to the archive, 0 for none. */
  flushingVersion = 0;
  /** Where the entry waits for its flush. */
  lane: Lane = 'none';
  /** Its place in the queue of its lane. */
  lanePlace = 0;

  /** Callers that wait for a version of this entry, oldest first; settled ones may still be among them. */
  #firstWaiter: AckWaiter | undefined;
  #lastWaiter: AckWaiter | undefined;

  accessCount = 0;
  lastAccessedSeconds = 0;

  constructor(revision: Revision, slot: number, known: boolean) {
    this.revision = revision;
    this.slot = slot;
    this.known = known;
    this.sizeBytes = accountedBytes(revision);
  }

  get id(): string {
    return this.revision.id;
  }

  /** The item as callers see it. */
  get item(): SyncItem {
    return itemOf(this.revision, this.accessCount, this.lastAccessedSeconds);
  }

  /** Sets the cache-only item that reads see in place of this write. */
  cover(cached: Revision | undefined): void {
    this.cached = cached;
    this.sizeBytes = accountedBytes(this.revision) + (cached === undefined ? 0 : accountedBytes(cached));
  }

  /** Whether anyone still waits for it. */
  get awaited(): boolean {
    while (this.#firstWaiter?.settled) this.#firstWaiter = this.#firstWaiter.nextOfEntry;
    return this.#firstWaiter !== undefined;
  }

  /** The log alone can answer for it: its newest version is there and nothing about it is under way. */
  get spillable(): boolean {
    const { version, refusal } = this.revision;
    return (
      this.durableVersion === version &&
      this.loggedVersion === version &&
      this.logPosition !== 0 &&
      this.storedVersion < version &&
      this.flushingVersion === 0 &&
      this.replacedPosition === 0 &&
      !this.logQueued &&
      !this.logStale &&
      !this.logUnknown &&
      refusal === undefined &&
      !this.awaited
    );
  }

  /**
   * Whether the log may still hold a record of this id that is older than `version`. After a crash it would be
   * replayed, and be read until it has lost to what SQL holds.
   */
  hasOlderRecord(version: number): boolean {
    if (this.replacedPosition !== 0 || this.logUnknown) return true;
    return this.logPosition !== 0 && this.loggedVersion < version;
  }

  /** The archive refused the revision: it stays, pinned and readable, and is not flushed. */
  setAside(refusal: Refusal): void {
    this.revision = changed(this.revision, { refusal });
    this.logStale = true;
  }

  /** Those who wait for version `from` wait for `to` instead: the write was made anew. */
  renumberWaiters(from: number, to: number): void {
    for (let waiter = this.#firstWaiter; waiter !== undefined; waiter = waiter.nextOfEntry) {
      if (waiter.version === from) waiter.version = to;
    }
  }

  addWaiter(waiter: AckWaiter): void {
    while (this.#firstWaiter?.settled) this.#firstWaiter = this.#firstWaiter.nextOfEntry;
    if (this.#firstWaiter === undefined || this.#lastWaiter === undefined) this.#firstWaiter = waiter;
    else this.#lastWaiter.nextOfEntry = waiter;
    this.#lastWaiter = waiter;
  }

  /** Tells those who wait for the log that it holds `version`. */
  acknowledgeLogged(version: number): void {
    for (let waiter = this.#firstWaiter; waiter !== undefined && waiter.version <= version; ) {
      if (waiter.level === 'wal') waiter.acknowledge('wal', waiter.version < version, undefined);
      waiter = waiter.nextOfEntry;
    }
    while (this.#firstWaiter?.settled) this.#firstWaiter = this.#firstWaiter.nextOfEntry;
  }

  /**
   * Tells everyone up to `version` that SQL holds it or something newer.
   * @param won Whether `version` itself is what SQL holds.
   */
  acknowledgeStored(version: number, won: boolean, existed: boolean | undefined): void {
    let waiter = this.#firstWaiter;
    while (waiter !== undefined && waiter.version <= version) {
      const own = waiter.version === version;
      waiter.acknowledge('stored', !own || !won, own ? existed : undefined);
      waiter = waiter.nextOfEntry;
    }
    this.#firstWaiter = waiter;
  }

  /** Ends the waiting of everyone up to `version`; of those who wait for `level`, where one is given. */
  failWaiters(version: number, error: SyncEngineError, level?: AckLevel): void {
    for (let waiter = this.#firstWaiter; waiter !== undefined && waiter.version <= version; ) {
      if (level === undefined || waiter.level === level) waiter.fail(error);
      waiter = waiter.nextOfEntry;
    }
  }

  replace(revision: Revision): void {
    this.revision = revision;
    this.sizeBytes = accountedBytes(revision);
    this.logStale = false;
    this.cached = undefined;
    // SQL decides anew.
    this.overtaken = false;
  }
}
