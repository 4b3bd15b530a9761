/** How the questions of this folder are measured. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';

/** A directory of this process that goes away with it. */
export function temporaryDirectory() {
  const directory = mkdtempSync(join(tmpdir(), 'sync-engine-bench-'));
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/**
 * Runs every contender in each round, in turn, so that a drift of the machine hits all alike. A contender
 * returns how many operations a second it did. Returns the median of each.
 */
export async function compete(contenders, rounds = 5) {
  const rates = new Map(Object.keys(contenders).map((name) => [name, []]));
  for (let round = -1; round < rounds; round++) {
    for (const [name, run] of Object.entries(contenders)) {
      const rate = await run(round + 1);
      // The first round only warms up.
      if (round >= 0) rates.get(name).push(rate);
    }
  }
  return Object.fromEntries([...rates].map(([name, values]) => [name, median(values)]));
}

/** Operations a second of `count` operations done by `run`. */
export async function rateOf(count, run) {
  const started = performance.now();
  await run();
  return (count / (performance.now() - started)) * 1000;
}

/** Event-loop delay while `run` runs: the 99th percentile beyond the timer's own resolution, milliseconds. */
export async function loopDelay(run) {
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  histogram.enable();
  const value = await run();
  histogram.disable();
  return { value, p99Ms: Math.max(0, histogram.percentile(99) / 1e6 - 1) };
}

/** Rows go to the parent, which prints them; `wanted` is what we build for. */
export function report(question, rows) {
  if (process.send) process.send({ question, rows });
  else console.table(rows);
}

/** Keeps results alive, so that nothing is optimised away. */
let kept = 0;
export function keep(value) {
  if (value !== undefined) kept++;
  if (kept < 0) console.log(kept);
}
