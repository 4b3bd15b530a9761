/** The log's worker, which dies between the statements of a group that holds the id "die". */
import './watch-messages.mjs';
import { subscribe } from 'node:diagnostics_channel';
import '../../dist/wal/wal-worker.js';

let deadly = false;
globalThis.onMessage = (request) => {
  deadly = request.method === 'commit' && Buffer.from(request.args.pack).includes('die');
};
subscribe('sync-engine:step', (step) => {
  if (deadly && step === 'log.commit.written') process.exit(7);
});
