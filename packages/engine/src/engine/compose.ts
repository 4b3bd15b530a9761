/** What an engine is made of: the ports given by the caller, and the stores named by the configuration. */
import { hostname } from 'node:os';
import type { ResolvedConfig } from '../config/config.js';
import type { EvictionPolicy } from '../memory/tan-curve.js';
import { KEY_BYTES } from '../merkle/digest.js';
import type { SystemPorts } from '../ports/ports.js';
import { systemPorts } from '../ports/system/system-ports.js';
import type { ArchiveStore } from '../storage/archive-store.js';
import type { CacheStore } from '../storage/cache-store.js';
import { MysqlDriver } from '../storage/mysql/mysql-driver.js';
import { PostgresDriver } from '../storage/postgres/postgres-driver.js';
import { RedisStore } from '../storage/redis/redis-store.js';
import { ServerArchive } from '../storage/server/server-archive.js';
import { SqliteArchive } from '../storage/sqlite/sqlite-archive.js';
import { guardedLogger } from '../telemetry/guarded-logger.js';
import type { TelemetryOptions } from '../telemetry/options.js';
import type { RecordStore } from '../wal/record-store.js';
import { SqliteRecordStore } from '../wal/sqlite-record-store.js';

/** Everything that can be exchanged. Ready-made stores take the place of `sqlUrl`, `redisUrl` and `walPath`. */
export interface Ports extends SystemPorts {
  readonly archive?: ArchiveStore;
  readonly cache?: CacheStore;
  readonly recordStore?: RecordStore;
  /** Takes the place of the engine's own score of what leaves memory first. */
  readonly evictionPolicy?: EvictionPolicy;
  /** Meter and tracer. Without them the engine counts, and tells nobody but `metrics()`. */
  readonly telemetry?: TelemetryOptions;
}

/** The machine's, where the caller gave none; a port that is `undefined` is none. */
export function composePorts(ports: Partial<Ports>): Ports {
  return {
    ...ports,
    clock: ports.clock ?? systemPorts.clock,
    scheduler: ports.scheduler ?? systemPorts.scheduler,
    random: ports.random ?? systemPorts.random,
    logger: guardedLogger(ports.logger ?? systemPorts.logger),
  };
}

/** @throws `CONFIG` for a URL that cannot be used. */
export function composeArchive(config: ResolvedConfig, ports: Ports): ArchiveStore | undefined {
  if (ports.archive !== undefined) return ports.archive;
  if (config.sqlUrl === undefined) return undefined;
  const fresh = {
    archiveId: hex(ports.random.bytes(16)),
    clusterKey: hex(ports.random.bytes(KEY_BYTES)),
  };
  const [scheme] = config.sqlUrl.split(':', 1);
  if (scheme === 'sqlite')
    return new SqliteArchive(config.sqlUrl.slice('sqlite:'.length), holder(ports), fresh);
  const Driver = scheme === 'mysql' || scheme === 'mariadb' ? MysqlDriver : PostgresDriver;
  return new ServerArchive(new Driver(config.sqlUrl, config, ports.scheduler), config, ports, fresh);
}

/** @throws `CONFIG` for a URL that cannot be used. */
export function composeCache(config: ResolvedConfig, ports: Ports): CacheStore | undefined {
  if (ports.cache !== undefined) return ports.cache;
  if (config.redisUrl === undefined) return undefined;
  return new RedisStore(config.redisUrl, config.redisPrefix, config, ports);
}

export function composeRecordStore(config: ResolvedConfig, ports: Ports): RecordStore | undefined {
  if (ports.recordStore !== undefined) return ports.recordStore;
  return config.walPath === undefined ? undefined : new SqliteRecordStore(config.walPath, holder(ports));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** How this process is named to another one that wants the same file. */
function holder(ports: Ports): string {
  return `process ${process.pid} on ${hostname()}, since ${new Date(ports.clock.now()).toISOString()}`;
}
