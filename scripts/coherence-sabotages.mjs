// @ts-check
/** Breaks of what keeps several engines on one archive in step. */

const SRC = 'packages/engine/src';
const TEST = 'packages/engine/test';
const FOLLOWER = [`${TEST}/coherence/change-follower.test.ts`];
const ENGINES = [`${TEST}/engine/coherence.test.ts`];

/** @type {readonly import('./sabotages.mjs').Sabotage[]} */
export const COHERENCE_SABOTAGES = [
  {
    name: 'lease-from-the-answer',
    guarantee: 'G8: the lease counts from when the look was sent',
    file: `${SRC}/coherence/change-follower.ts`,
    find: 'this.#sentAtMs = sentAtMs;',
    replace: 'this.#sentAtMs = clock.monotonic();',
    tests: FOLLOWER,
  },
  {
    name: 'lease-after-the-first-page',
    guarantee: 'G8: a look that has not reached the end renews nothing',
    file: `${SRC}/coherence/change-follower.ts`,
    find: 'if (this.#position.position >= head.position) {',
    replace: 'if (head.position >= 0) {',
    tests: FOLLOWER,
  },
  {
    name: 'own-commit-skips-what-lies-between',
    guarantee: 'G8: transactions of others before one of ours are read',
    file: `${SRC}/coherence/change-follower.ts`,
    find: 'if (changed && position === known + 1) this',
    replace: 'if (changed && position > known) this',
    tests: FOLLOWER,
  },
  {
    name: 'wait-without-bound',
    guarantee: 'G8: a get waits for one look, at most 50 ms',
    file: `${SRC}/coherence/change-follower.ts`,
    find: 'await Promise.race([this.look(), enough]);',
    replace: 'await this.look();\n    void enough;',
    tests: FOLLOWER,
  },
  {
    name: 'change-of-another-engine-not-dropped',
    guarantee: 'G8: what another engine wrote replaces the clean copy',
    file: `${SRC}/engine/runtime.ts`,
    find: '      this.memory.overtaken(id, version, origin);\n',
    replace: '      void origin;\n',
    tests: ENGINES,
  },
  {
    name: 'change-of-another-engine-not-learned',
    guarantee: 'G9: the filter learns the ids that others have stored',
    file: `${SRC}/engine/runtime.ts`,
    find: '    this.filter?.learn(batch);\n',
    replace: '',
    tests: ENGINES,
  },
  {
    name: 'flight-of-an-overtaken-read-kept',
    guarantee: 'G8: a value read before the notice does not fill memory after it',
    file: `${SRC}/engine/runtime.ts`,
    find: '      this.reads.detach(id);\n      this.loads.overtake(id);\n      this.memory.overtaken',
    replace: '      this.loads.overtake(id);\n      this.memory.overtaken',
    tests: ENGINES,
  },
  {
    name: 'lapsed-lease-serves-as-current',
    guarantee: 'G8: without a lease an item is stale, and said to be',
    file: `${SRC}/engine/read-path.ts`,
    find: '    return staleOf(found);',
    replace: '    return found;',
    tests: ENGINES,
  },
  {
    name: 'lapsed-filter-believed',
    guarantee: 'G6, G8: without a lease the filter\'s "no" is not final',
    file: `${SRC}/engine/read-path.ts`,
    find: 'return this.current ? Promise.resolve(undefined) : this.#renewedThen(id);',
    replace: 'return Promise.resolve(undefined);',
    tests: ENGINES,
  },
  {
    name: 'lapsed-tombstone-believed',
    guarantee: 'G6, G8: without a lease a clean tombstone is no proof of absence',
    file: `${SRC}/engine/read-path.ts`,
    find: 'if (this.current || this.#parts.memory.isPending(id)) return Promise.resolve(undefined);',
    replace: 'if (id.length > 0) return Promise.resolve(undefined);',
    tests: ENGINES,
  },
  {
    name: 'missed-changes-keep-memory',
    guarantee: 'G8: where changes are missing, what is clean goes',
    file: `${SRC}/engine/runtime.ts`,
    find: '    this.memory.forgetClean();\n',
    replace: '',
    tests: ENGINES,
  },
  {
    name: 'overtaken-write-kept-when-released',
    guarantee: 'G8: what another engine wrote over a stored write is served once the log has forgotten it',
    file: `${SRC}/memory/memory-cache.ts`,
    find: 'if (entry.overtaken && !covered) {',
    replace: 'if (entry.overtaken && covered) {',
    tests: ENGINES,
  },
];
