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
  {
    name: 'order',
    sources: ['hybrid-clock', 'id-order', 'order', 'origin', 'revision'].map((it) => `item/${it}.ts`),
    tests: ['hybrid-clock', 'id-order', 'order', 'origin', 'revision'].map((it) => `item/${it}.test.ts`),
  },
  {
    name: 'merkle',
    sources: ['bucket-tree', 'diff', 'digest', 'path', 'path-merkle', 'segment-index'].map(
      (it) => `merkle/${it}.ts`,
    ),
    // Not diff-million.test.ts: with a mutant behind every expression it takes minutes.
    tests: ['bucket-tree', 'diff', 'laws', 'path-merkle', 'segment-index'].map(
      (it) => `merkle/${it}.test.ts`,
    ),
  },
  {
    name: 'filter',
    sources: [
      'cuckoo-filter',
      'cuckoo-leaf',
      'filter-image',
      'filter-manager',
      'filter-snapshot',
      'id-hash',
      'leaf-table',
      'snapshot-format',
    ].map((it) => `filter/${it}.ts`),
    // Not cuckoo-filter-growth.test.ts, for the same reason.
    tests: ['cuckoo-filter', 'cuckoo-leaf', 'filter-manager', 'filter-snapshot', 'id-hash'].map(
      (it) => `filter/${it}.test.ts`,
    ),
  },
  {
    name: 'eviction',
    sources: ['eviction', 'eviction-ghosts', 'eviction-odds', 'tan-curve'].map((it) => `memory/${it}.ts`),
    tests: ['eviction', 'eviction-ghosts', 'eviction-odds', 'tan-curve'].map((it) => `memory/${it}.test.ts`),
  },
  {
    name: 'log',
    // Not what holds the thread: sqlite-record-store.ts, wal-worker.ts, and item-log.ts, which has it for itself.
    sources: ['commit-mark', 'record-codec', 'record-file', 'write-ahead-log'].map((it) => `wal/${it}.ts`),
    tests: [
      ...['commit-mark', 'record-codec', 'record-file', 'write-ahead-log'].map((it) => `wal/${it}.test.ts`),
      'engine/log-failure.test.ts',
    ],
  },
];
