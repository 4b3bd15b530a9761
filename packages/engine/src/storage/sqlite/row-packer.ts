/**
 * Rows on their way out of SQLite: each is encoded once, its checksum compared, and its hash added behind.
 */
import type { SyncEngineError } from '../../base/errors.js';
import { appendHash, encodeEnvelope, envelopeBytesMax } from '../../item/envelope.js';
import { ORIGIN_BYTES } from '../../item/origin.js';
import { HASH_BYTES, type RowValues, revisionOfRow, rowChecksum } from '../row.js';

/**
 * What a read of one id asks for: the id is known, and the three columns of bytes come as one value, since
 * each Buffer out of SQLite costs about as much as finding the row.
 */
export const POINT_COLUMNS =
  'version, deleted, checksum, content_type, state, home_instance_id, trace_parent, trace_state, CAST(origin || content_hash || content AS BLOB), redis_ttl_ms';

/** A row of `sync_items`, in the order of `POINT_COLUMNS`. */
export type PointValues = [
  version: number,
  deleted: number,
  checksum: number,
  contentType: string,
  state: string,
  homeInstanceId: string | null,
  traceParent: string | null,
  traceState: string | null,
  bytes: Buffer,
  redisTtlMs: number | null,
];

/** `places[i]`: which of the ids asked for the i-th row belongs to. Ids without a row are nowhere. */
export interface PackedRows {
  readonly places: readonly number[];
  /** Envelopes with hashes, behind each other; owns its memory. */
  readonly rows: Buffer;
  readonly damaged: readonly { readonly place: number; readonly error: SyncEngineError }[];
}

const ROOM_FIRST = 16 * 1024;

export class RowPacker {
  readonly #places: number[] = [];
  readonly #damaged: { place: number; error: SyncEngineError }[] = [];
  #buffer = Buffer.allocUnsafeSlow(ROOM_FIRST);
  #end = 0;

  /** False where the row does not fit its checksum; then nothing of it is kept. */
  add(place: number, values: RowValues): boolean {
    const [, , , , hash, , sum] = values;
    const revision = revisionOfRow(values);
    if (revision === undefined || hash.length !== HASH_BYTES) return false;
    this.#makeRoom(envelopeBytesMax(revision));
    const start = this.#end;
    const end = encodeEnvelope(revision, this.#buffer, start, false);
    if (rowChecksum(this.#buffer, start, end, hash) !== sum) return false;
    this.#end = appendHash(this.#buffer, start, end, hash);
    this.#places.push(place);
    return true;
  }

  /** As `add`. The checksum is taken over the id asked for, so a row that the index confuses does not fit. */
  addPoint(place: number, id: string, values: PointValues): boolean {
    const [version, deleted, sum, contentType, state, home, parent, traceState, bytes, ttl] = values;
    const contentAt = ORIGIN_BYTES + HASH_BYTES;
    if (bytes.length < contentAt) return false;
    const hash = bytes.subarray(ORIGIN_BYTES, contentAt);
    const origin = bytes.subarray(0, ORIGIN_BYTES);
    const content = bytes.subarray(contentAt);
    return this.add(place, [
      id,
      version,
      origin,
      deleted,
      hash,
      hash,
      sum,
      contentType,
      state,
      home,
      parent,
      traceState,
      content,
      ttl,
    ]);
  }

  /** Of the rows so far, as they are packed. */
  get bytes(): number {
    return this.#end;
  }

  refuse(place: number, error: SyncEngineError): void {
    this.#damaged.push({ place, error });
  }

  packed(): PackedRows {
    return { places: this.#places, rows: this.#buffer.subarray(0, this.#end), damaged: this.#damaged };
  }

  #makeRoom(bytes: number): void {
    if (this.#end + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.#end + bytes));
    this.#buffer.copy(larger, 0, 0, this.#end);
    this.#buffer = larger;
  }
}
