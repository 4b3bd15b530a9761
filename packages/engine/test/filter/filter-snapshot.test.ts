import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CuckooFilter } from '#engine/filter/cuckoo-filter.js';
import { LEAF_BYTES, PAGE_BYTES, PAGES } from '#engine/filter/cuckoo-leaf.js';
import { FilterSnapshotFile, type SnapshotCover } from '#engine/filter/filter-snapshot.js';
import { slowTest } from '../support/slow.js';
import { almostFull, filterOf, idsFrom, missing, seedOf } from './filters.js';

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sync-engine-test-'));
  path = join(directory, 'filter');
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

function coverAt(position: number): SnapshotCover {
  return { position, chain: `chain ${position} é`, archiveId: 'archive', collected: position * 2 };
}

function expectEqual(a: CuckooFilter, b: CuckooFilter): void {
  expect([a.count, a.leaves, a.bytes]).toEqual([b.count, b.leaves, b.bytes]);
  for (let place = 0; place < a.leaves; place++) {
    const [left, right] = [a.leafAt(place), b.leafAt(place)];
    expect([left.root, left.prefix, left.depth]).toEqual([right.root, right.prefix, right.depth]);
    expect(Buffer.from(left.words.buffer).equals(Buffer.from(right.words.buffer))).toBe(true);
  }
}

/** The position that a load of these bytes covers, `undefined` where it says `CORRUPTION`. */
async function loaded(bytes: Uint8Array): Promise<{ filter: CuckooFilter; position: number } | undefined> {
  const copy = join(directory, 'copy');
  writeFileSync(copy, bytes);
  try {
    const found = await new FilterSnapshotFile(copy).load();
    if (found === undefined) throw new Error('A file that is there loads or throws');
    return { filter: found.filter, position: found.cover.position };
  } catch (error) {
    expect(error).toMatchObject({ code: 'CORRUPTION', context: { path: copy } });
    return undefined;
  }
}

describe('a snapshot', () => {
  slowTest('gives back the same filter and cover, and the filter goes on', async () => {
    const filter = filterOf(idsFrom(0, 300_000), { maxKicks: 0 });
    await new FilterSnapshotFile(path).save(filter, coverAt(7));
    const file = new FilterSnapshotFile(path);
    const found = await file.load();
    expect(found?.cover).toEqual(coverAt(7));
    const restored = found?.filter as CuckooFilter;
    expectEqual(restored, filter);
    for (const id of idsFrom(300_000, 300_000)) restored.insert(id);
    await file.save(restored, coverAt(8));
    const again = await new FilterSnapshotFile(path).load();
    expectEqual(again?.filter as CuckooFilter, restored);
    expect(missing(again?.filter as CuckooFilter, idsFrom(0, 600_000))).toEqual([]);
  });

  test('of an empty filter is one too', async () => {
    await new FilterSnapshotFile(path).save(new CuckooFilter(seedOf(1)), coverAt(0));
    expect((await new FilterSnapshotFile(path).load())?.filter.count).toBe(0);
  });

  test('is absent where there is no file', async () => {
    expect(await new FilterSnapshotFile(path).load()).toBeUndefined();
  });

  slowTest('keeps everything over any sequence of insertions, saves and loads', async () => {
    const step = fc.oneof(
      fc.record({ insert: fc.integer({ min: 1, max: 3000 }) }),
      fc.constantFrom('save', 'load', 'reopen'),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        rmSync(path, { force: true });
        let file = new FilterSnapshotFile(path);
        let filter = new CuckooFilter(seedOf(1));
        let [inserted, durable] = [0, -1];
        for (const one of steps) {
          if (typeof one !== 'string') {
            for (const id of idsFrom(inserted, one.insert)) filter.insert(id);
            inserted += one.insert;
          } else if (one === 'save') {
            await file.save(filter, coverAt(inserted));
            durable = inserted;
          } else {
            if (one === 'reopen') file = new FilterSnapshotFile(path);
            const found = await file.load();
            expect(found?.cover.position ?? -1).toBe(durable);
            filter = found?.filter ?? new CuckooFilter(seedOf(1));
            inserted = Math.max(durable, 0);
            expect(missing(filter, idsFrom(0, inserted))).toEqual([]);
          }
        }
      }),
      { numRuns: 25 },
    );
  });
});

describe('a later save', () => {
  test('writes only the pages that changed', async () => {
    const filter = filterOf(idsFrom(0, 3000));
    const file = new FilterSnapshotFile(path);
    const first = await file.save(filter, coverAt(1));
    expect(first).toMatchObject({ pages: filter.leaves * PAGES, rewritten: true });
    expect(first.fileBytes).toBe(statSync(path).size);

    filter.insert('one more');
    const second = await file.save(filter, coverAt(2));
    expect(second).toMatchObject({ pages: 1, rewritten: false });
    expect(statSync(path).size - first.fileBytes).toBeLessThan(PAGE_BYTES + filter.leaves * 160 + 600);

    const third = await file.save(filter, coverAt(3));
    expect(third).toMatchObject({ pages: 0, rewritten: false });
    const found = await new FilterSnapshotFile(path).load();
    expect(found?.cover).toEqual(coverAt(3));
    expect(found?.filter.mightContain('one more')).toBe(true);
  });

  test('does so after a load as well', async () => {
    await new FilterSnapshotFile(path).save(filterOf(idsFrom(0, 10_000)), coverAt(1));
    const file = new FilterSnapshotFile(path);
    const { filter } = (await file.load()) as { filter: CuckooFilter };
    filter.insert('one more');
    expect(await file.save(filter, coverAt(2))).toMatchObject({ pages: 1, rewritten: false });
  });

  slowTest('writes all of a leaf that split', async () => {
    // Without kick-outs, so that one insertion touches one page.
    const filter = filterOf(idsFrom(0, 180_000), { maxKicks: 0 });
    const file = new FilterSnapshotFile(path);
    await file.save(filter, coverAt(1));
    let inserted = 180_000;
    for (const wanted = filter.leaves + 3; filter.leaves < wanted; ) {
      for (const leaves = filter.leaves; filter.leaves === leaves; inserted++) {
        // Often enough that most pages of the leaf are clean when it splits.
        if (inserted % 100 === 0) await file.save(filter, coverAt(inserted));
        filter.insert(`user.${inserted}.cart`);
      }
      await file.save(filter, coverAt(inserted));
      expectEqual((await new FilterSnapshotFile(path).load())?.filter as CuckooFilter, filter);
    }
  });

  test('writes the file anew before half of it is garbage', async () => {
    const filter = filterOf(idsFrom(0, 10_000));
    const file = new FilterSnapshotFile(path);
    let rewritten = 0;
    for (let round = 0; round < 12; round++) {
      for (const id of idsFrom(10_000 + round * 300, 300)) filter.insert(id);
      const result = await file.save(filter, coverAt(round));
      if (round > 0 && result.rewritten) rewritten++;
      expect(statSync(path).size).toBeLessThanOrEqual(2 * filter.leaves * (LEAF_BYTES + 200) + 2000);
    }
    expect(rewritten).toBeGreaterThan(1);
    expect(rewritten).toBeLessThan(11);
    expect(existsSync(`${path}.new`)).toBe(false);
    expect(missing((await file.load())?.filter as CuckooFilter, idsFrom(0, 13_600))).toEqual([]);
  });

  test('of another filter, or after another file had it, writes all', async () => {
    const [first, second] = [filterOf(idsFrom(0, 1000)), filterOf(idsFrom(1000, 1000))];
    const [file, other] = [new FilterSnapshotFile(path), new FilterSnapshotFile(join(directory, 'other'))];
    await file.save(first, coverAt(1));
    await file.save(second, coverAt(2));
    expect(await file.save(first, coverAt(3))).toMatchObject({ rewritten: true });
    first.insert('one more');
    await other.save(first, coverAt(4));
    expect(await file.save(first, coverAt(5))).toMatchObject({ rewritten: true });
    expectEqual((await file.load())?.filter as CuckooFilter, first);
  });

  test('writes all where the file went away or was cut', async () => {
    const filter = filterOf(idsFrom(0, 1000));
    const file = new FilterSnapshotFile(path);
    await file.save(filter, coverAt(1));
    rmSync(path);
    expect(await file.save(filter, coverAt(2))).toMatchObject({ rewritten: true });
    writeFileSync(path, readFileSync(path).subarray(0, 100));
    expect(await file.save(filter, coverAt(3))).toMatchObject({ rewritten: true });
    expectEqual((await file.load())?.filter as CuckooFilter, filter);
  });

  test('that fails leaves the older snapshot, and the next writes all', async () => {
    const filter = filterOf(idsFrom(0, 1000));
    const file = new FilterSnapshotFile(join(directory, 'none', 'filter'));
    await expect(file.save(filter, coverAt(1))).rejects.toMatchObject({ code: 'ENOENT' });
    const good = new FilterSnapshotFile(path);
    await good.save(filter, coverAt(2));
    filter.insert('one more');
    // A position that JSON cannot write fails after the pages were copied.
    const bad = { ...coverAt(3), position: 3n as unknown as number };
    await expect(good.save(filter, bad)).rejects.toThrow(TypeError);
    expect((await new FilterSnapshotFile(path).load())?.cover).toEqual(coverAt(2));
    expect(await good.save(filter, coverAt(4))).toMatchObject({ rewritten: true });
    expectEqual((await good.load())?.filter as CuckooFilter, filter);
  });
});

describe('a filter that changes during a save', () => {
  slowTest('is saved with every id that was there before, over kick-outs and splits', async () => {
    for (const rewrite of [true, false]) {
      const filter = filterOf(idsFrom(0, 430_000), { maxKicks: 1 });
      const file = new FilterSnapshotFile(path);
      if (!rewrite) await file.save(filter, coverAt(0));
      for (const id of idsFrom(430_000, 200)) filter.insert(id);
      let inserted = 430_200;
      const leavesBefore = filter.leaves;
      let saving = true;
      const save = file.save(filter, coverAt(430_200)).finally(() => {
        saving = false;
      });
      while (saving) {
        // As far as the next split, so that there are some in the middle of it.
        for (const leaves = filter.leaves; filter.leaves === leaves && inserted < 900_000; inserted++) {
          filter.insert(`user.${inserted}.cart`);
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect(await save).toMatchObject({ rewritten: rewrite });
      expect(filter.leaves).toBeGreaterThan(leavesBefore);
      const found = await new FilterSnapshotFile(path).load();
      expect(missing(found?.filter as CuckooFilter, idsFrom(0, 430_200))).toEqual([]);

      // What came during the save is written by the next.
      await file.save(filter, coverAt(inserted));
      expectEqual((await new FilterSnapshotFile(path).load())?.filter as CuckooFilter, filter);
      rmSync(path);
    }
  });

  slowTest('keeps what moves between the pages of a leaf', async () => {
    // Almost full leaves, which are written in small steps while every insertion moves many entries.
    const filter = filterOf(idsFrom(0, 900_000));
    const file = new FilterSnapshotFile(path);
    let saving = true;
    const save = file.save(filter, coverAt(900_000)).finally(() => {
      saving = false;
    });
    let inserted = 900_000;
    while (saving) {
      for (const id of idsFrom(inserted, 3000)) filter.insert(id);
      inserted += 3000;
      await new Promise((resolve) => setImmediate(resolve));
    }
    await save;
    const found = await new FilterSnapshotFile(path).load();
    expect(missing(found?.filter as CuckooFilter, idsFrom(0, 900_000))).toEqual([]);
  });

  test.each(['anew', 'appended'])('is whole where a leaf splits meanwhile: %s', async (how) => {
    const filter = almostFull();
    const file = new FilterSnapshotFile(path);
    if (how === 'appended') await file.save(filter, coverAt(0));
    for (const id of idsFrom(0, 10)) filter.insert(id);
    const save = file.save(filter, coverAt(1));
    await new Promise((resolve) => setImmediate(resolve));
    const { leaves } = filter;
    let inserted = 10;
    while (filter.leaves === leaves) filter.insert(`user.${inserted++}.cart`);
    expect(await save).toMatchObject({ rewritten: how === 'anew' });
    const found = (await new FilterSnapshotFile(path).load()) as {
      filter: CuckooFilter;
      cover: SnapshotCover;
    };
    expect(found.cover).toEqual(coverAt(1));
    expect(missing(found.filter, idsFrom(0, 10))).toEqual([]);
    expect(found.filter.count).toBeGreaterThanOrEqual(15_400);
    await file.save(filter, coverAt(2));
    expectEqual((await new FilterSnapshotFile(path).load())?.filter as CuckooFilter, filter);
  });

  test('is saved twice in turn where two saves are called at once', async () => {
    const filter = filterOf(idsFrom(0, 1000));
    const file = new FilterSnapshotFile(path);
    const first = file.save(filter, coverAt(1));
    filter.insert('one more');
    const results = await Promise.all([first, file.save(filter, coverAt(2)), file.load()]);
    expect(results[2]?.cover).toEqual(coverAt(2));
    expect(results[2]?.filter.mightContain('one more')).toBe(true);
  });
});

test('a save during which another file takes the filter over fails, and leaves no snapshot that lacks ids', async () => {
  const filter = filterOf(idsFrom(0, 3000));
  const file = new FilterSnapshotFile(path);
  await file.save(filter, coverAt(1));
  for (const id of idsFrom(3000, 2000)) filter.insert(id);
  const [first, second] = await Promise.allSettled([
    file.save(filter, coverAt(2)),
    new FilterSnapshotFile(join(directory, 'other')).save(filter, coverAt(2)),
  ]);
  expect(first).toMatchObject({ status: 'rejected', reason: { code: 'ENGINE_STATE' } });
  expect(second.status).toBe('fulfilled');
  expect((await new FilterSnapshotFile(path).load())?.cover).toEqual(coverAt(1));
});

describe('damage', () => {
  /** Two snapshots in one file: `ids` up to the first, then up to the second. */
  async function twoSnapshots(): Promise<{ bytes: Buffer; firstEnd: number; pages: number }> {
    const filter = filterOf(idsFrom(0, 3000));
    const file = new FilterSnapshotFile(path);
    const { fileBytes } = await file.save(filter, coverAt(3000));
    for (const id of idsFrom(3000, 40)) filter.insert(id);
    const { pages, rewritten } = await file.save(filter, coverAt(3040));
    expect(rewritten).toBe(false);
    return { bytes: readFileSync(path), firstEnd: fileBytes, pages };
  }

  /** Whatever loads holds all ids that its cover speaks of. */
  async function positionOf(bytes: Uint8Array): Promise<number | undefined> {
    const found = await loaded(bytes);
    if (found === undefined) return undefined;
    expect([3000, 3040]).toContain(found.position);
    expect(missing(found.filter, idsFrom(0, found.position))).toEqual([]);
    return found.position;
  }

  slowTest('a file cut anywhere is the older snapshot, or none before the first footer', async () => {
    const { bytes, firstEnd, pages } = await twoSnapshots();
    const footerAt = firstEnd + pages * PAGE_BYTES;
    const cuts = new Set([0, 1, 23, 24, 25, firstEnd - 1, firstEnd, firstEnd + 1, footerAt, footerAt + 1]);
    for (let page = 0; page <= pages; page++) cuts.add(firstEnd + page * PAGE_BYTES);
    for (let page = 0; page < 40; page++) cuts.add(24 + page * 7 * PAGE_BYTES);
    for (let cut = footerAt; cut < bytes.length; cut += 211) cuts.add(cut);
    for (let back = 1; back < 30; back++) cuts.add(bytes.length - back);
    for (const cut of cuts) {
      const expected = cut < firstEnd ? undefined : 3000;
      expect(await positionOf(bytes.subarray(0, cut)), `cut at ${cut}`).toBe(expected);
    }
    expect(await positionOf(bytes)).toBe(3040);
  });

  test('a tail of zeros or garbage is passed over, and the next save takes its place', async () => {
    const { bytes, firstEnd } = await twoSnapshots();
    const zeros = Buffer.concat([bytes.subarray(0, firstEnd), Buffer.alloc(700_000)]);
    expect(await positionOf(zeros)).toBe(3000);
    const torn = Buffer.from(bytes).fill(0x5a, bytes.length - 300);
    expect(await positionOf(torn)).toBe(3000);

    writeFileSync(path, Buffer.concat([torn, Buffer.alloc(700_000)]));
    const file = new FilterSnapshotFile(path);
    const { filter } = (await file.load()) as { filter: CuckooFilter };
    for (const id of idsFrom(3000, 50)) filter.insert(id);
    const { rewritten, fileBytes } = await file.save(filter, coverAt(3050));
    expect(rewritten).toBe(false);
    expect(statSync(path).size).toBe(fileBytes);
    const found = await new FilterSnapshotFile(path).load();
    expect(found?.cover.position).toBe(3050);
    expectEqual(found?.filter as CuckooFilter, filter);
  });

  slowTest('no bit flip makes a filter that denies an id', async () => {
    const { bytes, firstEnd } = await twoSnapshots();
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length * 8 - 1), async (bit) => {
        const flipped = Buffer.from(bytes);
        flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
        await positionOf(flipped);
      }),
      { numRuns: 300 },
    );
    // In the footer, where most of them are dangerous.
    const footerBytes = 900;
    await fc.assert(
      fc.asyncProperty(fc.nat(footerBytes * 8 - 1), async (bit) => {
        const flipped = Buffer.from(bytes);
        const at = bytes.length - 1 - (bit >> 3);
        flipped[at] = (flipped[at] as number) ^ (1 << (bit & 7));
        expect(await positionOf(flipped)).toBe(3000);
        const cut = flipped.subarray(0, firstEnd);
        cut[firstEnd - 1 - (bit >> 3)] = (cut[firstEnd - 1 - (bit >> 3)] as number) ^ (1 << (bit & 7));
        expect(await positionOf(cut)).toBeUndefined();
      }),
      { numRuns: 100 },
    );
  });

  slowTest('a flip in any page that is in use is noticed', async () => {
    const filter = filterOf(idsFrom(0, 3000));
    await new FilterSnapshotFile(path).save(filter, coverAt(3000));
    const bytes = readFileSync(path);
    for (let page = 0; page < filter.leaves * PAGES; page++) {
      const flipped = Buffer.from(bytes);
      const at = 24 + page * PAGE_BYTES + ((page * 131) % PAGE_BYTES);
      flipped[at] = (flipped[at] as number) ^ 0x20;
      expect(await positionOf(flipped)).toBeUndefined();
    }
  });

  test('two pages that changed places are noticed, and bytes of a footer elsewhere are none', async () => {
    const { bytes, firstEnd } = await twoSnapshots();
    const swapped = Buffer.from(bytes);
    bytes.copy(swapped, 24, 24 + PAGE_BYTES, 24 + 2 * PAGE_BYTES);
    bytes.copy(swapped, 24 + PAGE_BYTES, 24, 24 + PAGE_BYTES);
    expect(await positionOf(swapped)).toBeUndefined();
    const footerAt = 24 + 32 * LEAF_BYTES;
    const copied = Buffer.concat([bytes, bytes.subarray(footerAt, firstEnd)]);
    expect(await positionOf(copied)).toBe(3040);
  });

  test('a newer format, another file and one that is empty are refused and left as they are', async () => {
    const { bytes } = await twoSnapshots();
    const newer = Buffer.from(bytes);
    newer.writeUInt32LE(2, 8);
    newer.writeUInt32LE(crc32(newer.subarray(0, 20)), 20);
    const swapped = Buffer.from(bytes);
    swapped.subarray(12, 16).reverse();
    swapped.writeUInt32LE(crc32(swapped.subarray(0, 20)), 20);
    for (const [content, message] of [
      [newer, 'it has format 2, this version knows 1'],
      [swapped, 'another byte order'],
      [Buffer.alloc(bytes.length), 'not a snapshot'],
      [Buffer.from('{"some": "json", "padding": "padding"}'), 'not a snapshot'],
      [Buffer.alloc(0), 'too short'],
    ] as const) {
      writeFileSync(path, content);
      await expect(new FilterSnapshotFile(path).load()).rejects.toThrow(message);
      await expect(new FilterSnapshotFile(path).load()).rejects.toMatchObject({ code: 'CORRUPTION' });
      expect(readFileSync(path).equals(content)).toBe(true);
    }
  });

  test('what a crash left beside it does no harm', async () => {
    const { bytes } = await twoSnapshots();
    writeFileSync(`${path}.new`, bytes.subarray(0, 5000));
    const file = new FilterSnapshotFile(path);
    const found = await file.load();
    expect(found?.cover.position).toBe(3040);
    const fresh = filterOf(idsFrom(0, 10), {}, 9);
    await file.save(fresh, coverAt(10));
    expectEqual((await new FilterSnapshotFile(path).load())?.filter as CuckooFilter, fresh);
  });
});
