/** What happens to writers while SQL takes less than they give. */
import { describe, expect, test } from 'vitest';
import { type BackpressureLevel, SyncEngineError, SyncItem } from '#engine/index.js';
import { type Fakes, rejection, startedFakes } from '../support/engines.js';

const item = (at: number, bytes = 1000): SyncItem => new SyncItem(`id${at}`, Buffer.alloc(bytes));
const KIB = 1024;
const BUDGET = 128 * KIB;

/** Without a log nothing can be spilled: memory is all there is. */
const withoutLog = (config = {}) =>
  startedFakes({ l1MaxBytes: BUDGET, ack: 'memory', ...config }, { withLog: false });

/** Writes until one is not taken at once; returns how many were. */
async function fill({ engine }: Fakes, bytes = 1000): Promise<number> {
  for (let at = 0; ; at++) {
    let taken = false;
    void engine.submit(item(at, bytes)).then(
      () => {
        taken = true;
      },
      () => {},
    );
    await new Promise((resolve) => setImmediate(resolve));
    if (!taken) return at;
  }
}

test('levels come one after the other as memory fills, and are told once each', async () => {
  const fakes = await withoutLog();
  const { engine, archive, ports } = fakes;
  const events: string[] = [];
  engine.on('backpressure', ({ level, previous, pressure }) => {
    events.push(`${previous.name}>${level.name}`);
    expect(pressure).toBeGreaterThan(0);
  });
  archive.down = true;
  await fill(fakes);
  expect(engine.backpressure().name).toBe('Throttle');
  expect(events).toEqual(['Normal>Warn', 'Warn>Throttle']);
  expect(engine.memoryPressure()).toBeGreaterThanOrEqual(0.8);
  expect((await engine.healthCheck()).warnings.join()).toContain('Throttle');
  archive.down = false;
  await ports.clock.pass(5000);
  expect(engine.backpressure().name).toBe('Normal');
  expect(events.at(-1)).toMatch(/>Normal$/);
  expect(ports.logger.lines.filter((line) => line.message.startsWith('Backpressure')).length).toBe(
    events.length,
  );
});

describe('at Throttle', () => {
  test('a write is taken and read back at once, and its writer held until SQL has made room', async () => {
    const fakes = await withoutLog();
    const { engine, archive, ports } = fakes;
    const release = archive.hold('apply');
    const first = await fill(fakes);
    let answered = 0;
    const late = Array.from({ length: 3 }, (_, at) =>
      engine.submit(item(1000 + at)).then((receipt) => {
        answered++;
        return receipt;
      }),
    );
    expect(engine.peek('id1000')).toBeDefined();
    await ports.clock.pass(10);
    expect(answered).toBe(0);
    expect((await engine.healthCheck()).warnings.join()).toContain(`${3 + 1} writers are held`);
    release();
    await ports.clock.pass(300);
    const receipts = await Promise.all(late);
    for (let at = 1; at < receipts.length; at++)
      expect(receipts[at]?.version).toBeGreaterThan(receipts[at - 1]?.version as number);
    await ports.clock.pass(1000);
    expect(archive.rows.size).toBe(first + 1 + 3);
    expect((await engine.healthCheck()).warnings.join()).not.toContain('held');
  });

  test('a writer is held no longer than submitTimeoutMs, and then has its receipt', async () => {
    const fakes = await withoutLog({ submitTimeoutMs: 400 });
    const { engine, archive, ports } = fakes;
    archive.hold('apply');
    await fill(fakes);
    const held = engine.submit(item(1000));
    await ports.clock.pass(401);
    expect(await held).toMatchObject({ id: 'id1000', ack: 'memory' });
    expect(engine.peek('id1000')).toBeDefined();
  });

  test('a level that is not reached in time is a missed deadline, held or not', async () => {
    const fakes = await withoutLog({ submitTimeoutMs: 400 });
    fakes.archive.hold('apply');
    await fill(fakes);
    const waiting = rejection(fakes.engine.submit(item(1000), { ack: 'stored' }));
    await fakes.ports.clock.pass(401);
    expect(await waiting).toMatchObject({ code: 'DEADLINE', outcome: 'indeterminate' });
  });

  test.each(['memory', 'stored'] as const)('a caller that gives up is answered at once: %s', async (ack) => {
    const fakes = await withoutLog();
    const { engine, archive, ports } = fakes;
    const release = archive.hold('apply');
    await fill(fakes);
    const controller = new AbortController();
    const waiting = rejection(engine.submit(item(1000), { ack, signal: controller.signal }));
    controller.abort();
    expect(await waiting).toMatchObject({ code: 'ABORTED', outcome: 'indeterminate' });
    release();
    await ports.clock.pass(1000);
    expect(archive.rows.has('id1000')).toBe(true);
  });

  test('a shutdown lets go of those who are held', async () => {
    const fakes = await withoutLog();
    const { engine, archive, ports } = fakes;
    archive.hold('apply');
    await fill(fakes);
    const held = engine.submit(item(1000));
    const closed = engine.shutdown({ deadlineMs: 50 });
    await ports.clock.pass(1000);
    expect(await held).toMatchObject({ ack: 'memory' });
    await closed;
  });

  // It waited for room in an engine that was closed, for ever, and kept the process alive.
  test('a bulk delete ends with the engine', async () => {
    const fakes = await withoutLog();
    const { engine, archive, ports } = fakes;
    for (let at = 0; at < 20; at++) await engine.submit(new SyncItem(`old.${at}`, 'x'));
    await ports.clock.pass(1000);
    archive.hold('apply');
    await fill(fakes);
    const deletion = rejection(engine.deletePrefix('old.'));
    await ports.clock.pass(300);
    const closed = engine.shutdown({ deadlineMs: 50 });
    await ports.clock.pass(2000);
    await closed;
    expect(await deletion).toMatchObject({ code: 'ENGINE_STATE', outcome: 'not-applied' });
  });

  test('many at once are answered one by one, in input order', async () => {
    const fakes = await withoutLog();
    const { engine, archive, ports } = fakes;
    const release = archive.hold('apply');
    await fill(fakes);
    const many = engine.submitMany(Array.from({ length: 5 }, (_, at) => item(2000 + at)));
    release();
    await ports.clock.pass(1000);
    const result = await many;
    expect(result).toMatchObject({ total: 5, succeeded: 5, failed: 0 });
    expect(result.results.map((one) => (one as { id: string }).id)).toEqual(
      Array.from({ length: 5 }, (_, at) => `id${2000 + at}`),
    );
  });

  test('a bulk delete waits for room and deletes everything', async () => {
    const fakes = await withoutLog();
    const { engine, archive, ports } = fakes;
    for (let round = 0; round < 5; round++) {
      const items = Array.from({ length: 40 }, (_, at) => new SyncItem(`old.${round * 40 + at}`, 'x'));
      await engine.submitMany(items);
      await ports.clock.pass(300);
    }
    const release = archive.hold('apply');
    await fill(fakes);
    const deletion = engine.deletePrefix('old.');
    await ports.clock.pass(500);
    release();
    await ports.clock.pass(5000);
    expect(await deletion).toBe(200);
    await ports.clock.pass(1000);
    expect(await engine.countPrefix('old.')).toBe(0);
  });
});

describe('from Critical on', () => {
  /** Fills by writes of which the last jumps over the throttle. */
  async function critical(): Promise<Fakes> {
    const fakes = await withoutLog({ maxPayloadBytes: 64 * KIB });
    fakes.archive.down = true;
    for (let at = 0; at < 48; at++) await fakes.engine.submit(item(at));
    await fakes.engine.submit(item(500, 42 * KIB));
    expect(fakes.engine.backpressure().rank).toBeGreaterThanOrEqual(3);
    return fakes;
  }

  test('writes are refused at once, with level, limit, status and when to come again', async () => {
    const { engine } = await critical();
    const error = await rejection(engine.submit(item(1)));
    const level: BackpressureLevel = engine.backpressure();
    expect(error).toMatchObject({ code: 'BACKPRESSURE', outcome: 'not-applied', retryable: true });
    expect(error.context).toMatchObject({ level: level.name, limit: 'l1MaxBytes', tier: 'memory' });
    expect(error.context.httpStatus).toBe(level.httpStatus);
    expect(error.context.retryAfterMs).toBeGreaterThan(0);
    expect(error.message).toMatch(/not reachable|more slowly/);
    expect((await engine.healthCheck()).acceptingWrites).toBe(false);
    const result = await engine.submitMany([item(2), item(3)]);
    expect(result.failed).toBe(2);
    expect(result.results[0]).toBeInstanceOf(SyncEngineError);
  });

  test('what was taken is there, and everything is taken again when SQL is back', async () => {
    const { engine, archive, ports } = await critical();
    for (let at = 0; at < 48; at++) expect(engine.peek(`id${at}`)).toBeDefined();
    archive.down = false;
    await ports.clock.pass(5000);
    await engine.submit(item(1));
    await ports.clock.pass(1000);
    expect(archive.rows.size).toBe(49);
    expect(engine.backpressure().name).toBe('Normal');
  });

  test('a write that is larger than what is left is refused by itself, others are taken', async () => {
    const { engine, archive } = await withoutLog({ maxPayloadBytes: 64 * KIB });
    archive.down = true;
    for (let at = 0; at < 45; at++) await engine.submit(item(at));
    expect(await rejection(engine.submit(item(500, 63 * KIB)))).toMatchObject({
      code: 'BACKPRESSURE',
      context: { limit: 'l1MaxBytes', level: 'Shutdown' },
    });
    await engine.submit(item(501, 100));
  });
});

test('at Emergency clean entries go, and nothing is kept of what is read', async () => {
  const fakes = await withoutLog({ maxPayloadBytes: 120 * KIB, l1MaxBytes: 256 * KIB });
  const { engine, archive, ports } = fakes;
  for (let at = 0; at < 20; at++) await engine.submit(item(at));
  await ports.clock.pass(1000);
  expect(engine.l1Stats()).toMatchObject({ items: 20, dirtyItems: 0 });
  archive.hold('apply');
  await engine.submit(item(100, 118 * KIB));
  await engine.submit(item(101, 70 * KIB));
  await engine.submit(item(102, 58 * KIB));
  expect(engine.backpressure().rank).toBeGreaterThanOrEqual(4);
  expect(engine.l1Stats()).toMatchObject({ items: 3, dirtyItems: 3 });
  expect((await engine.get('id7'))?.sizeBytes).toBe(1000);
  expect(engine.peek('id7')).toBeUndefined();
});

test('clean entries are no pressure: they go', async () => {
  const { engine, ports } = await startedFakes({ l1MaxBytes: 64 * KIB });
  for (let round = 0; round < 30; round++) {
    const result = await engine.submitMany(Array.from({ length: 20 }, (_, at) => item(round * 20 + at)));
    expect(result.failed).toBe(0);
    await ports.clock.pass(300);
  }
  expect(engine.memoryPressure()).toBe(0);
  expect(engine.l1Stats().bytes).toBeLessThanOrEqual(64 * KIB);
});

describe('the log', () => {
  test('full by count', async () => {
    const { engine, archive } = await startedFakes({ walMaxItems: 10, submitTimeoutMs: 500 });
    archive.down = true;
    for (let at = 0; at < 8; at++) await engine.submit(item(at));
    void engine.submit(item(8));
    expect(await rejection(engine.submit(item(9)))).toMatchObject({
      code: 'BACKPRESSURE',
      context: { tier: 'wal', limit: 'walMaxItems', level: 'Critical' },
    });
  });

  test('full by bytes; writes are taken again when SQL has drained it', async () => {
    const { engine, archive, ports } = await startedFakes({ walMaxBytes: 10_000, submitTimeoutMs: 500 });
    archive.down = true;
    for (let at = 0; at < 8; at++) await engine.submit(item(at));
    void engine.submit(item(8));
    expect(await rejection(engine.submit(item(9)))).toMatchObject({
      context: { limit: 'walMaxBytes', tier: 'wal' },
    });
    archive.down = false;
    await ports.clock.pass(5000);
    expect((await engine.submit(item(9))).ack).toBe('wal');
    expect((await engine.healthCheck()).acceptingWrites).toBe(true);
  });
});

test('while SQL is away, memory and then the log index fill; what was taken is never refused a read', async () => {
  const fakes = await startedFakes({ l1MaxBytes: 512 * KIB, submitTimeoutMs: 200 });
  const { engine, archive, ports } = fakes;
  archive.down = true;
  await rejection(engine.get('probe'));
  let taken = 0;
  let error: SyncEngineError | undefined;
  for (; error === undefined && taken < 20_000; taken++) {
    const write = engine.submit(item(taken));
    const refused = write.then(
      () => undefined,
      (thrown: SyncEngineError) => thrown,
    );
    if (engine.backpressure().rank >= 2) await ports.clock.pass(250);
    error = await refused;
  }
  expect(error).toMatchObject({ code: 'BACKPRESSURE' });
  // Far more than memory holds: the log holds the contents.
  expect(taken).toBeGreaterThan(1500);
  expect(engine.l1Stats().bytes).toBeLessThanOrEqual(512 * KIB);
  const read = await engine.getMany(Array.from({ length: taken - 1 }, (_, at) => `id${at}`));
  expect(read.every((one) => one?.sizeBytes === 1000)).toBe(true);
  archive.down = false;
  await ports.clock.pass(20_000);
  expect(archive.rows.size).toBe(taken - 1);
});
