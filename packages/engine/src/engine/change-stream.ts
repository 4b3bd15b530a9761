/** What was committed, in order, with values: the archive's change log as callers read it. */
import { SyncEngineError } from '../base/errors.js';
import { formatOrigin } from '../item/origin.js';
import type { Revision } from '../item/revision.js';
import { inBatch, itemOf, type SyncItem } from '../item/sync-item.js';
import type { ChangeBatch, ChangeHead } from '../storage/archive-store.js';
import { FIRST_CHAIN } from '../storage/change-codec.js';
import type { GuardedArchive } from '../storage/guarded-archive.js';
import { abortable } from './abortable.js';

/** Where a reader stands, to be kept and given back. Opaque. */
export type ChangePosition = string;

/** One committed write, or a gap where changes were missed. */
export type Change =
  | {
      readonly op: 'put';
      readonly id: string;
      readonly version: number;
      readonly origin: string;
      readonly item: SyncItem;
      /** Where to go on after this change: what was not yet handed out comes again, and maybe a little more. */
      readonly position: ChangePosition;
    }
  | {
      readonly op: 'delete';
      readonly id: string;
      readonly version: number;
      readonly origin: string;
      readonly position: ChangePosition;
    }
  /**
   * Changes are missing: they were trimmed, or the archive is a restored copy. Read everything anew
   * (`scanPrefix('')`), then go on from `position`.
   */
  | { readonly op: 'gap'; readonly reason: 'trimmed' | 'restored'; readonly position: ChangePosition };

/** Where a reader of changes begins, and whether it waits for more. */
export interface ChangeOptions {
  /** Begins behind this position; without it, at the oldest change that is kept. */
  readonly from?: ChangePosition;
  /** Wait for more at the end (default), or end there. */
  readonly tail?: boolean;
  readonly signal?: AbortSignal;
}

const BATCH = 1000;
/** Of the chain: numbers begin anew with another archive. */
const BATCH_ID_DIGITS = 12;
/** Another process may have written where no own commit says so. */
const POLL_MS = 1000;
const START: ChangeHead = { position: 0, chain: FIRST_CHAIN };

export interface StreamParts {
  readonly archive: GuardedArchive;
  /** Commits so far. */
  readonly commits: () => number;
  /** Resolves at the next commit, when the engine closes, or after `ms`. */
  readonly nextCommit: (ms: number) => Promise<void>;
  readonly closed: () => boolean;
}

/** @throws `CONFIG` for a position that is none; `TIER_UNAVAILABLE`; `CORRUPTION`; `ABORTED`. */
export async function* streamChanges(options: ChangeOptions, parts: StreamParts): AsyncGenerator<Change> {
  const { signal } = options;
  let at = options.from === undefined ? START : headOf(options.from);
  while (!parts.closed()) {
    const commits = parts.commits();
    const page = await abortable(parts.archive.changesSince(at, BATCH), signal);
    if (page.gap !== 'none') {
      at = page.head;
      yield gapAt(at, page.gap === 'trimmed' ? 'trimmed' : 'restored');
      continue;
    }
    for (const batch of page.batches) {
      yield* changesOf(batch, at, parts.archive, signal);
      at = batch;
    }
    if (page.batches.length > 0) continue;
    if (options.tail === false) return;
    if (parts.commits() === commits) await abortable(parts.nextCommit(POLL_MS), signal);
  }
}

/** Changes of one transaction that are still the newest of their ids: a later one will bring what is newer. */
async function* changesOf(
  batch: ChangeBatch,
  before: ChangeHead,
  archive: GuardedArchive,
  signal: AbortSignal | undefined,
): AsyncGenerator<Change> {
  const changes = batch.changes.filter((change) => change.kind !== 'collected');
  const rows = await abortable(archive.getMany(changes.map((change) => change.id)), signal);
  const last = changes.length - 1;
  const batchId = `${batch.position}-${batch.chain.slice(0, BATCH_ID_DIGITS)}`;
  for (let at = 0; at <= last; at++) {
    const { id, version, origin, kind } = changes[at] as (typeof changes)[number];
    const row = rows[at];
    if (row instanceof SyncEngineError) throw row;
    if (row === undefined || row.version !== version || row.origin !== origin) continue;
    const position = positionOf(at === last ? batch : before);
    const place = { id, version, origin: formatOrigin(origin), position };
    if (kind === 'delete') yield { op: 'delete', ...place };
    else yield { op: 'put', ...place, item: inBatch(itemOf(row as Revision), batchId) };
  }
}

function gapAt(head: ChangeHead, reason: 'trimmed' | 'restored'): Change {
  return { op: 'gap', reason, position: positionOf(head) };
}

function positionOf({ position, chain }: ChangeHead): ChangePosition {
  return `${position}-${chain}`;
}

function headOf(position: unknown): ChangeHead {
  const match = typeof position === 'string' ? /^(\d{1,16})-([0-9a-f]{64})$/.exec(position) : null;
  if (match === null) {
    throw new SyncEngineError('CONFIG', 'from is no position: pass back one that a change had, as it was.');
  }
  return { position: Number(match[1]), chain: match[2] as string };
}
