/** Tests that `npm run mutation` leaves out: they need children, or minutes with a mutant behind every expression. */
import { test } from 'vitest';

export const slowTest = test.skipIf(process.env['MUTATION_TESTS'] !== undefined);
