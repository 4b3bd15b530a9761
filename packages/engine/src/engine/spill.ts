/**
 * Pending writes that leave memory because the log holds them, and come back from it.
 *
 *   pending ──memory is needed, and the log has the newest version──► spilled ──SQL takes writes──► pending ─► flush
 *                                                                        │
 *                                                       a read asks the log for the record
 *
 * Invariant: while an id is spilled the log holds its newest write at the position that memory remembers; a record
 * leaves the log only after memory has stopped pointing at it. So a read that finds the record gone starts anew. A
 * record that is not there although memory still points at it is damage, and is reported as such.
 */
import { messageOf, SyncEngineError } from '../base/errors.js';
import type { Revision } from '../item/revision.js';
import { itemOf, type SyncItem } from '../item/sync-item.js';
import type { Entry } from '../memory/entry.js';
import type { MemoryCache, SpilledRef } from '../memory/memory-cache.js';
import type { SystemPorts, Timer } from '../ports/ports.js';
import type { DamagedRecord, LoadedRecord } from '../wal/record-store.js';
import type { WriteAheadLog } from '../wal/write-ahead-log.js';

/** Shares of the budget: where more than the first cannot be evicted, pending writes are spilled down to the second. */
const SPILL_FROM = 0.5;
export const SPILL_TO = 0.4;
/** Share that pending writes may keep, however much the spilled ones take: what comes back for SQL must have room. */
const KEPT_SHARE = 0.05;
/** Entries looked at in one turn of the event loop. */
const LOOKED_AT_MAX = 2000;
/** Of one read: the log's thread commits nothing meanwhile. */
const RECORDS_PER_READ_MAX = 1000;
const BYTES_PER_READ_MAX = 4 * 1024 * 1024;

export interface SpillParts {
  readonly memory: MemoryCache;
  readonly log: WriteAheadLog;
  readonly ports: SystemPorts;
  /** The entry leaves the queue in which it waits for SQL. */
  readonly leaving: (entry: Entry) => void;
  /** Most entries that the heap has room for. */
  readonly entriesMax: number;
  /** Memory has room again. */
  readonly spilled: () => void;
  /** The log cannot give back what it holds of a spilled write. */
  readonly lost: (ref: SpilledRef) => void;
  /** A read that has to start anew. */
  readonly get: (id: string) => Promise<SyncItem | undefined>;
}

/** One record that reads wait for. */
interface Waiting {
  readonly position: number;
  readonly bytes: number;
  readonly resolve: (record: LoadedRecord | DamagedRecord | undefined) => void;
  readonly reject: (error: SyncEngineError) => void;
}

export class Spill {
  readonly #config: { readonly sqlReadTimeoutMs: number };
  readonly #parts: SpillParts;
  #waiting: Waiting[] = [];
  #scheduled = false;
  #cursor = 0;

  constructor(config: { readonly sqlReadTimeoutMs: number }, parts: SpillParts) {
    this.#config = config;
    this.#parts = parts;
  }

  /** Called when something was written or logged: makes room, soon, if there is need. */
  relieve(): void {
    const { log, ports } = this.#parts;
    if (this.#scheduled || this.#fill <= SPILL_FROM || !this.#worthIt || log.status !== 'open') return;
    this.#scheduled = true;
    ports.scheduler.soon(() => {
      this.#scheduled = false;
      this.#spill();
    });
  }

  /** The item of an id that memory said is spilled. @throws `CORRUPTION`, `TIER_UNAVAILABLE`; as `get`. */
  async get(id: string): Promise<SyncItem | undefined> {
    const { memory } = this.#parts;
    for (;;) {
      const position = memory.spilledPosition(id);
      if (position === 0) return this.#parts.get(id);
      const record = await this.#record(position, memory.spilledBytes(id));
      if (memory.spilledPosition(id) !== position) continue;
      const revision = intact(record, id);
      if (revision !== undefined) return revision.deleted ? undefined : itemOf(revision);
      this.#parts.lost({ id, position });
    }
  }

  /** The newest writes of ids that memory said are spilled; what is not any more is left out. */
  async getMany(ids: readonly string[]): Promise<Revision[]> {
    const { memory } = this.#parts;
    const found: Revision[] = [];
    const read = async (id: string): Promise<void> => {
      for (;;) {
        const position = memory.spilledPosition(id);
        if (position === 0) {
          // Replaced while it was read: what took its place may be in no other tier yet.
          const newest = memory.newest(id);
          if (typeof newest === 'object' && memory.isPending(id)) found.push(newest);
          return;
        }
        const revision = intact(await this.#record(position, memory.spilledBytes(id)), id);
        if (revision !== undefined && revision.version === memory.versionOf(id)) {
          found.push(revision);
          return;
        }
        if (memory.spilledPosition(id) === position) this.#parts.lost({ id, position });
      }
    };
    await Promise.all(ids.map(read));
    return found;
  }

  /**
   * Brings spilled writes back, the longest spilled first.
   * @throws what the log throws; then nothing came back.
   */
  async refill(refs: readonly SpilledRef[]): Promise<Entry[]> {
    const { memory, log } = this.#parts;
    const records = await this.#within(log.read(refs.map((ref) => ref.position)));
    const entries: Entry[] = [];
    for (let at = 0; at < refs.length; at++) {
      const ref = refs[at] as SpilledRef;
      if (memory.spilledPosition(ref.id) !== ref.position) continue;
      const revision = intact(records[at], ref.id);
      const entry = revision === undefined ? undefined : memory.unspill(revision, ref.position);
      if (entry !== undefined) entries.push(entry);
      else this.#parts.lost(ref);
    }
    return entries;
  }

  /** Share of memory or of the heap, whichever is fuller, that what is not stored takes. */
  get #fill(): number {
    const { memory, entriesMax } = this.#parts;
    return Math.max(memory.pinnedBytes / memory.bytesMax, memory.dirty.length / entriesMax);
  }

  get #worthIt(): boolean {
    const { memory } = this.#parts;
    return memory.dirty.length > 0 && memory.hotBytes > memory.bytesMax * KEPT_SHARE;
  }

  #spill(): void {
    const { memory, leaving, log } = this.#parts;
    // While the log is opened anew its records are compared with what memory holds: that must not move.
    if (log.status !== 'open') return;
    const { dirty } = memory;
    let spilled = 0;
    for (let looked = 0; looked < LOOKED_AT_MAX && this.#worthIt && this.#fill > SPILL_TO; looked++) {
      if (this.#cursor >= dirty.length) this.#cursor = 0;
      const entry = dirty[this.#cursor] as Entry;
      // A younger one takes its place in `dirty`, so the cursor stays.
      if (entry.lane !== 'batch' && entry.spillable && memory.spill(entry)) {
        leaving(entry);
        spilled++;
      } else this.#cursor++;
    }
    // Where nothing could be spilled, the next group in the log is the next chance.
    if (spilled === 0) return;
    this.#parts.spilled();
    this.relieve();
  }

  /** Reads of one turn go to the log together. */
  #record(position: number, bytes: number): Promise<LoadedRecord | DamagedRecord | undefined> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.length === 0) this.#parts.ports.scheduler.soon(() => void this.#send());
      this.#waiting.push({ position, bytes, resolve, reject });
    });
  }

  /** In portions, one after the other: each has its own deadline, and reads of other turns come in between. */
  async #send(): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (let from = 0; from < waiting.length; ) {
      let end = from;
      for (let bytes = 0; end < waiting.length && end - from < RECORDS_PER_READ_MAX; end++) {
        bytes += (waiting[end] as Waiting).bytes;
        if (bytes > BYTES_PER_READ_MAX && end > from) break;
      }
      const portion = waiting.slice(from, end);
      try {
        const records = await this.#within(this.#parts.log.read(portion.map((one) => one.position)));
        for (let at = 0; at < portion.length; at++) (portion[at] as Waiting).resolve(records[at]);
      } catch (cause) {
        // The rest would only wait as long again.
        for (const one of waiting.slice(from)) one.reject(unavailable(cause));
        return;
      }
      from = end;
    }
  }

  #within<T>(work: Promise<T>): Promise<T> {
    const { sqlReadTimeoutMs } = this.#config;
    let timer: Timer | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = this.#parts.ports.scheduler.after(sqlReadTimeoutMs, () =>
        reject(new Error(`The log did not answer within sqlReadTimeoutMs (${sqlReadTimeoutMs})`)),
      );
    });
    return Promise.race([work, late]).finally(() => timer?.cancel());
  }
}

function intact(record: LoadedRecord | DamagedRecord | undefined, id: string): Revision | undefined {
  if (record === undefined || !('revision' in record)) return undefined;
  return record.revision.id === id ? record.revision : undefined;
}

function unavailable(cause: unknown): SyncEngineError {
  return new SyncEngineError(
    'TIER_UNAVAILABLE',
    `The newest write of this id is in the log, which cannot be read now: ${messageOf(cause)}. Try again; healthCheck() says what the log is doing.`,
    { context: { tier: 'wal' }, cause },
  );
}
