/** docs/telemetry.md lists what the code has: every metric, span and channel, and no other. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { CHANNELS } from '#engine/telemetry/channels.js';
import { METRICS } from '#engine/telemetry/metrics.js';
import { SPANS } from '#engine/telemetry/tracing.js';

const page = readFileSync(new URL('../../../../docs/telemetry.md', import.meta.url), 'utf8');

/** Cells of the rows of the table under a heading. */
function table(heading: string): string[][] {
  const section = page.split(/^## /m).find((text) => text.startsWith(`${heading}\n`)) ?? '';
  const rows = section.split('\n').filter((line) => line.startsWith('| `'));
  return rows.map((row) =>
    row
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

function named(cell: string | undefined): string[] {
  return [...(cell ?? '').matchAll(/`([^`]+)`/g)].map((match) => match[1] as string);
}

describe('the page lists', () => {
  test('every metric, with its kind, unit and labels', () => {
    const documented = table('Metrics').map(([name, kind, unit, labels]) => ({
      name: named(name)[0],
      kind,
      unit: named(unit)[0],
      labels: labels === '–' ? [] : labels?.split(', '),
    }));
    const declared = Object.entries(METRICS).map(([name, { kind, unit, labels }]) => ({
      name,
      kind,
      unit,
      labels,
    }));
    expect(documented).toEqual(declared);
  });

  test('every span', () => {
    expect(
      table('Spans')
        .flatMap(([names]) => named(names))
        .sort(),
    ).toEqual([...SPANS].sort());
  });

  test('every channel', () => {
    expect(table('Channels').flatMap(([name]) => named(name))).toEqual([...CHANNELS]);
  });
});
