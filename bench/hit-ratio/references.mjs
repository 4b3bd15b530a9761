/**
 * What ours is measured against, written from the papers: LRU, SIEVE (Zhang et al., NSDI 2024), S3-FIFO (Yang
 * et al., SOSP 2023), W-TinyLFU (Einziger, Friedman, Manes, 2017), and Belady's limit. All count bytes; where
 * entries are counted every size is 1. `request(key, size)` says whether the key was there, and fetches it
 * where it was not.
 */

/** Linked lists over keys: one array pair serves every list, as a key is in one list at most. */
class Links {
  constructor(keyCount) {
    this.next = new Int32Array(keyCount).fill(-1);
    this.previous = new Int32Array(keyCount).fill(-1);
  }
}

class List {
  constructor(links) {
    this.links = links;
    this.head = -1;
    this.tail = -1;
    this.bytes = 0;
  }
  /** `head` is the newest. */
  push(key, size) {
    const { next, previous } = this.links;
    next[key] = this.head;
    previous[key] = -1;
    if (this.head === -1) this.tail = key;
    else previous[this.head] = key;
    this.head = key;
    this.bytes += size;
  }
  remove(key, size) {
    const { next, previous } = this.links;
    if (previous[key] === -1) this.head = next[key];
    else next[previous[key]] = next[key];
    if (next[key] === -1) this.tail = previous[key];
    else previous[next[key]] = previous[key];
    this.bytes -= size;
  }
}

export class Lru {
  constructor({ capacity, keyCount, sizeOf }) {
    this.capacity = capacity;
    this.sizeOf = sizeOf;
    this.list = new List(new Links(keyCount));
    this.present = new Uint8Array(keyCount);
  }
  request(key, size) {
    if (this.present[key] === 1) {
      this.list.remove(key, size);
      this.list.push(key, size);
      return true;
    }
    if (size > this.capacity) return false;
    while (this.list.bytes + size > this.capacity) {
      const victim = this.list.tail;
      this.list.remove(victim, this.sizeOf(victim));
      this.present[victim] = 0;
    }
    this.present[key] = 1;
    this.list.push(key, size);
    return false;
  }
}

export class Sieve {
  constructor({ capacity, keyCount, sizeOf }) {
    this.capacity = capacity;
    this.sizeOf = sizeOf;
    this.list = new List(new Links(keyCount));
    this.present = new Uint8Array(keyCount);
    this.visited = new Uint8Array(keyCount);
    this.hand = -1;
  }
  request(key, size) {
    if (this.present[key] === 1) {
      this.visited[key] = 1;
      return true;
    }
    if (size > this.capacity) return false;
    while (this.list.bytes + size > this.capacity) this.evict();
    this.present[key] = 1;
    this.visited[key] = 0;
    this.list.push(key, size);
    return false;
  }
  evict() {
    let key = this.hand === -1 ? this.list.tail : this.hand;
    while (this.visited[key] === 1) {
      this.visited[key] = 0;
      key = this.list.links.previous[key];
      if (key === -1) key = this.list.tail;
    }
    this.hand = this.list.links.previous[key];
    this.list.remove(key, this.sizeOf(key));
    this.present[key] = 0;
  }
}

/** A tenth for newcomers, the rest for what was asked for again, and ghosts of what left the tenth. */
export class S3Fifo {
  constructor({ capacity, keyCount, sizeOf }) {
    this.capacity = capacity;
    this.sizeOf = sizeOf;
    const links = new Links(keyCount);
    this.small = new List(links);
    this.main = new List(links);
    this.ghosts = new List(new Links(keyCount));
    this.ghost = new Uint8Array(keyCount);
    this.where = new Uint8Array(keyCount); // 0 absent, 1 small, 2 main
    this.count = new Uint8Array(keyCount);
  }
  request(key, size) {
    if (this.where[key] !== 0) {
      if (this.count[key] < 3) this.count[key]++;
      return true;
    }
    if (size > this.capacity) return false;
    while (this.small.bytes + this.main.bytes + size > this.capacity) this.evict();
    this.count[key] = 0;
    if (this.ghost[key] === 1) {
      this.ghost[key] = 0;
      this.ghosts.remove(key, size);
      this.where[key] = 2;
      this.main.push(key, size);
    } else {
      this.where[key] = 1;
      this.small.push(key, size);
    }
    return false;
  }
  evict() {
    if (this.small.bytes >= this.capacity * 0.1 || this.main.tail === -1) this.evictSmall();
    else this.evictMain();
  }
  evictSmall() {
    while (this.small.tail !== -1) {
      const key = this.small.tail;
      const size = this.sizeOf(key);
      this.small.remove(key, size);
      if (this.count[key] > 1) {
        this.count[key] = 0;
        this.where[key] = 2;
        this.main.push(key, size);
        continue;
      }
      this.where[key] = 0;
      this.ghost[key] = 1;
      this.ghosts.push(key, size);
      while (this.ghosts.bytes > this.capacity * 0.9) {
        const oldest = this.ghosts.tail;
        this.ghosts.remove(oldest, this.sizeOf(oldest));
        this.ghost[oldest] = 0;
      }
      return;
    }
    this.evictMain();
  }
  evictMain() {
    for (;;) {
      const key = this.main.tail;
      const size = this.sizeOf(key);
      this.main.remove(key, size);
      if (this.count[key] > 0) {
        this.count[key]--;
        this.main.push(key, size);
        continue;
      }
      this.where[key] = 0;
      return;
    }
  }
}

/** 4-bit counts in four rows, halved when the sample is ten times the cache. */
class Sketch {
  constructor(entries) {
    let width = 16;
    while (width < entries) width *= 2;
    this.mask = width - 1;
    this.rows = [0x9e3779b1, 0x85ebca6b, 0xc2b2ae35, 0x27d4eb2f].map((factor) => ({
      factor,
      counts: new Uint8Array(width),
    }));
    this.limit = entries * 10;
    this.seen = 0;
  }
  static #place(key, factor) {
    const hash = Math.imul(key ^ (key >>> 15) ^ 0x5bd1e995, factor);
    return hash ^ (hash >>> 16);
  }
  add(key) {
    for (const { factor, counts } of this.rows) {
      const at = Sketch.#place(key, factor) & this.mask;
      if (counts[at] < 15) counts[at]++;
    }
    this.seen++;
    if (this.seen < this.limit) return;
    this.seen = Math.floor(this.seen / 2);
    for (const { counts } of this.rows) for (let at = 0; at <= this.mask; at++) counts[at] >>= 1;
  }
  estimate(key) {
    let least = 15;
    for (const { factor, counts } of this.rows) {
      const count = counts[Sketch.#place(key, factor) & this.mask];
      if (count < least) least = count;
    }
    return least;
  }
}

/** A window of recency before a segmented main part that only the more frequent enters. */
export class WTinyLfu {
  constructor({ capacity, keyCount, sizeOf, entries, window = 0.01 }) {
    this.capacity = capacity;
    this.sizeOf = sizeOf;
    this.windowMax = Math.max(capacity * window, entries === capacity ? 1 : 0);
    this.mainMax = capacity - this.windowMax;
    const links = new Links(keyCount);
    this.window = new List(links);
    this.probation = new List(links);
    this.guarded = new List(links);
    this.lists = [undefined, this.window, this.probation, this.guarded];
    this.where = new Uint8Array(keyCount);
    this.sketch = new Sketch(entries);
  }
  request(key, size) {
    if (size > this.capacity) return false;
    this.sketch.add(key);
    const where = this.where[key];
    if (where !== 0) {
      this.lists[where].remove(key, size);
      this.#put(key, size, where === 1 ? 1 : 3);
      if (where === 2) this.#demote();
      return true;
    }
    this.#put(key, size, 1);
    while (this.window.bytes > this.windowMax && this.window.tail !== -1) {
      const candidate = this.window.tail;
      const bytes = this.sizeOf(candidate);
      this.window.remove(candidate, bytes);
      this.where[candidate] = 0;
      if (this.#admits(candidate, bytes)) this.#put(candidate, bytes, 2);
    }
    return false;
  }
  #put(key, size, list) {
    this.where[key] = list;
    this.lists[list].push(key, size);
  }
  #demote() {
    while (this.guarded.bytes > this.mainMax * 0.8) {
      const key = this.guarded.tail;
      const size = this.sizeOf(key);
      this.guarded.remove(key, size);
      this.#put(key, size, 2);
    }
  }
  /** Victims make way as long as each is asked for less often than the candidate. */
  #admits(candidate, bytes) {
    if (bytes > this.mainMax) return false;
    const frequency = this.sketch.estimate(candidate);
    while (this.probation.bytes + this.guarded.bytes + bytes > this.mainMax) {
      const list = this.probation.tail === -1 ? this.guarded : this.probation;
      const victim = list.tail;
      if (this.sketch.estimate(victim) >= frequency) return false;
      list.remove(victim, this.sizeOf(victim));
      this.where[victim] = 0;
    }
    return true;
  }
}

/**
 * Hit ratio of the clairvoyant: what is next asked for last leaves. With sizes it is a yardstick, no limit.
 */
export function belady({ keys, keyCount, sizes }, capacity) {
  const length = keys.length;
  const nextUse = new Int32Array(length);
  const seen = new Int32Array(keyCount).fill(2147483647);
  for (let at = length - 1; at >= 0; at--) {
    nextUse[at] = seen[keys[at]];
    seen[keys[at]] = at;
  }
  // A heap of places in the trace by their next use; a place is stale once its key was asked for again.
  const heap = [];
  const latest = new Int32Array(keyCount).fill(-1);
  const above = (a, b) => nextUse[a] > nextUse[b];
  const push = (place) => {
    let at = heap.length;
    heap.push(place);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!above(place, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = place;
  };
  const pop = () => {
    const first = heap[0];
    const last = heap.pop();
    const count = heap.length;
    if (count === 0) return first;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= count) break;
      if (child + 1 < count && above(heap[child + 1], heap[child])) child++;
      if (!above(heap[child], last)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
    return first;
  };
  let used = 0;
  let hits = 0;
  for (let at = 0; at < length; at++) {
    const key = keys[at];
    if (latest[key] !== -1) hits++;
    else used += sizes === undefined ? 1 : sizes[key];
    latest[key] = at;
    push(at);
    while (used > capacity) {
      const place = pop();
      const victim = keys[place];
      if (latest[victim] !== place) continue;
      latest[victim] = -1;
      used -= sizes === undefined ? 1 : sizes[victim];
    }
  }
  return (hits / length) * 100;
}

/** Hit ratio, per cent, of a cache over a trace. */
export function replay(trace, cache) {
  const { keys, sizes } = trace;
  let hits = 0;
  for (let at = 0; at < keys.length; at++) {
    const key = keys[at];
    if (cache.request(key, sizes === undefined ? 1 : sizes[key])) hits++;
  }
  return (hits / keys.length) * 100;
}
