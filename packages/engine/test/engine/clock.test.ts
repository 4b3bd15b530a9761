/** Versions never run backwards: not with the wall clock, not across restarts. */

import { expect, test } from 'vitest';
import { SyncItem } from '#engine/index.js';
import { startedFakes } from '../support/engines.js';
import { FakeRecordStore } from '../support/fake-record-store.js';
import { manualPorts } from '../support/manual-ports.js';

test('not when the wall clock does', async () => {
  const { engine, ports } = await startedFakes();
  let last = 0;
  for (const jump of [0, -3_600_000, 7_200_000, -1, -86_400_000]) {
    ports.clock.jumpWall(jump);
    for (let round = 0; round < 3; round++) {
      const { version } = await engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
      expect(version).toBeGreaterThan(last);
      last = version;
    }
    await ports.clock.pass(1500);
  }
});

test('not across a crash after which the wall clock is an hour behind, even of writes that were lost', async () => {
  const first = await startedFakes();
  first.archive.hold('apply');
  first.store.hold();
  await first.ports.clock.pass(3000);
  const lost = await first.engine.submit(new SyncItem('a', 'x'), { ack: 'memory' });
  expect(first.store.records.size).toBe(0);
  const ports = manualPorts();
  ports.clock.jumpWall(-3_600_000);
  // The log as the crash left it.
  const store = new FakeRecordStore();
  store.meta = first.store.meta;
  const second = await startedFakes({}, { store, ports });
  const { version } = await second.engine.submit(new SyncItem('a', 'y'), { ack: 'memory' });
  expect(version).toBeGreaterThan(lost.version);
});

test('not without a log: the archive knows the highest version', async () => {
  const first = await startedFakes({}, { withLog: false });
  const stored = first.engine.submit(new SyncItem('a', 'x'), { ack: 'stored' });
  await first.ports.clock.pass(200);
  const ports = manualPorts();
  ports.clock.jumpWall(-3_600_000);
  const second = await startedFakes({}, { withLog: false, archive: first.archive, ports });
  const { version } = await second.engine.submit(new SyncItem('b', 'y'), { ack: 'memory' });
  expect(version).toBeGreaterThan((await stored).version);
});

test('a clean restart does not begin ahead of what was used', async () => {
  const first = await startedFakes();
  const { version } = await first.engine.submit(new SyncItem('a', 'x'));
  await first.engine.shutdown();
  const second = await startedFakes({}, { store: first.store, archive: first.archive });
  const next = await second.engine.submit(new SyncItem('a', 'y'));
  expect(next.version - version).toBeLessThan(2048 * 1000);
});
