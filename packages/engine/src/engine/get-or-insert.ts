/**
 * The item of an id, or what a factory makes of it. Concurrent calls for one id share one factory call.
 *
 * Invariant: a value that was loaded before a write of the id began is not submitted after it (`loads.ts`).
 * So a delete during the load is not undone by what it deleted.
 */
import type { SubmitOptions, SubmitReceipt } from '../config/submit-options.js';
import { itemOf, SyncItem } from '../item/sync-item.js';
import type { MemoryCache } from '../memory/memory-cache.js';
import type { Load, Loads } from './loads.js';

/** Makes the item of an id that does not exist yet. `signal` is aborted when all who wait for it have given up. */
export type LoadFactory = (id: string, signal: AbortSignal) => Promise<SyncItem> | SyncItem;

/** How often a load that a write overtook is made again before its value is returned, not submitted. */
const LOADS_MAX = 3;

export interface LoadParts {
  readonly memory: MemoryCache;
  readonly loads: Loads;
  /** Whether what memory holds may be served without a look at what others wrote. */
  readonly current: () => boolean;
  readonly get: (id: string) => Promise<SyncItem | undefined>;
  readonly submit: (item: SyncItem, options: SubmitOptions | undefined) => Promise<SubmitReceipt>;
}

export function getOrInsert(
  id: string,
  factory: LoadFactory,
  options: SubmitOptions | undefined,
  parts: LoadParts,
): Promise<SyncItem> {
  const found = parts.memory.read(id);
  if (typeof found !== 'string' && parts.current()) return Promise.resolve(found);
  const underWay = parts.loads.find(id);
  const load = underWay ?? parts.loads.begin(id);
  load.join(options?.signal);
  load.promise ??= run(id, factory, options, load, parts).finally(() => parts.loads.end(id));
  return load.promise;
}

async function run(
  id: string,
  factory: LoadFactory,
  options: SubmitOptions | undefined,
  load: Load,
  parts: LoadParts,
): Promise<SyncItem> {
  for (let attempt = 1; ; attempt++) {
    load.overtaken = false;
    const found = await parts.get(id);
    if (found !== undefined) return found;
    const made = await callFactory(id, factory, load.signal);
    if (load.overtaken) {
      if (attempt < LOADS_MAX) continue;
      return made;
    }
    // Others may wait for it whose signal is another, or who have none.
    const { version } = await parts.submit(made, withoutSignal(options));
    const newest = parts.memory.cached(id) ?? parts.memory.newest(id);
    return typeof newest === 'object' && newest.version === version ? itemOf(newest) : made;
  }
}

async function callFactory(id: string, factory: LoadFactory, signal: AbortSignal): Promise<SyncItem> {
  const made = await factory(id, signal);
  if (!(made instanceof SyncItem) || made.id !== id) {
    throw new TypeError('The factory must return a SyncItem with the id that it was called with.');
  }
  return made;
}

function withoutSignal(options: SubmitOptions | undefined): SubmitOptions | undefined {
  if (options?.signal === undefined) return options;
  const { signal: _signal, ...others } = options;
  return others;
}
