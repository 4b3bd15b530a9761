// @ts-check
/** The table of docs/mutation.md, from what Stryker left of each part. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PARTS } from './parts.mjs';

/** @typedef {{ source: string, mutants: { status: string }[] }} MutatedFile */

const PAGE = 'docs/mutation.md';
const BEGIN = '<!-- measured -->\n';
const END = '<!-- /measured -->';
const SOURCES = 'packages/engine/src/';

/** @param {readonly { status: string }[]} mutants */
function count(mutants) {
  /** @param {string} wanted */
  const of = (wanted) => mutants.filter(({ status }) => status === wanted).length;
  const [killed, survived, timeout, uncovered] = [
    of('Killed'),
    of('Survived'),
    of('Timeout'),
    of('NoCoverage'),
  ];
  // What no longer runs at all is neither seen nor missed by a test, and what is ignored was never tried.
  const all = killed + survived + timeout + uncovered;
  return { all, killed, survived, timeout, uncovered, score: (100 * (killed + timeout)) / all };
}

/** @param {string} name @param {string} files @param {ReturnType<typeof count>} of */
function row(name, files, { all, killed, survived, timeout, uncovered, score }) {
  return `| ${name} | ${files} | ${all} | ${killed} | ${survived} | ${timeout} | ${uncovered} | ${score.toFixed(1)} % |`;
}

/** @param {string} name */
function versionOf(name) {
  return JSON.parse(readFileSync(`node_modules/${name}/package.json`, 'utf8')).version;
}

/**
 * @param {string} results The folder.
 * @throws where a part has no result, or one of sources that have changed since.
 */
export function writeTable(results) {
  const rows = [];
  const everything = [];
  for (const { name } of PARTS) {
    /** @type {{ files: Record<string, MutatedFile> }} */
    const { files } = JSON.parse(readFileSync(join(results, `${name}.json`), 'utf8'));
    const mutants = [];
    const links = [];
    for (const [path, { source, mutants: own }] of Object.entries(files)) {
      if (readFileSync(path, 'utf8') !== source) throw new Error(`${path} has changed: run ${name} again.`);
      mutants.push(...own);
      links.push(`\`${path.replace(SOURCES, '')}\` ${count(own).score.toFixed(0)} %`);
    }
    everything.push(...mutants);
    rows.push(row(name, links.join(', '), count(mutants)));
  }
  const page = readFileSync(PAGE, 'utf8');
  const [begin, end] = [page.indexOf(BEGIN) + BEGIN.length, page.indexOf(END)];
  const measured = [
    `Stryker ${versionOf('@stryker-mutator/core')}, Vitest ${versionOf('vitest')}, Node.js ${process.version},`,
    `${new Date().toISOString().slice(0, 10)}. The score is (killed + timeout) / mutants.`,
    '',
    '| part | files, and the score of each | mutants | killed | survived | timeout | no coverage | score |',
    '|---|---|---|---|---|---|---|---|',
    ...rows,
    row('**all**', '', count(everything)),
    '',
  ];
  writeFileSync(PAGE, page.slice(0, begin) + measured.join('\n') + page.slice(end));
}
