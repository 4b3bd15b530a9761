/** Events on diagnostics channels. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { expect, onTestFinished, test } from 'vitest';
import { type ChannelName, type ChannelPayloads, SyncItem } from '#engine/index.js';
import { CHANNELS } from '#engine/telemetry/channels.js';
import { rejection, startedFakes } from '../support/engines.js';
import { FakeArchive } from '../support/fake-archive.js';
import { FakeRecordStore } from '../support/fake-record-store.js';

/** What a channel says until the test ends. */
function heard<Name extends ChannelName>(name: Name): ChannelPayloads[Name][] {
  const payloads: ChannelPayloads[Name][] = [];
  const listener = (payload: unknown): number => payloads.push(payload as ChannelPayloads[Name]);
  subscribe(name, listener);
  onTestFinished(() => void unsubscribe(name, listener));
  return payloads;
}

const node = 'test';

test('sync_engine:state tells every transition', async () => {
  const states = heard('sync_engine:state');
  const { engine } = await startedFakes();
  expect(states[0]).toEqual({ node, state: 'Connecting', previous: 'Created' });
  expect(states.at(-1)).toEqual({ node, state: 'Running', previous: 'Ready' });
  await engine.shutdown();
  expect(states.at(-1)).toEqual({ node, state: 'Closed', previous: 'ShuttingDown' });
});

test('sync_engine:logCommit and sync_engine:flush tell of groups and batches', async () => {
  const commits = heard('sync_engine:logCommit');
  const flushes = heard('sync_engine:flush');
  const { engine, ports } = await startedFakes();
  commits.length = 0;
  await engine.submitMany([new SyncItem('a', 'four'), new SyncItem('b', 'four')], { ack: 'wal' });
  const group = { node, status: 'ok', records: 2, released: 0, bytes: 8, durationMs: 0, code: undefined };
  expect(commits).toContainEqual(group);
  await ports.clock.pass(200);
  const batch = { node, status: 'ok', items: 2, bytes: 8, stored: 2, durationMs: 0, code: undefined };
  expect(flushes).toEqual([batch]);
  expect(commits.at(-1)).toMatchObject({ records: 0, released: 2 });
});

test('sync_engine:flush tells why a batch was not stored, sync_engine:error that nobody waited for it', async () => {
  const flushes = heard('sync_engine:flush');
  const errors = heard('sync_engine:error');
  const { engine, archive, ports } = await startedFakes();
  archive.down = true;
  await engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
  await ports.clock.pass(100);
  expect(flushes[0]).toMatchObject({ status: 'error', items: 1, stored: 0, code: 'TIER_UNAVAILABLE' });
  expect(errors[0]).toMatchObject({ node, code: 'TIER_UNAVAILABLE' });
});

test('sync_engine:circuit tells of the loss and the return of SQL', async () => {
  const circuits = heard('sync_engine:circuit');
  const { engine, archive, ports } = await startedFakes();
  archive.down = true;
  await engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
  await ports.clock.pass(5000);
  expect(circuits).toContainEqual({ node, tier: 'sql', state: 'open' });
  archive.down = false;
  await ports.clock.pass(5000);
  expect(circuits.at(-1)).toEqual({ node, tier: 'sql', state: 'closed' });
});

test('sync_engine:backpressure tells once of each change of level', async () => {
  const levels = heard('sync_engine:backpressure');
  const { engine, archive, ports } = await startedFakes({ l1MaxBytes: 64 * 1024 }, { withLog: false });
  const open = archive.hold('apply');
  for (let at = 0; at < 5; at++)
    await engine.submit(new SyncItem(`i${at}`, Buffer.alloc(9000)), { ack: 'memory' });
  const held = engine.submit(new SyncItem('held', Buffer.alloc(4000)), { ack: 'memory' });
  void engine.submit(new SyncItem('late', 'x'), { ack: 'memory' });
  expect(levels).toEqual([
    { node, level: 'Warn', previous: 'Normal' },
    { node, level: 'Throttle', previous: 'Warn' },
  ]);
  open();
  await ports.clock.pass(5000);
  await held;
  expect(levels.slice(2)).toEqual([{ node, level: 'Normal', previous: 'Throttle' }]);
});

test('sync_engine:deadLetter names what was set aside', async () => {
  const letters = heard('sync_engine:deadLetter');
  const { engine, archive, ports } = await startedFakes();
  archive.refuses = () => 'no';
  await engine.submit(new SyncItem('bad', 'x'), { ack: 'memory' });
  await ports.clock.pass(1000);
  expect(letters).toEqual([{ node, id: 'bad' }]);
});

test('sync_engine:corruption names the tier and the id', async () => {
  const findings = heard('sync_engine:corruption');
  const { engine, ports } = await startedFakes();
  await engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
  await ports.clock.pass(1000);
  await engine.getVerified('a', { fresh: true });
  // The bytes of the item in memory rot.
  const { revisionOf } = await import('#engine/item/sync-item.js');
  const item = engine.peek('a') as SyncItem;
  const revision = revisionOf(item);
  expect(item.contentHash).toBeDefined();
  revision.content.fill(0);
  await rejection(engine.getVerified('a'));
  expect(findings).toEqual([{ node, tier: 'memory', id: 'a' }]);
});

test('no payload repeats content', async () => {
  const content = 'the-content-of-an-item';
  const everything = CHANNELS.map((name) => heard(name));
  const archive = new FakeArchive();
  const { engine, ports } = await startedFakes({}, { archive, store: new FakeRecordStore() });
  archive.refuses = (write) => (write.id === 'bad' ? `constraint failed for ${write.content}` : undefined);
  await engine.submitMany([new SyncItem('a', content), new SyncItem('bad', content)], { ack: 'wal' });
  await ports.clock.pass(5000);
  archive.down = true;
  await engine.submit(new SyncItem('b', content), { ack: 'memory' });
  await ports.clock.pass(5000);
  expect(everything.flat().length).toBeGreaterThan(10);
  expect(JSON.stringify(everything)).not.toContain(content);
});
