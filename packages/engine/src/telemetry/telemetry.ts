/**
 * The telemetry of one engine: what its parts count and measure, and where it goes. Without providers it only counts.
 *
 *   hot paths ─► counters ──────────────┐
 *   slow paths ─► tallies, latencies ───┼─► pulled by the meter, or by `metrics()`
 *                      └────────────────┴─► histograms of the meter, as it happens
 */
import { messageOf, SyncEngineError } from '../base/errors.js';
import type { SystemPorts } from '../ports/ports.js';
import { Counters } from './counters.js';
import { Latencies, type OperationStatus, processLatencies } from './latency-timer.js';
import { MeterExport } from './meter-export.js';
import type { Labels, MetricSink, PushedMetric } from './metrics.js';
import type { TelemetryOptions } from './options.js';
import { Tracing, type TracingApi } from './tracing.js';

const SCOPE = 'sync-engine';

/** A count by labels: for what happens rarely, or takes long anyway. */
interface Tally {
  readonly labels: Labels;
  count: number;
}

export class Telemetry {
  readonly counters = new Counters();
  readonly latencies = new Latencies();
  /** How long the start spent in each state, milliseconds. */
  readonly startPhasesMs = new Map<string, number>();
  readonly #options: TelemetryOptions;
  readonly #ports: SystemPorts;
  readonly #operations = new Map<string, Tally>();
  readonly #errors = new Map<string, Tally>();
  #meter: MeterExport | undefined;
  #tracing: Tracing | undefined;
  #stopListening: (() => void)[] = [];
  #complained = false;

  constructor(options: TelemetryOptions, ports: SystemPorts) {
    this.#options = options;
    this.#ports = ports;
  }

  /** Exists while spans are wanted. */
  get tracing(): Tracing | undefined {
    return this.#tracing;
  }

  /** Whether anyone takes values for histograms. */
  get measuring(): boolean {
    return this.#meter !== undefined;
  }

  /** Whether `connect` has anything to do. */
  get wanted(): boolean {
    return this.#options.meterProvider !== undefined || this.#options.tracerProvider !== undefined;
  }

  /**
   * Takes instruments and tracer from the providers. Only here, and only where it is needed, `@opentelemetry/api`
   * is loaded.
   * @throws `CONFIG` where it is needed and not installed.
   */
  async connect(pull: (sink: MetricSink) => void): Promise<void> {
    const { meterProvider, tracerProvider, attributes = {} } = this.#options;
    const needsApi = meterProvider === 'global' || tracerProvider !== undefined;
    const api = needsApi ? await loadApi() : undefined;
    const complain = (error: unknown): void => this.#complain(error);
    try {
      const meters = meterProvider === 'global' ? api?.metrics : meterProvider;
      const meter = meters?.getMeter(SCOPE);
      if (meter !== undefined) this.#meter = new MeterExport(meter, attributes, pull, complain);
      const tracers = tracerProvider === 'global' ? api?.trace : tracerProvider;
      const tracer = tracers?.getTracer(SCOPE);
      if (tracer !== undefined)
        this.#tracing = new Tracing(tracer, api as unknown as TracingApi, attributes, complain);
    } catch (error) {
      this.#complain(error);
    }
    if (this.#meter !== undefined) {
      for (const latencies of [this.latencies, processLatencies])
        this.#stopListening.push(latencies.listen((...timed) => this.#timed(...timed)));
    }
  }

  /** Ends the export; what is counted stays readable. */
  close(): void {
    for (const stop of this.#stopListening) stop();
    this.#stopListening = [];
    this.#meter?.close();
    this.#meter = undefined;
    this.#tracing = undefined;
  }

  /** A call to the log or to SQL ended. */
  called(tier: string, operation: string, ms: number, code: string | undefined): void {
    const status: OperationStatus = code === undefined ? 'ok' : 'error';
    this.latencies.record(tier, operation, status, ms);
    add(this.#operations, { tier, operation, status });
    if (code !== undefined) this.failed(tier, operation, code);
  }

  failed(tier: string, operation: string, code: string): void {
    add(this.#errors, { tier, operation, status: code });
  }

  /** A value for a histogram of the meter. */
  record(name: PushedMetric, value: number, labels: Labels): void {
    this.#meter?.record(name, value, labels);
  }

  /** Hands what is counted here to the sink; the rest is the engine's to say. */
  pull(sink: MetricSink): void {
    for (const { labels, count } of this.#operations.values()) sink('sync_engine_operations', count, labels);
    for (const { labels, count } of this.#errors.values()) sink('sync_engine_errors', count, labels);
    for (const [state, ms] of this.startPhasesMs)
      sink('sync_engine_start_phase', ms / 1000, { operation: state });
    const { counters } = this;
    const operation = (name: string, status: string, count: number): void =>
      sink('sync_engine_operations', count, { tier: 'memory', operation: name, status });
    operation('get', 'hit', counters.getHits);
    operation('get', 'miss', counters.getMisses);
    operation('peek', 'hit', counters.peekHits);
    operation('peek', 'miss', counters.peekMisses);
    operation('submit', 'ok', counters.submits - counters.submitsRefused);
    operation('submit', 'error', counters.submitsRefused);
    operation('delete', 'ok', counters.deletes - counters.deletesRefused);
    operation('delete', 'error', counters.deletesRefused);
    const merkle = (name: string, count: number): void =>
      sink('sync_engine_merkle_operations', count, { operation: name });
    merkle('nodes', counters.merkleNodes);
    merkle('children', counters.merkleChildren);
    merkle('buckets', counters.merkleBuckets);
    merkle('compare', counters.merkleComparisons);
    sink('sync_engine_corruption', counters.corruptMemory, { tier: 'memory' });
    sink('sync_engine_corruption', counters.corruptLog, { tier: 'wal' });
    sink('sync_engine_corruption', counters.corruptRedis, { tier: 'redis' });
    sink('sync_engine_corruption', counters.corruptSql, { tier: 'sql' });
    sink('sync_engine_drains', counters.drains, { status: 'ok' });
    sink('sync_engine_drains', counters.drainsInterrupted, { status: 'error' });
  }

  #timed(tier: string, operation: string, status: OperationStatus, ms: number): void {
    this.#meter?.record('sync_engine_latency', ms / 1000, { tier, operation, status });
  }

  /** Once: a meter that fails does so at every measurement. */
  #complain(error: unknown): void {
    if (this.#complained) return;
    this.#complained = true;
    const what = 'Telemetry failed and goes on with what works; this is said once';
    this.#ports.logger.warn({}, `${what}: ${messageOf(error)}`);
  }
}

function add(tallies: Map<string, Tally>, labels: Labels): void {
  const key = `${labels.tier} ${labels.operation} ${labels.status}`;
  const tally = tallies.get(key);
  if (tally === undefined) tallies.set(key, { labels, count: 1 });
  else tally.count++;
}

async function loadApi() {
  try {
    return await import('@opentelemetry/api');
  } catch (cause) {
    throw new SyncEngineError(
      'CONFIG',
      "telemetry asks for spans or for the global providers, and '@opentelemetry/api' cannot be loaded. Install it: npm install @opentelemetry/api",
      { cause },
    );
  }
}
