/**
 * Redis, as the rest of the engine sees it: copies of what SQL has committed, served only while it is known what they may
 * have missed, and cache-only items.
 *
 *   commit in SQL ─► its ids stand among the unconfirmed ─► copies to Redis, position confirmed ─► they leave
 *   read          ─► values and confirmed position, at one moment ─► older than an unconfirmed write? then not served
 *
 * SQL's change log is the one record of what Redis has to be told. Redis keeps the position up to which it was, with the
 * values, so an engine that comes back, or a Redis that comes back older, goes on from there: what was changed since is
 * read from the change log and marked. Where that is not possible any more, a new generation begins and everything older
 * becomes unreachable.
 *
 * Invariants: nothing waits for Redis but reads that ask it; a position is confirmed only after all its writes; what is
 * promoted was read from SQL at a position that no later write has overtaken in Redis.
 */
import { messageOf, SyncEngineError } from '../base/errors.js';
import { step } from '../base/steps.js';
import { DEFAULT_STATE, EMPTY_CONTENT, NO_CONTENT_HASH, type Revision } from '../item/revision.js';
import type { Clock, Random, Scheduler, Timer } from '../ports/ports.js';
import {
  APPLY_STORED,
  type ApplyResult,
  type ChangeBatch,
  type ChangeHead,
  type ChangePage,
} from '../storage/archive-store.js';
import {
  archiveDigits,
  type CacheHead,
  type CachePut,
  PUT_NEWER_THERE,
  PUT_NO_ROOM,
  PUT_WRITTEN,
} from '../storage/cache-store.js';
import type { GuardedCache } from '../storage/guarded-cache.js';
import { type UnconfirmedChange, UnconfirmedChanges } from './unconfirmed-changes.js';

const DAY_MS = 86_400_000;
/** Life of a copy whose writer said nothing. */
const COPY_TTL_MS = DAY_MS;
/** A marker outlives every command that could still be on its way. */
const MARKER_TTL_MS = 3_600_000;
/** Larger contents are not copied: one read of many would bring too much at once. */
const COPY_BYTES_MAX = 256 * 1024;
/** Contents on their way to Redis; beyond that their ids are marked instead, later. */
const BYTES_UNDER_WAY_MAX = 16 * 1024 * 1024;
const CHANGES_A_LOOK = 5000;
const REPAIRED_AT_ONCE = 1000;
/** So often it is asked for the time, and whether it is there. */
const IDLE_MS = 5000;
/** After copies could not be marked; doubled each time. */
const MARK_AGAIN_MS = 1000;
const MARK_AGAIN_MS_MAX = 30_000;
/** Without a confirmation for so long, what was confirmed is looked up anew. */
const STUCK_TIMEOUTS = 5;
const GENERATION_DIGITS = 16;
const NO_CHAIN = '0'.repeat(64);

export interface CacheTierConfig {
  readonly redisTimeoutMs: number;
}

/** The part of an archive that this asks. */
export interface RecordedArchive {
  readonly available: boolean;
  look(from: ChangeHead, limit: number): Promise<ChangePage>;
}

export interface CacheTierParts {
  readonly config: CacheTierConfig;
  readonly cache: GuardedCache;
  /** `undefined`: there is none, and Redis holds cache-only items. */
  readonly archive: RecordedArchive | undefined;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly events: CacheTierEvents;
}

export interface CacheTierEvents {
  /** Bytes that are no value of this id; they were not served. */
  damaged(id: string): void;
  /** Something that an operator should know. */
  noticed(message: string): void;
}

/** What Redis has of an id. */
export interface CacheHit {
  readonly revision: Revision;
  readonly cacheOnly: boolean;
  readonly leftMs: number;
  /** What SQL committed since is not known, and cannot be asked for. */
  readonly stale: boolean;
}

/** What became of a cache-only item. */
export type CacheOnlyFate = 'written' | 'superseded';

interface OnlyPut extends CachePut {
  readonly resolve: (fate: CacheOnlyFate) => void;
  readonly reject: (error: SyncEngineError) => void;
}

export class CacheTier {
  readonly #parts: CacheTierParts;
  readonly #unconfirmed = new UnconfirmedChanges();
  #archiveId: string | undefined;
  #generation: string | undefined;
  /** The generation that was compared with SQL's history; one that was only seen may be of another. */
  #compared: string | undefined;
  /** Up to where SQL's change log is known here without a gap. */
  #known: ChangeHead | undefined;
  #confirmed = 0;
  /** Monotonic; when Redis last confirmed more. */
  #confirmedAtMs = 0;
  #askedAtMs = 0;
  #pruning = false;
  /** What stands among the unconfirmed may lack a position. */
  #recount = false;
  /** Whether what stands among the unconfirmed is complete for the present generation. */
  #synced = false;
  #syncing: Promise<void> | undefined;
  #syncAgain = false;
  /** What Redis lacks was too much to remember, and has to be marked there. */
  #marking = false;
  #markAgainMs = 0;
  #markNotBeforeMs = Number.NEGATIVE_INFINITY;
  #bytesUnderWay = 0;
  readonly #writesUnderWay = new Set<Promise<unknown>>();
  #onlyPuts: OnlyPut[] = [];
  #timer: Timer | undefined;
  #started = false;
  #stopped = false;

  constructor(parts: CacheTierParts) {
    this.#parts = parts;
  }

  /** Whether a read would ask Redis now. */
  get usable(): boolean {
    return (
      this.#generation !== undefined &&
      this.#parts.cache.available &&
      (this.#synced || this.#parts.archive?.available === false)
    );
  }

  /** Whether Redis answers, and what it answers is believed. */
  get synced(): boolean {
    return this.#synced && this.#parts.cache.available;
  }

  /** Of the archive's change log, that Redis has not confirmed yet; `undefined` before SQL or Redis was met. */
  get lag(): number | undefined {
    return this.#known === undefined || this.#generation === undefined
      ? undefined
      : Math.max(0, this.#known.position - this.#confirmed);
  }

  /** Ids whose copies may be old and are not served. */
  get unconfirmedIds(): number {
    return this.#unconfirmed.size;
  }

  /** As of which position what is read from SQL now is known; for `promote`. */
  get knownPosition(): number {
    return this.#known?.position ?? 0;
  }

  /** Connects. Never rejects: without Redis the engine goes on. */
  async start(archiveId: string | undefined): Promise<void> {
    this.#started = true;
    if (archiveId === undefined && this.#parts.archive !== undefined) return;
    await this.#open(archiveId ?? '');
  }

  /** SQL was connected. What it committed while it was not known is read by the follower of its change log. */
  async archiveConnected(archiveId: string, head: ChangeHead): Promise<void> {
    if (this.#known === undefined) {
      this.#known = { position: head.position, chain: head.chain };
      this.#unconfirmed.reset(head.position);
    }
    if (!this.#started) return;
    if (this.#archiveId === archiveId) void this.sync();
    else await this.#open(archiveId);
  }

  /** Redis takes calls again. */
  answers(): void {
    if (!this.#synced && !this.#stopped) void this.sync();
  }

  /** Redis was connected: it may be another one, or older. */
  connected(): void {
    this.#synced = false;
    void this.sync();
    this.#arm();
  }

  /** A transaction of this engine was committed. Called before its writes turn clean in memory. */
  committed(writes: readonly Revision[], result: ApplyResult): void {
    const { head, changed, flags } = result;
    const stored: Revision[] = [];
    const lost: UnconfirmedChange[] = [];
    for (let at = 0; at < writes.length; at++) {
      const write = writes[at] as Revision;
      const version = result.newer.get(at);
      if (((flags[at] as number) & APPLY_STORED) !== 0) stored.push(write);
      // Leaves memory: what Redis has must be no older than what it lost to.
      else if (version !== undefined) lost.push({ id: write.id, version, origin: '', deleted: false });
    }
    if (stored.length === 0 && lost.length === 0 && !changed) return;
    const { position, chain } = head;
    const sends = changed && this.#sends(stored);
    if (position > this.#unconfirmed.floor) {
      this.#unconfirmed.add(position, undefined, lost, this.#nowMs, undefined);
      this.#unconfirmed.add(position, changed ? chain : undefined, stored, this.#nowMs, sends);
    }
    if (changed && position === (this.#known?.position ?? -1) + 1) this.#known = { position, chain };
    if (sends) void this.#send(position, chain, stored);
  }

  /** Somebody committed a transaction, perhaps we. */
  changed(batch: ChangeBatch): void {
    const { position, chain } = batch;
    if (position <= (this.#known?.position ?? 0)) return;
    if (position > this.#unconfirmed.floor)
      this.#unconfirmed.add(position, chain, changesOf(batch), this.#nowMs, undefined);
    this.#known = { position, chain };
  }

  /** Changes are not known any more, or SQL is a restored copy. */
  missed(head: ChangeHead): void {
    this.#known = { position: head.position, chain: head.chain };
    this.#unconfirmed.reset(head.position);
    this.#synced = false;
    // What it confirmed may belong to another history: only SQL can tell.
    this.#generation = undefined;
    this.#compared = undefined;
    void this.sync();
  }

  /** What Redis has of ids, in input order. Never rejects: without an answer it has nothing. */
  async read(ids: readonly string[]): Promise<readonly (CacheHit | undefined)[]> {
    const generation = this.#generation;
    if (generation === undefined) return [];
    const { cache, archive } = this.#parts;
    const { floor } = this.#unconfirmed;
    let found: Awaited<ReturnType<GuardedCache['getMany']>>;
    try {
      found = await cache.getMany(generation, ids);
    } catch {
      // The guard has taken note.
      return [];
    }
    const { head, values } = found;
    if (head === undefined || head.generation !== generation || generation !== this.#generation) {
      this.#synced = false;
      void this.sync();
      return [];
    }
    const judged = this.#synced && head.position >= this.#unconfirmed.floor;
    if (judged) this.#confirmedUpTo(head.position);
    else if (this.#synced && head.position < floor) this.#lostCount();
    const stale = !judged;
    if (stale && (archive?.available !== false || !this.#mayHaveAll(head))) return [];
    const damaged: string[] = [];
    const hits = values.map((value, at): CacheHit | undefined => {
      if (value === undefined) return undefined;
      if (value === 'damaged') {
        damaged.push(ids[at] as string);
        return undefined;
      }
      if (this.#unconfirmed.isOvertaken(value.revision)) return undefined;
      return { ...value, stale };
    });
    if (damaged.length > 0) this.#discard(generation, damaged);
    return hits;
  }

  /** Whether Redis has all that is known here of SQL; with an engine that has not met SQL yet it always has. */
  #mayHaveAll({ generation, position }: CacheHead): boolean {
    if (this.#known === undefined) return true;
    return generation === this.#compared && position >= this.#unconfirmed.floor;
  }

  /**
   * Copies rows that were read from SQL.
   * @param known `knownPosition` before they were read.
   */
  promote(rows: readonly Revision[], known: number): void {
    const generation = this.#generation;
    if (generation === undefined || !this.synced) return;
    const puts: CachePut[] = [];
    let bytes = 0;
    for (const revision of rows) {
      const put = putOf(revision);
      if (put.kind === 'marker') continue;
      bytes += revision.content.length;
      puts.push(put);
    }
    if (puts.length === 0 || this.#bytesUnderWay + bytes > BYTES_UNDER_WAY_MAX) return;
    const batch = { generation, known, begins: false, puts, confirms: undefined };
    void this.#counted(bytes, this.#parts.cache.putMany(batch)).catch(() => {});
  }

  /** Takes a cache-only item. Those of one turn travel together. @throws what Redis failed with. */
  putOnly(revision: Revision, ttlMs: number): Promise<CacheOnlyFate> {
    if (this.#bytesUnderWay > BYTES_UNDER_WAY_MAX) return Promise.reject(tooSlow(revision.id));
    return new Promise((resolve, reject) => {
      this.#queueOnly({ revision, kind: 'only', ttlMs, resolve, reject });
    });
  }

  /** Without SQL: memory took a write of its own, so that what Redis has of the id is over. */
  supersede({ id, version, origin }: Revision): void {
    if (!this.synced || this.#bytesUnderWay > BYTES_UNDER_WAY_MAX) return;
    const { revision, ttlMs } = markOf({ id, version, origin, deleted: true });
    this.#queueOnly({ revision, kind: 'marker', ttlMs, resolve: ignored, reject: ignored });
  }

  /** Whether Redis has a value of the id. */
  async holds(id: string): Promise<boolean> {
    if (this.#generation === undefined || !this.usable) return false;
    const [there] = await this.#parts.cache.exists(this.#generation, [id]).catch(() => [false]);
    return there === true;
  }

  /** Brings the knowledge of Redis up to date, or joins who does. Never rejects. */
  sync(): Promise<void> {
    this.#syncAgain = this.#syncing !== undefined;
    this.#syncing ??= this.#sync().finally(() => {
      this.#syncing = undefined;
      if (this.#syncAgain && !this.#stopped) void this.sync();
    });
    return this.#syncing;
  }

  /** Resolves when what is on its way to Redis has arrived, or will not. */
  async settled(): Promise<void> {
    while (this.#writesUnderWay.size > 0) await Promise.allSettled([...this.#writesUnderWay]);
  }

  stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    return this.#parts.cache.close();
  }

  async #open(archiveId: string): Promise<void> {
    this.#archiveId = archiveId;
    this.#generation = undefined;
    this.#compared = undefined;
    try {
      await this.#parts.cache.open(archiveId);
      await this.#syncing;
    } catch (error) {
      if (this.#stopped) return;
      if (error instanceof SyncEngineError && error.code === 'CONFIG') throw error;
      this.#parts.events.noticed(`Starting without Redis: ${messageOf(error)}`);
    }
  }

  async #sync(): Promise<void> {
    const { cache } = this.#parts;
    try {
      let head = await cache.head();
      if (this.#parts.archive === undefined) {
        head ??= await cache.moveHead(undefined, this.#newHead({ position: 0, chain: NO_CHAIN }));
        if (head !== undefined) this.#adopt(head, 0);
        return;
      }
      if (head === undefined || head.generation !== this.#generation) this.#synced = false;
      if (head !== undefined) this.#generation = head.generation;
      const known = this.#known;
      if (known === undefined) return;
      if (head === undefined) {
        const next = this.#newHead(known);
        head = await cache.moveHead(undefined, next);
        if (head === undefined) return;
        if (head.generation === next.generation) {
          this.#adopt(head, head.position);
          return;
        }
      }
      // What was lost of the same history stands here still.
      const compared = head.generation === this.#compared;
      const covered = compared && head.position >= this.#unconfirmed.floor && head.position <= known.position;
      const recount = this.#recount;
      this.#recount = false;
      if (covered && !recount) this.#adopt(head, head.position);
      else await this.#catchUp(head);
    } catch (error) {
      if (error instanceof SyncEngineError && !error.retryable) this.#parts.events.noticed(messageOf(error));
      // The guard has taken note; it is tried again with the next connection, of Redis or of SQL.
    }
  }

  /**
   * Adds what was committed since Redis was last told. Too much to remember is marked in Redis, page by page; where SQL does
   * not know it any more, a new generation begins.
   */
  async #catchUp(head: CacheHead): Promise<void> {
    if (this.#nowMs < this.#markNotBeforeMs) return;
    const archive = this.#parts.archive as RecordedArchive;
    // A part that is ahead may be so by another history.
    for (const other of head.others ?? []) {
      const page = await archive.look(other, 1);
      if (page.gap !== 'none') return this.#beginAnew(head, page);
    }
    if (this.#marking) return this.#markFrom(head);
    const { resets } = this.#unconfirmed;
    let from: ChangeHead = { position: head.position, chain: head.chain };
    do {
      const page = await archive.look(from, CHANGES_A_LOOK);
      if (page.gap !== 'none') return this.#beginAnew(head, page);
      for (const batch of page.batches) {
        if (this.#unconfirmed.resets !== resets) break;
        const { position, chain } = batch;
        this.#unconfirmed.add(position, chain, changesOf(batch), Number.NEGATIVE_INFINITY, false);
        from = { position, chain };
      }
      // Too much, with what was committed meanwhile, or SQL is not what it was: what was added is gone.
      if (this.#unconfirmed.resets !== resets) {
        if (this.#generation === head.generation) return this.#markFrom(head);
        this.#syncAgain = true;
        return;
      }
      // An answer without a next step would be asked for again and again.
      if (page.batches.length === 0 && from.position < (this.#known as ChangeHead).position) return;
    } while (from.position < (this.#known as ChangeHead).position && !this.#stopped);
    this.#unconfirmed.lowerFloor(head.position);
    this.#adopt(head, head.position);
    this.#arm(1);
  }

  /** Marks page by page what Redis was not told. Once that has failed, it is tried less and less often. */
  async #markFrom(head: CacheHead): Promise<void> {
    this.#marking = true;
    this.#markAgainMs = Math.min(MARK_AGAIN_MS_MAX, Math.max(MARK_AGAIN_MS, this.#markAgainMs * 2));
    this.#markNotBeforeMs = this.#nowMs + this.#markAgainMs;
    let from: ChangeHead = { position: head.position, chain: head.chain };
    while (from.position < (this.#known as ChangeHead).position) {
      const page = await (this.#parts.archive as RecordedArchive).look(from, CHANGES_A_LOOK);
      if (page.gap !== 'none') {
        await this.#beginAnew(head, page);
        break;
      }
      if (page.batches.length === 0 || this.#stopped || this.#generation !== head.generation) return;
      for (const batch of page.batches) {
        const { position, chain } = batch;
        from = { position, chain };
        if (!(await this.#mark(head, from, [...changesOf(batch)]))) return;
      }
    }
    this.#marking = false;
    this.#markAgainMs = 0;
    this.#markNotBeforeMs = Number.NEGATIVE_INFINITY;
    this.#syncAgain = true;
  }

  /** Makes everything unreachable that Redis holds. */
  async #beginAnew(head: CacheHead, page: ChangePage): Promise<void> {
    const next = this.#newHead(page.head);
    const present = await this.#parts.cache.moveHead(head.generation, next);
    if (present?.generation === next.generation) this.#adopt(next, next.position);
    else this.#syncAgain = true;
    this.#parts.events.noticed(
      `${page.gap === 'foreign' ? 'Redis holds copies of another history of SQL' : 'SQL has forgotten what was changed since Redis was last told'}: its copies are not used any more, and made anew as items are read.`,
    );
  }

  /** Marks the copies of a position that is too much to remember. Whether it could. */
  async #mark(
    { generation }: CacheHead,
    { position, chain }: ChangeHead,
    changes: readonly UnconfirmedChange[],
  ): Promise<boolean> {
    const puts = changes.map(markOf);
    const batch = { generation, known: position, begins: true, puts, confirms: chain };
    return (await this.#parts.cache.putMany(batch)).status === 'done';
  }

  #adopt(head: CacheHead, confirmed: number): void {
    this.#generation = head.generation;
    this.#compared = head.generation;
    this.#confirmed = confirmed;
    this.#confirmedAtMs = this.#nowMs;
    this.#synced = true;
    this.#unconfirmed.confirmed(confirmed);
  }

  #newHead({ position, chain }: ChangeHead): CacheHead {
    const random = Buffer.from(this.#parts.random.bytes(GENERATION_DIGITS / 2)).toString('hex');
    const archive = archiveDigits(this.#archiveId ?? '');
    return { generation: archive + random.slice(archive.length), position, chain };
  }

  /** Whether these writes can be sent now. */
  #sends(writes: readonly Revision[]): boolean {
    if (!this.synced) return false;
    return this.#bytesUnderWay === 0 || this.#bytesUnderWay + bytesOf(writes) <= BYTES_UNDER_WAY_MAX;
  }

  /** Counts contents for as long as they are on their way. */
  async #counted<T>(bytes: number, write: Promise<T>): Promise<T> {
    this.#bytesUnderWay += bytes;
    this.#writesUnderWay.add(write);
    try {
      return await write;
    } finally {
      this.#bytesUnderWay -= bytes;
      this.#writesUnderWay.delete(write);
    }
  }

  async #send(position: number, chain: string, writes: readonly Revision[]): Promise<void> {
    const arrived = await this.#counted(bytesOf(writes), this.#put(position, chain, writes.map(putOf)));
    if (!arrived) this.#unconfirmed.setUnderWay(position, false);
  }

  /** Writes as of a position, and confirms it. */
  async #put(position: number, chain: string, puts: readonly CachePut[]): Promise<boolean> {
    const generation = this.#generation as string;
    try {
      const batch = { generation, known: position, begins: true, puts, confirms: chain };
      const arriving = this.#parts.cache.putMany(batch);
      step('cache.sent');
      const { status, position: confirmed } = await arriving;
      step('cache.arrived');
      if (generation !== this.#generation) return false;
      if (status === 'done') {
        if (this.#synced) this.#confirmedUpTo(confirmed);
        return true;
      }
      if (status === 'moved') {
        this.#synced = false;
        void this.sync();
      }
    } catch {
      // The guard has taken note.
    }
    return false;
  }

  #queueOnly(put: OnlyPut): void {
    if (this.#onlyPuts.length === 0) this.#parts.scheduler.soon(() => void this.#sendOnly());
    this.#onlyPuts.push(put);
  }

  async #sendOnly(): Promise<void> {
    const puts = this.#onlyPuts;
    this.#onlyPuts = [];
    const generation = this.#generation;
    try {
      if (generation === undefined) {
        throw new SyncEngineError('TIER_UNAVAILABLE', 'Redis has not been met yet.', {
          outcome: 'not-applied',
          context: { tier: 'redis' },
        });
      }
      // Of one id only the last counts.
      const byId = new Map(puts.map((put) => [put.revision.id, put]));
      const last = [...byId.values()];
      const batch = { generation, known: undefined, begins: false, puts: last, confirms: undefined };
      const bytes = bytesOf(last.map(({ revision }) => revision));
      const { status, outcomes } = await this.#counted(bytes, this.#parts.cache.putMany(batch));
      if (status !== 'done') {
        if (status === 'moved') void this.sync();
        throw new SyncEngineError('TIER_UNAVAILABLE', `Redis did not take the item (${status}). Try again.`, {
          outcome: 'indeterminate',
          context: { tier: 'redis' },
        });
      }
      const fates = new Map(last.map((put, at) => [put, outcomes[at] as number]));
      for (const put of puts) {
        const fate = fates.get(put) ?? PUT_NEWER_THERE;
        if (fate === PUT_NO_ROOM) put.reject(noRoom(put.revision.id));
        else put.resolve(fate === PUT_WRITTEN ? 'written' : 'superseded');
      }
    } catch (error) {
      for (const put of puts) put.reject(error as SyncEngineError);
    }
  }

  #discard(generation: string, ids: readonly string[]): void {
    for (const id of ids) this.#parts.events.damaged(id);
    this.#parts.cache.deleteMany(generation, ids).catch(() => {});
  }

  /** Not forgotten at once: a read that was answered before may be judged after this, in the same turn. */
  #confirmedUpTo(position: number): void {
    if (position <= this.#confirmed) return;
    this.#confirmed = position;
    this.#confirmedAtMs = this.#nowMs;
    if (this.#pruning) return;
    this.#pruning = true;
    this.#parts.scheduler.soon(() => {
      this.#pruning = false;
      this.#unconfirmed.confirmed(this.#confirmed);
    });
  }

  /** Redis has confirmed less than what is still known here: it lost something, or too much stood here. */
  #lostCount(): void {
    this.#synced = false;
    void this.sync();
  }

  #arm(delayMs = this.#parts.config.redisTimeoutMs / 2): void {
    this.#timer?.cancel();
    if (this.#stopped) return;
    this.#timer = this.#parts.scheduler.after(
      Math.max(1, delayMs),
      () => {
        void this.#repair().finally(() => this.#arm());
      },
      false,
    );
  }

  /** Positions that nobody confirmed: their copies are marked, so that readers ask SQL. */
  async #repair(): Promise<void> {
    const { cache, config } = this.#parts;
    if (!cache.available || this.#stopped) return;
    if (this.#nowMs - this.#askedAtMs > IDLE_MS) {
      // An idle connection may have gone without a word, and clocks drift.
      this.#askedAtMs = this.#nowMs;
      await cache.ping().catch(() => {});
    }
    if (!this.#synced) {
      await this.sync();
      return;
    }
    // Others may have confirmed what stands here, and nobody read since.
    const head = this.#unconfirmed.size === 0 ? undefined : await cache.head().catch(() => undefined);
    if (head !== undefined && head.generation === this.#generation && this.#synced) {
      this.#confirmedUpTo(head.position);
      // Forgotten by then.
      await new Promise<void>((resolve) => this.#parts.scheduler.soon(resolve));
    }
    for (;;) {
      const overdue = this.#unconfirmed.overdue(this.#nowMs - config.redisTimeoutMs, REPAIRED_AT_ONCE);
      if (overdue.length === 0) break;
      for (const { position, chain, changes } of overdue) {
        if (!(await this.#put(position, chain, changes.map(markOf))) || this.#stopped) return;
        this.#unconfirmed.setUnderWay(position, true);
      }
    }
    const behind = (this.#known?.position ?? 0) > this.#confirmed;
    if (!behind) this.#confirmedAtMs = this.#nowMs;
    const stuck = this.#nowMs - this.#confirmedAtMs > config.redisTimeoutMs * STUCK_TIMEOUTS;
    if (!behind || !stuck) return;
    this.#recount = true;
    this.#lostCount();
  }

  get #nowMs(): number {
    return this.#parts.clock.monotonic();
  }
}

function ignored(): void {}

function bytesOf(writes: readonly Revision[]): number {
  let bytes = 0;
  for (const { content } of writes) bytes += content.length;
  return bytes;
}

function tooSlow(id: string): SyncEngineError {
  return new SyncEngineError(
    'TIER_UNAVAILABLE',
    'Redis takes cache-only items more slowly than they come. Try again, or leave ack out: memory has it.',
    { outcome: 'indeterminate', context: { tier: 'redis', id } },
  );
}

function noRoom(id: string): SyncEngineError {
  return new SyncEngineError('TIER_UNAVAILABLE', 'Redis has no room: raise maxmemory, or let it evict.', {
    outcome: 'not-applied',
    context: { tier: 'redis', id },
  });
}

function* changesOf({ changes }: ChangeBatch): Generator<UnconfirmedChange> {
  for (const { id, version, origin, kind } of changes) yield { id, version, origin, deleted: kind !== 'put' };
}

/** A copy where the writer wants one, else a marker. */
function putOf(revision: Revision): CachePut {
  const { deleted, content, redisTtlMs } = revision;
  if (deleted || redisTtlMs === 0 || content.length > COPY_BYTES_MAX)
    return { revision, kind: 'marker', ttlMs: MARKER_TTL_MS };
  return { revision, kind: 'value', ttlMs: redisTtlMs ?? COPY_TTL_MS };
}

/** In the place of a copy that is older than a write of which only the place in the order is known. */
function markOf({ id, version, origin, deleted }: UnconfirmedChange): CachePut {
  const revision: Revision = {
    id,
    version,
    origin,
    deleted,
    contentType: 'binary',
    state: DEFAULT_STATE,
    content: EMPTY_CONTENT,
    contentHash: NO_CONTENT_HASH,
  };
  return { revision, kind: 'mark', ttlMs: MARKER_TTL_MS };
}
