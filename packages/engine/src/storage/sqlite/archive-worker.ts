/** Entry of the archive's threads, writer and reader: an `ArchiveFile` behind messages. */
import { loadDriver } from '../../base/sqlite.js';
import { type Answer, serveWorker, toWire, type WireError } from '../../base/worker-server.js';
import type { ArchiveOpenOptions } from '../archive-store.js';
import { ArchiveFile, type ArchiveRole } from './archive-file.js';
import { unpackRevisions } from './pack.js';

export interface OpenRequest {
  readonly path: string;
  readonly holder: string;
  readonly role: ArchiveRole;
  readonly options: ArchiveOpenOptions;
  readonly newArchiveId: string;
}

/** `PackedRows`, with errors as they cross the thread boundary. */
export interface ReadAnswer {
  readonly places: readonly number[];
  readonly rows: Uint8Array;
  readonly damaged: readonly { readonly place: number; readonly error: WireError }[];
}

let file: ArchiveFile | undefined;

function opened(): ArchiveFile {
  if (file === undefined) throw new Error('The archive was not opened.');
  return file;
}

serveWorker({
  async open(request: OpenRequest): Promise<Answer> {
    file ??= new ArchiveFile(await loadDriver(), request.path, request.holder, request.role);
    return { value: file.open(request.options, request.newArchiveId) };
  },
  getMany(ids: readonly string[]): Answer {
    const { places, rows, damaged } = opened().readPacked(ids);
    const wire = damaged.map(({ place, error }) => ({ place, error: toWire(error) }));
    const answer: ReadAnswer = { places, rows, damaged: wire };
    return { value: answer, transfer: [rows.buffer as ArrayBuffer] };
  },
  apply(pack: Uint8Array): Answer {
    return { value: opened().apply(unpackRevisions(pack)) };
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
