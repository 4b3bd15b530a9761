/**
 * Dead letters: writes that the archive refuses because of the row itself. Each stays in memory, pinned, as the
 * newest write of its id, so reads show it; and durable, in the log with its refusal, or without a log in a
 * table of the archive. It ends when it is retried with success, superseded by a newer write, or discarded.
 */
import { SyncEngineError } from '../base/errors.js';
import { compareIds } from '../item/id-order.js';
import { isNewer } from '../item/order.js';
import type { Revision } from '../item/revision.js';
import type { SyncItem } from '../item/sync-item.js';
import type { Entry } from '../memory/entry.js';
import type { MemoryCache } from '../memory/memory-cache.js';
import type { Clock } from '../ports/ports.js';
import { APPLY_REDO, APPLY_TOO_OLD, type ApplyResult } from '../storage/archive-store.js';
import type { GuardedArchive } from '../storage/guarded-archive.js';
import type { WriteAheadLog } from '../wal/write-ahead-log.js';

const VERIFIED_AT_ONCE = 1000;
const REASON_LENGTH_MAX = 1000;

/**
 * A write that SQL refused because of the row itself. Reads answer with it until it is retried, discarded or
 * superseded.
 */
export interface DeadLetter {
  readonly id: string;
  readonly version: number;
  readonly deleted: boolean;
  /** What was to be written; `undefined` for a delete. */
  readonly item: SyncItem | undefined;
  /** Why SQL refused it. */
  readonly reason: string;
  readonly setAsideAtMs: number;
}

export interface LetterParts {
  readonly memory: MemoryCache;
  readonly log: WriteAheadLog | undefined;
  readonly archive: () => GuardedArchive | undefined;
  readonly clock: Clock;
  readonly added: (id: string, error: SyncEngineError) => void;
  readonly failed: (error: unknown) => void;
}

export class DeadLetters {
  readonly #parts: LetterParts;
  readonly #entries = new Map<string, Entry>();
  /** Without a log: ids whose letter in SQL stays until what supersedes it is stored. */
  readonly #superseded = new Set<string>();
  /** Ids of restored letters that were not yet compared with SQL. */
  readonly #unverified = new Set<string>();
  #verifying = false;

  constructor(parts: LetterParts) {
    this.#parts = parts;
  }

  get count(): number {
    return this.#entries.size;
  }

  find(id: string): Entry | undefined {
    return this.#entries.get(id);
  }

  /** Sets an entry's revision aside, durably as soon as can be. */
  add(entry: Entry, reason: string): void {
    entry.setAside({ reason: shortened(reason), atMs: this.#parts.clock.now() });
    this.#entries.set(entry.id, entry);
    this.#superseded.delete(entry.id);
    const { log } = this.#parts;
    if (log !== undefined) log.append(entry);
    else this.#keep(entry);
    this.#parts.added(entry.id, rejectedError(entry.id, reason));
  }

  /**
   * Takes one that was kept from before. What superseded it may have been stored before the log forgot it, so it
   * is compared with SQL (`verify`) as soon as that answers.
   */
  restore(entry: Entry): void {
    this.#entries.set(entry.id, entry);
    this.#unverified.add(entry.id);
  }

  /** Letters that a crash now would lose. */
  get volatileCount(): number {
    if (this.#parts.log === undefined) return 0;
    let count = 0;
    for (const { revision, loggedVersion, logStale } of this.#entries.values())
      if (logStale || loggedVersion !== revision.version) count++;
    return count;
  }

  /** Drops the restored letters that SQL holds something newer of. Never rejects; called whenever SQL is back. */
  async verify(lost: (entry: Entry, revision: Revision) => void): Promise<void> {
    if (this.#verifying || this.#unverified.size === 0) return;
    this.#verifying = true;
    await this.#verify(lost);
    this.#verifying = false;
  }

  async #verify(lost: (entry: Entry, revision: Revision) => void): Promise<void> {
    const archive = this.#parts.archive();
    while (this.#unverified.size > 0 && archive?.available === true) {
      const ids = [...this.#unverified].slice(0, VERIFIED_AT_ONCE);
      let rows: (Revision | SyncEngineError | undefined)[];
      try {
        rows = await archive.getMany(ids);
      } catch (error) {
        this.#parts.failed(error);
        return;
      }
      ids.forEach((id, at) => {
        const row = rows[at];
        const entry = this.#entries.get(id);
        if (!this.#unverified.delete(id) || entry === undefined || row === undefined) return;
        if (row instanceof SyncEngineError || isNewer(entry.revision, row)) return;
        this.#entries.delete(id);
        lost(entry, entry.revision);
        if (this.#parts.log === undefined) this.#drop(id);
      });
    }
  }

  /** A newer write of the id is being taken: it stands in the letter's place. */
  superseded(id: string): void {
    if (this.#entries.size === 0 || !this.#entries.delete(id)) return;
    this.#unverified.delete(id);
    if (this.#parts.log === undefined) this.#superseded.add(id);
  }

  /** Writes were stored, or have lost to something newer. */
  stored(writes: readonly Revision[], { flags }: ApplyResult): void {
    if (this.#superseded.size === 0) return;
    for (let at = 0; at < writes.length; at++) {
      const { id } = writes[at] as Revision;
      const decided = ((flags[at] as number) & (APPLY_REDO | APPLY_TOO_OLD)) === 0;
      if (decided && this.#superseded.delete(id)) this.#drop(id);
    }
  }

  /** What the archive holds of the id is what reads find from now on. @throws `WAL_FAILED`, `TIER_UNAVAILABLE`. */
  async discard(id: string): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry === undefined) throw noLetter(id);
    const { memory, log } = this.#parts;
    if (log === undefined) await this.#parts.archive()?.dropLetters([id]);
    // Superseded while SQL was asked.
    if (this.#entries.get(id) !== entry) return;
    this.#entries.delete(id);
    this.#unverified.delete(id);
    memory.drop(entry);
    if (log === undefined || entry.logPosition === 0) return;
    await log.forget(entry.logPosition);
  }

  /** In byte order of the ids. */
  list(after: string | undefined, limit: number): DeadLetter[] {
    const ids = [...this.#entries.keys()].sort(compareIds);
    const letters: DeadLetter[] = [];
    for (const id of ids) {
      if (letters.length === limit) break;
      if (after === undefined || compareIds(id, after) > 0)
        letters.push(letterOf(this.#entries.get(id) as Entry));
    }
    return letters;
  }

  #keep(entry: Entry): void {
    const { revision } = entry;
    const { refusal } = revision;
    if (refusal === undefined) return;
    const letter = { revision, reason: refusal.reason, setAsideAtMs: refusal.atMs };
    this.#parts.archive()?.keepLetters([letter]).catch(this.#parts.failed);
  }

  #drop(id: string): void {
    this.#parts.archive()?.dropLetters([id]).catch(this.#parts.failed);
  }
}

/** A database may say much; the log keeps the beginning. */
function shortened(reason: string): string {
  if (reason.length <= REASON_LENGTH_MAX) return reason.toWellFormed();
  return `${reason.slice(0, REASON_LENGTH_MAX)}…`.toWellFormed();
}

export function rejectedError(id: string, reason: string): SyncEngineError {
  return new SyncEngineError(
    'REJECTED',
    `SQL refuses this row: ${shortened(reason)}. The write is set aside and shown by reads; deadLetters.list() has it. Retry it after mending the cause, discard it, or write the id again.`,
    { outcome: 'indeterminate', context: { tier: 'sql', id } },
  );
}

export function noLetter(id: string): SyncEngineError {
  return new SyncEngineError(
    'CONFIG',
    'There is no dead letter of this id; deadLetters.list() shows which there are.',
    {
      context: { id },
    },
  );
}

function letterOf(entry: Entry): DeadLetter {
  const { revision } = entry;
  return {
    id: revision.id,
    version: revision.version,
    deleted: revision.deleted,
    item: revision.deleted ? undefined : entry.item,
    reason: revision.refusal?.reason ?? '',
    setAsideAtMs: revision.refusal?.atMs ?? 0,
  };
}
