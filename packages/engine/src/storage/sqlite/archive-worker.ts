/** Entry of the archive's threads: an `ArchiveFile` behind messages. */
import { loadDriver } from '../../base/sqlite.js';
import { type Answer, serveWorker, toWire, type WireError } from '../../base/worker-server.js';
import type {
  ArchiveOpenOptions,
  ChangeHead,
  CollectRequest,
  RowRange,
  StoredLetter,
} from '../archive-store.js';
import type { NewArchive } from '../identity.js';
import { ArchiveFile, type ArchiveRole } from './archive-file.js';
import { unpackWrites } from './pack.js';
import type { PackedRows } from './row-packer.js';

export interface OpenRequest {
  readonly path: string;
  readonly holder: string;
  readonly role: ArchiveRole;
  readonly options: ArchiveOpenOptions;
  readonly fresh: NewArchive;
}

/** `PackedRows`, with errors as they cross the thread boundary. */
export interface ReadAnswer {
  readonly places: readonly number[];
  readonly rows: Uint8Array;
  readonly damaged: readonly { readonly place: number; readonly error: WireError }[];
  /** Of a scan: whether more may follow. */
  readonly more: boolean;
}

let file: ArchiveFile | undefined;

function opened(): ArchiveFile {
  if (file === undefined) throw new Error('The archive was not opened.');
  return file;
}

serveWorker({
  async open(request: OpenRequest): Promise<Answer> {
    file ??= new ArchiveFile(await loadDriver(), request.path, request.holder, request.role);
    return { value: file.open(request.options, request.fresh) };
  },
  getMany(ids: readonly string[]): Answer {
    return packed(
      opened().read((reader) => reader.getMany(ids)),
      false,
    );
  },
  scan([range, after, limit]: [RowRange, string | undefined, number]): Answer {
    const { rows, more } = opened().read((reader) => reader.scan(range, after, limit));
    return packed(rows, more);
  },
  count([range, except]: [RowRange, readonly string[]]): Answer {
    return { value: opened().read((reader) => reader.count(range, except)) };
  },
  ids([after, limit]: [string | undefined, number]): Answer {
    return { value: opened().read((reader) => reader.ids(after, limit)) };
  },
  changesSince([from, limit]: [ChangeHead, number]): Answer {
    return { value: opened().read((reader) => reader.changesSince(from, limit)) };
  },
  digests(paths: readonly (readonly string[])[]): Answer {
    return { value: opened().read((reader) => reader.digests(paths)) };
  },
  children([path, after, limit]: [readonly string[], string | undefined, number]): Answer {
    return { value: opened().read((reader) => reader.children(path, after, limit)) };
  },
  scrub([after, limit]: [string | undefined, number]): Answer {
    return { value: opened().read((reader) => reader.scrub(after, limit)) };
  },
  verifyPath(path: readonly string[]): Answer {
    return { value: opened().read((reader) => reader.verifyPath(path)) };
  },
  apply(pack: Uint8Array): Answer {
    const { writes, checksums } = unpackWrites(pack);
    return { value: opened().write((writer) => writer.apply(writes, checksums)) };
  },
  collect(request: CollectRequest): Answer {
    return { value: opened().write((writer) => writer.collect(request)) };
  },
  keepLetters(letters: readonly StoredLetter[]): Answer {
    // Buffers arrive as plain arrays of bytes.
    const whole = letters.map((letter) => ({
      ...letter,
      revision: { ...letter.revision, content: Buffer.from(letter.revision.content) },
    }));
    return { value: opened().write((writer) => writer.keepLetters(whole)) };
  },
  dropLetters(ids: readonly string[]): Answer {
    return { value: opened().write((writer) => writer.dropLetters(ids)) };
  },
  letters(): Answer {
    return { value: opened().write((writer) => writer.letters()) };
  },
  ping(): Answer {
    opened().ping();
    return { value: undefined };
  },
  close(): Answer {
    file?.close();
    return { value: undefined };
  },
});

function packed({ places, rows, damaged }: PackedRows, more: boolean): Answer {
  const wire = damaged.map(({ place, error }) => ({ place, error: toWire(error) }));
  const answer: ReadAnswer = { places, rows, damaged: wire, more };
  return { value: answer, transfer: [rows.buffer as ArrayBuffer] };
}
