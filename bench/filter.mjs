/**
 * The filter of all ids: its size, how often it is wrong, how fast it answers, how long an insertion can take,
 * and its snapshot. The longest insertion is the one that was long in each of three equal runs, since a
 * preempted process or a collection of the ids' garbage strikes another one each time.
 */
import { join } from 'node:path';
import { CuckooFilter } from '../packages/engine/dist/filter/cuckoo-filter.js';
import { FilterSnapshotFile } from '../packages/engine/dist/filter/filter-snapshot.js';
import { keep, loopDelay, median, report, temporaryDirectory } from './measure.mjs';

const ROUNDS = 5;
const SAMPLE = 1_000_000;
const seed = Uint8Array.from({ length: 16 }, (_, at) => at * 17 + 3);
const directory = temporaryDirectory();
const cover = { position: 1, chain: 'chain', archiveId: 'archive', collected: 0 };

/** Flat strings, as they come from a parser; one that was put together is first copied when it is hashed. */
function idsOf(count, from, step) {
  return Array.from({ length: count }, (_, at) =>
    Buffer.from(`user.${from + at * step}.cart`).toString('latin1'),
  );
}

function filled(count, shortest) {
  const filter = new CuckooFilter(seed);
  for (let at = 0; at < count; at++) {
    const id = `user.${at}.cart`;
    const started = performance.now();
    filter.insert(id);
    const took = performance.now() - started;
    if (took < shortest[at]) shortest[at] = took;
  }
  return filter;
}

function lookUps(filter, ids) {
  const rates = [];
  let found = 0;
  for (let round = 0; round <= ROUNDS; round++) {
    found = 0;
    const started = performance.now();
    for (const id of ids) if (filter.mightContain(id)) found++;
    if (round > 0) rates.push((ids.length / (performance.now() - started)) * 1000);
    keep(found);
  }
  return { rate: median(rates), found };
}

async function timed(run) {
  const started = performance.now();
  const value = await run();
  return { value, ms: performance.now() - started };
}

async function rowsOf(count) {
  const name = `${count / 1e6} M`;
  const shortest = new Float32Array(count).fill(Infinity);
  filled(count, shortest);
  filled(count, shortest);
  const filter = filled(count, shortest);
  const present = lookUps(filter, idsOf(SAMPLE, 0, count / SAMPLE));
  if (present.found !== SAMPLE) throw new Error(`${SAMPLE - present.found} ids were denied`);
  const absent = lookUps(filter, idsOf(SAMPLE, count, 1));

  const path = join(directory, name);
  const file = new FilterSnapshotFile(path);
  const whole = await timed(() => loopDelay(() => file.save(filter, cover)));
  for (const id of idsOf(1000, count * 2, 1)) filter.insert(id);
  const changed = await timed(() => file.save(filter, cover));
  const restored = await timed(() => loopDelay(() => new FilterSnapshotFile(path).load()));
  if (restored.value.value?.filter.count !== filter.count) throw new Error('Another filter came back');
  return [
    { what: `${name}: bits for a key`, value: (filter.bytes * 8) / filter.count, wantedMost: 40 },
    {
      what: `${name}: false positives in 100,000`,
      value: (absent.found / SAMPLE) * 1e5,
      wantedMost: 100,
    },
    { what: `${name}: look-ups, present`, rate: present.rate, wantedRate: 3e6 },
    { what: `${name}: look-ups, absent`, rate: absent.rate, wantedRate: 3e6 },
    {
      what: `${name}: longest insertion, ms`,
      value: shortest.reduce((a, b) => Math.max(a, b)),
      wantedMost: 5,
    },
    { what: `${name}: save, ms`, value: whole.ms },
    { what: `${name}: event loop during it, p99 ms`, value: whole.value.p99Ms, wantedMost: 5 },
    { what: `${name}: save after 1,000 more ids, ms (${changed.value.pages} pages)`, value: changed.ms },
    { what: `${name}: restore, ms`, value: restored.ms, wantedMost: 1000 },
    { what: `${name}: event loop during it, p99 ms`, value: restored.value.p99Ms, wantedMost: 5 },
  ];
}

report('The filter of all ids', [...(await rowsOf(1_000_000)), ...(await rowsOf(10_000_000))]);
