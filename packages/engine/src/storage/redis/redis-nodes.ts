/**
 * Which server has which ids: one server has all; in a cluster they are dealt to shards, each with a hash tag, and so a
 * slot and a master, of its own. A shard that has moved is followed to where the cluster says that it went.
 *
 * Used for one opening of the store: where a connection is lost the store is opened anew, and asks for the layout again.
 */
import { messageOf, SyncEngineError } from '../../base/errors.js';
import type { Clock, Scheduler } from '../../ports/ports.js';
import type { ServerHost } from '../host-rota.js';
import { type Command, type Driver, RedisConnection, type Reply } from './redis-connection.js';
import type { RedisAddress } from './redis-url.js';

/** The tag of a server that has everything. */
const SINGLE = { tag: '0', slot: 13907 };
/** Tags and their slots, one for each 1,024 of the 16,384: so each of up to 16 masters has its share. Part of the format. */
const DEALT = [
  { tag: '10', slot: 247 },
  { tag: '3', slot: 1584 },
  { tag: '61', slot: 2369 },
  { tag: '43', slot: 3937 },
  { tag: '11', slot: 4310 },
  { tag: '2', slot: 5649 },
  { tag: '60', slot: 6496 },
  { tag: '42', slot: 8000 },
  { tag: '12', slot: 8373 },
  { tag: '1', slot: 9842 },
  { tag: '63', slot: 10499 },
  { tag: '41', slot: 12067 },
  { tag: '13', slot: 12436 },
  { tag: '0', slot: 13907 },
  { tag: '62', slot: 14626 },
  { tag: '40', slot: 16130 },
] as const;
const REDIRECTS_MAX = 5;
/** While a slot moves, a command whose keys are on both sides is refused for a moment. */
const TRY_AGAIN_MS = 10;
const REDIRECT = /^(MOVED|ASK) \d+ (.*):(\d+)$/;

/** What has the ids of one tag. */
export interface Shard {
  readonly tag: string;
  connection: RedisConnection;
}

export interface RedisNodesParts {
  readonly driver: Driver;
  readonly address: RedisAddress;
  readonly timeouts: { readonly redisTimeoutMs: number };
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  /** Called once, where a connection is lost after it was made. */
  readonly lost: (reason: Error) => void;
}

export class RedisNodes {
  readonly #parts: RedisNodesParts;
  readonly #connections = new Map<string, Promise<RedisConnection>>();
  #open = new Set<RedisConnection>();
  #shards: Shard[] = [];
  #known: ServerHost[] = [];
  #ready = false;
  /** Of a connection that was lost while others were still being made. */
  #lostEarly: Error | undefined;
  #closed = false;

  constructor(parts: RedisNodesParts) {
    this.#parts = parts;
  }

  get shards(): readonly Shard[] {
    return this.#shards;
  }

  /** Nodes that the cluster named: where to ask should those of the URL be away. */
  get known(): readonly ServerHost[] {
    return this.#known;
  }

  /** Those that have shards. */
  get connections(): RedisConnection[] {
    return [...new Set(this.#shards.map(({ connection }) => connection))];
  }

  /** Connects to a server, and where it is a node of a cluster, to all its masters. */
  async connect(host: ServerHost): Promise<void> {
    const connection = await this.#connectionTo(host);
    // Who may not ask is taken for a user of a single server.
    const server = await connection.info('server').catch((): Record<string, string> => ({}));
    if (server.redis_mode === 'cluster') await this.#connectToMasters(connection);
    else {
      const replication = await connection.info('replication').catch((): Record<string, string> => ({}));
      if (replication.role === 'slave') throw this.#isReplica();
      this.#shards = [{ tag: SINGLE.tag, connection }];
    }
    if (this.#lostEarly !== undefined) throw this.#lostEarly;
    this.#ready = true;
  }

  /** Follows the shard where it went, and waits while it moves; whatever else the driver failed with it throws again. */
  async again(shard: Shard, command: Command, error: unknown): Promise<Reply> {
    const { clock, timeouts } = this.#parts;
    const untilMs = clock.monotonic() + timeouts.redisTimeoutMs;
    let failure = error;
    for (let redirects = 0; redirects < REDIRECTS_MAX && !this.#closed; ) {
      const said = messageOf(failure);
      const [, kind, host, port] = REDIRECT.exec(said) ?? [];
      const waits = said.startsWith('TRYAGAIN') && clock.monotonic() < untilMs;
      if (kind === undefined && !waits) break;
      try {
        if (kind === undefined) await this.#pause();
        else {
          redirects++;
          const near = shard.connection.host.host;
          const target = await this.#connectionTo({ host: host || near, port: Number(port) });
          if (kind === 'ASK') return await target.ask(command);
          shard.connection = target;
        }
        return await shard.connection.send(command);
      } catch (next) {
        failure = next;
      }
    }
    throw failure;
  }

  close(): void {
    this.#closed = true;
    this.reset();
  }

  /** Ends what is connected. */
  reset(): void {
    this.#ready = false;
    this.#lostEarly = undefined;
    for (const connection of this.#open) connection.close();
    this.#open.clear();
    this.#connections.clear();
    this.#shards = [];
  }

  async #connectToMasters(asked: RedisConnection): Promise<void> {
    const ranges = rangesOf((await asked.send(['CLUSTER', 'SLOTS'])) as SlotRange[], asked.host.host);
    this.#known = ranges.flatMap(({ nodes }) => nodes);
    this.#shards = await Promise.all(
      DEALT.map(async ({ tag, slot }): Promise<Shard> => {
        const master = ranges.find(({ from, to }) => from <= slot && slot <= to)?.nodes[0];
        if (master === undefined) throw new Error('CLUSTERDOWN A slot has no master');
        return { tag, connection: await this.#connectionTo(master) };
      }),
    );
    if (this.connections.includes(asked)) return;
    asked.close();
    this.#open.delete(asked);
    this.#connections.delete(nameOf(asked.host));
  }

  #connectionTo(host: ServerHost): Promise<RedisConnection> {
    const name = nameOf(host);
    let made = this.#connections.get(name);
    if (made === undefined) {
      made = this.#make(host);
      this.#connections.set(name, made);
      made.catch(() => {
        if (this.#connections.get(name) === made) this.#connections.delete(name);
      });
    }
    return made;
  }

  async #make(host: ServerHost): Promise<RedisConnection> {
    if (this.#closed) throw new Error('it was closed meanwhile');
    const { driver, address, timeouts, clock } = this.#parts;
    const connection = new RedisConnection(host, {
      driver,
      address,
      connectTimeoutMs: timeouts.redisTimeoutMs,
      clock,
      lost: (reason) => this.#lost(connection, reason),
    });
    this.#open.add(connection);
    try {
      await connection.connect();
      return connection;
    } catch (error) {
      connection.close();
      this.#open.delete(connection);
      throw error;
    }
  }

  #lost(connection: RedisConnection, reason: Error): void {
    if (!this.#open.delete(connection)) return;
    if (!this.#ready) {
      this.#lostEarly = reason;
      return;
    }
    this.#ready = false;
    this.#parts.lost(reason);
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      this.#parts.scheduler.after(TRY_AGAIN_MS, resolve);
    });
  }

  #isReplica(): SyncEngineError {
    return new SyncEngineError(
      'TIER_UNAVAILABLE',
      `Redis at ${this.#parts.address.place} is a replica, which takes no writes: let redisUrl name the master.`,
      { context: { tier: 'redis' } },
    );
  }
}

/** As `CLUSTER SLOTS` answers: from, to, then the master and its replicas. */
type SlotRange = [from: number, to: number, ...nodes: [host: Buffer | null, port: number, ...Reply[]][]];

interface Range {
  readonly from: number;
  readonly to: number;
  readonly nodes: ServerHost[];
}

/** @param asked A node without a name is where the one is that was asked. */
function rangesOf(ranges: readonly SlotRange[], asked: string): Range[] {
  return ranges.map(([from, to, ...nodes]) => ({
    from,
    to,
    nodes: nodes.map(([host, port]) => ({ host: host?.toString() || asked, port })),
  }));
}

function nameOf({ host, port }: ServerHost): string {
  return `${host}:${port}`;
}
