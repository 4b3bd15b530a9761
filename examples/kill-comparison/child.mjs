/**
 * One contender in a process of its own.
 *   write <name> <place>   writes rows until it is killed, and tells which were acknowledged
 *   fill <name> <place>    writes one row and closes
 *   outage <name> <place>  reads that row and writes another, while the database is away; tells what came of it
 */
import { writeSync } from 'node:fs';
import { contenders } from './contenders.mjs';
import { KNOWN, NEW, rowId, rowText } from './rows.mjs';

const [task, name, place] = process.argv.slice(2);
const tell = (value) => writeSync(1, `${JSON.stringify(value)}\n`);
const IN_FLIGHT = 256;

if (task === 'write') await write();
if (task === 'fill') await fill();
if (task === 'outage') await outage();

async function write() {
  const { set } = await contenders[name].open(place);
  let next = 0;
  let acknowledged = [];
  let since = performance.now();
  const report = () => {
    const now = performance.now();
    tell({ ids: acknowledged, ms: now - since });
    acknowledged = [];
    since = now;
  };
  setInterval(report, 5);
  // Each turn of the event loop brings every writer that is free another request.
  const writer = async () => {
    for (;;) {
      const at = next++;
      if (await set(rowId(at), rowText(at))) acknowledged.push(at);
      await new Promise(setImmediate);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, writer));
}

async function fill() {
  const { set, close } = await contenders[name].open(place);
  await set(KNOWN, 'known');
  await close();
}

async function outage() {
  const opened = await contenders[name].open(place).catch(() => undefined);
  if (opened === undefined) return tell({ started: false });
  const write = await opened.set(NEW, 'new').then(
    (acknowledged) => (acknowledged ? 'acknowledged' : 'refused'),
    () => 'refused',
  );
  const read = await opened.get(KNOWN).then(
    (text) => (text === 'known' ? 'found' : 'called missing'),
    (error) => `error ${error.code}`,
  );
  tell({ started: true, write, read });
  // No goodbye: the process goes down before the database comes back.
  process.kill(process.pid, 'SIGKILL');
}
