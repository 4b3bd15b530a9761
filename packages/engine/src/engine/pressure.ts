/**
 * How far what cannot be evicted has filled the room there is for it, and the level that follows from that. The
 * largest of four shares counts: memory of its budget, objects of the process's heap, records and bytes of the log.
 */
import { getHeapStatistics } from 'node:v8';
import type { MemoryCache } from '../memory/memory-cache.js';
import { BackpressureLevel } from '../resilience/backpressure.js';

export interface PressureConfig {
  readonly l1MaxBytes: number;
  readonly walMaxItems: number;
  readonly walMaxBytes: number;
  readonly backpressureWarn: number;
  readonly backpressureCritical: number;
}

export interface PressureParts {
  readonly memory: MemoryCache;
  readonly hasLog: boolean;
  /** The level is another one. */
  readonly changed: (level: BackpressureLevel, previous: BackpressureLevel, share: PressureShare) => void;
}

export interface PressureShare {
  /** 0 to 1, above where one write took more than was left. */
  readonly ratio: number;
  /** What is the fullest. */
  readonly limit: 'l1MaxBytes' | 'heap' | 'walMaxItems' | 'walMaxBytes';
}

/** Objects of a pending entry in V8's heap, bytes; its content lies outside. Measured. */
const HEAP_BYTES_PER_ENTRY = 600;
/** Of the heap that V8 may use, the share for pending entries: callers hold promises and items of their own. */
const HEAP_SHARE = 0.35;
/** A level ends only this far below where it began, so that it does not come and go with every write. */
const HYSTERESIS = 0.02;

export class Pressure {
  readonly #config: PressureConfig;
  readonly #parts: PressureParts;
  readonly #entriesMax: number;
  #level = BackpressureLevel.Normal;

  constructor(config: PressureConfig, parts: PressureParts) {
    this.#config = config;
    this.#parts = parts;
    this.#entriesMax = (getHeapStatistics().heap_size_limit * HEAP_SHARE) / HEAP_BYTES_PER_ENTRY;
  }

  /** As of the last review. */
  get level(): BackpressureLevel {
    return this.#level;
  }

  /** Most entries that the heap has room for. */
  get entriesMax(): number {
    return this.#entriesMax;
  }

  /** Whether a write can be taken without looking any closer. */
  get calm(): boolean {
    return this.#level === BackpressureLevel.Normal && this.#ratio() < this.#config.backpressureWarn;
  }

  share(): PressureShare {
    const { memory, hasLog } = this.#parts;
    const { l1MaxBytes, walMaxItems, walMaxBytes } = this.#config;
    const ratio = this.#ratio();
    if (ratio === memory.pinnedBytes / l1MaxBytes) return { ratio, limit: 'l1MaxBytes' };
    if (hasLog && ratio === memory.dirtyCount / walMaxItems) return { ratio, limit: 'walMaxItems' };
    if (hasLog && ratio === memory.waitingBytes / walMaxBytes) return { ratio, limit: 'walMaxBytes' };
    return { ratio, limit: 'heap' };
  }

  /** Looks closely, and says so if the level has changed. */
  review(): BackpressureLevel {
    const { backpressureWarn: warn, backpressureCritical: critical } = this.#config;
    const ratio = this.#ratio();
    let level = BackpressureLevel.fromPressure(ratio, { warn, critical });
    if (level.rank < this.#level.rank) {
      const reluctant = BackpressureLevel.fromPressure(ratio + HYSTERESIS, { warn, critical });
      level = reluctant.rank < this.#level.rank ? reluctant : this.#level;
    }
    if (level !== this.#level) {
      const previous = this.#level;
      this.#level = level;
      this.#parts.changed(level, previous, this.share());
    }
    return level;
  }

  #ratio(): number {
    const { memory, hasLog } = this.#parts;
    const { l1MaxBytes, walMaxItems, walMaxBytes } = this.#config;
    let ratio = memory.pinnedBytes / l1MaxBytes;
    const heap = memory.dirty.length / this.#entriesMax;
    if (heap > ratio) ratio = heap;
    if (!hasLog) return ratio;
    const items = memory.dirtyCount / walMaxItems;
    if (items > ratio) ratio = items;
    const bytes = memory.waitingBytes / walMaxBytes;
    return Math.max(bytes, ratio);
  }
}
