/** From start() to a trusted filter, with a million rows in SQL: with a snapshot, and without. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { SyncEngine } from 'sync-engine';
import { ArchiveFile } from '../packages/engine/dist/storage/sqlite/archive-file.js';
import { median, report, temporaryDirectory } from './measure.mjs';

const ROWS = 1_000_000;
const directory = temporaryDirectory();
const path = join(directory, 'archive.db');
const KEY = 'd'.repeat(64);
const file = new ArchiveFile(Database, path, 'the bench', 'writer');
file.open(
  { expectedId: undefined, mayCreate: true, mayDiffer: false, merkleEnabled: true, clusterKey: undefined },
  { archiveId: 'c'.repeat(32), clusterKey: KEY },
);
for (let from = 0; from < ROWS; from += 1000) {
  const writes = Array.from({ length: 1000 }, (_, at) => ({
    id: `user.${from + at}`,
    version: 1e15 + from + at,
    origin: 'bench\0\0\0\0\0\0\0\0\0\0\x01',
    deleted: false,
    contentType: 'binary',
    state: 'default',
    content: Buffer.from('x'),
  }));
  file.write((to) => to.apply(writes));
}
file.close();

async function started(withSnapshot) {
  if (!withSnapshot) rmSync(join(directory, 'log.db-filter'), { force: true });
  const engine = new SyncEngine({ sqlUrl: `sqlite:${path}`, walPath: join(directory, 'log.db') });
  const before = performance.now();
  await engine.start();
  const running = performance.now() - before;
  await engine.warmUp();
  const trusted = performance.now() - before;
  const { checked, missing } = withSnapshot ? await engine.verifyFilter() : { checked: ROWS, missing: 0 };
  if (checked !== ROWS || missing !== 0) throw new Error(`The filter denied ${missing} of ${checked} ids.`);
  await engine.shutdown();
  return { running, trusted };
}
const without = [];
const withOne = [];
for (let round = 0; round < 3; round++) {
  without.push(await started(false));
  withOne.push(await started(true));
}
report('Start with a million rows in SQL', [
  { what: 'ms to Running, with a snapshot', value: median(withOne.map((one) => one.running)) },
  {
    what: 'ms to a trusted filter, with a snapshot',
    value: median(withOne.map((one) => one.trusted)),
    wantedMost: 2000,
  },
  { what: 'ms to Running, without', value: median(without.map((one) => one.running)) },
  { what: 'ms to a trusted filter, without', value: median(without.map((one) => one.trusted)) },
]);
process.exit(0);
