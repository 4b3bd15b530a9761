/**
 * Runs the questions, each in a process of its own, and prints what they found, losses included.
 *
 *   node run.mjs [--write] [question …]     --write: also into results/
 */
import { execFileSync, fork } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';

const QUESTIONS = [
  'l1-get',
  'submit',
  'flush',
  'server-flush',
  'redis',
  'outage',
  'cold-get',
  'merkle',
  'filter',
  'missing',
  'start',
  'telemetry',
  'hit-ratio',
  'memory',
];
const write = process.argv.includes('--write');
const named = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const chosen = named.length === 0 ? QUESTIONS : named;
const here = fileURLToPath(new URL('.', import.meta.url));

const machine = {
  cpu: cpus()[0]?.model.trim() ?? 'unknown',
  cores: cpus().length,
  node: process.version,
  commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: here, encoding: 'utf8' }).trim(),
};
console.log(`${machine.cpu}, ${machine.cores} cores, Node ${machine.node}, commit ${machine.commit}\n`);

const answers = [];
for (const name of chosen) {
  if (!QUESTIONS.includes(name))
    throw new Error(`There is no question ${name}; there are ${QUESTIONS.join(', ')}.`);
  const answer = await ask(name);
  answers.push(answer);
  print(answer);
}
if (write) {
  mkdirSync(`${here}results`, { recursive: true });
  writeFileSync(`${here}results/latest.json`, `${JSON.stringify({ machine, answers }, undefined, 2)}\n`);
  writeFileSync(`${here}results/README.md`, page());
}

function ask(name) {
  return new Promise((resolve, reject) => {
    let answer;
    const child = fork(`${here}${name}.mjs`);
    child.on('message', (message) => {
      answer = message;
    });
    child.on('exit', (code) =>
      answer === undefined ? reject(new Error(`${name} ended with ${code} and no answer.`)) : resolve(answer),
    );
  });
}

/** Columns of a row: what, a second, ratio, wanted, met. */
function cells(row) {
  const figure = row.rate ?? row.value;
  const shown = row.rate === undefined ? figure.toFixed(1) : Math.round(figure).toLocaleString('en');
  const ratio = row.ratio === undefined ? '' : `${row.ratio.toFixed(2)} ×`;
  if (row.wanted !== undefined)
    return [row.what, shown, ratio, `≥ ${row.wanted} ×`, verdict(row.ratio >= row.wanted)];
  if (row.wantedRate !== undefined) {
    return [
      row.what,
      shown,
      ratio,
      `≥ ${row.wantedRate.toLocaleString('en')}`,
      verdict(figure >= row.wantedRate),
    ];
  }
  if (row.wantedLeast !== undefined)
    return [row.what, shown, ratio, `≥ ${row.wantedLeast.toFixed(1)}`, verdict(figure >= row.wantedLeast)];
  if (row.wantedMost !== undefined)
    return [row.what, shown, ratio, `≤ ${row.wantedMost}`, verdict(figure <= row.wantedMost)];
  return [row.what, shown, ratio, '', ''];
}

function verdict(met) {
  return met ? 'met' : 'NOT met';
}

function print({ question, rows }) {
  const lines = [['', 'a second', 'ratio', 'wanted', ''], ...rows.map(cells)];
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  console.log(question);
  for (const [what, ...figures] of lines) {
    const rest = figures.map((figure, at) => figure.padStart(widths[at + 1])).join('  ');
    console.log(`  ${what.padEnd(widths[0])}  ${rest}`.trimEnd());
  }
  console.log();
}

function page() {
  const tables = answers.map(({ question, rows }) => {
    const body = rows.map((row) => `| ${cells(row).join(' | ')} |`).join('\n');
    return `## ${question}\n\n| | a second | ratio | wanted | |\n|---|--:|--:|--:|---|\n${body}\n`;
  });
  const { cpu, cores, node, commit } = machine;
  return `# Results\n\n${cpu}, ${cores} cores, Node ${node}, commit ${commit}. Written by \`npm run bench -- --write\`; a ratio is of ours to the one named in its row.\n\n${tables.join('\n')}`;
}
