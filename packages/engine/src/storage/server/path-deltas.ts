/**
 * What one transaction adds to the digests of paths, and how it gets there.
 *
 * Rows of paths are locked in byte order of their keys, then the row of the root. Rows that are missing are made, and
 * those that count nothing any more removed, only with the root locked. Only then is it asked which ids and paths share
 * a segment: whoever makes or removes the other one of such a pair has to lock the same parent, so by then his
 * transaction has ended, and is seen.
 */
import { LaneSum } from '../../merkle/digest.js';
import { cutKey, keysAbove } from '../../merkle/path.js';
import type { Row, SqlSession } from './sql-driver.js';
import { asText, columnsOf, ITEMS, PATHS, type PathFigures } from './tables.js';

interface Delta {
  readonly sum: LaneSum;
  count: number;
  leaves: number;
}

interface PathState {
  readonly before: boolean;
  readonly figures: PathFigures;
}

const NO_SUM = Buffer.alloc(32);

export class PathDeltas {
  readonly #deltas = new Map<string, Delta>();
  /** Ids that got a row, or lost it. */
  readonly #born = new Set<string>();
  readonly #died = new Set<string>();
  readonly #paths = new Map<string, PathState>();

  /** A row changed. @param count 1 for a new row, −1 for one that is gone, 0 else. */
  note(id: string, sum: LaneSum, count: number): void {
    const keys = keysAbove(id);
    let delta: Delta | undefined;
    for (const key of keys) {
      delta = this.#deltas.get(key);
      if (delta === undefined) {
        delta = { sum: new LaneSum(), count: 0, leaves: 0 };
        this.#deltas.set(key, delta);
      }
      delta.sum.addSum(sum);
      delta.count += count;
    }
    if (delta !== undefined) delta.leaves += count;
    if (count > 0) this.#born.add(id);
    if (count < 0) this.#died.add(id);
  }

  /** Locks the rows of all paths that are there, but the root's. */
  async lock(session: SqlSession): Promise<void> {
    const keys = [...this.#deltas.keys()].filter((key) => key !== '');
    if (keys.length === 0) return;
    const rows = await session.among(
      `SELECT ${columnsOf(PATHS)} FROM ${PATHS.name}`,
      'path',
      sortedBytes(keys),
      'ORDER BY path FOR UPDATE',
    );
    for (const row of rows) this.#paths.set(asText(row[0]), { before: true, figures: figuresOf(row) });
    for (const key of keys) {
      if (!this.#paths.has(key)) this.#paths.set(key, { before: false, figures: noFigures() });
    }
  }

  /** Writes what was noted. @param root The root's figures, whose row is locked; they are changed. */
  async write(session: SqlSession, root: PathFigures): Promise<void> {
    for (const [key, delta] of this.#deltas) add(this.#figures(key, root), delta);
    await this.#countChildren(session, root);
    const made: Row[] = [];
    const kept: Row[] = [];
    const gone: Buffer[] = [];
    for (const key of sortedBytes([...this.#paths.keys()])) {
      const { before, figures } = this.#paths.get(key.toString()) as PathState;
      if (figures.count > 0) (before ? kept : made).push(pathRow(key.toString(), figures));
      else if (before) gone.push(key);
    }
    if (made.length > 0) session.insert(PATHS, made);
    if (kept.length > 0) session.replace(PATHS, kept);
    if (gone.length > 0) session.remove(PATHS, gone);
  }

  /** Paths that appear or go, and segments that become, or stop being, both an id and a path. */
  async #countChildren(session: SqlSession, root: PathFigures): Promise<void> {
    const segments = new Set<string>([...this.#born, ...this.#died]);
    for (const [key, { before, figures }] of this.#paths) {
      const after = figures.count > 0;
      if (before === after) continue;
      this.#figures(cutKey(key).parent, root).subtrees += after ? 1 : -1;
      segments.add(key.slice(0, -1));
    }
    if (segments.size === 0) return;
    const others = [...segments].filter((id) => !this.#born.has(id) && !this.#died.has(id));
    const itemsFound = this.#present(session, ITEMS.name, 'id', others);
    const unknown: string[] = [];
    for (const id of segments) {
      const key = `${id}.`;
      if (this.#paths.has(key)) continue;
      // Where no path lies directly below the parent, this segment is none; nor is it beyond 64 segments.
      const { parent } = cutKey(key);
      const above = parent === '' ? root : this.#paths.get(parent)?.figures;
      if (above !== undefined && above.subtrees > 0) unknown.push(key);
    }
    const [items, paths] = await Promise.all([
      itemsFound,
      this.#present(session, PATHS.name, 'path', unknown),
    ]);
    for (const id of segments) {
      const key = `${id}.`;
      const state = this.#paths.get(key);
      const pathBefore = state?.before ?? paths.has(key);
      const pathAfter = state === undefined ? pathBefore : state.figures.count > 0;
      const itemAfter = this.#born.has(id) || items.has(id);
      const itemBefore = this.#died.has(id) || items.has(id);
      const difference = Number(itemAfter && pathAfter) - Number(itemBefore && pathBefore);
      if (difference !== 0) this.#figures(cutKey(key).parent, root).bothKinds += difference;
    }
  }

  async #present(
    session: SqlSession,
    table: string,
    column: string,
    keys: readonly string[],
  ): Promise<ReadonlySet<string>> {
    const known = keys.filter((key) => key !== '');
    if (known.length === 0) return new Set();
    const rows = await session.among(`SELECT ${column} FROM ${table}`, column, sortedBytes(known));
    return new Set(rows.map((row) => asText(row[0])));
  }

  #figures(key: string, root: PathFigures): PathFigures {
    return key === '' ? root : (this.#paths.get(key) as PathState).figures;
  }
}

function add(figures: PathFigures, { sum, count, leaves }: Delta): void {
  const total = LaneSum.of(figures.sum);
  total.addSum(sum);
  figures.sum = total.bytes();
  figures.count += count;
  figures.leaves += leaves;
}

function noFigures(): PathFigures {
  return { count: 0, leaves: 0, subtrees: 0, bothKinds: 0, sum: NO_SUM };
}

function figuresOf(row: Row): PathFigures {
  const [, , , count, leaves, subtrees, bothKinds, sum] = row as unknown as [
    ...[Buffer, Buffer, Buffer],
    ...[number, number, number, number],
    Buffer,
  ];
  return { count, leaves, subtrees, bothKinds, sum };
}

function pathRow(key: string, { count, leaves, subtrees, bothKinds, sum }: PathFigures): Row {
  const { parent, segment } = cutKey(key);
  return [
    Buffer.from(key),
    Buffer.from(parent),
    Buffer.from(segment),
    count,
    leaves,
    subtrees,
    bothKinds,
    sum,
  ];
}

/** In the order in which everybody locks them. */
export function sortedBytes(texts: readonly string[]): Buffer[] {
  return texts.map((text) => Buffer.from(text)).sort(Buffer.compare);
}
