/** The archive's tables on a server, and the two forms of their rows: bytes and numbers there, fields here. */
import { crc32 } from 'node:zlib';
import { SyncEngineError } from '../../base/errors.js';
import type { Revision } from '../../item/revision.js';
import { CHAIN_BYTES } from '../change-codec.js';
import type { RowValues } from '../row.js';
import type { Column, Row, Table, Value } from './sql-driver.js';

const bytes = (name: string): Column => ({ name, type: 'bytes' });
const integer = (name: string): Column => ({ name, type: 'integer' });

export const ITEMS: Table = {
  name: 'sync_items',
  columns: [
    bytes('id'),
    integer('version'),
    bytes('origin'),
    integer('deleted'),
    bytes('content_hash'),
    bytes('leaf'),
    integer('checksum'),
    bytes('content_type'),
    bytes('state'),
    bytes('home_instance_id'),
    bytes('trace_parent'),
    bytes('trace_state'),
    bytes('content'),
    integer('redis_ttl_ms'),
  ],
};

/** In the place of a life in Redis that the writer left to the default. */
const DEFAULT_TTL = -1;

/**
 * A row speaks of the rows strictly below its path: how many, the sum of their leaves; how many of them lie directly
 * below (`leaves`), how many paths do (`subtrees`), and how many segments are both.
 */
export const PATHS: Table = {
  name: 'sync_paths',
  columns: [
    bytes('path'),
    bytes('parent'),
    bytes('segment'),
    integer('count'),
    integer('leaves'),
    integer('subtrees'),
    integer('both_kinds'),
    bytes('sum'),
  ],
};

/** One row: the end of the change log, and the digest of everything. */
export const ROOT: Table = {
  name: 'sync_root',
  columns: [
    integer('one'),
    integer('position'),
    bytes('chain'),
    integer('changes'),
    integer('high_version'),
    integer('horizon'),
    integer('checksum'),
    integer('count'),
    integer('leaves'),
    integer('subtrees'),
    integer('both_kinds'),
    bytes('sum'),
  ],
};

export const CHANGES: Table = {
  name: 'sync_changes',
  columns: [integer('position'), bytes('chain'), integer('total'), integer('newest'), bytes('changes')],
};

export const LOGS: Table = {
  name: 'sync_logs',
  columns: [bytes('log_id'), integer('lower_bound'), integer('seen_ms')],
};

export const LETTERS: Table = {
  name: 'sync_letters',
  columns: [bytes('id'), bytes('record'), bytes('reason'), integer('set_aside_ms')],
};

export const META: Table = { name: 'sync_meta', columns: [bytes('name'), bytes('value')] };

export const TABLES: readonly Table[] = [ITEMS, PATHS, ROOT, CHANGES, LOGS, LETTERS, META];

export const columnsOf = (table: Table): string => table.columns.map((column) => column.name).join(', ');

export const ITEM_COLUMNS = columnsOf(ITEMS);

/** Digest of what lies below a path, and its place among its siblings. */
export interface PathFigures {
  count: number;
  leaves: number;
  subtrees: number;
  bothKinds: number;
  sum: Buffer;
}

export interface Root extends PathFigures {
  readonly position: number;
  readonly chain: Buffer;
  /** Changes ever entered into the change log. */
  readonly changes: number;
  readonly highVersion: number;
  readonly horizon: number;
}

export const EMPTY_ROOT: Root = {
  position: 0,
  chain: Buffer.alloc(CHAIN_BYTES),
  changes: 0,
  highVersion: 0,
  horizon: 0,
  count: 0,
  leaves: 0,
  subtrees: 0,
  bothKinds: 0,
  sum: Buffer.alloc(32),
};

export function rootRow(root: Root): Row {
  const { position, chain, changes, highVersion, horizon, count, leaves, subtrees, bothKinds, sum } = root;
  const facts = [position, chain, changes, highVersion, horizon, checksumOf(root)];
  return [1, ...facts, count, leaves, subtrees, bothKinds, sum];
}

/** @throws `CORRUPTION`. */
export function rootOf(row: Row | undefined): Root {
  if (row !== undefined) {
    const [, position, chain, changes, highVersion, horizon, checksum, ...figures] = row as number[];
    const [count, leaves, subtrees, bothKinds, sum] = figures as unknown as [
      ...[number, number, number, number],
      Buffer,
    ];
    const root = { position, chain, changes, highVersion, horizon, count, leaves, subtrees, bothKinds, sum };
    if (checksumOf(root as unknown as Root) === checksum) return root as unknown as Root;
  }
  throw new SyncEngineError('CORRUPTION', 'The row of sync_root does not fit its checksum.', {
    context: { tier: 'sql' },
  });
}

function checksumOf({ position, chain, changes, highVersion, horizon }: Root): number {
  return crc32(`${position} ${chain.toString('hex')} ${changes} ${highVersion} ${horizon}`);
}

/** A row of `sync_items` for a write. */
export function itemRow(write: Revision, origin: Buffer, hash: Buffer, leaf: Buffer, checksum: number): Row {
  return [
    Buffer.from(write.id),
    write.version,
    origin,
    write.deleted ? 1 : 0,
    hash,
    leaf,
    checksum,
    textOf(write.contentType),
    textOf(write.state),
    textOf(write.homeInstanceId),
    textOf(write.traceParent),
    textOf(write.traceState),
    write.content,
    write.redisTtlMs ?? DEFAULT_TTL,
  ];
}

export function itemValues(row: Row): RowValues {
  const [id, version, origin, deleted, hash, leaf, checksum, ...rest] = row as unknown as [
    ...[Buffer, number, Buffer, number, Buffer, Buffer, number],
    ...[Buffer, Buffer, Buffer, Buffer, Buffer, Buffer, number],
  ];
  const [type, state, home, parent, traceState, content, ttl] = rest;
  return [
    id.toString(),
    version,
    origin,
    deleted,
    hash,
    leaf,
    checksum,
    type.toString(),
    state.toString(),
    home.toString(),
    parent.toString(),
    traceState.toString(),
    content,
    ttl === DEFAULT_TTL ? null : ttl,
  ];
}

const EMPTY = Buffer.alloc(0);
const COMMON = new Map(['binary', 'json', 'default'].map((text) => [text, Buffer.from(text)]));

function textOf(text: string | undefined): Buffer {
  if (text === undefined) return EMPTY;
  return COMMON.get(text) ?? Buffer.from(text);
}

export const asText = (value: Value | undefined): string => (value as Buffer).toString();
export const asNumber = (value: Value | undefined): number => value as number;
