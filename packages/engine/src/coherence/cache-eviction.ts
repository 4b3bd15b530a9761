/**
 * Makes room in Redis before Redis has to: above a share of `maxmemory` it samples this archive's copies and removes those
 * with the lowest score, until a lower share is reached. What is not a copy of an item, and what belongs to others, is
 * never sampled, so it is never removed. A copy that is gone is read from SQL.
 */

import { type CacheEntry, type EvictionPolicy, TanCurvePolicy } from '../memory/tan-curve.js';
import type { Clock, Scheduler, Timer } from '../ports/ports.js';
import type { CacheSampleEntry } from '../storage/cache-store.js';
import type { GuardedCache } from '../storage/guarded-cache.js';

const LOOK_MS = 1000;
const SAMPLED_AT_ONCE = 1000;
/** Of the sampled ones, those with the lowest scores go. */
const SHARE_EVICTED = 0.3;
/** Rounds of one look: about a second on a busy server. */
const ROUNDS_MAX = 50;

export interface CacheEvictionConfig {
  readonly redisEvictionEnabled: boolean;
  readonly redisEvictionStart: number;
  readonly redisEvictionTarget: number;
}

export interface CacheEvictionParts {
  readonly config: CacheEvictionConfig;
  readonly cache: GuardedCache;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly policy: EvictionPolicy | undefined;
  readonly evicted: (count: number) => void;
}

export class CacheEviction {
  readonly #parts: CacheEvictionParts;
  readonly #policy: EvictionPolicy;
  #cursor: string | undefined;
  #timer: Timer | undefined;
  #looking: Promise<void> | undefined;
  #stopped = false;
  /** Share of `maxmemory` in use at the last look; `undefined` without a limit. */
  #share: number | undefined;

  constructor(parts: CacheEvictionParts) {
    this.#parts = parts;
    this.#policy = parts.policy ?? new TanCurvePolicy();
  }

  get share(): number | undefined {
    return this.#share;
  }

  start(): void {
    if (this.#stopped) return;
    this.#timer = this.#parts.scheduler.after(
      LOOK_MS,
      () => void this.look().finally(() => this.start()),
      false,
    );
  }

  /** One look, and room where it is wanted. Never rejects. */
  look(): Promise<void> {
    this.#looking ??= this.#look()
      .catch(() => {
        // The guard has taken note.
      })
      .finally(() => {
        this.#looking = undefined;
      });
    return this.#looking;
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  async #look(): Promise<void> {
    const { cache, config } = this.#parts;
    if (!cache.available) return;
    this.#share = await this.#used();
    if (!config.redisEvictionEnabled || (this.#share ?? 0) < config.redisEvictionStart) return;
    for (let round = 0; round < ROUNDS_MAX && !this.#stopped; round++) {
      await this.#round();
      this.#share = await this.#used();
      if ((this.#share ?? 0) <= config.redisEvictionTarget) return;
    }
  }

  async #used(): Promise<number | undefined> {
    const { usedBytes, maxBytes } = await this.#parts.cache.memory();
    return maxBytes === 0 ? undefined : usedBytes / maxBytes;
  }

  async #round(): Promise<void> {
    const { cache, clock, evicted } = this.#parts;
    const { entries, next } = await cache.sample(this.#cursor, SAMPLED_AT_ONCE);
    this.#cursor = next;
    const nowMs = clock.now();
    const scored = entries
      .map((entry) => ({ entry, seen: seenBy(entry, nowMs) }))
      .map(({ entry, seen }) => ({
        entry,
        seen,
        score: entry.unreachable ? Number.NEGATIVE_INFINITY : this.#policy.score(seen, nowMs),
      }))
      .sort((a, b) => a.score - b.score);
    const count = Math.ceil(scored.length * SHARE_EVICTED);
    const victims = scored.filter(({ entry }, at) => at < count || entry.unreachable);
    for (const { seen } of victims) this.#policy.evicted?.(seen, nowMs);
    evicted(await cache.evict(victims.map(({ entry }) => entry.key)));
  }
}

/** The order among copies needs no ids. */
function seenBy({ bytes, idleMs }: CacheSampleEntry, nowMs: number): CacheEntry {
  return { id: '', sizeBytes: bytes, lastAccess: nowMs - idleMs, accessCount: 1, isDirty: false };
}
