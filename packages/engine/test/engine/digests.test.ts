/** Digests through the public face: what they prove, and how two engines find where they differ. */
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { expect, test } from 'vitest';
import { SyncEngine as Engine, type MerkleSource, type SyncEngine, SyncItem } from '#engine/index.js';
import { STRANGE_IDS } from '#engine/testing/strange-ids.js';
import { fileConfig, fileEngine, rejection, startedFakes, temporaryDirectory } from '../support/engines.js';
import { Metered } from '../support/metered.js';

const KEY = 'ab'.repeat(32);

async function pair(): Promise<[SyncEngine, SyncEngine, string]> {
  const directory = temporaryDirectory();
  const config = { clusterKey: KEY, nodeId: 'same' };
  const first = await fileEngine(directory, config);
  const second = await fileEngine(temporaryDirectory(), config);
  return [first, second, directory];
}

/** The other engine's rows, versions and all, as replication will bring them. */
async function differences(local: SyncEngine, remote: MerkleSource): Promise<string[]> {
  const found: string[] = [];
  for await (const { id, side } of local.drillDownDivergence(remote)) found.push(`${side} ${id}`);
  return found.sort();
}

test('every strange id is a node with its own hash, found below its parent', async () => {
  const engine = await fileEngine(temporaryDirectory());
  await engine.submitMany(STRANGE_IDS.map((id) => new SyncItem(id, 'x')));
  await engine.flush();
  expect((await engine.merkleNode(''))?.count).toBe(STRANGE_IDS.length);
  for (const id of STRANGE_IDS) {
    const segments = id.split('.');
    const node = await engine.merkleNode(segments);
    expect(node?.isLeaf, id).toBe(true);
    const children = await engine.merkleChildren(segments.slice(0, -1), { limit: 10_000 });
    expect(children.get(segments.at(-1) as string), id).toBe(node?.hash);
  }
});

test('one engine compared with itself differs nowhere, before and after a restart', async () => {
  const directory = temporaryDirectory();
  const engine = await fileEngine(directory);
  await engine.submitMany(['a', 'a.b', 'a.b.c', 'd.e'].map((id) => new SyncItem(id, id)));
  await engine.flush();
  const root = await engine.merkleRoot();
  expect(await engine.findDivergentPaths(engine.merkle)).toEqual({
    divergentPaths: [],
    localOnly: [],
    remoteOnly: [],
  });
  await engine.shutdown();
  expect(await (await fileEngine(directory)).merkleRoot()).toBe(root);
});

test('two engines find the ids that differ, an id that is also a prefix of others among them', async () => {
  const [first, second] = await pair();
  // Equal content is not enough: rows are equal where their versions are.
  await first.submit(new SyncItem('uk.nhs', 'x'), { ack: 'stored' });
  await second.submit(new SyncItem('uk.nhs.patient.1', 'x'), { ack: 'stored' });
  expect(await differences(first, second.merkle)).toEqual(['local uk.nhs', 'remote uk.nhs.patient.1']);
  const { divergentPaths, localOnly, remoteOnly } = await first.findDivergentPaths(second.merkle);
  expect(divergentPaths.sort()).toEqual(['uk', 'uk.nhs.patient']);
  expect([localOnly, remoteOnly]).toEqual([['uk.nhs'], ['uk.nhs.patient.1']]);
  expect(await first.merkleRoot()).not.toBe(await second.merkleRoot());
});

test('below a wide path, differences are found by buckets, which are kept up as rows change', async () => {
  const directory = temporaryDirectory();
  const config = { clusterKey: KEY };
  const first = await fileEngine(directory, config);
  const ids = Array.from({ length: 3000 }, (_, at) => `user.${at}`);
  await first.submitMany(ids.map((id) => new SyncItem(id, 'x')));
  await first.flush();
  await first.shutdown();
  // A copy of the file is an equal archive.
  const { copyFileSync } = await import('node:fs');
  const copy = temporaryDirectory();
  copyFileSync(join(directory, 'archive.db'), join(copy, 'archive.db'));
  const left = await fileEngine(directory, config);
  const right = await fileEngine(copy, config);
  expect(await differences(left, right.merkle)).toEqual([]);
  await left.submit(new SyncItem('user.7', 'once'), { ack: 'stored' });
  const meter = new Metered(right.merkle);
  expect(await differences(left, meter)).toEqual(['both user.7']);
  // Root and `user` itself, then four levels of buckets and the row.
  expect(meter.trips).toBeLessThanOrEqual(8);
  expect(meter.bytes).toBeLessThanOrEqual(4096);
  await left.submit(new SyncItem('user.7', 'changed'), { ack: 'stored' });
  await right.submit(new SyncItem('user.new', 'x'), { ack: 'stored' });
  await right.delete('user.2999', { ack: 'stored' });
  const expected = ['both user.2999', 'both user.7', 'remote user.new'];
  expect(await differences(left, right.merkle)).toEqual(expected);
  await left.submit(new SyncItem('user.fresh.1', 'x'), { ack: 'stored' });
  expect(await differences(left, right.merkle)).toEqual([...expected, 'local user.fresh.1'].sort());
  expect((await left.scrub()).drift).toEqual([]);
});

test('sides with different keys are not compared', async () => {
  const first = await fileEngine(temporaryDirectory());
  const second = await fileEngine(temporaryDirectory());
  expect((await rejection(first.findDivergentPaths(second.merkle))).code).toBe('CONFIG');
});

test('without digests everything else works, and the archive remembers that it has none', async () => {
  const directory = temporaryDirectory();
  const engine = await fileEngine(directory, { merkleEnabled: false });
  await engine.submit(new SyncItem('a', 'x'), { ack: 'stored' });
  expect((await rejection(engine.merkleRoot())).code).toBe('CONFIG');
  expect(await engine.scrub()).toEqual({ checked: 1, corrupt: [], drift: [] });
  await engine.shutdown();
  const other = new Engine(fileConfig(directory));
  expect(await rejection(other.start())).toMatchObject({ code: 'CONFIG' });
  await other.shutdown();
});

test('an empty archive has a root, and pending writes are in no digest', async () => {
  const { engine, archive, ports } = await startedFakes({ batchFlushMs: 10 });
  const empty = await engine.merkleRoot();
  expect(empty).toMatch(/^[0-9a-f]{32}$/);
  await engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
  expect(await engine.merkleRoot()).toBe(empty);
  await ports.clock.pass(100);
  expect(archive.rows.size).toBe(1);
  expect(await engine.merkleRoot()).not.toBe(empty);
});

test('the scrub finds wrong rows and wrong digests, and says so', async () => {
  const directory = temporaryDirectory();
  const engine = await fileEngine(directory);
  await engine.submitMany(['a.b', 'a.c', 'd.e'].map((id) => new SyncItem(id, id)));
  await engine.flush();
  expect(await engine.scrub({ pageSize: 2 })).toEqual({ checked: 3, corrupt: [], drift: [] });
  await engine.shutdown();
  const database = new Database(join(directory, 'archive.db'));
  database.exec(`UPDATE sync_items SET content = x'00' WHERE id = 'a.b'`);
  database.exec(`UPDATE sync_root SET count = count + 1`);
  database.close();
  const again = await fileEngine(directory);
  const alarms: (string | undefined)[] = [];
  again.on('corruption', ({ id }) => alarms.push(id));
  expect(await again.scrub({ pageSize: 2 })).toEqual({ checked: 3, corrupt: ['a.b'], drift: [''] });
  expect(alarms).toEqual(['a.b', '']);
});
