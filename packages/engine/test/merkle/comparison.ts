/** What tests of the comparison share: what it found, and what it may cost under one wide path. */
import { expect } from 'vitest';
import { drillDown } from '#engine/merkle/diff.js';
import type { MerkleSource } from '#engine/merkle/merkle-source.js';
import { Meter, WideSource } from './memory-source.js';
import { leafOf } from './rows.js';

export async function found(
  local: MerkleSource,
  remote: MerkleSource,
  from?: readonly string[],
): Promise<[string, string][]> {
  const all: [string, string][] = [];
  for await (const { id, side } of drillDown(local, remote, from)) all.push([id, side]);
  return all;
}

/** As a sorted list, so that an id found twice is seen. */
export function sorted(pairs: Iterable<readonly [string, string]>): string[] {
  return [...pairs].map(([id, side]) => `${side} ${id}`).sort();
}

/** Mixed, not hashed: a tenth of the time, and as good for a test that does not forge rows. */
export function mixedLeaves(count: number): Buffer {
  const leaves = Buffer.allocUnsafeSlow(count * 32);
  const words = new Uint32Array(leaves.buffer, leaves.byteOffset, count * 8);
  for (let at = 0; at < words.length; at++) {
    const mixed = Math.imul(at ^ (at >>> 15), 0x85ebca6b);
    words[at] = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  }
  return leaves;
}

/** Lets so many children differ, step by step: 5 round trips, at most 4 KiB for one difference, 32 KiB for ten. */
export async function expectCheap(leaves: Buffer, steps: readonly number[]): Promise<void> {
  const size = leaves.length / 32;
  const [local, remote] = [new WideSource(leaves), new WideSource(leaves)];
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
}
