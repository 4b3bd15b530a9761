/** The change log as callers read it. */
import { copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Change, type SyncEngine, SyncItem } from '#engine/index.js';
import { fileEngine, rejection, startedFakes, temporaryDirectory } from '../support/engines.js';

async function upToNow(engine: SyncEngine, from?: string): Promise<Change[]> {
  const changes: Change[] = [];
  for await (const change of engine.changes({ tail: false, ...(from === undefined ? {} : { from }) }))
    changes.push(change);
  return changes;
}

const shown = (change: Change): string =>
  change.op === 'gap'
    ? `gap ${change.reason}`
    : `${change.op} ${change.id}${change.op === 'put' ? ` ${change.item.text()}` : ''}`;

const soon = { batchFlushCount: 1 };

test('puts and deletes in order, with values; only the newest of an id', async () => {
  const engine = await fileEngine(temporaryDirectory());
  await engine.submit(new SyncItem('a', '1'), { ack: 'stored' });
  await engine.submit(new SyncItem('b', '1'), { ack: 'stored' });
  await engine.submit(new SyncItem('a', '2'), { ack: 'stored' });
  await engine.delete('b', { ack: 'stored' });
  const changes = await upToNow(engine);
  expect(changes.map(shown)).toEqual(['put a 2', 'delete b']);
  expect(await upToNow(engine, changes.at(-1)?.position)).toEqual([]);
});

test('items that were stored in one transaction have one batchId, others another, and elsewhere there is none', async () => {
  const engine = await fileEngine(temporaryDirectory());
  await engine.submitMany([new SyncItem('a', 'x'), new SyncItem('b', 'x')], { ack: 'stored' });
  const written = new SyncItem('c', 'x');
  await engine.submit(written, { ack: 'stored' });
  const batches = new Map<string, string | undefined>();
  for (const change of await upToNow(engine))
    if (change.op === 'put') batches.set(change.id, change.item.batchId);
  expect(batches.get('a')).toMatch(/^1-[0-9a-f]{12}$/);
  expect(batches.get('b')).toBe(batches.get('a'));
  expect(batches.get('c')).toMatch(/^2-[0-9a-f]{12}$/);
  expect([written.batchId, (await engine.get('a'))?.batchId]).toEqual([undefined, undefined]);
});

test('every position can be gone on from: nothing is missed, across a restart too', async () => {
  const directory = temporaryDirectory();
  const engine = await fileEngine(directory);
  for (let at = 0; at < 20; at++) {
    await engine.submitMany([new SyncItem(`a${at}`, 'x'), new SyncItem(`b${at}`, 'x')]);
    await engine.flush();
  }
  const all = await upToNow(engine);
  expect(all).toHaveLength(40);
  await engine.shutdown();
  const again = await fileEngine(directory);
  for (let at = 0; at < all.length; at++) {
    const rest = (await upToNow(again, all[at]?.position)).map(shown);
    const missing = all
      .slice(at + 1)
      .map(shown)
      .filter((one) => !rest.includes(one));
    expect(missing).toEqual([]);
    expect(rest.length).toBeLessThanOrEqual(all.length - at);
  }
});

test('a reader at the end waits, and hears of the next commit', async () => {
  const { engine } = await startedFakes(soon);
  const { FakeArchive } = await import('../support/fake-archive.js');
  const archive = new FakeArchive();
  archive.hidden = false;
  const { engine: heard } = await startedFakes(soon, { archive });
  const reader = heard.changes()[Symbol.asyncIterator]();
  const first = reader.next();
  await heard.submit(new SyncItem('a', '1'), { ack: 'stored' });
  expect(shown((await first).value as Change)).toBe('put a 1');
  const second = reader.next();
  await heard.shutdown();
  expect((await second).done).toBe(true);
  await engine.shutdown();
});

test('what was trimmed shows as a gap, and the reader goes on behind it', async () => {
  const { FakeArchive } = await import('../support/fake-archive.js');
  const archive = new FakeArchive();
  archive.hidden = false;
  const { engine } = await startedFakes(soon, { archive });
  await engine.submit(new SyncItem('a', '1'), { ack: 'stored' });
  const [first] = await upToNow(engine);
  await engine.submit(new SyncItem('b', '1'), { ack: 'stored' });
  await engine.submit(new SyncItem('c', '1'), { ack: 'stored' });
  archive.tables.trim(2);
  const rest = await upToNow(engine, first?.position);
  expect(rest.map(shown)).toEqual(['gap trimmed']);
  await engine.submit(new SyncItem('d', '1'), { ack: 'stored' });
  expect((await upToNow(engine, rest[0]?.position)).map(shown)).toEqual(['put d 1']);
});

test('a restored copy of the file is recognised, even where it was written to since', async () => {
  const directory = temporaryDirectory();
  const file = join(directory, 'archive.db');
  const first = await fileEngine(directory);
  await first.submit(new SyncItem('a', '1'), { ack: 'stored' });
  await first.shutdown();
  copyFileSync(file, `${file}.backup`);
  const second = await fileEngine(directory);
  await second.submit(new SyncItem('b', 'lost with the restore'), { ack: 'stored' });
  const position = (await upToNow(second)).at(-1)?.position as string;
  expect(second.definitelyMissing('b')).toBe(false);
  await second.shutdown();
  rmSync(file);
  copyFileSync(`${file}.backup`, file);
  const third = await fileEngine(directory);
  await third.submit(new SyncItem('c', 'written after the restore'), { ack: 'stored' });
  expect((await upToNow(third, position)).map(shown)).toEqual(['gap restored']);
  // The snapshot of the filter covers a history that is no more: it was built anew.
  await third.warmUp();
  expect([third.definitelyMissing('b'), third.definitelyMissing('a'), third.definitelyMissing('c')]).toEqual([
    true,
    false,
    false,
  ]);
  expect(await third.verifyFilter()).toEqual({ trusted: true, checked: 2, missing: 0 });
});

test('what is no position is refused; a signal ends the waiting', async () => {
  const engine = await fileEngine(temporaryDirectory());
  expect((await rejection(upToNow(engine, 'yesterday'))).code).toBe('CONFIG');
  const controller = new AbortController();
  const reading = rejection(engine.changes({ signal: controller.signal })[Symbol.asyncIterator]().next());
  controller.abort();
  expect((await reading).code).toBe('ABORTED');
});
