/**
 * One entry of the change log as bytes: the changes of a transaction behind each other.
 *
 *   u8   kind: 0 put, 1 delete, 2 collected; + 16 where a delta follows
 *   i8   count delta
 *   u16  bytes of id              (all numbers big-endian)
 *   u64  version
 *   16   origin
 *   32   delta, where there is one
 *        id
 *
 * The chain is `SHA-256(chain before, u64 position, bytes)`, beginning with 32 zeros.
 */
import { sha256 } from '../base/hash.js';
import { ORIGIN_BYTES } from '../item/origin.js';
import type { RowChange } from './archive-store.js';

const HEAD_BYTES = 12 + ORIGIN_BYTES;
const DELTA_BYTES = 32;
const FLAG_DELTA = 16;
const KINDS = ['put', 'delete', 'collected'] as const;
const TWO_32 = 2 ** 32;

export const CHAIN_BYTES = 32;
export const FIRST_CHAIN = '0'.repeat(CHAIN_BYTES * 2);

export function encodeChanges(changes: readonly RowChange[]): Buffer {
  let room = 0;
  for (const change of changes) room += HEAD_BYTES + DELTA_BYTES + change.id.length * 3;
  const bytes = Buffer.allocUnsafe(room);
  let at = 0;
  for (const change of changes) {
    const hasDelta = change.delta.length > 0;
    bytes[at] = KINDS.indexOf(change.kind) | (hasDelta ? FLAG_DELTA : 0);
    bytes.writeInt8(change.countDelta, at + 1);
    bytes.writeUInt32BE(Math.floor(change.version / TWO_32), at + 4);
    bytes.writeUInt32BE(change.version % TWO_32, at + 8);
    bytes.write(change.origin, at + 12, ORIGIN_BYTES, 'latin1');
    let end = at + HEAD_BYTES;
    if (hasDelta) {
      bytes.set(change.delta, end);
      end += DELTA_BYTES;
    }
    const idBytes = bytes.write(change.id, end, 'utf8');
    bytes.writeUInt16BE(idBytes, at + 2);
    at = end + idBytes;
  }
  return bytes.subarray(0, at);
}

/** Takes bytes whose chain was verified. */
export function decodeChanges(bytes: Buffer): RowChange[] {
  const changes: RowChange[] = [];
  for (let at = 0; at < bytes.length; ) {
    const flags = bytes[at] as number;
    const idBytes = bytes.readUInt16BE(at + 2);
    let end = at + HEAD_BYTES;
    let delta: Buffer = bytes.subarray(0, 0);
    if ((flags & FLAG_DELTA) !== 0) {
      delta = bytes.subarray(end, end + DELTA_BYTES);
      end += DELTA_BYTES;
    }
    changes.push({
      id: bytes.toString('utf8', end, end + idBytes),
      version: bytes.readUInt32BE(at + 4) * TWO_32 + bytes.readUInt32BE(at + 8),
      origin: bytes.toString('latin1', at + 12, at + 12 + ORIGIN_BYTES),
      kind: KINDS[flags & 3] as RowChange['kind'],
      delta,
      countDelta: bytes.readInt8(at + 1),
    });
    at = end + idBytes;
  }
  return changes;
}

export function nextChain(previous: Uint8Array, position: number, changes: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(CHAIN_BYTES + 8 + changes.length);
  bytes.set(previous);
  bytes.writeUInt32BE(Math.floor(position / TWO_32), CHAIN_BYTES);
  bytes.writeUInt32BE(position % TWO_32, CHAIN_BYTES + 4);
  bytes.set(changes, CHAIN_BYTES + 8);
  return sha256(bytes);
}
