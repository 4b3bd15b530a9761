/**
 * Loads of `getOrInsert` under way, one per id, and the fence around each: a value that was loaded before a
 * write of the id must not be submitted after it, or a delete would be undone by what it deleted.
 */
import type { SyncItem } from '../item/sync-item.js';

export interface Load {
  overtaken: boolean;
  promise: Promise<SyncItem> | undefined;
}

export class Loads {
  readonly #loads = new Map<string, Load>();

  find(id: string): Load | undefined {
    return this.#loads.get(id);
  }

  begin(id: string): Load {
    const load: Load = { overtaken: false, promise: undefined };
    this.#loads.set(id, load);
    return load;
  }

  end(id: string): void {
    this.#loads.delete(id);
  }

  /** A write of `id` is being taken, here, or was committed by somebody else. */
  overtake(id: string): void {
    if (this.#loads.size === 0) return;
    const load = this.#loads.get(id);
    if (load !== undefined) load.overtaken = true;
  }
}
