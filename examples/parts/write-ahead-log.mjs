/** Orders that must survive a crash until something else has them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SyncItem, WriteAheadLog } from 'sync-engine';

const directory = mkdtempSync(join(tmpdir(), 'log-'));
const log = await WriteAheadLog.open(join(directory, 'orders.db'));
const first = await log.append(SyncItem.fromJson('order.1', { tea: 2 }));
await log.append(SyncItem.fromJson('order.2', { tea: 5 }));
await log.release(first);
await log.close();

const found = [];
const again = await WriteAheadLog.open(join(directory, 'orders.db'), ({ item }) => found.push(item));
console.log(found.length, found[0].id, found[0].json().tea); // 1 order.2 5
await again.close();
rmSync(directory, { recursive: true });
