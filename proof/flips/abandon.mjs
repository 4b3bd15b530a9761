// @ts-check
/** Writes into the log, and dies before SQL has anything: what the log holds then is all there is. */
import { SyncEngine, SyncItem } from '../../packages/engine/dist/index.js';

const { config, items } = JSON.parse(process.argv[2] ?? '');
const engine = new SyncEngine(config);
await engine.start();
for (const [id, text] of items) await engine.submit(new SyncItem(id, text), { ack: 'wal' });
process.kill(process.pid, 'SIGKILL');
