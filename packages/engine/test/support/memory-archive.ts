/** An archive in memory without faults: the reference that real archives are measured by. */
import { randomBytes } from 'node:crypto';
import { SyncEngineError } from '#engine/base/errors.js';
import type { Revision } from '#engine/item/revision.js';
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
} from '#engine/storage/archive-store.js';
import { MemoryTables } from './memory-tables.js';

/** Where the archive lies; empty until it is created. Outlives the stores that open it. */
export interface MemoryPlace {
  tables: MemoryTables | undefined;
}

export class MemoryArchive implements ArchiveStore {
  readonly #place: MemoryPlace;
  #open = false;

  constructor(place: MemoryPlace) {
    this.#place = place;
  }

  async open(options: ArchiveOpenOptions): Promise<ArchiveInfo> {
    this.#open = false;
    if (this.#place.tables === undefined && !options.mayCreate) {
      throw new SyncEngineError('TIER_UNAVAILABLE', 'The archive is missing.', { context: { tier: 'sql' } });
    }
    this.#place.tables ??= new MemoryTables(randomBytes(16).toString('hex'), randomBytes(32));
    const { tables } = this.#place;
    if (options.expectedId !== undefined && options.expectedId !== tables.archiveId && !options.mayDiffer) {
      throw new SyncEngineError('CONFLICT', 'It is another archive.', { context: { tier: 'sql' } });
    }
    tables.adopt(options);
    this.#open = true;
    return tables.info();
  }

  async getMany(ids: readonly string[]): Promise<(Revision | SyncEngineError | undefined)[]> {
    return this.#tables.getMany(ids);
  }

  async apply(writes: readonly Revision[]): Promise<ApplyResult> {
    return this.#tables.apply(writes);
  }

  async scan(range: RowRange, after: string | undefined, limit: number): Promise<RowPage> {
    return this.#tables.scan(range, after, limit);
  }

  async count(range: RowRange, except: readonly string[]): Promise<number> {
    return this.#tables.count(range, except);
  }

  async ids(after: string | undefined, limit: number): Promise<string[]> {
    return this.#tables.ids(after, limit);
  }

  async changesSince(from: ChangeHead, limit: number): Promise<ChangePage> {
    return this.#tables.changesSince(from, limit);
  }

  async digests(paths: readonly (readonly string[])[]): Promise<(PathDigest | undefined)[]> {
    return this.#tables.digests(paths);
  }

  async children(
    path: readonly string[],
    after: string | undefined,
    limit: number,
  ): Promise<{ readonly children: ChildDigest[]; readonly head: ChangeHead }> {
    return this.#tables.children(path, after, limit);
  }

  async scrub(after: string | undefined, limit: number): Promise<ScrubPage> {
    return this.#tables.scrub(after, limit);
  }

  async verifyPath(path: readonly string[]): Promise<boolean> {
    return this.#tables.verifyPath(path);
  }

  async collect(request: CollectRequest): Promise<CollectResult> {
    return this.#tables.collect(request);
  }

  async keepLetters(letters: readonly StoredLetter[]): Promise<void> {
    this.#tables.keepLetters(letters);
  }

  async dropLetters(ids: readonly string[]): Promise<void> {
    this.#tables.dropLetters(ids);
  }

  async letters(): Promise<StoredLetter[]> {
    return this.#tables.letters();
  }

  async ping(): Promise<void> {
    void this.#tables;
  }

  async close(): Promise<void> {
    this.#open = false;
  }

  get #tables(): MemoryTables {
    if (this.#open && this.#place.tables !== undefined) return this.#place.tables;
    throw new SyncEngineError('TIER_UNAVAILABLE', 'The archive is not open.', { context: { tier: 'sql' } });
  }
}
