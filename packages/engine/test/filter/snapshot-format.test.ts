/** Bytes of a snapshot's head and footer, and the table of leaves between them. */
import { crc32 } from 'node:zlib';
import { expect, test } from 'vitest';
import { CuckooLeaf, PAGE_BYTES, PAGES } from '#engine/filter/cuckoo-leaf.js';
import { LeafTable, ROW_BYTES } from '#engine/filter/leaf-table.js';
import {
  decodeFooter,
  encodeFooter,
  encodeHead,
  type Footer,
  footerBytes,
  footerLength,
  HEAD_BYTES,
  problemOfHead,
} from '#engine/filter/snapshot-format.js';
import { seedOf } from './filters.js';

const COVER = { position: 7, chain: 'é', archiveId: 'a', collected: 3 };

function leafOf(root: number, prefix: number, depth: number, count: number): CuckooLeaf {
  const leaf = new CuckooLeaf(root, prefix, depth);
  leaf.count = count;
  return leaf;
}

/** Two leaves whose pages lie behind each other, from the head on. */
function tableOf(leaves: readonly CuckooLeaf[]): LeafTable {
  const table = new LeafTable();
  leaves.forEach((leaf, place) => {
    table.setLeaf(place, leaf);
    for (let page = 0; page < PAGES; page++)
      table.setPage(place, page, HEAD_BYTES + (place * PAGES + page) * PAGE_BYTES, 1000 + page);
  });
  return table;
}

const LEAVES = [leafOf(3, 0, 1, 40), leafOf(3, 1, 1, 2)];
const END = HEAD_BYTES + LEAVES.length * PAGES * PAGE_BYTES;
const footer = (): Footer => ({ seed: seedOf(1), table: tableOf(LEAVES), cover: COVER });

/** The same bytes with another head, and a checksum that fits. */
function withHead(bytes: Buffer, json: string): Buffer {
  const rest = bytes.subarray(4 + bytes.readUInt32LE(0));
  const head = Buffer.from(json);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(head.length);
  const made = Buffer.concat([length, head, rest]);
  made.writeUInt32LE(made.length, made.length - 16);
  made.writeUInt32LE(crc32(made.subarray(0, -12)), made.length - 12);
  return made;
}

test('a head is magic, format, byte order and checksum, and anything else is told', () => {
  const head = encodeHead();
  expect(head.toString('latin1', 0, 8)).toBe('SEFILTER');
  expect([head.length, head.readUInt32LE(8), head.readUInt32LE(16)]).toEqual([24, 1, 0]);
  expect(problemOfHead(head)).toBeUndefined();
  expect(problemOfHead(head.subarray(0, 23))).toBe('it is too short');
  const changed = (change: (bytes: Buffer) => void, sealed = true): string | undefined => {
    const bytes = Buffer.from(head);
    change(bytes);
    if (sealed) bytes.writeUInt32LE(crc32(bytes.subarray(0, 20)), 20);
    return problemOfHead(bytes);
  };
  expect(changed((bytes) => bytes.write('X', 7))).toBe('it is not a snapshot of a filter');
  expect(changed((bytes) => bytes.writeUInt32LE(9, 8), false)).toBe('its head was changed');
  expect(changed((bytes) => bytes.writeUInt32LE(9, 8))).toBe('it has format 9, this version knows 1');
  expect(changed((bytes) => bytes.subarray(12, 16).reverse())).toBe(
    'it comes from a machine of another byte order',
  );
});

test('a footer comes back as it was, at its own place alone', () => {
  const bytes = encodeFooter(footer(), END);
  expect(bytes.length).toBeLessThanOrEqual(footerBytes(LEAVES.length));
  expect(footerBytes(5) - footerBytes(4)).toBe(ROW_BYTES);
  expect(footerBytes(0)).toBe(4 + 512 + 24);
  expect(bytes.toString('latin1', bytes.length - 8)).toBe('SEFOOTER');
  const decoded = decodeFooter(bytes, END) as Footer;
  expect(decoded.cover).toEqual(COVER);
  expect(Buffer.from(decoded.seed)).toEqual(Buffer.from(seedOf(1)));
  expect(decoded.table.bytes).toEqual(footer().table.bytes);
  expect(decodeFooter(bytes, END + 1)).toBeUndefined();
});

test('the length of a footer is read from its last 24 bytes', () => {
  const bytes = encodeFooter(footer(), END);
  expect(footerLength(bytes)).toBe(bytes.length);
  expect(footerLength(bytes.subarray(-24))).toBe(bytes.length);
  expect(footerLength(bytes.subarray(-23))).toBeUndefined();
  expect(footerLength(bytes.subarray(0, -1))).toBeUndefined();
  expect(footerLength(Buffer.alloc(0))).toBeUndefined();
});

test('no flipped bit, cut or addition leaves a footer', () => {
  const bytes = encodeFooter(footer(), END);
  for (let at = 0; at < bytes.length - 8; at++) {
    const flipped = Buffer.from(bytes);
    flipped[at] = (flipped[at] as number) ^ 4;
    // The length is read by whoever looks for the footer; here its bytes are known.
    const kept = at >= bytes.length - 16 && at < bytes.length - 12;
    expect(decodeFooter(flipped, END), `byte ${at}`).toBeUndefined();
    if (kept) expect(footerLength(flipped)).not.toBe(bytes.length);
  }
  for (const length of [0, 3, 24, 27, 28, 100, bytes.length - 1]) {
    expect(decodeFooter(bytes.subarray(0, length), END)).toBeUndefined();
    expect(decodeFooter(bytes.subarray(bytes.length - length), END)).toBeUndefined();
  }
  expect(decodeFooter(Buffer.concat([Buffer.alloc(1), bytes]), END)).toBeUndefined();
});

test('a footer whose checksum fits and whose parts do not fit each other is none', () => {
  const bytes = encodeFooter(footer(), END);
  const head = JSON.parse(bytes.toString('utf8', 4, 4 + bytes.readUInt32LE(0)));
  expect(decodeFooter(withHead(bytes, JSON.stringify(head)), END)?.cover).toEqual(COVER);
  for (const json of [
    'no JSON',
    'null',
    '{}',
    JSON.stringify({ ...head, seed: 'abcd' }),
    JSON.stringify({ ...head, seed: undefined }),
    JSON.stringify({ ...head, cover: undefined }),
    JSON.stringify({ ...head, leaves: 1 }),
    JSON.stringify({ ...head, leaves: 3 }),
    JSON.stringify({ ...head, count: 41 }),
  ]) {
    expect(decodeFooter(withHead(bytes, json), END), json).toBeUndefined();
  }
  const long = Buffer.from(bytes);
  long.writeUInt32LE(bytes.length, 0);
  long.writeUInt32LE(crc32(long.subarray(0, -12)), long.length - 12);
  expect(decodeFooter(long, END)).toBeUndefined();
});

test('pages that lie in the head, or behind the footer, make none', () => {
  const at = (offset: number): Footer | undefined => {
    const made = footer();
    made.table.setPage(1, PAGES - 1, offset, 0);
    return decodeFooter(encodeFooter(made, END), END);
  };
  expect(at(HEAD_BYTES)).toBeDefined();
  expect(at(HEAD_BYTES - 1)).toBeUndefined();
  expect(at(END - PAGE_BYTES)).toBeDefined();
  expect(at(END - PAGE_BYTES + 1)).toBeUndefined();
  expect(at(Number.NaN)).toBeUndefined();
});

test('a table keeps each leaf and page in a row of its own, however it grew', () => {
  const table = new LeafTable();
  expect([table.length, table.count, table.bytes.length]).toEqual([0, 0, 0]);
  for (let place = 0; place < 9; place++) {
    table.setLeaf(place, leafOf(place + 1, place + 2, place + 3, place + 4));
    for (let page = 0; page < PAGES; page++)
      table.setPage(place, page, place * 100 + page, place * 1000 + page);
  }
  table.setLeaf(4, leafOf(50, 51, 52, 53));
  const copy = new LeafTable(table.bytes);
  table.setLeaf(5, leafOf(0, 0, 0, 0));
  expect([copy.length, copy.bytes.length, ROW_BYTES]).toEqual([9, 9 * ROW_BYTES, 160]);
  const rows = Array.from({ length: 9 }, (_, place) => [
    ...[copy.rootOf(place), copy.prefixOf(place), copy.depthOf(place), copy.countOf(place)],
    ...[
      copy.offsetOf(place, 0),
      copy.offsetOf(place, 7),
      copy.checksumOf(place, 0),
      copy.checksumOf(place, 7),
    ],
  ]);
  expect(rows).toEqual(
    Array.from({ length: 9 }, (_, place) => [
      ...(place === 4 ? [50, 51, 52, 53] : [place + 1, place + 2, place + 3, place + 4]),
      ...[place * 100, place * 100 + 7, place * 1000, place * 1000 + 7],
    ]),
  );
  expect(copy.count).toBe(4 + 5 + 6 + 7 + 53 + 9 + 10 + 11 + 12);
});
