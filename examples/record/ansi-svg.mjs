/**
 * A terminal's output as an SVG: text with the few colours and weights that the examples use. Knows no cursor
 * movements. A run of text states its own length, so that columns stay straight in whatever font there is.
 */
const CELL_WIDTH = 8.4;
const LINE_HEIGHT = 20;
const PADDING = 20;
const BACKGROUND = '#0d1117';
const FOREGROUND = '#e6edf3';
const COLOURS = { 31: '#ff7b72', 32: '#3fb950', 36: '#39c5cf' };
const PLAIN = { colour: FOREGROUND, bold: false, dim: false };

/** @param columns Longer lines are wrapped here, between words, under their first word. */
export function ansiToSvg(output, { title, columns }) {
  const lines = output
    .trimEnd()
    .split('\n')
    .flatMap((line) => wrapped(line, columns));
  const width = Math.ceil(columns * CELL_WIDTH + 2 * PADDING);
  const height = lines.length * LINE_HEIGHT + 2 * PADDING;
  let style = PLAIN;
  const texts = lines.map((line, at) => {
    const y = PADDING + at * LINE_HEIGHT + 14;
    let column = 0;
    const parts = [];
    for (const run of line.split(ESCAPE_SPLIT)) {
      const code = run.match(ESCAPE)?.[1];
      if (code !== undefined) style = styleAfter(style, Number(code));
      else {
        if (run.trim() !== '') parts.push(textOf(run, column, y, style));
        column += [...run].length;
      }
    }
    return parts.join('');
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="100%" height="100%" rx="8" fill="${BACKGROUND}"/>`,
    '<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14">',
    ...texts.filter((text) => text !== ''),
    '</g>',
    '</svg>',
    '',
  ].join('\n');
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the sequences to be found
const ESCAPE = /^\u001b\[(\d+)m$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: as above
const ESCAPE_SPLIT = /(\u001b\[\d+m)/;

function styleAfter(style, code) {
  if (code === 0) return PLAIN;
  if (code === 1) return { ...style, bold: true };
  if (code === 2) return { ...style, dim: true };
  if (code === 22) return { ...style, bold: false, dim: false };
  if (code === 39) return { ...style, colour: FOREGROUND };
  if (COLOURS[code] !== undefined) return { ...style, colour: COLOURS[code] };
  throw new Error(`The recorder does not know the escape sequence ${code}; add it to ansi-svg.mjs.`);
}

function textOf(run, column, y, { colour, bold, dim }) {
  const indent = run.length - run.trimStart().length;
  const text = run.trim();
  const x = (PADDING + (column + indent) * CELL_WIDTH).toFixed(1);
  const attributes = [
    `x="${x}" y="${y}" fill="${colour}"`,
    `textLength="${([...text].length * CELL_WIDTH).toFixed(1)}" lengthAdjust="spacingAndGlyphs"`,
    ...(bold ? ['font-weight="bold"'] : []),
    ...(dim ? ['opacity="0.65"'] : []),
  ];
  return `<text ${attributes.join(' ')} xml:space="preserve">${escaped(text)}</text>`;
}

/** Escape sequences take no room. */
function wrapped(line, columns) {
  const lengthOf = (text) => [...text.replaceAll(new RegExp(ESCAPE_SPLIT, 'g'), '')].length;
  if (lengthOf(line) <= columns) return [line];
  const indent = ' '.repeat(line.length - line.trimStart().length);
  const lines = [''];
  for (const word of line.split(/(?<= )/)) {
    const last = lines.length - 1;
    if (lengthOf(lines[last] + word.trimEnd()) > columns) lines.push(indent + word);
    else lines[last] += word;
  }
  return lines;
}

function escaped(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
