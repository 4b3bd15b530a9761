/**
 * Ids are opaque: any well-formed Unicode string of 1 to 1,024 UTF-8 bytes. Nothing is folded, trimmed or
 * rewritten, so ids that differ in one byte are different items in every tier.
 */
import { SyncEngineError } from '../base/errors.js';

export const ID_BYTES_MAX = 1024;

/** Throws unless `id` is a usable id. @throws TypeError for a non-string, `CONFIG` for a bad string. */
export function assertId(id: unknown): asserts id is string {
  if (typeof id !== 'string') {
    throw new TypeError(`An id is a string; got ${id === null ? 'null' : typeof id}.`);
  }
  // A string of up to a third of the limit cannot exceed it: UTF-8 needs at most 3 bytes per UTF-16 unit.
  if (id.length > 0 && id.length <= ID_BYTES_MAX / 3 && id.isWellFormed()) return;
  throwIfBad(id);
}

function throwIfBad(id: string): void {
  if (id.length === 0) {
    throw new SyncEngineError('CONFIG', 'The id is empty; an id has 1 to 1,024 UTF-8 bytes.', {
      context: { id },
    });
  }
  if (!id.isWellFormed()) {
    throw new SyncEngineError(
      'CONFIG',
      'The id has half of a surrogate pair, so it has no UTF-8 form; pass a well-formed string (String.prototype.toWellFormed mends one).',
      { context: { id } },
    );
  }
  const bytes = Buffer.byteLength(id);
  if (bytes > ID_BYTES_MAX) {
    throw new SyncEngineError(
      'CONFIG',
      `The id has ${bytes} UTF-8 bytes; at most ${ID_BYTES_MAX} are allowed.`,
      {
        context: { id: `${id.slice(0, 64)}…`, bytes },
      },
    );
  }
}
