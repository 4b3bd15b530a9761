/** What the demo writes: headings, lines, a table, a progress bar; coloured in a terminal, plain when piped. */
import cliProgress from 'cli-progress';
import pc from 'picocolors';

const colours = pc.createColors(process.stdout.isTTY === true && !process.env.NO_COLOR);

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

/** Rows of equal length; the first is the head. Numbers are set to the right. */
export function table(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => String(row[column]).length)));
  const cell = (value, column) =>
    /^[\d,.]+( [a-zA-Zµ]+)?$/.test(String(value))
      ? String(value).padStart(widths[column])
      : String(value).padEnd(widths[column]);
  rows.forEach((row, at) => {
    const text = row.map(cell).join('  ').trimEnd();
    line(at === 0 ? colours.dim(text) : text);
  });
}

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
