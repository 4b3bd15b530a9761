/**
 * A log's disk that loses, keeps or tears what was not yet committed when the process died, and a store on it
 * with the faults of real ones.
 *
 * A group takes effect as a whole, as a SQLite commit does. Torn, it leaves some of its new records, one of them
 * damaged, and removes nothing: what it would have replaced is still there.
 */
import { SyncEngineError } from '#engine/base/errors.js';
import type { Revision } from '#engine/item/revision.js';
import type {
  DamagedRecord,
  LoadedRecord,
  LogContents,
  LogGroup,
  LogMeta,
  LogOpenOptions,
  RecordStore,
} from '#engine/wal/record-store.js';
import type { Life, World } from './world.js';

export class LogDisk {
  readonly records = new Map<number, Revision>();
  readonly damaged = new Map<number, string>();
  meta: LogMeta | undefined;
  nextPosition = 1;
  /** Until then commits meet a full disk. */
  fullUntilMs = 0;
  /** The next commit fails, and nobody knows how far it got. */
  failNext = false;
  /** The next commit hangs until its thread is declared dead. */
  hangNext = false;
  slow = false;
  /** Ids whose damaged record makes a refusal with CORRUPTION right. */
  readonly everDamaged = new Set<string>();

  newestOf(id: string): number {
    let newest = 0;
    for (const record of this.records.values())
      if (record.id === id) newest = Math.max(newest, record.version);
    return newest;
  }

  /** Returns how many of the removes were there. */
  keep(group: LogGroup): number {
    const removed = group.removes.filter((position) => this.records.has(position)).length;
    group.appends.forEach((record, at) => {
      this.records.set(group.firstPosition + at, record);
    });
    for (const position of group.removes) {
      this.records.delete(position);
      this.damaged.delete(position);
    }
    this.nextPosition = Math.max(this.nextPosition, group.firstPosition + group.appends.length);
    if (group.meta !== undefined && this.meta !== undefined) this.meta = { ...this.meta, ...group.meta };
    return removed;
  }
}

export class SimulatedRecordStore implements RecordStore {
  readonly #disk: LogDisk;
  readonly #world: World;
  readonly #life: Life;
  #open = false;
  #underWay: LogGroup[] = [];

  constructor(disk: LogDisk, world: World, life: Life) {
    this.#disk = disk;
    this.#world = world;
    this.#life = life;
    void life.crashed.then(() => this.#crash());
  }

  get fileBytes(): number {
    return this.#disk.records.size * 1000;
  }

  async open(options: LogOpenOptions): Promise<LogMeta> {
    await this.#pause(0.5, 3);
    const known = this.#disk.meta ?? {
      logId: options.newLogId,
      nodeId: options.nodeId ?? options.newNodeId,
      incarnation: 0,
      clockMark: 0,
      archiveId: undefined,
    };
    this.#disk.meta = { ...known, incarnation: known.incarnation + 1 };
    this.#open = true;
    return this.#disk.meta;
  }

  async load(visit: (records: readonly LoadedRecord[]) => void): Promise<LogContents> {
    await this.#pause(0.5, 3);
    const records = [...this.#disk.records].sort(([a], [b]) => a - b);
    for (let at = 0; at < records.length; at += 10) {
      visit(records.slice(at, at + 10).map(([position, revision]) => ({ position, revision })));
      await this.#pause(0, 0.2);
    }
    const damaged: DamagedRecord[] = [...this.#disk.damaged].map(([position, id]) => ({ position, id }));
    return { damaged, nextPosition: this.#disk.nextPosition };
  }

  async read(positions: readonly number[]): Promise<(LoadedRecord | DamagedRecord | undefined)[]> {
    if (!this.#open) throw this.#failure('it is closed');
    await this.#pause(0.1, 2);
    return positions.map((position) => {
      const id = this.#disk.damaged.get(position);
      if (id !== undefined) return { position, id };
      const revision = this.#disk.records.get(position);
      return revision === undefined ? undefined : { position, revision };
    });
  }

  async commit(group: LogGroup): Promise<number> {
    if (!this.#open) throw this.#failure('it is closed');
    this.#underWay.push(group);
    const { dice } = this.#world;
    const hang = this.#disk.hangNext && group.appends.length > 0;
    const fail = hang || (this.#disk.failNext && group.appends.length > 0);
    if (fail) this.#disk.hangNext = this.#disk.failNext = false;
    await this.#pause(hang ? 3000 : 0.2, hang ? 6000 : this.#disk.slow ? 400 : 3);
    this.#underWay = this.#underWay.filter((one) => one !== group);
    if (fail) {
      if (dice.chance(0.5)) this.#disk.keep(group);
      this.#open = false;
      throw this.#failure('the thread died');
    }
    if (this.#world.now < this.#disk.fullUntilMs && group.appends.length > 0) {
      throw new SyncEngineError('WAL_FULL', 'the disk is full', { outcome: 'indeterminate' });
    }
    this.#world.note(`log commit ${group.firstPosition}+${group.appends.length}-${group.removes.length}`);
    return this.#disk.keep(group);
  }

  async close(): Promise<void> {
    await this.#pause(0, 1);
    this.#open = false;
  }

  /** What was under way is lost, kept, or torn. */
  #crash(): void {
    const { dice } = this.#world;
    for (const group of this.#underWay) {
      const fate = dice.pick(['lost', 'kept', 'torn'] as const);
      this.#world.note(`log crash ${fate}`);
      if (fate === 'kept') this.#disk.keep(group);
      if (fate !== 'torn' || group.appends.length === 0) continue;
      const present = dice.below(group.appends.length);
      for (let at = 0; at < present; at++) {
        this.#disk.records.set(group.firstPosition + at, group.appends[at] as Revision);
      }
      const damaged = (group.appends[present] as Revision).id;
      this.#disk.damaged.set(group.firstPosition + present, damaged);
      this.#disk.everDamaged.add(damaged);
      this.#disk.nextPosition = group.firstPosition + group.appends.length;
    }
    this.#underWay = [];
  }

  #pause(fromMs: number, toMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#world.plan(this.#world.dice.between(fromMs, toMs), this.#life, resolve);
    });
  }

  #failure(why: string): SyncEngineError {
    return new SyncEngineError('WAL_FAILED', `the log failed: ${why}`, { outcome: 'indeterminate' });
  }
}
