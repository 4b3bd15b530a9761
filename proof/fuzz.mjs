// @ts-check
/**
 * Fuzzes every parser of the engine: what is written must come back equal, and anything else must be refused as documented,
 * never crash, and never be taken for another value.
 *
 *   node proof/fuzz.mjs [--inputs 5000000] [--seed N] [--only name]
 */

import { pathToFileURL } from 'node:url';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { crc32 } from 'node:zlib';
import { CONFIG_KEYS, resolveConfig } from '../packages/engine/dist/config/config.js';
import { configFromEnv, envNameOf } from '../packages/engine/dist/config/config-from-env.js';
import { LeafTable, ROW_BYTES } from '../packages/engine/dist/filter/leaf-table.js';
import {
  decodeFooter,
  encodeFooter,
  encodeHead,
  footerLength,
  problemOfHead,
} from '../packages/engine/dist/filter/snapshot-format.js';
import { SyncEngineError, SyncItem } from '../packages/engine/dist/index.js';
import { assertId } from '../packages/engine/dist/item/object-id.js';
import { contentHashOf } from '../packages/engine/dist/item/revision.js';
import { decodeChanges, encodeChanges, nextChain } from '../packages/engine/dist/storage/change-codec.js';
import { redisAddressOf } from '../packages/engine/dist/storage/redis/redis-url.js';
import {
  decodeValue,
  encodeValue,
  valueBytesMax,
} from '../packages/engine/dist/storage/redis/value-codec.js';
import { hashOf, RowChecker } from '../packages/engine/dist/storage/row.js';
import { addressOf } from '../packages/engine/dist/storage/server/url.js';
import {
  decodeRecord,
  packRecords,
  sealRecord,
  unpackRecords,
} from '../packages/engine/dist/wal/record-codec.js';
import { Dice } from './random.mjs';

/** @typedef {import('../packages/engine/dist/item/revision.js').Revision} Revision */
/**
 * @typedef {object} Target
 * @property {string} name
 * @property {number} share Of all inputs.
 * @property {(dice: Dice) => string | undefined} one One input; what it did wrong.
 */

// ── Inputs ─────────────────────────────────────────────────────────────────────────────────────────────────────

const PIECES = [
  'a',
  'Ä',
  '😀',
  '\u0000',
  '.',
  '..',
  '%',
  '_',
  '*',
  '?',
  '[',
  '{0}',
  ':',
  '/',
  '\\',
  "'",
  '"',
  ' ',
  '\n',
  '\u202e',
  'e\u0301',
  '\ud800',
  '\udc00',
  '__proto__',
  'constructor',
  'toString',
  '-1',
  '1e999',
  'NaN',
  '0x10',
  '99999999999999999999',
  'null',
];

/** @param {Dice} dice @param {number} [most] */
function text(dice, most = 12) {
  let made = '';
  for (let left = dice.below(most); left > 0; left--)
    made += dice.chance(0.5) ? dice.pick(PIECES) : String.fromCharCode(32 + dice.below(95));
  return dice.chance(0.002) ? made.repeat(400) : made;
}

/** One that is allowed in every field. @param {Dice} dice @param {number} most */
function wellFormed(dice, most) {
  return text(dice, most).toWellFormed().slice(0, 40).toWellFormed();
}

/** @param {Dice} dice */
function number(dice) {
  return dice.pick([
    0,
    1,
    7,
    255,
    65_536,
    2 ** 31,
    2 ** 32 - 1,
    2 ** 32,
    2 ** 41,
    Number.MAX_SAFE_INTEGER,
    dice.below(2 ** 31),
  ]);
}

/** @param {Dice} dice @returns {Revision} */
function revision(dice) {
  const deleted = dice.chance(0.1);
  return {
    id: wellFormed(dice, 10) || 'x',
    version: number(dice),
    origin: Array.from({ length: 16 }, () => String.fromCharCode(33 + dice.below(90))).join(''),
    deleted,
    contentType: dice.chance(0.5) ? 'json' : 'binary',
    state: wellFormed(dice, 4) || 'active',
    content: deleted ? Buffer.alloc(0) : dice.bytes(dice.below(dice.chance(0.05) ? 400 : 24)),
    contentHash: undefined,
    homeInstanceId: wellFormed(dice, 4) || undefined,
    traceParent: dice.chance(0.3) ? 'p'.repeat(dice.below(70)) || undefined : undefined,
    traceState: dice.chance(0.2) ? 's'.repeat(dice.below(300)) || undefined : undefined,
    redisTtlMs: dice.chance(0.3) ? number(dice) : undefined,
    base: dice.chance(0.2)
      ? { version: number(dice), origin: 'o'.repeat(16), rule: dice.pick(['atMost', 'exactly']) }
      : undefined,
    refusal: dice.chance(0.1) ? { reason: wellFormed(dice, 6), atMs: number(dice) } : undefined,
  };
}

/** Changes bytes as errors of disks, networks and programs do. @param {Dice} dice @param {Buffer} from */
function mutated(dice, from) {
  if (dice.chance(0.05)) return dice.bytes(dice.below(200));
  let bytes = Buffer.from(from);
  for (let times = 1 + dice.below(3); times > 0; times--) {
    const at = dice.below(bytes.length || 1);
    switch (dice.below(7)) {
      case 0:
        if (bytes.length > 0) bytes[at] = /** @type {number} */ (bytes[at]) ^ (1 << dice.below(8));
        break;
      case 1:
        if (bytes.length > 0) bytes[at] = dice.pick([0, 1, 127, 128, 255]);
        break;
      case 2:
        bytes = bytes.subarray(0, at);
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at), dice.bytes(1 + dice.below(9)), bytes.subarray(at)]);
        break;
      case 4:
        bytes = Buffer.concat([bytes, bytes.subarray(at)]);
        break;
      case 5:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + dice.below(9))]);
        break;
      default:
        if (bytes.length >= at + 4)
          bytes.writeUInt32BE(dice.pick([0, 1, 0xffff, 0x7fffffff, 0xffffffff]), at);
    }
  }
  return bytes;
}

/** Anything that a caller can write. @param {Dice} dice @param {number} [depth] @returns {unknown} */
function anything(dice, depth = 0) {
  switch (dice.below(depth > 2 ? 9 : 12)) {
    case 0:
      return undefined;
    case 1:
      return null;
    case 2:
      return dice.chance(0.5);
    case 3:
      return number(dice) * dice.pick([1, -1, 0.5]);
    case 4:
      return dice.pick([
        Number.NaN,
        Number.POSITIVE_INFINITY,
        Number.NEGATIVE_INFINITY,
        -0,
        10n,
        Symbol('s'),
      ]);
    case 5:
      return () => {};
    case 6:
      return dice.bytes(dice.below(20));
    case 7:
    case 8:
      return text(dice);
    case 9:
      return Array.from({ length: dice.below(4) }, () => anything(dice, depth + 1));
    case 10:
      return new Date(number(dice));
    default: {
      const made = dice.chance(0.3) ? Object.create(null) : {};
      for (let left = dice.below(4); left > 0; left--)
        Object.defineProperty(made, text(dice), {
          value: anything(dice, depth + 1),
          enumerable: true,
          configurable: true,
          writable: true,
        });
      return made;
    }
  }
}

// ── What is right ──────────────────────────────────────────────────────────────────────────────────────────────

/** Runs a parser that may refuse. @template T @param {() => T} parse @returns {{ value: T } | { refused: true } | { wrong: string }} */
function attempt(parse) {
  try {
    return { value: parse() };
  } catch (error) {
    if (error instanceof SyncEngineError && error.code === 'CONFIG') return { refused: true };
    return { wrong: `threw ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}` };
  }
}

/** Whatever the order of the fields, and without the hash. @param {Revision} one */
function shown({ contentHash: _, content, ...one }) {
  return JSON.stringify(
    Object.entries({ ...one, content: content.toString('hex') })
      .filter(([, value]) => value !== undefined)
      .sort(),
  );
}

/** @param {Revision} made @param {Revision} found */
function sameRevision(made, found) {
  return shown(made) === shown(found);
}

const checker = new RowChecker();
const ENV_NAMES = [...CONFIG_KEYS.map(envNameOf), 'SYNC_ENGINE_', 'SYNC_ENGINE_L1_MAX_BYTE'];
const URLS = [
  'redis://user:pass@host:6379/0',
  'rediss://h?sslmode=require',
  'mariadb://u:p@h:3306/db',
  'postgres://u:p@h/db?sslmode=disable',
  'sqlite:/tmp/a.db',
  'mysql://u@[::1]:1/d?sslca=/x',
  'redis://',
  '://',
  'postgres://h',
];
const READY_MADE = /** @type {any} */ ({});
const SECRET = 'hunter2-of-the-fuzz';

/** @type {readonly Target[]} */
const TARGETS = [
  {
    name: 'log record',
    share: 0.2,
    one(dice) {
      const made = revision(dice);
      const [record] = [...unpackRecords(packRecords([made]))];
      if (record === undefined) return 'a record was not packed';
      sealRecord(record);
      if (dice.chance(0.2)) {
        const decoded = decodeRecord(record);
        return decoded.kind === 'intact' && sameRevision(made, decoded.revision)
          ? undefined
          : 'it did not come back as it was';
      }
      const changed = mutated(dice, record);
      const decoded = decodeRecord(changed);
      if (decoded.kind === 'intact')
        return sameRevision(made, decoded.revision) ? undefined : 'changed bytes were taken for a record';
      // The id of a damaged record is believed: then it must be the right one.
      return decoded.id === undefined || decoded.id === made.id
        ? undefined
        : 'a damaged record was given to another id';
    },
  },
  {
    name: 'Redis value',
    share: 0.2,
    one(dice) {
      const made = { ...revision(dice), base: undefined, refusal: undefined };
      /** @type {'marker' | 'value' | 'only' | 'mark'} */
      const kind = made.deleted ? 'marker' : dice.pick(/** @type {const} */ (['value', 'only', 'mark']));
      const put = { revision: made, kind, ttlMs: 60_000 };
      const target = Buffer.alloc(valueBytesMax(put));
      const bytes = target.subarray(0, encodeValue(put, 2_000_000, target, 0));
      const changed = dice.chance(0.2) ? bytes : mutated(dice, bytes);
      const value = decodeValue(made.id, changed, 1_000_000);
      if (value === 'damaged') return changed === bytes ? 'what was written was called damaged' : undefined;
      if (value === undefined)
        return kind === 'value' || kind === 'only' ? 'a value was not seen' : undefined;
      const expected = { ...made, redisTtlMs: made.redisTtlMs === 0 ? undefined : made.redisTtlMs };
      if (!sameRevision(expected, value.revision)) return 'changed bytes were taken for a value';
      if (contentHashOf(value.revision) !== contentHashOf({ ...value.revision, contentHash: undefined }))
        return 'the hash is not that of the content';
      return decodeValue(`${made.id}x`, changed, 1_000_000) === 'damaged'
        ? undefined
        : 'it was served under another id';
    },
  },
  {
    name: 'filter snapshot',
    share: 0.1,
    one(dice) {
      const head = encodeHead();
      const changedHead = mutated(dice, head);
      if (problemOfHead(changedHead) === undefined && !changedHead.subarray(0, head.length).equals(head))
        return 'a changed head was accepted';
      const table = new LeafTable(Buffer.alloc(0));
      const offset = 24;
      const cover = {
        position: number(dice),
        chain: 'c'.repeat(64),
        archiveId: 'a'.repeat(32),
        collected: 0,
      };
      const footer = encodeFooter({ seed: dice.bytes(16), table, cover }, offset);
      const back = decodeFooter(footer, offset);
      if (back === undefined || !isDeepStrictEqual(back.cover, cover))
        return 'a footer did not come back as it was';
      const changed = mutated(dice, footer);
      // As a program would that seals what it got wrong.
      if (dice.chance(0.3) && changed.length >= 24) {
        const at = changed.length - 12;
        changed.writeUInt32LE(crc32(changed.subarray(0, at)), at);
      } else if (isFooter(changed, offset) && !changed.equals(footer)) return 'a changed footer was accepted';
      isFooter(changed, offset);
      return table.length * ROW_BYTES === 0 ? undefined : 'the table is not empty';
    },
  },
  {
    name: 'change row',
    share: 0.15,
    one(dice) {
      const changes = Array.from({ length: 1 + dice.below(3) }, () => {
        const made = revision(dice);
        const delta = dice.chance(0.5) ? dice.bytes(32) : Buffer.alloc(0);
        return {
          id: made.id,
          version: made.version,
          origin: made.origin,
          kind: dice.pick(/** @type {const} */ (['put', 'delete', 'collected'])),
          delta,
          countDelta: dice.pick([-1, 0, 1]),
        };
      });
      const bytes = encodeChanges(changes);
      if (!isDeepStrictEqual(decodeChanges(bytes).map(comparable), changes.map(comparable)))
        return 'it did not come back as it was';
      // The chain stands before every decoding: it must see each change of the bytes, the position, and what came before.
      const before = dice.bytes(32);
      const position = number(dice);
      const chain = nextChain(before, position, bytes);
      const changed = mutated(dice, bytes);
      if (!changed.equals(bytes) && nextChain(before, position, changed).equals(chain))
        return 'the chain did not see a change';
      return nextChain(before, position + 1, bytes).equals(chain)
        ? 'the chain did not see the position'
        : undefined;
    },
  },
  {
    name: 'SQL row',
    share: 0.1,
    one(dice) {
      const made = { ...revision(dice), base: undefined, refusal: undefined };
      const hash = hashOf(made);
      /** @type {import('../packages/engine/dist/storage/row.js').RowValues} */
      const values = [
        made.id,
        made.version,
        Buffer.from(made.origin, 'latin1'),
        made.deleted ? 1 : 0,
        hash,
        Buffer.alloc(0),
        checker.checksumOf(made, hash),
        made.contentType,
        made.state,
        made.homeInstanceId ?? null,
        made.traceParent ?? null,
        made.traceState ?? null,
        made.content,
        made.redisTtlMs ?? null,
      ];
      const back = checker.revisionOf(values);
      if (
        back === undefined ||
        !sameRevision({ ...made, base: undefined }, { ...back, base: undefined, refusal: undefined })
      )
        return 'it did not come back as it was';
      const at = dice.below(values.length);
      if (at === 5) return undefined;
      const old = values[at];
      /** @type {any} */
      let next;
      if (Buffer.isBuffer(old)) next = mutated(dice, old);
      else if (typeof old === 'number') next = dice.pick([old + 1, -1, Number.NaN, 0.5, number(dice)]);
      else next = dice.pick([`${old ?? ''}x`, '', 'json', 'binary', text(dice).toWellFormed()]);
      const same = Buffer.isBuffer(old) ? old.equals(next) : old === next || (!old && !next);
      if (same) return undefined;
      const changed = /** @type {typeof values} */ ([...values]);
      changed[at] = /** @type {never} */ (next);
      if (at === 0 && String(next).length > 300) return undefined;
      return checker.revisionOf(changed) === undefined
        ? undefined
        : `a changed row was accepted (column ${at})`;
    },
  },
  {
    name: 'URL',
    share: 0.05,
    one(dice) {
      const base = dice.pick(URLS).replace(':p', `:${SECRET}`);
      let url = base;
      for (let times = dice.below(4); times > 0; times--) {
        const at = dice.below(url.length + 1);
        url = url.slice(0, at) + text(dice, 3) + url.slice(at + dice.below(3));
      }
      for (const parse of [redisAddressOf, addressOf]) {
        const outcome = attempt(() => parse(url, 3306));
        if ('wrong' in outcome) return outcome.wrong;
        if ('value' in outcome && outcome.value.password === SECRET && outcome.value.place.includes(SECRET))
          return 'the place holds the password';
      }
      return undefined;
    },
  },
  {
    name: 'configuration',
    share: 0.05,
    one(dice) {
      /** @type {Record<string, unknown>} */
      const config = {};
      for (let left = dice.below(5); left > 0; left--)
        config[dice.chance(0.8) ? dice.pick(CONFIG_KEYS) : text(dice)] = anything(dice);
      const input = dice.chance(0.1) ? anything(dice) : config;
      const outcome = attempt(() => resolveConfig(input, READY_MADE));
      return 'wrong' in outcome ? outcome.wrong : undefined;
    },
  },
  {
    name: 'environment',
    share: 0.05,
    one(dice) {
      /** @type {Record<string, string>} */
      const env = {};
      for (let left = dice.below(4); left > 0; left--)
        env[dice.chance(0.9) ? dice.pick(ENV_NAMES) : text(dice)] = dice.chance(0.5)
          ? text(dice)
          : dice.pick(['1', '2MiB', 'true', '-3', '1e3KiB', 'GiB', ' 7']);
      const outcome = attempt(() => resolveConfig(configFromEnv(env), READY_MADE));
      return 'wrong' in outcome ? outcome.wrong : undefined;
    },
  },
  {
    name: 'id',
    share: 0.05,
    one(dice) {
      const id = dice.chance(0.9) ? text(dice, 20) : anything(dice);
      let taken = true;
      try {
        assertId(id);
      } catch (error) {
        if (!(error instanceof TypeError) && !(error instanceof SyncEngineError && error.code === 'CONFIG'))
          return `threw ${String(error)}`;
        taken = false;
      }
      const right =
        typeof id === 'string' && id.isWellFormed() && id.length > 0 && Buffer.byteLength(id) <= 1024;
      return taken === right
        ? undefined
        : `${taken ? 'took' : 'refused'} ${JSON.stringify(id)?.slice(0, 60)}`;
    },
  },
  {
    name: 'JSON',
    share: 0.05,
    one(dice) {
      const value = anything(dice);
      let made;
      try {
        made = SyncItem.fromJson('x', value);
      } catch (error) {
        return error instanceof TypeError || error instanceof SyncEngineError
          ? undefined
          : `threw ${String(error)}`;
      }
      // As JSON says it, no more and no less.
      if (JSON.stringify(made.json()) !== JSON.stringify(value))
        return 'it did not come back as JSON says it';
      try {
        new SyncItem('x', mutated(dice, made.content), { contentType: 'json' }).json();
      } catch (error) {
        return error instanceof SyntaxError || error instanceof TypeError || error instanceof SyncEngineError
          ? undefined
          : `threw ${String(error)}`;
      }
      return undefined;
    },
  },
];

/** As who reads a snapshot finds out. @param {Buffer} bytes @param {number} offset */
function isFooter(bytes, offset) {
  return footerLength(bytes) === bytes.length && decodeFooter(bytes, offset) !== undefined;
}

/** @param {import('../packages/engine/dist/storage/archive-store.js').RowChange} change */
function comparable(change) {
  return { ...change, delta: Buffer.from(change.delta).toString('hex') };
}

/**
 * @param {{ seed: number, inputs: number, only?: string | undefined, print: (line: string) => void }} options
 * @returns {Promise<{ rows: { what: string, inputs: number, wrong: number }[], ok: boolean }>}
 */
export async function runFuzz({ seed, inputs, only, print }) {
  const rows = [];
  for (const [index, target] of TARGETS.entries()) {
    if (only !== undefined && target.name !== only) continue;
    const dice = new Dice(seed + index);
    const count = Math.ceil(inputs * (only === undefined ? target.share : 1));
    let wrong = 0;
    const began = performance.now();
    for (let input = 0; input < count; input++) {
      let said;
      try {
        said = target.one(dice);
      } catch (error) {
        said = `threw ${error instanceof Error ? error.stack?.split('\n').slice(0, 3).join(' ') : String(error)}`;
      }
      if (said !== undefined && ++wrong <= 5) print(`      input ${input}: ${said}`);
    }
    const seconds = (performance.now() - began) / 1000;
    print(
      `${wrong === 0 ? 'ok  ' : 'FAIL'} ${target.name.padEnd(16)} ${count.toLocaleString('en')} inputs, ${wrong} wrong, ${seconds.toFixed(1)} s`,
    );
    rows.push({ what: target.name, inputs: count, wrong });
  }
  return { rows, ok: rows.every(({ wrong }) => wrong === 0) };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { values } = parseArgs({
    options: {
      inputs: { type: 'string', default: '5000000' },
      seed: { type: 'string', default: '1' },
      only: { type: 'string' },
    },
  });
  const { ok } = await runFuzz({
    seed: Number(values.seed),
    inputs: Number(values.inputs),
    only: values.only,
    print: (line) => console.log(line),
  });
  process.exitCode = ok ? 0 : 1;
}
