/**
 * The byte form of a revision, one for log records, archive rows in transit and their checksums. The same
 * revision always gives the same bytes, so a checksum over them is a checksum over every field.
 *
 *   0  u8   format, 1
 *   1  u8   flags: 1 deleted, 2 json, 4 content hash follows, 8 base follows, 16 its rule is `atMost`,
 *           32 refusal follows, 64 life in Redis follows
 *   2  u16  bytes of id              (all numbers big-endian)
 *   4  u8   bytes of state
 *   5  u8   bytes of homeInstanceId
 *   6  u16  bytes of traceParent
 *   8  u16  bytes of traceState
 *  10  u16  bytes of the refusal's reason
 *  12  u32  bytes of content
 *  16  u64  version
 *  24  16   origin
 *  40       id, state, homeInstanceId, traceParent, traceState, content, [base: u64 version, 16 origin],
 *           [refusal: u64 milliseconds, reason], [life in Redis: u64 milliseconds, 0 for no copy],
 *           [content hash, 32]
 *
 * Optional texts of zero bytes mean "absent". `docs/formats.md` repeats this for readers of the files.
 */
import { crc32 } from 'node:zlib';
import { ORIGIN_BYTES } from './origin.js';
import { EMPTY_CONTENT, type Refusal, type Revision, type RevisionBase } from './revision.js';

export const ENVELOPE_FORMAT = 1;
export const ENVELOPE_HEAD_BYTES = 40;
const HASH_BYTES = 32;

const FLAG_DELETED = 1;
const FLAG_JSON = 2;
const FLAG_HASH = 4;
const FLAG_BASE = 8;
const FLAG_AT_MOST = 16;
const FLAG_REFUSAL = 32;
const FLAG_ROUTE = 64;
const FLAGS_KNOWN =
  FLAG_DELETED | FLAG_JSON | FLAG_HASH | FLAG_BASE | FLAG_AT_MOST | FLAG_REFUSAL | FLAG_ROUTE;
const ROUTE_BYTES = 8;
const BASE_BYTES = 8 + ORIGIN_BYTES;

const TWO_32 = 2 ** 32;
/** Up to here a loop beats `Buffer.write`, measured. */
const SHORT_TEXT = 48;

/** Room that `encodeEnvelope` may need: an upper bound, not the exact size. */
export function envelopeBytesMax(revision: Revision): number {
  const texts =
    revision.id.length +
    revision.state.length +
    (revision.homeInstanceId?.length ?? 0) +
    (revision.traceParent?.length ?? 0) +
    (revision.traceState?.length ?? 0) +
    (revision.refusal === undefined ? 0 : 8 + revision.refusal.reason.length);
  return ENVELOPE_HEAD_BYTES + texts * 3 + revision.content.length + BASE_BYTES + ROUTE_BYTES + HASH_BYTES;
}

/** Writes the envelope at `start` and returns the offset behind it. */
export function encodeEnvelope(revision: Revision, target: Buffer, start: number, withHash: boolean): number {
  const hash = withHash ? revision.contentHash : undefined;
  let at = start + ENVELOPE_HEAD_BYTES;
  const idBytes = writeText(revision.id, target, at);
  at += idBytes;
  const stateBytes = writeText(revision.state, target, at);
  at += stateBytes;
  const homeBytes = revision.homeInstanceId ? target.write(revision.homeInstanceId, at, 'utf8') : 0;
  at += homeBytes;
  const parentBytes = revision.traceParent ? target.write(revision.traceParent, at, 'utf8') : 0;
  at += parentBytes;
  const traceStateBytes = revision.traceState ? target.write(revision.traceState, at, 'utf8') : 0;
  at += traceStateBytes;
  target.set(revision.content, at);
  at += revision.content.length;
  const { base } = revision;
  if (base !== undefined) {
    writeVersion(base.version, target, at);
    writeOrigin(base.origin, target, at + 8);
    at += BASE_BYTES;
  }
  const { refusal } = revision;
  let reasonBytes = 0;
  if (refusal !== undefined) {
    writeVersion(refusal.atMs, target, at);
    reasonBytes = target.write(refusal.reason, at + 8, 'utf8');
    at += 8 + reasonBytes;
  }
  const { redisTtlMs } = revision;
  if (redisTtlMs !== undefined) {
    writeVersion(redisTtlMs, target, at);
    at += ROUTE_BYTES;
  }
  if (hash !== undefined) at += target.write(hash, at, HASH_BYTES, 'hex');

  target[start] = ENVELOPE_FORMAT;
  target[start + 1] =
    (revision.deleted ? FLAG_DELETED : 0) |
    (revision.contentType === 'json' ? FLAG_JSON : 0) |
    (hash === undefined ? 0 : FLAG_HASH) |
    (base === undefined ? 0 : FLAG_BASE | (base.rule === 'atMost' ? FLAG_AT_MOST : 0)) |
    (refusal === undefined ? 0 : FLAG_REFUSAL) |
    (redisTtlMs === undefined ? 0 : FLAG_ROUTE);
  target.writeUInt16BE(idBytes, start + 2);
  target[start + 4] = stateBytes;
  target[start + 5] = homeBytes;
  target.writeUInt16BE(parentBytes, start + 6);
  target.writeUInt16BE(traceStateBytes, start + 8);
  target.writeUInt16BE(reasonBytes, start + 10);
  target.writeUInt32BE(revision.content.length, start + 12);
  writeVersion(revision.version, target, start + 16);
  writeOrigin(revision.origin, target, start + 24);
  return at;
}

/**
 * UTF-8. Short ASCII goes byte by byte: a call into Node's native code costs more than all of them, and there
 * are three texts in every record.
 */
function writeText(text: string, target: Buffer, start: number): number {
  const { length } = text;
  if (length > SHORT_TEXT) return target.write(text, start, 'utf8');
  for (let at = 0; at < length; at++) {
    const code = text.charCodeAt(at);
    if (code > 0x7f) return target.write(text, start, 'utf8');
    target[start + at] = code;
  }
  return length;
}

/**
 * Adds the content hash to the envelope without one that lies from `start` to `end`, and returns the offset
 * behind it. So a checksum of the envelope without hash can be taken first, and nothing is encoded twice.
 */
export function appendHash(target: Buffer, start: number, end: number, hash: Uint8Array): number {
  target[start + 1] = (target[start + 1] as number) | FLAG_HASH;
  target.set(hash, end);
  return end + HASH_BYTES;
}

/** Length of the envelope at `start`, or -1 where the bytes cannot be one. */
export function envelopeLength(source: Buffer, start: number, end: number): number {
  if (end - start < ENVELOPE_HEAD_BYTES || source[start] !== ENVELOPE_FORMAT) return -1;
  const flags = source[start + 1] as number;
  if ((flags & ~FLAGS_KNOWN) !== 0) return -1;
  const length =
    ENVELOPE_HEAD_BYTES +
    source.readUInt16BE(start + 2) +
    (source[start + 4] as number) +
    (source[start + 5] as number) +
    source.readUInt16BE(start + 6) +
    source.readUInt16BE(start + 8) +
    source.readUInt32BE(start + 12) +
    (flags & FLAG_BASE ? BASE_BYTES : 0) +
    (flags & FLAG_REFUSAL ? 8 : 0) +
    source.readUInt16BE(start + 10) +
    (flags & FLAG_ROUTE ? ROUTE_BYTES : 0) +
    (flags & FLAG_HASH ? HASH_BYTES : 0);
  return length <= end - start ? length : -1;
}

/**
 * Reads an envelope whose checksum and length were verified. The content is copied, so the revision does not
 * hold on to `source`.
 */
export function decodeEnvelope(source: Buffer, start: number): Revision {
  const flags = source[start + 1] as number;
  const deleted = (flags & FLAG_DELETED) !== 0;
  let at = start + ENVELOPE_HEAD_BYTES;
  const text = (bytes: number): string => {
    at += bytes;
    return source.toString('utf8', at - bytes, at);
  };
  const id = text(source.readUInt16BE(start + 2));
  const state = text(source[start + 4] as number);
  const homeInstanceId = text(source[start + 5] as number);
  const traceParent = text(source.readUInt16BE(start + 6));
  const traceState = text(source.readUInt16BE(start + 8));
  const contentBytes = source.readUInt32BE(start + 12);
  const content = contentBytes === 0 ? EMPTY_CONTENT : Buffer.from(source.subarray(at, at + contentBytes));
  at += contentBytes;
  let base: RevisionBase | undefined;
  if (flags & FLAG_BASE) {
    base = {
      version: readVersion(source, at),
      origin: source.toString('latin1', at + 8, at + BASE_BYTES),
      rule: flags & FLAG_AT_MOST ? 'atMost' : 'exactly',
    };
    at += BASE_BYTES;
  }
  let refusal: Refusal | undefined;
  if (flags & FLAG_REFUSAL) {
    const atMs = readVersion(source, at);
    at += 8;
    refusal = { reason: text(source.readUInt16BE(start + 10)), atMs };
  }
  let redisTtlMs: number | undefined;
  if (flags & FLAG_ROUTE) {
    redisTtlMs = readVersion(source, at);
    at += ROUTE_BYTES;
  }
  return {
    id,
    version: readVersion(source, start + 16),
    origin: source.toString('latin1', start + 24, start + 24 + ORIGIN_BYTES),
    deleted,
    contentType: flags & FLAG_JSON ? 'json' : 'binary',
    state,
    content,
    contentHash: flags & FLAG_HASH ? source.toString('hex', at, at + HASH_BYTES) : undefined,
    homeInstanceId: homeInstanceId === '' ? undefined : homeInstanceId,
    traceParent: traceParent === '' ? undefined : traceParent,
    traceState: traceState === '' ? undefined : traceState,
    redisTtlMs,
    base,
    refusal,
  };
}

/** Each of its characters is one byte. */
function writeOrigin(origin: string, target: Buffer, start: number): void {
  for (let at = 0; at < ORIGIN_BYTES; at++) target[start + at] = origin.charCodeAt(at);
}

function writeVersion(version: number, target: Buffer, at: number): void {
  target.writeUInt32BE(Math.floor(version / TWO_32), at);
  target.writeUInt32BE(version % TWO_32, at + 4);
}

function readVersion(source: Buffer, at: number): number {
  return source.readUInt32BE(at) * TWO_32 + source.readUInt32BE(at + 4);
}

/** End of the part that says whose record this is: head and id. */
export function identityEnd(source: Buffer, start: number): number {
  return start + ENVELOPE_HEAD_BYTES + source.readUInt16BE(start + 2);
}

/** CRC-32 of `source` from `start` to `end`, continued from `previous`. */
export function checksum(source: Buffer, start: number, end: number, previous = 0): number {
  return crc32(source.subarray(start, end), previous);
}
