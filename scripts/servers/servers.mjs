// @ts-check
/**
 * Private servers for tests and demos: on free ports, in temporary directories, gone when their process is, however that
 * dies.
 */
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { ensureServer, findProgram, findServer } from './install.mjs';
import { anyOf, awaitStop, processesOf, signalAll } from './processes.mjs';

/** @typedef {import('./install.mjs').Kind} Kind */
/**
 * @typedef {object} ServerOptions
 * @property {readonly string[]} [args] More of its arguments.
 * @property {number} [port] A free one, unless given.
 */

const WATCHDOG = new URL('./watchdog.mjs', import.meta.url).pathname;
const START_MS = 60_000;
const HOST = '127.0.0.1';

/** One server of our own. */
export class PrivateServer {
  /** @type {Kind} */
  kind;
  directory;
  port;
  password = randomBytes(12).toString('hex');
  /** @type {number | undefined} */
  pid;
  #args;
  #watchdog;
  /** @type {((message: { pid?: number, exit?: string | number }) => void)[]} */
  #heard = [];

  /**
   * @param {Kind} kind
   * @param {number} port
   * @param {readonly string[]} args
   */
  constructor(kind, port, args) {
    this.kind = kind;
    this.port = port;
    this.#args = args;
    this.directory = mkdtempSync(join(tmpdir(), `sync-engine-${kind}-`));
    const owner = ownerOf(kind);
    if (owner !== undefined) chownSync(this.directory, owner.uid, owner.gid);
    chmodSync(this.directory, 0o700);
    const facts = JSON.stringify({ directory: this.directory, ...owner });
    // A group of its own, so that Ctrl-C leaves it time to tidy up.
    this.#watchdog = spawn(process.execPath, [WATCHDOG, facts], {
      stdio: ['pipe', 'pipe', 'inherit'],
      detached: true,
    });
    this.#watchdog.unref();
    /** @type {{ unref?: () => void }} */ (this.#watchdog.stdin).unref?.();
    /** @type {{ unref?: () => void }} */ (this.#watchdog.stdout).unref?.();
    this.#watchdog.stdin.on('error', () => {});
    createInterface({ input: this.#watchdog.stdout }).on('line', (line) => {
      const message = JSON.parse(line);
      if ('exit' in message) this.pid = undefined;
      else this.pid = message.pid;
      for (const hear of [...this.#heard]) hear(message);
    });
  }

  get logPath() {
    return join(this.directory, 'log');
  }

  /** What the server said. */
  get log() {
    return existsSync(this.logPath) ? readFileSync(this.logPath, 'utf8') : '';
  }

  /**
   * The URL of a database in it; Redis has one.
   * @param {string} [database]
   */
  url(database = 'test') {
    if (this.kind === 'redis') return `redis://:${this.password}@${HOST}:${this.port}`;
    const scheme = this.kind === 'mariadb' ? 'mariadb' : 'postgres';
    return `${scheme}://sync:${this.password}@${HOST}:${this.port}/${database}`;
  }

  /** Begins, and waits until it takes connections. @param {readonly string[]} [args] In the place of those before. */
  async start(args = this.#args) {
    this.#args = args;
    const before = this.log.length;
    this.#watchdog.stdin.write(`${JSON.stringify({ start: this.#command(args), log: this.logPath })}\n`);
    const end = Date.now() + START_MS;
    for (let ready = false; !ready; ) {
      if (Date.now() > end) throw new Error(`${this.kind} did not start:\n${this.log.slice(-2000)}`);
      await sleep(20);
      const said = this.log.slice(before);
      if (/address already in use/i.test(said)) throw new Error(`port ${this.port} is taken`);
      if (this.pid === undefined && /error|fatal|abort/i.test(said))
        throw new Error(`${this.kind} did not start:\n${said.slice(-2000)}`);
      ready = READY[this.kind].test(said) && (await answers(this.port));
    }
  }

  /** Runs it until it ends by itself: for what it does and says only once. @param {readonly string[]} args */
  async run(args) {
    const gone = this.#next((message) => 'exit' in message);
    const alive = setInterval(() => {}, 1000);
    this.#watchdog.stdin.write(`${JSON.stringify({ start: this.#command(args), log: this.logPath })}\n`);
    await gone;
    clearInterval(alive);
  }

  /** @param {NodeJS.Signals} signal */
  signal(signal) {
    if (this.pid !== undefined) signalAll(processesOf(this.pid), signal);
  }

  /** When this returns, all of it stands still. */
  pause() {
    this.signal('SIGSTOP');
    if (this.pid !== undefined) awaitStop(processesOf(this.pid));
  }

  resume() {
    this.signal('SIGCONT');
  }

  /** Ends the process and waits for that; what it has written stays. @param {NodeJS.Signals} [signal] */
  async kill(signal = 'SIGKILL') {
    if (this.pid === undefined) return;
    const gone = this.#next((message) => 'exit' in message);
    // Who waits for the end stays alive until then.
    const alive = setInterval(() => {}, 1000);
    const processes = processesOf(this.pid);
    // A process that stands still takes no signal but this one.
    if (signal !== 'SIGKILL') this.resume();
    signalAll(signal === 'SIGKILL' ? processes : processes.slice(0, 1), signal);
    await gone;
    while (anyOf(processes)) await sleep(10);
    clearInterval(alive);
  }

  /** On the same port, with the same data. @param {readonly string[]} [args] In the place of those before. */
  async restart(args) {
    await this.kill();
    await this.start(args);
  }

  /** Ends it for good, and removes its directory. */
  async stop() {
    const gone = new Promise((resolve) => this.#watchdog.once('exit', resolve));
    this.#watchdog.ref();
    if (this.#watchdog.exitCode !== null) return;
    this.#watchdog.stdin.end();
    await gone;
  }

  /** @param {(message: { pid?: number, exit?: string | number }) => boolean} fits */
  #next(fits) {
    return new Promise((resolve) => {
      /** @param {{ pid?: number, exit?: string | number }} message */
      const hear = (message) => {
        if (!fits(message)) return;
        this.#heard = this.#heard.filter((one) => one !== hear);
        resolve(message);
      };
      this.#heard.push(hear);
    });
  }

  /** @param {readonly string[]} args */
  #command(args) {
    const program = /** @type {string} */ (findServer(this.kind));
    const data = join(this.directory, 'data');
    if (this.kind === 'redis') {
      const own = [
        '--port',
        this.port,
        '--bind',
        HOST,
        '--dir',
        this.directory,
        '--requirepass',
        this.password,
      ];
      return [program, ...own.map(String), ...args];
    }
    if (this.kind === 'mariadb') {
      return [
        program,
        '--no-defaults',
        `--datadir=${data}`,
        `--port=${this.port}`,
        `--bind-address=${HOST}`,
        `--socket=${join(this.directory, 's')}`,
        `--pid-file=${join(this.directory, 'pid')}`,
        `--init-file=${join(this.directory, 'init.sql')}`,
        '--innodb-buffer-pool-size=128M',
        // MySQL has it no more, and finds its own size.
        '--loose-innodb-log-file-size=256M',
        '--skip-name-resolve',
        ...args,
      ];
    }
    const settings = [`listen_addresses=${HOST}`, 'unix_socket_directories=', 'shared_buffers=128MB'];
    return [program, '-D', data, '-p', String(this.port), ...settings.flatMap((one) => ['-c', one]), ...args];
  }
}

const READY = {
  redis: /Ready to accept connections/i,
  mariadb: /ready for connections/i,
  postgres: /ready to accept connections/i,
};

/**
 * Why there is no such server; `undefined` where there is one. With `CI=true` its absence is an error.
 * @param {Kind} kind
 */
export function lackOf(kind) {
  const advice = ensureServer(kind);
  if (advice === undefined) return undefined;
  const reason = `There is no ${kind} server here: ${advice}.`;
  if (process.env.CI === 'true') throw new Error(reason);
  return reason;
}

/**
 * Starts a server with an empty database `test`, whose user `sync` may do everything.
 * @param {Kind} kind
 * @param {ServerOptions} [options]
 */
export async function startServer(kind, { args = [], port } = {}) {
  const lack = lackOf(kind);
  if (lack !== undefined) throw new Error(lack);
  for (let attempt = 1; ; attempt++) {
    const server = new PrivateServer(kind, port ?? (await freePort()), args);
    try {
      prepare(server);
      await server.start();
      if (kind === 'postgres') await createDatabase(server, 'test');
      return server;
    } catch (error) {
      await server.stop();
      if (attempt === 5 || !/is taken/.test(String(error))) throw error;
    }
  }
}

/**
 * Another database in a server.
 * @param {PrivateServer} server
 * @param {string} [name]
 * @returns {Promise<string>} Its URL.
 */
export async function createDatabase(server, name = `t${randomBytes(6).toString('hex')}`) {
  if (server.kind === 'mariadb') {
    const { createConnection: connect } = await import('mysql2/promise');
    const connection = await connect(server.url('mysql').replace(/^mariadb/, 'mysql'));
    await connection.query(`CREATE DATABASE ${name}`);
    await connection.end();
  } else {
    const { default: pg } = await import('pg');
    const client = new pg.Client(server.url('postgres'));
    await client.connect();
    await client.query(`CREATE DATABASE ${name}`);
    await client.end();
  }
  return server.url(name);
}

/** Files that it needs before its first start. @param {PrivateServer} server */
export function prepare({ kind, directory, password }) {
  const data = join(directory, 'data');
  const owner = ownerOf(kind);
  /** @param {string} program @param {string[]} args */
  const run = (program, args) => {
    const result = spawnSync(program, args, { encoding: 'utf8', cwd: directory, ...owner });
    if (result.status !== 0) throw new Error(`${program} failed: ${result.stderr}${result.stdout}`);
  };
  if (kind === 'mariadb') {
    const init = findProgram('mariadb-install-db', 'mysql_install_db');
    if (init !== undefined) {
      run(init, [
        '--no-defaults',
        `--datadir=${data}`,
        '--skip-test-db',
        '--auth-root-authentication-method=normal',
      ]);
    } else {
      run(/** @type {string} */ (findServer('mariadb')), [
        '--no-defaults',
        `--datadir=${data}`,
        '--initialize-insecure',
      ]);
    }
    const sql = [
      `CREATE USER IF NOT EXISTS sync@'%' IDENTIFIED BY '${password}';`,
      "GRANT ALL ON *.* TO sync@'%' WITH GRANT OPTION;",
      'CREATE DATABASE IF NOT EXISTS test;',
    ];
    writeFor(owner, join(directory, 'init.sql'), `${sql.join('\n')}\n`);
  } else if (kind === 'postgres') {
    const init = join(dirname(/** @type {string} */ (findServer('postgres'))), 'initdb');
    const file = join(directory, 'password');
    writeFor(owner, file, password);
    run(init, [
      '-D',
      data,
      '-U',
      'sync',
      '-A',
      'scram-sha-256',
      `--pwfile=${file}`,
      '-E',
      'UTF8',
      '--no-sync',
    ]);
  }
}

/**
 * @param {{ uid: number, gid: number } | undefined} owner
 * @param {string} path
 * @param {string} text
 */
function writeFor(owner, path, text) {
  writeFileSync(path, text, { mode: 0o600 });
  if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
}

/** MariaDB and PostgreSQL refuse to run as root: then they run as whom their package made. @param {Kind} kind */
function ownerOf(kind) {
  if (process.getuid?.() !== 0 || kind === 'redis') return undefined;
  for (const name of [kind === 'mariadb' ? 'mysql' : 'postgres', 'nobody']) {
    const line = readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .find((one) => one.startsWith(`${name}:`));
    const [, , uid, gid] = line?.split(':') ?? [];
    if (uid !== undefined && gid !== undefined) return { uid: Number(uid), gid: Number(gid) };
  }
  return undefined;
}

/** @returns {Promise<number>} */
export function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.on('error', reject);
    probe.listen(0, HOST, () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

/** @param {number} port @returns {Promise<boolean>} */
function answers(port) {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: HOST });
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
