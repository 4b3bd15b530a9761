/** Order of ids: that of their UTF-8 bytes, which differs from JavaScript's own above U+FFFF. */

/** Negative where `a` comes first. */
export function compareIds(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at++) {
    const unitA = a.charCodeAt(at);
    const unitB = b.charCodeAt(at);
    if (unitA !== unitB) return rank(unitA) - rank(unitB);
  }
  return a.length - b.length;
}

/** Surrogates stand for code points above every other unit, so they rank behind U+E000 to U+FFFF. */
function rank(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}

/**
 * The least bytes behind every string that begins with `prefix`: its last byte, one higher. UTF-8 has no byte
 * 0xff, so there is always room. `undefined` for the empty prefix, which has no end.
 */
export function bytesBehind(prefix: string): Buffer | undefined {
  if (prefix === '') return undefined;
  const bytes = Buffer.from(prefix);
  const last = bytes.length - 1;
  bytes[last] = (bytes[last] as number) + 1;
  return bytes;
}

/**
 * Sorted runs of ids as one, each id once. Pauses after every `atOnce` ids, so that millions
 * of them do not hold up the event loop.
 */
export async function mergeRuns(
  runs: readonly (readonly string[])[],
  atOnce: number,
  pause: () => Promise<void>,
): Promise<readonly string[]> {
  let level = runs;
  let merged = 0;
  while (level.length > 1) {
    const next: (readonly string[])[] = [];
    for (let at = 0; at < level.length; at += 2) {
      const left = level[at] as readonly string[];
      const right = level[at + 1] ?? [];
      const both: string[] = [];
      for (let l = 0, r = 0; l < left.length || r < right.length; ) {
        const order =
          l === left.length ? 1 : r === right.length ? -1 : compareIds(left[l] as string, right[r] as string);
        both.push((order <= 0 ? left[l++] : right[r++]) as string);
        if (order === 0) r++;
        if (++merged % atOnce === 0) await pause();
      }
      next.push(both);
    }
    level = next;
  }
  return level[0] ?? [];
}
