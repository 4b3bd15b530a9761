/** The archive's reads in SQLite. Each is one snapshot. */
import type { Statement } from 'better-sqlite3';
import type { SyncEngineError } from '../../base/errors.js';
import type { Connection } from '../../base/sqlite.js';
import { bytesBehind, compareIds } from '../../item/id-order.js';
import { DEFAULT_STATE } from '../../item/revision.js';
import { LaneSum, LeafHasher } from '../../merkle/digest.js';
import { idOf, keyOf, SEGMENTS_MAX } from '../../merkle/path.js';
import type {
  ChangeBatch,
  ChangeHead,
  ChangePage,
  ChildDigest,
  PathDigest,
  RowRange,
  ScrubPage,
} from '../archive-store.js';
import { decodeChanges, FIRST_CHAIN, nextChain } from '../change-codec.js';
import { COLUMNS, RowChecker, type RowValues } from '../row.js';
import { LANE_COLUMNS } from './path-table.js';
import { type PackedRows, POINT_COLUMNS, type PointValues, RowPacker } from './row-packer.js';

/** A page of a scan ends when its rows have that many bytes. */
const PAGE_BYTES_MAX = 4 * 1024 * 1024;
/** Ids read ahead while children that are single rows follow each other. */
const LEAVES_AHEAD_MAX = 512;

/** Digest of what lies below a path, as the table has it. */
type PathRow = [segment: string, count: number, children: number, ...lanes: number[]];

interface ChangeRow {
  readonly position: number;
  readonly chain: Buffer;
  readonly changes: Buffer;
}

type Range = [from: string, end: Buffer | null];

/** A page of rows: packed, with whether more may follow. */
export interface PackedPage {
  readonly rows: PackedRows;
  readonly more: boolean;
}

export class ArchiveReader {
  readonly #connection: Connection;
  readonly #hasher: LeafHasher | undefined;
  readonly #damaged: (id: string) => SyncEngineError;
  readonly #statements: ReturnType<typeof prepare>;
  readonly #checker = new RowChecker();

  /** @param key Key of the digests; `undefined` where none are kept. @param damaged Makes the error of a damaged row. */
  constructor(connection: Connection, key: Uint8Array | undefined, damaged: (id: string) => SyncEngineError) {
    this.#connection = connection;
    this.#hasher = key === undefined ? undefined : new LeafHasher(key);
    this.#damaged = damaged;
    this.#statements = prepare(connection);
  }

  /** Rows are read in the order of their ids: neighbours in the index share its pages, and often their own. */
  getMany(ids: readonly string[]): PackedRows {
    const sorted = ids.map((id, place) => ({ id, place })).sort((a, b) => (a.id < b.id ? -1 : 1));
    return this.#snapshot(() => {
      const packer = new RowPacker();
      for (const { id, place } of sorted) {
        const values = this.#statements.point.get(id);
        if (values !== undefined && !packer.addPoint(place, id, values))
          packer.refuse(place, this.#damaged(id));
      }
      return packer.packed();
    });
  }

  scan(range: RowRange, after: string | undefined, limit: number): PackedPage {
    return this.#snapshot(() => {
      const packer = new RowPacker();
      const { prefix, state } = range;
      const bounds: Range = [firstOf(prefix, after), bytesBehind(prefix) ?? null];
      const rows =
        state === undefined
          ? this.#statements.scan.iterate(...bounds)
          : (state === DEFAULT_STATE ? this.#statements.scanDefault : this.#statements.scanState).iterate(
              ...bounds,
              state,
            );
      let place = 0;
      let more = false;
      for (const values of rows) {
        if (place >= limit || packer.bytes >= PAGE_BYTES_MAX) {
          more = true;
          break;
        }
        this.#pack(packer, place++, values);
      }
      return { rows: packer.packed(), more };
    });
  }

  count({ prefix, state }: RowRange, except: readonly string[]): number {
    return this.#snapshot(() => {
      const bounds: Range = [prefix, bytesBehind(prefix) ?? null];
      let count: number;
      if (state === undefined) count = this.#statements.count.get(...bounds) as number;
      else if (state === DEFAULT_STATE) count = this.#statements.countDefault.get(...bounds, state) as number;
      else count = this.#statements.countState.get(...bounds, state) as number;
      for (const id of except) {
        if (!id.startsWith(prefix)) continue;
        const row = this.#statements.live.get(id);
        if (row !== undefined && (state === undefined || row === state)) count--;
      }
      return count;
    });
  }

  ids(after: string | undefined, limit: number): string[] {
    return this.#statements.ids.all(after ?? '', limit);
  }

  changesSince(from: ChangeHead, limit: number): ChangePage {
    return this.#snapshot(() => {
      const head = this.#head();
      if (from.position > head.position) return { batches: [], head, gap: 'foreign' };
      const gap = this.#gapAt(from, head);
      if (gap !== 'none') return { batches: [], head, gap };
      const batches: ChangeBatch[] = [];
      let chain: Buffer = Buffer.from(from.chain, 'hex');
      let position = from.position;
      let found = 0;
      for (const row of this.#statements.changes.iterate(from.position)) {
        const expected = nextChain(chain, row.position, row.changes);
        if (row.position !== position + 1 || !expected.equals(row.chain)) {
          // Damaged, or cut out: what follows cannot be read in order.
          if (batches.length === 0) return { batches: [], head, gap: 'trimmed' };
          break;
        }
        chain = expected;
        position = row.position;
        const changes = decodeChanges(row.changes);
        batches.push({ position, chain: chain.toString('hex'), changes });
        found += changes.length;
        if (found >= limit) break;
      }
      return { batches, head, gap: 'none' };
    });
  }

  digests(paths: readonly (readonly string[])[]): (PathDigest | undefined)[] {
    return this.#snapshot(() => paths.map((path) => this.#digest(path)));
  }

  children(
    path: readonly string[],
    after: string | undefined,
    limit: number,
  ): { children: ChildDigest[]; head: ChangeHead } {
    return this.#snapshot(() => {
      const head = this.#head();
      if (path.length >= SEGMENTS_MAX) return { children: [], head };
      const parent = keyOf(path);
      const subtrees = this.#statements.subtrees.all(parent, after === undefined ? '' : behind(after), limit);
      const last = subtrees.length === limit ? subtrees.at(-1)?.[0] : undefined;
      const leaves = this.#leavesBelow(parent, path.length === SEGMENTS_MAX - 1, after, last, limit);
      return { children: merge(subtrees, leaves, limit), head };
    });
  }

  scrub(after: string | undefined, limit: number): ScrubPage {
    return this.#snapshot(() => {
      const rows = this.#statements.scrub.all(after ?? '', limit);
      const corrupt: string[] = [];
      for (const values of rows) if (!this.#checker.isSound(values, this.#hasher)) corrupt.push(values[0]);
      return { checked: rows.length, last: rows.length < limit ? undefined : rows.at(-1)?.[0], corrupt };
    });
  }

  /** Adds up what lies below a path and compares it with the path's row. */
  verifyPath(path: readonly string[]): boolean {
    // Nothing lies below a path of 64 segments: the last one takes the rest.
    if (this.#hasher === undefined || path.length >= SEGMENTS_MAX) return true;
    return this.#snapshot(() => {
      const prefix = keyOf(path);
      const sum = new LaneSum();
      let count = 0;
      for (const leaf of this.#statements.leaves.iterate(prefix, bytesBehind(prefix) ?? null)) {
        sum.add(leaf);
        count++;
      }
      const recorded = new LaneSum();
      const row = this.#pathRow(path);
      if (row !== undefined) recorded.addLanes(lanesOf(row));
      return (row?.[1] ?? 0) === count && recorded.bytes().equals(sum.bytes());
    });
  }

  #snapshot<T>(work: () => T): T {
    this.#statements.begin.run();
    try {
      return work();
    } finally {
      if (this.#connection.inTransaction) this.#statements.commit.run();
    }
  }

  #pack(packer: RowPacker, place: number, values: RowValues): void {
    if (!packer.add(place, values)) packer.refuse(place, this.#damaged(values[0]));
  }

  #head(): ChangeHead {
    const { position, chain } = this.#statements.head.get() as { position: number; chain: Buffer };
    return { position, chain: chain.toString('hex') };
  }

  #gapAt(from: ChangeHead, head: ChangeHead): ChangePage['gap'] {
    if (from.position === head.position) return from.chain === head.chain ? 'none' : 'foreign';
    if (from.position === 0) {
      if (from.chain !== FIRST_CHAIN) return 'foreign';
      return this.#statements.changeAt.get(1) === undefined ? 'trimmed' : 'none';
    }
    const row = this.#statements.changeAt.get(from.position);
    if (row === undefined) return 'trimmed';
    return row.toString('hex') === from.chain ? 'none' : 'foreign';
  }

  #pathRow(path: readonly string[]): PathRow | undefined {
    if (path.length === 0) return this.#statements.rootDigest.get();
    if (path.length >= SEGMENTS_MAX) return undefined;
    return this.#statements.path.get(keyOf(path.slice(0, -1)), path.at(-1) as string);
  }

  #digest(path: readonly string[]): PathDigest | undefined {
    const row = this.#pathRow(path);
    const id = idOf(path);
    const leaf = id === undefined ? undefined : this.#statements.leaf.get(id);
    const count = (row?.[1] ?? 0) + (leaf === undefined ? 0 : 1);
    if (count === 0) return undefined;
    const sum = new LaneSum();
    if (row !== undefined) sum.addLanes(lanesOf(row));
    if (leaf !== undefined) sum.add(leaf);
    return { count, sum: sum.bytes(), isLeaf: leaf !== undefined, own: leaf, childCount: row?.[2] ?? 0 };
  }

  /** Rows directly below a path, behind `after` and up to `last`: subtrees in between are jumped over. */
  #leavesBelow(
    parent: string,
    restIsOneSegment: boolean,
    after: string | undefined,
    last: string | undefined,
    limit: number,
  ): { segment: string; leaf: Buffer }[] {
    const found: { segment: string; leaf: Buffer }[] = [];
    const end = bytesBehind(parent) ?? null;
    let from: string | Buffer = after === undefined ? parent : parent + after;
    let ahead = 1;
    while (found.length < limit) {
      const rows: [string, Buffer][] = this.#statements.leavesFrom.all(from, end, ahead);
      let jumped = false;
      for (const [id, leaf] of rows) {
        from = id;
        const dot = restIsOneSegment ? -1 : id.indexOf('.', parent.length);
        if (dot !== -1) {
          // Behind everything that begins with this segment and its dot.
          from = bytesBehind(id.slice(0, dot + 1)) as Buffer;
          ahead = 1;
          jumped = true;
          if (last !== undefined && compareIds(id.slice(parent.length, dot), last) > 0) return found;
          break;
        }
        const segment = id.slice(parent.length);
        if (segment === after) continue;
        if (last !== undefined && compareIds(segment, last) > 0) return found;
        found.push({ segment, leaf });
        if (found.length === limit) return found;
      }
      if (jumped) continue;
      if (rows.length < ahead) return found;
      from = behind(from as string);
      ahead = Math.min(ahead * 2, LEAVES_AHEAD_MAX);
    }
    return found;
  }
}

/** The least string behind `text`, in byte order. */
function behind(text: string): string {
  return `${text}\0`;
}

/** The least id that can follow `after` in the range of `prefix`. */
function firstOf(prefix: string, after: string | undefined): string {
  return after === undefined || compareIds(after, prefix) < 0 ? prefix : behind(after);
}

/** Both in byte order of their segments; a segment that is a row and a path is one child. */
function merge(
  subtrees: readonly PathRow[],
  leaves: readonly { segment: string; leaf: Buffer }[],
  limit: number,
): ChildDigest[] {
  const children: ChildDigest[] = [];
  let atPath = 0;
  let atLeaf = 0;
  while (children.length < limit && (atPath < subtrees.length || atLeaf < leaves.length)) {
    const path = subtrees[atPath];
    const leaf = leaves[atLeaf];
    let order: number;
    if (path === undefined) order = 1;
    else order = leaf === undefined ? -1 : compareIds(path[0], leaf.segment);
    const hasPath = path !== undefined && order <= 0;
    const hasLeaf = leaf !== undefined && order >= 0;
    const sum = new LaneSum();
    if (hasPath) sum.addLanes(lanesOf(path));
    if (hasLeaf) sum.add(leaf.leaf);
    children.push({
      segment: hasPath ? path[0] : (leaf?.segment ?? ''),
      count: (hasPath ? path[1] : 0) + (hasLeaf ? 1 : 0),
      sum: sum.bytes(),
      isLeaf: hasLeaf,
      childCount: hasPath ? path[2] : 0,
    });
    if (order <= 0) atPath++;
    if (order >= 0) atLeaf++;
  }
  return children;
}

function lanesOf(row: PathRow): number[] {
  const [, , , ...lanes] = row;
  return lanes;
}

function prepare(connection: Connection) {
  // A blob is behind every text: the end of a range without one.
  const between = `id >= ? AND id < coalesce(CAST(? AS TEXT), x'') AND deleted = 0`;
  const raw = <Params extends unknown[], Row>(sql: string): Statement<Params, Row> =>
    connection.prepare<Params, Row>(sql).raw() as Statement<Params, Row>;
  const pluck = <Params extends unknown[], Value>(sql: string): Statement<Params, Value> =>
    connection.prepare<Params, Value>(sql).pluck() as Statement<Params, Value>;
  return {
    begin: connection.prepare('BEGIN'),
    commit: connection.prepare('COMMIT'),
    point: raw<[string], PointValues>(`SELECT ${POINT_COLUMNS} FROM sync_items WHERE id = ?`),
    live: pluck<[string], string>('SELECT state FROM sync_items WHERE id = ? AND deleted = 0'),
    scan: raw<Range, RowValues>(`SELECT ${COLUMNS} FROM sync_items WHERE ${between} ORDER BY id`),
    // The index of states leaves the default one out; saying so in the query lets SQLite use it.
    scanState: raw<[...Range, string], RowValues>(
      `SELECT ${COLUMNS} FROM sync_items WHERE ${between} AND state = ? AND state <> '${DEFAULT_STATE}' ORDER BY id`,
    ),
    scanDefault: raw<[...Range, string], RowValues>(
      `SELECT ${COLUMNS} FROM sync_items WHERE ${between} AND state = ? ORDER BY id`,
    ),
    count: pluck<Range, number>(`SELECT count(*) FROM sync_items WHERE ${between}`),
    countState: pluck<[...Range, string], number>(
      `SELECT count(*) FROM sync_items WHERE ${between} AND state = ? AND state <> '${DEFAULT_STATE}'`,
    ),
    countDefault: pluck<[...Range, string], number>(
      `SELECT count(*) FROM sync_items WHERE ${between} AND state = ?`,
    ),
    ids: pluck<[string, number], string>('SELECT id FROM sync_items WHERE id > ? ORDER BY id LIMIT ?'),
    head: connection.prepare<[], { position: number; chain: Buffer }>(
      'SELECT position, chain FROM sync_root',
    ),
    changeAt: pluck<[number], Buffer>('SELECT chain FROM sync_changes WHERE position = ?'),
    changes: connection.prepare<[number], ChangeRow>(
      'SELECT position, chain, changes FROM sync_changes WHERE position > ? ORDER BY position',
    ),
    leaf: pluck<[string], Buffer>('SELECT leaf FROM sync_items WHERE id = ?'),
    leaves: pluck<[string, Buffer | null], Buffer>(
      `SELECT leaf FROM sync_items WHERE id >= ? AND id < coalesce(CAST(? AS TEXT), x'')`,
    ),
    leavesFrom: raw<[string | Buffer, Buffer | null, number], [string, Buffer]>(
      `SELECT id, leaf FROM sync_items
        WHERE id >= CAST(? AS TEXT) AND id < coalesce(CAST(? AS TEXT), x'') ORDER BY id LIMIT ?`,
    ),
    path: raw<[string, string], PathRow>(
      `SELECT segment, count, children, ${LANE_COLUMNS} FROM sync_paths WHERE parent = ? AND segment = ?`,
    ),
    rootDigest: raw<[], PathRow>(
      `SELECT '', count, children, ${LANE_COLUMNS} FROM sync_root WHERE count > 0`,
    ),
    subtrees: raw<[string, string, number], PathRow>(
      `SELECT segment, count, children, ${LANE_COLUMNS} FROM sync_paths
        WHERE parent = ? AND segment >= ? ORDER BY segment LIMIT ?`,
    ),
    scrub: raw<[string, number], RowValues>(
      `SELECT ${COLUMNS} FROM sync_items WHERE id > ? ORDER BY id LIMIT ?`,
    ),
  };
}
