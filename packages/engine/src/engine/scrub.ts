/** Looks for damage that hides: re-reads every row, and adds up digests anew. */
import { SyncEngineError } from '../base/errors.js';
import { split } from '../merkle/path.js';
import type { GuardedArchive } from '../storage/guarded-archive.js';
import { abortable } from './abortable.js';

/** What a scrub found; empty lists are good. */
export interface ScrubResult {
  /** Rows read. */
  readonly checked: number;
  /** Ids whose rows do not fit their checksums, hashes or leaves. */
  readonly corrupt: string[];
  /** Paths whose digests do not fit the rows below them, joined with dots. */
  readonly drift: string[];
}

export interface ScrubParts {
  readonly archive: GuardedArchive | undefined;
  readonly config: { readonly merkleEnabled: boolean };
  readonly ports: { readonly random: { number(): number } };
  corrupt(tier: 'sql', id: string | undefined): void;
}

export async function scrub(
  pageSize: number,
  signal: AbortSignal | undefined,
  parts: ScrubParts,
): Promise<ScrubResult> {
  const { archive } = parts;
  if (archive === undefined) {
    throw new SyncEngineError('CONFIG', 'There is nothing to scrub without SQL; sqlUrl configures it.');
  }
  const corrupt: string[] = [];
  let checked = 0;
  let picked: string | undefined;
  for (let after: string | undefined, first = true; first || after !== undefined; first = false) {
    const page = await abortable(archive.scrub(after, pageSize), signal);
    checked += page.checked;
    for (const id of page.corrupt) {
      corrupt.push(id);
      parts.corrupt('sql', id);
    }
    // Each page takes the pick with the chance that makes every page equally likely.
    if (page.last !== undefined && parts.ports.random.number() * checked < page.checked) picked = page.last;
    after = page.last;
  }
  const drift = parts.config.merkleEnabled ? await driftOf(archive, picked, signal) : [];
  for (const path of drift) parts.corrupt('sql', path);
  return { checked, corrupt, drift };
}

/** The root, and the paths above one id, whose digests do not fit what lies below them. */
async function driftOf(
  archive: GuardedArchive,
  id: string | undefined,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const segments = id === undefined ? [] : split(id).slice(0, -1);
  const drift: string[] = [];
  for (let depth = 0; depth <= segments.length; depth++) {
    const path = segments.slice(0, depth);
    if (!(await abortable(archive.verifyPath(path), signal))) drift.push(path.join('.'));
  }
  return drift;
}
