/** The archive on MariaDB and PostgreSQL: the contract of every archive, and what only servers bring about. */
import { randomBytes } from 'node:crypto';
import mysql from 'mysql2/promise';
import pg from 'pg';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SyncEngineError } from '#engine/base/errors.js';
import type { Revision } from '#engine/item/revision.js';
import type { ArchiveStore } from '#engine/storage/archive-store.js';
import { archiveContract, CREATE } from '#engine/testing/archive-contract.js';
import { revision } from '#engine/testing/revisions.js';
import { createDatabase, type PrivateServer } from '../../../../scripts/servers/servers.mjs';
import { rejection } from '../support/engines.js';
import {
  BOUNDS,
  freshArchive,
  onServer,
  SQL_KINDS,
  type SqlKind,
  serverArchive,
} from '../support/servers.js';

const START = { position: 0, chain: '0'.repeat(64) };

/** Runs statements as an administrator would. */
async function administer(url: string, ...statements: string[]): Promise<unknown[][]> {
  let rows: unknown[][] = [];
  if (url.startsWith('postgres')) {
    const client = new pg.Client(url);
    await client.connect();
    for (const text of statements) rows = (await client.query({ text, rowMode: 'array' })).rows;
    await client.end();
  } else {
    const connection = await mysql.createConnection(url.replace('mariadb', 'mysql'));
    for (const sql of statements)
      rows = (await connection.query({ sql, rowsAsArray: true }))[0] as unknown as unknown[][];
    await connection.end();
  }
  return rows;
}

async function opened(place: { open(): ArchiveStore }): Promise<ArchiveStore> {
  const store = place.open();
  onTestFinished(() => store.close());
  await store.open(CREATE);
  return store;
}

const write = (id: string, version: number, text = 'x', origin = 'a'): Revision =>
  revision({ id, version, origin: origin.padEnd(16, '\0'), content: Buffer.from(text) });

for (const kind of SQL_KINDS) {
  onServer(kind, (server) => {
    archiveContract(kind, () => freshArchive(server()));
    shared(kind, server);
    schema(kind, server);
  });
  // On a server without hundreds of databases, which is back at once after a kill.
  onServer(kind, (server) => failures(kind, server));
}

/** Several processes on one archive. */
function shared(_kind: SqlKind, server: () => PrivateServer): void {
  describe('several stores on one archive', () => {
    test('that write the same ids at once leave rows, digests, chain and change log exact', async () => {
      const seed = randomBytes(4).readUInt32BE();
      let state = seed;
      const random = (below: number): number => {
        state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
        return Math.floor((state / 2 ** 32) * below);
      };
      const place = freshArchive(server());
      const stores = [await opened(place), await opened(place), await opened(place)];
      const written: Revision[] = [];
      // Ids that are also paths above others, so that everyone makes and removes both kinds at once.
      const ids = ['a', 'b', 'a.b', 'a.b.c', 'a.b.d', 'a.c', 'b.a', 'b.a.a', '.', '..', 'x.y.z', 'x.y', 'x'];
      const rounds = stores.map(async (store, who) => {
        for (let round = 0; round < 25; round++) {
          const batch = new Map<string, Revision>();
          for (let at = 0; at < 6; at++) {
            const id = ids[random(ids.length)] as string;
            const version = 1 + random(400);
            const deleted = random(3) === 0;
            batch.set(id, {
              ...write(id, version, `${who} ${round}`, String.fromCharCode(97 + who)),
              ...(deleted ? { deleted, content: Buffer.alloc(0) } : {}),
            });
          }
          written.push(...batch.values());
          await store.apply([...batch.values()]);
        }
      });
      await Promise.all(rounds);
      const [store, other] = stores as [ArchiveStore, ArchiveStore];
      const newest = new Map<string, Revision>();
      for (const one of written) {
        const known = newest.get(one.id);
        const newer =
          known === undefined ||
          one.version > known.version ||
          (one.version === known.version &&
            (one.origin > known.origin || (one.origin === known.origin && one.deleted && !known.deleted)));
        if (newer) newest.set(one.id, one);
      }
      for (const row of await store.getMany(ids)) {
        if (row === undefined || row instanceof SyncEngineError) continue;
        const expected = newest.get(row.id);
        expect([row.id, row.version, row.origin, row.deleted], `seed ${seed}`).toEqual([
          expected?.id,
          expected?.version,
          expected?.origin,
          expected?.deleted,
        ]);
      }
      const { batches, head } = await store.changesSince(START, 10_000);
      expect(batches.map(({ position }) => position)).toEqual(batches.map((_, at) => at + 1));
      expect(batches.at(-1)).toMatchObject(head);
      // What one archive became by three at once, a fresh one becomes by one alone.
      const alone = await opened(freshArchive(server()));
      await alone.close();
      const paths = ids.flatMap((id) => {
        const segments = id.split('.');
        return segments.map((_, at) => segments.slice(0, at + 1));
      });
      const seen = await other.digests([[], ...paths]);
      for (const path of [[], ...paths]) expect(await store.verifyPath(path), `seed ${seed}`).toBe(true);
      // Children are counted one by one.
      for (const [at, path] of [[], ...paths].entries()) {
        const { children } = await store.children(path, undefined, 100);
        expect([path, seen[at]?.childCount ?? 0], `seed ${seed}`).toEqual([path, children.length]);
      }
    }, 60_000);

    test('that start at once on an empty database agree on one archive', async () => {
      const place = freshArchive(server());
      const stores = Array.from({ length: 4 }, () => place.open());
      onTestFinished(async () => void (await Promise.all(stores.map((store) => store.close()))));
      const infos = await Promise.all(stores.map((store) => store.open(CREATE)));
      expect(new Set(infos.map(({ archiveId, keyId }) => `${archiveId} ${keyId}`)).size).toBe(1);
      await (stores[0] as ArchiveStore).apply([write('a', 1)]);
      expect(await (stores[3] as ArchiveStore).getMany(['a'])).toMatchObject([{ id: 'a', version: 1 }]);
    });

    test('see what the others committed, in order', async () => {
      const place = freshArchive(server());
      const one = await opened(place);
      const two = await opened(place);
      await one.apply([write('a', 1)]);
      await two.apply([write('b', 2)]);
      await one.apply([write('a', 3)]);
      const { batches } = await two.changesSince(START, 100);
      expect(batches.flatMap(({ changes }) => changes.map(({ id, version }) => `${id}${version}`))).toEqual([
        'a1',
        'b2',
        'a3',
      ]);
    });
  });
}

function schema(kind: SqlKind, server: () => PrivateServer): void {
  describe('the tables', () => {
    test('that are half made are made whole, and those that were filled are not', async () => {
      const name = kind === 'postgres' ? "convert_to('schema', 'UTF8')" : "'schema'";
      const place = freshArchive(server());
      await (await opened(place)).close();
      // Whoever made it died before the last line, or has not come to it yet.
      await administer(place.url, `DELETE FROM sync_meta WHERE name = ${name}`);
      const store = await opened(place);
      await store.apply([revision()]);
      await store.close();
      await administer(place.url, `DELETE FROM sync_meta WHERE name = ${name}`);
      expect((await rejection(place.open().open(CREATE))).code).toBe('SCHEMA');
    });

    test('of a newer schema are refused untouched', async () => {
      const place = freshArchive(server());
      const store = await opened(place);
      await store.close();
      const name = kind === 'postgres' ? "convert_to('schema', 'UTF8')" : "'schema'";
      const value = kind === 'postgres' ? "convert_to('99', 'UTF8')" : "'99'";
      await administer(place.url, `UPDATE sync_meta SET value = ${value} WHERE name = ${name}`);
      const error = await rejection(place.open().open(CREATE));
      expect(error).toMatchObject({ code: 'SCHEMA' });
      expect(error.message).toContain('schema 99');
    });

    test('that somebody changed are refused, and what is missing is named', async () => {
      const place = freshArchive(server());
      const store = await opened(place);
      await store.close();
      await administer(place.url, 'ALTER TABLE sync_changes DROP COLUMN newest');
      const error = await rejection(place.open().open(CREATE));
      expect(error).toMatchObject({ code: 'SCHEMA' });
      expect(error.message).toContain('sync_changes.newest');
    });

    test('show JSON to people, and a broken document as nothing', async () => {
      const place = freshArchive(server());
      const store = await opened(place);
      await store.apply([
        revision({ id: 'good', contentType: 'json', content: Buffer.from('{"a":1}') }),
        revision({ id: 'broken', contentType: 'json', content: Buffer.from('{') }),
        revision({ id: 'bytes', content: Buffer.from('{}') }),
      ]);
      const rows = await administer(place.url, 'SELECT id, state, content FROM sync_items_json ORDER BY id');
      const shown = rows.map(([id, state, content]) => [
        id,
        state,
        typeof content === 'string' ? JSON.parse(content) : content,
      ]);
      expect(shown).toEqual([
        ['broken', 'default', null],
        ['good', 'default', { a: 1 }],
      ]);
    });

    test('whose row was changed by others are not served', async () => {
      const place = freshArchive(server());
      const store = await opened(place);
      await store.apply([write('a', 1), write('b', 1)]);
      const id = kind === 'postgres' ? "convert_to('a', 'UTF8')" : "'a'";
      await administer(place.url, `UPDATE sync_items SET version = 2 WHERE id = ${id}`);
      const [damaged, sound] = await store.getMany(['a', 'b']);
      expect(damaged).toMatchObject({ code: 'CORRUPTION', context: { id: 'a' } });
      expect(sound).toMatchObject({ id: 'b' });
      expect((await store.scrub(undefined, 10)).corrupt).toEqual(['a']);
    });
  });
}

function failures(kind: SqlKind, server: () => PrivateServer): void {
  describe('what goes wrong', () => {
    test('a row that the database refuses is refused by itself, and nothing of its batch is written', async () => {
      const place = freshArchive(server());
      const store = await opened(place);
      await administer(
        place.url,
        kind === 'postgres'
          ? "ALTER TABLE sync_items ADD CONSTRAINT short CHECK (content <> '\\x626164')"
          : "ALTER TABLE sync_items ADD CONSTRAINT short CHECK (content <> 'bad')",
      );
      const error = await rejection(store.apply([write('a', 1), write('b', 1, 'bad'), write('c', 1)]));
      expect(error).toMatchObject({ code: 'REJECTED' });
      expect(await store.getMany(['a', 'b', 'c'])).toEqual([undefined, undefined, undefined]);
      expect((await store.changesSince(START, 10)).head.position).toBe(0);
      await store.apply([write('a', 1), write('c', 1)]);
    });

    test('a server that stands still is given up at the deadline, and the connection with it', async () => {
      const place = freshArchive(server());
      const store = serverArchive(place.url, { sqlTimeoutMs: 1000, sqlReadTimeoutMs: 300 });
      onTestFinished(() => store.close());
      await (await opened(place)).close();
      await store.open(CREATE);
      server().pause();
      try {
        expect(await rejection(store.getMany(['a']))).toMatchObject({ code: 'TIER_UNAVAILABLE' });
        const late = await rejection(store.apply([write('a', 1)]));
        expect(late).toMatchObject({ code: 'TIER_UNAVAILABLE', outcome: 'indeterminate' });
        expect(late.message).toContain('no answer within 1000 ms');
      } finally {
        server().resume();
      }
      await store.apply([write('a', 2)]);
      expect(await store.getMany(['a'])).toMatchObject([{ version: 2 }]);
    });

    test('a server that dies is an outage; what it had committed is there when it is back', async () => {
      const place = freshArchive(server());
      const store = await opened(place);
      await store.apply([write('a', 1)]);
      await server().kill();
      expect(await rejection(store.getMany(['a']))).toMatchObject({ code: 'TIER_UNAVAILABLE' });
      expect(await rejection(store.open(CREATE))).toMatchObject({ code: 'TIER_UNAVAILABLE' });
      await server().restart();
      await store.open({ ...CREATE, mayCreate: false });
      expect(await store.getMany(['a'])).toMatchObject([{ version: 1 }]);
    });

    test('a writer that holds locks and stands still lets go of them before others give up', async () => {
      const place = freshArchive(server());
      const store = serverArchive(place.url, { ...BOUNDS, sqlTimeoutMs: 4000 });
      onTestFinished(() => store.close());
      await (await opened(place)).close();
      await store.open(CREATE);
      await store.apply([write('a', 1)]);
      // Another engine's session, paused in the middle of its transaction.
      const paused = serverArchive(place.url, { ...BOUNDS, sqlTimeoutMs: 4000 }) as unknown as {
        open: ArchiveStore['open'];
        close: ArchiveStore['close'];
      };
      onTestFinished(() => paused.close());
      await paused.open(CREATE);
      const { MysqlDriver } = await import('#engine/storage/mysql/mysql-driver.js');
      const { PostgresDriver } = await import('#engine/storage/postgres/postgres-driver.js');
      const { systemPorts } = await import('#engine/ports/system/system-ports.js');
      const Driver = kind === 'postgres' ? PostgresDriver : MysqlDriver;
      const driver = new Driver(place.url, { sqlTimeoutMs: 4000 }, systemPorts.scheduler);
      onTestFinished(() => driver.close());
      await driver.connect();
      let resume = (): void => {};
      const holding = driver.session('write', 20_000, async (session) => {
        await session.run('SELECT one FROM sync_root FOR UPDATE');
        await new Promise<void>((resolve) => {
          resume = resolve;
        });
      });
      holding.catch(() => {});
      await expect.poll(() => resume.name).not.toBe('resume');
      expect((await store.apply([write('a', 2)])).flags[0]).toBeGreaterThan(0);
      resume();
      await rejection(holding);
    });

    test('credentials are in no message', async () => {
      const { port, password } = server();
      const wrong = `secret${password}`;
      for (const url of [
        `${kind}://sync:${wrong}@127.0.0.1:${port}/test`,
        `${kind}://sync:${password}@127.0.0.1:${port}/no_such_database`,
        `${kind}://sync:${wrong}@127.0.0.1:1/test`,
      ]) {
        const error = await rejection(serverArchive(url).open(CREATE));
        expect(error.code).toBe('TIER_UNAVAILABLE');
        const said = `${error.message} ${JSON.stringify(error.context)}`;
        expect(said).not.toContain(password);
        expect(said).toContain('127.0.0.1');
      }
      for (const url of [
        `${kind}://sync:${wrong}@127.0.0.1:${port}`,
        `${kind}://sync:${wrong}@h/db?ssl=yes`,
      ]) {
        let error: SyncEngineError | undefined;
        try {
          serverArchive(url);
        } catch (thrown) {
          error = thrown as SyncEngineError;
        }
        expect(error?.code).toBe('CONFIG');
        expect(error?.message).not.toContain(wrong);
      }
    });

    test('settings that lose commits are said', async () => {
      const url = await createDatabase(server());
      const store = serverArchive(url);
      onTestFinished(() => store.close());
      expect((await store.open(CREATE)).warnings).toEqual([]);
      const [weaken, strengthen] =
        kind === 'postgres'
          ? ['ALTER SYSTEM SET synchronous_commit = off', 'ALTER SYSTEM RESET synchronous_commit']
          : [
              'SET GLOBAL innodb_flush_log_at_trx_commit = 2',
              'SET GLOBAL innodb_flush_log_at_trx_commit = 1',
            ];
      const reload = kind === 'postgres' ? ['SELECT pg_reload_conf()'] : [];
      await administer(url, weaken, ...reload);
      try {
        await expect.poll(async () => (await store.open(CREATE)).warnings.join()).toContain('may lose');
      } finally {
        await administer(url, strengthen, ...reload);
      }
    });
  });
}
