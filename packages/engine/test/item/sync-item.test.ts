import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { SyncItem } from '#engine/index.js';
import { itemOf, revisionOf } from '#engine/item/sync-item.js';

function thrown(run: () => unknown): Error {
  try {
    run();
  } catch (error) {
    return error as Error;
  }
  throw new Error('It did not throw.');
}

test('json() of what is no JSON names the id, and repeats nothing of the content', () => {
  // V8 quotes what it could not parse: Unexpected token 's', "secret" is not valid JSON.
  const error = thrown(() => new SyncItem('cart.42', 'secret').json());
  expect(error).toBeInstanceOf(SyntaxError);
  expect(error.message).toBe(
    `The content of "cart.42" is not JSON; its contentType is 'binary'. Use text() or content.`,
  );
  expect(inspect(error, { depth: 5, showHidden: true })).not.toContain('secret');
});

test('fromJson of what has no JSON form names the id and the reason', () => {
  const circle: unknown[] = [];
  circle.push(circle);
  for (const [value, why] of [
    [undefined, 'it is undefined'],
    [() => 1, 'it is function'],
    [1n, 'BigInt'],
    [circle, 'circular'],
  ] as const) {
    const error = thrown(() => SyncItem.fromJson('cart.42', value));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toContain('The value for "cart.42" has no JSON form');
    expect(error.message).toContain(why);
  }
  expect(thrown(() => SyncItem.fromJson(5 as never, undefined)).message).toContain('An id is a string');
});

test('a printed item shows which one it is, and nothing of its content', () => {
  const item = SyncItem.fromJson('cart.42', { items: ['secret'] });
  expect(inspect(item)).toBe(
    "SyncItem {\n  id: 'cart.42',\n  version: undefined,\n  sizeBytes: 20,\n  contentType: 'json',\n  deleted: false\n}",
  );
  const stamped = itemOf({ ...revisionOf(item), version: 7, deleted: true });
  expect(inspect(stamped, { breakLength: Number.POSITIVE_INFINITY })).toBe(
    "SyncItem { id: 'cart.42', version: 7, sizeBytes: 20, contentType: 'json', deleted: true }",
  );
  expect(inspect([[[item]]])).toContain('[SyncItem]');
  for (const shown of [inspect(item, { showHidden: true }), inspect(item, { customInspect: false })])
    expect(shown).not.toContain('secret');
});
