/**
 * Which writes Redis may not have yet: what the change log says between the position that Redis confirmed and the newest
 * one known here. A copy in Redis that is older than what stands here is not served.
 *
 * Invariant: of every position above `floor`, up to the newest known, all ids stand here. So a read that brings a
 * confirmed position of at least `floor` can be judged; any other cannot.
 */
import type { Revision } from '../item/revision.js';

/** Ids that stand here at most, some 10 MB. Beyond that nothing is known until Redis has caught up. */
const UNCONFIRMED_MAX = 50_000;
/** Ids of all positions together, where one that changes often counts each time; some 10 MB as well. */
const LISTED_MAX = 200_000;

export interface UnconfirmedChange {
  readonly id: string;
  readonly version: number;
  readonly origin: string;
  readonly deleted: boolean;
}

interface Newest extends UnconfirmedChange {
  position: number;
}

interface Position {
  /** `undefined`: what is known of it is not the whole. */
  chain: string | undefined;
  sinceMs: number;
  readonly ids: string[];
  /** Its writes are on their way to Redis, or arrived there and wait for an earlier position. */
  underWay: boolean;
}

/** A position that nobody confirmed in time, with the newest known of each of its ids. */
export interface Overdue {
  readonly position: number;
  readonly chain: string;
  readonly changes: readonly UnconfirmedChange[];
}

export class UnconfirmedChanges {
  #floor = 0;
  #newest = 0;
  readonly #ids = new Map<string, Newest>();
  readonly #positions = new Map<number, Position>();
  /** Ids of all positions. */
  #listed = 0;
  #resets = 0;

  /** Below it nothing is known. */
  get floor(): number {
    return this.#floor;
  }

  /** Ids that stand here. */
  get size(): number {
    return this.#ids.size;
  }

  /** How often it has begun anew: who adds in several turns learns by it that what he added is gone. */
  get resets(): number {
    return this.#resets;
  }

  /** Begins anew: everything up to and with `position` is confirmed. */
  reset(position: number): void {
    this.#resets++;
    this.#floor = position;
    this.#newest = Math.max(this.#newest, position);
    this.#ids.clear();
    this.#positions.clear();
    this.#listed = 0;
  }

  /** Everything above `position` stands here from now on: what lay between was added. */
  lowerFloor(position: number): void {
    this.#floor = position;
  }

  /**
   * False where it is too much: then nothing is known any more up to the newest position.
   * @param chain Of the position; `undefined` where the changes were committed at that position or an earlier one.
   * @param underWay `undefined`: as it was known.
   */
  add(
    position: number,
    chain: string | undefined,
    changes: Iterable<UnconfirmedChange>,
    nowMs: number,
    underWay: boolean | undefined,
  ): boolean {
    this.#newest = Math.max(this.#newest, position);
    let one = this.#positions.get(position);
    if (one === undefined) {
      one = { chain, sinceMs: nowMs, ids: [], underWay: underWay === true };
      this.#positions.set(position, one);
    } else {
      if (one.chain === undefined && chain !== undefined) {
        one.chain = chain;
        one.sinceMs = nowMs;
      }
      one.underWay = underWay ?? one.underWay;
    }
    for (const change of changes) {
      const known = this.#ids.get(change.id);
      // A position whose changes are told twice lists them once.
      if (known?.position !== position) {
        one.ids.push(change.id);
        this.#listed++;
      }
      if (known === undefined || isNewer(change, known)) {
        // Not the whole of it: a write has its content.
        const { id, version, origin, deleted } = change;
        const last = Math.max(position, known?.position ?? 0);
        this.#ids.set(id, { id, version, origin, deleted, position: last });
      } else known.position = Math.max(position, known.position);
    }
    if (this.#ids.size <= UNCONFIRMED_MAX && this.#listed <= LISTED_MAX) return true;
    this.reset(this.#newest);
    return false;
  }

  /** Redis has everything up to and with `position`. */
  confirmed(position: number): void {
    if (position <= this.#floor) return;
    this.#floor = position;
    for (const [at, { ids }] of this.#positions) {
      if (at > position) continue;
      this.#positions.delete(at);
      this.#listed -= ids.length;
      for (const id of ids) {
        const newest = this.#ids.get(id);
        if (newest !== undefined && newest.position <= position) this.#ids.delete(id);
      }
    }
  }

  /** Whether the writes of a position are on their way, or have arrived. */
  setUnderWay(position: number, underWay: boolean): void {
    const one = this.#positions.get(position);
    if (one !== undefined) one.underWay = underWay;
  }

  /** Whether something newer than `revision` was committed. */
  isOvertaken(revision: Revision): boolean {
    const known = this.#ids.get(revision.id);
    return known !== undefined && isNewer(known, revision);
  }

  /** Positions that stand here since before `sinceMs` and are not on their way; oldest first, about `countMax` ids. */
  overdue(sinceMs: number, countMax: number): Overdue[] {
    const found: Overdue[] = [];
    let count = 0;
    for (const position of [...this.#positions.keys()].sort((a, b) => a - b)) {
      const one = this.#positions.get(position) as Position;
      if (one.chain === undefined || one.underWay || one.sinceMs > sinceMs) continue;
      const changes = one.ids.map((id) => this.#ids.get(id)).filter((change) => change !== undefined);
      found.push({ position, chain: one.chain, changes });
      count += changes.length;
      if (count >= countMax) break;
    }
    return found;
  }
}

/** By version and origin: no engine stamps two writes alike. */
function isNewer(a: UnconfirmedChange, b: { readonly version: number; readonly origin: string }): boolean {
  return a.version === b.version ? a.origin > b.origin : a.version > b.version;
}
