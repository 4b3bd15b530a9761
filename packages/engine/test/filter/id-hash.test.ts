import fc from 'fast-check';
import { expect, test } from 'vitest';
import { IdHash } from '#engine/filter/id-hash.js';
import { slowTest } from '../support/slow.js';
import { seedOf } from './filters.js';

const hash = new IdHash(seedOf(1));

function of(id: string, by = hash): bigint {
  by.update(id);
  return (BigInt(by.high >>> 0) << 32n) | BigInt(by.low >>> 0);
}

test('an id has the same hash for ever, as snapshots outlive versions', () => {
  const ids = ['', 'a', 'ab', 'abc', 'user.4711.cart', '\u00e9', '\u{10000}\uffff', 'x'.repeat(1024)];
  expect(ids.map((id) => of(id).toString(16))).toEqual([
    '1465e6e08ac0fa10',
    'f55ffa4b3e8c8392',
    'be8162b749617232',
    '53bfb452ea38ca56',
    '37293df3b4eae0bc',
    '8c388b5280f7b4b8',
    '8f713c95bfd09041',
    '10b6c9595a5f6586',
  ]);
});

test('ids that look alike have hashes of their own', () => {
  const ids = [
    '',
    '\0',
    '\0\0',
    '\0\0\0',
    'a',
    'a\0',
    '\0a',
    'ab',
    'ba',
    'abc',
    'abc\0',
    'é',
    'e\u0301',
    'É',
  ];
  ids.push('\u{10000}', '\u{10001}', '\uffff', '\u00ff', '\uff00', 'x'.repeat(1023), 'x'.repeat(1024));
  expect(new Set(ids.map((id) => of(id))).size).toBe(ids.length);
});

test('every bit of the seed and of an id changes about half of the result', () => {
  const id = 'user.4711.cart';
  const shares: number[] = [];
  for (let bit = 0; bit < 128; bit++) {
    const seed = seedOf(1);
    seed[bit >> 3] = (seed[bit >> 3] as number) ^ (1 << (bit & 7));
    shares.push(ones(of(id) ^ of(id, new IdHash(seed))));
  }
  for (let at = 0; at < id.length * 16; at++) {
    const units = [...id].map((unit) => unit.charCodeAt(0));
    units[at >> 4] = (units[at >> 4] as number) ^ (1 << (at & 15));
    shares.push(ones(of(id) ^ of(String.fromCharCode(...units))));
  }
  expect(Math.min(...shares)).toBeGreaterThan(10);
  expect(Math.max(...shares)).toBeLessThan(54);
  const mean = shares.reduce((sum, one) => sum + one, 0) / shares.length;
  expect(mean).toBeGreaterThan(30);
  expect(mean).toBeLessThan(34);
});

slowTest('numbered ids spread evenly over every byte of the result', () => {
  const counts = Array.from({ length: 8 }, () => new Uint32Array(256));
  const samples = 256 * 400;
  for (let at = 0; at < samples; at++) {
    const value = of(`user.${at}.cart`);
    counts.forEach((count, byte) => {
      const index = Number((value >> BigInt(byte * 8)) & 0xffn);
      count[index] = (count[index] as number) + 1;
    });
  }
  for (const count of counts) {
    const chi = count.reduce((sum, one) => sum + (one - 400) ** 2 / 400, 0);
    // 255 degrees of freedom: mean 255, standard deviation 22.6.
    expect(chi).toBeGreaterThan(140);
    expect(chi).toBeLessThan(400);
  }
});

test('a seed of another length is refused', () => {
  expect(() => new IdHash(new Uint8Array(15))).toThrow(new RangeError('A seed has 16 bytes, got 15.'));
  expect(() => new IdHash(new Uint8Array(17))).toThrow(RangeError);
});

slowTest('an id has one hash, however its string came about, and another under another seed', () => {
  const other = new IdHash(seedOf(2));
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (id) => {
      const expected = of(id);
      of('another id in between');
      expect(of(id.split('').join(''))).toBe(expected);
      expect(of(id, other)).not.toBe(expected);
    }),
  );
});

function ones(value: bigint): number {
  return value.toString(2).replaceAll('0', '').length;
}
