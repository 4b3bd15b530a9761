/** Requests to a real worker thread: answers, errors, the death of the thread, and the end of the process. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SyncEngineError } from '#engine/base/errors.js';
import { WorkerClient, WorkerDied } from '#engine/base/worker-client.js';

const ENTRY = new URL('./echo-worker.mjs', import.meta.url);
const CLIENT = new URL('../../dist/base/worker-client.js', import.meta.url);

function worker(): WorkerClient {
  const client = new WorkerClient(ENTRY, 'echo');
  onTestFinished(() => client.terminate());
  return client;
}

async function failure(work: Promise<unknown>): Promise<Error> {
  return work.then(
    () => {
      throw new Error('It did not reject.');
    },
    (error: Error) => error,
  );
}

describe('a request', () => {
  test('is answered with the value of its handler', async () => {
    const client = worker();
    expect(await client.request('echo', { a: [1, undefined, 'x'] })).toEqual({ a: [1, undefined, 'x'] });
    expect(await client.request('echo', undefined)).toBeUndefined();
  });

  test('gets its own answer, also when answers come in another order', async () => {
    const client = worker();
    const answered: number[] = [];
    const requests = [1, 2, 3].map(async (n) => {
      const value = await client.request('hold', n);
      answered.push(n);
      return value;
    });
    await client.request('answerHeld', undefined);
    expect(await Promise.all(requests)).toEqual([1, 2, 3]);
    expect(answered).toEqual([3, 2, 1]);
  });

  test('moves buffers instead of copying them, both ways', async () => {
    const client = worker();
    const bytes = new Uint8Array(1000);
    expect(await client.request('lengthOf', bytes, [bytes.buffer])).toBe(1000);
    expect(bytes.byteLength).toBe(0);
    expect(await client.request('move', undefined)).toEqual(new Uint8Array([1, 2, 3]));
    expect(await client.request('lengthOfMoved', undefined)).toBe(0);
  });
});

describe('an error of a handler', () => {
  test('keeps its code, message, outcome, context and cause', async () => {
    const context = { tier: 'wal', path: '/a/log.db', bytes: 5 };
    const error = await failure(worker().request('refuse', { outcome: 'indeterminate', context }));
    expect(error).toBeInstanceOf(SyncEngineError);
    expect(error).toMatchObject({
      code: 'WAL_FULL',
      message: 'The disk is full.',
      outcome: 'indeterminate',
      context,
      retryable: true,
    });
    expect(error.cause).toBeInstanceOf(Error);
    expect((error.cause as Error).message).toBe('the cause');
  });

  test('has the defaults where it had nothing but code and message', async () => {
    const error = await failure(worker().request('refuseBarely', undefined));
    expect(error).toMatchObject({ code: 'SCHEMA', outcome: 'not-applied', context: {} });
    expect(error.cause).toBeUndefined();
  });

  test('that is a bug arrives without a code', async () => {
    const client = worker();
    for (const [method, message] of [
      ['bug', 'a bug'],
      ['throwText', 'only text'],
      ['noSuchMethod', 'No handler for noSuchMethod.'],
    ] as const) {
      const error = await failure(client.request(method, undefined));
      expect(error).not.toBeInstanceOf(SyncEngineError);
      expect(error.message).toBe(message);
    }
  });

  test('that answers with what cannot be sent rejects that request', async () => {
    const client = worker();
    expect((await failure(client.request('unsendable', undefined))).message).toContain('could not be cloned');
    expect(await client.request('echo', 1)).toBe(1);
  });

  test('leaves the thread and the other requests alone', async () => {
    const client = worker();
    const other = client.request('hold', 'other');
    await failure(client.request('bug', undefined));
    expect(client.alive).toBe(true);
    await client.request('answerHeld', undefined);
    expect(await other).toBe('other');
  });
});

describe('the death of the thread', () => {
  test.each([
    ['it exits', 'exit', 3, /echo thread ended with code 3/],
    ['it throws outside of a handler', 'crash', undefined, /echo thread failed: an unexpected end/],
  ])('rejects everything under way when %s', async (_name, method, args, message) => {
    const client = worker();
    const waiting = [client.request('hold', 1), client.request('hold', 2), client.request(method, args)];
    for (const error of await Promise.all(waiting.map(failure))) {
      expect(error).toBeInstanceOf(WorkerDied);
      expect(error.message).toMatch(message);
    }
    expect(client.alive).toBe(false);
  });

  test('rejects every later request at once', async () => {
    const client = worker();
    await failure(client.request('exit', 0));
    expect(await failure(client.request('echo', 1))).toBeInstanceOf(WorkerDied);
  });

  test('comes with an entry that is not there', async () => {
    const client = new WorkerClient(new URL('./no-such-worker.mjs', import.meta.url), 'missing');
    const error = await failure(client.request('echo', 1));
    expect(error).toBeInstanceOf(WorkerDied);
    expect(error.message).toContain('missing thread failed');
  });
});

describe('terminate', () => {
  test('ends a thread that would never answer, and rejects what waits for it', async () => {
    const client = worker();
    await client.request('echo', 1);
    const waiting = [client.request('hold', 1), client.request('spin', undefined)].map(failure);
    await client.terminate();
    for (const error of await Promise.all(waiting)) expect(error).toBeInstanceOf(WorkerDied);
    expect(client.alive).toBe(false);
  });

  test('may be called twice, and after the thread died', async () => {
    const client = worker();
    await Promise.all([client.terminate(), client.terminate()]);
    await client.terminate();
    const dead = worker();
    await failure(dead.request('exit', 1));
    await dead.terminate();
  });
});

describe('the process', () => {
  /** Runs `code` in a process of its own, with `client` made; fails where it does not end by itself. */
  async function run(code: string, flags: readonly string[] = [], limitMs = 20_000): Promise<string> {
    const program = [
      `import { WorkerClient } from ${JSON.stringify(CLIENT.href)};`,
      `const client = new WorkerClient(new URL(${JSON.stringify(ENTRY.href)}), 'echo');`,
      code,
    ].join('\n');
    const args = [...flags, '--input-type=module', '--eval', program];
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: limitMs });
    return stdout;
  }

  test('ends by itself with an idle worker, and not before the answers under way', async () => {
    expect(await run("client.request('echoLater', 'a').then(console.log)")).toBe('a\n');
  });

  test('stays until the last of several answers', async () => {
    const code = `
      client.request('echo', 'first').then(console.log);
      client.request('echoLater', 'last').then(console.log);`;
    expect(await run(code)).toBe('first\nlast\n');
  });

  test('ends by itself after a request that the thread did not survive', async () => {
    expect(await run("client.request('exit', 5).catch((error) => console.log(error.message))")).toBe(
      'The echo thread ended with code 5.\n',
    );
  });

  test('ends by itself with a worker that was never asked', async () => {
    expect(await run("console.log('made')", [], 3000)).toBe('made\n');
  });

  test('ends by itself after a request that could not be sent', async () => {
    const code = "client.request('echo', () => {}).catch((error) => console.log(error.name))";
    expect(await run(code, [], 3000)).toBe('DataCloneError\n');
  });

  test('may have flags of V8, which no thread may be given', async () => {
    const code = "client.request('echo', 1).then(console.log)";
    expect(await run(code, ['--max-old-space-size=500'], 3000)).toBe('1\n');
  });
});
