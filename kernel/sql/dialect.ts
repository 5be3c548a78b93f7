import { type Kysely, PostgresAdapter } from 'kysely';

/** Which database a handle speaks with, for the few statements that both have and write differently. */
export const isPostgres = <Tables>(db: Kysely<Tables>): boolean => db.getExecutor().adapter instanceof PostgresAdapter;
