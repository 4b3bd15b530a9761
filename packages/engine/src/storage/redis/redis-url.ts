/** Where a Redis server is and how to get in, from a URL; what people are told of it has no credentials. */
import { readFileSync } from 'node:fs';
import { SyncEngineError } from '../../base/errors.js';
import type { ServerHost } from '../host-rota.js';
import { decodedPart, unknownOption } from '../url-part.js';

const DEFAULT_PORT = 6379;
const OPTIONS = ['sslmode', 'sslca'];
const MODES = ['require', 'verify-full'];

export interface RedisAddress {
  /** One server, or some nodes of a cluster. */
  readonly hosts: readonly ServerHost[];
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly database: number;
  /** `undefined`: without TLS. */
  readonly tls: { readonly ca: string | undefined; readonly verify: boolean } | undefined;
  /** `redis://cache:6379/0`; several nodes are separated by commas. */
  readonly place: string;
}

/** What is before the hosts, the hosts, and the rest. */
const PARTS = /^([a-z]+:\/\/(?:[^/?#]*@)?)([^/?#@]*)(.*)$/is;

/** @throws `CONFIG`; the message repeats nothing of the URL but names of options. */
export function redisAddressOf(url: string): RedisAddress {
  const [, start = '', list = '', rest = ''] = PARTS.exec(url) ?? [];
  const all = list.split(',').map((name) => parsedUrl(`${start}${name}${rest}`));
  const parsed = all[0] as URL;
  for (const name of parsed.searchParams.keys())
    if (!OPTIONS.includes(name)) throw config(unknownOption(name, OPTIONS));
  const path = parsed.pathname.replace(/^\//, '');
  if (!/^\d{0,5}$/.test(path)) throw config('its path is the number of a database, such as /0');
  const secure = parsed.protocol === 'rediss:';
  const mode = parsed.searchParams.get('sslmode') ?? 'verify-full';
  if (!MODES.includes(mode)) throw config(`sslmode is one of ${MODES.join(', ')}`);
  const caPath = parsed.searchParams.get('sslca');
  if (!secure && parsed.searchParams.size > 0) throw config('sslmode and sslca need rediss://');
  const hosts = all.map(({ hostname, port }) => ({
    host: hostname.replace(/^\[|\]$/g, '') || 'localhost',
    port: port === '' ? DEFAULT_PORT : Number(port),
  }));
  const names = all.map(({ hostname }, at) => `${hostname || 'localhost'}:${hosts[at]?.port}`);
  return {
    hosts,
    username: decodedPart(parsed.username, config) || undefined,
    password: decodedPart(parsed.password, config) || undefined,
    database: Number(path),
    tls: secure ? { ca: readCa(caPath), verify: mode === 'verify-full' } : undefined,
    place: `${parsed.protocol}//${names.join(',')}/${Number(path)}`,
  };
}

function parsedUrl(url: string): URL {
  try {
    return new URL(url);
  } catch {
    throw config(
      'it is no URL; it has the form redis://user:password@host:port/0, rediss:// for TLS, with several nodes of a cluster redis://host:port,host:port',
    );
  }
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
