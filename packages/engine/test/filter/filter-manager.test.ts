/** The filter as a part of its own. */

import { crc32 } from 'node:zlib';
import { expect, test } from 'vitest';
import { SyncEngineError } from '#engine/base/errors.js';
import { CuckooFilter } from '#engine/filter/cuckoo-filter.js';
import { FilterManager } from '#engine/filter/filter-manager.js';

const seed = Uint8Array.from({ length: 16 }, (_, at) => at);

test('untrusted it says nothing, trusted its "no" is meant', () => {
  const filter = new FilterManager(seed);
  filter.insertMany(['a', 'b']);
  expect(filter.mightExist('a')).toBeUndefined();
  expect(filter.shouldCheckL3('c')).toBe(true);
  filter.markTrusted();
  expect([filter.mightExist('a'), filter.mightExist('c')]).toEqual([true, false]);
  expect(filter.shouldCheckL3('c')).toBe(false);
  expect(filter.stats).toMatchObject({ trust: 'trusted', items: 2, checks: 3, excluded: 2 });
  filter.markUntrusted('a test');
  expect(filter.stats).toMatchObject({ trust: 'untrusted', reason: 'a test' });
  expect(filter.mightExist('c')).toBeUndefined();
});

test('exported and imported it knows the same ids, and is not yet trusted', () => {
  const filter = new FilterManager(seed);
  const ids = Array.from({ length: 6000 }, (_, at) => `user.${at}`);
  filter.insertMany(ids);
  filter.markTrusted();
  const copy = new FilterManager(Uint8Array.from({ length: 16 }, () => 7));
  copy.import(filter.export());
  expect(copy.trust).toBe('untrusted');
  copy.markTrusted();
  expect(ids.filter((id) => copy.mightExist(id) !== true)).toEqual([]);
  expect(copy.stats.items).toBe(filter.stats.items);
  expect(
    Array.from({ length: 1000 }, (_, at) => copy.mightExist(`nobody.${at}`)).filter(Boolean).length,
  ).toBeLessThan(5);
});

test('damaged bytes never make a filter', () => {
  const filter = new FilterManager(seed);
  filter.insert('a');
  const image = Buffer.from(filter.export());
  const broken = (change: (bytes: Buffer) => Buffer): unknown => {
    try {
      new FilterManager(seed).import(change(Buffer.from(image)));
      return 'taken';
    } catch (error) {
      return error instanceof SyncEngineError ? error.code : error;
    }
  };
  for (let at = 0; at < image.length; at += 40_009) {
    const flip = broken((bytes) => {
      bytes[at] = (bytes[at] as number) ^ 4;
      return bytes;
    });
    expect(flip, `byte ${at}`).toBe('CORRUPTION');
  }
  expect(broken((bytes) => bytes.subarray(0, 1000))).toBe('CORRUPTION');
  expect(broken(() => Buffer.alloc(0))).toBe('CORRUPTION');
});

test('it counts what it was asked and what it answered, and says why it says nothing', () => {
  const filter = new FilterManager(seed);
  expect(filter.stats).toMatchObject({ trust: 'untrusted', reason: 'it has not been filled yet', items: 0 });
  filter.mightExist('a');
  filter.noteFalsePositive();
  expect(filter.stats).toMatchObject({ checks: 0, excluded: 0, falsePositives: 0 });
  filter.insert('a');
  filter.markTrusted();
  expect(filter.stats.reason).toBeUndefined();
  filter.mightExist('a');
  filter.mightExist('b');
  filter.noteFalsePositive();
  expect(filter.stats).toMatchObject({ items: 1, checks: 2, excluded: 1, falsePositives: 1 });
  expect(filter.stats.bytes).toBeGreaterThan(32 * 49_152);
  expect(filter.stats.loadFactor).toBeGreaterThan(0);
  filter.import(filter.export());
  expect(filter.stats).toMatchObject({ trust: 'untrusted', reason: 'it was imported', items: 1 });
});

test('a filter that is replaced is believed as the one before', () => {
  const filter = new FilterManager(seed);
  filter.markTrusted();
  const other = new CuckooFilter(seed);
  other.insert('x');
  filter.replace(other);
  expect(filter.filter).toBe(other);
  expect([filter.trust, filter.mightExist('x'), filter.mightExist('y')]).toEqual(['trusted', true, false]);
});

/** A wrong head in front of a right checksum once came out as an error of JSON.parse, without a code. */
test('bytes whose checksum fits, but which are no filter of this version, are refused as damaged', () => {
  const filter = new FilterManager(seed);
  filter.insertMany(['a', 'b']);
  const image = Buffer.from(filter.export());
  const tables = 4 + image.readUInt32LE(0);
  const head = JSON.parse(image.toString('utf8', 4, tables));
  const imageOf = (changed: unknown, rest: Uint8Array = image.subarray(tables, -4)): Buffer => {
    const json = Buffer.from(typeof changed === 'string' ? changed : JSON.stringify(changed));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(json.length);
    const bytes = Buffer.concat([length, json, rest, Buffer.alloc(4)]);
    bytes.writeUInt32LE(crc32(bytes.subarray(0, -4)), bytes.length - 4);
    return bytes;
  };
  const taken = new FilterManager(seed);
  taken.import(imageOf(head));
  taken.markTrusted();
  expect([taken.stats.items, taken.mightExist('a'), taken.mightExist('c')]).toEqual([2, true, false]);
  const wrong = (place: number, change: object): unknown => ({
    ...head,
    leaves: head.leaves.map((leaf: object, at: number) => (at === place ? { ...leaf, ...change } : leaf)),
  });
  const used = head.leaves.findIndex(({ count }: { count: number }) => count > 0);
  const bad: readonly Buffer[] = [
    imageOf('no JSON'),
    imageOf('null'),
    imageOf({}),
    imageOf({ ...head, format: 2 }),
    imageOf({ ...head, endianness: head.endianness === 'LE' ? 'BE' : 'LE' }),
    imageOf({ ...head, seed: 'abcd' }),
    imageOf({ ...head, leaves: head.leaves.slice(1) }),
    imageOf(head, image.subarray(tables, -5)),
    imageOf(wrong(used, { count: 3 })),
    imageOf(wrong(0, { root: 1 })),
    imageOf(wrong(used, { depth: 24, prefix: 0 })),
  ];
  for (const [at, bytes] of bad.entries()) {
    const into = new FilterManager(seed);
    into.insert('before');
    into.markTrusted();
    expect(() => into.import(bytes), `case ${at}`).toThrow(
      expect.objectContaining({ code: 'CORRUPTION', context: { tier: 'memory' } }),
    );
    expect([into.trust, into.mightExist('before')]).toEqual(['trusted', true]);
  }
});
