/**
 * The segments below one wide path, by bucket: packed as bytes, since a million strings would take several times
 * the room. Segments that come later are few and kept as they are.
 */
import { bucketOf } from './bucket-tree.js';

const BUCKETS = 1 << 18;

export class SegmentIndex {
  readonly #chunks: Buffer[] = [];
  readonly #buckets: number[] = [];
  #bytes = Buffer.alloc(0);
  /** Where each segment's bytes begin, in the order of `#sorted`; one more than there are. */
  #starts = new Uint32Array(1);
  /** First place of each bucket; one more than there are buckets. */
  #firsts = new Uint32Array(BUCKETS + 1);
  readonly #later = new Map<number, Set<string>>();
  #sealed = false;

  /** While it is being built: each segment once. Later: any that may be new. */
  add(segment: string): void {
    const bucket = bucketOf(segment);
    if (!this.#sealed) {
      this.#chunks.push(Buffer.from(segment));
      this.#buckets.push(bucket);
      return;
    }
    let segments = this.#later.get(bucket);
    if (segments === undefined) {
      segments = new Set();
      this.#later.set(bucket, segments);
    }
    segments.add(segment);
  }

  /** The build is over. */
  seal(): void {
    this.#sealed = true;
    const firsts = this.#firsts;
    for (const bucket of this.#buckets) firsts[bucket + 1] = (firsts[bucket + 1] as number) + 1;
    for (let bucket = 0; bucket < BUCKETS; bucket++)
      firsts[bucket + 1] = (firsts[bucket + 1] as number) + (firsts[bucket] as number);
    const next = firsts.slice(0, BUCKETS);
    const order = new Uint32Array(this.#buckets.length);
    this.#buckets.forEach((bucket, at) => {
      const place = next[bucket] as number;
      next[bucket] = place + 1;
      order[place] = at;
    });
    this.#starts = new Uint32Array(order.length + 1);
    const sorted: Buffer[] = [];
    let bytes = 0;
    order.forEach((at, place) => {
      const chunk = this.#chunks[at] as Buffer;
      sorted.push(chunk);
      bytes += chunk.length;
      this.#starts[place + 1] = bytes;
    });
    this.#bytes = Buffer.concat(sorted, bytes);
    this.#chunks.length = 0;
    this.#buckets.length = 0;
  }

  /** Segments of a bucket; some may be gone from the path by now. */
  of(bucket: number): string[] {
    const segments: string[] = [];
    for (let at = this.#firsts[bucket] as number; at < (this.#firsts[bucket + 1] as number); at++)
      segments.push(this.#bytes.toString('utf8', this.#starts[at], this.#starts[at + 1]));
    const known = new Set(segments);
    for (const segment of this.#later.get(bucket) ?? []) if (!known.has(segment)) segments.push(segment);
    return segments;
  }
}
