import { type Kysely, type SelectQueryBuilder, sql } from 'kysely';
import type { ParticipantId } from '../../../contracts/ids.ts';
import type { Units } from '../../../contracts/ledger/forms.ts';
import type { StatementSums, UsageStatement } from '../../../contracts/ledger/statement.ts';
import { parseTime } from '../../../contracts/time.ts';
import { isPostgres } from '../../../kernel/sql/dialect.ts';
import type {
  AccountKey,
  Exposure,
  Load,
  WindowAccount,
  WindowBlock,
  WindowRows,
  WindowStore,
} from '../../metering/ports.ts';
import { minus, nothing } from '../../metering/window.pure.ts';
import { accountOf, columnsOf } from './metering-store.ts';
import type { MeteringTables } from './metering-tables.ts';
import { putAccesses } from './unstated-store.ts';

/**
 * Windows in rows. What is asked on the way of a lease costs as much as waits to be stated and is lent with one counterparty;
 * what was stated, and agreements that nobody uses, cost nothing.
 */

type Db = Kysely<MeteringTables>;
type BlockRow = MeteringTables['window_block'];

const keyOfRow = (row: {
  readonly participant: string;
  readonly role: AccountKey['role'];
  readonly agreement: string;
}): AccountKey => ({
  participant: row.participant as ParticipantId,
  role: row.role,
  agreement: row.agreement,
});

const blockOf = (row: Omit<BlockRow, 'participant' | 'role' | 'peer'>): WindowBlock => ({
  agreement: row.agreement,
  journal: row.journal,
  load: { requests: Number(row.requests), bytes: Number(row.bytes), cost: row.cost },
  counted: Number(row.counted),
});

const blockColumns = ['agreement', 'journal', 'requests', 'bytes', 'cost', 'counted'] as const;

const blocksOf = async (db: Db, { participant, role, agreement }: AccountKey): Promise<WindowBlock[]> => {
  const rows = await db
    .selectFrom('window_block')
    .select(blockColumns)
    .where('participant', '=', participant)
    .where('role', '=', role)
    .where('agreement', '=', agreement)
    .orderBy('journal')
    .execute();
  return rows.map(blockOf);
};

type AccountRow = MeteringTables['usage_account'];

/**
 * Until the transaction ends nobody else works on windows of this counterparty, and the agreement does not end meanwhile. What
 * is read from now on stands as it is: the account itself may have changed while we waited.
 */
const lockAccount = async (
  db: Db,
  { participant, role, peer }: AccountRow,
  found: SelectQueryBuilder<MeteringTables, 'usage_account', AccountRow>,
): Promise<AccountRow | undefined> => {
  if (!isPostgres(db)) return found.executeTakeFirst(); // one transaction at a time
  const name = JSON.stringify(['window', participant, role, peer]);
  await sql`select pg_advisory_xact_lock(hashtextextended(${name}, 0))`.execute(db);
  return found.forNoKeyUpdate().executeTakeFirst();
};

const findAccount = async (db: Db, role: AccountKey['role'], agreement: string): Promise<WindowAccount | undefined> => {
  const found = db.selectFrom('usage_account').selectAll().where('role', '=', role).where('agreement', '=', agreement);
  const row = await found.executeTakeFirst().then((seen) => seen && lockAccount(db, seen, found));
  if (row === undefined) return undefined;
  const account = accountOf(row);
  return {
    ...account,
    isClosed: row.closed === 1,
    opened: Number(row.opened),
    sent: Number(row.sent),
    blocks: await blocksOf(db, account.info),
  };
};

interface Peer {
  readonly participant: string;
  readonly role: AccountKey['role'];
  readonly peer: string;
}

const peerOf = ({ info }: WindowAccount): Peer => ({
  participant: info.participant,
  role: info.role,
  peer: info.role === 'provider' ? info.consumer : info.provider,
});

const sums = {
  requests: sql<number>`sum(load_requests)`,
  bytes: sql<number>`sum(load_bytes)`,
  cost: sql<number>`sum(load_cost)`,
};

type SumRow = { readonly agreement: string } & Readonly<Record<keyof Load, number>>;

const loadOfRow = ({ requests, bytes, cost }: SumRow): Load => ({
  requests: Number(requests),
  bytes: Number(bytes),
  cost: Number(cost),
});

/** What waits under each agreement with a counterparty, in dispute or not. */
const waitingOf = async (db: Db, { participant, role, peer }: Peer): Promise<Map<string, Load>> => {
  const rows = await db
    .selectFrom('unstated_access')
    .select(['agreement', sums.requests.as('requests'), sums.bytes.as('bytes'), sums.cost.as('cost')])
    .where('participant', '=', participant)
    .where('role', '=', role)
    .where('peer', '=', peer)
    .where('settled', '=', 0)
    .groupBy('agreement')
    .execute();
  return new Map(rows.map((row) => [row.agreement, loadOfRow(row)]));
};

/** What of it the owner wrote off. */
const writtenOff = async (
  db: Db,
  { participant, role }: Peer,
  agreements: readonly string[],
): Promise<Map<string, Load>> => {
  if (agreements.length === 0) return new Map();
  const rows = await db
    .selectFrom('held_record')
    .innerJoin('unstated_access', (join) =>
      join
        .onRef('unstated_access.participant', '=', 'held_record.participant')
        .onRef('unstated_access.role', '=', 'held_record.role')
        .onRef('unstated_access.agreement', '=', 'held_record.agreement')
        .onRef('unstated_access.request', '=', 'held_record.request')
        .onRef('unstated_access.part', '=', 'held_record.part'),
    )
    .select(['held_record.agreement', sums.requests.as('requests'), sums.bytes.as('bytes'), sums.cost.as('cost')])
    .where('held_record.participant', '=', participant)
    .where('held_record.role', '=', role)
    .where('held_record.agreement', 'in', agreements)
    .where('held_record.written_off', '=', 1)
    .where('unstated_access.settled', '=', 0)
    .groupBy('held_record.agreement')
    .execute();
  return new Map(rows.map((row) => [row.agreement, loadOfRow(row)]));
};

const lentOf = async (db: Db, { participant, role, peer }: Peer): Promise<Map<string, WindowBlock[]>> => {
  const rows = await db
    .selectFrom('window_block')
    .select(blockColumns)
    .where('participant', '=', participant)
    .where('role', '=', role)
    .where('peer', '=', peer)
    .execute();
  return Map.groupBy(rows.map(blockOf), ({ agreement }) => agreement);
};

/** Accounts of these agreements that are not closed, and those with the counterparty in which something was conceded. */
const accountsOf = async (db: Db, { participant, role, peer }: Peer, agreements: readonly string[]) => {
  const select = db
    .selectFrom('usage_account')
    .select(['agreement', 'plan', 'ended', 'closed', 'conceded', 'gave_up'])
    .where('participant', '=', participant)
    .where('role', '=', role);
  const found =
    agreements.length === 0 ? [] : await select.where('agreement', 'in', agreements).where('closed', '=', 0).execute();
  const gaveUp = await select.where('peer', '=', peer).where('gave_up', '=', 1).execute();
  return [...new Map([...found, ...gaveUp].map((row) => [row.agreement, row])).values()];
};

const newestComplete = (db: Db, { participant, role, agreement }: Peer & { readonly agreement: string }) =>
  db
    .selectFrom('statement')
    .where('participant', '=', participant)
    .where('role', '=', role)
    .where('agreement', '=', agreement)
    .where('state', '=', 'complete')
    .orderBy('seq', 'desc')
    .limit(1);

const totalsOf = async (db: Db, peer: Peer, agreement: string): Promise<Units> => {
  const row = await newestComplete(db, { ...peer, agreement })
    .select('sums')
    .executeTakeFirst();
  return row === undefined ? {} : (JSON.parse(row.sums) as StatementSums).totals;
};

const exposuresOf = async (db: Db, account: WindowAccount): Promise<Exposure[]> => {
  const peer = peerOf(account);
  const waiting = await waitingOf(db, peer);
  const lent = await lentOf(db, peer);
  const forgiven = await writtenOff(db, peer, [...waiting.keys()]);
  const exposures: Exposure[] = [];
  for (const row of await accountsOf(db, peer, [...new Set([...waiting.keys(), ...lent.keys()])])) {
    const { agreement } = row;
    const load =
      row.closed === 1 ? nothing : minus(waiting.get(agreement) ?? nothing, forgiven.get(agreement) ?? nothing);
    exposures.push({
      agreement,
      pricePlan: row.plan === null ? null : JSON.parse(row.plan),
      isEnded: row.ended === 1,
      waiting: load,
      blocks: lent.get(agreement) ?? [],
      conceded: JSON.parse(row.conceded),
      totals: row.gave_up === 1 ? await totalsOf(db, peer, agreement) : {},
    });
  }
  return exposures;
};

/** Behind this time a consumer counts what was not stated: before it the provider left it out. */
const statedUntil = async (db: Db, account: WindowAccount): Promise<number> => {
  const { agreement, startedAt } = account.info;
  const row = await newestComplete(db, { ...peerOf(account), agreement })
    .select('payload')
    .executeTakeFirst();
  return (row === undefined ? undefined : parseTime((JSON.parse(row.payload) as UsageStatement).to)) ?? startedAt;
};

const oldestAtOf = async (db: Db, account: WindowAccount): Promise<number | null> => {
  const { participant, role, peer } = peerOf(account);
  const after = role === 'consumer' ? await statedUntil(db, account) : undefined;
  const row = await db
    .selectFrom('unstated_access')
    .select('closed_at')
    .where('participant', '=', participant)
    .where('role', '=', role)
    .where('peer', '=', peer)
    .where('settled', '=', 0)
    .where('agreement', '=', account.info.agreement)
    .$if(after !== undefined, (query) =>
      query
        .where('closed_at', '>', after ?? 0)
        .where(({ eb }) => eb(eb('load_requests', '+', eb.ref('load_bytes')), '>', 0)),
    )
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('held_record')
            .select('held_record.request')
            .whereRef('held_record.participant', '=', 'unstated_access.participant')
            .whereRef('held_record.role', '=', 'unstated_access.role')
            .whereRef('held_record.agreement', '=', 'unstated_access.agreement')
            .whereRef('held_record.request', '=', 'unstated_access.request')
            .whereRef('held_record.part', '=', 'unstated_access.part'),
        ),
      ),
    )
    .orderBy('closed_at')
    .limit(1)
    .executeTakeFirst();
  return row === undefined ? null : Number(row.closed_at);
};

const setBlock: (db: Db) => WindowRows['setBlock'] = (db) => async (info, journal, block) => {
  const key = { ...columnsOf(info), journal };
  if (block === null) {
    await db
      .deleteFrom('window_block')
      .where('participant', '=', key.participant)
      .where('role', '=', key.role)
      .where('agreement', '=', key.agreement)
      .where('journal', '=', journal)
      .execute();
    return;
  }
  const values = { ...block.load, counted: block.counted };
  await db
    .insertInto('window_block')
    .values({ ...key, peer: info.role === 'provider' ? info.consumer : info.provider, ...values })
    .onConflict((conflict) => conflict.columns(['participant', 'role', 'agreement', 'journal']).doUpdateSet(values))
    .execute();
};

const rowsOf = (db: Db): WindowRows => ({
  line: async (journal) => {
    const row = await db
      .selectFrom('window_line')
      .select('line')
      .where('journal', '=', journal)
      .$if(isPostgres(db), (query) => query.forShare()) // until the transaction ends nobody takes its place
      .executeTakeFirst();
    return row?.line;
  },
  take: async (journal, line) => {
    await db
      .insertInto('window_line')
      .values({ journal, line })
      .onConflict((conflict) => conflict.column('journal').doUpdateSet({ line }))
      .execute();
  },
  account: (role, agreement) => findAccount(db, role, agreement),
  exposures: (account) => exposuresOf(db, account),
  oldestAt: (account) => oldestAtOf(db, account),
  setBlock: setBlock(db),
  endBlocks: async (journal) => {
    const rows = await db
      .deleteFrom('window_block')
      .where('journal', '=', journal)
      .returning(['participant', 'role', 'agreement'])
      .execute();
    return rows.map(keyOfRow);
  },
  put: (key, accesses) => putAccesses(db, key, accesses),
});

const busyAccounts = async (db: Db): Promise<readonly AccountKey[]> => {
  const rows = await db
    .selectFrom('usage_account as account')
    .select(['account.participant', 'account.role', 'account.agreement'])
    .where('account.closed', '=', 0)
    .where(({ or, eb, exists, selectFrom }) =>
      or([
        eb('account.ended', '=', 1),
        exists(
          selectFrom('window_block as block')
            .select('block.journal')
            .whereRef('block.participant', '=', 'account.participant')
            .whereRef('block.role', '=', 'account.role')
            .whereRef('block.agreement', '=', 'account.agreement'),
        ),
        exists(
          selectFrom('unstated_access as access')
            .select('access.request')
            .whereRef('access.participant', '=', 'account.participant')
            .whereRef('access.role', '=', 'account.role')
            .whereRef('access.peer', '=', 'account.peer')
            .where('access.settled', '=', 0)
            .whereRef('access.agreement', '=', 'account.agreement'),
        ),
      ]),
    )
    .orderBy('account.agreement')
    .execute();
  return rows.map(keyOfRow);
};

export const createSqlWindowStore = (db: Db): WindowStore => ({
  // Serializable transactions would undo each other here again and again: they lock what they read, and wait in turn.
  transact: (work) =>
    db
      .transaction()
      .setIsolationLevel('read committed')
      .execute((transaction) => work(rowsOf(transaction))),
  places: async (count) => {
    const row = await db
      .updateTable('window_place')
      .set(({ eb }) => ({ next: eb('next', '+', count) }))
      .where('name', '=', 'unstated')
      .returning('next')
      .executeTakeFirstOrThrow();
    return Number(row.next) - count;
  },
  blocks: async (key) => (await blocksOf(db, key)).map(({ journal }) => journal),
  busy: () => busyAccounts(db),
});
