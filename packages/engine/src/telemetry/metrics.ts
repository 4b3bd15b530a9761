/**
 * Every metric: name, kind, unit, labels, meaning. docs/telemetry.md says the same at more length, and a test
 * compares both. Names are never given a second meaning.
 */

export type MetricKind = 'counter' | 'gauge' | 'histogram';

export interface MetricDefinition {
  /** A `counter` only grows, from the construction of the engine; a `histogram` is recorded where it happens. */
  readonly kind: MetricKind;
  /** UCUM, as OpenTelemetry has it: `s`, `By`, `1`, or `{what}` for counts. */
  readonly unit: string;
  readonly labels: readonly LabelName[];
  readonly description: string;
}

/** Name of a label. */
export type LabelName = 'tier' | 'operation' | 'status';
/** Labels of a measurement, by name. */
export type Labels = Partial<Record<LabelName, string>>;

export const METRICS = {
  sync_engine_operations: {
    kind: 'counter',
    unit: '{operation}',
    labels: ['tier', 'operation', 'status'],
    description: 'Operations of a tier, by how they ended.',
  },
  sync_engine_latency: {
    kind: 'histogram',
    unit: 's',
    labels: ['tier', 'operation', 'status'],
    description: 'Time that calls of the log and of SQL took; and what timeOperation measured.',
  },
  sync_engine_errors: {
    kind: 'counter',
    unit: '{error}',
    labels: ['tier', 'operation', 'status'],
    description: 'Failures; status is the code of the error.',
  },
  sync_engine_corruption: {
    kind: 'counter',
    unit: '{finding}',
    labels: ['tier'],
    description: 'Damaged bytes or drifted digests that were found, and not served.',
  },
  sync_engine_l1_items: {
    kind: 'gauge',
    unit: '{item}',
    labels: [],
    description: 'Entries in memory, tombstones included.',
  },
  sync_engine_l1_bytes: {
    kind: 'gauge',
    unit: 'By',
    labels: [],
    description: 'Accounted bytes of the entries in memory.',
  },
  sync_engine_l1_limit: {
    kind: 'gauge',
    unit: 'By',
    labels: [],
    description: 'The budget of memory, l1MaxBytes.',
  },
  sync_engine_evictions: {
    kind: 'counter',
    unit: '{item}',
    labels: ['tier'],
    description: 'Entries that left memory for want of room.',
  },
  sync_engine_memory_pressure: {
    kind: 'gauge',
    unit: '1',
    labels: [],
    description: 'Share of the budget that cannot be evicted, 0 to 1.',
  },
  sync_engine_backpressure_level: {
    kind: 'gauge',
    unit: '1',
    labels: [],
    description: 'From 0 (Normal) to 5 (Shutdown); writers are held at 2, refused from 3 on.',
  },
  sync_engine_spilled_items: {
    kind: 'gauge',
    unit: '{item}',
    labels: [],
    description: 'Of the writes that wait for SQL, those that only the log holds.',
  },
  sync_engine_queue_items: {
    kind: 'gauge',
    unit: '{item}',
    labels: ['tier'],
    description: 'Writes that wait for the tier.',
  },
  sync_engine_queue_bytes: {
    kind: 'gauge',
    unit: 'By',
    labels: ['tier'],
    description: 'Accounted bytes of the entries that are pinned for the tier.',
  },
  sync_engine_batch_items: {
    kind: 'histogram',
    unit: '{item}',
    labels: ['tier'],
    description: 'Writes of one batch to SQL, of one group to the log.',
  },
  sync_engine_batch_bytes: {
    kind: 'histogram',
    unit: 'By',
    labels: ['tier'],
    description: 'Content of one batch to SQL, of one group to the log.',
  },
  sync_engine_flush_phase: {
    kind: 'histogram',
    unit: 's',
    labels: ['operation'],
    description: 'Time of one batch in apply (SQL), learn (filter) and release (log).',
  },
  sync_engine_drains: {
    kind: 'counter',
    unit: '{drain}',
    labels: ['status'],
    description: 'Backlogs that were brought to SQL, or interrupted by its loss.',
  },
  sync_engine_draining: {
    kind: 'gauge',
    unit: '1',
    labels: [],
    description: '1 while writes wait that failed before or were found in the log.',
  },
  sync_engine_circuit_state: {
    kind: 'gauge',
    unit: '1',
    labels: ['tier'],
    description: '0 closed, 1 half-open, 2 open.',
  },
  sync_engine_backend_healthy: {
    kind: 'gauge',
    unit: '1',
    labels: ['tier'],
    description: '1 while the tier is connected and takes calls.',
  },
  sync_engine_log_records: {
    kind: 'gauge',
    unit: '{record}',
    labels: [],
    description: 'Records that the log holds.',
  },
  sync_engine_log_bytes: {
    kind: 'gauge',
    unit: 'By',
    labels: [],
    description: 'Size of the files of the log.',
  },
  sync_engine_log_appended: {
    kind: 'counter',
    unit: '{record}',
    labels: [],
    description: 'Records that became durable in the log.',
  },
  sync_engine_log_released: {
    kind: 'counter',
    unit: '{record}',
    labels: [],
    description: 'Records that the log was told to forget.',
  },
  sync_engine_filter_entries: {
    kind: 'gauge',
    unit: '{id}',
    labels: [],
    description: 'Ids in the filter.',
  },
  sync_engine_filter_bytes: {
    kind: 'gauge',
    unit: 'By',
    labels: [],
    description: 'Memory of the filter.',
  },
  sync_engine_filter_load: {
    kind: 'gauge',
    unit: '1',
    labels: [],
    description: 'Share of the slots of the filter that are taken, 0 to 1.',
  },
  sync_engine_filter_trusted: {
    kind: 'gauge',
    unit: '1',
    labels: [],
    description: '1 while the "no" of the filter is believed.',
  },
  sync_engine_filter_checks: {
    kind: 'counter',
    unit: '{check}',
    labels: ['status'],
    description: 'Answers of the trusted filter: excluded or possible.',
  },
  sync_engine_filter_false_positives: {
    kind: 'counter',
    unit: '{check}',
    labels: [],
    description: 'Possible ids that SQL then did not have.',
  },
  sync_engine_merkle_operations: {
    kind: 'counter',
    unit: '{operation}',
    labels: ['operation'],
    description: 'Questions about digests: nodes, children, buckets, compare.',
  },
  sync_engine_change_position: {
    kind: 'gauge',
    unit: '{change}',
    labels: [],
    description: 'Newest position of the change log that this engine has seen.',
  },
  sync_engine_coherence_age: {
    kind: 'gauge',
    unit: 's',
    labels: [],
    description: 'Age of the knowledge of what other engines wrote to the archive.',
  },
  sync_engine_cache_lag: {
    kind: 'gauge',
    unit: '{transaction}',
    labels: [],
    description:
      "Transactions in SQL's change log that Redis has not confirmed; their copies are not served.",
  },
  sync_engine_dead_letters: {
    kind: 'gauge',
    unit: '{item}',
    labels: [],
    description: 'Writes that SQL refuses because of the row itself.',
  },
  sync_engine_state: {
    kind: 'gauge',
    unit: '1',
    labels: ['status'],
    description: '1 with the present state as status.',
  },
  sync_engine_start_phase: {
    kind: 'gauge',
    unit: 's',
    labels: ['operation'],
    description: 'Time that the start spent in each state.',
  },
} as const satisfies Record<string, MetricDefinition>;

/** Name of a metric. */
export type MetricName = keyof typeof METRICS;
export type PulledMetric = {
  [Name in MetricName]: (typeof METRICS)[Name]['kind'] extends 'histogram' ? never : Name;
}[MetricName];
export type PushedMetric = Exclude<MetricName, PulledMetric>;

/** Takes one value of a counter or gauge. */
export type MetricSink = (name: PulledMetric, value: number, labels?: Labels) => void;

/** One value, for exporters that do not speak OpenTelemetry. */
export interface Measurement {
  readonly name: MetricName;
  readonly kind: MetricKind;
  readonly unit: string;
  readonly description: string;
  readonly labels: Labels;
  readonly value: number;
}

/** Limits of the buckets of `sync_engine_latency` and `sync_engine_flush_phase`: from 0.1 ms to 10 s. */
export const SECONDS_BUCKETS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
];
export const ITEMS_BUCKETS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];
export const BYTES_BUCKETS = [
  256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864,
];
