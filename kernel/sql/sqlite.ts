import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import {
  CompiledQuery,
  type DatabaseConnection,
  type Driver,
  Kysely,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely';
import { AppError } from '../../contracts/errors.ts';
import { createGroupSync, type GroupSync, noSync, openSynced, type SyncedFile } from './group-sync.ts';

interface SqliteOptions {
  /** A file, or `:memory:`. Its folder is made when it is not there. */
  readonly path: string;
  /** Each commit is on the disk before it is answered; true unless said otherwise. */
  readonly fullSync?: boolean;
  /** Told once, when commits could not be put on the disk. Every call fails from then on: the program must start anew. */
  readonly onFault?: (fault: AppError) => void;
  /** The file with the newest commits, as whoever syncs it opens it. */
  readonly openWal?: (path: string) => SyncedFile;
}

export interface Sqlite<Tables> {
  /** Whatever this answers stands on the disk: what it wrote, and everything of `db` that it may have read. */
  readonly db: Kysely<Tables>;
  /**
   * The same rows over the same connection, for writes that may be done again: atomic and in order like all others, and a
   * crash of the program loses none, but a power cut may take those behind the last commit of `db`. What it reads of `db`
   * stands on the disk, too.
   */
  readonly relaxed: Kysely<Tables>;
  readonly [Symbol.asyncDispose]: () => Promise<void>;
}

/** Statements kept compiled; long lists of values make ever new ones, so there is an end. */
const maxStatements = 200;
const busyTimeoutMs = 5_000;
const resultFull = 13;

const isInput = (value: unknown): value is SQLInputValue =>
  value === null || ['string', 'number', 'bigint'].includes(typeof value) || ArrayBuffer.isView(value);

const toInputs = (parameters: readonly unknown[]): SQLInputValue[] =>
  parameters.map((value) => {
    if (!isInput(value)) throw new AppError('invariant-broken', { detail: `a column cannot hold a ${typeof value}` });
    return value;
  });

const mapped = (error: unknown): unknown => {
  const code = typeof error === 'object' && error !== null && 'errcode' in error ? error.errcode : undefined;
  return typeof code === 'number' && code % 256 === resultFull ? new AppError('disk-full', { cause: error }) : error;
};

interface Prepared {
  readonly statement: StatementSync;
  readonly hasRows: boolean;
  /** `insert`, `select`, … */
  readonly verb: string;
}

const prepared = (database: DatabaseSync, sql: string): Prepared => {
  const statement = database.prepare(sql);
  return { statement, hasRows: statement.columns().length > 0, verb: /[a-z]+/i.exec(sql)?.[0].toLowerCase() ?? '' };
};

/** Statements that leave the rows as they are. */
const readers = new Set(['select', 'pragma', 'begin', 'commit', 'explain']);
const changers = new Set(['insert', 'update', 'delete']);

/** The one connection, and whether the turn that has it changed anything. */
interface Connection extends DatabaseConnection {
  wrote: boolean;
}

const connect = (database: DatabaseSync): Connection => {
  const statements = new Map<string, Prepared>();
  const prepare = (sql: string): Prepared => {
    const known = statements.get(sql);
    if (known !== undefined) return known;
    const made = prepared(database, sql);
    const [oldest] = statements.keys();
    if (statements.size >= maxStatements && oldest !== undefined) statements.delete(oldest);
    statements.set(sql, made);
    return made;
  };
  const execute = (sql: string, parameters: readonly unknown[]) => {
    const { statement, hasRows, verb } = prepare(sql);
    if (hasRows) {
      const rows = statement.all(...toInputs(parameters));
      connection.wrote ||= !readers.has(verb);
      return { rows };
    }
    const { changes, lastInsertRowid } = statement.run(...toInputs(parameters));
    connection.wrote ||= changers.has(verb) ? Number(changes) > 0 : !readers.has(verb);
    return { rows: [], numAffectedRows: BigInt(changes), insertId: BigInt(lastInsertRowid) };
  };
  const connection: Connection = {
    wrote: false,
    executeQuery: async <Row>({ sql, parameters }: CompiledQuery) => {
      try {
        return execute(sql, parameters) as QueryResult<Row>; // Kysely's types say what the statement selects
      } catch (error) {
        throw mapped(error);
      }
    },
    streamQuery: () => {
      throw new AppError('invariant-broken', { detail: 'SQLite answers whole lists: ask for pages' });
    },
  };
  return connection;
};

/** One connection, taken by one at a time: inside a transaction await only SQL, or everybody waits. */
const createTurns = (database: DatabaseSync, sync: GroupSync) => {
  const connection = connect(database);
  let last: Promise<void> = Promise.resolve();
  let next: () => void = () => undefined;
  return {
    connection,
    acquire: async () => {
      const before = last;
      const { promise, resolve } = Promise.withResolvers<void>();
      last = promise;
      await before;
      next = resolve;
      try {
        sync.check();
      } catch (fault) {
        resolve();
        throw fault;
      }
      connection.wrote = false;
      return connection;
    },
    /** The next one has the connection at once; whoever gives it back goes on when what it saw is on the disk. */
    release: async (isDurable: boolean) => {
      if (connection.wrote && isDurable) sync.committed();
      next();
      await sync.settled();
    },
  };
};

/** Several may ask at once: they take turns here, not in Kysely, which would hold the connection until `release` ends. */
class TurnsAdapter extends SqliteAdapter {
  override get supportsMultipleConnections(): boolean {
    return true;
  }
}

const turnsDriver = (turns: ReturnType<typeof createTurns>, isDurable: boolean): Driver => {
  const run = (sql: string) => turns.connection.executeQuery(CompiledQuery.raw(sql));
  return {
    init: async () => undefined,
    acquireConnection: turns.acquire,
    releaseConnection: () => turns.release(isDurable),
    beginTransaction: async () => void (await run('begin immediate')),
    commitTransaction: async () => void (await run('commit')),
    rollbackTransaction: async () => {
      await run('rollback');
      turns.connection.wrote = false;
    },
    destroy: async () => undefined,
  };
};

const openDatabase = (path: string): DatabaseSync => {
  try {
    const database = new DatabaseSync(path);
    database.exec(`pragma busy_timeout = ${busyTimeoutMs}`);
    database.exec('pragma journal_mode = wal');
    // A commit writes and does not wait; whoever made it does. What SQLite itself must sync (a checkpoint, the head of a
    // WAL that begins anew) it still does.
    database.exec('pragma synchronous = normal');
    database.exec('pragma foreign_keys = on');
    return database;
  } catch (error) {
    throw mapped(error);
  }
};

/** Opens a SQLite database behind Kysely: WAL, foreign keys, one sync for all commits that wait. */
export const openSqlite = <Tables>(options: SqliteOptions): Sqlite<Tables> => {
  const { path, fullSync = true, onFault = () => undefined, openWal = openSynced } = options;
  const isOnDisk = path !== ':memory:';
  if (isOnDisk) mkdirSync(dirname(path), { recursive: true });
  const database = openDatabase(path);
  // The locks of SQLite are on the database and its index, not on the WAL: closing our descriptor takes none away.
  const sync = isOnDisk && fullSync ? createGroupSync({ open: () => openWal(`${path}-wal`), onFault }) : noSync;
  const turns = createTurns(database, sync);
  const handle = (isDurable: boolean) =>
    new Kysely<Tables>({
      dialect: {
        createAdapter: () => new TurnsAdapter(),
        createDriver: () => turnsDriver(turns, isDurable),
        createIntrospector: (inner) => new SqliteIntrospector(inner),
        createQueryCompiler: () => new SqliteQueryCompiler(),
      },
    });
  const [db, relaxed] = [handle(true), handle(false)];
  return {
    db,
    relaxed,
    [Symbol.asyncDispose]: async () => {
      await Promise.all([db.destroy(), relaxed.destroy()]);
      await sync.close();
      if (database.isOpen) database.close();
    },
  };
};
