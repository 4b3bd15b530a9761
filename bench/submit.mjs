/** Writes: bursts at 'memory', many at once, and 256 writers that each wait for 'wal'. */
import { join } from 'node:path';
import { SyncEngine, SyncItem } from 'sync-engine';
import { GroupCommit } from './group-commit.mjs';
import { loopDelay, median, rateOf, report, temporaryDirectory } from './measure.mjs';

const BURST = 300_000;
const WRITERS = 256;
const SECONDS = 3;
const ROUNDS = 3;
const content = Buffer.alloc(256, 7);
const directory = temporaryDirectory();
let files = 0;

async function startedEngine() {
  const path = join(directory, `engine${files++}`);
  const engine = new SyncEngine({
    sqlUrl: `sqlite:${path}.db`,
    walPath: `${path}.wal`,
    l1MaxBytes: 1024 ** 3,
  });
  await engine.start();
  return engine;
}

async function bursts(submit) {
  const engine = await startedEngine();
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

/** Rate, and delay of the event loop, while writers each await `write` again and again. */
async function whileWaiting(write) {
  let submitted = 0;
  let stopped = false;
  const writer = async () => {
    while (!stopped) await write(submitted++);
  };
  const writers = Array.from({ length: WRITERS }, writer);
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  await pause(500);
  const before = submitted;
  const started = performance.now();
  const { p99Ms } = await loopDelay(() => pause(SECONDS * 1000));
  const rate = ((submitted - before) / (performance.now() - started)) * 1000;
  stopped = true;
  await Promise.all(writers);
  return { rate, p99Ms };
}

async function engineWaiting(idOf) {
  const engine = await startedEngine();
  const found = await whileWaiting((at) => engine.submit(new SyncItem(idOf(at), content), { ack: 'wal' }));
  await engine.flush({ timeoutMs: 120_000 });
  await engine.shutdown();
  return found;
}

async function byHand() {
  const log = new GroupCommit(join(directory, `hand${files++}`));
  const found = await whileWaiting((at) => log.append(`id.${at}`, content));
  await log.close();
  return found;
}

/** In turn, so that a drift of the machine hits all alike. */
async function waiting() {
  const contenders = {
    fresh: () => engineWaiting((at) => `id.${at}`),
    updated: () => engineWaiting((at) => `id.${at % 100_000}`),
    byHand,
  };
  const found = { fresh: [], updated: [], byHand: [] };
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, run] of Object.entries(contenders)) found[name].push(await run());
  }
  return Object.fromEntries(
    Object.entries(found).map(([name, runs]) => [
      name,
      { rate: median(runs.map((run) => run.rate)), p99Ms: median(runs.map((run) => run.p99Ms)) },
    ]),
  );
}

const onlyWaiting = process.argv.includes('--wal');
const memory = onlyWaiting
  ? []
  : [
      {
        what: `submit 'memory', bursts of ${BURST.toLocaleString('en')}`,
        rate: await bursts(one),
        wantedRate: 500_000,
      },
      {
        what: `submitMany 'memory', ${BURST.toLocaleString('en')} at once`,
        rate: await bursts(many),
        wantedRate: 800_000,
      },
    ];
const { fresh, updated, byHand: hand } = await waiting();
report('Writes of 256 bytes, SQLite behind', [
  ...memory,
  { what: `submit 'wal', ${WRITERS} in flight, new ids`, rate: fresh.rate, wantedRate: 150_000 },
  { what: '  event-loop delay p99, ms', value: fresh.p99Ms, wantedMost: 5 },
  { what: `submit 'wal', ${WRITERS} in flight, 100,000 ids`, rate: updated.rate, wantedRate: 150_000 },
  { what: '  event-loop delay p99, ms', value: updated.p99Ms, wantedMost: 5 },
  {
    what: 'hand-written group commit, nothing behind it; ratio of new ids',
    rate: hand.rate,
    ratio: fresh.rate / hand.rate,
    wanted: 0.5,
  },
  { what: '  event-loop delay p99, ms', value: hand.p99Ms },
]);
process.exit(0);
