/** Rows cut into statements that a server takes: not too many values, not too many bytes. */
import type { Row } from './sql-driver.js';

/** Of values in one statement; servers stop at 65,535. */
const VALUES_MAX = 60_000;

export function* portionsOf(rows: readonly Row[], bytesMax: number): Generator<readonly Row[]> {
  let from = 0;
  let bytes = 0;
  for (let at = 0; at < rows.length; at++) {
    const row = rows[at] as Row;
    const size = bytesOf(row);
    const full = bytes + size > bytesMax || (at - from + 1) * row.length > VALUES_MAX;
    if (full && at > from) {
      yield rows.slice(from, at);
      from = at;
      bytes = 0;
    }
    bytes += size;
  }
  if (from < rows.length) yield rows.slice(from);
}

function bytesOf(row: Row): number {
  let bytes = 0;
  for (const value of row) bytes += typeof value === 'number' ? 9 : value.length + 9;
  return bytes;
}
