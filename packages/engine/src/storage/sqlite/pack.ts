/** Revisions crossing the thread boundary: envelopes behind each other in one buffer that moves. */
import {
  checksum,
  decodeEnvelope,
  encodeEnvelope,
  envelopeBytesMax,
  envelopeLength,
} from '../../item/envelope.js';
import type { Revision } from '../../item/revision.js';

/** Without hashes: the archive's thread computes them. The buffer owns its memory, so it can be transferred. */
export function packRevisions(revisions: readonly Revision[]): Buffer {
  let room = 0;
  for (const revision of revisions) room += envelopeBytesMax(revision);
  const pack = Buffer.allocUnsafeSlow(room);
  let at = 0;
  for (const revision of revisions) at = encodeEnvelope(revision, pack, at, false);
  return pack.subarray(0, at);
}

/** Writes, and of each the CRC-32 of its envelope: the first part of its row's checksum (`row-packer.ts`). */
export function unpackWrites(bytes: Uint8Array): { writes: Revision[]; checksums: number[] } {
  const pack = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const checksums: number[] = [];
  for (let at = 0; at < pack.length; ) {
    const length = envelopeLength(pack, at, pack.length);
    if (length < 0) break;
    checksums.push(checksum(pack, at, at + length));
    at += length;
  }
  return { writes: unpackRevisions(bytes), checksums };
}

export function unpackRevisions(bytes: Uint8Array): Revision[] {
  const pack = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const revisions: Revision[] = [];
  for (let at = 0; at < pack.length; ) {
    const length = envelopeLength(pack, at, pack.length);
    if (length < 0) throw new Error('A pack of revisions is broken.');
    revisions.push(decodeEnvelope(pack, at));
    at += length;
  }
  return revisions;
}
