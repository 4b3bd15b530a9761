/**
 * A database that outlives the engines using it, and connections to it with the faults of real ones: errors,
 * hanging and slow calls, deadlocks, commits whose reply is lost, and commits that happen after the caller has
 * given up, or has died.
 */
import { SyncEngineError } from '#engine/base/errors.js';
import { compareOrder } from '#engine/item/order.js';
import { contentHashOf, type Revision } from '#engine/item/revision.js';
import {
  APPLY_EXISTED,
  APPLY_STORED,
  APPLY_UNCHANGED,
  type ApplyResult,
  type ArchiveInfo,
  type ArchiveOpenOptions,
  type ArchiveStore,
} from '#engine/storage/archive-store.js';
import type { Life, World } from './world.js';

export class ArchiveDisk {
  readonly rows = new Map<string, Revision>();
  readonly archiveId = 'a'.repeat(32);
  highVersion = 0;
  /** Until then nothing answers. */
  downUntilMs = 0;
  /** Share of calls that meet a fault. */
  faults = 0;

  apply(writes: readonly Revision[]): ApplyResult {
    const flags = new Uint8Array(writes.length);
    const newer = new Map<number, number>();
    writes.forEach((write, at) => {
      this.highVersion = Math.max(this.highVersion, write.version);
      const row = this.rows.get(write.id);
      const order = row === undefined ? 1 : compareOrder(write, row);
      if (row !== undefined && order < 0) {
        newer.set(at, row.version);
        return;
      }
      const existed = row !== undefined && !row.deleted;
      flags[at] = APPLY_STORED | (existed ? APPLY_EXISTED : 0) | (order === 0 ? APPLY_UNCHANGED : 0);
      this.rows.set(write.id, { ...write, contentHash: contentHashOf(write) });
    });
    return { flags, newer };
  }
}

type Fault = 'none' | 'error' | 'deadlock' | 'hang' | 'slow' | 'reply lost' | 'reply hangs' | 'late';

export class SimulatedArchive implements ArchiveStore {
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
    this.#open = true;
    return { archiveId: this.#disk.archiveId, highVersion: this.#disk.highVersion, warnings: [] };
  }

  async getMany(ids: readonly string[]): Promise<(Revision | SyncEngineError | undefined)[]> {
    const fault = this.#fault(['error', 'hang', 'slow']);
    await this.#pause(0.2, 4);
    this.#assertUp();
    if (fault === 'error') throw this.#unavailable('the connection broke');
    const rows = ids.map((id) => this.#disk.rows.get(id));
    if (fault === 'hang') await new Promise(() => {});
    // The answer may be long on its way, and be old when it comes.
    await this.#pause(0.2, fault === 'slow' ? 280 : 4);
    return rows;
  }

  async apply(writes: readonly Revision[]): Promise<ApplyResult> {
    const fault = this.#fault(['error', 'deadlock', 'hang', 'slow', 'reply lost', 'reply hangs', 'late']);
    if (fault === 'late') {
      // The caller's deadline passes, or its process dies, and the server commits all the same.
      this.#world.plan(this.#world.dice.between(500, 5000), undefined, () => {
        this.#disk.apply(writes);
        this.#world.note('archive late commit');
      });
      await new Promise(() => {});
    }
    await this.#pause(0.5, fault === 'slow' ? 700 : 8);
    this.#assertUp();
    if (fault === 'error') throw this.#unavailable('the connection broke');
    if (fault === 'deadlock') throw this.#unavailable('deadlock');
    if (fault === 'hang') await new Promise(() => {});
    const result = this.#disk.apply(writes);
    this.#world.note(`archive commit ${writes.length}`);
    if (fault === 'reply lost') throw this.#unavailable('the connection broke after COMMIT');
    if (fault === 'reply hangs') await new Promise(() => {});
    await this.#pause(0.2, 4);
    return result;
  }

  async ping(): Promise<void> {
    await this.#pause(0.2, 2);
    this.#assertUp();
  }

  async close(): Promise<void> {
    await this.#pause(0, 2);
    this.#open = false;
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
