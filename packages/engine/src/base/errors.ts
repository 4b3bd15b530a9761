/** Every code an operation of the engine can fail with. `docs/errors.md` has a heading for each. */
export type ErrorCode =
  | 'BACKPRESSURE'
  | 'TIER_UNAVAILABLE'
  | 'CIRCUIT_OPEN'
  | 'DEADLINE'
  | 'WAL_FAILED'
  | 'WAL_FULL'
  | 'CORRUPTION'
  | 'PAYLOAD_TOO_LARGE'
  | 'CONFIG'
  | 'ENGINE_STATE'
  | 'SCHEMA'
  | 'CONFLICT'
  | 'REJECTED'
  | 'ABORTED';

/**
 * What became of the operation. `indeterminate`: the engine holds the write and may still apply it, so a
 * later read can show it.
 */
export type Outcome = 'not-applied' | 'applied' | 'indeterminate';

/** The part of the engine that an error speaks of. The log is not a tier, but it fails like one. */
export type Tier = 'memory' | 'wal' | 'redis' | 'sql';

/** Facts beside the message, for programs. Never content, never credentials. */
export interface ErrorContext {
  readonly tier?: Tier;
  readonly id?: string;
  /** File that the error is about. */
  readonly path?: string;
  readonly operation?: string;
  readonly deadlineMs?: number;
  /** Every mistake of a configuration, one sentence each (`CONFIG`). */
  readonly problems?: readonly string[];
  /** Who holds the file (`CONFLICT`). */
  readonly holder?: string;
  /** `BACKPRESSURE`: name of the level, and when to try again. */
  readonly level?: string;
  readonly retryAfterMs?: number;
  readonly httpStatus?: number;
  readonly [key: string]: unknown;
}

/** What an error may carry beside its message; a store of your own throws such errors. */
export interface ErrorInit {
  readonly outcome?: Outcome;
  readonly context?: ErrorContext;
  readonly cause?: unknown;
}

/** Codes after which the same call can succeed without anyone changing anything. */
const RETRYABLE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'BACKPRESSURE',
  'TIER_UNAVAILABLE',
  'CIRCUIT_OPEN',
  'DEADLINE',
  'WAL_FAILED',
  'WAL_FULL',
]);

/** The one error class of the engine. Match on `code`; the message is for people. */
export class SyncEngineError extends Error {
  override readonly name: string = 'SyncEngineError';
  readonly code: ErrorCode;
  readonly outcome: Outcome;
  readonly context: ErrorContext;

  constructor(code: ErrorCode, message: string, init: ErrorInit = {}) {
    super(message, init.cause === undefined ? undefined : { cause: init.cause });
    this.code = code;
    this.outcome = init.outcome ?? 'not-applied';
    this.context = init.context ?? {};
  }

  /** True where the same call may succeed later without a change by the caller. */
  get retryable(): boolean {
    return RETRYABLE.has(this.code);
  }
}

/** A call that was not made, because its breaker is open. */
export class CircuitError extends SyncEngineError {
  override readonly name = 'CircuitError';
  override readonly code = 'CIRCUIT_OPEN';

  constructor(circuit: string, retryAfterMs: number, cause?: unknown) {
    super(
      'CIRCUIT_OPEN',
      `The breaker of ${circuit} is open after repeated failures: the call was not made. Calls resume by themselves when a probe is answered; try again after ${Math.ceil(retryAfterMs)} ms (retryAfterMs).`,
      { context: { operation: circuit, retryAfterMs }, ...(cause === undefined ? {} : { cause }) },
    );
  }
}

/** The same failure with another outcome or tier; keeps code, message and cause. */
export function withOutcome(error: SyncEngineError, outcome: Outcome): SyncEngineError {
  return new SyncEngineError(error.code, error.message, {
    outcome,
    context: error.context,
    cause: error.cause,
  });
}

/** Text of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
