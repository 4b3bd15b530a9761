/** Where a server is and how to get in, from a URL; what people are told of it has no credentials. */
import { readFileSync } from 'node:fs';
import { SyncEngineError } from '../../base/errors.js';
import type { ServerHost } from '../host-rota.js';
import { decodedPart, unknownOption } from '../url-part.js';

export interface ServerAddress {
  /** Nodes of one cluster, or one server; one of them is used at a time, the first that can be. */
  readonly hosts: readonly ServerHost[];
  readonly user: string;
  readonly password: string;
  readonly database: string;
  /** `undefined`: without TLS. */
  readonly tls: { readonly ca: string | undefined; readonly verify: boolean } | undefined;
  /** `mysql://shop@db:3306/shop`. */
  readonly place: string;
}

const OPTIONS = ['sslmode', 'sslca'];
const PORT_MAX = 65_535;
const MODES = ['disable', 'require', 'verify-full'];

/** What is before the hosts, the hosts, and the rest. */
const PARTS = /^([a-z][a-z0-9+.-]*:\/\/(?:[^/?#]*@)?)([^/?#@]*)(.*)$/is;

/** @throws `CONFIG`; the message repeats nothing of the URL but host and option names. */
export function addressOf(url: string, defaultPort: number): ServerAddress {
  const [, head = '', names = '', rest = ''] = PARTS.exec(url) ?? [];
  const [first, ...others] = names.split(',').map((name) => parsedUrl(`${head}${name}${rest}`, name));
  const parsed = first as URL;
  const database = decodedPart(parsed.pathname.slice(1), config);
  if (database === '' || database.includes('/'))
    throw config('it names no database; it has the form scheme://user:password@host:port/database');
  for (const name of parsed.searchParams.keys())
    if (!OPTIONS.includes(name)) throw config(unknownOption(name, OPTIONS));
  const mode = parsed.searchParams.get('sslmode') ?? 'disable';
  if (!MODES.includes(mode)) throw config(`sslmode is one of ${MODES.join(', ')}`);
  const caPath = parsed.searchParams.get('sslca');
  if (caPath !== null && mode === 'disable') throw config('sslca needs sslmode=verify-full');
  const all = [parsed, ...others];
  const portOf = ({ port }: URL): number => (port === '' ? defaultPort : Number(port));
  const user = decodedPart(parsed.username, config);
  return {
    hosts: all.map((one) => ({ host: one.hostname.replace(/^\[|\]$/g, ''), port: portOf(one) })),
    user,
    password: decodedPart(parsed.password, config),
    database,
    tls: mode === 'disable' ? undefined : { ca: readCa(caPath), verify: mode === 'verify-full' },
    place: `${parsed.protocol}//${user === '' ? '' : `${user}@`}${all.map((one) => `${one.hostname}:${portOf(one)}`).join(',')}/${database}`,
  };
}

function parsedUrl(url: string, name: string): URL {
  // The number is not repeated: behind an @ or / that was not encoded it is part of a password.
  const port = /:(\d+)$/.exec(name)?.[1];
  if (port !== undefined && (Number(port) < 1 || Number(port) > PORT_MAX))
    throw config(`a port in it is out of range; a port is 1 to ${PORT_MAX}`);
  try {
    return new URL(url);
  } catch {
    throw config(
      'it is no URL; it has the form scheme://user:password@host:port/database, with several nodes of one cluster scheme://user:password@host:port,host:port/database',
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
  return new SyncEngineError('CONFIG', `sqlUrl cannot be used: ${problem}.`, { context: { tier: 'sql' } });
}
