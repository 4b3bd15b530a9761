/** No credential and no content appears in what the engine says: errors, log lines, health, events. */
import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { SyncEngine, type SyncEngineError, SyncItem } from '#engine/index.js';
import { rejection, startedFakes } from '../support/engines.js';

const CONTENT = 'the-content-of-an-item';
const PASSWORD = 'the-password';

/** Everything there is to see of a value, causes and hidden fields included. */
function seen(value: unknown): string {
  return (
    inspect(value, { depth: 10, showHidden: true }) + String((value as Error).stack) + JSON.stringify(value)
  );
}

test('errors and health do not repeat content', async () => {
  const { engine, archive, store, ports } = await startedFakes({
    l1MaxBytes: 64 * 1024,
    submitTimeoutMs: 100,
  });
  const said: unknown[] = [];
  for (const event of ['error', 'corruption', 'circuit', 'state'] as const)
    engine.on(event, (fact) => said.push(fact));
  const large = new SyncItem('large', CONTENT.repeat(1000));
  said.push(await rejection(engine.submit(large)));
  archive.hold('apply');
  store.hold();
  const late = rejection(engine.submit(new SyncItem('a', CONTENT)));
  await ports.clock.pass(100);
  said.push(await late);
  archive.down = true;
  said.push(await rejection(engine.get('b')));
  await ports.clock.pass(30_000);
  said.push(await engine.healthCheck(), engine.walStats(), engine.l1Stats());
  const closing = engine.shutdown({ deadlineMs: 100 });
  await ports.clock.pass(5000);
  said.push(await closing, ports.logger.lines);
  expect(ports.logger.lines.length).toBeGreaterThan(5);
  for (const fact of said) expect(seen(fact)).not.toContain(CONTENT);
});

test('a configuration error does not repeat the URL', () => {
  const url = `mysql://user:${PASSWORD}@host/db`;
  for (const config of [{ sqlUrl: url }, { sqlUrl: url, sqlURL: url }, { sqlUrl: [url] }]) {
    try {
      new SyncEngine(config as never);
      expect.unreachable();
    } catch (error) {
      expect(seen(error as SyncEngineError)).not.toContain(PASSWORD);
    }
  }
});

test('an engine that is printed shows no content', async () => {
  const { engine } = await startedFakes();
  await engine.submit(new SyncItem('a', CONTENT));
  expect(inspect(engine, { depth: 10 })).not.toContain(CONTENT);
  expect(inspect(engine.peek('a'), { depth: 10 })).not.toContain(CONTENT);
});
