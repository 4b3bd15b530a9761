/**
 * Which leaves a snapshot has and where each of their pages lies: rows of doubles in one array, so that a
 * footer with hundred thousands of them is read and written in one copy.
 *
 *   row = root · depth · prefix · count · offset of each page · CRC-32 of each page
 */
import { type CuckooLeaf, PAGES } from './cuckoo-leaf.js';

const ROOT = 0;
const DEPTH = 1;
const PREFIX = 2;
const COUNT = 3;
const OFFSETS = 4;
const CHECKSUMS = OFFSETS + PAGES;
const FIELDS = CHECKSUMS + PAGES;
export const ROW_BYTES = FIELDS * 8;

export class LeafTable {
  #fields: Float64Array;
  #length: number;

  /** `bytes`: those of another table. They are copied. */
  constructor(bytes: Uint8Array = new Uint8Array(0)) {
    this.#length = bytes.length / ROW_BYTES;
    this.#fields = new Float64Array(this.#length * FIELDS);
    this.bytes.set(bytes);
  }

  get length(): number {
    return this.#length;
  }

  /** A view, until the next leaf is added. */
  get bytes(): Uint8Array {
    return new Uint8Array(this.#fields.buffer, 0, this.#length * ROW_BYTES);
  }

  /** All entries of all leaves. */
  get count(): number {
    let count = 0;
    for (let leaf = 0; leaf < this.#length; leaf++) count += this.countOf(leaf);
    return count;
  }

  rootOf(leaf: number): number {
    return this.#fields[leaf * FIELDS + ROOT] as number;
  }

  depthOf(leaf: number): number {
    return this.#fields[leaf * FIELDS + DEPTH] as number;
  }

  prefixOf(leaf: number): number {
    return this.#fields[leaf * FIELDS + PREFIX] as number;
  }

  countOf(leaf: number): number {
    return this.#fields[leaf * FIELDS + COUNT] as number;
  }

  offsetOf(leaf: number, page: number): number {
    return this.#fields[leaf * FIELDS + OFFSETS + page] as number;
  }

  checksumOf(leaf: number, page: number): number {
    return this.#fields[leaf * FIELDS + CHECKSUMS + page] as number;
  }

  /** Puts the leaf into this row, which may be the one behind the last. */
  setLeaf(place: number, leaf: CuckooLeaf): void {
    if (place === this.#length) this.#grow();
    this.#fields.set([leaf.root, leaf.depth, leaf.prefix, leaf.count], place * FIELDS);
  }

  setPage(leaf: number, page: number, offset: number, checksum: number): void {
    this.#fields[leaf * FIELDS + OFFSETS + page] = offset;
    this.#fields[leaf * FIELDS + CHECKSUMS + page] = checksum;
  }

  #grow(): void {
    this.#length++;
    if (this.#length * FIELDS <= this.#fields.length) return;
    const larger = new Float64Array(this.#length * FIELDS * 2);
    larger.set(this.#fields);
    this.#fields = larger;
  }
}
