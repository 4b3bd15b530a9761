/** SQLite's write-ahead file, read only to tell damage from a cut: https://www.sqlite.org/fileformat2.html#walformat */
import { readFileSync } from 'node:fs';
import { sizeOf } from './files.js';

const JOURNAL_HEAD_BYTES = 32;
const FRAME_HEAD_BYTES = 24;

/**
 * Whether SQLite's write-ahead file holds a damaged place with committed groups behind it. SQLite takes such
 * a place for the end and forgets the rest without a word. A power loss cuts only the last group: a group is
 * begun when the one before it is on the disk, so a commit with an intact frame behind it was whole once.
 *
 *   head    u32 magic, format, page bytes, sequence, salt, salt, checksum, checksum
 *   frames  u32 page, pages after a commit or 0, salt, salt, checksum, checksum; then the page
 */
export function groupsBehindDamage(path: string): boolean {
  if ((sizeOf(path) ?? 0) < JOURNAL_HEAD_BYTES + FRAME_HEAD_BYTES) return false;
  const journal = readFileSync(path);
  const littleEndian = (journal.readUInt32BE(0) & 1) === 0;
  const pageBytes = journal.readUInt32BE(8);
  const sum = new JournalChecksum(journal, littleEndian);
  sum.add(0, 24);
  // The head is synced before the first frame is written, so it is whole wherever there is one.
  if (!sum.fits(24)) return true;
  const frameBytes = FRAME_HEAD_BYTES + pageBytes;
  let whole = true;
  let committed = false;
  for (let at = JOURNAL_HEAD_BYTES; at + frameBytes <= journal.length; at += frameBytes) {
    const sameGeneration = journal.compare(journal, 16, 24, at + 8, at + 16) === 0;
    sum.add(at, 8);
    sum.add(at + FRAME_HEAD_BYTES, pageBytes);
    const intact = sameGeneration && sum.fits(at + 16);
    if (intact && committed) return true;
    whole &&= intact;
    if (!whole && sameGeneration && journal.readUInt32BE(at + 4) !== 0) committed = true;
    sum.continueFrom(at + 16);
  }
  return false;
}

/** The running checksum of SQLite's write-ahead file, over pairs of 32-bit words. */
class JournalChecksum {
  readonly #view: DataView;
  readonly #littleEndian: boolean;
  #first = 0;
  #second = 0;

  constructor(journal: Buffer, littleEndian: boolean) {
    this.#view = new DataView(journal.buffer, journal.byteOffset, journal.byteLength);
    this.#littleEndian = littleEndian;
  }

  add(start: number, bytes: number): void {
    const view = this.#view;
    const littleEndian = this.#littleEndian;
    let first = this.#first;
    let second = this.#second;
    for (let at = start; at < start + bytes; at += 8) {
      first = (first + view.getUint32(at, littleEndian) + second) >>> 0;
      second = (second + view.getUint32(at + 4, littleEndian) + first) >>> 0;
    }
    this.#first = first;
    this.#second = second;
  }

  /** Goes on from a stored checksum, so that one damaged frame does not discredit those behind it. */
  continueFrom(at: number): void {
    this.#first = this.#view.getUint32(at);
    this.#second = this.#view.getUint32(at + 4);
  }

  /** Whether the stored checksum, always big-endian, is this one. */
  fits(at: number): boolean {
    return this.#view.getUint32(at) === this.#first && this.#view.getUint32(at + 4) === this.#second;
  }
}
