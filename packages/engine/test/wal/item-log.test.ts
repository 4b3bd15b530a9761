import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type LoggedItem, SyncItem, WriteAheadLog } from '#engine/index.js';
import { rejection, temporaryDirectory } from '../support/engines.js';

async function opened(path: string): Promise<{ log: WriteAheadLog; found: LoggedItem[] }> {
  const found: LoggedItem[] = [];
  const log = await WriteAheadLog.open(path, (logged) => found.push(logged));
  onTestFinished(() => log.close());
  return { log, found };
}

test('what was appended and not released is there when it is opened again, in order', async () => {
  const path = join(temporaryDirectory(), 'log.db');
  const { log, found } = await opened(path);
  expect(found).toEqual([]);
  const items = Array.from(
    { length: 300 },
    (_, at) => new SyncItem(`id${at}`, `text ${at}`, { state: 'new' }),
  );
  const positions = await Promise.all(items.map((item) => log.append(item)));
  expect(new Set(positions).size).toBe(300);
  await Promise.all(positions.filter((_, at) => at % 2 === 0).map((position) => log.release(position)));
  await log.close();

  const again = await opened(path);
  expect(again.found.map(({ item }) => item.text())).toEqual(
    items.filter((_, at) => at % 2 === 1).map((item) => item.text()),
  );
  expect(again.found[0]).toMatchObject({ position: positions[1], item: { id: 'id1', state: 'new' } });
  expect(again.found[0]?.item.version).toBeUndefined();
  expect(await again.log.append(new SyncItem('x', 'y'))).toBeGreaterThan(positions.at(-1) as number);
});

test('a close waits for what was appended before; afterwards nothing is taken', async () => {
  const path = join(temporaryDirectory(), 'log.db');
  const { log } = await opened(path);
  const last = log.append(new SyncItem('a', 'x'));
  await log.close();
  expect(await last).toBeGreaterThan(0);
  expect(await rejection(log.append(new SyncItem('b', 'x')))).toMatchObject({ code: 'WAL_FAILED' });
  expect((await opened(path)).found).toHaveLength(1);
});

test('it belongs to one owner', async () => {
  const path = join(temporaryDirectory(), 'log.db');
  await opened(path);
  expect(await rejection(WriteAheadLog.open(path))).toMatchObject({ code: 'CONFLICT' });
});
