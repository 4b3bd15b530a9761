/** The known name nearest to a mistyped one, for "did you mean". */

/** The shortest name that ends in it; else the one within the fewest edits, a third of its length at most. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const ending = known.filter((candidate) => name.length > 2 && isEndingOf(name, candidate));
  if (ending.length > 0) return ending.reduce((a, b) => (b.length < a.length ? b : a));
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.ceil(name.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function isEndingOf(ending: string, name: string): boolean {
  return name.toLowerCase().endsWith(ending.toLowerCase());
}

/** Insertions, deletions and substitutions from `a` to `b` (Levenshtein), one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substituted, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}
