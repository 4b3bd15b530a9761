/**
 * One cuckoo table of the filter: buckets of four fingerprints of 24 bits. A fingerprint lies in one of two
 * buckets, and each is found from the other and the fingerprint alone, so entries can be moved, and the whole
 * table split, without the ids.
 *
 *   bucket = three 32-bit words    word 0   word 1   word 2
 *   four slots, low bits first    [aaaaaabb][bbbbcccc][ccdddddd]    (hexadecimal digits of a, b, c, d; 0 = empty)
 *
 * B. Fan et al., "Cuckoo Filter: Practically Better Than Bloom", https://dl.acm.org/doi/10.1145/2674005.2674994
 */
const BUCKET_BITS = 12;
const BUCKETS = 1 << BUCKET_BITS;
const SLOTS_PER_BUCKET = 4;
const WORDS_PER_BUCKET = 3;
export const FINGERPRINT_MASK = 0xffffff;
export const SLOTS = BUCKETS * SLOTS_PER_BUCKET;

/** What is marked as changed and written to a snapshot as a unit: 512 buckets. */
export const PAGES = 8;
const BUCKETS_PER_PAGE = BUCKETS / PAGES;
export const PAGE_BYTES = BUCKETS_PER_PAGE * WORDS_PER_BUCKET * 4;
export const LEAF_BYTES = PAGES * PAGE_BYTES;
export const ALL_PAGES = (1 << PAGES) - 1;

/** An entry without a place: what a failed insertion pushed out last. */
export interface Homeless {
  fingerprint: number;
  bucket: number;
}

export class CuckooLeaf {
  /** Part of the filter that it belongs to for ever. */
  readonly root: number;
  /** Every fingerprint here has these low bits, and there are `depth` of them. */
  prefix: number;
  depth: number;
  /** Fingerprints stored. */
  count = 0;
  /** One bit for each page that was written to since it was last copied. */
  changedPages = ALL_PAGES;
  readonly words: Int32Array;

  constructor(root: number, prefix: number, depth: number) {
    this.root = root;
    this.prefix = prefix;
    this.depth = depth;
    this.words = new Int32Array(BUCKETS * WORDS_PER_BUCKET);
  }

  has(fingerprint: number, bucket: number): boolean {
    return (
      hasIn(this.words, bucket, fingerprint) ||
      hasIn(this.words, otherBucket(bucket, fingerprint), fingerprint)
    );
  }

  /**
   * Stores a fingerprint, moving others if need be. Where `maxKicks` moves do not free a slot, the answer is
   * false, and `entry` holds the fingerprint that is now without a place: the new one is stored instead of it.
   */
  place(entry: Homeless, maxKicks: number): boolean {
    let { fingerprint, bucket } = entry;
    if (this.#fill(bucket, fingerprint)) return true;
    bucket = otherBucket(bucket, fingerprint);
    if (this.#fill(bucket, fingerprint)) return true;
    // The choice of slots only has to vary; it follows from what is stored, so equal filters stay equal.
    let choice = fingerprint ^ this.count;
    for (let kicks = 0; kicks < maxKicks; kicks++) {
      choice = (Math.imul(choice, 0x915f77f5) + 0x6a09e667) | 0;
      const slot = choice >>> 30;
      const evicted = slotOf(this.words, bucket, slot);
      this.#write(bucket, slot, fingerprint);
      fingerprint = evicted;
      bucket = otherBucket(bucket, fingerprint);
      if (this.#fill(bucket, fingerprint)) return true;
    }
    entry.fingerprint = fingerprint;
    entry.bucket = bucket;
    return false;
  }

  /** Hands the fingerprints whose next bit is set to a new leaf. Each stays in the bucket that it is in. */
  split(): CuckooLeaf {
    const bit = 1 << this.depth;
    this.depth++;
    const sibling = new CuckooLeaf(this.root, this.prefix | bit, this.depth);
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      for (let slot = 0; slot < SLOTS_PER_BUCKET; slot++) {
        const fingerprint = slotOf(this.words, bucket, slot);
        if ((fingerprint & bit) === 0) continue;
        writeSlot(this.words, bucket, slot, 0);
        writeSlot(sibling.words, bucket, slot, fingerprint);
        sibling.count++;
      }
    }
    this.count -= sibling.count;
    this.changedPages = ALL_PAGES;
    return sibling;
  }

  /** How many are stored in one page; `undefined` where something is that does not belong into this leaf. */
  countedIn(page: number): number | undefined {
    const mask = (1 << this.depth) - 1;
    let count = 0;
    for (let bucket = page * BUCKETS_PER_PAGE; bucket < (page + 1) * BUCKETS_PER_PAGE; bucket++) {
      for (let slot = 0; slot < SLOTS_PER_BUCKET; slot++) {
        const fingerprint = slotOf(this.words, bucket, slot);
        if (fingerprint === 0) continue;
        if ((fingerprint & mask) !== this.prefix) return undefined;
        count++;
      }
    }
    return count;
  }

  /** The bytes of one page, as a view. */
  page(page: number): Uint8Array {
    return new Uint8Array(this.words.buffer, page * PAGE_BYTES, PAGE_BYTES);
  }

  #fill(bucket: number, fingerprint: number): boolean {
    for (let slot = 0; slot < SLOTS_PER_BUCKET; slot++) {
      if (slotOf(this.words, bucket, slot) !== 0) continue;
      this.#write(bucket, slot, fingerprint);
      this.count++;
      return true;
    }
    return false;
  }

  #write(bucket: number, slot: number, fingerprint: number): void {
    writeSlot(this.words, bucket, slot, fingerprint);
    this.changedPages |= 1 << Math.floor(bucket / BUCKETS_PER_PAGE);
  }
}

export function bucketOf(hash: number): number {
  return hash & (BUCKETS - 1);
}

/** Its own inverse. Never the same bucket, because the lowest bit always changes. */
function otherBucket(bucket: number, fingerprint: number): number {
  return bucket ^ ((Math.imul(fingerprint, 0x9e3779b1) >>> (32 - BUCKET_BITS)) | 1);
}

/** Compares all four without taking them apart: this is the filter's inner loop. */
function hasIn(words: Int32Array, bucket: number, fingerprint: number): boolean {
  const at = bucket * WORDS_PER_BUCKET;
  const low = words[at] as number;
  const middle = words[at + 1] as number;
  const high = words[at + 2] as number;
  return (
    (low & FINGERPRINT_MASK) === fingerprint ||
    ((low >>> 24) | ((middle & 0xffff) << 8)) === fingerprint ||
    ((middle >>> 16) | ((high & 0xff) << 16)) === fingerprint ||
    high >>> 8 === fingerprint
  );
}

function slotOf(words: Int32Array, bucket: number, slot: number): number {
  const at = bucket * WORDS_PER_BUCKET + slot;
  // Slot n begins in word n-1 or n at bit 24n mod 32.
  if (slot === 0) return (words[at] as number) & FINGERPRINT_MASK;
  if (slot === 1) return ((words[at - 1] as number) >>> 24) | (((words[at] as number) & 0xffff) << 8);
  if (slot === 2) return ((words[at - 1] as number) >>> 16) | (((words[at] as number) & 0xff) << 16);
  return (words[at - 1] as number) >>> 8;
}

function writeSlot(words: Int32Array, bucket: number, slot: number, fingerprint: number): void {
  const at = bucket * WORDS_PER_BUCKET + slot;
  if (slot === 0) {
    words[at] = ((words[at] as number) & ~FINGERPRINT_MASK) | fingerprint;
  } else if (slot === 1) {
    words[at - 1] = ((words[at - 1] as number) & FINGERPRINT_MASK) | (fingerprint << 24);
    words[at] = ((words[at] as number) & ~0xffff) | (fingerprint >>> 8);
  } else if (slot === 2) {
    words[at - 1] = ((words[at - 1] as number) & 0xffff) | (fingerprint << 16);
    words[at] = ((words[at] as number) & ~0xff) | (fingerprint >>> 16);
  } else {
    words[at - 1] = ((words[at - 1] as number) & 0xff) | (fingerprint << 8);
  }
}
