import { SyncEngine, SyncItem } from 'sync-engine';
import { load } from './users.mjs';

const cache = new SyncEngine({ sqlUrl: 'sqlite:users.db', walPath: 'users.wal' });
await cache.start();
const user = (id) => cache.getOrInsert(`user.${id}`, async (key) => SyncItem.fromJson(key, await load(id)));
console.log((await user(7)).json());
await cache.shutdown();
