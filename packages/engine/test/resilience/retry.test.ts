import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { SyncEngineError } from '#engine/base/errors.js';
import { RETRY_PRESETS, retry, retryDelayMs } from '#engine/resilience/retry.js';
import { manualPorts, settle } from '../support/manual-ports.js';

function failing(times: number, error: unknown = new Error('away')) {
  let attempts = 0;
  return {
    get attempts() {
      return attempts;
    },
    run: async (attempt: number) => {
      expect(attempt).toBe(attempts++);
      if (attempts <= times) throw error;
      return 'done';
    },
  };
}

test('tries again after growing waits until it succeeds', async () => {
  const { clock, random } = manualPorts();
  const operation = failing(3);
  const done = retry('query', { ...RETRY_PRESETS.query, jitter: 0 }, operation.run, {
    scheduler: clock,
    random,
  });
  await settle();
  expect(operation.attempts).toBe(1);
  for (const [waitMs, attempts] of [
    [100, 2],
    [200, 3],
    [400, 4],
  ] as const) {
    await clock.pass(waitMs - 1);
    expect(operation.attempts).toBe(attempts - 1);
    await clock.pass(1);
    expect(operation.attempts).toBe(attempts);
  }
  expect(await done).toBe('done');
});

test('gives up after maxRetries with the last error', async () => {
  const { clock, random } = manualPorts();
  const operation = failing(99);
  const done = expect(
    retry('query', RETRY_PRESETS.query, operation.run, { scheduler: clock, random }),
  ).rejects.toThrow('away');
  await clock.pass(60_000);
  await done;
  expect(operation.attempts).toBe(4);
});

test('what cannot succeed is not tried again', async () => {
  const operation = failing(1, new SyncEngineError('CONFIG', 'no'));
  await expect(retry('x', RETRY_PRESETS.daemon, operation.run)).rejects.toMatchObject({ code: 'CONFIG' });
  expect(operation.attempts).toBe(1);
});

test('a signal ends the waiting at once', async () => {
  const { clock, random } = manualPorts();
  const controller = new AbortController();
  const options = { scheduler: clock, random, signal: controller.signal };
  const done = retry('x', RETRY_PRESETS.daemon, failing(99).run, options);
  await settle();
  controller.abort();
  await expect(done).rejects.toMatchObject({ code: 'ABORTED' });
  expect(clock.plannedCount).toBe(0);
});

test('waits are capped, and jitter only shortens them', () => {
  const { daemon, batchWrite } = RETRY_PRESETS;
  expect(retryDelayMs(daemon, 30, 0)).toBe(300_000);
  expect(retryDelayMs(batchWrite, 0, 0)).toBe(150);
  expect(retryDelayMs(batchWrite, 0, 1)).toBeCloseTo(50);
});

test('without maxRetries it tries for ever', async () => {
  const { clock, random } = manualPorts();
  const operation = failing(200);
  const config = { initialDelayMs: 10, maxDelayMs: 10, factor: 2, jitter: 0 };
  const done = retry('x', config, operation.run, { scheduler: clock, random });
  await clock.pass(2000);
  expect(await done).toBe('done');
  expect(operation.attempts).toBe(201);
});

test('a caller who gave up before is not served at all, and is told what was given up', async () => {
  const operation = failing(0);
  const options = { signal: AbortSignal.abort() };
  const refused = await retry('the flush', RETRY_PRESETS.query, operation.run, options).catch(
    (error) => error,
  );
  expect(refused).toMatchObject({ code: 'ABORTED', context: { operation: 'the flush' } });
  expect(refused.message).toContain('the flush');
  expect(operation.attempts).toBe(0);
});

test('a signal that outlives many waits does not collect listeners', async () => {
  const { clock, random } = manualPorts();
  const { signal } = new AbortController();
  const config = { ...RETRY_PRESETS.query, maxRetries: 20 };
  const done = retry('x', config, failing(20).run, { scheduler: clock, random, signal });
  await settle();
  expect(getEventListeners(signal, 'abort')).toHaveLength(1);
  await clock.pass(60_000);
  await done;
  expect(getEventListeners(signal, 'abort')).toHaveLength(0);
});
