import type { Kysely } from 'kysely';
import type { Did } from '../../../contracts/ids.ts';
import { canonicalize } from '../../../contracts/json.ts';
import type { Migration } from '../../../kernel/sql/migrate.ts';
import { type OutboxTable, putTask } from '../../../kernel/sql/outbox.ts';
import type { Accreditation, AccreditationStore, KeyEventStore } from '../../accreditation/ports.ts';

export interface AccreditationTables extends OutboxTable {
  accreditation: {
    accreditor: string;
    id: string;
    holder: string;
    application: string;
    purposes: string;
    criteria: string;
    level: string | null;
    decided_at: number;
    valid_until: number;
  };
  own_key_event: { did: string; document: string; event: string };
}

/** Topic of the task that sends an offer. */
export const offerTopic = 'accreditation-offer';

export const accreditationMigrations: readonly Migration<AccreditationTables>[] = [
  {
    name: '2026-11-26-accreditation',
    up: async ({ schema }) => {
      await schema
        .createTable('accreditation')
        .addColumn('accreditor', 'text', (column) => column.notNull())
        .addColumn('id', 'text', (column) => column.notNull())
        .addColumn('holder', 'text', (column) => column.notNull())
        .addColumn('application', 'text', (column) => column.notNull())
        .addColumn('purposes', 'text', (column) => column.notNull())
        .addColumn('criteria', 'text', (column) => column.notNull())
        .addColumn('level', 'text')
        .addColumn('decided_at', 'bigint', (column) => column.notNull())
        .addColumn('valid_until', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('accreditation_pk', ['accreditor', 'id'])
        .execute();
      await schema.createIndex('accreditation_holder').on('accreditation').columns(['accreditor', 'holder']).execute();
      await schema
        .createTable('own_key_event')
        .addColumn('did', 'text', (column) => column.notNull())
        .addColumn('document', 'text', (column) => column.notNull())
        .addColumn('event', 'text', (column) => column.notNull())
        .addPrimaryKeyConstraint('own_key_event_pk', ['did', 'document'])
        .execute();
    },
  },
];

type Row = AccreditationTables['accreditation'];
type Db = Kysely<AccreditationTables>;

const rowOf = (one: Accreditation): Row => ({
  accreditor: one.accreditor,
  id: one.id,
  holder: one.holder,
  application: canonicalize(one.application),
  purposes: JSON.stringify(one.purposes),
  criteria: canonicalize(one.criteria),
  level: one.level,
  decided_at: one.decidedAt,
  valid_until: one.validUntil,
});

const accreditationOf = (row: Row): Accreditation => ({
  accreditor: row.accreditor as Did,
  id: row.id,
  holder: row.holder as Did,
  application: JSON.parse(row.application),
  purposes: JSON.parse(row.purposes),
  criteria: JSON.parse(row.criteria),
  level: row.level,
  decidedAt: row.decided_at,
  validUntil: row.valid_until,
});

/** Whether two decisions say the same for the same time; the moment of deciding may differ. */
const isSame = (a: Row, b: Row): boolean =>
  a.holder === b.holder &&
  a.application === b.application &&
  a.purposes === b.purposes &&
  a.criteria === b.criteria &&
  a.level === b.level &&
  a.valid_until - a.decided_at === b.valid_until - b.decided_at;

const rowsOf = (db: Db, accreditor: Did) =>
  db.selectFrom('accreditation').selectAll().where('accreditor', '=', accreditor);

/** An accreditor's decisions in SQL. */
export const sqlAccreditationStore = (db: Db): AccreditationStore => ({
  decide: (accreditation) =>
    db.transaction().execute(async (tx) => {
      const { accreditor, id, decidedAt } = accreditation;
      const row = rowOf(accreditation);
      const known = await rowsOf(tx, accreditor).where('id', '=', id).executeTakeFirst();
      if (known !== undefined) return isSame(known, row) ? 'known' : 'conflict';
      await tx.insertInto('accreditation').values(row).execute();
      await putTask(tx, { id, topic: offerTopic, participant: accreditor, subject: id }, decidedAt);
      return 'saved';
    }),

  find: async (accreditor, id) => {
    const row = await rowsOf(db, accreditor).where('id', '=', id).executeTakeFirst();
    return row && accreditationOf(row);
  },

  ofHolder: async (accreditor, holder) =>
    (await rowsOf(db, accreditor).where('holder', '=', holder).orderBy('id').execute()).map(accreditationOf),

  page: async (accreditor, { after, limit }) =>
    (await rowsOf(db, accreditor).where('id', '>', after).orderBy('id').limit(limit).execute()).map(accreditationOf),
});

/** Key events of ours, each kept before it was sent. */
export const sqlKeyEventStore = (db: Db): KeyEventStore => ({
  keepFirst: async (did, document, event) => {
    await db
      .insertInto('own_key_event')
      .values({ did, document, event: JSON.stringify(event) })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    const kept = await db
      .selectFrom('own_key_event')
      .select('event')
      .where('did', '=', did)
      .where('document', '=', document)
      .executeTakeFirstOrThrow();
    return JSON.parse(kept.event);
  },
});
