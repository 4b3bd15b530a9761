/**
 * The log's storage on the main thread: packs groups and hands them to the thread that owns the file.
 *
 * Groups are packed into memory that both threads see, one group at a time. So no memory is made, given away
 * and collected for each. A group that is larger, or comes while another is under way, has memory of its own.
 */
import { messageOf, SyncEngineError } from '../base/errors.js';
import { WorkerClient } from '../base/worker-client.js';
import { packedBytesMax, packRecords, unpackLoaded } from './record-codec.js';
import type { PackedGroup, RecordPortion } from './record-file.js';
import type {
  DamagedRecord,
  LoadedRecord,
  LogContents,
  LogGroup,
  LogMeta,
  LogOpenOptions,
  RecordStore,
} from './record-store.js';
import type { LoadAnswer } from './wal-worker.js';

/** Room for a full group of small records (`write-ahead-log.ts` cuts groups at a mebibyte). */
const SHARED_BYTES = 2 * 1024 * 1024;
const WORKER = new URL('./wal-worker.js', import.meta.url);

export class SqliteRecordStore implements RecordStore {
  readonly #path: string;
  readonly #holder: string;
  readonly #entry: URL;
  #worker: WorkerClient | undefined;
  /** Taken by the group under way. */
  #shared: Buffer | undefined;
  #fileBytes = 0;
  #closing = false;

  /**
   * @param holder How this process is named to another one that wants the file.
   * @param entry Another worker entry, for tests that make the thread fail.
   */
  constructor(path: string, holder: string, entry: URL = WORKER) {
    this.#path = path;
    this.#holder = holder;
    this.#entry = entry;
  }

  get fileBytes(): number {
    return this.#fileBytes;
  }

  async open(options: LogOpenOptions): Promise<LogMeta> {
    await this.#worker?.terminate();
    const worker = new WorkerClient(this.#entry, 'sync-engine-log');
    this.#worker = worker;
    // A group of the thread before may still hold its memory.
    this.#shared = Buffer.from(new SharedArrayBuffer(SHARED_BYTES));
    try {
      return await worker.request<LogMeta>('open', { path: this.#path, holder: this.#holder, options });
    } catch (error) {
      await worker.terminate();
      throw this.#asFailure(error, 'open');
    }
  }

  async load(visit: (records: readonly LoadedRecord[]) => void): Promise<LogContents> {
    const damaged: DamagedRecord[] = [];
    for (let from: number | undefined = 0; ; ) {
      const { portion, nextPosition, fileBytes }: LoadAnswer = await this.#request('load', from);
      this.#fileBytes = fileBytes;
      damaged.push(...portion.damaged);
      visit(unpackLoaded(portion));
      from = portion.next;
      if (from === undefined) return { damaged, nextPosition };
    }
  }

  async read(positions: readonly number[]): Promise<(LoadedRecord | DamagedRecord | undefined)[]> {
    const portion = await this.#request<RecordPortion>('read', Float64Array.from(positions));
    const found = new Map<number, LoadedRecord | DamagedRecord>();
    for (const record of unpackLoaded(portion)) found.set(record.position, record);
    for (const record of portion.damaged) found.set(record.position, record);
    return positions.map((position) => found.get(position));
  }

  async commit(group: LogGroup): Promise<number> {
    const { firstPosition, appends, meta } = group;
    const room = packedBytesMax(appends);
    const shared = room <= SHARED_BYTES ? this.#shared : undefined;
    if (shared !== undefined) this.#shared = undefined;
    const pack = packRecords(appends, shared);
    const packed: PackedGroup = { firstPosition, pack, removes: Float64Array.from(group.removes), meta };
    const transfer = shared === undefined ? [pack.buffer as ArrayBuffer] : [];
    const worker = this.#worker;
    try {
      const done = await this.#request<{ removed: number; fileBytes: number }>('commit', packed, transfer);
      this.#fileBytes = done.fileBytes;
      return done.removed;
    } finally {
      if (shared !== undefined && worker === this.#worker) this.#shared = shared;
    }
  }

  async close(): Promise<void> {
    const worker = this.#worker;
    if (worker === undefined) return;
    if (!this.#closing) {
      this.#closing = true;
      await worker.request('close', undefined).catch(() => {});
    }
    await worker.terminate();
    this.#closing = false;
  }

  async #request<T>(method: string, args: unknown, transfer: readonly ArrayBuffer[] = []): Promise<T> {
    try {
      if (this.#worker === undefined) throw new Error('The log was not opened.');
      return await this.#worker.request<T>(method, args, transfer);
    } catch (error) {
      throw this.#asFailure(error, method);
    }
  }

  #asFailure(error: unknown, method: string): SyncEngineError {
    if (error instanceof SyncEngineError) return error;
    return new SyncEngineError(
      'WAL_FAILED',
      `The thread of the log ${this.#path} failed (${method}): ${messageOf(error)}. It is started again by itself.`,
      { outcome: 'indeterminate', context: { tier: 'wal', path: this.#path }, cause: error },
    );
  }
}
