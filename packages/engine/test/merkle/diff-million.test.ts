/** What a comparison costs under a path of a million children; a file of its own, as it takes seconds. */
import { test } from 'vitest';
import { expectCheap, mixedLeaves } from './comparison.js';

test('1,000,000 children: 5 round trips, and at most 4 KiB for one difference, 32 KiB for ten', async () => {
  await expectCheap(mixedLeaves(1_000_000), [1, 10]);
});
