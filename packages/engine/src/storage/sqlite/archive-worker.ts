/** Entry of the archive's threads, writer and reader: an `ArchiveFile` behind messages. */
import type { SyncEngineError } from '../../base/errors.js';
import { loadDriver } from '../../base/sqlite.js';
import { type Answer, serveWorker, toWire, type WireError } from '../../base/worker-server.js';
import type { Revision } from '../../item/revision.js';
import type { ArchiveOpenOptions } from '../archive-store.js';
import { ArchiveFile, type ArchiveRole } from './archive-file.js';
import { packRevisions, unpackRevisions } from './pack.js';

export interface OpenRequest {
  readonly path: string;
  readonly holder: string;
  readonly role: ArchiveRole;
  readonly options: ArchiveOpenOptions;
  readonly newArchiveId: string;
}

/** `places[i]`: index of the i-th row in the request; ids without a row are in neither list. */
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
    const places: number[] = [];
    const rows: Revision[] = [];
    const damaged: { place: number; error: WireError }[] = [];
    opened()
      .getMany(ids)
      .forEach((row, place) => {
        if (row === undefined) return;
        if (isRevision(row)) {
          places.push(place);
          rows.push(row);
        } else damaged.push({ place, error: toWire(row) });
      });
    const pack = packRevisions(rows, true);
    const answer: ReadAnswer = { places, rows: pack, damaged };
    return { value: answer, transfer: [pack.buffer as ArrayBuffer] };
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

function isRevision(row: Revision | SyncEngineError): row is Revision {
  return !(row instanceof Error);
}
