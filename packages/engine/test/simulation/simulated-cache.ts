/**
 * A Redis that outlives the engines using it, with the faults of real ones: commands that arrive late, even after whoever
 * sent them has died, answers that are lost, values that are evicted, restarts that lose everything, and failovers to
 * something older.
 */
import { CacheServer, MemoryCacheStore } from '../support/memory-cache-store.js';
import type { Life, World } from './world.js';

export class CacheHost extends CacheServer {
  readonly #world: World;
  /** Share of commands that meet a fault. */
  faults = 0;
  #older: (() => void)[] = [];

  constructor(world: World) {
    super(() => world.now);
    this.#world = world;
  }

  /** Later a failover may come back to this. */
  remember(): void {
    this.#older.push(this.snapshot());
    if (this.#older.length > 3) this.#older.shift();
  }

  /** Connections end; what is there afterwards is as it was, older, or nothing. */
  async fail(downMs: number): Promise<void> {
    const { dice } = this.#world;
    this.stop();
    const fate = dice.pick(['same', 'older', 'older', 'empty'] as const);
    this.#world.note(`Redis comes back ${fate}`);
    this.#world.plan(downMs, undefined, () => {
      if (fate === 'empty') this.flushAll();
      if (fate === 'older') this.#older.pop()?.();
      this.start();
    });
  }
}

export function simulatedCache(host: CacheHost, world: World, life: Life): MemoryCacheStore {
  const store = new MemoryCacheStore(host);
  const { dice } = world;
  // What was sent arrives, whether the sender lives or not.
  store.arriving = () =>
    new Promise((resolve) => {
      const late = dice.chance(host.faults);
      world.plan(late ? dice.between(100, 1500) : dice.between(0, 3), undefined, resolve);
    });
  store.answering = () =>
    new Promise((resolve) => {
      if (dice.chance(host.faults)) return;
      world.plan(dice.between(0, 3), life, resolve);
    });
  return store;
}
