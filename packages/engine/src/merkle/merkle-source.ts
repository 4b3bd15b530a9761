/** One side of a comparison, near or far. What crosses it is small, and sums never do. */

export interface MerkleNode {
  /** 32 hex digits. Equal hashes: equal rows at and below the path. */
  readonly hash: string;
  /** Rows at and below the path, tombstones included. */
  readonly count: number;
  /** Whether a row has exactly this path as its id. */
  readonly isLeaf: boolean;
  /**
   * Where `isLeaf`: wire hash of that row's leaf alone, 32 hex digits. Tells whether the row differs where rows
   * below it differ too; a source that leaves it out gets such a row reported although it may be equal.
   */
  readonly own?: string;
  /** Distinct segments directly below. */
  readonly childCount: number;
}

/** Which part of the children. */
export interface ChildPage {
  readonly after?: string;
  /** Default 1,000, at most 10,000. */
  readonly limit?: number;
}

/**
 * Children of a wide path, grouped by a hash of their segment: 64 groups, 64 groups in each, and once more.
 * A bucket is named by its number within its level: bucket `b` of level `n` holds buckets `64 b … 64 b + 63` of
 * level `n + 1`. Level 0 is the one bucket 0 with all children.
 */
export type BucketAnswer =
  /** Levels 0 to 2: 64 × 16 bytes, the hashes of the buckets inside; zeros for an empty one. */
  | { readonly hashes: Uint8Array }
  /** Level 3: the children themselves, segment → hash. */
  | { readonly children: ReadonlyMap<string, string> };

/** One side of a comparison; `engine.merkle` is one, a far one answers the same over a wire. */
export interface MerkleSource {
  /** Names the key of the digests. Sides whose keys differ cannot be compared: `CONFIG`. */
  readonly keyId: string;
  /** The nodes of paths, in input order; `undefined` where no row lies at or below. */
  nodes(paths: readonly (readonly string[])[]): Promise<(MerkleNode | undefined)[]>;
  /** Segment → hash, in byte order of the segments. */
  children(path: readonly string[], page?: ChildPage): Promise<ReadonlyMap<string, string>>;
  /** What the buckets of one level below a path hold, in input order. */
  buckets(path: readonly string[], level: number, buckets: readonly number[]): Promise<BucketAnswer[]>;
}

/** Where two sides differ. */
export interface MerkleDiff {
  /** Paths whose digests differ, below which nothing else does: the parents of the differing ids. */
  readonly divergentPaths: string[];
  readonly localOnly: string[];
  readonly remoteOnly: string[];
}
