/**
 * A seeded 64-bit hash of an id: HalfSipHash-1-3 over its UTF-16 units, two to a block, the length in the
 * last block. Nothing is folded, so ids that differ in one unit are different inputs. Without the seed nobody
 * can choose ids that meet in one bucket.
 *
 * Nothing is allocated: the result lies in `low` and `high` until the next call.
 *
 * The seed's four words are the four state words, where the original spreads two.
 * https://www.aumasson.jp/siphash/siphash.pdf, https://github.com/veorq/SipHash (halfsiphash.c)
 */
export const SEED_BYTES = 16;

export class IdHash {
  /** Signed 32-bit words of the last hash. */
  low = 0;
  high = 0;
  readonly #seed0: number;
  readonly #seed1: number;
  readonly #seed2: number;
  readonly #seed3: number;

  /** @throws RangeError for a seed of another length than 16 bytes. */
  constructor(seed: Uint8Array) {
    if (seed.length !== SEED_BYTES)
      throw new RangeError(`A seed has ${SEED_BYTES} bytes, got ${seed.length}.`);
    const view = new DataView(seed.buffer, seed.byteOffset, SEED_BYTES);
    this.#seed0 = view.getInt32(0, true);
    this.#seed1 = view.getInt32(4, true) ^ 0xee;
    this.#seed2 = view.getInt32(8, true) ^ 0x6c796765;
    this.#seed3 = view.getInt32(12, true) ^ 0x74656462;
  }

  update(id: string): void {
    let v0 = this.#seed0;
    let v1 = this.#seed1;
    let v2 = this.#seed2;
    let v3 = this.#seed3;
    const length = id.length;
    const pairs = length & ~1;
    // The round stands here twice: one loop with the ends inside it takes twice the time.
    for (let at = 0; at < pairs; at += 2) {
      const block = id.charCodeAt(at) | (id.charCodeAt(at + 1) << 16);
      v3 ^= block;
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
      v0 ^= block;
    }
    let block = (pairs < length ? id.charCodeAt(pairs) : 0) | (length << 16);
    // The last block, then three rounds to finish.
    for (let round = 0; round < 4; round++) {
      v3 ^= block;
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
      v0 ^= block;
      if (round === 0) v2 ^= 0xee;
      block = 0;
    }
    this.low = v1 ^ v3;
    this.high = v0 ^ v2;
  }
}
