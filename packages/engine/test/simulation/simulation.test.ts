/**
 * The whole engine in a simulated world: 300 seeds of 200 operations, one in a hundred twice. To replay one:
 * SIM_FROM=<seed> SIM_SEEDS=1 npx vitest run packages/engine/test/simulation
 */
import { describe, expect, test } from 'vitest';
import { type RunResult, runSeed } from './run-seed.js';

const FROM = Number(process.env['SIM_FROM'] ?? 1);
const SEEDS = Number(process.env['SIM_SEEDS'] ?? 300);
const OPERATIONS = Number(process.env['SIM_OPS'] ?? 200);
const PART = 50;
const TWICE_EVERY = 100;

function explain(run: RunResult): string {
  return [
    `seed ${run.seed}: ${run.violations.length} promises did not hold. Replay:`,
    `SIM_FROM=${run.seed} SIM_SEEDS=1 SIM_OPS=${OPERATIONS} npx vitest run packages/engine/test/simulation`,
    ...run.violations.slice(0, 5),
  ].join('\n');
}

describe('every promise holds in every simulated run', () => {
  for (let from = FROM; from < FROM + SEEDS; from += PART) {
    const to = Math.min(from + PART, FROM + SEEDS);
    test(`seeds ${from} to ${to - 1}`, async () => {
      const broken: string[] = [];
      for (let seed = from; seed < to; seed++) {
        const run = await runSeed(seed, OPERATIONS);
        if (run.violations.length > 0) broken.push(explain(run));
        if (broken.length >= 3) break;
      }
      expect(broken.join('\n\n')).toBe('');
    }, 120_000);
  }
});

test('the same seed is the same run', async () => {
  for (let seed = FROM; seed < FROM + SEEDS; seed += TWICE_EVERY) {
    const first = await runSeed(seed, OPERATIONS);
    const second = await runSeed(seed, OPERATIONS);
    expect(second.digest).toBe(first.digest);
    expect(second.history).toEqual(first.history);
  }
}, 120_000);
