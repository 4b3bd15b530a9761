/**
 * The one order of writes to one id: `(version, origin, deleted after live, content hash)`. Memory, log,
 * archive and sites all decide "newest wins" with this comparison, so they can never disagree.
 */
import { contentHashOf, type Revision } from './revision.js';

/** Negative when `a` is older than `b`, positive when newer, 0 for the same write. */
export function compareOrder(a: Revision, b: Revision): number {
  if (a.version !== b.version) return a.version < b.version ? -1 : 1;
  if (a.origin !== b.origin) return a.origin < b.origin ? -1 : 1;
  if (a.deleted !== b.deleted) return a.deleted ? 1 : -1;
  if (a.deleted) return 0;
  const hashA = contentHashOf(a);
  const hashB = contentHashOf(b);
  if (hashA === hashB) return 0;
  return hashA < hashB ? -1 : 1;
}

export function isNewer(a: Revision, b: Revision): boolean {
  return compareOrder(a, b) > 0;
}
