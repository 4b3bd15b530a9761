/** The crash suite on SQLite, at every named step. */
import { join } from 'node:path';
import { STEPS } from '#engine/base/steps.js';
import { temporaryDirectory } from '../support/engines.js';
import { crashSuite } from './crash-suite.js';

const CYCLES = Number(process.env['CRASH_CYCLES'] ?? 50);

crashSuite(
  async () => {
    const directory = temporaryDirectory();
    return { sqlUrl: `sqlite:${join(directory, 'archive.db')}`, walPath: join(directory, 'log.db') };
  },
  CYCLES,
  // Those of Redis have a suite of their own.
  STEPS.filter((step) => !step.startsWith('cache.')),
);
