/** Every snippet of the README runs, against an engine of its own with what the snippet takes for granted. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';

const { FORCE_COLOR: _, NO_COLOR: __, ...env } = process.env;
const EXAMPLES = new URL('../', import.meta.url).pathname;
const ROOT = join(EXAMPLES, '..');
const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');

/** Snippets that are programs, and the files that they are. */
const PROGRAMS = ['quickstart/quickstart.mjs', 'replace-cache/before.mjs', 'replace-cache/after.mjs'];
const programs = PROGRAMS.map((file) => readFileSync(join(EXAMPLES, file), 'utf8').trim());

/** Each under the heading that it stands below. */
const snippets = [...readme.matchAll(/^```js\n(.*?)^```$/gms)].map((match) => ({
  heading:
    readme
      .slice(0, match.index)
      .match(/^#+ .*$/gm)
      ?.at(-1)
      ?.replace(/^#+ /, '') ?? '',
  code: (match[1] as string).trim(),
}));
const fragments = snippets.filter(({ code }) => !programs.includes(code));

/** What the fragments take for granted. */
const BEFORE = `
  import { setTimeout } from 'node:timers/promises';
  import { CacheTtl, SubmitOptions, SyncEngine, SyncItem } from 'sync-engine';
  const clusterKey = '00112233'.repeat(8);
  const engine = new SyncEngine({ sqlUrl: 'sqlite:one.db', walPath: 'one.wal', clusterKey });
  const other = new SyncEngine({ sqlUrl: 'sqlite:two.db', clusterKey });
  await Promise.all([engine.start(), other.start()]);
  const a = engine, b = other;
  const { signal } = new AbortController();
  const bytes = Buffer.from('bytes'), item = new SyncItem('cart.42', bytes), items = [item], session = new SyncItem('session.7', bytes);
  const id = 'cart.42', ids = [id], lastId = '', load = async (id) => ({ id });
  let position;
  await engine.submit(item, { ack: 'stored' });
  process.on('exit', (code) => { if (code === 0) console.log('the end was reached'); });
  {`;
const AFTER = `
  }
  await Promise.all([engine.shutdown(), other.shutdown()]);`;

test.each(fragments)('the snippet under $heading runs', ({ code }) => {
  const cwd = mkdtempSync(join(tmpdir(), 'sync-engine-readme-'));
  onTestFinished(() => rmSync(cwd, { recursive: true, force: true }));
  // Packages are found from the examples, files are written into the temporary directory.
  const program = `process.chdir(${JSON.stringify(cwd)});${BEFORE}\n${code}\n${AFTER}`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    cwd: EXAMPLES,
    env,
    encoding: 'utf8',
    timeout: 20_000,
  });
  expect(stderr).toBe('');
  expect(stdout).toContain('the end was reached');
});

test('the README shows the quickstart and both caches, word for word', () => {
  for (const program of programs) expect(snippets.map(({ code }) => code)).toContain(program);
  expect(snippets.length - fragments.length).toBe(programs.length);
});

test('commands and links of the README lead somewhere', () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: object };
  for (const [, name] of readme.matchAll(/npm run ([\w:-]+)/g))
    expect(scripts).toHaveProperty([name as string]);
  for (const [, file] of readme.matchAll(/\bnode (\S+\.mjs)/g))
    expect(existsSync(join(ROOT, file as string)), file).toBe(true);
  for (const [, path] of readme.matchAll(/\]\((?!https?:)([^)#]+)/g)) {
    expect(existsSync(join(ROOT, path as string)), path).toBe(true);
  }
});
