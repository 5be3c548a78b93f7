import type { Assurance } from '../../../contracts/ledger/agreement.ts';
import type { Migration } from '../../../kernel/sql/migrate.ts';
import type { MeterRole } from '../../metering/ports.ts';
import { upgradeToLeasedWindows } from './window-tables.ts';

/** What metering keeps in rows: accounts, drafts, statements, the records of complete ones, evidence of disputes. */

interface KeyColumns {
  participant: string;
  role: MeterRole;
  agreement: string;
}

export interface MeteringTables {
  usage_account: KeyColumns & {
    agreement_id: string;
    provider: string;
    consumer: string;
    assurance: Assurance;
    price: string;
    plan: string | null;
    started_at: number;
    ended: number;
    closed: number;
    conceded: string;
    settled_before: number;
    /** The counterparty's DID, and the currency of the plan or ''. */
    peer: string;
    currency: string;
    /** 1: something was conceded and not written off. */
    gave_up: number;
    /** Accesses that were handed over so far, and their bytes. */
    opened: number;
    sent: number;
  };
  /** `role`: the name of the journal, which is that of its role where there is one. */
  usage_mark: { role: string; segment: number };
  unstated_access: KeyColumns & {
    request: string;
    part: number;
    journal: string;
    open_place: number;
    place: number;
    closed_at: number;
    /** 1: counts as stated, though nobody knows in which statement. */
    settled: number;
    opened: string;
    closed: string;
    peer: string;
    load_requests: number;
    load_bytes: number;
    load_cost: number;
  };
  /** The newest line of each journal. */
  window_line: { journal: string; line: string };
  window_block: KeyColumns & {
    journal: string;
    peer: string;
    requests: number;
    bytes: number;
    cost: number;
    counted: number;
  };
  /** One row: the first place that nobody has. */
  window_place: { name: string; next: number };
  statement_draft: KeyColumns & { seq: number; digest: string; body: string };
  held_record: KeyColumns & {
    request: string;
    part: number;
    claim: string | null;
    holds: number;
    retry_at: number;
    written_off: number;
  };
  statement: KeyColumns & {
    seq: number;
    digest: string;
    payload: string;
    sums: string;
    secret: string | null;
    leaf_key: string | null;
    artifact: string | null;
    state: 'signed' | 'complete';
    record_rows: string | null;
  };
  usage_record: KeyColumns & {
    seq: number;
    n: number;
    request: string;
    part: number;
    at: string;
    bytes: number;
    digest: string;
    outcome: string;
    status: string;
    units: string;
    /** The same as numbers, for sums. */
    charged_requests: number;
    charged_bytes: number;
    charged_items: number;
    ext: string | null;
    leaf: string;
    application: string;
    purpose: string;
    facts: string;
    place: number;
  };
  usage_dispute: KeyColumns & { kind: 'refusal' | 'equivocation'; subject: string; at: number; evidence: string };
}

type Schema = Parameters<Migration<MeteringTables>['up']>[0]['schema'];

const keyed = (schema: Schema, table: string) =>
  schema
    .createTable(table)
    .addColumn('participant', 'text', (column) => column.notNull())
    .addColumn('role', 'text', (column) => column.notNull())
    .addColumn('agreement', 'text', (column) => column.notNull());

const createAccounts = async (schema: Schema): Promise<void> => {
  await keyed(schema, 'usage_account')
    .addColumn('agreement_id', 'text', (column) => column.notNull())
    .addColumn('provider', 'text', (column) => column.notNull())
    .addColumn('consumer', 'text', (column) => column.notNull())
    .addColumn('assurance', 'text', (column) => column.notNull())
    .addColumn('price', 'text', (column) => column.notNull())
    .addColumn('plan', 'text')
    .addColumn('started_at', 'bigint', (column) => column.notNull())
    .addColumn('ended', 'integer', (column) => column.notNull())
    .addColumn('closed', 'integer', (column) => column.notNull())
    .addColumn('conceded', 'text', (column) => column.notNull())
    .addColumn('settled_before', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('usage_account_pk', ['participant', 'role', 'agreement'])
    .execute();
  await schema
    .createTable('usage_mark')
    .addColumn('role', 'text', (column) => column.primaryKey())
    .addColumn('segment', 'bigint', (column) => column.notNull())
    .execute();
};

const createStatements = async (schema: Schema): Promise<void> => {
  await keyed(schema, 'statement_draft')
    .addColumn('seq', 'bigint', (column) => column.notNull())
    .addColumn('digest', 'text', (column) => column.notNull())
    .addColumn('body', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('statement_draft_pk', ['participant', 'role', 'agreement', 'seq', 'digest'])
    .execute();
  await keyed(schema, 'held_record')
    .addColumn('request', 'text', (column) => column.notNull())
    .addColumn('part', 'integer', (column) => column.notNull())
    .addColumn('claim', 'text')
    .addColumn('holds', 'integer', (column) => column.notNull())
    .addColumn('retry_at', 'bigint', (column) => column.notNull())
    .addColumn('written_off', 'integer', (column) => column.notNull())
    .addPrimaryKeyConstraint('held_record_pk', ['participant', 'role', 'agreement', 'request', 'part'])
    .execute();
  await keyed(schema, 'statement')
    .addColumn('seq', 'bigint', (column) => column.notNull())
    .addColumn('digest', 'text', (column) => column.notNull())
    .addColumn('payload', 'text', (column) => column.notNull())
    .addColumn('sums', 'text', (column) => column.notNull())
    .addColumn('secret', 'text')
    .addColumn('leaf_key', 'text')
    .addColumn('artifact', 'text')
    .addColumn('state', 'text', (column) => column.notNull())
    .addColumn('record_rows', 'text')
    .addPrimaryKeyConstraint('statement_pk', ['participant', 'role', 'agreement', 'seq'])
    .execute();
};

const createRecords = async (schema: Schema): Promise<void> => {
  await keyed(schema, 'usage_record')
    .addColumn('seq', 'bigint', (column) => column.notNull())
    .addColumn('n', 'bigint', (column) => column.notNull())
    .addColumn('request', 'text', (column) => column.notNull())
    .addColumn('part', 'integer', (column) => column.notNull())
    .addColumn('at', 'text', (column) => column.notNull())
    .addColumn('bytes', 'bigint', (column) => column.notNull())
    .addColumn('digest', 'text', (column) => column.notNull())
    .addColumn('outcome', 'text', (column) => column.notNull())
    .addColumn('status', 'text', (column) => column.notNull())
    .addColumn('units', 'text', (column) => column.notNull())
    .addColumn('charged_requests', 'integer', (column) => column.notNull())
    .addColumn('charged_bytes', 'bigint', (column) => column.notNull())
    .addColumn('charged_items', 'bigint', (column) => column.notNull())
    .addColumn('ext', 'text')
    .addColumn('leaf', 'text', (column) => column.notNull())
    .addColumn('application', 'text', (column) => column.notNull())
    .addColumn('purpose', 'text', (column) => column.notNull())
    .addColumn('facts', 'text', (column) => column.notNull())
    .addColumn('place', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('usage_record_pk', ['participant', 'role', 'agreement', 'n'])
    .addUniqueConstraint('usage_record_once', ['participant', 'role', 'agreement', 'request', 'part'])
    .execute();
  await schema
    .createIndex('usage_record_place')
    .on('usage_record')
    .columns(['participant', 'role', 'agreement', 'place'])
    .execute();
};

export const meteringMigrations: readonly Migration<MeteringTables>[] = [
  {
    name: '2026-11-26-metering',
    up: async ({ schema }) => {
      await createAccounts(schema);
      await createStatements(schema);
      await createRecords(schema);
      await keyed(schema, 'usage_dispute')
        .addColumn('kind', 'text', (column) => column.notNull())
        .addColumn('subject', 'text', (column) => column.notNull())
        .addColumn('at', 'bigint', (column) => column.notNull())
        .addColumn('evidence', 'text', (column) => column.notNull())
        .addPrimaryKeyConstraint('usage_dispute_pk', ['participant', 'role', 'agreement', 'kind', 'subject'])
        .execute();
    },
  },
  {
    name: '2026-11-26-unstated-accesses',
    up: async ({ schema }) => {
      await keyed(schema, 'unstated_access')
        .addColumn('request', 'text', (column) => column.notNull())
        .addColumn('part', 'integer', (column) => column.notNull())
        .addColumn('journal', 'text', (column) => column.notNull())
        .addColumn('open_place', 'bigint', (column) => column.notNull())
        .addColumn('place', 'bigint', (column) => column.notNull())
        .addColumn('closed_at', 'bigint', (column) => column.notNull())
        .addColumn('settled', 'integer', (column) => column.notNull())
        .addColumn('opened', 'text', (column) => column.notNull())
        .addColumn('closed', 'text', (column) => column.notNull())
        .addPrimaryKeyConstraint('unstated_access_pk', ['participant', 'role', 'agreement', 'request', 'part'])
        .execute();
      await schema.createIndex('unstated_access_place').on('unstated_access').column('place').execute();
    },
  },
  {
    name: '2026-11-26-accounts-by-id',
    up: async ({ schema }) => {
      await schema
        .createIndex('usage_account_id')
        .on('usage_account')
        .columns(['participant', 'agreement_id'])
        .execute();
    },
  },
  { name: '2026-11-26-leased-windows', up: upgradeToLeasedWindows },
];
