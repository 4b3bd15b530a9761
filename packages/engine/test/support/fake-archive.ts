/** An archive in memory whose calls a test can hold, fail, or lose the answer of. */
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

type Gate = { readonly wait: Promise<void>; readonly open: () => void };

export class FakeArchive implements ArchiveStore {
  /** Whether the engine may take it that nobody else writes. */
  exclusive = true;
  readonly tables: MemoryTables;
  readonly rows: MemoryTables['rows'];
  /** Every call rejects `TIER_UNAVAILABLE`. */
  down = false;
  /** The next writing calls are committed, and then their answer is lost. */
  loseReplies = 0;
  /** Ids and changes cannot be listed, so the filter stays untrusted: every miss asks for the row. */
  hidden = true;
  /** Why a row is refused for its own sake; the whole batch is. */
  refuses: (write: Revision) => string | undefined = () => undefined;
  opens: ArchiveOpenOptions[] = [];
  /** Of `getMany`. */
  reads: string[][] = [];
  applies: Revision[][] = [];
  closed = 0;
  readonly #gates = new Map<'read' | 'apply' | 'open', Gate>();

  /** @param tables What is stored, perhaps shared with other stores. */
  constructor(tables = new MemoryTables('a'.repeat(32))) {
    this.tables = tables;
    this.rows = tables.rows;
  }

  get archiveId(): string {
    return this.tables.archiveId;
  }

  set archiveId(archiveId: string) {
    this.tables.archiveId = archiveId;
  }

  /** Calls of that kind wait, after having read or before writing, until the returned function is called. */
  hold(kind: 'read' | 'apply' | 'open'): () => void {
    let open!: () => void;
    const wait = new Promise<void>((resolve) => {
      open = resolve;
    });
    this.#gates.set(kind, { wait, open });
    return () => {
      this.#gates.delete(kind);
      open();
    };
  }

  async open(options: ArchiveOpenOptions): Promise<ArchiveInfo> {
    this.opens.push(options);
    await this.#gates.get('open')?.wait;
    this.#assertUp();
    if (options.expectedId !== undefined && options.expectedId !== this.archiveId && !options.mayDiffer) {
      throw new SyncEngineError('CONFLICT', 'another archive');
    }
    this.tables.adopt(options);
    const info = this.tables.info();
    return this.hidden ? { ...info, head: { position: 1, chain: 'f'.repeat(64) } } : info;
  }

  getMany(ids: readonly string[]): Promise<(Revision | SyncEngineError | undefined)[]> {
    return this.#read(() => {
      this.reads.push([...ids]);
      return this.tables.getMany(ids);
    });
  }

  async apply(writes: readonly Revision[]): Promise<ApplyResult> {
    this.#assertUp();
    this.applies.push([...writes]);
    const reason = writes.map((write) => this.refuses(write)).find((one) => one !== undefined);
    if (reason !== undefined)
      throw new SyncEngineError('REJECTED', 'a row was refused', { cause: new Error(reason) });
    return this.#write(() => this.tables.apply(writes));
  }

  scan(range: RowRange, after: string | undefined, limit: number): Promise<RowPage> {
    return this.#read(() => this.tables.scan(range, after, limit));
  }

  count(range: RowRange, except: readonly string[]): Promise<number> {
    return this.#read(() => this.tables.count(range, except));
  }

  ids(after: string | undefined, limit: number): Promise<string[]> {
    return this.hidden ? new Promise(() => {}) : this.#read(() => this.tables.ids(after, limit));
  }

  changesSince(from: ChangeHead, limit: number): Promise<ChangePage> {
    return this.hidden ? new Promise(() => {}) : this.#read(() => this.tables.changesSince(from, limit));
  }

  digests(paths: readonly (readonly string[])[]): Promise<(PathDigest | undefined)[]> {
    return this.#read(() => this.tables.digests(paths));
  }

  children(
    path: readonly string[],
    after: string | undefined,
    limit: number,
  ): Promise<{ readonly children: ChildDigest[]; readonly head: ChangeHead }> {
    return this.#read(() => this.tables.children(path, after, limit));
  }

  scrub(after: string | undefined, limit: number): Promise<ScrubPage> {
    return this.#read(() => this.tables.scrub(after, limit));
  }

  verifyPath(path: readonly string[]): Promise<boolean> {
    return this.#read(() => this.tables.verifyPath(path));
  }

  collect(request: CollectRequest): Promise<CollectResult> {
    return this.#write(() => this.tables.collect(request));
  }

  keepLetters(letters: readonly StoredLetter[]): Promise<void> {
    return this.#write(() => this.tables.keepLetters(letters));
  }

  dropLetters(ids: readonly string[]): Promise<void> {
    return this.#write(() => this.tables.dropLetters(ids));
  }

  letters(): Promise<StoredLetter[]> {
    return this.#read(() => this.tables.letters());
  }

  async ping(): Promise<void> {
    this.#assertUp();
  }

  async close(): Promise<void> {
    this.closed++;
  }

  async #read<T>(run: () => T): Promise<T> {
    this.#assertUp();
    const answer = run();
    await this.#gates.get('read')?.wait;
    this.#assertUp();
    return answer;
  }

  async #write<T>(run: () => T): Promise<T> {
    this.#assertUp();
    await this.#gates.get('apply')?.wait;
    this.#assertUp();
    const answer = run();
    if (this.loseReplies > 0) {
      this.loseReplies--;
      throw new SyncEngineError('TIER_UNAVAILABLE', 'the connection broke', { outcome: 'indeterminate' });
    }
    return answer;
  }

  #assertUp(): void {
    if (this.down)
      throw new SyncEngineError('TIER_UNAVAILABLE', 'the archive is down', { context: { tier: 'sql' } });
  }
}
