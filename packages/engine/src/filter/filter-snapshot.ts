/**
 * The snapshot of a filter in one file: pages and a footer that says where each page lies. A save appends the
 * pages that changed and a new footer; the older footer and its pages stay, so a crash in the middle leaves
 * the older snapshot. Where more than half of the file would be garbage, it is written anew beside and
 * renamed over.
 *
 * Promises: what `load` returns holds every id that was in the filter when `save` was called, or it throws.
 * The filter may change during a save: ids inserted meanwhile may or may not be in the snapshot.
 *
 *   copy a leaf's changed pages ─┐ in one go, as entries move between the pages of a leaf
 *   write, after each 512 KiB ◄──┘
 *   leaves that split meanwhile: copy again, until none is left; then, in the same go, encode the footer
 *   sync · write footer · sync
 *
 * One at a time may have the file. It does not guard itself against another process.
 */
import { type FileHandle, open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { SyncEngineError } from '../base/errors.js';
import { CuckooFilter, DEPTH_MAX, ROOTS } from './cuckoo-filter.js';
import { ALL_PAGES, CuckooLeaf, LEAF_BYTES, PAGE_BYTES, PAGES } from './cuckoo-leaf.js';
import { LeafTable } from './leaf-table.js';
import {
  decodeFooter,
  encodeFooter,
  encodeHead,
  FOOTER_MAGIC,
  type Footer,
  footerBytes,
  footerLength,
  HEAD_BYTES,
  problemOfHead,
  type SnapshotCover,
} from './snapshot-format.js';

export type { SnapshotCover } from './snapshot-format.js';

/** Copied between two looks at the event loop: a fraction of a millisecond. */
const PORTION_BYTES = 512 * 1024;
/** Read and verified, entry by entry, which takes longer. */
const VERIFIED_BYTES = 128 * 1024;

export interface LoadedFilter {
  readonly filter: CuckooFilter;
  readonly cover: SnapshotCover;
}

export interface SaveResult {
  /** Pages written; all of them where the file was written anew. */
  readonly pages: number;
  readonly rewritten: boolean;
  readonly fileBytes: number;
}

/** What the file is known to hold, once it is durable. */
interface Saved {
  readonly filter: CuckooFilter;
  readonly table: LeafTable;
  /** Behind the last footer. What lies there is the rest of a save that failed. */
  readonly end: number;
}

export class FilterSnapshotFile {
  readonly #path: string;
  /** Absent before the first save or load, and after a save that failed: then the next writes all. */
  #saved: Saved | undefined;
  #busy: Promise<unknown> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  /**
   * Durable when it resolves. `cover` is what the filter held before this call. Saves and loads wait for each
   * other. Rejects with the error of the file system; then the older snapshot is still there, and the next
   * save writes all pages.
   */
  save(filter: CuckooFilter, cover: SnapshotCover): Promise<SaveResult> {
    return this.#alone(() => this.#save(filter, cover));
  }

  /**
   * The newest snapshot; `undefined` where there is no file. A save that a crash cut short is passed over.
   * @throws `CORRUPTION` for any other damage: the filter has to be built again.
   */
  load(): Promise<LoadedFilter | undefined> {
    return this.#alone(() => this.#load());
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#busy.then(work);
    this.#busy = result.catch(() => undefined);
    return result;
  }

  async #save(filter: CuckooFilter, cover: SnapshotCover): Promise<SaveResult> {
    const saved = this.#saved;
    this.#saved = undefined;
    const known = filter.claimMarks(this);
    if (known && saved?.filter === filter && !tooMuchGarbage(filter, saved)) {
      const handle = await openIfThere(this.#path, 'r+');
      if (handle !== undefined) {
        const done = await closing(handle, () => appendTo(handle, saved, cover, this));
        if (done !== undefined) return this.#finish(filter, done, false);
      }
    }
    const building = `${this.#path}.new`;
    const handle = await open(building, 'w');
    const done = await closing(handle, () => writeAll(handle, filter, cover, this));
    await rename(building, this.#path);
    await syncDirectory(dirname(this.#path));
    return this.#finish(filter, done, true);
  }

  #finish(filter: CuckooFilter, done: Written, rewritten: boolean): SaveResult {
    this.#saved = { filter, table: done.table, end: done.end };
    return { pages: done.pages, rewritten, fileBytes: done.end };
  }

  async #load(): Promise<LoadedFilter | undefined> {
    this.#saved = undefined;
    const handle = await openIfThere(this.#path, 'r');
    if (handle === undefined) return undefined;
    return closing(handle, async () => {
      const problem = problemOfHead(await read(handle, 0, HEAD_BYTES));
      if (problem !== undefined) throw this.#corruption(problem);
      const found = await lastFooter(handle);
      if (found === undefined) throw this.#corruption('it has no intact footer');
      const { seed, cover, table } = found.footer;
      const leaves = await readLeaves(handle, table);
      if (typeof leaves === 'string') throw this.#corruption(leaves);
      const filter = CuckooFilter.fromLeaves(seed, leaves);
      if (filter === undefined) throw this.#corruption('its leaves are not those of one filter');
      filter.claimMarks(this);
      for (const leaf of leaves) leaf.changedPages = 0;
      this.#saved = { filter, table, end: found.end };
      return { filter, cover };
    });
  }

  #corruption(what: string): SyncEngineError {
    return new SyncEngineError(
      'CORRUPTION',
      `The filter snapshot ${this.#path} is damaged: ${what}. It holds nothing that is not in SQL: build the filter again and save it, which replaces the file.`,
      { context: { path: this.#path } },
    );
  }
}

interface Written {
  readonly table: LeafTable;
  readonly end: number;
  readonly pages: number;
}

/** `undefined` where the file is shorter than it was left: somebody else was here. */
async function appendTo(
  handle: FileHandle,
  { filter, table, end }: Saved,
  cover: SnapshotCover,
  owner: object,
): Promise<Written | undefined> {
  const { size } = await handle.stat();
  if (size < end) return undefined;
  if (size > end) await handle.truncate(end);
  return new SnapshotWriter(handle, end, table).write(filter, cover, owner);
}

async function writeAll(
  handle: FileHandle,
  filter: CuckooFilter,
  cover: SnapshotCover,
  owner: object,
): Promise<Written> {
  await writeFully(handle, encodeHead(), 0);
  return new SnapshotWriter(handle, HEAD_BYTES, new LeafTable()).write(filter, cover, owner);
}

/** Writes one snapshot, and into the table where each page lies. */
class SnapshotWriter {
  readonly #handle: FileHandle;
  readonly #table: LeafTable;
  readonly #portion = Buffer.allocUnsafeSlow(PORTION_BYTES);
  #filled = 0;
  /** Where the portion will lie. */
  #offset: number;
  #pages = 0;

  constructor(handle: FileHandle, offset: number, table: LeafTable) {
    this.#handle = handle;
    this.#offset = offset;
    this.#table = table;
  }

  async write(filter: CuckooFilter, cover: SnapshotCover, owner: object): Promise<Written> {
    await this.#copyWhere(filter, (leaf) => leaf.changedPages !== 0);
    // A leaf that split was copied with entries that its sibling has now. Once nothing had to be waited for,
    // the copies, and the footer below, are of one moment as to which leaf has what.
    while (await this.#copyWhere(filter, (leaf, savedDepth) => savedDepth !== leaf.depth));
    if (!filter.isMarkedFor(owner)) {
      throw new SyncEngineError(
        'ENGINE_STATE',
        'Another file took over the snapshots of this filter during a save. Save a filter to one file at a time.',
      );
    }
    const footerAt = this.#offset + this.#filled;
    const footer = encodeFooter({ seed: filter.seed, table: this.#table, cover }, footerAt);
    await this.#flush();
    await this.#handle.datasync();
    await writeFully(this.#handle, footer, footerAt);
    await this.#handle.datasync();
    return { table: this.#table, end: footerAt + footer.length, pages: this.#pages };
  }

  /** Leaves that are not in the file yet are always copied. Returns whether others could run meanwhile. */
  async #copyWhere(
    filter: CuckooFilter,
    isDue: (leaf: CuckooLeaf, savedDepth: number) => boolean,
  ): Promise<boolean> {
    let waited = false;
    for (let place = 0; place < filter.leaves; place++) {
      const leaf = filter.leafAt(place);
      if (place < this.#table.length && !isDue(leaf, this.#table.depthOf(place))) continue;
      if (this.#filled + LEAF_BYTES > PORTION_BYTES) {
        await this.#flush();
        waited = true;
      }
      this.#copy(leaf, place);
    }
    return waited;
  }

  #copy(leaf: CuckooLeaf, place: number): void {
    const pages = place < this.#table.length ? leaf.changedPages : ALL_PAGES;
    this.#table.setLeaf(place, leaf);
    leaf.changedPages = 0;
    for (let page = 0; page < PAGES; page++) {
      if ((pages & (1 << page)) === 0) continue;
      const bytes = this.#portion.subarray(this.#filled, this.#filled + PAGE_BYTES);
      bytes.set(leaf.page(page));
      this.#table.setPage(place, page, this.#offset + this.#filled, crc32(bytes));
      this.#filled += PAGE_BYTES;
      this.#pages++;
    }
  }

  async #flush(): Promise<void> {
    await writeFully(this.#handle, this.#portion.subarray(0, this.#filled), this.#offset);
    this.#offset += this.#filled;
    this.#filled = 0;
  }
}

function tooMuchGarbage(filter: CuckooFilter, saved: Saved): boolean {
  let changed = 0;
  for (let place = 0; place < filter.leaves; place++) changed += bitsOf(filter.leafAt(place).changedPages);
  const footer = footerBytes(filter.leaves);
  const live = HEAD_BYTES + filter.leaves * LEAF_BYTES + footer;
  return saved.end + changed * PAGE_BYTES + footer > 2 * live;
}

function bitsOf(mask: number): number {
  let bits = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) bits++;
  return bits;
}

/**
 * The footer at the end of the file, else the last intact one before it: what lies behind that one is a save
 * that was cut short.
 */
async function lastFooter(handle: FileHandle): Promise<{ footer: Footer; end: number } | undefined> {
  const overlap = FOOTER_MAGIC.length - 1;
  for (let end = (await handle.stat()).size; end > HEAD_BYTES; ) {
    const start = Math.max(HEAD_BYTES, end - PORTION_BYTES);
    const portion = await read(handle, start, end - start);
    for (let at = portion.length; at > 0; ) {
      at = portion.lastIndexOf(FOOTER_MAGIC, at - 1);
      if (at === -1) break;
      const footerEnd = start + at + FOOTER_MAGIC.length;
      const footer = await footerEndingAt(handle, footerEnd);
      if (footer !== undefined) return { footer, end: footerEnd };
    }
    if (start === HEAD_BYTES) return undefined;
    end = start + overlap;
  }
  return undefined;
}

async function footerEndingAt(handle: FileHandle, end: number): Promise<Footer | undefined> {
  const length = footerLength(await read(handle, Math.max(0, end - 64), Math.min(end, 64)));
  if (length === undefined || length > end - HEAD_BYTES) return undefined;
  return decodeFooter(await read(handle, end - length, length), end - length);
}

/** The leaves, every page and every entry verified, or what is wrong with them. */
async function readLeaves(handle: FileHandle, table: LeafTable): Promise<CuckooLeaf[] | string> {
  const leaves = new Array<CuckooLeaf>(table.length);
  const pages = pagesByOffset(table);
  for (let first = 0; first < pages.length; ) {
    const next = endOfRun(table, pages, first);
    const start = offsetOf(table, pages[first] as number);
    const bytes = await read(handle, start, (next - first) * PAGE_BYTES);
    for (let at = 0; at < next - first; at++) {
      const page = pages[first + at] as number;
      const problem = takePage(leaves, table, page, bytes.subarray(at * PAGE_BYTES, (at + 1) * PAGE_BYTES));
      if (problem !== undefined) return problem;
    }
    first = next;
  }
  const complete = leaves.every((leaf, place) => leaf.count === table.countOf(place));
  return complete ? leaves : 'a leaf does not hold all that it should';
}

/** Verifies one page and puts it into its leaf. Pages are numbered through all leaves. */
function takePage(
  leaves: CuckooLeaf[],
  table: LeafTable,
  number: number,
  bytes: Uint8Array,
): string | undefined {
  const place = Math.floor(number / PAGES);
  const page = number % PAGES;
  if (bytes.length < PAGE_BYTES || crc32(bytes) !== table.checksumOf(place, page))
    return 'a page was changed';
  if (!(table.rootOf(place) < ROOTS && table.depthOf(place) <= DEPTH_MAX)) return 'a leaf is out of range';
  leaves[place] ??= new CuckooLeaf(table.rootOf(place), table.prefixOf(place), table.depthOf(place));
  const leaf = leaves[place];
  leaf.page(page).set(bytes);
  const count = leaf.countedIn(page);
  if (count === undefined) return 'a leaf holds what is not its own';
  leaf.count += count;
  return undefined;
}

function pagesByOffset(table: LeafTable): Uint32Array {
  const pages = new Uint32Array(table.length * PAGES);
  let last = 0;
  let inOrder = true;
  for (let at = 0; at < pages.length; at++) {
    pages[at] = at;
    const offset = offsetOf(table, at);
    inOrder &&= offset > last;
    last = offset;
  }
  return inOrder ? pages : pages.sort((a, b) => offsetOf(table, a) - offsetOf(table, b));
}

function offsetOf(table: LeafTable, page: number): number {
  return table.offsetOf(Math.floor(page / PAGES), page % PAGES);
}

/** Pages that lie behind each other, as many as are verified at once. */
function endOfRun(table: LeafTable, pages: Uint32Array, first: number): number {
  const end = Math.min(pages.length, first + Math.floor(VERIFIED_BYTES / PAGE_BYTES));
  const start = offsetOf(table, pages[first] as number);
  let next = first + 1;
  while (next < end && offsetOf(table, pages[next] as number) === start + (next - first) * PAGE_BYTES) next++;
  return next;
}

async function read(handle: FileHandle, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(bytes, done, length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}

async function writeFully(handle: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
  }
}

async function openIfThere(path: string, flags: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, flags);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function closing<T>(handle: FileHandle, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } finally {
    await handle.close();
  }
}

/** As `syncDirectoryOf` of base/files, but off the event loop. */
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  await closing(handle, () => handle.sync());
}
