/** A value that is in memory: an awaited get, and the synchronous peek. */
import { BentoCache, bentostore } from 'bentocache';
import { memoryDriver } from 'bentocache/drivers/memory';
import { createCache } from 'cache-manager';
import { Cacheable } from 'cacheable';
import { SyncEngine, SyncItem } from 'sync-engine';
import { compete, keep, rateOf, report } from './measure.mjs';

const KEYS = 10_000;
const OPERATIONS = 200_000;
const keys = Array.from({ length: KEYS }, (_, at) => `geo.GB.ENG.place.${at}`);
const value = Buffer.alloc(256, 7);

const engine = new SyncEngine();
await engine.start();
const manager = createCache();
const bento = new BentoCache({
  default: 'memory',
  stores: { memory: bentostore().useL1Layer(memoryDriver({ maxItems: KEYS * 2, serialize: false })) },
});
const cacheable = new Cacheable();
const map = new Map();
for (const key of keys) {
  await engine.submit(new SyncItem(key, value));
  await manager.set(key, value);
  await bento.set({ key, value });
  await cacheable.set(key, value);
  map.set(key, value);
}

const awaited = (get) => () =>
  rateOf(OPERATIONS, async () => {
    for (let at = 0; at < OPERATIONS; at++) keep(await get(keys[at % KEYS]));
  });
const synchronous = (get) => () =>
  rateOf(OPERATIONS * 5, async () => {
    for (let at = 0; at < OPERATIONS * 5; at++) keep(get(keys[at % KEYS]));
  });

const rates = await compete({
  engine: awaited((key) => engine.get(key)),
  'cache-manager': awaited((key) => manager.get(key)),
  bentocache: awaited((key) => bento.get({ key })),
  cacheable: awaited((key) => cacheable.get(key)),
  'await Map.get': awaited((key) => map.get(key)),
  peek: synchronous((key) => engine.peek(key)),
  'Map.get': synchronous((key) => map.get(key)),
});
report('A value in memory', [
  { what: 'awaited get', rate: rates.engine },
  {
    what: 'cache-manager',
    rate: rates['cache-manager'],
    ratio: rates.engine / rates['cache-manager'],
    wanted: 2,
  },
  { what: 'bentocache', rate: rates.bentocache, ratio: rates.engine / rates.bentocache, wanted: 10 },
  { what: 'cacheable', rate: rates.cacheable, ratio: rates.engine / rates.cacheable, wanted: 10 },
  {
    what: 'await of a bare Map.get',
    rate: rates['await Map.get'],
    ratio: rates.engine / rates['await Map.get'],
  },
  { what: 'peek', rate: rates.peek },
  { what: 'bare Map.get', rate: rates['Map.get'], ratio: rates.peek / rates['Map.get'], wanted: 0.25 },
]);
await engine.shutdown();
process.exit(0);
