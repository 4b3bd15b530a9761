/** The public face of sync-engine: names only. */

export {
  CircuitError,
  type ErrorCode,
  type ErrorContext,
  type ErrorInit,
  type Outcome,
  SyncEngineError,
  type Tier,
} from './base/errors.js';
export {
  type Batch,
  type BatchConfig,
  type BatcherStats,
  type FlushBatch,
  type FlushReason,
  HybridBatcher,
} from './batching/hybrid-batcher.js';
export { CacheTtl } from './config/cache-ttl.js';
export type { SyncEngineConfig } from './config/config.js';
export { configFromEnv } from './config/config-from-env.js';
export {
  type AckLevel,
  OptionsKey,
  SubmitOptions,
  type SubmitReceipt,
  type WriteOptions,
} from './config/submit-options.js';
export type { BatchResult } from './engine/ack-targets.js';
export type { Change, ChangeOptions, ChangePosition } from './engine/change-stream.js';
export type { Ports } from './engine/compose.js';
export type { DeadLetter } from './engine/dead-letters.js';
export type { EngineEventName, EngineEvents, EngineListener } from './engine/events.js';
export type { FilterStatus } from './engine/filter-keeper.js';
export type { LoadFactory } from './engine/get-or-insert.js';
export type { HealthCheck } from './engine/health.js';
export type { EngineState } from './engine/lifecycle.js';
export type { PageOptions, ScanOptions } from './engine/queries.js';
export type { ShutdownResult } from './engine/runtime.js';
export type { ScrubResult } from './engine/scrub.js';
export {
  type DeadLetterBox,
  type FilterCheck,
  type FlushOptions,
  type GetOptions,
  type ItemStatus,
  type ReadOptions,
  type ScrubOptions,
  SyncEngine,
} from './engine/sync-engine.js';
export { FilterManager, type FilterStats, type FilterTrust } from './filter/filter-manager.js';
export type { Refusal, Revision, RevisionBase } from './item/revision.js';
export {
  type BatchableItem,
  ContentType,
  type ItemOptions,
  type SizedItem,
  SyncItem,
  type SyncItemInit,
} from './item/sync-item.js';
export type { MemoryStats } from './memory/memory-cache.js';
export {
  type CacheEntry,
  type EvictionPolicy,
  type PressureOptions,
  TanCurveMemoryPressure,
  TanCurvePolicy,
} from './memory/tan-curve.js';
export type { LeafFields } from './merkle/digest.js';
export type {
  BucketAnswer,
  ChildPage,
  MerkleDiff,
  MerkleNode,
  MerkleSource,
} from './merkle/merkle-source.js';
export type { MerklePath } from './merkle/path.js';
export { MerkleBatch, type PathDelta, PathMerkle } from './merkle/path-merkle.js';
export type { Clock, Logger, Random, Scheduler, SystemPorts, Timer } from './ports/ports.js';
export {
  BackpressureLevel,
  type BackpressureName,
  type BackpressureThresholds,
} from './resilience/backpressure.js';
export {
  BackendCircuits,
  CIRCUIT_PRESETS,
  CircuitBreaker,
  type CircuitConfig,
  type CircuitPorts,
  type CircuitState,
  type CircuitStats,
} from './resilience/circuit-breaker.js';
export {
  type BackendHealth,
  BackendHealthChecker,
  type HealthCheckerPorts,
  type ProbedBackend,
} from './resilience/health-checker.js';
export {
  RETRY_PRESETS,
  type RetryConfig,
  type RetryOptions,
  retry,
  retryDelayMs,
} from './resilience/retry.js';
export type {
  ApplyResult,
  ArchiveInfo,
  ArchiveOpenOptions,
  ArchiveStore,
  ChangeBatch,
  ChangeHead,
  ChangePage,
  ChildDigest,
  CollectRequest,
  CollectResult,
  PathDigest,
  RowChange,
  RowPage,
  RowRange,
  ScrubPage,
  StoredLetter,
} from './storage/archive-store.js';
export type {
  CacheBatch,
  CachedValue,
  CacheHead,
  CacheInfo,
  CacheMemory,
  CacheOpenOptions,
  CachePut,
  CacheRead,
  CacheSample,
  CacheSampleEntry,
  CacheStore,
  CacheWritten,
} from './storage/cache-store.js';
export type { ChannelName, ChannelPayloads } from './telemetry/channels.js';
export type { HistogramStats } from './telemetry/histogram.js';
export {
  type LatencyStats,
  LatencyTimer,
  latencyStats,
  type OperationStatus,
  timeOperation,
} from './telemetry/latency-timer.js';
export type { LabelName, Labels, Measurement, MetricKind, MetricName } from './telemetry/metrics.js';
export type {
  Attributes,
  AttributeValue,
  BatchResultLike,
  HistogramLike,
  InstrumentOptions,
  MeterLike,
  MeterProviderLike,
  SpanContextLike,
  SpanLike,
  TelemetryOptions,
  TracerLike,
  TracerProviderLike,
} from './telemetry/options.js';
export { type LoggedItem, WriteAheadLog } from './wal/item-log.js';
export type {
  DamagedRecord,
  LoadedRecord,
  LogContents,
  LogGroup,
  LogMeta,
  LogOpenOptions,
  RecordStore,
} from './wal/record-store.js';
export type { WalStats } from './wal/write-ahead-log.js';
