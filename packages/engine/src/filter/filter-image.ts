/**
 * A whole filter as bytes, to be moved elsewhere. The engine's own snapshots are `filter-snapshot.ts`: they write
 * only what changed.
 *
 *   u32 length of the JSON, JSON { format, endianness, seed, leaves: [{ root, prefix, depth, count }] },
 *   the tables as they lie in memory, u32 CRC-32 of all before
 */
import { endianness } from 'node:os';
import { crc32 } from 'node:zlib';
import { SyncEngineError } from '../base/errors.js';
import { CuckooFilter } from './cuckoo-filter.js';
import { CuckooLeaf, LEAF_BYTES, PAGES } from './cuckoo-leaf.js';

const FORMAT = 1;

interface ImageHead {
  readonly format: number;
  readonly endianness: string;
  readonly seed: string;
  readonly leaves: readonly {
    readonly root: number;
    readonly prefix: number;
    readonly depth: number;
    readonly count: number;
  }[];
}

export function imageOf(filter: CuckooFilter): Buffer {
  const leaves = Array.from({ length: filter.leaves }, (_, at) => filter.leafAt(at));
  const head: ImageHead = {
    format: FORMAT,
    endianness: endianness(),
    seed: Buffer.from(filter.seed).toString('hex'),
    leaves: leaves.map(({ root, prefix, depth, count }) => ({ root, prefix, depth, count })),
  };
  const json = Buffer.from(JSON.stringify(head));
  const image = Buffer.alloc(4 + json.length + leaves.length * LEAF_BYTES + 4);
  image.writeUInt32LE(json.length, 0);
  image.set(json, 4);
  leaves.forEach(({ words }, at) => {
    image.set(new Uint8Array(words.buffer, words.byteOffset, LEAF_BYTES), 4 + json.length + at * LEAF_BYTES);
  });
  image.writeUInt32LE(crc32(image.subarray(0, -4)), image.length - 4);
  return image;
}

/** @throws `CORRUPTION` for bytes that are no whole image of this version and this machine's byte order. */
export function filterOf(bytes: Uint8Array): CuckooFilter {
  const image = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const intact = image.length > 8 && crc32(image.subarray(0, -4)) === image.readUInt32LE(image.length - 4);
  const filter = intact ? readIfWhole(image) : undefined;
  if (filter !== undefined) return filter;
  throw new SyncEngineError(
    'CORRUPTION',
    'These bytes are no whole filter of this version. Export it again, or build it from the ids.',
    { context: { tier: 'memory' } },
  );
}

/** Bytes with a right checksum may still be somebody else's: then the head is no JSON, or lacks what is read of it. */
function readIfWhole(image: Buffer): CuckooFilter | undefined {
  try {
    return read(image);
  } catch {
    return undefined;
  }
}

function read(image: Buffer): CuckooFilter | undefined {
  const jsonBytes = image.readUInt32LE(0);
  const head = JSON.parse(image.toString('utf8', 4, 4 + jsonBytes)) as ImageHead;
  if (head.format !== FORMAT || head.endianness !== endianness()) return undefined;
  if (image.length !== 4 + jsonBytes + head.leaves.length * LEAF_BYTES + 4) return undefined;
  const leaves: CuckooLeaf[] = [];
  let at = 4 + jsonBytes;
  for (const { root, prefix, depth, count } of head.leaves) {
    const leaf = new CuckooLeaf(root, prefix, depth);
    new Uint8Array(leaf.words.buffer).set(image.subarray(at, at + LEAF_BYTES));
    at += LEAF_BYTES;
    for (let page = 0; page < PAGES; page++) {
      const counted = leaf.countedIn(page);
      if (counted === undefined) return undefined;
      leaf.count += counted;
    }
    if (leaf.count !== count) return undefined;
    leaves.push(leaf);
  }
  return CuckooFilter.fromLeaves(Buffer.from(head.seed, 'hex'), leaves);
}
