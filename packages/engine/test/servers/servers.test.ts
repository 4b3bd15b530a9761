/** The servers that tests start themselves: they are there when they are needed, and gone when their process is. */
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import mysql from 'mysql2/promise';
import pg from 'pg';
import { createClient } from 'redis';
import { expect, test } from 'vitest';
import { startServer } from '../../../../scripts/servers/servers.mjs';
import { temporaryDirectory } from '../support/engines.js';
import { onServer } from '../support/servers.js';

const SERVERS = new URL('../../../../scripts/servers/servers.mjs', import.meta.url).href;
const INSTALL = new URL('../../../../scripts/servers/install.mjs', import.meta.url).href;

/** Writes a value, or reads it back. */
const CLIENTS = {
  async redis(url: string, value?: string): Promise<string> {
    const client = createClient({ url });
    await client.connect();
    if (value !== undefined) await client.set('a', value);
    const found = await client.get('a');
    client.destroy();
    return String(found);
  },
  async mariadb(url: string, value?: string): Promise<string> {
    const connection = await mysql.createConnection(url.replace('mariadb', 'mysql'));
    await connection.query('CREATE TABLE IF NOT EXISTS a (a TEXT)');
    if (value !== undefined) await connection.query('INSERT INTO a VALUES (?)', [value]);
    const [rows] = await connection.query({ sql: 'SELECT a FROM a', rowsAsArray: true });
    await connection.end();
    return String(rows);
  },
  async postgres(url: string, value?: string): Promise<string> {
    const client = new pg.Client(url);
    await client.connect();
    await client.query('CREATE TABLE IF NOT EXISTS a (a TEXT)');
    if (value !== undefined) await client.query('INSERT INTO a VALUES ($1)', [value]);
    const { rows } = await client.query({ text: 'SELECT a FROM a', rowMode: 'array' });
    await client.end();
    return String(rows);
  },
};

for (const kind of ['redis', 'mariadb', 'postgres'] as const) {
  onServer(
    kind,
    (server) => {
      test('it answers, and after a kill it is back on the same port with what it had committed', async () => {
        expect(await CLIENTS[kind](server().url(), 'kept')).toBe('kept');
        const { port } = server();
        await server().kill();
        await expect(CLIENTS[kind](server().url())).rejects.toThrow();
        await server().restart();
        expect(server().port).toBe(port);
        expect(await CLIENTS[kind](server().url())).toBe('kept');
      });

      test('a second one has a port and data of its own, and leaves nothing behind', async () => {
        const other = await startServer(kind);
        expect(other.port).not.toBe(server().port);
        const { directory, pid } = other;
        await other.stop();
        expect(existsSync(directory)).toBe(false);
        expect(() => process.kill(pid as number, 0)).toThrow();
      });

      test('it ends, with its directory, when whoever started it is killed', async () => {
        const script = `
          import { startServer } from ${JSON.stringify(SERVERS)};
          const { pid, directory } = await startServer('${kind}');
          console.log(JSON.stringify({ pid, directory }));
          setInterval(() => {}, 1000);`;
        const child = spawn(process.execPath, ['--input-type=module', '-e', script]);
        const line = await new Promise<string>((resolve) =>
          child.stdout.once('data', (data) => resolve(String(data))),
        );
        const { pid, directory } = JSON.parse(line);
        expect(existsSync(directory)).toBe(true);
        child.kill('SIGKILL');
        await expect.poll(() => existsSync(directory), { timeout: 20_000 }).toBe(false);
        expect(() => process.kill(pid, 0)).toThrow();
      });
    },
    kind === 'redis' ? ['--appendonly', 'yes', '--appendfsync', 'always'] : [],
  );
}

test.skipIf(process.getuid?.() !== 0 || !existsSync('/etc/debian_version'))(
  'what is missing is installed without anything being started, and what fails is said',
  () => {
    const directory = temporaryDirectory();
    const calls = join(directory, 'calls');
    const apt = join(directory, 'apt-get');
    writeFileSync(
      apt,
      `#!/bin/sh\necho "$* policy=$(cat /usr/sbin/policy-rc.d | tail -1)" >> ${calls}\necho 'E: no such package' >&2\nexit 100\n`,
    );
    chmodSync(apt, 0o755);
    const script = `
      import { ensureServer } from ${JSON.stringify(INSTALL)};
      console.log(ensureServer('redis'));`;
    // No redis-server is found: the folder has none, and the usual places are hidden by another root for programs.
    const path = directory;
    const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      env: { PATH: `${path}:/bin`, SYNC_ENGINE_PROGRAMS: directory },
    });
    expect(run.stdout).toContain('apt-get install redis-server');
    expect(run.stdout).toContain('E: no such package');
    const said = readFileSync(calls, 'utf8').trim().split('\n');
    expect(said[0]).toMatch(/install -y --no-install-recommends .*redis-server policy=exit 101/);
    expect(said[1]).toMatch(/^update/);
    expect(existsSync('/tmp/sync-engine-install.lock')).toBe(false);
  },
);
