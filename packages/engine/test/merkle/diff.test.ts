/** The comparison against the plain difference of two sets of rows, and what it costs. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { drillDown, findDivergentPaths } from '#engine/merkle/diff.js';
import type { MerkleNode, MerkleSource } from '#engine/merkle/merkle-source.js';
import { split } from '#engine/merkle/path.js';
import { MemorySource, Meter, WideSource } from './memory-source.js';
import { ids, leafOf, plainDifference, type Rows, sides } from './rows.js';

async function found(
  local: MerkleSource,
  remote: MerkleSource,
  from?: readonly string[],
): Promise<[string, string][]> {
  const all: [string, string][] = [];
  for await (const { id, side } of drillDown(local, remote, from)) all.push([id, side]);
  return all;
}

/** As a sorted list, so that an id found twice is seen. */
function sorted(pairs: Iterable<readonly [string, string]>): string[] {
  return [...pairs].map(([id, side]) => `${side} ${id}`).sort();
}

function rowsOf(...all: readonly (string | readonly [string, number])[]): Rows {
  return new Map(
    all.map((one) => {
      const [id, value] = typeof one === 'string' ? ([one, 1] as const) : one;
      return [id, leafOf(id, value)];
    }),
  );
}

function isBelow(id: string, from: readonly string[]): boolean {
  const segments = split(id);
  return from.every((segment, at) => segments[at] === segment);
}

describe('drillDown', () => {
  test('finds exactly the ids that differ, among strange ones, whatever the length of a page', async () => {
    await fc.assert(
      fc.asyncProperty(sides(ids, 60), fc.constantFrom(1, 2, 1000), async ([local, remote], pageMax) => {
        const all = await found(new MemorySource(local, { pageMax }), new MemorySource(remote, { pageMax }));
        expect(sorted(all)).toEqual(sorted(plainDifference(local, remote)));
      }),
      { numRuns: 300 },
    );
  });

  test('finds them below a path, the id of the path included', async () => {
    const froms = ids.chain((id) =>
      fc.nat(Math.min(split(id).length, 4)).map((end) => split(id).slice(0, end)),
    );
    await fc.assert(
      fc.asyncProperty(sides(ids, 40), froms, async ([local, remote], from) => {
        const all = await found(new MemorySource(local), new MemorySource(remote), from);
        const expected = [...plainDifference(local, remote)].filter(([id]) => isBelow(id, from));
        expect(sorted(all)).toEqual(sorted(expected));
      }),
      { numRuns: 200 },
    );
  });

  test('finds them below wide paths, by buckets', async () => {
    const wide = fc
      .tuple(fc.constantFrom('', 'w', 'w.'), fc.nat(400), fc.constantFrom('', '.', '.x', '.x.y'))
      .map(([parent, child, rest]) => `${parent}.${child}${rest}`);
    const calls: string[] = [];
    await fc.assert(
      fc.asyncProperty(sides(wide, 400), async ([local, remote]) => {
        const both = [...Array(70).keys()].map((child) => `w.same-${child}`);
        const here = new Map([...local, ...rowsOf(...both)]);
        const there = new Map([...remote, ...rowsOf(...both)]);
        const meter = new Meter();
        const all = await found(new MemorySource(here), new MemorySource(there, { meter }));
        expect(sorted(all)).toEqual(sorted(plainDifference(here, there)));
        calls.push(...meter.batches.map(({ call }) => call));
      }),
      { numRuns: 40 },
    );
    expect(calls).toContain('buckets 3');
  });

  test('an id that is also a prefix is reported exactly when its own row differs', async () => {
    const cases: readonly (readonly [Rows, Rows, Record<string, string>])[] = [
      [rowsOf('a', 'a.b'), rowsOf(['a', 2], 'a.b'), { a: 'both' }],
      [rowsOf('a', 'a.b'), rowsOf('a', ['a.b', 2]), { 'a.b': 'both' }],
      [rowsOf('a', 'a.b'), rowsOf(['a', 2], ['a.b', 2]), { a: 'both', 'a.b': 'both' }],
      [rowsOf('a', 'a.b'), rowsOf('a.b'), { a: 'local' }],
      [rowsOf('a.b'), rowsOf('a', ['a.b', 2]), { a: 'remote', 'a.b': 'both' }],
      [rowsOf('a'), rowsOf('a', 'a.b'), { 'a.b': 'remote' }],
      [rowsOf('a', 'a.b'), rowsOf(['a', 2]), { a: 'both', 'a.b': 'local' }],
    ];
    for (const [local, remote, expected] of cases) {
      const all = await found(new MemorySource(local), new MemorySource(remote));
      expect(Object.fromEntries(all)).toEqual(expected);
    }
  });

  test('a side that does not tell own leaves gets such an id reported rather than missed', async () => {
    const local = new MemorySource(rowsOf('a', 'a.b'), { withoutOwn: true });
    const remote = new MemorySource(rowsOf('a', ['a.b', 2]), { withoutOwn: true });
    expect(sorted(await found(local, remote))).toEqual(['both a', 'both a.b']);
  });

  test('equal sides cost one call each', async () => {
    const rows = rowsOf('a', 'a.b', 'c..d', '.');
    const [local, remote] = [new MemorySource(rows), new MemorySource(rows)];
    expect(await found(local, remote)).toEqual([]);
    expect([local.meter.calls, remote.meter.calls]).toEqual([1, 1]);
  });

  test('a subtree of one side is walked on that side alone', async () => {
    const below = [...Array(2500).keys()].map((child) => `x.${child}`);
    const local = new MemorySource(rowsOf('a'));
    const remote = new MemorySource(rowsOf('a', 'x.', 'x', ...below));
    const all = await found(local, remote);
    expect(all).toHaveLength(2502);
    expect(all.every(([, side]) => side === 'remote')).toBe(true);
    expect(local.meter.calls).toBe(2); // The root's node and its children.
    expect(remote.meter.batches.filter(({ call }) => call === 'children')).toHaveLength(1 + 3);
  });

  test('children are listed up to 64 on both sides, and found by buckets above', async () => {
    const rows = (size: number, value: number): Rows =>
      rowsOf(...[...Array(size).keys()].map((child) => [`${child}`, value] as const));
    const callFor = async (here: number, there: number): Promise<string | undefined> => {
      const remote = new MemorySource(rows(there, 2));
      expect(await found(new MemorySource(rows(here, 1)), remote)).toHaveLength(Math.max(here, there));
      return remote.meter.batches[1]?.call;
    };
    expect(await callFor(64, 64)).toBe('children');
    expect(await callFor(65, 2)).toBe('buckets 0');
    expect(await callFor(2, 65)).toBe('buckets 0');
  });

  test('all paths of a level are asked for in one call', async () => {
    const parents = [...Array(60).keys()].map((parent) => `p${parent}`);
    const local = new MemorySource(rowsOf(...parents.map((one) => `${one}.x`)));
    const remote = new MemorySource(rowsOf(...parents.map((one) => [`${one}.x`, 2] as const)));
    expect(await found(local, remote)).toHaveLength(60);
    const levels = remote.meter.batches.filter(({ call }) => call === 'nodes').map(({ size }) => size);
    expect(levels).toEqual([1, 60, 60]);
  });

  test('at most 8 calls are under way, and no batch is larger than 4,096 paths', async () => {
    const meter = new Meter();
    const local = new Flat(meter, 1);
    const remote = new Flat(meter, 2);
    let count = 0;
    for await (const { side } of drillDown(local, remote)) if (side === 'both') count++;
    expect(count).toBe(10_000 * 2);
    expect(meter.peak).toBe(8);
    expect(Math.max(...meter.batches.map(({ size }) => size))).toBe(4096);
  });

  test('a reader that stops leaves no call behind', async () => {
    const meter = new Meter();
    for await (const _ of drillDown(new Flat(meter, 1), new Flat(meter, 2))) break;
    const { calls } = meter;
    expect(meter.underWay).toBe(0);
    await new Promise(setImmediate);
    expect(meter.calls).toBe(calls);
  });

  test('a failure of a side is the failure of the comparison, and nothing is left unhandled', async () => {
    const meter = new Meter();
    const failing = new Flat(meter, 2);
    const children = failing.children.bind(failing);
    failing.children = (path) => (path.length === 0 ? children(path) : Promise.reject(new Error('line cut')));
    await expect(found(new Flat(meter, 1), failing)).rejects.toThrow('line cut');
    await new Promise(setImmediate);
    expect(meter.underWay).toBe(0);
  });
});

describe('findDivergentPaths', () => {
  test('names the parents of the ids that differ, and lists the ids of one side', async () => {
    await fc.assert(
      fc.asyncProperty(sides(ids, 40), async ([local, remote]) => {
        const diff = await findDivergentPaths(new MemorySource(local), new MemorySource(remote));
        const difference = plainDifference(local, remote);
        const parents = new Set([...difference.keys()].map((id) => split(id).slice(0, -1).join('.')));
        const on = (wanted: string): string[] =>
          [...difference].filter(([, side]) => side === wanted).map(([id]) => id);
        expect(diff.divergentPaths.toSorted()).toEqual([...parents].sort());
        expect(diff.localOnly.toSorted()).toEqual(on('local').sort());
        expect(diff.remoteOnly.toSorted()).toEqual(on('remote').sort());
      }),
      { numRuns: 200 },
    );
  });

  test('the root is the empty string, and the id of the path itself counts as below it', async () => {
    const [local, remote] = [new MemorySource(rowsOf('a.b', 'c')), new MemorySource(rowsOf(['a.b', 2]))];
    expect(await findDivergentPaths(local, remote)).toEqual({
      divergentPaths: ['', 'a'],
      localOnly: ['c'],
      remoteOnly: [],
    });
    expect((await findDivergentPaths(local, remote, ['a', 'b'])).divergentPaths).toEqual(['a.b']);
  });
});

describe('what cannot be compared', () => {
  const config = expect.objectContaining({ code: 'CONFIG' });

  test('sides with different keys are refused before anything is asked', async () => {
    const [local, remote] = [
      new MemorySource(rowsOf('a')),
      new MemorySource(rowsOf('b'), { keyId: 'other' }),
    ];
    await expect(found(local, remote)).rejects.toThrow(config);
    await expect(findDivergentPaths(local, remote)).rejects.toThrow(/clusterKey/);
    expect([local.meter.calls, remote.meter.calls]).toEqual([0, 0]);
  });

  test('a path that no id can have is refused', async () => {
    const source = new MemorySource(rowsOf('a'));
    await expect(found(source, source, ['a.b'])).rejects.toThrow(config);
  });

  test('a side that answers too little, in another form or with the same page again is refused', async () => {
    const many = [...Array(70).keys()].map((child) => `x${child}`);
    const local = new MemorySource(rowsOf(...many));
    const changed = (): MemorySource => new MemorySource(rowsOf(...many, 'y'), { pageMax: 1 });
    const short = changed();
    short.nodes = async () => [];
    const formless = changed();
    formless.buckets = async () => [{ hashes: new Uint8Array(3) }];
    const childless = changed();
    childless.buckets = async (_path, level, all) =>
      all.map((bucket) => ({ hashes: new Uint8Array(1024).fill(level + bucket + 1) }));
    const stuck = changed();
    stuck.children = async () => new Map([['x', '00']]);
    for (const remote of [short, formless, childless]) {
      await expect(found(local, remote)).rejects.toThrow(config);
    }
    await expect(found(new MemorySource(new Map()), stuck)).rejects.toThrow(config);
  });
});

describe('one path with many children', () => {
  const SIZE = 1_000_000;
  const leaves = Buffer.allocUnsafe(SIZE * 32);
  // Mixed, not hashed: a tenth of the time, and as good for a test that does not forge rows.
  const words = new Uint32Array(leaves.buffer, leaves.byteOffset, SIZE * 8);
  for (let at = 0; at < words.length; at++) {
    const mixed = Math.imul(at ^ (at >>> 15), 0x85ebca6b);
    words[at] = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  }

  test.each([
    [20_000, [1, 10]],
    [SIZE, [1, 10]],
  ])(
    '%d children: 5 round trips, and at most 4 KiB for one difference, 32 KiB for ten',
    async (size, steps) => {
      const [local, remote] = [0, 1].map(() => new WideSource(leaves.subarray(0, size * 32))) as [
        WideSource,
        WideSource,
      ];
      const changed: number[] = [];
      for (const differences of steps) {
        while (changed.length < differences) {
          const child = Math.floor(((changed.length + 0.5) * size) / 10);
          // Hashed: one bit flipped in each adds 1 to a lane or takes it away, and ten of them can cancel out.
          remote.change(child, leafOf(String(child), 2));
          changed.push(child);
        }
        const meter = new Meter();
        remote.meter = meter;
        const all = await found(local, remote, ['wide']);
        expect(sorted(all)).toEqual(sorted(changed.map((child) => [`wide.${child}`, 'both'])));
        expect(meter.batches.map(({ call }) => call)).toEqual([
          'nodes', // Of the wide path itself.
          'buckets 0',
          'buckets 1',
          'buckets 2',
          'buckets 3',
          'nodes',
        ]);
        expect(meter.bytes).toBeLessThanOrEqual(differences === 1 ? 4096 : 32_768);
      }
    },
  );

  test('a side that lacks the last children costs no more trips', async () => {
    const remote = new WideSource(leaves.subarray(0, 19_999 * 32));
    const local = new WideSource(leaves.subarray(0, 20_000 * 32));
    expect(await found(local, remote, ['wide'])).toEqual([['wide.19999', 'local']]);
    expect(remote.meter.calls).toBe(1 + 4);
  });
});

/** 10,000 ids at the fourth level with one more below each; all rows of one value. */
class Flat implements MerkleSource {
  readonly keyId = 'key';
  readonly meter: Meter;
  readonly #value: number;

  constructor(meter: Meter, value: number) {
    this.meter = meter;
    this.#value = value;
  }

  nodes(paths: readonly (readonly string[])[]): Promise<(MerkleNode | undefined)[]> {
    return this.#counted('nodes', paths.length, () => paths.map((path) => this.#node(path.length)));
  }

  children(path: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const children = [...Array(Flat.#width(path.length)).keys()].map((one) => String(one).padStart(3, '0'));
    // Slow where a level is worked off in parts: the next children are under way when a part is looked at.
    const turns = path.length === 3 ? 20 : 1;
    return this.#counted('children', 1, () => new Map(children.map((one) => [one, `${this.#value}`])), turns);
  }

  buckets(): never {
    throw new Error('No path is wide.');
  }

  static #width(depth: number): number {
    return [10, 10, 10, 10, 1, 0][depth] as number;
  }

  #node(depth: number): MerkleNode {
    const hash = `${this.#value}`;
    return { hash, count: 1, isLeaf: depth > 3, childCount: Flat.#width(depth), own: hash };
  }

  #counted<T>(call: string, size: number, answer: () => T, turns = 1): Promise<T> {
    return this.meter.count(call, { size, bytes: 0, turns }, answer, () => 0);
  }
}
