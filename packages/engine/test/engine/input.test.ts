import { describe, expect, test } from 'vitest';
import { ContentType, SyncEngine, type SyncEngineError, SyncItem } from '#engine/index.js';
import { rejection, startedFakes } from '../support/engines.js';

const ILL_FORMED = ['\ud800', 'a\udc00', '\ud83d', 'x\ud800y'];

function thrown(run: () => unknown): SyncEngineError {
  try {
    run();
  } catch (error) {
    return error as SyncEngineError;
  }
  throw new Error('It did not throw.');
}

describe('bad input is refused before anything changes', () => {
  test('bad ids', async () => {
    const { engine, store } = await startedFakes();
    const groups = store.groups.length;
    for (const id of ['', ...ILL_FORMED, 'x'.repeat(1025), 'é'.repeat(513)]) {
      expect(thrown(() => new SyncItem(id, 'x')).code).toBe('CONFIG');
      for (const call of [
        engine.get(id),
        engine.getMany([id]),
        engine.delete(id),
        engine.deleteMany(['ok', id]),
      ]) {
        expect(await rejection(call)).toMatchObject({ code: 'CONFIG', outcome: 'not-applied' });
      }
      expect(await rejection(engine.status(id))).toMatchObject({ code: 'CONFIG' });
      expect(await rejection(engine.getOrInsert(id, () => new SyncItem('a', 'x')))).toMatchObject({
        code: 'CONFIG',
      });
    }
    for (const id of [undefined, null, 7, {}, ['a']] as never[]) {
      expect(thrown(() => new SyncItem(id, 'x'))).toBeInstanceOf(TypeError);
      expect(await rejection(engine.get(id))).toBeInstanceOf(TypeError);
      expect(await rejection(engine.delete(id))).toBeInstanceOf(TypeError);
    }
    expect(engine.size).toBe(0);
    expect(store.groups.length).toBe(groups);
  });

  test('bad contents, types and states', () => {
    for (const content of [undefined, null, 7, {}, [1, 2]] as never[]) {
      expect(thrown(() => new SyncItem('a', content))).toBeInstanceOf(TypeError);
    }
    expect(thrown(() => new SyncItem('a', 'x', { contentType: 'text' as never }))).toBeInstanceOf(TypeError);
    expect(thrown(() => new SyncItem('a', 'x', { state: '' })).code).toBe('CONFIG');
    expect(thrown(() => new SyncItem('a', 'x', { state: 'x'.repeat(65) })).code).toBe('CONFIG');
    expect(thrown(() => new SyncItem('a', 'x', { state: '\ud800' })).code).toBe('CONFIG');
    expect(thrown(() => new SyncItem('a', 'x', { state: 5 as never }))).toBeInstanceOf(TypeError);
    expect(thrown(() => new SyncItem('a', 'x', { traceState: 'x'.repeat(513) })).code).toBe('CONFIG');
    expect(thrown(() => SyncItem.fromJson('a', undefined))).toBeInstanceOf(TypeError);
    expect(thrown(() => SyncItem.fromJson('a', 1n))).toBeInstanceOf(TypeError);
    expect(new SyncItem('a', 'x', { state: 'é'.repeat(32) }).state).toBe('é'.repeat(32));
  });

  test('an oversized payload names the limit; submitMany takes nothing of its batch', async () => {
    const { engine } = await startedFakes({ maxPayloadBytes: 100 });
    const big = new SyncItem('big', Buffer.alloc(101));
    expect(await rejection(engine.submit(big))).toMatchObject({
      code: 'PAYLOAD_TOO_LARGE',
      outcome: 'not-applied',
      context: { id: 'big', bytes: 101, bytesMax: 100 },
    });
    expect(await rejection(engine.submitMany([new SyncItem('a', 'x'), big]))).toMatchObject({
      code: 'PAYLOAD_TOO_LARGE',
    });
    expect(engine.size).toBe(0);
    expect((await engine.submit(new SyncItem('fits', Buffer.alloc(100)))).ack).toBe('wal');
  });

  test('items that are none', async () => {
    const { engine } = await startedFakes();
    for (const item of [undefined, null, 'a', { id: 'a', content: 'x' }] as never[]) {
      expect(await rejection(engine.submit(item))).toBeInstanceOf(TypeError);
      expect(await rejection(engine.submitMany([new SyncItem('ok', 'x'), item]))).toBeInstanceOf(TypeError);
    }
    for (const items of [undefined, 7, 'text', {}] as never[]) {
      expect(await rejection(engine.submitMany(items))).toBeInstanceOf(TypeError);
      expect(await rejection(engine.deleteMany(items))).toBeInstanceOf(TypeError);
      expect(await rejection(engine.getMany(items))).toBeInstanceOf(TypeError);
    }
    expect(engine.size).toBe(0);
  });

  test('unknown options name the nearest known one', async () => {
    const { engine } = await startedFakes();
    const item = new SyncItem('a', 'x');
    expect((await rejection(engine.submit(item, { akc: 'wal' } as never))).message).toContain(
      'did you mean ack?',
    );
    expect((await rejection(engine.submit(item, { stat: 'x' } as never))).message).toContain(
      'did you mean state?',
    );
    expect((await rejection(engine.submit(item, { ttl: 5 } as never))).message).toContain(
      'did you mean redisTtl?',
    );
    expect((await rejection(engine.get('a', { frsh: true } as never))).message).toContain(
      'did you mean fresh?',
    );
    expect((await rejection(engine.flush({ timeout: 1 } as never))).message).toContain(
      'did you mean timeoutMs?',
    );
    expect((await rejection(engine.shutdown({ deadline: 1 } as never))).message).toContain(
      'did you mean deadlineMs?',
    );
    expect((await rejection(engine.delete('a', { state: 'x' } as never))).code).toBe('CONFIG');
    expect((await rejection(engine.submit(item, { ack: 'disk' as never }))).code).toBe('CONFIG');
    expect(await rejection(engine.submit(item, { signal: {} as never }))).toBeInstanceOf(TypeError);
    expect(await rejection(engine.submit(item, 'wal' as never))).toBeInstanceOf(TypeError);
    expect(await rejection(engine.flush({ timeoutMs: -1 }))).toBeInstanceOf(TypeError);
    expect(await rejection(engine.flush({ timeoutMs: Number.NaN }))).toBeInstanceOf(TypeError);
    expect(engine.size).toBe(0);
  });
});

describe('a configuration is checked as a whole', () => {
  test('every mistake is listed at once', () => {
    const error = thrown(
      () =>
        new SyncEngine({
          walpath: 'x',
          sqlUrl: 'ftp://user:secret@host/db',
          l1MaxBytes: 10,
          batchFlushCount: 0,
          batchFlushMs: '100',
          nodeId: 'far too long for a node',
          ack: 'disk',
        } as never),
    );
    expect(error.code).toBe('CONFIG');
    expect(error.context.problems).toHaveLength(7);
    expect(error.message).toContain('did you mean walPath?');
    expect(error.message).not.toContain('secret');
  });

  test('contradictions between keys are found', () => {
    const contradictions: [object, string][] = [
      [{ walPath: 'log' }, 'needs sqlUrl'],
      [{ ack: 'wal', sqlUrl: 'sqlite:a' }, 'needs walPath'],
      [{ ack: 'stored' }, 'needs sqlUrl'],
      [{ startDegraded: true, sqlUrl: 'sqlite:a' }, 'needs walPath'],
      [{ sqlUrl: 'sqlite:a', walPath: 'a' }, 'same file'],
      [{ l1MaxBytes: 100_000, maxPayloadBytes: 200_000 }, 'does not fit'],
      [{ l1MaxBytes: 100_000, batchFlushBytes: 200_000 }, 'never be reached'],
    ];
    for (const [config, text] of contradictions) {
      expect(thrown(() => new SyncEngine(config)).message).toContain(text);
    }
  });

  test('wrong shapes are refused', () => {
    for (const config of [null, 7, 'sqlite:a', []] as never[]) {
      expect(thrown(() => new SyncEngine(config)).code).toBe('CONFIG');
    }
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, 1.5, -1, '5']) {
      expect(thrown(() => new SyncEngine({ submitTimeoutMs: value as never })).message).toContain(
        'submitTimeoutMs',
      );
    }
  });

  test('a duration above what timers can count is refused, not fired at once', () => {
    // The field: a TTL above 24.8 days fired after 1 ms.
    expect(thrown(() => new SyncEngine({ batchFlushMs: 2 ** 31 })).message).toContain('batchFlushMs');
  });
});

describe('the second argument is checked as a whole', () => {
  const problems = (ports: unknown): readonly string[] =>
    thrown(() => new SyncEngine({}, ports as never)).context.problems ?? [];

  test('a misspelt logger is refused, where it was silence for ever', () => {
    const error = thrown(() => new SyncEngine({}, { loger: console } as never));
    expect(error).toMatchObject({ code: 'CONFIG', outcome: 'not-applied' });
    expect(error.message).toContain('unknown port "loger" (did you mean logger?)');
    expect(problems({ xyzxyzxyz: 1 })[0]).toContain('known are clock, scheduler');
  });

  test('a port that lacks methods is refused with their names, not at its first use', () => {
    // A cache without close() worked until the shutdown, which ended in a TypeError.
    expect(problems({ cache: {} })[0]).toMatch(/^cache must be .* open\(\), head\(\).* close\(\)$/);
    expect(problems({ logger: { debug() {}, info() {}, error: 5 } })).toEqual([
      'logger must be an object that has warn(), error()',
    ]);
    for (const port of ['clock', 'scheduler', 'random', 'archive', 'recordStore', 'evictionPolicy'])
      for (const value of [{}, 5, null, 'x', []])
        expect(problems({ [port]: value })[0]).toContain(`${port} must be`);
    expect(problems({ evictionPolicy: { score: () => 0, evicted: 'no' } })[0]).toContain('has evicted()');
  });

  test('every mistake is listed at once, those of telemetry too', () => {
    expect(problems({ loger: console, logger: {}, evictionPolicy: 5, telemetry: { meter: 1 } })).toHaveLength(
      4,
    );
    for (const ports of [null, 7, 'x', []]) expect(problems(ports)[0]).toContain('must be an object');
  });

  test('what fits is taken: a console, a policy without its optional method, a port that is undefined', async () => {
    const ports = {
      logger: console,
      evictionPolicy: { score: () => 0 },
      clock: undefined,
      random: undefined,
    };
    const engine = new SyncEngine({}, ports as never);
    expect((await engine.healthCheck()).state).toBe('Created');
  });
});

test('a listener of no event, or that is no function, is refused', async () => {
  const { engine } = await startedFakes();
  const misspelt = thrown(() => engine.on('eror' as never, () => {}));
  expect(misspelt).toMatchObject({ code: 'CONFIG' });
  expect(misspelt.message).toMatch(/"eror" \(did you mean error\?\); events are state, .*, stale, error/);
  for (const name of [undefined, 5, 'toString'] as never[])
    expect(thrown(() => engine.on(name, () => {})).code).toBe('CONFIG');
  expect(thrown(() => engine.off('eror' as never, () => {})).code).toBe('CONFIG');
  for (const listener of [undefined, null, 5] as never[])
    expect(thrown(() => engine.on('error', listener))).toBeInstanceOf(TypeError);
});

test('peek refuses what is no id, as get does', async () => {
  const { engine } = await startedFakes();
  for (const id of [5, undefined, null, {}] as never[])
    expect(thrown(() => engine.peek(id))).toBeInstanceOf(TypeError);
  for (const id of ['', ...ILL_FORMED]) expect(thrown(() => engine.peek(id)).code).toBe('CONFIG');
  expect(engine.peek('absent')).toBeUndefined();
});

test('ContentType.detect parses', () => {
  expect(ContentType.detect('{"a":1}')).toBe('json');
  expect(ContentType.detect(Buffer.from('[1'))).toBe('binary');
});

test('submit never changes the caller’s object', async () => {
  const { engine } = await startedFakes();
  const item = new SyncItem('a', 'x');
  await engine.submit(item, { state: 'other' });
  expect(item.version).toBeUndefined();
  expect(item.contentHash).toBeUndefined();
  expect(item.state).toBe('default');
  expect(engine.peek('a')?.state).toBe('other');
  expect(engine.peek('a')?.origin).toMatch(/^test#\d+$/);
  expect(engine.peek('a')?.updatedAt).toBeTypeOf('number');
});

test('withState makes an item that is not yet submitted', async () => {
  const { engine } = await startedFakes();
  await engine.submit(new SyncItem('a', 'x'));
  const next = engine.peek('a')?.withState('done');
  expect(next).toMatchObject({ id: 'a', state: 'done', version: undefined });
  expect(next?.text()).toBe('x');
});
