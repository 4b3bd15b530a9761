/** The real clock, timers and randomness: what of them can be promised without measuring time. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { systemPorts } from '#engine/ports/system/system-ports.js';

const { clock, scheduler, random, logger } = systemPorts;
const PORTS = new URL('../../dist/ports/system/system-ports.js', import.meta.url);

/** Output of `code` run in a process of its own; fails where that does not end by itself. */
async function run(code: string): Promise<string> {
  const program = `
    import { systemPorts } from ${JSON.stringify(PORTS.href)};
    const { scheduler } = systemPorts;
    const say = (text) => () => console.log(text);
    ${code}`;
  const args = ['--input-type=module', '--eval', program];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 20_000 });
  return stdout;
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe('the clock', () => {
  test('shows the wall clock of the machine', () => {
    vi.spyOn(Date, 'now').mockReturnValue(1234);
    expect(clock.now()).toBe(1234);
  });

  test('has a monotonic side that does not follow the wall clock back', () => {
    const before = clock.monotonic();
    vi.spyOn(Date, 'now').mockReturnValue(0);
    expect(clock.monotonic()).toBeGreaterThanOrEqual(before);
  });
});

describe('after', () => {
  test('calls once', async () => {
    let calls = 0;
    await new Promise<void>((resolve) => {
      scheduler.after(0, () => {
        calls++;
        scheduler.after(1, resolve);
      });
    });
    expect(calls).toBe(1);
  });

  test('calls nothing that was cancelled, and a second cancel does no harm', async () => {
    const calls: string[] = [];
    const cancelled = scheduler.after(0, () => calls.push('cancelled'));
    await new Promise<void>((resolve) => {
      scheduler.after(0, resolve);
      cancelled.cancel();
    });
    expect(calls).toEqual([]);
    cancelled.cancel();
  });

  test('a delay beyond 32 bits is the longest there is, and a negative one is none', () => {
    const planned = vi.spyOn(globalThis, 'setTimeout');
    for (const delayMs of [2 ** 31, 2 ** 40, 2 ** 31 - 1, -5, 7]) scheduler.after(delayMs, () => {}).cancel();
    const longest = 2 ** 31 - 1;
    expect(planned.mock.calls.map(([, delayMs]) => delayMs)).toEqual([longest, longest, longest, 0, 7]);
  });

  test('keeps the process alive until it has called', async () => {
    expect(await run("scheduler.after(5, say('called'));")).toBe('called\n');
    expect(await run("scheduler.after(5, say('called'), true);")).toBe('called\n');
  });

  test('lets the process end where it is told to', async () => {
    expect(await run("scheduler.after(3_600_000, say('called'), false); say('ended')();")).toBe('ended\n');
  });

  test('lets the process end after a cancel', async () => {
    expect(await run("scheduler.after(3_600_000, say('called')).cancel();")).toBe('');
  });
});

describe('soon', () => {
  test('calls after the promises of the present turn, in the order of the calls', async () => {
    const calls: string[] = [];
    const done = new Promise<void>((resolve) => {
      scheduler.soon(() => calls.push('first'));
      scheduler.soon(() => {
        calls.push('second');
        resolve();
      });
    });
    Promise.resolve().then(() => calls.push('promise'));
    calls.push('now');
    await done;
    expect(calls).toEqual(['now', 'promise', 'first', 'second']);
  });

  test('keeps the process alive until it has called', async () => {
    expect(await run("scheduler.soon(say('called'));")).toBe('called\n');
  });
});

describe('randomness', () => {
  test('has as many bytes as asked for, and never the same ones again', () => {
    for (const count of [0, 1, 16, 100]) expect(random.bytes(count)).toHaveLength(count);
    const seen = new Set(Array.from({ length: 100 }, () => Buffer.from(random.bytes(16)).toString('hex')));
    expect(seen.size).toBe(100);
  });

  test('has numbers from 0 up to 1', () => {
    const numbers = Array.from({ length: 100 }, () => random.number());
    expect(numbers.every((number) => number >= 0 && number < 1)).toBe(true);
    expect(new Set(numbers).size).toBeGreaterThan(90);
  });
});

test('the logger is silent', () => {
  const writes = [vi.spyOn(process.stdout, 'write'), vi.spyOn(process.stderr, 'write')];
  for (const level of ['debug', 'info', 'warn', 'error'] as const) logger[level]({ a: 1 }, 'text');
  for (const write of writes) expect(write).not.toHaveBeenCalled();
});
