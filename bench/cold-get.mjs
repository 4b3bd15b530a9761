/** Values that only SQLite has: many gets at once, a hand-written IN (…), and gets one after the other. */
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { SyncEngine, SyncItem } from 'sync-engine';
import { compete, keep, rateOf, report, temporaryDirectory } from './measure.mjs';

const ROWS = 200_000;
const READS = 10_000;
const SINGLE_READS = 1000;
const PER_QUERY = 1000;
const path = join(temporaryDirectory(), 'archive.db');
const ids = Array.from({ length: ROWS }, (_, at) => `geo.GB.place.${at}`);

const filling = new SyncEngine({ sqlUrl: `sqlite:${path}`, l1MaxBytes: 1024 ** 3 });
await filling.start();
await filling.submitMany(ids.map((id) => new SyncItem(id, Buffer.alloc(256, 7))));
await filling.flush({ timeoutMs: 120_000 });
await filling.shutdown();

/** Memory too small to keep what was read: every read is cold. */
const engine = new SyncEngine({ sqlUrl: `sqlite:${path}`, l1MaxBytes: 64 * 1024 });
await engine.start();
const reader = new Database(path, { readonly: true });
const query = reader.prepare(
  `SELECT id, content FROM sync_items WHERE id IN (${Array.from({ length: PER_QUERY }, () => '?').join(',')})`,
);
const chosen = (round, count) =>
  Array.from({ length: count }, (_, at) => ids[(round * 50_021 + at * 7919) % ROWS]);

const rates = await compete({
  'at once': (round) => {
    const wanted = chosen(round, READS);
    return rateOf(READS, async () => {
      for (const item of await Promise.all(wanted.map((id) => engine.get(id)))) keep(item);
    });
  },
  'hand-written': (round) => {
    const wanted = chosen(round, READS);
    return rateOf(READS, async () => {
      const found = new Map();
      for (let from = 0; from < READS; from += PER_QUERY) {
        for (const row of query.all(...wanted.slice(from, from + PER_QUERY))) found.set(row.id, row.content);
      }
      for (const id of wanted) keep(found.get(id));
    });
  },
  'one by one': (round) => {
    const wanted = chosen(round, SINGLE_READS);
    return rateOf(SINGLE_READS, async () => {
      for (const id of wanted) keep(await engine.get(id));
    });
  },
});
report('Values that only SQLite has, 256 bytes', [
  { what: `${READS.toLocaleString('en')} gets at once`, rate: rates['at once'] },
  {
    what: 'hand-written IN (…), this thread, no checksum',
    rate: rates['hand-written'],
    ratio: rates['at once'] / rates['hand-written'],
    wanted: 0.7,
  },
  {
    what: 'gets one after the other',
    rate: rates['one by one'],
    ratio: rates['at once'] / rates['one by one'],
    wanted: 8,
  },
]);
await engine.shutdown();
process.exit(0);
