import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SyncItem } from '#engine/index.js';
import { STRANGE_IDS } from '#engine/testing/strange-ids.js';
import { fileEngine, temporaryDirectory } from '../support/engines.js';

/** Content that no other id has, and that text handling would break. */
function contentOf(id: string): Buffer {
  return Buffer.concat([Buffer.from([0, 255, 13, 10]), Buffer.from(id), Buffer.from([0xc3, 0x28, 0])]);
}

test('every id is an item of its own through submit, get, delete and restart', async () => {
  const directory = temporaryDirectory();
  expect(new Set(STRANGE_IDS).size).toBe(STRANGE_IDS.length);
  let engine = await fileEngine(directory);
  await Promise.all(STRANGE_IDS.map((id) => engine.submit(new SyncItem(id, contentOf(id)))));
  for (const id of STRANGE_IDS) expect((await engine.get(id))?.content).toEqual(contentOf(id));
  await engine.shutdown();

  engine = await fileEngine(directory);
  for (const id of STRANGE_IDS) {
    const item = await engine.get(id);
    expect(item?.id).toBe(id);
    expect(item?.content).toEqual(contentOf(id));
  }
  // Deleting every second one leaves all others alone.
  const deleted = STRANGE_IDS.filter((_, at) => at % 2 === 0);
  const kept = STRANGE_IDS.filter((_, at) => at % 2 === 1);
  await engine.deleteMany(deleted, { ack: 'stored' });
  await engine.shutdown();

  engine = await fileEngine(directory);
  expect(await engine.getMany(deleted)).toEqual(deleted.map(() => undefined));
  expect((await engine.getMany(kept)).map((item) => item?.id)).toEqual(kept);
});

test('every id survives in the log alone', async () => {
  const directory = temporaryDirectory();
  let engine = await fileEngine(directory, { batchFlushMs: 60_000, batchFlushCount: 100_000 });
  await Promise.all(STRANGE_IDS.map((id) => engine.submit(new SyncItem(id, contentOf(id)))));
  await engine.shutdown({ deadlineMs: 1 });
  engine = await fileEngine(directory);
  for (const id of STRANGE_IDS) expect((await engine.get(id))?.content).toEqual(contentOf(id));
});

test('any well-formed string and any bytes come back as they went in', async () => {
  const engine = await fileEngine(temporaryDirectory());
  const id = fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }).filter((text) => text.isWellFormed());
  const items = fc.uniqueArray(fc.tuple(id, fc.uint8Array({ maxLength: 300 })), {
    selector: ([text]) => text,
    maxLength: 20,
  });
  await fc.assert(
    fc.asyncProperty(items, async (pairs) => {
      const result = await engine.submitMany(
        pairs.map(([text, bytes]) => new SyncItem(text, bytes)),
        { ack: 'wal' },
      );
      expect(result.failed).toBe(0);
      await engine.flush();
      for (const [text, bytes] of pairs) {
        expect((await engine.get(text, { fresh: true }))?.content).toEqual(Buffer.from(bytes));
      }
    }),
    { numRuns: 25 },
  );
});

test('the texts beside the content come back as well', async () => {
  const directory = temporaryDirectory();
  const init = {
    contentType: 'json',
    state: 'in-Prüfung',
    homeInstanceId: 'shop-7',
    traceParent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
    traceState: 'vendor=1',
  } as const;
  let engine = await fileEngine(directory);
  await engine.submit(new SyncItem('a', '{"b":1}', init), { ack: 'stored' });
  await engine.shutdown();
  engine = await fileEngine(directory);
  const item = await engine.get('a');
  expect(item).toMatchObject(init);
  expect(item?.json()).toEqual({ b: 1 });
});
