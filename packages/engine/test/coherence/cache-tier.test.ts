/** What is believed of a cache: after outages, restores and floods of changes, and what it is told. */
import { expect, test } from 'vitest';
import { CacheTier } from '#engine/coherence/cache-tier.js';
import type { Revision } from '#engine/item/revision.js';
import {
  APPLY_STORED,
  type ChangeBatch,
  type ChangeHead,
  type ChangePage,
} from '#engine/storage/archive-store.js';
import { GuardedCache } from '#engine/storage/guarded-cache.js';
import { revision } from '#engine/testing/revisions.js';
import { manualPorts, settle } from '../support/manual-ports.js';
import { CacheServer, MemoryCacheStore } from '../support/memory-cache-store.js';

const ORIGIN = 'o'.repeat(16);
const chainAt = (position: number, history: string): string => `${history}${position}`.padStart(64, '0');

/** A change log that commits what it is told, and a tier that follows it. */
function world() {
  const ports = manualPorts();
  const server = new CacheServer(() => ports.clock.monotonic());
  const log = {
    batches: [] as ChangeBatch[],
    history: 'a',
    trimmed: 0,
    available: true,
    asked: 0,
    onLook: () => {},
  };
  const headAt = (position: number): ChangeHead => ({ position, chain: chainAt(position, log.history) });
  const archive = {
    get available() {
      return log.available;
    },
    async look({ position, chain }: ChangeHead, limit: number): Promise<ChangePage> {
      log.asked++;
      log.onLook();
      if (!log.available) throw new Error('SQL is away');
      const head = headAt(log.batches.length);
      if (chain !== headAt(position).chain || position > log.batches.length)
        return { batches: [], head, gap: 'foreign' };
      if (position < log.trimmed) return { batches: [], head, gap: 'trimmed' };
      const batches: ChangeBatch[] = [];
      let count = 0;
      for (const batch of log.batches.slice(position)) {
        if (count >= limit) break;
        batches.push(batch);
        count += batch.changes.length;
      }
      return { batches, head, gap: 'none' };
    },
  };
  const noticed: string[] = [];
  const damaged: string[] = [];
  const tier = (): { tier: CacheTier; store: MemoryCacheStore } => {
    const store = new MemoryCacheStore(server);
    const cache: GuardedCache = new GuardedCache(store, { redisTimeoutMs: 1000 }, ports, {
      connected: () => made.connected(),
      circuit: (state) => {
        if (state !== 'open') made.answers();
      },
    });
    const made: CacheTier = new CacheTier({
      config: { redisTimeoutMs: 1000 },
      cache,
      archive,
      clock: ports.clock,
      scheduler: ports.scheduler,
      random: ports.random,
      events: { damaged: (id) => damaged.push(id), noticed: (message) => noticed.push(message) },
    });
    return { tier: made, store };
  };
  /** Somebody commits; who is given is told as its own commit. */
  const commit = (writes: readonly Revision[], by?: CacheTier): ChangeBatch => {
    const position = log.batches.length + 1;
    const batch: ChangeBatch = {
      position,
      chain: chainAt(position, log.history),
      changes: writes.map(({ id, version, origin, deleted }) => ({
        id,
        version,
        origin,
        kind: deleted ? 'delete' : 'put',
        delta: Buffer.alloc(0),
        countDelta: 1,
      })),
    };
    log.batches.push(batch);
    by?.committed(writes, {
      flags: new Uint8Array(writes.length).fill(APPLY_STORED),
      newer: new Map(),
      head: headAt(position),
      changed: true,
    });
    return batch;
  };
  const started = async (): Promise<{ tier: CacheTier; store: MemoryCacheStore }> => {
    const made = tier();
    await made.tier.archiveConnected('ab'.repeat(16), headAt(log.batches.length));
    await made.tier.start('ab'.repeat(16));
    await settle();
    return made;
  };
  return { ports, server, log, tier, commit, started, noticed, damaged, headAt };
}

const item = (id: string, version: number, text = `v${version}`): Revision =>
  revision({ id, version, origin: ORIGIN, content: Buffer.from(text) });

const textsOf = async (tier: CacheTier, ids: string[]): Promise<(string | undefined)[]> => {
  const hits = await tier.read(ids);
  return ids.map((_, at) => hits[at]?.revision.content.toString());
};

test('a copy is served until something newer is committed, and again once that has arrived', async () => {
  const { commit, started, ports } = world();
  const { tier, store } = await started();
  commit([item('a', 1)], tier);
  await settle();
  expect(await textsOf(tier, ['a', 'b'])).toEqual(['v1', undefined]);
  let pass!: () => void;
  const gate = new Promise<void>((resolve) => {
    pass = resolve;
  });
  store.arriving = (operation) => (operation === 'write' ? gate : Promise.resolve());
  commit([item('a', 2)], tier);
  await settle();
  expect(tier.lag).toBe(1);
  expect(await textsOf(tier, ['a'])).toEqual([undefined]);
  pass();
  await settle();
  expect(tier.lag).toBe(0);
  expect(await textsOf(tier, ['a'])).toEqual(['v2']);
  await ports.clock.pass(0);
});

test('what was committed while the cache was away is marked from the change log, by an engine that did not see it', async () => {
  const { commit, started, server, ports, headAt, log } = world();
  const { tier: first } = await started();
  commit([item('a', 1), item('b', 1)], first);
  await settle();
  await first.stop();
  commit([item('a', 2)]);
  const { tier: second } = await started();
  expect(await textsOf(second, ['a', 'b'])).toEqual([undefined, 'v1']);
  await ports.clock.pass(100);
  expect(second.lag).toBe(0);
  expect(server.head).toMatchObject(headAt(log.batches.length));
  expect([...server.values.values()].map(({ kind }) => kind).sort()).toEqual(['mark', 'value']);
});

test('more changes than can be remembered are marked page by page, and the other copies stay', async () => {
  const { commit, started, log, noticed, ports } = world();
  const { tier: first } = await started();
  commit([item('a', 1), item('keeps', 1)], first);
  await settle();
  await first.stop();
  commit([item('a', 2)]);
  for (let batch = 0; batch < 52; batch++)
    commit(Array.from({ length: 1000 }, (_, at) => item(`x.${batch}.${at}`, 5)));
  const { tier: second } = await started();
  await ports.clock.pass(5000);
  await settle(200);
  await ports.clock.pass(5000);
  expect(second.lag).toBe(0);
  expect(await textsOf(second, ['a', 'keeps'])).toEqual([undefined, 'v1']);
  expect(noticed).toEqual([]);
  expect(log.asked).toBeLessThan(100);
});

test.each([
  ['belongs to another history of SQL', 'another history', (log: { history: string }) => (log.history = 'b')],
  ['is too old for the change log', 'has forgotten', (log: { trimmed: number }) => (log.trimmed = 2)],
] as const)('a cache that %s begins anew, and nothing of it is served', async (_, said, change) => {
  const { commit, started, log, noticed, ports } = world();
  const { tier: first } = await started();
  commit([item('a', 1)], first);
  await settle();
  await first.stop();
  commit([item('x', 1)]);
  commit([item('y', 1)]);
  change(log as never);
  const { tier: second } = await started();
  await ports.clock.pass(1000);
  expect(noticed.join()).toContain(said);
  expect(await textsOf(second, ['a'])).toEqual([undefined]);
  commit([item('a', 2)], second);
  await settle();
  expect(await textsOf(second, ['a'])).toEqual(['v2']);
});

test('a cache that fails over to something older is judged by what it answers', async () => {
  const { commit, started, server, ports } = world();
  const { tier } = await started();
  commit([item('a', 1)], tier);
  await settle();
  const restore = server.snapshot();
  commit([item('a', 2), item('b', 2)], tier);
  await settle();
  expect(await textsOf(tier, ['a', 'b'])).toEqual(['v2', 'v2']);
  // No connection ends: something in between has changed sides.
  restore();
  expect(await textsOf(tier, ['a'])).toEqual([undefined]);
  await ports.clock.pass(3000);
  expect(await textsOf(tier, ['a', 'b'])).toEqual([undefined, undefined]);
  expect(tier.lag).toBe(0);
});

test('a part of the cache that is ahead in another history makes all of it unreachable, and one ahead in this one does not', async () => {
  const { commit, started, tier: make, noticed, ports } = world();
  const { tier: first } = await started();
  commit([item('a', 1)], first);
  await settle();
  commit([item('b', 2)]);
  for (const [history, left] of [
    ['a', 'v1'],
    ['z', undefined],
  ] as const) {
    const { tier, store } = make();
    const head = store.head.bind(store);
    store.head = async () => {
      const own = await head();
      return own && { ...own, others: [{ position: 2, chain: chainAt(2, history) }] };
    };
    await tier.start('ab'.repeat(16));
    await tier.archiveConnected('ab'.repeat(16), { position: 2, chain: chainAt(2, 'a') });
    await settle();
    await ports.clock.pass(10);
    expect(await textsOf(tier, ['a'])).toEqual([left]);
    await tier.stop();
  }
  expect(noticed).toEqual([expect.stringContaining('another history of SQL')]);
});

test('a cache of another history is not believed by who meets it before SQL, although it is as far', async () => {
  const { commit, started, tier: make, noticed, ports, log } = world();
  const { tier: first } = await started();
  commit([item('a', 1)], first);
  await settle();
  await first.stop();
  // SQL was restored from a copy, and has taken as many other writes since.
  log.history = 'z';
  const { tier } = make();
  await tier.start('ab'.repeat(16));
  await settle();
  await tier.archiveConnected('ab'.repeat(16), { position: 1, chain: chainAt(1, 'z') });
  await settle();
  await ports.clock.pass(10);
  expect(await textsOf(tier, ['a'])).toEqual([undefined]);
  expect(noticed).toEqual([expect.stringContaining('another history of SQL')]);
});

test('what another engine confirmed is known without a read, and not marked once more', async () => {
  const { commit, started, ports } = world();
  const [{ tier: one }, { tier: two, store }] = [await started(), await started()];
  let writes = 0;
  store.arriving = async (operation) => void (operation === 'write' && writes++);
  two.changed(commit([item('a', 1)], one));
  await settle();
  expect([one.lag, two.lag]).toEqual([0, 1]);
  await ports.clock.pass(3000);
  expect([two.lag, writes]).toEqual([0, 0]);
});

test('while SQL cannot be asked and was never met, what the cache holds is stale', async () => {
  const { commit, started, log, tier: make } = world();
  const { tier: first } = await started();
  commit([item('a', 1)], first);
  await settle();
  await first.stop();
  log.available = false;
  const { tier: second } = make();
  await second.start('ab'.repeat(16));
  await settle();
  const [hit] = await second.read(['a']);
  expect([hit?.revision.version, hit?.stale]).toEqual([1, true]);
});

test('an engine whose commits wait for their turn confirms them when that has come', async () => {
  const { commit, started, ports } = world();
  const [{ tier: one, store }, { tier: two }] = [await started(), await started()];
  let pass!: () => void;
  const gate = new Promise<void>((resolve) => {
    pass = resolve;
  });
  store.arriving = (operation) => (operation === 'write' ? gate : Promise.resolve());
  const first = commit([item('a', 1)], one);
  two.changed(first);
  const second = commit([item('b', 2)], two);
  one.changed(second);
  await settle();
  expect([one.lag, two.lag]).toEqual([2, 2]);
  pass();
  await settle();
  await ports.clock.pass(10);
  await two.read(['a']);
  expect([one.lag, two.lag]).toEqual([0, 0]);
});

test('what is committed while a cache is caught up, and makes it too much, does not let older copies through', async () => {
  const { commit, started, log, ports, tier: make } = world();
  const { tier: first } = await started();
  commit([item('a', 1)], first);
  await settle();
  await first.stop();
  // Of these Redis is not told.
  commit([item('a', 2)]);
  for (let batch = 0; batch < 49; batch++)
    commit(Array.from({ length: 1000 }, (_, at) => item(`x.${batch}.${at}`, 5)));
  const { tier } = make();
  let looks = 0;
  log.onLook = () => {
    if (++looks !== 10) return;
    for (let batch = 0; batch < 8; batch++)
      commit(
        Array.from({ length: 1000 }, (_, at) => item(`y.${batch}.${at}`, 6)),
        tier,
      );
  };
  await tier.archiveConnected('ab'.repeat(16), { position: 51, chain: chainAt(51, 'a') });
  await tier.start('ab'.repeat(16));
  for (let seconds = 0; seconds < 10; seconds++) {
    await settle();
    expect(await textsOf(tier, ['a'])).toEqual([undefined]);
    await ports.clock.pass(1000);
  }
  expect([tier.synced, tier.lag]).toEqual([true, 0]);
});

test('a history that changes while a cache is caught up is noticed', async () => {
  const { commit, started, log, ports, tier: make } = world();
  const { tier: first } = await started();
  commit([item('a', 1)], first);
  await settle();
  await first.stop();
  for (let batch = 0; batch < 12; batch++)
    commit(Array.from({ length: 1000 }, (_, at) => item(`x.${batch}.${at}`, 5)));
  const { tier } = make();
  let looks = 0;
  log.onLook = () => {
    if (++looks !== 2) return;
    log.history = 'z';
    tier.missed({ position: 13, chain: chainAt(13, 'z') });
  };
  await tier.archiveConnected('ab'.repeat(16), { position: 13, chain: chainAt(13, 'a') });
  await tier.start('ab'.repeat(16));
  await settle();
  await ports.clock.pass(3000);
  expect(await textsOf(tier, ['a'])).toEqual([undefined]);
  expect(tier.synced).toBe(true);
});

test('what this engine knows to be over is not served as stale: neither after a failover nor after too much', async () => {
  for (const lose of ['failover', 'too much'] as const) {
    const { commit, started, server, ports, log } = world();
    const { tier } = await started();
    commit([item('a', 1)], tier);
    await settle();
    const restore = server.snapshot();
    if (lose === 'failover') {
      commit([item('a', 2)], tier);
      await settle();
      await ports.clock.pass(100);
      restore();
    } else {
      server.stop();
      commit([item('a', 2)], tier);
      for (let batch = 0; batch < 60; batch++)
        commit(
          Array.from({ length: 1000 }, (_, at) => item(`x.${batch}.${at}`, 5)),
          tier,
        );
      server.start();
    }
    log.available = false;
    for (let seconds = 0; seconds < 5; seconds++) {
      expect(await textsOf(tier, ['a'])).toEqual([undefined]);
      await ports.clock.pass(1000);
    }
  }
});

test('a cache that takes no marks is not asked about for ever at the cost of SQL', async () => {
  const { commit, started, server, ports, log, tier: make } = world();
  const { tier: first } = await started();
  await first.stop();
  for (let batch = 0; batch < 60; batch++)
    commit(Array.from({ length: 1000 }, (_, at) => item(`x.${batch}.${at}`, 5)));
  const { tier, store } = make();
  let full = true;
  store.arriving = async (operation) => {
    if (operation === 'write' && full) throw new Error('OOM');
  };
  await tier.archiveConnected('ab'.repeat(16), { position: 60, chain: chainAt(60, 'a') });
  await tier.start('ab'.repeat(16));
  await settle();
  await ports.clock.pass(60_000);
  log.asked = 0;
  await ports.clock.pass(300_000);
  expect(log.asked).toBeLessThan(15);
  full = false;
  await ports.clock.pass(60_000);
  expect([tier.synced, tier.lag]).toEqual([true, 0]);
  expect(server.head?.position).toBe(60);
});
