import { expect, test } from 'vitest';
import { CacheTtl, OptionsKey, SubmitOptions, SyncItem } from '#engine/index.js';

test('standard spans, and exact ones', () => {
  const { Minute, Short, Medium, Hour, Day, Week } = CacheTtl;
  expect([Minute, Short, Medium, Hour, Day, Week].map((ttl) => ttl.ms / 60_000)).toEqual([
    1, 5, 15, 60, 1440, 10_080,
  ]);
  expect(CacheTtl.seconds(90).ms).toBe(90_000);
  expect(Object.isFrozen(CacheTtl.seconds(1))).toBe(true);
});

test('from() takes the nearest standard span up to ten days, and is exact beyond', () => {
  const of = (ms: number) => CacheTtl.from(ms);
  expect(of(1000)).toBe(CacheTtl.Minute);
  expect(of(2.9 * 60_000)).toBe(CacheTtl.Minute);
  expect(of(3 * 60_000)).toBe(CacheTtl.Short);
  expect(of(20 * 60_000)).toBe(CacheTtl.Medium);
  expect(of(13 * 3_600_000)).toBe(CacheTtl.Day);
  expect(of(10 * 86_400_000)).toBe(CacheTtl.Week);
  expect(of(11 * 86_400_000).ms).toBe(11 * 86_400_000);
});

test('one second to ten years, in numbers', () => {
  expect(() => CacheTtl.seconds(0.9)).toThrow(RangeError);
  expect(() => CacheTtl.seconds(3650 * 86_400 + 1)).toThrow(RangeError);
  expect(() => CacheTtl.from(Number.NaN)).toThrow(TypeError);
  expect(() => CacheTtl.seconds('9' as unknown as number)).not.toThrow(SyntaxError);
});

test('options for the usual routes, and keys that tell pipelines apart', () => {
  expect(SubmitOptions.cache(CacheTtl.Hour)).toEqual({ sql: false, redisTtl: CacheTtl.Hour });
  expect(SubmitOptions.durable()).toEqual({ redis: false, sql: true });
  const keys = [SubmitOptions.default(), SubmitOptions.durable(), SubmitOptions.cache(CacheTtl.Hour)];
  expect(new Set(keys.map((options) => OptionsKey.of(options))).size).toBe(3);
  expect(OptionsKey.of({ redisTtl: CacheTtl.Hour })).toBe(
    OptionsKey.of({ redisTtl: CacheTtl.seconds(3600) }),
  );
  expect(OptionsKey.of({ ack: 'stored', state: 'x' })).toBe(OptionsKey.of({}));
});

test('an item with options is another item, and keeps them through withState', () => {
  const item = new SyncItem('a', 'x');
  const cached = item.withOptions(SubmitOptions.cache(CacheTtl.Hour)).withState('new');
  expect(cached).not.toBe(item);
  expect([cached.text(), cached.state, cached.version]).toEqual(['x', 'new', undefined]);
});
