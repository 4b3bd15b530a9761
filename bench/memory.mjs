/** What memory takes: items at rest, writes during an outage of SQL, and a flood in a small heap; each in its own process. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { report, temporaryDirectory } from './measure.mjs';

const children = new URL('../packages/engine/test/memory/children/', import.meta.url);
const MIB = 2 ** 20;
const BUDGET = 256 * MIB;

function run(name, args, execArgv) {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(new URL(`${name}.mjs`, children)), args.map(String), { execArgv });
    let answer;
    child.on('message', (message) => {
      answer = message;
    });
    child.on('exit', (code) =>
      answer === undefined ? reject(new Error(`${name}: ${code}`)) : resolve(answer),
    );
  });
}

const footprint = await run('footprint', [1_000_000], ['--expose-gc']);
const outage = await run('outage', [1_000_000, BUDGET, temporaryDirectory()], ['--expose-gc']);
const flood = await run('flood', [1_000_000, temporaryDirectory()], ['--max-old-space-size=96']);
report('Memory', [
  {
    what: '1,000,000 items of 100 bytes: bytes beside the content, each',
    value: footprint.overheadBytes,
    wantedMost: 250,
  },
  { what: '  accounted, per cent of real growth', value: footprint.accountedShare * 100, wantedLeast: 85 },
  {
    what: '1,000,000 distinct writes while SQL is away, 256 MiB: most that was taken, MiB',
    value: outage.most / MIB,
    wantedMost: BUDGET / MIB,
  },
  { what: '  grown in the end, MiB', value: outage.grown / MIB, wantedMost: BUDGET / MIB },
  { what: '  refused', value: outage.refused, wantedMost: 0 },
  { what: '  only in the log, thousands', value: outage.spilledItems / 1000 },
  {
    what: '1,000,000 writes at once in a heap of 96 MB: taken and lost',
    value: flood.taken - flood.stored,
    wantedMost: 0,
  },
  { what: '  refused with BACKPRESSURE, thousands', value: flood.refused / 1000 },
]);
process.exit(0);
