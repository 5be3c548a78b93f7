import type { Kysely } from 'kysely';
import type { Did } from '../../../contracts/ids.ts';
import { jwsText } from '../../../contracts/ledger/jws.ts';
import type { DatedChange } from '../../../contracts/standing.ts';
import type { Migration } from '../../../kernel/sql/migrate.ts';
import type { Followed, Notice, StatusStore, StreamName } from '../../status/ports.ts';

export interface StatusTables {
  status_followed: {
    participant: string;
    broker: string;
    n: number | null;
    word_at: number;
    heard_at: number;
  };
  status_notice: {
    participant: string;
    broker: string;
    issuer: string;
    subject: string;
    /** The type of a held notice, empty for one that was verified: a held word never takes the place of another. */
    held: string;
    type: DatedChange['type'];
    at: number;
    effective_at: number;
    evidence: string | null;
  };
}

export const statusMigrations: readonly Migration<StatusTables>[] = [
  {
    name: '2026-11-26-status',
    up: async ({ schema }) => {
      await schema
        .createTable('status_followed')
        .addColumn('participant', 'text', (column) => column.notNull())
        .addColumn('broker', 'text', (column) => column.notNull())
        .addColumn('n', 'bigint')
        .addColumn('word_at', 'bigint', (column) => column.notNull())
        .addColumn('heard_at', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('status_followed_pk', ['participant', 'broker'])
        .execute();
      await schema
        .createTable('status_notice')
        .addColumn('participant', 'text', (column) => column.notNull())
        .addColumn('broker', 'text', (column) => column.notNull())
        .addColumn('issuer', 'text', (column) => column.notNull())
        .addColumn('subject', 'text', (column) => column.notNull())
        .addColumn('held', 'text', (column) => column.notNull())
        .addColumn('type', 'text', (column) => column.notNull())
        .addColumn('at', 'bigint', (column) => column.notNull())
        .addColumn('effective_at', 'bigint', (column) => column.notNull())
        .addColumn('evidence', 'text')
        .addPrimaryKeyConstraint('status_notice_pk', ['participant', 'broker', 'issuer', 'subject', 'held'])
        .execute();
    },
  },
];

type Db = Kysely<StatusTables>;

const noticeOf = (row: StatusTables['status_notice']): Notice => ({
  issuer: row.issuer as Did,
  subject: row.subject,
  type: row.type,
  at: Number(row.at),
  effectiveAt: Number(row.effective_at),
  evidence: row.evidence === null ? null : JSON.parse(row.evidence),
  isHeld: row.held !== '',
});

const keyOf = ({ participant, broker }: StreamName, { issuer, subject, isHeld, type }: Notice) => ({
  participant,
  broker,
  issuer,
  subject,
  held: isHeld ? type : '',
});

const putNotice = async (db: Db, name: StreamName, notice: Notice): Promise<void> => {
  const values = {
    type: notice.type,
    at: notice.at,
    effective_at: notice.effectiveAt,
    evidence: notice.evidence === null ? null : jwsText(notice.evidence),
  };
  await db
    .insertInto('status_notice')
    .values({ ...keyOf(name, notice), ...values })
    .onConflict((conflict) =>
      conflict.columns(['participant', 'broker', 'issuer', 'subject', 'held']).doUpdateSet(values),
    )
    .execute();
};

const removeNotice = async (db: Db, name: StreamName, notice: Notice): Promise<void> => {
  const key = keyOf(name, notice);
  await db
    .deleteFrom('status_notice')
    .where('participant', '=', key.participant)
    .where('broker', '=', key.broker)
    .where('issuer', '=', key.issuer)
    .where('subject', '=', key.subject)
    .where('held', '=', key.held)
    .execute();
};

const putFollowed = async (db: Db, { participant, broker }: StreamName, followed: Followed): Promise<void> => {
  const values = { n: followed.n, word_at: followed.wordAt, heard_at: followed.heardAt };
  await db
    .insertInto('status_followed')
    .values({ participant, broker, ...values })
    .onConflict((conflict) => conflict.columns(['participant', 'broker']).doUpdateSet(values))
    .execute();
};

/** What is known of standing, over SQL. */
export const createSqlStatusStore = (db: Db): StatusStore => ({
  load: ({ participant, broker }) =>
    db.transaction().execute(async (transaction) => {
      const row = await transaction
        .selectFrom('status_followed')
        .selectAll()
        .where('participant', '=', participant)
        .where('broker', '=', broker)
        .executeTakeFirst();
      if (row === undefined) return undefined;
      const notices = await transaction
        .selectFrom('status_notice')
        .selectAll()
        .where('participant', '=', participant)
        .where('broker', '=', broker)
        .orderBy('subject')
        .execute();
      const followed = {
        n: row.n === null ? null : Number(row.n),
        wordAt: Number(row.word_at),
        heardAt: Number(row.heard_at),
      };
      return { followed, notices: notices.map(noticeOf) };
    }),
  save: (name, { followed, put, remove }) =>
    db.transaction().execute(async (transaction) => {
      for (const notice of remove) await removeNotice(transaction, name, notice);
      for (const notice of put) await putNotice(transaction, name, notice);
      await putFollowed(transaction, name, followed);
    }),
});
