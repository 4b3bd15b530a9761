/**
 * The contract of a cache between memory and the archive (L2). A store is naive: it neither retries nor counts time
 * (`guarded-cache.ts` does that for every store). It holds values of what the archive has committed, and cache-only
 * items, each guarded by the order: a write never replaces a newer one.
 *
 * What makes such a cache safe to believe is its *head*: the position in the archive's change log up to which every
 * change is *confirmed*, that is: of each id changed, the cache holds that write, something newer, or nothing. The head
 * is read together with values, at one moment, so a reader always knows which changes a value may have missed, even
 * where the cache was restored from an old copy or failed over.
 *
 * A cache may lose any value at any time. Nothing older may slip into the gap: whoever fills an empty place says as of
 * which position he knows the archive (`known`), and is refused where writes of a later position have begun to arrive.
 *
 * Values lie under a *generation*. A new one makes everything older unreachable.
 */
import type { Revision } from '../item/revision.js';

/** Up to where a cache is known to follow the archive. */
export interface CacheHead {
  /** Random, 16 hex digits. */
  readonly generation: string;
  /** Every change up to and with this one is confirmed. */
  readonly position: number;
  /** The change log's chain there, 64 hex digits: tells histories apart. */
  readonly chain: string;
  /**
   * Of a cache in parts whose parts are at different positions, or of different histories: this head is the earliest, and
   * these are the others. Told by `head` and `moveHead`.
   */
  readonly others?: readonly { readonly position: number; readonly chain: string }[];
}

/** Digits of a generation that say which archive it belongs to. */
const ARCHIVE_DIGITS = 6;

/** With these every generation of an archive begins; of zeros where there is no archive. */
export function archiveDigits(archiveId: string): string {
  return archiveId.slice(0, ARCHIVE_DIGITS).padEnd(ARCHIVE_DIGITS, '0');
}

/** What an opened cache tells of itself. */
export interface CacheInfo {
  /** Facts an operator should know: settings that weaken a promise, one sentence each. */
  readonly warnings: readonly string[];
}

/** What a cache is opened with. */
export interface CacheOpenOptions {
  /** Names the archive whose values are cached: caches of several archives may share a server and a prefix. */
  readonly archiveId: string;
  /** Called once when the connection is lost, with what is known of why. */
  readonly lost: (reason: Error) => void;
}

/** A value that was read. */
export interface CachedValue {
  readonly revision: Revision;
  /** No archive holds it. */
  readonly cacheOnly: boolean;
  /** How long it lives from now on, milliseconds. */
  readonly leftMs: number;
}

/** Values, and the head at the moment at which they were read. */
export interface CacheRead {
  readonly head: CacheHead | undefined;
  /** In input order. `damaged`: something is there that is no value of this id; `undefined`: nothing, or a marker. */
  readonly values: readonly (CachedValue | 'damaged' | undefined)[];
}

/** One guarded write. */
export interface CachePut {
  readonly revision: Revision;
  /**
   * `value`: a copy of what the archive holds. `only`: a cache-only item. `marker`: version without content, which tells
   * readers to ask the archive; for deletes, and for what is not to be cached. `mark`: a marker in the place of something
   * older, and nothing where nothing is; for copies that may be old.
   */
  readonly kind: 'value' | 'only' | 'marker' | 'mark';
  /** Life in milliseconds, at least 1,000. */
  readonly ttlMs: number;
}

/** Guarded writes with distinct ids. */
export interface CacheBatch {
  readonly generation: string;
  /**
   * The archive was as these writes say when it had this position. An empty place is filled only if no later position has
   * begun to be written. `undefined` for cache-only items, which the archive says nothing of.
   */
  readonly known: number | undefined;
  /** From now on, nothing that was known as of an earlier position fills an empty place. */
  readonly begins: boolean;
  /** Not run when the cache's clock has passed now + this: a command that was stuck must not run later. */
  readonly withinMs: number;
  readonly puts: readonly CachePut[];
  /** Change log's chain at `known`: with these writes that position is confirmed. */
  readonly confirms: string | undefined;
}

/** What became of a batch. */
export interface CacheWritten {
  /** `moved`: there is another generation, or none; nothing was written. `late`: nothing was written, or not all. */
  readonly status: 'done' | 'moved' | 'late';
  /** Confirmed position afterwards. */
  readonly position: number;
  /** One of `PUT_…` per write; empty unless `done`. */
  readonly outcomes: Uint8Array;
}

/** The place was left empty: a later position has begun to be written, or there was nothing to mark. */
export const PUT_NOT_FILLED = 0;
export const PUT_WRITTEN = 1;
/** This write, or a newer one, was there. */
export const PUT_NEWER_THERE = 2;
/** The cache is full; what was there and older is gone. */
export const PUT_NO_ROOM = 3;

/** How full a cache is. */
export interface CacheMemory {
  readonly usedBytes: number;
  /** 0: without a limit. */
  readonly maxBytes: number;
}

/** Some values, as eviction sees them. */
export interface CacheSample {
  readonly entries: readonly CacheSampleEntry[];
  /** Where to go on; `undefined` at the end. */
  readonly next: string | undefined;
}

/** A value, as eviction sees it. */
export interface CacheSampleEntry {
  /** Names it for `evict`; not an id. */
  readonly key: Uint8Array;
  readonly bytes: number;
  readonly idleMs: number;
  /** Nobody can reach it: it belongs to an earlier generation. */
  readonly unreachable: boolean;
}

/** The contract of a cache. Stores are naive: the engine gives them deadlines, a breaker and repair. */
export interface CacheStore {
  /**
   * Connects. May be called again after a failure, a loss or a close; what was under way on an older connection rejects.
   * @throws `TIER_UNAVAILABLE`, `CONFIG` (driver missing, unusable URL).
   */
  open(options: CacheOpenOptions): Promise<CacheInfo>;
  /** The head, `undefined` where there is none. */
  head(): Promise<CacheHead | undefined>;
  /**
   * Makes `next` the head, if the present generation is `expected` (`undefined`: none). Answers with the head after it, as
   * `head` does.
   */
  moveHead(expected: string | undefined, next: CacheHead): Promise<CacheHead | undefined>;
  /** Values of ids under a generation, and the head, at one moment. */
  getMany(generation: string, ids: readonly string[]): Promise<CacheRead>;
  /** Guarded writes. Idempotent. Where it rejects, some may have been written. */
  putMany(batch: CacheBatch): Promise<CacheWritten>;
  /** Whether there is a value (no marker) under each id. */
  exists(generation: string, ids: readonly string[]): Promise<boolean[]>;
  /** Removes what is there, guarded by nothing: for damaged values. */
  deleteMany(generation: string, ids: readonly string[]): Promise<void>;
  /** How full it is. */
  memory(): Promise<CacheMemory>;
  /** Some values of this archive and of nobody else, about `count`. `from`: `next` of the previous call. */
  sample(from: string | undefined, count: number): Promise<CacheSample>;
  /** Removes values that `sample` named. Answers with how many were there. */
  evict(keys: readonly Uint8Array[]): Promise<number>;
  /** Resolves when the cache answers. */
  ping(): Promise<void>;
  /** Ends everything under way. Never rejects; calls after it reject until the next `open`. */
  close(): Promise<void>;
}
