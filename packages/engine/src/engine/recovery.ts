/**
 * Start from what a log holds: every record becomes a dirty entry again and joins the backlog, as if it had
 * just been submitted with its old version. Applying one that SQL already has changes nothing.
 */
import type { HybridClock } from '../item/hybrid-clock.js';
import { isNewer } from '../item/order.js';
import type { Revision } from '../item/revision.js';
import type { MemoryCache } from '../memory/memory-cache.js';
import type { LogContents } from '../wal/record-store.js';
import type { WriteAheadLog } from '../wal/write-ahead-log.js';
import type { DeadLetters } from './dead-letters.js';
import type { Flusher } from './flush.js';

export async function replay(
  log: WriteAheadLog,
  memory: MemoryCache,
  flusher: Flusher,
  clock: HybridClock,
  letters: DeadLetters,
): Promise<LogContents> {
  const replaced = new Map<number, string>();
  const contents = await log.load((revision, position) => {
    clock.merge(revision.version);
    const older = takeRecord(revision, position, memory, flusher, letters);
    if (older !== undefined) replaced.set(older, revision.id);
  });
  if (replaced.size > 0) {
    for (const [position, id] of replaced) mark(memory, id, position);
    log.release([...replaced.keys()], () => {
      for (const id of replaced.values()) mark(memory, id, 0);
    });
  }
  return contents;
}

/** Returns the position of the record that need not be kept, where the log held two of one id. */
function takeRecord(
  revision: Revision,
  position: number,
  memory: MemoryCache,
  flusher: Flusher,
  letters: DeadLetters,
): number | undefined {
  const present = memory.find(revision.id);
  if (present !== undefined && !isNewer(revision, present.revision)) return position;
  const older = present === undefined || present.logPosition === 0 ? undefined : present.logPosition;
  const entry = memory.write(revision);
  entry.logPosition = position;
  entry.loggedVersion = revision.version;
  entry.durableVersion = revision.version;
  if (revision.refusal !== undefined) letters.restore(entry);
  else if (entry.lane === 'none') flusher.addToBacklog(entry);
  return older;
}

function mark(memory: MemoryCache, id: string, position: number): void {
  const entry = memory.find(id);
  if (entry !== undefined) entry.replacedPosition = position;
}
