/**
 * The one row of `sync_root`: where the change log ends, and facts about the whole archive. Its checksum covers
 * all but the root's digest, which the scrub compares with the rows.
 */

import { crc32 } from 'node:zlib';
import type { Statement } from 'better-sqlite3';
import { SyncEngineError } from '../../base/errors.js';
import type { Connection } from '../../base/sqlite.js';
import { CHAIN_BYTES } from '../change-codec.js';

export interface Root {
  readonly position: number;
  readonly chain: Buffer;
  /** Changes ever entered into the change log. */
  readonly changes: number;
  readonly highVersion: number;
  readonly horizon: number;
}

type RootValues = [
  position: number,
  chain: Buffer,
  changes: number,
  highVersion: number,
  horizon: number,
  checksum: number,
];

const EMPTY: Root = { position: 0, chain: Buffer.alloc(CHAIN_BYTES), changes: 0, highVersion: 0, horizon: 0 };

export function createRoot(connection: Connection): void {
  connection
    .prepare('INSERT INTO sync_root VALUES (1, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)')
    .run(...valuesOf(EMPTY));
}

export class RootRow {
  readonly #read: Statement<[], RootValues>;
  readonly #write: Statement<RootValues>;

  constructor(connection: Connection) {
    this.#read = connection
      .prepare<[], RootValues>(
        'SELECT position, chain, changes, high_version, horizon, checksum FROM sync_root',
      )
      .raw() as Statement<[], RootValues>;
    this.#write = connection.prepare<RootValues>(
      'UPDATE sync_root SET position = ?, chain = ?, changes = ?, high_version = ?, horizon = ?, checksum = ?',
    );
  }

  /** @throws `CORRUPTION`. */
  read(): Root {
    const values = this.#read.get();
    if (values !== undefined) {
      const [position, chain, changes, highVersion, horizon, checksum] = values;
      const root = { position, chain, changes, highVersion, horizon };
      if (chain.length === CHAIN_BYTES && checksumOf(root) === checksum) return root;
    }
    throw new SyncEngineError('CORRUPTION', 'The row of sync_root does not fit its checksum.', {
      context: { tier: 'sql' },
    });
  }

  write(root: Root): void {
    this.#write.run(...valuesOf(root));
  }
}

function valuesOf(root: Root): RootValues {
  const { position, chain, changes, highVersion, horizon } = root;
  return [position, chain, changes, highVersion, horizon, checksumOf(root)];
}

function checksumOf({ position, chain, changes, highVersion, horizon }: Root): number {
  return crc32(`${position} ${chain.toString('hex')} ${changes} ${highVersion} ${horizon}`);
}
