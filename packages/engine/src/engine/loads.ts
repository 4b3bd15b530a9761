/**
 * Loads of `getOrInsert` under way, one per id, and the fence around each: a value that was loaded before a
 * write of the id must not be submitted after it, or a delete would be undone by what it deleted.
 */
import type { SyncItem } from '../item/sync-item.js';

export class Load {
  overtaken = false;
  promise: Promise<SyncItem> | undefined;
  readonly #controller = new AbortController();
  #waiting = 0;
  readonly #forgotten: (() => void)[] = [];

  /** Aborted when all who joined have given up; who has no signal never does. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  join(signal: AbortSignal | undefined): void {
    this.#waiting++;
    const leave = (): void => {
      this.#waiting--;
      if (this.#waiting === 0) this.#controller.abort();
    };
    if (signal?.aborted === true) leave();
    if (signal === undefined || signal.aborted) return;
    signal.addEventListener('abort', leave, { once: true });
    this.#forgotten.push(() => signal.removeEventListener('abort', leave));
  }

  /** A caller's signal may live for long. */
  end(): void {
    for (const forget of this.#forgotten) forget();
  }
}

export class Loads {
  readonly #loads = new Map<string, Load>();

  find(id: string): Load | undefined {
    return this.#loads.get(id);
  }

  begin(id: string): Load {
    const load = new Load();
    this.#loads.set(id, load);
    return load;
  }

  end(id: string): void {
    this.#loads.get(id)?.end();
    this.#loads.delete(id);
  }

  /** A write of `id` is being taken, here, or was committed by somebody else. */
  overtake(id: string): void {
    if (this.#loads.size === 0) return;
    const load = this.#loads.get(id);
    if (load !== undefined) load.overtaken = true;
  }
}
