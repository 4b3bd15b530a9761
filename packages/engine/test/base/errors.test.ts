/** What callers match on: code, outcome, retryable; and the same after a change of outcome. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import {
  CircuitError,
  type ErrorCode,
  messageOf,
  SyncEngineError,
  withOutcome,
} from '#engine/base/errors.js';
import { fromWire } from '#engine/base/worker-client.js';
import { toWire } from '#engine/base/worker-server.js';

/** Whether the same call can succeed later, for every code: a new code does not compile without an answer. */
const RETRYABLE: Record<ErrorCode, boolean> = {
  BACKPRESSURE: true,
  TIER_UNAVAILABLE: true,
  CIRCUIT_OPEN: true,
  DEADLINE: true,
  WAL_FAILED: true,
  WAL_FULL: true,
  CORRUPTION: false,
  PAYLOAD_TOO_LARGE: false,
  CONFIG: false,
  ENGINE_STATE: false,
  SCHEMA: false,
  CONFLICT: false,
  REJECTED: false,
  ABORTED: false,
};

test('only what can succeed without a change by anyone is retryable', () => {
  for (const [code, retryable] of Object.entries(RETRYABLE)) {
    expect(new SyncEngineError(code as ErrorCode, 'm').retryable, code).toBe(retryable);
  }
});

test('docs/errors.md has a heading for every code and no other, and says which are retryable', () => {
  const page = readFileSync(new URL('../../../../docs/errors.md', import.meta.url), 'utf8');
  const sections = page.split(/^## /m).slice(1);
  const documented = sections.map((section) => [section.split('\n', 1)[0], /retryable/i.test(section)]);
  expect(Object.fromEntries(documented)).toEqual(RETRYABLE);
  expect(sections).toHaveLength(Object.keys(RETRYABLE).length);
});

test('an error says nothing was applied unless told otherwise', () => {
  const error = new SyncEngineError('CONFIG', 'What. Where.');
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ name: 'SyncEngineError', outcome: 'not-applied', context: {} });
  expect('cause' in error).toBe(false);
});

test('an open breaker is told by its code, with the time to wait', () => {
  const cause = new Error('the last failure');
  const error = new CircuitError('sql', 750, cause);
  expect(error).toBeInstanceOf(SyncEngineError);
  expect(error).toMatchObject({ name: 'CircuitError', code: 'CIRCUIT_OPEN', retryable: true, cause });
  expect(error.context).toEqual({ operation: 'sql', retryAfterMs: 750 });
  expect(error.message).toContain('sql');
});

test('another outcome leaves code, message, context and cause as they were', () => {
  const cause = new Error('why');
  const first = new SyncEngineError('DEADLINE', 'Late.', { context: { tier: 'sql', deadlineMs: 5 }, cause });
  const second = withOutcome(first, 'indeterminate');
  expect(second).toMatchObject({ code: 'DEADLINE', message: 'Late.', outcome: 'indeterminate', cause });
  expect(second.context).toEqual({ tier: 'sql', deadlineMs: 5 });
  expect(first.outcome).toBe('not-applied');
});

test('an error crosses a thread boundary as plain data', () => {
  const thrown = new SyncEngineError('CORRUPTION', 'Damaged.', {
    outcome: 'applied',
    context: { id: 'a' },
    cause: 'text as a cause',
  });
  const back = fromWire(structuredClone(toWire(thrown)));
  expect(back).toMatchObject({ code: 'CORRUPTION', message: 'Damaged.', outcome: 'applied' });
  expect((back as SyncEngineError).context).toEqual({ id: 'a' });
  expect((back.cause as Error).message).toBe('text as a cause');
});

test('anything thrown has a text', () => {
  expect(messageOf(new Error('m'))).toBe('m');
  expect(messageOf('text')).toBe('text');
  expect(messageOf(undefined)).toBe('undefined');
});
