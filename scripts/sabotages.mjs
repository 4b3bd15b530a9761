// @ts-check
/**
 * Breaks that the tests must notice, each the mistake of a tired afternoon. A guarantee whose code can be
 * broken while its tests stay green is not tested. `sabotage.mjs` applies them one at a time, to a copy.
 */

/**
 * @typedef {object} Sabotage
 * @property {string} name In kebab-case, for `--only`.
 * @property {string} guarantee What is broken: a guarantee of `docs/guarantees.md`, or a sentence.
 * @property {string} file Path from the root of the workspace.
 * @property {string} find Text that occurs exactly once in the file.
 * @property {string} replace
 * @property {readonly string[]} tests Vitest's patterns of test files, one of which must turn red.
 */

import { CACHE_SABOTAGES } from './cache-sabotages.mjs';
import { COHERENCE_SABOTAGES } from './coherence-sabotages.mjs';
import { ENGINE_SABOTAGES } from './engine-sabotages.mjs';
import { MEMORY_SABOTAGES } from './memory-sabotages.mjs';
import { SERVER_SABOTAGES } from './server-sabotages.mjs';
import { TRUTH_SABOTAGES } from './truth-sabotages.mjs';

const SRC = 'packages/engine/src';
const TEST = 'packages/engine/test';

/** @type {readonly Sabotage[]} */
export const SABOTAGES = [
  ...CACHE_SABOTAGES,
  ...COHERENCE_SABOTAGES,
  ...ENGINE_SABOTAGES,
  ...MEMORY_SABOTAGES,
  ...SERVER_SABOTAGES,
  ...TRUTH_SABOTAGES,
  {
    name: 'order-delete-loses-ties',
    guarantee: 'G4, G5: at equal version and origin a delete is newer than a put',
    file: `${SRC}/item/order.ts`,
    find: 'return a.deleted ? 1 : -1;',
    replace: 'return a.deleted ? -1 : 1;',
    tests: [`${TEST}/item/order.test.ts`],
  },
  {
    name: 'order-without-content-hash',
    guarantee: 'G4, G15: two contents under one stamp have a winner, the same one everywhere',
    file: `${SRC}/item/order.ts`,
    find: 'return hashA < hashB ? -1 : 1;',
    replace: 'return 0;',
    tests: [`${TEST}/item/order.test.ts`],
  },
  {
    name: 'clock-follows-wall-backwards',
    guarantee: 'G4: stamps grow when the wall clock runs backwards',
    file: `${SRC}/item/hybrid-clock.ts`,
    find: 'const next = wall > this.#last ? wall : this.#last + 1;',
    replace: 'const next = wall === this.#last ? wall + 1 : wall;',
    tests: [`${TEST}/item/hybrid-clock.test.ts`],
  },
  {
    name: 'clock-stamps-the-mark',
    guarantee:
      'G4: no version is stamped at or above the durable mark, so none is stamped again after a crash',
    file: `${SRC}/item/hybrid-clock.ts`,
    find: 'if (next >= this.#mark) return undefined;',
    replace: 'if (next > this.#mark) return undefined;',
    tests: [`${TEST}/item/hybrid-clock.test.ts`],
  },
  {
    name: 'envelope-forgets-deleted',
    guarantee: 'G5: a tombstone is still one after the log',
    file: `${SRC}/item/envelope.ts`,
    find: '(revision.deleted ? FLAG_DELETED : 0) |',
    replace: '0 |',
    tests: [`${TEST}/item/envelope.test.ts`],
  },
  {
    name: 'envelope-accepts-truncation',
    guarantee: 'G17: a truncated record is damage',
    file: `${SRC}/item/envelope.ts`,
    find: 'return length <= end - start ? length : -1;',
    replace: 'return length;',
    tests: [`${TEST}/item/envelope.test.ts`],
  },
  {
    name: 'id-limit-in-characters',
    guarantee: 'G11: an id has at most 1,024 bytes of UTF-8',
    file: `${SRC}/item/object-id.ts`,
    find: 'const bytes = Buffer.byteLength(id);',
    replace: 'const bytes = id.length;',
    tests: [`${TEST}/item/object-id.test.ts`],
  },
  {
    name: 'worker-death-unheard',
    guarantee: 'G12: nothing waits for an answer of a dead thread',
    file: `${SRC}/base/worker-client.ts`,
    find: 'for (const one of waiting) one.reject(this.#death);',
    replace: 'waiting.length = 0;',
    tests: [`${TEST}/base/worker.test.ts`],
  },
];
