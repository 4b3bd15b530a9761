/** The real driver, whose COMMIT and checkpoint can be made to fail as a disk makes them fail. */
import Database from 'better-sqlite3';

export interface FailingDriver {
  readonly driver: typeof Database;
  /** The next COMMIT of any connection throws what a failed fsync throws. */
  failNextCommit(when: 'before' | 'after'): void;
  /** Runs just before the next COMMIT. */
  beforeNextCommit(run: () => void): void;
  failCheckpoints: boolean;
  /** The disk behind `path` has room for that many pages: a real SQLITE_FULL. */
  limitPages(path: string, pages: number): void;
}

export function failingDriver(): FailingDriver {
  const connections = new Map<string, Database.Database>();
  let failing: 'before' | 'after' | undefined;
  let before: (() => void) | undefined;
  const control: FailingDriver = {
    driver: undefined as never,
    failNextCommit(when) {
      failing = when;
    },
    beforeNextCommit(run) {
      before = run;
    },
    failCheckpoints: false,
    limitPages(path, pages) {
      connections.get(path)?.pragma(`max_page_count = ${pages}`);
    },
  };
  const driver = function open(path: string, options?: Database.Options): Database.Database {
    const connection = new Database(path, options);
    connections.set(path, connection);
    const prepare = connection.prepare.bind(connection);
    connection.prepare = ((source: string) => {
      const statement = prepare(source);
      if (source !== 'COMMIT') return statement;
      const run = statement.run.bind(statement);
      statement.run = (() => {
        before?.();
        before = undefined;
        const when = failing;
        failing = undefined;
        if (when !== 'before') run();
        if (when !== undefined) throw ioError('SQLITE_IOERR_FSYNC');
        return { changes: 0, lastInsertRowid: 0 };
      }) as typeof statement.run;
      return statement;
    }) as typeof connection.prepare;
    const pragma = connection.pragma.bind(connection);
    connection.pragma = ((source: string, pragmaOptions?: Database.PragmaOptions) => {
      if (control.failCheckpoints && source.startsWith('wal_checkpoint')) throw ioError('SQLITE_IOERR_WRITE');
      return pragma(source, pragmaOptions);
    }) as typeof connection.pragma;
    return connection;
  };
  return Object.assign(control, { driver: driver as unknown as typeof Database });
}

function ioError(code: string): Error {
  return Object.assign(new Error('disk I/O error'), { name: 'SqliteError', code });
}
