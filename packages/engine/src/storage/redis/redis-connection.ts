/**
 * One connection to one Redis server, by node-redis. Commands of one turn leave together. No command is sent a second
 * time, and none waits for a connection: what is not connected rejects at once.
 */
import type { RedisClientType } from 'redis';
import { SyncEngineError } from '../../base/errors.js';
import type { Clock } from '../../ports/ports.js';
import type { ServerHost } from '../host-rota.js';
import type { RedisAddress } from './redis-url.js';

/** Commands that wait for an answer, at most: a server that hangs must not fill memory. */
const COMMANDS_MAX = 10_000;

export type Reply = Buffer | number | string | null | readonly Reply[];
export type Command = readonly (string | Buffer)[];
export type Driver = typeof import('redis');

export async function loadDriver(): Promise<Driver> {
  try {
    return await import('redis');
  } catch (cause) {
    throw new SyncEngineError('CONFIG', 'redisUrl needs the package redis: npm install redis', {
      context: { tier: 'redis' },
      cause,
    });
  }
}

export interface RedisConnectionParts {
  readonly driver: Driver;
  readonly address: RedisAddress;
  readonly connectTimeoutMs: number;
  readonly clock: Clock;
  /** Called once, where the connection is lost after it was made. */
  readonly lost: (reason: Error) => void;
}

/** Rejects with what the driver says. */
export class RedisConnection {
  readonly host: ServerHost;
  readonly #client: RedisClientType;
  readonly #clock: Clock;
  /** `RESP_TYPES.BLOB_STRING` to Buffer. */
  readonly #bytes: object;
  /** What to add to the monotonic clock for the server's time. */
  #serverOffsetMs = 0;
  #opened = false;
  #closed = false;

  constructor(host: ServerHost, { driver, address, connectTimeoutMs, clock, lost }: RedisConnectionParts) {
    const { username, password, database, tls } = address;
    const common = { ...host, connectTimeout: connectTimeoutMs };
    this.host = host;
    this.#clock = clock;
    this.#bytes = { typeMapping: { [driver.RESP_TYPES.BLOB_STRING]: Buffer } };
    this.#client = driver.createClient({
      // What version 3 adds is not used, and not every proxy speaks it.
      RESP: 2,
      socket:
        tls === undefined
          ? { ...common, reconnectStrategy: false }
          : {
              ...common,
              reconnectStrategy: false,
              tls: true,
              servername: host.host,
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
    const ended = (error: Error): void => {
      if (!this.#opened || this.#closed) return;
      this.#closed = true;
      lost(error);
    };
    this.#client.on('error', (error: Error) => {
      reason ??= error;
      ended(error);
    });
    this.#client.on('end', () => ended(reason ?? new Error('the connection ended')));
    // One that was destroyed before its socket was made has none to destroy, and goes on with it.
    this.#client.on('connect', () => {
      if (this.#closed) this.#client.destroy();
    });
  }

  /** The server's clock, as far as known; milliseconds since 1970. */
  get serverNowMs(): number {
    return this.#clock.monotonic() + this.#serverOffsetMs;
  }

  async connect(): Promise<void> {
    await this.#client.connect();
    if (this.#closed) throw new Error('it was closed meanwhile');
    this.#opened = true;
    await this.ping();
  }

  send(command: Command): Promise<Reply> {
    return this.#client.sendCommand<Reply>(command as (string | Buffer)[], this.#bytes);
  }

  /** Of a slot that is on its way to this node. The two follow each other, since they are sent in one turn. */
  async ask(command: Command): Promise<Reply> {
    const asking = this.send(['ASKING']);
    const [reply] = await Promise.all([this.send(command), asking]);
    return reply;
  }

  /** Asks for the time. */
  async ping(): Promise<void> {
    const sentMs = this.#clock.monotonic();
    const reply = (await this.send(['TIME'])) as [Buffer, Buffer];
    const nowMs = this.#clock.monotonic();
    const serverMs = Number(reply[0].toString()) * 1000 + Number(reply[1].toString()) / 1000;
    this.#serverOffsetMs = serverMs - (sentMs + nowMs) / 2;
  }

  async info(section: string): Promise<Record<string, string>> {
    const text = ((await this.send(['INFO', section])) as Buffer).toString();
    const fields: Record<string, string> = {};
    for (const line of text.split('\r\n')) {
      const colon = line.indexOf(':');
      if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1);
    }
    return fields;
  }

  close(): void {
    this.#closed = true;
    try {
      if (this.#client.isOpen) this.#client.destroy();
    } catch {
      // It had ended by itself.
    }
  }
}
