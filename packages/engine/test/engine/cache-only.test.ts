/** Items that no log and no SQL holds. */
import { describe, expect, test } from 'vitest';
import { CacheTtl, SubmitOptions, SyncEngine, SyncItem } from '#engine/index.js';
import { type Fakes, rejection, startedFakes } from '../support/engines.js';
import { FakeArchive } from '../support/fake-archive.js';
import { manualPorts } from '../support/manual-ports.js';

const MINUTE = SubmitOptions.cache(CacheTtl.Minute);
/** An engine whose filter knows which ids SQL has. */
async function knowing(config = {}): Promise<Fakes> {
  const archive = new FakeArchive();
  archive.hidden = false;
  const fakes = await startedFakes(config, { archive });
  await fakes.ports.clock.pass(2000);
  return fakes;
}

const large = Buffer.alloc(40_000, 3);

test('lives in memory until its time is over, and is neither logged nor stored', async () => {
  const { engine, archive, store, ports } = await knowing();
  for (const content of [Buffer.from('x'), large]) {
    const receipt = await engine.submit(new SyncItem('a', content), MINUTE);
    expect(receipt).toMatchObject({ id: 'a', ack: 'memory' });
    expect((await engine.get('a'))?.content.equals(content)).toBe(true);
    expect((await engine.get('a', { fresh: true }))?.sizeBytes).toBe(content.length);
    expect(await engine.status('a')).toEqual({ kind: 'synced', l1: true, l2: false, l3: false });
    await ports.clock.pass(59_999);
    expect(engine.peek('a')).toBeDefined();
    expect(engine.definitelyMissing('a')).toBe(false);
    await ports.clock.pass(1);
    expect(engine.peek('a')).toBeUndefined();
    expect(await engine.get('a')).toBeUndefined();
    expect(engine.size).toBe(0);
  }
  expect(archive.rows.size).toBe(0);
  expect(store.records.size).toBe(0);
});

test('without SQL it lives in memory as well', async () => {
  const ports = manualPorts();
  const engine = new SyncEngine({}, ports);
  await engine.start();
  await engine.submit(new SyncItem('a', 'x'), MINUTE);
  await engine.submit(new SyncItem('b', 'y'));
  await ports.clock.pass(60_000);
  expect(await engine.get('a')).toBeUndefined();
  expect((await engine.get('b'))?.text()).toBe('y');
  expect(await engine.countPrefix('')).toBe(1);
  await engine.shutdown();
});

test('without SQL the engine is a cache, and its first words say so once', async () => {
  const ports = manualPorts();
  const engine = new SyncEngine({ l1MaxBytes: 64 * 1024 }, ports);
  await engine.start();
  for (let at = 0; at < 1000; at++) await engine.submit(new SyncItem(`a.${at}`, 'x'.repeat(200)));
  expect(await engine.countPrefix('')).toBeLessThan(1000);
  expect(engine.backpressure().name).toBe('Normal');
  await engine.shutdown();
  const said = ports.logger.lines.filter((line) => line.message.startsWith('Without sqlUrl this is a cache'));
  expect(said.map((line) => line.level)).toEqual(['warn']);
});

describe('where SQL may hold the id', () => {
  test('a tombstone goes there first, so that the older row does not come back', async () => {
    const { engine, archive, ports } = await startedFakes();
    await engine.submit(new SyncItem('a', 'row'));
    await ports.clock.pass(1000);
    const { version } = await engine.submit(new SyncItem('a', 'cached'), MINUTE);
    expect((await engine.get('a'))?.text()).toBe('cached');
    await ports.clock.pass(1000);
    expect(archive.rows.get('a')?.deleted).toBe(true);
    expect(archive.rows.get('a')?.version).toBeLessThan(version);
    expect((await engine.get('a'))?.text()).toBe('cached');
    await ports.clock.pass(60_000);
    expect(await engine.get('a')).toBeUndefined();
  });

  test('also above a write that is still on its way', async () => {
    const { engine, archive, ports } = await startedFakes();
    archive.down = true;
    await rejection(engine.get('probe'));
    await engine.submit(new SyncItem('a', 'pending'));
    await engine.submit(new SyncItem('a', 'cached'), MINUTE);
    expect((await engine.get('a'))?.text()).toBe('cached');
    await ports.clock.pass(60_001);
    expect(await engine.get('a')).toBeUndefined();
    archive.down = false;
    await ports.clock.pass(5000);
    expect(archive.rows.get('a')?.deleted).toBe(true);
  });

  test('one tombstone is enough for many writes', async () => {
    const { engine, archive, ports } = await startedFakes();
    await engine.submit(new SyncItem('a', 'row'));
    await ports.clock.pass(1000);
    for (let at = 0; at < 5; at++) await engine.submit(new SyncItem('a', `${at}`), MINUTE);
    await ports.clock.pass(1000);
    for (let at = 5; at < 10; at++) await engine.submit(new SyncItem('a', `${at}`), MINUTE);
    await ports.clock.pass(1000);
    expect(archive.applies.flat().filter((write) => write.deleted)).toHaveLength(1);
    expect((await engine.get('a'))?.text()).toBe('9');
  });
});

test('a write for SQL and a delete take its place', async () => {
  const { engine, archive, ports } = await startedFakes();
  await engine.submit(new SyncItem('a', 'cached'), MINUTE);
  await engine.submit(new SyncItem('a', 'row'));
  expect((await engine.get('a'))?.text()).toBe('row');
  await engine.submit(new SyncItem('b', 'cached'), MINUTE);
  await engine.delete('b');
  expect(await engine.get('b')).toBeUndefined();
  await ports.clock.pass(120_000);
  expect(archive.rows.get('a')?.content.toString()).toBe('row');
  expect((await engine.get('a'))?.text()).toBe('row');
});

test('scans, counts and queries by state do without it', async () => {
  const { engine, ports } = await startedFakes();
  await engine.submitMany([new SyncItem('a', 'row'), new SyncItem('b', 'row')]);
  await ports.clock.pass(1000);
  await engine.submitMany([new SyncItem('b', 'cached'), new SyncItem('c', 'cached')], MINUTE);
  const ids: string[] = [];
  for await (const item of engine.scanPrefix('')) ids.push(item.id);
  expect(ids).toEqual(['a']);
  expect(await engine.countPrefix('')).toBe(1);
  expect((await engine.getByState('default')).map((item) => item.id)).toEqual(['a']);
});

test('setState keeps it cache-only, with the same end', async () => {
  const { engine, archive, ports } = await knowing();
  await engine.submit(new SyncItem('a', 'x'), MINUTE);
  await ports.clock.pass(30_000);
  await engine.setState('a', 'seen');
  expect((await engine.get('a'))?.state).toBe('seen');
  await ports.clock.pass(30_000);
  expect(await engine.get('a')).toBeUndefined();
  expect(archive.rows.size).toBe(0);
});

test('getOrInsert loads again when its time is over', async () => {
  const { engine, ports } = await startedFakes();
  let loads = 0;
  const load = () => engine.getOrInsert('a', (id) => new SyncItem(id, `${++loads}`), MINUTE);
  expect((await load()).text()).toBe('1');
  expect((await load()).text()).toBe('1');
  await ports.clock.pass(60_000);
  expect((await load()).text()).toBe('2');
});

test('an item carries its options; what the call says beats them', async () => {
  const { engine, archive, ports } = await startedFakes();
  const item = new SyncItem('a', 'x').withOptions({ ...MINUTE, state: 'own' });
  await engine.submit(item);
  expect((await engine.get('a'))?.state).toBe('own');
  await engine.submit(item, { sql: true, state: 'call' });
  await ports.clock.pass(1000);
  expect(archive.rows.get('a')).toMatchObject({ state: 'call', deleted: false });
});

test('makes room like everything that is clean', async () => {
  const { engine } = await knowing({ l1MaxBytes: 256 * 1024 });
  for (let at = 0; at < 500; at++) await engine.submit(new SyncItem(`id${at}`, Buffer.alloc(2000)), MINUTE);
  expect(engine.l1Stats().bytes).toBeLessThanOrEqual(256 * 1024);
  expect(engine.memoryPressure()).toBeLessThan(0.8);
});

test('options that contradict each other are refused', async () => {
  const { engine } = await startedFakes();
  const item = new SyncItem('a', 'x');
  for (const options of [
    { sql: false },
    { sql: false, redis: false, redisTtl: CacheTtl.Hour },
    { ...MINUTE, ack: 'wal' },
    { ...MINUTE, ack: 'stored' },
  ] as const) {
    expect(await rejection(engine.submit(item, options))).toMatchObject({ code: 'CONFIG' });
  }
  const wrong = { redisTtl: 5 } as unknown as SubmitOptions;
  expect(await rejection(engine.submit(item, wrong))).toBeInstanceOf(TypeError);
  expect(await engine.get('a')).toBeUndefined();
});

// Each took room beside a write that was pinned, and nobody asked whether there was any.
test('cache-only items in the place of pending writes hold up nothing', async () => {
  const config = { l1MaxBytes: 2 * 1024 * 1024, maxPayloadBytes: 256 * 1024 };
  const { engine, archive } = await startedFakes(config, { withLog: false });
  archive.down = true;
  await rejection(engine.get('probe'));
  const ttl = SubmitOptions.cache(CacheTtl.Hour);
  for (const bytes of [1, 256 * 1024])
    for (let at = 0; at < 100; at++) await engine.submit(new SyncItem(`c.${at}`, Buffer.alloc(bytes)), ttl);
  expect(engine.l1Stats().bytes).toBeLessThanOrEqual(config.l1MaxBytes);
  expect((await engine.submit(new SyncItem('real', 'x'), { ack: 'memory' })).ack).toBe('memory');
});
