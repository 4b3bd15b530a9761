/** One side of a comparison, with its round trips and what crosses the wire counted. */
import type { BucketAnswer, ChildPage, MerkleNode, MerkleSource } from '#engine/merkle/merkle-source.js';

const text = (segments: Iterable<string>): number =>
  [...segments].reduce((sum, segment) => sum + Buffer.byteLength(segment) + 2, 0);

export class Metered implements MerkleSource {
  trips = 0;
  bytes = 0;
  readonly #source: MerkleSource;

  constructor(source: MerkleSource) {
    this.#source = source;
  }

  get keyId(): string {
    return this.#source.keyId;
  }

  async nodes(paths: readonly (readonly string[])[]): Promise<(MerkleNode | undefined)[]> {
    this.#asked(paths.reduce((sum, path) => sum + text(path), 0));
    const nodes = await this.#source.nodes(paths);
    for (const node of nodes) if (node !== undefined) this.bytes += 25 + (node.own === undefined ? 0 : 16);
    return nodes;
  }

  async children(path: readonly string[], page?: ChildPage): Promise<ReadonlyMap<string, string>> {
    this.#asked(text(path));
    const children = await this.#source.children(path, page);
    this.bytes += text(children.keys()) + children.size * 16;
    return children;
  }

  async buckets(path: readonly string[], level: number, buckets: readonly number[]): Promise<BucketAnswer[]> {
    this.#asked(text(path) + buckets.length * 4);
    const answers = await this.#source.buckets(path, level, buckets);
    for (const answer of answers) {
      if ('hashes' in answer) this.bytes += answer.hashes.length;
      else this.bytes += text(answer.children.keys()) + answer.children.size * 16;
    }
    return answers;
  }

  #asked(bytes: number): void {
    this.trips++;
    this.bytes += bytes;
  }
}
