import { type Kysely, sql } from 'kysely';
import { AppError } from '../../contracts/errors.ts';
import { isPostgres } from './dialect.ts';

export interface Migration<Tables> {
  /** Dated and unique in its component: `2026-11-24-log`. */
  readonly name: string;
  readonly up: (db: Kysely<Tables>) => Promise<void>;
}

interface MigrationTable {
  stekker_migration: { component: string; name: string };
}

/** Any number, the same for all programs of all versions: one of them changes tables, the others wait. */
const lockNumber = 7_283_551_904;

/** Many processes start at once: one after the other looks what is to be done. SQLite has one writer anyway. */
const inTurn = async (transaction: Kysely<MigrationTable>): Promise<void> => {
  if (!isPostgres(transaction)) return;
  await sql`set transaction isolation level read committed`.execute(transaction);
  await sql`set local statement_timeout = 0`.execute(transaction);
  await sql`select pg_advisory_xact_lock(${sql.lit(lockNumber)})`.execute(transaction);
};

const readDone = async (records: Kysely<MigrationTable>, component: string): Promise<ReadonlySet<string>> => {
  await records.schema
    .createTable('stekker_migration')
    .ifNotExists()
    .addColumn('component', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('stekker_migration_pk', ['component', 'name'])
    .execute();
  const rows = await records
    .selectFrom('stekker_migration')
    .select('name')
    .where('component', '=', component)
    .execute();
  return new Set(rows.map(({ name }) => name));
};

/** Does the first step that is missing; false when there is none. */
const migrateOnce = async <Tables>(
  db: Kysely<Tables>,
  component: string,
  migrations: readonly Migration<Tables>[],
): Promise<boolean> =>
  db.transaction().execute(async (transaction) => {
    const records = transaction as unknown as Kysely<MigrationTable>; // our own table stands beside those of the component
    await inTurn(records);
    const done = await readDone(records, component);
    const known = new Set(migrations.map(({ name }) => name));
    const foreign = [...done].find((name) => !known.has(name));
    if (foreign !== undefined) {
      throw new AppError('data-newer', {
        detail: `${component} has the step ${foreign}, which is unknown here: a newer version made it; start that one`,
      });
    }
    const next = migrations.find(({ name }) => !done.has(name));
    if (next === undefined) return false;
    await next.up(transaction);
    await records.insertInto('stekker_migration').values({ component, name: next.name }).execute();
    return true;
  });

/**
 * Brings the tables of one component up to date, forward only, each step in a transaction with its own record. Of several
 * processes that start at once one does each step, and the others wait for it.
 *
 * @throws AppError `data-newer` when the database has a step that this program does not know.
 */
export const migrate = async <Tables>(
  db: Kysely<Tables>,
  component: string,
  migrations: readonly Migration<Tables>[],
): Promise<void> => {
  while (await migrateOnce(db, component, migrations)) {
    // the next step
  }
};
