/** A doubly linked list through the entries themselves: no allocation to move an entry. Oldest first. */

/** What an element carries of its place in a list. */
export interface Linked<T extends Linked<T>> {
  readonly sizeBytes: number;
  list: EntryList<T> | undefined;
  previous: T | undefined;
  next: T | undefined;
}

export class EntryList<T extends Linked<T>> {
  #first: T | undefined;
  #last: T | undefined;
  #count = 0;
  #bytes = 0;

  get first(): T | undefined {
    return this.#first;
  }

  get count(): number {
    return this.#count;
  }

  /** Sum of the sizes that the entries had when they were added. */
  get bytes(): number {
    return this.#bytes;
  }

  append(entry: T): void {
    entry.list = this;
    entry.previous = this.#last;
    entry.next = undefined;
    if (this.#last === undefined) this.#first = entry;
    else this.#last.next = entry;
    this.#last = entry;
    this.#count++;
    this.#bytes += entry.sizeBytes;
  }

  remove(entry: T): void {
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
  renew(entry: T): void {
    if (this.#last === entry) return;
    this.remove(entry);
    this.append(entry);
  }

  *[Symbol.iterator](): Generator<T> {
    for (let entry = this.#first; entry !== undefined; ) {
      const next: T | undefined = entry.next;
      yield entry;
      entry = next;
    }
  }
}
