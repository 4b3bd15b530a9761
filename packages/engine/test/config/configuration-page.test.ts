/** docs/configuration.md lists every key, with its variable and whether it may change live. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { CONFIG_KEYS, LIVE_KEYS } from '#engine/config/config.js';
import { envNameOf } from '#engine/config/config-from-env.js';

const page = readFileSync(new URL('../../../../docs/configuration.md', import.meta.url), 'utf8');

test('the page lists every key and no other', () => {
  const rows = [...page.matchAll(/^\| `(\w+)` \| `(\w+)` \|[^|]*\| (live|restart) \|/gm)];
  const documented = rows.map(([, key, variable, when]) => ({ key, variable, live: when === 'live' }));
  const declared = CONFIG_KEYS.map((key) => ({ key, variable: envNameOf(key), live: LIVE_KEYS.has(key) }));
  const byKey = (a: { key: string | undefined }, b: { key: string | undefined }) =>
    (a.key ?? '') < (b.key ?? '') ? -1 : 1;
  expect(documented.sort(byKey)).toEqual([...declared].sort(byKey));
});
