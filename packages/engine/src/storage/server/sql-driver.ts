/**
 * What the archive on a server needs of a database: transactions, and a few statements whose form differs between
 * servers. Everything else is plain SQL with `?` for a value. All columns hold bytes or whole numbers: texts are their
 * UTF-8 bytes, so no character set, collation or U+0000 ever changes what is stored or how it is ordered.
 */

export type Value = Buffer | number;
/** Values in the order of the columns. */
export type Row = readonly Value[];

export interface Column {
  readonly name: string;
  readonly type: 'bytes' | 'integer';
}

/** A table, its columns in order; the first is its primary key. */
export interface Table {
  readonly name: string;
  readonly columns: readonly Column[];
}

/**
 * One connection, for the time of one transaction or one read.
 *
 * Statements run in the order of the calls, and nobody needs to wait for one before the next is called: within a
 * transaction a statement takes effect only where those before it did, and the transaction is committed only where all
 * of them did. So what waits for no answer (`insert`, `replace`, `remove`) travels with what follows, the commit
 * included; its failure is told by whatever is awaited next.
 */
export interface SqlSession {
  run(sql: string, values?: readonly Value[]): Promise<readonly Row[]>;
  /** `head WHERE column IN (keys) tail`, in portions; the rows of all of them. */
  among(head: string, column: string, keys: readonly Buffer[], tail?: string): Promise<Row[]>;
  /** Rows with new keys. A key that is there already is a conflict (`isConflict`). */
  insert(table: Table, rows: readonly Row[]): void;
  /** Rows in the place of those with the same keys. */
  replace(table: Table, rows: readonly Row[]): void;
  /** Rows with these keys go. */
  remove(table: Table, keys: readonly Buffer[]): void;
}

/**
 * A part of a migration that is harmless where it was done before: a statement that is, or a column to be added. MySQL
 * has no way to add one only if it is missing.
 */
export type SchemaStep = string | { readonly table: string; readonly column: string; readonly type: string };

/**
 * `write`: read committed. `snapshot`: one consistent view, read-only. `read`: single statements, each a view of its own.
 */
export type SessionKind = 'write' | 'snapshot' | 'read';

export interface SqlDriver {
  /** The server, as people are told of it; without credentials. */
  readonly place: string;
  /** Of one row in one statement. Larger ones would be refused by the server, and take the connection with them. */
  readonly rowBytesMax: number;
  /** Makes the first connection, and looks at the server. May be called again. @throws what the server says. */
  connect(): Promise<void>;
  /** Runs `work` on a connection of its own; a transaction is rolled back where it throws. Ends the connection when late. */
  session<T>(kind: SessionKind, timeoutMs: number, work: (session: SqlSession) => Promise<T>): Promise<T>;
  /** One process at a time, for the time of `work`. */
  exclusively<T>(timeoutMs: number, work: (session: SqlSession) => Promise<T>): Promise<T>;
  /** What makes the tables of each schema version. */
  readonly migrations: readonly (readonly SchemaStep[])[];
  /** Names of the columns that a table has; empty where there is no such table. */
  columnsOf(session: SqlSession, table: string): Promise<string[]>;
  /** Settings that lose what was committed, one sentence each. */
  warnings(session: SqlSession): Promise<string[]>;
  /** Another transaction was in the way: the same one may succeed when it is run again. */
  isConflict(error: unknown): boolean;
  /** The statement was refused because of the row that it writes. */
  isRefusalOfRow(error: unknown): boolean;
  /** What an operator should do about it, where that is known: a sentence. */
  adviceOn(error: unknown): string | undefined;
  close(): Promise<void>;
}
