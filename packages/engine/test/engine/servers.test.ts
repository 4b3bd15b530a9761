/** Engines on real servers that die, stand still and come back, and several engines on one of them. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, onTestFinished, test } from 'vitest';
import { SyncEngine, type SyncEngineConfig, SyncItem } from '#engine/index.js';
import { createDatabase, startServer } from '../../../../scripts/servers/servers.mjs';
import { rejection, temporaryDirectory } from '../support/engines.js';
import { onServer, SQL_KINDS } from '../support/servers.js';

const NEIGHBOUR = new URL('./neighbour.mjs', import.meta.url).pathname;

async function engineOn(sqlUrl: string, config: SyncEngineConfig = {}): Promise<SyncEngine> {
  const walPath = join(temporaryDirectory(), 'log.db');
  const engine = new SyncEngine({ sqlUrl, walPath, batchFlushMs: 10, ...config });
  onTestFinished(async () => void (await engine.shutdown({ deadlineMs: 10_000 })));
  await engine.start();
  return engine;
}

const until = (fits: () => unknown, timeout = 20_000): Promise<void> =>
  expect.poll(fits, { timeout, interval: 20 }).toBeTruthy();

for (const kind of SQL_KINDS) {
  onServer(kind, (server) => {
    test('a server that is killed under load costs no acknowledged write, and is drained when it is back', async () => {
      const engine = await engineOn(await createDatabase(server()));
      const acknowledged = new Map<string, string>();
      let writing = true;
      let number = 0;
      const writers = Array.from({ length: 8 }, async () => {
        while (writing && engine.state === 'Running') {
          const id = `a.${number++ % 500}`;
          const text = `${number}`;
          const { version } = await engine.submit(new SyncItem(id, text));
          const known = acknowledged.get(id);
          if (known === undefined || Number(known.split(' ')[0]) < version)
            acknowledged.set(id, `${version} ${text}`);
        }
      });
      await until(() => acknowledged.size >= 500);
      await server().kill();
      const before = number;
      await until(async () => (await engine.healthCheck()).sql?.circuit === 'open');
      await until(() => number > before + 200);
      expect((await engine.get('a.7'))?.text()).toBeDefined();
      // Within the lease the filter is still believed.
      await until(async () => ((await engine.healthCheck()).coherenceAgeMs ?? 0) > 1000);
      expect((await rejection(engine.get('nobody knows'))).code).toMatch(/TIER_UNAVAILABLE|CIRCUIT_OPEN/);
      const { warnings } = await engine.healthCheck();
      expect(warnings.join()).toContain('writes wait in the log, safe from a crash');
      expect(warnings.join()).not.toContain(server().password);
      await server().restart();
      await until(async () => (await engine.healthCheck()).sql?.circuit === 'closed');
      writing = false;
      await Promise.all(writers);
      await engine.flush();
      for (const [id, known] of acknowledged) {
        const item = await engine.get(id, { fresh: true });
        expect(`${item?.version} ${item?.text()}`).toBe(known);
      }
      expect(await engine.scrub()).toMatchObject({ corrupt: [], drift: [] });
    }, 60_000);

    test('while a server stands still, memory answers, and what only SQL knows is refused within its bound', async () => {
      const config = { sqlReadTimeoutMs: 300, sqlTimeoutMs: 2000 };
      const engine = await engineOn(await createDatabase(server()), config);
      await engine.submit(new SyncItem('known', 'x'), { ack: 'stored' });
      await engine.submit(new SyncItem('cold', 'x'), { ack: 'stored' });
      server().pause();
      try {
        expect((await engine.get('known'))?.text()).toBe('x');
        const errors = await Promise.all(
          Array.from({ length: 10 }, () => rejection(engine.get('known', { fresh: true }))),
        );
        for (const error of errors) expect(error.code).toBe('TIER_UNAVAILABLE');
        await until(async () => {
          await engine.get('known', { fresh: true }).catch(() => {});
          return (await engine.healthCheck()).sql?.circuit === 'open';
        });
        expect((await engine.submit(new SyncItem('meanwhile', 'x'))).ack).toBe('wal');
        expect((await engine.get('known'))?.text()).toBe('x');
      } finally {
        server().resume();
      }
      await until(async () => (await engine.healthCheck()).sql?.circuit === 'closed');
      await engine.flush();
      expect((await engine.get('meanwhile', { fresh: true }))?.text()).toBe('x');
    }, 60_000);

    test('a process that was paused serves nothing old as current when it goes on', async () => {
      const sqlUrl = await createDatabase(server());
      const engine = await engineOn(sqlUrl);
      const stored = (id: string, text: string) => engine.submit(new SyncItem(id, text), { ack: 'stored' });
      await stored('a', 'v0');
      const child = spawn(process.execPath, [NEIGHBOUR, sqlUrl], { stdio: ['pipe', 'pipe', 'inherit'] });
      onTestFinished(() => void child.kill('SIGKILL'));
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      const ask = async (question: string): Promise<string> => {
        child.stdin.write(`${question}\n`);
        return String((await lines.next()).value);
      };
      expect(await ask('fresh a')).toBe('v0 current');
      for (let round = 1; round <= 3; round++) {
        child.kill('SIGSTOP');
        await stored('a', `v${round}`);
        await stored(`new.${round}`, 'x');
        // Longer than the lease: nothing in the child may believe that it knows.
        await new Promise((resolve) => setTimeout(resolve, 400));
        child.kill('SIGCONT');
        expect(await ask('get a')).toMatch(new RegExp(`^v${round} current$|stale$`));
        expect(await ask(`get new.${round}`)).toBe('x current');
      }
      expect(await ask('write b')).toBe('stored');
      expect((await engine.get('b', { fresh: true }))?.text()).toBe('theirs');
      await until(async () => (await engine.get('b'))?.text() === 'theirs');
      expect((await engine.verifyFilter()).missing).toBe(0);
      expect(await engine.scrub()).toMatchObject({ corrupt: [], drift: [] });
    }, 60_000);

    test('four processes that write the same ids at once agree on every one, and on the digests', async () => {
      const sqlUrl = await createDatabase(server());
      const children = Array.from({ length: 4 }, () =>
        spawn(process.execPath, [NEIGHBOUR, sqlUrl], { stdio: ['pipe', 'pipe', 'inherit'] }),
      );
      onTestFinished(() => {
        for (const child of children) child.kill('SIGKILL');
      });
      const answers = children.map((child) =>
        createInterface({ input: child.stdout })[Symbol.asyncIterator](),
      );
      for (const child of children) child.stdin.write('storm 400\n');
      for (const answer of answers) expect((await answer.next()).value).toBe('done');
      for (const child of children) child.stdin.write('digest\n');
      const digests = await Promise.all(answers.map(async (answer) => (await answer.next()).value));
      expect(new Set(digests).size).toBe(1);
      const engine = await engineOn(sqlUrl);
      expect(await engine.scrub()).toMatchObject({ corrupt: [], drift: [] });
      await engine.warmUp();
      expect(await engine.verifyFilter()).toMatchObject({ trusted: true, missing: 0 });
    }, 60_000);

    test('three processes share Redis, one writes without it: nobody reads what is older than its own write', async () => {
      const redis = await startServer('redis');
      onTestFinished(() => redis.stop());
      const sqlUrl = await createDatabase(server());
      const children = [redis.url(), redis.url(), redis.url(), undefined].map((redisUrl) =>
        spawn(process.execPath, [NEIGHBOUR, sqlUrl, ...(redisUrl === undefined ? [] : [redisUrl])], {
          stdio: ['pipe', 'pipe', 'inherit'],
        }),
      );
      onTestFinished(() => {
        for (const child of children) child.kill('SIGKILL');
      });
      const lines = children.map((child) => createInterface({ input: child.stdout })[Symbol.asyncIterator]());
      const askAll = async (question: string): Promise<unknown[]> => {
        for (const child of children) child.stdin.write(`${question}\n`);
        return Promise.all(lines.map(async (line) => (await line.next()).value));
      };
      expect(await askAll('race 400')).toEqual(Array(4).fill('0 old'));
      children[1]?.kill('SIGSTOP');
      await new Promise((resolve) => setTimeout(resolve, 500));
      children[1]?.kill('SIGCONT');
      // What the one without Redis wrote was marked by the others.
      const engine = await engineOn(sqlUrl, { redisUrl: redis.url(), redisTimeoutMs: 500 });
      await until(async () => (await engine.healthCheck()).redisLag === 0);
      expect(await askAll('same')).toEqual(Array(4).fill('0 different'));
      expect(await engine.scrub()).toMatchObject({ corrupt: [], drift: [] });
    }, 60_000);
  });
}
