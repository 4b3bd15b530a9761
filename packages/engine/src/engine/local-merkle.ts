/**
 * This engine as one side of a comparison: digests of what SQL has committed.
 *
 * Buckets of a wide path are built when a comparison first asks for them and kept up from the change log. The
 * build reads page by page while others write; each page knows the position it speaks of, and a change is added
 * only where its page is older than it.
 */
import { compareIds } from '../item/id-order.js';
import { assertBucket, BucketTree, CHILD_LEVEL } from '../merkle/bucket-tree.js';
import { wireHash } from '../merkle/digest.js';
import type { BucketAnswer, ChildPage, MerkleNode, MerkleSource } from '../merkle/merkle-source.js';
import { keyOf, SEGMENTS_MAX } from '../merkle/path.js';
import { SegmentIndex } from '../merkle/segment-index.js';
import type { ChangeHead, PathDigest, RowChange } from '../storage/archive-store.js';
import type { GuardedArchive } from '../storage/guarded-archive.js';
import { Counters } from '../telemetry/counters.js';

const CHILDREN_DEFAULT = 1000;
const CHILDREN_MAX = 10_000;
const BUILD_PAGE = 2000;
const CHANGES_PAGE = 5000;
/** Wide paths whose buckets are kept at a time; each takes about 10 MB and its segments. */
const WIDE_PATHS_MAX = 4;

export class LocalMerkle implements MerkleSource {
  readonly #archive: () => GuardedArchive;
  readonly #keyId: () => string;
  readonly #counters: Counters;
  readonly #wide = new Map<string, Promise<WidePath>>();

  constructor(archive: () => GuardedArchive, keyId: () => string, counters = new Counters()) {
    this.#counters = counters;
    this.#archive = archive;
    this.#keyId = keyId;
  }

  get keyId(): string {
    return this.#keyId();
  }

  async nodes(paths: readonly (readonly string[])[]): Promise<(MerkleNode | undefined)[]> {
    this.#counters.merkleNodes++;
    const digests = await this.#archive().digests(paths);
    return digests.map((digest) => (digest === undefined ? undefined : nodeOf(digest)));
  }

  async children(path: readonly string[], page: ChildPage = {}): Promise<ReadonlyMap<string, string>> {
    this.#counters.merkleChildren++;
    const limit = Math.min(page.limit ?? CHILDREN_DEFAULT, CHILDREN_MAX);
    const { children } = await this.#archive().children(path, page.after, limit);
    return new Map(children.map((child) => [child.segment, hex(child)]));
  }

  async buckets(path: readonly string[], level: number, buckets: readonly number[]): Promise<BucketAnswer[]> {
    for (const bucket of buckets) assertBucket(level, bucket);
    this.#counters.merkleBuckets++;
    const wide = await this.#wideOf(path);
    if (level < CHILD_LEVEL)
      return buckets.map((bucket) => ({ hashes: wide.tree.answer(level as 0 | 1 | 2, bucket) }));
    const segments = buckets.map((bucket) => wide.segments.of(bucket));
    const digests = await this.#archive().digests(segments.flat().map((segment) => [...path, segment]));
    let at = 0;
    return segments.map((some) => {
      const children = new Map<string, string>();
      for (const segment of some) {
        const digest = digests[at++];
        if (digest !== undefined) children.set(segment, hex(digest));
      }
      return { children };
    });
  }

  async #wideOf(path: readonly string[]): Promise<WidePath> {
    const key = keyOf(path);
    let wide = this.#wide.get(key);
    if (wide === undefined) {
      wide = WidePath.build(path, this.#archive());
      wide.catch(() => this.#wide.delete(key));
    }
    // The youngest is last: the first is the one that leaves.
    this.#wide.delete(key);
    this.#wide.set(key, wide);
    const [oldest] = this.#wide.keys();
    if (this.#wide.size > WIDE_PATHS_MAX && oldest !== undefined) this.#wide.delete(oldest);
    const built = await wide;
    if (await built.catchUp(this.#archive())) return built;
    this.#wide.delete(key);
    return this.#wideOf(path);
  }
}

/** A page of the build: children up to `last` as of `position`. */
interface ReadPage {
  readonly last: string | undefined;
  readonly position: number;
}

class WidePath {
  readonly tree = new BucketTree();
  readonly segments = new SegmentIndex();
  readonly #prefix: string;
  readonly #depth: number;
  #head: ChangeHead;
  #pages: ReadPage[] = [];
  #catchingUp: Promise<boolean> | undefined;

  private constructor(path: readonly string[], head: ChangeHead) {
    this.#prefix = keyOf(path);
    this.#depth = path.length;
    this.#head = head;
  }

  static async build(path: readonly string[], archive: GuardedArchive): Promise<WidePath> {
    let wide: WidePath | undefined;
    let after: string | undefined;
    for (;;) {
      const { children, head } = await archive.children(path, after, BUILD_PAGE);
      wide ??= new WidePath(path, head);
      for (const { segment, sum, count } of children) {
        wide.tree.add(segment, sum, count);
        wide.segments.add(segment);
      }
      after = children.at(-1)?.segment;
      const more = children.length === BUILD_PAGE;
      wide.#pages.push({ last: more ? after : undefined, position: head.position });
      if (more) continue;
      wide.segments.seal();
      return wide;
    }
  }

  /** Adds what was committed since. False where the change log cannot say. */
  catchUp(archive: GuardedArchive): Promise<boolean> {
    this.#catchingUp ??= this.#catchUp(archive).finally(() => {
      this.#catchingUp = undefined;
    });
    return this.#catchingUp;
  }

  async #catchUp(archive: GuardedArchive): Promise<boolean> {
    for (;;) {
      const { batches, head, gap } = await archive.changesSince(this.#head, CHANGES_PAGE);
      if (gap !== 'none') return false;
      for (const { position, chain, changes } of batches) {
        for (const change of changes) this.#add(change, position);
        this.#head = { position, chain };
      }
      if (this.#head.position < head.position && batches.length > 0) continue;
      // Every page is older than what was added by now.
      this.#pages = [];
      return this.#head.position >= head.position;
    }
  }

  #add({ id, delta, countDelta }: RowChange, position: number): void {
    if (!id.startsWith(this.#prefix)) return;
    const rest = id.slice(this.#prefix.length);
    const dot = this.#depth >= SEGMENTS_MAX - 1 ? -1 : rest.indexOf('.');
    const segment = dot === -1 ? rest : rest.slice(0, dot);
    if (position <= this.#positionOf(segment)) return;
    this.tree.add(segment, delta, countDelta);
    this.segments.add(segment);
  }

  /** The position that the build read this segment at; 0 once all of it is caught up with. */
  #positionOf(segment: string): number {
    const page = this.#pages.find(({ last }) => last === undefined || compareIds(segment, last) <= 0);
    return page?.position ?? 0;
  }
}

function nodeOf(digest: PathDigest): MerkleNode {
  const { count, isLeaf, own, childCount } = digest;
  return {
    hash: hex(digest),
    count,
    isLeaf,
    ...(own === undefined ? undefined : { own: wireHash(own, 1).toString('hex') }),
    childCount,
  };
}

function hex({ sum, count }: PathDigest): string {
  return wireHash(sum, count).toString('hex');
}
