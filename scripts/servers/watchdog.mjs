// @ts-check
/**
 * Keeps one server from outliving whoever started it: runs it, and ends it and removes its directory when standard input
 * ends, however the other side died.
 *
 *   node watchdog.mjs '{ "directory": …, "uid": …, "gid": … }'
 *   stdin, a line each:  { "start": [program, …args], "log": path, "env": {} }   stdout: { "pid": … }, { "exit": … }
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { processesOf, signalAll } from './processes.mjs';

/** @typedef {{ start: [string, ...string[]], log: string, env?: Record<string, string> }} Order */

const { directory, uid, gid } = JSON.parse(process.argv[2] ?? '{}');
/** @type {import('node:child_process').ChildProcess | undefined} */
let server;
let ending = false;

/** @param {object} message */
const tell = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

/** @param {Order} order */
function start({ start: [program, ...args], log, env }) {
  const file = openSync(log, 'a');
  server = spawn(program, args, {
    stdio: ['ignore', file, file],
    cwd: directory,
    env: { ...process.env, ...env },
    ...(uid === undefined ? {} : { uid, gid }),
  });
  closeSync(file);
  server.on('error', (error) => tell({ exit: error.message }));
  server.on('exit', (code, signal) => {
    server = undefined;
    if (ending) end();
    else tell({ exit: signal ?? code });
  });
  tell({ pid: server.pid });
}

function end() {
  ending = true;
  if (server !== undefined) {
    signalAll(processesOf(/** @type {number} */ (server.pid)), 'SIGKILL');
    return;
  }
  rmSync(directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  process.exit(0);
}

// Ctrl-C reaches the whole group; what is to be done then is done when the pipe ends.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});
process.stdout.on('error', () => {});
createInterface({ input: process.stdin })
  .on('line', (line) => start(JSON.parse(line)))
  .on('close', end);
