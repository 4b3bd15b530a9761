/** A row of the archive's items, whatever the database: its columns, its checksum, and how it becomes a revision. */
import { sha256 } from '../base/hash.js';
import { checksum, encodeEnvelope, envelopeBytesMax } from '../item/envelope.js';
import { ORIGIN_BYTES } from '../item/origin.js';
import { type ContentTypeName, NO_CONTENT_HASH, type Revision } from '../item/revision.js';
import type { LeafHasher } from '../merkle/digest.js';

export const COLUMNS =
  'id, version, origin, deleted, content_hash, leaf, checksum, content_type, state, home_instance_id, trace_parent, trace_state, content, redis_ttl_ms';

/** A row of `sync_items`, in the order of `COLUMNS`. */
export type RowValues = [
  id: string,
  version: number,
  origin: Buffer,
  deleted: number,
  contentHash: Buffer,
  leaf: Buffer,
  checksum: number,
  contentType: string,
  state: string,
  homeInstanceId: string | null,
  traceParent: string | null,
  traceState: string | null,
  content: Buffer,
  redisTtlMs: number | null,
];

export const HASH_BYTES = 32;
export const NO_LEAF = Buffer.alloc(0);
const NO_HASH = Buffer.from(NO_CONTENT_HASH, 'hex');

/** Over every column: the envelope without the hash, then the hash. */
export function rowChecksum(envelope: Buffer, start: number, end: number, hash: Buffer): number {
  return checksum(hash, 0, hash.length, checksum(envelope, start, end));
}

/** SHA-256 of the content, zeros for a tombstone. */
export function hashOf(write: Revision): Buffer {
  return write.deleted ? NO_HASH : sha256(write.content);
}

/** `undefined` for values that no revision has. */
export function revisionOfRow(values: RowValues): Revision | undefined {
  const [id, version, origin, deleted, , , , contentType, state, home, parent, traceState, content, ttl] =
    values;
  if (contentType !== 'json' && contentType !== 'binary') return undefined;
  // The checksum is over the first bytes alone.
  if (origin.length !== ORIGIN_BYTES) return undefined;
  if (ttl !== null && !(Number.isSafeInteger(ttl) && ttl >= 0)) return undefined;
  if ((deleted !== 0 && deleted !== 1) || !Number.isSafeInteger(version) || version < 0) return undefined;
  return {
    id,
    version,
    origin: origin.toString('latin1'),
    deleted: deleted === 1,
    contentType: contentType satisfies ContentTypeName,
    state,
    content,
    homeInstanceId: home || undefined,
    traceParent: parent || undefined,
    traceState: traceState || undefined,
    redisTtlMs: ttl ?? undefined,
  };
}

/** Encodes rows to compare their checksums, into memory that it uses again. */
export class RowChecker {
  #scratch = Buffer.allocUnsafeSlow(64 * 1024);

  /** Checksum of a row that holds the write. */
  checksumOf(write: Revision, hash: Buffer): number {
    // What a write was made from is no part of the row.
    const row = write.base === undefined ? write : { ...write, base: undefined };
    const room = envelopeBytesMax(row);
    if (room > this.#scratch.length) this.#scratch = Buffer.allocUnsafeSlow(room);
    const end = encodeEnvelope(row, this.#scratch, 0, false);
    return rowChecksum(this.#scratch, 0, end, hash);
  }

  /** The revision of a row that fits its checksum, with its content hash; `undefined` for a damaged one. */
  revisionOf(values: RowValues): Revision | undefined {
    const [, , , , hash, , sum] = values;
    const revision = revisionOfRow(values);
    if (revision === undefined || hash.length !== HASH_BYTES) return undefined;
    if (this.checksumOf(revision, hash) !== sum) return undefined;
    revision.contentHash = hash.toString('hex');
    return revision;
  }

  /** Whether checksum, content hash and leaf fit. @param hasher `undefined` where there are no digests. */
  isSound(values: RowValues, hasher: LeafHasher | undefined): boolean {
    const revision = this.revisionOf(values);
    const [, , , , hash, leaf] = values;
    if (revision === undefined || !hashOf(revision).equals(hash)) return false;
    return (hasher?.leaf(revision, hash) ?? NO_LEAF).equals(leaf);
  }
}
