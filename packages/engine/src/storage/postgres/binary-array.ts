/**
 * A PostgreSQL array in its binary form, as a parameter: big-endian `i32` dimensions (1), nulls (0), type of the
 * elements, their count, index of the first (1); then each element behind its `i32` length. Written by hand, since pg
 * makes an array literal of hex digits: twice the bytes, a string for every value, and the server parses it all again.
 */
import type { Column, Value } from '../server/sql-driver.js';

const HEAD_BYTES = 20;
const OIDS = { bytes: 17, integer: 20 } as const;
const INTEGER_BYTES = 8;
const TWO_32 = 2 ** 32;

/** @param type Of all values: `bytea`, or `bigint` for safe integers. */
export function binaryArray(type: Column['type'], values: readonly Value[]): Buffer {
  const array = Buffer.allocUnsafe(HEAD_BYTES + bytesOf(type, values));
  const count = values.length;
  array.writeInt32BE(1, 0);
  array.writeInt32BE(0, 4);
  array.writeInt32BE(OIDS[type], 8);
  array.writeInt32BE(count, 12);
  array.writeInt32BE(1, 16);
  let at = HEAD_BYTES;
  if (type === 'integer') {
    for (const value of values as readonly number[]) {
      const high = Math.floor(value / TWO_32);
      array.writeInt32BE(INTEGER_BYTES, at);
      array.writeInt32BE(high, at + 4);
      array.writeUInt32BE(value - high * TWO_32, at + 8);
      at += 4 + INTEGER_BYTES;
    }
    return array;
  }
  for (const value of values as readonly Buffer[]) {
    const { length } = value;
    array.writeInt32BE(length, at);
    if (length > 0) array.set(value, at + 4);
    at += 4 + length;
  }
  return array;
}

function bytesOf(type: Column['type'], values: readonly Value[]): number {
  if (type === 'integer') return values.length * (4 + INTEGER_BYTES);
  let bytes = values.length * 4;
  for (const value of values as readonly Buffer[]) bytes += value.length;
  return bytes;
}
