/** One table of the filter: where fingerprints lie, how they are moved, and what a split leaves where. */
import { expect, test } from 'vitest';
import {
  ALL_PAGES,
  bucketOf,
  CuckooLeaf,
  type Homeless,
  PAGE_BYTES,
  PAGES,
} from '#engine/filter/cuckoo-leaf.js';

/** The same entries every time; no fingerprint is zero. */
function* entries(count: number, seed = 1): Generator<Homeless> {
  let state = seed;
  for (let n = 0; n < count; n++) {
    state = (Math.imul(state, 0x915f77f5) + 0x6a09e667) | 0;
    const mixed = Math.imul(state ^ (state >>> 15), 0x85ebca6b);
    yield { fingerprint: (mixed >>> 8) | 1, bucket: state >>> 20 };
  }
}

function counted(leaf: CuckooLeaf): number {
  let count = 0;
  for (let page = 0; page < PAGES; page++) count += leaf.countedIn(page) ?? Number.NaN;
  return count;
}

test('four fingerprints fill the three words of their bucket, low bits first', () => {
  const leaf = new CuckooLeaf(0, 0, 0);
  for (const fingerprint of [0xa1a2a3, 0xb1b2b3, 0xc1c2c3, 0xd1d2d3]) {
    expect(leaf.place({ fingerprint, bucket: 5 }, 0)).toBe(true);
  }
  expect([...leaf.words.subarray(15, 18)].map((word) => (word >>> 0).toString(16))).toEqual([
    'b3a1a2a3',
    'c2c3b1b2',
    'd1d2d3c1',
  ]);
  expect(leaf.words.filter((word) => word !== 0)).toHaveLength(3);
  expect(leaf.count).toBe(4);
  for (const fingerprint of [0xa1a2a3, 0xb1b2b3, 0xc1c2c3, 0xd1d2d3])
    expect(leaf.has(fingerprint, 5)).toBe(true);
  expect(leaf.has(0xa1a2a4, 5)).toBe(false);
});

test('a fingerprint is found from its own bucket and from one other, and each leads to the other', () => {
  for (const { fingerprint, bucket } of entries(20)) {
    const leaf = new CuckooLeaf(0, 0, 0);
    leaf.place({ fingerprint, bucket }, 0);
    const found = Array.from({ length: 4096 }, (_, at) => at).filter((at) => leaf.has(fingerprint, at));
    expect(found).toHaveLength(2);
    expect(found).toContain(bucket);
    const other = found.find((at) => at !== bucket) as number;
    const back = new CuckooLeaf(0, 0, 0);
    back.place({ fingerprint, bucket: other }, 0);
    expect(back.has(fingerprint, bucket)).toBe(true);
  }
});

test('nine equal fingerprints do not fit: both buckets take four', () => {
  const leaf = new CuckooLeaf(0, 0, 0);
  for (let n = 0; n < 8; n++) expect(leaf.place({ fingerprint: 77, bucket: 4095 }, 0)).toBe(true);
  expect(leaf.place({ fingerprint: 77, bucket: 4095 }, 20)).toBe(false);
  expect([leaf.count, counted(leaf)]).toEqual([8, 8]);
});

test.each([0, 1, 3, 500])(
  'whatever was placed is there, except what a failure handed back: %d moves',
  (maxKicks) => {
    const leaf = new CuckooLeaf(0, 0, 0);
    const stored: Homeless[] = [];
    const homeless: Homeless[] = [];
    let miscounted = 0;
    for (const entry of entries(15_400)) {
      const { fingerprint, bucket } = entry;
      stored.push({ fingerprint, bucket });
      const before = leaf.count;
      const placed = leaf.place(entry, maxKicks);
      if (!placed) homeless.push({ ...entry });
      if (leaf.count !== before + (placed ? 1 : 0)) miscounted++;
    }
    expect(miscounted).toBe(0);
    expect(counted(leaf)).toBe(leaf.count);
    expect(leaf.count).toBe(stored.length - homeless.length);
    if (maxKicks === 500) expect(homeless).toEqual([]);
    else expect(homeless.length).toBeGreaterThan(10);
    // Together with what came back, from either of its buckets, nothing is lost.
    const rest = new Set(homeless.map(({ fingerprint }) => fingerprint));
    const kept = stored.filter(({ fingerprint }) => !rest.has(fingerprint));
    expect(kept.filter(({ fingerprint, bucket }) => !leaf.has(fingerprint, bucket))).toEqual([]);
    const originals = new Map(stored.map((entry) => [entry.fingerprint, entry.bucket]));
    for (const entry of homeless) {
      const alone = new CuckooLeaf(0, 0, 0);
      alone.place({ ...entry }, 0);
      expect(alone.has(entry.fingerprint, originals.get(entry.fingerprint) as number)).toBe(true);
    }
  },
);

test('a split divides by the next bit and leaves every fingerprint in its bucket', () => {
  const leaf = new CuckooLeaf(9, 0, 0);
  const all = [...entries(3000)].map((entry) => ({ ...entry, fingerprint: entry.fingerprint & 0xfffffe }));
  for (const entry of all) leaf.place({ ...entry }, 500);
  const ones = leaf.split();
  expect([leaf.depth, leaf.prefix, ones.depth, ones.prefix, ones.root]).toEqual([1, 0, 1, 1, 9]);
  expect([ones.count, counted(ones), leaf.count, counted(leaf)]).toEqual([0, 0, 3000, 3000]);
  leaf.changedPages = 0;
  const tens = leaf.split();
  expect([leaf.depth, leaf.prefix, tens.depth, tens.prefix]).toEqual([2, 0, 2, 2]);
  expect([leaf.changedPages, tens.changedPages]).toEqual([ALL_PAGES, ALL_PAGES]);
  expect(tens.count + leaf.count).toBe(3000);
  expect([counted(leaf), counted(tens)]).toEqual([leaf.count, tens.count]);
  const wrong = all.filter(({ fingerprint, bucket }) => {
    const [inside, outside] = (fingerprint & 2) === 0 ? [leaf, tens] : [tens, leaf];
    return !inside.has(fingerprint, bucket) || outside.has(fingerprint, bucket);
  });
  expect(wrong).toEqual([]);
  const hundreds = tens.split();
  expect([tens.prefix, hundreds.prefix, hundreds.depth]).toEqual([2, 6, 3]);
});

test('a fingerprint that belongs into another leaf is noticed in its page, and in no other', () => {
  const leaf = new CuckooLeaf(0, 2, 2);
  leaf.place({ fingerprint: 0b1010, bucket: 512 }, 0);
  expect(leaf.countedIn(1)).toBe(1);
  leaf.place({ fingerprint: 0b1011, bucket: 512 }, 0);
  expect(leaf.countedIn(1)).toBeUndefined();
  expect([0, 2, 3, 4, 5, 6, 7].map((page) => leaf.countedIn(page))).toEqual(Array(7).fill(0));
});

test('a page is a view of its 512 buckets, and is marked when one of them is written to', () => {
  const leaf = new CuckooLeaf(0, 0, 0);
  expect(leaf.changedPages).toBe(ALL_PAGES);
  for (const [bucket, page] of [
    [0, 0],
    [511, 0],
    [512, 1],
    [4095, 7],
  ] as const) {
    leaf.changedPages = 0;
    leaf.place({ fingerprint: 9, bucket }, 0);
    expect(leaf.changedPages).toBe(1 << page);
    expect(leaf.page(page)).toHaveLength(PAGE_BYTES);
    expect(leaf.page(page)[(bucket % 512) * 12]).toBe(9);
  }
});

test('a bucket is the lower twelve bits of a hash, negative ones too', () => {
  expect([0, 4095, 4096, -1, 0x12345678].map(bucketOf)).toEqual([0, 4095, 0, 4095, 0x678]);
});
