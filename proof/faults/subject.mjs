// @ts-check
/**
 * The process under test: an engine with writers and readers that never rest, and that judge each answer.
 *
 * Standard output is the history (history.mjs), a line before the next thing happens. By IPC it reports each 100 ms and
 * takes orders. Each id has one writer, so what a read may answer is known: the last acknowledged write of the id before
 * the read began, or a later one.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { SyncEngine, SyncEngineError, SyncItem } from '../../packages/engine/dist/index.js';
import { FLOOD_BYTES } from './faults.mjs';

const WRITERS = 12;
const READERS = 12;
/** Of the writers, those that never pause: some call is always under way. */
const RESTLESS = 2;
const IDS_PER_WRITER = 40;
/** Written once before anything happens; then only read. */
const BASE_IDS = 1500;
const BASE_AT_ONCE = 100;
const PACE_MS = 6;
/** Beyond the engine's own deadlines: turns of a busy loop. */
const SLACK_MS = 700;
const REPORT_MS = 100;
const TICK_MS = 20;

const { config, first, seed, base } = JSON.parse(process.argv[2] ?? '');
let state = seed >>> 0;
const random = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
};
/** @param {number} below */
const dice = (below) => Math.floor(random() * below);

/** The pipe does not block: under load it may take a part of a line, or nothing for a while. @param {string} line */
function tell(line) {
  const bytes = Buffer.from(`${line}\n`);
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(1, bytes, written);
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

const engine = new SyncEngine(config);
const readMs = config.sqlReadTimeoutMs + config.redisTimeoutMs + 50 + SLACK_MS;
const writeMs = config.submitTimeoutMs + SLACK_MS;

// ── What is counted ────────────────────────────────────────────────────────────────────────────────────────────

let done = 0;
let stale = 0;
/** @type {Record<string, number>} */
const errors = {};
/** @type {Set<string>} */
const problems = new Set();
/** Calls that are not settled: when they have to be. @type {Map<number, number>} */
const open = new Map();
let calls = 0;
/** For how long the loop stood still, all in all. */
let stalledMs = 0;
let rssMax = 0;
let flooding = false;
let stopping = false;
/** @type {NodeJS.Timeout | undefined} */
let reporting;

let tickAt = performance.now();
setInterval(() => {
  const now = performance.now();
  stalledMs += lateness(now);
  tickAt = now;
  rssMax = Math.max(rssMax, rss());
}, TICK_MS).unref();

/** @param {number} now */
function lateness(now) {
  return Math.max(0, now - tickAt - 2 * TICK_MS);
}

/** @returns {number} 0 where it cannot be asked: that takes a file descriptor. */
function rss() {
  try {
    return process.memoryUsage.rss();
  } catch {
    return 0;
  }
}

/** @param {string} text */
function problem(text) {
  if (problems.size < 20) problems.add(text);
}

/**
 * @template T
 * @param {string} what
 * @param {number} limitMs
 * @param {() => Promise<T>} call
 * @returns {Promise<T | SyncEngineError>}
 */
async function timed(what, limitMs, call) {
  const number = calls++;
  const began = performance.now();
  const stalledBefore = stalledMs + lateness(began);
  open.set(number, began + limitMs);
  /** @type {T | SyncEngineError} */
  let result;
  try {
    result = await call();
    done++;
  } catch (error) {
    if (!(error instanceof SyncEngineError)) throw error;
    errors[error.code] = (errors[error.code] ?? 0) + 1;
    result = error;
  }
  open.delete(number);
  const now = performance.now();
  const ms = now - began - (stalledMs + lateness(now) - stalledBefore);
  if (ms > limitMs) problem(`late: ${what} took ${Math.round(ms)} ms, its bound is ${limitMs}`);
  return result;
}

// ── The workload ───────────────────────────────────────────────────────────────────────────────────────────────

/** Of each id: the last acknowledged write, and whether later ones may be there. */
class Known {
  version = 0;
  /** @type {string | undefined} */
  text;
  /** Texts that were submitted and not acknowledged; `undefined`: a delete. @type {Set<string | undefined>} */
  maybe = new Set();
}
/** @type {Map<string, Known>} */
const known = new Map();
let number = first;

/** @param {number} writer */
async function write(writer) {
  while (!stopping) {
    const own = number++;
    const id = flooding ? `flood.${own}` : `w${writer}.${dice(IDS_PER_WRITER)}`;
    const deletes = !flooding && random() < 0.1;
    const ack = flooding || (writer >= RESTLESS && random() < 0.6) ? 'wal' : 'stored';
    const size = flooding ? FLOOD_BYTES : random() < 0.05 ? 20_000 : 60 + dice(400);
    const text = deletes ? undefined : String(own);
    let of = known.get(id);
    if (of === undefined) {
      of = new Known();
      known.set(id, of);
      // What earlier lives of this process wrote is the parent's to judge.
      if (first > 0) of.maybe.add('*');
    }
    of.maybe.add(text);
    tell(`s ${own} ${id} ${text ?? '-'}`);
    const result = await timed(`submit at '${ack}'`, writeMs, () =>
      text === undefined
        ? engine.delete(id, { ack })
        : engine.submit(new SyncItem(id, `${id}|${text}|`.padEnd(size, '.')), { ack }),
    );
    if (result instanceof SyncEngineError) {
      if (result.outcome === 'not-applied') of.maybe.delete(text);
      await sleep(result.code === 'BACKPRESSURE' ? 50 : PACE_MS);
    } else {
      of.version = result.version;
      of.text = text;
      // Those before it are over, whatever became of them; a version is never given twice.
      of.maybe.clear();
      tell(`a ${own} ${result.version}`);
      if (flooding ? random() < 0.02 : writer >= RESTLESS) await sleep(PACE_MS);
    }
  }
}

async function read() {
  while (!stopping) {
    const kind = random();
    if (kind < 0.45) await readWritten(`w${dice(WRITERS)}.${dice(IDS_PER_WRITER)}`);
    else if (kind < 0.9) await readBase(`base.${dice(BASE_IDS)}`);
    else await readAbsent(`nobody.${dice(1000)}`);
    await sleep(PACE_MS);
  }
}

/** @param {string} id */
async function readWritten(id) {
  const of = known.get(id);
  if (of === undefined) return;
  const { version } = of;
  const { text } = of;
  const item = await timed('get', readMs, () => engine.get(id));
  if (item instanceof SyncEngineError) return;
  // What was under way meanwhile may be seen, or not.
  const deleted = of.text === undefined || of.maybe.has(undefined) || of.maybe.has('*');
  if (item === undefined) {
    if (text !== undefined && !deleted && of.version === version)
      problem(`empty lie: ${id} ${text} was acknowledged, get says it is not there`);
  } else if (item.stale === true) stale++;
  else if (Number(item.version) < version)
    problem(`stale lie: ${id} is older than what was acknowledged (${item.text().split('|')[1]}, ${text})`);
}

/** @param {string} id */
async function readBase(id) {
  const item = await timed('get', readMs, () => engine.get(id));
  if (item instanceof SyncEngineError) return;
  if (item === undefined) problem(`empty lie: ${id} was stored, get says it is not there`);
  else if (!item.text().startsWith(`${id}|base|`)) problem(`lie: ${id} is ${item.text().slice(0, 30)}`);
}

/** @param {string} id */
async function readAbsent(id) {
  const item = await timed('get', readMs, () => engine.get(id));
  if (!(item instanceof SyncEngineError) && item !== undefined) problem(`lie: nobody wrote ${id}`);
}

// ── Reports and orders ─────────────────────────────────────────────────────────────────────────────────────────

/** @param {string} name @param {string} tier */
function counted(name, tier) {
  let sum = 0;
  for (const metric of engine.metrics())
    if (metric.name === name && metric.labels['tier'] === tier) sum += metric.value;
  return sum;
}

async function report() {
  const health = await engine.healthCheck();
  const now = performance.now();
  for (const [call, atMs] of open) {
    if (now - stalledMs - lateness(now) > atMs + 2000) {
      open.delete(call);
      problem('unsettled: a call is two seconds over its bound');
    }
  }
  process.send?.({
    kind: 'report',
    done,
    stale,
    errors,
    open: open.size,
    stalledMs,
    rss: rss(),
    rssMax,
    l1Bytes: health.l1Bytes,
    wallOffsetMs: Date.now() - performance.timeOrigin - performance.now(),
    healthy: health.healthy,
    sql: health.sql?.circuit,
    redis: health.redis?.circuit,
    redisLag: health.redisLag ?? 0,
    waiting: health.wal?.pendingItems ?? 0,
    pressure: health.backpressure.name,
    deadLetters: health.deadLetters,
    warnings: health.warnings,
    logStatus: counted('sync_engine_backend_healthy', 'wal'),
    sqlErrors: counted('sync_engine_errors', 'sql'),
    redisErrors: counted('sync_engine_errors', 'redis'),
    walErrors: counted('sync_engine_errors', 'wal'),
    damaged: counted('sync_engine_corruption', 'redis'),
    problems: [...problems],
  });
}

/** @type {number[]} */
const held = [];
/** @type {Record<string, (ms: number) => unknown>} */
const ORDERS = {
  stall: (ms) => {
    const end = performance.now() + ms;
    while (performance.now() < end);
  },
  clock: (ms) =>
    /** @type {{ setClock: (ms: number) => void }} */ (/** @type {unknown} */ (globalThis)).setClock(ms),
  /** Every descriptor that the limit leaves. */
  takeFiles: () => {
    try {
      for (;;) held.push(openSync('/dev/null', 'r'));
    } catch {
      process.send?.({ kind: 'files', held: held.length });
    }
  },
  giveFiles: () => {
    for (const file of held.splice(0)) closeSync(file);
  },
  flood: (on) => {
    flooding = on !== 0;
  },
  stop: () => void stop(),
};

async function stop() {
  stopping = true;
  clearInterval(reporting);
  const { remaining } = await engine.shutdown({ deadlineMs: 10_000 });
  if (!process.connected) return;
  process.send?.({ kind: 'closed', remaining, problems: [...problems] });
  process.disconnect();
}

process.on('message', (/** @type {{ order: string, value: number }} */ { order, value }) => {
  ORDERS[order]?.(value);
});
process.on('SIGTERM', () => void stop());

await engine.start();
for (let from = 0; base && from < BASE_IDS; from += BASE_AT_ONCE) {
  const items = Array.from({ length: BASE_AT_ONCE }, (_, at) => {
    const id = `base.${from + at}`;
    return new SyncItem(id, `${id}|base|`.padEnd(300, '.'));
  });
  const { results } = await engine.submitMany(items, { ack: 'stored' });
  const refused = results.find((result) => result instanceof Error);
  if (refused !== undefined) throw refused;
}
reporting = setInterval(() => void report(), REPORT_MS);
process.send?.({ kind: 'started' });
await Promise.all([
  ...Array.from({ length: WRITERS }, (_, writer) => write(writer)),
  ...Array.from({ length: READERS }, read),
]);
