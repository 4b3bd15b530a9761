/** Several engines on one archive: what one wrote, the others serve, or say that they do not know. */
import { expect, test } from 'vitest';
import { CacheTtl, SubmitOptions, type SyncEngineConfig, SyncItem } from '#engine/index.js';
import { type Fakes, rejection, startedFakes } from '../support/engines.js';
import { FakeArchive } from '../support/fake-archive.js';
import { manualPorts, settle } from '../support/manual-ports.js';

const CONFIG: SyncEngineConfig = { batchFlushMs: 1, coherenceLeaseMs: 1000 };

/** Two engines whose stores share what is stored, and whose time is the same. */
async function pair(config: SyncEngineConfig = CONFIG): Promise<[Fakes, Fakes]> {
  const ports = manualPorts();
  const first = new FakeArchive();
  const second = new FakeArchive(first.tables);
  for (const archive of [first, second]) {
    archive.exclusive = false;
    archive.hidden = false;
  }
  const one = await startedFakes({ ...config, nodeId: 'one' }, { archive: first, ports });
  const two = await startedFakes({ ...config, nodeId: 'two' }, { archive: second, ports });
  await ports.clock.pass(10);
  await one.engine.warmUp();
  await two.engine.warmUp();
  return [one, two];
}

async function write({ engine, ports }: Fakes, id: string, text: string): Promise<void> {
  const stored = engine.submit(new SyncItem(id, text), { ack: 'stored' });
  await ports.clock.pass(5);
  await stored;
}

test('what one engine has stored, the other serves at the latest when the lease has run out', async () => {
  const [one, two] = await pair();
  await write(one, 'a', 'first');
  expect((await two.engine.get('a', { fresh: true }))?.text()).toBe('first');
  expect((await two.engine.get('a'))?.text()).toBe('first');
  await write(one, 'a', 'second');
  await one.ports.clock.pass(1000);
  const seen = await two.engine.get('a');
  expect([seen?.text(), seen?.stale]).toEqual(['second', false]);
  await one.engine.delete('a', { ack: 'memory' });
  await one.ports.clock.pass(1100);
  expect(await two.engine.get('a')).toBeUndefined();
});

test('an id that did not exist is found once another engine has stored it, although the filter denied it', async () => {
  const [one, two] = await pair();
  await write(one, 'known', 'x');
  expect(await two.engine.get('new')).toBeUndefined();
  expect(two.engine.definitelyMissing('new')).toBe(true);
  await write(one, 'new', 'here');
  await one.ports.clock.pass(1000);
  expect(two.engine.definitelyMissing('new')).toBe(false);
  expect((await two.engine.get('new'))?.text()).toBe('here');
});

test('an id that was deleted here is found again once another engine has written it', async () => {
  const [one, two] = await pair();
  await write(two, 'a', 'x');
  const deleted = two.engine.delete('a', { ack: 'stored' });
  await one.ports.clock.pass(5);
  await deleted;
  await write(one, 'a', 'again');
  await one.ports.clock.pass(1000);
  expect((await two.engine.get('a'))?.text()).toBe('again');
});

test('a write that is stored, and overtaken by another engine before the log has forgotten it, is not kept', async () => {
  const [one, two] = await pair();
  const forgets = one.store.hold();
  await one.engine.submit(new SyncItem('a', 'first'), { ack: 'memory' });
  await one.ports.clock.pass(20);
  expect(one.archive.rows.get('a')?.content.toString()).toBe('first');
  await write(two, 'a', 'second');
  // One learns of it while its own write still waits for the log.
  await one.ports.clock.pass(1000);
  expect((await one.engine.get('a'))?.text()).toBe('first');
  forgets();
  await one.ports.clock.pass(10);
  expect((await one.engine.status('a')).kind).toBe('synced');
  const seen = await one.engine.get('a');
  expect([seen?.text(), seen?.stale]).toEqual(['second', false]);
});

test('with the lease lapsed, a get waits for one look and then serves what that allows', async () => {
  const [one, two] = await pair();
  await write(one, 'a', 'first');
  expect((await two.engine.get('a', { fresh: true }))?.text()).toBe('first');
  // Paused: no timer of the second engine runs while the first one goes on.
  two.archive.down = true;
  await write(one, 'a', 'second');
  await write(one, 'b', 'new');
  await one.ports.clock.pass(1000);
  two.archive.down = false;
  expect((await two.engine.get('a'))?.text()).toBe('second');
  expect((await two.engine.get('b'))?.text()).toBe('new');
});

test('while the change log cannot be read, items are stale, absence is unavailable, and own writes are current', async () => {
  const [one, two] = await pair();
  const events: unknown[] = [];
  two.engine.on('stale', (event) => events.push(event.id));
  await write(two, 'a', 'mine');
  await write(two, 'gone', 'x');
  const deleted = two.engine.delete('gone', { ack: 'stored' });
  await one.ports.clock.pass(5);
  await deleted;
  two.archive.down = true;
  await one.ports.clock.pass(3000);
  await two.engine.submit(new SyncItem('pending', 'own'));
  await two.engine.submit(new SyncItem('cached', 'c'), SubmitOptions.cache(CacheTtl.Hour));

  const stale = await two.engine.get('a');
  expect([stale?.text(), stale?.stale]).toEqual(['mine', true]);
  expect(two.engine.peek('a')?.stale).toBe(true);
  const [many] = await two.engine.getMany(['a']);
  expect(many?.stale).toBe(true);
  expect(events).toEqual(['a']);
  expect((await two.engine.get('pending'))?.stale).toBe(false);
  expect(two.engine.peek('pending')?.stale).toBe(false);
  expect((await two.engine.get('cached'))?.stale).toBe(false);
  for (const id of ['gone', 'never was']) {
    expect((await rejection(two.engine.get(id))).code).toBe('TIER_UNAVAILABLE');
    expect(two.engine.definitelyMissing(id)).toBe(false);
  }
  expect((await rejection(two.engine.get('a', { fresh: true }))).code).toBe('TIER_UNAVAILABLE');
  const health = await two.engine.healthCheck();
  expect(health.coherenceAgeMs).toBeGreaterThanOrEqual(2500);
  const age = two.engine.metrics().find(({ name }) => name === 'sync_engine_coherence_age');
  expect(age?.value).toBeGreaterThanOrEqual(2.5);
  expect(health.warnings.join()).toContain('What other engines wrote is not known, for');

  two.archive.down = false;
  await one.ports.clock.pass(3000);
  expect((await two.engine.get('a'))?.stale).toBe(false);
  expect(await two.engine.get('gone')).toBeUndefined();
  expect((await two.engine.healthCheck()).warnings.join()).not.toContain('other engines');
});

test('while SQL hangs, items in memory are served, the first ones after 50 ms, the others at once', async () => {
  const [one, two] = await pair();
  await write(two, 'a', 'x');
  two.archive.hold('read');
  await one.ports.clock.pass(1500);
  const first = two.engine.get('a');
  await one.ports.clock.pass(50);
  expect((await first)?.stale).toBe(true);
  expect((await two.engine.get('a'))?.stale).toBe(true);
});

test('a value that was read before another engine wrote it does not stay in memory', async () => {
  const [one, two] = await pair();
  await write(one, 'a', 'first');
  await one.ports.clock.pass(1000);
  const getMany = two.archive.getMany.bind(two.archive);
  let open = (): void => {};
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  two.archive.getMany = async (ids) => {
    const rows = await getMany(ids);
    await gate;
    return rows;
  };
  const reading = two.engine.get('a');
  await settle();
  await write(one, 'a', 'second');
  // The look is answered before the read, which began earlier.
  await one.ports.clock.pass(600);
  open();
  expect((await reading)?.text()).toBe('first');
  expect((await two.engine.get('a'))?.text()).toBe('second');
});

test('a load that another engine overtook is made again', async () => {
  const [one, two] = await pair();
  let calls = 0;
  const made = two.engine.getOrInsert('a', async (id) => {
    calls++;
    if (calls === 1) {
      await write(one, 'a', 'theirs');
      await one.ports.clock.pass(1000);
    }
    return new SyncItem(id, 'loaded');
  });
  expect((await made).text()).toBe('theirs');
  expect(calls).toBe(1);
});

test('where changes were trimmed unread, memory and filter begin anew', async () => {
  const [one, two] = await pair();
  await write(one, 'a', 'first');
  await two.engine.get('a', { fresh: true });
  await one.ports.clock.pass(600);
  expect(two.engine.peek('a')?.text()).toBe('first');
  two.archive.down = true;
  await write(one, 'a', 'second');
  await write(one, 'b', 'new');
  await one.ports.clock.pass(2000);
  const changesSince = two.archive.changesSince.bind(two.archive);
  two.archive.changesSince = async (from, limit) => {
    const { head } = one.archive.tables.info();
    return from.position < head.position ? { batches: [], head, gap: 'trimmed' } : changesSince(from, limit);
  };
  two.archive.down = false;
  await one.ports.clock.pass(3000);
  expect(two.engine.peek('a')).toBeUndefined();
  expect((await two.engine.get('a'))?.text()).toBe('second');
  expect((await two.engine.get('b'))?.text()).toBe('new');
});

test('an engine that owns its archive asks nobody, and serves without a lease', async () => {
  const { engine, archive, ports } = await startedFakes(CONFIG);
  archive.hidden = false;
  await write({ engine, archive, ports } as Fakes, 'a', 'x');
  archive.down = true;
  await ports.clock.pass(10_000);
  expect((await engine.get('a'))?.stale).toBe(false);
  expect((await engine.healthCheck()).coherenceAgeMs).toBeUndefined();
});

// It asked SQL for ids that others had just stored, and took the filter for broken.
test('verifyFilter() does not count what others stored since the last look', async () => {
  const [one, two] = await pair();
  await write(one, 'known', 'x');
  await one.ports.clock.pass(600);
  await write(one, 'new', 'x');
  expect(await two.engine.verifyFilter()).toEqual({ trusted: true, checked: 2, missing: 0 });
});
