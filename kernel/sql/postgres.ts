import {
  CompiledQuery,
  type DatabaseConnection,
  type DataTypeNode,
  type Driver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
  type TransactionBuilder,
} from 'kysely';
import type { Pool, PoolClient } from 'pg';
import { AppError } from '../../contracts/errors.ts';
import { systemClock } from '../clock.ts';
import type { Logger } from '../log.ts';
import { systemRandom } from '../random.ts';
import type { Database } from './database.ts';
import { isRetried, isStalePlan, isTaken, lostSession, mapped } from './postgres-faults.ts';

/** PostgreSQL behind the same rows: one deployment of several processes. The driver is loaded when it is asked for. */

interface PostgresOptions {
  /** `postgresql://user:password@host:port/database`, with what else node-postgres reads from it. Never logged. */
  readonly url: string;
  readonly log: Logger;
}

/** Of each process; a server takes a hundred unless it is told otherwise. */
const maxConnections = { db: 12, relaxed: 4 };
const connectTimeoutMs = 5_000;
const statementTimeoutMs = 30_000;
/** A transaction of ours awaits only SQL, so one that stands still belongs to a process that does. */
const idleTransactionTimeoutMs = 15_000;
const leastVersion = 140_000;
/** Statements that a connection keeps prepared; long lists of values make ever new ones, so there is an end. */
const maxPrepared = 300;
const int8 = 20;

/** Integers of eight bytes arrive as text. Ours are times, sizes and counts, which a number holds exactly. */
const parseInteger = (text: string): number => {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new AppError('invariant-broken', { detail: 'an integer is too large' });
  return value;
};

const openPool = async (options: PostgresOptions, max: number, isDurable: boolean): Promise<Pool> => {
  const { default: pg } = await import('pg');
  const pool = new pg.Pool({
    connectionString: options.url,
    application_name: 'stekker',
    max,
    connectionTimeoutMillis: connectTimeoutMs,
    statement_timeout: statementTimeoutMs,
    idle_in_transaction_session_timeout: idleTransactionTimeoutMs,
    // Where the server says nothing any more, we give up after it should have.
    query_timeout: statementTimeoutMs + connectTimeoutMs,
    keepAlive: true,
    options: isDurable ? '' : '-c synchronous_commit=off',
    types: {
      getTypeParser: (type: number, format?: 'text' | 'binary') =>
        type === int8 && format !== 'binary' ? parseInteger : pg.types.getTypeParser(type, format as 'text'),
    },
  });
  const lost = (error: Error) => options.log.warn({ error }, 'a connection to the database was lost');
  pool.on('error', lost);
  // Whoever has it hears of it from the statement; without this the driver would end the program.
  pool.on('connect', (client) => client.on('error', lost));
  return pool;
};

const isWorthPreparing = /^\s*(select|insert|update|delete|with|begin|commit)\b/i;

/** Names for statements that are worth preparing: the same text has the same name on every connection. */
const createNames = () => {
  let generation = 0;
  let names = new Map<string, string>();
  return {
    of: (sql: string): string | undefined => {
      const known = names.get(sql);
      if (known !== undefined || names.size >= maxPrepared || !isWorthPreparing.test(sql)) return known;
      const name = `g${generation}s${names.size}`;
      names.set(sql, name);
      return name;
    },
    /** A table changed under what was prepared: from now on all is prepared anew. */
    renew: (): void => {
      generation += 1;
      names = new Map();
    },
  };
};

type Names = ReturnType<typeof createNames>;

const changers = new Set(['INSERT', 'UPDATE', 'DELETE', 'MERGE']);

interface Connection extends DatabaseConnection {
  readonly release: () => void;
  isInTransaction: boolean;
}

const run = async <Row>(
  client: PoolClient,
  names: Names,
  { sql, parameters }: CompiledQuery,
): Promise<QueryResult<Row>> => {
  if (parameters.some((value) => typeof value === 'boolean'))
    throw new AppError('invariant-broken', { detail: 'a column cannot hold a boolean' });
  const name = names.of(sql);
  const values = [...parameters];
  const { command, rowCount, rows } = await client.query(
    name === undefined ? { text: sql, values } : { name, text: sql, values },
  );
  return changers.has(command) ? { rows, numAffectedRows: BigInt(rowCount ?? 0) } : { rows: rows ?? [] };
};

const maxAttempts = 12;

/** Longer each time, and of a random length, so that those who met do not meet again. */
const pauseAfter = (attempt: number): Promise<void> =>
  systemClock.sleep(Math.ceil(((systemRandom.bytes(1)[0] ?? 0) / 256) * Math.min(2 ** attempt, 128)));

/** Does again what the database undid because others were at the same rows; it left nothing behind. */
const repeated = async <Result>(work: () => Promise<Result>, isUndone = isRetried): Promise<Result> => {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (!isUndone(error)) throw error;
      if (attempt >= maxAttempts) throw mapped(error, 'others were at the same rows too often');
    }
    await pauseAfter(attempt);
  }
};

const connectionOf = (client: PoolClient, names: Names): Connection => {
  let isLost = false;
  const once = async <Row>(query: CompiledQuery): Promise<QueryResult<Row>> => {
    try {
      return await run<Row>(client, names, query);
    } catch (error) {
      isLost ||= lostSession(error);
      if (isStalePlan(error)) names.renew();
      throw isRetried(error) ? error : mapped(error);
    }
  };
  const connection: Connection = {
    isInTransaction: false,
    executeQuery: (query) => (connection.isInTransaction ? once(query) : repeated(() => once(query))),
    streamQuery: () => {
      throw new AppError('invariant-broken', { detail: 'rows are read in pages' });
    },
    release: () => client.release(isLost),
  };
  return connection;
};

const beginAt = (level = 'serializable') => CompiledQuery.raw(`begin isolation level ${level}`);
const commit = CompiledQuery.raw('commit');
const rollback = CompiledQuery.raw('rollback');

const poolDriver = (pool: Pool, names: Names): Driver => {
  const known = new WeakMap<PoolClient, Connection>();
  const own = new WeakMap<DatabaseConnection, Connection>();
  const ofClient = (client: PoolClient): Connection => {
    const connection = known.get(client) ?? connectionOf(client, names);
    known.set(client, connection);
    own.set(connection, connection);
    return connection;
  };
  const set = async (connection: DatabaseConnection, query: CompiledQuery, isInTransaction: boolean) => {
    const its = own.get(connection);
    if (its !== undefined) its.isInTransaction = true;
    try {
      await connection.executeQuery(query);
    } finally {
      if (its !== undefined) its.isInTransaction = isInTransaction;
    }
  };
  return {
    init: async () => undefined,
    acquireConnection: async () => {
      try {
        return ofClient(await pool.connect());
      } catch (error) {
        throw mapped(error);
      }
    },
    releaseConnection: async (connection) => own.get(connection)?.release(),
    beginTransaction: (connection, { isolationLevel }) => set(connection, beginAt(isolationLevel), true),
    commitTransaction: (connection) => set(connection, commit, false),
    rollbackTransaction: (connection) => set(connection, rollback, false),
    destroy: () => pool.end(),
  };
};

/** Text is compared by its bytes, as SQLite does: pages come in the same order whatever the database's language is. */
class ByteOrderCompiler extends PostgresQueryCompiler {
  protected override visitDataType(node: DataTypeNode): void {
    super.visitDataType(node);
    if (node.dataType === 'text') this.append(' collate "C"');
  }
}

const isMeeting = (error: unknown): boolean => isRetried(error) || isTaken(error);

/** A transaction that met another is done again, here and nowhere else. */
const repeating = <Tables>(builder: TransactionBuilder<Tables>): TransactionBuilder<Tables> => {
  const once = builder.execute.bind(builder);
  const at = builder.setIsolationLevel.bind(builder);
  builder.execute = (work) => repeated(() => once(work), isMeeting);
  builder.setIsolationLevel = (level) => repeating(at(level));
  return builder;
};

class RepeatingKysely<Tables> extends Kysely<Tables> {
  override transaction(): TransactionBuilder<Tables> {
    return repeating(super.transaction());
  }
}

const handleOf = <Tables>(pool: Pool): Kysely<Tables> => {
  const names = createNames();
  return new RepeatingKysely<Tables>({
    dialect: {
      createAdapter: () => new PostgresAdapter(),
      createDriver: () => poolDriver(pool, names),
      createIntrospector: (inner) => new PostgresIntrospector(inner),
      createQueryCompiler: () => new ByteOrderCompiler(),
    },
  });
};

/** @throws AppError `config-invalid` for a database that cannot hold our rows, `database-unavailable`. */
const checkServer = async (pool: Pool): Promise<void> => {
  const asked = `select current_setting('server_version_num')::int as version, current_setting('server_encoding') as encoding`;
  const { rows } = await pool.query<{ version: number; encoding: string }>(asked).catch((error: unknown) => {
    throw mapped(error);
  });
  const [row] = rows;
  if (row === undefined || row.version < leastVersion)
    throw new AppError('config-invalid', { detail: 'STEKKER_DATABASE_URL: the server is older than PostgreSQL 14' });
  if (row.encoding !== 'UTF8')
    throw new AppError('config-invalid', { detail: 'STEKKER_DATABASE_URL: the database is not encoded in UTF8' });
};

/**
 * Opens a PostgreSQL database. Transactions are serializable: what SQLite does with one connection is right here with many.
 * Work that many do at once on the same few rows asks for `read committed` and locks them first, so that nobody is undone.
 *
 * @throws AppError `config-invalid`, `database-unavailable`.
 */
export const openPostgres = async <Tables>(options: PostgresOptions): Promise<Database<Tables>> => {
  const pools = [
    await openPool(options, maxConnections.db, true),
    await openPool(options, maxConnections.relaxed, false),
  ];
  const [durable, soon] = pools as [Pool, Pool];
  try {
    await checkServer(durable);
  } catch (error) {
    await Promise.all(pools.map((pool) => pool.end()));
    throw error;
  }
  return {
    db: handleOf<Tables>(durable),
    relaxed: handleOf<Tables>(soon),
    isShared: true,
    [Symbol.asyncDispose]: async () => void (await Promise.all(pools.map((pool) => pool.end()))),
  };
};
