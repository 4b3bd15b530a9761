/** Memory as the process sees it, each time in a process of its own. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { temporaryDirectory } from '../support/engines.js';

function run<T>(name: string, args: readonly (string | number)[], flags: readonly string[]): Promise<T> {
  return new Promise((resolve, reject) => {
    const path = fileURLToPath(new URL(`./children/${name}.mjs`, import.meta.url));
    const options = { execArgv: [...flags], silent: true };
    const child = fork(path, args.map(String), options);
    let answer: T | undefined;
    let errors = '';
    child.stderr?.on('data', (part: Buffer) => {
      errors += part.toString();
    });
    child.on('message', (message) => {
      answer = message as T;
    });
    child.on('exit', (code, signal) => {
      if (answer === undefined || code !== 0) reject(new Error(`ended with ${code ?? signal}: ${errors}`));
      else resolve(answer);
    });
  });
}

test('an item of 100 bytes takes at most 250 more, and what is accounted is what is taken', async () => {
  interface Footprint {
    readonly overheadBytes: number;
    readonly accountedShare: number;
  }
  const { overheadBytes, accountedShare } = await run<Footprint>('footprint', [300_000], ['--expose-gc']);
  expect(overheadBytes).toBeLessThanOrEqual(250);
  expect(accountedShare).toBeGreaterThan(0.85);
  expect(accountedShare).toBeLessThan(1.15);
}, 60_000);

test('a flood in a heap of 96 MB is refused in order, and loses nothing that was taken', async () => {
  interface Flood {
    readonly taken: number;
    readonly refused: number;
    readonly stored: number;
    readonly refusals: readonly string[];
    readonly level: string;
  }
  const flags = ['--max-old-space-size=96'];
  const flood = await run<Flood>('flood', [250_000, temporaryDirectory()], flags);
  expect(flood.taken + flood.refused).toBe(250_000);
  expect(flood.stored).toBe(flood.taken);
  expect(flood.refused).toBeGreaterThan(0);
  expect(flood.refusals).toEqual(['BACKPRESSURE not-applied true']);
  expect(flood.level).toBe('Normal');
}, 120_000);

test('distinct writes during an outage stay within the budget, and can all be read', async () => {
  interface Outage {
    readonly grown: number;
    readonly accounted: number;
    readonly most: number;
    readonly refused: number;
    readonly spilledItems: number;
    readonly dirtyItems: number;
    readonly read: number;
  }
  // A tenth of a million writes in a tenth of the default budget.
  const budget = Math.floor((256 * 2 ** 20) / 10);
  const outage = await run<Outage>('outage', [100_000, budget, temporaryDirectory()], ['--expose-gc']);
  expect(outage).toMatchObject({ refused: 0, dirtyItems: 100_000, read: 3 });
  expect(outage.most).toBeLessThanOrEqual(budget);
  // What was spilled is gone, not only no longer counted.
  const atWork = 3 * 2 ** 20; // Compiled code and the like, whatever the number of writes.
  expect(outage.grown).toBeLessThan(outage.accounted * 1.15 + atWork);
  expect(outage.spilledItems).toBeGreaterThan(50_000);
}, 120_000);
