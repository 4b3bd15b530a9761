/** The long proofs at a small scale, so that they stay runnable, and that they notice what they are there for. */
import { expect, test, vi } from 'vitest';
import { runFlips } from '../../../../proof/flips.mjs';
import { runFuzz } from '../../../../proof/fuzz.mjs';

const SEED = Number(process.env['FUZZ_SEED'] ?? Date.now() % 1_000_000);
const print = (): void => {};

test(`every parser takes what was written and refuses the rest (FUZZ_SEED=${SEED})`, async () => {
  const said = vi.fn<(line: string) => void>();
  const { rows, ok } = await runFuzz({ seed: SEED, inputs: 20_000, print: said });
  expect(said.mock.calls.flat().filter((line) => !line.startsWith('ok'))).toEqual([]);
  expect(ok).toBe(true);
  expect(rows.length).toBeGreaterThanOrEqual(10);
});

test.each(['log', 'snapshot', 'sql'])(
  `no flipped bit of the %s stays silent (FUZZ_SEED=${SEED})`,
  async (only) => {
    const { rows, ok } = await runFlips({ seed: SEED, flips: 12, only, print });
    expect(rows.flatMap(({ silent }) => silent)).toEqual([]);
    expect(rows.map(({ flips }) => flips)).toEqual([12]);
    expect(ok).toBe(true);
  },
  60_000,
);
