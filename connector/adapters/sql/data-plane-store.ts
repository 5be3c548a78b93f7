import type { Kysely } from 'kysely';
import type { Did, ParticipantId } from '../../../contracts/ids.ts';
import type { Migration } from '../../../kernel/sql/migrate.ts';
import type { Application, ApplicationStore, Grant, GrantStore, IssuedToken } from '../../data-plane/ports.ts';

/** Open transfers, the tokens given for them with their evidence, and own applications, in one database. */

export interface DataPlaneTables {
  data_grant: {
    participant: string;
    transfer: string;
    agreement_id: string;
    consumer: string;
    secret_hash: string;
    expires_at: number | null;
    opened_at: number;
  };
  access_token: {
    participant: string;
    jti: string;
    transfer: string;
    grant_hash: string;
    agreement: string;
    application: string;
    purpose: string;
    run: string;
    jkt: string;
    facts: string;
    si_token: string;
    proof: string;
    issued_at: number;
    expires_at: number;
  };
  application: { participant: string; id: string; key_hash: string; created_at: number };
}

export const dataPlaneMigrations: readonly Migration<DataPlaneTables>[] = [
  {
    name: '2026-11-26-data-plane',
    up: async ({ schema }) => {
      await schema
        .createTable('data_grant')
        .addColumn('participant', 'text', (column) => column.notNull())
        .addColumn('transfer', 'text', (column) => column.notNull())
        .addColumn('agreement_id', 'text', (column) => column.notNull())
        .addColumn('consumer', 'text', (column) => column.notNull())
        .addColumn('secret_hash', 'text', (column) => column.notNull().unique())
        .addColumn('expires_at', 'bigint')
        .addColumn('opened_at', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('data_grant_pk', ['participant', 'transfer'])
        .execute();
      await schema
        .createTable('access_token')
        .addColumn('participant', 'text', (column) => column.notNull())
        .addColumn('jti', 'text', (column) => column.notNull())
        .addColumn('transfer', 'text', (column) => column.notNull())
        .addColumn('grant_hash', 'text', (column) => column.notNull())
        .addColumn('agreement', 'text', (column) => column.notNull())
        .addColumn('application', 'text', (column) => column.notNull())
        .addColumn('purpose', 'text', (column) => column.notNull())
        .addColumn('run', 'text', (column) => column.notNull())
        .addColumn('jkt', 'text', (column) => column.notNull())
        .addColumn('facts', 'text', (column) => column.notNull())
        .addColumn('si_token', 'text', (column) => column.notNull())
        .addColumn('proof', 'text', (column) => column.notNull())
        .addColumn('issued_at', 'bigint', (column) => column.notNull())
        .addColumn('expires_at', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('access_token_pk', ['participant', 'jti'])
        .execute();
      await schema
        .createTable('application')
        .addColumn('participant', 'text', (column) => column.notNull())
        .addColumn('id', 'text', (column) => column.notNull())
        .addColumn('key_hash', 'text', (column) => column.notNull().unique())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('application_pk', ['participant', 'id'])
        .execute();
    },
  },
  {
    name: '2026-11-26-grants-of-agreement',
    up: async ({ schema }) => {
      await schema
        .createIndex('data_grant_agreement')
        .on('data_grant')
        .columns(['participant', 'agreement_id'])
        .execute();
    },
  },
];

type Db = Kysely<DataPlaneTables>;

const grantRow = (grant: Grant): DataPlaneTables['data_grant'] => ({
  participant: grant.participant,
  transfer: grant.transfer,
  agreement_id: grant.agreementId,
  consumer: grant.consumer,
  secret_hash: grant.secretHash,
  expires_at: grant.expiresAt,
  opened_at: grant.openedAt,
});

const grantOf = (row: DataPlaneTables['data_grant']): Grant => ({
  participant: row.participant as ParticipantId,
  transfer: row.transfer,
  agreementId: row.agreement_id,
  consumer: row.consumer as Did,
  secretHash: row.secret_hash,
  expiresAt: row.expires_at === null ? null : Number(row.expires_at),
  openedAt: Number(row.opened_at),
});

const tokenRow = (token: IssuedToken): DataPlaneTables['access_token'] => ({
  participant: token.participant,
  jti: token.jti,
  transfer: token.transfer,
  grant_hash: token.grant,
  agreement: token.agreement,
  application: token.application,
  purpose: token.purpose,
  run: token.run,
  jkt: token.jkt,
  facts: JSON.stringify(token.facts),
  si_token: token.siToken,
  proof: token.proof,
  issued_at: token.issuedAt,
  expires_at: token.expiresAt,
});

const tokenOf = (row: DataPlaneTables['access_token']): IssuedToken => ({
  participant: row.participant as ParticipantId,
  jti: row.jti,
  transfer: row.transfer,
  grant: row.grant_hash,
  agreement: row.agreement,
  application: row.application,
  purpose: row.purpose,
  run: row.run,
  jkt: row.jkt,
  facts: JSON.parse(row.facts),
  siToken: row.si_token,
  proof: row.proof,
  issuedAt: Number(row.issued_at),
  expiresAt: Number(row.expires_at),
});

/** Grants and tokens of all participants of a deployment over SQL. */
export const createSqlGrantStore = (db: Db): GrantStore => ({
  put: async (grant) => {
    const { participant: _participant, transfer: _transfer, ...changes } = grantRow(grant);
    await db
      .insertInto('data_grant')
      .values(grantRow(grant))
      .onConflict((conflict) => conflict.columns(['participant', 'transfer']).doUpdateSet(changes))
      .execute();
  },
  remove: async (participant, transfer) => {
    await db.deleteFrom('data_grant').where('participant', '=', participant).where('transfer', '=', transfer).execute();
  },
  find: async (participant, transfer) => {
    const query = db.selectFrom('data_grant').selectAll().where('participant', '=', participant);
    const row = await query.where('transfer', '=', transfer).executeTakeFirst();
    return row === undefined ? undefined : grantOf(row);
  },
  ofAgreement: async (participant, agreementId) => {
    const query = db.selectFrom('data_grant').selectAll().where('participant', '=', participant);
    const rows = await query.where('agreement_id', '=', agreementId).orderBy('transfer').execute();
    return rows.map(grantOf);
  },
  all: async () => {
    const rows = await db.selectFrom('data_grant').selectAll().orderBy('participant').orderBy('transfer').execute();
    return rows.map(grantOf);
  },
  putToken: async (token) => {
    await db.insertInto('access_token').values(tokenRow(token)).execute();
  },
  findToken: async (participant, jti) => {
    const query = db.selectFrom('access_token').selectAll().where('participant', '=', participant);
    const row = await query.where('jti', '=', jti).executeTakeFirst();
    return row === undefined ? undefined : tokenOf(row);
  },
});

/** Own applications of all participants of a deployment over SQL. */
export const createSqlApplicationStore = (db: Db): ApplicationStore => ({
  add: async ({ participant, id, keyHash, createdAt }) => {
    const { numInsertedOrUpdatedRows } = await db
      .insertInto('application')
      .values({ participant, id, key_hash: keyHash, created_at: createdAt })
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    return numInsertedOrUpdatedRows === 1n ? 'saved' : 'conflict';
  },
  remove: async (participant, id) => {
    const query = db.deleteFrom('application').where('participant', '=', participant).where('id', '=', id);
    return (await query.executeTakeFirst()).numDeletedRows === 1n;
  },
  all: async () => {
    const rows = await db.selectFrom('application').selectAll().orderBy('participant').orderBy('id').execute();
    return rows.map(
      (row): Application => ({
        participant: row.participant as ParticipantId,
        id: row.id,
        keyHash: row.key_hash,
        createdAt: Number(row.created_at),
      }),
    );
  },
});
