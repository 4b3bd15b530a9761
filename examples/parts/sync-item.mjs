/** An item: bytes under an id, with a kind and a state. It never changes, and it needs no engine. */
import { SyncItem } from 'sync-engine';

const bytes = Buffer.from('tea');
const item = new SyncItem('cart.42', bytes);
bytes.fill(0);
console.log(item.text(), item.sizeBytes, item.contentType); // tea 3 binary

const paid = SyncItem.fromJson('order.7', { total: 12 }, { state: 'open' }).withState('paid');
console.log(paid.json(), paid.state, paid.contentType); // { total: 12 } paid json

// The engine stamps a copy when it is submitted; until then there is no version and no hash.
console.log(paid.version, paid.contentHash); // undefined undefined
