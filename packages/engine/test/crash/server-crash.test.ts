/** The crash suite on servers, at the steps where they are asked. */
import { join } from 'node:path';
import { createDatabase } from '../../../../scripts/servers/servers.mjs';
import { temporaryDirectory } from '../support/engines.js';
import { onServer, SQL_KINDS } from '../support/servers.js';
import { crashSuite } from './crash-suite.js';

const CYCLES = Number(process.env['SERVER_CRASH_CYCLES'] ?? 10);

for (const kind of SQL_KINDS) {
  onServer(kind, (server) => {
    crashSuite(
      async () => ({
        sqlUrl: await createDatabase(server()),
        walPath: join(temporaryDirectory(), 'log.db'),
      }),
      CYCLES,
      [
        'flush.taken',
        'archive.apply.begun',
        'archive.apply.written',
        'archive.apply.done',
        'flush.applied',
        'release.clean',
        'start.archive-created',
        'start.archive-opened',
      ],
    );
  });
}
