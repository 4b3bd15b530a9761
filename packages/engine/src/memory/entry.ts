/**
 * What memory holds of one id: its newest revision, and while that is not yet settled everywhere, how far it
 * got. A settled entry is *clean* and may be evicted; a *dirty* one is pinned.
 */
import type { SyncEngineError } from '../base/errors.js';
import type { AckLevel } from '../config/submit-options.js';
import type { Refusal, Revision } from '../item/revision.js';
import type { BatchableItem, SyncItem, Usage } from '../item/sync-item.js';
import { itemOf } from '../item/sync-item.js';
import type { AckWaiter } from './ack-waiter.js';
import type { EntryList, Linked } from './entry-list.js';

/**
 * Bytes of one entry beside id and content: the entry, its revision, its buffer's object, its place in the
 * map. Measured as growth of the process per item, for contents of 0, 100 and 1,000 bytes: 562, 480, 645.
 */
const ENTRY_OVERHEAD_BYTES = 560;

export function accountedBytes(revision: Revision): number {
  return ENTRY_OVERHEAD_BYTES + revision.id.length + revision.content.length;
}

/**
 * `batch`: in the batcher. `live`: its batch is full and waits for a free connection. `backlog`: it was
 * pending at start, or its flush failed.
 */
export type Lane = 'none' | 'batch' | 'live' | 'backlog';

export class Entry implements BatchableItem, Usage, Linked<Entry> {
  revision: Revision;
  sizeBytes: number;
  /** Not yet stored and released. */
  dirty = false;

  /** Position of this id's record in the log, 0 where it has none; and the version of that record. */
  logPosition = 0;
  loggedVersion = 0;
  /** Position of an older record that the group under way replaces, 0 for none. */
  replacedPosition = 0;
  /** Newest version known to be durable in the log. */
  durableVersion = 0;
  /** The record in the log has this version, but not its refusal. */
  logStale = false;
  /** Waits in a group that was not yet sent to the log. */
  logQueued = false;

  /** Newest version that the archive is known to hold or to have refused for a newer row. */
  storedVersion = 0;
  /** Version that is on its way to the archive, 0 for none. */
  flushingVersion = 0;
  /** Where the entry waits for its flush. */
  lane: Lane = 'none';

  /** Callers that wait for a version of this entry, oldest first; settled ones may still be among them. */
  #firstWaiter: AckWaiter | undefined;
  #lastWaiter: AckWaiter | undefined;

  accessCount = 0;
  lastAccessed = 0;
  #item: SyncItem | undefined;

  /** The list that the entry is in, and its neighbours there (`entry-list.ts`). */
  list: EntryList<Entry> | undefined;
  previous: Entry | undefined;
  next: Entry | undefined;

  constructor(revision: Revision) {
    this.revision = revision;
    this.sizeBytes = accountedBytes(revision);
  }

  get id(): string {
    return this.revision.id;
  }

  /** The item as callers see it; one object for all of them, since it never changes. */
  get item(): SyncItem {
    this.#item ??= itemOf(this.revision, this);
    return this.#item;
  }

  /**
   * Whether the log may still hold a record of this id that is older than `version`. After a crash it would be
   * replayed, and be read until it has lost to what SQL holds.
   */
  hasOlderRecord(version: number): boolean {
    return this.replacedPosition !== 0 || (this.logPosition !== 0 && this.loggedVersion < version);
  }

  /** The archive refused the revision: it stays, pinned and readable, and is not flushed. */
  setAside(refusal: Refusal): void {
    this.revision = { ...this.revision, refusal };
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
    this.#item = undefined;
  }
}
