/** The hash of a revision's content, and copies of a revision. */
import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import type { Revision } from '#engine/item/revision.js';
import { changed, contentHashOf, NO_CONTENT_HASH } from '#engine/item/revision.js';
import { revision } from '#engine/testing/revisions.js';

test('the content hash is the SHA-256 of the bytes', () => {
  for (const content of [Buffer.alloc(0), Buffer.from('abc'), Buffer.from([0, 255, 0xc3, 0x28])]) {
    expect(contentHashOf(revision({ content }))).toBe(createHash('sha256').update(content).digest('hex'));
  }
});

test('it depends on the content alone', () => {
  const content = Buffer.from('same');
  const one = revision({ content });
  const other = revision({ content, id: 'b', version: 9, state: 'x', contentType: 'json' });
  expect(contentHashOf(one)).toBe(contentHashOf(other));
  expect(contentHashOf(one)).not.toBe(contentHashOf(revision({ content: Buffer.from('Same') })));
});

test('a tombstone has a hash of 32 zero bytes, unlike an empty content', () => {
  expect(contentHashOf(revision({ deleted: true }))).toBe('0'.repeat(64));
  expect(NO_CONTENT_HASH).toBe('0'.repeat(64));
  expect(contentHashOf(revision({ content: Buffer.alloc(0) }))).not.toBe(NO_CONTENT_HASH);
});

test('it is computed once and kept', () => {
  const one = revision();
  expect(one.contentHash).toBeUndefined();
  const first = contentHashOf(one);
  expect(one.contentHash).toBe(first);
  one.contentHash = 'f'.repeat(64);
  expect(contentHashOf(one)).toBe('f'.repeat(64));
});

test('a copy has every field of its source but the changed ones, also where the source answers by getters', () => {
  const source = {
    ...revision({ state: 'x', contentType: 'json', traceParent: 'p', traceState: 's', homeInstanceId: 'h' }),
    contentHash: 'c'.repeat(64),
    redisTtlMs: 5,
    base: { version: 1, origin: 'o', rule: 'exactly' as const },
    refusal: { reason: 'r', atMs: 1 },
    cachedUntilMs: 9,
  };
  const answering: Revision = Object.create(
    {},
    Object.fromEntries(
      Object.entries(source).map(([name, value]) => [name, { get: () => value, enumerable: false }]),
    ),
  );
  expect(changed(answering, {})).toEqual(source);
  expect(changed(answering, { version: 7, refusal: undefined })).toEqual({
    ...source,
    version: 7,
    refusal: undefined,
  });
  expect(answering.version).toBe(source.version);
});
