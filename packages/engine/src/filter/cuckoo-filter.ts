/**
 * The set of all ids with a row in SQL, in about 37 bits each: "no" is certain, "perhaps" is wrong for about
 * one absent id in 90,000 at ten million ids, and twice as often for every doubling. Ids are only ever added.
 *
 * An extendible cuckoo filter. It grows by splitting one small table, a leaf, at a time, and needs no id for
 * it, because the bits that tell the halves apart are part of the stored fingerprints:
 *
 *   hash(id) = root · bucket · fingerprint
 *                │       │         │ low bits
 *                │       │    ┌────▼────┐       leaf of the entries whose
 *                └───────┼───►│directory├──────► fingerprints end in 01
 *                        │    └─────────┘       ┌──────────────────────┐
 *                        └─────────────────────►│ 4,096 buckets × 4    │
 *                                               └──────────────────────┘
 *
 * **Why 32 roots of unequal size.** All leaves of equal depth have equal shares of the ids, so under one
 * directory they fill, and split, together; right after that the filter is half empty and takes more than 50
 * bits for an id. To let each split at a load of its own does not help: a leaf that splits sooner is only
 * emptier. So the *shares* differ: the ids are divided for good among 32 roots, whose shares are spread
 * between one and two such that, whenever one looks, loads of 47 % to 94 % each hold the same part of the
 * ids. Then the mean stays at 24 / 0.94 / ln 2 = 36.8 bits for an id at every size.
 *
 * **Why it never fails.** A leaf that cannot find room splits and tries again. At depth 22 only four
 * fingerprints can occur in it, none twice in a bucket, so every bucket has room for the last.
 */
import {
  ALL_PAGES,
  bucketOf,
  CuckooLeaf,
  FINGERPRINT_MASK,
  type Homeless,
  LEAF_BYTES,
  SLOTS,
} from './cuckoo-leaf.js';
import { IdHash } from './id-hash.js';

export const ROOTS = 32;
/** Entries at which a leaf splits: 94 %. Beyond 95 % insertions become slow. */
const SPLIT_AT = Math.floor(SLOTS * 0.94);
export const DEPTH_MAX = 22;
const MAX_KICKS = 500;
const SHARE_BITS = 12;
/** Upper bits of a hash → root. */
const ROOT_OF = shares();
/** What a leaf's object and its part of the directory add to its table, roughly. */
const LEAF_OVERHEAD_BYTES = 300;

export interface CuckooFilterOptions {
  /** Moves after which an insertion splits the leaf. Small values make splits frequent, for tests. */
  readonly maxKicks?: number;
}

export class CuckooFilter {
  readonly seed: Uint8Array;
  readonly #hash: IdHash;
  readonly #maxKicks: number;
  /** For each root: low bits of the fingerprint → leaf. The length is a power of two. */
  readonly #directories: CuckooLeaf[][] = [];
  readonly #leaves: CuckooLeaf[] = [];
  readonly #entry: Homeless = { fingerprint: 0, bucket: 0 };
  #count = 0;
  #marksOwner: object | undefined;

  /** `seed`: 16 random bytes, which the filter keeps for life. */
  constructor(seed: Uint8Array, options: CuckooFilterOptions = {}) {
    this.seed = seed.slice();
    this.#hash = new IdHash(this.seed);
    this.#maxKicks = options.maxKicks ?? MAX_KICKS;
    for (let root = 0; root < ROOTS; root++) {
      const leaf = new CuckooLeaf(root, 0, 0);
      this.#leaves.push(leaf);
      this.#directories.push([leaf]);
    }
  }

  /**
   * The filter of these leaves, or `undefined` where they are not those of one filter: every fingerprint of
   * every root has to lead to exactly one leaf.
   */
  static fromLeaves(seed: Uint8Array, leaves: readonly CuckooLeaf[]): CuckooFilter | undefined {
    const filter = new CuckooFilter(seed);
    filter.#leaves.length = 0;
    const ofRoots = Array.from({ length: ROOTS }, (): CuckooLeaf[] => []);
    for (const leaf of leaves) {
      filter.#leaves.push(leaf);
      filter.#count += leaf.count;
      ofRoots[leaf.root]?.push(leaf);
    }
    for (const [root, ofRoot] of ofRoots.entries()) {
      const directory = directoryOf(ofRoot);
      if (directory === undefined) return undefined;
      filter.#directories[root] = directory;
    }
    return filter;
  }

  /** False only for an id that was never inserted. */
  mightContain(id: string): boolean {
    this.#hash.update(id);
    const fingerprint = fingerprintOf(this.#hash.low);
    return this.#leafOf(rootOf(this.#hash.high), fingerprint).has(fingerprint, bucketOf(this.#hash.high));
  }

  /** Returns whether something was stored: not where the id, or one that looks like it, is there already. */
  insert(id: string): boolean {
    this.#hash.update(id);
    const root = rootOf(this.#hash.high);
    const entry = this.#entry;
    entry.fingerprint = fingerprintOf(this.#hash.low);
    entry.bucket = bucketOf(this.#hash.high);
    let leaf = this.#leafOf(root, entry.fingerprint);
    if (leaf.has(entry.fingerprint, entry.bucket)) return false;
    while (!leaf.place(entry, this.#maxKicks)) {
      this.#split(leaf);
      leaf = this.#leafOf(root, entry.fingerprint);
    }
    this.#count++;
    if (leaf.count >= SPLIT_AT && leaf.depth < DEPTH_MAX) this.#split(leaf);
    return true;
  }

  /** Stored fingerprints: ids inserted, less those that looked like an earlier one. */
  get count(): number {
    return this.#count;
  }

  /** Memory, the directory included. */
  get bytes(): number {
    let entries = 0;
    for (const directory of this.#directories) entries += directory.length;
    return this.#leaves.length * (LEAF_BYTES + LEAF_OVERHEAD_BYTES) + entries * 8 + ROOT_OF.length;
  }

  /** Part of the slots that are taken, 0 to 1. */
  get loadFactor(): number {
    return this.#count / (this.#leaves.length * SLOTS);
  }

  get leaves(): number {
    return this.#leaves.length;
  }

  /** The n-th leaf. Places never change; a split adds one at the end. */
  leafAt(place: number): CuckooLeaf {
    return this.#leaves[place] as CuckooLeaf;
  }

  /**
   * The marks of changed pages serve one reader. Whoever takes them from another, who would miss changes
   * unseen, gets every page marked. Returns whether they were the owner's already.
   */
  claimMarks(owner: object): boolean {
    if (this.#marksOwner === owner) return true;
    this.#marksOwner = owner;
    for (const leaf of this.#leaves) leaf.changedPages = ALL_PAGES;
    return false;
  }

  isMarkedFor(owner: object): boolean {
    return this.#marksOwner === owner;
  }

  #leafOf(root: number, fingerprint: number): CuckooLeaf {
    const directory = this.#directories[root] as CuckooLeaf[];
    return directory[fingerprint & (directory.length - 1)] as CuckooLeaf;
  }

  #split(leaf: CuckooLeaf): void {
    const sibling = leaf.split();
    this.#leaves.push(sibling);
    const directory = this.#directories[leaf.root] as CuckooLeaf[];
    const length = directory.length;
    if (length < 1 << sibling.depth) {
      for (let at = 0; at < length; at++) directory.push(directory[at] as CuckooLeaf);
    }
    enter(directory, sibling);
  }
}

/** Zero means empty, so it is replaced. */
function fingerprintOf(hash: number): number {
  return hash & FINGERPRINT_MASK || 1 << 23;
}

function rootOf(hash: number): number {
  return ROOT_OF[hash >>> (32 - SHARE_BITS)] as number;
}

/** Shares in proportion to 1 / (2 − u) for u from 0 to 1: as much of the ids at each size between 1 and 2. */
function shares(): Uint8Array {
  const sizes = Array.from({ length: ROOTS }, (_, root) => 1 / (2 - (root + 0.5) / ROOTS));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const table = new Uint8Array(1 << SHARE_BITS);
  let end = 0;
  sizes.forEach((size, root) => {
    const start = Math.round(end * table.length);
    end += size / total;
    table.fill(root, start, Math.round(end * table.length));
  });
  return table;
}

function enter(directory: CuckooLeaf[], leaf: CuckooLeaf): void {
  for (let at = leaf.prefix; at < directory.length; at += 1 << leaf.depth) directory[at] = leaf;
}

function directoryOf(leaves: readonly CuckooLeaf[]): CuckooLeaf[] | undefined {
  let depth = 0;
  for (const leaf of leaves) depth = Math.max(depth, leaf.depth);
  const directory = new Array<CuckooLeaf>(1 << depth);
  let covered = 0;
  for (const leaf of leaves) {
    if (leaf.prefix >= 1 << leaf.depth) return undefined;
    enter(directory, leaf);
    covered += 1 << (depth - leaf.depth);
  }
  // As many places taken as there are, and none free: then none was taken twice.
  const whole = covered === directory.length && !directory.includes(undefined as unknown as CuckooLeaf);
  return whole ? directory : undefined;
}
