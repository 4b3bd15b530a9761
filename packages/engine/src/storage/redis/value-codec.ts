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
import { contentHashOf, DEFAULT_STATE, EMPTY_CONTENT, type Revision } from '../../item/revision.js';
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

/** @param endMs End of life on the server's clock. */
export function encodeValue({ revision, kind }: CachePut, endMs: number): Buffer {
  const marker = kind === 'marker' || kind === 'mark';
  const content = marker ? EMPTY_CONTENT : revision.content;
  const texts = marker
    ? ['', '', '', '']
    : [revision.state, revision.homeInstanceId ?? '', revision.traceParent ?? '', revision.traceState ?? ''];
  let room = HEAD_BYTES + content.length;
  for (const text of texts) room += text.length * 3;
  const value = Buffer.allocUnsafe(room);
  writeNumber(value, 0, revision.version);
  value.write(revision.origin, 8, ORIGIN_BYTES, 'latin1');
  value[24] = revision.deleted ? 1 : 0;
  if (marker || revision.deleted) value.fill(0, 25, ORDER_BYTES);
  else value.write(contentHashOf(revision), 25, HASH_BYTES, 'hex');
  value[57] = 0x53;
  value[58] = 0x45;
  value[59] = VALUE_FORMAT;
  value[60] =
    (revision.contentType === 'json' && !marker ? FLAG_JSON : 0) |
    (kind === 'only' ? FLAG_ONLY : 0) |
    (marker ? FLAG_MARKER : 0);
  writeNumber(value, 61, endMs);
  writeNumber(value, 69, marker ? 0 : (revision.redisTtlMs ?? 0));
  let at = HEAD_BYTES;
  const lengths: number[] = [];
  for (const text of texts) {
    const bytes = text === '' ? 0 : value.write(text, at, 'utf8');
    lengths.push(bytes);
    at += bytes;
  }
  value[77] = lengths[0] as number;
  value[78] = lengths[1] as number;
  value.writeUInt16BE(lengths[2] as number, 79);
  value.writeUInt16BE(lengths[3] as number, 81);
  value.set(content, at);
  at += content.length;
  const whole = value.subarray(0, at);
  value.writeUInt32BE(sumOf(revision.id, whole), SUM_AT);
  return whole;
}

/**
 * The value of `id` in `source`, `undefined` for a marker and for one whose life is over.
 * @param nowMs The server's clock.
 */
export function decodeValue(id: string, source: Buffer, nowMs: number): CachedValue | 'damaged' | undefined {
  if (source.length < HEAD_BYTES || source[57] !== 0x53 || source[58] !== 0x45) return 'damaged';
  if (source[59] !== VALUE_FORMAT || source.readUInt32BE(SUM_AT) !== sumOf(id, source)) return 'damaged';
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

function sumOf(id: string, value: Buffer): number {
  const head = crc32(value.subarray(0, SUM_AT), crc32(id));
  return crc32(value.subarray(HEAD_BYTES), head);
}

function writeNumber(target: Buffer, at: number, value: number): void {
  target.writeUInt32BE(Math.floor(value / TWO_32), at);
  target.writeUInt32BE(value % TWO_32, at + 4);
}

function readNumber(source: Buffer, at: number): number {
  return source.readUInt32BE(at) * TWO_32 + source.readUInt32BE(at + 4);
}
