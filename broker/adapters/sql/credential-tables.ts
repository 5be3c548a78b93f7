import type { Kysely } from 'kysely';
import type { Migration } from '../../../kernel/sql/migrate.ts';
import type { OutboxTable } from '../../../kernel/sql/outbox.ts';

/** What an issuer keeps. Credentials and notices are never removed. */
export interface CredentialTables extends OutboxTable {
  issuance_request: {
    issuer: string;
    id: string;
    holder: string;
    holder_pid: string;
    objects: string;
    token: string | null;
    state: string;
    decision: string | null;
    created_at: number;
    settled_at: number | null;
  };
  credential: {
    issuer: string;
    id: string;
    grant_key: string;
    holder: string;
    type: string;
    body: string;
    jwt: string;
    data_integrity: string;
    revocation_list: number;
    revocation_index: number;
    suspension_list: number;
    suspension_index: number;
    issued_at: number;
    valid_until: number;
    standing: string;
    standing_at: number;
    version: number;
  };
  status_list: { issuer: string; purpose: string; list: number; used: number; version: number };
  standing_notice: { issuer: string; subject: string; version: number; jws: string; published: number };
}

const createRequests = async ({ schema }: Kysely<CredentialTables>): Promise<void> => {
  await schema
    .createTable('issuance_request')
    .addColumn('issuer', 'text', (column) => column.notNull())
    .addColumn('id', 'text', (column) => column.notNull())
    .addColumn('holder', 'text', (column) => column.notNull())
    .addColumn('holder_pid', 'text', (column) => column.notNull())
    .addColumn('objects', 'text', (column) => column.notNull())
    .addColumn('token', 'text')
    .addColumn('state', 'text', (column) => column.notNull())
    .addColumn('decision', 'text')
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('settled_at', 'bigint')
    .addPrimaryKeyConstraint('issuance_request_pk', ['issuer', 'id'])
    .execute();
  await schema
    .createIndex('issuance_request_holder')
    .on('issuance_request')
    .columns(['issuer', 'holder', 'state'])
    .execute();
  await schema
    .createIndex('issuance_request_settled')
    .on('issuance_request')
    .columns(['issuer', 'settled_at'])
    .execute();
};

const createCredentials = async ({ schema }: Kysely<CredentialTables>): Promise<void> => {
  await schema
    .createTable('credential')
    .addColumn('issuer', 'text', (column) => column.notNull())
    .addColumn('id', 'text', (column) => column.notNull())
    .addColumn('grant_key', 'text', (column) => column.notNull())
    .addColumn('holder', 'text', (column) => column.notNull())
    .addColumn('type', 'text', (column) => column.notNull())
    .addColumn('body', 'text', (column) => column.notNull())
    .addColumn('jwt', 'text', (column) => column.notNull())
    .addColumn('data_integrity', 'text', (column) => column.notNull())
    .addColumn('revocation_list', 'integer', (column) => column.notNull())
    .addColumn('revocation_index', 'integer', (column) => column.notNull())
    .addColumn('suspension_list', 'integer', (column) => column.notNull())
    .addColumn('suspension_index', 'integer', (column) => column.notNull())
    .addColumn('issued_at', 'bigint', (column) => column.notNull())
    .addColumn('valid_until', 'bigint', (column) => column.notNull())
    .addColumn('standing', 'text', (column) => column.notNull())
    .addColumn('standing_at', 'bigint', (column) => column.notNull())
    .addColumn('version', 'integer', (column) => column.notNull())
    .addPrimaryKeyConstraint('credential_pk', ['issuer', 'id'])
    .addUniqueConstraint('credential_revocation', ['issuer', 'revocation_list', 'revocation_index'])
    .addUniqueConstraint('credential_suspension', ['issuer', 'suspension_list', 'suspension_index'])
    .execute();
  await schema.createIndex('credential_holder').on('credential').columns(['issuer', 'holder', 'grant_key']).execute();
};

const createLists = async ({ schema }: Kysely<CredentialTables>): Promise<void> => {
  await schema
    .createTable('status_list')
    .addColumn('issuer', 'text', (column) => column.notNull())
    .addColumn('purpose', 'text', (column) => column.notNull())
    .addColumn('list', 'integer', (column) => column.notNull())
    .addColumn('used', 'integer', (column) => column.notNull())
    .addColumn('version', 'integer', (column) => column.notNull())
    .addPrimaryKeyConstraint('status_list_pk', ['issuer', 'purpose', 'list'])
    .execute();
  await schema
    .createTable('standing_notice')
    .addColumn('issuer', 'text', (column) => column.notNull())
    .addColumn('subject', 'text', (column) => column.notNull())
    .addColumn('version', 'integer', (column) => column.notNull())
    .addColumn('jws', 'text', (column) => column.notNull())
    .addColumn('published', 'integer', (column) => column.notNull())
    .addPrimaryKeyConstraint('standing_notice_pk', ['issuer', 'subject', 'version'])
    .execute();
};

export const credentialMigrations: readonly Migration<CredentialTables>[] = [
  {
    name: '2026-11-26-credentials',
    up: async (db) => {
      await createRequests(db);
      await createCredentials(db);
      await createLists(db);
    },
  },
];
