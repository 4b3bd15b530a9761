// @ts-check
/** Six private Redis nodes in one cluster: three masters, each with a replica. */
import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from 'redis';
import { findServer } from './install.mjs';
import { freePort, lackOf, PrivateServer } from './servers.mjs';

const HOST = '127.0.0.1';
const MASTERS = 3;
const SLOTS = 16_384;
const SETTLE_MS = 60_000;
/** Short, so that a node that is gone is known to be after a second or two. */
const NODE_TIMEOUT_MS = 1500;

/** Why there is no such cluster; `undefined` where there is one. With `CI=true` its absence is an error. */
export function lackOfRedisCluster() {
  const lack = lackOf('redis');
  if (lack !== undefined) return lack;
  const [, major] =
    /v=(\d+)/.exec(spawnSync(String(findServer('redis')), ['--version'], { encoding: 'utf8' }).stdout) ?? [];
  // Whose ports are free is known only where each can be chosen.
  return Number(major) >= 7 ? undefined : 'A private Redis cluster needs redis-server 7.0 or later.';
}

export class RedisCluster {
  /** Masters first, as the cluster begins. @type {PrivateServer[]} */
  nodes = [];
  /** @type {Map<PrivateServer, ReturnType<typeof createClient>>} */
  #clients = new Map();

  /** @param {readonly string[]} [args] More of each node. */
  async start(args = []) {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#start(args);
      } catch (error) {
        await this.stop();
        this.nodes = [];
        // Ports that were free a moment ago are those that connections are given, too.
        if (attempt === 5 || !/is taken|already in use/.test(String(error))) throw error;
      }
    }
  }

  /** @param {readonly string[]} args */
  async #start(args) {
    for (let number = 0; number < MASTERS * 2; number++) {
      const node = new PrivateServer('redis', await freePort(), []);
      this.nodes.push(node);
      node.password = /** @type {PrivateServer} */ (this.nodes[0]).password;
      await node.start([
        ...['--cluster-enabled', 'yes', '--cluster-port', String(await freePort())],
        ...['--cluster-node-timeout', String(NODE_TIMEOUT_MS), '--cluster-replica-validity-factor', '0'],
        ...['--masterauth', node.password, '--save', '', '--repl-diskless-sync-delay', '0'],
        ...args,
      ]);
    }
    const [first] = this.nodes;
    const [, busPort] =
      /@(\d+)/.exec(await this.tell(/** @type {PrivateServer} */ (first), ['CLUSTER', 'NODES'])) ?? [];
    for (const node of this.nodes.slice(1))
      await this.tell(node, ['CLUSTER', 'MEET', HOST, String(first?.port), String(busPort)]);
    for (const [number, node] of this.nodes.slice(0, MASTERS).entries()) {
      const from = Math.floor((number * SLOTS) / MASTERS);
      const to = Math.floor(((number + 1) * SLOTS) / MASTERS) - 1;
      await this.tell(node, ['CLUSTER', 'ADDSLOTSRANGE', String(from), String(to)]);
    }
    await this.#until(async () => (await this.#facts(first)).cluster_known_nodes === String(MASTERS * 2));
    for (const [number, replica] of this.nodes.slice(MASTERS).entries()) {
      const id = await this.tell(/** @type {PrivateServer} */ (this.nodes[number]), ['CLUSTER', 'MYID']);
      await this.#until(async () => (await this.tell(replica, ['CLUSTER', 'NODES'])).includes(id));
      await this.tell(replica, ['CLUSTER', 'REPLICATE', id]);
    }
    await this.settled();
    return this;
  }

  /** Some of the nodes, as an engine is given them. */
  url() {
    const hosts = this.nodes.slice(0, 2).map(({ port }) => `${HOST}:${port}`);
    return `redis://:${this.nodes[0]?.password}@${hosts.join(',')}`;
  }

  /** Waits until every node that runs calls the cluster whole, and every replica that runs follows its master. */
  async settled() {
    await this.#until(async () => {
      for (const node of this.#running) {
        if ((await this.#facts(node)).cluster_state !== 'ok') return false;
        const role = await this.tell(node, ['INFO', 'replication']);
        if (/role:slave/.test(role) && !/master_link_status:up/.test(role)) return false;
      }
      return true;
    });
  }

  /** The node that serves a slot. @param {number} slot */
  async masterOf(slot) {
    const [running] = this.#running;
    const lines = (await this.tell(/** @type {PrivateServer} */ (running), ['CLUSTER', 'NODES'])).split('\n');
    for (const line of lines) {
      const [, address = '', flags = '', , , , , , ...ranges] = line.split(' ');
      if (!flags.includes('master') || flags.includes('fail')) continue;
      const serves = ranges.some((range) => {
        const [from = '', to = from] = range.split('-');
        return Number(from) <= slot && slot <= Number(to);
      });
      const node = this.nodes.find(({ port }) => address.startsWith(`${HOST}:${port}@`));
      if (serves && node !== undefined) return node;
    }
    throw new Error(`nobody serves slot ${slot}:\n${lines.join('\n')}`);
  }

  /** A replica of the node. @param {PrivateServer} master */
  async replicaOf(master) {
    const id = await this.tell(master, ['CLUSTER', 'MYID']);
    const line = (await this.tell(master, ['CLUSTER', 'NODES']))
      .split('\n')
      .find((one) => one.split(' ')[3] === id);
    const replica = this.nodes.find(({ port }) => line?.includes(`${HOST}:${port}@`));
    if (replica === undefined) throw new Error('it has no replica');
    return replica;
  }

  /**
   * Begins to move a slot: `some` and `rest` move its keys, `end` the slot.
   * @param {number} slot
   * @param {PrivateServer} to
   */
  async beginMove(slot, to) {
    const from = await this.masterOf(slot);
    const fromId = await this.tell(from, ['CLUSTER', 'MYID']);
    const toId = await this.tell(to, ['CLUSTER', 'MYID']);
    await this.tell(to, ['CLUSTER', 'SETSLOT', String(slot), 'IMPORTING', fromId]);
    await this.tell(from, ['CLUSTER', 'SETSLOT', String(slot), 'MIGRATING', toId]);
    /** @param {number} count */
    const migrate = async (count) => {
      const keys = await this.tell(from, ['CLUSTER', 'GETKEYSINSLOT', String(slot), String(count)]);
      if (keys === '') return;
      const target = [HOST, String(to.port), '', '0', '5000', 'AUTH', to.password];
      await this.tell(from, ['MIGRATE', ...target, 'KEYS', ...keys.split(',')]);
    };
    return {
      some: () => migrate(5),
      rest: () => migrate(100_000),
      end: async () => {
        for (const node of [to, from])
          await this.tell(node, ['CLUSTER', 'SETSLOT', String(slot), 'NODE', toId]);
      },
    };
  }

  /** Asks one node; its answer as text. @param {PrivateServer} node @param {readonly string[]} command @returns {Promise<string>} */
  async tell(node, command) {
    let client = this.#clients.get(node);
    if (client === undefined || !client.isReady) {
      client = createClient({ url: node.url(), RESP: 2, socket: { reconnectStrategy: false } });
      client.on('error', () => {});
      await client.connect();
      this.#clients.set(node, client);
    }
    return String(await client.sendCommand([...command]));
  }

  async stop() {
    for (const client of this.#clients.values()) if (client.isOpen) client.destroy();
    this.#clients.clear();
    await Promise.all(this.nodes.map((node) => node.stop()));
  }

  get #running() {
    return this.nodes.filter(({ pid }) => pid !== undefined);
  }

  /** @param {PrivateServer | undefined} node @returns {Promise<Record<string, string>>} */
  async #facts(node) {
    const text = await this.tell(/** @type {PrivateServer} */ (node), ['CLUSTER', 'INFO']);
    return Object.fromEntries(text.split('\r\n').map((line) => line.split(':')));
  }

  /** @param {() => Promise<boolean>} fits */
  async #until(fits) {
    for (const end = Date.now() + SETTLE_MS; ; await sleep(50)) {
      if (await fits().catch(() => false)) return;
      if (Date.now() > end)
        throw new Error(
          `the cluster is not whole:\n${this.nodes.map(({ log }) => log.slice(-300)).join('\n')}`,
        );
    }
  }
}
