/**
 * A database that outlives the engines using it, and connections to it with the faults of real ones: errors,
 * hanging and slow calls, deadlocks, commits whose reply is lost, and commits that happen after the caller has
 * given up, or has died.
 */
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
import { MemoryTables } from '../support/memory-tables.js';
import type { Life, World } from './world.js';

export class ArchiveDisk extends MemoryTables {
  /** Until then nothing answers. */
  downUntilMs = 0;
  /** Share of calls that meet a fault. */
  faults = 0;

  /** Rows that the database refuses for their own sake; it refuses the whole batch. */
  refuses: (write: Revision) => boolean = () => false;

  constructor() {
    super('a'.repeat(32));
  }

  override apply(writes: readonly Revision[]): ApplyResult {
    if (writes.some((write) => this.refuses(write))) {
      throw new SyncEngineError('REJECTED', 'a row was refused', { cause: new Error('a content with !') });
    }
    return super.apply(writes);
  }
}

type Fault = 'none' | 'error' | 'deadlock' | 'hang' | 'slow' | 'reply lost' | 'reply hangs' | 'late';

const WRITE_FAULTS: readonly Fault[] = ['error', 'deadlock', 'hang', 'slow', 'reply lost', 'reply hangs'];

export class SimulatedArchive implements ArchiveStore {
  readonly exclusive = true;
  readonly #disk: ArchiveDisk;
  readonly #world: World;
  readonly #life: Life;
  #open = false;

  constructor(disk: ArchiveDisk, world: World, life: Life) {
    this.#disk = disk;
    this.#world = world;
    this.#life = life;
  }

  async open(options: ArchiveOpenOptions): Promise<ArchiveInfo> {
    await this.#pause(1, 20);
    this.#assertUp();
    if (options.expectedId !== undefined && options.expectedId !== this.#disk.archiveId) {
      throw new SyncEngineError('CONFLICT', 'another archive');
    }
    this.#disk.adopt(options);
    this.#open = true;
    return this.#disk.info();
  }

  getMany(ids: readonly string[]): Promise<(Revision | SyncEngineError | undefined)[]> {
    return this.#read((disk) => disk.getMany(ids));
  }

  async apply(writes: readonly Revision[]): Promise<ApplyResult> {
    const fault = this.#fault([...WRITE_FAULTS, 'late']);
    if (fault === 'late') {
      // The caller's deadline passes, or its process dies, and the server commits all the same.
      this.#world.plan(this.#world.dice.between(500, 5000), undefined, () => {
        if (writes.some((write) => this.#disk.refuses(write))) return;
        this.#disk.apply(writes);
        this.#world.note('archive late commit');
      });
      await new Promise(() => {});
    }
    return this.#commit(fault, `commit ${writes.length}`, (disk) => disk.apply(writes));
  }

  scan(range: RowRange, after: string | undefined, limit: number): Promise<RowPage> {
    return this.#read((disk) => disk.scan(range, after, limit));
  }

  count(range: RowRange, except: readonly string[]): Promise<number> {
    return this.#read((disk) => disk.count(range, except));
  }

  ids(after: string | undefined, limit: number): Promise<string[]> {
    return this.#read((disk) => disk.ids(after, limit));
  }

  changesSince(from: ChangeHead, limit: number): Promise<ChangePage> {
    return this.#read((disk) => disk.changesSince(from, limit));
  }

  digests(paths: readonly (readonly string[])[]): Promise<(PathDigest | undefined)[]> {
    return this.#read((disk) => disk.digests(paths));
  }

  children(
    path: readonly string[],
    after: string | undefined,
    limit: number,
  ): Promise<{ readonly children: ChildDigest[]; readonly head: ChangeHead }> {
    return this.#read((disk) => disk.children(path, after, limit));
  }

  scrub(after: string | undefined, limit: number): Promise<ScrubPage> {
    return this.#read((disk) => disk.scrub(after, limit));
  }

  verifyPath(path: readonly string[]): Promise<boolean> {
    return this.#read((disk) => disk.verifyPath(path));
  }

  async collect(request: CollectRequest): Promise<CollectResult> {
    return this.#commit(this.#fault(WRITE_FAULTS), 'collect', (disk) => disk.collect(request));
  }

  async keepLetters(letters: readonly StoredLetter[]): Promise<void> {
    await this.#commit(this.#fault(WRITE_FAULTS), 'keep letters', (disk) => disk.keepLetters(letters));
  }

  async dropLetters(ids: readonly string[]): Promise<void> {
    await this.#commit(this.#fault(WRITE_FAULTS), 'drop letters', (disk) => disk.dropLetters(ids));
  }

  letters(): Promise<StoredLetter[]> {
    return this.#read((disk) => disk.letters());
  }

  async ping(): Promise<void> {
    await this.#pause(0.2, 2);
    this.#assertUp();
  }

  async close(): Promise<void> {
    await this.#pause(0, 2);
    this.#open = false;
  }

  async #read<T>(run: (disk: ArchiveDisk) => T): Promise<T> {
    const fault = this.#fault(['error', 'hang', 'slow']);
    await this.#pause(0.2, 4);
    this.#assertUp();
    if (fault === 'error') throw this.#unavailable('the connection broke');
    const answer = run(this.#disk);
    if (fault === 'hang') await new Promise(() => {});
    // The answer may be long on its way, and be old when it comes.
    await this.#pause(0.2, fault === 'slow' ? 280 : 4);
    return answer;
  }

  async #commit<T>(fault: Fault, what: string, run: (disk: ArchiveDisk) => T): Promise<T> {
    await this.#pause(0.5, fault === 'slow' ? 700 : 8);
    this.#assertUp();
    if (fault === 'error') throw this.#unavailable('the connection broke');
    if (fault === 'deadlock') throw this.#unavailable('deadlock');
    if (fault === 'hang') await new Promise(() => {});
    const answer = run(this.#disk);
    this.#world.note(`archive ${what}`);
    if (fault === 'reply lost') throw this.#unavailable('the connection broke after COMMIT');
    if (fault === 'reply hangs') await new Promise(() => {});
    await this.#pause(0.2, 4);
    return answer;
  }

  #fault(faults: readonly Fault[]): Fault {
    if (!this.#open) throw this.#unavailable('not open');
    return this.#world.dice.chance(this.#disk.faults) ? this.#world.dice.pick(faults) : 'none';
  }

  #assertUp(): void {
    if (this.#world.now < this.#disk.downUntilMs) throw this.#unavailable('the server is down');
  }

  #unavailable(why: string): SyncEngineError {
    return new SyncEngineError('TIER_UNAVAILABLE', why, {
      outcome: 'indeterminate',
      context: { tier: 'sql' },
    });
  }

  #pause(fromMs: number, toMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#world.plan(this.#world.dice.between(fromMs, toMs), this.#life, resolve);
    });
  }
}
