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
