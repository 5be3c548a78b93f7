import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import {
  type CompiledQuery,
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
const readers = new Set(['select', 'pragma', 'explain']);
const changers = new Set(['insert', 'update', 'delete']);

/** The one connection, and whether the turn that has it changed anything. */
interface Connection extends DatabaseConnection {
  wrote: boolean;
}

const connect = (database: DatabaseSync, batches: Pick<Batches, 'open' | 'check'>): Connection => {
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
    if (!readers.has(verb)) batches.open();
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
        batches.check(error);
        throw mapped(error);
      }
    },
    streamQuery: () => {
      throw new AppError('invariant-broken', { detail: 'SQLite answers whole lists: ask for pages' });
    },
  };
  return connection;
};

/** Several turns that are committed together. */
interface Batch {
  /** Turns that have left it: one that fails takes them along unless there is a place to go back to. */
  turns: number;
  /** Whether one of them wrote what must be durable. */
  isDurable: boolean;
  /** Settles with the commit of all of them. */
  readonly end: PromiseWithResolvers<void>;
}

type Batches = ReturnType<typeof createBatches>;

/** Statements without rows or parameters, compiled once. */
const createMarks = (database: DatabaseSync) => {
  const marks = new Map<string, StatementSync>();
  return (sql: string): void => {
    const mark = marks.get(sql) ?? database.prepare(sql);
    marks.set(sql, mark);
    mark.run();
  };
};

/**
 * One commit for all turns of a turn of the event loop, or of the time that a sync takes: each by itself would write the
 * pages that they share. A turn that fails is undone alone. Nobody goes on before the commit of what was written or read.
 */
const createBatches = (database: DatabaseSync, sync: GroupSync) => {
  const mark = createMarks(database);
  let batch: Batch | undefined;
  let isTaken = false;
  let isDue = false;

  const fail = (error: unknown): void => {
    batch?.end.reject(mapped(error));
    batch = undefined;
  };
  const commit = (): void => {
    if (batch === undefined) return;
    try {
      sync.check();
      mark('commit');
    } catch (error) {
      if (database.isTransaction) mark('rollback');
      fail(error);
      return;
    }
    if (batch.isDurable) sync.committed();
    batch.end.resolve();
    batch = undefined;
  };
  /** What begins while a sync is under way waits for the next one in any case. */
  const schedule = (): void => {
    const commitSoon = () => {
      isDue = true;
      if (!isTaken) commit();
    };
    const before = sync.underWay();
    if (before === undefined) setImmediate(commitSoon);
    else void before.then(commitSoon);
  };
  /** Begins one, unless there is one. */
  const open = (): Batch => {
    if (batch !== undefined) return batch;
    mark('begin immediate');
    const end = Promise.withResolvers<void>();
    end.promise.catch(() => undefined); // whoever waits hears of it
    batch = { turns: 0, isDurable: false, end };
    isDue = false;
    if (sync !== noSync) schedule();
    return batch;
  };
  return {
    open,
    /** SQLite itself undid everything after some faults: a full disk, an unreadable page. */
    check: (error: unknown): void => {
      if (batch !== undefined && !database.isTransaction) fail(error);
    },
    take: (): void => {
      isTaken = true;
    },
    begin: (): void => {
      if (open().turns > 0) mark('savepoint turn');
    },
    keep: (): void => {
      if (open().turns > 0) mark('release turn');
    },
    undo: (): void => {
      if (batch === undefined || !database.isTransaction) return;
      if (batch.turns > 0) {
        mark('rollback to turn');
        mark('release turn');
        return;
      }
      mark('rollback');
      batch.end.resolve(); // of nothing
      batch = undefined;
    },
    /** The end of a turn. Resolves when what it wrote and read stands in the file. */
    leave: async ({ wrote, isDurable }: { readonly wrote: boolean; readonly isDurable: boolean }): Promise<void> => {
      isTaken = false;
      const its = batch;
      if (its !== undefined) {
        its.turns += 1;
        its.isDurable ||= wrote && isDurable;
      }
      if (isDue || sync === noSync) commit();
      await its?.end.promise;
    },
    close: commit,
  };
};

/** One connection, taken by one at a time: inside a transaction await only SQL, or everybody waits. */
const createTurns = (database: DatabaseSync, sync: GroupSync) => {
  const batches = createBatches(database, sync);
  const connection = connect(database, batches);
  let last: Promise<void> = Promise.resolve();
  let next: () => void = () => undefined;
  const guarded = (work: () => void): void => {
    try {
      work();
    } catch (error) {
      batches.check(error);
      throw mapped(error);
    }
  };
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
      batches.take();
      return connection;
    },
    begin: () => guarded(batches.begin),
    commit: () => guarded(batches.keep),
    rollback: (): void => {
      connection.wrote = false;
      guarded(batches.undo);
    },
    /** The next one has the connection at once; whoever gives it back goes on when what it saw is on the disk. */
    release: async (isDurable: boolean) => {
      const committed = batches.leave({ wrote: connection.wrote, isDurable });
      next();
      await committed;
      await sync.settled();
    },
    close: batches.close,
  };
};

/** Several may ask at once: they take turns here, not in Kysely, which would hold the connection until `release` ends. */
class TurnsAdapter extends SqliteAdapter {
  override get supportsMultipleConnections(): boolean {
    return true;
  }
}

const turnsDriver = (turns: ReturnType<typeof createTurns>, isDurable: boolean): Driver => ({
  init: async () => undefined,
  acquireConnection: turns.acquire,
  releaseConnection: () => turns.release(isDurable),
  beginTransaction: async () => turns.begin(),
  commitTransaction: async () => turns.commit(),
  rollbackTransaction: async () => turns.rollback(),
  destroy: async () => undefined,
});

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
      turns.close();
      await sync.close();
      if (database.isOpen) database.close();
    },
  };
};
