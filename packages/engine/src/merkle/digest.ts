/**
 * Digests: a leaf is a keyed hash of a row, a path's digest is the sum of the leaves below it.
 *
 *   leaf   e = SHA-256(key, id, version, origin, kind, content hash, state), read as 8 lanes of 32 bits
 *   path   (count, sum): how many rows, and their leaves added lane by lane, modulo 2^32
 *   wire   SHA-256(sum, count), cut to 16 bytes: sums themselves never leave the node
 *
 * A sum changes by `e' − e` whatever the number of siblings. Without the key, rows could be made up whose
 * leaves cancel out. The fields are length-prefixed and the key has a fixed length, so no row's bytes are a
 * prefix of another's, and a plain hash over key and fields is a sound keyed function.
 */
import { sha256 } from '../base/hash.js';
import { ORIGIN_BYTES } from '../item/origin.js';
import type { ContentTypeName } from '../item/revision.js';

export const KEY_BYTES = 32;
export const DIGEST_BYTES = 32;
export const LANES = 8;
/** Of a hash as it is compared between nodes. */
export const WIRE_BYTES = 16;

const TWO_32 = 2 ** 32;
/** Key, id of 1,024 bytes, state of 64 bytes and the fixed fields: 1,24x bytes. */
const ROOM = KEY_BYTES + 2 + 1024 + 8 + ORIGIN_BYTES + 1 + 32 + 1 + 64;

/** What of a row the leaf speaks of. */
export interface LeafFields {
  readonly id: string;
  readonly version: number;
  readonly origin: string;
  readonly deleted: boolean;
  readonly contentType: ContentTypeName;
  readonly state: string;
}

/** Makes leaves under one key. Not shared between threads: it reuses its buffer. */
export class LeafHasher {
  readonly #bytes = Buffer.alloc(ROOM);

  /** @param key 32 bytes; two nodes compare only under the same one. */
  constructor(key: Uint8Array) {
    if (key.length !== KEY_BYTES)
      throw new TypeError(`The key has ${key.length} bytes; it has ${KEY_BYTES}.`);
    this.#bytes.set(key);
  }

  /** @param contentHash 32 bytes, zeros for a tombstone. */
  leaf(row: LeafFields, contentHash: Uint8Array): Buffer {
    const bytes = this.#bytes;
    const idBytes = bytes.write(row.id, KEY_BYTES + 2, 'utf8');
    bytes.writeUInt16BE(idBytes, KEY_BYTES);
    let at = KEY_BYTES + 2 + idBytes;
    bytes.writeUInt32BE(Math.floor(row.version / TWO_32), at);
    bytes.writeUInt32BE(row.version % TWO_32, at + 4);
    bytes.write(row.origin, at + 8, ORIGIN_BYTES, 'latin1');
    at += 8 + ORIGIN_BYTES;
    bytes[at] = (row.deleted ? 1 : 0) | (row.contentType === 'json' ? 2 : 0);
    bytes.set(contentHash, at + 1);
    at += 33;
    const stateBytes = bytes.write(row.state, at + 1, 'utf8');
    bytes[at] = stateBytes;
    return sha256(bytes.subarray(0, at + 1 + stateBytes));
  }
}

/** Leaves added up, lane by lane. */
export class LaneSum {
  readonly lanes = new Uint32Array(LANES);

  static of(bytes: Buffer): LaneSum {
    const sum = new LaneSum();
    sum.add(bytes);
    return sum;
  }

  add(bytes: Buffer): void {
    const { lanes } = this;
    for (let lane = 0; lane < LANES; lane++)
      lanes[lane] = (lanes[lane] as number) + bytes.readUInt32BE(lane * 4);
  }

  subtract(bytes: Buffer): void {
    const { lanes } = this;
    for (let lane = 0; lane < LANES; lane++)
      lanes[lane] = (lanes[lane] as number) - bytes.readUInt32BE(lane * 4);
  }

  addSum(other: LaneSum): void {
    for (let lane = 0; lane < LANES; lane++)
      this.lanes[lane] = (this.lanes[lane] as number) + (other.lanes[lane] as number);
  }

  addLanes(lanes: readonly number[]): void {
    for (let lane = 0; lane < LANES; lane++)
      this.lanes[lane] = (this.lanes[lane] as number) + (lanes[lane] as number);
  }

  get isZero(): boolean {
    return this.lanes.every((lane) => lane === 0);
  }

  /** 32 bytes, big-endian lanes. */
  bytes(): Buffer {
    const bytes = Buffer.allocUnsafe(DIGEST_BYTES);
    for (let lane = 0; lane < LANES; lane++) bytes.writeUInt32BE(this.lanes[lane] as number, lane * 4);
    return bytes;
  }
}

/** What two nodes compare: 16 bytes. */
export function wireHash(sum: Uint8Array, count: number): Buffer {
  const bytes = Buffer.allocUnsafe(DIGEST_BYTES + 8);
  bytes.set(sum);
  bytes.writeUInt32BE(Math.floor(count / TWO_32), DIGEST_BYTES);
  bytes.writeUInt32BE(count % TWO_32, DIGEST_BYTES + 4);
  return sha256(bytes).subarray(0, WIRE_BYTES);
}

/** Names a key without telling it: nodes whose names differ cannot compare. */
export function keyIdOf(key: Uint8Array): string {
  return sha256(Buffer.concat([Buffer.from('sync-engine key id\0'), key])).toString('hex', 0, 8);
}
