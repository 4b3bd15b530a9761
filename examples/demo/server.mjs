/**
 * The demo on servers: an import goes on while its process is killed, and while each server is; then a second engine
 * works on the same archive. Starts private servers, or takes yours, which it does not kill.
 *
 *   npm run demo:server                            MariaDB
 *   npm run demo:full                              the same with Redis between (--redis private)
 *   npm run demo:full -- --sql postgres            PostgreSQL and Redis
 *   npm run demo -- --sql URL --redis URL          an empty database and a Redis of yours; either may be left out
 *   npm run demo:full -- --places 20000            fewer places; 100,000 are imported by default
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { CacheTtl, SubmitOptions, SyncEngine, SyncItem } from 'sync-engine';
import { startServer } from '../../scripts/servers/servers.mjs';
import { isPlace, placeId, placeItem } from './places.mjs';
import { bad, dim, good, heading, number, seconds, verdict } from './screen.mjs';

const AWAY_MS = 3000;
const PAGE = 2000;

const {
  sql = 'mariadb',
  redis,
  places: count = '100000',
} = parseArgs({
  options: { sql: { type: 'string' }, redis: { type: 'string' }, places: { type: 'string' } },
}).values;
const PLACES = Number(count);
const KILL_AT = PLACES * 0.2;
const SERVER_DIES_AT = PLACES * 0.45;
const REDIS_DIES_AT = PLACES * 0.7;
const isOwn = sql === 'mariadb' || sql === 'postgres';
const directory = mkdtempSync(join(tmpdir(), 'sync-engine-demo-'));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

const failures = [];
const began = performance.now();
const [server, redisServer] = await Promise.all([
  isOwn ? startServer(sql) : undefined,
  redis === 'private' ? startServer('redis', { args: ['--save', ''] }) : undefined,
]);
const redisUrl = redisServer?.url() ?? redis;
const config = {
  sqlUrl: server?.url() ?? sql,
  ...(redisUrl === undefined ? undefined : { redisUrl, redisTimeoutMs: 500 }),
  walPath: join(directory, 'places.wal'),
  l1MaxBytes: 1024 ** 3,
};

const tiers = ['memory', 'write-ahead log', ...(redis ? ['Redis'] : []), isOwn ? sql : 'your SQL'];
console.log(`Sync Engine · ${tiers.join(' → ')}`);
const privates = [...(isOwn ? [sql] : []), ...(redisServer ? ['Redis'] : [])].join(' and ');
dim(
  `${number(PLACES)} places of GeoNames (CC BY 4.0)${privates && `, on a private ${privates} that go${privates.includes(' ') ? '' : 'es'} away with the demo`}`,
);

const acknowledged = await kill();
let engine = new SyncEngine(config);
const restartMs = await timed(() => engine.start());
const lost = await wrong(acknowledged);
check(
  lost === 0,
  `${number(acknowledged.length)} acknowledged · killed · restarted in ${seconds(restartMs)} · ${number(lost)} lost`,
);
await importRest();
await neighbours();
await overview();
await engine.shutdown();
await Promise.all([server?.stop(), redisServer?.stop()]);
end();

async function kill() {
  heading('1  The importing process is killed');
  const importer = new URL('./importer.mjs', import.meta.url).pathname;
  const child = spawn(process.execPath, [importer, config.sqlUrl, config.walPath], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const done = [];
  const ended = new Promise((resolve) => child.on('close', (_code, signal) => resolve(signal)));
  for await (const text of createInterface({ input: child.stdout })) {
    for (const at of text.split(' ')) done.push(Number(at));
    if (done.length >= KILL_AT) child.kill('SIGKILL');
  }
  if ((await ended) !== 'SIGKILL') failures.push('the importer was not killed');
  return done;
}

async function importRest() {
  const killed = [...(isOwn ? [sql] : []), ...(redisServer ? ['Redis'] : [])].join(', and then ');
  heading(killed ? `2  The import goes on, and ${killed} is killed` : '2  The import goes on');
  const done = new Set(acknowledged);
  const rest = Array.from({ length: PLACES }, (_, at) => at).filter((at) => !done.has(at));
  let imported = done.size;
  let outage;
  let redisOutage;
  const started = performance.now();
  for (let from = 0; from < rest.length; from += PAGE) {
    const page = rest.slice(from, from + PAGE);
    const { failed } = await engine.submitMany(page.map((at) => placeItem(at)));
    if (failed > 0) failures.push(`${failed} writes of the import failed`);
    imported += page.length;
    if (isOwn && outage === undefined && imported >= SERVER_DIES_AT) outage = serverDies();
    if (redisServer && redisOutage === undefined && imported >= REDIS_DIES_AT) {
      // One after the other, so that it can be seen what each of them costs.
      await outage;
      redisOutage = redisDies();
    }
  }
  const ms = performance.now() - started;
  good(`${number(rest.length)} places acknowledged by the log in ${seconds(ms)}, whatever the server did`);
  await outage;
  await redisOutage;
  const flushMs = await timed(() => engine.flush({ timeoutMs: 120_000 }));
  good(`all of them in ${isOwn ? sql : 'SQL'} ${seconds(flushMs)} later`);
}

async function serverDies() {
  await server.kill();
  dim(`kill -9 of ${sql}, after ${number(SERVER_DIES_AT)} places`);
  await engine.get(placeId(1), { fresh: true }).catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, AWAY_MS));
  check(
    isPlace(await engine.get(placeId(acknowledged[0])), acknowledged[0]),
    'what memory holds is served meanwhile',
  );
  const error = await engine.get('geo.ZZ._.Nowhere.1').then(
    () => ({ code: 'called missing' }),
    (thrown) => thrown,
  );
  check(error.retryable === true, `an id that only SQL knows: ${error.code}, not "not found"`);
  for (const warning of (await engine.healthCheck()).warnings) dim(`healthCheck: ${warning}`);
  await server.restart();
  const backMs = await timed(async () => {
    while ((await engine.healthCheck()).sql.circuit !== 'closed') await new Promise((r) => setTimeout(r, 10));
  });
  good(`${sql} is back; the engine noticed after ${seconds(backMs)} and drains`);
}

async function redisDies() {
  await redisServer.kill();
  dim(`kill -9 of Redis, after ${number(REDIS_DIES_AT)} places`);
  const cold = placeId(acknowledged[1]);
  check(isPlace(await engine.get(cold), acknowledged[1]), 'items are served meanwhile, from memory and SQL');
  const unknown = await engine.get('geo.ZZ._.Nowhere.1');
  check(unknown === undefined, 'an id that does not exist is missing: SQL and its filter say so, not Redis');
  const session = SubmitOptions.cache(CacheTtl.Hour);
  const { ack } = await engine.submit(new SyncItem('session.7', 'a cart'), session);
  check(
    ack === 'memory' && (await engine.get('session.7')) !== undefined,
    'a cache-only item lives in memory',
  );
  while ((await engine.healthCheck()).redis.circuit === 'closed') await new Promise((r) => setTimeout(r, 10));
  for (const warning of (await engine.healthCheck()).warnings) dim(`healthCheck: ${warning}`);
  await redisServer.restart();
  const backMs = await timed(async () => {
    while ((await engine.healthCheck()).redis.circuit !== 'closed')
      await new Promise((r) => setTimeout(r, 10));
  });
  good(`Redis is back, empty; the engine noticed after ${seconds(backMs)} and fills it anew`);
}

/** Everything that SQL has was written or marked in Redis. */
async function redisSettled() {
  while (config.redisUrl && (await engine.healthCheck()).redisLag !== 0)
    await new Promise((r) => setTimeout(r, 10));
}

async function neighbours() {
  heading('3  A second engine on the same archive');
  const { walPath: _own, ...shared } = config;
  const second = new SyncEngine(shared);
  await second.start();
  await second.warmUp();
  check((await second.merkleRoot()) === (await engine.merkleRoot()), 'both have the same hash over all rows');
  await second.get(placeId(7));
  await engine.submit(placeItem(7, 2), { ack: 'stored' });
  const seenMs = await timed(async () => {
    while (!isPlace(await second.get(placeId(7)), 7, 2)) await new Promise((r) => setTimeout(r, 5));
  });
  good(
    `a place written by one is served by the other ${Math.round(seenMs)} ms later (coherenceLeaseMs: 1,000)`,
  );
  await engine.submit(placeItem(7), { ack: 'stored' });
  await second.shutdown();
}

async function overview() {
  heading('4  What is there');
  await redisSettled();
  await engine.shutdown();
  engine = new SyncEngine(config);
  await engine.start();
  const differ = await wrong(Array.from({ length: PLACES }, (_, at) => at));
  const where = config.redisUrl ? 'through Redis and SQL' : 'from the server';
  check(differ === 0, `all ${number(PLACES)} places read ${where} and compared: ${number(differ)} differ`);
  if (config.redisUrl) await fromRedis();
  const { corrupt, drift } = await engine.scrub();
  check(corrupt.length + drift.length === 0, 'every row fits its checksum, every digest its rows');
}

async function fromRedis() {
  const ids = Array.from({ length: PLACES }, (_, at) => placeId(at));
  let copies = 0;
  for (let from = 0; from < ids.length; from += PAGE) {
    const states = await Promise.all(ids.slice(from, from + PAGE).map((id) => engine.status(id)));
    copies += states.filter(({ l2 }) => l2).length;
  }
  dim(`${number(copies)} of them are in Redis now: what was written since it came back, and what was read`);
}

async function wrong(places) {
  let count = 0;
  for (let from = 0; from < places.length; from += PAGE) {
    const page = places.slice(from, from + PAGE);
    const items = await engine.getMany(page.map((at) => placeId(at)));
    page.forEach((at, place) => {
      if (!isPlace(items[place], at)) count++;
    });
  }
  return count;
}

async function timed(run) {
  const started = performance.now();
  await run();
  return performance.now() - started;
}

function check(holds, text) {
  (holds ? good : bad)(text);
  if (!holds) failures.push(text);
}

function end() {
  const took = `(${seconds(performance.now() - began)})`;
  if (failures.length === 0)
    verdict(true, `Nothing acknowledged was lost, nothing that exists was called missing. ${took}`);
  else verdict(false, `Broken: ${failures.join('; ')}. ${took}`);
  process.exit(failures.length === 0 ? 0 : 1);
}
