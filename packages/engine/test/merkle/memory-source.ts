/**
 * Merkle sources for tests, and what they cost. `MemorySource` is the definition of every answer: it looks at all
 * rows for each. `WideSource` is one path with up to a million children, on a `BucketTree`.
 */
import { BucketTree, bucketOf } from '#engine/merkle/bucket-tree.js';
import { LaneSum, wireHash } from '#engine/merkle/digest.js';
import type { BucketAnswer, ChildPage, MerkleNode, MerkleSource } from '#engine/merkle/merkle-source.js';
import { split } from '#engine/merkle/path.js';

const HASH_BYTES = 16;
const NUMBER_BYTES = 4;
const FANOUT = 64;

function segmentBytes(segment: string): number {
  return Buffer.byteLength(segment) + 2;
}

function pathBytes(path: readonly string[]): number {
  return path.reduce((sum, segment) => sum + segmentBytes(segment), NUMBER_BYTES);
}

function nodeBytes(node: MerkleNode | undefined): number {
  if (node === undefined) return NUMBER_BYTES;
  // Hash, count, child count, whether it is a leaf, and the hash of that one.
  return HASH_BYTES + 3 * NUMBER_BYTES + (node.own === undefined ? 0 : HASH_BYTES);
}

function childrenBytes(children: ReadonlyMap<string, string>): number {
  return [...children.keys()].reduce(
    (sum, segment) => sum + segmentBytes(segment) + HASH_BYTES,
    NUMBER_BYTES,
  );
}

function answerBytes(answer: BucketAnswer): number {
  return 'hashes' in answer ? answer.hashes.length : childrenBytes(answer.children);
}

/** Calls and bytes of one side, or of both where they share it; bytes in both directions. */
export class Meter {
  calls = 0;
  bytes = 0;
  underWay = 0;
  peak = 0;
  /** Sizes of the batches asked for, by call. */
  readonly batches: { readonly call: string; readonly size: number }[] = [];

  async count<T>(
    call: string,
    asked: { readonly size: number; readonly bytes: number; readonly turns?: number },
    answer: () => T,
    bytesOf: (answer: T) => number,
  ): Promise<T> {
    this.calls++;
    this.batches.push({ call, size: asked.size });
    this.underWay++;
    this.peak = Math.max(this.peak, this.underWay);
    // As long as the far side takes: calls overlap.
    for (let turn = 0; turn < (asked.turns ?? 1); turn++) await new Promise(setImmediate);
    this.underWay--;
    const answered = answer();
    this.bytes += asked.bytes + bytesOf(answered);
    return answered;
  }
}

interface SourceOptions {
  readonly keyId?: string;
  readonly meter?: Meter;
  /** Children in a page whatever the limit asked for. */
  readonly pageMax?: number;
  /** Leaves out `own`. */
  readonly withoutOwn?: boolean;
}

interface Group {
  readonly sum: LaneSum;
  count: number;
}

function addTo(group: Group | undefined, leaf: Buffer): Group {
  const sum = group ?? { sum: new LaneSum(), count: 0 };
  sum.sum.add(leaf);
  sum.count++;
  return sum;
}

function hexOf({ sum, count }: Group): string {
  return wireHash(sum.bytes(), count).toString('hex');
}

abstract class MeteredSource implements MerkleSource {
  readonly keyId: string;
  meter: Meter;

  constructor({ keyId = 'key', meter = new Meter() }: SourceOptions) {
    this.keyId = keyId;
    this.meter = meter;
  }

  nodes(paths: readonly (readonly string[])[]): Promise<(MerkleNode | undefined)[]> {
    const bytes = paths.reduce((sum, path) => sum + pathBytes(path), 0);
    return this.meter.count(
      'nodes',
      { size: paths.length, bytes },
      () => paths.map((path) => this.nodeAt(path)),
      (nodes) => nodes.reduce((sum, node) => sum + nodeBytes(node), 0),
    );
  }

  children(path: readonly string[], page: ChildPage = {}): Promise<ReadonlyMap<string, string>> {
    const bytes = pathBytes(path) + NUMBER_BYTES + (page.after === undefined ? 0 : segmentBytes(page.after));
    return this.meter.count('children', { size: 1, bytes }, () => this.childrenAt(path, page), childrenBytes);
  }

  buckets(path: readonly string[], level: number, buckets: readonly number[]): Promise<BucketAnswer[]> {
    const bytes = pathBytes(path) + NUMBER_BYTES * (1 + buckets.length);
    return this.meter.count(
      `buckets ${level}`,
      { size: buckets.length, bytes },
      () => buckets.map((bucket) => this.bucketAt(path, level, bucket)),
      (answers) => answers.reduce((sum, answer) => sum + answerBytes(answer), 0),
    );
  }

  protected abstract nodeAt(path: readonly string[]): MerkleNode | undefined;
  protected abstract childrenAt(path: readonly string[], page: ChildPage): ReadonlyMap<string, string>;
  protected abstract bucketAt(path: readonly string[], level: number, bucket: number): BucketAnswer;
}

export class MemorySource extends MeteredSource {
  readonly #rows: readonly { readonly segments: readonly string[]; readonly leaf: Buffer }[];
  readonly #options: SourceOptions;

  /** @param rows id → leaf of 32 bytes. */
  constructor(rows: ReadonlyMap<string, Buffer>, options: SourceOptions = {}) {
    super(options);
    this.#rows = [...rows].map(([id, leaf]) => ({ segments: split(id), leaf }));
    this.#options = options;
  }

  protected override nodeAt(path: readonly string[]): MerkleNode | undefined {
    let all: Group | undefined;
    let own: Buffer | undefined;
    for (const { segments, leaf } of this.#below(path)) {
      all = addTo(all, leaf);
      if (segments.length === path.length) own = leaf;
    }
    if (all === undefined) return undefined;
    return {
      hash: hexOf(all),
      count: all.count,
      isLeaf: own !== undefined,
      childCount: this.#groups(path).size,
      ...(own === undefined || this.#options.withoutOwn ? {} : { own: hexOf(addTo(undefined, own)) }),
    };
  }

  protected override childrenAt(path: readonly string[], page: ChildPage): ReadonlyMap<string, string> {
    const { after, limit = 1000 } = page;
    const order = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));
    const segments = [...this.#groups(path)]
      .filter(([segment]) => after === undefined || order(segment, after) > 0)
      .sort(([a], [b]) => order(a, b))
      .slice(0, Math.min(limit, this.#options.pageMax ?? limit));
    return new Map(segments.map(([segment, group]) => [segment, hexOf(group)]));
  }

  protected override bucketAt(path: readonly string[], level: number, bucket: number): BucketAnswer {
    const groups = [...this.#groups(path)];
    if (level === 3) {
      const inside = groups.filter(([segment]) => bucketOf(segment) === bucket);
      return { children: new Map(inside.map(([segment, group]) => [segment, hexOf(group)])) };
    }
    const hashes = new Uint8Array(FANOUT * HASH_BYTES);
    const inner = new Map<number, Group>();
    for (const [segment, { sum, count }] of groups) {
      const at = Math.floor(bucketOf(segment) / FANOUT ** (2 - level)) - bucket * FANOUT;
      if (at < 0 || at >= FANOUT) continue;
      const group = inner.get(at) ?? { sum: new LaneSum(), count: 0 };
      group.sum.addSum(sum);
      group.count += count;
      inner.set(at, group);
    }
    for (const [at, { sum, count }] of inner) hashes.set(wireHash(sum.bytes(), count), at * HASH_BYTES);
    return { hashes };
  }

  #below(path: readonly string[]): { readonly segments: readonly string[]; readonly leaf: Buffer }[] {
    return this.#rows.filter(({ segments }) => path.every((segment, at) => segments[at] === segment));
  }

  #groups(path: readonly string[]): Map<string, Group> {
    const groups = new Map<string, Group>();
    for (const { segments, leaf } of this.#below(path)) {
      const segment = segments[path.length];
      if (segment !== undefined) groups.set(segment, addTo(groups.get(segment), leaf));
    }
    return groups;
  }
}

/** `wide.0`, `wide.1`, …: leaves only. Answers for that path and its children from a bucket tree. */
export class WideSource extends MeteredSource {
  readonly #tree = new BucketTree();
  readonly #all = new LaneSum();
  readonly #leaves: Buffer;
  readonly #buckets: Uint32Array;
  readonly #size: number;

  /** @param leaves 32 bytes a child, in their order. */
  constructor(leaves: Buffer, options: SourceOptions = {}) {
    super(options);
    this.#leaves = Buffer.from(leaves);
    this.#size = leaves.length / 32;
    this.#buckets = new Uint32Array(this.#size);
    for (let child = 0; child < this.#size; child++) {
      const leaf = this.#leaf(child);
      this.#buckets[child] = bucketOf(String(child));
      this.#tree.add(String(child), leaf, 1);
      this.#all.add(leaf);
    }
  }

  /** Writes another row, as a tree is kept up: by the difference. */
  change(child: number, leaf: Buffer): void {
    const delta = LaneSum.of(leaf);
    delta.subtract(this.#leaf(child));
    this.#all.addSum(delta);
    this.#tree.add(String(child), delta.bytes(), 0);
    this.#leaves.set(leaf, child * 32);
  }

  protected override nodeAt(path: readonly string[]): MerkleNode | undefined {
    if (path.length < 2) {
      const hash = wireHash(this.#all.bytes(), this.#size).toString('hex');
      const childCount = path.length === 0 ? 1 : this.#size;
      return { hash, count: this.#size, isLeaf: false, childCount };
    }
    const child = Number(path[1]);
    if (child >= this.#size) return undefined;
    const hash = this.#hash(child);
    return { hash, count: 1, isLeaf: true, childCount: 0, own: hash };
  }

  protected override childrenAt(path: readonly string[]): ReadonlyMap<string, string> {
    if (path.length > 0) throw new Error('A wide path is not listed.');
    return new Map([['wide', wireHash(this.#all.bytes(), this.#size).toString('hex')]]);
  }

  protected override bucketAt(_path: readonly string[], level: number, bucket: number): BucketAnswer {
    if (level < 3) return { hashes: this.#tree.answer(level as 0 | 1 | 2, bucket) };
    const children = new Map<string, string>();
    for (let child = 0; child < this.#size; child++) {
      if (this.#buckets[child] === bucket) children.set(String(child), this.#hash(child));
    }
    return { children };
  }

  #leaf(child: number): Buffer {
    return this.#leaves.subarray(child * 32, child * 32 + 32);
  }

  #hash(child: number): string {
    return wireHash(this.#leaf(child), 1).toString('hex');
  }
}
