/** What the demo writes: headings, lines, a table, a progress bar; coloured in a terminal or with FORCE_COLOR, plain when piped. */
import cliProgress from 'cli-progress';
import pc from 'picocolors';

const { FORCE_COLOR, NO_COLOR } = process.env;
const colours = pc.createColors(!NO_COLOR && (process.stdout.isTTY === true || Boolean(FORCE_COLOR)));

export const number = (value) => value.toLocaleString('en');
export const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

export function latency(ms) {
  return ms < 1 ? `${Math.round(ms * 1000)} µs` : `${ms.toFixed(1)} ms`;
}

export function heading(text) {
  console.log(`\n${colours.bold(colours.cyan(text))}`);
}

export function line(text) {
  console.log(`  ${text}`);
}

export function good(text) {
  console.log(`  ${colours.green('✓')} ${text}`);
}

export function bad(text) {
  console.log(`  ${colours.red('✗')} ${text}`);
}

export function dim(text) {
  console.log(`  ${colours.dim(text)}`);
}

export function verdict(passed, text) {
  console.log(`\n${passed ? colours.bold(colours.green(text)) : colours.bold(colours.red(text))}`);
}

/** Rows of equal length; the first is the head. A column of numbers is set to the right. */
export function table(rows) {
  const columns = rows[0].map((_, column) => {
    const values = rows.map((row) => String(row[column]));
    return {
      width: Math.max(...values.map((value) => value.length)),
      numeric: values.slice(1).every((value) => value === '' || NUMERIC.test(value)),
    };
  });
  rows.forEach((row, at) => {
    const cells = columns.map(({ width, numeric }, column) => {
      const value = String(row[column]);
      return numeric ? value.padStart(width) : value.padEnd(width);
    });
    const text = cells.join('  ').trimEnd();
    line(at === 0 ? colours.dim(text) : text);
  });
}

/** Numbers, with a unit or several of them. */
const NUMERIC = /^[\d,.]+( [a-zA-Zµ]+| · [\d,.]+)*$/;

/** A bar in a terminal; two lines when piped. */
export function progress(total, what) {
  if (process.stdout.isTTY !== true) {
    line(`${what} …`);
    return { update() {}, stop() {} };
  }
  const bar = new cliProgress.SingleBar({
    format: `  ${what} ${colours.cyan('{bar}')} {percentage}% · {value} of {total}`,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    hideCursor: true,
    clearOnComplete: true,
    formatValue: (value, _options, type) =>
      type === 'value' || type === 'total' ? number(value) : String(value),
  });
  bar.start(total, 0);
  return bar;
}
