/** The fault matrix: one cell of it, and that it notices what it is there for. */
import { expect, test } from 'vitest';
import { SyncEngine, SyncItem } from '#engine/index.js';
import { runCell } from '../../../../proof/faults/cell.mjs';
import { FAULTS } from '../../../../proof/faults/faults.mjs';
import { History } from '../../../../proof/faults/history.mjs';
import { Lane } from '../../../../proof/faults/targets.mjs';

const BACKEND = { sql: 'sqlite', redis: false } as const;

async function inLane<T>(run: (lane: Lane) => Promise<T>): Promise<T> {
  const lane = new Lane();
  try {
    return await run(lane);
  } finally {
    await lane.stop();
  }
}

test('an engine that is killed under load loses nothing that it acknowledged', async () => {
  const fault = FAULTS.find(({ name }) => name === 'SIGKILL of the engine');
  const result = await inLane((lane) => runCell(lane, BACKEND, fault as NonNullable<typeof fault>, 1));
  expect(result.problems).toEqual([]);
  expect(result.observed).toBe('it ended by SIGKILL');
  expect(result.acknowledged).toBeGreaterThan(100);
}, 60_000);

test('a cell whose fault nobody observed has failed', async () => {
  const nothing = {
    name: 'nothing happens',
    on: 'host' as const,
    observedMs: 200,
    strike: () => Promise.resolve(undefined),
    observed: () => undefined,
  };
  const result = await inLane((lane) => runCell(lane, BACKEND, nothing, 1));
  expect(result.problems).toEqual(['the fault was not observed']);
}, 60_000);

test('a history contradicts what is lost, older, or was written by nobody', async () => {
  const engine = new SyncEngine({});
  await engine.start();
  const history = new History();
  let number = 0;
  const write = (id: string, text: string, version?: number): void => {
    history.note(`s ${number} ${id} ${text}`);
    if (version !== undefined) history.note(`a ${number} ${version}`);
    number++;
  };
  const stored = async (id: string, text: string): Promise<number> =>
    (await engine.submit(new SyncItem(id, `${id}|${text}|`), { ack: 'memory' })).version;
  write('right', 'a', await stored('right', 'a'));
  write('unanswered', 'b');
  await stored('unanswered', 'b');
  write('deleted', 'c', 1);
  write('deleted', '-', 2);
  expect(await history.violations(engine)).toEqual([]);
  write('lost', 'd', 1);
  const version = await stored('older', 'e');
  write('older', 'e', version);
  write('older', 'f', version + 1);
  write('foreign', 'g', await stored('foreign', 'somebody'));
  expect(await history.violations(engine)).toEqual([
    'lost: lost d was acknowledged, and is missing',
    'lost: older is e, older than what was acknowledged',
    'lie: nobody wrote somebody under foreign',
  ]);
  expect(history.acknowledged).toBe(number - 1);
  await engine.shutdown();
});
