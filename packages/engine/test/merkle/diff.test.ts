/** The comparison against the plain difference of two sets of rows, and what it costs. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { drillDown, findDivergentPaths } from '#engine/merkle/diff.js';
import type { MerkleNode, MerkleSource } from '#engine/merkle/merkle-source.js';
import { split } from '#engine/merkle/path.js';
import { expectCheap, found, mixedLeaves, sorted } from './comparison.js';
import { MemorySource, Meter, WideSource } from './memory-source.js';
import { ids, leafOf, plainDifference, type Rows, sides } from './rows.js';

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

  test.each(['local', 'remote'])('a subtree of one side is walked on that side alone: %s', async (which) => {
    const below = [...Array(2500).keys()].map((child) => `x.${child}`);
    const poor = new MemorySource(rowsOf('a'));
    const rich = new MemorySource(rowsOf('a', 'x.', 'x', ...below));
    const all = await (which === 'local' ? found(rich, poor) : found(poor, rich));
    expect(all).toHaveLength(2502);
    expect(all.every(([, side]) => side === which)).toBe(true);
    expect(poor.meter.calls).toBe(2); // The root's node and its children.
    expect(rich.meter.batches.filter(({ call }) => call === 'children')).toHaveLength(1 + 3);
  });

  test('pages as long as the limit are followed by a look for more, a short last one is not', async () => {
    for (const [children, calls] of [
      [999, 1],
      [1000, 2],
      [1001, 2],
      [2000, 3],
    ] as const) {
      const remote = new MemorySource(rowsOf(...[...Array(children).keys()].map((child) => `x.${child}`)));
      expect(await found(new MemorySource(rowsOf('a')), remote, ['x'])).toHaveLength(children);
      expect(remote.meter.batches.filter(({ call }) => call === 'children')).toHaveLength(calls);
    }
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
    await expect(found(local, remote)).rejects.toMatchObject({
      code: 'CONFIG',
      context: { operation: 'merkle diff' },
    });
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
    const few = changed();
    few.buckets = async () => [];
    const open = changed();
    open.buckets = async (_path, _level, all) => all.map(() => ({ children: new Map() }));
    for (const [here, remote, reason] of [
      [local, short, 'nodes() gave 0 answers to 1 questions'],
      [local, few, 'buckets() gave 0 answers to 1 questions'],
      [local, formless, 'a bucket above level 3 has no 64 hashes'],
      [local, open, 'a bucket above level 3 has no 64 hashes'],
      [local, childless, 'a bucket of level 3 has no children'],
      [new MemorySource(new Map()), stuck, 'a page of children does not lie behind the one before it'],
    ] as const) {
      const refused = await found(here, remote).catch((error) => error);
      expect(refused).toMatchObject({ code: 'CONFIG', context: { operation: 'merkle diff' } });
      expect(refused.message).toContain(`does not answer as a Merkle tree of this version does: ${reason}.`);
    }
  });
});

describe('one path with many children', () => {
  const SIZE = 20_000;
  const leaves = mixedLeaves(SIZE);

  test.each([1, 10])('costs 5 round trips whatever differs: %d of 20,000 children', async (differences) => {
    await expectCheap(leaves, [differences]);
  });

  test('a side that lacks the last children costs no more trips', async () => {
    const remote = new WideSource(leaves.subarray(0, (SIZE - 1) * 32));
    const local = new WideSource(leaves);
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
