/**
 * L1: every entry in memory by id, within one byte budget.
 *
 *   dirty   pinned until stored and released; reads see them first
 *   clean   what tiers below also hold; the least recently used leave when the budget is needed
 *
 * Invariants: an entry is in exactly one of the two lists. A revision is never replaced by an older one.
 * Dirty bytes alone never exceed the budget (`hasRoom` is asked before a write is taken).
 */
import { isNewer } from '../item/order.js';
import type { Revision } from '../item/revision.js';
import { accountedBytes, Entry } from './entry.js';
import { EntryList } from './entry-list.js';

export interface MemoryStats {
  readonly items: number;
  readonly bytes: number;
  readonly bytesMax: number;
  readonly dirtyItems: number;
  readonly dirtyBytes: number;
  readonly evictions: number;
}

export class MemoryCache {
  readonly #bytesMax: number;
  readonly #entries = new Map<string, Entry>();
  readonly #clean = new EntryList<Entry>();
  readonly #dirty = new EntryList<Entry>();
  #evictions = 0;
  /** Wall clock of about now, set by the engine's maintenance: a read does not ask the system for time. */
  coarseNow = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Ids in memory, tombstones included. */
  get size(): number {
    return this.#entries.size;
  }

  get dirtyCount(): number {
    return this.#dirty.count;
  }

  get dirtyBytes(): number {
    return this.#dirty.bytes;
  }

  /** Dirty entries, the one that is dirty for the longest time first. */
  get dirty(): Iterable<Entry> {
    return this.#dirty;
  }

  get all(): Iterable<Entry> {
    return this.#entries.values();
  }

  get stats(): MemoryStats {
    return {
      items: this.#entries.size,
      bytes: this.#clean.bytes + this.#dirty.bytes,
      bytesMax: this.#bytesMax,
      dirtyItems: this.#dirty.count,
      dirtyBytes: this.#dirty.bytes,
      evictions: this.#evictions,
    };
  }

  /** The entry, whether live or a tombstone, without counting it as a read. */
  find(id: string): Entry | undefined {
    return this.#entries.get(id);
  }

  /** The entry, counted as a read: it becomes the youngest of the clean ones. */
  read(id: string): Entry | undefined {
    const entry = this.#entries.get(id);
    if (entry === undefined) return undefined;
    entry.accessCount++;
    entry.lastAccessed = this.coarseNow;
    if (!entry.dirty) this.#clean.renew(entry);
    return entry;
  }

  /** Whether a write of that many bytes leaves the dirty entries within the budget. */
  hasRoom(id: string, bytes: number): boolean {
    const limit = this.#bytesMax - bytes;
    if (this.#dirty.bytes <= limit) return true;
    const entry = this.#entries.get(id);
    return entry?.dirty === true && this.#dirty.bytes - entry.sizeBytes <= limit;
  }

  /** Takes a write: the entry is dirty from now on. The revision must be newer than what is there. */
  write(revision: Revision): Entry {
    let entry = this.#entries.get(revision.id);
    if (entry === undefined) {
      entry = new Entry(revision);
      this.#entries.set(revision.id, entry);
      entry.dirty = true;
      this.#dirty.append(entry);
    } else if (entry.dirty) {
      this.#resize(entry, revision);
    } else {
      this.#clean.remove(entry);
      entry.replace(revision);
      entry.dirty = true;
      this.#dirty.append(entry);
    }
    this.#evictToBudget();
    return entry;
  }

  /** Fills from a lower tier, unless memory holds this write or a newer one. Returns the newer of both. */
  promote(revision: Revision): Revision {
    const present = this.#entries.get(revision.id);
    if (present !== undefined) {
      if (present.dirty || !isNewer(revision, present.revision)) return present.revision;
      this.#clean.remove(present);
      present.replace(revision);
      this.#clean.append(present);
    } else if (accountedBytes(revision) <= this.#bytesMax - this.#dirty.bytes) {
      const entry = new Entry(revision);
      entry.accessCount = 1;
      entry.lastAccessed = this.coarseNow;
      this.#entries.set(revision.id, entry);
      this.#clean.append(entry);
    }
    this.#evictToBudget();
    return revision;
  }

  /** The entry is stored and released: it may be evicted from now on. */
  settle(entry: Entry): void {
    this.#dirty.remove(entry);
    entry.dirty = false;
    this.#clean.append(entry);
    this.#evictToBudget();
  }

  /** Forgets an entry, dirty or clean: a newer row won, or its bytes are wrong. */
  drop(entry: Entry): void {
    if (this.#entries.get(entry.id) !== entry) return;
    this.#entries.delete(entry.id);
    entry.list?.remove(entry);
    entry.dirty = false;
  }

  #resize(entry: Entry, revision: Revision): void {
    // The list sums sizes, so the entry leaves it while its size changes; its age among the dirty is kept
    // only roughly, which nothing relies on.
    this.#dirty.remove(entry);
    entry.replace(revision);
    this.#dirty.append(entry);
  }

  #evictToBudget(): void {
    while (this.#clean.bytes + this.#dirty.bytes > this.#bytesMax) {
      const oldest = this.#clean.first;
      if (oldest === undefined) return;
      this.#clean.remove(oldest);
      this.#entries.delete(oldest.id);
      this.#evictions++;
    }
  }
}
