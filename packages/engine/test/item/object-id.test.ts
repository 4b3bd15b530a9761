/** What an id may be: limits are in bytes, and nothing is rewritten. */
import { describe, expect, test } from 'vitest';
import { SyncEngineError } from '#engine/base/errors.js';
import { assertId, ID_BYTES_MAX } from '#engine/item/object-id.js';
import { STRANGE_IDS } from '#engine/testing/strange-ids.js';

function refusal(id: unknown): unknown {
  try {
    assertId(id);
  } catch (error) {
    return error;
  }
  return undefined;
}

function refusalCode(id: unknown): string | undefined {
  const error = refusal(id);
  return error instanceof SyncEngineError ? error.code : undefined;
}

test('every well-formed string within the limit is an id', () => {
  for (const id of STRANGE_IDS) expect(refusal(id), JSON.stringify(id)).toBeUndefined();
});

test('U+0000 is allowed anywhere', () => {
  for (const id of ['\0', 'a\0', '\0a', '\0'.repeat(ID_BYTES_MAX)]) expect(refusal(id)).toBeUndefined();
});

describe('the limit is 1,024 bytes of UTF-8', () => {
  test.each([
    ['one byte', 'x', 1],
    ['two bytes', 'é', 2],
    ['three bytes', '€', 3],
    ['four bytes', '😀', 4],
  ])('for characters of %s', (_name, character, bytes) => {
    const full = character.repeat(ID_BYTES_MAX / bytes);
    const padded = full + 'x'.repeat(ID_BYTES_MAX - Buffer.byteLength(full));
    expect(Buffer.byteLength(padded)).toBe(1024);
    expect(refusal(padded)).toBeUndefined();
    expect(refusalCode(`${padded}x`)).toBe('CONFIG');
    expect(refusalCode(character + full)).toBe('CONFIG');
  });

  test('also where the string is short enough in characters', () => {
    expect(refusalCode('€'.repeat(342))).toBe('CONFIG');
    expect(refusal('€'.repeat(341))).toBeUndefined();
  });
});

test('an empty string is refused', () => {
  expect(refusalCode('')).toBe('CONFIG');
});

test('half of a surrogate pair is refused, in short ids and in long ones; a whole pair is not', () => {
  for (const half of ['\ud800', '\udbff', '\udc00', '\udfff', '\ude00\ud83d']) {
    for (const id of [half, `a${half}`, `${half}a`, 'x'.repeat(500) + half])
      expect(refusalCode(id)).toBe('CONFIG');
  }
  expect(refusal('\ud83d\ude00')).toBeUndefined();
});

test('what is not a string is a TypeError that names its type', () => {
  for (const [value, type] of [
    [undefined, 'undefined'],
    [null, 'null'],
    [1, 'number'],
    [{}, 'object'],
    [Buffer.from('a'), 'object'],
    [new String('a'), 'object'],
  ] as const) {
    const error = refusal(value);
    expect(error).toBeInstanceOf(TypeError);
    expect((error as Error).message).toContain(type);
  }
});

test('the refusal of a long id says the size and does not carry the whole id', () => {
  const error = refusal('x'.repeat(100_000)) as SyncEngineError;
  expect(error.message).toContain('100000');
  expect(error.outcome).toBe('not-applied');
  expect(error.context.id?.length).toBeLessThan(100);
});
