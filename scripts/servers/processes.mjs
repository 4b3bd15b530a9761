// @ts-check
/** A server's processes: PostgreSQL has one for each connection, in groups of their own. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

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

/**
 * Waits until each of their threads was stopped by a signal: those on other cores go on for a moment, and may answer.
 * Where the system does not tell, that moment is waited for.
 * @param {readonly number[]} pids
 */
export function awaitStop(pids) {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let look = 0; look < 200; look++) {
    if (pids.every(isStopped)) return;
    Atomics.wait(pause, 0, 0, 5);
  }
}

/** @param {number} pid */
function isStopped(pid) {
  try {
    return readdirSync(`/proc/${pid}/task`).every((thread) => {
      const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8');
      // Behind the name, which may hold anything.
      return /^ [TtZX]/.test(stat.slice(stat.lastIndexOf(')') + 1));
    });
  } catch {
    return false;
  }
}
