/**
 * The cache in Redis, on one server or a cluster.
 *
 * In a cluster the ids are dealt to shards (redis-nodes.ts), and each shard is a cache by itself: it has a head of its own,
 * read with its values, and is told of every position. What is shown is one cache: its head is that of the earliest shard,
 * its generation stands for those of all shards, so that a shard that lost its head, or has another one, is a new generation.
 *
 * Keys, where the tag in braces is the shard's and keeps them in one slot whatever an id contains:
 *   `{prefix}{tag}head:{archive}`          the head (scripts.ts)
 *   `{prefix}{tag}confirmed:{generation}`  confirmations that wait for their turn
 *   `{prefix}{tag}v:{generation}:{id}`     a value (value-codec.ts)
 */
import { hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { messageOf, SyncEngineError } from '../../base/errors.js';
import type { Clock, Scheduler } from '../../ports/ports.js';
import {
  archiveDigits,
  type CacheBatch,
  type CacheHead,
  type CacheInfo,
  type CacheMemory,
  type CacheOpenOptions,
  type CachePut,
  type CacheRead,
  type CacheSample,
  type CacheSampleEntry,
  type CacheStore,
  type CacheWritten,
} from '../cache-store.js';
import { HostRota } from '../host-rota.js';
import { type Command, loadDriver, type RedisConnection, type Reply } from './redis-connection.js';
import { RedisNodes, type Shard } from './redis-nodes.js';
import { type RedisAddress, redisAddressOf } from './redis-url.js';
import { MOVE, type Script, WRITE } from './scripts.js';
import { decodeValue, encodeValue, isValueHead, valueBytesMax } from './value-codec.js';

/** Measured best among 25 to 400: fewer cost a script call more often, more keep the server from others. */
const WRITES_PER_SCRIPT = 100;
const BYTES_PER_SCRIPT = 4 * 1024 * 1024;
const IDS_PER_READ = 128;
/** Of one MGET, going by the largest value seen of late: a thousand large ones must not come at once. */
const BYTES_PER_READ = 4 * 1024 * 1024;
const READS_AT_ONCE = 8;
/** How fast a large value is forgotten, a read. */
const LARGEST_FADES = 0.95;
/** Grace behind the end of a life: an item that is over still refuses what is older and was stuck on its way. */
const GRACE_MS = 5000;
const VALUE_HEAD_LAST = 60;
/** Of a generation that stands for several, behind the digits of the archive. */
const MIXED_DIGITS = 10;
const STATUSES = ['done', 'moved', 'late'] as const;
const ADVICE: readonly (readonly [RegExp, string])[] = [
  [/^READONLY/, 'It is a read-only replica: let redisUrl name the master.'],
  [/^OOM/, 'It is out of memory: raise maxmemory, or choose an evicting maxmemory-policy.'],
  [/^LOADING/, 'It is loading its data, and answers when it has.'],
  [/^NOAUTH/, 'It wants a password: put it into redisUrl.'],
  [/^WRONGPASS|^ERR invalid password|AUTH/, 'User or password is wrong: correct redisUrl.'],
  [
    /^NOPERM/,
    'The user lacks a right: it needs GET MGET SET PSETEX DEL UNLINK EXISTS GETRANGE EVALSHA EVAL SCRIPT SCAN TIME INFO OBJECT STRLEN PING and the sorted-set commands on keys that begin with redisPrefix; in a cluster CLUSTER and ASKING, too.',
  ],
  [/^CLUSTERDOWN/, 'The cluster is down: a slot has no master.'],
  [/^MOVED|^ASK|^TRYAGAIN/, 'The cluster is being rearranged; it is tried again.'],
  [/SELECT is not allowed/, 'A cluster has only database 0: leave the number out of redisUrl.'],
  [/^MISCONF/, 'It cannot write its snapshot to disk, and refuses writes: look at its log.'],
];

/** A shard, and what was last seen of its head. */
interface Part {
  readonly shard: Shard;
  /** `undefined`: it has no head. */
  generation: string | undefined;
  position: number;
  /** At the position that was read last; one that was written since has another. */
  chain: string;
}

/** Reads or writes of one shard; `at` are their places in the whole. */
interface Portion {
  readonly part: Part;
  readonly at: readonly number[];
}

export class RedisStore implements CacheStore {
  readonly #address: RedisAddress;
  readonly #prefix: string;
  readonly #timeouts: { readonly redisTimeoutMs: number };
  readonly #ports: { readonly clock: Clock; readonly scheduler: Scheduler };
  #rota: HostRota;
  #nodes: RedisNodes | undefined;
  #parts: readonly Part[] = [];
  /** What stands for the generations of all parts. */
  #generation: string | undefined;
  /** Of several that open or close at once only the last counts. */
  #turn = 0;
  #archiveId = '';
  /** Bytes of the largest value of late. */
  #largest = 0;
  /** Of the servers, the one with the least room, where there is a limit. */
  #fullest: RedisConnection | undefined;

  /** @throws `CONFIG`. */
  constructor(
    url: string,
    prefix: string,
    timeouts: { readonly redisTimeoutMs: number },
    ports: { readonly clock: Clock; readonly scheduler: Scheduler },
  ) {
    this.#address = redisAddressOf(url);
    this.#rota = new HostRota(this.#address.hosts);
    this.#prefix = prefix;
    this.#timeouts = timeouts;
    this.#ports = ports;
  }

  async open({ archiveId, lost }: CacheOpenOptions): Promise<CacheInfo> {
    void this.close();
    const turn = this.#turn;
    const driver = await loadDriver();
    if (turn !== this.#turn) throw this.#failure(new Error('it was closed meanwhile'));
    const nodes = new RedisNodes({
      ...this.#ports,
      driver,
      address: this.#address,
      timeouts: this.#timeouts,
      lost: (reason) => {
        if (this.#nodes === nodes) lost(this.#failure(reason));
      },
    });
    this.#nodes = nodes;
    this.#archiveId = archiveId;
    try {
      await this.#rota.connect(
        (host) => nodes.connect(host),
        async () => nodes.reset(),
      );
      if (this.#nodes !== nodes) throw new Error('it was closed meanwhile');
      this.#parts = nodes.shards.map((shard) => ({ shard, generation: undefined, position: 0, chain: '' }));
      if (nodes.known.length > 0) this.#rota = new HostRota([...this.#address.hosts, ...nodes.known]);
      const servers = nodes.connections;
      // Else the first groups would be sent twice, and overtaken by those behind them.
      for (const { text } of [WRITE, MOVE])
        await Promise.all(servers.map((server) => server.send(['SCRIPT', 'LOAD', text]).catch(() => {})));
      const warnings = await Promise.all(servers.map((server) => this.#inspect(server)));
      // One that loads its data, or a cluster that is down, answers what was asked so far.
      await this.head();
      return { warnings: [...new Set(warnings.flat())] };
    } catch (error) {
      nodes.close();
      if (this.#nodes === nodes) await this.close();
      throw this.#failure(error);
    }
  }

  async head(): Promise<CacheHead | undefined> {
    const parts = this.#opened();
    await Promise.all(
      parts.map(async (part) => {
        note(part, headOf((await this.#send(part.shard, ['GET', this.#headKey(part)])) as Buffer | null));
      }),
    );
    return this.#shownWhole(parts);
  }

  async moveHead(expected: string | undefined, next: CacheHead): Promise<CacheHead | undefined> {
    const parts = this.#opened();
    const expectations =
      expected === undefined
        ? new Map<Part, string>()
        : (this.#generationsOf(expected) ?? (await this.#generationsAnew(expected)));
    if (expectations === undefined) return this.head();
    const { generation, position, chain } = next;
    const text = `${generation} ${position} ${position} ${chain}`;
    await Promise.all(
      parts.map(async (part) => {
        const from = expectations.get(part) ?? '';
        const reply = await this.#run(part.shard, MOVE, [this.#headKey(part)], [from, text]);
        note(part, headOf(reply as Buffer | null));
      }),
    );
    return this.#shownWhole(parts);
  }

  async getMany(generation: string, ids: readonly string[]): Promise<CacheRead> {
    const size = Math.max(1, Math.min(IDS_PER_READ, Math.floor(BYTES_PER_READ / Math.max(1, this.#largest))));
    const values: CacheRead['values'][number][] = new Array(ids.length).fill(undefined);
    const parts = this.#opened();
    const generations = this.#generationsOf(generation) ?? (await this.#generationsAnew(generation));
    if (generations === undefined) return { head: undefined, values };
    const portions = this.#dealt(ids.length, (at) => ids[at] as string).flatMap(({ part, at }) =>
      portionsOf(at, size).map((some) => ({ part, at: some })),
    );
    const replies: Reply[] = [];
    for (let from = 0; from < portions.length; from += READS_AT_ONCE) {
      const some = portions.slice(from, from + READS_AT_ONCE);
      replies.push(...(await Promise.all(some.map((portion) => this.#read(portion, generations, ids)))));
    }
    this.#largest *= LARGEST_FADES;
    const seen = new Map<Part, CacheHead | undefined>();
    for (const [number, reply] of (replies as (Buffer | null)[][]).entries()) {
      const { part, at } = portions[number] as Portion;
      const [text, ...found] = reply;
      const present = headOf(text ?? null);
      // Of several moments the earliest counts for all.
      const earlier = seen.get(part);
      if (!seen.has(part) || present === undefined || (earlier !== undefined && isBefore(present, earlier)))
        seen.set(part, present);
      const nowMs = part.shard.connection.serverNowMs;
      for (const [place, value] of found.entries()) {
        const index = at[place] as number;
        if (value === null) continue;
        if (value.length > this.#largest) this.#largest = value.length;
        values[index] = decodeValue(ids[index] as string, value, nowMs);
      }
    }
    for (const [part, head] of seen) note(part, head);
    return { head: this.#shown(parts), values };
  }

  async putMany(batch: CacheBatch): Promise<CacheWritten> {
    const { generation, begins, puts, confirms } = batch;
    const parts = this.#opened();
    const generations = this.#generationsOf(generation) ?? (await this.#generationsAnew(generation));
    const outcomes = new Uint8Array(puts.length);
    if (generations === undefined) return { status: 'moved', position: 0, outcomes: NONE };
    const portions = this.#dealt(puts.length, (at) => (puts[at] as CachePut).revision.id);
    if (begins || confirms !== undefined)
      for (const part of parts)
        if (!portions.some((portion) => portion.part === part)) portions.push({ part, at: [] });
    const statuses = await Promise.all(
      portions.map((portion) =>
        this.#write(portion, generations.get(portion.part) as string, batch, outcomes),
      ),
    );
    const position = Math.min(...parts.map((part) => part.position));
    const status = Math.max(...statuses, 0);
    if (status !== 0) return this.#refused(status, position);
    return { status: 'done', position, outcomes };
  }

  /** Writes the part of a batch that belongs to one shard, and confirms it there. Answers with the worst status. */
  async #write(
    { part, at }: Portion,
    generation: string,
    { known, begins, withinMs, puts, confirms }: CacheBatch,
    outcomes: Uint8Array,
  ): Promise<number> {
    const nowMs = part.shard.connection.serverNowMs;
    const deadline = String(Math.floor(nowMs + withinMs));
    const facts = [generation, deadline, known === undefined ? '' : String(known), begins ? '1' : ''];
    const keys = [this.#headKey(part), this.#confirmedKey(part, generation)];
    const groups = groupsOf(at, puts);
    // Confirmed once everything has arrived: with the only group, or behind the last.
    const ownConfirmation = confirms !== undefined && groups.length !== 1;
    const replies = await Promise.all(
      groups.map((group) => {
        const groupKeys = [...keys];
        const some = group.map((index) => puts[index] as CachePut);
        for (const { revision } of some) groupKeys.push(this.#keyOf(part, generation, revision.id));
        const confirmed = ownConfirmation ? '' : (confirms ?? '');
        return this.#run(part.shard, WRITE, groupKeys, [...facts, confirmed, packed(some, nowMs)]);
      }),
    );
    for (const [number, reply] of replies.entries()) {
      const [status, reached, digits] = reply as [number, Buffer, Buffer];
      part.position = Number(reached.toString());
      if (status !== 0) return status;
      const group = groups[number] as readonly number[];
      for (const [place, digit] of digits.entries()) outcomes[group[place] as number] = digit - 48;
    }
    if (ownConfirmation) {
      const [status, reached] = (await this.#run(part.shard, WRITE, keys, [...facts, confirms, ''])) as [
        number,
        Buffer,
      ];
      part.position = Number(reached.toString());
      return status;
    }
    return 0;
  }

  #refused(status: number, position: number): CacheWritten {
    // Its clock may have been set since it was last asked for the time.
    if (STATUSES[status] === 'late') this.ping().catch(() => {});
    return { status: STATUSES[status] as 'moved' | 'late', position, outcomes: NONE };
  }

  async exists(generation: string, ids: readonly string[]): Promise<boolean[]> {
    this.#opened();
    const there: boolean[] = new Array(ids.length).fill(false);
    const generations = this.#generationsOf(generation) ?? (await this.#generationsAnew(generation));
    if (generations === undefined) return there;
    await Promise.all(
      this.#dealt(ids.length, (at) => ids[at] as string).flatMap(({ part, at }) =>
        at.map(async (index) => {
          const key = this.#keyOf(part, generations.get(part) as string, ids[index] as string);
          const head = await this.#send(part.shard, ['GETRANGE', key, '0', String(VALUE_HEAD_LAST)]);
          there[index] = isValueHead(head as Buffer);
        }),
      ),
    );
    return there;
  }

  async deleteMany(generation: string, ids: readonly string[]): Promise<void> {
    this.#opened();
    const generations = this.#generationsOf(generation) ?? (await this.#generationsAnew(generation));
    if (generations === undefined) return;
    await Promise.all(
      this.#dealt(ids.length, (at) => ids[at] as string).map(({ part, at }) => {
        const keyOf = (index: number): string =>
          this.#keyOf(part, generations.get(part) as string, ids[index] as string);
        return this.#send(part.shard, ['DEL', ...at.map(keyOf)]);
      }),
    );
  }

  /** Of a cluster the server with the least room: a key can only live on its own. */
  async memory(): Promise<CacheMemory> {
    this.#opened();
    const all = await Promise.all(
      this.#servers.map(async (server): Promise<CacheMemory & { readonly server: RedisConnection }> => {
        const info = await this.#info(server, 'memory');
        return { server, usedBytes: Number(info.used_memory ?? 0), maxBytes: Number(info.maxmemory ?? 0) };
      }),
    );
    const limited = all.filter(({ maxBytes }) => maxBytes > 0);
    const share = (one: CacheMemory): number => one.usedBytes / one.maxBytes;
    const fullest = limited.sort((a, b) => share(b) - share(a))[0];
    this.#fullest = fullest?.server;
    if (fullest !== undefined) return { usedBytes: fullest.usedBytes, maxBytes: fullest.maxBytes };
    return { usedBytes: all.reduce((sum, { usedBytes }) => sum + usedBytes, 0), maxBytes: 0 };
  }

  /** Of the server with the least room, where `memory` has found one. `from`: number of the server, and its cursor. */
  async sample(from: string | undefined, count: number): Promise<CacheSample> {
    await this.head();
    const servers = this.#servers.filter((server) => server === this.#fullest);
    if (servers.length === 0) servers.push(...this.#servers);
    const [at = 0, cursor = 0] = (from ?? '').split(':').map(Number);
    const number = at < servers.length ? at : 0;
    const server = servers[number] as RedisConnection;
    const pattern = `${escapeGlob(this.#prefix)}{*}v:${archiveDigits(this.#archiveId)}*`;
    const command = ['SCAN', String(cursor), 'MATCH', pattern, 'COUNT', String(count)];
    const reply = await server.send(command).catch((error) => {
      throw this.#failure(error);
    });
    const [next, keys] = reply as [Buffer, Buffer[]];
    const entries = await Promise.all(keys.map((key) => this.#sampled(server, key)));
    const behind = next.toString();
    const more =
      behind !== '0' ? `${number}:${behind}` : number + 1 < servers.length ? `${number + 1}:0` : '';
    return {
      entries: entries.filter((entry) => entry !== undefined),
      next: more === '' ? undefined : more,
    };
  }

  async #sampled(server: RedisConnection, key: Buffer): Promise<CacheSampleEntry | undefined> {
    const part = this.#partOf(key);
    if (part === undefined) return undefined;
    const [bytes, idleMs] = await Promise.all([
      server.send(['STRLEN', key]).catch(() => 0),
      idleMsOf(server, key),
    ]);
    if (bytes === 0) return undefined;
    const present = Buffer.from(this.#keyOf(part, part.generation ?? '', ''));
    const unreachable = part.generation !== undefined && !key.subarray(0, present.length).equals(present);
    return { key, bytes: (bytes as number) + key.length, idleMs, unreachable };
  }

  async evict(keys: readonly Uint8Array[]): Promise<number> {
    const byPart = new Map<Part, Buffer[]>();
    for (const key of keys as readonly Buffer[]) {
      const part = this.#partOf(key);
      if (part === undefined) continue;
      const some = byPart.get(part);
      if (some === undefined) byPart.set(part, [key]);
      else some.push(key);
    }
    const counts = await Promise.all(
      [...byPart].map(([{ shard }, some]) => this.#send(shard, ['UNLINK', ...some])),
    );
    return (counts as number[]).reduce((sum, count) => sum + count, 0);
  }

  async ping(): Promise<void> {
    this.#opened();
    await Promise.all(this.#servers.map((server) => server.ping())).catch((error) => {
      throw this.#failure(error);
    });
  }

  close(): Promise<void> {
    this.#turn++;
    this.#nodes?.close();
    this.#nodes = undefined;
    this.#parts = [];
    this.#generation = undefined;
    this.#fullest = undefined;
    return Promise.resolve();
  }

  get #servers(): RedisConnection[] {
    return this.#nodes?.connections ?? [];
  }

  #opened(): readonly Part[] {
    if (this.#parts.length === 0) throw this.#failure(new Error('there is no connection'));
    return this.#parts;
  }

  /** The generation of each part under one that was shown; `undefined` where another is shown now. */
  #generationsOf(shown: string): ReadonlyMap<Part, string> | undefined {
    const [first] = this.#parts;
    if (this.#parts.length === 1) return new Map([[first as Part, shown]]);
    if (shown !== this.#generation) return undefined;
    return new Map(this.#parts.map((part) => [part, part.generation as string]));
  }

  /** As `#generationsOf`, where the heads were not read yet, or are no longer what they were. */
  async #generationsAnew(shown: string): Promise<ReadonlyMap<Part, string> | undefined> {
    await this.head();
    return this.#generationsOf(shown);
  }

  /** All parts as one cache: nothing is older than what is shown. */
  #shown(parts: readonly Part[]): CacheHead | undefined {
    this.#generation = this.#generationOf(parts);
    if (this.#generation === undefined) return undefined;
    const { position, chain } = earliestOf(parts);
    return { generation: this.#generation, position, chain };
  }

  /** With those that are elsewhere: their chains have just been read. */
  #shownWhole(parts: readonly Part[]): CacheHead | undefined {
    const head = this.#shown(parts);
    if (head === undefined) return undefined;
    const others = parts.filter(({ position, chain }) => position !== head.position || chain !== head.chain);
    if (others.length === 0) return head;
    return { ...head, others: others.map(({ position, chain }) => ({ position, chain })) };
  }

  #generationOf(parts: readonly Part[]): string | undefined {
    const first = parts[0]?.generation;
    if (parts.every(({ generation }) => generation === first)) return first;
    if (parts.some(({ generation }) => generation === undefined)) return undefined;
    const all = parts.map(({ generation }) => generation).join();
    return archiveDigits(this.#archiveId) + hash('sha1', all).slice(0, MIXED_DIGITS);
  }

  #headKey({ shard }: Part): string {
    return `${this.#prefix}{${shard.tag}}head:${this.#archiveId}`;
  }

  #confirmedKey({ shard }: Part, generation: string): string {
    return `${this.#prefix}{${shard.tag}}confirmed:${generation}`;
  }

  #keyOf({ shard }: Part, generation: string, id: string): string {
    return `${this.#prefix}{${shard.tag}}v:${generation}:${id}`;
  }

  #partOf(key: Buffer): Part | undefined {
    const start = Buffer.byteLength(this.#prefix) + 1;
    const tag = key.toString('latin1', start, key.indexOf('}', start));
    return this.#parts.find(({ shard }) => shard.tag === tag);
  }

  /** Deals ids to the parts. */
  #dealt(count: number, idAt: (at: number) => string): Portion[] {
    const parts = this.#parts;
    const places: number[][] = parts.map(() => []);
    for (let at = 0; at < count; at++)
      (places[parts.length === 1 ? 0 : crc32(idAt(at)) % parts.length] as number[]).push(at);
    return parts
      .map((part, number) => ({ part, at: places[number] as number[] }))
      .filter(({ at }) => at.length > 0);
  }

  #read(
    { part, at }: Portion,
    generations: ReadonlyMap<Part, string>,
    ids: readonly string[],
  ): Promise<Reply> {
    const generation = generations.get(part) as string;
    const keys = at.map((index) => this.#keyOf(part, generation, ids[index] as string));
    return this.#send(part.shard, ['MGET', this.#headKey(part), ...keys]);
  }

  async #inspect(server: RedisConnection): Promise<string[]> {
    const [about, memory] = await Promise.all([
      this.#info(server, 'server'),
      this.#info(server, 'memory'),
    ]).catch(() => [{}, {}] as Record<string, string>[]);
    const warnings: string[] = [];
    const [major = 0, minor = 0] = (about?.redis_version ?? '').split('.').map(Number);
    if (major > 0 && (major < 6 || (major === 6 && minor < 2)))
      warnings.push(`Redis ${about?.redis_version} is older than 6.2, with which this is not tested.`);
    const policy = memory?.maxmemory_policy ?? '';
    if (Number(memory?.maxmemory ?? 0) > 0 && policy.startsWith('allkeys'))
      warnings.push(
        `Redis may evict any key (maxmemory-policy ${policy}), also the one that says how current the copies are; then all copies are read from SQL anew. Choose a volatile- policy: every copy has a TTL.`,
      );
    return warnings;
  }

  #info(server: RedisConnection, section: string): Promise<Record<string, string>> {
    return server.info(section).catch((error) => {
      throw this.#failure(error);
    });
  }

  /** By its hash; a server that does not know the script yet is given its text. */
  async #run(
    shard: Shard,
    script: Script,
    keys: readonly string[],
    args: readonly (string | Buffer)[],
  ): Promise<Reply> {
    const rest = [String(keys.length), ...keys, ...args];
    try {
      return await this.#send(shard, ['EVALSHA', script.sha, ...rest]);
    } catch (error) {
      if (!messageOf((error as Error).cause).startsWith('NOSCRIPT')) throw error;
      return this.#send(shard, ['EVAL', script.text, ...rest]);
    }
  }

  #send(shard: Shard, command: Command): Promise<Reply> {
    const nodes = this.#nodes;
    return shard.connection.send(command).catch(async (error) => {
      try {
        if (nodes !== undefined) return await nodes.again(shard, command, error);
      } catch (last) {
        throw this.#failure(last);
      }
      throw this.#failure(error);
    });
  }

  /** Driver errors can repeat what was sent: what is told is a class of error, and what to do. */
  #failure(error: unknown): SyncEngineError {
    if (error instanceof SyncEngineError) return error;
    const { code, message } = error as Error & { code?: string };
    const advice = ADVICE.find(([pattern]) => pattern.test(message))?.[1];
    const word = /^[A-Z]+(?= )/.exec(message)?.[0] ?? code ?? 'no connection';
    return new SyncEngineError(
      'TIER_UNAVAILABLE',
      `Redis at ${this.#address.place} failed (${word}). ${advice ?? 'Is it running there, and reachable from here?'}`,
      { outcome: 'indeterminate', context: { tier: 'redis' }, cause: error },
    );
  }
}

const NONE = new Uint8Array(0);
const PUT_HEAD_BYTES = 12;

/** The writes of one script call, as it takes them. */
function packed(puts: readonly CachePut[], nowMs: number): Buffer {
  let room = 0;
  for (const put of puts) room += PUT_HEAD_BYTES + valueBytesMax(put);
  const target = Buffer.allocUnsafe(room);
  let at = 0;
  for (const put of puts) {
    const end = encodeValue(put, nowMs + put.ttlMs, target, at + PUT_HEAD_BYTES);
    target.writeUInt32BE(end - at - PUT_HEAD_BYTES, at);
    const life = Math.ceil(put.ttlMs) + GRACE_MS;
    target.writeDoubleBE(put.kind === 'mark' ? -life : life, at + 4);
    at = end;
  }
  return target.subarray(0, at);
}

function headOf(text: Buffer | null): CacheHead | undefined {
  const parts = /^([0-9a-f]+) (\d+) \d+ ([0-9a-f]*)$/.exec(text?.toString() ?? '');
  if (parts === null) return undefined;
  return { generation: parts[1] as string, position: Number(parts[2]), chain: parts[3] as string };
}

function isBefore(a: CacheHead, b: CacheHead): boolean {
  return a.generation !== b.generation || a.position < b.position;
}

function portionsOf<T>(all: readonly T[], size: number): T[][] {
  const portions: T[][] = [];
  for (let at = 0; at < all.length; at += size) portions.push(all.slice(at, at + size));
  return portions;
}

function escapeGlob(text: string): string {
  return text.replace(/[\\*?[\]]/g, '\\$&');
}

function earliestOf(parts: readonly Part[]): Part {
  return parts.reduce((one, other) => (other.position < one.position ? other : one));
}

function note(part: Part, head: CacheHead | undefined): void {
  part.generation = head?.generation;
  if (head === undefined) return;
  part.position = head.position;
  part.chain = head.chain;
}

/** Time since the last use; of a server that counts uses instead, fewer uses are a longer time. */
async function idleMsOf(server: RedisConnection, key: Buffer): Promise<number> {
  try {
    return ((await server.send(['OBJECT', 'IDLETIME', key])) as number) * 1000;
  } catch {
    const uses = await server.send(['OBJECT', 'FREQ', key]).catch(() => 0);
    return (256 - Number(uses ?? 0)) * 1000;
  }
}

/** Places of writes, in portions for one script call each. */
function groupsOf(at: readonly number[], puts: readonly CachePut[]): number[][] {
  const groups: number[][] = [];
  let group: number[] = [];
  let bytes = 0;
  for (const index of at) {
    if (group.length === WRITES_PER_SCRIPT || bytes > BYTES_PER_SCRIPT) {
      groups.push(group);
      group = [];
      bytes = 0;
    }
    group.push(index);
    bytes += (puts[index] as CachePut).revision.content.length;
  }
  // Without writes there is still something to begin, or to confirm.
  if (group.length > 0 || groups.length === 0) groups.push(group);
  return groups;
}
