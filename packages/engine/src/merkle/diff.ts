/**
 * Comparison of two Merkle trees: finds the ids whose rows differ, asking each side only along the paths whose
 * hashes differ.
 *
 *   level n      one call of nodes() a side for all its paths
 *                  equal hashes → done; own leaves differ → the id
 *   expand       both sides to 64 children   children(), compared segment by segment
 *                one side wider              buckets(), level 0 → 1 → 2 → 3, only those that differ
 *                on one side only            children() of that side, page by page
 *   level n + 1  the children that differ
 *
 * Each side may change while it is compared: an id that changed meanwhile is reported or not, and ids that did
 * not change are reported exactly. What is held is bounded: a level of more than 4,096 paths is worked off in
 * parts, each down to its ids before the next one is fetched. At most 8 calls are under way, both sides
 * together.
 */
import { SyncEngineError } from '../base/errors.js';
import { CHILD_LEVEL, FANOUT } from './bucket-tree.js';
import { WIRE_BYTES } from './digest.js';
import type { BucketAnswer, MerkleDiff, MerkleNode, MerkleSource } from './merkle-source.js';
import { idOf, pathOf } from './path.js';

const NARROW_CHILDREN_MAX = 64;
const PATHS_PER_CALL = 4096;
/** An answer of 1 MiB, where all of their hashes are asked for. */
const BUCKETS_PER_CALL = 1024;
const CHILDREN_PER_PAGE = 1000;
const CALLS_MAX = 8;
/** Each of them calls both sides. */
const PATHS_AT_ONCE = CALLS_MAX / 2;

type Side = 'local' | 'remote' | 'both';

/** An id that differs, or a path that does with the sides that have it. */
interface Place {
  readonly path: readonly string[];
  readonly side: Side;
}

/**
 * Every id at and below `from` whose row is on one side only, or differs (`both`). In no particular order, each
 * id once; nothing is asked before the first is taken.
 * @throws SyncEngineError `CONFIG` when the keys of the sides differ or no id can have the path; what a side throws.
 */
export async function* drillDown(
  local: MerkleSource,
  remote: MerkleSource,
  from: readonly string[] = [],
): AsyncIterable<{ id: string; side: Side }> {
  for await (const { path, side } of differences(local, remote, from)) {
    yield { id: path.join('.'), side };
  }
}

/**
 * The differing ids by their parents, each once: segments joined with dots, the root `''`. An id that is `from`
 * itself counts as below it. The path of an empty first segment reads like the root here; `drillDown` tells
 * their ids apart. Holds all it finds; `drillDown` does not.
 */
export async function findDivergentPaths(
  local: MerkleSource,
  remote: MerkleSource,
  from: readonly string[] = [],
): Promise<MerkleDiff> {
  const parents = new Set<string>();
  const localOnly: string[] = [];
  const remoteOnly: string[] = [];
  for await (const { path, side } of differences(local, remote, from)) {
    parents.add(path.slice(0, Math.max(path.length - 1, from.length)).join('.'));
    if (side === 'local') localOnly.push(path.join('.'));
    if (side === 'remote') remoteOnly.push(path.join('.'));
  }
  return { divergentPaths: [...parents], localOnly, remoteOnly };
}

async function* differences(
  local: MerkleSource,
  remote: MerkleSource,
  from: readonly string[],
): AsyncGenerator<Place> {
  if (local.keyId !== remote.keyId) {
    throw new SyncEngineError(
      'CONFIG',
      `The sides make their digests with different keys (${local.keyId} here, ${remote.keyId} there), so nothing could compare equal. Give both the same clusterKey.`,
      { context: { operation: 'merkle diff' } },
    );
  }
  yield* new Comparison(local, remote).below([{ path: pathOf(from), side: 'both' }]);
}

class Comparison {
  readonly #gate = new Gate(CALLS_MAX);
  readonly #local: MerkleSource;
  readonly #remote: MerkleSource;

  constructor(local: MerkleSource, remote: MerkleSource) {
    this.#local = local;
    this.#remote = remote;
  }

  /** Ids that differ at and below the places: one part of a level, at most `PATHS_PER_CALL` of them. */
  async *below(places: readonly Place[]): AsyncGenerator<Place> {
    const [locals, remotes] = await Promise.all([
      this.#nodes(this.#local, places, 'remote'),
      this.#nodes(this.#remote, places, 'local'),
    ]);
    const expansions: (() => AsyncGenerator<Place[]>)[] = [];
    for (const [at, { path }] of places.entries()) {
      const here = locals[at];
      const there = remotes[at];
      if (here?.hash === there?.hash) continue;
      const own = sideOfOwn(here, there);
      if (own !== undefined && idOf(path) !== undefined) yield { path, side: own };
      if (here?.childCount || there?.childCount) expansions.push(() => this.#expand(path, here, there));
    }
    let next: Place[] = [];
    for await (const children of inOrder(expansions, PATHS_AT_ONCE)) {
      for (const child of children) {
        next.push(child);
        if (next.length < PATHS_PER_CALL) continue;
        yield* this.below(next);
        next = [];
      }
    }
    if (next.length > 0) yield* this.below(next);
  }

  /** Nodes of one side, in the order of the places; those that are the other side's alone are not asked for. */
  async #nodes(
    source: MerkleSource,
    places: readonly Place[],
    other: Side,
  ): Promise<(MerkleNode | undefined)[]> {
    const asked = places.filter(({ side }) => side !== other);
    if (asked.length === 0) return [];
    const nodes = await this.#gate.run(() => source.nodes(asked.map(({ path }) => path)));
    assertAnswers('nodes', nodes.length, asked.length);
    let at = 0;
    return places.map(({ side }) => (side === other ? undefined : nodes[at++]));
  }

  /** Children that differ, in parts. */
  async *#expand(
    path: readonly string[],
    here: MerkleNode | undefined,
    there: MerkleNode | undefined,
  ): AsyncGenerator<Place[]> {
    const hereCount = here?.childCount ?? 0;
    const thereCount = there?.childCount ?? 0;
    if (thereCount === 0) yield* this.#oneSided(this.#local, path, hereCount, 'local');
    else if (hereCount === 0) yield* this.#oneSided(this.#remote, path, thereCount, 'remote');
    else if (Math.max(hereCount, thereCount) <= NARROW_CHILDREN_MAX) {
      const [locals, remotes] = await Promise.all([
        this.#allChildren(this.#local, path, hereCount),
        this.#allChildren(this.#remote, path, thereCount),
      ]);
      yield differing(path, locals, remotes);
    } else yield* this.#byBuckets(path, 0, [0]);
  }

  async *#oneSided(
    source: MerkleSource,
    path: readonly string[],
    count: number,
    side: Side,
  ): AsyncGenerator<Place[]> {
    for await (const page of this.#pages(source, path, count)) {
      yield [...page.keys()].map((segment) => ({ path: [...path, segment], side }));
    }
  }

  async #allChildren(
    source: MerkleSource,
    path: readonly string[],
    count: number,
  ): Promise<ReadonlyMap<string, string>> {
    const children = new Map<string, string>();
    for await (const page of this.#pages(source, path, count)) {
      for (const [segment, hash] of page) children.set(segment, hash);
    }
    return children;
  }

  /** A page may be shorter than asked for: it is the last one when it is empty or all children were seen. */
  async *#pages(
    source: MerkleSource,
    path: readonly string[],
    count: number,
  ): AsyncGenerator<ReadonlyMap<string, string>> {
    const limit = CHILDREN_PER_PAGE;
    let after: string | undefined;
    for (let seen = 0; ; ) {
      // The empty segment is a cursor like any other.
      const page = await this.#gate.run(() =>
        source.children(path, after === undefined ? { limit } : { after, limit }),
      );
      if (page.size === 0) return;
      const last = [...page.keys()].at(-1) as string;
      if (after !== undefined && !isAfter(last, after)) {
        throw badAnswer('a page of children does not lie behind the one before it');
      }
      yield page;
      seen += page.size;
      if (page.size < limit && seen >= count) return;
      after = last;
    }
  }

  async *#byBuckets(
    path: readonly string[],
    level: number,
    buckets: readonly number[],
  ): AsyncGenerator<Place[]> {
    for (let from = 0; from < buckets.length; from += BUCKETS_PER_CALL) {
      const asked = buckets.slice(from, from + BUCKETS_PER_CALL);
      const [locals, remotes] = await Promise.all([
        this.#buckets(this.#local, path, level, asked),
        this.#buckets(this.#remote, path, level, asked),
      ]);
      if (level === CHILD_LEVEL) {
        yield asked.flatMap((_, at) => differing(path, childrenIn(locals[at]), childrenIn(remotes[at])));
      } else {
        const inner = asked.flatMap((bucket, at) => differingInner(bucket, locals[at], remotes[at]));
        yield* this.#byBuckets(path, level + 1, inner);
      }
    }
  }

  async #buckets(
    source: MerkleSource,
    path: readonly string[],
    level: number,
    buckets: readonly number[],
  ): Promise<BucketAnswer[]> {
    const answers = await this.#gate.run(() => source.buckets(path, level, buckets));
    assertAnswers('buckets', answers.length, buckets.length);
    return answers;
  }
}

/** Side of the row that has exactly the path of two differing nodes as its id; `undefined` where none differs. */
function sideOfOwn(here: MerkleNode | undefined, there: MerkleNode | undefined): Side | undefined {
  if (!here?.isLeaf) return there?.isLeaf ? 'remote' : undefined;
  if (!there?.isLeaf) return 'local';
  // Without both hashes the rows below could be all that differs: rather one row too many than one missed.
  return here.own === undefined || here.own !== there.own ? 'both' : undefined;
}

function differing(
  path: readonly string[],
  locals: ReadonlyMap<string, string>,
  remotes: ReadonlyMap<string, string>,
): Place[] {
  const places: Place[] = [];
  for (const [segment, hash] of locals) {
    const other = remotes.get(segment);
    if (other !== hash)
      places.push({ path: [...path, segment], side: other === undefined ? 'local' : 'both' });
  }
  for (const segment of remotes.keys()) {
    if (!locals.has(segment)) places.push({ path: [...path, segment], side: 'remote' });
  }
  return places;
}

function differingInner(
  bucket: number,
  here: BucketAnswer | undefined,
  there: BucketAnswer | undefined,
): number[] {
  const locals = hashesIn(here);
  const remotes = hashesIn(there);
  const inner: number[] = [];
  for (let at = 0; at < FANOUT; at++) {
    const from = at * WIRE_BYTES;
    const to = from + WIRE_BYTES;
    if (Buffer.compare(locals.subarray(from, to), remotes.subarray(from, to)) !== 0)
      inner.push(bucket * FANOUT + at);
  }
  return inner;
}

function hashesIn(answer: BucketAnswer | undefined): Uint8Array {
  if (answer !== undefined && 'hashes' in answer && answer.hashes.length === FANOUT * WIRE_BYTES)
    return answer.hashes;
  throw badAnswer(`a bucket above level ${CHILD_LEVEL} has no ${FANOUT} hashes`);
}

function childrenIn(answer: BucketAnswer | undefined): ReadonlyMap<string, string> {
  if (answer !== undefined && 'children' in answer) return answer.children;
  throw badAnswer(`a bucket of level ${CHILD_LEVEL} has no children`);
}

function isAfter(segment: string, other: string): boolean {
  return Buffer.compare(Buffer.from(segment), Buffer.from(other)) > 0;
}

function assertAnswers(call: string, got: number, asked: number): void {
  if (got !== asked) throw badAnswer(`${call}() gave ${got} answers to ${asked} questions`);
}

function badAnswer(what: string): SyncEngineError {
  return new SyncEngineError(
    'CONFIG',
    `A side of the comparison does not answer as a Merkle tree of this version does: ${what}. Run one version on both sides.`,
    { context: { operation: 'merkle diff' } },
  );
}

/**
 * What the streams give, one stream after the other, while the first value of the next few is already being
 * fetched. When the reader stops or one of them fails, the ones begun are ended before this ends.
 */
async function* inOrder<T>(streams: readonly (() => AsyncGenerator<T>)[], width: number): AsyncGenerator<T> {
  const begun: { readonly stream: AsyncGenerator<T>; readonly first: Promise<IteratorResult<T>> }[] = [];
  let at = 0;
  const begin = (): void => {
    for (; begun.length < width && at < streams.length; at++) {
      const stream = (streams[at] as () => AsyncGenerator<T>)();
      const first = stream.next();
      first.catch(() => {}); // It is awaited in its turn, or not at all after a failure.
      begun.push({ stream, first });
    }
  };
  try {
    for (begin(); begun[0] !== undefined; begin()) {
      const { stream, first } = begun[0];
      for (let result = await first; !result.done; result = await stream.next()) yield result.value;
      begun.shift();
    }
  } finally {
    await Promise.allSettled(begun.map(({ stream }) => stream.return(undefined)));
  }
}

/** Lets a number of calls through at a time; the others wait in line. */
class Gate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(width: number) {
    this.#free = width;
  }

  async run<T>(call: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await call();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}
