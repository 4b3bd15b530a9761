/** Where a server is and how to get in, from a URL; what people are told of it has no credentials. */
import { readFileSync } from 'node:fs';
import { SyncEngineError } from '../../base/errors.js';
import { decodedPart } from '../url-part.js';

export interface ServerAddress {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  /** `undefined`: without TLS. */
  readonly tls: { readonly ca: string | undefined; readonly verify: boolean } | undefined;
  /** `mysql://shop@db:3306/shop`. */
  readonly place: string;
}

const OPTIONS = ['sslmode', 'sslca'];
const MODES = ['disable', 'require', 'verify-full'];

/** @throws `CONFIG`; the message repeats nothing of the URL but host and option names. */
export function addressOf(url: string, defaultPort: number): ServerAddress {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw config('it is no URL; it has the form scheme://user:password@host:port/database');
  }
  const database = decodedPart(parsed.pathname.slice(1), config);
  if (database === '' || database.includes('/'))
    throw config('it names no database; it has the form scheme://user:password@host:port/database');
  for (const name of parsed.searchParams.keys())
    if (!OPTIONS.includes(name))
      throw config(`it has the unknown option ${JSON.stringify(name)}; known are ${OPTIONS.join(', ')}`);
  const mode = parsed.searchParams.get('sslmode') ?? 'disable';
  if (!MODES.includes(mode)) throw config(`sslmode is one of ${MODES.join(', ')}`);
  const caPath = parsed.searchParams.get('sslca');
  if (caPath !== null && mode === 'disable') throw config('sslca needs sslmode=verify-full');
  const host = parsed.hostname.replace(/^\[|\]$/g, '');
  const port = parsed.port === '' ? defaultPort : Number(parsed.port);
  const user = decodedPart(parsed.username, config);
  return {
    host,
    port,
    user,
    password: decodedPart(parsed.password, config),
    database,
    tls: mode === 'disable' ? undefined : { ca: readCa(caPath), verify: mode === 'verify-full' },
    place: `${parsed.protocol}//${user === '' ? '' : `${user}@`}${parsed.hostname}:${port}/${database}`,
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
  return new SyncEngineError('CONFIG', `sqlUrl cannot be used: ${problem}.`, { context: { tier: 'sql' } });
}
