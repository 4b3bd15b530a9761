// @ts-check
/**
 * The fault matrix: each fault on each backend, while an engine is under load (faults/).
 *
 *   node proof/faults.mjs [--on sql|redis|host|galera|'redis cluster'] [--fault words] [--backend words] [--seed N] [--lanes N]
 */
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { nameOf, runCell } from './faults/cell.mjs';
import { FAULTS } from './faults/faults.mjs';
import { Lane } from './faults/targets.mjs';

/** @typedef {import('./faults/targets.mjs').Backend} Backend */
/** @typedef {import('./faults/cell.mjs').CellResult} CellResult */

/** @param {Backend} backend @param {import('./faults/cell.mjs').Fault['on']} on */
function suffers({ sql, redis }, on) {
  if (on === 'galera') return sql === 'galera';
  if (on === 'redis cluster') return redis === 'cluster';
  // A cluster has faults of its own.
  if (sql === 'galera' || redis === 'cluster') return false;
  if (on === 'sql') return sql !== 'sqlite';
  return on === 'host' || redis;
}

/** @type {readonly Backend[]} */
const BACKENDS = [
  { sql: 'mariadb', redis: false },
  { sql: 'mariadb', redis: true },
  { sql: 'postgres', redis: false },
  { sql: 'postgres', redis: true },
  { sql: 'sqlite', redis: false },
  { sql: 'sqlite', redis: true },
  { sql: 'galera', redis: false },
  { sql: 'galera', redis: true },
  { sql: 'galera', redis: 'cluster' },
  { sql: 'mariadb', redis: 'cluster' },
  { sql: 'postgres', redis: 'cluster' },
  { sql: 'sqlite', redis: 'cluster' },
];

/** Which faults a backend can suffer. */
const CELLS = BACKENDS.flatMap((backend) =>
  FAULTS.filter((fault) => fault.fits?.(backend) !== false)
    .filter(({ on }) => suffers(backend, on))
    .map((fault) => ({ backend, fault })),
);

/**
 * @param {{ seed: number, lanes?: number, fits?: (cell: typeof CELLS[number]) => boolean, print: (line: string) => void }} options
 * @returns {Promise<{ results: CellResult[], ok: boolean }>}
 */
export async function runFaults({ seed, lanes = 2, fits = () => true, print }) {
  const left = CELLS.filter(fits);
  /** @type {CellResult[]} */
  const results = [];
  let number = 0;
  const work = async () => {
    const lane = new Lane();
    try {
      for (let cell = left.shift(); cell !== undefined; cell = left.shift()) {
        const result = await runCell(lane, cell.backend, cell.fault, seed + number++);
        results.push(result);
        print(lineOf(result));
        for (const problem of result.problems) print(`      ${problem}`);
      }
    } finally {
      await lane.stop();
    }
  };
  await Promise.all(Array.from({ length: lanes }, work));
  return { results, ok: results.every(({ problems }) => problems.length === 0) };
}

/** @param {CellResult} result */
function lineOf({ backend, fault, rate, open, observed, recoveryMs, acknowledged, problems }) {
  const verdict = problems.length === 0 ? 'ok  ' : 'FAIL';
  const recovery = recoveryMs < 0 ? '–' : `${(recoveryMs / 1000).toFixed(1)} s`;
  return `${verdict} ${backend.padEnd(17)} ${fault.padEnd(34)} ${rate} calls/s, ${open} under way; ${observed || 'not observed'}; back after ${recovery}; ${acknowledged} acknowledged`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { values } = parseArgs({
    options: {
      on: { type: 'string' },
      fault: { type: 'string', default: '' },
      backend: { type: 'string' },
      seed: { type: 'string', default: '1' },
      lanes: { type: 'string', default: '2' },
    },
  });
  const began = Date.now();
  const { results, ok } = await runFaults({
    seed: Number(values.seed),
    lanes: Number(values.lanes),
    fits: ({ backend, fault }) =>
      fault.name.includes(values.fault) &&
      (values.on === undefined || fault.on === values.on) &&
      (values.backend === undefined || nameOf(backend) === values.backend),
    print: (line) => console.log(line),
  });
  const failed = results.filter(({ problems }) => problems.length > 0).length;
  console.log(`${results.length} cells, ${failed} failed, ${Math.round((Date.now() - began) / 1000)} s`);
  process.exitCode = ok ? 0 : 1;
}
