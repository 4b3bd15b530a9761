/** A filter of ids that knows whether its "no" may be believed. */
import { randomBytes } from 'node:crypto';
import { FilterManager } from 'sync-engine';

const filter = new FilterManager(randomBytes(16));
filter.insertMany(['cart.1', 'cart.2']);

// Nobody has said yet that all ids are in it, so it says nothing: ask the database.
console.log(filter.mightExist('cart.9'), filter.shouldCheckL3('cart.9')); // undefined true

filter.markTrusted();
console.log(filter.mightExist('cart.1'), filter.mightExist('cart.9')); // true false
console.log(filter.stats.items, filter.stats.excluded); // 2 1

// Saved and loaded. What was inserted meanwhile has to be added before it is trusted again.
const copy = new FilterManager(randomBytes(16));
copy.import(filter.export());
console.log(copy.trust, copy.stats.reason); // untrusted it was imported
copy.insert('cart.3');
copy.markTrusted();
console.log(copy.mightExist('cart.2'), copy.mightExist('cart.3'), copy.mightExist('cart.9')); // true true false
