import { type Kysely, sql } from 'kysely';
import type { PricePlan } from '../../../contracts/ledger/price-plan.ts';
import type { UsageClose } from '../../../contracts/ledger/usage-entry.ts';
import { loadOf, ratesOf } from '../../metering/window.pure.ts';
import type { MeteringTables } from './metering-tables.ts';

/** The step from windows in the memory of one process to windows in rows: what was only counted there is counted here once. */

type Db = Kysely<MeteringTables>;

/** Below every line of a journal, so that what is handed over never stands where such a line does. */
const firstPlace = -(2 ** 52);
const nothingConceded = '{"requests":0,"bytes":0,"cost":0}';

const addColumns = async ({ schema }: Db): Promise<void> => {
  for (const column of ['peer', 'currency'])
    await schema
      .alterTable('usage_account')
      .addColumn(column, 'text', (its) => its.notNull().defaultTo(''))
      .execute();
  for (const column of ['gave_up', 'opened', 'sent'])
    await schema
      .alterTable('usage_account')
      .addColumn(column, 'bigint', (its) => its.notNull().defaultTo(0))
      .execute();
  await schema
    .alterTable('unstated_access')
    .addColumn('peer', 'text', (its) => its.notNull().defaultTo(''))
    .execute();
  for (const [column, type] of [
    ['load_requests', 'integer'],
    ['load_bytes', 'bigint'],
    ['load_cost', 'double precision'],
  ] as const)
    await schema
      .alterTable('unstated_access')
      .addColumn(column, type, (its) => its.notNull().defaultTo(0))
      .execute();
};

const createTables = async ({ schema }: Db): Promise<void> => {
  await schema
    .createTable('window_line')
    .addColumn('journal', 'text', (column) => column.primaryKey())
    .addColumn('line', 'text', (column) => column.notNull())
    .execute();
  await schema
    .createTable('window_block')
    .addColumn('participant', 'text', (column) => column.notNull())
    .addColumn('role', 'text', (column) => column.notNull())
    .addColumn('agreement', 'text', (column) => column.notNull())
    .addColumn('journal', 'text', (column) => column.notNull())
    .addColumn('peer', 'text', (column) => column.notNull())
    .addColumn('requests', 'bigint', (column) => column.notNull())
    .addColumn('bytes', 'bigint', (column) => column.notNull())
    .addColumn('cost', 'double precision', (column) => column.notNull())
    .addColumn('counted', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('window_block_pk', ['participant', 'role', 'agreement', 'journal'])
    .execute();
  await schema
    .createTable('window_place')
    .addColumn('name', 'text', (column) => column.primaryKey())
    .addColumn('next', 'bigint', (column) => column.notNull())
    .execute();
};

/** What is asked on the way of a lease is answered out of indexes alone. */
const createIndexes = async ({ schema }: Db): Promise<void> => {
  await schema
    .createIndex('unstated_access_load')
    .on('unstated_access')
    .columns(['participant', 'role', 'peer', 'settled', 'agreement', 'closed_at'])
    .columns(['load_requests', 'load_bytes', 'load_cost'])
    .execute();
  await schema
    .createIndex('unstated_access_journal')
    .on('unstated_access')
    .columns(['participant', 'role', 'agreement', 'journal', 'place'])
    .execute();
  await schema.createIndex('window_block_peer').on('window_block').columns(['participant', 'role', 'peer']).execute();
  await schema.createIndex('window_block_journal').on('window_block').column('journal').execute();
  await schema
    .createIndex('usage_account_gave_up')
    .on('usage_account')
    .columns(['participant', 'role', 'peer', 'gave_up'])
    .execute();
  await schema.createIndex('usage_account_digest').on('usage_account').columns(['role', 'agreement']).execute();
  await schema.createIndex('usage_account_open').on('usage_account').columns(['closed', 'ended']).execute();
};

/** Of one account: what each access that waits exposes, and how much was sent by all of them. */
const fillUnstated = async (
  db: Db,
  key: Pick<MeteringTables['usage_account'], 'participant' | 'role' | 'agreement' | 'plan' | 'peer'>,
): Promise<void> => {
  const { participant, role, agreement, plan, peer } = key;
  const rates = ratesOf(plan === null ? null : (JSON.parse(plan) as PricePlan));
  const rows = await db
    .selectFrom('unstated_access')
    .select(['request', 'part', 'closed'])
    .where('participant', '=', participant)
    .where('role', '=', role)
    .where('agreement', '=', agreement)
    .execute();
  let sent = 0;
  for (const { request, part, closed } of rows) {
    const close = JSON.parse(closed) as UsageClose;
    const load = loadOf(role, rates, close);
    sent += close.bytes;
    await db
      .updateTable('unstated_access')
      .set({ peer, load_requests: load.requests, load_bytes: load.bytes, load_cost: load.cost })
      .where('participant', '=', participant)
      .where('role', '=', role)
      .where('agreement', '=', agreement)
      .where('request', '=', request)
      .where('part', '=', part)
      .execute();
  }
  if (sent === 0) return;
  await sql`update usage_account set sent = sent + ${sent}
    where participant = ${participant} and role = ${role} and agreement = ${agreement}`.execute(db);
};

const fillAccounts = async (db: Db): Promise<void> => {
  await sql`update usage_account set
    peer = case when role = 'provider' then consumer else provider end,
    gave_up = case when conceded = ${nothingConceded} then 0 else 1 end,
    opened = (select count(*) from usage_record r where r.participant = usage_account.participant
        and r.role = usage_account.role and r.agreement = usage_account.agreement and r.part = 1)
      + (select count(*) from unstated_access u where u.participant = usage_account.participant
        and u.role = usage_account.role and u.agreement = usage_account.agreement and u.part = 1),
    sent = (select coalesce(sum(r.bytes), 0) from usage_record r where r.participant = usage_account.participant
      and r.role = usage_account.role and r.agreement = usage_account.agreement)`.execute(db);
  const accounts = await db
    .selectFrom('usage_account')
    .select(['participant', 'role', 'agreement', 'plan', 'peer'])
    .where('plan', 'is not', null)
    .execute();
  for (const { participant, role, agreement, plan } of accounts)
    await db
      .updateTable('usage_account')
      .set({ currency: plan === null ? '' : (JSON.parse(plan) as PricePlan).currency })
      .where('participant', '=', participant)
      .where('role', '=', role)
      .where('agreement', '=', agreement)
      .execute();
  const waiting = await db
    .selectFrom('usage_account')
    .select(['participant', 'role', 'agreement', 'plan', 'peer'])
    .where(({ exists, selectFrom }) =>
      exists(
        selectFrom('unstated_access')
          .select('unstated_access.request')
          .whereRef('unstated_access.participant', '=', 'usage_account.participant')
          .whereRef('unstated_access.role', '=', 'usage_account.role')
          .whereRef('unstated_access.agreement', '=', 'usage_account.agreement'),
      ),
    )
    .execute();
  for (const account of waiting) await fillUnstated(db, account);
};

export const upgradeToLeasedWindows = async (db: Db): Promise<void> => {
  await addColumns(db);
  await createTables(db);
  await fillAccounts(db);
  await createIndexes(db);
  await sql`insert into window_place (name, next)
    select 'unstated', coalesce(max(place) + 1, ${firstPlace}) from unstated_access where place < 0`.execute(db);
};
