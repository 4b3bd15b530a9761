/** Entry of the log's thread: a `RecordFile` behind messages. */
import { loadDriver } from '../base/sqlite.js';
import { type Answer, serveWorker } from '../base/worker-server.js';
import { type PackedGroup, RecordFile } from './record-file.js';
import type { LogOpenOptions } from './record-store.js';

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
    const portion = opened().load(from);
    return { value: { portion, nextPosition: opened().nextPosition } };
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
