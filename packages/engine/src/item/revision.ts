/**
 * One version of one id, as every tier and the log hold it: plain data, never changed once stamped.
 *
 * The content hash is computed on first use, not at submit: it costs more than the rest of a submit in
 * memory (0.9 µs for 256 bytes), and the order of two writes needs it only when version, origin and kind are
 * equal, which no two writes of one engine are.
 */
import { hash } from 'node:crypto';

/** @inline */
export type ContentTypeName = 'json' | 'binary';

/**
 * What a write was made from, where it is no plain put or delete. The archive refuses the write (`APPLY_REDO`)
 * or lets the row win, where applying it would overwrite something that its author never saw.
 */
export interface RevisionBase {
  readonly version: number;
  readonly origin: string;
  /**
   * `exactly`: made by changing this very write (`setState`); on an older row that is not it, it is made anew
   * from that row. `atMost`: may replace this write and what is older (a dead letter that is tried again).
   */
  readonly rule: 'exactly' | 'atMost';
}

/** Why and when the archive refused a write: it is a dead letter. */
export interface Refusal {
  readonly reason: string;
  readonly atMs: number;
}

/** One version of one id, as tiers and log hold it: plain data that nobody changes. */
export interface Revision {
  readonly id: string;
  /** Hybrid logical clock, `milliseconds × 2048 + counter`. */
  readonly version: number;
  /** 16 characters, each one byte (`origin.ts`). */
  readonly origin: string;
  readonly deleted: boolean;
  readonly contentType: ContentTypeName;
  /** 1 to 64 UTF-8 bytes. */
  readonly state: string;
  /** Empty for a tombstone. Nobody writes into it. */
  readonly content: Buffer;
  /** SHA-256 of the content, 64 hex digits, where it is known; `contentHashOf` computes it. */
  contentHash?: string | undefined;
  readonly homeInstanceId?: string | undefined;
  readonly traceParent?: string | undefined;
  readonly traceState?: string | undefined;
  /**
   * The route that the writer asked for: life of the copy in Redis, milliseconds, 0 for none; `undefined`: the default.
   */
  readonly redisTtlMs?: number | undefined;
  readonly base?: RevisionBase | undefined;
  readonly refusal?: Refusal | undefined;
  /**
   * Of a cache-only item, which no log and no SQL holds: monotonic milliseconds of this process until which it
   * lives.
   */
  readonly cachedUntilMs?: number | undefined;
}

/** A tombstone has no content, so its hash is all zeros and loses every tie it cannot win by its flag. */
export const NO_CONTENT_HASH = '0'.repeat(64);
export const EMPTY_CONTENT = Buffer.alloc(0);
export const DEFAULT_STATE = 'default';

/** SHA-256 of the content as 64 hex digits; kept on the revision. */
export function contentHashOf(revision: Revision): string {
  revision.contentHash ??= revision.deleted ? NO_CONTENT_HASH : hash('sha256', revision.content);
  return revision.contentHash;
}

/** A copy with other values in some fields. Not by `...`: a revision may answer from a record, by getters. */
export function changed(revision: Revision, change: Partial<Revision>): Revision {
  return {
    id: revision.id,
    version: revision.version,
    origin: revision.origin,
    deleted: revision.deleted,
    contentType: revision.contentType,
    state: revision.state,
    content: revision.content,
    contentHash: revision.contentHash,
    homeInstanceId: revision.homeInstanceId,
    traceParent: revision.traceParent,
    traceState: revision.traceState,
    redisTtlMs: revision.redisTtlMs,
    base: revision.base,
    refusal: revision.refusal,
    cachedUntilMs: revision.cachedUntilMs,
    ...change,
  };
}
