/** Sustained writing into SQLite: the engine, and a bare loop over a prepared statement. */
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { SyncEngine, SyncItem } from 'sync-engine';
import { compete, rateOf, report, temporaryDirectory } from './measure.mjs';

const ROWS = 100_000;
const BATCH = 1000;
const content = Buffer.alloc(256, 7);
const directory = temporaryDirectory();
const number = (at) => (at * 7919) % ROWS;
/** Four levels deep. Either every id has a path of its own above it, or a thousand share one. */
const lonely = (round, at) => `geo.GB.${number(at)}.${round}`;
const together = (round, at) => `geo.GB.${number(at) % 100}.${number(at)}-${round}`;

const withLog = new SyncEngine({
  sqlUrl: `sqlite:${join(directory, 'a.db')}`,
  walPath: join(directory, 'a.wal'),
  l1MaxBytes: 1024 ** 3,
});
const withoutLog = new SyncEngine({ sqlUrl: `sqlite:${join(directory, 'b.db')}`, l1MaxBytes: 1024 ** 3 });
const bare = new Database(join(directory, 'bare.db'));
bare.pragma('journal_mode = WAL');
bare.pragma('synchronous = FULL');
bare.pragma('wal_autocheckpoint = 8000');
bare.exec('CREATE TABLE rows (id TEXT NOT NULL UNIQUE, content BLOB NOT NULL)');
const upsert = bare.prepare(
  'INSERT INTO rows VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET content = excluded.content',
);
await withLog.start();
await withoutLog.start();

const engine = (target, ids) => (round) => {
  const items = Array.from({ length: ROWS }, (_, at) => new SyncItem(ids(round, at), content));
  return rateOf(ROWS, async () => {
    await target.submitMany(items, { ack: 'memory' });
    await target.flush({ timeoutMs: 120_000 });
  });
};
const loop = (ids) => (round) =>
  rateOf(ROWS, async () => {
    for (let from = 0; from < ROWS; from += BATCH) {
      bare.exec('BEGIN IMMEDIATE');
      for (let at = from; at < from + BATCH; at++) upsert.run(ids(round, at), content);
      bare.exec('COMMIT');
    }
  });

const rows = [];
for (const [name, ids, wanted] of [
  ['new rows, a path for each', lonely, 0.5],
  ['updates, a path for each', (_round, at) => lonely(0, at), 0.3],
  ['new rows, shared paths', together, 0.5],
  ['updates, shared paths', (_round, at) => together(0, at), 0.3],
]) {
  const rates = await compete(
    { loop: loop(ids), log: engine(withLog, ids), noLog: engine(withoutLog, ids) },
    3,
  );
  rows.push(
    { what: `bare loop, ${name}`, rate: rates.loop },
    { what: `engine, log and SQL, ${name}`, rate: rates.log, ratio: rates.log / rates.loop, wanted },
    { what: `engine, SQL alone, ${name}`, rate: rates.noLog, ratio: rates.noLog / rates.loop, wanted },
  );
}
report(
  'Sustained flush into SQLite with digests, 256 bytes, 1,000 rows a transaction, synchronous=FULL',
  rows,
);
await Promise.all([withLog.shutdown(), withoutLog.shutdown()]);
process.exit(0);
