// @ts-check
/**
 * Tests that run on the sources: Stryker changes those, and tests otherwise import what was built from them.
 * `MUTATION_TESTS` names the files.
 */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const SOURCES = fileURLToPath(new URL('../packages/engine/src/', import.meta.url));

export default defineConfig({
  resolve: { alias: [{ find: /^#engine\/(.*)\.js$/, replacement: `${SOURCES}$1.ts` }] },
  test: {
    include: JSON.parse(process.env['MUTATION_TESTS'] ?? '[]'),
    setupFiles: ['packages/engine/test/support/no-shrinking.mjs'],
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
});
