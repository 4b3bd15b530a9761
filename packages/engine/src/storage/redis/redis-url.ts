/** Where a Redis server is and how to get in, from a URL; what people are told of it has no credentials. */
import { readFileSync } from 'node:fs';
import { SyncEngineError } from '../../base/errors.js';
import { decodedPart } from '../url-part.js';

const DEFAULT_PORT = 6379;
const OPTIONS = ['sslmode', 'sslca'];
const MODES = ['require', 'verify-full'];

export interface RedisAddress {
  readonly host: string;
  readonly port: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly database: number;
  /** `undefined`: without TLS. */
  readonly tls: { readonly ca: string | undefined; readonly verify: boolean } | undefined;
  /** `redis://cache:6379/0`. */
  readonly place: string;
}

/** @throws `CONFIG`; the message repeats nothing of the URL but names of options. */
export function redisAddressOf(url: string): RedisAddress {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw config('it is no URL; it has the form redis://user:password@host:port/0, or rediss:// for TLS');
  }
  for (const name of parsed.searchParams.keys())
    if (!OPTIONS.includes(name))
      throw config(`it has the unknown option ${JSON.stringify(name)}; known are ${OPTIONS.join(', ')}`);
  const path = parsed.pathname.replace(/^\//, '');
  if (!/^\d{0,5}$/.test(path)) throw config('its path is the number of a database, such as /0');
  const secure = parsed.protocol === 'rediss:';
  const mode = parsed.searchParams.get('sslmode') ?? 'verify-full';
  if (!MODES.includes(mode)) throw config(`sslmode is one of ${MODES.join(', ')}`);
  const caPath = parsed.searchParams.get('sslca');
  if (!secure && parsed.searchParams.size > 0) throw config('sslmode and sslca need rediss://');
  const host = parsed.hostname.replace(/^\[|\]$/g, '') || 'localhost';
  const port = parsed.port === '' ? DEFAULT_PORT : Number(parsed.port);
  return {
    host,
    port,
    username: decodedPart(parsed.username, config) || undefined,
    password: decodedPart(parsed.password, config) || undefined,
    database: Number(path),
    tls: secure ? { ca: readCa(caPath), verify: mode === 'verify-full' } : undefined,
    place: `${parsed.protocol}//${parsed.hostname || 'localhost'}:${port}/${Number(path)}`,
  };
}

function readCa(path: string | null): string | undefined {
  if (path === null) return undefined;
  try {
    return readFileSync(path, 'utf8');
  } catch {
    throw config('the file that sslca names cannot be read');
  }
}

function config(problem: string): SyncEngineError {
  return new SyncEngineError('CONFIG', `redisUrl cannot be used: ${problem}.`, {
    context: { tier: 'redis' },
  });
}
