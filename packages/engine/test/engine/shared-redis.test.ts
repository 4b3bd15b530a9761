/** Several engines on one archive, with one Redis between: what it holds never makes an answer older. */
import { expect, test } from 'vitest';
import { CacheTtl, SubmitOptions, type SyncEngineConfig, SyncItem } from '#engine/index.js';
import { type Fakes, startedFakes } from '../support/engines.js';
import { FakeArchive } from '../support/fake-archive.js';
import { type ManualPorts, manualPorts, settle } from '../support/manual-ports.js';
import { CacheServer, MemoryCacheStore } from '../support/memory-cache-store.js';

const CONFIG: SyncEngineConfig = { batchFlushMs: 1, coherenceLeaseMs: 1000, redisTimeoutMs: 2000 };

interface Shop {
  readonly ports: ManualPorts;
  readonly server: CacheServer;
  /** Another engine on the same archive. */
  open(name: string, config?: SyncEngineConfig & { readonly withRedis?: boolean }): Promise<Member>;
}

interface Member extends Fakes {
  readonly cache: MemoryCacheStore;
}

function shop(): Shop {
  const ports = manualPorts();
  const server = new CacheServer(() => ports.clock.monotonic());
  let tables: FakeArchive['tables'] | undefined;
  return {
    ports,
    server,
    async open(name, { withRedis = true, ...config } = {}) {
      const archive = tables === undefined ? new FakeArchive() : new FakeArchive(tables);
      tables ??= archive.tables;
      archive.exclusive = false;
      archive.hidden = false;
      const cache = new MemoryCacheStore(server);
      const own = withRedis ? { ...ports, cache } : ports;
      const fakes = await startedFakes({ ...CONFIG, nodeId: name, ...config }, { archive, ports: own });
      await ports.clock.pass(10);
      await fakes.engine.warmUp();
      return { ...fakes, cache };
    },
  };
}

async function write({ engine, ports }: Fakes, id: string, text: string): Promise<void> {
  const stored = engine.submit(new SyncItem(id, text), { ack: 'stored' });
  await ports.clock.pass(5);
  await stored;
}

const textOf = async ({ engine }: Fakes, id: string): Promise<string | undefined> =>
  (await engine.get(id))?.text();

const lagOf = async ({ engine }: Fakes): Promise<number | undefined> => (await engine.healthCheck()).redisLag;

/** What Redis holds of an id under the present generation. */
function copyOf({ server }: Shop, id: string): string | undefined {
  const kept = server.values.get(`${server.head?.generation}:${id}`);
  return (
    kept && (kept.kind === 'value' || kept.kind === 'only' ? kept.revision.content.toString() : kept.kind)
  );
}

const cacheFor = (ttl: CacheTtl) => ({ ...SubmitOptions.cache(ttl), ack: 'stored' }) as const;

test('what one engine wrote, another reads from Redis without asking SQL', async () => {
  const all = shop();
  const [one, two] = [await all.open('one'), await all.open('two')];
  await write(one, 'a', 'x');
  await all.ports.clock.pass(1000);
  two.archive.reads.length = 0;
  expect(await textOf(two, 'a')).toBe('x');
  expect(two.archive.reads).toEqual([]);
});

test('a cache-only item is seen by another engine although it knows a delete of it, and its change within the lease', async () => {
  const all = shop();
  const [one, two] = [await all.open('one'), await all.open('two')];
  await write(one, 's', 'row');
  const deleted = two.engine.delete('s', { ack: 'stored' });
  await all.ports.clock.pass(1100);
  await deleted;
  expect(await two.engine.get('s')).toBeUndefined();
  const first = one.engine.submit(new SyncItem('s', 'session 1'), cacheFor(CacheTtl.Hour));
  await all.ports.clock.pass(10);
  await first;
  expect(await textOf(two, 's')).toBe('session 1');
  await one.engine.submit(new SyncItem('s', 'session 2'), cacheFor(CacheTtl.Hour));
  await all.ports.clock.pass(1000);
  expect(await textOf(two, 's')).toBe('session 2');
  // The one that wrote it first does not stay with its own either.
  await two.engine.submit(new SyncItem('s', 'session 3'), cacheFor(CacheTtl.Hour));
  await all.ports.clock.pass(1000);
  expect(await textOf(one, 's')).toBe('session 3');
  await two.engine.setState('s', 'seen');
  await all.ports.clock.pass(1000);
  expect((await one.engine.get('s'))?.state).toBe('seen');
  // It lives as long as it was given in the beginning.
  await all.ports.clock.pass(CacheTtl.Hour.ms);
  expect(await one.engine.get('s')).toBeUndefined();
  expect(await two.engine.get('s')).toBeUndefined();
});

test('a write that lost to another engine does not show what was there before both', async () => {
  const all = shop();
  const one = await all.open('one', { batchFlushMs: 200 });
  const two = await all.open('two', { withRedis: false });
  const before = one.engine.submit(new SyncItem('a', 'before'), { ack: 'stored' });
  await all.ports.clock.pass(250);
  await before;
  expect(copyOf(all, 'a')).toBe('before');
  const losing = one.engine.submit(new SyncItem('a', 'loses'), { ack: 'stored' });
  await all.ports.clock.pass(5);
  await write(two, 'a', 'wins');
  // One learns of it by losing, before it has read the change log.
  const answer = one.archive.hold('read');
  await all.ports.clock.pass(200);
  expect(await losing).toMatchObject({ superseded: true });
  expect(copyOf(all, 'a')).toBe('before');
  const read = textOf(one, 'a');
  await settle();
  answer();
  expect(await read).toBe('wins');
});

test('what an engine without Redis wrote is marked by one that has it', async () => {
  const all = shop();
  const one = await all.open('one');
  const two = await all.open('two', { withRedis: false });
  await write(one, 'a', 'old');
  await write(one, 'b', 'same');
  await write(two, 'a', 'new');
  await write(two, 'c', 'never copied');
  await all.ports.clock.pass(1000);
  expect(await lagOf(one)).toBe(2);
  await all.ports.clock.pass(3000);
  expect(await lagOf(one)).toBe(0);
  expect([copyOf(all, 'a'), copyOf(all, 'b'), copyOf(all, 'c')]).toEqual(['mark', 'same', undefined]);
  const three = await all.open('three');
  expect(await textOf(three, 'a')).toBe('new');
});

test('a reader that is slow does not put an older row into the gap that a newer copy left', async () => {
  const all = shop();
  const [one, two] = [await all.open('one'), await all.open('two')];
  await write(one, 'a', 'old');
  await all.ports.clock.pass(1000);
  all.server.values.clear();
  let pass!: () => void;
  const gate = new Promise<void>((resolve) => {
    pass = resolve;
  });
  two.cache.arriving = (operation) => (operation === 'write' ? gate : Promise.resolve());
  expect(await textOf(two, 'a')).toBe('old');
  await write(one, 'a', 'new');
  await settle();
  expect(copyOf(all, 'a')).toBe('new');
  all.server.values.clear();
  pass();
  await settle();
  expect(copyOf(all, 'a')).toBeUndefined();
  await all.ports.clock.pass(1000);
  expect(await textOf(two, 'a')).toBe('new');
});

test('a generation that another engine began is taken over, and nothing of the one before is served', async () => {
  const all = shop();
  const one = await all.open('one');
  await write(one, 'a', 'x');
  const { generation, position, chain } = all.server.head as never as {
    generation: string;
    position: number;
    chain: string;
  };
  const other = new MemoryCacheStore(all.server);
  await other.open({ archiveId: '', lost: () => {} });
  const next = { generation: `${generation.slice(0, 15)}f`, position, chain };
  await other.moveHead(generation, next);
  await write(one, 'b', 'y');
  await all.ports.clock.pass(3000);
  expect(await lagOf(one)).toBe(0);
  await write(one, 'c', 'z');
  expect(copyOf(all, 'c')).toBe('z');
  const two = await all.open('two');
  expect([await textOf(two, 'a'), await textOf(two, 'b')]).toEqual(['x', 'y']);
});

test('a reader whose lease has run out says that what Redis holds is stale', async () => {
  const all = shop();
  const [one, two] = [await all.open('one'), await all.open('two')];
  await write(one, 'a', 'x');
  await all.ports.clock.pass(1000);
  two.archive.down = true;
  await all.ports.clock.pass(1500);
  const item = await two.engine.get('a');
  expect([item?.text(), item?.stale]).toEqual(['x', true]);
});
