/**
 * The configuration from environment variables: `SYNC_ENGINE_` and the key in capitals, `SYNC_ENGINE_L1_MAX_BYTES`. The
 * engine never reads the environment by itself: what it runs with stands in the call that made it.
 */
import { SyncEngineError } from '../base/errors.js';
import { CONFIG_KEYS, type SyncEngineConfig } from './config.js';
import { nearest } from './nearest.js';

const PREFIX = 'SYNC_ENGINE_';
const UNITS: Readonly<Record<string, number>> = { '': 1, KIB: 2 ** 10, MIB: 2 ** 20, GIB: 2 ** 30 };
/** Texts; everything else is a number or a flag. */
const TEXTS: ReadonlySet<string> = new Set([
  'sqlUrl',
  'redisUrl',
  'redisPrefix',
  'walPath',
  'walMode',
  'ack',
  'clusterKey',
  'nodeId',
]);
const FLAGS: ReadonlySet<string> = new Set([
  'redisEvictionEnabled',
  'merkleEnabled',
  'startDegraded',
  'allowNewArchive',
]);

/** `SYNC_ENGINE_L1_MAX_BYTES` of `l1MaxBytes`. */
export function envNameOf(key: string): string {
  return PREFIX + key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
}

/**
 * Reads `SYNC_ENGINE_*`. Numbers of bytes may end in `KiB`, `MiB` or `GiB`; flags are `true` or `false`; an empty value
 * is as none. The values themselves are checked by the engine.
 *
 * @example new SyncEngine({ ...configFromEnv(), batchFlushMs: 20 })
 * @throws `CONFIG` listing every variable that is unknown or cannot be read. Values are not repeated: some are secrets.
 */
export function configFromEnv(
  env: Readonly<Record<string, string | undefined>> = process.env,
): SyncEngineConfig {
  const keys = new Map(CONFIG_KEYS.map((key) => [envNameOf(key), key]));
  const config: Record<string, unknown> = {};
  const problems: string[] = [];
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith(PREFIX) || value === undefined || value === '') continue;
    const key = keys.get(name);
    if (key === undefined) {
      const suggestion = nearest(name, [...keys.keys()]);
      problems.push(
        `unknown variable ${name}${suggestion === undefined ? '' : ` (did you mean ${suggestion}?)`}`,
      );
      continue;
    }
    const parsed = parse(key, value);
    if (typeof parsed === 'string' && !TEXTS.has(key)) problems.push(`${name} ${parsed}`);
    else config[key] = parsed;
  }
  if (problems.length === 0) return config;
  throw new SyncEngineError('CONFIG', `The environment has mistakes: ${problems.join('; ')}.`, {
    context: { problems },
  });
}

/** The value, or for a key that is no text, what is wrong with it. */
function parse(key: string, value: string): unknown {
  if (TEXTS.has(key)) return value;
  if (FLAGS.has(key)) return value === 'true' ? true : value === 'false' ? false : 'must be true or false';
  const [, digits, unit] = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(value.trim()) ?? [];
  const factor = UNITS[(unit ?? '').toUpperCase()];
  if (digits === undefined || factor === undefined)
    return 'must be a number; bytes may end in KiB, MiB or GiB';
  if (factor > 1 && !key.endsWith('Bytes')) return 'is no number of bytes and takes no unit';
  return Number(digits) * factor;
}
