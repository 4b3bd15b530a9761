/** The public face of sync-engine: names only. */

export {
  CircuitError,
  type ErrorCode,
  type ErrorContext,
  type Outcome,
  SyncEngineError,
  type Tier,
} from './base/errors.js';
export {
  type BatchConfig,
  type BatcherStats,
  type FlushBatch,
  type FlushReason,
  HybridBatcher,
} from './batching/hybrid-batcher.js';
export type { SyncEngineConfig } from './config/config.js';
export type { AckLevel, SubmitOptions, SubmitReceipt, WriteOptions } from './config/submit-options.js';
export type { BatchResult } from './engine/ack-targets.js';
export type { Ports } from './engine/compose.js';
export type { EngineEventName, EngineEvents, EngineListener } from './engine/events.js';
export type { LoadFactory } from './engine/get-or-insert.js';
export type { BackendHealth, HealthCheck } from './engine/health.js';
export type { EngineState } from './engine/lifecycle.js';
export type { ShutdownResult } from './engine/runtime.js';
export {
  type FlushOptions,
  type GetOptions,
  type ItemStatus,
  type ReadOptions,
  SyncEngine,
} from './engine/sync-engine.js';
export type { Revision } from './item/revision.js';
export { type BatchableItem, ContentType, SyncItem, type SyncItemInit } from './item/sync-item.js';
export type { MemoryStats } from './memory/memory-cache.js';
export type { Clock, Logger, Random, Scheduler, SystemPorts, Timer } from './ports/ports.js';
export type { CircuitState } from './resilience/circuit-breaker.js';
export type {
  ApplyResult,
  ArchiveInfo,
  ArchiveOpenOptions,
  ArchiveStore,
} from './storage/archive-store.js';
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
