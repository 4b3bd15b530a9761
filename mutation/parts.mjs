// @ts-check
/**
 * The parts whose tests are put to the test: sources, from `packages/engine/src`, and the tests that must notice
 * a change, from `packages/engine/test`. They run in one process: in threads and children no mutant is active.
 */

/** @typedef {{ name: string, sources: readonly string[], tests: readonly string[] }} Part */

/** @type {readonly Part[]} */
export const PARTS = [
  {
    name: 'retry',
    sources: ['retry', 'backpressure', 'circuit-breaker', 'health-checker'].map(
      (it) => `resilience/${it}.ts`,
    ),
    tests: ['resilience/*.test.ts'],
  },
  { name: 'batcher', sources: ['batching/hybrid-batcher.ts'], tests: ['batching/*.test.ts'] },
];
