/** The crash suite with Redis between, on SQLite and on a server: what a dying engine did not tell Redis is known anyway. */
import { join } from 'node:path';
import { describe } from 'vitest';
import type { StepName } from '#engine/base/steps.js';
import { createDatabase } from '../../../../scripts/servers/servers.mjs';
import { temporaryDirectory } from '../support/engines.js';
import { onServer } from '../support/servers.js';
import { crashSuite } from './crash-suite.js';

const CYCLES = Number(process.env['REDIS_CRASH_CYCLES'] ?? 10);
const STEPS_THERE: readonly StepName[] = [
  'archive.apply.done',
  'flush.applied',
  'cache.sent',
  'cache.arrived',
  'release.clean',
  'start.archive-opened',
];

onServer('redis', (redis) => {
  let prefixes = 0;
  const ofRedis = () => ({ redisUrl: redis().url(), redisPrefix: `crash${prefixes++}:` });

  describe('with SQLite', () => {
    crashSuite(
      async () => {
        const directory = temporaryDirectory();
        return {
          sqlUrl: `sqlite:${join(directory, 'archive.db')}`,
          walPath: join(directory, 'log.db'),
          ...ofRedis(),
        };
      },
      CYCLES,
      STEPS_THERE,
    );
  });

  onServer('mariadb', (server) => {
    crashSuite(
      async () => ({
        sqlUrl: await createDatabase(server()),
        walPath: join(temporaryDirectory(), 'log.db'),
        ...ofRedis(),
      }),
      CYCLES,
      STEPS_THERE,
    );
  });
});
