/** Archives on servers that are reached by TLS: with the authority that signed them, and not without. */
import { chmodSync, chownSync, copyFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { CREATE } from '#engine/testing/archive-contract.js';
import { revision } from '#engine/testing/revisions.js';
import { createDatabase, lackOf, startServer } from '../../../../scripts/servers/servers.mjs';
import { rejection } from '../support/engines.js';
import { type SqlKind, serverArchive, TLS } from '../support/servers.js';

/** Where the server, which runs as a user of its own, may read it, and nobody else. */
function lend(directory: string, path: string, name: string): string {
  const copy = join(directory, name);
  const { uid, gid } = statSync(directory);
  copyFileSync(path, copy);
  chownSync(copy, uid, gid);
  chmodSync(copy, 0o600);
  return copy;
}

const ARGS: Record<SqlKind, (cert: string, key: string) => string[]> = {
  mariadb: (cert, key) => [`--ssl-cert=${cert}`, `--ssl-key=${key}`],
  postgres: (cert, key) => ['-c', 'ssl=on', '-c', `ssl_cert_file=${cert}`, '-c', `ssl_key_file=${key}`],
};

for (const kind of ['mariadb', 'postgres'] as const) {
  test.skipIf(lackOf(kind) !== undefined)(
    `${kind}: a certificate is compared with the authority that the URL names`,
    async () => {
      const server = await startServer(kind);
      onTestFinished(() => server.stop());
      const url = await createDatabase(server);
      const cert = lend(server.directory, TLS.cert, 'server.crt');
      const key = lend(server.directory, TLS.key, 'server.key');
      await server.restart(ARGS[kind](cert, key));
      const opened = async (query: string) => {
        const store = serverArchive(url + query);
        onTestFinished(() => store.close());
        await store.open(CREATE);
        return store;
      };
      const trusted = await opened(`?sslmode=verify-full&sslca=${TLS.ca}`);
      await trusted.apply([revision()]);
      expect(await trusted.getMany(['a'])).toHaveLength(1);
      await opened('?sslmode=require');
      for (const query of ['?sslmode=verify-full', `?sslmode=verify-full&sslca=${TLS.otherCa}`]) {
        const error = await rejection(opened(query));
        expect(error.code).toBe('TIER_UNAVAILABLE');
        expect(error.message).not.toContain(server.password);
      }
    },
    120_000,
  );
}
