/** The check of what an engine is given beside its configuration: a typo in it would only show as silence. */
import { SyncEngineError } from '../base/errors.js';
import { nearest } from '../config/nearest.js';
import type { EvictionPolicy } from '../memory/tan-curve.js';
import type { Clock, Logger, Random, Scheduler } from '../ports/ports.js';
import type { ArchiveStore } from '../storage/archive-store.js';
import type { CacheStore } from '../storage/cache-store.js';
import { telemetryProblems } from '../telemetry/options.js';
import type { RecordStore } from '../wal/record-store.js';
import type { Ports } from './compose.js';

/** Every method of a port, so that the compiler refuses a list that lacks one. */
type Methods<T> = {
  readonly [K in keyof T as NonNullable<T[K]> extends (...given: never[]) => unknown ? K : never]-?: Presence;
};
type Presence = 'needed' | 'optional';

const CLOCK: Methods<Clock> = { now: 'needed', monotonic: 'needed' };
const SCHEDULER: Methods<Scheduler> = { after: 'needed', soon: 'needed' };
const RANDOM: Methods<Random> = { bytes: 'needed', number: 'needed' };
const LOGGER: Methods<Logger> = { debug: 'needed', info: 'needed', warn: 'needed', error: 'needed' };
const EVICTION_POLICY: Methods<EvictionPolicy> = { score: 'needed', evicted: 'optional' };
const RECORD_STORE: Methods<RecordStore> = {
  open: 'needed',
  load: 'needed',
  read: 'needed',
  commit: 'needed',
  close: 'needed',
};
const CACHE: Methods<CacheStore> = {
  open: 'needed',
  head: 'needed',
  moveHead: 'needed',
  getMany: 'needed',
  putMany: 'needed',
  exists: 'needed',
  deleteMany: 'needed',
  memory: 'needed',
  sample: 'needed',
  evict: 'needed',
  ping: 'needed',
  close: 'needed',
};
const ARCHIVE: Methods<ArchiveStore> = {
  open: 'needed',
  getMany: 'needed',
  apply: 'needed',
  scan: 'needed',
  count: 'needed',
  ids: 'needed',
  changesSince: 'needed',
  digests: 'needed',
  children: 'needed',
  scrub: 'needed',
  verifyPath: 'needed',
  collect: 'needed',
  keepLetters: 'needed',
  dropLetters: 'needed',
  letters: 'needed',
  ping: 'needed',
  close: 'needed',
};

const METHODS: Readonly<Record<Exclude<keyof Ports, 'telemetry'>, Readonly<Record<string, Presence>>>> = {
  clock: CLOCK,
  scheduler: SCHEDULER,
  random: RANDOM,
  logger: LOGGER,
  archive: ARCHIVE,
  cache: CACHE,
  recordStore: RECORD_STORE,
  evictionPolicy: EVICTION_POLICY,
};
const KNOWN = [...Object.keys(METHODS), 'telemetry'];

/** @throws `CONFIG` listing every problem: unknown ports, and those that lack methods. */
export function assertPorts(ports: unknown): asserts ports is Partial<Ports> {
  const problems = [...problemsOf(ports)];
  if (problems.length === 0) return;
  const heading = problems.length === 1 ? 'a mistake' : `${problems.length} mistakes`;
  throw new SyncEngineError(
    'CONFIG',
    `The second argument, the ports, has ${heading}: ${problems.join('; ')}.`,
    { context: { problems } },
  );
}

function* problemsOf(ports: unknown): Generator<string> {
  if (typeof ports !== 'object' || ports === null || Array.isArray(ports)) {
    yield `it must be an object of ${KNOWN.join(', ')}`;
    return;
  }
  for (const name of Object.keys(ports)) if (!KNOWN.includes(name)) yield unknown(name);
  const given = ports as Readonly<Record<string, unknown>>;
  for (const [name, methods] of Object.entries(METHODS)) {
    const lacking = given[name] === undefined ? [] : lackingOf(given[name], methods);
    if (lacking.length > 0) yield `${name} must be an object that has ${lacking.join(', ')}`;
  }
  if (given['telemetry'] !== undefined) yield* telemetryProblems(given['telemetry']);
}

function unknown(name: string): string {
  const suggestion = nearest(name, KNOWN);
  const known =
    suggestion === undefined ? `; known are ${KNOWN.join(', ')}` : ` (did you mean ${suggestion}?)`;
  return `unknown port ${JSON.stringify(name)}${known}`;
}

function lackingOf(port: unknown, methods: Readonly<Record<string, Presence>>): string[] {
  const has = (name: string): unknown => (port as Readonly<Record<string, unknown>> | null)?.[name];
  return Object.entries(methods)
    .filter(([name, presence]) => {
      if (presence === 'optional' && has(name) === undefined) return false;
      return typeof has(name) !== 'function';
    })
    .map(([name]) => `${name}()`);
}
