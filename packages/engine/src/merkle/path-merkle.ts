/** The tree's arithmetic for use alone: paths, leaves, and what a batch of changes adds to each path. */
import type { LeafFields } from './digest.js';
import { LaneSum, LeafHasher } from './digest.js';
import { keysAbove, type MerklePath, pathOf, segmentsOfKey, split } from './path.js';

/** Paths of ids, and the leaf of a row. */
// biome-ignore lint/complexity/noStaticOnlyClass: the public face names these together.
export class PathMerkle {
  /** `'uk.nhs'` → `['uk', 'nhs']`; at most 64 segments, the last takes the rest. */
  static split(id: string): string[] {
    return split(id);
  }

  /** The path above; `undefined` for the root. */
  static parent(path: MerklePath): string[] | undefined {
    const segments = pathOf(path);
    return segments.length === 0 ? undefined : segments.slice(0, -1);
  }

  /** Every path above an id, the root first. */
  static ancestors(id: string): string[][] {
    return keysAbove(id).map(segmentsOfKey);
  }

  /**
   * Leaf of a row, 32 bytes: 8 lanes of 32 bits, big-endian.
   * @param key 32 bytes. @param contentHash SHA-256 of the content, zeros for a tombstone.
   */
  static leafHash(key: Uint8Array, row: LeafFields, contentHash: Uint8Array): Uint8Array {
    return new LeafHasher(key).leaf(row, contentHash);
  }
}

/** What a path gains: rows, and the sum of their leaves modulo 2^32 in each lane. */
export interface PathDelta {
  readonly path: readonly string[];
  readonly count: number;
  /** 32 bytes. */
  readonly sum: Uint8Array;
}

interface LeafChange {
  readonly before: Uint8Array | undefined;
  readonly after: Uint8Array | undefined;
}

/** Changes of leaves, one per id, and what they add to the paths above. */
export class MerkleBatch {
  readonly #changes = new Map<string, LeafChange>();

  /** The id has this leaf from now on. @param before Its leaf until now, where it had one. */
  insert(id: string, leaf: Uint8Array, before?: Uint8Array): void {
    this.#note(id, leaf, before);
  }

  /** The id's row is gone. @param before Its leaf until now, where it had one. */
  delete(id: string, before?: Uint8Array): void {
    this.#note(id, undefined, before);
  }

  /** Ids in the batch. */
  get size(): number {
    return this.#changes.size;
  }

  /** Every path that changes, deepest first; the root is last. */
  affectedPrefixes(): string[][] {
    const keys = new Set<string>();
    for (const id of this.#changes.keys()) for (const key of keysAbove(id)) keys.add(key);
    return [...keys].map(segmentsOfKey).sort((a, b) => b.length - a.length);
  }

  /** What each path gains, deepest first. */
  deltas(): PathDelta[] {
    const sums = new Map<string, { sum: LaneSum; count: number }>();
    for (const [id, { before, after }] of this.#changes) {
      for (const key of keysAbove(id)) {
        const delta = sums.get(key) ?? { sum: new LaneSum(), count: 0 };
        sums.set(key, delta);
        if (after !== undefined) delta.sum.add(Buffer.from(after));
        if (before !== undefined) delta.sum.subtract(Buffer.from(before));
        delta.count += (after === undefined ? 0 : 1) - (before === undefined ? 0 : 1);
      }
    }
    return [...sums]
      .map(([key, { sum, count }]) => ({ path: segmentsOfKey(key), count, sum: sum.bytes() }))
      .sort((a, b) => b.path.length - a.path.length);
  }

  /** Of several changes of one id the first tells what was before, the last what is after. */
  #note(id: string, after: Uint8Array | undefined, before: Uint8Array | undefined): void {
    const earlier = this.#changes.get(id);
    this.#changes.set(id, { before: earlier === undefined ? before : earlier.before, after });
  }
}
