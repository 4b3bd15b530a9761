/**
 * Runs the five lines with cache-manager and the five with Sync Engine, each twice as a process would after a
 * restart, and counts how often the slow source was asked.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { calls } from './users.mjs';

const directory = mkdtempSync(join(tmpdir(), 'sync-engine-replace-'));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
process.chdir(directory);

for (const [name, file] of [
  ['cache-manager', './before.mjs'],
  ['sync-engine', './after.mjs'],
]) {
  for (const start of [1, 2]) {
    calls.count = 0;
    // A query makes it another module: its lines run again, with a cache of its own.
    await import(`${file}?start=${start}`);
    console.log(`${name}, start ${start}: ${calls.count} ${calls.count === 1 ? 'load' : 'loads'}`);
  }
}
