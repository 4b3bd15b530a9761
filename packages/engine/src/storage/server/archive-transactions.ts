/**
 * The archive's write transactions on a server. Several processes run them at once, so what is decided on is locked
 * first, by everybody in the same order: rows of items that are there, by id; new ones, by id; rows of paths that are
 * there; the row of the root, and only who has that makes rows of paths, or removes them. Who meets a lock in another
 * order, or a new row that somebody else has just made, is undone and runs again, whole.
 *
 *   rows locked, horizon read ─► winners written, paths and root locked ─► digests, change row, root, commit
 *
 * Each of the three is sent at once where the driver can: all writers wait for the last two of each other.
 */

import { step } from '../../base/steps.js';
import { versionOfMs } from '../../item/hybrid-clock.js';
import { compareOrder } from '../../item/order.js';
import { contentHashOf, EMPTY_CONTENT, type Revision } from '../../item/revision.js';
import { LaneSum, LeafHasher } from '../../merkle/digest.js';
import {
  APPLY_EXISTED,
  APPLY_REDO,
  APPLY_STORED,
  APPLY_TOO_OLD,
  APPLY_UNCHANGED,
  type ApplyResult,
  type ChangeHead,
  type CollectRequest,
  type CollectResult,
  type RowChange,
} from '../archive-store.js';
import { encodeChanges, nextChain } from '../change-codec.js';
import { NO_LEAF, RowChecker } from '../row.js';
import { PathDeltas, sortedBytes } from './path-deltas.js';
import type { Row, SqlSession } from './sql-driver.js';
import {
  asNumber,
  CHANGES,
  columnsOf,
  ITEMS,
  itemRow,
  LOGS,
  ROOT,
  type Root,
  rootOf,
  rootRow,
} from './tables.js';

/** The change log keeps the last changes, and those of the last week if they are fewer. */
const CHANGES_KEPT = 1_000_000;
const CHANGES_KEPT_MS = 7 * 24 * 60 * 60 * 1000;
/** How often the log is trimmed, in transactions, and how much at a time: more than comes in between. */
const TRIM_EVERY = 64;
const TRIM_AT_ONCE = 256;
/** Rows made in one turn of the event loop, about a millisecond. */
const PREPARED_A_TURN = 100;

/** A row's place in the order, and its leaf. */
interface Found {
  readonly version: number;
  readonly origin: string;
  readonly deleted: boolean;
  readonly hash: Buffer;
  readonly leaf: Buffer;
}

/** What one transaction changes, in the order in which the change log has it. */
class Changes {
  readonly rows: RowChange[] = [];
  readonly paths: PathDeltas | undefined;
  /** Used again for each row. */
  readonly #sum = new LaneSum();

  constructor(digests: boolean) {
    this.paths = digests ? new PathDeltas() : undefined;
  }

  note(of: Omit<RowChange, 'delta' | 'countDelta'>, before: Buffer, after: Buffer, countDelta: number): void {
    let delta: Buffer = NO_LEAF;
    const { id, version, origin, kind } = of;
    if (this.paths !== undefined) {
      const sum = this.#sum;
      sum.lanes.fill(0);
      if (after.length > 0) sum.add(after);
      if (before.length > 0) sum.subtract(before);
      this.paths.note(id, sum, countDelta);
      delta = before.length === 0 ? after : sum.bytes();
    }
    this.rows.push({ id, version, origin, kind, delta, countDelta });
  }
}

export class ArchiveTransactions {
  readonly #hasher: LeafHasher | undefined;
  readonly #checker = new RowChecker();
  readonly #origins = new Map<string, Buffer>();

  /** @param key Key of the digests; `undefined` where none are kept. */
  constructor(key: Uint8Array | undefined) {
    this.#hasher = key === undefined ? undefined : new LeafHasher(key);
  }

  /**
   * Rows for writes, before anything is locked for them: hashes and checksums take as long as the server does.
   * @param pause Lets others have a turn.
   */
  async prepare(writes: readonly Revision[], pause: () => Promise<void>): Promise<Row[]> {
    const rows: Row[] = [];
    for (const write of writes) {
      if (rows.length > 0 && rows.length % PREPARED_A_TURN === 0) await pause();
      rows.push(this.#rowOf(write));
    }
    return rows;
  }

  /** Within one transaction, read committed. @param rows As `prepare` made them. */
  async apply(session: SqlSession, writes: readonly Revision[], rows: readonly Row[]): Promise<ApplyResult> {
    step('archive.apply.begun');
    const flags = new Uint8Array(writes.length);
    const newer = new Map<number, number>();
    const [found, [known]] = await Promise.all([
      this.#lockRows(session, writes),
      // After the rows: a tombstone that is not among them any more went after the horizon had moved past it.
      session.run(`SELECT horizon, high_version FROM ${ROOT.name} WHERE one = 1`),
    ]);
    const horizon = asNumber(known?.[0]);
    const changes = new Changes(this.#hasher !== undefined);
    const inserted: Row[] = [];
    const replaced: Row[] = [];
    let highest = 0;
    for (let at = 0; at < writes.length; at++) {
      const write = writes[at] as Revision;
      if (write.version > highest) highest = write.version;
      const row = found.get(write.id);
      const fate = fateOf(write, row, horizon);
      flags[at] = fate.flags;
      if (fate.newer !== undefined) newer.set(at, fate.newer);
      if (!fate.writes) continue;
      const values = rows[at] as Row;
      (row === undefined ? inserted : replaced).push(values);
      const { id, version, origin } = write;
      const kind = write.deleted ? 'delete' : 'put';
      changes.note({ id, version, origin, kind }, row?.leaf ?? NO_LEAF, values[5] as Buffer, row ? 0 : 1);
    }
    const byId = (a: Row, b: Row): number => Buffer.compare(a[0] as Buffer, b[0] as Buffer);
    if (inserted.length > 0) session.insert(ITEMS, inserted.sort(byId));
    if (replaced.length > 0) session.replace(ITEMS, replaced.sort(byId));
    const head = await this.#finish(session, changes, highest, asNumber(known?.[1]));
    step('archive.apply.written');
    return { flags, newer, head, changed: changes.rows.length > 0 };
  }

  /** Registers the log's bound and moves the horizon. A transaction of its own: no tombstone goes before it is durable. */
  async moveHorizon(session: SqlSession, request: CollectRequest): Promise<number> {
    const { upTo, log, nowMs, expiryMs } = request;
    // With the root locked no other log can register a lower bound in between.
    const root = await lockRoot(session);
    if (log !== undefined) session.replace(LOGS, [[Buffer.from(log.logId), log.lowerBound, nowMs]]);
    const bounds = await session.run(`SELECT lower_bound FROM ${LOGS.name} WHERE seen_ms >= ?`, [
      nowMs - expiryMs,
    ]);
    const target = Math.min(upTo, ...bounds.map((row) => asNumber(row[0])));
    if (target <= root.horizon) return root.horizon;
    writeRoot(session, { ...root, horizon: target });
    return target;
  }

  /** Removes tombstones up to the horizon, which is durable. */
  async removeTombstones(session: SqlSession, horizon: number, limit: number): Promise<CollectResult> {
    const old = await session.run(
      `SELECT id FROM ${ITEMS.name} WHERE deleted = 1 AND version <= ? ORDER BY version LIMIT ${limit}`,
      [horizon],
    );
    const ids = old.map((row) => row[0] as Buffer).sort(Buffer.compare);
    const changes = new Changes(this.#hasher !== undefined);
    const gone: Buffer[] = [];
    if (ids.length > 0) {
      const rows = await session.among(
        `SELECT id, version, origin, deleted, leaf FROM ${ITEMS.name}`,
        'id',
        ids,
        'ORDER BY id FOR UPDATE',
      );
      for (const row of rows) {
        const [id, version, origin, deleted, leaf] = row as unknown as [
          Buffer,
          number,
          Buffer,
          number,
          Buffer,
        ];
        // Written again since it was found.
        if (deleted !== 1 || version > horizon) continue;
        gone.push(id);
        const of = {
          id: id.toString(),
          version,
          origin: origin.toString('latin1'),
          kind: 'collected',
        } as const;
        changes.note(of, leaf, NO_LEAF, -1);
      }
      if (gone.length > 0) session.remove(ITEMS, gone);
    }
    const head = await this.#finish(session, changes, 0, 0);
    return { horizon, removed: gone.length, more: ids.length === limit, head };
  }

  async #lockRows(session: SqlSession, writes: readonly Revision[]): Promise<ReadonlyMap<string, Found>> {
    const rows = await session.among(
      `SELECT id, version, origin, deleted, content_hash, leaf FROM ${ITEMS.name}`,
      'id',
      sortedBytes(writes.map((write) => write.id)),
      'ORDER BY id FOR UPDATE',
    );
    const found = new Map<string, Found>();
    for (const row of rows) {
      const [id, version, origin, deleted, hash, leaf] = row as unknown as [
        ...[Buffer, number, Buffer, number],
        ...[Buffer, Buffer],
      ];
      found.set(id.toString(), {
        version,
        origin: origin.toString('latin1'),
        deleted: deleted === 1,
        hash,
        leaf,
      });
    }
    return found;
  }

  #rowOf(write: Revision): Row {
    let origin = this.#origins.get(write.origin);
    if (origin === undefined) {
      if (this.#origins.size > 1000) this.#origins.clear();
      origin = Buffer.from(write.origin, 'latin1');
      this.#origins.set(write.origin, origin);
    }
    // Kept on the write: Redis wants it too.
    const hash = Buffer.from(contentHashOf(write), 'hex');
    const leaf = this.#hasher?.leaf(write, hash) ?? NO_LEAF;
    return itemRow(write, origin, hash, leaf, this.#checker.checksumOf(write, hash));
  }

  /** Digests, then, last, the root with the new position. Returns the change log's end. */
  async #finish(
    session: SqlSession,
    { rows, paths }: Changes,
    highest: number,
    highKnown: number,
  ): Promise<ChangeHead> {
    if (rows.length === 0 && highest <= highKnown) return headOf(await readRoot(session));
    const locked = Promise.all([paths?.lock(session), lockRoot(session)]);
    // Meanwhile.
    const bytes = encodeChanges(rows);
    const [, root] = await locked;
    const highVersion = Math.max(root.highVersion, highest);
    if (rows.length === 0) {
      writeRoot(session, { ...root, highVersion });
      return headOf(root);
    }
    const figures = { ...root };
    await paths?.write(session, figures);
    const position = root.position + 1;
    const chain = nextChain(root.chain, position, bytes);
    const changes = root.changes + rows.length;
    let newest = 0;
    for (const change of rows) if (change.version > newest) newest = change.version;
    session.insert(CHANGES, [[position, chain, changes, newest, bytes]]);
    writeRoot(session, { ...figures, position, chain, changes, highVersion });
    if (position % TRIM_EVERY === 0) await trim(session, changes, highVersion);
    return { position, chain: chain.toString('hex') };
  }
}

/** What becomes of a write beside the row of its id. */
function fateOf(
  write: Revision,
  row: Found | undefined,
  horizon: number,
): { readonly flags: number; readonly writes: boolean; readonly newer?: number } {
  const { base } = write;
  if (row === undefined) {
    const oldest = base?.rule === 'exactly' ? base.version : write.version;
    if (oldest > horizon) return { flags: APPLY_STORED, writes: true };
    return { flags: write.deleted ? APPLY_STORED : APPLY_TOO_OLD, writes: false };
  }
  const { version, origin } = row;
  let order = write.version - version;
  if (order === 0) order = compareOrder(write, placeOf(row));
  const above =
    base !== undefined && (version !== base.version ? version > base.version : origin > base.origin);
  if (order > 0 && base?.rule === 'atMost' && above) order = -1;
  if (order < 0) return { flags: 0, writes: false, newer: version };
  const existed = row.deleted ? 0 : APPLY_EXISTED;
  if (order === 0) return { flags: APPLY_STORED | APPLY_UNCHANGED | existed, writes: false };
  if (base?.rule === 'exactly' && (base.version !== version || base.origin !== origin))
    return { flags: APPLY_REDO, writes: false };
  return { flags: APPLY_STORED | existed, writes: true };
}

/** As `compareOrder` takes it. */
function placeOf({ version, origin, deleted, hash }: Found): Revision {
  return {
    id: '',
    version,
    origin,
    deleted,
    contentType: 'binary',
    state: '',
    content: EMPTY_CONTENT,
    contentHash: hash.toString('hex'),
  };
}

const ROOT_COLUMNS = columnsOf(ROOT);

export async function readRoot(session: SqlSession): Promise<Root> {
  const [row] = await session.run(`SELECT ${ROOT_COLUMNS} FROM ${ROOT.name} WHERE one = 1`);
  return rootOf(row);
}

async function lockRoot(session: SqlSession): Promise<Root> {
  const [row] = await session.run(`SELECT ${ROOT_COLUMNS} FROM ${ROOT.name} WHERE one = 1 FOR UPDATE`);
  return rootOf(row);
}

function writeRoot(session: SqlSession, root: Root): void {
  session.replace(ROOT, [rootRow(root)]);
}

export function headOf({ position, chain }: Root): ChangeHead {
  return { position, chain: chain.toString('hex') };
}

/** Forgets the oldest changes: too many, or too old by the newest version that the archive knows. */
async function trim(session: SqlSession, total: number, highVersion: number): Promise<void> {
  const oldest = highVersion - versionOfMs(CHANGES_KEPT_MS);
  let last = 0;
  const rows = await session.run(
    `SELECT position, total, newest FROM ${CHANGES.name} ORDER BY position LIMIT ${TRIM_AT_ONCE}`,
  );
  for (const [position, upTo, newest] of rows as readonly (readonly [number, number, number])[]) {
    if (upTo > total - CHANGES_KEPT && newest >= oldest) break;
    last = position;
  }
  if (last > 0) await session.run(`DELETE FROM ${CHANGES.name} WHERE position <= ?`, [last]);
}
