/** Suites on real servers, each with one of its own; skipped, with the reason, where there is none. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe } from 'vitest';
import { systemPorts } from '#engine/ports/system/system-ports.js';
import type { ArchiveStore } from '#engine/storage/archive-store.js';
import { MysqlDriver } from '#engine/storage/mysql/mysql-driver.js';
import { PostgresDriver } from '#engine/storage/postgres/postgres-driver.js';
import { ServerArchive } from '#engine/storage/server/server-archive.js';
import {
  createDatabase,
  lackOf,
  type PrivateServer,
  startServer,
} from '../../../../scripts/servers/servers.mjs';

export type SqlKind = 'mariadb' | 'postgres';
export const SQL_KINDS: readonly SqlKind[] = ['mariadb', 'postgres'];

const START_MS = 120_000;

const tls = (name: string): string => new URL(`./tls/${name}`, import.meta.url).pathname;
/**
 * A certificate of localhost and 127.0.0.1, the authority that signed it, and one that did not; good for a hundred years,
 * and for nothing but tests.
 */
export const TLS = {
  cert: tls('server.crt'),
  key: tls('server.key'),
  ca: tls('ca.crt'),
  otherCa: tls('other-ca.crt'),
};

/** @param args Of the server. */
export function onServer(
  kind: 'redis' | SqlKind,
  suite: (server: () => PrivateServer) => void,
  args: readonly string[] = [],
): void {
  const lack = lackOf(kind);
  if (lack !== undefined) {
    describe.skip(`${lack} Skipped`, () => suite(() => undefined as never));
    return;
  }
  describe(`on ${kind}`, () => {
    let server: PrivateServer | undefined;
    beforeAll(async () => {
      server = await startServer(kind, { args });
    }, START_MS);
    afterAll(() => server?.stop(), START_MS);
    suite(() => server as PrivateServer);
  });
}

export const BOUNDS = { sqlTimeoutMs: 10_000, sqlReadTimeoutMs: 2000 };

/** An archive on the database that the URL names. */
export function serverArchive(url: string, config = BOUNDS): ServerArchive {
  const Driver = url.startsWith('postgres') ? PostgresDriver : MysqlDriver;
  const fresh = { archiveId: randomBytes(16).toString('hex'), clusterKey: randomBytes(32).toString('hex') };
  return new ServerArchive(new Driver(url, config, systemPorts.scheduler), config, systemPorts, fresh);
}

/** A database of its own, made when it is first opened; stores on the same data each time `open` is called. */
export function freshArchive(server: PrivateServer): { url: string; open(): ArchiveStore } {
  const name = `t${randomBytes(6).toString('hex')}`;
  const url = server.url(name);
  let made: Promise<string> | undefined;
  return {
    url,
    open() {
      const store = serverArchive(url);
      const open = store.open.bind(store);
      store.open = async (options) => {
        made ??= createDatabase(server, name);
        await made;
        return open(options);
      };
      return store;
    },
  };
}
