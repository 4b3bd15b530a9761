/** Ids that do not exist, asked of an engine whose filter is trusted. */
import { join } from 'node:path';
import { SyncEngine, SyncItem } from 'sync-engine';
import { compete, keep, rateOf, report, temporaryDirectory } from './measure.mjs';

const ROWS = 200_000;
const READS = 200_000;
const engine = new SyncEngine({ sqlUrl: `sqlite:${join(temporaryDirectory(), 'a.db')}` });
await engine.start();
await engine.submitMany(
  Array.from({ length: ROWS }, (_, at) => new SyncItem(`user.${at}.cart`, 'x')),
  { ack: 'memory' },
);
await engine.flush({ timeoutMs: 120_000 });
await engine.warmUp();
const absent = Array.from({ length: READS }, (_, at) => Buffer.from(`nobody.${at}.cart`).toString('latin1'));
const map = new Map();

const rates = await compete({
  get: () =>
    rateOf(READS, async () => {
      for (const id of absent) keep(await engine.get(id));
    }),
  definitelyMissing: () =>
    rateOf(READS, async () => {
      for (const id of absent) keep(engine.definitelyMissing(id));
    }),
  map: () =>
    rateOf(READS, async () => {
      for (const id of absent) keep(await map.get(id));
    }),
});
report(`Ids that do not exist, ${ROWS.toLocaleString('en')} rows in SQL`, [
  { what: 'awaited get', rate: rates.get, wantedRate: 1_000_000 },
  { what: 'definitelyMissing', rate: rates.definitelyMissing },
  { what: 'awaited Map.get', rate: rates.map, ratio: rates.get / rates.map },
]);
await engine.shutdown();
process.exit(0);
