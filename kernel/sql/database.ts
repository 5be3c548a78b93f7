import type { Kysely } from 'kysely';
import type { Fail } from '../lifecycle.ts';
import type { Logger } from '../log.ts';
import { openSqlite } from './sqlite.ts';

/** The rows of a service, in a file of its own or on a server that several processes share. */
export interface Database<Tables> extends AsyncDisposable {
  /** What it answers is durable: its own writes, and everything of `db` that it may have read. */
  readonly db: Kysely<Tables>;
  /** The same rows for writes that may be done again: a crash of the database may take the newest of them. */
  readonly relaxed: Kysely<Tables>;
  /** Other processes may work on the same rows. */
  readonly isShared: boolean;
}

interface DatabaseOptions {
  /** Of a PostgreSQL database; without it the rows are in a SQLite file. A secret. */
  readonly url: string | undefined;
  /** The SQLite file. */
  readonly path: string;
  readonly log: Logger;
  /** Told when the database can never be used again by this process. */
  readonly fail: Fail;
}

/** Opens what the settings name. @throws AppError `config-invalid`, `database-unavailable`, `disk-full`. */
export const openDatabase = async <Tables>({ url, path, log, fail }: DatabaseOptions): Promise<Database<Tables>> => {
  if (url === undefined) return { ...openSqlite<Tables>({ path, onFault: fail }), isShared: false };
  const { openPostgres } = await import('./postgres.ts');
  return openPostgres<Tables>({ url, log });
};
