/** Ids in the order of their bytes, and sorted runs of them as one. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bytesBehind, compareIds, mergeRuns } from '#engine/item/id-order.js';

/** Few characters, on both sides of every border: one to four bytes, below and above the surrogates. */
const id = fc
  .array(
    fc.constantFrom(
      'a',
      'b',
      '\x7f',
      '\x80',
      '\u07ff',
      '\u0800',
      '\ud7ff',
      '\ue000',
      '\uffff',
      '\u{10000}',
      '\u{10ffff}',
    ),
    {
      maxLength: 4,
    },
  )
  .map((characters) => characters.join(''));

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));
const noPause = async (): Promise<void> => {};

test('ids are in the order of their UTF-8 bytes', () => {
  fc.assert(
    fc.property(id, id, (a, b) => {
      expect(Math.sign(compareIds(a, b))).toBe(byBytes(a, b));
    }),
    { numRuns: 1000 },
  );
});

test('a code point beyond 16 bits comes after every other, unlike in an order of UTF-16', () => {
  expect(compareIds('\u{10000}', '\uffff')).toBeGreaterThan(0);
  expect(compareIds('\u{10000}', '\ue000')).toBeGreaterThan(0);
  expect(compareIds('\ud7ff', '\u{10000}')).toBeLessThan(0);
  expect(compareIds('\u{10000}', '\u{10001}')).toBeLessThan(0);
  expect('\u{10000}' < '\uffff').toBe(true);
});

test('between a prefix and the bytes behind it lie the ids that begin with it, and no others', () => {
  expect(bytesBehind('')).toBeUndefined();
  expect(bytesBehind('users/')).toEqual(Buffer.from('users0'));
  fc.assert(
    fc.property(id, id, (prefix, other) => {
      const end = bytesBehind(prefix);
      const within = Buffer.compare(Buffer.from(other), Buffer.from(prefix)) >= 0;
      const before = end === undefined || Buffer.compare(Buffer.from(other), end) < 0;
      expect(within && before).toBe(other.startsWith(prefix));
    }),
    { numRuns: 1000 },
  );
});

test('sorted runs become one sorted run that has each id once, however many there are', async () => {
  const run = fc.uniqueArray(id, { maxLength: 12 }).map((ids) => ids.sort(byBytes));
  await fc.assert(
    fc.asyncProperty(
      fc.array(run, { maxLength: 9 }),
      fc.integer({ min: 1, max: 5 }),
      async (runs, atOnce) => {
        const before = structuredClone(runs);
        expect(await mergeRuns(runs, atOnce, noPause)).toEqual([...new Set(runs.flat())].sort(byBytes));
        expect(runs).toEqual(before);
      },
    ),
  );
});

test('a merge pauses after every so many ids, and goes on only then', async () => {
  const runs = [['a', 'c', 'e'], ['b', 'd', 'f'], ['g']];
  const resume: (() => void)[] = [];
  const merged = mergeRuns(runs, 4, () => new Promise<void>((resolve) => resume.push(resolve)));
  // Six ids of the first two runs, one of the third alone, then seven: thirteen steps, three pauses.
  for (let pause = 1; pause <= 3; pause++) {
    await new Promise((resolve) => setImmediate(resolve));
    expect(resume).toHaveLength(pause);
    resume[pause - 1]?.();
  }
  expect(await merged).toEqual(['a', 'b', 'c', 'd', 'e', 'f', 'g']);
  expect(resume).toHaveLength(3);
});
