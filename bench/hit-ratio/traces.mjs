/**
 * Request streams: recorded ones from ../traces and generated families. A trace is `{ name, keys, keyCount,
 * sizes }`: keys are dense integers in order of first appearance, sizes are by key and absent where entries
 * are counted.
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

const folder = new URL('../traces/', import.meta.url);

function dense(name, keys) {
  const numbers = new Map();
  const out = new Int32Array(keys.length);
  for (let at = 0; at < keys.length; at++) {
    const key = keys[at];
    let number = numbers.get(key);
    if (number === undefined) {
      number = numbers.size;
      numbers.set(key, number);
    }
    out[at] = number;
  }
  return { name, keys: out, keyCount: numbers.size };
}

/**
 * Rows of start block, number of blocks, a column to ignore, request number: each row asks for its blocks in
 * turn.
 */
export function oltp() {
  const keys = [];
  for (const row of gunzipSync(readFileSync(new URL('arc_oltp.gz', folder)))
    .toString('latin1')
    .split('\n')) {
    const [start, count] = row.trim().split(/\s+/).map(Number);
    if (Number.isInteger(count)) for (let at = 0; at < count; at++) keys.push(start + at);
  }
  return dense('OLTP', keys);
}

/** Big-endian 32-bit keys. */
function cache2k(name, file) {
  const bytes = gunzipSync(readFileSync(new URL(file, folder)));
  const keys = new Int32Array(bytes.length / 4);
  for (let at = 0; at < keys.length; at++) keys[at] = bytes.readInt32BE(at * 4);
  return dense(name, keys);
}

export const ormBusy = () => cache2k('orm-busy', 'cache2k_orm-busy.trace.gz');
export const web07 = () => cache2k('web07', 'cache2k_web07.trace.gz');

/** xorshift32: the same stream on every machine. Numbers from 0 up to, but not including, 1. */
export function seeded(seed) {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 4294967296;
  };
}

/** Ranks from 0 with probability proportional to 1 / (rank + 1) ** exponent, by Vose's alias table. */
export function zipf(count, exponent, random) {
  const weights = Float64Array.from({ length: count }, (_, rank) => 1 / (rank + 1) ** exponent);
  const scale = count / weights.reduce((a, b) => a + b);
  const alias = new Int32Array(count);
  const small = [];
  const large = [];
  for (let at = 0; at < count; at++) {
    weights[at] *= scale;
    (weights[at] < 1 ? small : large).push(at);
  }
  while (small.length > 0 && large.length > 0) {
    const less = small.pop();
    const more = large.pop();
    alias[less] = more;
    weights[more] -= 1 - weights[less];
    (weights[more] < 1 ? small : large).push(more);
  }
  for (const rest of [...small, ...large]) weights[rest] = 1;
  return () => {
    const at = Math.floor(random() * count);
    return random() < weights[at] ? at : alias[at];
  };
}

function generated(name, length, next) {
  const keys = new Array(length);
  for (let at = 0; at < length; at++) keys[at] = next(at);
  return dense(name, keys);
}

/** Independent draws. */
export function zipfTrace(exponent, { count = 50_000, length = 600_000, seed = 11 } = {}) {
  return generated(`Zipf ${exponent.toFixed(1)}`, length, zipf(count, exponent, seeded(seed)));
}

/** The same keys around and around: what recency alone never hits when they are too many. */
export function loopTrace(count, length = 400_000) {
  return generated(`loop of ${count}`, length, (at) => at % count);
}

/** Loops of several lengths at once, by turns of a hundred requests. */
export function loopsTrace({ length = 500_000, seed = 12 } = {}) {
  const random = seeded(seed);
  const loops = [300, 1_500, 6_000, 20_000].map((count, which) => ({ count, at: 0, base: which * 1e6 }));
  let loop = loops[0];
  return generated('loops of 300 to 20,000', length, (at) => {
    if (at % 100 === 0) loop = loops[Math.floor(random() * loops.length)];
    return loop.base + (loop.at++ % loop.count);
  });
}

/** A loop and draws by popularity, in turn at random. */
export function loopAndZipfTrace({ length = 400_000, seed = 22 } = {}) {
  const random = seeded(seed);
  const draw = zipf(10_000, 0.9, random);
  let at = 0;
  return generated('loop and Zipf', length, () => (random() < 0.5 ? 1e6 + (at++ % 1_500) : draw()));
}

/** Every key twice, the second time after about 600 requests. */
export function pairsTrace({ length = 300_000, seed = 23 } = {}) {
  const random = seeded(seed);
  const open = [];
  let fresh = 0;
  return generated('pairs', length, () => {
    if (open.length > 300 && random() < 0.5) {
      const at = Math.floor(random() * open.length);
      const key = open[at];
      open[at] = open[open.length - 1];
      open.pop();
      return key;
    }
    open.push(fresh);
    return fresh++;
  });
}

/** Popularity that moves along the keys at walking pace. */
export function driftTrace({ length = 400_000, seed = 24 } = {}) {
  const draw = zipf(5_000, 0.8, seeded(seed));
  return generated('drift', length, (at) => ((draw() * 3) % 5_000) + Math.floor(at / 40));
}

/** Up to eight requests in a row for one key. */
export function burstsTrace({ length = 400_000, seed = 25 } = {}) {
  const random = seeded(seed);
  const draw = zipf(50_000, 0.6, random);
  let key = 0;
  let left = 0;
  return generated('bursts', length, () => {
    if (left-- <= 0) {
      key = draw();
      left = Math.floor(random() * 8);
    }
    return key;
  });
}

/** Draws by popularity, and every so often a run over keys that never come again. */
export function scanTrace({ length = 600_000, share = 0.3, run = 2_000, seed = 13 } = {}) {
  const random = seeded(seed);
  const draw = zipf(30_000, 0.9, random);
  let cold = 1e6;
  let left = 0;
  const start = share / (1 - share) / run;
  return generated(`Zipf 0.9 with ${share * 100} % scans`, length, () => {
    if (left === 0 && random() < start) left = run;
    if (left > 0) {
      left--;
      return cold++;
    }
    return draw();
  });
}

/** Most keys once, the rest by popularity. */
export function onceTrace({ length = 500_000, share = 0.6, seed = 14 } = {}) {
  const random = seeded(seed);
  const draw = zipf(20_000, 0.8, random);
  let cold = 1e6;
  return generated(`Zipf 0.8 with ${share * 100} % one-hit wonders`, length, () =>
    random() < share ? cold++ : draw(),
  );
}

/**
 * Recency: the next key is at a depth of the LRU stack that is drawn with a density falling as
 * 1 / (depth + 20) ** exponent, and new with a small probability. No key is popular by itself.
 */
export function stackTrace({ exponent = 1.3, fresh = 0.05, length = 400_000, seed = 15 } = {}) {
  const random = seeded(seed);
  // The stack is the last `length` requests, most recent last; stale places of a key are skipped over.
  const places = new Int32Array(length);
  const latest = [];
  const tree = new Int32Array(length + 1);
  const add = (at, by) => {
    for (let node = at + 1; node <= length; node += node & -node) tree[node] += by;
  };
  const top = 2 ** Math.floor(Math.log2(length));
  const placeOf = (rank) => {
    let node = 0;
    for (let step = top; step > 0; step >>= 1) {
      if (node + step <= length && tree[node + step] < rank) {
        node += step;
        rank -= tree[node];
      }
    }
    return node;
  };
  const draw = zipf(40_000, exponent, random);
  return generated(`LRU stack ${exponent}`, length, (at) => {
    const depth = draw() + Math.floor(random() * 20);
    let key;
    if (random() < fresh || depth >= latest.length) {
      key = latest.length;
    } else {
      key = places[placeOf(latest.length - depth)];
      add(latest[key], -1);
    }
    places[at] = key;
    latest[key] = at;
    add(at, 1);
    return key;
  });
}

/** Popularity that moves: every so often a part of the ranks goes to other keys. */
export function shiftTrace({
  length = 600_000,
  every = 2_000,
  moved = 0.02,
  exponent = 0.9,
  seed = 16,
} = {}) {
  const random = seeded(seed);
  const count = 20_000;
  const draw = zipf(count, exponent, random);
  const keyOf = Int32Array.from({ length: count }, (_, rank) => rank);
  let fresh = count;
  return generated(`shifting Zipf ${exponent}`, length, (at) => {
    if (at % every === 0) {
      for (let n = 0; n < count * moved; n++) keyOf[Math.floor(random() ** 2 * count)] = fresh++;
    }
    return keyOf[draw()];
  });
}

/** Popularity that changes at once: the whole ranking is dealt anew. */
export function jumpTrace({ length = 600_000, every = 100_000, seed = 17 } = {}) {
  const draw = zipf(20_000, 0.9, seeded(seed));
  return generated('Zipf 0.9 dealt anew', length, (at) => draw() + Math.floor(at / every) * 1e6);
}

/** Phases of each kind: what was learnt in one is wrong in the next. */
export function phasesTrace({ length = 600_000, seed = 18 } = {}) {
  const parts = [
    zipfTrace(1, { seed }),
    loopTrace(3_000),
    stackTrace({ seed: seed + 1 }),
    scanTrace({ seed }),
  ];
  const phase = length / 8;
  return generated('phases', length, (at) => {
    const turn = Math.floor(at / phase);
    const part = parts[turn % 4];
    return part.keys[(at % phase) + Math.floor(turn / 4) * phase] * 4 + (turn % 4);
  });
}

/** Sizes from 100 bytes to 1 MiB, most of them small: log-uniform, squared. */
export function withSizes(trace, seed = 21) {
  const random = seeded(seed);
  const sizes = new Float64Array(trace.keyCount);
  for (let key = 0; key < sizes.length; key++) {
    sizes[key] = Math.round(100 * (1048576 / 100) ** (random() ** 2));
  }
  return { ...trace, name: `${trace.name}, sized`, sizes };
}

/** Popularity with scans and a shifting hot set, in sizes from 100 bytes to 1 MiB. */
export function mixedSizes({ length = 600_000, seed = 19 } = {}) {
  const shifting = shiftTrace({ length, seed });
  const random = seeded(seed + 1);
  let cold = 1e7;
  let left = 0;
  let taken = 0;
  const trace = generated('mixed', length, () => {
    if (left === 0 && random() < 1 / 5_000) left = 1_000;
    if (left > 0) {
      left--;
      return cold++;
    }
    return shifting.keys[taken++];
  });
  return withSizes(trace, seed + 2);
}
