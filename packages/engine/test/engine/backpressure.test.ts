import { expect, test } from 'vitest';
import { SyncItem } from '#engine/index.js';
import { rejection, startedFakes } from '../support/engines.js';

const item = (at: number): SyncItem => new SyncItem(`id${at}`, Buffer.alloc(1000));

test('memory full of writes that SQL has not taken refuses more, in order, and says when to come again', async () => {
  const l1MaxBytes = 128 * 1024;
  const { engine, archive, ports } = await startedFakes({ l1MaxBytes });
  archive.down = true;
  await rejection(engine.get('probe'));
  let taken = 0;
  let error = undefined as unknown as Awaited<ReturnType<typeof rejection>>;
  for (; error === undefined; taken++) {
    await engine.submit(item(taken)).catch((thrown) => {
      error = thrown;
    });
  }
  expect(error).toMatchObject({ code: 'BACKPRESSURE', outcome: 'not-applied', retryable: true });
  expect(error.context).toMatchObject({
    tier: 'memory',
    limit: 'l1MaxBytes',
    level: 'Shutdown',
    httpStatus: 503,
  });
  expect(error.context.retryAfterMs).toBeGreaterThan(0);
  expect(engine.l1Stats().bytes).toBeLessThanOrEqual(l1MaxBytes);
  expect(engine.peek(`id${taken - 1}`)).toBeUndefined();
  // What was taken is all still there, and a write of a pending id fits in the place of the old one.
  for (let at = 0; at < taken - 1; at++) expect(engine.peek(`id${at}`)).toBeDefined();
  expect((await engine.submit(item(0))).ack).toBe('wal');

  archive.down = false;
  await ports.clock.pass(3000);
  expect((await engine.submit(item(taken))).ack).toBe('wal');
  expect(archive.rows.size).toBe(taken - 1);
});

test('clean entries are no pressure: they go', async () => {
  const { engine, ports } = await startedFakes({ l1MaxBytes: 64 * 1024 });
  for (let round = 0; round < 20; round++) {
    const result = await engine.submitMany(Array.from({ length: 30 }, (_, at) => item(round * 30 + at)));
    expect(result.failed).toBe(0);
    await ports.clock.pass(200);
  }
  expect(engine.memoryPressure()).toBe(0);
});

test('a log full of records refuses more', async () => {
  const byCount = await startedFakes({ walMaxItems: 3 });
  byCount.archive.down = true;
  for (let at = 0; at < 3; at++) await byCount.engine.submit(item(at));
  expect(await rejection(byCount.engine.submit(item(3)))).toMatchObject({
    code: 'BACKPRESSURE',
    context: { tier: 'wal', limit: 'walMaxItems' },
  });
  const byBytes = await startedFakes({ walMaxBytes: 5000 });
  byBytes.archive.down = true;
  for (let at = 0; at < 3; at++) await byBytes.engine.submit(item(at));
  expect(await rejection(byBytes.engine.submit(item(3)))).toMatchObject({
    context: { limit: 'walMaxBytes' },
  });
  await byBytes.ports.clock.pass(3000);
  expect((await byBytes.engine.healthCheck()).acceptingWrites).toBe(true);
});
