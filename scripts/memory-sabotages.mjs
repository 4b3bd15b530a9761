// @ts-check
/** Breaks in memory, in what is spilled, in backpressure, in cache-only items. */
const SRC = 'packages/engine/src';
const TEST = 'packages/engine/test';
const MEMORY = [`${TEST}/memory/memory-cache.test.ts`];
const SPILL = [`${TEST}/engine/spill.test.ts`];
const PRESSURE = [`${TEST}/engine/backpressure.test.ts`];
const CACHE_ONLY = [`${TEST}/engine/cache-only.test.ts`];

/** @type {readonly import('./sabotages.mjs').Sabotage[]} */
export const MEMORY_SABOTAGES = [
  {
    name: 'spilled-before-durable',
    guarantee: 'G1: only what the log holds durably leaves memory',
    file: `${SRC}/memory/entry.ts`,
    find: '      this.durableVersion === version &&\n      this.loggedVersion === version &&\n      this.logPosition !== 0 &&\n',
    replace: '',
    tests: [`${TEST}/simulation`],
  },
  {
    name: 'spilled-called-missing',
    guarantee: 'G3, G6: a spilled write is read from the log',
    file: `${SRC}/engine/read-path.ts`,
    find: "    if (absence === 'spilled') return this.spilled(id);\n",
    replace: "    if (absence === 'spilled') return Promise.resolve(undefined);\n",
    tests: SPILL,
  },
  {
    name: 'spilled-record-orphaned',
    guarantee: 'G5: a write over a spilled one knows the record that it replaces',
    file: `${SRC}/memory/memory-cache.ts`,
    find: '    entry.logPosition = this.#numberAt(slot);\n',
    replace: '    if (entry.known) entry.logPosition = this.#numberAt(slot);\n',
    tests: MEMORY,
  },
  {
    name: 'lost-record-called-missing',
    guarantee: 'G6, G17: a record that the log lost is damage, not absence',
    file: `${SRC}/engine/spill.ts`,
    find: '    this.#parts.damaged([{ id, position }]);\n',
    replace: '',
    tests: SPILL,
  },
  {
    name: 'flush-forgets-what-is-spilled',
    guarantee: 'G2: flush() waits for everything that was submitted before',
    file: `${SRC}/engine/flush.ts`,
    find: '      barrier.waitForSpilled();\n',
    replace: '',
    tests: SPILL,
  },
  {
    name: 'spilled-not-drained',
    guarantee: 'G1: what was spilled reaches SQL',
    file: `${SRC}/engine/flush.ts`,
    find: '          this.addToBacklog(entry);\n          this.replacedSpilled(entry);\n',
    replace: '          this.replacedSpilled(entry);\n',
    tests: SPILL,
  },
  {
    name: 'scan-without-spilled',
    guarantee: 'G3: scans show what is spilled',
    file: `${SRC}/engine/scans.ts`,
    find: "      if (newest === 'spilled') spilled.push(id);\n",
    replace: "      if (newest === 'spilled') continue;\n",
    tests: SPILL,
  },
  {
    name: 'slab-used-again',
    guarantee: 'what callers hold never changes',
    file: `${SRC}/memory/slabs.ts`,
    find: '    const memory = new ArrayBuffer(this.slabBytes);\n',
    replace:
      '    const memory = (this.#slabs.find((slab) => slab !== undefined)?.bytes.buffer as ArrayBuffer) ?? new ArrayBuffer(this.slabBytes);\n',
    tests: [`${TEST}/memory/slabs.test.ts`],
  },
  {
    name: 'hot-slot-outlives-its-id',
    guarantee: 'a slot that is used again is not found by its old id',
    file: `${SRC}/memory/memory-cache.ts`,
    find: '    this.#hot.delete(this.#idAt(slot));\n',
    replace: '',
    tests: MEMORY,
  },
  {
    name: 'critical-takes-writes',
    guarantee: 'G7: from Critical on writes are refused',
    file: `${SRC}/engine/write-path.ts`,
    find: '    if (!level.acceptsWrites) throw this.#backpressure();\n',
    replace: '',
    tests: PRESSURE,
  },
  {
    name: 'throttle-holds-nobody',
    guarantee: 'G7: writers are slowed before they are refused',
    file: `${SRC}/engine/write-path.ts`,
    find: '    if (level !== BackpressureLevel.Throttle) return this.#take(request, target, index);\n',
    replace: '    if (level.acceptsWrites) return this.#take(request, target, index);\n',
    tests: PRESSURE,
  },
  {
    name: 'held-for-ever',
    guarantee: 'G12: a held writer goes on when there is room',
    file: `${SRC}/engine/write-path.ts`,
    find: '    if (this.roomy) this.#held.release();\n',
    replace: '',
    tests: PRESSURE,
  },
  {
    name: 'clean-kept-in-an-emergency',
    guarantee: 'G7: from Emergency on memory holds only what is not stored',
    file: `${SRC}/engine/runtime.ts`,
    find: '    this.memory.pinnedOnly = level.rank >= BackpressureLevel.Emergency.rank;\n',
    replace: '',
    tests: PRESSURE,
  },
  {
    name: 'cache-only-over-a-row',
    guarantee: 'no older row shines through when a cache-only item has gone',
    file: `${SRC}/engine/write-path.ts`,
    find: '    if (this.#mayBeStored(id)) {\n',
    replace: '    if (this.#mayBeStored(id) && memory.isPending(id)) {\n',
    tests: CACHE_ONLY,
  },
  {
    name: 'cache-only-lives-on',
    guarantee: 'a cache-only item ends with its time',
    file: `${SRC}/memory/memory-cache.ts`,
    find: "    if ((flags & RECORD_NUMBER) !== 0 && this.#endIfOver(slot)) return 'absent';\n",
    replace: '',
    tests: MEMORY,
  },
  {
    name: 'change-of-configuration-by-halves',
    guarantee: 'a change of the configuration is taken whole or not at all',
    file: `${SRC}/config/config.ts`,
    find: '  if (fixed.length === 0) return resolved;\n',
    replace: '  if (fixed.length < 3) return resolved;\n',
    tests: [`${TEST}/engine/update-config.test.ts`],
  },
  {
    name: 'states-kept-for-ever',
    guarantee: 'G7: what is interned goes with its last use',
    file: `${SRC}/memory/interned.ts`,
    find: 'if (uses > 0) return;',
    replace: 'if (uses >= 0) return;',
    tests: [`${TEST}/memory/memory-cache.test.ts`],
  },
  {
    name: 'state-released-while-used',
    guarantee: 'G11: an item keeps its state',
    file: `${SRC}/memory/interned.ts`,
    find: 'if (uses > 0) return;',
    replace: 'if (uses > 1) return;',
    tests: [`${TEST}/memory/memory-cache.test.ts`],
  },
];
