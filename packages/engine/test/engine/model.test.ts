/**
 * Every public verb, at random, against a plain map: what the engine answers is what the map answers, whatever is
 * pending, flushed, evicted or restarted. A failure is shrunk and names its seed; MODEL_SEED=<seed> replays it.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SyncEngine, type SyncEngineConfig, SyncItem } from '#engine/index.js';
import { fileConfig, temporaryDirectory } from '../support/engines.js';

const SEED = process.env['MODEL_SEED'];
const IDS = [
  'a',
  'A',
  'a ',
  'a.b',
  'a.b.c',
  'a.c',
  'a..b',
  '.',
  '..',
  '.a',
  'b',
  'b.1',
  'b.2',
  'users',
  'users2',
  'users.1',
  'a%',
  'a_',
  '\u{1f600}',
  '\u{1f600}.x',
  '\uffff',
  '\u{10ffff}',
  'a\0',
  `${'x.'.repeat(70)}y`,
  `${'x.'.repeat(70)}z`,
];
const STATES = ['default', 'new', 'paid'];
const PREFIXES = ['', 'a', 'a.', 'b', 'users', '.', '\u{1f600}', 'x.', 'none'];

interface Value {
  readonly text: string;
  readonly state: string;
}

/** Decisions taken from a list, which fast-check makes and shrinks; the run ends with the list. */
class Choices {
  readonly #from: readonly number[];
  #at = 0;

  constructor(from: readonly number[]) {
    this.#from = from;
  }

  get left(): boolean {
    return this.#at < this.#from.length;
  }

  below(end: number): number {
    return (this.#from[this.#at++] ?? 0) % end;
  }

  chance(share: number): boolean {
    return this.below(100) < share * 100;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T;
  }
}

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

class Run {
  readonly #dice: Choices;
  readonly #config: SyncEngineConfig;
  readonly #model = new Map<string, Value>();
  readonly #ever = new Set<string>();
  readonly #trace: string[] = [];
  #engine: SyncEngine;
  #count = 0;

  constructor(choices: readonly number[], config: SyncEngineConfig) {
    this.#dice = new Choices(choices);
    this.#config = config;
    this.#engine = new SyncEngine(config);
  }

  async play(): Promise<void> {
    await this.#engine.start();
    try {
      while (this.#dice.left) {
        await this.#change();
        await this.#look();
      }
      await this.#prove();
    } catch (error) {
      throw new Error(`after ${this.#trace.join(', ')}`, { cause: error });
    } finally {
      await this.#engine.shutdown();
    }
  }

  get #durable(): boolean {
    return this.#config.sqlUrl !== undefined;
  }

  #ack(): 'memory' | 'wal' | 'stored' {
    return this.#durable ? this.#dice.pick(['memory', 'memory', 'wal', 'stored'] as const) : 'memory';
  }

  #matching(prefix: string, state?: string): string[] {
    return [...this.#model]
      .filter(([id, value]) => id.startsWith(prefix) && (state === undefined || value.state === state))
      .map(([id]) => id)
      .sort(byBytes);
  }

  #put(id: string): SyncItem {
    const value = { text: `${this.#count++}`, state: this.#dice.pick(STATES) };
    this.#model.set(id, value);
    this.#ever.add(id);
    return new SyncItem(id, value.text, { state: value.state });
  }

  async #change(): Promise<void> {
    const dice = this.#dice;
    const id = dice.pick(IDS);
    const verb = dice.pick([
      'submit',
      'submit',
      'submit',
      'submitMany',
      'delete',
      'deleteMany',
      'setState',
      'getOrInsert',
      'deletePrefix',
      'deleteByState',
      'flush',
      'tick',
      'restart',
    ] as const);
    this.#trace.push(`${verb} ${JSON.stringify(id.slice(0, 12))}`);
    const engine = this.#engine;
    const ack = this.#ack();
    switch (verb) {
      case 'submit': {
        const writing = engine.submit(this.#put(id), { ack });
        // Read your writes holds from the call on, awaited or not.
        if (ack === 'stored' || dice.chance(0.5)) await writing;
        return;
      }
      case 'submitMany': {
        const ids = [...new Set([id, dice.pick(IDS), dice.pick(IDS)])];
        await engine.submitMany(
          ids.map((one) => this.#put(one)),
          { ack },
        );
        return;
      }
      case 'delete':
        this.#model.delete(id);
        await engine.delete(id, { ack });
        return;
      case 'deleteMany': {
        const ids = [id, dice.pick(IDS)];
        for (const one of ids) this.#model.delete(one);
        await engine.deleteMany(new Set(ids), { ack });
        return;
      }
      case 'setState': {
        const state = dice.pick(STATES);
        const value = this.#model.get(id);
        const receipt = await engine.setState(id, state, { ack });
        expect(receipt === undefined).toBe(value === undefined);
        if (value !== undefined) this.#model.set(id, { ...value, state });
        return;
      }
      case 'getOrInsert': {
        const known = this.#model.get(id);
        const item = await engine.getOrInsert(id, () => this.#put(id), { ack });
        expect(item.text()).toBe(known === undefined ? this.#model.get(id)?.text : known.text);
        return;
      }
      case 'deletePrefix': {
        const prefix = dice.pick(PREFIXES.slice(1));
        const ids = this.#matching(prefix);
        expect(await engine.deletePrefix(prefix, { ack })).toBe(ids.length);
        for (const one of ids) this.#model.delete(one);
        return;
      }
      case 'deleteByState': {
        const ids = this.#matching('', 'paid');
        expect(await engine.deleteByState('paid', { ack })).toBe(ids.length);
        for (const one of ids) this.#model.delete(one);
        return;
      }
      case 'flush':
        return engine.flush();
      case 'tick':
        return engine.tick();
      case 'restart':
        if (!this.#durable || dice.chance(0.5)) return;
        expect((await engine.shutdown()).remaining).toBe(0);
        this.#engine = new SyncEngine(this.#config);
        await this.#engine.start();
    }
  }

  async #look(): Promise<void> {
    const dice = this.#dice;
    const engine = this.#engine;
    const id = dice.pick(IDS);
    const value = this.#model.get(id);
    switch (
      dice.pick([
        'get',
        'get',
        'getMany',
        'contains',
        'status',
        'missing',
        'scan',
        'scan',
        'count',
        'state',
      ] as const)
    ) {
      case 'get': {
        const item = await engine.get(id);
        expect([item?.text(), item?.state]).toEqual([value?.text, value?.state]);
        const peeked = engine.peek(id);
        if (peeked !== undefined) expect(peeked.text()).toBe(value?.text);
        return;
      }
      case 'getMany': {
        const ids = [id, dice.pick(IDS), id, 'nobody'];
        const items = await engine.getMany(ids);
        expect(items.map((item) => item?.text())).toEqual(ids.map((one) => this.#model.get(one)?.text));
        return;
      }
      case 'contains':
        expect(await engine.contains(id)).toBe(value !== undefined);
        expect(await engine.isCurrent(id, '0'.repeat(64))).toBe(false);
        return;
      case 'status': {
        const { kind } = await engine.status(id);
        if (value !== undefined) expect(kind).not.toBe('missing');
        else expect(kind).not.toBe('synced');
        return;
      }
      case 'missing':
        if (engine.definitelyMissing(id)) expect(value).toBeUndefined();
        expect(engine.mightExist(id)).toBe(!engine.definitelyMissing(id));
        return;
      case 'scan': {
        const prefix = dice.pick(PREFIXES);
        const expected = this.#matching(prefix);
        const from = dice.below(expected.length + 1);
        const after = from === 0 ? undefined : expected[from - 1];
        const limit = 1 + dice.below(30);
        const found: string[] = [];
        const options = { limit, pageSize: 1 + dice.below(5), ...(after === undefined ? {} : { after }) };
        for await (const item of engine.scanPrefix(prefix, options)) {
          found.push(item.id);
          expect(item.text()).toBe(this.#model.get(item.id)?.text);
        }
        expect(found).toEqual(expected.slice(from, from + limit));
        return;
      }
      case 'count': {
        const prefix = dice.pick(PREFIXES);
        expect(await engine.countPrefix(prefix)).toBe(this.#matching(prefix).length);
        return;
      }
      case 'state': {
        const state = dice.pick(STATES);
        const expected = this.#matching('', state);
        expect(await engine.countByState(state)).toBe(expected.length);
        expect(await engine.listStateIds(state)).toEqual(expected);
        const page = await engine.getByState(state, { limit: 3 });
        expect(page.map((item) => item.id)).toEqual(expected.slice(0, 3));
      }
    }
  }

  /** At the end, everything at once: tiers, filter, digests and change log tell the same story. */
  async #prove(): Promise<void> {
    if (!this.#durable) return;
    const engine = this.#engine;
    await engine.flush();
    await engine.warmUp();
    expect(await engine.scrub({ pageSize: 7 })).toMatchObject({ corrupt: [], drift: [] });
    expect(await engine.verifyFilter()).toMatchObject({ trusted: true, missing: 0 });
    const story = new Map<string, string | undefined>();
    for await (const change of engine.changes({ tail: false })) {
      if (change.op === 'put') story.set(change.id, change.item.text());
      if (change.op === 'delete') story.delete(change.id);
    }
    expect([...story].sort()).toEqual([...this.#model].map(([id, value]) => [id, value.text]).sort());
    for (const [id, value] of this.#model) {
      expect((await engine.get(id, { fresh: true }))?.text(), id).toBe(value.text);
      expect((await engine.getVerified(id))?.state, id).toBe(value.state);
    }
    // Every row is a leaf of the tree, tombstones included.
    expect((await engine.merkleNode(''))?.count ?? 0).toBeGreaterThanOrEqual(this.#model.size);
    expect(await engine.findDivergentPaths(engine.merkle)).toMatchObject({ divergentPaths: [] });
  }
}

/** Some 40 to 60 steps. */
const choices = fc.array(fc.nat(), { minLength: 250, maxLength: 400 });

function check(runs: number, configOf: (number: number) => SyncEngineConfig): Promise<void> {
  let number = 0;
  const property = fc.asyncProperty(choices, (some) => new Run(some, configOf(number++)).play());
  const seed = SEED === undefined ? {} : { seed: Number(SEED) };
  return fc.assert(property, { numRuns: runs, interruptAfterTimeLimit: 50_000, ...seed });
}

describe('an engine does what a map would do', () => {
  test('on SQLite, with little memory and small batches', async () => {
    await check(15, (number) => ({
      ...fileConfig(temporaryDirectory()),
      l1MaxBytes: 64 * 1024,
      batchFlushMs: 5,
      batchFlushCount: 3,
      walMode: number % 4 === 3 ? 'outage' : 'always',
      filterSnapshotInsertThreshold: 1,
    }));
  }, 120_000);

  test('in memory alone', async () => {
    await check(100, () => ({}));
  }, 120_000);
});
