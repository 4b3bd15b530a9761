/** One simulated run: a workload over a whole engine, with crashes and faults, then the judgement. */
import { SyncEngine, type SyncEngineConfig, SyncEngineError, SyncItem } from '#engine/index.js';
import { type Call, check, describe, type ReadCall, type WriteCall } from './checker.js';
import { ArchiveDisk, SimulatedArchive } from './simulated-archive.js';
import { CacheHost, simulatedCache } from './simulated-cache.js';
import { LogDisk, SimulatedRecordStore } from './simulated-log.js';
import { Life, World } from './world.js';

const CONFIG: SyncEngineConfig = {
  nodeId: 'sim',
  l1MaxBytes: 64 * 1024,
  submitTimeoutMs: 1000,
  batchFlushMs: 20,
  batchFlushCount: 8,
  walDrainBatchSize: 10,
  sqlTimeoutMs: 800,
  sqlReadTimeoutMs: 300,
  redisTimeoutMs: 100,
};
const HOT_IDS = 6;
const COLD_IDS = 80;
const EVERY_ID = [
  ...Array.from({ length: HOT_IDS }, (_, at) => `hot${at}`),
  ...Array.from({ length: COLD_IDS }, (_, at) => `cold${at}`),
];
/** Contents that begin so are refused by SQL. */
const REFUSED = '!';
const CLIENTS = 4;
/** Beyond the deadline of the engine itself: turns of the loop, and a get that comes before a submit. */
const SLACK_MS = 60;
const FLUSH_MS = 2000;

export interface RunResult {
  readonly seed: number;
  readonly violations: readonly string[];
  readonly digest: string;
  readonly history: readonly Call[];
  readonly crashes: number;
}

export async function runSeed(seed: number, operations: number): Promise<RunResult> {
  const run = new Run(seed, operations);
  try {
    return await run.world.runUntil(run.play());
  } catch (error) {
    throw new Error(`seed ${seed}: ${String(error)}\n${run.unfinished().join('\n')}`, { cause: error });
  }
}

class Run {
  readonly world: World;
  readonly #seed: number;
  readonly #operations: number;
  readonly #walMode: 'always' | 'outage';
  readonly #log = new LogDisk();
  readonly #archive = new ArchiveDisk();
  /** In every other run. */
  readonly #redis: CacheHost | undefined;
  readonly #history: Call[] = [];
  readonly #violations: string[] = [];
  #clock = 0;
  #texts = 0;
  #lives = 0;
  #done = 0;
  #crashes = 0;
  #life!: Life;
  #engine!: SyncEngine;
  /** Clients wait for it while there is no engine. */
  #running: Promise<void> = Promise.resolve();
  #restarting = false;
  /** Share of writes that SQL refuses. */
  #refused = 0;

  constructor(seed: number, operations: number) {
    this.#seed = seed;
    this.#operations = operations;
    this.world = new World(seed);
    this.#walMode = this.world.dice.chance(0.25) ? 'outage' : 'always';
    this.#redis = this.world.dice.chance(0.5) ? new CacheHost(this.world) : undefined;
  }

  /** Calls that nobody has answered. */
  unfinished(): string[] {
    return this.#history.filter((call) => call.outcome === 'open').map(describe);
  }

  async play(): Promise<RunResult> {
    const { dice } = this.world;
    this.#archive.faults = dice.pick([0, 0.02, 0.1]);
    this.#log.slow = dice.chance(0.1);
    if (this.#redis !== undefined) this.#redis.faults = dice.pick([0, 0.02, 0.1]);
    this.#refused = dice.pick([0, 0, 0.05]);
    this.#archive.refuses = (write) => write.content.toString('utf8', 0, 1) === REFUSED;
    await this.#start();
    await Promise.all(Array.from({ length: CLIENTS }, () => this.#client()));
    await this.#heal();
    const damaged = this.#log.everDamaged;
    const redisMs = this.#redis === undefined ? 0 : (CONFIG.redisTimeoutMs as number);
    const readMs = (CONFIG.sqlReadTimeoutMs as number) + redisMs + SLACK_MS;
    const submitMs = (CONFIG.submitTimeoutMs as number) + SLACK_MS;
    this.#violations.push(...check(this.#history, { submitMs, readMs, damaged }));
    return {
      seed: this.#seed,
      violations: this.#violations,
      digest: this.world.traceDigest,
      history: this.#history,
      crashes: this.#crashes,
    };
  }

  // ── Clients ──────────────────────────────────────────────────────────────────────────────────────────────

  async #client(): Promise<void> {
    const { dice } = this.world;
    while (this.#done < this.#operations) {
      this.#done++;
      if (dice.chance(0.06)) await this.#fault();
      await this.#running;
      await this.#operation();
      await this.world.sleep(dice.chance(0.3) ? 0 : dice.between(0, 40));
    }
  }

  async #operation(): Promise<void> {
    const { dice } = this.world;
    const id = this.#anyId();
    switch (dice.pick(OPERATIONS)) {
      case 'submit':
        return this.#write(id, this.#newText());
      case 'delete':
        return this.#write(id, undefined);
      case 'submit and read':
        // Not awaited: the read comes while the write is on its way.
        await Promise.all([
          this.#write(id, dice.chance(0.3) ? undefined : this.#newText()),
          this.#read(id, 'get'),
        ]);
        return;
      case 'read and submit':
        await Promise.all([
          this.#read(id, 'get'),
          this.#write(id, dice.chance(0.5) ? undefined : this.#newText()),
        ]);
        return;
      case 'submitMany':
        return this.#writeMany();
      case 'get':
        return this.#read(id, 'get');
      case 'fresh':
        return this.#read(id, 'fresh');
      case 'peek':
        return this.#peek(id);
      case 'getMany':
        return this.#readMany();
      case 'getOrInsert':
        return this.#getOrInsert(id);
      case 'scan':
        return this.#scan();
      case 'deletePrefix':
        return this.#deletePrefix();
      case 'flush':
        return this.#flush();
    }
  }

  #anyId(): string {
    const { dice } = this.world;
    return dice.chance(0.6) ? `hot${dice.below(HOT_IDS)}` : `cold${dice.below(COLD_IDS)}`;
  }

  /** Now and then one that SQL refuses for its own sake. */
  #newText(): string {
    return `${this.world.dice.chance(this.#refused) ? REFUSED : ''}${this.#texts++}`;
  }

  /** The text, and ballast so that memory fills up. */
  #item(id: string, text: string): SyncItem {
    return new SyncItem(id, text.padEnd(this.world.dice.pick([10, 700, 2500])));
  }

  #call<T extends Call>(call: T): T {
    this.#history.push(call);
    this.world.note(`call ${describe(call)}`);
    return call;
  }

  #newWrite(id: string, text: string | undefined, stampedInCall = true): WriteCall {
    return this.#call({
      kind: 'write',
      id,
      text,
      life: this.#life.number,
      invokedAt: this.#clock++,
      invokedMs: this.world.now,
      outcome: 'open',
      stampedInCall,
    });
  }

  #newRead(id: string): ReadCall {
    return this.#call({
      kind: 'read',
      id,
      life: this.#life.number,
      invokedAt: this.#clock++,
      invokedMs: this.world.now,
      outcome: 'open',
    });
  }

  async #write(id: string, text: string | undefined): Promise<void> {
    const { dice } = this.world;
    const ack = dice.pick(['memory', 'wal', 'wal', 'wal', 'stored', undefined] as const);
    const options = ack === undefined ? {} : { ack };
    const item = text === undefined ? undefined : this.#item(id, text);
    const call = this.#newWrite(id, text);
    const answer = item === undefined ? this.#engine.delete(id, options) : this.#engine.submit(item, options);
    await this.#answerWrite(call, ack ?? 'wal', answer);
  }

  async #writeMany(): Promise<void> {
    const ids = [...new Set(Array.from({ length: 5 }, () => this.#anyId()))];
    const items = ids.map((id) => this.#item(id, this.#newText()));
    const calls = items.map((item) => this.#newWrite(item.id, item.text().trimEnd()));
    const ack = this.world.dice.pick(['memory', 'wal', 'stored'] as const);
    const answer = this.#engine.submitMany(items, { ack });
    const parts = calls.map((call, at) =>
      this.#answerWrite(
        call,
        ack,
        answer.then(({ results }) => {
          const result = results[at];
          if (result instanceof SyncEngineError) throw result;
          return result as { version: number; ack: 'memory' | 'wal' | 'stored' };
        }),
      ),
    );
    await Promise.all(parts);
  }

  async #answerWrite(
    call: WriteCall,
    asked: 'memory' | 'wal' | 'stored',
    answer: Promise<{ version: number; ack: 'memory' | 'wal' | 'stored' }>,
  ): Promise<void> {
    const life = this.#life;
    const result = await Promise.race([
      answer.then(
        (receipt) => receipt,
        (error: SyncEngineError) => error,
      ),
      life.crashed,
    ]);
    if (result === 'crashed' || life.dead) {
      if (call.outcome === 'open') call.outcome = 'unknown';
      return;
    }
    call.respondedAt = this.#clock++;
    call.respondedMs = this.world.now;
    if (result instanceof Error) {
      if (!(result instanceof SyncEngineError)) throw result;
      call.outcome = result.outcome === 'not-applied' ? 'refused' : 'unknown';
      this.world.note(`answer ${describe(call)} ${result.code}`);
      return;
    }
    call.outcome = 'acknowledged';
    call.level = result.ack;
    call.version = result.version;
    this.world.note(`answer ${describe(call)} ${result.ack}`);
    this.#checkLevel(call, asked);
  }

  /** What the acknowledgement says is true at the moment at which it comes. */
  #checkLevel(call: WriteCall, asked: 'memory' | 'wal' | 'stored'): void {
    const levels = ['memory', 'wal', 'stored'];
    const version = call.version as number;
    const stored = (this.#archive.rows.get(call.id)?.version ?? 0) >= version;
    const logged = this.#log.newestOf(call.id) >= version;
    if (levels.indexOf(call.level as string) < levels.indexOf(asked)) {
      this.#violations.push(`${describe(call)}: acknowledged '${call.level}', asked for '${asked}'`);
    }
    if (call.level === 'stored' && !stored)
      this.#violations.push(`${describe(call)}: 'stored', but SQL has it not`);
    if (call.level === 'wal' && !stored && !logged) {
      this.#violations.push(`${describe(call)}: 'wal', but neither log nor SQL has it`);
    }
  }

  async #read(id: string, how: 'get' | 'fresh'): Promise<void> {
    const call = this.#newRead(id);
    const answer = how === 'get' ? this.#engine.get(id) : this.#engine.get(id, { fresh: true });
    await this.#answerRead(call, answer);
  }

  async #readMany(): Promise<void> {
    const ids = [...new Set(Array.from({ length: 4 }, () => this.#anyId()))];
    const calls = ids.map((id) => this.#newRead(id));
    const answer = this.#engine.getMany(ids);
    await Promise.all(
      calls.map((call, at) =>
        this.#answerRead(
          call,
          answer.then((items) => items[at]),
        ),
      ),
    );
  }

  async #peek(id: string): Promise<void> {
    if (this.#engine.state !== 'Running') return;
    const call = this.#newRead(id);
    const item = this.#engine.peek(id);
    // That memory has nothing says nothing.
    if (item === undefined) this.#history.splice(this.#history.indexOf(call), 1);
    else await this.#answerRead(call, Promise.resolve(item));
  }

  async #answerRead(call: ReadCall, answer: Promise<SyncItem | undefined>): Promise<void> {
    const life = this.#life;
    const result = await Promise.race([answer.catch((error: SyncEngineError) => error), life.crashed]);
    if (result === 'crashed' || life.dead) return;
    call.respondedAt = this.#clock++;
    call.respondedMs = this.world.now;
    if (result instanceof Error) {
      if (!(result instanceof SyncEngineError)) throw result;
      call.outcome = 'error';
      // A getMany fails as a whole: what it says of another id says nothing of this one.
      const ofAnother = result.code === 'CORRUPTION' && result.context.id !== call.id;
      call.code = ofAnother ? 'TIER_UNAVAILABLE' : result.code;
    } else if (result?.stale === true) {
      // It says of itself that it may be old.
      call.outcome = 'error';
      call.code = 'TIER_UNAVAILABLE';
    } else if (result === undefined) call.outcome = 'absent';
    else {
      call.outcome = 'value';
      call.text = result.text().trimEnd();
      call.version = result.version as number;
    }
    this.world.note(`answer ${describe(call)} ${call.text ?? call.code ?? ''}`);
  }

  /** A read of every id that begins so: what the scan does not bring is absent. */
  async #scan(): Promise<void> {
    const life = this.#life;
    const prefix = this.world.dice.pick(['hot', 'cold1', 'cold2', '']);
    const ids = EVERY_ID.filter((id) => id.startsWith(prefix));
    const calls = ids.map((id) => this.#newRead(id));
    const found = new Map<string, SyncItem>();
    const order: string[] = [];
    const pageSize = this.world.dice.pick([1, 3, 50]);
    const reading = async (): Promise<void> => {
      for await (const item of this.#engine.scanPrefix(prefix, { pageSize })) {
        found.set(item.id, item);
        order.push(item.id);
      }
    };
    const result = await Promise.race([reading().catch((error: SyncEngineError) => error), life.crashed]);
    if (result === 'crashed' || life.dead) return;
    if (order.join() !== [...new Set(order)].sort().join())
      this.#violations.push(
        `scanPrefix('${prefix}') was out of order, or brought an id twice: ${order.join()}`,
      );
    for (const call of calls) {
      // A scan has the deadline of a write for each of its pages.
      call.invokedMs = this.world.now;
      await this.#answerRead(
        call,
        result instanceof Error ? Promise.reject(result) : Promise.resolve(found.get(call.id)),
      );
    }
  }

  /** Writes tombstones for some of these ids, or for none. */
  async #deletePrefix(): Promise<void> {
    const life = this.#life;
    const prefix = this.world.dice.pick(['hot1', 'hot2', 'cold3', 'cold4']);
    const calls = EVERY_ID.filter((id) => id.startsWith(prefix)).map((id) => this.#newWrite(id, undefined));
    const answer = this.#engine.deletePrefix(prefix, { ack: 'wal' }).catch((error: SyncEngineError) => error);
    const result = await Promise.race([answer, life.crashed]);
    if (result instanceof Error && !(result instanceof SyncEngineError)) throw result;
    for (const call of calls) call.outcome = 'unknown';
  }

  async #getOrInsert(id: string): Promise<void> {
    const life = this.#life;
    let call: WriteCall | undefined;
    const text = this.#newText();
    const answer = this.#engine.getOrInsert(id, async () => {
      call ??= this.#newWrite(id, text, false);
      await this.world.sleep(this.world.dice.between(0, 30));
      return this.#item(id, text);
    });
    const result = await Promise.race([answer.catch((error: SyncEngineError) => error), life.crashed]);
    if (call === undefined || result === 'crashed' || life.dead) {
      if (call?.outcome === 'open') call.outcome = 'unknown';
      return;
    }
    call.respondedAt = this.#clock++;
    const own =
      !(result instanceof Error) && result.text().trimEnd() === text && result.version !== undefined;
    call.outcome = own ? 'acknowledged' : 'unknown';
    if (!own) return;
    call.level = 'wal';
    call.version = (result as SyncItem).version as number;
  }

  async #flush(): Promise<void> {
    const life = this.#life;
    const before = this.#history.filter((call) => call.kind === 'write' && call.life === life.number);
    const started = this.world.now;
    const answer = this.#engine.flush({ timeoutMs: FLUSH_MS }).catch((error: SyncEngineError) => error);
    const result = await Promise.race([answer, life.crashed]);
    if (this.world.now - started > FLUSH_MS + SLACK_MS) this.#violations.push('flush() missed its deadline');
    if (result !== undefined || life.dead) return;
    for (const call of before) {
      if (call.kind !== 'write' || call.version === undefined || !call.stampedInCall) continue;
      // What a refused write has taken the place of is not stored either.
      const refused = (other: Call): boolean =>
        other.kind === 'write' &&
        other.id === call.id &&
        other.text?.startsWith(REFUSED) === true &&
        (other.version ?? Number.POSITIVE_INFINITY) >= (call.version as number);
      if (before.some(refused)) continue;
      if ((this.#archive.rows.get(call.id)?.version ?? 0) < call.version) {
        this.#violations.push(`${describe(call)}: flush() said that it is in SQL`);
      }
    }
  }

  // ── Faults ───────────────────────────────────────────────────────────────────────────────────────────────

  async #fault(): Promise<void> {
    const { dice } = this.world;
    const fault = dice.pick(FAULTS);
    this.world.note(`fault ${fault}`);
    switch (fault) {
      case 'crash':
        return this.#restart(false);
      case 'restart':
        return this.#restart(true);
      case 'SQL is down':
        this.#archive.downUntilMs = this.world.now + dice.between(50, 6000);
        return;
      case 'disk full':
        this.#log.fullUntilMs = this.world.now + dice.between(50, 2500);
        return;
      case 'log fails':
        this.#log.failNext = true;
        return;
      case 'log hangs':
        this.#log.hangNext = true;
        return;
      case 'Redis fails':
        this.#redis?.remember();
        return this.#redis?.fail(dice.between(50, 3000));
      case 'Redis evicts':
        this.#redis?.remember();
        for (let evicted = 0; evicted < 20; evicted++) this.#redis?.evictOne(dice.next());
        return;
      case 'clock jumps':
        this.world.jumpWallClock(dice.between(-3_600_000, 3_600_000));
    }
  }

  /** One client restarts the engine, the others wait. */
  async #restart(clean: boolean): Promise<void> {
    // Of two clients that want to, only the first does.
    if (this.#restarting) return;
    this.#restarting = true;
    let ready!: () => void;
    this.#running = new Promise((resolve) => {
      ready = resolve;
    });
    try {
      if (clean) await this.#shutdown();
      else {
        this.#crashes++;
        this.#life.end();
        if (this.world.dice.chance(0.5)) await this.world.sleep(this.world.dice.between(0, 500));
      }
      await this.#start();
    } finally {
      this.#restarting = false;
      ready();
    }
  }

  async #shutdown(): Promise<void> {
    const writes = this.#history.filter((call) => call.kind === 'write' && call.life === this.#life.number);
    const started = this.world.now;
    const deadlineMs = 3000;
    const { remaining } = await this.#engine.shutdown({ deadlineMs });
    if (this.world.now - started > deadlineMs + 1000) this.#violations.push('shutdown() missed its deadline');
    if (remaining === 0) {
      for (const call of writes) if (call.kind === 'write') call.savedByShutdown = true;
    }
    this.#life.end();
  }

  async #start(): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const life = new Life(this.#lives++);
      const stores = {
        archive: new SimulatedArchive(this.#archive, this.world, life),
        recordStore: new SimulatedRecordStore(this.#log, this.world, life),
        ...(this.#redis === undefined ? undefined : { cache: simulatedCache(this.#redis, this.world, life) }),
      };
      const engine = new SyncEngine(
        { ...CONFIG, walMode: this.#walMode },
        { ...this.world.ports(life), ...stores },
      );
      try {
        await engine.start();
        this.#life = life;
        this.#engine = engine;
        return;
      } catch (error) {
        life.end();
        // A start may meet a full disk or a failing log, and then says so; it may not fail otherwise.
        const code = (error as SyncEngineError).code;
        if (attempt > 50 || (code !== 'WAL_FULL' && code !== 'WAL_FAILED')) throw error;
        await this.world.sleep(200);
      }
    }
  }

  // ── The end ──────────────────────────────────────────────────────────────────────────────────────────────

  /** Faults off: then everything drains, and everything that was promised is there, before and after a start. */
  async #heal(): Promise<void> {
    this.#archive.faults = 0;
    this.#archive.downUntilMs = 0;
    if (this.#redis !== undefined) this.#redis.faults = 0;
    this.#redis?.start();
    this.#log.fullUntilMs = 0;
    this.#log.failNext = this.#log.hangNext = this.#log.slow = false;
    await this.world.sleep(8000);
    await this.#engine.flush({ timeoutMs: 5000 });
    await this.world.sleep(200);
    await this.#readEverything();
    const letters = (await this.#engine.healthCheck()).deadLetters;
    const { remaining } = await this.#engine.shutdown({ deadlineMs: 5000 });
    if (remaining > 0) this.#violations.push(`${remaining} writes remained after everything had healed`);
    if (this.#log.records.size !== letters)
      this.#violations.push(`the log holds ${this.#log.records.size} records, of ${letters} dead letters`);
    for (const call of this.#history) {
      if (call.kind === 'write' && call.life === this.#life.number) call.savedByShutdown = true;
    }
    this.#life.end();
    await this.#start();
    await this.#readEverything();
    await this.#proveFilter();
    await this.#engine.shutdown();
  }

  /** The filter knows every row, however it was learned, and what it excludes was never written. */
  async #proveFilter(): Promise<void> {
    await this.#engine.warmUp();
    const { trusted, missing } = await this.#engine.verifyFilter();
    if (!trusted || missing > 0) this.#violations.push(`the filter denies ${missing} rows`);
    // Counts are refused while the newest write of an id is damaged.
    if (this.#log.damaged.size > 0) return;
    const count = await this.#engine.countPrefix('');
    const live = new Set([...this.#archive.rows.values()].filter((row) => !row.deleted).map((row) => row.id));
    for (const letter of await this.#engine.deadLetters.list()) {
      if (!letter.reason.includes(REFUSED))
        this.#violations.push(`${letter.id} was set aside: ${letter.reason}`);
      live.add(letter.id);
    }
    if (count !== live.size) this.#violations.push(`countPrefix('') says ${count}, there are ${live.size}`);
  }

  async #readEverything(): Promise<void> {
    const ids = [...new Set(this.#history.map((call) => call.id))];
    for (const id of ids) {
      await this.#read(id, 'get');
      const last = this.#history.at(-1) as ReadCall;
      if (last.outcome === 'error' && last.code !== 'CORRUPTION') {
        this.#violations.push(`${describe(last)}: ${last.code} although nothing is broken any more`);
      }
    }
  }
}

const OPERATIONS = [
  ...Array<'submit'>(30).fill('submit'),
  ...Array<'delete'>(8).fill('delete'),
  ...Array<'submit and read'>(6).fill('submit and read'),
  ...Array<'read and submit'>(8).fill('read and submit'),
  ...Array<'submitMany'>(4).fill('submitMany'),
  ...Array<'get'>(28).fill('get'),
  ...Array<'fresh'>(4).fill('fresh'),
  ...Array<'peek'>(3).fill('peek'),
  ...Array<'getMany'>(5).fill('getMany'),
  ...Array<'getOrInsert'>(3).fill('getOrInsert'),
  ...Array<'scan'>(2).fill('scan'),
  ...Array<'deletePrefix'>(1).fill('deletePrefix'),
  ...Array<'flush'>(1).fill('flush'),
] as const;

const FAULTS = [
  'crash',
  'crash',
  'restart',
  'SQL is down',
  'SQL is down',
  'disk full',
  'log fails',
  'log hangs',
  'clock jumps',
  'Redis fails',
  'Redis evicts',
] as const;
