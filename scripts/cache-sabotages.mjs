// @ts-check
/** Breaks of what makes Redis safe to believe. */

const SRC = 'packages/engine/src';
const TEST = 'packages/engine/test';
const TIER = [`${TEST}/coherence/cache-tier.test.ts`];
const UNCONFIRMED = [`${TEST}/coherence/unconfirmed-changes.test.ts`];
const SHARED = [`${TEST}/engine/shared-redis.test.ts`];
const REDIS = [`${TEST}/engine/redis.test.ts`];
const STORE = [`${TEST}/storage/redis-store.test.ts`];
const SIMULATION = [`${TEST}/simulation/simulation.test.ts`];

/** @type {readonly import('./sabotages.mjs').Sabotage[]} */
export const CACHE_SABOTAGES = [
  {
    name: 'overtaken-copy-served',
    guarantee: 'G4: a copy that is older than what SQL has committed is not served',
    file: `${SRC}/coherence/cache-tier.ts`,
    find: 'if (this.#unconfirmed.isOvertaken(value.revision)) return undefined;',
    replace: '',
    tests: SIMULATION,
  },
  {
    name: 'answer-of-an-older-redis-judged',
    guarantee: 'G4: an answer from before what is known here is not used',
    file: `${SRC}/coherence/cache-tier.ts`,
    find: 'this.#synced && head.position >= this.#unconfirmed.floor;',
    replace: 'this.#synced && head.position >= 0;',
    tests: TIER,
  },
  {
    name: 'redis-believed-without-catching-up',
    guarantee: 'G4: what was committed while nobody told Redis is known before its copies are served',
    file: `${SRC}/coherence/cache-tier.ts`,
    find: 'if (covered && !recount) this.#adopt(head, head.position);',
    replace: 'if (covered || !recount) this.#adopt(head, head.position);',
    tests: TIER,
  },
  {
    name: 'own-commit-not-remembered',
    guarantee: 'G3: a copy from before an own write is not served while Redis has not confirmed it',
    file: `${SRC}/coherence/cache-tier.ts`,
    find: 'this.#unconfirmed.add(position, changed ? chain : undefined, stored, this.#nowMs, sends);',
    replace: 'this.#unconfirmed.add(position, changed ? chain : undefined, [], this.#nowMs, sends);',
    tests: SIMULATION,
  },
  {
    name: 'lost-write-not-remembered',
    guarantee: 'G3: who lost to a newer write is not shown what was there before both',
    file: `${SRC}/coherence/cache-tier.ts`,
    find: 'else if (version !== undefined) lost.push(',
    replace: 'else if (version === -1) lost.push(',
    tests: SHARED,
  },
  {
    name: 'unconfirmed-never-repaired',
    guarantee: 'G8: what an engine without Redis wrote is marked by the others',
    file: `${SRC}/coherence/cache-tier.ts`,
    find: 'if (overdue.length === 0) break;',
    replace: 'if (overdue.length >= 0) break;',
    tests: SHARED,
  },
  {
    name: 'foreign-history-adopted',
    guarantee: 'G4: copies of another history of SQL are given up',
    file: `${SRC}/coherence/cache-tier.ts`,
    find: "if (page.gap !== 'none') {",
    replace: "if (page.gap !== 'none' && page.head.position < 0) {",
    tests: TIER,
  },
  {
    name: 'stale-copy-called-current',
    guarantee: 'G8: what Redis holds while SQL was never met is called stale',
    file: `${SRC}/coherence/cache-tier.ts`,
    find: 'return { ...value, stale };',
    replace: 'return { ...value, stale: false };',
    tests: TIER,
  },
  {
    name: 'promotion-as-of-now',
    guarantee: 'G4: a row that was read before a commit does not fill the gap behind it',
    file: `${SRC}/coherence/cache-tier.ts`,
    find: 'const batch = { generation, known, begins: false, puts, confirms: undefined };',
    replace: 'const batch = { generation, known: known + 1e9, begins: false, puts, confirms: undefined };',
    tests: SHARED,
  },
  {
    name: 'route-without-redis-copied',
    guarantee: 'Routing: redis: false leaves no copy',
    file: `${SRC}/coherence/cache-tier.ts`,
    find: 'if (deleted || redisTtlMs === 0 || content',
    replace: 'if (deleted || content',
    tests: REDIS,
  },
  {
    name: 'known-delete-hides-cache-only-items',
    guarantee: 'Routing: a cache-only item of another engine is found although its id was deleted here',
    file: `${SRC}/engine/read-path.ts`,
    find: 'if (this.#parts.cache?.usable === true && !this.#parts.memory.isPending(id)) return this.miss(id);',
    replace: '',
    tests: SHARED,
  },
  {
    name: 'shared-cache-only-item-kept',
    guarantee: 'G8: an own cache-only item that Redis has is believed for a lease',
    file: `${SRC}/engine/write-path.ts`,
    find: 'else if ((cached.cachedUntilMs as number) > leaseEndMs)',
    replace: 'else if ((cached.cachedUntilMs as number) > leaseEndMs * 2)',
    tests: SHARED,
  },
  {
    name: 'copy-behind-a-lapsed-lease-called-current',
    guarantee: 'G8: with the lease lapsed a copy is current only after a look',
    file: `${SRC}/engine/read-path.ts`,
    find: 'else if (this.current) flight.resolve(newest);',
    replace: 'else if (this.#parts.archive !== undefined) flight.resolve(newest);',
    tests: SHARED,
  },
  {
    name: 'earlier-position-hides-the-newer-write',
    guarantee: 'G4: the newest known write of an id counts, in whatever order it was learned',
    file: `${SRC}/coherence/unconfirmed-changes.ts`,
    find: 'if (known === undefined || isNewer(change, known)) {',
    replace: 'if (known === undefined || position > 0) {',
    tests: UNCONFIRMED,
  },
  {
    name: 'confirmed-id-forgotten-early',
    guarantee: 'G4: an id that was changed again stays until that is confirmed',
    file: `${SRC}/coherence/unconfirmed-changes.ts`,
    find: 'if (newest !== undefined && newest.position <= position) this.#ids.delete(id);',
    replace: 'if (newest !== undefined) this.#ids.delete(id);',
    tests: UNCONFIRMED,
  },
  {
    name: 'damaged-copy-served',
    guarantee: 'G17: the checksum of a copy is compared',
    file: `${SRC}/storage/redis/value-codec.ts`,
    find: 'source.readUInt32BE(SUM_AT) !== sumOf(id, source, 0, source.length)',
    replace: 'source.readUInt32BE(SUM_AT) < 0',
    tests: REDIS,
  },
  {
    name: 'gap-in-redis-filled-by-anybody',
    guarantee: 'G4: an empty place is filled only by who knows enough',
    file: `${SRC}/storage/redis/scripts.ts`,
    find: 'local fills = known == nil or known >= tonumber(begun)',
    replace: 'local fills = true',
    tests: STORE,
  },
  {
    name: 'late-command-runs',
    guarantee: 'A command that was stuck does not run after its deadline',
    file: `${SRC}/storage/redis/scripts.ts`,
    find: '> tonumber(ARGV[2]) then return',
    replace: '> tonumber(ARGV[2]) * 2 then return',
    tests: STORE,
  },
  {
    name: 'redis-takes-older',
    guarantee: 'G4: Redis replaces only what is older',
    file: `${SRC}/storage/redis/scripts.ts`,
    find: 'newer = b == nil or a > b',
    replace: 'newer = b == nil or a ~= b',
    tests: STORE,
  },
  {
    name: 'confirmed-out-of-turn',
    guarantee: 'G4: a position is confirmed only when every earlier one is',
    file: `${SRC}/storage/redis/scripts.ts`,
    find: 'if known == at + 1 then',
    replace: 'if known > at then',
    tests: STORE,
  },
  {
    name: 'foreign-keys-evicted',
    guarantee: 'Eviction in Redis touches copies of this archive alone',
    file: `${SRC}/storage/redis/redis-store.ts`,
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is source code.
    find: 'const pattern = `${escapeGlob(this.#prefix)}{0}v:${this.#archiveId.slice(0, 6)}*`;',
    replace: "const pattern = '*';",
    tests: [`${TEST}/coherence/cache-eviction.test.ts`],
  },
];
