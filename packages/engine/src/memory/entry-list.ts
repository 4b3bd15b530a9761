/** A doubly linked list through the entries themselves: no allocation to move an entry. Oldest first. */
import type { Entry } from './entry.js';

export class EntryList {
  #first: Entry | undefined;
  #last: Entry | undefined;
  #count = 0;
  #bytes = 0;

  get first(): Entry | undefined {
    return this.#first;
  }

  get count(): number {
    return this.#count;
  }

  /** Sum of the sizes that the entries had when they were added. */
  get bytes(): number {
    return this.#bytes;
  }

  append(entry: Entry): void {
    entry.list = this;
    entry.previous = this.#last;
    entry.next = undefined;
    if (this.#last === undefined) this.#first = entry;
    else this.#last.next = entry;
    this.#last = entry;
    this.#count++;
    this.#bytes += entry.sizeBytes;
  }

  remove(entry: Entry): void {
    if (entry.previous === undefined) this.#first = entry.next;
    else entry.previous.next = entry.next;
    if (entry.next === undefined) this.#last = entry.previous;
    else entry.next.previous = entry.previous;
    entry.list = undefined;
    entry.previous = undefined;
    entry.next = undefined;
    this.#count--;
    this.#bytes -= entry.sizeBytes;
  }

  /** Makes the entry the youngest. */
  renew(entry: Entry): void {
    if (this.#last === entry) return;
    this.remove(entry);
    this.append(entry);
  }

  *[Symbol.iterator](): Generator<Entry> {
    for (let entry = this.#first; entry !== undefined; ) {
      const next: Entry | undefined = entry.next;
      yield entry;
      entry = next;
    }
  }
}
