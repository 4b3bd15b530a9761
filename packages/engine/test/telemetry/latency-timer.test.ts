import { describe, expect, test } from 'vitest';
import { type LatencyStats, LatencyTimer, latencyStats, timeOperation } from '#engine/index.js';
import { Latencies } from '#engine/telemetry/latency-timer.js';
import { ManualTime } from '../support/manual-ports.js';

/** Names are of the process, so each test has its own. */
function statsOf(operation: string): LatencyStats[] {
  return latencyStats().filter((row) => row.operation === operation);
}

describe('timeOperation', () => {
  test('passes the value on and counts a success', () => {
    expect(timeOperation('app', 'sync', () => 42)).toBe(42);
    expect(statsOf('sync')).toMatchObject([{ tier: 'app', status: 'ok', count: 1 }]);
  });

  test('passes an exception on and counts an error', () => {
    const failure = new Error('no');
    const failing = (): never => {
      throw failure;
    };
    expect(() => timeOperation('app', 'throws', failing)).toThrow(failure);
    expect(statsOf('throws')).toMatchObject([{ status: 'error', count: 1 }]);
  });

  test('counts a promise when it settles, not before', async () => {
    let resolve!: (value: string) => void;
    const timed = timeOperation('app', 'resolves', () => new Promise<string>((done) => (resolve = done)));
    await Promise.resolve();
    expect(statsOf('resolves')).toEqual([]);
    resolve('done');
    expect(await timed).toBe('done');
    expect(statsOf('resolves')).toMatchObject([{ status: 'ok', count: 1 }]);
  });

  test('a rejection reaches the caller and counts as an error', async () => {
    const failure = new Error('no');
    await expect(timeOperation('app', 'rejects', () => Promise.reject(failure))).rejects.toBe(failure);
    expect(statsOf('rejects')).toMatchObject([{ status: 'error', count: 1 }]);
  });

  test('what runs on being awaited runs once', async () => {
    let runs = 0;
    // biome-ignore lint/suspicious/noThenProperty: builders of queries are like this.
    const lazy = { then: (done: (value: number) => void) => done(++runs) };
    expect(await timeOperation('app', 'lazy', () => lazy)).toBe(1);
    expect(runs).toBe(1);
  });
});

describe('a timer', () => {
  test('measures from its construction to the first stop', () => {
    const clock = new ManualTime();
    let now = 1000;
    clock.monotonic = () => now;
    const timer = new LatencyTimer('app', 'timer', { clock });
    now += 250;
    expect(timer.stop()).toBe(250);
    now += 250;
    expect(timer.stop('error')).toBe(250);
    expect(statsOf('timer')).toMatchObject([{ status: 'ok', count: 1, min: 250, max: 250, sum: 250 }]);
  });
});

describe('a table of latencies', () => {
  test('keeps a bounded number of rows, and counts what comes later together', () => {
    const latencies = new Latencies();
    for (let at = 0; at < 5000; at++) latencies.record('app', `user-${at}`, 'ok', 1);
    expect(latencies.stats.length).toBeLessThan(1100);
    const counted = latencies.stats.reduce((sum, row) => sum + row.count, 0);
    expect(counted).toBe(5000);
    expect(latencies.stats.find((row) => row.tier === 'other')?.count).toBeGreaterThan(3000);
  });

  test('tells its listeners until they stop', () => {
    const latencies = new Latencies();
    const heard: unknown[] = [];
    const stop = latencies.listen((...timed) => heard.push(timed));
    latencies.record('sql', 'read', 'error', 7);
    stop();
    latencies.record('sql', 'read', 'ok', 8);
    expect(heard).toEqual([['sql', 'read', 'error', 7]]);
  });
});
