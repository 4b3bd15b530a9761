/** What an archive says of itself, kept in its meta table: identity, key and format of its digests. */
import { crc32 } from 'node:zlib';
import { SyncEngineError } from '../base/errors.js';
import { KEY_BYTES, keyIdOf } from '../merkle/digest.js';
import type { ArchiveOpenOptions } from './archive-store.js';

/** Of leaves and sums. An archive with another one is refused. */
const DIGEST_FORMAT = '1';

export type Meta = ReadonlyMap<string, string>;

/** What a new archive is given. */
export interface NewArchive {
  /** Identity, 32 hex digits. */
  readonly archiveId: string;
  /** Key of the digests where the configuration gives none, 64 hex digits. */
  readonly clusterKey: string;
}

/** The facts of a new archive, their checksum included. */
export function newMeta(options: ArchiveOpenOptions, { archiveId, clusterKey }: NewArchive): Meta {
  const key = options.clusterKey ?? clusterKey;
  const meta = new Map([
    ['archive_id', archiveId],
    ['digest_format', options.merkleEnabled ? DIGEST_FORMAT : ''],
    ['key_id', keyIdOf(Buffer.from(key, 'hex'))],
  ]);
  // A key that the configuration gives stays there alone.
  if (options.clusterKey === undefined) meta.set('cluster_key', clusterKey);
  meta.set('checksum', checksumOfMeta(meta));
  return meta;
}

/** Over every fact but the checksum itself. */
export function checksumOfMeta(meta: Meta): string {
  const lines = [...meta].filter(([name]) => name !== 'checksum').map((line) => line.join('='));
  return String(crc32(lines.sort().join('\n')));
}

/** @param place The archive, as people are told of it. @throws `CONFLICT`. */
export function assertIdentity(meta: Meta, options: ArchiveOpenOptions, place: string): void {
  const archiveId = meta.get('archive_id') as string;
  const { expectedId, mayDiffer } = options;
  if (expectedId === undefined || archiveId === expectedId || mayDiffer) return;
  throw new SyncEngineError(
    'CONFLICT',
    `The archive ${place} has identity ${archiveId}, but the log belongs to ${expectedId}. Bring that archive back, or accept this one once with allowNewArchive: true.`,
    { context: { tier: 'sql', path: place, expectedId, archiveId } },
  );
}

/**
 * The key that the archive's digests are made with, `undefined` where it has none.
 * @throws `CONFIG` where the configuration says otherwise.
 */
export function digestKeyOf(meta: Meta, options: ArchiveOpenOptions, place: string): Buffer | undefined {
  const format = meta.get('digest_format') as string;
  if ((format !== '') !== options.merkleEnabled) {
    throw otherDigests(
      place,
      `${format === '' ? 'keeps no digests' : 'keeps digests'}, but merkleEnabled is ${options.merkleEnabled}`,
      `Set merkleEnabled to ${!options.merkleEnabled}`,
    );
  }
  if (format === '') return undefined;
  if (format !== DIGEST_FORMAT) {
    throw otherDigests(
      place,
      `has digests of format ${format}`,
      'Use the version of this engine that wrote it',
    );
  }
  const key = Buffer.from(options.clusterKey ?? meta.get('cluster_key') ?? '', 'hex');
  if (key.length === KEY_BYTES && keyIdOf(key) === meta.get('key_id')) return key;
  throw otherDigests(
    place,
    options.clusterKey === undefined
      ? 'was made with a clusterKey of its own, and none is configured'
      : 'was made with another clusterKey',
    'Configure the clusterKey that it was created with',
  );
}

function otherDigests(place: string, fact: string, remedy: string): SyncEngineError {
  return new SyncEngineError(
    'CONFIG',
    `The archive ${place} ${fact}. It was not touched. ${remedy}, or give this engine another archive.`,
    { context: { tier: 'sql', path: place } },
  );
}
