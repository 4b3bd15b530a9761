/** A log's storage in memory. What it holds outlives the engine; a test can fail or hold its commits. */
import type { SyncEngineError } from '#engine/base/errors.js';
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

export class FakeRecordStore implements RecordStore {
  readonly records = new Map<number, Revision>();
  readonly damaged: DamagedRecord[] = [];
  meta: LogMeta | undefined;
  nextPosition = 1;
  groups: LogGroup[] = [];
  opens = 0;
  /** The next commit fails with it; `keep` says whether the group was kept all the same. */
  failure: { readonly error: SyncEngineError; readonly keep: boolean } | undefined;
  openFailure: SyncEngineError | undefined;
  #gate: Promise<void> | undefined;
  #open = false;

  get fileBytes(): number {
    return this.records.size * 100;
  }

  /** Commits wait until the returned function is called. */
  hold(): () => void {
    let open!: () => void;
    this.#gate = new Promise((resolve) => {
      open = resolve;
    });
    return () => {
      this.#gate = undefined;
      open();
    };
  }

  /** Live records of an id; the log promises that there is at most one. */
  of(id: string): Revision[] {
    return [...this.records.values()].filter((revision) => revision.id === id);
  }

  async open(options: LogOpenOptions): Promise<LogMeta> {
    this.opens++;
    if (this.openFailure !== undefined) throw this.openFailure;
    const known = this.meta ?? {
      logId: options.newLogId,
      nodeId: options.nodeId ?? options.newNodeId,
      incarnation: 0,
      clockMark: 0,
      archiveId: undefined,
    };
    this.meta = { ...known, incarnation: known.incarnation + 1 };
    this.#open = true;
    return this.meta;
  }

  async load(visit: (records: readonly LoadedRecord[]) => void): Promise<LogContents> {
    visit([...this.records].map(([position, revision]) => ({ position, revision })));
    return { damaged: this.damaged, nextPosition: this.nextPosition };
  }

  async read(positions: readonly number[]): Promise<(LoadedRecord | DamagedRecord | undefined)[]> {
    return positions.map((position) => {
      const revision = this.records.get(position);
      return revision === undefined ? undefined : { position, revision };
    });
  }

  async commit(group: LogGroup): Promise<number> {
    if (!this.#open) throw new Error('The store is not open.');
    this.groups.push(group);
    await this.#gate;
    const failure = this.failure;
    this.failure = undefined;
    const removed = group.removes.filter((position) => this.records.has(position)).length;
    if (failure === undefined || failure.keep) this.#keep(group);
    if (failure === undefined) return removed;
    if (failure.error.code !== 'WAL_FULL') this.#open = false;
    throw failure.error;
  }

  async close(): Promise<void> {
    this.#open = false;
  }

  #keep(group: LogGroup): void {
    group.appends.forEach((revision, at) => {
      this.records.set(group.firstPosition + at, revision);
    });
    for (const position of group.removes) this.records.delete(position);
    this.nextPosition = Math.max(this.nextPosition, group.firstPosition + group.appends.length);
    if (group.meta !== undefined && this.meta !== undefined) this.meta = { ...this.meta, ...group.meta };
  }
}
