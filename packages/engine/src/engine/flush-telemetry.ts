/** One batch as telemetry sees it: its size, the time of each phase, its span, and the event when it has ended. */
import { SyncEngineError } from '../base/errors.js';
import type { Revision } from '../item/revision.js';
import type { Clock } from '../ports/ports.js';
import { APPLY_STORED, type ApplyResult } from '../storage/archive-store.js';
import { publish } from '../telemetry/channels.js';
import type { Telemetry } from '../telemetry/telemetry.js';
import type { Span } from '../telemetry/tracing.js';
import type { FlushObserver } from './flush.js';

const TIER = { tier: 'sql' };

export class BatchTelemetry implements FlushObserver {
  readonly #telemetry: Telemetry;
  readonly #clock: Clock;
  readonly #node: string;
  readonly #items: number;
  readonly #bytes: number;
  readonly #startedMs: number;
  readonly #span: Span | undefined;
  #applySpan: Span | undefined;
  /** Beginning of the phase that is under way. */
  #sinceMs: number;
  /** Ends of `learned`, oldest first: the log releases in the same order. */
  readonly #learnedMs: number[] = [];
  #stored = 0;
  #failure: unknown;

  constructor(writes: readonly Revision[], telemetry: Telemetry, clock: Clock, node: string) {
    this.#telemetry = telemetry;
    this.#clock = clock;
    this.#node = node;
    this.#items = writes.length;
    let bytes = 0;
    for (const { content } of writes) bytes += content.length;
    this.#bytes = bytes;
    this.#startedMs = clock.monotonic();
    this.#sinceMs = this.#startedMs;
    telemetry.record('sync_engine_batch_items', writes.length, TIER);
    telemetry.record('sync_engine_batch_bytes', bytes, TIER);
    const size = { 'sync_engine.items': writes.length, 'sync_engine.bytes': bytes };
    this.#span = telemetry.tracing?.background('sync_engine.flush', size, writes);
  }

  applying(count: number): void {
    this.#sinceMs = this.#clock.monotonic();
    this.#applySpan = this.#span?.child('sync_engine.apply', { 'sync_engine.items': count });
  }

  applied({ flags }: ApplyResult): void {
    this.#phase('apply');
    for (const flag of flags) if ((flag & APPLY_STORED) !== 0) this.#stored++;
    this.#applySpan?.end();
  }

  failed(error: unknown): void {
    this.#failure = error;
    this.#phase('apply');
    this.#applySpan?.end(error);
  }

  learned(): void {
    this.#phase('learn');
    this.#learnedMs.push(this.#sinceMs);
  }

  released(): void {
    const since = this.#learnedMs.shift() ?? this.#sinceMs;
    const seconds = (this.#clock.monotonic() - since) / 1000;
    this.#telemetry.record('sync_engine_flush_phase', seconds, { operation: 'release' });
  }

  ended(): void {
    this.#span?.set('sync_engine.stored', this.#stored);
    this.#span?.end(this.#failure);
    const failed = this.#failure !== undefined;
    publish('sync_engine:flush', {
      node: this.#node,
      status: failed ? 'error' : 'ok',
      items: this.#items,
      bytes: this.#bytes,
      stored: this.#stored,
      durationMs: this.#clock.monotonic() - this.#startedMs,
      code: failed ? codeOf(this.#failure) : undefined,
    });
  }

  /** The phase that is under way ends, the next one begins. */
  #phase(operation: 'apply' | 'learn'): void {
    const now = this.#clock.monotonic();
    this.#telemetry.record('sync_engine_flush_phase', (now - this.#sinceMs) / 1000, { operation });
    this.#sinceMs = now;
  }
}

function codeOf(error: unknown): string {
  return error instanceof SyncEngineError ? error.code : 'unknown';
}
