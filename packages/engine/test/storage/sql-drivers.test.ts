/** What the drivers promise of the order of statements, and of values on their way. */
import { describe, expect, onTestFinished, test } from 'vitest';
import { systemPorts } from '#engine/ports/system/system-ports.js';
import { MysqlDriver } from '#engine/storage/mysql/mysql-driver.js';
import { PostgresDriver } from '#engine/storage/postgres/postgres-driver.js';
import type { Row, SqlDriver, Table } from '#engine/storage/server/sql-driver.js';
import { createDatabase, freePort, type PrivateServer } from '../../../../scripts/servers/servers.mjs';
import { rejection } from '../support/engines.js';
import { BOUNDS, onServer, SQL_KINDS, type SqlKind } from '../support/servers.js';

const MS = BOUNDS.sqlTimeoutMs;
const THINGS: Table = {
  name: 'things',
  columns: [
    { name: 'id', type: 'bytes' },
    { name: 'number', type: 'integer' },
    { name: 'text', type: 'bytes' },
  ],
};
const ALL = 'SELECT id, number, text FROM things ORDER BY id';
const thing = (id: string, number: number, text = ''): Row => [Buffer.from(id), number, Buffer.from(text)];
/** No server takes it: `number` may not be null. */
const REFUSED = 'UPDATE things SET number = NULL';

async function withThings(kind: SqlKind, server: PrivateServer): Promise<SqlDriver> {
  const url = await createDatabase(server);
  const Driver = kind === 'postgres' ? PostgresDriver : MysqlDriver;
  const driver = new Driver(url, BOUNDS, systemPorts.scheduler);
  onTestFinished(() => driver.close());
  await driver.connect();
  const bytes = kind === 'postgres' ? 'BYTEA' : 'VARBINARY(255)';
  await driver.session('read', MS, (session) =>
    session.run(
      `CREATE TABLE things (id ${bytes} PRIMARY KEY, number BIGINT NOT NULL, text ${bytes} NOT NULL)`,
    ),
  );
  return driver;
}

const all = (driver: SqlDriver): Promise<readonly Row[]> =>
  driver.session('read', MS, (session) => session.run(ALL));

for (const kind of SQL_KINDS) {
  onServer(kind, (server) => {
    test('of several nodes the one that is there is used, and none of the others keeps anything open', async () => {
      const one = new URL(await createDatabase(server()));
      const dead = await freePort();
      const Driver = kind === 'postgres' ? PostgresDriver : MysqlDriver;
      const url = one.href.replace(one.host, `127.0.0.1:${dead},${one.host}`);
      const driver = new Driver(url, BOUNDS, systemPorts.scheduler);
      onTestFinished(() => driver.close());
      for (let time = 0; time < 2; time++) {
        await driver.connect();
        const rows = await driver.session('read', MS, (session) => session.run('SELECT 1'));
        expect(rows.map((row) => Number(row[0]))).toEqual([1]);
      }
      expect(driver.place).toContain(`:${dead},127.0.0.1:${one.port}/`);
    });

    describe('statements of one transaction', () => {
      test('take effect in the order of the calls, though nobody waits for one of them', async () => {
        const driver = await withThings(kind, server());
        const seen = await driver.session('write', MS, async (session) => {
          session.insert(THINGS, [thing('a', 1), thing('b', 1)]);
          const between = session.run(ALL);
          session.replace(THINGS, [thing('a', 2)]);
          session.remove(THINGS, [Buffer.from('b')]);
          return between;
        });
        expect(seen.map((row) => row[1])).toEqual([1, 1]);
        expect(await all(driver)).toEqual([thing('a', 2)]);
      });

      test('are all undone where one failed that nobody waited for, and its error is the one that is told', async () => {
        const driver = await withThings(kind, server());
        await driver.session('write', MS, async (session) => session.insert(THINGS, [thing('a', 1)]));
        const unawaited = await rejection(
          driver.session('write', MS, async (session) => {
            session.insert(THINGS, [thing('b', 1)]);
            session.insert(THINGS, [thing('a', 9)]);
            session.insert(THINGS, [thing('c', 1)]);
          }),
        );
        expect((unawaited as Error).message).toMatch(/duplicate/i);
        const followed = await rejection(
          driver.session('write', MS, async (session) => {
            session.insert(THINGS, [thing('a', 9)]);
            session.insert(THINGS, [thing('c', 1)]);
            const keys = [Buffer.from('a')];
            return Promise.all([session.among('SELECT id FROM things', 'id', keys), session.run(ALL)]);
          }),
        );
        expect((followed as Error).message).toMatch(/duplicate/i);
        expect(await all(driver)).toEqual([thing('a', 1)]);
      });

      test('are all undone where one was refused that was waited for', async () => {
        const driver = await withThings(kind, server());
        await driver.session('write', MS, async (session) => session.insert(THINGS, [thing('a', 1)]));
        await rejection(
          driver.session('write', MS, async (session) => {
            session.insert(THINGS, [thing('b', 1)]);
            const refused = session.run(REFUSED);
            session.insert(THINGS, [thing('c', 1)]);
            await refused;
          }),
        );
        expect(await all(driver)).toEqual([thing('a', 1)]);
        // The connections are as good as before.
        await driver.session('write', MS, async (session) => session.insert(THINGS, [thing('d', 1)]));
        expect((await all(driver)).length).toBe(2);
      });
    });

    // A deadlock ends the transaction; what MariaDB is sent all the same is kept for good.
    test('what was called behind a statement that met a deadlock leaves nothing', async () => {
      const driver = await withThings(kind, server());
      await driver.session('write', MS, async (session) =>
        session.insert(THINGS, [thing('a', 0), thing('b', 0)]),
      );
      let waiting = 2;
      let go = (): void => {};
      const both = new Promise<void>((resolve) => {
        go = resolve;
      });
      const writer = (first: string, second: string): Promise<void> =>
        driver.session('write', MS, async (session) => {
          const touch = `UPDATE things SET number = number + 1 WHERE id = ?`;
          await session.run(touch, [Buffer.from(first)]);
          if (--waiting === 0) go();
          await both;
          const touched = session.run(touch, [Buffer.from(second)]);
          session.insert(THINGS, [thing(`made by ${first}`, 1)]);
          await touched;
        });
      const ends = await Promise.allSettled([writer('a', 'b'), writer('b', 'a')]);
      const failed = ends.filter((end) => end.status === 'rejected');
      expect(failed.map(({ reason }) => driver.isConflict(reason))).toEqual([true]);
      const made = ends[0]?.status === 'fulfilled' ? 'made by a' : 'made by b';
      expect(await all(driver)).toEqual([thing('a', 1), thing('b', 1), thing(made, 1)]);
    });

    // The engine's host would have died of it: the commit was already on its way, and nobody had waited for it yet.
    test('a connection that is cut before the commit is answered fails the transaction, and nothing else', async () => {
      const unhandled: unknown[] = [];
      const hear = (reason: unknown): void => void unhandled.push(reason);
      process.on('unhandledRejection', hear);
      onTestFinished(() => void process.off('unhandledRejection', hear));
      const driver = await withThings(kind, server());
      await driver.session('write', MS, async (session) => session.insert(THINGS, [thing('a', 1)]));
      const other = await driver.session('write', MS, async (holder) => {
        await holder.run('SELECT id FROM things FOR UPDATE');
        let cut: Promise<unknown> | undefined;
        const failed = rejection(
          driver.session('write', MS, async (session) => {
            const [row] = await session.run(
              kind === 'postgres' ? 'SELECT pg_backend_pid()' : 'SELECT CONNECTION_ID()',
            );
            const kill =
              kind === 'postgres' ? `SELECT pg_terminate_backend(${row?.[0]})` : `KILL ${row?.[0]}`;
            // When everything below has been sent, and waits for the holder's lock.
            cut = new Promise((resolve) => setImmediate(resolve)).then(() =>
              driver.session('read', MS, (another) => another.run(kill)),
            );
            session.replace(THINGS, [thing('a', 2)]);
          }),
        );
        const error = await failed;
        await cut;
        return error;
      });
      expect(other).toBeInstanceOf(Error);
      expect(await all(driver)).toEqual([thing('a', 1)]);
      expect(unhandled).toEqual([]);
    });

    test('numbers and bytes come back as they went', async () => {
      const driver = await withThings(kind, server());
      const numbers = [0, 1, -1, 2 ** 31, -(2 ** 31) - 1, 2 ** 32, -(2 ** 32), Number.MAX_SAFE_INTEGER];
      const rows = [...numbers, Number.MIN_SAFE_INTEGER].map((number, at) => [
        Buffer.from([at, 0, 0xff]),
        number,
        Buffer.from(at % 2 === 0 ? [] : [0, 0xff, 0x5c, 0x7b, 0x22]),
      ]);
      await driver.session('write', MS, async (session) => session.insert(THINGS, rows));
      expect(await all(driver)).toEqual(rows);
    });

    test('more keys than one statement takes are all found, and all removed', async () => {
      const driver = await withThings(kind, server());
      const rows = Array.from({ length: 2345 }, (_, at) => thing(String(at).padStart(5, '0'), at));
      const keys = rows.map((row) => row[0] as Buffer);
      const found = await driver.session('write', MS, async (session) => {
        session.insert(THINGS, rows);
        return session.among('SELECT id, number, text FROM things', 'id', keys, 'ORDER BY id');
      });
      expect(found).toEqual(rows);
      await driver.session('write', MS, async (session) => session.remove(THINGS, keys.slice(1)));
      expect(await all(driver)).toEqual([rows[0]]);
    });
  });
}
