/**
 * What is remembered of evicted entries: a table of bounded size from the hash of an id to its history and
 * last use. One of four neighbours makes way for a new ghost. Two ids with the same 32 bits pass for one,
 * which costs a wrong guess at most.
 *
 * A cell is two words: the lower 24 bits of the hash with 8 bits of history, and the time of the last use.
 * The upper bits of the hash follow from the cell's place, as there are at least 256 sets and they are in the
 * order of the hash; so the table can grow and keep its ghosts.
 */
const WAYS = 4;
const SETS_MIN = 256;

/** No entry has this time: the clock starts above it, and skips it. */
const NONE = 0;

export class Ghosts {
  #sets = SETS_MIN;
  #words = new Uint32Array(SETS_MIN * WAYS * 2);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  get capacity(): number {
    return this.#sets * WAYS;
  }

  get overheadBytes(): number {
    return this.#words.byteLength;
  }

  /** Makes room for so many, in steps of half as much again. Forgets the few that share a full set then. */
  reserve(ghosts: number): void {
    if (ghosts <= this.#sets * WAYS) return;
    const sets = Math.ceil(Math.max(ghosts / WAYS, this.#sets * 1.5));
    const old = this.#words;
    const oldSets = this.#sets;
    this.#words = new Uint32Array(sets * WAYS * 2);
    this.#sets = sets;
    this.#count = 0;
    for (let cell = 0; cell < oldSets * WAYS; cell++) {
      const lastUse = old[cell * 2 + 1] as number;
      if (lastUse === NONE) continue;
      const word = old[cell * 2] as number;
      const hash = hashAt(Math.floor(cell / WAYS), oldSets, word >>> 8);
      this.putAt(this.placeOf(hash, cell), hash, word & 255, lastUse);
    }
  }

  /** Cell of the hash's ghost, -1 without one. */
  find(hash: number): number {
    const first = this.#firstCell(hash);
    const tag = hash & 0xff_ff_ff;
    for (let cell = first; cell < first + WAYS; cell++) {
      const word = this.#words[cell * 2] as number;
      if (word >>> 8 === tag && this.#words[cell * 2 + 1] !== NONE) return cell;
    }
    return -1;
  }

  history(cell: number): number {
    return (this.#words[cell * 2] as number) & 255;
  }

  /** 0 where the cell is empty. */
  lastUse(cell: number): number {
    return this.#words[cell * 2 + 1] as number;
  }

  remove(cell: number): void {
    this.#words[cell * 2 + 1] = NONE;
    this.#count--;
  }

  /**
   * The cell that a ghost of this hash goes to; one that is taken has to give way. Of four that are taken
   * `draw` chooses: were it always the oldest, nothing would be learnt of how long the long gaps are.
   */
  placeOf(hash: number, draw: number): number {
    const first = this.#firstCell(hash);
    for (let cell = first; cell < first + WAYS; cell++) {
      if (this.#words[cell * 2 + 1] === NONE) return cell;
    }
    return first + (draw & (WAYS - 1));
  }

  putAt(cell: number, hash: number, history: number, lastUse: number): void {
    if (this.#words[cell * 2 + 1] === NONE) this.#count++;
    this.#words[cell * 2] = (hash << 8) | history;
    this.#words[cell * 2 + 1] = lastUse;
  }

  #firstCell(hash: number): number {
    return Math.floor(((hash >>> 0) * this.#sets) / 2 ** 32) * WAYS;
  }
}

/** The one hash with these lower 24 bits that falls into the set: a set spans at most 2^24 hashes. */
function hashAt(set: number, sets: number, low: number): number {
  const first = Math.ceil((set * 2 ** 32) / sets);
  const hash = Math.floor(first / 2 ** 24) * 2 ** 24 + low;
  return (hash < first ? hash + 2 ** 24 : hash) >>> 0;
}
