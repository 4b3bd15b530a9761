// @ts-check
/**
 * Tests the tests: Stryker changes the sources of each part, one small change at a time, and counts the changes
 * that no test notices.
 *
 *   npm run mutation -- [--only <part>,…] [--mutate <file below src>,…] [--fresh] [--write]
 *
 * The result of a part stays in `tmp/mutation/<part>.json`: what is known of mutants whose source and tests did
 * not change is not found out again, but with `--fresh`. `--write` puts the table of all parts into
 * docs/mutation.md; with `--only ''` nothing else happens.
 */

import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Stryker } from '@stryker-mutator/core';
import { PARTS } from './parts.mjs';
import { writeTable } from './table.mjs';

/** @typedef {import('./parts.mjs').Part} Part */

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const RESULTS = 'tmp/mutation';

/** @param {Part} part @param {readonly string[]} sources @param {string} fileName */
async function mutate(part, sources, fileName) {
  process.env['MUTATION_TESTS'] = JSON.stringify(part.tests.map((file) => `packages/engine/test/${file}`));
  const stryker = new Stryker({
    mutate: sources.map((file) => `packages/engine/src/${file}`),
    testRunner: 'vitest',
    plugins: ['@stryker-mutator/vitest-runner'],
    // Every test of the part: through `index.ts` all are related to all.
    vitest: { configFile: 'mutation/vitest.config.mjs', related: false },
    coverageAnalysis: 'perTest',
    ignoreStatic: !part.static,
    concurrency: 2,
    timeoutMS: 3000,
    // Stryker would read the file by an interface that TypeScript 7 does not have. Nothing is compiled here.
    tsconfigFile: 'none',
    tempDirName: `${RESULTS}/sandbox`,
    ignorePatterns: ['bench', 'docs', 'examples', 'formal', 'packages/*/dist', 'proof', 'tmp'],
    reporters: ['clear-text', 'progress-append-only'],
    clearTextReporter: { allowColor: false, reportTests: false },
    incremental: true,
    incrementalFile: fileName,
    force: values.fresh,
  });
  await stryker.runMutationTest();
}

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: PARTS.map(({ name }) => name).join(',') },
    mutate: { type: 'string' },
    fresh: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
});
const names = values.only.split(',').filter((name) => name !== '');
const unknown = names.filter((name) => !PARTS.some((part) => part.name === name));
if (unknown.length > 0) {
  console.error(`Parts are ${PARTS.map(({ name }) => name).join(', ')}.`);
  process.exit(2);
}
process.chdir(ROOT);
for (const part of PARTS.filter(({ name }) => names.includes(name))) {
  console.log(`\n── ${part.name} ──`);
  await mutate(part, values.mutate?.split(',') ?? part.sources, `${RESULTS}/${part.name}.json`);
}
if (values.write) writeTable(RESULTS);
