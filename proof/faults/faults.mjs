// @ts-check
/** The faults of the matrix: how each strikes, how it ends, and what shows that it was there. */
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CLUSTER_FAULTS } from './cluster-faults.mjs';

/** @typedef {import('./cell.mjs').Fault} Fault */
/** @typedef {import('./cell.mjs').Context} Context */
/** @typedef {import('./targets.mjs').Backend} Backend */
/** @typedef {import('./targets.mjs').SqlTarget} SqlTarget */
/** @typedef {import('./targets.mjs').RedisTarget} RedisTarget */

const HOUR_MS = 3_600_000;
const HELD_MS = 2000;
/** Longer than a transaction may take. */
const LOCKED_MS = 3000;
const STALLED_MS = 5000;
/** Room for what the engine keeps at most: two journals of 64 MB. */
const DISK_MB = 192;
const FILES_MAX = 200;
const HOGS = 14;
const HEAP_MB = 64;
/** Of one write of a flood. */
export const FLOOD_BYTES = 8000;

/** @param {Context} context @returns {SqlTarget} */
const sqlOf = ({ place }) => /** @type {SqlTarget} */ (place.sql);
/** @param {Context} context @returns {RedisTarget} */
const redisOf = ({ place }) => /** @type {RedisTarget} */ (place.redis);

/** @param {'sql' | 'redis'} tier @returns {(context: Context) => string | undefined} */
const failedCalls =
  (tier) =>
  ({ subject, before }) => {
    const failed = subject.report[`${tier}Errors`] - before[`${tier}Errors`];
    return failed > 0 ? `${failed} calls failed` : undefined;
  };

/** @param {'sql' | 'redis'} tier @returns {(context: Context) => string | undefined} */
const harmed =
  (tier) =>
  ({ place }) => {
    const count = place[tier]?.proxy.harmed ?? 0;
    return count > 0 ? `${count} harmed` : undefined;
  };

/** What either server can suffer. @param {'sql' | 'redis'} tier @returns {Fault[]} */
function serverFaults(tier) {
  /** @param {Context} context */
  const target = (context) => /** @type {SqlTarget | RedisTarget} */ (context.place[tier]);
  const failed = failedCalls(tier);
  const touched = harmed(tier);
  /** @param {Context} context */
  const both = (context) => {
    const [cut, lost] = [touched(context), failed(context)];
    return cut === undefined || lost === undefined ? undefined : `${cut}, ${lost}`;
  };
  return [
    {
      name: 'SIGKILL',
      on: tier,
      holdMs: HELD_MS,
      strike: async (context) => {
        const { server } = target(context);
        await server.kill();
        return () => server.start();
      },
      observed: failed,
    },
    {
      name: 'restart',
      on: tier,
      strike: async (context) => {
        const { server } = target(context);
        // PostgreSQL waits for its clients to leave, unless told to be fast.
        await server.kill(server.kind === 'postgres' ? 'SIGINT' : 'SIGTERM');
        await server.start();
        return undefined;
      },
      observed: failed,
    },
    {
      name: 'SIGSTOP, SIGCONT',
      on: tier,
      holdMs: HELD_MS,
      strike: async (context) => {
        const { server } = target(context);
        server.pause();
        return async () => server.resume();
      },
      observed: failed,
    },
    {
      name: 'connections reset',
      on: tier,
      strike: async (context) => {
        for (let time = 0; time < 10; time++) {
          target(context).proxy.reset();
          await sleep(100);
        }
        return undefined;
      },
      observed: both,
    },
    {
      name: 'half-open connections',
      on: tier,
      strike: async (context) => {
        target(context).proxy.silence();
        return undefined;
      },
      observed: both,
    },
    {
      name: 'one byte each 100 ms',
      on: tier,
      holdMs: HELD_MS,
      strike: async (context) => {
        const { proxy } = target(context);
        proxy.setSlow(true);
        return async () => proxy.setSlow(false);
      },
      observed: both,
    },
    {
      name: 'connections refused',
      on: tier,
      holdMs: HELD_MS,
      strike: async (context) => {
        const { proxy } = target(context);
        proxy.setRefusing(true);
        return async () => proxy.setRefusing(false);
      },
      observed: failed,
    },
    {
      name: tier === 'sql' ? 'reply lost after COMMIT' : 'reply lost after a write',
      on: tier,
      holdMs: HELD_MS,
      strike: async (context) => {
        const { proxy } = target(context);
        proxy.loseReplyTo(tier === 'sql' ? 'COMMIT' : 'EVALSHA');
        return async () => proxy.loseReplyTo(undefined);
      },
      observed: both,
    },
  ];
}

/** @param {SqlTarget} sql */
async function deadlocksOf({ kind, admin }) {
  if (kind === 'mariadb') {
    const [row] = await admin("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'");
    return Number(row.Value);
  }
  const [row] = await admin('SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()');
  return Number(row.deadlocks);
}

/** @type {Fault[]} */
const SQL_FAULTS = [
  ...serverFaults('sql'),
  {
    name: 'rows locked by others',
    on: 'sql',
    holdMs: LOCKED_MS,
    strike: async (context) => {
      const session = await sqlOf(context).session();
      await session.run('BEGIN');
      await session.run('SELECT id FROM sync_items FOR UPDATE');
      return async () => {
        await session.run('ROLLBACK');
        await session.end();
      };
    },
    observed: failedCalls('sql'),
  },
  {
    name: 'deadlocks',
    on: 'sql',
    strike: async (context) => {
      const sql = sqlOf(context);
      const before = await deadlocksOf(sql);
      for (let time = 0; time < 20; time++) {
        const session = await sql.session();
        try {
          await session.run('BEGIN');
          // What the engine locks last; then, while it waits for that, what it locks first.
          await session.run('SELECT * FROM sync_root FOR UPDATE');
          await sleep(150);
          await session.run('SELECT id FROM sync_items FOR UPDATE');
          await session.run('ROLLBACK');
        } catch {
          // It was the one to give way.
        } finally {
          await session.end();
        }
        if ((await deadlocksOf(sql)) - before >= 5) break;
      }
      deadlocks.set(context, (await deadlocksOf(sql)) - before);
      return undefined;
    },
    observed: (context) => {
      const count = deadlocks.get(context) ?? 0;
      return count > 0 ? `${count} deadlocks` : undefined;
    },
  },
  {
    name: 'packets limited to 64 KB',
    on: 'sql',
    holdMs: HELD_MS,
    fits: ({ sql }) => sql === 'mariadb',
    strike: async (context) => {
      const { admin, proxy } = sqlOf(context);
      const [row] = await admin('SELECT @@global.max_allowed_packet AS bytes');
      await admin('SET GLOBAL max_allowed_packet = 65536');
      // It counts for connections that are made from now on.
      proxy.reset();
      return () => admin(`SET GLOBAL max_allowed_packet = ${row.bytes}`);
    },
    observed: async (context) => {
      const { admin, database } = sqlOf(context);
      const there = await admin(
        `SELECT 1 FROM information_schema.processlist WHERE user = 'app' AND db = '${database}'`,
      );
      return there.length > 0 ? `${there.length} connections under the limit` : undefined;
    },
  },
  {
    name: 'too many connections',
    on: 'sql',
    holdMs: HELD_MS,
    strike: async (context) => {
      const { kind, admin, proxy, session } = sqlOf(context);
      if (kind === 'postgres') {
        await admin('ALTER ROLE app CONNECTION LIMIT 0');
        proxy.reset();
        return () => admin('ALTER ROLE app CONNECTION LIMIT -1');
      }
      const hogs = await Promise.all(Array.from({ length: HOGS }, session));
      const [first] = hogs;
      await first?.run('SET GLOBAL max_connections = 10');
      proxy.reset();
      return async () => {
        await first?.run('SET GLOBAL max_connections = 151');
        await Promise.all(hogs.map((hog) => hog.end()));
      };
    },
    observed: ({ subject }) => {
      const said = subject.report.warnings?.find((/** @type {string} */ text) =>
        /no connection left|max_connections|too many|connection limit/i.test(text),
      );
      return said === undefined ? undefined : 'said so in its health';
    },
  },
  {
    name: 'a table is gone',
    on: 'sql',
    holdMs: HELD_MS,
    strike: async (context) => {
      const { kind, admin } = sqlOf(context);
      /** @param {string} from @param {string} to */
      const rename = (from, to) =>
        admin(kind === 'mariadb' ? `RENAME TABLE ${from} TO ${to}` : `ALTER TABLE ${from} RENAME TO ${to}`);
      await rename('sync_items', 'sync_items_away');
      return () => rename('sync_items_away', 'sync_items');
    },
    observed: failedCalls('sql'),
  },
  {
    name: 'a right is revoked',
    on: 'sql',
    holdMs: HELD_MS,
    strike: async (context) => {
      const { kind, admin, database, proxy } = sqlOf(context);
      if (kind === 'postgres') {
        await admin('REVOKE INSERT, UPDATE ON ALL TABLES IN SCHEMA public FROM app');
        return () => admin('GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO app');
      }
      await admin(`REVOKE INSERT, UPDATE ON ${database}.* FROM app@'%'`);
      // Rights on a database count from the next connection on.
      proxy.reset();
      return async () => {
        await admin(`GRANT ALL ON ${database}.* TO app@'%'`);
        proxy.reset();
      };
    },
    observed: failedCalls('sql'),
  },
];

/** @type {WeakMap<Context, number>} */
const deadlocks = new WeakMap();

/** Values of the engine under test. @param {RedisTarget} redis @returns {Promise<string[]>} */
async function valuesOf({ admin, prefix }) {
  const found = [];
  let cursor = '0';
  do {
    const [next, keys] = await admin(['SCAN', cursor, 'MATCH', `${prefix}*v:*`, 'COUNT', '1000']);
    found.push(...keys);
    cursor = next;
  } while (cursor !== '0');
  return found;
}

/** @type {Fault[]} */
const REDIS_FAULTS = [
  ...serverFaults('redis'),
  {
    name: 'out of memory',
    on: 'redis',
    holdMs: HELD_MS,
    config: () => ({ redisEvictionEnabled: false }),
    strike: async (context) => {
      const { admin } = redisOf(context);
      await admin(['CONFIG', 'SET', 'maxmemory-policy', 'noeviction']);
      await admin(['CONFIG', 'SET', 'maxmemory', '1']);
      return () => admin(['CONFIG', 'SET', 'maxmemory', '0']);
    },
    observed: async (context) => {
      const said = await redisOf(context).admin(['INFO', 'errorstats']);
      const count = /errorstat_OOM:count=(\d+)/.exec(said)?.[1];
      return count === undefined ? undefined : `${count} commands refused for want of memory`;
    },
  },
  {
    name: 'becomes a replica (READONLY)',
    on: 'redis',
    holdMs: HELD_MS,
    strike: async (context) => {
      const { admin } = redisOf(context);
      await admin(['REPLICAOF', '127.0.0.1', '1']);
      return () => admin(['REPLICAOF', 'NO', 'ONE']);
    },
    observed: failedCalls('redis'),
  },
  {
    name: 'values of another type (WRONGTYPE)',
    on: 'redis',
    strike: async (context) => {
      const redis = redisOf(context);
      const keys = await valuesOf(redis);
      for (const key of keys) {
        await redis.admin(['DEL', key]);
        await redis.admin(['RPUSH', key, 'no', 'value']);
        if (keys.indexOf(key) > 200) break;
      }
      changedKeys.set(context, keys.slice(0, 200));
      return undefined;
    },
    observed: async (context) => {
      const keys = changedKeys.get(context) ?? [];
      let replaced = 0;
      for (const key of keys) if ((await redisOf(context).admin(['TYPE', key])) === 'string') replaced++;
      return replaced > 0 ? `${keys.length} values, ${replaced} replaced since` : undefined;
    },
  },
  {
    name: 'values damaged',
    on: 'redis',
    strike: async (context) => {
      const redis = redisOf(context);
      for (const key of await valuesOf(redis)) await redis.admin(['SETRANGE', key, '70', 'XX']);
      return undefined;
    },
    observed: ({ subject, before }) => {
      const found = subject.report.damaged - before.damaged;
      return found > 0 ? `${found} found damaged` : undefined;
    },
  },
  {
    name: 'a right is revoked',
    on: 'redis',
    holdMs: HELD_MS,
    strike: async (context) => {
      const { admin } = redisOf(context);
      await admin(['ACL', 'SETUSER', 'app', '-@scripting']);
      return () => admin(['ACL', 'SETUSER', 'app', '+@all']);
    },
    observed: failedCalls('redis'),
  },
  {
    name: 'too many clients',
    on: 'redis',
    holdMs: HELD_MS,
    strike: async (context) => {
      const { proxy, session } = redisOf(context);
      const { run, end } = await session();
      await run(['CONFIG', 'SET', 'maxclients', '1']);
      proxy.reset();
      return async () => {
        await run(['CONFIG', 'SET', 'maxclients', '10000']);
        await end();
      };
    },
    observed: failedCalls('redis'),
  },
];

/** @type {WeakMap<Context, readonly string[]>} */
const changedKeys = new WeakMap();

/** @param {Context} context */
const stalled = ({ subject, before }) => {
  const ms = (subject.report.stalledMs ?? 0) - before.stalledMs;
  return ms > HELD_MS * 0.8 ? `the event loop stood still for ${Math.round(ms)} ms` : undefined;
};

/** @param {string} name @param {number} ms @returns {Fault} */
const clockSet = (name, ms) => ({
  name,
  on: 'host',
  holdMs: HELD_MS,
  strike: async ({ subject }) => {
    subject.order('clock', ms);
    return async () => subject.order('clock', 0);
  },
  observed: ({ subject }) =>
    Math.abs(subject.report.wallOffsetMs - ms) < 60_000
      ? `the clock was ${Math.round(subject.report.wallOffsetMs / 60_000)} minutes off`
      : undefined,
});

/** @type {Fault[]} */
const HOST_FAULTS = [
  {
    name: 'SIGKILL of the engine',
    on: 'host',
    ends: true,
    strike: async ({ subject }) => {
      subject.signal('SIGKILL');
      return undefined;
    },
    observed: ({ subject }) => (subject.exit?.signal === 'SIGKILL' ? 'it ended by SIGKILL' : undefined),
  },
  {
    name: 'SIGTERM twice',
    on: 'host',
    ends: true,
    strike: async ({ subject }) => {
      subject.signal('SIGTERM');
      await sleep(20);
      subject.signal('SIGTERM');
      return undefined;
    },
    observed: ({ subject }) =>
      subject.exit?.code === 0 && subject.closed?.remaining === 0
        ? 'it drained, and ended with 0'
        : undefined,
  },
  {
    name: 'SIGSTOP, SIGCONT of the engine',
    on: 'host',
    after: true,
    holdMs: HELD_MS + 1000,
    strike: async ({ subject }) => {
      subject.signal('SIGSTOP');
      return async () => subject.signal('SIGCONT');
    },
    observed: stalled,
  },
  {
    name: 'event loop stalled for 5 s',
    on: 'host',
    after: true,
    holdMs: STALLED_MS,
    strike: async ({ subject }) => {
      subject.order('stall', STALLED_MS);
      return undefined;
    },
    observed: stalled,
  },
  clockSet('clock an hour ahead', HOUR_MS),
  clockSet('clock an hour behind', -HOUR_MS),
  {
    name: 'no file descriptor left',
    on: 'host',
    holdMs: HELD_MS,
    shell: ['bash', '-c', `ulimit -n ${FILES_MAX}; exec "$@"`, 'bash'],
    strike: async ({ place, subject }) => {
      subject.order('takeFiles');
      await sleep(200);
      place.sql?.proxy.reset();
      place.redis?.proxy.reset();
      return async () => subject.order('giveFiles');
    },
    observed: ({ subject }) =>
      subject.files === undefined
        ? undefined
        : `all of ${FILES_MAX} taken, ${subject.files.held} of them by others`,
  },
  {
    name: 'disk full',
    on: 'host',
    holdMs: HELD_MS,
    mounts: DISK_MB,
    strike: async ({ place }) => {
      const ballast = join(place.directory, 'ballast');
      const bytes = Buffer.alloc(64 * 1024);
      const fill = () => {
        try {
          for (;;) writeFileSync(ballast, bytes, { flag: 'a' });
        } catch {
          // It is full.
        }
      };
      fill();
      const filling = setInterval(fill, 20);
      return async () => {
        clearInterval(filling);
        rmSync(ballast);
      };
    },
    observed: ({ subject, before }) => {
      const { report } = subject;
      const failed = report.walErrors + report.sqlErrors - before.walErrors - before.sqlErrors;
      return failed > 0 ? `${failed} calls failed` : undefined;
    },
  },
  {
    name: 'memory capped, SQL away, flood',
    on: 'host',
    holdMs: HELD_MS * 2,
    node: [`--max-old-space-size=${HEAP_MB}`],
    fits: ({ sql }) => sql !== 'sqlite',
    strike: async ({ place, subject }) => {
      place.sql?.proxy.setRefusing(true);
      subject.order('flood', 1);
      return async () => {
        subject.order('flood', 0);
        place.sql?.proxy.setRefusing(false);
      };
    },
    observed: ({ subject }) => {
      const { waiting, l1Bytes, pressure, errors } = subject.report;
      if (pressure === 'Normal') return undefined;
      const [megabytes, within] = [waiting * FLOOD_BYTES, l1Bytes].map((bytes) =>
        (bytes / 2 ** 20).toFixed(1),
      );
      return `${megabytes} MB waited in ${within} MB of memory, pressure ${pressure}, ${errors.BACKPRESSURE ?? 0} refused`;
    },
  },
];

/** @param {string} directory @param {number} megabytes */
export function mountSmallDisk(directory, megabytes) {
  const { status, stderr } = spawnSync(
    'mount',
    ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', directory],
    { encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`a small disk cannot be mounted, which needs root: ${stderr}`);
  return () => void spawnSync('umount', ['-l', directory]);
}

/** Every fault. @type {readonly Fault[]} */
export const FAULTS = [...SQL_FAULTS, ...REDIS_FAULTS, ...HOST_FAULTS, ...CLUSTER_FAULTS];
