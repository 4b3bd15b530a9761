/**
 * The byte form of a value in Redis. It starts with the order of the write, so a script compares two values byte by
 * byte without knowing the rest. Numbers are big-endian; `docs/formats.md` repeats this for readers in other languages.
 *
 *   0  u64  version               ┐
 *   8  16   origin                │ order key: compared as bytes
 *  24  u8   1: deleted            │
 *  25  32   content hash, or zeros┘
 *  57  2    "SE"
 *  59  u8   format, 1
 *  60  u8   flags: 1 json, 2 cache-only, 4 marker
 *  61  u64  end of life, milliseconds of the server's clock since 1970
 *  69  u64  life that the writer asked for, milliseconds; 0: the default
 *  77  u8   bytes of state
 *  78  u8   bytes of homeInstanceId
 *  79  u16  bytes of traceParent
 *  81  u16  bytes of traceState
 *  83  u32  CRC-32 of the id, of bytes 0–82, and of everything from 87 on
 *  87       state, homeInstanceId, traceParent, traceState, content
 */
import { crc32 } from 'node:zlib';
import { ORIGIN_BYTES } from '../../item/origin.js';
import { contentHashOf, DEFAULT_STATE, type Revision } from '../../item/revision.js';
import type { CachedValue, CachePut } from '../cache-store.js';

const VALUE_FORMAT = 1;
export const ORDER_BYTES = 57;
const HEAD_BYTES = 87;
const SUM_AT = 83;
const HASH_BYTES = 32;
const TWO_32 = 2 ** 32;

const FLAG_JSON = 1;
const FLAG_ONLY = 2;
const FLAG_MARKER = 4;

/** Room that `encodeValue` may need: an upper bound. */
export function valueBytesMax({ revision, kind }: CachePut): number {
  if (kind === 'marker' || kind === 'mark') return HEAD_BYTES;
  const texts =
    revision.state.length +
    (revision.homeInstanceId?.length ?? 0) +
    (revision.traceParent?.length ?? 0) +
    (revision.traceState?.length ?? 0);
  return HEAD_BYTES + texts * 3 + revision.content.length;
}

/**
 * Writes the value at `start` and returns the offset behind it.
 * @param endMs End of life on the server's clock.
 */
export function encodeValue(
  { revision, kind }: CachePut,
  endMs: number,
  target: Buffer,
  start: number,
): number {
  const marker = kind === 'marker' || kind === 'mark';
  writeNumber(target, start, revision.version);
  const { origin } = revision;
  for (let at = 0; at < ORIGIN_BYTES; at++) target[start + 8 + at] = origin.charCodeAt(at);
  target[start + 24] = revision.deleted ? 1 : 0;
  if (marker || revision.deleted) target.fill(0, start + 25, start + ORDER_BYTES);
  else target.write(contentHashOf(revision), start + 25, HASH_BYTES, 'hex');
  target[start + 57] = 0x53;
  target[start + 58] = 0x45;
  target[start + 59] = VALUE_FORMAT;
  target[start + 60] =
    (revision.contentType === 'json' && !marker ? FLAG_JSON : 0) |
    (kind === 'only' ? FLAG_ONLY : 0) |
    (marker ? FLAG_MARKER : 0);
  writeNumber(target, start + 61, Math.floor(endMs));
  writeNumber(target, start + 69, marker ? 0 : (revision.redisTtlMs ?? 0));
  target.fill(0, start + 77, start + HEAD_BYTES);
  let at = start + HEAD_BYTES;
  if (!marker) {
    const state = target.write(revision.state, at, 'utf8');
    at += state;
    target[start + 77] = state;
    if (hasTexts(revision)) at = writeTexts(revision, target, start, at);
    target.set(revision.content, at);
    at += revision.content.length;
  }
  target.writeUInt32BE(sumOf(revision.id, target, start, at), start + SUM_AT);
  return at;
}

function hasTexts({ homeInstanceId, traceParent, traceState }: Revision): boolean {
  return homeInstanceId !== undefined || traceParent !== undefined || traceState !== undefined;
}

function writeTexts(revision: Revision, target: Buffer, start: number, textsAt: number): number {
  const home = target.write(revision.homeInstanceId ?? '', textsAt, 'utf8');
  const parent = target.write(revision.traceParent ?? '', textsAt + home, 'utf8');
  const state = target.write(revision.traceState ?? '', textsAt + home + parent, 'utf8');
  target[start + 78] = home;
  target.writeUInt16BE(parent, start + 79);
  target.writeUInt16BE(state, start + 81);
  return textsAt + home + parent + state;
}

/**
 * The value of `id` in `source`, `undefined` for a marker and for one whose life is over.
 * @param nowMs The server's clock.
 */
export function decodeValue(id: string, source: Buffer, nowMs: number): CachedValue | 'damaged' | undefined {
  if (source.length < HEAD_BYTES || source[57] !== 0x53 || source[58] !== 0x45) return 'damaged';
  if (source[59] !== VALUE_FORMAT || source.readUInt32BE(SUM_AT) !== sumOf(id, source, 0, source.length))
    return 'damaged';
  const flags = source[60] as number;
  const leftMs = readNumber(source, 61) - nowMs;
  if ((flags & FLAG_MARKER) !== 0 || leftMs <= 0) return undefined;
  let at = HEAD_BYTES;
  const text = (bytes: number): string | undefined => {
    at += bytes;
    return bytes === 0 ? undefined : source.toString('utf8', at - bytes, at);
  };
  const state = text(source[77] as number) ?? DEFAULT_STATE;
  const homeInstanceId = text(source[78] as number);
  const traceParent = text(source.readUInt16BE(79));
  const traceState = text(source.readUInt16BE(81));
  const redisTtlMs = readNumber(source, 69);
  const revision: Revision = {
    id,
    version: readNumber(source, 0),
    origin: source.toString('latin1', 8, 8 + ORIGIN_BYTES),
    deleted: false,
    contentType: (flags & FLAG_JSON) !== 0 ? 'json' : 'binary',
    state,
    content: source.subarray(at),
    contentHash: source.toString('hex', 25, ORDER_BYTES),
    homeInstanceId,
    traceParent,
    traceState,
    redisTtlMs: redisTtlMs === 0 ? undefined : redisTtlMs,
  };
  return { revision, cacheOnly: (flags & FLAG_ONLY) !== 0, leftMs };
}

/** Whether these first bytes are those of a value, and of no marker. */
export function isValueHead(head: Buffer): boolean {
  return head.length > 60 && head[57] === 0x53 && ((head[60] as number) & FLAG_MARKER) === 0;
}

function sumOf(id: string, source: Buffer, start: number, end: number): number {
  const head = crc32(source.subarray(start, start + SUM_AT), crc32(id));
  return crc32(source.subarray(start + HEAD_BYTES, end), head);
}

function writeNumber(target: Buffer, at: number, value: number): void {
  target.writeUInt32BE(Math.floor(value / TWO_32), at);
  target.writeUInt32BE(value % TWO_32, at + 4);
}

function readNumber(source: Buffer, at: number): number {
  return source.readUInt32BE(at) * TWO_32 + source.readUInt32BE(at + 4);
}
