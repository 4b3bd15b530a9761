/**
 * How many groups the log has acknowledged, noted beside it: `<path>-mark`. SQLite takes a write-ahead file
 * that was removed, or damaged in its last group, for one that ends earlier, and says nothing. This tells.
 *
 *   32 bytes: "SyMk", u32 CRC-32 of the rest, 16 bytes identity of the log, u64 groups
 *
 * It is written when a group is on the disk, and never synced: after the death of the process it is exact;
 * after a power loss it may know of fewer groups, never of more. So it never accuses a log that is whole.
 */
import { closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { sizeOf } from '../base/files.js';

const MAGIC = 0x53794d6b;
const BYTES = 32;

/** Groups that this log has acknowledged, as far as known: 0 without a mark, with one of another log, or a damaged one. */
export function markedGroups(path: string, logId: string): number {
  if (sizeOf(markOf(path)) !== BYTES) return 0;
  const mark = readFileSync(markOf(path));
  const groups = Number(mark.readBigUInt64BE(24));
  return mark.equals(encode(logId, groups)) ? groups : 0;
}

/** The mark of an open log. */
export class CommitMark {
  readonly #handle: number;
  readonly #logId: string;

  /** @param logId 32 hex digits. */
  constructor(path: string, logId: string) {
    this.#handle = openSync(markOf(path), constants.O_WRONLY | constants.O_CREAT, 0o644);
    this.#logId = logId;
  }

  /** Call it when the groups are on the disk. */
  set(groups: number): void {
    try {
      writeSync(this.#handle, encode(this.#logId, groups), 0, BYTES, 0);
    } catch {
      // The groups are durable without it; it only knows of fewer.
    }
  }

  close(): void {
    closeSync(this.#handle);
  }
}

function markOf(path: string): string {
  return `${path}-mark`;
}

function encode(logId: string, groups: number): Buffer {
  const mark = Buffer.alloc(BYTES);
  mark.writeUInt32BE(MAGIC, 0);
  mark.write(logId, 8, 16, 'hex');
  mark.writeBigUInt64BE(BigInt(groups), 24);
  mark.writeUInt32BE(crc32(mark.subarray(8)), 4);
  return mark;
}
