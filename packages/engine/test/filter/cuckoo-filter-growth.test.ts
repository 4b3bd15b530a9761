/** Growth of a filter over millions of ids; a file of its own, as it takes seconds. */
import { expect, test } from 'vitest';
import { CuckooFilter } from '#engine/filter/cuckoo-filter.js';
import { expectSound, filterOf, idsFrom, missing, seedOf } from './filters.js';

test('keeps all of 1,000,000 ids over splits of every root', () => {
  const filter = new CuckooFilter(seedOf(3));
  let checked = 0;
  let lost = 0;
  let leaves = filter.leaves;
  for (const id of idsFrom(0, 1_000_000)) {
    filter.insert(id);
    checked++;
    // After each split: a sample of what came before.
    if (filter.leaves === leaves) continue;
    leaves = filter.leaves;
    for (let at = checked % 97; at < checked; at += 997) {
      if (!filter.mightContain(`user.${at}.cart`)) lost++;
    }
  }
  expect(lost).toBe(0);
  expect(leaves).toBeGreaterThan(64);
  expect(missing(filter, idsFrom(0, 1_000_000))).toEqual([]);
  expectSound(filter);
});

test('loses no victim of failed kick-outs: 400,000 ids where leaves split because an insertion failed', () => {
  for (const maxKicks of [0, 1]) {
    const filter = filterOf(idsFrom(0, 400_000), { maxKicks });
    // Without failures it would be 37 at most.
    expect(filter.leaves).toBeGreaterThan(45);
    expect(missing(filter, idsFrom(0, 400_000))).toEqual([]);
    expectSound(filter);
  }
});

test('takes at most 40 bits for an id at any count above a million', () => {
  const filter = filterOf(idsFrom(0, 1_000_000), {}, 2);
  let worst = (filter.bytes * 8) / 1_000_000;
  for (let at = 1_000_000; at < 2_100_000; at++) {
    filter.insert(`user.${at}.cart`);
    if (at % 10_000 === 0) worst = Math.max(worst, (filter.bytes * 8) / at);
  }
  expect(worst).toBeLessThan(40);
  expect(worst).toBeGreaterThan(24);
});

test('says perhaps to fewer than one absent id in 10,000 at a million', () => {
  const filter = filterOf(idsFrom(0, 1_000_000));
  const wrong = 200_000 - missing(filter, idsFrom(2_000_000, 200_000)).length;
  expect(wrong).toBeLessThan(20);
  expect(filter.count).toBeGreaterThan(999_900);
  expect(filter.count).toBeLessThanOrEqual(1_000_000);
});
