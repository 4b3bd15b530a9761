/** Revisions for tests, by hand and at random. */

import fc from 'fast-check';
import type { Revision } from '../item/revision.js';

export function revision(change: Partial<Revision> = {}): Revision {
  const deleted = change.deleted ?? false;
  return {
    id: 'a',
    version: 1,
    origin: 'node\0\0\0\0\0\0\0\0\0\0\0\x01',
    deleted,
    contentType: 'binary',
    state: 'default',
    content: deleted ? Buffer.alloc(0) : Buffer.from('content'),
    ...change,
  };
}

const text = (bytesMax: number) =>
  fc
    .string({ unit: 'binary', minLength: 1, maxLength: bytesMax })
    .filter((value) => value.isWellFormed() && Buffer.byteLength(value) <= bytesMax);

/** Any revision that the engine can make. */
export const anyRevision: fc.Arbitrary<Revision> = fc
  .record({
    id: text(1024),
    version: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    origin: fc
      .uint8Array({ minLength: 16, maxLength: 16 })
      .map((bytes) => Buffer.from(bytes).toString('latin1')),
    deleted: fc.boolean(),
    contentType: fc.constantFrom('json' as const, 'binary' as const),
    state: text(64),
    content: fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes)),
    homeInstanceId: fc.option(text(255), { nil: undefined }),
    traceParent: fc.option(text(512), { nil: undefined }),
    traceState: fc.option(text(512), { nil: undefined }),
    redisTtlMs: fc.option(fc.constantFrom(0, 1000, 315_360_000_000), { nil: undefined }),
  })
  .map((made) => (made.deleted ? { ...made, content: Buffer.alloc(0) } : made));

/** What of a revision has to survive; the hash is computed when it is needed. */
export function essence(made: Revision): object {
  const { contentHash: _hash, ...rest } = made;
  return { ...rest, content: made.content.toString('hex') };
}
