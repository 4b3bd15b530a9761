/** The byte form of a revision: nothing is lost, nothing is ambiguous, nothing truncated is accepted. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  checksum,
  decodeEnvelope,
  ENVELOPE_FORMAT,
  ENVELOPE_HEAD_BYTES,
  encodeEnvelope,
  envelopeBytesMax,
  envelopeLength,
  identityEnd,
} from '#engine/item/envelope.js';
import { TEXT_LIMITS } from '#engine/item/item-text.js';
import { contentHashOf, type Revision } from '#engine/item/revision.js';
import { anyRevision, essence, revision } from '#engine/testing/revisions.js';
import { STRANGE_IDS } from '#engine/testing/strange-ids.js';

/** Offset at which the envelopes of these tests begin: not 0, so that a forgotten `start` shows. */
const START = 13;

function encoded(made: Revision, withHash = false, filler = 0xee): Buffer {
  const target = Buffer.alloc(START + envelopeBytesMax(made) + 8, filler);
  const end = encodeEnvelope(made, target, START, withHash);
  expect(end).toBeLessThanOrEqual(START + envelopeBytesMax(made));
  return target.subarray(0, end);
}

function bytesOf(made: Revision, withHash = false, filler = 0xee): Buffer {
  return encoded(made, withHash, filler).subarray(START);
}

const longest = revision({
  id: '😀'.repeat(256),
  version: Number.MAX_SAFE_INTEGER,
  origin: '\xff'.repeat(16),
  contentType: 'json',
  state: 'é'.repeat(TEXT_LIMITS.state.bytesMax / 2),
  homeInstanceId: 'h'.repeat(TEXT_LIMITS.homeInstanceId.bytesMax),
  traceParent: 'p'.repeat(TEXT_LIMITS.traceParent.bytesMax),
  traceState: '\0'.repeat(TEXT_LIMITS.traceState.bytesMax),
  content: Buffer.alloc(70_000, 7),
});

describe('a revision comes back whole', () => {
  test('whatever it is', () => {
    fc.assert(
      fc.property(anyRevision, fc.boolean(), (made, withHash) => {
        if (withHash) contentHashOf(made);
        const bytes = encoded(made, withHash);
        expect(envelopeLength(bytes, START, bytes.length)).toBe(bytes.length - START);
        const back = decodeEnvelope(bytes, START);
        expect(essence(back)).toEqual(essence({ ...absentTexts, ...made }));
        expect(back.contentHash).toBe(withHash ? made.contentHash : undefined);
      }),
      { numRuns: 300 },
    );
  });

  test('with every id that careless code mangles', () => {
    for (const id of STRANGE_IDS) {
      const bytes = encoded(revision({ id }));
      expect(decodeEnvelope(bytes, START).id).toBe(id);
      expect(bytes.subarray(START + ENVELOPE_HEAD_BYTES, identityEnd(bytes, START)).toString()).toBe(id);
    }
  });

  test('with every field as long as it may be', () => {
    const bytes = encoded(longest);
    expect(envelopeLength(bytes, START, bytes.length)).toBe(bytes.length - START);
    expect(essence(decodeEnvelope(bytes, START))).toEqual(essence({ ...absentTexts, ...longest }));
  });

  test('with versions on both sides of 32 bits', () => {
    for (const version of [0, 1, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 52 + 1, Number.MAX_SAFE_INTEGER]) {
      expect(decodeEnvelope(encoded(revision({ version })), START).version).toBe(version);
    }
  });

  test('as a tombstone or live, as JSON or bytes', () => {
    for (const deleted of [true, false]) {
      for (const contentType of ['json', 'binary'] as const) {
        expect(decodeEnvelope(encoded(revision({ deleted, contentType })), START)).toMatchObject({
          deleted,
          contentType,
        });
      }
    }
  });

  test('without the hash where there is none or none is asked for', () => {
    const hashed = revision();
    contentHashOf(hashed);
    expect(decodeEnvelope(encoded(hashed, true), START).contentHash).toBe(hashed.contentHash);
    expect(decodeEnvelope(encoded(hashed, false), START).contentHash).toBeUndefined();
    expect(decodeEnvelope(encoded(revision(), true), START).contentHash).toBeUndefined();
  });

  test('with a content that does not change when the source buffer is used again', () => {
    const bytes = encoded(revision({ content: Buffer.from('kept') }));
    const back = decodeEnvelope(bytes, START);
    bytes.fill(0);
    expect(back.content.toString()).toBe('kept');
  });
});

const absentTexts = { homeInstanceId: undefined, traceParent: undefined, traceState: undefined };

describe('the bytes are canonical', () => {
  test('the same revision gives the same bytes, whatever the buffer held', () => {
    fc.assert(
      fc.property(anyRevision, (made) => {
        expect(bytesOf(made, false, 0x00)).toEqual(bytesOf({ ...made }, false, 0xff));
      }),
      { numRuns: 100 },
    );
  });

  test('what was read is written back the same', () => {
    fc.assert(
      fc.property(anyRevision, (made) => {
        contentHashOf(made);
        const bytes = encoded(made, true);
        expect(bytesOf(decodeEnvelope(bytes, START), true)).toEqual(bytes.subarray(START));
      }),
      { numRuns: 100 },
    );
  });

  test('two different revisions never share their bytes', () => {
    fc.assert(
      fc.property(anyRevision, anyRevision, (a, b) => {
        const same = JSON.stringify(essence(a)) === JSON.stringify(essence(b));
        expect(bytesOf(a).equals(bytesOf(b))).toBe(same);
      }),
    );
    // Neighbouring texts do not run into each other.
    const shifted = revision({ homeInstanceId: 'ab', traceParent: 'c' });
    expect(bytesOf(shifted)).not.toEqual(bytesOf(revision({ homeInstanceId: 'a', traceParent: 'bc' })));
  });

  test('the layout is the documented one', () => {
    const made = revision({
      id: 'é',
      version: 2 ** 33 + 5,
      origin: 'node-12345\0\0\0\0\x01\xff',
      contentType: 'json',
      state: 'st',
      homeInstanceId: 'hom',
      traceParent: 'pare',
      traceState: 'trace',
      content: Buffer.from('{}'),
      contentHash: 'ab'.repeat(32),
    });
    const head = [
      [ENVELOPE_FORMAT, 2 | 4, 0, 2, 2, 3, 0, 4, 0, 5, 0, 0],
      [0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 5],
    ].flat();
    const expected = Buffer.concat([
      Buffer.from(head),
      Buffer.from(made.origin, 'latin1'),
      Buffer.from('ésthomparetrace{}'),
      Buffer.alloc(32, 0xab),
    ]);
    expect(bytesOf(made, true)).toEqual(expected);
  });
});

describe('the length is refused', () => {
  test('for every truncation', () => {
    const hashed = revision({ traceParent: 'p', content: Buffer.from('content') });
    contentHashOf(hashed);
    const bytes = encoded(hashed, true);
    for (let end = START; end < bytes.length; end++) {
      expect(envelopeLength(bytes, START, end), `cut at ${end - START}`).toBe(-1);
    }
    expect(envelopeLength(bytes, START, bytes.length)).toBe(bytes.length - START);
  });

  test('for another format, an unknown flag and a used spare byte', () => {
    for (const [offset, value] of [
      [0, 0],
      [0, ENVELOPE_FORMAT + 1],
      [1, 8],
      [1, 128],
      [10, 1],
      [11, 1],
    ] as const) {
      const bytes = encoded(revision());
      bytes[START + offset] = value;
      expect(envelopeLength(bytes, START, bytes.length), `${offset}: ${value}`).toBe(-1);
    }
  });

  test('for a length field that points behind the end', () => {
    for (const offset of [2, 4, 5, 6, 8, 12]) {
      const bytes = encoded(revision());
      bytes[START + offset] = 0xff;
      expect(envelopeLength(bytes, START, bytes.length), `field at ${offset}`).toBe(-1);
    }
  });

  test('but not because more follows', () => {
    const bytes = Buffer.concat([encoded(revision()), Buffer.from('next')]);
    expect(envelopeLength(bytes, START, bytes.length)).toBe(bytes.length - 4 - START);
  });
});

describe('the checksum', () => {
  test('shows every flipped bit of an envelope', () => {
    const bytes = encoded(revision({ traceState: 't' }));
    const sum = checksum(bytes, START, bytes.length);
    for (let bit = START * 8; bit < bytes.length * 8; bit++) {
      const byte = bit >> 3;
      bytes[byte] = (bytes[byte] as number) ^ (1 << (bit & 7));
      expect(checksum(bytes, START, bytes.length)).not.toBe(sum);
      bytes[byte] = (bytes[byte] as number) ^ (1 << (bit & 7));
    }
    expect(checksum(bytes, START, bytes.length)).toBe(sum);
  });

  test('of a whole is that of its second part continued from the first', () => {
    const bytes = Buffer.from('123456789');
    expect(checksum(bytes, 0, 9)).toBe(0xcbf43926);
    expect(checksum(bytes, 4, 9, checksum(bytes, 0, 4))).toBe(0xcbf43926);
  });
});
