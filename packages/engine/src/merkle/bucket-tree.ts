/**
 * Children of one wide path in 262,144 buckets, so that a comparison finds one among a million in four answers.
 *
 *   level 0        1 bucket, everything
 *   level 1       64 buckets ─┐
 *   level 2    4,096 buckets  ├ each holds (count, sum) of the children whose segments hash into it
 *   level 3  262,144 buckets ─┘
 *
 * Bucket `b` of a level holds buckets `64 b … 64 b + 63` of the next, so the bucket of a segment at level 3 names
 * the ones above it by its leading bits. Adding touches three buckets, whatever is there already. The children
 * themselves are not kept: whoever owns the tree looks them up. About 10 MiB, allocated at once.
 *
 * The hash of segments is not keyed: who may choose ids can crowd one bucket, which makes that one answer longer
 * and no answer wrong.
 */
import { SyncEngineError } from '../base/errors.js';
import { DIGEST_BYTES, WIRE_BYTES, wireHash } from './digest.js';

/** Buckets inside a bucket. */
export const FANOUT = 64;
/** Level whose buckets hold children instead of buckets. */
export const CHILD_LEVEL = 3;

const LANES = 8;
const BUCKET_BITS = 18;
/** Place of a level's first bucket in the arrays; level 0 is never asked for its own sum. */
const FIRST: readonly number[] = [0, 0, FANOUT, FANOUT + FANOUT ** 2];
const BUCKETS = FANOUT + FANOUT ** 2 + FANOUT ** 3;

/**
 * Bucket of a segment at level 3, 0 to 262,143: FNV-1a of 32 bits that takes a whole UTF-16 unit at a time
 * (offset 0x811c9dc5, prime 0x01000193), then MurmurHash3's last mix, of which the upper 18 bits count. Part of
 * what nodes tell each other: it never changes.
 */
export function bucketOf(segment: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < segment.length; at++) hash = Math.imul(hash ^ segment.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> (32 - BUCKET_BITS);
}

/** @throws `CONFIG` for a bucket that its level does not have. */
export function assertBucket(level: number, bucket: number): void {
  if (!Number.isInteger(level) || level < 0 || level > CHILD_LEVEL) {
    throw new SyncEngineError(
      'CONFIG',
      `There is no level ${level} of buckets; ask for 0 to ${CHILD_LEVEL}.`,
    );
  }
  const end = FANOUT ** level;
  if (Number.isInteger(bucket) && bucket >= 0 && bucket < end) return;
  throw new SyncEngineError(
    'CONFIG',
    `There is no bucket ${bucket} at level ${level}; ask for 0 to ${end - 1}.`,
  );
}

export class BucketTree {
  readonly #lanes = new Uint32Array(BUCKETS * LANES);
  /** Doubles: whole numbers up to 2^53. */
  readonly #counts = new Float64Array(BUCKETS);

  /**
   * Adds what changed at and below a child: its first sum, or a difference of sums.
   * @param sum 32 bytes, 8 big-endian lanes, added modulo 2^32.
   * @param countDelta rows more, or fewer where negative.
   */
  add(segment: string, sum: Uint8Array, countDelta: number): void {
    if (sum.length !== DIGEST_BYTES)
      throw new TypeError(`The sum has ${sum.length} bytes; it has ${DIGEST_BYTES}.`);
    const bucket = bucketOf(segment);
    const view = new DataView(sum.buffer, sum.byteOffset, DIGEST_BYTES);
    for (let level = 1; level <= CHILD_LEVEL; level++) {
      const at = (FIRST[level] as number) + (bucket >>> (6 * (CHILD_LEVEL - level)));
      this.#counts[at] = (this.#counts[at] as number) + countDelta;
      for (let lane = 0; lane < LANES; lane++) {
        const place = at * LANES + lane;
        this.#lanes[place] = (this.#lanes[place] as number) + view.getUint32(lane * 4);
      }
    }
  }

  /**
   * 64 × 16 bytes: wire hashes of the buckets inside, zeros for one whose sum and count are zero.
   * @throws `CONFIG` for a bucket that the level does not have.
   */
  answer(level: 0 | 1 | 2, bucket: number): Uint8Array {
    assertBucket(level, bucket);
    if (level >= CHILD_LEVEL) {
      throw new SyncEngineError(
        'CONFIG',
        `Buckets of level ${level} hold children, not buckets; list the children.`,
      );
    }
    const hashes = new Uint8Array(FANOUT * WIRE_BYTES);
    const first = (FIRST[level + 1] as number) + bucket * FANOUT;
    for (let inner = 0; inner < FANOUT; inner++) {
      const hash = this.#hash(first + inner);
      if (hash !== undefined) hashes.set(hash, inner * WIRE_BYTES);
    }
    return hashes;
  }

  #hash(at: number): Uint8Array | undefined {
    const lanes = this.#lanes.subarray(at * LANES, (at + 1) * LANES);
    const count = this.#counts[at] as number;
    if (count === 0 && lanes.every((lane) => lane === 0)) return undefined;
    const sum = new Uint8Array(DIGEST_BYTES);
    const view = new DataView(sum.buffer);
    for (let lane = 0; lane < LANES; lane++) view.setUint32(lane * 4, lanes[lane] as number);
    return wireHash(sum, count);
  }
}
