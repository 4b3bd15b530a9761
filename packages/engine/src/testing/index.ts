/**
 * `sync-engine/testing`: the suites that any store has to pass, for who writes one. They run in Vitest, with fast-check
 * for what is random; both are optional peers.
 */
export { type ArchiveUnderTest, archiveContract } from './archive-contract.js';
export { type CacheUnderTest, cacheContract } from './cache-contract.js';
