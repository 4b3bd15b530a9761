/**
 * The archive's write transactions in SQLite. Each brings the winners of a batch, then the digests above them,
 * then one entry of the change log; all of it or nothing.
 */
import type { Statement } from 'better-sqlite3';
import type { Connection } from '../../base/sqlite.js';
import { step } from '../../base/steps.js';
import { checksum } from '../../item/envelope.js';
import { versionOfMs } from '../../item/hybrid-clock.js';
import { compareOrder } from '../../item/order.js';
import { EMPTY_CONTENT, type Revision } from '../../item/revision.js';
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
  type StoredLetter,
} from '../archive-store.js';
import { encodeChanges, nextChain } from '../change-codec.js';
import { COLUMNS, hashOf, NO_LEAF, RowChecker, type RowValues } from '../row.js';
import { packRevisions, unpackRevisions } from './pack.js';
import { PathTable } from './path-table.js';
import { type Root, RootRow } from './root-row.js';

/** The change log keeps the last changes, and those of the last week if they are fewer. */
const CHANGES_KEPT = 1_000_000;
const CHANGES_KEPT_MS = 7 * 24 * 60 * 60 * 1000;
/** How often the log is trimmed, in transactions, and how much at a time: more than comes in between. */
const TRIM_EVERY = 64;
const TRIM_AT_ONCE = 256;

/** All but the id, which would make SQLite rewrite its index; then the rowid. */
type UpdateValues = [...(RowValues extends [string, ...infer Rest] ? Rest : never), rowid: number];
/** Without Buffers, each of which costs as much as the statement; what they hold is read where versions tie. */
type FoundValues = [rowid: number, version: number, deleted: number, leafHex: string];
type OrderValues = [origin: Buffer, hash: Buffer];

interface TrimRow {
  readonly position: number;
  readonly total: number;
  readonly newest: number;
}

export class ArchiveWriter {
  readonly #connection: Connection;
  readonly #root: RootRow;
  readonly #paths: PathTable | undefined;
  readonly #hasher: LeafHasher | undefined;
  readonly #statements: ReturnType<typeof prepare>;
  readonly #checker = new RowChecker();
  /** Of the last write: nearly always the same. */
  #origin = '';
  #originBytes = Buffer.alloc(0);
  #changes: RowChange[] = [];
  #checksums: readonly number[] = [];

  /** @param key Key of the digests; `undefined` where none are kept. */
  constructor(connection: Connection, key: Uint8Array | undefined) {
    this.#connection = connection;
    this.#root = new RootRow(connection);
    this.#paths = key === undefined ? undefined : new PathTable(connection);
    this.#hasher = key === undefined ? undefined : new LeafHasher(key);
    this.#statements = prepare(connection);
  }

  /**
   * One transaction; durable when it returns.
   * @param checksums CRC-32 of each write's envelope without hash, where they are known.
   */
  apply(writes: readonly Revision[], checksums: readonly number[] = []): ApplyResult {
    this.#checksums = checksums;
    return this.#transaction(() => {
      step('archive.apply.begun');
      const root = this.#root.read();
      const flags = new Uint8Array(writes.length);
      const newer = new Map<number, number>();
      let { highVersion } = root;
      for (let at = 0; at < writes.length; at++) {
        const write = writes[at] as Revision;
        if (write.version > highVersion) highVersion = write.version;
        flags[at] = this.#applyOne(write, at, root.horizon, newer);
      }
      const head = this.#finish(root, highVersion);
      step('archive.apply.written');
      return { flags, newer, head, changed: head.position !== root.position };
    });
  }

  /** The horizon first, in a transaction of its own: no tombstone goes before it is durable. */
  collect(request: CollectRequest): CollectResult {
    const horizon = this.#transaction(() => this.#moveHorizon(request));
    return this.#transaction(() => {
      const root = this.#root.read();
      const rows = this.#statements.tombstones.all(horizon, request.limit);
      for (const [rowid, id, version, origin, leaf] of rows) {
        this.#statements.removeRow.run(rowid);
        this.#note(id, version, origin.toString('latin1'), 'collected', leaf, NO_LEAF, -1);
      }
      const head = this.#finish(root, root.highVersion);
      return { horizon, removed: rows.length, more: rows.length === request.limit, head };
    });
  }

  keepLetters(letters: readonly StoredLetter[]): void {
    this.#transaction(() => {
      for (const { revision, reason, setAsideAtMs } of letters) {
        this.#statements.keepLetter.run(revision.id, packRevisions([revision]), reason, setAsideAtMs);
      }
    });
  }

  dropLetters(ids: readonly string[]): void {
    this.#transaction(() => {
      for (const id of ids) this.#statements.dropLetter.run(id);
    });
  }

  letters(): StoredLetter[] {
    return this.#statements.letters.all().map(([record, reason, setAsideAtMs]) => ({
      revision: unpackRevisions(record)[0] as Revision,
      reason,
      setAsideAtMs,
    }));
  }

  #transaction<T>(work: () => T): T {
    this.#changes = [];
    this.#paths?.begin();
    this.#statements.begin.run();
    try {
      const result = work();
      this.#statements.commit.run();
      return result;
    } catch (error) {
      if (this.#connection.inTransaction) this.#connection.exec('ROLLBACK');
      throw error;
    }
  }

  #applyOne(write: Revision, at: number, horizon: number, newer: Map<number, number>): number {
    const statements = this.#statements;
    const present = statements.find.get(write.id);
    if (present === undefined) {
      const oldest = write.base?.rule === 'exactly' ? write.base.version : write.version;
      if (oldest <= horizon) return write.deleted ? APPLY_STORED : APPLY_TOO_OLD;
      const values = this.#valuesOf(write, at);
      statements.insert.run(...values);
      this.#noteWrite(write, NO_LEAF, values[5], 1);
      return APPLY_STORED;
    }
    const [rowid, version, deleted, leafHex] = present;
    const { base } = write;
    let order = write.version - version;
    let row: Revision | undefined;
    if (order === 0 || base !== undefined) {
      row = this.#orderOf(rowid, version, deleted);
      order = compareOrder(write, row);
      if (order > 0 && base?.rule === 'atMost' && isAbove(row, base)) order = -1;
    }
    if (order < 0) {
      newer.set(at, version);
      return 0;
    }
    const existed = deleted === 0 ? APPLY_EXISTED : 0;
    if (order === 0) return APPLY_STORED | APPLY_UNCHANGED | existed;
    if (base?.rule === 'exactly' && (base.version !== version || base.origin !== row?.origin))
      return APPLY_REDO;
    const values = this.#valuesOf(write, at);
    const [, ...changing] = values;
    statements.update.run(...changing, rowid);
    this.#noteWrite(write, leafHex === '' ? NO_LEAF : Buffer.from(leafHex, 'hex'), values[5], 0);
    return APPLY_STORED | existed;
  }

  /** A row's place in the order, as `compareOrder` takes it. */
  #orderOf(rowid: number, version: number, deleted: number): Revision {
    const [origin, hash] = this.#statements.order.get(rowid) as OrderValues;
    return {
      id: '',
      version,
      origin: origin.toString('latin1'),
      deleted: deleted !== 0,
      contentType: 'binary',
      state: '',
      content: EMPTY_CONTENT,
      contentHash: hash.toString('hex'),
    };
  }

  #noteWrite(write: Revision, before: Buffer, after: Buffer, count: number): void {
    this.#note(write.id, write.version, write.origin, write.deleted ? 'delete' : 'put', before, after, count);
  }

  #note(
    id: string,
    version: number,
    origin: string,
    kind: RowChange['kind'],
    before: Buffer,
    after: Buffer,
    countDelta: number,
  ): void {
    let delta: Buffer = NO_LEAF;
    if (this.#paths !== undefined) {
      const sum = new LaneSum();
      if (after.length > 0) sum.add(after);
      if (before.length > 0) sum.subtract(before);
      this.#paths.note(id, sum, countDelta);
      delta = sum.bytes();
    }
    this.#changes.push({ id, version, origin, kind, delta, countDelta });
  }

  /** Digests, then, last, the root with the new position. Returns the change log's end. */
  #finish(root: Root, highVersion: number): ChangeHead {
    const changes = this.#changes;
    if (changes.length === 0) {
      if (highVersion > root.highVersion) this.#root.write({ ...root, highVersion });
      return { position: root.position, chain: root.chain.toString('hex') };
    }
    this.#paths?.write();
    const position = root.position + 1;
    const bytes = encodeChanges(changes);
    const chain = nextChain(root.chain, position, bytes);
    const total = root.changes + changes.length;
    let newest = 0;
    for (const change of changes) if (change.version > newest) newest = change.version;
    this.#statements.addChanges.run(position, chain, total, newest, bytes);
    this.#root.write({ ...root, position, chain, changes: total, highVersion });
    if (position % TRIM_EVERY === 0) this.#trim(total, highVersion);
    return { position, chain: chain.toString('hex') };
  }

  /** Forgets the oldest changes: too many, or too old by the newest version that the archive knows. */
  #trim(total: number, highVersion: number): void {
    const oldest = highVersion - versionOfMs(CHANGES_KEPT_MS);
    let last = 0;
    for (const row of this.#statements.oldestChanges.all(TRIM_AT_ONCE)) {
      if (row.total > total - CHANGES_KEPT && row.newest >= oldest) break;
      last = row.position;
    }
    if (last > 0) this.#statements.removeChanges.run(last);
  }

  #moveHorizon({ upTo, log, nowMs, expiryMs }: CollectRequest): number {
    if (log !== undefined) this.#statements.registerLog.run(log.logId, log.lowerBound, nowMs);
    const root = this.#root.read();
    const bound = this.#statements.lowestBound.get(nowMs - expiryMs) ?? null;
    const target = bound === null ? upTo : Math.min(upTo, bound);
    if (target <= root.horizon) return root.horizon;
    this.#root.write({ ...root, horizon: target });
    return target;
  }

  #valuesOf(write: Revision, at: number): RowValues {
    const hash = hashOf(write);
    if (write.origin !== this.#origin) {
      this.#origin = write.origin;
      this.#originBytes = Buffer.from(write.origin, 'latin1');
    }
    return [
      write.id,
      write.version,
      this.#originBytes,
      write.deleted ? 1 : 0,
      hash,
      this.#hasher?.leaf(write, hash) ?? NO_LEAF,
      this.#checksumOf(write, hash, at),
      write.contentType,
      write.state,
      write.homeInstanceId ?? null,
      write.traceParent ?? null,
      write.traceState ?? null,
      write.content,
      write.redisTtlMs ?? null,
    ];
  }

  #checksumOf(write: Revision, hash: Buffer, at: number): number {
    const known = this.#checksums[at];
    // What a write was made from is no part of the row.
    if (known !== undefined && write.base === undefined) return checksum(hash, 0, hash.length, known);
    return this.#checker.checksumOf(write, hash);
  }
}

function prepare(connection: Connection) {
  const marks = COLUMNS.replaceAll(/[a-z_]+/g, '?');
  const [, ...changing] = COLUMNS.split(', ');
  const sets = changing.map((column) => `${column} = ?`);
  return {
    begin: connection.prepare('BEGIN IMMEDIATE'),
    commit: connection.prepare('COMMIT'),
    find: connection
      .prepare<[string], FoundValues>(
        'SELECT rowid, version, deleted, hex(leaf) FROM sync_items WHERE id = ?',
      )
      .raw() as Statement<[string], FoundValues>,
    order: connection
      .prepare<[number], OrderValues>('SELECT origin, content_hash FROM sync_items WHERE rowid = ?')
      .raw() as Statement<[number], OrderValues>,
    insert: connection.prepare<RowValues>(`INSERT INTO sync_items (${COLUMNS}) VALUES (${marks})`),
    update: connection.prepare<UpdateValues>(`UPDATE sync_items SET ${sets.join(', ')} WHERE rowid = ?`),
    addChanges: connection.prepare<[number, Buffer, number, number, Buffer]>(
      'INSERT INTO sync_changes (position, chain, total, newest, changes) VALUES (?, ?, ?, ?, ?)',
    ),
    oldestChanges: connection.prepare<[number], TrimRow>(
      'SELECT position, total, newest FROM sync_changes ORDER BY position LIMIT ?',
    ),
    removeChanges: connection.prepare<[number]>('DELETE FROM sync_changes WHERE position <= ?'),
    registerLog: connection.prepare<[string, number, number]>(
      `INSERT INTO sync_logs VALUES (?, ?, ?)
       ON CONFLICT DO UPDATE SET lower_bound = excluded.lower_bound, seen_ms = excluded.seen_ms`,
    ),
    lowestBound: connection
      .prepare<[number], number | null>('SELECT min(lower_bound) FROM sync_logs WHERE seen_ms >= ?')
      .pluck() as Statement<[number], number | null>,
    tombstones: connection
      .prepare<[number, number], [number, string, number, Buffer, Buffer]>(
        `SELECT rowid, id, version, origin, leaf FROM sync_items
          WHERE deleted = 1 AND version <= ? ORDER BY version LIMIT ?`,
      )
      .raw() as Statement<[number, number], [number, string, number, Buffer, Buffer]>,
    removeRow: connection.prepare<[number]>('DELETE FROM sync_items WHERE rowid = ?'),
    keepLetter: connection.prepare<[string, Buffer, string, number]>(
      'INSERT OR REPLACE INTO sync_letters VALUES (?, ?, ?, ?)',
    ),
    dropLetter: connection.prepare<[string]>('DELETE FROM sync_letters WHERE id = ?'),
    letters: connection
      .prepare<[], [Buffer, string, number]>(
        'SELECT record, reason, set_aside_ms FROM sync_letters ORDER BY id',
      )
      .raw() as Statement<[], [Buffer, string, number]>,
  };
}

/** Whether a row is newer than the write that `base` names. */
function isAbove(row: Revision, base: { readonly version: number; readonly origin: string }): boolean {
  return row.version !== base.version ? row.version > base.version : row.origin > base.origin;
}
