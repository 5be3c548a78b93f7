import type { Kysely } from 'kysely';
import type { Migration } from '../../../kernel/sql/migrate.ts';
import type { AcquisitionStore } from '../../management/ports.ts';

/** Which negotiation was begun for which dataset; the truth about each stands in the processes themselves. */

export interface AcquisitionTables {
  acquisition: { participant: string; provider: string; dataset: string; negotiation: string; transfer: string | null };
}

export const acquisitionMigrations: readonly Migration<AcquisitionTables>[] = [
  {
    name: '2026-11-26-acquisitions',
    up: async ({ schema }) => {
      await schema
        .createTable('acquisition')
        .addColumn('participant', 'text', (column) => column.notNull())
        .addColumn('provider', 'text', (column) => column.notNull())
        .addColumn('dataset', 'text', (column) => column.notNull())
        .addColumn('negotiation', 'text', (column) => column.notNull())
        .addColumn('transfer', 'text')
        .addPrimaryKeyConstraint('acquisition_pk', ['participant', 'negotiation'])
        .execute();
      await schema
        .createIndex('acquisition_dataset')
        .on('acquisition')
        .columns(['participant', 'provider', 'dataset', 'negotiation'])
        .execute();
    },
  },
];

/** Acquisitions over SQL. Ids of negotiations are UUIDv7 that only grow, so their order is the order of time. */
export const createSqlAcquisitionStore = (db: Kysely<AcquisitionTables>): AcquisitionStore => ({
  begun: async ({ participant, provider, dataset, negotiation }) => {
    await db
      .insertInto('acquisition')
      .values({ participant, provider, dataset, negotiation, transfer: null })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  },
  transferred: async (participant, negotiation, transfer) => {
    await db
      .updateTable('acquisition')
      .set({ transfer })
      .where('participant', '=', participant)
      .where('negotiation', '=', negotiation)
      .execute();
  },
  candidates: async (participant, provider, dataset, limit) =>
    db
      .selectFrom('acquisition')
      .select(['negotiation', 'transfer'])
      .where('participant', '=', participant)
      .where('provider', '=', provider)
      .where('dataset', '=', dataset)
      .orderBy('negotiation', 'desc')
      .limit(limit)
      .execute(),
  forget: async (participant, negotiation) => {
    await db
      .deleteFrom('acquisition')
      .where('participant', '=', participant)
      .where('negotiation', '=', negotiation)
      .execute();
  },
});
