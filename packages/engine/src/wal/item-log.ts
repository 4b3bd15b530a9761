/**
 * The log for use alone: items go in and are durable when the promise resolves; what is done with is released. The
 * engine has its own, which also knows acknowledgements and what is pending; the file and the thread are the same.
 *
 * While one group is being committed the next one fills, so many callers share one fsync.
 */
import { hostname } from 'node:os';
import { SyncEngineError } from '../base/errors.js';
import { changed, type Revision } from '../item/revision.js';
import { itemOf, revisionOf, type SyncItem } from '../item/sync-item.js';
import { systemPorts } from '../ports/system/system-ports.js';
import { SqliteRecordStore } from './sqlite-record-store.js';

const ORIGIN = '\0'.repeat(16);
const GROUP_RECORDS_MAX = 5000;

/** A record that a log held when it was opened. */
export interface LoggedItem {
  readonly position: number;
  readonly item: SyncItem;
}

interface Waiting {
  readonly resolve: (position: number) => void;
  readonly reject: (error: unknown) => void;
}

/** A crash-safe list of items in a SQLite file that belongs to this process. Needs `better-sqlite3`. */
export class WriteAheadLog implements AsyncDisposable {
  readonly #store: SqliteRecordStore;
  #nextPosition: number;
  #appends: Revision[] = [];
  #waiting: Waiting[] = [];
  #removes: number[] = [];
  #released: Waiting[] = [];
  #committing = false;
  #idle: (() => void)[] = [];
  #closed = false;

  private constructor(store: SqliteRecordStore, nextPosition: number) {
    this.#store = store;
    this.#nextPosition = nextPosition;
  }

  /**
   * Opens or creates the log. `visit` is called with every item that was appended and not released, oldest first.
   * @throws `CONFLICT` where another process has it, `CORRUPTION` for a damaged file or record, `WAL_FAILED`, `CONFIG`.
   */
  static async open(path: string, visit: (logged: LoggedItem) => void = () => {}): Promise<WriteAheadLog> {
    const store = new SqliteRecordStore(path, `process ${process.pid} on ${hostname()}`);
    const random = (): string => Buffer.from(systemPorts.random.bytes(16)).toString('hex');
    await store.open({ nodeId: undefined, newLogId: random(), newNodeId: random().slice(0, 10) });
    const { damaged, nextPosition } = await store.load((records) => {
      for (const { position, revision } of records)
        visit({ position, item: itemOf(changed(revision, { version: 0, origin: '' })) });
    });
    if (damaged.length === 0) return new WriteAheadLog(store, nextPosition);
    await store.close();
    const ids = damaged.map(({ id }) => id ?? 'unknown').join(', ');
    throw new SyncEngineError(
      'CORRUPTION',
      `${damaged.length} records of the log ${path} are damaged (${ids}). Keep the file; restore it, or move it aside to start without it.`,
      { context: { tier: 'wal', path } },
    );
  }

  /** Durable when it resolves, with the position by which it is released. @throws `WAL_FULL`, `WAL_FAILED`. */
  append(item: SyncItem): Promise<number> {
    if (this.#closed) return Promise.reject(closedError());
    return new Promise((resolve, reject) => {
      this.#appends.push(changed(revisionOf(item), { version: 1, origin: ORIGIN }));
      this.#waiting.push({ resolve, reject });
      this.#pump();
    });
  }

  /** Forgets a record; durable when it resolves. */
  release(position: number): Promise<void> {
    if (this.#closed) return Promise.reject(closedError());
    return new Promise<number>((resolve, reject) => {
      this.#removes.push(position);
      this.#released.push({ resolve, reject });
      this.#pump();
    }).then(() => undefined);
  }

  /** Ends the log once everything before the call is durable. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#committing) await new Promise<void>((resolve) => this.#idle.push(resolve));
    await this.#store.close();
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #pump(): void {
    if (this.#committing) return;
    this.#committing = true;
    // What is called in this turn shares a group.
    systemPorts.scheduler.soon(() => void this.#commit());
  }

  async #commit(): Promise<void> {
    while (this.#appends.length > 0 || this.#removes.length > 0) {
      const appends = this.#appends.splice(0, GROUP_RECORDS_MAX);
      const waiting = this.#waiting.splice(0, GROUP_RECORDS_MAX);
      const removes = this.#removes.splice(0);
      const released = this.#released.splice(0);
      const firstPosition = this.#nextPosition;
      this.#nextPosition += appends.length;
      try {
        await this.#store.commit({ firstPosition, appends, removes });
        waiting.forEach((one, at) => {
          one.resolve(firstPosition + at);
        });
        for (const one of released) one.resolve(0);
      } catch (error) {
        for (const one of [...waiting, ...released]) one.reject(error);
      }
    }
    this.#committing = false;
    for (const wake of this.#idle.splice(0)) wake();
  }
}

function closedError(): SyncEngineError {
  return new SyncEngineError('WAL_FAILED', 'The log is closed; open it again.', { context: { tier: 'wal' } });
}
