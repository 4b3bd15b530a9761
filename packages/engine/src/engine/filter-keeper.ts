/**
 * Keeps the filter complete: it learns every id before the log forgets its write, catches up with the change log
 * where others may have written, and is saved beside the log so that a start need not read every id.
 *
 * Invariant: `#covered` is a place in the change log, and every id of a change up to there is in the filter. Where
 * the filter is trusted, so is every id that was committed since; those of a commit whose answer was lost are still
 * pending in memory, which is asked first.
 *
 *   connected ─► snapshot? ─► catch up ─► trusted
 *                   │ no          │ gap
 *                   └────► rebuild from all ids ─► catch up ─► trusted
 */
import { SyncEngineError } from '../base/errors.js';
import { CuckooFilter } from '../filter/cuckoo-filter.js';
import { FilterManager, type FilterStats } from '../filter/filter-manager.js';
import type { FilterSnapshotFile, SnapshotCover } from '../filter/filter-snapshot.js';
import type { Revision } from '../item/revision.js';
import type { Random, SystemPorts, Timer } from '../ports/ports.js';
import {
  APPLY_STORED,
  type ApplyResult,
  type ArchiveInfo,
  type ChangeBatch,
  type ChangeHead,
} from '../storage/archive-store.js';
import type { GuardedArchive } from '../storage/guarded-archive.js';

const SEED_BYTES = 16;
const CHANGES_PAGE = 5000;
const RETRY_MS = 1000;
const NOWHERE: ChangeHead = { position: 0, chain: '' };
/** Share of collected ids at which the filter is built anew. */
const COLLECTED_MAX = 0.1;

export interface KeeperConfig {
  readonly filterWarmupBatchSize: number;
  readonly filterSnapshotIntervalMs: number;
  readonly filterSnapshotInsertThreshold: number;
}

export interface KeeperParts {
  readonly archive: GuardedArchive;
  readonly snapshot: FilterSnapshotFile | undefined;
  /** Where others write too: reads what is new in the change log, and tells (`learn`). */
  readonly look: (() => Promise<void>) | undefined;
  readonly ports: SystemPorts;
  readonly corrupt: (error: SyncEngineError) => void;
  readonly failed: (error: unknown) => void;
}

/** What the filter answered so far, and whether it is being built. */
export interface FilterStatus extends FilterStats {
  /** Ids read so far of a build that is under way. */
  readonly building: number | undefined;
}

export class FilterKeeper {
  readonly manager: FilterManager;
  readonly #config: KeeperConfig;
  readonly #parts: KeeperParts;
  #archiveId = '';
  #covered: ChangeHead | undefined;
  #collected = 0;
  /** A filter that will take the place of the present one; it learns what that one learns. */
  #next: CuckooFilter | undefined;
  #building: number | undefined;
  #working: Promise<void> | undefined;
  #again = false;
  #rebuildWanted = false;
  /** The filter is that of the snapshot, and complete up to `#covered`. */
  #loaded = false;
  #closed = false;
  #timer: Timer | undefined;
  #insertsSinceSave = 0;
  #savedAtMs = 0;
  #saving: Promise<void> | undefined;

  constructor(config: KeeperConfig, parts: KeeperParts) {
    this.#config = config;
    this.#parts = parts;
    this.manager = new FilterManager(seedOf(parts.ports.random));
  }

  get status(): FilterStatus {
    return { ...this.manager.stats, building: this.#building };
  }

  /** Reads the snapshot, where there is one. Before `connected`. */
  async load(): Promise<void> {
    const { snapshot } = this.#parts;
    this.#savedAtMs = this.#parts.ports.clock.monotonic();
    if (snapshot === undefined) return;
    try {
      const loaded = await snapshot.load();
      if (loaded === undefined || this.#covered !== undefined) return;
      const { position, chain, archiveId, collected } = loaded.cover;
      this.manager.replace(loaded.filter);
      this.#archiveId = archiveId;
      this.#covered = { position, chain };
      this.#collected = collected;
      this.#loaded = true;
    } catch (error) {
      if (error instanceof SyncEngineError && error.code === 'CORRUPTION') this.#parts.corrupt(error);
      else this.#parts.failed(error);
    }
  }

  /** SQL was connected, anew or for the first time: it may have moved on, or be another copy. Before any read. */
  connected(info: ArchiveInfo): void {
    if (info.archiveId !== this.#archiveId) {
      this.#archiveId = info.archiveId;
      this.#covered = undefined;
      this.manager.replace(new CuckooFilter(seedOf(this.#parts.ports.random)));
    }
    const covered = this.#covered;
    const same = covered?.position === info.head.position && covered.chain === info.head.chain;
    const complete = this.manager.trust === 'trusted' || this.#loaded;
    this.#loaded = false;
    if (same && complete) {
      this.manager.markTrusted();
      return;
    }
    if (info.head.position === 0) {
      this.#covered = info.head;
      this.manager.markTrusted();
      return;
    }
    this.manager.markUntrusted('it is catching up with SQL');
    if (covered === undefined) this.#rebuildWanted = true;
    this.#work();
  }

  /** A transaction was committed; in the order of commits. */
  stored(writes: readonly Revision[], { flags, head, changed }: ApplyResult): void {
    const { filter } = this.manager;
    for (let at = 0; at < writes.length; at++) {
      if (((flags[at] as number) & APPLY_STORED) === 0) continue;
      const { id } = writes[at] as Revision;
      if (filter.insert(id)) this.#insertsSinceSave++;
      this.#next?.insert(id);
    }
    const covered = this.#covered;
    if (covered === undefined || this.#working !== undefined) return;
    if (head.position === covered.position + (changed ? 1 : 0)) this.#covered = head;
    else if (head.position > covered.position && this.#parts.look === undefined) this.#work();
  }

  /** Somebody committed a transaction, perhaps we. In the order of commits. */
  learn({ position, chain, changes }: ChangeBatch): void {
    for (const { id, kind } of changes) {
      if (kind === 'collected') continue;
      if (this.manager.filter.insert(id)) this.#insertsSinceSave++;
      this.#next?.insert(id);
    }
    const covered = this.#covered;
    if (covered === undefined || this.#working !== undefined || position <= covered.position) return;
    if (position === covered.position + 1) this.#covered = { position, chain };
    else this.#work();
  }

  /** Transactions are not known any more: ids may be missing. */
  missed(reason: string): void {
    this.manager.markUntrusted(reason);
    this.rebuild();
  }

  /** Rows of deleted ids were removed; `head` is the change log's end after that. */
  collected(count: number, head: ChangeHead): void {
    this.#collected += count;
    const covered = this.#covered;
    if (covered !== undefined && this.#working === undefined && head.position === covered.position + 1)
      this.#covered = head;
    if (this.#collected > this.manager.filter.count * COLLECTED_MAX) this.rebuild();
  }

  /** Builds the filter anew in the background; the present one serves until then. */
  rebuild(): void {
    this.#rebuildWanted = true;
    this.#work();
  }

  /** Asks the filter for every id in SQL. */
  async verify(pageSize: number): Promise<{ trusted: boolean; checked: number; missing: number }> {
    let checked = 0;
    let missing = 0;
    let after: string | undefined;
    const trusted = this.manager.trust === 'trusted';
    for (let ids: string[]; ; ) {
      ids = await this.#parts.archive.ids(after, pageSize);
      const denied = ids.filter((id) => !this.manager.filter.mightContain(id));
      // What others have stored since the last look is not denied yet: the filter is believed within the lease only.
      if (denied.length > 0) await this.#parts.look?.();
      for (const id of denied) if (!this.manager.filter.mightContain(id)) missing++;
      checked += ids.length;
      after = ids.at(-1);
      if (ids.length < pageSize) break;
    }
    if (trusted && missing > 0) {
      const { logger } = this.#parts.ports;
      logger.error({ checked, missing }, 'The filter denied ids that SQL has; it is built anew.');
      this.manager.markUntrusted('it denied ids that SQL has');
      this.rebuild();
    }
    return { trusted: trusted && missing === 0, checked, missing };
  }

  /** Resolves when nothing is under way, trusted or not. */
  async settled(): Promise<void> {
    while (this.#working !== undefined) await this.#working;
  }

  /** Saves what changed, if it is time; called by the engine's maintenance. */
  maintain(): void {
    const due =
      this.#parts.ports.clock.monotonic() - this.#savedAtMs >= this.#config.filterSnapshotIntervalMs;
    if (this.#insertsSinceSave === 0) return;
    if (due || this.#insertsSinceSave >= this.#config.filterSnapshotInsertThreshold) void this.save();
  }

  /** Never rejects: without a snapshot the next start reads every id. */
  save(): Promise<void> {
    this.#saving ??= this.#save().finally(() => {
      this.#saving = undefined;
    });
    return this.#saving;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#saving;
  }

  async #save(): Promise<void> {
    const { snapshot } = this.#parts;
    const covered = this.#covered;
    if (snapshot === undefined || covered === undefined || this.manager.trust === 'untrusted') return;
    this.#insertsSinceSave = 0;
    this.#savedAtMs = this.#parts.ports.clock.monotonic();
    const cover: SnapshotCover = { ...covered, archiveId: this.#archiveId, collected: this.#collected };
    try {
      await snapshot.save(this.manager.filter, cover);
    } catch (error) {
      this.#parts.failed(error);
    }
  }

  #work(): void {
    if (this.#closed) return;
    if (this.#working !== undefined) {
      this.#again = true;
      return;
    }
    this.#timer?.cancel();
    this.#working = this.#run().then(
      () => this.#ended(),
      (error: unknown) => this.#broken(error),
    );
  }

  #ended(): void {
    this.#working = undefined;
    if (!this.#again) return;
    this.#again = false;
    this.#work();
  }

  #broken(error: unknown): void {
    this.#working = undefined;
    this.#again = false;
    this.#building = undefined;
    this.#next = undefined;
    if (this.#closed) return;
    const away = error instanceof SyncEngineError && error.retryable;
    if (!away) this.#parts.failed(error);
    // With SQL away, its return begins again; what failed else is tried again.
    this.#timer = this.#parts.ports.scheduler.after(RETRY_MS, () => this.#work(), false);
  }

  async #run(): Promise<void> {
    if (this.#rebuildWanted || this.#covered === undefined) await this.#build();
    await this.#catchUp();
    // A connection made meanwhile may be to another copy: that is looked at first.
    if (!this.#closed && !this.#again) this.manager.markTrusted();
  }

  async #build(): Promise<void> {
    const { archive } = this.#parts;
    const seed = seedOf(this.#parts.ports.random);
    const next = new CuckooFilter(seed);
    this.#next = next;
    this.#building = 0;
    const { logger } = this.#parts.ports;
    logger.info({ reason: this.manager.stats.reason }, 'The filter is being built from SQL.');
    // Only the end is asked for.
    const { head } = await archive.changesSince(NOWHERE, 1);
    let after: string | undefined;
    const limit = this.#config.filterWarmupBatchSize;
    for (let ids: string[]; ; ) {
      ids = await archive.ids(after, limit);
      for (const id of ids) next.insert(id);
      this.#building += ids.length;
      after = ids.at(-1);
      if (ids.length < limit) break;
    }
    this.manager.replace(next);
    this.#next = undefined;
    this.#building = undefined;
    this.#rebuildWanted = false;
    this.#covered = head;
    this.#collected = 0;
    this.#insertsSinceSave = Math.max(this.#insertsSinceSave, 1);
    logger.info({ items: next.count }, 'The filter was built from SQL.');
  }

  /** Learns what was committed behind `#covered`, whoever did it. */
  async #catchUp(): Promise<void> {
    const { archive } = this.#parts;
    for (let covered = this.#covered as ChangeHead; !this.#closed; ) {
      const { batches, head, gap } = await archive.changesSince(covered, CHANGES_PAGE);
      if (gap !== 'none') {
        this.manager.markUntrusted(
          gap === 'foreign'
            ? 'SQL is a restored copy'
            : 'SQL has forgotten the changes since it was last read',
        );
        await this.#build();
        covered = this.#covered as ChangeHead;
        continue;
      }
      for (const { position, chain, changes } of batches) {
        for (const change of changes) {
          if (change.kind === 'collected') this.#collected++;
          else if (this.manager.filter.insert(change.id)) this.#insertsSinceSave++;
        }
        covered = { position, chain };
      }
      this.#covered = covered;
      if (covered.position >= head.position) return;
    }
  }
}

function seedOf(random: Random): Uint8Array {
  return random.bytes(SEED_BYTES);
}
