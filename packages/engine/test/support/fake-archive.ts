/** An archive in memory whose calls a test can hold, fail, or lose the answer of. */
import { SyncEngineError } from '#engine/base/errors.js';
import { compareOrder } from '#engine/item/order.js';
import type { Revision } from '#engine/item/revision.js';
import {
  APPLY_EXISTED,
  APPLY_STORED,
  APPLY_UNCHANGED,
  type ApplyResult,
  type ArchiveInfo,
  type ArchiveOpenOptions,
  type ArchiveStore,
} from '#engine/storage/archive-store.js';

type Gate = { readonly wait: Promise<void>; readonly open: () => void };

export class FakeArchive implements ArchiveStore {
  readonly rows = new Map<string, Revision>();
  archiveId = 'a'.repeat(32);
  /** Every call rejects `TIER_UNAVAILABLE`. */
  down = false;
  /** The next applies are committed, and then their answer is lost. */
  loseReplies = 0;
  opens: ArchiveOpenOptions[] = [];
  reads: string[][] = [];
  applies: Revision[][] = [];
  closed = 0;
  readonly #gates = new Map<'read' | 'apply' | 'open', Gate>();

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
    const versions = [...this.rows.values()].map((row) => row.version);
    return { archiveId: this.archiveId, highVersion: Math.max(0, ...versions), warnings: [] };
  }

  async getMany(ids: readonly string[]): Promise<(Revision | SyncEngineError | undefined)[]> {
    this.#assertUp();
    this.reads.push([...ids]);
    const rows = ids.map((id) => this.rows.get(id));
    await this.#gates.get('read')?.wait;
    this.#assertUp();
    return rows;
  }

  async apply(writes: readonly Revision[]): Promise<ApplyResult> {
    this.#assertUp();
    this.applies.push([...writes]);
    await this.#gates.get('apply')?.wait;
    this.#assertUp();
    const flags = new Uint8Array(writes.length);
    const newer = new Map<number, number>();
    writes.forEach((write, at) => {
      const row = this.rows.get(write.id);
      const order = row === undefined ? 1 : compareOrder(write, row);
      if (row !== undefined && order < 0) {
        newer.set(at, row.version);
        return;
      }
      const existed = row !== undefined && !row.deleted;
      flags[at] = APPLY_STORED | (existed ? APPLY_EXISTED : 0) | (order === 0 ? APPLY_UNCHANGED : 0);
      this.rows.set(write.id, write);
    });
    if (this.loseReplies > 0) {
      this.loseReplies--;
      throw new SyncEngineError('TIER_UNAVAILABLE', 'the connection broke', { outcome: 'indeterminate' });
    }
    return { flags, newer };
  }

  async ping(): Promise<void> {
    this.#assertUp();
  }

  async close(): Promise<void> {
    this.closed++;
  }

  #assertUp(): void {
    if (this.down)
      throw new SyncEngineError('TIER_UNAVAILABLE', 'the archive is down', { context: { tier: 'sql' } });
  }
}
