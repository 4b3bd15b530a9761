/** What Redis may not have: what stands there, when it leaves, and what is said when it is too much. */
import { expect, test } from 'vitest';
import { type UnconfirmedChange, UnconfirmedChanges } from '#engine/coherence/unconfirmed-changes.js';
import { revision } from '#engine/testing/revisions.js';

const change = (id: string, version: number, origin = 'o'): UnconfirmedChange => ({
  id,
  version,
  origin,
  deleted: false,
});

function unconfirmed(): UnconfirmedChanges {
  const changes = new UnconfirmedChanges();
  changes.reset(10);
  return changes;
}

test('a copy is overtaken by a write that is newer, by version and then by origin, until its position is confirmed', () => {
  const changes = unconfirmed();
  changes.add(11, 'aa', [change('a', 5, 'n')], 0, false);
  expect(changes.isOvertaken(revision({ version: 4, origin: 'z' }))).toBe(true);
  expect(changes.isOvertaken(revision({ version: 5, origin: 'm' }))).toBe(true);
  expect(changes.isOvertaken(revision({ version: 5, origin: 'n' }))).toBe(false);
  expect(changes.isOvertaken(revision({ version: 6, origin: 'a' }))).toBe(false);
  expect(changes.isOvertaken(revision({ id: 'b', version: 1 }))).toBe(false);
  changes.confirmed(11);
  expect(changes.isOvertaken(revision({ version: 4 }))).toBe(false);
  expect(changes.size).toBe(0);
  expect(changes.floor).toBe(11);
});

test('an id that was changed again stays until its later position is confirmed', () => {
  const changes = unconfirmed();
  changes.add(11, 'aa', [change('a', 5)], 0, false);
  changes.add(12, 'bb', [change('a', 6), change('b', 6)], 0, false);
  changes.confirmed(11);
  expect(changes.isOvertaken(revision({ version: 5 }))).toBe(true);
  expect(changes.size).toBe(2);
  changes.confirmed(12);
  expect(changes.size).toBe(0);
});

test('an older position that becomes known later neither hides the newer write nor lets it leave early', () => {
  const changes = unconfirmed();
  changes.add(12, 'bb', [change('a', 6)], 0, false);
  changes.add(11, 'aa', [change('a', 5)], 0, false);
  expect(changes.isOvertaken(revision({ version: 5, origin: 'z' }))).toBe(true);
  changes.confirmed(11);
  expect(changes.isOvertaken(revision({ version: 5, origin: 'z' }))).toBe(true);
});

test('what was committed at an unknown position leaves with the one that it is known to lie below', () => {
  const changes = unconfirmed();
  changes.add(14, undefined, [change('a', 5)], 0, undefined);
  expect(changes.overdue(1, 10)).toEqual([]);
  changes.confirmed(13);
  expect(changes.isOvertaken(revision({ version: 4 }))).toBe(true);
  changes.confirmed(14);
  expect(changes.size).toBe(0);
});

test('positions that nobody confirmed in time come oldest first, with the newest known of their ids', () => {
  const changes = unconfirmed();
  changes.add(12, 'bb', [change('a', 6)], 5, false);
  changes.add(11, 'aa', [change('a', 5), change('b', 5)], 5, false);
  changes.add(13, 'cc', [change('c', 7)], 5, true);
  changes.add(14, 'dd', [change('d', 8)], 9, false);
  const overdue = changes.overdue(5, 100);
  expect(overdue.map(({ position, chain }) => `${position} ${chain}`)).toEqual(['11 aa', '12 bb']);
  expect(overdue[0]?.changes.map(({ id, version }) => `${id}${version}`)).toEqual(['a6', 'b5']);
  expect(changes.overdue(5, 1)).toHaveLength(1);
  changes.setUnderWay(13, false);
  changes.setUnderWay(11, true);
  expect(changes.overdue(9, 100).map(({ position }) => position)).toEqual([12, 13, 14]);
});

test('too many ids are said to be too many, and nothing below the newest position is known any more', () => {
  const changes = unconfirmed();
  const many = Array.from({ length: 50_000 }, (_, at) => change(`a.${at}`, 5));
  expect(changes.add(11, 'aa', many, 0, false)).toBe(true);
  expect(changes.floor).toBe(10);
  expect(changes.add(13, 'bb', [change('b', 5)], 0, false)).toBe(false);
  expect(changes.size).toBe(0);
  expect(changes.floor).toBe(13);
});

test('what lost at a position leaves with it, although later positions always stand', () => {
  const changes = unconfirmed();
  for (let position = 11; position < 100; position++) {
    changes.add(position, undefined, [change(`lost.${position}`, 1)], 0, undefined);
    changes.add(position, 'aa', [change(`won.${position}`, 1)], 0, true);
    changes.confirmed(position - 1);
  }
  expect(changes.size).toBe(2);
});

test('a few ids that change again and again are too many as well', () => {
  const changes = unconfirmed();
  const hot = Array.from({ length: 1000 }, (_, at) => `hot.${at}`);
  let position = 10;
  const added = (): boolean => {
    position++;
    return changes.add(
      position,
      'aa',
      hot.map((id) => change(id, position)),
      0,
      false,
    );
  };
  for (let round = 0; round < 200; round++) expect(added()).toBe(true);
  expect(added()).toBe(false);
  expect(changes.size).toBe(0);
  expect(changes.floor).toBe(position);
  // Confirmed ones make room again.
  for (let round = 0; round < 400; round++) {
    expect(added()).toBe(true);
    changes.confirmed(position);
  }
});
