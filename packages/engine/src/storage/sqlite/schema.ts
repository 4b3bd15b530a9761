/** The archive's tables in SQLite, as numbered migrations: each is applied once, in order, and never edited. */
import { SyncEngineError } from '../../base/errors.js';
import type { Connection } from '../../base/sqlite.js';

/** "SyAr", so that tools and this code know the file. */
export const APPLICATION_ID = 0x53794172;

const MIGRATIONS: readonly string[] = [
  // A rowid table with a unique index takes 3 to 5 times the inserts of WITHOUT ROWID in random id order. The
  // content comes last: what is behind a large one can only be read by walking over it.
  `
  CREATE TABLE sync_items (
    id               TEXT    NOT NULL UNIQUE,
    version          INTEGER NOT NULL,
    origin           BLOB    NOT NULL,
    deleted          INTEGER NOT NULL,
    content_hash     BLOB    NOT NULL,
    leaf             BLOB    NOT NULL,
    checksum         INTEGER NOT NULL,
    content_type     TEXT    NOT NULL,
    state            TEXT    NOT NULL,
    home_instance_id TEXT,
    trace_parent     TEXT,
    trace_state      TEXT,
    content          BLOB    NOT NULL
  ) STRICT;
  CREATE INDEX sync_items_states ON sync_items (state, id) WHERE deleted = 0 AND state <> 'default';
  CREATE INDEX sync_items_tombstones ON sync_items (version) WHERE deleted = 1;
  CREATE TABLE sync_paths (
    parent   TEXT    NOT NULL,
    segment  TEXT    NOT NULL,
    count    INTEGER NOT NULL,
    children INTEGER NOT NULL,
    subtrees INTEGER NOT NULL,
    s0 INTEGER NOT NULL, s1 INTEGER NOT NULL, s2 INTEGER NOT NULL, s3 INTEGER NOT NULL,
    s4 INTEGER NOT NULL, s5 INTEGER NOT NULL, s6 INTEGER NOT NULL, s7 INTEGER NOT NULL,
    UNIQUE (parent, segment)
  ) STRICT;
  CREATE TABLE sync_root (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    position     INTEGER NOT NULL,
    chain        BLOB    NOT NULL,
    changes      INTEGER NOT NULL,
    high_version INTEGER NOT NULL,
    horizon      INTEGER NOT NULL,
    checksum     INTEGER NOT NULL,
    count        INTEGER NOT NULL,
    children     INTEGER NOT NULL,
    subtrees     INTEGER NOT NULL,
    s0 INTEGER NOT NULL, s1 INTEGER NOT NULL, s2 INTEGER NOT NULL, s3 INTEGER NOT NULL,
    s4 INTEGER NOT NULL, s5 INTEGER NOT NULL, s6 INTEGER NOT NULL, s7 INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE sync_changes (
    position INTEGER PRIMARY KEY,
    chain    BLOB    NOT NULL,
    total    INTEGER NOT NULL,
    newest   INTEGER NOT NULL,
    changes  BLOB    NOT NULL
  ) STRICT;
  CREATE TABLE sync_logs (
    log_id      TEXT PRIMARY KEY,
    lower_bound INTEGER NOT NULL,
    seen_ms     INTEGER NOT NULL
  ) WITHOUT ROWID, STRICT;
  CREATE TABLE sync_letters (
    id           TEXT    PRIMARY KEY,
    record       BLOB    NOT NULL,
    reason       TEXT    NOT NULL,
    set_aside_ms INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE sync_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
  CREATE VIEW sync_items_json AS
    SELECT id, state, version, version / 2048 AS updated_at_ms,
           CASE WHEN json_valid(CAST(content AS TEXT)) THEN CAST(content AS TEXT) END AS content
      FROM sync_items
     WHERE deleted = 0 AND content_type = 'json';
  `,
  // Life of the copy in Redis, 0 for none. NULL for most: it takes no room, and no walk over the content.
  'ALTER TABLE sync_items ADD COLUMN redis_ttl_ms INTEGER',
];

const SCHEMA_VERSION = MIGRATIONS.length;

/** Brings the schema up to date. @throws `SCHEMA` for one that is newer than this code; nothing is touched. */
export function migrate(connection: Connection, path: string): void {
  const version = connection.pragma('user_version', { simple: true }) as number;
  if (version > SCHEMA_VERSION) {
    throw new SyncEngineError(
      'SCHEMA',
      `The archive ${path} has schema ${version}; this version knows ${SCHEMA_VERSION}. It was not touched. Upgrade this engine, or give it another archive.`,
      { context: { tier: 'sql', path } },
    );
  }
  if (version === SCHEMA_VERSION) return;
  connection.exec('BEGIN IMMEDIATE');
  try {
    for (const migration of MIGRATIONS.slice(version)) connection.exec(migration);
    connection.pragma(`user_version = ${SCHEMA_VERSION}`);
    connection.exec('COMMIT');
  } catch (error) {
    if (connection.inTransaction) connection.exec('ROLLBACK');
    throw error;
  }
}
