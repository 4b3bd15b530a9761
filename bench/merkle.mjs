/**
 * Digests: what one more sibling costs a write, and what finding differences costs below a parent of a million.
 * The rows are made in the archive's own transaction, on this thread, without log and memory.
 */
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { SyncEngine } from 'sync-engine';
import { ArchiveFile } from '../packages/engine/dist/storage/sqlite/archive-file.js';
import { median, report, temporaryDirectory } from './measure.mjs';

const MILLION = 1_000_000;
const THOUSAND = 1000;
const UPDATES = 2000;
const KEY = 'd'.repeat(64);
const directory = temporaryDirectory();
const path = join(directory, 'left.db');
let version = 1e15;

const OPTIONS = {
  expectedId: undefined,
  mayCreate: true,
  mayDiffer: false,
  merkleEnabled: true,
  clusterKey: KEY,
};
const content = Buffer.alloc(64, 7);
const write = (id) => ({
  id,
  version: version++,
  origin: 'bench\0\0\0\0\0\0\0\0\0\0\x01',
  deleted: false,
  contentType: 'binary',
  state: 'default',
  content,
});

const file = new ArchiveFile(Database, path, 'the bench', 'writer');
file.open(OPTIONS, { archiveId: 'c'.repeat(32), clusterKey: KEY });
function applied(ids) {
  const started = performance.now();
  for (let from = 0; from < ids.length; from += 1000) {
    const writes = ids.slice(from, from + 1000).map(write);
    file.write((to) => to.apply(writes));
  }
  return (ids.length / (performance.now() - started)) * 1000;
}
const few = Array.from({ length: THOUSAND }, (_, at) => `few.${at}`);
applied(few);
applied(Array.from({ length: MILLION }, (_, at) => `many.${at}`));
// The same number of rows is touched, close together, so that only the number of siblings differs.
const amongFew = Array.from({ length: UPDATES }, (_, at) => `few.${at % THOUSAND}`);
const amongMany = Array.from({ length: UPDATES }, (_, at) => `many.${at % THOUSAND}`);
const rates = { few: [], many: [] };
for (let round = 0; round < 15; round++) {
  rates.few.push(applied(amongFew));
  rates.many.push(applied(amongMany));
}
file.close();

const rows = [
  { what: `updates below a parent with ${THOUSAND.toLocaleString('en')} children`, rate: median(rates.few) },
  {
    what: `updates below a parent with ${MILLION.toLocaleString('en')} children`,
    rate: median(rates.many),
    ratio: median(rates.many) / median(rates.few),
    wanted: 0.67,
  },
];

copyFileSync(path, join(directory, 'right.db'));
const engines = ['left', 'right'].map(
  (name) => new SyncEngine({ sqlUrl: `sqlite:${join(directory, `${name}.db`)}`, clusterKey: KEY }),
);
await Promise.all(engines.map((engine) => engine.start()));
const [left, right] = engines;
/** The other side, with what crosses to and from it counted: 16 bytes a hash, segments as UTF-8, 4 a number. */
const traffic = { bytes: 0, trips: 0 };
const text = (segments) => segments.reduce((sum, one) => sum + Buffer.byteLength(one) + 2, 0);
const remote = {
  keyId: right.merkle.keyId,
  async nodes(paths) {
    traffic.trips++;
    traffic.bytes += paths.reduce((sum, one) => sum + text(one), 0);
    const nodes = await right.merkle.nodes(paths);
    for (const node of nodes) if (node) traffic.bytes += 16 + 9 + (node.own ? 16 : 0);
    return nodes;
  },
  async children(at, page) {
    traffic.trips++;
    const children = await right.merkle.children(at, page);
    traffic.bytes += text(at) + text([...children.keys()]) + children.size * 16;
    return children;
  },
  async buckets(at, level, buckets) {
    traffic.trips++;
    traffic.bytes += text(at) + 4 + buckets.length * 4;
    const answers = await right.merkle.buckets(at, level, buckets);
    for (const answer of answers) {
      if (answer.hashes) traffic.bytes += answer.hashes.length;
      else traffic.bytes += text([...answer.children.keys()]) + answer.children.size * 16;
    }
    return answers;
  },
};

async function diff(expected) {
  traffic.bytes = traffic.trips = 0;
  const started = performance.now();
  let found = 0;
  for await (const _ of left.drillDownDivergence(remote, 'many')) found++;
  if (found !== expected) throw new Error(`${found} differences were found instead of ${expected}.`);
  // The first trip asks for the wide parent itself.
  return { bytes: traffic.bytes, trips: traffic.trips - 1, ms: performance.now() - started };
}
const { SyncItem } = await import('sync-engine');
const change = (at) => left.submit(new SyncItem(`many.${at}`, 'changed'), { ack: 'stored' });
await change(7);
const first = await diff(1);
const one = await diff(1);
for (let at = 1; at < 10; at++) await change(at * 99_991);
const ten = await diff(10);
for (const [name, found, bytes] of [
  ['1 difference', one, 4096],
  ['10 differences', ten, 32768],
]) {
  rows.push(
    { what: `${name} among a million children: bytes`, value: found.bytes, wantedMost: bytes },
    { what: `${name}: round trips below the parent`, value: found.trips, wantedMost: 5 },
    { what: `${name}: ms, buckets kept up`, value: found.ms },
  );
}
rows.push({ what: 'the first comparison, buckets of both sides built: ms', value: first.ms });
report('Digests: a write, and two trees of a million rows', rows);
await Promise.all(engines.map((engine) => engine.shutdown()));
process.exit(0);
