/**
 * The child that the demo kills: submits places with ack 'wal' and tells its parent, line by line, which of
 * them were acknowledged. A line is written only after the receipt came.
 */
import { writeSync } from 'node:fs';
import { SyncEngine } from 'sync-engine';
import { placeCount, placeItem } from './places.mjs';

const [sqlUrl, walPath] = process.argv.slice(2);
const IN_FLIGHT = 1024;

const engine = new SyncEngine({ sqlUrl, walPath, ack: 'wal' });
await engine.start();

let next = 0;
let acknowledged = [];

async function writer() {
  while (next < placeCount) {
    const at = next++;
    await engine.submit(placeItem(at));
    acknowledged.push(at);
  }
}

const report = setInterval(tell, 5);
await Promise.all(Array.from({ length: IN_FLIGHT }, writer));
clearInterval(report);
tell();
await engine.shutdown();

function tell() {
  if (acknowledged.length === 0) return;
  writeSync(1, `${acknowledged.join(' ')}\n`);
  acknowledged = [];
}
