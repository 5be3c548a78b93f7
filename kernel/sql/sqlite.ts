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

interface SqliteOptions {
  /** A file, or `:memory:`. Its folder is made when it is not there. */
  readonly path: string;
  /** Each commit is on the disk before it is answered; true unless said otherwise. */
  readonly fullSync?: boolean;
}

export interface Sqlite<Tables> {
  readonly db: Kysely<Tables>;
  /**
   * The same rows over the same connection, for writes that may be done again: atomic and in order like all others, and a
   * crash of the program loses none, but a power cut may take those behind the last commit of `db`.
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

const connect = (database: DatabaseSync): DatabaseConnection => {
  const statements = new Map<string, StatementSync>();
  const prepare = (sql: string): StatementSync => {
    const known = statements.get(sql);
    if (known !== undefined) return known;
    const made = database.prepare(sql);
    const [oldest] = statements.keys();
    if (statements.size >= maxStatements && oldest !== undefined) statements.delete(oldest);
    statements.set(sql, made);
    return made;
  };
  const execute = (sql: string, parameters: readonly unknown[]) => {
    const statement = prepare(sql);
    if (statement.columns().length > 0) return { rows: statement.all(...toInputs(parameters)) };
    const { changes, lastInsertRowid } = statement.run(...toInputs(parameters));
    return { rows: [], numAffectedRows: BigInt(changes), insertId: BigInt(lastInsertRowid) };
  };
  return {
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
};

type SyncLevel = 'full' | 'normal';

/** One connection, taken by one at a time: inside a transaction await only SQL, or everybody waits. */
const createTurns = (database: DatabaseSync) => {
  const connection = connect(database);
  let last: Promise<void> = Promise.resolve();
  let release: () => void = () => undefined;
  let level: SyncLevel | undefined;
  return {
    connection,
    acquire: async (wanted: SyncLevel) => {
      const before = last;
      const { promise, resolve } = Promise.withResolvers<void>();
      last = promise;
      await before;
      release = resolve;
      // Not by a prepared statement: SQLite carries this pragma out when it compiles it, and never again.
      if (wanted !== level) database.exec(`pragma synchronous = ${wanted}`);
      level = wanted;
      return connection;
    },
    release: async () => release(),
  };
};

const singleDriver = (database: DatabaseSync, turns: ReturnType<typeof createTurns>, level: SyncLevel): Driver => {
  const run = (sql: string) => turns.connection.executeQuery(CompiledQuery.raw(sql));
  return {
    init: async () => undefined,
    acquireConnection: () => turns.acquire(level),
    releaseConnection: turns.release,
    beginTransaction: async () => void (await run('begin immediate')),
    commitTransaction: async () => void (await run('commit')),
    rollbackTransaction: async () => void (await run('rollback')),
    destroy: async () => database.close(),
  };
};

const openDatabase = (path: string): DatabaseSync => {
  try {
    const database = new DatabaseSync(path);
    database.exec(`pragma busy_timeout = ${busyTimeoutMs}`);
    database.exec('pragma journal_mode = wal');
    database.exec('pragma foreign_keys = on');
    return database;
  } catch (error) {
    throw mapped(error);
  }
};

/** Opens a SQLite database behind Kysely: WAL, foreign keys, full sync by default. */
export const openSqlite = <Tables>({ path, fullSync = true }: SqliteOptions): Sqlite<Tables> => {
  if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true });
  const database = openDatabase(path);
  const turns = createTurns(database);
  const handle = (level: SyncLevel) =>
    new Kysely<Tables>({
      dialect: {
        createAdapter: () => new SqliteAdapter(),
        createDriver: () => singleDriver(database, turns, level),
        createIntrospector: (inner) => new SqliteIntrospector(inner),
        createQueryCompiler: () => new SqliteQueryCompiler(),
      },
    });
  const db = handle(fullSync ? 'full' : 'normal');
  return { db, relaxed: handle('normal'), [Symbol.asyncDispose]: () => db.destroy() };
};
