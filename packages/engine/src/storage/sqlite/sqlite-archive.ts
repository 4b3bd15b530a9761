/**
 * The SQLite archive on the main thread: one thread writes, one reads, so that a read never waits behind a
 * flush and neither blocks the event loop.
 */
import { messageOf, SyncEngineError } from '../../base/errors.js';
import { fromWire, WorkerClient } from '../../base/worker-client.js';
import type { Revision } from '../../item/revision.js';
import type { ApplyResult, ArchiveInfo, ArchiveOpenOptions, ArchiveStore } from '../archive-store.js';
import type { ArchiveRole } from './archive-file.js';
import type { OpenRequest, ReadAnswer } from './archive-worker.js';
import { packRevisions, unpackRevisions } from './pack.js';

const WORKER = new URL('./archive-worker.js', import.meta.url);

export class SqliteArchive implements ArchiveStore {
  readonly #path: string;
  readonly #holder: string;
  readonly #newArchiveId: string;
  readonly #entry: URL;
  #writer: WorkerClient | undefined;
  #reader: WorkerClient | undefined;
  #closing = false;

  /**
   * @param holder How this process is named to another one that wants the file.
   * @param newArchiveId Identity for the case that the archive is created; 32 hex digits.
   * @param entry Another worker entry, for tests that make a thread fail.
   */
  constructor(path: string, holder: string, newArchiveId: string, entry: URL = WORKER) {
    this.#path = path;
    this.#holder = holder;
    this.#newArchiveId = newArchiveId;
    this.#entry = entry;
  }

  async open(options: ArchiveOpenOptions): Promise<ArchiveInfo> {
    await this.#end();
    const writer = new WorkerClient(this.#entry, 'sync-engine-archive-writer');
    const reader = new WorkerClient(this.#entry, 'sync-engine-archive-reader');
    this.#writer = writer;
    this.#reader = reader;
    try {
      const info = await writer.request<ArchiveInfo>('open', this.#request('writer', options));
      await reader.request<ArchiveInfo>('open', this.#request('reader', { ...options, mayDiffer: true }));
      return info;
    } catch (error) {
      await Promise.all([writer.terminate(), reader.terminate()]);
      throw this.#asFailure(error, 'open');
    }
  }

  async getMany(ids: readonly string[]): Promise<(Revision | SyncEngineError | undefined)[]> {
    const { places, rows, damaged } = await this.#call<ReadAnswer>(this.#reader, 'getMany', ids);
    const answers: (Revision | SyncEngineError | undefined)[] = new Array(ids.length).fill(undefined);
    unpackRevisions(rows).forEach((row, at) => {
      answers[places[at] as number] = row;
    });
    for (const { place, error } of damaged) answers[place] = fromWire(error) as SyncEngineError;
    return answers;
  }

  async apply(writes: readonly Revision[]): Promise<ApplyResult> {
    const pack = packRevisions(writes);
    return this.#call<ApplyResult>(this.#writer, 'apply', pack, [pack.buffer as ArrayBuffer]);
  }

  async ping(): Promise<void> {
    await this.#call(this.#writer, 'ping', undefined);
  }

  async close(): Promise<void> {
    if (this.#closing) return this.#end();
    this.#closing = true;
    // The reader first: the writer's checkpoint then leaves nothing beside the archive.
    await this.#reader?.request('close', undefined).catch(() => {});
    await this.#writer?.request('close', undefined).catch(() => {});
    await this.#end();
    this.#closing = false;
  }

  async #end(): Promise<void> {
    const ending = [this.#reader?.terminate(), this.#writer?.terminate()];
    this.#reader = undefined;
    this.#writer = undefined;
    await Promise.all(ending);
  }

  #request(role: ArchiveRole, options: ArchiveOpenOptions): OpenRequest {
    return { path: this.#path, holder: this.#holder, role, options, newArchiveId: this.#newArchiveId };
  }

  async #call<T>(
    worker: WorkerClient | undefined,
    method: string,
    args: unknown,
    transfer: readonly ArrayBuffer[] = [],
  ): Promise<T> {
    try {
      if (worker === undefined) throw new Error('it is not open');
      return await worker.request<T>(method, args, transfer);
    } catch (error) {
      throw this.#asFailure(error, method);
    }
  }

  #asFailure(error: unknown, operation: string): SyncEngineError {
    if (error instanceof SyncEngineError) return error;
    return new SyncEngineError(
      'TIER_UNAVAILABLE',
      `The thread of the archive ${this.#path} failed (${operation}): ${messageOf(error)}. It is started again by itself.`,
      {
        outcome: operation === 'apply' ? 'indeterminate' : 'not-applied',
        context: { tier: 'sql', path: this.#path, operation },
        cause: error,
      },
    );
  }
}
