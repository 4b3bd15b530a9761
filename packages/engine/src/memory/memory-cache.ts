/**
 * L1: what memory holds of each id, within one byte budget. Every id has a slot, a number into typed arrays:
 *
 *   pending  an `Entry`: a write that is not yet stored and released. Pinned; reads see it first.
 *   spilled  a pending write that only the log holds: here its id, version and position in the log. Pinned.
 *   clean    what tiers below hold too, or a cache-only item until its life ends: its bytes in a slab, or a revision
 *            where it is large. May be evicted.
 *
 * Invariants: an id is in exactly one of the three. A revision is never replaced by an older one. What callers hold
 * never changes: entries are replaced, slabs are not overwritten. `bytes` counts everything that grows with use,
 * indexes included, and exceeds the budget only by what is pinned.
 */
import { isNewer } from '../item/order.js';
import type { Revision } from '../item/revision.js';
import { itemOf, type SyncItem } from '../item/sync-item.js';
import { accountedBytes, accountedSize, Entry, textBytes } from './entry.js';
import { Evictor } from './eviction.js';
import { type HashSeed, hashOfId, IdIndex, type SlotIds } from './id-index.js';
import { Interned } from './interned.js';
import {
  RECORD_DELETED,
  RECORD_NUMBER,
  RecordRevision,
  recordBytes,
  recordFlags,
  recordHasId,
  recordId,
  recordNumber,
  writeRecord,
} from './record.js';
import { type SlabOwner, Slabs } from './slabs.js';
import { type CacheEntry, type EvictionPolicy, TanCurveMemoryPressure } from './tan-curve.js';

/** What memory holds. Dirty: not yet stored in SQL, so not to be evicted. */
export interface MemoryStats {
  readonly items: number;
  readonly bytes: number;
  readonly bytesMax: number;
  /** Not yet stored, spilled ones included. */
  readonly dirtyItems: number;
  /** Bytes that these take in memory. */
  readonly dirtyBytes: number;
  /** Of them, items that only the log holds. */
  readonly spilledItems: number;
  readonly evictions: number;
}

/** What memory answers where it has no item to give. `spilled`: the log has it. */
export type Absence = 'absent' | 'deleted' | 'spilled';

/** Where a spilled write is. */
export interface SpilledRef {
  readonly id: string;
  readonly position: number;
}

/** A pending write, spilled or not, without its content. */
export interface Pending {
  readonly id: string;
  readonly version: number;
  readonly deleted: boolean;
  readonly state: string;
}

const FLAG_PENDING = 64;
const FLAG_SPILLED = 128;

/** Bytes of a slot in the arrays here, the eviction order's not counted. */
const SLOT_BYTES = 1 + 4 + 8 + 8 + 4 + 4 + 4 + 1 + 2 + 2 + 8;
/** A clean revision that is not in a slab: its object, its buffer. */
const LARGE_OVERHEAD_BYTES = 400;
/** Of a slot in the tables of the index and of the order of eviction, at most. */
const INDEX_BYTES = 14 + 21 * 1.5 + 16;
/** Of a record in a slab: its head, and its share of what slabs waste. */
const SLAB_HEAD_BYTES = 16;
/** Reads after which an id is found faster, most ids of that kind, and what one takes. */
const HOT_READS = 2;
const HOT_MAX = 2 ** 16;
const HOT_BYTES = 110;
/** Share of the budget above which what is pinned is covered by no cache-only item: those hold up nothing. */
const COVERED_SHARE = 0.5;
/** Shorter queues are not worth compacting. */
const SPILLED_COMPACTED_MIN = 1024;
const SLOTS_MIN = 64;
/** Small, since a step counts at once, and what is clean makes room for it. */
const GROWTH = 1.125;
/** Fewer slabs than these leave no choice of what to keep. */
const SLABS_MIN = 8;
const SLAB_BYTES_MIN = 1024;
const SLAB_BYTES_MAX = 256 * 1024;

export class MemoryCache implements SlabOwner, SlotIds {
  readonly #seed: HashSeed;
  readonly #monotonicMs: () => number;
  readonly #index: IdIndex;
  readonly #slabs: Slabs;
  readonly #order: Evictor;
  /** Of the eviction order: does not grow with use. */
  readonly #orderBaseBytes: number;
  readonly #pace = new TanCurveMemoryPressure();
  readonly #states = new Interned();
  readonly #origins = new Interned();
  #bytesMax: number;
  /** What an id takes in all arrays and tables, at most. */
  readonly #slotCost: number;

  // One element a slot.
  #capacity = 0;
  hashes = new Int32Array(0);
  #flags = new Uint8Array(0);
  #versions = new Float64Array(0);
  /** Of the record in the slabs, -1 for none. */
  #places = new Float64Array(0);
  #contentBytes = new Uint32Array(0);
  #accessCounts = new Uint32Array(0);
  #lastAccessed = new Int32Array(0);
  #stateNumbers = new Uint16Array(0);
  #originNumbers = new Uint16Array(0);
  /** The entry of a pending id, the revision of a large clean one. */
  readonly #objects: (Entry | Revision | undefined)[] = [];

  /** Ids that are read often, beside the index: half the time of a look-up. */
  readonly #hot = new Map<string, number>();
  readonly #hotMax: number;
  #heated = new Uint8Array(0);

  readonly #freeSlots: number[] = [];
  #slotsUsed = 0;

  readonly #dirty: Entry[] = [];
  #dirtyBytes = 0;
  #spilledCount = 0;
  /** Slots in the order in which they were spilled; some are not spilled any more. */
  #spilledQueue: number[] = [];
  /** Of each in the queue: how many were spilled before it, ever. */
  #spilledNumbers: number[] = [];
  #spilledHead = 0;
  #spilledEver = 0;
  #spilledBytes = 0;
  #waitingBytes = 0;
  /** No spilled write is older; exact enough, and known without a walk. */
  #spilledFrom = Number.POSITIVE_INFINITY;
  #objectBytes = 0;
  #evictions = 0;
  #pinnedOnly = false;
  #swept = 0;
  #nowSeconds = 0;
  #nowMs = 0;

  /**
   * @param bytesMax The budget.
   * @param seed Of the hash of ids: random, so that nobody outside can make ids collide.
   * @param monotonicMs Asked only for items whose life ends.
   * @param policy Takes the place of the engine's own score.
   */
  constructor(
    bytesMax: number,
    seed: HashSeed = 0,
    monotonicMs: () => number = () => 0,
    policy?: EvictionPolicy,
  ) {
    this.#bytesMax = bytesMax;
    this.#seed = seed;
    this.#monotonicMs = monotonicMs;
    this.#index = new IdIndex(this);
    const entryOf = (slot: number): CacheEntry => this.#cacheEntry(slot);
    this.#order = new Evictor({ seed, ...(policy === undefined ? {} : { plugged: { policy, entryOf } }) });
    this.#orderBaseBytes = this.#order.overheadBytes;
    this.#slabs = new Slabs(slabBytesFor(bytesMax), this);
    this.#hotMax = Math.min(HOT_MAX, Math.floor(bytesMax / 32 / HOT_BYTES));
    this.#slotCost = Math.ceil(SLOT_BYTES * GROWTH) + INDEX_BYTES;
    this.#grow(SLOTS_MIN);
  }

  // ── Figures ────────────────────────────────────────────────────────────────────────────────────────────

  /** Ids in memory, tombstones and spilled ones included. */
  get size(): number {
    return this.#index.count;
  }

  get bytesMax(): number {
    return this.#bytesMax;
  }

  /** Whether a write of that many bytes leaves what is pinned within the budget. */
  hasRoom(id: string, bytes: number): boolean {
    const limit = this.#bytesMax - bytes;
    if (this.pinnedBytes <= limit) return true;
    const present = this.pending(id);
    return present !== undefined && this.pinnedBytes - present.sizeBytes <= limit;
  }

  /** Everything that is accounted. */
  get bytes(): number {
    return (
      this.#capacity * SLOT_BYTES +
      this.#order.overheadBytes -
      this.#orderBaseBytes +
      this.#hot.size * HOT_BYTES +
      (this.#spilledQueue.length * 2 + this.#freeSlots.length) * 8 +
      this.#index.bytes +
      this.#slabs.bytes +
      this.#objectBytes +
      this.#dirtyBytes +
      this.#states.bytes +
      this.#origins.bytes
    );
  }

  /** Bytes that cannot be evicted: what is pending or spilled. */
  get pinnedBytes(): number {
    const queued = this.#spilledQueue.length * 16;
    return this.#dirtyBytes + this.#spilledBytes + queued + this.dirtyCount * this.#slotCost;
  }

  /** Writes that are not yet stored, spilled ones included. */
  get dirtyCount(): number {
    return this.#dirty.length + this.#spilledCount;
  }

  /** Bytes of what is pending in memory, spilled ones not included. */
  get hotBytes(): number {
    return this.#dirtyBytes;
  }

  get spilledCount(): number {
    return this.#spilledCount;
  }

  /** A bound below which no write is spilled; infinite where none is. */
  get spilledFrom(): number {
    return this.#spilledCount === 0 ? Number.POSITIVE_INFINITY : this.#spilledFrom;
  }

  /** Bytes of all writes that are not yet stored, wherever they are. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  get stats(): MemoryStats {
    return {
      items: this.#index.count,
      bytes: this.bytes,
      bytesMax: this.#bytesMax,
      dirtyItems: this.dirtyCount,
      dirtyBytes: this.pinnedBytes,
      spilledItems: this.#spilledCount,
      evictions: this.#evictions,
    };
  }

  /** The time of about now, set by whoever knows it: a read does not ask the system. */
  setTime(wallMs: number, monotonicMs: number): void {
    this.#nowSeconds = Math.floor(wallMs / 1000);
    this.#nowMs = monotonicMs;
  }

  /**
   * A step towards another budget: what is clean makes room, `countMax` entries at most, what is pinned as it is stored.
   * Whether there is more to do.
   */
  resize(bytesMax: number, countMax: number): boolean {
    if (bytesMax >= this.#bytesMax) {
      this.#bytesMax = bytesMax;
      return false;
    }
    let evicted = 0;
    while (this.bytes > bytesMax && evicted < countMax) {
      if (this.#slabs.fragmented) this.#slabs.compact();
      else {
        const slot = this.#order.victim(this.#nowMs);
        if (slot === -1) break;
        this.#evict(slot);
        evicted++;
      }
    }
    // Writes in between must not be made to do the rest at once.
    const more = evicted === countMax && this.bytes > bytesMax;
    this.#bytesMax = more ? this.bytes : bytesMax;
    return more;
  }

  /** The least budget that leaves room beside what does not shrink while the process lives: tables and slabs. */
  get bytesMin(): number {
    const tables =
      this.#capacity * SLOT_BYTES + this.#order.overheadBytes - this.#orderBaseBytes + this.#index.bytes;
    return Math.max(tables * 2, this.#slabs.slabBytes * SLABS_MIN);
  }

  /** Whether nothing clean is kept (`dropClean`), and nothing filled from lower tiers. */
  set pinnedOnly(pinnedOnly: boolean) {
    this.#pinnedOnly = pinnedOnly;
  }

  get pinnedOnly(): boolean {
    return this.#pinnedOnly;
  }

  /** Lets go of what is clean, cache-only items excepted: anything may have been written by others. */
  forgetClean(): void {
    for (const entry of this.#dirty) entry.overtaken = true;
    for (let slot = 0; slot < this.#slotsUsed; slot++) {
      if (!this.#isClean(slot) || ((this.#flags[slot] as number) & RECORD_NUMBER) !== 0) continue;
      this.#order.removed(slot);
      this.#vacate(slot);
    }
  }

  /** Where nothing clean is to be kept: lets go of some of it. Whether there is more. */
  dropClean(countMax: number): boolean {
    if (!this.#pinnedOnly) return false;
    for (let dropped = 0; dropped < countMax && this.dirtyCount < this.size; dropped++) {
      const slot = this.#order.victim(this.#nowMs);
      if (slot === -1) return false;
      this.#evict(slot);
    }
    return this.dirtyCount < this.size;
  }

  // ── Reads ──────────────────────────────────────────────────────────────────────────────────────────────

  /** What memory answers, counted as a read. */
  read(id: string): SyncItem | Absence {
    const slot = this.#find(id);
    if (slot === -1) return 'absent';
    const flags = this.#flags[slot] as number;
    if ((flags & (FLAG_PENDING | FLAG_SPILLED)) !== 0) return this.#readPending(slot, flags);
    if ((flags & RECORD_NUMBER) !== 0 && this.#endIfOver(slot)) return 'absent';
    const count = ((this.#accessCounts[slot] as number) + 1) >>> 0;
    this.#accessCounts[slot] = count;
    this.#lastAccessed[slot] = this.#nowSeconds;
    this.#order.accessed(slot);
    if (count > HOT_READS && this.#heated[slot] === 0) this.#heat(slot);
    if ((flags & RECORD_DELETED) !== 0) return 'deleted';
    return itemOf(this.#cleanRevision(slot, id), count, this.#nowSeconds);
  }

  /** The pending write of the id, where it is not spilled. */
  pending(id: string): Entry | undefined {
    const slot = this.#find(id);
    if (slot === -1 || ((this.#flags[slot] as number) & FLAG_PENDING) === 0) return undefined;
    return this.#objects[slot] as Entry;
  }

  /** Whether the newest write of the id, if memory knows it, is a live item or a delete. */
  presence(id: string): 'absent' | 'deleted' | 'live' {
    const slot = this.#find(id);
    if (slot === -1) return 'absent';
    const entry = this.#entryAt(slot);
    if (entry?.cached !== undefined && this.#lives(entry.cached)) return 'live';
    if (entry === undefined && this.#isOver(slot)) return 'absent';
    const deleted = entry?.revision.deleted ?? ((this.#flags[slot] as number) & RECORD_DELETED) !== 0;
    return deleted ? 'deleted' : 'live';
  }

  /** The newest revision that SQL holds or will hold, pending or clean, not counted as a read. */
  newest(id: string): Revision | 'absent' | 'spilled' {
    const slot = this.#find(id);
    if (slot === -1) return 'absent';
    const flags = this.#flags[slot] as number;
    if ((flags & FLAG_SPILLED) !== 0) return 'spilled';
    if ((flags & FLAG_PENDING) !== 0) return (this.#objects[slot] as Entry).revision;
    return (flags & RECORD_NUMBER) === 0 ? this.#cleanRevision(slot, id) : 'absent';
  }

  /** The cache-only item of the id, if its life has not ended. */
  cached(id: string): Revision | undefined {
    const slot = this.#find(id);
    if (slot === -1) return undefined;
    const entry = this.#entryAt(slot);
    if (entry !== undefined)
      return entry.cached !== undefined && this.#lives(entry.cached) ? entry.cached : undefined;
    if (((this.#flags[slot] as number) & (FLAG_SPILLED | RECORD_NUMBER)) !== RECORD_NUMBER) return undefined;
    return this.#endIfOver(slot) ? undefined : this.#cleanRevision(slot, id);
  }

  /** Version of the newest write, 0 where memory does not know the id. */
  versionOf(id: string): number {
    const slot = this.#find(id);
    if (slot === -1) return 0;
    const entry = this.#entryAt(slot);
    return entry?.cached?.version ?? entry?.revision.version ?? (this.#versions[slot] as number);
  }

  /** Whether a write of the id is not yet stored, spilled or not. */
  isPending(id: string): boolean {
    const slot = this.#find(id);
    return slot !== -1 && ((this.#flags[slot] as number) & (FLAG_PENDING | FLAG_SPILLED)) !== 0;
  }

  /** Where the log has the spilled write of the id, 0 where it is not spilled. */
  spilledPosition(id: string): number {
    const slot = this.#find(id);
    if (slot === -1 || ((this.#flags[slot] as number) & FLAG_SPILLED) === 0) return 0;
    return this.#numberAt(slot);
  }

  /** Bytes of the content of the spilled write of the id, 0 where it is not spilled. */
  spilledBytes(id: string): number {
    const slot = this.#find(id);
    if (slot === -1 || ((this.#flags[slot] as number) & FLAG_SPILLED) === 0) return 0;
    return this.#accessCounts[slot] as number;
  }

  /** Pending writes that are not spilled, in no order. */
  get dirty(): readonly Entry[] {
    return this.#dirty;
  }

  /** Pending writes, spilled ones included, of ids that begin with `prefix`. */
  *pendings(prefix: string): Generator<Pending> {
    for (const { revision } of this.#dirty) if (revision.id.startsWith(prefix)) yield revision;
    for (const slot of this.#spilledSlots()) {
      const pending = this.#spilledAt(slot);
      if (pending.id.startsWith(prefix)) yield pending;
    }
  }

  /**
   * Ids in slots from `from` on, up to `countMax` slots: of all that is pending, spilled or not, or, where
   * `everything` is set, of all that `revisions` speaks of. `next`: where to go on, `undefined` at the end. An id
   * that is pending throughout several calls keeps its slot, so it is met exactly once.
   */
  idsFrom(
    from: number,
    countMax: number,
    everything: boolean,
  ): { readonly ids: string[]; readonly next: number | undefined } {
    const ids: string[] = [];
    const end = Math.min(this.#slotsUsed, from + countMax);
    for (let slot = from; slot < end; slot++) {
      const flags = this.#flags[slot] as number;
      const pending = (flags & (FLAG_PENDING | FLAG_SPILLED)) !== 0;
      const clean = everything && !pending && this.#isClean(slot) && (flags & RECORD_NUMBER) === 0;
      if (pending || clean) ids.push(this.#idAt(slot));
    }
    return { ids, next: end < this.#slotsUsed ? end : undefined };
  }

  /** Spilled writes with their positions in the log. */
  *spilled(): Generator<Pending & SpilledRef> {
    for (const slot of this.#spilledSlots())
      yield { ...this.#spilledAt(slot), position: this.#numberAt(slot) };
  }

  /** Everything that is in memory, spilled and cache-only ones not included. */
  *revisions(): Generator<Revision> {
    for (let slot = 0; slot < this.#slotsUsed; slot++) {
      const entry = this.#entryAt(slot);
      if (entry !== undefined) yield entry.revision;
      else if (this.#isClean(slot) && ((this.#flags[slot] as number) & RECORD_NUMBER) === 0)
        yield this.#cleanRevision(slot, this.#idAt(slot));
    }
  }

  // ── Writes ─────────────────────────────────────────────────────────────────────────────────────────────

  /** Takes a write: it is pending from now on. The revision must be newer than what is there. */
  write(revision: Revision): Entry {
    const hash = hashOfId(revision.id, this.#seed);
    let slot = this.#hot.get(revision.id) ?? this.#index.find(revision.id, hash);
    const present = slot === -1 ? undefined : this.#entryAt(slot);
    if (present !== undefined) {
      this.#countDirty(present, -1);
      present.replace(revision);
      this.#countDirty(present, 1);
      this.#evictToBudget();
      return present;
    }
    const spilled = slot !== -1 && ((this.#flags[slot] as number) & FLAG_SPILLED) !== 0;
    const known = slot !== -1 && !spilled;
    if (slot === -1) slot = this.#take(hash);
    else if (known) this.#order.pin(slot);
    const entry = new Entry(revision, slot, known);
    entry.accessCount = known ? (this.#accessCounts[slot] as number) : 0;
    if (spilled) this.#carryOver(slot, entry);
    this.#makePending(slot, entry);
    this.#evictToBudget();
    return entry;
  }

  /**
   * Fills from a lower tier, unless memory holds this write or a newer one, and answers with the newer of both. What
   * does not fit beside what is pinned is answered and not kept.
   */
  promote(revision: Revision): SyncItem | Absence {
    const slot = this.#find(revision.id);
    if (slot !== -1) {
      const flags = this.#flags[slot] as number;
      if ((flags & (FLAG_PENDING | FLAG_SPILLED)) !== 0) return this.#readPending(slot, flags);
      const present = this.#cleanRevision(slot, revision.id);
      if (!isNewer(revision, present))
        return present.deleted ? 'deleted' : itemOf(present, 1, this.#nowSeconds);
      this.#release(slot);
      this.#keepClean(slot, revision, 1, true);
    } else if (!this.#pinnedOnly && this.#cleanBytes(revision) <= this.#bytesMax - this.pinnedBytes) {
      this.#keepClean(this.#take(hashOfId(revision.id, this.#seed)), revision, 1, false);
    }
    this.#evictToBudget();
    return revision.deleted ? 'deleted' : itemOf(revision, 1, this.#nowSeconds);
  }

  /**
   * Takes a cache-only item, which nothing else holds. On a pending id it covers the write, which goes on its way.
   * What does not fit is not kept.
   */
  cache(revision: Revision): void {
    const slot = this.#find(revision.id);
    const entry = slot === -1 ? undefined : this.#entryAt(slot);
    if (entry !== undefined) {
      this.#countDirty(entry, -1);
      entry.cover(undefined);
      const room = this.#bytesMax * COVERED_SHARE - this.pinnedBytes - entry.sizeBytes;
      if (!this.#pinnedOnly && accountedBytes(revision) <= room) entry.cover(revision);
      this.#countDirty(entry, 1);
    } else if (slot !== -1 && ((this.#flags[slot] as number) & FLAG_SPILLED) !== 0) {
      return;
    } else {
      if (slot !== -1) {
        this.#order.removed(slot);
        this.#vacate(slot);
      }
      if (!this.#pinnedOnly && this.#cleanBytes(revision) <= this.#bytesMax - this.pinnedBytes)
        this.#keepClean(this.#take(hashOfId(revision.id, this.#seed)), revision, 0, false);
    }
    this.#evictToBudget();
  }

  /** The entry is stored and released: what it holds is clean from now on, unless somebody wrote over it meanwhile. */
  settle(entry: Entry): void {
    const { cached } = entry;
    const covered = cached !== undefined && this.#lives(cached);
    if (entry.overtaken && !covered) {
      this.drop(entry);
      return;
    }
    this.#unpin(entry);
    const kept = covered ? cached : entry.revision;
    this.#keepClean(entry.slot, kept, entry.accessCount, entry.known);
    this.#evictToBudget();
  }

  /** Only the log holds the content from now on. Only where `entry.spillable`. False where it cannot be done. */
  spill(entry: Entry): boolean {
    const { revision, slot, logPosition } = entry;
    const flags = recordFlags(revision, false, logPosition);
    if (recordBytes(revision, flags, false) > this.#slabs.recordBytesMax) return false;
    const state = this.#states.use(revision.state);
    if (state === -1) return false;
    this.#unpin(entry);
    if (entry.known) this.#order.removed(slot);
    this.#stateNumbers[slot] = state;
    this.#versions[slot] = revision.version;
    this.#contentBytes[slot] = 0;
    this.#flags[slot] = flags | FLAG_SPILLED;
    this.#writeRecord(slot, revision, flags, false, logPosition);
    // Of a spilled write nobody counts reads; the place says what the content would take.
    this.#accessCounts[slot] = revision.content.length;
    this.#queueSpilled(slot);
    this.#spilledFrom =
      this.#spilledCount === 0 ? revision.version : Math.min(this.#spilledFrom, revision.version);
    this.#spilledCount++;
    this.#spilledBytes += this.#spilledSize(slot);
    this.#waitingBytes += waitingSize(revision.id.length, revision.content.length);
    return true;
  }

  /** A spilled write was read from the log: pending again. Undefined where it is not, or no more, spilled there. */
  unspill(revision: Revision, position: number): Entry | undefined {
    const slot = this.#find(revision.id);
    if (slot === -1 || ((this.#flags[slot] as number) & FLAG_SPILLED) === 0) return undefined;
    if (this.#numberAt(slot) !== position) return undefined;
    const entry = new Entry(revision, slot, false);
    this.#carryOver(slot, entry);
    this.#makePending(slot, entry);
    return entry;
  }

  /** Spilled writes, the longest spilled first, up to a number and to bytes of content; each is named once. */
  takeSpilled(countMax: number, bytesMax: number): SpilledRef[] {
    const refs: SpilledRef[] = [];
    let bytes = 0;
    while (refs.length < countMax && bytes < bytesMax && this.#spilledHead < this.#spilledQueue.length) {
      const slot = this.#spilledQueue[this.#spilledHead++] as number;
      if (((this.#flags[slot] as number) & FLAG_SPILLED) === 0) continue;
      bytes += accountedSize(0, this.#accessCounts[slot] as number);
      refs.push({ id: this.#idAt(slot), position: this.#numberAt(slot) });
    }
    if (this.#spilledHead * 2 > this.#spilledQueue.length) {
      this.#spilledQueue = this.#spilledQueue.slice(this.#spilledHead);
      this.#spilledNumbers = this.#spilledNumbers.slice(this.#spilledHead);
      this.#spilledHead = 0;
    }
    return refs;
  }

  /** Lets go of places of writes that were replaced: with SQL away nobody takes from the queue. */
  #queueSpilled(slot: number): void {
    this.#spilledQueue.push(slot);
    this.#spilledNumbers.push(this.#spilledEver++);
    const waiting = this.#spilledQueue.length - this.#spilledHead;
    if (waiting < SPILLED_COMPACTED_MIN || waiting < this.#spilledCount * 3) return;
    const queue: number[] = [];
    const numbers: number[] = [];
    const seen = new Set<number>();
    // Of several places of a slot the last is that of the write which is spilled there now.
    for (let at = this.#spilledQueue.length - 1; at >= this.#spilledHead; at--) {
      const one = this.#spilledQueue[at] as number;
      if (((this.#flags[one] as number) & FLAG_SPILLED) === 0 || seen.has(one)) continue;
      seen.add(one);
      queue.push(one);
      numbers.push(this.#spilledNumbers[at] as number);
    }
    this.#spilledQueue = queue.reverse();
    this.#spilledNumbers = numbers.reverse();
    this.#spilledHead = 0;
  }

  /** How many were spilled, ever, before the first that is not yet taken. */
  get spilledTaken(): number {
    return this.#spilledNumbers[this.#spilledHead] ?? this.#spilledEver;
  }

  /** What `spilledTaken` will be at least when all that are spilled now are taken. */
  get spilledEnd(): number {
    return this.#spilledEver;
  }

  /** Forgets a pending write: a newer row won, it was discarded, or its loss was reported. */
  drop(entry: Entry): void {
    if (!entry.dirty) return;
    this.#cool(entry.slot);
    this.#unpin(entry);
    if (entry.known) this.#order.removed(entry.slot);
    this.#vacate(entry.slot);
  }

  /** Forgets a spilled write that the log cannot give back. */
  dropSpilled(id: string, position: number): void {
    const slot = this.#find(id);
    if (slot === -1 || ((this.#flags[slot] as number) & FLAG_SPILLED) === 0) return;
    if (this.#numberAt(slot) !== position) return;
    this.#countSpilledOut(slot);
    this.#vacate(slot);
  }

  /** Somebody else wrote the id: a copy that is neither that write nor newer goes, as soon as it is clean. */
  overtaken(id: string, version: number, origin: string): void {
    const slot = this.#find(id);
    if (slot === -1) return;
    const entry = this.#entryAt(slot);
    if (entry !== undefined) {
      const { revision } = entry;
      // What is not stored yet wins or loses there; what is, and waits for the log, would be kept as it was.
      if (version > revision.version || (version === revision.version && origin > revision.origin))
        entry.overtaken = true;
      return;
    }
    if (!this.#isClean(slot)) return;
    const present = this.#versions[slot] as number;
    if (present > version) return;
    if (present === version && this.#cleanRevision(slot, id).origin === origin) return;
    this.#order.removed(slot);
    this.#vacate(slot);
  }

  /** Forgets the clean copy of the id, where there is one. */
  forget(id: string): void {
    const slot = this.#find(id);
    if (slot === -1 || ((this.#flags[slot] as number) & (FLAG_PENDING | FLAG_SPILLED)) !== 0) return;
    this.#order.removed(slot);
    this.#vacate(slot);
  }

  // ── Slots ──────────────────────────────────────────────────────────────────────────────────────────────

  /** Called by the index. */
  hasId(slot: number, id: string): boolean {
    const object = this.#objects[slot];
    if (object !== undefined) return object.id === id;
    const place = this.#places[slot] as number;
    return recordHasId(
      id,
      this.#flags[slot] as number,
      this.#slabs.bufferOf(place),
      this.#slabs.offsetOf(place),
    );
  }

  /** Called by the slabs. */
  placeOf(slot: number): number {
    return this.#places[slot] as number;
  }

  /** Called by the slabs. */
  moved(slot: number, place: number): void {
    this.#places[slot] = place;
  }

  #find(id: string): number {
    // Of what is no id nothing is known; whoever asked finds out why.
    if (typeof id !== 'string') return -1;
    const hot = this.#hot.get(id);
    return hot ?? this.#index.find(id, hashOfId(id, this.#seed));
  }

  /** From now on the id is found by a small `Map`, which asks V8 for the hash that it keeps with each string. */
  #heat(slot: number): void {
    if (this.#hot.size >= this.#hotMax) {
      this.#hot.clear();
      this.#heated.fill(0);
    }
    // A string of our own: a caller's may be a part of a long one, which it would keep alive.
    this.#hot.set(this.#idAt(slot), slot);
    this.#heated[slot] = 1;
  }

  #cool(slot: number): void {
    if (this.#heated[slot] === 0) return;
    this.#heated[slot] = 0;
    this.#hot.delete(this.#idAt(slot));
  }

  #entryAt(slot: number): Entry | undefined {
    if (((this.#flags[slot] as number) & FLAG_PENDING) === 0) return undefined;
    return this.#objects[slot] as Entry;
  }

  #isClean(slot: number): boolean {
    if (((this.#flags[slot] as number) & (FLAG_PENDING | FLAG_SPILLED)) !== 0) return false;
    return this.#objects[slot] !== undefined || this.#places[slot] !== -1;
  }

  #lives({ cachedUntilMs }: Revision): boolean {
    return this.#monotonicMs() < (cachedUntilMs as number);
  }

  /** Whether the slot has a cache-only item whose life has ended. */
  #isOver(slot: number): boolean {
    const flags = this.#flags[slot] as number;
    if ((flags & RECORD_NUMBER) === 0 || (flags & (FLAG_PENDING | FLAG_SPILLED)) !== 0) return false;
    const until = (this.#objects[slot] as Revision | undefined)?.cachedUntilMs ?? this.#numberAt(slot);
    return this.#monotonicMs() >= until;
  }

  #endIfOver(slot: number): boolean {
    if (!this.#isOver(slot)) return false;
    this.#order.removed(slot);
    this.#vacate(slot);
    return true;
  }

  #idAt(slot: number): string {
    const object = this.#objects[slot];
    if (object !== undefined) return object.id;
    const place = this.#places[slot] as number;
    return recordId(this.#flags[slot] as number, this.#slabs.bufferOf(place), this.#slabs.offsetOf(place));
  }

  #numberAt(slot: number): number {
    const place = this.#places[slot] as number;
    return recordNumber(
      this.#flags[slot] as number,
      this.#contentBytes[slot] as number,
      this.#slabs.bufferOf(place),
      this.#slabs.offsetOf(place),
    );
  }

  #cleanRevision(slot: number, id: string): Revision {
    const object = this.#objects[slot];
    if (object !== undefined) return object as Revision;
    const place = this.#places[slot] as number;
    return new RecordRevision(
      id,
      this.#versions[slot] as number,
      this.#origins.textOf(this.#originNumbers[slot] as number),
      this.#states.textOf(this.#stateNumbers[slot] as number),
      this.#flags[slot] as number,
      this.#slabs.bufferOf(place),
      this.#slabs.offsetOf(place),
      this.#contentBytes[slot] as number,
    );
  }

  #readPending(slot: number, flags: number): SyncItem | Absence {
    if ((flags & FLAG_SPILLED) !== 0) return (flags & RECORD_DELETED) !== 0 ? 'deleted' : 'spilled';
    const entry = this.#objects[slot] as Entry;
    entry.accessCount++;
    entry.lastAccessedSeconds = this.#nowSeconds;
    const { cached } = entry;
    if (cached !== undefined && this.#lives(cached))
      return itemOf(cached, entry.accessCount, this.#nowSeconds);
    return entry.revision.deleted ? 'deleted' : entry.item;
  }

  /** A slot for an id that memory does not know, in the index already. */
  #take(hash: number): number {
    const slot = this.#freeSlots.pop() ?? this.#slotsUsed++;
    if (slot >= this.#capacity) this.#grow(Math.ceil(this.#capacity * GROWTH));
    this.hashes[slot] = hash;
    this.#index.add(slot, hash);
    return slot;
  }

  /** Lets go of the slot and what is in it. */
  #vacate(slot: number): void {
    this.#cool(slot);
    this.#release(slot);
    this.#index.remove(slot, this.hashes[slot] as number);
    this.#flags[slot] = 0;
    this.#objects[slot] = undefined;
    this.#places[slot] = -1;
    this.#freeSlots.push(slot);
  }

  /** Lets go of what a clean or spilled slot holds. */
  #release(slot: number): void {
    const object = this.#objects[slot];
    if (object !== undefined) {
      this.#objectBytes -= largeBytes(object as Revision);
      this.#objects[slot] = undefined;
      return;
    }
    const place = this.#places[slot] as number;
    if (place === -1) return;
    this.#states.release(this.#stateNumbers[slot] as number);
    if (((this.#flags[slot] as number) & FLAG_SPILLED) === 0)
      this.#origins.release(this.#originNumbers[slot] as number);
    this.#slabs.free(place);
    this.#places[slot] = -1;
  }

  #makePending(slot: number, entry: Entry): void {
    this.#release(slot);
    this.#flags[slot] = FLAG_PENDING;
    this.#objects[slot] = entry;
    entry.dirtyIndex = this.#dirty.push(entry) - 1;
    this.#countDirty(entry, 1);
  }

  /** What a spilled write knew of the log, for the entry that takes its place. */
  #carryOver(slot: number, entry: Entry): void {
    const version = this.#versions[slot] as number;
    entry.logPosition = this.#numberAt(slot);
    entry.loggedVersion = version;
    entry.durableVersion = version;
    this.#countSpilledOut(slot);
  }

  #countSpilledOut(slot: number): void {
    this.#spilledCount--;
    this.#spilledBytes -= this.#spilledSize(slot);
    this.#waitingBytes -= waitingSize(this.#idAt(slot).length, this.#accessCounts[slot] as number);
  }

  #spilledSize(slot: number): number {
    const place = this.#places[slot] as number;
    return SLAB_HEAD_BYTES + this.#slabs.lengthOf(place);
  }

  #countDirty(entry: Entry, sign: 1 | -1): void {
    const { id, content } = entry.revision;
    this.#dirtyBytes += sign * entry.sizeBytes;
    this.#waitingBytes += sign * waitingSize(id.length, content.length);
  }

  /** The entry is not pending any more; its slot is still to be given a use. */
  #unpin(entry: Entry): void {
    const last = this.#dirty.pop() as Entry;
    if (last !== entry) {
      this.#dirty[entry.dirtyIndex] = last;
      last.dirtyIndex = entry.dirtyIndex;
    }
    this.#countDirty(entry, -1);
    entry.dirty = false;
    this.#flags[entry.slot] = 0;
    this.#objects[entry.slot] = undefined;
  }

  /** @param known Whether the order of eviction has the slot, pinned or not. */
  #keepClean(slot: number, revision: Revision, accessCount: number, known: boolean): void {
    this.#accessCounts[slot] = accessCount;
    this.#lastAccessed[slot] = this.#nowSeconds;
    this.#versions[slot] = revision.version;
    const until = revision.cachedUntilMs ?? 0;
    const flags = recordFlags(revision, true, until);
    this.#flags[slot] = flags;
    this.#contentBytes[slot] = revision.content.length;
    let bytes = recordBytes(revision, flags, true);
    if (bytes <= this.#slabs.recordBytesMax && this.#useTexts(slot, revision)) {
      this.#writeRecord(slot, revision, flags, true, until);
    } else {
      this.#objects[slot] = revision;
      bytes = largeBytes(revision);
      this.#objectBytes += bytes;
    }
    if (known) {
      this.#order.resized(slot, bytes);
      this.#order.unpin(slot);
    } else this.#order.added(slot, (this.hashes[slot] as number) >>> 0, bytes);
  }

  /** False where there are too many different ones. */
  #useTexts(slot: number, { state, origin }: Revision): boolean {
    const stateNumber = this.#states.use(state);
    if (stateNumber === -1) return false;
    const originNumber = this.#origins.use(origin);
    if (originNumber === -1) {
      this.#states.release(stateNumber);
      return false;
    }
    this.#stateNumbers[slot] = stateNumber;
    this.#originNumbers[slot] = originNumber;
    return true;
  }

  #writeRecord(slot: number, revision: Revision, flags: number, withContent: boolean, number: number): void {
    const place = this.#slabs.allocate(slot, recordBytes(revision, flags, withContent));
    this.#places[slot] = place;
    const target = this.#slabs.bufferOf(place);
    writeRecord(revision, flags, withContent, number, target, this.#slabs.offsetOf(place));
  }

  /** About what a clean copy would take. */
  #cleanBytes(revision: Revision): number {
    const bytes = recordBytes(revision, recordFlags(revision, true, 0), true);
    const record = bytes > this.#slabs.recordBytesMax ? bytes + LARGE_OVERHEAD_BYTES : bytes;
    return this.#slotCost + record;
  }

  *#spilledSlots(): Generator<number> {
    if (this.#spilledCount === 0) return;
    for (let slot = 0; slot < this.#slotsUsed; slot++) {
      if (((this.#flags[slot] as number) & FLAG_SPILLED) !== 0) yield slot;
    }
  }

  #spilledAt(slot: number): Pending {
    return {
      id: this.#idAt(slot),
      version: this.#versions[slot] as number,
      deleted: ((this.#flags[slot] as number) & RECORD_DELETED) !== 0,
      state: this.#states.textOf(this.#stateNumbers[slot] as number),
    };
  }

  #grow(capacity: number): void {
    this.#capacity = capacity;
    this.hashes = grown(this.hashes, new Int32Array(capacity));
    this.#flags = grown(this.#flags, new Uint8Array(capacity));
    this.#heated = grown(this.#heated, new Uint8Array(capacity));
    this.#versions = grown(this.#versions, new Float64Array(capacity));
    const places = new Float64Array(capacity).fill(-1, this.#places.length);
    this.#places = grown(this.#places, places);
    this.#contentBytes = grown(this.#contentBytes, new Uint32Array(capacity));
    this.#accessCounts = grown(this.#accessCounts, new Uint32Array(capacity));
    this.#lastAccessed = grown(this.#lastAccessed, new Int32Array(capacity));
    this.#stateNumbers = grown(this.#stateNumbers, new Uint16Array(capacity));
    this.#originNumbers = grown(this.#originNumbers, new Uint16Array(capacity));
  }

  /** Lets go of cache-only items whose life has ended, among the next `count` slots. */
  sweep(count: number): void {
    for (let looked = Math.min(count, this.#slotsUsed); looked > 0; looked--) {
      if (this.#swept >= this.#slotsUsed) this.#swept = 0;
      this.#endIfOver(this.#swept++);
    }
  }

  /** A turn of pacing: frees a little before the budget is reached, so that bursts seldom wait for it. */
  pace(): void {
    const toFree = this.#pace.bytesToFree(this.bytes, this.#bytesMax);
    for (let freed = 0; freed < toFree; ) {
      const slot = this.#order.victim(this.#nowMs);
      if (slot === -1) return;
      freed += SLOT_BYTES + (this.#contentBytes[slot] as number);
      this.#evict(slot);
    }
    if (toFree > 0 && this.#slabs.fragmented) this.#slabs.compact();
  }

  /** What a user's policy is shown. */
  #cacheEntry(slot: number): CacheEntry {
    return {
      id: this.#idAt(slot),
      sizeBytes: this.#contentBytes[slot] as number,
      lastAccess: this.#nowMs - (this.#nowSeconds - (this.#lastAccessed[slot] as number)) * 1000,
      accessCount: this.#accessCounts[slot] as number,
      isDirty: false,
    };
  }

  #evictToBudget(): void {
    while (this.bytes > this.#bytesMax) {
      if (this.#slabs.fragmented) {
        this.#slabs.compact();
        continue;
      }
      const slot = this.#order.victim(this.#nowMs);
      if (slot === -1) return;
      this.#evict(slot);
    }
  }

  #evict(slot: number): void {
    this.#vacate(slot);
    this.#evictions++;
  }
}

function grown<T extends { set(source: T): void }>(old: T, array: T): T {
  array.set(old);
  return array;
}

function largeBytes(revision: Revision): number {
  return LARGE_OVERHEAD_BYTES + textBytes(revision) + revision.content.length;
}

/** About what a write takes in the log. */
function waitingSize(idLength: number, contentBytes: number): number {
  return 64 + idLength + contentBytes;
}

function slabBytesFor(bytesMax: number): number {
  let bytes = SLAB_BYTES_MIN;
  while (bytes < SLAB_BYTES_MAX && bytes * 64 < bytesMax) bytes *= 2;
  return bytes;
}
