/** Entry of the log's thread: a `RecordFile` behind messages. */
import { loadDriver } from '../base/sqlite.js';
import { type Answer, serveWorker } from '../base/worker-server.js';
import { type PackedGroup, RecordFile, type RecordPortion } from './record-file.js';
import type { LogOpenOptions } from './record-store.js';

/** What `load` answers; the last portion says where the log ends. */
export interface LoadAnswer {
  readonly portion: RecordPortion;
  readonly nextPosition: number;
  readonly fileBytes: number;
}

let file: RecordFile | undefined;

function opened(): RecordFile {
  if (file === undefined) throw new Error('The log was not opened.');
  return file;
}

serveWorker({
  async open(args: { path: string; holder: string; options: LogOpenOptions }): Promise<Answer> {
    file ??= new RecordFile(await loadDriver(), args.path, args.holder);
    return { value: file.open(args.options) };
  },
  load(from: number): Answer {
    const { nextPosition, fileBytes } = opened();
    const portion = opened().load(from);
    return {
      value: { portion, nextPosition, fileBytes } satisfies LoadAnswer,
      transfer: [portion.bytes.buffer as ArrayBuffer],
    };
  },
  read(positions: Float64Array): Answer {
    const portion = opened().read(positions);
    return { value: portion, transfer: [portion.bytes.buffer as ArrayBuffer] };
  },
  commit(group: PackedGroup): Answer {
    const removed = opened().commit(group);
    return { value: { removed, fileBytes: opened().fileBytes } };
  },
  close(): Answer {
    file?.close();
    return { value: undefined };
  },
});
