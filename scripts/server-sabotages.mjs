// @ts-check
/** Breaks of the archive on a server. */

const SERVER = 'packages/engine/src/storage/server';
const ARCHIVES = ['packages/engine/test/storage/server-archives.test.ts'];

/** @type {readonly import('./sabotages.mjs').Sabotage[]} */
export const SERVER_SABOTAGES = [
  {
    name: 'server-rows-not-locked',
    guarantee: 'G4: two processes that write one id at once leave the newer one',
    file: `${SERVER}/archive-transactions.ts`,
    find: "sortedBytes(writes.map((write) => write.id)),\n      'ORDER BY id FOR UPDATE',",
    replace: "sortedBytes(writes.map((write) => write.id)),\n      'ORDER BY id',",
    tests: ARCHIVES,
  },
  {
    name: 'server-paths-not-locked',
    guarantee: 'G10: sums of paths are exact with several writers',
    file: `${SERVER}/path-deltas.ts`,
    find: "'ORDER BY path FOR UPDATE'",
    replace: "'ORDER BY path'",
    tests: ARCHIVES,
  },
  {
    name: 'server-conflict-not-run-again',
    guarantee: 'G1: a transaction that others were in the way of runs again',
    file: `${SERVER}/server-archive.ts`,
    find: 'if (!this.#driver.isConflict(error) ||',
    replace: 'if (attempt >= 0 ||',
    tests: ARCHIVES,
  },
  {
    name: 'server-segments-counted-twice',
    guarantee: 'G10: a segment that is an id and a path is one child',
    file: `${SERVER}/path-deltas.ts`,
    find: 'if (above !== undefined && above.subtrees > 0)',
    replace: 'if (above !== undefined && above.subtrees > 99)',
    tests: ARCHIVES,
  },
  {
    name: 'server-newer-schema-taken',
    guarantee: 'a newer schema is refused untouched',
    file: `${SERVER}/server-archive.ts`,
    find: 'if (!(schema <= known)) {',
    replace: 'if (schema < 0) {',
    tests: ARCHIVES,
  },
  {
    name: 'server-refusal-is-an-outage',
    guarantee: 'G13: a row that the database refuses harms only itself',
    file: `${SERVER}/server-archive.ts`,
    find: "if (operation === 'apply' && this.#driver.isRefusalOfRow(error))",
    replace: "if (operation === 'ping' && this.#driver.isRefusalOfRow(error))",
    tests: ARCHIVES,
  },
  {
    name: 'cut-commit-unowned',
    guarantee: 'G12: every promise has an owner',
    file: 'packages/engine/src/storage/postgres/postgres-driver.ts',
    find: 'committed.catch(() => {});',
    replace: '',
    tests: ['packages/engine/test/storage/sql-drivers.test.ts'],
  },
  {
    name: 'half-made-archive-refused',
    guarantee: 'engines that start at once make one archive',
    file: `${SERVER}/server-archive.ts`,
    find: "if (!facts.has('schema')) {",
    replace: 'if (facts.size === 0) {',
    tests: ARCHIVES,
  },
  {
    name: 'failed-node-tried-for-ever',
    guarantee: 'another node takes over',
    file: `${SERVER}/host-rota.ts`,
    find: 'this.#at = (at + 1) % this.#hosts.length;',
    replace: '',
    tests: ['packages/engine/test/storage/host-rota.test.ts'],
  },
];
