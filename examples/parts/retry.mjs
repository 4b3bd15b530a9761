/** Trying again with growing waits, and not where that is of no use. */
import { RETRY_PRESETS, retry, SyncEngineError } from 'sync-engine';

const fast = { ...RETRY_PRESETS.query, initialDelayMs: 1 };
let attempts = 0;
const answer = await retry('price', fast, async () => {
  if (++attempts < 3) throw new Error('busy');
  return 99;
});
console.log(answer, attempts); // 99 3

const hopeless = retry('price', fast, async () => {
  throw new SyncEngineError('CONFIG', 'no such currency');
});
console.log(await hopeless.catch((error) => error.code)); // CONFIG
