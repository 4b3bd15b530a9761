/** Runs the demo and keeps what it wrote as docs/demo.svg, the picture in the README. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { ansiToSvg } from './ansi-svg.mjs';

const DEMO = new URL('../demo/demo.mjs', import.meta.url).pathname;
const PICTURE = new URL('../../docs/demo.svg', import.meta.url).pathname;

const { NO_COLOR: _, ...env } = process.env;
const { status, stdout, stderr } = spawnSync(process.execPath, [DEMO], {
  encoding: 'utf8',
  env: { ...env, FORCE_COLOR: '1' },
});
if (status !== 0) {
  console.error(`The demo ended with status ${status}; the picture stays as it was.\n${stdout}${stderr}`);
  process.exit(1);
}
const [shown] = stdout.split('\nTry next:');
// Where it ran is nobody's business.
const output = `$ npm run demo\n\n${shown.replace(/, in \S*sync-engine-demo-\w+/, '')}`;
writeFileSync(PICTURE, ansiToSvg(output, { title: 'What npm run demo prints', columns: 106 }));
console.log(`Wrote ${PICTURE}.`);
