// @ts-check
/**
 * Tests that run on the sources: Stryker changes those, and tests otherwise import what was built from them.
 * `MUTATION_TESTS` names the files.
 */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer } from 'vitest/node';

const SOURCES = fileURLToPath(new URL('../packages/engine/src/', import.meta.url));

/** @type {string[]} */
const FILES = JSON.parse(process.env['MUTATION_TESTS'] ?? '[]');

/** The quickest first, as they are named: most mutants die there, and the others are not run any more. */
class AsNamed extends BaseSequencer {
  /** @override @param {import('vitest/node').TestSpecification[]} specifications */
  async sort(specifications) {
    const placeOf = (/** @type {{ moduleId: string }} */ { moduleId }) =>
      FILES.findIndex((file) => moduleId.endsWith(file));
    return specifications.toSorted((a, b) => placeOf(a) - placeOf(b));
  }
}

export default defineConfig({
  resolve: { alias: [{ find: /^#engine\/(.*)\.js$/, replacement: `${SOURCES}$1.ts` }] },
  test: {
    include: FILES,
    sequence: { sequencer: AsNamed },
    setupFiles: ['packages/engine/test/support/no-shrinking.mjs'],
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
});
