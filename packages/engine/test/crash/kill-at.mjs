/** Preloaded into the child, and so into its threads: kills the process at the n-th occurrence of a step. */
import { subscribe } from 'node:diagnostics_channel';

let left = Number(process.env.KILL_COUNT ?? 1);
subscribe('sync-engine:step', (step) => {
  if (step === process.env.KILL_STEP && --left === 0) process.kill(process.pid, 'SIGKILL');
});
