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
import { SPILL_TO } from './spill.js';

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
  const { id, version } = revision;
  const present = memory.pending(id);
  if (present !== undefined && !isNewer(revision, present.revision)) return position;
  if (present === undefined && version <= memory.versionOf(id)) return position;
  const entry = memory.write(revision);
  const older = entry.logPosition === 0 ? undefined : entry.logPosition;
  entry.logPosition = position;
  entry.loggedVersion = revision.version;
  entry.durableVersion = revision.version;
  if (revision.refusal !== undefined) letters.restore(entry);
  // What does not fit stays in the log alone, and is read from there when its turn comes.
  else if (older === undefined && memory.pinnedBytes > memory.bytesMax * SPILL_TO && memory.spill(entry))
    return undefined;
  else if (entry.lane === 'none') flusher.addToBacklog(entry);
  return older;
}

function mark(memory: MemoryCache, id: string, position: number): void {
  const entry = memory.pending(id);
  if (entry !== undefined) entry.replacedPosition = position;
}
