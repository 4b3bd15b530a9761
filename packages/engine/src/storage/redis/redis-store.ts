/**
 * The cache in Redis, by node-redis. One connection; commands of one turn leave together. No command is sent a second
 * time, and none waits for a connection: what is not connected rejects at once.
 *
 * Keys, where `{0}` keeps them in one slot of a cluster whatever an id contains:
 *   `{prefix}{0}head:{archive}`          the head (scripts.ts)
 *   `{prefix}{0}confirmed:{generation}`  confirmations that wait for their turn
 *   `{prefix}{0}v:{generation}:{id}`     a value (value-codec.ts)
 */
import type { RedisClientType } from 'redis';
import { messageOf, SyncEngineError } from '../../base/errors.js';
import type { Clock } from '../../ports/ports.js';
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
/** Commands that wait for an answer, at most: a server that hangs must not fill memory. */
const COMMANDS_MAX = 10_000;
/** Grace behind the end of a life: an item that is over still refuses what is older and was stuck on its way. */
const GRACE_MS = 5000;
const VALUE_HEAD_LAST = 60;
const STATUSES = ['done', 'moved', 'late'] as const;
const ADVICE: readonly (readonly [RegExp, string])[] = [
  [/^READONLY/, 'It is a read-only replica: let redisUrl name the master.'],
  [/^OOM/, 'It is out of memory: raise maxmemory, or choose an evicting maxmemory-policy.'],
  [/^LOADING/, 'It is loading its data, and answers when it has.'],
  [/^NOAUTH/, 'It wants a password: put it into redisUrl.'],
  [/^WRONGPASS|^ERR invalid password|AUTH/, 'User or password is wrong: correct redisUrl.'],
  [
    /^NOPERM/,
    'The user lacks a right: it needs GET MGET SET PSETEX DEL UNLINK EXISTS GETRANGE EVALSHA EVAL SCRIPT SCAN TIME INFO OBJECT STRLEN PING and the sorted-set commands on keys that begin with redisPrefix.',
  ],
  [/^CLUSTERDOWN/, 'The cluster is down: a slot has no master.'],
  [/^MOVED|^CROSSSLOT/, 'It is a node of a cluster: name a single server.'],
  [/^MISCONF/, 'It cannot write its snapshot to disk, and refuses writes: look at its log.'],
];

type Reply = Buffer | number | string | null | readonly Reply[];

export class RedisStore implements CacheStore {
  readonly #address: RedisAddress;
  readonly #prefix: string;
  readonly #timeouts: { readonly redisTimeoutMs: number };
  readonly #clock: Clock;
  #client: RedisClientType | undefined;
  /** Of several that open or close at once only the last counts. */
  #turn = 0;
  #archiveId = '';
  /** What to add to the monotonic clock for the server's time. */
  #serverOffsetMs = 0;
  /** Bytes of the largest value of late. */
  #largest = 0;
  /** `RESP_TYPES.BLOB_STRING` to Buffer. */
  #bytes: { typeMapping: Record<number, unknown> } = { typeMapping: {} };

  /** @throws `CONFIG`. */
  constructor(
    url: string,
    prefix: string,
    timeouts: { readonly redisTimeoutMs: number },
    ports: { readonly clock: Clock },
  ) {
    this.#address = redisAddressOf(url);
    this.#prefix = prefix;
    this.#timeouts = timeouts;
    this.#clock = ports.clock;
  }

  async open({ archiveId, lost }: CacheOpenOptions): Promise<CacheInfo> {
    void this.close();
    const turn = this.#turn;
    const { createClient, RESP_TYPES } = await loadDriver();
    if (turn !== this.#turn) throw this.#failure(new Error('it was closed meanwhile'));
    const { host, port, username, password, database, tls } = this.#address;
    const common = { host, port, connectTimeout: this.#timeouts.redisTimeoutMs, reconnectStrategy: false };
    const client = createClient({
      // What version 3 adds is not used, and not every proxy speaks it.
      RESP: 2,
      socket:
        tls === undefined
          ? { ...common, reconnectStrategy: false }
          : {
              ...common,
              reconnectStrategy: false,
              tls: true,
              servername: host,
              rejectUnauthorized: tls.verify,
              ...(tls.ca === undefined ? undefined : { ca: tls.ca }),
            },
      ...(username === undefined ? undefined : { username }),
      ...(password === undefined ? undefined : { password }),
      database,
      name: 'sync-engine',
      disableOfflineQueue: true,
      commandsQueueMaxLength: COMMANDS_MAX,
    }) as unknown as RedisClientType;
    let reason: Error | undefined;
    let opened = false;
    client.on('error', (error: Error) => {
      reason ??= error;
      if (opened && this.#client === client) lost(this.#failure(error));
    });
    client.on('end', () => {
      if (opened && this.#client === client) lost(this.#failure(reason ?? new Error('the connection ended')));
    });
    // One that was destroyed before its socket was made has none to destroy, and goes on with it.
    client.on('connect', () => {
      if (this.#client !== client) client.destroy();
    });
    this.#client = client;
    this.#bytes = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } };
    this.#archiveId = archiveId;
    try {
      await client.connect();
      if (this.#client !== client) throw new Error('it was closed meanwhile');
      opened = true;
      await this.ping();
      // Else the first groups would be sent twice, and overtaken by those behind them.
      for (const { text } of [WRITE, MOVE]) await this.#send(['SCRIPT', 'LOAD', text]).catch(() => {});
      return { warnings: await this.#inspect() };
    } catch (error) {
      if (this.#client === client) await this.close();
      throw this.#failure(error);
    }
  }

  async head(): Promise<CacheHead | undefined> {
    return headOf((await this.#send(['GET', this.#headKey])) as Buffer | null);
  }

  async moveHead(expected: string | undefined, next: CacheHead): Promise<CacheHead> {
    const { generation, position, chain } = next;
    const text = `${generation} ${position} ${position} ${chain}`;
    const reply = await this.#run(MOVE, [this.#headKey], [expected ?? '', text]);
    return headOf(reply as Buffer) as CacheHead;
  }

  async getMany(generation: string, ids: readonly string[]): Promise<CacheRead> {
    const size = Math.max(1, Math.min(IDS_PER_READ, Math.floor(BYTES_PER_READ / Math.max(1, this.#largest))));
    const portions = portionsOf(ids, size);
    const replies: Reply[] = [];
    for (let at = 0; at < portions.length; at += READS_AT_ONCE) {
      const some = portions.slice(at, at + READS_AT_ONCE).map((portion) => this.#read(generation, portion));
      replies.push(...(await Promise.all(some)));
    }
    const nowMs = this.#serverNowMs;
    const values: (CacheRead['values'][number] | undefined)[] = [];
    let head: CacheHead | undefined;
    let first = true;
    this.#largest *= LARGEST_FADES;
    for (const reply of replies as (Buffer | null)[][]) {
      const [text, ...found] = reply;
      const present = headOf(text ?? null);
      // Of several moments the earliest counts for all.
      if (first || present === undefined || (head !== undefined && isBefore(present, head))) head = present;
      first = false;
      for (const value of found) {
        const id = ids[values.length] as string;
        if (value !== null && value.length > this.#largest) this.#largest = value.length;
        values.push(value === null ? undefined : decodeValue(id, value, nowMs));
      }
    }
    return { head, values };
  }

  async putMany(batch: CacheBatch): Promise<CacheWritten> {
    const { generation, known, begins, withinMs, puts, confirms } = batch;
    const nowMs = this.#serverNowMs;
    const deadline = String(Math.floor(nowMs + withinMs));
    const facts = [generation, deadline, known === undefined ? '' : String(known), begins ? '1' : ''];
    const keys = [this.#headKey, this.#confirmedKey(generation)];
    const groups = this.#groupsOf(puts);
    // Confirmed once everything has arrived: with the only group, or behind the last.
    const ownConfirmation = confirms !== undefined && groups.length !== 1;
    const replies = await Promise.all(
      groups.map((group) => {
        const groupKeys = [...keys];
        for (const { revision } of group) groupKeys.push(this.#keyOf(generation, revision.id));
        const confirmed = ownConfirmation ? '' : (confirms ?? '');
        return this.#run(WRITE, groupKeys, [...facts, confirmed, packed(group, nowMs)]);
      }),
    );
    const outcomes = new Uint8Array(puts.length);
    let position = 0;
    let filled = 0;
    for (const reply of replies) {
      const [status, at, digits] = reply as [number, Buffer, Buffer];
      position = Number(at.toString());
      if (status !== 0) return this.#refused(status, position);
      for (const digit of digits) outcomes[filled++] = digit - 48;
    }
    if (!ownConfirmation) return { status: 'done', position, outcomes };
    const reply = await this.#run(WRITE, keys, [...facts, confirms, '']);
    const [status, at] = reply as [number, Buffer];
    if (status !== 0) return this.#refused(status, Number(at.toString()));
    return { status: 'done', position: Number(at.toString()), outcomes };
  }

  #refused(status: number, position: number): CacheWritten {
    // Its clock may have been set since it was last asked for the time.
    if (STATUSES[status] === 'late') this.ping().catch(() => {});
    return { status: STATUSES[status] as 'moved' | 'late', position, outcomes: NONE };
  }

  async exists(generation: string, ids: readonly string[]): Promise<boolean[]> {
    const heads = await Promise.all(
      ids.map((id) => this.#send(['GETRANGE', this.#keyOf(generation, id), '0', String(VALUE_HEAD_LAST)])),
    );
    return heads.map((head) => isValueHead(head as Buffer));
  }

  async deleteMany(generation: string, ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await this.#send(['DEL', ...ids.map((id) => this.#keyOf(generation, id))]);
  }

  async memory(): Promise<CacheMemory> {
    const info = await this.#info('memory');
    return { usedBytes: Number(info.used_memory ?? 0), maxBytes: Number(info.maxmemory ?? 0) };
  }

  async sample(from: string | undefined, count: number): Promise<CacheSample> {
    const head = await this.head();
    const pattern = `${escapeGlob(this.#prefix)}{0}v:${archiveDigits(this.#archiveId)}*`;
    const reply = await this.#send(['SCAN', from ?? '0', 'MATCH', pattern, 'COUNT', String(count)]);
    const [next, keys] = reply as [Buffer, Buffer[]];
    const present = Buffer.from(this.#keyOf(head?.generation ?? '', ''));
    const entries = await Promise.all(
      keys.map(async (key): Promise<CacheSampleEntry | undefined> => {
        const [bytes, idleMs] = await Promise.all([
          this.#send(['STRLEN', key]).catch(() => 0),
          this.#idleMs(key),
        ]);
        if (bytes === 0) return undefined;
        const unreachable = head !== undefined && !key.subarray(0, present.length).equals(present);
        return { key, bytes: (bytes as number) + key.length, idleMs, unreachable };
      }),
    );
    const cursor = next.toString();
    return {
      entries: entries.filter((entry) => entry !== undefined),
      next: cursor === '0' ? undefined : cursor,
    };
  }

  async evict(keys: readonly Uint8Array[]): Promise<number> {
    if (keys.length === 0) return 0;
    return (await this.#send(['UNLINK', ...(keys as readonly Buffer[])])) as number;
  }

  async ping(): Promise<void> {
    const sentMs = this.#clock.monotonic();
    const reply = (await this.#send(['TIME'])) as [Buffer, Buffer];
    const nowMs = this.#clock.monotonic();
    const serverMs = Number(reply[0].toString()) * 1000 + Number(reply[1].toString()) / 1000;
    this.#serverOffsetMs = serverMs - (sentMs + nowMs) / 2;
  }

  close(): Promise<void> {
    this.#turn++;
    const client = this.#client;
    this.#client = undefined;
    try {
      if (client?.isOpen === true) client.destroy();
    } catch {
      // It had ended by itself.
    }
    return Promise.resolve();
  }

  get #serverNowMs(): number {
    return this.#clock.monotonic() + this.#serverOffsetMs;
  }

  get #headKey(): string {
    return `${this.#prefix}{0}head:${this.#archiveId}`;
  }

  #confirmedKey(generation: string): string {
    return `${this.#prefix}{0}confirmed:${generation}`;
  }

  #keyOf(generation: string, id: string): string {
    return `${this.#prefix}{0}v:${generation}:${id}`;
  }

  #read(generation: string, ids: readonly string[]): Promise<Reply> {
    return this.#send(['MGET', this.#headKey, ...ids.map((id) => this.#keyOf(generation, id))]);
  }

  #groupsOf(puts: readonly CachePut[]): CachePut[][] {
    const groups: CachePut[][] = [];
    let group: CachePut[] = [];
    let bytes = 0;
    for (const put of puts) {
      if (group.length === WRITES_PER_SCRIPT || bytes > BYTES_PER_SCRIPT) {
        groups.push(group);
        group = [];
        bytes = 0;
      }
      group.push(put);
      bytes += put.revision.content.length;
    }
    if (group.length > 0) groups.push(group);
    return groups;
  }

  /** Time since the last use; of a server that counts uses instead, fewer uses are a longer time. */
  async #idleMs(key: Buffer): Promise<number> {
    try {
      return ((await this.#send(['OBJECT', 'IDLETIME', key])) as number) * 1000;
    } catch {
      const uses = await this.#send(['OBJECT', 'FREQ', key]).catch(() => 0);
      return (256 - Number(uses ?? 0)) * 1000;
    }
  }

  async #inspect(): Promise<string[]> {
    const [server, replication, memory] = await Promise.all([
      this.#info('server'),
      this.#info('replication'),
      this.#info('memory'),
    ]).catch(() => [{}, {}, {}] as Record<string, string>[]);
    const warnings: string[] = [];
    if (replication?.role === 'slave') {
      throw new SyncEngineError(
        'TIER_UNAVAILABLE',
        `Redis at ${this.#address.place} is a replica, which takes no writes: let redisUrl name the master.`,
        { context: { tier: 'redis' } },
      );
    }
    const [major = 0, minor = 0] = (server?.redis_version ?? '').split('.').map(Number);
    if (major > 0 && (major < 6 || (major === 6 && minor < 2)))
      warnings.push(`Redis ${server?.redis_version} is older than 6.2, with which this is not tested.`);
    const policy = memory?.maxmemory_policy ?? '';
    if (Number(memory?.maxmemory ?? 0) > 0 && policy.startsWith('allkeys'))
      warnings.push(
        `Redis may evict any key (maxmemory-policy ${policy}), also the one that says how current the copies are; then all copies are read from SQL anew. Choose a volatile- policy: every copy has a TTL.`,
      );
    return warnings;
  }

  async #info(section: string): Promise<Record<string, string>> {
    const text = ((await this.#send(['INFO', section])) as Buffer).toString();
    const fields: Record<string, string> = {};
    for (const line of text.split('\r\n')) {
      const colon = line.indexOf(':');
      if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1);
    }
    return fields;
  }

  /** By its hash; a server that does not know the script yet is given its text. */
  async #run(
    script: Script,
    keys: readonly string[],
    args: readonly (string | Buffer)[],
  ): Promise<Reply | undefined> {
    const rest = [String(keys.length), ...keys, ...args];
    try {
      return await this.#send(['EVALSHA', script.sha, ...rest]);
    } catch (error) {
      if (!messageOf((error as Error).cause).startsWith('NOSCRIPT')) throw error;
      return this.#send(['EVAL', script.text, ...rest]);
    }
  }

  #send(command: readonly (string | Buffer)[]): Promise<Reply> {
    const client = this.#client;
    if (client === undefined) return Promise.reject(this.#failure(new Error('there is no connection')));
    return client.sendCommand<Reply>(command as (string | Buffer)[], this.#bytes as object).catch((error) => {
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

async function loadDriver(): Promise<typeof import('redis')> {
  try {
    return await import('redis');
  } catch (cause) {
    throw new SyncEngineError('CONFIG', 'redisUrl needs the package redis: npm install redis', {
      context: { tier: 'redis' },
      cause,
    });
  }
}
