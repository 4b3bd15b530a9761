/**
 * A filter and whether its "no" may be believed. Ids are only ever added: one that has been is never denied. While
 * the filter is not known to have all ids, it is untrusted and says nothing.
 */
import { CuckooFilter } from './cuckoo-filter.js';
import { filterOf, imageOf } from './filter-image.js';

/** Whether the filter's "no" is believed. */
export type FilterTrust = 'untrusted' | 'trusted';

/** What a filter holds, and what it answered so far. */
export interface FilterStats {
  readonly trust: FilterTrust;
  /** Why it is untrusted. */
  readonly reason: string | undefined;
  /** Ids in it, as far as it can tell them apart. */
  readonly items: number;
  readonly bytes: number;
  /** Share of its slots that are taken, 0 to 1. */
  readonly loadFactor: number;
  readonly checks: number;
  /** Checks answered with a believed "no". */
  readonly excluded: number;
  /** Checks answered with "maybe" for what SQL then did not have. */
  readonly falsePositives: number;
}

/** A filter of ids, and whether its "no" may be believed. */
export class FilterManager {
  #filter: CuckooFilter;
  #trust: FilterTrust = 'untrusted';
  #reason: string | undefined = 'it has not been filled yet';
  #checks = 0;
  #excluded = 0;
  #falsePositives = 0;

  /** @param seed 16 random bytes: who does not know them cannot choose ids that collide. */
  constructor(seed: Uint8Array) {
    this.#filter = new CuckooFilter(seed);
  }

  /** Whether it is believed now. */
  get trust(): FilterTrust {
    return this.#trust;
  }

  /** The filter itself, to be saved or compared. @internal */
  get filter(): CuckooFilter {
    return this.#filter;
  }

  /** Counts since the beginning. */
  get stats(): FilterStats {
    const { count, bytes, loadFactor } = this.#filter;
    return {
      trust: this.#trust,
      reason: this.#reason,
      items: count,
      bytes,
      loadFactor,
      checks: this.#checks,
      excluded: this.#excluded,
      falsePositives: this.#falsePositives,
    };
  }

  /** False: SQL has no row of it. `undefined`: untrusted, ask SQL. */
  mightExist(id: string): boolean | undefined {
    if (this.#trust === 'untrusted') return undefined;
    this.#checks++;
    if (this.#filter.mightContain(id)) return true;
    this.#excluded++;
    return false;
  }

  /** Whether SQL has to be asked. */
  shouldCheckL3(id: string): boolean {
    return this.mightExist(id) !== false;
  }

  /** SQL did not have what the filter did not exclude. */
  noteFalsePositive(): void {
    if (this.#trust === 'trusted') this.#falsePositives++;
  }

  /** The id is never denied from now on. */
  insert(id: string): void {
    this.#filter.insert(id);
  }

  /** The same for many. */
  insertMany(ids: Iterable<string>): void {
    for (const id of ids) this.#filter.insert(id);
  }

  /** All ids are in it. */
  markTrusted(): void {
    this.#trust = 'trusted';
    this.#reason = undefined;
  }

  /** It says nothing from now on. @param reason For `stats`, so that people learn why. */
  markUntrusted(reason: string): void {
    this.#trust = 'untrusted';
    this.#reason = reason;
  }

  /** The whole filter as bytes. */
  export(): Uint8Array {
    return imageOf(this.#filter);
  }

  /**
   * Takes a filter that was exported; it is untrusted until `markTrusted`, since ids may have come since then.
   * @throws `CORRUPTION`; then nothing was changed.
   */
  import(image: Uint8Array): void {
    this.#filter = filterOf(image);
    this.markUntrusted('it was imported');
  }

  /** Puts another filter in the place of this one; the trust stays as it is. @internal */
  replace(filter: CuckooFilter): void {
    this.#filter = filter;
  }
}
