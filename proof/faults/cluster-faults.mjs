// @ts-check
/** What clusters suffer: nodes that go, stand still, lose the others, or hand over. */
import { setTimeout as sleep } from 'node:timers/promises';

/** @typedef {import('./cell.mjs').Fault} Fault */
/** @typedef {import('./cell.mjs').Context} Context */
/** @typedef {import('../../scripts/servers/servers.mjs').PrivateServer} PrivateServer */
/** @typedef {import('../../scripts/servers/galera.mjs').GaleraCluster} GaleraCluster */
/** @typedef {import('../../scripts/servers/redis-cluster.mjs').RedisCluster} RedisCluster */

/** Until the others know that a node is gone, and one of them has its place. */
const FAILOVER_MS = 6000;
const BEHIND_MS = 700;
/** The slot of a shard that every engine uses. */
const SLOT = 1584;

/** @param {Context} context */
const galeraOf = ({ place }) => /** @type {GaleraCluster} */ (place.galera);
/** @param {Context} context */
const redisOf = ({ place }) => /** @type {RedisCluster} */ (place.redisCluster);

/** @param {'sql' | 'redis'} tier @returns {(context: Context) => string | undefined} */
const failedCalls =
  (tier) =>
  ({ subject, before }) => {
    const failed = subject.report[`${tier}Errors`] - before[`${tier}Errors`];
    return failed > 0 ? `${failed} calls failed` : undefined;
  };

/** The node that the engine writes through: the first of the URL that is there. @param {Context} context */
const written = (context) => {
  const node = galeraOf(context).nodes.find(({ pid }) => pid !== undefined);
  return /** @type {PrivateServer} */ (node);
};

/** @param {RedisCluster} cluster @param {PrivateServer} master */
async function takenOver(cluster, master) {
  for (const end = Date.now() + 20_000; Date.now() < end; await sleep(50))
    if ((await cluster.masterOf(SLOT).catch(() => master)) !== master) return;
  throw new Error('no replica took over');
}

/** Which node serves the slot changed since it struck. @type {WeakMap<Context['place'], PrivateServer>} */
const masters = new WeakMap();

/** @param {Context} context */
async function handedOver({ place }) {
  const [before, now] = [masters.get(place), await place.redisCluster?.masterOf(SLOT).catch(() => undefined)];
  return before === undefined || now === undefined || now === before
    ? undefined
    : 'another node serves the slot';
}

/** @type {readonly Fault[]} */
const GALERA_FAULTS = [
  {
    name: 'the written node SIGKILLed',
    on: 'galera',
    holdMs: FAILOVER_MS,
    strike: async (context) => {
      const node = written(context);
      await node.kill();
      return async () => {
        await galeraOf(context).rejoin(node);
        await galeraOf(context).settled();
      };
    },
    observed: failedCalls('sql'),
  },
  {
    name: 'the written node stands still',
    on: 'galera',
    holdMs: FAILOVER_MS,
    strike: async (context) => {
      const node = written(context);
      node.pause();
      return async () => {
        node.resume();
        await galeraOf(context).settled();
      };
    },
    observed: failedCalls('sql'),
  },
  {
    name: 'the majority stands still',
    on: 'galera',
    holdMs: FAILOVER_MS,
    strike: async (context) => {
      const nodes = galeraOf(context).nodes.slice(1);
      for (const node of nodes) node.pause();
      return async () => {
        for (const node of nodes) node.resume();
        await galeraOf(context).settled();
      };
    },
    observed: failedCalls('sql'),
  },
];

/** @type {readonly Fault[]} */
const REDIS_CLUSTER_FAULTS = [
  {
    name: 'a master SIGKILLed',
    on: 'redis cluster',
    holdMs: FAILOVER_MS,
    strike: async (context) => {
      const cluster = redisOf(context);
      const master = await cluster.masterOf(SLOT);
      masters.set(context.place, master);
      await master.kill();
      await takenOver(cluster, master);
      return async () => {
        await master.start();
        await cluster.settled();
      };
    },
    observed: failedCalls('redis'),
  },
  {
    name: 'a master stands still',
    on: 'redis cluster',
    holdMs: FAILOVER_MS,
    strike: async (context) => {
      const cluster = redisOf(context);
      const master = await cluster.masterOf(SLOT);
      masters.set(context.place, master);
      master.pause();
      return async () => {
        master.resume();
        await cluster.settled();
      };
    },
    observed: failedCalls('redis'),
  },
  {
    name: 'a replica behind takes over',
    on: 'redis cluster',
    strike: async (context) => {
      const cluster = redisOf(context);
      const master = await cluster.masterOf(SLOT);
      masters.set(context.place, master);
      const replica = await cluster.replicaOf(master);
      replica.pause();
      await sleep(BEHIND_MS);
      replica.resume();
      await cluster.tell(replica, ['CLUSTER', 'FAILOVER', 'TAKEOVER']);
      return () => cluster.settled();
    },
    observed: handedOver,
  },
  {
    name: 'a failover by hand',
    on: 'redis cluster',
    strike: async (context) => {
      const cluster = redisOf(context);
      const master = await cluster.masterOf(SLOT);
      masters.set(context.place, master);
      await cluster.tell(await cluster.replicaOf(master), ['CLUSTER', 'FAILOVER']);
      return () => cluster.settled();
    },
    observed: handedOver,
  },
  {
    name: 'a slot moves',
    on: 'redis cluster',
    strike: async (context) => {
      const cluster = redisOf(context);
      const from = await cluster.masterOf(SLOT);
      masters.set(context.place, from);
      const to = await cluster.masterOf(SLOT + 8192);
      const move = await cluster.beginMove(SLOT, to);
      await move.some();
      await sleep(100);
      await move.rest();
      await move.end();
      return () => cluster.settled();
    },
    observed: handedOver,
  },
  {
    name: 'no majority (CLUSTERDOWN)',
    on: 'redis cluster',
    holdMs: FAILOVER_MS,
    strike: async (context) => {
      const cluster = redisOf(context);
      const first = await cluster.masterOf(SLOT);
      const second = await cluster.masterOf(SLOT + 8192);
      const nodes = [first, second, await cluster.replicaOf(first), await cluster.replicaOf(second)];
      for (const node of nodes) node.pause();
      return async () => {
        for (const node of nodes) node.resume();
        await cluster.settled();
      };
    },
    observed: failedCalls('redis'),
  },
];

export const CLUSTER_FAULTS = [...GALERA_FAULTS, ...REDIS_CLUSTER_FAULTS];
