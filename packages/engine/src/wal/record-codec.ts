/**
 * A log record: an envelope behind two checksums.
 *
 *   u32  identity checksum   CRC-32 of the envelope's head and id
 *   u32  full checksum       the same, continued over the rest
 *        envelope            item/envelope.ts
 *
 * The first tells, of a damaged record, whether its id can still be trusted: then only reads of that id have
 * to be refused.
 *
 * Groups cross the thread boundary as one buffer of `u32 length, record` pairs; the worker fills in the
 * checksums, so that the main thread does not spend time on them.
 */
import {
  checksum,
  decodeEnvelope,
  ENVELOPE_HEAD_BYTES,
  encodeEnvelope,
  envelopeBytesMax,
  envelopeLength,
  identityEnd,
} from '../item/envelope.js';
import type { Revision } from '../item/revision.js';
import type { LoadedRecord } from './record-store.js';

const RECORD_HEAD_BYTES = 8;
const LENGTH_BYTES = 4;

/** What is left of a record whose checksum does not fit. */
export interface DamagedBytes {
  readonly kind: 'damaged';
  /** Absent where even it is not to be trusted. */
  readonly id: string | undefined;
}

export type DecodedRecord = { readonly kind: 'intact'; readonly revision: Revision } | DamagedBytes;

/** Upper bound of the bytes that `packRecords` needs. */
export function packedBytesMax(revisions: readonly Revision[]): number {
  let room = 0;
  for (const revision of revisions) room += LENGTH_BYTES + RECORD_HEAD_BYTES + envelopeBytesMax(revision);
  return room;
}

/** Packs revisions as `length, record` pairs, checksums left open, and returns the pack: a view of `target`. */
export function packRecords(
  revisions: readonly Revision[],
  target: Buffer = Buffer.allocUnsafeSlow(packedBytesMax(revisions)),
): Buffer {
  let at = 0;
  for (const revision of revisions) {
    const start = at + LENGTH_BYTES;
    const end = encodeEnvelope(revision, target, start + RECORD_HEAD_BYTES, false);
    target.writeUInt32BE(end - start, at);
    at = end;
  }
  return target.subarray(0, at);
}

/** The records of a pack, as views into it. */
export function* unpackRecords(pack: Buffer): Generator<Buffer> {
  for (let at = 0; at < pack.length; ) {
    const start = at + LENGTH_BYTES;
    const end = start + pack.readUInt32BE(at);
    yield pack.subarray(start, end);
    at = end;
  }
}

/** Writes both checksums into a record made by `packRecords`. */
export function sealRecord(record: Buffer): void {
  const middle = identityEnd(record, RECORD_HEAD_BYTES);
  const identity = checksum(record, RECORD_HEAD_BYTES, middle);
  record.writeUInt32BE(identity, 0);
  record.writeUInt32BE(checksum(record, middle, record.length, identity), 4);
}

/** Takes any bytes; never throws. */
export function decodeRecord(record: Buffer): DecodedRecord {
  return damageOf(record) ?? { kind: 'intact', revision: decodeEnvelope(record, RECORD_HEAD_BYTES) };
}

/** `undefined` for an intact record. Takes any bytes; decodes nothing of what is intact. */
export function damageOf(record: Buffer): DamagedBytes | undefined {
  const length = record.length;
  if (length < RECORD_HEAD_BYTES + ENVELOPE_HEAD_BYTES) return { kind: 'damaged', id: undefined };
  const middle = identityEnd(record, RECORD_HEAD_BYTES);
  if (middle > length) return { kind: 'damaged', id: undefined };
  const identity = checksum(record, RECORD_HEAD_BYTES, middle);
  if (identity !== record.readUInt32BE(0)) return { kind: 'damaged', id: undefined };
  const whole = envelopeLength(record, RECORD_HEAD_BYTES, length) === length - RECORD_HEAD_BYTES;
  if (whole && checksum(record, middle, length, identity) === record.readUInt32BE(4)) return undefined;
  const id = record.toString('utf8', RECORD_HEAD_BYTES + ENVELOPE_HEAD_BYTES, middle);
  return { kind: 'damaged', id };
}

/** Records that were verified in the worker and lie behind each other, `ends[i]` behind the i-th. */
export function unpackLoaded(portion: {
  readonly positions: readonly number[];
  readonly bytes: Uint8Array;
  readonly ends: readonly number[];
}): LoadedRecord[] {
  const { buffer, byteOffset, byteLength } = portion.bytes;
  const bytes = Buffer.from(buffer, byteOffset, byteLength);
  let start = 0;
  return portion.positions.map((position, at) => {
    const revision = decodeEnvelope(bytes, start + RECORD_HEAD_BYTES);
    start = portion.ends[at] as number;
    return { position, revision };
  });
}
