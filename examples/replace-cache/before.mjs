import { createCache } from 'cache-manager';
import { load } from './users.mjs';

const cache = createCache();
const user = (id) => cache.wrap(`user.${id}`, () => load(id));
console.log(await user(7));
await cache.disconnect();
