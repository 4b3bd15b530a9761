/** An outage of SQL: how fast what waited is brought there, what that costs live writers, and what a hanging SQL costs reads. */
import { join } from 'node:path';
import { SyncEngine, SyncItem } from 'sync-engine';
import { createDatabase, startServer } from '../scripts/servers/servers.mjs';
import { rateOf, report, temporaryDirectory } from './measure.mjs';

const SUSTAINED = 200_000;
const BACKLOG = 1_000_000;
const LIVE_EVERY_MS = 5;
const HITS = 300_000;
const MISSES = 200;
const READ_TIMEOUT_MS = 1000;
const content = Buffer.alloc(256, 7);
const itemOf = (round, at) => new SyncItem(`geo.GB.${at % 50}.${at}-${round}`, content);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const server = await startServer('mariadb');
const engine = new SyncEngine({
  sqlUrl: await createDatabase(server),
  walPath: join(temporaryDirectory(), 'log'),
  sqlReadTimeoutMs: READ_TIMEOUT_MS,
});
await engine.start();

async function submit(round, count) {
  for (let from = 0; from < count; from += 1000) {
    const items = Array.from({ length: 1000 }, (_, at) => itemOf(round, from + at));
    const { results, failed } = await engine.submitMany(items, { ack: 'memory' });
    if (failed > 0) throw results.find((result) => result instanceof Error);
    await sleep(0);
  }
}

/** Latencies of single writes to the log while `work` goes on; the 99th percentile, milliseconds. */
async function liveDuring(work) {
  const latencies = [];
  let ended = false;
  const done = work.finally(() => {
    ended = true;
  });
  for (let at = 0; !ended; at++) {
    const started = performance.now();
    await engine.submit(new SyncItem(`live.${at % 1000}`, content));
    latencies.push(performance.now() - started);
    await sleep(LIVE_EVERY_MS);
  }
  await done;
  latencies.sort((a, b) => a - b);
  return latencies[Math.floor(latencies.length * 0.99)];
}

await submit(0, 50_000);
await engine.flush({ timeoutMs: 120_000 });
const sustained = await rateOf(SUSTAINED, async () => {
  await submit(1, SUSTAINED);
  await engine.flush({ timeoutMs: 120_000 });
});
const calmP99 = await liveDuring(sleep(5000));

await server.kill();
while ((await engine.healthCheck()).sql.circuit === 'closed') {
  await engine.submit(itemOf(2, 0));
  await sleep(20);
}
await submit(2, BACKLOG);
while (engine.walStats().pendingItems < BACKLOG) await sleep(50);
await server.restart();
const backAt = performance.now();
while ((await engine.healthCheck()).sql.circuit !== 'closed') await sleep(5);
const noticedMs = performance.now() - backAt;
let drain = 0;
const drainP99 = await liveDuring(
  rateOf(BACKLOG, () => engine.flush({ timeoutMs: 600_000 })).then((rate) => {
    drain = rate;
  }),
);

await engine.get('live.1');
const hits = () =>
  rateOf(HITS, async () => {
    for (let at = 0; at < HITS; at++) {
      await engine.get('live.1');
      // Hits are microtasks: without a pause no timer of the misses would run.
      if (at % 1000 === 0) await sleep(0);
    }
  });
await hits();
const calmHits = await hits();
server.pause();
const hangAt = performance.now();
let slowest = 0;
const misses = Promise.all(
  Array.from({ length: MISSES }, async (_, at) => {
    await sleep(at * 10);
    const started = performance.now();
    await engine.get(itemOf(1, at).id, { fresh: true }).catch(() => {});
    slowest = Math.max(slowest, performance.now() - started);
  }),
);
let openMs = 0;
const watching = (async () => {
  while ((await engine.healthCheck()).sql.circuit !== 'open') await sleep(10);
  openMs = performance.now() - hangAt;
})();
await sleep(1000);
const hangHits = await hits();
await Promise.all([misses, watching]);
server.resume();
await engine.shutdown({ deadlineMs: 5000 });
await server.stop();

report(`An outage of MariaDB, ${BACKLOG.toLocaleString('en')} writes of 256 bytes`, [
  { what: 'sustained, rows a second', rate: sustained },
  { what: 'drain of what waited', rate: drain, ratio: drain / sustained, wanted: 0.8 },
  { what: 'drain begins after its return, ms', value: noticedMs, wantedMost: 2000 },
  { what: 'live write to the log, p99, ms', value: calmP99 },
  { what: '  during the drain', value: drainP99, wantedMost: Math.round(calmP99 * 40) / 10 },
  { what: 'hits in memory', rate: calmHits },
  { what: '  while SQL hangs', rate: hangHits, ratio: hangHits / calmHits, wanted: 0.9 },
  { what: 'misses are rejected within, ms', value: slowest, wantedMost: READ_TIMEOUT_MS * 1.2 },
  { what: 'the breaker opens after, ms', value: openMs, wantedMost: 5000 },
]);
process.exit(0);
