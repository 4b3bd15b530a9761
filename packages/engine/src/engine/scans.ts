/**
 * Scans, counts and queries by state: what is pending is merged with what SQL holds, in byte order of the ids.
 *
 * Invariant: for one page, what is pending is captured before SQL is read, and what SQL then shows is never older
 * than that. So a write from before the call is in one of the two, whatever is flushed in between. A page speaks
 * of ids behind a cursor, so an item that exists throughout a scan is met exactly once, whoever else writes.
 */
import { SyncEngineError } from '../base/errors.js';
import { compareIds, mergeRuns } from '../item/id-order.js';
import { isNewer } from '../item/order.js';
import type { Revision } from '../item/revision.js';
import type { MemoryCache, Pending } from '../memory/memory-cache.js';
import type { Scheduler } from '../ports/ports.js';
import type { RowPage, RowRange } from '../storage/archive-store.js';
import type { GuardedArchive } from '../storage/guarded-archive.js';
import type { DamagedIds } from './damaged-ids.js';

export interface ScanParts {
  readonly memory: MemoryCache;
  /** Without one, what memory holds is all there is. */
  readonly archive: GuardedArchive | undefined;
  readonly damaged: DamagedIds;
  readonly corrupt: (id: string) => void;
  /** Reads spilled writes from the log; what it has released meanwhile is left out. */
  readonly spilled: (ids: readonly string[]) => Promise<Revision[]>;
  readonly scheduler: Scheduler;
}

/** Slots looked at in one turn of the event loop. */
const WALKED_AT_ONCE = 10_000;
/** Content of spilled writes that one page may bring; a page with less than was asked for is not the last. */
const SPILLED_BYTES_A_PAGE = 16 * 1024 * 1024;

export class Scans {
  readonly #parts: ScanParts;

  constructor(parts: ScanParts) {
    this.#parts = parts;
  }

  /** A walk over live revisions in the range, from behind `after`. */
  begin(range: RowRange, after: string | undefined): Scan {
    return new Scan(range, after, this.#parts);
  }

  /**
   * How many live items there are.
   * @throws `TIER_UNAVAILABLE`; `CORRUPTION` where the newest write of an id in the range is damaged.
   */
  async count(range: RowRange): Promise<number> {
    const { memory, archive, damaged } = this.#parts;
    for (const error of damaged.within(range.prefix)) {
      if (memory.presence(error.context.id as string) === 'absent') throw error;
    }
    let count = 0;
    if (archive === undefined) {
      for (const revision of memory.revisions()) if (isIn(revision, range)) count++;
      return count;
    }
    const pending: string[] = [];
    for (const write of memory.pendings(range.prefix)) {
      pending.push(write.id);
      if (isIn(write, range)) count++;
    }
    try {
      return count + (await archive.count(range, pending));
    } catch (cause) {
      throw unavailable(cause);
    }
  }
}

/** One walk. Not for concurrent use. */
export class Scan {
  readonly #range: RowRange;
  readonly #parts: ScanParts;
  /** Ids that were pending when the walk began, in byte order; `undefined` before the first page. */
  #captured: readonly string[] | undefined;
  #at = 0;
  #after: string | undefined;
  #ended = false;

  constructor(range: RowRange, after: string | undefined, parts: ScanParts) {
    this.#range = range;
    this.#after = after;
    this.#parts = parts;
  }

  get #pending(): readonly string[] {
    return this.#captured ?? [];
  }

  /** In portions: there may be millions of ids, and the event loop goes on. */
  async #captureIds(): Promise<readonly string[]> {
    const { memory, archive, scheduler } = this.#parts;
    const pause = (): Promise<void> => new Promise((resolve) => scheduler.soon(resolve));
    const { prefix } = this.#range;
    const runs: string[][] = [];
    for (let from: number | undefined = 0; from !== undefined; ) {
      const { ids, next } = memory.idsFrom(from, WALKED_AT_ONCE, archive === undefined);
      const run = ids.filter(
        (id) => id.startsWith(prefix) && (this.#after === undefined || compareIds(id, this.#after) > 0),
      );
      if (run.length > 0) runs.push(run.sort(compareIds));
      from = next;
      if (from !== undefined) await pause();
    }
    return mergeRuns(runs, WALKED_AT_ONCE, pause);
  }

  get ended(): boolean {
    return this.#ended;
  }

  /**
   * The next revisions, `limit` at most; fewer, even none, does not mean the end (`ended` does).
   * @throws `TIER_UNAVAILABLE`; `CORRUPTION` for a damaged row, with its id in the context: a scan can go on behind it.
   */
  async next(limit: number): Promise<Revision[]> {
    if (this.#ended) return [];
    this.#captured ??= await this.#captureIds();
    const { archive } = this.#parts;
    const captured = await this.#capture(limit);
    if (archive === undefined) {
      this.#ended = this.#at >= this.#pending.length;
      return [...captured.values()].filter((revision) => isIn(revision, this.#range));
    }
    const morePending = this.#at < this.#pending.length;
    const lastPending = morePending ? this.#pending[this.#at - 1] : undefined;
    let page: RowPage;
    try {
      page = await archive.scan(this.#range, this.#after, limit);
    } catch (cause) {
      throw unavailable(cause);
    }
    await this.#captureSpilled(page, captured);
    return this.#merge(captured, lastPending, page, limit);
  }

  /** The pending revisions next in line, as they are now: what is settled by now is in SQL. */
  async #capture(limit: number): Promise<Map<string, Revision>> {
    const captured = new Map<string, Revision>();
    const { memory, archive } = this.#parts;
    const spilled: string[] = [];
    let bytes = 0;
    for (let taken = 0; taken < limit && this.#at < this.#pending.length; taken++) {
      if (bytes > SPILLED_BYTES_A_PAGE) break;
      const id = this.#pending[this.#at++] as string;
      const newest = memory.newest(id);
      if (newest === 'spilled') {
        spilled.push(id);
        bytes += memory.spilledBytes(id);
      } else if (newest !== 'absent' && (archive === undefined || memory.isPending(id)))
        captured.set(id, newest);
    }
    // Before SQL is read: what the log has released by then, SQL shows.
    if (spilled.length > 0) {
      for (const revision of await this.#parts.spilled(spilled)) captured.set(revision.id, revision);
    }
    return captured;
  }

  /** Writes that came after the walk began and only the log holds: they shadow their rows as well. */
  async #captureSpilled(page: RowPage, captured: Map<string, Revision>): Promise<void> {
    const { memory, spilled } = this.#parts;
    if (memory.spilledCount === 0) return;
    const late: string[] = [];
    for (const row of page.rows) {
      const id = row instanceof SyncEngineError ? (row.context.id as string) : row.id;
      if (!captured.has(id) && memory.newest(id) === 'spilled') late.push(id);
    }
    if (late.length === 0) return;
    for (const revision of await spilled(late)) captured.set(revision.id, revision);
  }

  /** Both sides up to where the shorter of them is complete, or up to a damaged row. */
  #merge(
    captured: Map<string, Revision>,
    lastPending: string | undefined,
    page: RowPage,
    limit: number,
  ): Revision[] {
    const newest = new Map<string, Revision | SyncEngineError>();
    let lastRow: string | undefined;
    for (const row of page.rows) {
      const id = row instanceof SyncEngineError ? (row.context.id as string) : row.id;
      lastRow = id;
      newest.set(id, this.#newestOf(id, row, captured.get(id)));
    }
    for (const [id, revision] of captured) {
      if (!newest.has(id)) newest.set(id, this.#newestOf(id, undefined, revision));
    }
    for (const error of this.#parts.damaged.within(this.#range.prefix)) this.#addDamage(error, newest);
    let end = page.more ? lastRow : undefined;
    if (lastPending !== undefined && (end === undefined || compareIds(lastPending, end) < 0))
      end = lastPending;
    const found: Revision[] = [];
    let passed: string | undefined;
    for (const id of [...newest.keys()].sort(compareIds)) {
      if (end !== undefined && compareIds(id, end) > 0) break;
      const revision = newest.get(id) as Revision | SyncEngineError;
      if (found.length === limit || (revision instanceof SyncEngineError && passed !== undefined)) {
        end = passed;
        break;
      }
      if (revision instanceof SyncEngineError) {
        this.#goOnBehind(id);
        this.#parts.corrupt(id);
        throw revision;
      }
      if (isIn(revision, this.#range)) found.push(revision);
      passed = id;
    }
    if (end === undefined) this.#ended = true;
    else this.#goOnBehind(end);
    return found;
  }

  /** An id whose newest acknowledged write is damaged, unless something newer is known. */
  #addDamage(error: SyncEngineError, newest: Map<string, Revision | SyncEngineError>): void {
    const id = error.context.id as string;
    if (this.#after !== undefined && compareIds(id, this.#after) <= 0) return;
    if (this.#parts.memory.presence(id) === 'absent') newest.set(id, error);
  }

  #goOnBehind(id: string): void {
    this.#after = id;
    while (this.#at > 0 && compareIds(this.#pending[this.#at - 1] as string, id) > 0) this.#at--;
  }

  /**
   * What a get would find: a pending write shadows its row even where that is newer, until it has lost to it. The
   * error of a damaged row, where nothing newer is known.
   */
  #newestOf(
    id: string,
    row: Revision | SyncEngineError | undefined,
    captured: Revision | undefined,
  ): Revision | SyncEngineError {
    const { memory } = this.#parts;
    const present = memory.newest(id);
    let newest = captured;
    // Captured in memory, and spilled since.
    if (present === 'spilled' && captured !== undefined) return captured;
    if (typeof present === 'object') {
      if (memory.isPending(id)) return present;
      if (newest === undefined || isNewer(present, newest)) newest = present;
    }
    if (row === undefined || row instanceof SyncEngineError) return newest ?? (row as SyncEngineError);
    return newest === undefined || isNewer(row, newest) ? row : newest;
  }
}

function isIn(revision: Pending, range: RowRange): boolean {
  return (
    !revision.deleted &&
    revision.id.startsWith(range.prefix) &&
    (range.state === undefined || revision.state === range.state)
  );
}

function unavailable(cause: unknown): SyncEngineError {
  if (cause instanceof SyncEngineError && cause.code === 'CORRUPTION') return cause;
  return new SyncEngineError(
    'TIER_UNAVAILABLE',
    'SQL cannot be asked, so what the scan would find is unknown. Try again; healthCheck() says what SQL is doing.',
    { context: { tier: 'sql', operation: 'scan' }, cause },
  );
}
