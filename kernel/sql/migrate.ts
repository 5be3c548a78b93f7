import type { Kysely } from 'kysely';
import { AppError } from '../../contracts/errors.ts';

export interface Migration<Tables> {
  /** Dated and unique in its component: `2026-11-24-log`. */
  readonly name: string;
  readonly up: (db: Kysely<Tables>) => Promise<void>;
}

interface MigrationTable {
  stekker_migration: { component: string; name: string };
}

/**
 * Brings the tables of one component up to date, forward only, each step in a transaction with its own record.
 *
 * @throws AppError `data-newer` when the database has a step that this program does not know.
 */
export const migrate = async <Tables>(
  db: Kysely<Tables>,
  component: string,
  migrations: readonly Migration<Tables>[],
): Promise<void> => {
  const records = db as unknown as Kysely<MigrationTable>; // our own table stands beside those of the component
  await records.schema
    .createTable('stekker_migration')
    .ifNotExists()
    .addColumn('component', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('stekker_migration_pk', ['component', 'name'])
    .execute();
  const rows = await records.selectFrom('stekker_migration').selectAll().where('component', '=', component).execute();
  const known = new Set(migrations.map(({ name }) => name));
  const foreign = rows.find(({ name }) => !known.has(name));
  if (foreign !== undefined) {
    throw new AppError('data-newer', { detail: `${component} has the step ${foreign.name}, which is unknown here` });
  }
  const done = new Set(rows.map(({ name }) => name));
  for (const { name, up } of migrations) {
    if (done.has(name)) continue;
    await db.transaction().execute(async (transaction) => {
      await up(transaction);
      const same = transaction as unknown as Kysely<MigrationTable>;
      await same.insertInto('stekker_migration').values({ component, name }).execute();
    });
  }
};
