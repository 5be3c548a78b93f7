import type { Kysely } from 'kysely';
import type { LeaseTable } from '../../../kernel/sql/leases.ts';

/** The tables of the log. Portable columns only: text, integer milliseconds, JSON as text. No entry is ever changed. */
export interface LogTables extends LeaseTable {
  log_head: { origin: string; size: number; root: string; stack: string };
  log_entry: { origin: string; idx: number; leaf: string; entry: string; at: number };
  log_artifact: { origin: string; idx: number; digest: string; agreement_digest: string | null; body: string };
  log_public: { origin: string; idx: number; kind: string; digest: string; body: string; at: number };
  log_agreement: {
    origin: string;
    agreement_digest: string;
    idx: number;
    agreement: string;
    provider: string;
    provider_pid: string;
    consumer: string;
    assurance: string;
    price: string;
    agreed_at: number;
  };
  log_agreement_event: {
    origin: string;
    idx: number;
    agreement_digest: string;
    event: string;
    signers: string;
  };
  log_statement: {
    origin: string;
    agreement_digest: string;
    /** The number padded to 19 digits, so that text sorts as numbers do. */
    seq: string;
    idx: number;
    digest: string;
    last: string;
    until: string;
    is_final: number;
    sums: string;
  };
  log_join_code: { origin: string; hash: string; expires: number; used_by_idx: number | null };
  log_equivocation: { origin: string; agreement_digest: string; seq: string; against: string; proof: string };
  /** What is served as the newest checkpoint. */
  log_checkpoint: { origin: string; size: number; root: string; note: string };
  /** What waits for the process that writes, and what it answered. */
  log_handed: { origin: string; id: string; candidate: string };
  log_answer: { origin: string; id: string; outcome: string; at: number };
  /** Under which name a host founded its log; decided once, whoever starts first. */
  log_origin: { host: string; origin: string };
}

/** Forward-only migrations of the component `ledger`. */
export const logMigrations = [
  {
    name: '2026-11-24-log',
    up: async (db: Kysely<LogTables>): Promise<void> => {
      const { schema } = db;
      await schema
        .createTable('log_head')
        .addColumn('origin', 'text', (column) => column.primaryKey())
        .addColumn('size', 'bigint', (column) => column.notNull())
        .addColumn('root', 'text', (column) => column.notNull())
        .addColumn('stack', 'text', (column) => column.notNull())
        .execute();
      await schema
        .createTable('log_entry')
        .addColumn('origin', 'text', (column) => column.notNull())
        .addColumn('idx', 'bigint', (column) => column.notNull())
        .addColumn('leaf', 'text', (column) => column.notNull())
        .addColumn('entry', 'text', (column) => column.notNull())
        .addColumn('at', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('log_entry_pk', ['origin', 'idx'])
        .addUniqueConstraint('log_entry_leaf', ['origin', 'leaf'])
        .execute();
      await schema
        .createTable('log_artifact')
        .addColumn('origin', 'text', (column) => column.notNull())
        .addColumn('idx', 'bigint', (column) => column.notNull())
        .addColumn('digest', 'text', (column) => column.notNull())
        .addColumn('agreement_digest', 'text')
        .addColumn('body', 'text', (column) => column.notNull())
        .addPrimaryKeyConstraint('log_artifact_pk', ['origin', 'idx'])
        .execute();
      await schema
        .createTable('log_public')
        .addColumn('origin', 'text', (column) => column.notNull())
        .addColumn('idx', 'bigint', (column) => column.notNull())
        .addColumn('kind', 'text', (column) => column.notNull())
        .addColumn('digest', 'text', (column) => column.notNull())
        .addColumn('body', 'text', (column) => column.notNull())
        .addColumn('at', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('log_public_pk', ['origin', 'idx'])
        .execute();
      await schema.createIndex('log_public_digest').on('log_public').columns(['origin', 'digest']).execute();
      await createSubjectTables(db);
    },
  },
  {
    // In order of the log: whoever tells members what it says goes on where it was.
    name: '2026-11-26-log-order',
    up: async ({ schema }: Kysely<LogTables>): Promise<void> => {
      await schema.createIndex('log_event_order').on('log_agreement_event').columns(['origin', 'idx']).execute();
    },
  },
  {
    name: '2026-11-26-log-processes',
    up: async ({ schema }: Kysely<LogTables>): Promise<void> => {
      await schema
        .createTable('log_checkpoint')
        .addColumn('origin', 'text', (column) => column.primaryKey())
        .addColumn('size', 'bigint', (column) => column.notNull())
        .addColumn('root', 'text', (column) => column.notNull())
        .addColumn('note', 'text', (column) => column.notNull())
        .execute();
      await schema
        .createTable('log_handed')
        .addColumn('origin', 'text', (column) => column.notNull())
        .addColumn('id', 'text', (column) => column.notNull())
        .addColumn('candidate', 'text', (column) => column.notNull())
        .addPrimaryKeyConstraint('log_handed_pk', ['origin', 'id'])
        .execute();
      await schema
        .createTable('log_answer')
        .addColumn('origin', 'text', (column) => column.notNull())
        .addColumn('id', 'text', (column) => column.notNull())
        .addColumn('outcome', 'text', (column) => column.notNull())
        .addColumn('at', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('log_answer_pk', ['origin', 'id'])
        .execute();
      await schema
        .createTable('log_origin')
        .addColumn('host', 'text', (column) => column.primaryKey())
        .addColumn('origin', 'text', (column) => column.notNull())
        .execute();
    },
  },
] as const;

const createSubjectTables = async ({ schema }: Kysely<LogTables>): Promise<void> => {
  await schema
    .createTable('log_agreement')
    .addColumn('origin', 'text', (column) => column.notNull())
    .addColumn('agreement_digest', 'text', (column) => column.notNull())
    .addColumn('idx', 'bigint', (column) => column.notNull())
    .addColumn('agreement', 'text', (column) => column.notNull())
    .addColumn('provider', 'text', (column) => column.notNull())
    .addColumn('provider_pid', 'text', (column) => column.notNull())
    .addColumn('consumer', 'text', (column) => column.notNull())
    .addColumn('assurance', 'text', (column) => column.notNull())
    .addColumn('price', 'text', (column) => column.notNull())
    .addColumn('agreed_at', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('log_agreement_pk', ['origin', 'agreement_digest'])
    .addUniqueConstraint('log_agreement_pid', ['origin', 'provider', 'provider_pid'])
    .execute();
  await schema
    .createTable('log_agreement_event')
    .addColumn('origin', 'text', (column) => column.notNull())
    .addColumn('idx', 'bigint', (column) => column.notNull())
    .addColumn('agreement_digest', 'text', (column) => column.notNull())
    .addColumn('event', 'text', (column) => column.notNull())
    .addColumn('signers', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('log_agreement_event_pk', ['origin', 'agreement_digest', 'event', 'signers'])
    .execute();
  await schema
    .createTable('log_statement')
    .addColumn('origin', 'text', (column) => column.notNull())
    .addColumn('agreement_digest', 'text', (column) => column.notNull())
    .addColumn('seq', 'text', (column) => column.notNull())
    .addColumn('idx', 'bigint', (column) => column.notNull())
    .addColumn('digest', 'text', (column) => column.notNull())
    .addColumn('last', 'text', (column) => column.notNull())
    .addColumn('until', 'text', (column) => column.notNull())
    .addColumn('is_final', 'integer', (column) => column.notNull())
    .addColumn('sums', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('log_statement_pk', ['origin', 'agreement_digest', 'seq'])
    .execute();
  await schema
    .createTable('log_join_code')
    .addColumn('origin', 'text', (column) => column.notNull())
    .addColumn('hash', 'text', (column) => column.notNull())
    .addColumn('expires', 'bigint', (column) => column.notNull())
    .addColumn('used_by_idx', 'bigint')
    .addPrimaryKeyConstraint('log_join_code_pk', ['origin', 'hash'])
    .execute();
  await schema
    .createTable('log_equivocation')
    .addColumn('origin', 'text', (column) => column.notNull())
    .addColumn('agreement_digest', 'text', (column) => column.notNull())
    .addColumn('seq', 'text', (column) => column.notNull())
    .addColumn('against', 'text', (column) => column.notNull())
    .addColumn('proof', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('log_equivocation_pk', ['origin', 'agreement_digest', 'seq', 'against'])
    .execute();
};
