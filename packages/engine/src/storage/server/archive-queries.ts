/** The archive's reads on a server. What takes several statements runs in one consistent view. */
import type { SyncEngineError } from '../../base/errors.js';
import { bytesBehind, compareIds } from '../../item/id-order.js';
import type { Revision } from '../../item/revision.js';
import { LaneSum, type LeafHasher } from '../../merkle/digest.js';
import { idOf, keyOf, SEGMENTS_MAX } from '../../merkle/path.js';
import type {
  ChangeBatch,
  ChangeHead,
  ChangePage,
  ChildDigest,
  PathDigest,
  RowPage,
  RowRange,
  ScrubPage,
} from '../archive-store.js';
import { decodeChanges, FIRST_CHAIN, nextChain } from '../change-codec.js';
import { RowChecker } from '../row.js';
import { headOf, readRoot } from './archive-transactions.js';
import { sortedBytes } from './path-deltas.js';
import type { Row, SqlSession, Value } from './sql-driver.js';
import {
  asNumber,
  asText,
  CHANGES,
  ITEM_COLUMNS,
  ITEMS,
  itemValues,
  PATHS,
  type PathFigures,
} from './tables.js';

/** Rows of a scan are fetched in growing portions until they have that many bytes; then the page ends. */
const PAGE_BYTES_MAX = 4 * 1024 * 1024;
const PORTION_FIRST = 64;
const PORTION_MAX = 1000;
/** Ids read ahead while children that are single rows follow each other. */
const LEAVES_AHEAD_MAX = 512;
/** Leaves added up in one portion of a check. */
const LEAVES_A_PORTION = 10_000;

const PATH_COLUMNS = 'path, segment, count, leaves + subtrees - both_kinds, sum';

interface SubtreeRow {
  readonly segment: string;
  readonly count: number;
  readonly children: number;
  readonly sum: Buffer;
}

export class ArchiveQueries {
  readonly #checker = new RowChecker();
  readonly #hasher: LeafHasher | undefined;
  readonly #damaged: (id: string) => SyncEngineError;

  constructor(hasher: LeafHasher | undefined, damaged: (id: string) => SyncEngineError) {
    this.#hasher = hasher;
    this.#damaged = damaged;
  }

  async getMany(
    session: SqlSession,
    ids: readonly string[],
  ): Promise<(Revision | SyncEngineError | undefined)[]> {
    const wanted = sortedBytes([...new Set(ids)]);
    const rows = await session.among(`SELECT ${ITEM_COLUMNS} FROM ${ITEMS.name}`, 'id', wanted);
    const found = new Map<string, Revision | SyncEngineError>();
    for (const row of rows) found.set(asText(row[0]), this.#revisionOf(row));
    return ids.map((id) => found.get(id));
  }

  async scan(
    session: SqlSession,
    range: RowRange,
    after: string | undefined,
    limit: number,
  ): Promise<RowPage> {
    const found: (Revision | SyncEngineError)[] = [];
    let bytes = 0;
    let from = firstOf(range.prefix, after);
    for (let portion = PORTION_FIRST; ; portion = Math.min(portion * 2, PORTION_MAX)) {
      // One more than is wanted says whether more may follow.
      const count = Math.min(portion, limit - found.length + 1);
      const { where, values } = rangeOf(range, from);
      const rows = await session.run(
        `SELECT ${ITEM_COLUMNS} FROM ${ITEMS.name} WHERE ${where} ORDER BY id LIMIT ${count}`,
        values,
      );
      for (const row of rows) {
        if (found.length === limit || bytes >= PAGE_BYTES_MAX) return { rows: found, more: true };
        found.push(this.#revisionOf(row));
        bytes += (row[12] as Buffer).length;
        from = behindBytes(row[0] as Buffer);
      }
      if (rows.length < count) return { rows: found, more: false };
    }
  }

  async count(session: SqlSession, range: RowRange, except: readonly string[]): Promise<number> {
    const { where, values } = rangeOf(range, Buffer.from(range.prefix));
    const [row] = await session.run(`SELECT count(*) FROM ${ITEMS.name} WHERE ${where}`, values);
    let count = asNumber(row?.[0]);
    const excluded = sortedBytes(except.filter((id) => id.startsWith(range.prefix)));
    for (const [state] of await session.among(
      `SELECT state FROM ${ITEMS.name}`,
      'id',
      excluded,
      'AND deleted = 0',
    )) {
      if (range.state === undefined || asText(state) === range.state) count--;
    }
    return count;
  }

  async ids(session: SqlSession, after: string | undefined, limit: number): Promise<string[]> {
    const rows = await session.run(`SELECT id FROM ${ITEMS.name} WHERE id > ? ORDER BY id LIMIT ${limit}`, [
      Buffer.from(after ?? ''),
    ]);
    return rows.map((row) => asText(row[0]));
  }

  async changesSince(session: SqlSession, from: ChangeHead, limit: number): Promise<ChangePage> {
    const head = headOf(await readRoot(session));
    const gap = await gapAt(session, from, head);
    if (gap !== 'none') return { batches: [], head, gap };
    const batches: ChangeBatch[] = [];
    let chain: Buffer = Buffer.from(from.chain, 'hex');
    let { position } = from;
    for (let found = 0; found < limit && position < head.position; ) {
      const rows = await session.run(
        `SELECT position, chain, changes FROM ${CHANGES.name} WHERE position > ? ORDER BY position LIMIT ${PORTION_FIRST}`,
        [position],
      );
      for (const [next, recorded, bytes] of rows as readonly (readonly [number, Buffer, Buffer])[]) {
        if (found >= limit || next > head.position) break;
        const expected = nextChain(chain, next, bytes);
        if (next !== position + 1 || !expected.equals(recorded)) {
          // Damaged, or cut out: what follows cannot be read in order.
          return batches.length === 0 ? { batches, head, gap: 'trimmed' } : { batches, head, gap: 'none' };
        }
        chain = expected;
        position = next;
        const changes = decodeChanges(bytes);
        batches.push({ position, chain: chain.toString('hex'), changes });
        found += changes.length;
      }
      if (rows.length === 0) break;
    }
    return { batches, head, gap: 'none' };
  }

  async digests(
    session: SqlSession,
    paths: readonly (readonly string[])[],
  ): Promise<(PathDigest | undefined)[]> {
    const keys = paths.filter((path) => path.length > 0 && path.length < SEGMENTS_MAX).map(keyOf);
    const rows = await session.among(
      `SELECT ${PATH_COLUMNS} FROM ${PATHS.name}`,
      'path',
      sortedBytes(unique(keys)),
    );
    const found = new Map(rows.map((row) => [asText(row[0]), subtreeOf(row)]));
    const ids = paths.map(idOf).filter((id) => id !== undefined);
    const leaves = new Map<string, Buffer>();
    for (const [id, leaf] of await session.among(
      `SELECT id, leaf FROM ${ITEMS.name}`,
      'id',
      sortedBytes(unique(ids)),
    ))
      leaves.set(asText(id), leaf as Buffer);
    const root = paths.some((path) => path.length === 0) ? rootFigures(await readRoot(session)) : undefined;
    return paths.map((path) => {
      const id = idOf(path);
      const own = id === undefined ? undefined : leaves.get(id);
      const below = path.length === 0 ? root : found.get(keyOf(path));
      return digestOf(path.length < SEGMENTS_MAX ? below : undefined, own);
    });
  }

  async children(
    session: SqlSession,
    path: readonly string[],
    after: string | undefined,
    limit: number,
  ): Promise<{ readonly children: ChildDigest[]; readonly head: ChangeHead }> {
    const head = headOf(await readRoot(session));
    if (path.length >= SEGMENTS_MAX) return { children: [], head };
    const parent = keyOf(path);
    const rows = await session.run(
      `SELECT ${PATH_COLUMNS} FROM ${PATHS.name} WHERE parent = ? AND segment ${after === undefined ? '>=' : '>'} ? AND path <> parent ORDER BY segment LIMIT ${limit}`,
      [Buffer.from(parent), Buffer.from(after ?? '')],
    );
    const subtrees = rows.map(subtreeOf);
    const last = subtrees.length === limit ? subtrees.at(-1)?.segment : undefined;
    const leaves = await leavesBelow(session, parent, path.length === SEGMENTS_MAX - 1, after, last, limit);
    return { children: merge(subtrees, leaves, limit), head };
  }

  async scrub(session: SqlSession, after: string | undefined, limit: number): Promise<ScrubPage> {
    const rows = await session.run(
      `SELECT ${ITEM_COLUMNS} FROM ${ITEMS.name} WHERE id > ? ORDER BY id LIMIT ${limit}`,
      [Buffer.from(after ?? '')],
    );
    const corrupt: string[] = [];
    for (const row of rows) {
      const values = itemValues(row);
      if (!this.#checker.isSound(values, this.#hasher)) corrupt.push(values[0]);
    }
    const end = rows.at(-1);
    return {
      checked: rows.length,
      last: rows.length < limit || end === undefined ? undefined : asText(end[0]),
      corrupt,
    };
  }

  /** Adds up what lies below a path and compares it with the path's row. */
  async verifyPath(session: SqlSession, path: readonly string[]): Promise<boolean> {
    // Nothing lies below a path of 64 segments: the last one takes the rest.
    if (this.#hasher === undefined || path.length >= SEGMENTS_MAX) return true;
    const prefix = keyOf(path);
    const end = bytesBehind(prefix);
    const sum = new LaneSum();
    let count = 0;
    for (let from = Buffer.from(prefix), rows: readonly Row[]; ; ) {
      rows = await session.run(
        `SELECT id, leaf FROM ${ITEMS.name} WHERE id >= ?${end === undefined ? '' : ' AND id < ?'} ORDER BY id LIMIT ${LEAVES_A_PORTION}`,
        end === undefined ? [from] : [from, end],
      );
      for (const [, leaf] of rows) sum.add(leaf as Buffer);
      count += rows.length;
      if (rows.length < LEAVES_A_PORTION) break;
      from = behindBytes(rows.at(-1)?.[0] as Buffer);
    }
    const recorded =
      path.length === 0
        ? rootFigures(await readRoot(session))
        : (
            await session.among(`SELECT ${PATH_COLUMNS} FROM ${PATHS.name}`, 'path', [Buffer.from(prefix)])
          ).map(subtreeOf)[0];
    if (recorded === undefined) return count === 0;
    return recorded.count === count && recorded.sum.equals(sum.bytes());
  }

  #revisionOf(row: Row): Revision | SyncEngineError {
    const values = itemValues(row);
    return this.#checker.revisionOf(values) ?? this.#damaged(values[0]);
  }
}

async function gapAt(session: SqlSession, from: ChangeHead, head: ChangeHead): Promise<ChangePage['gap']> {
  if (from.position > head.position) return 'foreign';
  if (from.position === head.position) return from.chain === head.chain ? 'none' : 'foreign';
  const chainAt = async (position: number): Promise<Value | undefined> => {
    const [row] = await session.run(`SELECT chain FROM ${CHANGES.name} WHERE position = ?`, [position]);
    return row?.[0];
  };
  if (from.position === 0) {
    if (from.chain !== FIRST_CHAIN) return 'foreign';
    return (await chainAt(1)) === undefined ? 'trimmed' : 'none';
  }
  const chain = await chainAt(from.position);
  if (chain === undefined) return 'trimmed';
  return (chain as Buffer).toString('hex') === from.chain ? 'none' : 'foreign';
}

/** Rows directly below a path, behind `after` and up to `last`: subtrees in between are jumped over. */
async function leavesBelow(
  session: SqlSession,
  parent: string,
  restIsOneSegment: boolean,
  after: string | undefined,
  last: string | undefined,
  limit: number,
): Promise<{ segment: string; leaf: Buffer }[]> {
  const found: { segment: string; leaf: Buffer }[] = [];
  const end = bytesBehind(parent);
  let from = Buffer.from(after === undefined ? parent : `${parent}${after}\0`);
  for (let ahead = 1; found.length < limit; ) {
    const rows = await session.run(
      `SELECT id, leaf FROM ${ITEMS.name} WHERE id >= ?${end === undefined ? '' : ' AND id < ?'} ORDER BY id LIMIT ${ahead}`,
      end === undefined ? [from] : [from, end],
    );
    let jumped = false;
    for (const row of rows) {
      const id = asText(row[0]);
      const dot = restIsOneSegment ? -1 : id.indexOf('.', parent.length);
      const segment = id.slice(parent.length, dot === -1 ? undefined : dot);
      if (last !== undefined && compareIds(segment, last) > 0) return found;
      if (dot !== -1) {
        // Behind everything that begins with this segment and its dot.
        from = bytesBehind(id.slice(0, dot + 1)) as Buffer<ArrayBuffer>;
        jumped = true;
        break;
      }
      // The path itself may be an id where its segment is empty.
      found.push({ segment, leaf: row[1] as Buffer });
      if (found.length === limit) return found;
      from = behindBytes(row[0] as Buffer);
    }
    if (!jumped && rows.length < ahead) return found;
    ahead = jumped ? 1 : Math.min(ahead * 2, LEAVES_AHEAD_MAX);
  }
  return found;
}

/** Both in byte order of their segments; a segment that is a row and a path is one child. */
function merge(
  subtrees: readonly SubtreeRow[],
  leaves: readonly { segment: string; leaf: Buffer }[],
  limit: number,
): ChildDigest[] {
  const below = new Map(subtrees.map((subtree) => [subtree.segment, subtree]));
  const own = new Map(leaves.map(({ segment, leaf }) => [segment, leaf]));
  const segments = unique([...below.keys(), ...own.keys()]).sort(compareIds);
  return segments.slice(0, limit).map((segment) => {
    const { own: _own, ...digest } = digestOf(below.get(segment), own.get(segment)) as PathDigest;
    return { segment, ...digest };
  });
}

function digestOf(
  below: Omit<SubtreeRow, 'segment'> | undefined,
  own: Buffer | undefined,
): PathDigest | undefined {
  const count = (below?.count ?? 0) + (own === undefined ? 0 : 1);
  if (count === 0) return undefined;
  const sum = below === undefined ? new LaneSum() : LaneSum.of(below.sum);
  if (own !== undefined) sum.add(own);
  return { count, sum: sum.bytes(), isLeaf: own !== undefined, own, childCount: below?.children ?? 0 };
}

function subtreeOf(row: Row): SubtreeRow {
  const [, segment, count, children, sum] = row;
  return {
    segment: asText(segment),
    count: asNumber(count),
    children: asNumber(children),
    sum: sum as Buffer,
  };
}

function rootFigures({ count, leaves, subtrees, bothKinds, sum }: PathFigures): Omit<SubtreeRow, 'segment'> {
  return { count, children: leaves + subtrees - bothKinds, sum };
}

function rangeOf({ prefix, state }: RowRange, from: Buffer): { where: string; values: Value[] } {
  const end = bytesBehind(prefix);
  const values: Value[] = [from];
  let where = 'id >= ?';
  if (end !== undefined) {
    where += ' AND id < ?';
    values.push(end);
  }
  if (state !== undefined) {
    where += ' AND state = ?';
    values.push(Buffer.from(state));
  }
  return { where: `${where} AND deleted = 0`, values };
}

/** The least id that can follow `after` in the range of `prefix`. */
function firstOf(prefix: string, after: string | undefined): Buffer {
  return after === undefined || compareIds(after, prefix) < 0
    ? Buffer.from(prefix)
    : Buffer.from(`${after}\0`);
}

function behindBytes(id: Buffer): Buffer<ArrayBuffer> {
  return Buffer.concat([id, Buffer.alloc(1)]);
}

function unique(texts: readonly string[]): string[] {
  return [...new Set(texts)];
}
