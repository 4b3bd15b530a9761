/** The examples run as the README shows them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { lackOf, startServer } from '../../scripts/servers/servers.mjs';
import { ansiToSvg } from '../record/ansi-svg.mjs';

const { FORCE_COLOR: _, NO_COLOR: __, ...env } = process.env;
const EXAMPLES = new URL('../', import.meta.url).pathname;

interface Run {
  readonly status: number | null;
  readonly out: string;
  /** Files that it left where it ran. */
  readonly left: readonly string[];
}

function run(command: string | string[], timeout: number): Run {
  const [file, ...args] = [command].flat();
  const cwd = mkdtempSync(join(tmpdir(), 'sync-engine-example-'));
  onTestFinished(() => rmSync(cwd, { recursive: true, force: true }));
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(EXAMPLES, file as string), ...args], {
    cwd,
    encoding: 'utf8',
    timeout,
    env,
  });
  return { status, out: stdout + stderr, left: readdirSync(cwd) };
}

test('the quickstart prints a receipt and the item read back', () => {
  const { status, out } = run('quickstart/quickstart.mjs', 20_000);
  expect(out).toMatch(/^\{ id: 'cart\.42', version: \d+, ack: 'wal' \}\n\{ items: \[ 'tea' \] \}\n$/);
  expect(status).toBe(0);
});

/** What the comments behind an example's statements say that it prints. */
function promised(file: string): string[] {
  const source = readFileSync(join(EXAMPLES, file), 'utf8');
  const lines = [...source.matchAll(/; \/\/ (.+)$/gm)].map((match) => match[1] as string);
  const printed = source.match(/console\.log\(/g)?.length ?? 0;
  if (printed === 0 || printed !== lines.length) throw new Error(`${file} prints what no comment promises.`);
  return lines;
}

test.each(readdirSync(join(EXAMPLES, 'parts')))(
  'the part %s alone prints what its comments promise, and leaves nothing behind',
  (name) => {
    const { status, out, left } = run(`parts/${name}`, 20_000);
    expect(out.trimEnd().split('\n')).toEqual(promised(`parts/${name}`));
    expect(left).toEqual([]);
    expect(status).toBe(0);
  },
);

test('a cache replaced in five lines answers alike, and need not load again after a restart', () => {
  const { status, out } = run('replace-cache/both.mjs', 20_000);
  const answer = "{ id: 7, name: 'User 7' }";
  const counts = ['cache-manager, start 1: 1 load', 'cache-manager, start 2: 1 load'];
  counts.push('sync-engine, start 1: 1 load', 'sync-engine, start 2: 0 loads');
  expect(out.trimEnd().split('\n')).toEqual(counts.flatMap((count) => [answer, count]));
  expect(status).toBe(0);
});

test('the demo ends with its verdict, plain when piped', () => {
  const { status, out } = run('demo/demo.mjs', 120_000);
  expect(out).toMatch(/[\d,]+ acknowledged · killed · restarted in \d+\.\d s · 0 lost/);
  expect(out).toContain('Nothing acknowledged was lost');
  expect(out).toContain('Try next:');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences are what must not be there
  expect(out).not.toMatch(/\u001b/);
  expect(status).toBe(0);
}, 150_000);

test.skipIf(lackOf('mariadb') !== undefined)(
  'the demo on a server ends with its verdict',
  () => {
    const { status, out } = run(['demo/server.mjs', '--places', '20000'], 120_000);
    expect(out).toContain('healthCheck: SQL is not reachable');
    expect(out).toContain('Nothing acknowledged was lost');
    expect(status).toBe(0);
  },
  150_000,
);

test.skipIf(lackOf('mariadb') !== undefined || lackOf('redis') !== undefined)(
  'the demo with Redis between ends with its verdict, on private servers',
  () => {
    const { status, out } = run(
      ['demo/server.mjs', '--redis', 'private', '--sql', 'mariadb', '--places', '20000'],
      120_000,
    );
    expect(out).toContain('healthCheck: SQL is not reachable');
    expect(out).toContain('healthCheck: Redis is not reachable');
    expect(out).toContain('Nothing acknowledged was lost');
    expect(status).toBe(0);
  },
  150_000,
);

test.skipIf(lackOf('postgres') !== undefined || lackOf('redis') !== undefined)(
  'the demo takes servers that are given, and kills none of them',
  async () => {
    const [sql, redis] = await Promise.all([startServer('postgres'), startServer('redis')]);
    onTestFinished(async () => void (await Promise.all([sql.stop(), redis.stop()])));
    const urls = ['--sql', sql.url(), '--redis', redis.url()];
    const { status, out } = run(['demo/choose.mjs', ...urls, '--places', '5000'], 120_000);
    expect(out).not.toMatch(/kill -9|password/);
    expect(out).not.toContain(sql.password);
    expect(out).toContain('Nothing acknowledged was lost');
    expect(status).toBe(0);
  },
  150_000,
);

test('killed beside others, the log loses nothing, and an outage is neither a miss nor a loss', () => {
  const { status, out } = run(['kill-comparison/compare.mjs', '--kills', '1', '--ms', '300'], 90_000);
  const [, killed, away] = out.split(/^[12] {2}/m);
  const row = (text = '', name: string): string =>
    text.split('\n').find((line) => line.startsWith(`  ${name}  `)) ?? '';
  expect(row(killed, 'sync-engine, wal')).toMatch(/ [1-9][\d,]* +[\d,]+ +0$/);
  expect(row(away, 'sync-engine, wal')).toMatch(/error TIER_UNAVAILABLE +acknowledged +there$/);
  // Whatever they lost on this run, each was killed in mid-write and counted, and started without its database.
  for (const name of ['sync-engine, memory', 'keyv', 'cache-manager, nonBlocking', 'write-behind queue']) {
    expect(row(killed, name)).toMatch(/ [1-9][\d,]* +[\d,]+ +[\d,]+$/);
    expect(row(away, name)).toMatch(/\S$/);
  }
  expect(out).toContain('As promised.');
  expect(status).toBe(0);
}, 120_000);

test('a recorded line keeps its colours, its columns and its brackets, and is wrapped between words', () => {
  const svg = ansiToSvg('  \u001b[32mok\u001b[39m a < b & c\nplain', { title: 'T', columns: 8 });
  const texts = [
    ...svg.matchAll(/<text x="([\d.]+)" y="(\d+)" fill="(#\w+)" textLength="([\d.]+)".*?>(.*?)<\/text>/g),
  ];
  expect(texts.map((match) => match.slice(1))).toEqual([
    ['36.8', '34', '#3fb950', '16.8', 'ok'],
    ['62.0', '34', '#e6edf3', '25.2', 'a &lt;'],
    ['36.8', '54', '#e6edf3', '42.0', 'b &amp; c'],
    ['20.0', '74', '#e6edf3', '42.0', 'plain'],
  ]);
});

test('the picture in the README is the demo that passed, and tells nothing of the machine', () => {
  const svg = readFileSync(join(EXAMPLES, '..', 'docs/demo.svg'), 'utf8');
  expect(svg).toContain('Nothing acknowledged was lost');
  expect(svg).not.toContain('✗');
  expect(svg).not.toMatch(/\/(tmp|home|root|var|Users)\b/);
  expect(readFileSync(join(EXAMPLES, '..', 'README.md'), 'utf8')).toContain('docs/demo.svg)');
});

test('the package carries the README of the repository', () => {
  const packaged = readFileSync(join(EXAMPLES, '..', 'packages/engine/README.md'), 'utf8');
  expect(packaged).toBe(readFileSync(join(EXAMPLES, '..', 'README.md'), 'utf8'));
});
