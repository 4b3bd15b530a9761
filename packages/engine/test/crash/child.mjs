/**
 * The process that is killed: writes at random and tells its parent what it submits and what was acknowledged,
 * a line each, before the next thing happens.
 *
 *   s <number> <id> <text or ->     submitted (- : a delete)
 *   a <number> <version> <level>    acknowledged
 */
import { writeSync } from 'node:fs';
import { SyncEngine, SyncItem } from '../../dist/index.js';

const [place, firstNumber, seed] = process.argv.slice(2);
let state = Number(seed);
const random = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
};
/** The pipe does not block: under load it may take a part of a line, or nothing for a while. */
function tell(line) {
  const bytes = Buffer.from(`${line}\n`);
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(1, bytes, written);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

const engine = new SyncEngine({
  ...JSON.parse(place),
  batchFlushMs: 5,
  batchFlushCount: 40,
  l1MaxBytes: 256 * 1024,
});
await engine.start();
tell('started');

let number = Number(firstNumber);

async function client() {
  for (;;) {
    const own = number++;
    const id = random() < 0.5 ? `hot${Math.floor(random() * 5)}` : `cold${Math.floor(random() * 200)}`;
    const deletes = random() < 0.15;
    const ack = ['memory', 'wal', 'wal', 'stored'][Math.floor(random() * 4)];
    const text = `${own}`.padEnd(Math.floor(random() * 600), '.');
    tell(`s ${own} ${id} ${deletes ? '-' : own}`);
    const receipt = await (deletes
      ? engine.delete(id, { ack })
      : engine.submit(new SyncItem(id, text), { ack }));
    tell(`a ${own} ${receipt.version} ${receipt.ack}`);
    if (random() < 0.3) await engine.get(`cold${Math.floor(random() * 200)}`);
  }
}

await Promise.all(Array.from({ length: 16 }, client));
