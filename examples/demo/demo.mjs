/**
 * The demo: a process is killed in mid-write and nothing that it had acknowledged is lost; then the life of
 * 171,075 items through import, reads, updates, deletes, an outage, and the comparison of two copies. Ends with a
 * verdict and an exit code.
 */
import { spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, renameSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { SyncEngine, SyncItem } from 'sync-engine';
import { counted } from './counted.mjs';
import { isPlace, placeCount, placeId, placeItem } from './places.mjs';
import {
  bad,
  dim,
  good,
  heading,
  latency,
  line,
  number,
  progress,
  seconds,
  table,
  verdict,
} from './screen.mjs';

/** The child is killed at a random moment between these two counts of acknowledgements. */
const KILL_FROM = 30_000;
const KILL_TO = 70_000;
const READS = 5000;
const UPDATES = 20_000;
const DELETES = 5000;
const UNKNOWN = 5000;
const OUTAGE_WRITES = 20_000;
const PAGE = 5000;

const directory = mkdtempSync(join(tmpdir(), 'sync-engine-demo-'));
const archiveFile = join(directory, 'places.db');
const config = { sqlUrl: `sqlite:${archiveFile}`, walPath: join(directory, 'places.wal'), ack: 'wal' };
const failures = [];
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

const began = performance.now();
let acknowledged = [];
const revisions = new Uint8Array(placeCount).fill(1); // what each place must read back as; 0: deleted

console.log('Sync Engine · memory → write-ahead log → SQLite');
dim(`${number(placeCount)} places of GeoNames (CC BY 4.0), in ${directory}`);

await kill();
let engine = new SyncEngine(config);
const restartMs = await timed(() => engine.start());
await survived();
await importRest();
await reads();
await changes();
await outage();
await copies();
await overview();
await engine.shutdown();
end();

// ── 1. Kill ────────────────────────────────────────────────────────────────────────────────────────────────

async function kill() {
  heading('1  A process is killed while it writes');
  const child = spawn(
    process.execPath,
    [new URL('./importer.mjs', import.meta.url).pathname, config.sqlUrl, config.walPath],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const killAt = KILL_FROM + Math.floor(Math.random() * (KILL_TO - KILL_FROM));
  acknowledged = [];
  let killed = false;
  const ended = new Promise((resolve) => child.on('close', (_code, signal) => resolve(signal)));
  for await (const text of createInterface({ input: child.stdout })) {
    for (const at of text.split(' ')) acknowledged.push(Number(at));
    if (!killed && acknowledged.length >= killAt) {
      killed = true;
      child.kill('SIGKILL');
    }
  }
  const signal = await ended;
  check(signal === 'SIGKILL', `the writer ended by ${signal}`, false);
}

async function survived() {
  let lost = 0;
  for (let from = 0; from < acknowledged.length; from += PAGE) {
    const page = acknowledged.slice(from, from + PAGE);
    const items = await engine.getMany(page.map((at) => placeId(at)));
    for (let at = 0; at < page.length; at++) if (!isPlace(items[at], page[at])) lost++;
  }
  check(
    lost === 0,
    `${number(acknowledged.length)} acknowledged · killed · restarted in ${seconds(restartMs)} · ${number(lost)} lost`,
  );
}

// ── 2. Import ──────────────────────────────────────────────────────────────────────────────────────────────

async function importRest() {
  heading('2  The import goes on to the end');
  const done = new Set(acknowledged);
  const rest = [];
  for (let at = 0; at < placeCount; at++) if (!done.has(at)) rest.push(at);
  const bar = progress(placeCount, 'importing');
  const started = performance.now();
  for (let from = 0; from < rest.length; from += PAGE) {
    const result = await engine.submitMany(rest.slice(from, from + PAGE).map((at) => placeItem(at)));
    if (result.failed > 0) failures.push(`${result.failed} writes of the import failed`);
    bar.update(done.size + Math.min(from + PAGE, rest.length));
  }
  await engine.flush();
  bar.stop();
  const ms = performance.now() - started;
  good(
    `${number(rest.length)} places in the log and in SQL in ${seconds(ms)}: ${number(Math.round((rest.length / ms) * 1000))} a second`,
  );
}

// ── 3. Reads ───────────────────────────────────────────────────────────────────────────────────────────────

async function reads() {
  heading('3  Reads, cold and warm');
  await engine.shutdown();
  engine = new SyncEngine(config);
  await engine.start();
  const chosen = Array.from({ length: READS }, () => Math.floor(Math.random() * placeCount));
  const rows = [['one awaited get', 'p50', 'p99']];
  for (const [name, ids] of [
    ['cold, from SQLite', [...new Set(chosen)]],
    ['warm, from memory', chosen],
  ]) {
    const times = [];
    let wrong = 0;
    for (const at of ids) {
      const started = performance.now();
      const item = await engine.get(placeId(at));
      times.push(performance.now() - started);
      if (!isPlace(item, at)) wrong++;
    }
    if (wrong > 0) failures.push(`${wrong} ${name} were wrong`);
    times.sort((a, b) => a - b);
    rows.push([name, latency(quantile(times, 0.5)), latency(quantile(times, 0.99))]);
  }
  table(rows);
  const others = Array.from({ length: 10 * PAGE }, (_, at) => Math.floor((at * placeCount) / (10 * PAGE)));
  const ms = await timed(() => Promise.all(others.map((at) => engine.get(placeId(at)))));
  good(
    `${number(others.length)} at once, batched per turn: ${number(Math.round((others.length / ms) * 1000))} a second`,
  );
}

// ── 4. Changes ─────────────────────────────────────────────────────────────────────────────────────────────

async function changes() {
  heading('4  Updates, deletes, and what does not exist');
  const step = Math.floor(placeCount / (UPDATES + DELETES));
  const updates = Array.from({ length: UPDATES }, (_, at) => at * step);
  const deletes = Array.from({ length: DELETES }, (_, at) => (UPDATES + at) * step);
  const updateMs = await timed(() =>
    engine.submitMany(
      updates.map((at) => placeItem(at, 2)),
      { ack: 'stored' },
    ),
  );
  for (const at of updates) revisions[at] = 2;
  good(`${number(UPDATES)} updates stored in SQL in ${seconds(updateMs)}`);
  const deleteMs = await timed(() =>
    engine.deleteMany(
      deletes.map((at) => placeId(at)),
      { ack: 'stored' },
    ),
  );
  for (const at of deletes) revisions[at] = 0;
  good(`${number(DELETES)} deletes stored in SQL in ${seconds(deleteMs)}`);
  check((await wrongIn([...updates, ...deletes])) === 0, 'every one of them reads back as written');
  const unknown = Array.from({ length: UNKNOWN }, (_, at) => `geo.ZZ._.Nowhere.${at}`);
  const { excluded } = engine.filterStats();
  let answers;
  const unknownMs = await timed(async () => {
    answers = await engine.getMany(unknown);
  });
  check(
    answers.every((item) => item === undefined),
    `${number(UNKNOWN)} ids that do not exist: all answered "not found", and that is true`,
  );
  const byFilter = engine.filterStats().excluded - excluded;
  good(`${number(byFilter)} of them by the filter, without asking SQL, in ${unknownMs.toFixed(1)} ms`);
}

// ── 5. Outage ──────────────────────────────────────────────────────────────────────────────────────────────

async function outage() {
  heading('5  SQL is away');
  await engine.shutdown();
  renameSync(archiveFile, `${archiveFile}.away`);
  engine = new SyncEngine(config);
  await engine.start();
  good(`the archive's file is gone; the engine is ${engine.state} all the same`);
  const step = Math.floor(placeCount / OUTAGE_WRITES);
  const written = Array.from({ length: OUTAGE_WRITES }, (_, at) => at * step);
  const result = await engine.submitMany(written.map((at) => placeItem(at, 3)));
  for (const at of written) revisions[at] = 3;
  check(result.failed === 0, `${number(result.succeeded)} writes acknowledged by the log meanwhile`);
  check((await wrongIn(written)) === 0, 'each of them is read back at once');
  const error = await engine.get(placeId(1)).then(
    (item) => ({ code: item === undefined ? 'called missing' : 'found' }),
    (thrown) => thrown,
  );
  check(error.code === 'TIER_UNAVAILABLE', `an id that only SQL knows: ${error.code}, not "not found"`);
  const health = await engine.healthCheck();
  for (const warning of health.warnings) dim(`healthCheck: ${warning.replaceAll(`${directory}/`, '')}`);
  if (existsSync(archiveFile)) failures.push('an archive was created in the place of the missing one');
  renameSync(`${archiveFile}.away`, archiveFile);
  const drainMs = await timed(async () => {
    while ((await engine.healthCheck()).wal.pendingItems > 0)
      await new Promise((resolve) => setTimeout(resolve, 5));
  });
  good(`the file is back: ${number(OUTAGE_WRITES)} writes drained into SQL in ${seconds(drainMs)}`);
}

// ── 6. Copies ──────────────────────────────────────────────────────────────────────────────────────────────

async function copies() {
  heading('6  Two copies, and where they differ');
  const root = await engine.merkleNode('');
  good(`${number(root.count)} rows, deletes included, under one hash of 16 bytes: ${root.hash}`);
  const countries = [...(await engine.merkleChildren('geo')).keys()];
  const rows = [['drill-down by country', 'rows', 'hash']];
  for (const country of ['FR', 'JP', 'ZA'].filter((one) => countries.includes(one))) {
    const { count, hash } = await engine.merkleNode(['geo', country]);
    rows.push([`geo.${country}`, number(count), hash]);
  }
  table(rows);
  await engine.shutdown();
  const copyFile = join(directory, 'copy.db');
  copyFileSync(archiveFile, copyFile);
  engine = new SyncEngine(config);
  const copy = new SyncEngine({ sqlUrl: `sqlite:${copyFile}` });
  await Promise.all([engine.start(), copy.start()]);
  check((await copy.merkleRoot()) === (await engine.merkleRoot()), 'a copy of the file has the same hash');

  const step = Math.floor(placeCount / 8);
  const changed = Array.from({ length: 5 }, (_, at) => placeId(at * step + 1));
  const gone = Array.from({ length: 3 }, (_, at) => placeId((at + 5) * step + 1));
  const fresh = ['geo.FR.11.Nouvelle-Ville.1', 'geo.ZZ._.Nowhere.1'];
  for (const id of [...changed, ...fresh]) await copy.submit(new SyncItem(id, 'only in the copy'));
  for (const id of gone) await copy.delete(id);
  await copy.flush();
  const { source, traffic } = counted(copy.merkle);
  const found = new Set();
  const ms = await timed(async () => {
    for await (const { id } of engine.drillDownDivergence(source)) found.add(id);
  });
  const expected = [...changed, ...gone, ...fresh];
  check(
    found.size === expected.length && expected.every((id) => found.has(id)),
    `ten places changed in it are found, and nothing else: ${number(traffic.bytes)} bytes in ${traffic.trips} round trips, ${ms.toFixed(0)} ms`,
  );
  dim(`the copy itself has ${mebibytes(statSync(copyFile).size)}`);
  await copy.shutdown();
}

// ── 7. Overview ────────────────────────────────────────────────────────────────────────────────────────────

async function overview() {
  heading('7  Where everything is');
  // A new engine has nothing in memory: what it answers comes from SQL.
  const { remaining } = await engine.shutdown();
  check(remaining === 0, `shut down, ${remaining} writes left behind`);
  engine = new SyncEngine(config);
  await engine.start();
  const { wrong, found } = await compare(Array.from({ length: placeCount }, (_, at) => at));
  const l1 = engine.l1Stats();
  const wal = engine.walStats();
  table([
    ['', 'items', 'bytes', 'waiting'],
    ['L1 memory, read back', number(l1.items), mebibytes(l1.bytes), number(l1.dirtyItems)],
    ['log', number(wal.pendingItems), mebibytes(wal.fileBytes), number(wal.pendingItems)],
    ['L3 SQLite', number(found), mebibytes(statSync(archiveFile).size), ''],
  ]);
  check(
    wrong === 0,
    `all ${number(placeCount)} places read from SQL and compared with what was acknowledged: ${number(wrong)} differ`,
  );
}

// ── Help ───────────────────────────────────────────────────────────────────────────────────────────────────

async function wrongIn(places) {
  return (await compare(places)).wrong;
}

/** Reads the places; counts those that exist and those that are not as they were acknowledged. */
async function compare(places) {
  let wrong = 0;
  let found = 0;
  for (let from = 0; from < places.length; from += PAGE) {
    const page = places.slice(from, from + PAGE);
    const items = await engine.getMany(page.map((at) => placeId(at)));
    page.forEach((at, place) => {
      const item = items[place];
      if (item !== undefined) found++;
      if (!(revisions[at] === 0 ? item === undefined : isPlace(item, at, revisions[at]))) wrong++;
    });
  }
  return { wrong, found };
}

async function timed(run) {
  const started = performance.now();
  await run();
  return performance.now() - started;
}

function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

function mebibytes(bytes) {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

function check(holds, text, shown = true) {
  if (!holds) failures.push(text);
  if (shown || !holds) (holds ? good : bad)(text);
}

function end() {
  const took = seconds(performance.now() - began);
  if (failures.length === 0) {
    verdict(true, `Nothing acknowledged was lost, nothing that exists was called missing. (${took})`);
  } else {
    verdict(false, `${failures.length} of the promises did not hold (${took}):`);
    for (const failure of failures) line(failure);
    process.exitCode = 1;
  }
  console.log('\nTry next:');
  line('node examples/quickstart/quickstart.mjs      twelve lines: submit, get, shutdown');
  line('npm run demo:kill                            the same kill beside other libraries, losses counted');
  line('npm test                                     the same promises under simulated and real crashes');
  line('npm run bench                                figures of this machine, beside other libraries');
}
