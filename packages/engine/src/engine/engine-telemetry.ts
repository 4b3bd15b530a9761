/**
 * What one engine's parts tell its telemetry: numbers that are pulled from them, and what happens, as measurements,
 * spans and events on channels. It observes; no part waits for it or asks it anything.
 */
import { SyncEngineError } from '../base/errors.js';
import type { MemoryStats } from '../memory/memory-cache.js';
import type { SystemPorts } from '../ports/ports.js';
import type { BackpressureLevel } from '../resilience/backpressure.js';
import type { CircuitState } from '../resilience/circuit-breaker.js';
import type { BackendHealth } from '../resilience/health-checker.js';
import type { ApplyResult, ChangeHead } from '../storage/archive-store.js';
import { isHeard, publish } from '../telemetry/channels.js';
import type { LatencyStats } from '../telemetry/latency-timer.js';
import { processLatencies } from '../telemetry/latency-timer.js';
import { METRICS, type Measurement, type MetricSink } from '../telemetry/metrics.js';
import type { TelemetryOptions } from '../telemetry/options.js';
import { Telemetry } from '../telemetry/telemetry.js';
import type { Span, TraceCarrier, Tracing } from '../telemetry/tracing.js';
import type { CommittedGroup } from '../wal/write-ahead-log.js';
import type { WriteFailures } from './ack-targets.js';
import type { FlushObserver } from './flush.js';
import { BatchTelemetry } from './flush-telemetry.js';
import type { HealthCheck } from './health.js';
import type { EngineState } from './lifecycle.js';

/** What is asked of the engine when numbers are pulled. */
export interface ObservedEngine {
  readonly state: EngineState;
  readonly memory: { readonly stats: MemoryStats };
  readonly filter:
    | { readonly manager: { readonly stats: { bytes: number; loadFactor: number } & FilterCounts } }
    | undefined;
  readonly flusher: { readonly draining: boolean } | undefined;
  readonly archive: { readonly available: boolean } | undefined;
  health(): HealthCheck;
}

interface FilterCounts {
  readonly checks: number;
  readonly excluded: number;
  readonly falsePositives: number;
}

const CIRCUIT_NUMBER: Readonly<Record<CircuitState, number>> = { closed: 0, 'half-open': 1, open: 2 };

export class EngineTelemetry {
  readonly core: Telemetry;
  /** Copies removed from Redis to make room. */
  cacheEvictions = 0;
  /** Names the engine in events; known once the log is open. */
  node = '';
  /** Newest position of the change log that was seen. */
  #position = 0;
  readonly #ports: SystemPorts;
  readonly #engine: ObservedEngine;
  #stateSinceMs = 0;
  #startSpan: Span | undefined;
  #shutdownSpan: Span | undefined;
  #drain: { readonly span: Span | undefined; readonly sinceMs: number } | undefined;
  readonly submits: WriteFailures;
  readonly deletes: WriteFailures;

  constructor(options: TelemetryOptions | undefined, ports: SystemPorts, engine: ObservedEngine) {
    this.core = new Telemetry(options ?? {}, ports);
    this.#ports = ports;
    this.#engine = engine;
    this.submits = { failed: (error) => this.#writeFailed('submit', error) };
    this.deletes = { failed: (error) => this.#writeFailed('delete', error) };
  }

  get tracing(): Tracing | undefined {
    return this.core.tracing;
  }

  // ── Life ───────────────────────────────────────────────────────────────────────────────────────────────

  /** @throws `CONFIG` where the API of OpenTelemetry is needed and missing. */
  async starting(): Promise<void> {
    if (!this.core.wanted) return;
    await this.core.connect((sink) => this.#pull(sink));
    this.#startSpan = this.tracing?.operation('sync_engine.start');
  }

  started(error?: unknown): void {
    this.#startSpan?.end(error);
    this.#startSpan = undefined;
  }

  closing(): void {
    this.#shutdownSpan = this.tracing?.operation('sync_engine.shutdown');
  }

  closed(flushed: number, remaining: number): void {
    this.#shutdownSpan?.set('sync_engine.flushed', flushed);
    this.#shutdownSpan?.set('sync_engine.remaining', remaining);
    this.#shutdownSpan?.end();
    if (remaining === 0) return;
    const { logger } = this.#ports;
    logger.warn({ flushed, remaining }, 'Closed with writes that are not in SQL; a log keeps them.');
  }

  stateChanged(state: EngineState, previous: EngineState): void {
    const now = this.#ports.clock.monotonic();
    if (PHASES.has(previous)) this.core.startPhasesMs.set(previous, now - this.#stateSinceMs);
    this.#stateSinceMs = now;
    this.#startSpan?.event(state);
    publish('sync_engine:state', { node: this.node, state, previous });
    if (state === 'Closed' || state === 'Failed') {
      this.#endDrain(true);
      this.core.close();
    }
  }

  // ── What the parts report ──────────────────────────────────────────────────────────────────────────────

  called(tier: 'redis' | 'sql', operation: string, ms: number | undefined, code: string | undefined): void {
    if (ms === undefined) this.core.failed(tier, operation, code ?? 'unknown');
    else this.core.called(tier, operation, ms, code);
  }

  logCommitted({ appends, released, durationMs, error }: CommittedGroup): void {
    this.core.called('wal', 'commit', durationMs, error?.code);
    const heard = isHeard('sync_engine:logCommit');
    if (!heard && !this.core.measuring) return;
    let bytes = 0;
    for (const { content } of appends) bytes += content.length;
    if (appends.length > 0) {
      this.core.record('sync_engine_batch_items', appends.length, { tier: 'wal' });
      this.core.record('sync_engine_batch_bytes', bytes, { tier: 'wal' });
    }
    publish('sync_engine:logCommit', {
      node: this.node,
      status: error === undefined ? 'ok' : 'error',
      records: appends.length,
      released,
      bytes,
      durationMs,
      code: error?.code,
    });
  }

  flush(writes: ConstructorParameters<typeof BatchTelemetry>[0]): FlushObserver | undefined {
    const { core } = this;
    if (!core.measuring && core.tracing === undefined && !isHeard('sync_engine:flush')) return undefined;
    return new BatchTelemetry(writes, core, this.#ports.clock, this.node);
  }

  seen({ position }: ChangeHead): void {
    if (position > this.#position) this.#position = position;
  }

  stored({ head }: ApplyResult): void {
    this.seen(head);
    this.watchDrain();
  }

  /** Begins and ends the drain, by what the engine is doing now. */
  watchDrain(): void {
    const { flusher, archive } = this.#engine;
    const draining = flusher?.draining === true;
    if (this.#drain === undefined) {
      if (draining && archive?.available === true) this.#beginDrain();
    } else if (!draining) this.#endDrain(false);
    else if (archive?.available !== true) this.#endDrain(true);
  }

  circuitChanged(tier: 'redis' | 'sql', state: CircuitState): void {
    publish('sync_engine:circuit', { node: this.node, tier, state });
    if (tier === 'sql') this.watchDrain();
  }

  corrupt(tier: 'memory' | 'wal' | 'redis' | 'sql', id: string | undefined): void {
    const { counters } = this.core;
    if (tier === 'memory') counters.corruptMemory++;
    else if (tier === 'wal') counters.corruptLog++;
    else if (tier === 'redis') counters.corruptRedis++;
    else counters.corruptSql++;
    publish('sync_engine:corruption', { node: this.node, tier, id });
  }

  setAside(id: string): void {
    publish('sync_engine:deadLetter', { node: this.node, id });
  }

  /** An error that no caller waits for. It is counted where it came from. */
  reported({ code, context }: SyncEngineError): void {
    const { tier, operation } = context;
    publish('sync_engine:error', { node: this.node, code, tier, operation });
  }

  backpressure(level: BackpressureLevel, previous: BackpressureLevel): void {
    publish('sync_engine:backpressure', { node: this.node, level: level.name, previous: previous.name });
  }

  /** Around a write whose level is waited for: below the caller's span, or in the trace that the item names. */
  tracedWrite(item: TraceCarrier & { id: string }, deleted: boolean, ack: string): Span | undefined {
    const facts = { 'sync_engine.id': item.id, 'sync_engine.ack': ack };
    return this.tracing?.caller(deleted ? 'sync_engine.delete' : 'sync_engine.submit', facts, item);
  }

  /** Around a read that goes to SQL. */
  readonly tracedGet = <T>(found: Promise<T>): Promise<T> =>
    this.tracing?.caller('sync_engine.get', {})?.during(found) ?? found;

  // ── What is pulled ─────────────────────────────────────────────────────────────────────────────────────

  get measurements(): Measurement[] {
    const all: Measurement[] = [];
    this.#pull((name, value, labels = {}) => {
      const { kind, unit, description } = METRICS[name];
      all.push({ name, kind, unit, description, labels, value });
    });
    return all;
  }

  get latencies(): LatencyStats[] {
    return [...this.core.latencies.stats, ...processLatencies.stats];
  }

  #pull(sink: MetricSink): void {
    const { state, memory, filter, flusher } = this.#engine;
    const health = this.#engine.health();
    const { items, bytes, bytesMax, dirtyItems, dirtyBytes, spilledItems, evictions } = memory.stats;
    const { wal, sql, redis, redisLag, deadLetters } = health;
    this.core.pull(sink);
    sink('sync_engine_state', 1, { status: state });
    sink('sync_engine_l1_items', items);
    sink('sync_engine_l1_bytes', bytes);
    sink('sync_engine_l1_limit', bytesMax);
    sink('sync_engine_evictions', evictions, { tier: 'memory' });
    if (redis !== undefined) {
      sink('sync_engine_evictions', this.cacheEvictions, { tier: 'redis' });
      sink('sync_engine_circuit_state', CIRCUIT_NUMBER[redis.circuit], { tier: 'redis' });
      sink('sync_engine_backend_healthy', isWell(redis) ? 1 : 0, { tier: 'redis' });
      sink('sync_engine_cache_lag', redisLag ?? 0);
    }
    sink('sync_engine_memory_pressure', health.memoryPressure);
    sink('sync_engine_backpressure_level', health.backpressure.rank);
    if (sql !== undefined) {
      sink('sync_engine_queue_items', dirtyItems - deadLetters, { tier: 'sql' });
      sink('sync_engine_queue_bytes', dirtyBytes, { tier: 'sql' });
      sink('sync_engine_spilled_items', spilledItems);
      sink('sync_engine_circuit_state', CIRCUIT_NUMBER[sql.circuit], { tier: 'sql' });
      sink('sync_engine_backend_healthy', isWell(sql) ? 1 : 0, { tier: 'sql' });
      sink('sync_engine_change_position', this.#position);
      if (health.coherenceAgeMs !== undefined)
        sink('sync_engine_coherence_age', health.coherenceAgeMs / 1000);
      sink('sync_engine_dead_letters', deadLetters);
      sink('sync_engine_draining', flusher?.draining === true ? 1 : 0);
    }
    if (wal !== undefined) {
      sink('sync_engine_backend_healthy', wal.backendHealthy ? 1 : 0, { tier: 'wal' });
      sink('sync_engine_log_records', wal.pendingItems);
      sink('sync_engine_log_bytes', wal.fileBytes);
      sink('sync_engine_log_appended', wal.totalAppended);
      sink('sync_engine_log_released', wal.totalReleased);
    }
    if (filter === undefined) return;
    const stats = filter.manager.stats;
    sink('sync_engine_filter_entries', health.filterItems);
    sink('sync_engine_filter_bytes', stats.bytes);
    sink('sync_engine_filter_load', stats.loadFactor);
    sink('sync_engine_filter_trusted', health.filterTrust === 'trusted' ? 1 : 0);
    sink('sync_engine_filter_checks', stats.excluded, { status: 'excluded' });
    sink('sync_engine_filter_checks', stats.checks - stats.excluded, { status: 'possible' });
    sink('sync_engine_filter_false_positives', stats.falsePositives);
  }

  #writeFailed(operation: 'submit' | 'delete', error: unknown): void {
    const failure = error instanceof SyncEngineError ? error : undefined;
    const tier = failure?.context.tier ?? 'memory';
    this.core.failed(tier, operation, failure?.code ?? 'unknown');
  }

  #beginDrain(): void {
    const span = this.tracing?.background('sync_engine.drain', {}, []);
    this.#drain = { span, sinceMs: this.#ports.clock.monotonic() };
    this.#ports.logger.info({ tier: 'sql' }, 'What waited for SQL is being brought there.');
  }

  #endDrain(interrupted: boolean): void {
    if (this.#drain === undefined) return;
    const { span, sinceMs } = this.#drain;
    this.#drain = undefined;
    if (interrupted) this.core.counters.drainsInterrupted++;
    else this.core.counters.drains++;
    const facts = { tier: 'sql', durationMs: this.#ports.clock.monotonic() - sinceMs };
    if (interrupted)
      this.#ports.logger.warn(facts, 'The drain was interrupted; it goes on with the return of SQL.');
    else this.#ports.logger.info(facts, 'What waited for SQL has been brought there.');
    span?.end(interrupted ? new Interrupted() : undefined);
  }
}

function isWell({ connected, circuit }: BackendHealth): boolean {
  return connected && circuit !== 'open';
}

class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

/** States that a start passes through. */
const PHASES: ReadonlySet<EngineState> = new Set<EngineState>([
  'Connecting',
  'DrainingWal',
  'SyncingRedis',
  'WarmingUp',
  'Ready',
]);
