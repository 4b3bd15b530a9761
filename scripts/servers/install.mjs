// @ts-check
/** Finds the programs of servers, and on Debian installs them, where that is allowed and nothing is started by it. */
import { spawnSync } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

/** @typedef {'redis' | 'mariadb' | 'postgres'} Kind */

/** @type {Record<Kind, { programs: readonly string[], packages: readonly string[] }>} */
const SERVERS = {
  redis: { programs: ['redis-server', 'valkey-server'], packages: ['redis-server'] },
  mariadb: { programs: ['mariadbd', 'mysqld'], packages: ['mariadb-server'] },
  postgres: { programs: ['postgres'], packages: ['postgresql'] },
};
const POLICY = '/usr/sbin/policy-rc.d';
const CLUSTER_CONFIG = '/etc/postgresql-common/createcluster.conf';
const LOCK = join(tmpdir(), 'sync-engine-install.lock');
/** An installation that takes longer was given up. */
const LOCK_MS = 10 * 60_000;

/** @param {string} path */
function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/**
 * Where programs may be, the newest PostgreSQL first: its programs need those of their own version beside them.
 * `SYNC_ENGINE_PROGRAMS` names the only directory instead, for tests of a machine that has none.
 */
function directories() {
  if (process.env.SYNC_ENGINE_PROGRAMS !== undefined) return [process.env.SYNC_ENGINE_PROGRAMS];
  const versions = '/usr/lib/postgresql';
  const postgres = existsSync(versions)
    ? readdirSync(versions)
        .sort((a, b) => Number(b) - Number(a))
        .map((version) => join(versions, version, 'bin'))
    : [];
  return [
    ...postgres,
    ...(process.env.PATH ?? '').split(delimiter),
    '/usr/sbin',
    '/usr/local/sbin',
    '/usr/bin',
  ];
}

/**
 * The path of a program, `undefined` where there is none.
 * @param {...string} names
 * @returns {string | undefined}
 */
export function findProgram(...names) {
  for (const directory of directories()) {
    for (const name of names) if (isProgram(join(directory, name))) return join(directory, name);
  }
  return undefined;
}

/** @param {Kind} kind */
export function findServer(kind) {
  return findProgram(...SERVERS[kind].programs);
}

/** Whether packages can be installed without asking anybody: a container, or CI. */
function mayInstall() {
  return (
    process.getuid?.() === 0 && existsSync('/etc/debian_version') && findProgram('apt-get') !== undefined
  );
}

/**
 * Installs the server if need be. Nothing is started by it, and no cluster is made.
 * @param {Kind} kind
 * @returns {string | undefined} What to do where it cannot be had; `undefined` where it is there.
 */
export function ensureServer(kind) {
  if (findServer(kind) !== undefined) return undefined;
  const { packages } = SERVERS[kind];
  const advice = `install it (Debian: apt-get install ${packages.join(' ')})`;
  if (!mayInstall()) return advice;
  return alone(() => {
    if (findServer(kind) !== undefined) return undefined;
    const problem = withoutStarting(() => {
      if (kind === 'postgres') {
        const common = install(['postgresql-common']);
        if (common !== undefined) return common;
        writeFileSync(CLUSTER_CONFIG, 'create_main_cluster = false\n');
      }
      return install(packages);
    });
    return findServer(kind) === undefined ? `${advice}; apt-get said: ${problem ?? 'nothing'}` : undefined;
  });
}

/**
 * One process installs at a time.
 * @template T
 * @param {() => T} work
 * @returns {T}
 */
function alone(work) {
  for (;;) {
    try {
      mkdirSync(LOCK);
      break;
    } catch {
      const age = Date.now() - (statSync(LOCK, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
      if (age > LOCK_MS) rmSync(LOCK, { recursive: true, force: true });
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 250);
    }
  }
  try {
    return work();
  } finally {
    rmSync(LOCK, { recursive: true, force: true });
  }
}

/**
 * While packages are installed, services are not started: Debian asks this file.
 * @template T
 * @param {() => T} work
 * @returns {T}
 */
function withoutStarting(work) {
  const own = !existsSync(POLICY);
  if (own) {
    writeFileSync(POLICY, '#!/bin/sh\nexit 101\n');
    chmodSync(POLICY, 0o755);
  }
  try {
    return work();
  } finally {
    if (own) rmSync(POLICY, { force: true });
  }
}

/**
 * @param {readonly string[]} packages
 * @returns {string | undefined} What went wrong.
 */
function install(packages) {
  const apt = findProgram('apt-get') ?? 'apt-get';
  const options = {
    encoding: /** @type {const} */ ('utf8'),
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  };
  const args = ['install', '-y', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=300', ...packages];
  let result = spawnSync(apt, args, options);
  if (result.status !== 0) {
    spawnSync(apt, ['update'], options);
    result = spawnSync(apt, args, options);
  }
  return result.status === 0 ? undefined : (result.stderr ?? '').trim().split('\n').at(-1);
}
