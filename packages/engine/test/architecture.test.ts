/**
 * Facts about the source that no compiler checks: imports go down the levels and never in a circle, and time
 * and randomness come through the ports alone. Each rule is first shown an example that it must reject.
 */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the examples are source code in strings.
import { readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { describe, expect, test } from 'vitest';

/** Path below `src/` → text. */
type Sources = ReadonlyMap<string, string>;

interface Import {
  readonly from: string;
  /** The specifier as written; empty where it is computed. */
  readonly specifier: string;
  /** The file below `src/` that a relative specifier names. */
  readonly to: string | undefined;
}

/** From the lowest to the highest. A folder imports from lower levels and from itself, not from its siblings. */
const LEVELS: readonly (readonly string[])[] = [
  ['base'],
  ['ports'],
  ['item', 'telemetry', 'config'],
  ['memory', 'batching', 'merkle', 'resilience'],
  ['storage', 'wal', 'filter'],
  ['coherence'],
  ['engine'],
  ['index.ts', 'testing'],
];

/** The one pair of siblings: options of a write are checked where items are. */
const ALLOWED_SIBLINGS: ReadonlySet<string> = new Set(['config -> item']);

/** The only place that may ask the machine for time and randomness. */
const MACHINE = 'ports/system/';

const FORBIDDEN_CODE: readonly (readonly [string, RegExp])[] = [
  // A Date made from a number only formats it; everything else reads the clock.
  ['Date', /(?<![\w$#])Date\b(?<!\bnew\s+Date(?=\s*\(\s*[^\s)]))/],
  ['performance', /(?<![\w$#])performance\b/],
  ['Math.random', /(?<![\w$#])Math\s*\.\s*random\b/],
  ['timers', /(?<![\w$#])(?:setTimeout|setInterval|setImmediate)\b/],
  ['AbortSignal.timeout', /(?<![\w$#])AbortSignal\s*\.\s*timeout\b/],
  ['process time', /(?<![\w$#])(?:hrtime\b|process\s*\.\s*uptime\b)/],
  ['randomness', /(?<![\w$#])(?:random(?:Bytes|UUID|Int|Fill|FillSync)|getRandomValues)\b/],
];
const FORBIDDEN_MODULES = /^(?:node:)?(?:timers(?:\/promises)?|perf_hooks)$/;

/**
 * The text with comments and the insides of strings blanked, offsets unchanged, so that a regular expression
 * over it meets code only. Code inside `${…}` stays.
 */
function blanked(text: string): string {
  const out = text.split('');
  const blank = (from: number, to: number): void => {
    for (let at = from; at < to; at++) if (out[at] !== '\n') out[at] = ' ';
  };
  /** Depth of braces at which each open `${` ends. */
  const templates: number[] = [];
  let depth = 0;
  let at = 0;
  const skipTemplate = (): void => {
    const start = at;
    while (at < text.length && text[at] !== '`' && !text.startsWith('${', at))
      at += text[at] === '\\' ? 2 : 1;
    blank(start, at);
    if (text[at] === '`') at += 1;
    else {
      at += 2;
      templates.push(depth++);
    }
  };
  while (at < text.length) {
    const start = at;
    const sign = text[at] as string;
    if (text.startsWith('//', at)) {
      at = endOf(text, '\n', at);
      blank(start, at);
    } else if (text.startsWith('/*', at)) {
      at = endOf(text, '*/', at) + 2;
      blank(start, at);
    } else if (sign === "'" || sign === '"' || (sign === '/' && isRegexStart(text, at))) {
      at = endOfLiteral(text, sign, at);
      blank(start + 1, at);
      at += 1;
    } else {
      at += 1;
      if (sign === '`') skipTemplate();
      else if (sign === '{') depth++;
      else if (sign === '}') {
        depth--;
        if (templates.at(-1) === depth) {
          templates.pop();
          skipTemplate();
        }
      }
    }
  }
  return out.join('');
}

function endOf(text: string, mark: string, from: number): number {
  const at = text.indexOf(mark, from);
  return at === -1 ? text.length : at;
}

/** Offset of the closing sign of a string or regular expression. */
function endOfLiteral(text: string, sign: string, start: number): number {
  let inClass = false;
  let at = start + 1;
  for (; at < text.length && text[at] !== '\n'; at++) {
    if (text[at] === '\\') at++;
    else if (sign === '/' && text[at] === '[') inClass = true;
    else if (sign === '/' && text[at] === ']') inClass = false;
    else if (text[at] === sign && !inClass) break;
  }
  return at;
}

/** A slash after an operator or an opening bracket begins a regular expression, else it divides. */
function isRegexStart(text: string, at: number): boolean {
  return /(?:^|[=(,:;!&|?{}[+\-*%<>~^]|=>|\b(?:return|typeof|case|in|of))$/.test(text.slice(0, at).trimEnd());
}

/** A method called `import` is none: its parameter has a type. */
const IMPORT =
  /(?<![\w$.#])(?:from\s*|import\s*(?:\(\s*)?|new\s+URL\s*\(\s*)(?:(['"]) *\1|(?<=import\s*\(\s*)(?!\w+\s*:)[^'"\s])/g;

/** Static, type-only, re-exporting and dynamic imports, and entries of workers (`new URL(…, import.meta.url)`). */
function importsOf(sources: Sources): Import[] {
  const found: Import[] = [];
  for (const [from, text] of sources) {
    for (const match of blanked(text).matchAll(IMPORT)) {
      const end = match.index + match[0].length;
      const specifier = match[1] === undefined ? '' : text.slice(match.index, end).split(match[1])[1];
      if (specifier === undefined) continue;
      const relative = specifier.startsWith('.');
      const to = relative ? posix.join(posix.dirname(from), specifier).replace(/\.js$/, '.ts') : undefined;
      found.push({ from, specifier, to });
    }
  }
  return found;
}

function part(path: string): string {
  return path.split('/')[0] as string;
}

function levelOf(path: string): number {
  return LEVELS.findIndex((level) => level.includes(part(path)));
}

function strayFiles(sources: Sources): string[] {
  return [...sources.keys()].filter((path) => levelOf(path) === -1);
}

/** Names in the levels that nothing in the source has. */
function emptyNames(sources: Sources): string[] {
  const present = new Set([...sources.keys()].map(part));
  return LEVELS.flat().filter((name) => !present.has(name));
}

/** The folders of each row of the table of levels, from the lowest to the highest. */
function levelsOf(page: string): string[][] {
  const rows = [...page.matchAll(/^\| \d \| (`.*?) \|/gm)];
  return rows
    .map(([, names]) => [...(names as string).matchAll(/`([^`]+)`/g)].map(([, name]) => name as string))
    .reverse();
}

/**
 * Files that the code map passes over. An entry that names no file of its folder speaks of all of them; where it names
 * one, the page has a word for each. A folder within a folder is named as a whole.
 */
function unmapped(sources: Sources, page: string): string[] {
  const entries = [...page.matchAll(/^- (`[a-z-]+\/`(?:, `[a-z-]+\/`)*) – .*$/gm)];
  return [...sources.keys()].filter((path) => {
    const [folder, ...inside] = path.split('/') as [string, ...string[]];
    if (inside.length === 0) return false;
    const entry = entries.find(([, folders]) => folders?.includes(`\`${folder}/\``))?.[0];
    if (entry === undefined) return true;
    if (inside.length > 1) return !entry.includes(`${inside[0]}/\``);
    const siblings = [...sources.keys()].filter((other) => posix.dirname(other) === folder);
    const names = siblings.some((sibling) => entry.includes(`\`${posix.basename(sibling)}\``));
    return names && !page.includes(`${inside[0]}\``);
  });
}

function badSpecifiers(sources: Sources): string[] {
  return importsOf(sources)
    .filter(({ specifier, to }) => {
      if (to === undefined) return /^(?:$|#|\/|file:|sync-engine(?:\/|$))/.test(specifier);
      return !specifier.endsWith('.js') || !sources.has(to);
    })
    .map(({ from, specifier }) => `${from}: '${specifier}'`);
}

function upwardImports(sources: Sources): string[] {
  return importsOf(sources)
    .filter(({ from, to }) => {
      if (to === undefined || part(from) === part(to)) return false;
      if (ALLOWED_SIBLINGS.has(`${part(from)} -> ${part(to)}`)) return false;
      return levelOf(to) >= levelOf(from);
    })
    .map(({ from, to }) => `${from} -> ${to}`);
}

/** Each circle once, from its first file around to it again. */
function cycles(sources: Sources): string[] {
  const targets = new Map<string, string[]>();
  for (const { from, to } of importsOf(sources)) {
    if (to !== undefined) targets.set(from, [...(targets.get(from) ?? []), to]);
  }
  const found: string[] = [];
  const done = new Set<string>();
  const walk = (path: string, trail: readonly string[]): void => {
    const seenAt = trail.indexOf(path);
    if (seenAt !== -1) found.push([...trail.slice(seenAt), path].join(' -> '));
    if (seenAt !== -1 || done.has(path)) return;
    for (const target of targets.get(path) ?? []) walk(target, [...trail, path]);
    done.add(path);
  };
  for (const path of sources.keys()) walk(path, []);
  return found;
}

function machineUses(sources: Sources): string[] {
  const found: string[] = [];
  for (const [path, text] of sources) {
    if (path.startsWith(MACHINE)) continue;
    const code = blanked(text);
    for (const [name, pattern] of FORBIDDEN_CODE) if (pattern.test(code)) found.push(`${path}: ${name}`);
  }
  for (const { from, specifier } of importsOf(sources)) {
    if (!from.startsWith(MACHINE) && FORBIDDEN_MODULES.test(specifier)) found.push(`${from}: ${specifier}`);
  }
  return found;
}

function made(files: Record<string, string>): Sources {
  return new Map(Object.entries(files));
}

function pageOf(name: string): string {
  return readFileSync(new URL(`../../../${name}`, import.meta.url), 'utf8');
}

function realSources(): Sources {
  const root = new URL('../src/', import.meta.url);
  const paths = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((path) =>
    path.endsWith('.ts'),
  );
  return new Map(paths.sort().map((path) => [path, readFileSync(new URL(path, root), 'utf8')]));
}

describe('the scanner', () => {
  test('finds every form of import', () => {
    const text = [
      "import a from './a.js';",
      "import type { B } from './b.js';",
      "import {\n  type C,\n  c, // from './not-this.js'\n} from './c.js';",
      "export * from './d.js';",
      "export type { E } from './e.js';",
      "import './f.js';",
      "const g = await import('./g.js');",
      "let h: import('./h.js').H;",
      "const entry = new URL('./i.js', import.meta.url);",
      'import * as j from "node:fs";',
      "const k = `text ${await import('./k.js')} text`;",
    ].join('\n');
    const specifiers = importsOf(made({ 'engine/x.ts': text })).map((one) => one.specifier);
    expect(specifiers.map((specifier) => specifier.replace(/^\.\/|\.js$/g, ''))).toEqual(
      'a b c d e f g h i node:fs k'.split(' '),
    );
  });

  test('takes nothing in comments, strings, templates and regular expressions for code', () => {
    const text = [
      "// import './a.js'",
      "/* import './b.js'; Date.now() */",
      'const a = "import \'./c.js\'; setTimeout";',
      "const b = 'it\\'s Date.now()';",
      'const c = `Date.now() ${1} setTimeout \\` import("./d.js")`;',
      'const d = /[/\'"`]Date/.test(x) ? a / b : c / 2;',
      "const e = Buffer.from('./e.js');",
    ].join('\n');
    const sources = made({ 'engine/x.ts': text });
    expect(importsOf(sources)).toEqual([]);
    expect(machineUses(sources)).toEqual([]);
  });

  test('goes on behind each of them', () => {
    for (const before of [
      "'a'",
      '`a`',
      '`${{ a: `b${1}` }}`',
      '/["`\']/',
      '/[/]\\//',
      'a / b',
      '"\\""',
      '/* */',
    ]) {
      expect(machineUses(made({ 'engine/x.ts': `${before}; Date.now();` })), before).toHaveLength(1);
    }
  });

  test('reads the real source', () => {
    const sources = realSources();
    const edges = importsOf(sources).map(({ from, to }) => `${from} -> ${to}`);
    expect(edges).toContain('item/order.ts -> item/revision.ts');
    expect(edges).toContain('wal/sqlite-record-store.ts -> wal/wal-worker.ts');
    expect(new Set(edges.map((edge) => edge.split(' ')[0])).size).toBeGreaterThan(30);
  });
});

describe('each rule rejects', () => {
  test('an import from a higher level, of values, of types, re-exported, dynamic or as a worker', () => {
    const forms = [
      "import { x } from '../wal/x.js';",
      "import type { X } from '../wal/x.js';",
      "export { x } from '../wal/x.js';",
      "const x = await import('../wal/x.js');",
      "new Worker(new URL('../wal/x.js', import.meta.url));",
    ];
    for (const form of forms) {
      expect(upwardImports(made({ 'memory/y.ts': form })), form).toEqual(['memory/y.ts -> wal/x.ts']);
    }
  });

  test('an import from a sibling folder, except of an item by the configuration', () => {
    const reaching = (from: string, to: string): number =>
      upwardImports(made({ [`${from}/x.ts`]: `import '../${to}/y.js';` })).length;
    expect(reaching('memory', 'batching')).toBe(1);
    expect(reaching('storage', 'wal')).toBe(1);
    expect(reaching('item', 'config')).toBe(1);
    expect(reaching('config', 'telemetry')).toBe(1);
    expect(reaching('ports', 'item')).toBe(1);
    expect(reaching('base', 'ports')).toBe(1);
    expect(reaching('config', 'item')).toBe(0);
    expect(reaching('item', 'ports')).toBe(0);
    expect(reaching('wal', 'memory')).toBe(0);
    expect(reaching('storage/sqlite', '../base')).toBe(0);
  });

  test('an import of the public face from inside', () => {
    expect(upwardImports(made({ 'engine/x.ts': "import '../index.js';" }))).toEqual([
      'engine/x.ts -> index.ts',
    ]);
  });

  test('a circle of files, of types and of itself', () => {
    const circle = made({
      'item/a.ts': "import { b } from './b.js';",
      'item/b.ts': "import type { C } from './c.js';",
      'item/c.ts': "export * from './a.js';",
      'item/d.ts': "import './a.js'; import './c.js';",
      'item/e.ts': "import './e.js';",
    });
    expect(cycles(circle)).toEqual([
      'item/a.ts -> item/b.ts -> item/c.ts -> item/a.ts',
      'item/e.ts -> item/e.ts',
    ]);
    const diamond = made({
      'item/a.ts': "import './b.js'; import './c.js';",
      'item/b.ts': "import './d.js';",
      'item/c.ts': "import './d.js';",
    });
    expect(cycles(diamond)).toEqual([]);
  });

  test.each([
    'Date.now()',
    'new Date()',
    'Date()',
    'const clock = Date;',
    'globalThis.Date.now()',
    '`at ${new Date().toISOString()}`',
    'performance.now()',
    'Math.random()',
    'setTimeout(run, 1)',
    'globalThis.setInterval(run, 1)',
    'setImmediate(run)',
    'process.hrtime.bigint()',
    'process.uptime()',
    'AbortSignal.timeout(5)',
    "import { setTimeout as wait } from 'node:timers/promises';",
    "import timers from 'timers';",
    "import { performance as p } from 'node:perf_hooks';",
    "import { randomBytes } from 'node:crypto';",
    'crypto.randomUUID()',
    'crypto.getRandomValues(bytes)',
  ])('%s outside the system ports', (code) => {
    expect(machineUses(made({ 'engine/x.ts': code })).length).toBeGreaterThan(0);
    expect(machineUses(made({ 'ports/ports.ts': code })).length).toBeGreaterThan(0);
    expect(machineUses(made({ 'ports/system/system-ports.ts': code }))).toEqual([]);
  });

  test('no use of what only looks like the machine', () => {
    const code = 'new Date(ms).toISOString(); Math.max(1, 2); this.#setTimeout; updateDate; clearTimeout(t);';
    expect(machineUses(made({ 'engine/x.ts': code }))).toEqual([]);
  });

  test('a file in a folder that has no level', () => {
    const stray = made({ 'utils/x.ts': '', 'helpers.ts': '', 'index.ts': '', 'engine/x.ts': '' });
    expect(strayFiles(stray)).toEqual(['utils/x.ts', 'helpers.ts']);
  });

  test('a level of a folder that is not there', () => {
    const sources = new Map(LEVELS.flat().map((name) => [name.includes('.') ? name : `${name}/x.ts`, '']));
    expect(emptyNames(sources)).toEqual([]);
    sources.delete('wal/x.ts');
    sources.delete('index.ts');
    expect(emptyNames(sources)).toEqual(['wal', 'index.ts']);
  });

  test('a file that the code map passes over', () => {
    const page = '- `wal/` – `a.ts` does, in `deep/`.\n- `item/`, `base/` – pure.\nElsewhere: `wal/b.ts`.\n';
    const map = (...paths: string[]): string[] => unmapped(new Map(paths.map((path) => [path, ''])), page);
    expect(map('wal/a.ts', 'wal/b.ts', 'wal/deep/x.ts', 'item/x.ts', 'base/y.ts', 'index.ts')).toEqual([]);
    const passedOver = ['wal/c.ts', 'wal/shallow/x.ts', 'filter/x.ts'];
    expect(map('wal/a.ts', 'item/x.ts', ...passedOver)).toEqual(passedOver);
  });

  test('an import that the scanner cannot follow, or that goes around the folders', () => {
    const engine = (code: string): string[] => badSpecifiers(made({ 'engine/x.ts': code, 'base/y.ts': '' }));
    expect(engine("import '../base/y.js'; import 'node:fs'; import 'valibot';")).toEqual([]);
    expect(engine("import '../base/z.js';")).toEqual(["engine/x.ts: '../base/z.js'"]);
    expect(engine("import '../base/y';")).toHaveLength(1);
    expect(engine("import '../base/y.ts';")).toHaveLength(1);
    expect(engine("import '../../test/support/engines.js';")).toHaveLength(1);
    expect(engine("import '#engine/base/y.js';")).toHaveLength(1);
    expect(engine("import 'sync-engine';")).toHaveLength(1);
    expect(engine('await import(name);')).toEqual(["engine/x.ts: ''"]);
  });
});

describe('the source', () => {
  const sources = realSources();

  test('lies in the folders that have a level, and no other has one', () => {
    expect(strayFiles(sources)).toEqual([]);
    expect(emptyNames(sources)).toEqual([]);
  });

  test('has the levels that CONTRIBUTING.md shows', () => {
    const sorted = (levels: readonly (readonly string[])[]): string[][] =>
      levels.map((level) => level.toSorted());
    expect(sorted(levelsOf(pageOf('CONTRIBUTING.md')))).toEqual(sorted(LEVELS));
  });

  test('is mapped by ARCHITECTURE.md, file by file or folder by folder', () => {
    expect(unmapped(sources, pageOf('ARCHITECTURE.md'))).toEqual([]);
  });

  test('imports only what is there, by its path', () => {
    expect(badSpecifiers(sources)).toEqual([]);
  });

  test('imports downward only', () => {
    expect(upwardImports(sources)).toEqual([]);
  });

  test('has no circles, not even of types', () => {
    expect(cycles(sources)).toEqual([]);
  });

  test('asks the machine for time and randomness in ports/system alone', () => {
    expect(machineUses(sources)).toEqual([]);
  });
});
