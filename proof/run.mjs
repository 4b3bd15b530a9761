// @ts-check
/**
 * The long proofs, and their table.
 *
 *   npm run proof -- [--only kills,simulation,faults,flips,fuzz,model] [--seed N] [--scale 0.01] [--write]
 *
 * `--write` puts the table into docs/proof.md, with versions, seed and commit; only where every part ran, at full scale.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { findServer } from '../scripts/servers/install.mjs';
import { lackOf } from '../scripts/servers/servers.mjs';
import { runFaults } from './faults.mjs';
import { runFlips } from './flips.mjs';
import { runFuzz } from './fuzz.mjs';

/**
 * @typedef {object} Part
 * @property {string} name
 * @property {(options: { seed: number, scale: number, print: (line: string) => void }) => Promise<PartResult>} run
 */
/** @typedef {{ ok: boolean, summary: readonly string[], table?: string }} PartResult */

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const KILLS = 1000;
const SEEDS = 10_000;
const FLIPS = 10_000;
const INPUTS = 5_000_000;

/** @type {readonly Part[]} */
const PARTS = [
  {
    name: 'kills',
    async run({ seed, scale, print }) {
      const kills = String(Math.max(2, Math.ceil(KILLS * scale)));
      const env = {
        CRASH_CYCLES: kills,
        SERVER_CRASH_CYCLES: kills,
        REDIS_CRASH_CYCLES: kills,
        CRASH_SEED: String(20_260_000 + seed),
      };
      const { passed, failed } = await vitest(['packages/engine/test/crash'], env, print);
      const archives = 'SQLite, MariaDB, PostgreSQL, SQLite with Redis, MariaDB with Redis';
      return {
        ok: failed === 0 && passed > 0,
        summary: [
          `${kills} random kills on each of: ${archives}; every named step. ${passed} tests passed, ${failed} failed.`,
        ],
      };
    },
  },
  {
    name: 'simulation',
    async run({ seed, scale, print }) {
      const seeds = Math.max(100, Math.ceil(SEEDS * scale));
      const from = seed * SEEDS;
      const env = { SIM_FROM: String(from), SIM_SEEDS: String(seeds), SIM_OPS: '200' };
      const { passed, failed } = await vitest(
        ['packages/engine/test/simulation/simulation.test.ts'],
        env,
        print,
      );
      return {
        ok: failed === 0 && passed > 0,
        summary: [
          `${seeds.toLocaleString('en')} seeds from ${from} of 200 operations each, ${Math.ceil(seeds / 100)} of them run twice with equal traces. ${passed} tests passed, ${failed} failed.`,
        ],
      };
    },
  },
  {
    name: 'faults',
    async run({ seed, scale, print }) {
      const dropped = { number: 0 };
      const { results, ok } = await runFaults({
        seed,
        print,
        fits: () => scale >= 1 || dropped.number++ % Math.round(1 / scale) === 0,
      });
      const rows = results
        .toSorted((a, b) => a.backend.localeCompare(b.backend))
        .map(
          ({ backend, fault, rate, open, observed, recoveryMs, acknowledged, problems }) =>
            `| ${backend} | ${fault} | ${rate} | ${open} | ${observed || 'not observed'} | ${(recoveryMs / 1000).toFixed(1)} s | ${acknowledged} | ${problems.length === 0 ? 'held' : problems.join('; ')} |`,
        );
      const failed = results.filter(({ problems }) => problems.length > 0).length;
      return {
        ok: ok && results.length > 0,
        summary: [`${results.length} cells, ${failed} failed.`],
        table: [
          '| backend | fault | calls/s before | under way | observed | back after | acknowledged writes | promises |',
          '|---|---|---|---|---|---|---|---|',
          ...rows,
        ].join('\n'),
      };
    },
  },
  {
    name: 'flips',
    async run({ seed, scale, print }) {
      const { rows, ok } = await runFlips({ seed, flips: Math.ceil(FLIPS * scale), print });
      return {
        ok,
        summary: rows.map(
          ({ what, flips, refused, repaired, unaffected, silent }) =>
            `${what}: ${flips.toLocaleString('en')} flips, ${refused} refused or reported, ${repaired} made anew or read from elsewhere, ${unaffected} in bits without use, ${silent.length} silent.`,
        ),
      };
    },
  },
  {
    name: 'fuzz',
    async run({ seed, scale, print }) {
      const { rows, ok } = await runFuzz({ seed, inputs: Math.ceil(INPUTS * scale), print });
      return {
        ok,
        summary: rows.map(
          ({ what, inputs, wrong }) => `${what}: ${inputs.toLocaleString('en')} inputs, ${wrong} wrong.`,
        ),
      };
    },
  },
  {
    name: 'model',
    async run({ print }) {
      const { code, output } = await child(process.execPath, ['formal/check.mjs'], {}, print);
      return { ok: code === 0, summary: output.trim().split('\n') };
    },
  },
];

/**
 * @param {string} program
 * @param {readonly string[]} args
 * @param {Record<string, string>} env
 * @param {(line: string) => void} print
 * @returns {Promise<{ code: number | null, output: string }>}
 */
function child(program, args, env, print) {
  return new Promise((resolve, reject) => {
    const one = spawn(program, args, {
      cwd: ROOT,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    one.stdout.on('data', (chunk) => {
      output += chunk;
      print(String(chunk).trimEnd());
    });
    one.stderr.on('data', (chunk) => print(String(chunk).trimEnd()));
    one.on('error', reject);
    one.on('close', (code) => resolve({ code, output }));
  });
}

/** @param {readonly string[]} files @param {Record<string, string>} env @param {(line: string) => void} print */
async function vitest(files, env, print) {
  const directory = mkdtempSync(join(tmpdir(), 'sync-engine-proof-'));
  const report = join(directory, 'report.json');
  try {
    const args = [
      'node_modules/vitest/vitest.mjs',
      'run',
      ...files,
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${report}`,
    ];
    // A proof without its servers is none.
    const { code } = await child(process.execPath, args, { ...env, CI: 'true' }, print);
    const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(report, 'utf8'));
    return { passed: numPassedTests, failed: numFailedTests + (code === 0 || numFailedTests > 0 ? 0 : 1) };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** @param {string} program @param {...string} args */
function said(program, ...args) {
  return execFileSync(program, args, { cwd: ROOT, encoding: 'utf8' }).trim();
}

function versions() {
  const servers = /** @type {const} */ (['redis', 'mariadb', 'postgres']).map(
    (kind) => said(/** @type {string} */ (findServer(kind)), '--version').split('\n')[0],
  );
  const [cpu] = cpus();
  return [
    `Node.js ${process.version}, ${process.platform} ${process.arch}`,
    `${cpus().length} cores (${cpu?.model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GB`,
    ...servers,
  ];
}

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    seed: { type: 'string', default: '1' },
    scale: { type: 'string', default: '1' },
    write: { type: 'boolean', default: false },
  },
});
const seed = Number(values.seed);
const scale = Number(values.scale);
const names = values.only?.split(',') ?? PARTS.map(({ name }) => name);
const unknown = names.filter((name) => !PARTS.some((part) => part.name === name));
if (unknown.length > 0 || !(seed >= 1) || !(scale > 0 && scale <= 1)) {
  console.error(
    `Parts are ${PARTS.map(({ name }) => name).join(', ')}; --seed is from 1, --scale above 0 and at most 1.`,
  );
  process.exit(2);
}
if (values.write && (values.only !== undefined || scale !== 1)) {
  console.error('--write needs every part at full scale.');
  process.exit(2);
}
for (const kind of /** @type {const} */ (['redis', 'mariadb', 'postgres'])) {
  const lack = lackOf(kind);
  if (lack !== undefined) {
    console.error(lack);
    process.exit(2);
  }
}

const commit =
  said('git', 'rev-parse', '--short', 'HEAD') +
  (said('git', 'status', '--porcelain') === '' ? '' : ' with changes');
const sections = [];
let ok = true;
const began = Date.now();
for (const { name, run } of PARTS) {
  if (!names.includes(name)) continue;
  console.log(`\n── ${name} ──`);
  const startedAt = Date.now();
  const result = await run({ seed, scale, print: (line) => console.log(line) });
  const minutes = ((Date.now() - startedAt) / 60_000).toFixed(1);
  ok &&= result.ok;
  sections.push({ name, minutes, ...result });
}
const minutes = ((Date.now() - began) / 60_000).toFixed(1);
console.log(
  `\n${sections.map(({ name, ok: held, minutes: took }) => `${held ? 'ok  ' : 'FAIL'} ${name.padEnd(12)} ${took} min`).join('\n')}\n${minutes} min, seed ${seed}, commit ${commit}`,
);
if (values.write) {
  const head = [
    '# Proof',
    '',
    `Written by \`npm run proof -- --write\`; what each part does is told in [CONTRIBUTING.md](../CONTRIBUTING.md).`,
    '',
    `Commit ${commit}, seed ${seed}, ${new Date(began).toISOString().slice(0, 10)}, ${minutes} minutes.`,
    '',
    ...versions().map((line) => `- ${line}`),
    '',
    '| part | result | minutes |',
    '|---|---|---|',
    ...sections.map(
      ({ name, ok: held, minutes: took }) => `| ${name} | ${held ? 'passed' : 'FAILED'} | ${took} |`,
    ),
  ];
  const body = sections.flatMap(({ name, summary, table }) => [
    '',
    `## ${name[0]?.toUpperCase()}${name.slice(1)}`,
    '',
    ...summary.map((line) => `- ${line}`),
    ...(table === undefined ? [] : ['', table]),
  ]);
  writeFileSync(join(ROOT, 'docs/proof.md'), `${[...head, ...body].join('\n')}\n`);
}
process.exitCode = ok ? 0 : 1;
