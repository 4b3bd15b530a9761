import { expect, test } from 'vitest';
import { SyncItem } from '#engine/index.js';
import { rejection, startedFakes } from '../support/engines.js';
import { settle } from '../support/manual-ports.js';

test('concurrent calls for one id share one factory call', async () => {
  const { engine } = await startedFakes();
  let calls = 0;
  const factory = async (id: string): Promise<SyncItem> => {
    calls++;
    await settle(2);
    return new SyncItem(id, 'made');
  };
  const items = await Promise.all([engine.getOrInsert('a', factory), engine.getOrInsert('a', factory)]);
  expect(calls).toBe(1);
  expect(items.map((item) => item.text())).toEqual(['made', 'made']);
  expect((await engine.getOrInsert('a', factory)).version).toBe(items[0].version);
  expect(calls).toBe(1);
});

test('a failed factory is not cached', async () => {
  const { engine } = await startedFakes();
  const failed = rejection(
    engine.getOrInsert('a', () => {
      throw new Error('the source is away');
    }),
  );
  expect((await failed).message).toBe('the source is away');
  expect((await engine.getOrInsert('a', (id) => new SyncItem(id, 'made'))).text()).toBe('made');
});

test('a delete during the load is not undone by what was loaded before it', async () => {
  const { engine } = await startedFakes();
  let value = 'before the delete';
  const loaded = engine.getOrInsert('a', async (id) => {
    const read = value;
    await settle(4);
    return new SyncItem(id, read);
  });
  await settle(2);
  value = 'after the delete';
  await engine.delete('a');
  expect((await loaded).text()).toBe('after the delete');
  expect((await engine.get('a'))?.text()).toBe('after the delete');
});

test('a submit during the load wins over what the factory returns', async () => {
  const { engine } = await startedFakes();
  const loaded = engine.getOrInsert('a', async (id) => {
    await settle(4);
    return new SyncItem(id, 'made');
  });
  await settle(2);
  await engine.submit(new SyncItem('a', 'submitted'));
  expect((await loaded).text()).toBe('submitted');
  expect((await engine.get('a'))?.text()).toBe('submitted');
});

test('while writes keep overtaking it the load is returned, and not submitted', async () => {
  const { engine } = await startedFakes();
  let calls = 0;
  const item = await engine.getOrInsert('a', async (id) => {
    calls++;
    await engine.delete('a');
    return new SyncItem(id, 'made');
  });
  expect(calls).toBe(3);
  expect(item.text()).toBe('made');
  expect(item.version).toBeUndefined();
  expect(await engine.get('a')).toBeUndefined();
});

test('a factory that returns something else is told so', async () => {
  const { engine } = await startedFakes();
  for (const made of [undefined, 'text', new SyncItem('b', 'x')]) {
    expect(await rejection(engine.getOrInsert('a', () => made as never))).toBeInstanceOf(TypeError);
  }
  expect(await rejection(engine.getOrInsert('a', 'no function' as never))).toBeInstanceOf(TypeError);
});

test('who gives up harms nobody who waits for the same load; when all have, the factory is told', async () => {
  const { engine } = await startedFakes();
  const first = new AbortController();
  const second = new AbortController();
  let given: AbortSignal | undefined;
  let finish = (): void => {};
  const gate = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const factory = async (id: string, signal: AbortSignal): Promise<SyncItem> => {
    given = signal;
    await gate;
    signal.throwIfAborted();
    return new SyncItem(id, 'made');
  };
  const a = rejection(engine.getOrInsert('k', factory, { signal: first.signal }));
  const b = engine.getOrInsert('k', factory);
  await settle();
  first.abort();
  expect((await a).code).toBe('ABORTED');
  expect(given?.aborted).toBe(false);
  finish();
  expect((await b).text()).toBe('made');
  const c = rejection(
    engine.getOrInsert(
      'other',
      (_id, signal) => {
        given = signal;
        return new Promise(() => {});
      },
      { signal: second.signal },
    ),
  );
  await settle();
  second.abort();
  expect((await c).code).toBe('ABORTED');
  expect(given?.aborted).toBe(true);
});
