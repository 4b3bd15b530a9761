import { describe, expect, test } from 'vitest';
import { SyncEngineError } from '#engine/base/errors.js';
import type { Revision } from '#engine/item/revision.js';
import { archiveContract } from '#engine/testing/archive-contract.js';
import { revision } from '#engine/testing/revisions.js';
import { MemoryArchive, type MemoryPlace } from '../support/memory-archive.js';
import { MemoryTables } from '../support/memory-tables.js';

archiveContract('memory', () => {
  const place: MemoryPlace = { tables: undefined };
  return { open: () => new MemoryArchive(place) };
});

describe('the tables in memory, for what the suite cannot bring about', () => {
  function withChanges(count: number): MemoryTables {
    const tables = new MemoryTables('a'.repeat(32));
    for (let at = 1; at <= count; at++) tables.apply([revision({ id: `k${at}` })]);
    return tables;
  }

  test('a log that was trimmed has a gap before, and none behind', () => {
    const tables = withChanges(4);
    const start = { position: 0, chain: '0'.repeat(64) };
    const places = [start, ...tables.changesSince(start, 100).batches];
    tables.trim(2);
    expect(places.map((from) => tables.changesSince(from, 100).gap)).toEqual([
      'trimmed',
      'trimmed',
      'none',
      'none',
      'none',
    ]);
    expect(tables.changesSince(places[2] as typeof start, 100).batches).toEqual(places.slice(3));
    expect(tables.changesSince(start, 100)).toEqual({ batches: [], head: tables.head, gap: 'trimmed' });
    const foreign = { position: 2, chain: '1'.repeat(64) };
    expect(tables.changesSince(foreign, 100).gap).toBe('foreign');
    tables.trim(4);
    expect(tables.changesSince(tables.head, 100)).toEqual({ batches: [], head: tables.head, gap: 'none' });
  });

  test('a damaged row is shown as such, is in no digest, and a write replaces it', () => {
    const tables = withChanges(2);
    const [digest] = withChanges(1).digests([[]]);
    const damage = new SyncEngineError('CORRUPTION', 'the row is damaged', { context: { id: 'k2' } });
    tables.rows.set('k2', damage as unknown as Revision);
    expect(tables.getMany(['k2'])).toEqual([damage]);
    expect(tables.scan({ prefix: 'k', state: 'default' }, 'k1', 9).rows).toEqual([damage]);
    expect(tables.scrub(undefined, 9)).toEqual({ checked: 2, last: undefined, corrupt: ['k2'] });
    expect(tables.digests([[]])).toEqual([digest]);
    tables.apply([revision({ id: 'k2' })]);
    expect(tables.scrub(undefined, 9).corrupt).toEqual([]);
  });
});
