import type { Kysely } from 'kysely';
import type { Clock } from '../clock.ts';
import type { Fail } from '../lifecycle.ts';
import type { Logger } from '../log.ts';
import { createWakeups, type Wakeups } from '../wakeups.ts';
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

/** How the processes that share these rows wake each other: over the database, or within the one process there is. */
export const openWakeups = async (its: {
  readonly url: string | undefined;
  readonly log: Logger;
  readonly clock: Clock;
}): Promise<Wakeups> => {
  const { url, log, clock } = its;
  if (url === undefined) return createWakeups(log);
  const { startPostgresWakeups } = await import('./postgres-wakeups.ts');
  return startPostgresWakeups({ url, log, clock });
};
