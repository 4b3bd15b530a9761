/** The judge is judged: for each promise a history that breaks it, and one that only looks like it. */
import { describe, expect, test } from 'vitest';
import { type Call, check, type ReadCall, type WriteCall } from './checker.js';

const OPTIONS = { submitMs: 1000, readMs: 300, damaged: new Set(['torn']) };

function write(at: number, change: Partial<WriteCall> = {}): WriteCall {
  return {
    kind: 'write',
    id: 'a',
    text: `t${at}`,
    life: 0,
    invokedAt: at,
    invokedMs: at,
    respondedAt: at + 1,
    respondedMs: at + 1,
    outcome: 'acknowledged',
    level: 'wal',
    version: at + 100,
    stampedInCall: true,
    ...change,
  };
}

function read(at: number, of: WriteCall | undefined, change: Partial<ReadCall> = {}): ReadCall {
  const seen =
    of === undefined
      ? { outcome: 'absent' as const }
      : { outcome: 'value' as const, text: of.text as string, version: of.version as number };
  return {
    kind: 'read',
    id: 'a',
    life: 0,
    invokedAt: at,
    invokedMs: at,
    respondedAt: at + 1,
    respondedMs: at + 1,
    ...seen,
    ...change,
  };
}

const first = write(0);
const second = write(10);
const removal = write(10, { text: undefined });
const unread = write(10, { outcome: 'unknown', version: undefined as never });

describe('what is broken is found', () => {
  const broken: [string, Call[], string][] = [
    ['a lost acknowledged write', [first, second, read(20, first, { life: 1 })], 'lost write'],
    ['an acknowledged write called missing', [first, read(20, undefined, { life: 1 })], 'called missing'],
    ['a phantom value', [first, read(20, write(5, { text: 'nobody' }))], 'phantom'],
    ['a value of a refused write', [write(0, { outcome: 'refused' }), read(20, write(0))], 'phantom'],
    ['a value from the future', [read(0, second), second], 'phantom'],
    ['a resurrection', [first, removal, read(20, first, { life: 1 })], 'resurrection'],
    [
      'a read that misses the write called before it',
      [first, write(10, { outcome: 'unknown' }), read(20, first)],
      'lost write',
    ],
    [
      'a read that goes back',
      [first, unread, read(20, write(10, { version: 150 })), read(30, first)],
      'older than',
    ],
    [
      'a read that forgets',
      [unread, read(20, write(10, { version: 150 })), read(30, undefined)],
      'called missing',
    ],
    ['versions that go back', [first, write(10, { version: 50 })], 'not newer'],
    ['a missed deadline', [write(0, { respondedMs: 2000 })], 'answered only after'],
    [
      'an error that is none of the promised',
      [read(20, undefined, { outcome: 'error', code: 'CONFIG' })],
      'CONFIG',
    ],
    ['memory lost without a crash', [write(0, { level: 'memory' }), read(20, undefined)], 'called missing'],
  ];
  test.each(broken)('%s', (_name, history, text) => {
    expect(check(structuredClone(history), OPTIONS).join()).toContain(text);
  });
});

describe('what is right is left alone', () => {
  const right: [string, Call[]][] = [
    ['the newest value', [first, second, read(20, second, { life: 1 })]],
    [
      'an indeterminate write that appears later',
      [first, unread, read(20, write(10, { version: 150 }), { life: 1 })],
    ],
    ['an indeterminate write that never appears', [first, unread, read(20, first, { life: 1 })]],
    [
      'a read beside a write',
      [first, { ...second, respondedAt: 30 }, { ...read(5, second), respondedAt: 25 }],
    ],
    ['an indeterminate delete', [first, { ...unread, text: undefined }, read(20, undefined, { life: 1 })]],
    ['memory lost by a crash', [write(0, { level: 'memory' }), read(20, undefined, { life: 1 })]],
    [
      'a refusal during an outage',
      [first, read(20, undefined, { outcome: 'error', code: 'TIER_UNAVAILABLE' })],
    ],
    [
      'a refusal of a damaged id',
      [read(20, undefined, { id: 'torn', outcome: 'error', code: 'CORRUPTION' })],
    ],
  ];
  test.each(right)('%s', (_name, history) => {
    expect(check(structuredClone(history), OPTIONS)).toEqual([]);
  });
});
