import { expect, onTestFinished, test } from 'vitest';
import { SyncEngine, SyncEngineError, SyncItem } from '#engine/index.js';
import { fakeEngine, rejection, startedFakes } from '../support/engines.js';

function problems(run: () => void): readonly string[] {
  try {
    run();
  } catch (error) {
    expect(error).toMatchObject({ code: 'CONFIG' });
    return (error as SyncEngineError).context.problems ?? [];
  }
  throw new Error('It was accepted.');
}

test('what can change live does: batches, bounds, memory', async () => {
  const { engine, archive, ports } = await startedFakes({ batchFlushMs: 10_000 });
  await engine.submit(new SyncItem('a', 'x'));
  await ports.clock.pass(1000);
  expect(archive.rows.size).toBe(0);
  engine.updateConfig({ batchFlushMs: 50, batchFlushCount: 2, maxPayloadBytes: 10 });
  await engine.submit(new SyncItem('b', 'x'));
  await ports.clock.pass(0);
  expect(archive.rows.size).toBe(2);
  expect(await rejection(engine.submit(new SyncItem('c', 'x'.repeat(11))))).toMatchObject({
    code: 'PAYLOAD_TOO_LARGE',
  });
  await engine.submit(new SyncItem('d', 'x'));
  await ports.clock.pass(50);
  expect(archive.rows.size).toBe(3);
});

test('a smaller budget evicts, a larger one holds more', async () => {
  const { engine, ports } = await startedFakes({ l1MaxBytes: 1024 * 1024 });
  for (let at = 0; at < 100; at++) await engine.submit(new SyncItem(`id${at}`, Buffer.alloc(2000)));
  await ports.clock.pass(1000);
  expect(engine.size).toBe(100);
  engine.updateConfig({ l1MaxBytes: 128 * 1024 });
  expect(engine.l1Stats()).toMatchObject({ bytesMax: 128 * 1024 });
  expect(engine.l1Stats().bytes).toBeLessThanOrEqual(128 * 1024);
  expect(engine.size).toBeGreaterThan(10);
});

test('a lower bound holds for what comes, also behind what waits longer', async () => {
  const { engine, archive, ports } = await startedFakes({ submitTimeoutMs: 5000 });
  archive.hold('apply');
  const slow = rejection(engine.submit(new SyncItem('a', 'x'), { ack: 'stored' }));
  engine.updateConfig({ submitTimeoutMs: 100 });
  const fast = rejection(engine.submit(new SyncItem('b', 'x'), { ack: 'stored' }));
  let settled = '';
  void slow.then(() => (settled += 'slow'));
  void fast.then(() => (settled += 'fast'));
  await ports.clock.pass(101);
  expect(settled).toBe('fast');
  await ports.clock.pass(5000);
  expect(settled).toBe('fastslow');
});

test('a change is taken whole or not at all, and every problem is listed', async () => {
  const { engine } = await startedFakes({ batchFlushMs: 77 });
  const found = problems(() => engine.updateConfig({ batchFlushMs: 5, walMaxItems: -1, nope: 1 } as never));
  expect(found).toHaveLength(2);
  expect(problems(() => engine.updateConfig({ backpressureWarn: 0.95 }))).toHaveLength(1);
  expect(problems(() => engine.updateConfig(5 as never))).toHaveLength(1);
  engine.updateConfig({ batchFlushMs: 77 });
});

test('what was decided at start needs a restart; the same value is no change', async () => {
  const { engine } = await startedFakes({ nodeId: 'test' });
  expect(problems(() => engine.updateConfig({ nodeId: 'other', walMode: 'outage' }))).toEqual([
    'walMode cannot change while the engine runs: restart it with the new one',
    'nodeId cannot change while the engine runs: restart it with the new one',
  ]);
  engine.updateConfig({ nodeId: 'test', submitTimeoutMs: 1 });
});

test('before the start and while it runs, and not once it is closed; the log names the keys, not the values', async () => {
  const { engine, ports } = fakeEngine();
  engine.updateConfig({ submitTimeoutMs: 4321 });
  await engine.start();
  engine.updateConfig({ submitTimeoutMs: 4322 });
  const lines = ports.logger.lines.filter((line) => line.message.includes('configuration was changed'));
  expect(lines.map((line) => line.fields)).toEqual([
    { keys: ['submitTimeoutMs'] },
    { keys: ['submitTimeoutMs'] },
  ]);
  await engine.shutdown();
  expect(() => engine.updateConfig({})).toThrow(SyncEngineError);
});

test('a smaller budget is reached in portions, and is refused where memory could keep nothing within it', async () => {
  const engine = new SyncEngine({ l1MaxBytes: 64 * 1024 * 1024 });
  onTestFinished(async () => void (await engine.shutdown()));
  await engine.start();
  for (let at = 0; at < 150_000; at++) await engine.submit(new SyncItem(`k.${at}`, 'v'));
  expect(problemOf(() => engine.updateConfig({ l1MaxBytes: 128 * 1024 }))).toContain(
    'cannot be lowered to 131072',
  );
  const { items } = engine.l1Stats();
  const smaller = 40 * 1024 * 1024;
  engine.updateConfig({ l1MaxBytes: smaller });
  expect(engine.l1Stats().items).toBeGreaterThan(items - 6000);
  await expect.poll(() => engine.l1Stats().bytes).toBeLessThanOrEqual(smaller);
  expect(engine.l1Stats().bytesMax).toBe(smaller);
  for (let at = 0; at < 1000; at++) await engine.submit(new SyncItem(`fresh.${at}`, 'v'));
  expect(engine.peek('fresh.999')?.text()).toBe('v');
});

test('a shorter batchFlushMs holds for what comes behind what waits', async () => {
  const { engine, archive, ports } = await startedFakes({ batchFlushMs: 3_600_000 });
  await engine.submit(new SyncItem('a', '1'), { ack: 'memory' });
  engine.updateConfig({ batchFlushMs: 100 });
  await engine.submit(new SyncItem('b', '1'), { ack: 'memory' });
  await ports.clock.pass(200);
  expect([...archive.rows.keys()].sort()).toEqual(['a', 'b']);
});

function problemOf(work: () => void): string {
  try {
    work();
  } catch (error) {
    return (error as Error).message;
  }
  return '';
}
