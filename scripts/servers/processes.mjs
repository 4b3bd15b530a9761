// @ts-check
/** A server's processes: PostgreSQL has one for each connection, in groups of their own. */
import { spawnSync } from 'node:child_process';

/**
 * The process and those that it started, it first.
 * @param {number} pid
 * @returns {number[]}
 */
export function processesOf(pid) {
  const { stdout } = spawnSync('ps', ['-e', '-o', 'pid=,ppid='], { encoding: 'utf8' });
  const children = stdout
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .filter(([, parent]) => parent === pid)
    .map(([child]) => /** @type {number} */ (child));
  return [pid, ...children];
}

/**
 * @param {readonly number[]} pids
 * @param {NodeJS.Signals} signal
 */
export function signalAll(pids, signal) {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended by itself.
    }
  }
}

/** @param {readonly number[]} pids */
export function anyOf(pids) {
  return pids.some((pid) => {
    try {
      process.kill(pid, 0);
      return true;
    } catch {
      return false;
    }
  });
}
