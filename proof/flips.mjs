// @ts-check
/**
 * Flips single bits of what the engine keeps: log, filter snapshot, values in Redis, rows in SQL. Each must be noticed, or
 * change no answer. Never may an engine answer with another value, or call missing what was acknowledged, without a word.
 *
 *   node proof/flips.mjs [--flips 10000] [--seed N] [--only log|snapshot|redis|sql]
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import Database from 'better-sqlite3';
import { createClient } from 'redis';
import { SyncEngine, SyncEngineError, SyncItem } from '../packages/engine/dist/index.js';
import { startServer } from '../scripts/servers/servers.mjs';
import { Dice } from './random.mjs';

const ABANDON = new URL('./flips/abandon.mjs', import.meta.url).pathname;
const LOG_ITEMS = 60;
const ROWS = 500;

/**
 * @typedef {object} Tally
 * @property {string} what
 * @property {number} flips
 * @property {number} refused The start, or a read, said that something is damaged.
 * @property {number} repaired It was found, and what was damaged was made anew, or read from elsewhere.
 * @property {number} unaffected No answer was different: the bit is not in use.
 * @property {string[]} silent
 */

/** @param {string} what @returns {Tally} */
const tally = (what) => ({ what, flips: 0, refused: 0, repaired: 0, unaffected: 0, silent: [] });

/** @template T @param {(directory: string) => Promise<T>} run */
async function inDirectory(run) {
  const directory = mkdtempSync(join(tmpdir(), 'sync-engine-flips-'));
  try {
    return await run(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** @param {string} directory */
const settings = (directory) => ({
  sqlUrl: `sqlite:${join(directory, 'archive.db')}`,
  walPath: join(directory, 'log.db'),
});

/** @param {Dice} dice @param {number} at @returns {[string, string]} */
const item = (dice, at) => [
  `item.${at % 7}.${at}`,
  `${at}|`.padEnd(20 + dice.below(300), String.fromCharCode(97 + (at % 26))),
];

/** @param {string} path @param {Dice} dice */
function flipFile(path, dice) {
  const bytes = readFileSync(path);
  const bit = dice.below(bytes.length * 8);
  bytes[bit >> 3] = /** @type {number} */ (bytes[bit >> 3]) ^ (1 << (bit & 7));
  writeFileSync(path, bytes);
  return bit;
}

/**
 * Starts an engine on damaged files and compares every answer.
 * @param {string} directory
 * @param {readonly [string, string][]} items
 * @returns {Promise<{ outcome: 'refused' | 'repaired' | 'unaffected' } | { silent: string }>}
 */
async function judge(directory, items) {
  const said = [];
  const note = (/** @type {unknown} */ _fields, /** @type {string} */ text) => said.push(text);
  const logger = { debug() {}, info() {}, warn: note, error: note };
  const engine = new SyncEngine(settings(directory), { logger });
  try {
    await engine.start();
  } catch (error) {
    if (error instanceof SyncEngineError) return { outcome: 'refused' };
    return { silent: `the start threw ${String(error)}` };
  }
  try {
    let refused = false;
    for (const [id, text] of items) {
      try {
        const found = await engine.get(id);
        if (found === undefined) return { silent: `${id} is called missing` };
        if (found.text() !== text) return { silent: `${id} is ${found.text().slice(0, 40)}` };
      } catch (error) {
        if (!(error instanceof SyncEngineError)) return { silent: `get threw ${String(error)}` };
        refused = true;
      }
    }
    await engine.warmUp();
    const { missing } = await engine.verifyFilter();
    if (missing > 0) return { silent: `the filter denies ${missing} rows` };
    const { corruption } = /** @type {any} */ ({
      corruption: engine
        .metrics()
        .filter(({ name }) => name === 'sync_engine_corruption')
        .reduce((sum, { value }) => sum + value, 0),
    });
    if (refused) return { outcome: 'refused' };
    return { outcome: corruption > 0 || said.length > 0 ? 'repaired' : 'unaffected' };
  } finally {
    await engine.shutdown({ deadlineMs: 2000 });
  }
}

/** @param {Tally} into @param {Awaited<ReturnType<typeof judge>>} verdict @param {string} where */
function count(into, verdict, where) {
  into.flips++;
  if ('silent' in verdict) into.silent.push(`${where}: ${verdict.silent}`);
  else into[verdict.outcome]++;
}

/** @param {Dice} dice @param {number} flips */
async function flipLog(dice, flips) {
  const sums = tally('log');
  await inDirectory(async (source) => {
    const items = Array.from({ length: LOG_ITEMS }, (_, at) => item(dice, at));
    const config = { ...settings(source), batchFlushMs: 60_000, batchFlushCount: 100_000 };
    const { stderr, signal } = spawnSync(process.execPath, [ABANDON, JSON.stringify({ config, items })], {
      encoding: 'utf8',
    });
    if (signal !== 'SIGKILL') throw new Error(`the log was not written: ${stderr}`);
    const files = ['log.db', 'log.db-wal', 'log.db-mark'].filter(
      (name) => (statSync(join(source, name), { throwIfNoEntry: false })?.size ?? 0) > 0,
    );
    for (let flip = 0; flip < flips; flip++) {
      await inDirectory(async (directory) => {
        cpSync(source, directory, { recursive: true });
        // The file that holds more of the log is hit more often.
        const name = dice.pick(
          files.flatMap((one) => Array(Math.ceil(statSync(join(source, one)).size / 4096)).fill(one)),
        );
        const bit = flipFile(join(directory, name), dice);
        count(sums, await judge(directory, items), `${name}, bit ${bit}`);
      });
    }
  });
  return sums;
}

/** @param {Dice} dice @param {number} flips */
async function flipSnapshot(dice, flips) {
  const sums = tally('filter snapshot');
  await inDirectory(async (source) => {
    const items = Array.from({ length: 200 }, (_, at) => item(dice, at));
    const engine = new SyncEngine(settings(source));
    await engine.start();
    await engine.submitMany(
      items.map(([id, text]) => new SyncItem(id, text)),
      { ack: 'stored' },
    );
    await engine.shutdown();
    for (let flip = 0; flip < flips; flip++) {
      await inDirectory(async (directory) => {
        cpSync(source, directory, { recursive: true });
        const bit = flipFile(join(directory, 'log.db-filter'), dice);
        count(sums, await judge(directory, items), `bit ${bit}`);
      });
    }
  });
  return sums;
}

/** @param {Dice} dice @param {number} flips */
async function flipRedis(dice, flips) {
  const sums = tally('values in Redis');
  const server = await startServer('redis', { args: ['--save', ''] });
  try {
    await inDirectory(async (directory) => {
      const config = { ...settings(directory), redisUrl: server.url(), redisTimeoutMs: 5000 };
      const items = Array.from({ length: ROWS }, (_, at) => item(dice, at));
      const admin = createClient({ url: server.url(), RESP: 2 });
      await admin.connect();
      const writer = new SyncEngine(config);
      await writer.start();
      await writer.submitMany(
        items.map(([id, text]) => new SyncItem(id, text)),
        { ack: 'stored' },
      );
      while ((await writer.healthCheck()).redisLag !== 0)
        await new Promise((resolve) => setTimeout(resolve, 10));
      await writer.shutdown();
      while (sums.flips < flips) {
        const round = items.slice(0, flips - sums.flips);
        const keys = await admin.keys('*v:*');
        const byId = new Map(keys.map((key) => [key.slice(key.indexOf('item.')), key]));
        /** @type {Map<string, number>} */
        const flipped = new Map();
        for (const [id] of round) {
          const key = byId.get(id);
          if (key === undefined) continue;
          const bit = dice.below((await admin.strLen(key)) * 8);
          const old = /** @type {number} */ (await admin.getBit(key, bit));
          await admin.setBit(key, bit, old === 0 ? 1 : 0);
          flipped.set(id, bit);
        }
        const reader = new SyncEngine(config);
        await reader.start();
        const damaged = () =>
          reader
            .metrics()
            .filter(({ name, labels }) => name === 'sync_engine_corruption' && labels['tier'] === 'redis')
            .reduce((sum, { value }) => sum + value, 0);
        for (const [id, text] of round) {
          const bit = flipped.get(id);
          if (bit === undefined) throw new Error(`${id} is not in Redis`);
          const before = damaged();
          const found = await reader.get(id).catch((/** @type {unknown} */ error) => String(error));
          const right = typeof found === 'object' && found.text() === text;
          if (!right)
            count(
              sums,
              { silent: `${id} is ${typeof found === 'object' ? found.text().slice(0, 30) : found}` },
              `bit ${bit}`,
            );
          else count(sums, { outcome: damaged() > before ? 'repaired' : 'unaffected' }, '');
        }
        // Those that were damaged were read from SQL, and copied anew.
        for (let wait = 0; wait < 500 && (await admin.keys('*v:*')).length < ROWS; wait++)
          await new Promise((resolve) => setTimeout(resolve, 10));
        await reader.shutdown();
      }
      admin.destroy();
    });
  } finally {
    await server.stop();
  }
  // All of a value is under its checksum.
  if (sums.unaffected > 0) sums.silent.push(`${sums.unaffected} flips were not noticed`);
  return sums;
}

const COLUMNS = [
  'id',
  'version',
  'origin',
  'deleted',
  'content_hash',
  'leaf',
  'checksum',
  'content_type',
  'state',
  'content',
];

/** @param {Dice} dice @param {number} flips */
async function flipRows(dice, flips) {
  const sums = tally('rows in SQL');
  while (sums.flips < flips) {
    await inDirectory(async (directory) => {
      const items = Array.from({ length: Math.min(ROWS, flips - sums.flips) }, (_, at) => item(dice, at));
      const config = settings(directory);
      const writer = new SyncEngine(config);
      await writer.start();
      await writer.submitMany(
        items.map(([id, text]) => new SyncItem(id, text)),
        { ack: 'stored' },
      );
      await writer.shutdown();
      const columns = new Map(items.map(([id]) => [id, dice.pick(COLUMNS)]));
      const file = new Database(join(directory, 'archive.db'));
      for (const [id, column] of columns) flipColumn(file, id, column, dice);
      file.close();
      const reader = new SyncEngine(config);
      await reader.start();
      // A row whose id was damaged is not found under it: the scrub finds what is in its place.
      const report = await reader.scrub();
      const corrupt = new Set(report.corrupt);
      for (const [id, text] of items) {
        const column = /** @type {string} */ (columns.get(id));
        const found = await reader.get(id).catch((/** @type {unknown} */ error) => error);
        const where = `${id}, ${column}`;
        const noticed =
          column === 'id' ? report.corrupt.length > 0 && !itemsHave(items, report.corrupt) : corrupt.has(id);
        if (found instanceof SyncItem && found.text() !== text)
          count(sums, { silent: `it is ${found.text().slice(0, 30)}` }, where);
        else if (found instanceof SyncEngineError)
          count(sums, noticed ? { outcome: 'refused' } : { silent: 'the scrub did not find it' }, where);
        else if (noticed) count(sums, { outcome: 'refused' }, where);
        else
          count(
            sums,
            {
              silent:
                found === undefined
                  ? 'missing, and the scrub did not find it'
                  : 'served, and the scrub did not find it',
            },
            where,
          );
      }
      await reader.shutdown();
    });
  }
  return sums;
}

/** Whether all of these are ids of the items: then none is a damaged id. @param {readonly [string, string][]} items @param {readonly string[]} ids */
function itemsHave(items, ids) {
  const known = new Set(items.map(([id]) => id));
  return ids.every((id) => known.has(id));
}

/** @param {import('better-sqlite3').Database} file @param {string} id @param {string} column @param {Dice} dice */
function flipColumn(file, id, column, dice) {
  const old = file
    .prepare(`SELECT ${column} AS value FROM sync_items WHERE id = ?`)
    .safeIntegers(true)
    .pluck()
    .get(id);
  for (;;) {
    /** @type {unknown} */
    let next;
    if (typeof old === 'bigint') next = old ^ (1n << BigInt(dice.below(column === 'deleted' ? 3 : 40)));
    else {
      const bytes = Buffer.from(/** @type {string | Buffer} */ (old));
      const bit = dice.below(bytes.length * 8);
      bytes[bit >> 3] = /** @type {number} */ (bytes[bit >> 3]) ^ (1 << (bit & 7));
      next = typeof old === 'string' ? bytes.toString('latin1') : bytes;
    }
    // An id that is there already, or no text at all, is nothing that SQLite would hold.
    try {
      file.prepare(`UPDATE sync_items SET ${column} = ? WHERE id = ?`).run(next, id);
      return;
    } catch (error) {
      if (column !== 'id') throw error;
    }
  }
}

/** @type {readonly { name: string, share: number, run: (dice: Dice, flips: number) => Promise<Tally> }[]} */
const TARGETS = [
  { name: 'log', share: 0.2, run: flipLog },
  { name: 'snapshot', share: 0.1, run: flipSnapshot },
  { name: 'redis', share: 0.35, run: flipRedis },
  { name: 'sql', share: 0.35, run: flipRows },
];

/**
 * @param {{ seed: number, flips: number, only?: string | undefined, print: (line: string) => void }} options
 * @returns {Promise<{ rows: Tally[], ok: boolean }>}
 */
export async function runFlips({ seed, flips, only, print }) {
  const rows = [];
  for (const [index, { name, share, run }] of TARGETS.entries()) {
    if (only !== undefined && only !== name) continue;
    const began = performance.now();
    const sums = await run(new Dice(seed + index), Math.ceil(flips * (only === undefined ? share : 1)));
    rows.push(sums);
    const { what, refused, repaired, unaffected, silent } = sums;
    print(
      `${silent.length === 0 ? 'ok  ' : 'FAIL'} ${what.padEnd(16)} ${sums.flips} flips: ${refused} refused, ${repaired} repaired, ${unaffected} in bits without use, ${silent.length} silent; ${Math.round((performance.now() - began) / 1000)} s`,
    );
    for (const one of silent.slice(0, 5)) print(`      ${one}`);
  }
  return { rows, ok: rows.every(({ silent }) => silent.length === 0) };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { values } = parseArgs({
    options: {
      flips: { type: 'string', default: '10000' },
      seed: { type: 'string', default: '1' },
      only: { type: 'string' },
    },
  });
  const { ok } = await runFlips({
    seed: Number(values.seed),
    flips: Number(values.flips),
    only: values.only,
    print: (line) => console.log(line),
  });
  process.exitCode = ok ? 0 : 1;
}
