// @ts-check
/**
 * Checks the model of the protocol exhaustively, then each of its breaks, which must fail.
 *
 *   node formal/check.mjs [break …]       needs spin and a C compiler (Debian: apt-get install spin gcc)
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MODEL = new URL('./protocol.pml', import.meta.url).pathname;
const BREAKS = [
  ...new Set([...readFileSync(MODEL, 'utf8').matchAll(/#ifn?def (\w+)/g)].map((match) => match[1])),
];
const MEMORY_MB = 4096;

/** @param {string | undefined} broken */
function check(broken) {
  const directory = mkdtempSync(join(tmpdir(), 'sync-engine-model-'));
  try {
    cpSync(MODEL, join(directory, 'protocol.pml'));
    const options = { cwd: directory, encoding: /** @type {const} */ ('utf8') };
    execFileSync('spin', ['-a', ...(broken === undefined ? [] : [`-D${broken}`]), 'protocol.pml'], options);
    execFileSync(
      'gcc',
      ['-O2', '-w', '-DSAFETY', '-DCOLLAPSE', `-DMEMLIM=${MEMORY_MB}`, '-o', 'pan', 'pan.c'],
      options,
    );
    const { stdout } = spawnSync(join(directory, 'pan'), ['-m1000000', '-n'], {
      ...options,
      maxBuffer: 2 ** 26,
    });
    const errors = Number(/errors: (\d+)/.exec(stdout)?.[1] ?? Number.NaN);
    const states = Number(/(\d+) states, stored/.exec(stdout)?.[1] ?? Number.NaN);
    const whole = !/max search depth too small|out of memory|Search not completed/.test(stdout);
    return { errors, states, whole, said: /pan:\d+: (.*)/.exec(stdout)?.[1] ?? '' };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

if (spawnSync('spin', ['-V']).error !== undefined) {
  console.error('The model needs spin: apt-get install spin gcc');
  process.exit(2);
}
const chosen = process.argv.slice(2);
let failed = 0;
if (chosen.length === 0) {
  const { errors, states, whole, said } = check(undefined);
  const holds = errors === 0 && whole;
  if (!holds) failed++;
  console.log(
    `${holds ? 'holds' : 'FAILS'}  the protocol, ${states.toLocaleString('en')} states${whole ? ', all of them' : ', NOT all'} ${said}`,
  );
}
for (const broken of BREAKS) {
  if (chosen.length > 0 && !chosen.includes(/** @type {string} */ (broken))) continue;
  const { errors, said } = check(broken);
  if (errors === 0) failed++;
  console.log(`${errors > 0 ? 'fails' : 'HOLDS'}  ${broken?.toLowerCase().replaceAll('_', '-')}  ${said}`);
}
process.exit(failed === 0 ? 0 : 1);
