/**
 * What the hot paths count: plain numbers in one object, so that counting is one addition. Whoever exports them
 * comes and reads; nothing is pushed, and nothing here asks for the time.
 */
export class Counters {
  /** Answers of memory to `get`, `getMany` and what is built on them. */
  getHits = 0;
  getMisses = 0;
  peekHits = 0;
  peekMisses = 0;
  submits = 0;
  deletes = 0;
  /** Of `submits` and `deletes`, those that were refused at once: nothing was changed. */
  submitsRefused = 0;
  deletesRefused = 0;
  merkleNodes = 0;
  merkleChildren = 0;
  merkleBuckets = 0;
  merkleComparisons = 0;
  corruptMemory = 0;
  corruptLog = 0;
  corruptRedis = 0;
  corruptSql = 0;
  drains = 0;
  drainsInterrupted = 0;
}
