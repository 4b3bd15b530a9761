/**
 * The metrics of one engine on an OpenTelemetry meter. Counters and gauges are pulled, all in one callback, so that
 * they fit each other; histograms are recorded where something took long anyway.
 *
 * A meter that throws costs its measurements, never an operation.
 */
import {
  BYTES_BUCKETS,
  ITEMS_BUCKETS,
  type Labels,
  METRICS,
  type MetricName,
  type MetricSink,
  type PushedMetric,
  SECONDS_BUCKETS,
} from './metrics.js';
import type {
  Attributes,
  AttributeValue,
  BatchResultLike,
  HistogramLike,
  InstrumentOptions,
  MeterLike,
} from './options.js';

const BOUNDARIES: Readonly<Record<PushedMetric, number[]>> = {
  sync_engine_latency: SECONDS_BUCKETS,
  sync_engine_flush_phase: SECONDS_BUCKETS,
  sync_engine_batch_items: ITEMS_BUCKETS,
  sync_engine_batch_bytes: BYTES_BUCKETS,
};

export class MeterExport {
  readonly #meter: MeterLike;
  readonly #constant: Attributes;
  readonly #failed: (error: unknown) => void;
  readonly #pulled = new Map<string, object>();
  readonly #pushed = new Map<string, HistogramLike>();
  readonly #callback: (result: BatchResultLike) => void;

  /**
   * @param pull Hands every counter and gauge to the sink.
   * @param failed Told of what the meter throws.
   * @throws what the meter throws when instruments are made.
   */
  constructor(
    meter: MeterLike,
    constant: Attributes,
    pull: (sink: MetricSink) => void,
    failed: (error: unknown) => void,
  ) {
    this.#meter = meter;
    this.#constant = constant;
    this.#failed = failed;
    for (const name of Object.keys(METRICS) as MetricName[]) this.#create(name);
    this.#callback = (result) => {
      try {
        pull((name, value, labels) => {
          result.observe(this.#pulled.get(name) as object, value, this.#attributes(labels));
        });
      } catch (error) {
        failed(error);
      }
    };
    meter.addBatchObservableCallback(this.#callback, [...this.#pulled.values()]);
  }

  record(name: PushedMetric, value: number, labels: Labels): void {
    try {
      this.#pushed.get(name)?.record(value, this.#attributes(labels));
    } catch (error) {
      this.#failed(error);
    }
  }

  /** The meter forgets the engine. */
  close(): void {
    try {
      this.#meter.removeBatchObservableCallback(this.#callback, [...this.#pulled.values()]);
    } catch (error) {
      this.#failed(error);
    }
  }

  #create(name: MetricName): void {
    const { kind, unit, description } = METRICS[name];
    const options: InstrumentOptions = { unit, description };
    if (kind === 'counter') this.#pulled.set(name, this.#meter.createObservableCounter(name, options));
    else if (kind === 'gauge') this.#pulled.set(name, this.#meter.createObservableGauge(name, options));
    else {
      const boundaries = BOUNDARIES[name as PushedMetric];
      const advice = { explicitBucketBoundaries: boundaries };
      this.#pushed.set(name, this.#meter.createHistogram(name, { ...options, advice }));
    }
  }

  #attributes(labels: Labels | undefined): Record<string, AttributeValue> {
    return { ...this.#constant, ...labels };
  }
}
