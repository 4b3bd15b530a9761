/**
 * The SQLite archive on the main thread. One thread writes, one answers reads of ids, and one, begun on first
 * use, does what takes long: scans, counts, digests, the change log, scrubs. So a read never waits behind a
 * flush or a scan, and none of them blocks the event loop.
 */
import { messageOf, SyncEngineError } from '../../base/errors.js';
import { fromWire, WorkerClient } from '../../base/worker-client.js';
import type { Revision } from '../../item/revision.js';
import type {
  ApplyResult,
  ArchiveInfo,
  ArchiveOpenOptions,
  ArchiveStore,
  ChangeHead,
  ChangePage,
  ChildDigest,
  CollectRequest,
  CollectResult,
  PathDigest,
  RowPage,
  RowRange,
  ScrubPage,
  StoredLetter,
} from '../archive-store.js';
import type { NewArchive } from '../identity.js';
import type { ArchiveRole } from './archive-file.js';
import type { OpenRequest, ReadAnswer } from './archive-worker.js';
import { packRevisions, unpackRevisions } from './pack.js';

const WORKER = new URL('./archive-worker.js', import.meta.url);

export class SqliteArchive implements ArchiveStore {
  readonly exclusive = true;
  readonly #path: string;
  readonly #holder: string;
  readonly #fresh: NewArchive;
  readonly #entry: URL;
  #writer: WorkerClient | undefined;
  #reader: WorkerClient | undefined;
  #scanner: Promise<WorkerClient> | undefined;
  #options: ArchiveOpenOptions | undefined;
  #closing = false;

  /**
   * @param holder How this process is named to another one that wants the file.
   * @param fresh For the case that the archive is created.
   * @param entry Another worker entry, for tests that make a thread fail.
   */
  constructor(path: string, holder: string, fresh: NewArchive, entry: URL = WORKER) {
    this.#path = path;
    this.#holder = holder;
    this.#fresh = fresh;
    this.#entry = entry;
  }

  async open(options: ArchiveOpenOptions): Promise<ArchiveInfo> {
    await this.#end();
    const writer = new WorkerClient(this.#entry, 'sync-engine-archive-writer');
    const reader = new WorkerClient(this.#entry, 'sync-engine-archive-reader');
    this.#writer = writer;
    this.#reader = reader;
    this.#options = options;
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
    const answer = await this.#call<ReadAnswer>(this.#reader, 'getMany', ids);
    return rowsOf(answer, ids.length);
  }

  async apply(writes: readonly Revision[]): Promise<ApplyResult> {
    const pack = packRevisions(writes);
    return this.#call<ApplyResult>(this.#writer, 'apply', pack, [pack.buffer as ArrayBuffer]);
  }

  async scan(range: RowRange, after: string | undefined, limit: number): Promise<RowPage> {
    const answer = await this.#search<ReadAnswer>('scan', [range, after, limit]);
    const rows = rowsOf(answer, answer.places.length + answer.damaged.length);
    return { rows: rows as (Revision | SyncEngineError)[], more: answer.more };
  }

  count(range: RowRange, except: readonly string[]): Promise<number> {
    return this.#search('count', [range, except]);
  }

  ids(after: string | undefined, limit: number): Promise<string[]> {
    return this.#search('ids', [after, limit]);
  }

  async changesSince(from: ChangeHead, limit: number): Promise<ChangePage> {
    const page = await this.#search<ChangePage>('changesSince', [from, limit]);
    for (const batch of page.batches) for (const change of batch.changes) mend(change, 'delta');
    return page;
  }

  async digests(paths: readonly (readonly string[])[]): Promise<(PathDigest | undefined)[]> {
    const digests = await this.#search<(PathDigest | undefined)[]>('digests', paths);
    for (const digest of digests) {
      if (digest === undefined) continue;
      mend(digest, 'sum');
      if (digest.own !== undefined) mend(digest as { own: Buffer }, 'own');
    }
    return digests;
  }

  async children(
    path: readonly string[],
    after: string | undefined,
    limit: number,
  ): Promise<{ children: ChildDigest[]; head: ChangeHead }> {
    const page = await this.#search<{ children: ChildDigest[]; head: ChangeHead }>('children', [
      path,
      after,
      limit,
    ]);
    for (const child of page.children) mend(child, 'sum');
    return page;
  }

  scrub(after: string | undefined, limit: number): Promise<ScrubPage> {
    return this.#search('scrub', [after, limit]);
  }

  verifyPath(path: readonly string[]): Promise<boolean> {
    return this.#search('verifyPath', path);
  }

  collect(request: CollectRequest): Promise<CollectResult> {
    return this.#call(this.#writer, 'collect', request);
  }

  keepLetters(letters: readonly StoredLetter[]): Promise<void> {
    return this.#call(this.#writer, 'keepLetters', letters);
  }

  dropLetters(ids: readonly string[]): Promise<void> {
    return this.#call(this.#writer, 'dropLetters', ids);
  }

  async letters(): Promise<StoredLetter[]> {
    const letters = await this.#call<StoredLetter[]>(this.#writer, 'letters', undefined);
    for (const { revision } of letters) mend(revision, 'content');
    return letters;
  }

  async ping(): Promise<void> {
    await this.#call(this.#writer, 'ping', undefined);
  }

  async close(): Promise<void> {
    if (this.#closing) return this.#end();
    this.#closing = true;
    // The readers first: the writer's checkpoint then leaves nothing beside the archive.
    const scanner = await this.#scanner?.catch(() => undefined);
    await scanner?.request('close', undefined).catch(() => {});
    await this.#reader?.request('close', undefined).catch(() => {});
    await this.#writer?.request('close', undefined).catch(() => {});
    await this.#end();
    this.#closing = false;
  }

  async #end(): Promise<void> {
    const ending = [this.#reader?.terminate(), this.#writer?.terminate()];
    const scanner = this.#scanner;
    if (scanner !== undefined) ending.push(scanner.then((worker) => worker.terminate()).catch(() => {}));
    this.#scanner = undefined;
    this.#reader = undefined;
    this.#writer = undefined;
    await Promise.all(ending);
  }

  /** A read that may take long, on its own thread. */
  async #search<T>(method: string, args: unknown): Promise<T> {
    if (this.#reader === undefined) return this.#call(undefined, method, args);
    this.#scanner ??= this.#beginScanner();
    let worker: WorkerClient;
    try {
      worker = await this.#scanner;
    } catch (error) {
      this.#scanner = undefined;
      throw this.#asFailure(error, method);
    }
    return this.#call(worker, method, args);
  }

  async #beginScanner(): Promise<WorkerClient> {
    const worker = new WorkerClient(this.#entry, 'sync-engine-archive-scanner');
    const options = { ...(this.#options as ArchiveOpenOptions), mayDiffer: true };
    try {
      await worker.request('open', this.#request('reader', options));
    } catch (error) {
      await worker.terminate();
      throw error;
    }
    return worker;
  }

  #request(role: ArchiveRole, options: ArchiveOpenOptions): OpenRequest {
    return { path: this.#path, holder: this.#holder, role, options, fresh: this.#fresh };
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

function rowsOf(answer: ReadAnswer, length: number): (Revision | SyncEngineError | undefined)[] {
  const rows: (Revision | SyncEngineError | undefined)[] = new Array(length).fill(undefined);
  unpackRevisions(answer.rows).forEach((row, at) => {
    rows[answer.places[at] as number] = row;
  });
  for (const { place, error } of answer.damaged) rows[place] = fromWire(error) as SyncEngineError;
  return rows;
}

/** A Buffer crosses threads as a plain array of bytes; it is made one again, over the same memory. */
function mend<Key extends string>(holder: { readonly [key in Key]: Buffer }, key: Key): void {
  const { buffer, byteOffset, byteLength } = holder[key];
  (holder as { [key in Key]: Buffer })[key] = Buffer.from(buffer, byteOffset, byteLength);
}
