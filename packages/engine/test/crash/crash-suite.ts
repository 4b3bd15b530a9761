/**
 * Real processes, killed with SIGKILL: at random moments, and at named steps of append, commit, flush, release and start.
 * The parent keeps the history; what was acknowledged at 'wal' or 'stored' must be there afterwards, and nothing that
 * nobody wrote. The same suite for every archive.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { describe, expect, test } from 'vitest';
import type { StepName } from '#engine/base/steps.js';
import { SyncEngine } from '#engine/index.js';

const SEED = Number(process.env['CRASH_SEED'] ?? 20_260_101);
const CHILD = new URL('./child.mjs', import.meta.url).pathname;
const CYCLES_A_PLACE = 50;
const KILL_AT = new URL('./kill-at.mjs', import.meta.url).href;

interface Write {
  readonly id: string;
  /** `undefined` for a delete. */
  readonly text: string | undefined;
  version?: number;
  level?: string;
}

class History {
  readonly writes = new Map<number, Write>();
  next = 0;

  note(line: string): void {
    const [kind, number, a, b] = line.split(' ') as [string, string, string, string];
    if (kind === 's') {
      this.writes.set(Number(number), { id: a, text: b === '-' ? undefined : b });
      this.next = Math.max(this.next, Number(number) + 1);
    } else if (kind === 'a') {
      const write = this.writes.get(Number(number)) as Write;
      write.version = Number(a);
      write.level = b;
    }
  }

  get acknowledged(): number {
    return [...this.writes.values()].filter((write) => write.level !== undefined && write.level !== 'memory')
      .length;
  }

  /** What of `engine` contradicts this history. */
  async violations(engine: SyncEngine): Promise<string[]> {
    const found: string[] = [];
    const byId = new Map<string, Write[]>();
    for (const write of this.writes.values()) byId.set(write.id, [...(byId.get(write.id) ?? []), write]);
    for (const [id, writes] of byId) {
      const durable = writes.filter((write) => write.level === 'wal' || write.level === 'stored');
      const newest = durable.reduce<Write | undefined>(
        (best, write) => ((best?.version ?? 0) < (write.version as number) ? write : best),
        undefined,
      );
      const item = await engine.get(id);
      const least = newest?.version ?? 0;
      if (item === undefined) {
        const deleted = writes.some(
          (write) => write.text === undefined && (write.version ?? Infinity) >= least,
        );
        if (newest !== undefined && !deleted)
          found.push(`${id}: ${newest.text} was acknowledged, and is missing`);
        continue;
      }
      const text = item.text().replaceAll('.', '');
      const source = writes.find((write) => write.text === text);
      if (source === undefined) found.push(`${id}: nobody wrote ${text}`);
      else if (source.version !== undefined && source.version !== item.version)
        found.push(`${id}: wrong version`);
      else if ((item.version as number) < least)
        found.push(`${id}: ${text} is older than what was acknowledged`);
    }
    return found;
  }
}

export interface Place {
  readonly sqlUrl: string;
  readonly walPath: string;
  readonly redisUrl?: string;
  readonly redisPrefix?: string;
}

/** One life of the child; resolves with the signal that ended it. */
async function live(
  at: Place,
  history: History,
  seed: number,
  kill: { step?: StepName; count?: number; afterAcks?: number },
) {
  const flags = kill.step === undefined ? [] : ['--import', KILL_AT];
  const child = spawn(
    process.execPath,
    [...flags, CHILD, JSON.stringify(at), String(history.next), String(seed)],
    {
      env: { ...process.env, KILL_STEP: kill.step ?? '', KILL_COUNT: String(kill.count ?? 1) },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  let acks = 0;
  const timer = setTimeout(() => child.kill('SIGTERM'), 20_000);
  const closed = once(child, 'close');
  for await (const line of createInterface({ input: child.stdout })) {
    history.note(line);
    if (line.startsWith('a ') && ++acks === kill.afterAcks) child.kill('SIGKILL');
  }
  const [, signal] = await closed;
  clearTimeout(timer);
  return signal as string | null;
}

async function check(at: Place, history: History): Promise<void> {
  const engine = new SyncEngine({ ...at });
  await engine.start();
  // Memory is empty: what is not in the log comes from Redis, where there is one, and else from SQL.
  expect(await history.violations(engine)).toEqual([]);
  // Rows, digests and change log came in one transaction, or not at all; the filter caught up with all of it.
  expect(await engine.scrub()).toMatchObject({ corrupt: [], drift: [] });
  await engine.warmUp();
  expect(await engine.verifyFilter()).toMatchObject({ trusted: true, missing: 0 });
  // Some of the backlog may stay in the log for the next life.
  await engine.shutdown({ deadlineMs: 20 });
}

/** @param place A new one each time. @param cycles Random kills. */
export function crashSuite(place: () => Promise<Place>, cycles: number, steps: readonly StepName[]): void {
  describe(`killed at random (CRASH_SEED=${SEED})`, () => {
    // Each on a place of its own.
    const parts = Math.max(2, Math.ceil(cycles / CYCLES_A_PLACE));
    const times = Math.ceil(cycles / parts);
    for (let part = 0; part < parts; part++) {
      test(`${times} times, part ${part + 1}: no acknowledged write is lost`, async () => {
        const at = await place();
        const history = new History();
        for (let cycle = 0; cycle < times; cycle++) {
          const seed = SEED + part * 10_000 + cycle;
          const afterAcks = 1 + ((seed * 7919) % 400);
          expect(await live(at, history, seed, { afterAcks })).toBe('SIGKILL');
          await check(at, history);
        }
        expect(history.acknowledged).toBeGreaterThan(times * 40);
      }, 300_000);
    }
  });

  describe('killed at a named step', () => {
    test.each(steps.map((step, at) => [step, at] as const))(
      'at %s',
      async (step, number) => {
        const at = await place();
        const history = new History();
        // A first life leaves something to find, except where the step is of the very first start.
        const first = step === 'start.log-created' || step === 'start.archive-created';
        if (!first) await live(at, history, SEED + number, { afterAcks: 60 });
        const count = step.startsWith('start.') ? 1 : 3;
        expect(await live(at, history, SEED + 100 + number, { step, count })).toBe('SIGKILL');
        await check(at, history);
      },
      60_000,
    );
  });
}
