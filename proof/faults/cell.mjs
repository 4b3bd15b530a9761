// @ts-check
/**
 * One cell of the matrix: an engine under load, a fault that strikes, and the judgement. A cell in which the fault was not
 * observed has failed, like one with an answer that was wrong.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { SyncEngine } from '../../packages/engine/dist/index.js';
import { mountSmallDisk } from './faults.mjs';
import { History } from './history.mjs';

const SUBJECT = new URL('./subject.mjs', import.meta.url).pathname;
const CLOCK = new URL('./clock.mjs', import.meta.url).href;
const START_MS = 30_000;
/** Successful calls a second before the fault, and again after it. */
const RATE_MIN = 100;
const MEASURED_MS = 800;
const RECOVERY_MS = 30_000;
const OBSERVED_MS = 15_000;
/** Growth of the process that no fault excuses. */
const GROWTH_MAX = 200 * 1024 * 1024;

/** @typedef {import('./targets.mjs').Lane} Lane */
/** @typedef {import('./targets.mjs').Backend} Backend */
/** @typedef {import('./targets.mjs').Place} Place */
/**
 * @typedef {object} Fault
 * @property {string} name
 * @property {'sql' | 'redis' | 'host' | 'galera' | 'redis cluster'} on
 * @property {(context: Context) => Promise<(() => Promise<unknown>) | undefined>} strike Resolves with what ends it.
 * @property {(context: Context) => Promise<string | undefined> | string | undefined} observed What shows that it was there.
 * @property {number} [holdMs] It lasts at least so long.
 * @property {(backend: Backend) => boolean} [fits]
 * @property {(place: Place) => Record<string, unknown>} [config]
 * @property {readonly string[]} [node] Flags of its process.
 * @property {readonly string[]} [shell] What its process is started by.
 * @property {boolean} [ends] The process is meant to end.
 * @property {boolean} [after] It can be observed when it is over.
 * @property {number} [observedMs] How long it may take until it shows.
 * @property {number} [mounts] Its files are on a disk of so many megabytes.
 */
/**
 * @typedef {object} Context
 * @property {Place} place
 * @property {Subject} subject
 * @property {any} before The report when it struck.
 */
/**
 * @typedef {object} CellResult
 * @property {string} backend
 * @property {string} fault
 * @property {number} rate Successful calls a second before.
 * @property {number} open Calls under way when it struck.
 * @property {string} observed
 * @property {number} recoveryMs
 * @property {number} acknowledged
 * @property {readonly string[]} problems
 */

/** The process under test. */
class Subject {
  /** @type {any} */
  report = {};
  /** @type {any} */
  closed;
  /** @type {any} */
  files;
  /** @type {{ code: number | null, signal: string | null } | undefined} */
  exit;
  started = false;
  stderr = '';
  #child;
  #gone;

  /**
   * @param {Place} place
   * @param {History} history
   * @param {Fault} fault
   * @param {number} seed
   * @param {boolean} base
   */
  constructor(place, history, fault, seed, base) {
    const facts = JSON.stringify({
      config: { ...place.config, ...fault.config?.(place) },
      first: history.next,
      seed,
      base,
    });
    const command = [
      ...(fault.shell ?? []),
      process.execPath,
      '--import',
      CLOCK,
      ...(fault.node ?? []),
      SUBJECT,
      facts,
    ];
    this.#child = spawn(/** @type {string} */ (command[0]), command.slice(1), {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.#child.on('message', (/** @type {any} */ message) => {
      if (message.kind === 'report') this.report = message;
      else if (message.kind === 'started') this.started = true;
      else if (message.kind === 'closed') this.closed = message;
      else if (message.kind === 'files') this.files = message;
    });
    this.#child.stderr?.on('data', (chunk) => {
      this.stderr = `${this.stderr}${chunk}`.slice(-4000);
    });
    const lines = createInterface({
      input: /** @type {import('node:stream').Readable} */ (this.#child.stdout),
    });
    lines.on('line', (line) => history.note(line));
    this.#gone = new Promise((resolve) => {
      this.#child.once('close', (code, signal) => {
        this.exit = { code, signal };
        resolve(undefined);
      });
    });
  }

  get pid() {
    return /** @type {number} */ (this.#child.pid);
  }

  /** @param {string} name @param {number} [value] */
  order(name, value = 0) {
    if (this.#child.connected) this.#child.send({ order: name, value }, () => {});
  }

  /** @param {NodeJS.Signals} signal */
  signal(signal) {
    this.#child.kill(signal);
  }

  async gone() {
    await this.#gone;
  }

  /** Waits for a fact about it. Resolves with how long that took, -1 where it did not come. @param {() => unknown} fits @param {number} limitMs */
  async until(fits, limitMs) {
    const began = performance.now();
    for (;;) {
      if (await fits()) return Math.round(performance.now() - began);
      if (performance.now() - began > limitMs) return -1;
      await sleep(50);
    }
  }

  /** Successful calls a second, of late. */
  async rate() {
    const before = this.report.done ?? 0;
    const began = performance.now();
    await sleep(MEASURED_MS);
    return Math.round((((this.report.done ?? 0) - before) / (performance.now() - began)) * 1000);
  }
}

/** @param {Backend} backend */
export function nameOf({ sql, redis }) {
  return redis === false ? sql : `${sql} + redis${redis === 'cluster' ? ' cluster' : ''}`;
}

/**
 * @param {Lane} lane
 * @param {Backend} backend
 * @param {Fault} fault
 * @param {number} seed
 * @returns {Promise<CellResult>}
 */
export async function runCell(lane, backend, fault, seed) {
  /** @type {string[]} */
  const problems = [];
  const result = {
    backend: nameOf(backend),
    fault: fault.name,
    rate: 0,
    open: 0,
    observed: '',
    recoveryMs: -1,
    acknowledged: 0,
    problems,
  };
  /** @type {Place} */
  let place;
  let unmount;
  try {
    place = await lane.place(backend);
    if (fault.mounts !== undefined) unmount = mountSmallDisk(place.directory, fault.mounts);
  } catch (error) {
    problems.push(String(error));
    return result;
  }
  const history = new History();
  /** @type {(() => Promise<unknown>) | undefined} */
  let lift;
  let subject = new Subject(place, history, fault, seed, true);
  const begin = async () => {
    if (
      (await subject.until(() => subject.started || subject.exit !== undefined, START_MS)) < 0 ||
      subject.exit !== undefined
    )
      throw new Error(`the engine did not start: ${subject.stderr.slice(-400)}`);
    await subject.until(() => subject.report.healthy === true && subject.report.redisLag === 0, START_MS);
  };
  try {
    await begin();
    await sleep(300);
    result.rate = await subject.rate();
    if (result.rate < RATE_MIN) problems.push(`only ${result.rate} calls a second before the fault`);
    const before = subject.report;
    const context = { place, subject, before };

    result.open = subject.report.open;
    if (result.open === 0) problems.push('no call was under way when it struck');
    const struckAt = performance.now();
    lift = await fault.strike(context);
    const seen = async () => {
      const evidence = await fault.observed(context);
      if (evidence !== undefined) result.observed = evidence;
      return evidence !== undefined;
    };
    const observedMs = fault.observedMs ?? OBSERVED_MS;
    if (fault.after !== true) await subject.until(seen, observedMs);
    await sleep(Math.max(0, (fault.holdMs ?? 0) - (performance.now() - struckAt)));
    const ended = lift;
    lift = undefined;
    await ended?.();
    if (result.observed === '' && (await subject.until(seen, observedMs)) < 0)
      problems.push('the fault was not observed');

    if (fault.ends === true) {
      if ((await subject.until(() => subject.exit !== undefined, START_MS)) < 0)
        throw new Error('the process did not end');
      note(subject, problems);
      subject = new Subject(place, history, fault, seed + 1, false);
      await begin();
    } else if (subject.exit !== undefined) {
      throw new Error(
        `the process ended (${subject.exit.code ?? subject.exit.signal}): ${subject.stderr.slice(-400)}`,
      );
    }

    result.recoveryMs = await recovered(subject);
    if (result.recoveryMs < 0)
      problems.push(`not recovered after ${RECOVERY_MS} ms: ${JSON.stringify(facts(subject.report))}`);
    if (subject.report.rssMax - before.rss > GROWTH_MAX && fault.ends !== true)
      problems.push(`memory grew by ${Math.round((subject.report.rssMax - before.rss) / 2 ** 20)} MB`);
    note(subject, problems);
    subject.order('stop');
    if ((await subject.until(() => subject.exit !== undefined, 20_000)) < 0)
      problems.push('it did not shut down');
    else if (subject.closed === undefined || subject.exit?.code !== 0)
      problems.push(`it ended by ${subject.exit?.code}: ${subject.stderr.slice(-400)}`);
    else if (subject.closed.remaining > 0)
      problems.push(`${subject.closed.remaining} writes remained at the shutdown`);
    note(subject, problems);
    problems.push(...(await judged(place, history)));
    result.acknowledged = history.acknowledged;
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error));
  } finally {
    await lift?.().catch(() => {});
    if (subject.exit === undefined) subject.signal('SIGKILL');
    await subject.gone();
    unmount?.();
    await place.remove();
  }
  return result;
}

/** @param {Subject} subject @param {string[]} problems */
function note(subject, problems) {
  for (const problem of subject.closed?.problems ?? subject.report.problems ?? [])
    if (!problems.includes(problem)) problems.push(problem);
}

/** How long it took until everything is as before, without help. @param {Subject} subject */
async function recovered(subject) {
  const began = performance.now();
  while (performance.now() - began < RECOVERY_MS) {
    const { report } = subject;
    if (report.healthy === true && report.redisLag === 0 && report.pressure === 'Normal') {
      const ms = Math.round(performance.now() - began);
      const failed = total(report.errors);
      if ((await subject.rate()) >= RATE_MIN && total(subject.report.errors) === failed) return ms;
    }
    if (subject.exit !== undefined) throw new Error(`the process ended: ${subject.stderr.slice(-400)}`);
    await sleep(50);
  }
  return -1;
}

/** @param {Record<string, number>} errors */
function total(errors) {
  return Object.values(errors).reduce((sum, count) => sum + count, 0);
}

/** @param {any} report */
function facts({ healthy, sql, redis, redisLag, waiting, pressure, errors, warnings }) {
  return { healthy, sql, redis, redisLag, waiting, pressure, errors, warnings };
}

/** What an engine with an empty memory says afterwards. @param {Place} place @param {History} history */
async function judged(place, history) {
  const problems = [];
  const engine = new SyncEngine(place.direct);
  await engine.start();
  try {
    problems.push(...(await history.violations(engine)).slice(0, 5));
    const { corrupt, drift } = await engine.scrub();
    if (corrupt.length > 0 || drift.length > 0)
      problems.push(`the scrub found ${corrupt.length} corrupt rows and ${drift.length} wrong digests`);
    await engine.warmUp();
    const { trusted, missing } = await engine.verifyFilter();
    if (!trusted || missing > 0) problems.push(`the filter denies ${missing} rows`);
    const letters = await engine.deadLetters.list();
    if (letters.length > 0) problems.push(`${letters.length} writes were set aside: ${letters[0]?.reason}`);
  } finally {
    await engine.shutdown({ deadlineMs: 10_000 });
  }
  return problems;
}
