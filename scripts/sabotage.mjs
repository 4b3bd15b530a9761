// @ts-check
/**
 * Proves that the tests can fail: breaks the code in the ways that `sabotages.mjs` lists, one at a time, and
 * expects the named tests to turn red. It works on a copy of the workspace in a temporary directory.
 *
 *   node scripts/sabotage.mjs [--only <name>]… [--list]
 *
 * Ends with 1 where a sabotage stays green, no longer fits the code, or does not compile (then the compiler
 * notices it and the test is not proven); with 2 where it was called wrongly.
 */
import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { SABOTAGES } from './sabotages.mjs';

/** @typedef {import('./sabotages.mjs').Sabotage} Sabotage */
/** @typedef {{ verdict: 'red' | 'GREEN' | 'STALE' | 'NO BUILD' | 'NO RESULT', detail: string }} Outcome */
/** @typedef {{ passed: number, failed: string[] }} TestResult */

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** Neither belongs to the source nor is needed to build it. */
const NOT_COPIED = new Set(['node_modules', 'dist', 'coverage', '.git']);

/** A sabotage that makes a test wait for ever must not make this program wait. */
const RUN_LIMIT_MS = 5 * 60_000;

/** Ends the child that runs at the moment; for a stop by the user. */
let stopChild = () => {};

/**
 * A copy of the workspace in which the packages of the workspace are those of the copy, and all others are
 * links to the installed ones.
 * @returns {string}
 */
function copyWorkspace() {
  const copy = realpathSync(mkdtempSync(join(tmpdir(), 'sync-engine-sabotage-')));
  process.on('exit', () => rmSync(copy, { recursive: true, force: true }));
  cpSync(ROOT, copy, { recursive: true, filter: (path) => !NOT_COPIED.has(basename(path)) });
  linkModules(copy, '');
  return copy;
}

/**
 * Links the modules of `folder` and of the folders below it.
 * @param {string} copy
 * @param {string} folder
 */
function linkModules(copy, folder) {
  const modules = join(ROOT, folder, 'node_modules');
  if (existsSync(modules)) linkEach(modules, join(copy, folder, 'node_modules'), copy);
  for (const entry of readdirSync(join(copy, folder), { withFileTypes: true })) {
    if (entry.isDirectory() && !NOT_COPIED.has(entry.name)) linkModules(copy, join(folder, entry.name));
  }
}

/**
 * @param {string} source
 * @param {string} target
 * @param {string} copy
 */
function linkEach(source, target, copy) {
  mkdirSync(target);
  for (const entry of readdirSync(source, { withFileTypes: true })) {
    const from = join(source, entry.name);
    const to = join(target, entry.name);
    if (entry.name.startsWith('.')) continue;
    if (entry.name.startsWith('@') && entry.isDirectory()) linkEach(from, to, copy);
    else if (entry.isSymbolicLink() && isOurs(from)) symlinkSync(readlinkSync(from), to);
    else symlinkSync(from, to);
  }
}

/**
 * A package of the workspace: its link is relative, so in the copy it leads to the copy.
 * @param {string} link
 */
function isOurs(link) {
  const path = relative(ROOT, realpathSync(link));
  return !path.startsWith('..') && !path.split('/').includes('node_modules');
}

/**
 * @param {string} copy
 * @param {readonly string[]} args
 * @returns {Promise<{ code: number | null, output: string }>} `code` is null where it had to be ended.
 */
function run(copy, args) {
  const child = spawn(process.execPath, args, {
    cwd: copy,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  stopChild = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // The group is gone already.
    }
  };
  const limit = setTimeout(() => stopChild(), RUN_LIMIT_MS);
  // What the tests started and did not end goes with them.
  child.on('exit', () => stopChild());
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
  }
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(limit);
      stopChild = () => {};
      resolve({ code, output });
    });
  });
}

/**
 * Compiles the engine. A break may leave a name unused, which is no error here.
 * @param {string} copy
 * @returns {Promise<string | undefined>} What the compiler says, where it refuses.
 */
async function build(copy) {
  const tsc = join(copy, 'node_modules/typescript/bin/tsc');
  const loose = ['--noUnusedLocals', 'false', '--noUnusedParameters', 'false'];
  const { code, output } = await run(copy, [tsc, '-p', 'packages/engine/tsconfig.json', ...loose]);
  return code === 0 ? undefined : output.trim() || 'The compiler did not end.';
}

/**
 * @param {string} copy
 * @param {readonly string[]} tests
 * @returns {Promise<TestResult | string>} The text says why there is no result.
 */
async function runTests(copy, tests) {
  const report = join(copy, 'sabotage-report.json');
  rmSync(report, { force: true });
  const vitest = join(copy, 'node_modules/vitest/vitest.mjs');
  const { code, output } = await run(copy, [
    vitest,
    'run',
    // One red test is proof enough; the others might wait for their time limits.
    '--bail=1',
    '--reporter=json',
    `--outputFile=${report}`,
    ...tests,
  ]);
  if (code === null) return `It did not end within ${RUN_LIMIT_MS / 1000} s.`;
  if (!existsSync(report)) return lastLines(output);
  /** @type {{ numPassedTests: number, testResults: { status: string, message: string, assertionResults: { status: string, fullName: string }[] }[] }} */
  const result = JSON.parse(readFileSync(report, 'utf8'));
  const cases = result.testResults.flatMap((file) => file.assertionResults);
  const failed = cases.filter(({ status }) => status === 'failed').map(({ fullName }) => fullName);
  if (failed.length === 0 && code !== 0) {
    const broken = result.testResults.find(({ status }) => status === 'failed');
    return broken === undefined ? lastLines(output) : broken.message;
  }
  return { passed: result.numPassedTests, failed };
}

/**
 * @param {string} copy
 * @param {Sabotage} sabotage
 * @returns {Promise<Outcome>}
 */
async function prove(copy, sabotage) {
  const path = join(copy, sabotage.file);
  if (!existsSync(path)) return { verdict: 'STALE', detail: `${sabotage.file} is not there.` };
  const original = readFileSync(path, 'utf8');
  const places = original.split(sabotage.find).length - 1;
  if (places !== 1 || sabotage.find === sabotage.replace) {
    return { verdict: 'STALE', detail: `Its text occurs ${places} times in ${sabotage.file}; it must once.` };
  }
  // A function, because `$` in a plain replacement has a meaning.
  writeFileSync(
    path,
    original.replace(sabotage.find, () => sabotage.replace),
  );
  try {
    const refusal = await build(copy);
    if (refusal !== undefined) return { verdict: 'NO BUILD', detail: refusal };
    const result = await runTests(copy, sabotage.tests);
    if (typeof result === 'string') return { verdict: 'NO RESULT', detail: result };
    if (result.failed.length === 0) {
      return { verdict: 'GREEN', detail: `${result.passed} tests passed; none of them notices the break.` };
    }
    return { verdict: 'red', detail: /** @type {string} */ (result.failed[0]) };
  } finally {
    writeFileSync(path, original);
  }
}

/** @param {string} text */
function lastLines(text) {
  return text.trim().split('\n').slice(-15).join('\n') || 'There was no output.';
}

/**
 * @param {string} copy
 * @param {readonly Sabotage[]} chosen
 * @returns {Promise<boolean>} Whether the tests are green without a break: only then does red mean anything.
 */
async function provesSound(copy, chosen) {
  const refusal = await build(copy);
  const tests = [...new Set(chosen.flatMap((one) => one.tests))];
  const result = refusal ?? (await runTests(copy, tests));
  if (typeof result === 'string') console.error(`Without sabotage there is no result:\n${result}`);
  else if (result.failed.length > 0) {
    console.error(`Without sabotage these tests are red already:\n  ${result.failed.join('\n  ')}`);
  } else if (result.passed === 0) console.error('Without sabotage no test ran.');
  else {
    console.log(`Without sabotage: ${result.passed} tests pass.\n`);
    return true;
  }
  return false;
}

/**
 * @param {readonly string[] | undefined} names
 * @returns {readonly Sabotage[]}
 */
function choose(names) {
  const known = SABOTAGES.map(({ name }) => name);
  const twice = known.find((name, at) => known.indexOf(name) !== at);
  if (twice !== undefined) refuse(`Two sabotages are called ${twice}; give one another name.`);
  const unknown = names?.find((name) => !known.includes(name));
  if (unknown !== undefined) refuse(`There is no sabotage ${unknown}; --list shows them.`);
  return names === undefined ? SABOTAGES : SABOTAGES.filter(({ name }) => names.includes(name));
}

/**
 * @param {string} message
 * @returns {never}
 */
function refuse(message) {
  console.error(message);
  process.exit(2);
}

function options() {
  try {
    const known = /** @type {const} */ ({
      only: { type: 'string', multiple: true },
      list: { type: 'boolean' },
    });
    return parseArgs({ options: known }).values;
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error));
  }
}

async function main() {
  const { only, list } = options();
  const chosen = choose(only);
  const width = Math.max(...chosen.map(({ name }) => name.length));
  if (list === true) {
    for (const { name, guarantee } of chosen) console.log(`${name.padEnd(width)}  ${guarantee}`);
    return;
  }
  const copy = copyWorkspace();
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) {
    process.on(signal, () => {
      stopChild();
      process.exit(1);
    });
  }
  process.exitCode = 1;
  if (!(await provesSound(copy, chosen))) return;
  let unproven = 0;
  for (const sabotage of chosen) {
    const { verdict, detail } = await prove(copy, sabotage);
    if (verdict !== 'red') unproven++;
    console.log(`${sabotage.name.padEnd(width)}  ${verdict.padEnd(9)}  ${detail}`);
  }
  console.log(`\n${chosen.length - unproven} of ${chosen.length} sabotages turn their tests red.`);
  process.exitCode = unproven === 0 ? 0 : 1;
}

await main();
