/**
 * Kills Sync Engine and others in mid-write, several times, and counts what each had acknowledged and what is gone
 * after the restart; then starts each without its database. All is measured here and now.
 *   node compare.mjs [--kills 3] [--ms 700]
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { bad, dim, good, heading, number, seconds, table, verdict } from '../demo/screen.mjs';
import { contenders } from './contenders.mjs';
import { KNOWN, NEW, rowId, rowText } from './rows.mjs';

const { values: args } = parseArgs({
  options: { kills: { type: 'string', default: '3' }, ms: { type: 'string', default: '700' } },
});
const kills = Number(args.kills);
const CHILD = new URL('./child.mjs', import.meta.url).pathname;
/** Keyv's getMany looks through the whole answer for each id. */
const PAGE = 500;

const directory = mkdtempSync(join(tmpdir(), 'sync-engine-kill-'));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));
const began = performance.now();
const names = Object.keys(contenders);
const width = Math.max(...names.map((name) => name.length));
let places = 0;

console.log('Sync Engine and others · killed in mid-write, and started without their database');
for (const name of names) dim(`${name.padEnd(width)}  ${contenders[name].promises}`);
const results = await killAll();
const outages = await startAllWithoutDatabase();
end();

// ── Kill ───────────────────────────────────────────────────────────────────────────────────────────────────

async function killAll() {
  heading(`1  kill -9, ${kills === 1 ? 'once' : `${kills} times`} each, 256 requests in flight`);
  const rows = [['', 'acknowledged', 'a second', 'lost after each restart']];
  const all = new Map(names.map((name) => [name, []]));
  // They take turns, so a drift of the machine hits all alike.
  for (let at = 0; at < kills; at++) for (const name of names) all.get(name).push(await killOne(name));
  for (const [name, runs] of all) {
    const acknowledged = sum(runs, 'acknowledged');
    const rate = Math.round((acknowledged / sum(runs, 'ms')) * 1000);
    rows.push([name, number(acknowledged), number(rate), runs.map(({ lost }) => number(lost)).join(' · ')]);
  }
  table(rows);
  return all;
}

async function killOne(name) {
  const place = newPlace();
  const child = spawn(process.execPath, [CHILD, 'write', name, place], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.on('close', (_code, signal) => resolve(signal)));
  const ids = [];
  let ms = 0;
  let doomed = false;
  for await (const text of createInterface({ input: child.stdout })) {
    const report = JSON.parse(text);
    for (const at of report.ids) ids.push(at);
    ms += report.ms;
    if (doomed || ids.length === 0) continue;
    doomed = true;
    setTimeout(() => child.kill('SIGKILL'), Number(args.ms) * (0.5 + Math.random()));
  }
  if ((await ended) !== 'SIGKILL') throw new Error(`The writer of ${name} ended before it was killed.`);
  const lost = await lostOf(name, place, ids);
  rmSync(place, { recursive: true });
  return { acknowledged: ids.length, ms, lost };
}

async function lostOf(name, place, ids) {
  const { getMany, close } = await contenders[name].read(place);
  let lost = 0;
  for (let from = 0; from < ids.length; from += PAGE) {
    const page = ids.slice(from, from + PAGE);
    const found = await getMany(page.map(rowId));
    page.forEach((at, index) => {
      if (found[index] !== rowText(at)) lost++;
    });
  }
  await close();
  return lost;
}

// ── Outage ─────────────────────────────────────────────────────────────────────────────────────────────────

async function startAllWithoutDatabase() {
  heading('2  Started while the directory of the database is away, as an unmounted volume is');
  const rows = [['', 'a row that exists is', 'a write is', 'and after a crash, with the database back']];
  const all = new Map();
  for (const name of names) {
    const outage = await startWithoutDatabase(name);
    all.set(name, outage);
    const after = outage.write === 'acknowledged' ? (outage.kept ? 'there' : 'lost') : '–';
    rows.push(
      outage.started ? [name, outage.read, outage.write, after] : [name, '(does not start)', '–', '–'],
    );
  }
  table(rows);
  dim("Keyv tells of the outage by its event 'error', and rejects where throwOnErrors is set.");
  return all;
}

async function startWithoutDatabase(name) {
  const place = newPlace();
  run('fill', name, place);
  renameSync(join(place, 'sql'), join(place, 'away'));
  const told = run('outage', name, place);
  // Whatever was made in its stead gives way to the volume that is mounted again.
  rmSync(join(place, 'sql'), { recursive: true, force: true });
  renameSync(join(place, 'away'), join(place, 'sql'));
  const { getMany, close } = await contenders[name].read(place);
  const [known, fresh] = await getMany([KNOWN, NEW]);
  await close();
  if (known !== 'known') throw new Error(`${name} lost the row from before the outage.`);
  const outage = told === '' ? { started: false } : JSON.parse(told);
  return { ...outage, kept: fresh === 'new' };
}

function run(task, name, place) {
  const { stdout } = spawnSync(process.execPath, [CHILD, task, name, place], { encoding: 'utf8' });
  return stdout.trim();
}

// ── Help ───────────────────────────────────────────────────────────────────────────────────────────────────

function newPlace() {
  const place = join(directory, String(places++));
  mkdirSync(join(place, 'sql'), { recursive: true });
  return place;
}

function sum(runs, field) {
  return runs.reduce((total, one) => total + one[field], 0);
}

function end() {
  const ours = 'sync-engine, wal';
  const { read, write, kept } = outages.get(ours);
  const checks = [
    [sum(results.get(ours), 'lost') === 0, `${ours}: nothing acknowledged was lost to a kill`],
    [read === 'error TIER_UNAVAILABLE', `${ours}: a row it cannot look up is not called missing`],
    [
      write === 'acknowledged' && kept,
      `${ours}: what it acknowledged without the database is there afterwards`,
    ],
  ];
  console.log();
  for (const [holds, text] of checks) (holds ? good : bad)(text);
  console.log();
  dim(
    "Losses are what a mode says of itself: ours with ack 'memory' too. Who waits for a commit loses nothing",
  );
  dim('to a kill; the price is the rate, unless many writers share one commit, as they do in a log.');
  const passed = checks.every(([holds]) => holds);
  const took = seconds(performance.now() - began);
  verdict(passed, passed ? `As promised. (${took})` : `Sync Engine did not keep its promise. (${took})`);
  process.exitCode = passed ? 0 : 1;
}
