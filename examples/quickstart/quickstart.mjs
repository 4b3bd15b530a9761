import { SyncEngine, SyncItem } from 'sync-engine';

const engine = new SyncEngine({ sqlUrl: 'sqlite:shop.db', walPath: 'shop.wal' });
await engine.start();

const receipt = await engine.submit(SyncItem.fromJson('cart.42', { items: ['tea'] }));
console.log(receipt); // { id: 'cart.42', version: 3676996217249792, ack: 'wal' }

const cart = await engine.get('cart.42');
console.log(cart?.json()); // { items: [ 'tea' ] }

await engine.shutdown();
