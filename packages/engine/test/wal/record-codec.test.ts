import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Revision } from '#engine/item/revision.js';
import { anyRevision, essence, revision } from '#engine/testing/revisions.js';
import { decodeRecord, packRecords, sealRecord, unpackRecords } from '#engine/wal/record-codec.js';

function recordsOf(revisions: readonly Revision[]): Buffer[] {
  const records = [...unpackRecords(packRecords(revisions))].map((record) => Buffer.from(record));
  for (const record of records) sealRecord(record);
  return records;
}

function recordOf(one: Revision): Buffer {
  return recordsOf([one])[0] as Buffer;
}

test('any revision comes back as it went in, alone and in a pack', () => {
  fc.assert(
    fc.property(fc.array(anyRevision, { minLength: 1, maxLength: 5 }), (revisions) => {
      const decoded = recordsOf(revisions).map(decodeRecord);
      expect(decoded.map((one) => (one.kind === 'intact' ? essence(one.revision) : one))).toEqual(
        revisions.map(essence),
      );
    }),
  );
});

test('a pack owns its memory, so that handing it over moves nothing else', () => {
  const pack = packRecords([revision()]);
  expect(pack.byteOffset).toBe(0);
  expect(pack.buffer.byteLength).toBeLessThan(Buffer.poolSize);
  expect(packRecords([])).toHaveLength(0);
});

describe('damage', () => {
  const original = revision({ id: 'geo.GB.London', content: Buffer.from('some content of a record') });
  const record = recordOf(original);

  test('every single bit flip is noticed', () => {
    for (let bit = 0; bit < record.length * 8; bit++) {
      const flipped = Buffer.from(record);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      expect(decodeRecord(flipped).kind).toBe('damaged');
    }
  });

  test('a flip behind the id leaves the id known, one in it does not name another', () => {
    const head = 8 + 40;
    for (let at = 0; at < record.length; at++) {
      const flipped = Buffer.from(record);
      flipped[at] = (flipped[at] as number) ^ 0x10;
      const decoded = decodeRecord(flipped);
      const known = (at >= 4 && at < 8) || at >= head + original.id.length;
      expect(decoded).toEqual({ kind: 'damaged', id: known ? original.id : undefined });
    }
  });

  test('every truncation and every extension is noticed', () => {
    for (let length = 0; length < record.length; length++) {
      expect(decodeRecord(record.subarray(0, length)).kind).toBe('damaged');
    }
    expect(decodeRecord(Buffer.concat([record, Buffer.alloc(1)])).kind).toBe('damaged');
  });

  test('a record longer than its envelope is damaged even where its checksums fit', () => {
    const longer = Buffer.concat([record, Buffer.from('more')]);
    sealRecord(longer);
    expect(decodeRecord(longer)).toEqual({ kind: 'damaged', id: original.id });
  });

  test('an id that was cut is not trusted even where its checksum fits', () => {
    const cut = Buffer.from(record.subarray(0, 8 + 40 + 5));
    sealRecord(cut);
    expect(decodeRecord(cut)).toEqual({ kind: 'damaged', id: undefined });
  });

  test('any bytes at all are taken without an exception', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(decodeRecord(Buffer.from(bytes)).kind).toBe('damaged');
      }),
    );
  });
});
