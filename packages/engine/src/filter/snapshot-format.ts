/**
 * Bytes of a snapshot file.
 *
 *   head       magic "SEFILTER", u32 format, u32 byte order, u32 zero, u32 CRC-32 of these
 *   pages      6 KiB each, as they lie in memory
 *   footer     see below; the file ends with it
 *   pages …    of the next save: what changed since
 *   footer
 *
 *   footer     u32 length of the JSON, JSON { seed, count, leaves, cover }
 *              a row of leaf-table.ts for each leaf
 *              f64 offset of this footer, u32 its length, u32 CRC-32 of all before, magic "SEFOOTER"
 *
 * All numbers are little-endian, pages too: a machine of the other order refuses the file. A footer names its
 * own place, so bytes of one that were copied elsewhere are none. It is written after its pages are durable:
 * pages that do not fit an intact footer were damaged later.
 */
import { crc32 } from 'node:zlib';
import { PAGE_BYTES, PAGES } from './cuckoo-leaf.js';
import { SEED_BYTES } from './id-hash.js';
import { LeafTable, ROW_BYTES } from './leaf-table.js';

const FORMAT = 1;
const HEAD_MAGIC = Buffer.from('SEFILTER', 'latin1');
export const FOOTER_MAGIC = Buffer.from('SEFOOTER', 'latin1');
export const HEAD_BYTES = 24;
const TAIL_BYTES = 24;

/** What the caller knows about the ids that a snapshot holds. */
export interface SnapshotCover {
  /** Position of the change log up to which every id is in the filter. */
  readonly position: number;
  readonly chain: string;
  readonly archiveId: string;
  /** Rows collected since the filter was built. */
  readonly collected: number;
}

export interface Footer {
  readonly seed: Uint8Array;
  readonly table: LeafTable;
  readonly cover: SnapshotCover;
}

interface FooterHead {
  readonly seed: string;
  readonly count: number;
  readonly leaves: number;
  readonly cover: SnapshotCover;
}

export function encodeHead(): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.set(HEAD_MAGIC);
  head.writeUInt32LE(FORMAT, 8);
  head.set(byteOrder(), 12);
  head.writeUInt32LE(crc32(head.subarray(0, HEAD_BYTES - 4)), HEAD_BYTES - 4);
  return head;
}

/** What is wrong with the first bytes of a file; `undefined` where nothing is. */
export function problemOfHead(head: Buffer): string | undefined {
  if (head.length < HEAD_BYTES) return 'it is too short';
  if (!head.subarray(0, 8).equals(HEAD_MAGIC)) return 'it is not a snapshot of a filter';
  if (head.readUInt32LE(HEAD_BYTES - 4) !== crc32(head.subarray(0, HEAD_BYTES - 4)))
    return 'its head was changed';
  const format = head.readUInt32LE(8);
  if (format !== FORMAT) return `it has format ${format}, this version knows ${FORMAT}`;
  if (!head.subarray(12, 16).equals(byteOrder())) return 'it comes from a machine of another byte order';
  return undefined;
}

/** Upper bound, for usual covers. */
export function footerBytes(leaves: number): number {
  return 4 + 512 + leaves * ROW_BYTES + TAIL_BYTES;
}

export function encodeFooter(footer: Footer, offset: number): Buffer {
  const head: FooterHead = {
    seed: Buffer.from(footer.seed).toString('hex'),
    count: footer.table.count,
    leaves: footer.table.length,
    cover: footer.cover,
  };
  const json = Buffer.from(JSON.stringify(head));
  const bytes = Buffer.alloc(4 + json.length + footer.table.length * ROW_BYTES + TAIL_BYTES);
  let at = bytes.writeUInt32LE(json.length, 0);
  at += json.copy(bytes, at);
  bytes.set(footer.table.bytes, at);
  at += footer.table.bytes.length;
  at = bytes.writeDoubleLE(offset, at);
  at = bytes.writeUInt32LE(bytes.length, at);
  at = bytes.writeUInt32LE(crc32(bytes.subarray(0, at)), at);
  bytes.set(FOOTER_MAGIC, at);
  return bytes;
}

/** Length of the footer whose last bytes are these; `undefined` where they are not those of one. */
export function footerLength(tail: Buffer): number | undefined {
  const at = tail.length - TAIL_BYTES;
  if (at < 0 || !tail.subarray(at + 16).equals(FOOTER_MAGIC)) return undefined;
  return tail.readUInt32LE(at + 8);
}

/** The footer that these bytes, found at `offset`, are; `undefined` for anything else. Never throws. */
export function decodeFooter(bytes: Buffer, offset: number): Footer | undefined {
  const tail = bytes.length - TAIL_BYTES;
  if (tail < 4 || bytes.readUInt32LE(tail + 12) !== crc32(bytes.subarray(0, tail + 12))) return undefined;
  if (bytes.readDoubleLE(tail) !== offset) return undefined;
  const tableAt = 4 + bytes.readUInt32LE(0);
  if (tableAt > tail) return undefined;
  const head = parsed(bytes.toString('utf8', 4, tableAt));
  if (head === undefined || tableAt + head.leaves * ROW_BYTES !== tail) return undefined;
  const table = new LeafTable(bytes.subarray(tableAt, tail));
  if (table.count !== head.count || !allPagesBefore(table, offset)) return undefined;
  return { seed: Buffer.from(head.seed, 'hex'), table, cover: head.cover };
}

function allPagesBefore(table: LeafTable, end: number): boolean {
  for (let leaf = 0; leaf < table.length; leaf++) {
    for (let page = 0; page < PAGES; page++) {
      const offset = table.offsetOf(leaf, page);
      if (!(offset >= HEAD_BYTES && offset + PAGE_BYTES <= end)) return false;
    }
  }
  return true;
}

function parsed(json: string): FooterHead | undefined {
  try {
    const head = JSON.parse(json) as FooterHead | null;
    return head?.seed?.length === SEED_BYTES * 2 && head.cover !== undefined ? head : undefined;
  } catch {
    return undefined;
  }
}

/** The same four bytes on machines of one order. */
function byteOrder(): Uint8Array {
  return new Uint8Array(new Uint32Array([0x01020304]).buffer);
}
