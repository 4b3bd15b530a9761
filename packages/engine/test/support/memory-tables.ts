/**
 * The data of one archive in memory, with the plain meaning of every data method of `ArchiveStore`: nothing is
 * kept up that can be computed from the rows, and nothing is fast. Real archives are compared with it.
 */

import { SyncEngineError } from '#engine/base/errors.js';
import { sha256 } from '#engine/base/hash.js';
import { compareOrder } from '#engine/item/order.js';
import { contentHashOf, type Revision } from '#engine/item/revision.js';
import { keyIdOf, LaneSum, LeafHasher } from '#engine/merkle/digest.js';
import { split } from '#engine/merkle/path.js';
import {
  APPLY_EXISTED,
  APPLY_REDO,
  APPLY_STORED,
  APPLY_TOO_OLD,
  APPLY_UNCHANGED,
  type ApplyResult,
  type ArchiveInfo,
  type ArchiveOpenOptions,
  type ChangeBatch,
  type ChangeHead,
  type ChangePage,
  type ChildDigest,
  type CollectRequest,
  type CollectResult,
  type PathDigest,
  type RowChange,
  type RowPage,
  type RowRange,
  type ScrubPage,
  type StoredLetter,
} from '#engine/storage/archive-store.js';

interface KnownLog {
  readonly lowerBound: number;
  readonly heardAtMs: number;
}

export class MemoryTables {
  /** Tests may put rows here themselves, even an error in the place of a damaged one; the log knows nothing of it. */
  readonly rows = new Map<string, Revision>();
  archiveId: string;
  /** Of all writes that were ever brought here, those that lost included. */
  highVersion = 0;
  horizon = 0;
  head: ChangeHead = { position: 0, chain: '0'.repeat(64) };
  merkleEnabled = true;
  readonly #logs = new Map<string, KnownLog>();
  readonly #letters = new Map<string, StoredLetter>();
  /** Behind `#start`, without a gap. */
  #changes: ChangeBatch[] = [];
  #start: ChangeHead = this.head;
  #key: Buffer;
  #hasher: LeafHasher;
  #adopted = false;
  /** Whether the key is kept by the configuration alone. */
  #given = false;

  /** @param key 32 bytes. */
  constructor(archiveId: string, key = sha256(Buffer.from(archiveId))) {
    this.archiveId = archiveId;
    this.#key = key;
    this.#hasher = new LeafHasher(key);
  }

  /**
   * The settings of the first open are the archive's. Before it, the key is the archive's own.
   * @throws `CONFIG` where later ones differ.
   */
  adopt(options: ArchiveOpenOptions): void {
    const { merkleEnabled, clusterKey } = options;
    if (!this.#adopted) {
      this.#adopted = true;
      this.merkleEnabled = merkleEnabled;
      this.#given = clusterKey !== undefined;
      if (clusterKey !== undefined) this.#key = Buffer.from(clusterKey, 'hex');
      this.#hasher = new LeafHasher(this.#key);
      return;
    }
    if (merkleEnabled !== this.merkleEnabled) {
      throw new SyncEngineError('CONFIG', 'The archive was created with another merkleEnabled.');
    }
    const given = clusterKey === undefined ? undefined : Buffer.from(clusterKey, 'hex');
    if (given === undefined ? this.#given : !given.equals(this.#key)) {
      throw new SyncEngineError('CONFIG', 'The archive was created with another clusterKey.');
    }
  }

  info(): ArchiveInfo {
    let highVersion = this.highVersion;
    for (const row of this.#healthy()) highVersion = Math.max(highVersion, row.version);
    return {
      archiveId: this.archiveId,
      highVersion,
      warnings: [],
      head: this.head,
      horizon: this.horizon,
      keyId: keyIdOf(this.#key),
    };
  }

  apply(writes: readonly Revision[]): ApplyResult {
    const flags = new Uint8Array(writes.length);
    const newer = new Map<number, number>();
    const changes: RowChange[] = [];
    writes.forEach((write, at) => {
      this.highVersion = Math.max(this.highVersion, write.version);
      const row = this.rows.get(write.id);
      const fate = this.#fateOf(write, row);
      if (fate === 'lost') newer.set(at, (row as Revision).version);
      else if (fate === 'too old') flags[at] = APPLY_TOO_OLD;
      else if (fate === 'redo') flags[at] = APPLY_REDO;
      else {
        const existed = row !== undefined && !row.deleted;
        const unchanged = fate === 'present';
        flags[at] = APPLY_STORED | (existed ? APPLY_EXISTED : 0) | (unchanged ? APPLY_UNCHANGED : 0);
      }
      if (fate === 'written') changes.push(this.#put(write));
    });
    this.#log(changes);
    return { flags, newer, head: this.head, changed: changes.length > 0 };
  }

  getMany(ids: readonly string[]): (Revision | SyncEngineError | undefined)[] {
    return ids.map((id) => this.rows.get(id));
  }

  scan(range: RowRange, after: string | undefined, limit: number): RowPage {
    const found = this.#idsBehind(after).filter((id) => this.#isInRange(id, range));
    const rows = found.slice(0, limit).map((id) => this.rows.get(id) as Revision);
    return { rows, more: found.length > limit };
  }

  count(range: RowRange, except: readonly string[]): number {
    const left = new Set(this.rows.keys());
    for (const id of except) left.delete(id);
    return [...left].filter((id) => this.#isInRange(id, range)).length;
  }

  ids(after: string | undefined, limit: number): string[] {
    return this.#idsBehind(after).slice(0, limit);
  }

  changesSince(from: ChangeHead, limit: number): ChangePage {
    const { head } = this;
    if (from.position > head.position) return { batches: [], head, gap: 'foreign' };
    if (from.position < this.#start.position) return { batches: [], head, gap: 'trimmed' };
    const there = [this.#start, ...this.#changes].find((one) => one.position === from.position);
    if (there?.chain !== from.chain) return { batches: [], head, gap: 'foreign' };
    const batches: ChangeBatch[] = [];
    let count = 0;
    for (const batch of this.#changes) {
      if (batch.position <= from.position) continue;
      if (count >= limit) break;
      batches.push(batch);
      count += batch.changes.length;
    }
    return { batches, head, gap: 'none' };
  }

  /** Forgets the changes up to and with `position`. */
  trim(position: number): void {
    const last = this.#changes.findLast((batch) => batch.position <= position);
    if (last === undefined) return;
    this.#start = { position: last.position, chain: last.chain };
    this.#changes = this.#changes.filter((batch) => batch.position > position);
  }

  digests(paths: readonly (readonly string[])[]): (PathDigest | undefined)[] {
    this.#assertDigests();
    return paths.map((path) => this.#digest(path));
  }

  children(
    path: readonly string[],
    after: string | undefined,
    limit: number,
  ): { readonly children: ChildDigest[]; readonly head: ChangeHead } {
    this.#assertDigests();
    const segments = this.#childrenOf(path).filter(
      (segment) => after === undefined || compareBytes(segment, after) > 0,
    );
    const children = segments
      .slice(0, limit)
      .map((segment) => ({ segment, ...(this.#digest([...path, segment]) as PathDigest) }));
    return { children, head: this.head };
  }

  scrub(after: string | undefined, limit: number): ScrubPage {
    const ids = this.#idsBehind(after);
    const page = ids.slice(0, limit);
    const corrupt = page.filter((id) => {
      const row = this.rows.get(id) as Revision;
      return isDamaged(row) || contentHashOf({ ...row, contentHash: undefined }) !== contentHashOf(row);
    });
    return { checked: page.length, last: ids.length > page.length ? page.at(-1) : undefined, corrupt };
  }

  /** Digests are always added up anew here. */
  verifyPath(_path: readonly string[]): boolean {
    this.#assertDigests();
    return true;
  }

  collect(request: CollectRequest): CollectResult {
    const { log, nowMs, expiryMs } = request;
    if (log !== undefined) this.#logs.set(log.logId, { lowerBound: log.lowerBound, heardAtMs: nowMs });
    const bounds = [...this.#logs.values()]
      .filter((one) => nowMs - one.heardAtMs <= expiryMs)
      .map((one) => one.lowerBound);
    this.horizon = Math.max(this.horizon, Math.min(request.upTo, ...bounds));
    const old = this.#idsBehind(undefined).filter((id) => {
      const row = this.rows.get(id) as Revision;
      return row.deleted && row.version <= this.horizon;
    });
    const collected = old.slice(0, request.limit);
    this.#log(collected.map((id) => this.#remove(id)));
    return {
      horizon: this.horizon,
      removed: collected.length,
      more: old.length > collected.length,
      head: this.head,
    };
  }

  /** A newer letter of the id stays. */
  keepLetters(letters: readonly StoredLetter[]): void {
    for (const letter of letters) {
      const { revision } = letter;
      const known = this.#letters.get(revision.id);
      if (known === undefined || compareOrder(revision, known.revision) >= 0) {
        this.#letters.set(revision.id, letter);
      }
    }
  }

  dropLetters(ids: readonly string[]): void {
    for (const id of ids) this.#letters.delete(id);
  }

  letters(): StoredLetter[] {
    return [...this.#letters.values()];
  }

  #fateOf(
    write: Revision,
    row: Revision | undefined,
  ): 'written' | 'present' | 'done' | 'lost' | 'redo' | 'too old' {
    if (row === undefined) {
      const { base } = write;
      if (base?.rule === 'exactly' && base.version <= this.horizon && !write.deleted) return 'too old';
      if (write.version > this.horizon) return 'written';
      return write.deleted ? 'done' : 'too old';
    }
    if (isDamaged(row)) return 'written';
    const order = compareOrder(write, row);
    if (order < 0) return 'lost';
    if (order === 0) return 'present';
    const { base } = write;
    if (base === undefined) return 'written';
    const isBase = row.version === base.version && row.origin === base.origin;
    if (base.rule === 'exactly') return isBase ? 'written' : 'redo';
    const isNewer = row.version > base.version || (row.version === base.version && row.origin > base.origin);
    return isNewer ? 'lost' : 'written';
  }

  #put(write: Revision): RowChange {
    const before = this.rows.get(write.id);
    const { base: _base, ...kept } = write;
    const row: Revision = { ...kept, contentHash: contentHashOf(write) };
    this.rows.set(row.id, row);
    return this.#change(row, row.deleted ? 'delete' : 'put', before, row);
  }

  #remove(id: string): RowChange {
    const row = this.rows.get(id) as Revision;
    this.rows.delete(id);
    return this.#change(row, 'collected', row, undefined);
  }

  #change(
    of: Revision,
    kind: RowChange['kind'],
    before: Revision | undefined,
    after: Revision | undefined,
  ): RowChange {
    const sum = new LaneSum();
    if (after !== undefined) sum.add(this.#leaf(after));
    if (before !== undefined && !isDamaged(before)) sum.subtract(this.#leaf(before));
    return {
      id: of.id,
      version: of.version,
      origin: of.origin,
      kind,
      delta: this.merkleEnabled ? sum.bytes() : Buffer.alloc(0),
      countDelta: (after === undefined ? 0 : 1) - (before === undefined ? 0 : 1),
    };
  }

  #log(changes: readonly RowChange[]): void {
    if (changes.length === 0) return;
    const position = this.head.position + 1;
    const text = JSON.stringify([
      this.head.chain,
      position,
      changes.map((change) => ({ ...change, delta: change.delta.toString('hex') })),
    ]);
    const chain = sha256(Buffer.from(text)).toString('hex');
    this.head = { position, chain };
    this.#changes.push({ position, chain, changes });
  }

  #leaf(row: Revision): Buffer {
    return this.#hasher.leaf(row, Buffer.from(contentHashOf(row), 'hex'));
  }

  #digest(path: readonly string[]): PathDigest | undefined {
    const rows = this.#healthy().filter((row) => beginsWith(split(row.id), path));
    if (rows.length === 0) return undefined;
    const sum = new LaneSum();
    for (const row of rows) sum.add(this.#leaf(row));
    return {
      count: rows.length,
      sum: sum.bytes(),
      isLeaf: rows.some((row) => split(row.id).length === path.length),
      childCount: this.#childrenOf(path).length,
    };
  }

  #childrenOf(path: readonly string[]): string[] {
    const segments = new Set<string>();
    for (const row of this.#healthy()) {
      const own = split(row.id);
      if (own.length > path.length && beginsWith(own, path)) segments.add(own[path.length] as string);
    }
    return [...segments].sort(compareBytes);
  }

  /** A damaged row is in every state: nobody knows which was its own. */
  #isInRange(id: string, { prefix, state }: RowRange): boolean {
    const row = this.rows.get(id) as Revision;
    if (!id.startsWith(prefix) || row.deleted) return false;
    return state === undefined || isDamaged(row) || row.state === state;
  }

  #idsBehind(after: string | undefined): string[] {
    const ids = [...this.rows.keys()].filter((id) => after === undefined || compareBytes(id, after) > 0);
    return ids.sort(compareBytes);
  }

  #healthy(): Revision[] {
    return [...this.rows.values()].filter((row) => !isDamaged(row));
  }

  #assertDigests(): void {
    if (!this.merkleEnabled) throw new SyncEngineError('CONFIG', 'The archive keeps no digests.');
  }
}

function isDamaged(row: Revision): boolean {
  return (row as unknown) instanceof SyncEngineError;
}

function beginsWith(segments: readonly string[], path: readonly string[]): boolean {
  return path.every((segment, at) => segments[at] === segment);
}

function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
