/** Writes: bursts at 'memory', many at once, and 256 writers that each wait for 'wal'. */
import { join } from 'node:path';
import { SyncEngine, SyncItem } from 'sync-engine';
import { loopDelay, median, rateOf, report, temporaryDirectory } from './measure.mjs';

const BURST = 300_000;
const WRITERS = 256;
const SECONDS = 3;
const content = Buffer.alloc(256, 7);
const directory = temporaryDirectory();

async function engineOn(name) {
  const path = join(directory, name);
  const engine = new SyncEngine({
    sqlUrl: `sqlite:${path}.db`,
    walPath: `${path}.wal`,
    l1MaxBytes: 1024 ** 3,
  });
  await engine.start();
  return engine;
}

async function bursts(submit) {
  const engine = await engineOn(submit.name);
  const rates = [];
  for (let round = 0; round < 4; round++) {
    const items = Array.from({ length: BURST }, (_, at) => new SyncItem(`id.${round}.${at}`, content));
    const rate = await rateOf(BURST, () => submit(engine, items));
    if (round > 0) rates.push(rate);
    await engine.flush({ timeoutMs: 120_000 });
  }
  await engine.shutdown();
  return median(rates);
}

async function one(engine, items) {
  const receipts = [];
  for (const item of items) receipts.push(engine.submit(item, { ack: 'memory' }));
  await Promise.all(receipts);
}

async function many(engine, items) {
  await engine.submitMany(items, { ack: 'memory' });
}

async function waiting(idOf) {
  const engine = await engineOn(`wal${idOf.name}`);
  let submitted = 0;
  let stopped = false;
  const writer = async () => {
    while (!stopped) await engine.submit(new SyncItem(idOf(submitted++), content), { ack: 'wal' });
  };
  const writers = Array.from({ length: WRITERS }, writer);
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  await pause(500);
  const before = submitted;
  const { p99Ms } = await loopDelay(() => pause(SECONDS * 1000));
  const rate = (submitted - before) / SECONDS;
  stopped = true;
  await Promise.all(writers);
  await engine.shutdown();
  return { rate, p99Ms };
}

const fresh = (at) => `id.${at}`;
const updated = (at) => `id.${at % 100_000}`;
const single = await bursts(one);
const multiple = await bursts(many);
const freshWal = await waiting(fresh);
const updatedWal = await waiting(updated);
report('Writes of 256 bytes, SQLite behind', [
  { what: `submit 'memory', bursts of ${BURST.toLocaleString('en')}`, rate: single, wantedRate: 500_000 },
  { what: `submitMany 'memory', ${BURST.toLocaleString('en')} at once`, rate: multiple, wantedRate: 800_000 },
  { what: `submit 'wal', ${WRITERS} in flight, new ids`, rate: freshWal.rate, wantedRate: 150_000 },
  { what: '  event-loop delay p99, ms', value: freshWal.p99Ms, wantedMost: 5 },
  { what: `submit 'wal', ${WRITERS} in flight, 100,000 ids`, rate: updatedWal.rate, wantedRate: 150_000 },
  { what: '  event-loop delay p99, ms', value: updatedWal.p99Ms, wantedMost: 5 },
]);
process.exit(0);
