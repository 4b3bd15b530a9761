// @ts-check
/** A mutant is dead with the first failure: searching for a smaller example of it would only take time. */
import fc from 'fast-check';

fc.configureGlobal({ endOnFailure: true });
