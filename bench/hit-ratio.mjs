/**
 * How often memory has what is asked for, beside LRU, S3-FIFO, W-TinyLFU, SIEVE and the clairvoyant (Belady), all given
 * the same room. Ours is the engine's own order of eviction, driven as memory drives it. It should be at most a point
 * under the better of S3-FIFO and W-TinyLFU, and never half a point under LRU; nothing was tuned to one of these traces.
 *
 *   node hit-ratio.mjs [name …]     only traces whose name contains one of these
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { belady, Lru, replay, S3Fifo, Sieve, WTinyLfu } from './hit-ratio/references.mjs';
import {
  jumpTrace,
  loopsTrace,
  loopTrace,
  mixedSizes,
  oltp,
  onceTrace,
  ormBusy,
  phasesTrace,
  scanTrace,
  shiftTrace,
  stackTrace,
  web07,
  withSizes,
  zipfTrace,
} from './hit-ratio/traces.mjs';
import { report } from './measure.mjs';

// Internal on purpose: a user has no need of it alone.
const engine = join(dirname(createRequire(import.meta.url).resolve('sync-engine')), '..');
const { Eviction } = await import(join(engine, 'dist/memory/eviction.js'));
const { hashOfId } = await import(join(engine, 'dist/memory/id-index.js'));

const MIB = 2 ** 20;
const PUBLISHED_LRU = { 250: 16.47, 500: 23.45, 1000: 32.83, 2000: 42.47 };
const SEED = 20261123;

class Ours {
  #capacity;
  #eviction;
  #slots;
  #keys = [];
  #free = [];
  #bytes = 0;
  #sizeOf;
  #room = 64;

  constructor({ capacity, keyCount, sizeOf }) {
    this.#capacity = capacity;
    this.#sizeOf = sizeOf;
    this.#slots = new Int32Array(keyCount).fill(-1);
    this.#eviction = new Eviction(capacity, SEED);
    this.#eviction.grow(this.#room);
  }

  request(key, size) {
    const present = this.#slots[key];
    if (present !== -1) {
      this.#eviction.accessed(present);
      return true;
    }
    if (size > this.#capacity) return false;
    while (this.#bytes + size > this.#capacity) {
      const slot = this.#eviction.victim();
      const victim = this.#keys[slot];
      this.#slots[victim] = -1;
      this.#bytes -= this.#sizeOf(victim);
      this.#free.push(slot);
    }
    const slot = this.#free.pop() ?? this.#keys.length;
    if (slot === this.#room) {
      this.#room *= 2;
      this.#eviction.grow(this.#room);
    }
    this.#keys[slot] = key;
    this.#slots[key] = slot;
    this.#bytes += size;
    this.#eviction.added(slot, hashOfId(String(key), SEED), size);
    return false;
  }
}

const counted = [250, 1000, 5000];
const questions = [
  [oltp, [250, 500, 1000, 2000, 5000, 15_000]],
  [ormBusy, counted],
  [web07, [250, 500, 2000]],
  [() => zipfTrace(0.7), [500, 5000]],
  [() => zipfTrace(1), [500, 5000]],
  [() => scanTrace(), counted],
  [() => onceTrace(), counted],
  [() => stackTrace(), counted],
  [() => shiftTrace(), counted],
  [() => jumpTrace(), counted],
  [() => phasesTrace(), counted],
  [() => loopTrace(3000), [1000, 2500]],
  [() => loopsTrace(), counted],
  [() => mixedSizes(), [32 * MIB, 128 * MIB, 512 * MIB]],
  [() => withSizes(web07()), [16 * MIB, 64 * MIB]],
];

const wanted = process.argv.slice(2);
const rows = [];
for (const [make, capacities] of questions) {
  const trace = make();
  if (wanted.length > 0 && !wanted.some((part) => trace.name.includes(part))) continue;
  for (const capacity of capacities) rows.push(rowOf(trace, capacity));
}
report(
  'Hits in memory, per cent, beside LRU, S3-FIFO, W-TinyLFU (the better of windows of 1 and 20 %), SIEVE, and Belady',
  rows,
);

function rowOf(trace, capacity) {
  const { keyCount, sizes } = trace;
  const sizeOf = sizes === undefined ? () => 1 : (key) => sizes[key];
  // W-TinyLFU sizes its sketch by entries.
  const mean = sizes === undefined ? 1 : sizes.reduce((sum, size) => sum + size, 0) / keyCount;
  const options = { capacity, keyCount, sizeOf, entries: Math.ceil(capacity / mean) };
  const lru = replay(trace, new Lru(options));
  if (trace.name === 'OLTP' && PUBLISHED_LRU[capacity] !== undefined) {
    if (Math.abs(lru - PUBLISHED_LRU[capacity]) > 0.01)
      throw new Error(
        `OLTP under LRU at ${capacity} is ${lru} %, published is ${PUBLISHED_LRU[capacity]} %.`,
      );
  }
  const s3Fifo = replay(trace, new S3Fifo(options));
  const tiny = Math.max(
    replay(trace, new WTinyLfu({ ...options, window: 0.01 })),
    replay(trace, new WTinyLfu({ ...options, window: 0.2 })),
  );
  const sieve = replay(trace, new Sieve(options));
  const limit = belady(trace, capacity);
  const others = [lru, s3Fifo, tiny, sieve, limit].map((ratio) => ratio.toFixed(1)).join(' · ');
  const room =
    sizes === undefined ? `${capacity.toLocaleString('en')} entries` : `${Math.round(capacity / MIB)} MiB`;
  return {
    what: `${trace.name}, ${room} (${others})`,
    value: replay(trace, new Ours(options)),
    wantedLeast: Math.max(Math.max(s3Fifo, tiny) - 1, lru - 0.5),
  };
}
