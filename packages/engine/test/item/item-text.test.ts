/** The limits of the texts beside the content fit the fields that carry their lengths. */
import { expect, test } from 'vitest';
import { isText, TEXT_LIMITS } from '#engine/item/item-text.js';

test('lengths are counted in bytes of UTF-8, from the least to the most allowed', () => {
  const limit = { name: 'text', bytesMin: 2, bytesMax: 4 };
  expect(['x', 'xx', 'xxxx', 'xxxxx'].map((text) => isText(text, limit))).toEqual([false, true, true, false]);
  expect(['é', 'éé', 'ééx', '😀', '€€'].map((text) => isText(text, limit))).toEqual([
    true,
    true,
    false,
    true,
    false,
  ]);
});

test('half of a surrogate pair is no text', () => {
  expect(isText('ab\ud800', TEXT_LIMITS.state)).toBe(false);
  expect(isText('ab\0', TEXT_LIMITS.state)).toBe(true);
});

test('every text fits the length field that it has in an envelope', () => {
  expect(TEXT_LIMITS.state.bytesMax).toBeLessThan(2 ** 8);
  expect(TEXT_LIMITS.homeInstanceId.bytesMax).toBeLessThan(2 ** 8);
  expect(TEXT_LIMITS.traceParent.bytesMax).toBeLessThan(2 ** 16);
  expect(TEXT_LIMITS.traceState.bytesMax).toBeLessThan(2 ** 16);
  // An absent text is written as an empty one, so an empty one must not be allowed.
  for (const limit of Object.values(TEXT_LIMITS)) expect(limit.bytesMin).toBeGreaterThan(0);
});
