// @ts-check
/**
 * The parts whose tests are put to the test: sources, from `packages/engine/src`, and the tests that must notice
 * a change, from `packages/engine/test`. They run in one process: in threads and children no mutant is active.
 */

/**
 * `static`: whether constants and the like, which are made once when a module is loaded, are changed as well.
 * Each such mutant runs every test of its part, as nobody knows which depend on it.
 * @typedef {{ name: string, sources: readonly string[], tests: readonly string[], static: boolean }} Part
 */

/** @type {readonly Part[]} */
export const PARTS = [
  {
    name: 'retry',
    static: true,
    sources: ['retry', 'backpressure', 'circuit-breaker', 'health-checker'].map(
      (it) => `resilience/${it}.ts`,
    ),
    tests: ['backpressure', 'retry', 'circuit-breaker', 'health-checker'].map(
      (it) => `resilience/${it}.test.ts`,
    ),
  },
  {
    name: 'batcher',
    static: true,
    sources: ['batching/hybrid-batcher.ts'],
    tests: ['batching/hybrid-batcher.test.ts'],
  },
  {
    // Where later writes of an id meet the pending one; the batcher and the log's queue do the same with it.
    name: 'coalescing',
    static: true,
    sources: ['ack-waiter', 'entry'].map((it) => `memory/${it}.ts`),
    tests: ['memory/entry.test.ts'],
  },
  {
    name: 'order',
    static: true,
    sources: ['hybrid-clock', 'id-order', 'order', 'origin', 'revision'].map((it) => `item/${it}.ts`),
    tests: ['hybrid-clock', 'id-order', 'order', 'origin', 'revision'].map((it) => `item/${it}.test.ts`),
  },
  {
    name: 'merkle',
    static: true,
    sources: ['bucket-tree', 'diff', 'digest', 'path', 'path-merkle', 'segment-index'].map(
      (it) => `merkle/${it}.ts`,
    ),
    // Not diff-million.test.ts: with a mutant behind every expression it takes minutes.
    tests: ['laws', 'path-merkle', 'segment-index', 'bucket-tree', 'diff'].map(
      (it) => `merkle/${it}.test.ts`,
    ),
  },
  {
    name: 'filter',
    static: false,
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
    tests: [
      'id-hash',
      'snapshot-format',
      'cuckoo-leaf',
      'filter-manager',
      'cuckoo-filter',
      'filter-snapshot',
    ].map((it) => `filter/${it}.test.ts`),
  },
  {
    name: 'eviction',
    static: false,
    sources: ['eviction', 'eviction-ghosts', 'eviction-odds', 'tan-curve'].map((it) => `memory/${it}.ts`),
    tests: ['tan-curve', 'eviction-ghosts', 'eviction-odds', 'eviction'].map((it) => `memory/${it}.test.ts`),
  },
  {
    name: 'log',
    static: false,
    // Not what holds the thread: sqlite-record-store.ts, wal-worker.ts, and item-log.ts, which has it for itself.
    sources: ['commit-mark', 'record-codec', 'record-file', 'write-ahead-log'].map((it) => `wal/${it}.ts`),
    tests: [
      ...['commit-mark', 'record-codec', 'write-ahead-log', 'record-file'].map((it) => `wal/${it}.test.ts`),
      'engine/log-failure.test.ts',
    ],
  },
];
