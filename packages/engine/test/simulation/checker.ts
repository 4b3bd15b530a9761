/**
 * What a history must look like. Knows nothing of the engine: it judges calls and answers by the promises.
 *
 * Events are numbered in the order in which they happened. A write is known by its text, which no other write
 * has; its version is known from its receipt, from a read of it, or not at all.
 */

export interface WriteCall {
  readonly kind: 'write';
  readonly id: string;
  /** `undefined` for a delete. */
  readonly text: string | undefined;
  readonly life: number;
  readonly invokedAt: number;
  readonly invokedMs: number;
  respondedAt?: number;
  respondedMs?: number;
  /** `refused`: not applied. `unknown`: indeterminate, or the process died first. */
  outcome: 'acknowledged' | 'refused' | 'unknown' | 'open';
  level?: 'memory' | 'wal' | 'stored';
  version?: number;
  /** Stamped within the call, so in the order of the calls. */
  readonly stampedInCall: boolean;
  /** A clean shutdown said that nothing remained: then even `memory` is durable. */
  savedByShutdown?: boolean;
}

export interface ReadCall {
  readonly kind: 'read';
  readonly id: string;
  readonly life: number;
  readonly invokedAt: number;
  invokedMs: number;
  respondedAt?: number;
  respondedMs?: number;
  outcome: 'value' | 'absent' | 'error' | 'open';
  text?: string;
  version?: number;
  code?: string;
}

export type Call = WriteCall | ReadCall;

export interface CheckerOptions {
  readonly submitMs: number;
  readonly readMs: number;
  /** Ids that may be refused with CORRUPTION. */
  readonly damaged: ReadonlySet<string>;
}

/** One sentence for each promise that did not hold. */
export function check(history: readonly Call[], options: CheckerOptions): string[] {
  const violations: string[] = [];
  learnVersions(history);
  for (const id of new Set(history.map((call) => call.id))) {
    const calls = history.filter((call) => call.id === id);
    const writes = calls.filter((call) => call.kind === 'write');
    const reads = calls.filter((call) => call.kind === 'read');
    for (const read of reads) violations.push(...checkRead(read, writes, options));
    violations.push(...checkMonotonicReads(reads, writes));
  }
  violations.push(...checkVersions(history), ...checkDeadlines(history, options));
  return violations;
}

/** A write whose receipt was lost is known by those who read it. */
function learnVersions(history: readonly Call[]): void {
  const byText = new Map<string, WriteCall>();
  for (const call of history)
    if (call.kind === 'write' && call.text !== undefined) byText.set(call.text, call);
  for (const call of history) {
    if (call.kind !== 'read' || call.text === undefined || call.version === undefined) continue;
    const write = byText.get(call.text);
    if (write !== undefined) write.version ??= call.version;
  }
}

/** Whether `write` is binding for a read that was called at `read.invokedAt`. */
function binds(write: WriteCall, read: ReadCall): boolean {
  if (write.outcome === 'refused' || write.version === undefined) return false;
  // Read your writes: in the same process from the moment of the call.
  if (write.life === read.life && write.stampedInCall && write.invokedAt < read.invokedAt) return true;
  if (write.outcome !== 'acknowledged' || (write.respondedAt as number) > read.invokedAt) return false;
  return write.life === read.life || write.level !== 'memory' || write.savedByShutdown === true;
}

function checkRead(read: ReadCall, writes: readonly WriteCall[], options: CheckerOptions): string[] {
  if (read.outcome === 'open') return [];
  const name = describe(read);
  if (read.outcome === 'error') {
    if (read.code === 'TIER_UNAVAILABLE' || read.code === 'ENGINE_STATE') return [];
    if (read.code === 'CORRUPTION' && options.damaged.has(read.id)) return [];
    return [`${name}: it failed with ${read.code}`];
  }
  let newest: WriteCall | undefined;
  for (const write of writes) {
    if (binds(write, read) && (newest?.version ?? 0) < (write.version as number)) newest = write;
  }
  if (read.outcome === 'absent') {
    if (
      newest === undefined ||
      newest.text === undefined ||
      mayBeDeleted(read, writes, newest.version as number)
    )
      return [];
    return [`${name}: called missing, but ${describe(newest)} was acknowledged or called before`];
  }
  const source = writes.find((write) => write.text === read.text);
  if (
    source === undefined ||
    source.invokedAt > (read.respondedAt as number) ||
    source.outcome === 'refused'
  ) {
    return [`${name}: phantom value ${read.text}`];
  }
  if (source.version !== read.version)
    return [`${name}: version ${read.version} is not that of ${describe(source)}`];
  if (newest !== undefined && (newest.version as number) > (read.version as number)) {
    const what = newest.text === undefined ? 'resurrection' : 'lost write';
    return [`${name}: ${what}: it is older than ${describe(newest)}`];
  }
  return [];
}

/** Some delete, called before the read ended, may be newer than `version`. */
function mayBeDeleted(read: ReadCall, writes: readonly WriteCall[], version: number): boolean {
  return writes.some(
    (write) =>
      write.text === undefined &&
      write.outcome !== 'refused' &&
      write.invokedAt < (read.respondedAt as number) &&
      (write.version === undefined || write.version > version),
  );
}

function checkMonotonicReads(reads: readonly ReadCall[], writes: readonly WriteCall[]): string[] {
  const violations: string[] = [];
  for (const earlier of reads) {
    if (earlier.outcome !== 'value') continue;
    for (const later of reads) {
      if (later.life !== earlier.life || later.invokedAt < (earlier.respondedAt as number)) continue;
      const version = earlier.version as number;
      if (later.outcome === 'value' && (later.version as number) < version) {
        violations.push(`${describe(later)}: older than what ${describe(earlier)} had shown`);
      }
      if (later.outcome === 'absent' && !mayBeDeleted(later, writes, version)) {
        violations.push(`${describe(later)}: called missing after ${describe(earlier)} had shown it`);
      }
    }
  }
  return violations;
}

function checkVersions(history: readonly Call[]): string[] {
  const violations: string[] = [];
  let last: WriteCall | undefined;
  for (const call of history) {
    if (call.kind !== 'write' || !call.stampedInCall || call.version === undefined) continue;
    if (last !== undefined && call.version <= (last.version as number)) {
      violations.push(`${describe(call)}: not newer than ${describe(last)}, which was called before`);
    }
    last = call;
  }
  return violations;
}

function checkDeadlines(history: readonly Call[], options: CheckerOptions): string[] {
  const violations: string[] = [];
  for (const call of history) {
    if (call.respondedMs === undefined) continue;
    const bound = call.kind === 'write' ? options.submitMs : options.readMs;
    if (call.respondedMs - call.invokedMs > bound) {
      violations.push(
        `${describe(call)}: answered only after ${Math.round(call.respondedMs - call.invokedMs)} ms`,
      );
    }
  }
  return violations;
}

export function describe(call: Call): string {
  const what = call.kind === 'read' ? 'read' : call.text === undefined ? 'delete' : `write ${call.text}`;
  return `#${call.invokedAt} ${what} of ${JSON.stringify(call.id)} (life ${call.life}, ${call.outcome}${call.kind === 'write' && call.level ? ` at ${call.level}` : ''}, version ${call.version ?? '?'})`;
}
