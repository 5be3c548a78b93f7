import type { Kysely } from 'kysely';
import type { Did } from '../../../contracts/ids.ts';
import type { Migration } from '../../../kernel/sql/migrate.ts';
import type { Participant, ParticipantState, ParticipantStore } from '../../registry/ports.ts';

export interface ParticipantTables {
  participant: {
    registry: string;
    did: string;
    name: string;
    roles: string;
    state: string;
    admitted_at: number;
    joined_at: number | null;
    left_at: number | null;
    version: number;
  };
}

export const participantMigrations: readonly Migration<ParticipantTables>[] = [
  {
    name: '2026-11-26-participant',
    up: async ({ schema }) => {
      await schema
        .createTable('participant')
        .addColumn('registry', 'text', (column) => column.notNull())
        .addColumn('did', 'text', (column) => column.notNull())
        .addColumn('name', 'text', (column) => column.notNull())
        .addColumn('roles', 'text', (column) => column.notNull())
        .addColumn('state', 'text', (column) => column.notNull())
        .addColumn('admitted_at', 'bigint', (column) => column.notNull())
        .addColumn('joined_at', 'bigint')
        .addColumn('left_at', 'bigint')
        .addColumn('version', 'integer', (column) => column.notNull())
        .addPrimaryKeyConstraint('participant_pk', ['registry', 'did'])
        .execute();
      await schema.createIndex('participant_state').on('participant').columns(['registry', 'state', 'did']).execute();
    },
  },
];

type Row = ParticipantTables['participant'];

const rowOf = (one: Participant): Row => ({
  registry: one.registry,
  did: one.did,
  name: one.name,
  roles: JSON.stringify(one.roles),
  state: one.state,
  admitted_at: one.admittedAt,
  joined_at: one.joinedAt,
  left_at: one.leftAt,
  version: one.version,
});

const participantOf = (row: Row): Participant => ({
  registry: row.registry as Did,
  did: row.did as Did,
  name: row.name,
  roles: JSON.parse(row.roles),
  state: row.state as ParticipantState,
  admittedAt: row.admitted_at,
  joinedAt: row.joined_at,
  leftAt: row.left_at,
  version: row.version,
});

/** The register in SQL. */
export const sqlParticipantStore = (db: Kysely<ParticipantTables>): ParticipantStore => ({
  find: async (registry, did) => {
    const row = await db
      .selectFrom('participant')
      .selectAll()
      .where('registry', '=', registry)
      .where('did', '=', did)
      .executeTakeFirst();
    return row && participantOf(row);
  },

  save: async (participant, expected) => {
    const row = rowOf(participant);
    if (expected === null) {
      const made = await db
        .insertInto('participant')
        .values(row)
        .onConflict((conflict) => conflict.doNothing())
        .executeTakeFirst();
      return made.numInsertedOrUpdatedRows === 1n ? 'saved' : 'conflict';
    }
    const changed = await db
      .updateTable('participant')
      .set(row)
      .where('registry', '=', row.registry)
      .where('did', '=', row.did)
      .where('version', '=', expected)
      .executeTakeFirst();
    return changed.numUpdatedRows === 1n ? 'saved' : 'conflict';
  },

  page: async (registry, { after, limit, state }) => {
    const all = db.selectFrom('participant').selectAll().where('registry', '=', registry).where('did', '>', after);
    const some = state === undefined ? all : all.where('state', '=', state);
    return (await some.orderBy('did').limit(limit).execute()).map(participantOf);
  },
});
