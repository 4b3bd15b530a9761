/** The cache in memory that other tests break keeps the contract itself. */
import { cacheContract } from '#engine/testing/cache-contract.js';
import { CacheServer, MemoryCacheStore } from '../support/memory-cache-store.js';

cacheContract('a cache in memory', () => {
  let nowMs = 1_800_000_000_000;
  const server = new CacheServer(() => nowMs);
  return {
    open: () => new MemoryCacheStore(server),
    passMs: async (ms) => {
      nowMs += ms;
    },
  };
});
