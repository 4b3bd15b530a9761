/** The count of groups beside a log: what is believed of it, and what is not. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { expect, test } from 'vitest';
import { CommitMark, markedGroups } from '#engine/wal/commit-mark.js';
import { temporaryDirectory } from '../support/engines.js';

const LOG = 'ab'.repeat(16);

function marked(groups: number): string {
  const path = join(temporaryDirectory(), 'log.db');
  const mark = new CommitMark(path, LOG);
  mark.set(groups);
  mark.close();
  return path;
}

test('the last count is known when the log is opened again, and grows from there', () => {
  const path = marked(7);
  expect(markedGroups(path, LOG)).toBe(7);
  const mark = new CommitMark(path, LOG);
  expect(markedGroups(path, LOG)).toBe(7);
  mark.set(2 ** 40);
  mark.set(2 ** 40 + 1);
  expect(markedGroups(path, LOG)).toBe(2 ** 40 + 1);
  mark.close();
});

test('a mark is 32 bytes: magic, checksum, identity of the log, groups', () => {
  const bytes = readFileSync(`${marked(258)}-mark`);
  expect(bytes.toString('latin1', 0, 4)).toBe('SyMk');
  expect(bytes.readUInt32BE(4)).toBe(crc32(bytes.subarray(8)));
  expect(bytes.toString('hex', 8)).toBe(`${LOG}0000000000000102`);
});

test('without a mark, with one of another log, one that was cut or has a wrong bit, nothing is known', () => {
  const path = marked(7);
  expect(markedGroups(`${path}x`, LOG)).toBe(0);
  expect(markedGroups(path, 'cd'.repeat(16))).toBe(0);
  const whole = readFileSync(`${path}-mark`);
  for (let at = 0; at < whole.length; at++) {
    const flipped = Buffer.from(whole);
    flipped[at] = (flipped[at] as number) ^ 8;
    writeFileSync(`${path}-mark`, flipped);
    expect(markedGroups(path, LOG)).toBe(0);
  }
  for (const bytes of [whole.subarray(0, 31), Buffer.concat([whole, Buffer.alloc(1)]), Buffer.alloc(0)]) {
    writeFileSync(`${path}-mark`, bytes);
    expect(markedGroups(path, LOG)).toBe(0);
  }
});

test('a mark that cannot be written ends nothing: the groups are durable without it', () => {
  const path = marked(7);
  const mark = new CommitMark(path, LOG);
  mark.close();
  expect(() => mark.set(8)).not.toThrow();
  expect(markedGroups(path, LOG)).toBe(7);
});
