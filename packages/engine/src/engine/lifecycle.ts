/** The states of an engine and every transition between them; pure. */

export type EngineState =
  | 'Created'
  | 'Connecting'
  | 'DrainingWal'
  | 'SyncingRedis'
  | 'WarmingUp'
  | 'Ready'
  | 'Running'
  | 'ShuttingDown'
  | 'Closed'
  | 'Failed';

export type LifecycleEvent =
  /** `start()` was called. */
  | 'start'
  /** Log and archive are open, or the archive is known to be away. */
  | 'connected'
  /** Every record of the log is in memory's index. */
  | 'logIndexed'
  /** Redis was compared with SQL; at once where there is no Redis. */
  | 'redisCompared'
  /** The filter's snapshot is loaded or missing; at once where there is no filter. */
  | 'warmedUp'
  | 'run'
  | 'shutdown'
  | 'closed'
  | 'fail';

type Row = Readonly<Record<LifecycleEvent, EngineState | 'illegal'>>;

const NOTHING: Row = {
  start: 'illegal',
  connected: 'illegal',
  logIndexed: 'illegal',
  redisCompared: 'illegal',
  warmedUp: 'illegal',
  run: 'illegal',
  shutdown: 'illegal',
  closed: 'illegal',
  fail: 'illegal',
};

const STARTING: Row = { ...NOTHING, shutdown: 'ShuttingDown', fail: 'Failed' };

/** The compiler demands every state; `illegal` is a bug of the engine, not of the caller. */
const TRANSITIONS: Readonly<Record<EngineState, Row>> = {
  Created: { ...NOTHING, start: 'Connecting', shutdown: 'ShuttingDown' },
  Connecting: { ...STARTING, connected: 'DrainingWal' },
  DrainingWal: { ...STARTING, logIndexed: 'SyncingRedis' },
  SyncingRedis: { ...STARTING, redisCompared: 'WarmingUp' },
  WarmingUp: { ...STARTING, warmedUp: 'Ready' },
  Ready: { ...STARTING, run: 'Running' },
  Running: { ...NOTHING, shutdown: 'ShuttingDown' },
  ShuttingDown: { ...NOTHING, closed: 'Closed', fail: 'Failed' },
  Closed: NOTHING,
  Failed: NOTHING,
};

/** @throws Error for an illegal transition: a bug. */
export function transition(state: EngineState, event: LifecycleEvent): EngineState {
  const next = TRANSITIONS[state][event];
  if (next === 'illegal') throw new Error(`The engine cannot ${event} in state ${state}.`);
  return next;
}
