// @ts-check
/**
 * Three private MariaDB nodes in one Galera cluster. They begin as copies of one, so none has to be sent all data: one that
 * comes back is given what it missed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createConnection } from 'mysql2/promise';
import { freePort, lackOf, PrivateServer, prepare } from './servers.mjs';

const LIBRARIES = ['/usr/lib/galera/libgalera_smm.so', '/usr/lib64/galera-4/libgalera_smm.so'];
const NODES = 3;
const HOST = '127.0.0.1';
const JOIN_MS = 60_000;
const STATUS = ['wsrep_cluster_size', 'wsrep_cluster_status', 'wsrep_local_state', 'wsrep_ready'];
const SYNCED = '4';
/** Short, so that a node that is gone is known to be after a second or two. */
const PROVIDER = [
  'evs.keepalive_period=PT0.6S',
  'evs.suspect_timeout=PT2S',
  'evs.inactive_timeout=PT6S',
  'evs.install_timeout=PT6S',
  'gcache.size=32M',
  'pc.recovery=true',
];

/** Why there is no such cluster; `undefined` where there is one. With `CI=true` its absence is an error. */
export function lackOfGalera() {
  const lack = lackOf('mariadb');
  if (lack !== undefined || LIBRARIES.some((path) => existsSync(path))) return lack;
  const reason = 'There is no Galera library here: install the package galera-4.';
  if (process.env.CI === 'true') throw new Error(reason);
  return reason;
}

export class GaleraCluster {
  /** @type {PrivateServer[]} */
  nodes = [];
  /** @type {Map<PrivateServer, readonly string[]>} */
  #args = new Map();

  async start() {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#start();
      } catch (error) {
        await this.stop();
        this.nodes = [];
        // Ports that were free a moment ago are those that connections are given, too.
        if (attempt === 5 || !/is taken/.test(String(error))) throw error;
      }
    }
  }

  async #start() {
    const addresses = [];
    const ports = [];
    for (let node = 0; node < NODES; node++) {
      const group = await freePort();
      addresses.push(`${HOST}:${group}`);
      ports.push({ sql: await freePort(), group, transfer: await freePort() });
    }
    for (const { sql, group, transfer } of ports) {
      const own = [`gmcast.listen_addr=tcp://${HOST}:${group}`, `ist.recv_addr=${HOST}:${transfer}`];
      const args = [
        '--wsrep-on=ON',
        `--wsrep-provider=${LIBRARIES.find((path) => existsSync(path))}`,
        '--wsrep-cluster-name=sync-engine',
        `--wsrep-cluster-address=gcomm://${addresses.join(',')}`,
        `--wsrep-node-address=${HOST}:${group}`,
        `--wsrep-provider-options=${[...PROVIDER, ...own].join(';')}`,
        '--wsrep-sst-method=rsync',
        '--binlog-format=ROW',
        '--innodb-autoinc-lock-mode=2',
      ];
      const node = new PrivateServer('mariadb', sql, args);
      this.nodes.push(node);
      this.#args.set(node, args);
    }
    const [first, ...others] = this.nodes;
    if (first === undefined) throw new Error('a cluster has nodes');
    prepare(first);
    await this.#begin(first, ['--wsrep-new-cluster']);
    await first.kill('SIGTERM');
    for (const other of others) {
      other.password = first.password;
      const { status, stderr } = spawnSync('cp', ['-a', join(first.directory, 'data'), other.directory]);
      if (status !== 0) throw new Error(`the data could not be copied: ${stderr}`);
    }
    // What it would say was said to the first node, and every node has it.
    for (const node of this.nodes) writeFileSync(join(node.directory, 'init.sql'), '');
    await this.#begin(first, ['--wsrep-new-cluster']);
    await this.settled(1);
    for (const other of others) await other.start();
    await this.settled();
    return this;
  }

  /** All nodes, of one database. @param {string} database */
  url(database) {
    const [first] = this.nodes;
    const hosts = this.nodes.map(({ port }) => `${HOST}:${port}`);
    return `mariadb://sync:${first?.password}@${hosts.join(',')}/${database}`;
  }

  /** Brings a node back that was killed: it says up to where it has everything, and is given the rest. @param {PrivateServer} node */
  async rejoin(node) {
    const before = node.log.length;
    await node.run([...this.#argsOf(node), '--wsrep-recover']);
    const position = /Recovered position: ([0-9a-f-]+:-?\d+)/.exec(node.log.slice(before))?.[1];
    if (position === undefined)
      throw new Error(`the node does not know its position:\n${node.log.slice(-2000)}`);
    await node.start([...this.#argsOf(node), `--wsrep-start-position=${position}`]);
  }

  /** Waits until so many nodes are one cluster, and those that run have everything. */
  async settled(count = NODES) {
    const end = Date.now() + JOIN_MS;
    for (;;) {
      const running = this.nodes.filter(({ pid }) => pid !== undefined);
      const states = await Promise.all(running.map((node) => statusOf(node)));
      const well = states.filter(
        (state) =>
          state?.wsrep_cluster_size === String(count) &&
          state.wsrep_cluster_status === 'Primary' &&
          state.wsrep_local_state === SYNCED &&
          state.wsrep_ready === 'ON',
      );
      if (well.length === count) return;
      if (Date.now() > end) throw new Error(`the cluster is not whole: ${JSON.stringify(states)}`);
      await sleep(100);
    }
  }

  async stop() {
    await Promise.all(this.nodes.map((node) => node.stop()));
  }

  /** @param {PrivateServer} node */
  #argsOf(node) {
    return this.#args.get(node) ?? [];
  }

  /** @param {PrivateServer} node @param {readonly string[]} more */
  async #begin(node, more) {
    const state = join(node.directory, 'data', 'grastate.dat');
    if (existsSync(state))
      writeFileSync(
        state,
        readFileSync(state, 'utf8').replace(/safe_to_bootstrap: 0/, 'safe_to_bootstrap: 1'),
      );
    await node.start([...this.#argsOf(node), ...more]);
  }
}

/** @param {PrivateServer} node @returns {Promise<Record<string, string> | undefined>} */
async function statusOf(node) {
  try {
    const connection = await createConnection({
      host: HOST,
      port: node.port,
      user: 'sync',
      password: node.password,
      connectTimeout: 2000,
    });
    connection.on('error', () => {});
    try {
      const [rows] = await connection.query({
        sql: `SHOW GLOBAL STATUS WHERE Variable_name IN ('${STATUS.join("', '")}')`,
        timeout: 2000,
        rowsAsArray: true,
      });
      return Object.fromEntries(/** @type {[string, string][]} */ (/** @type {unknown} */ (rows)));
    } finally {
      connection.destroy();
    }
  } catch {
    return undefined;
  }
}
