import type { Kysely } from 'kysely';
import type { Did, ParticipantId } from '../../../contracts/ids.ts';
import type { Json } from '../../../contracts/json.ts';
import { columns, type Given, isOneRow, prepared } from '../../../kernel/sql/prepared.ts';
import type {
  AccountKey,
  DisputeStore,
  HeldRecord,
  JournalMarkStore,
  KeptDraft,
  KeptStatement,
  Load,
  MeterAccountStore,
  StatementDraftStore,
  StatementStore,
  StoredAccount,
} from '../../metering/ports.ts';
import type { MeteringTables } from './metering-tables.ts';
import { settleRest } from './unstated-store.ts';
import { indexRows } from './usage-store.ts';

/** Accounts, drafts and statements over SQL. What stands in our own columns was written here, so its forms are known. */

export type MeteringDb = Kysely<MeteringTables>;

const none: Load = { requests: 0, bytes: 0, cost: 0 };

export const columnsOf = ({ participant, role, agreement }: AccountKey) => ({ participant, role, agreement });

/** What was conceded, and whether anything was: that is what counts against a window for good. */
const concededColumns = (conceded: Load) => {
  const text = JSON.stringify(conceded);
  return { conceded: text, gave_up: text === JSON.stringify(none) ? 0 : 1 };
};

export const accountOf = (row: MeteringTables['usage_account']): StoredAccount => ({
  info: {
    participant: row.participant as ParticipantId,
    role: row.role,
    agreement: row.agreement,
    agreementId: row.agreement_id,
    provider: row.provider as Did,
    consumer: row.consumer as Did,
    assurance: row.assurance,
    price: row.price,
    pricePlan: row.plan === null ? null : JSON.parse(row.plan),
    startedAt: Number(row.started_at),
  },
  isEnded: row.ended === 1,
  conceded: JSON.parse(row.conceded),
  settledBefore: Number(row.settled_before),
});

const updateAccount = async (
  db: MeteringDb,
  key: AccountKey,
  change: Partial<MeteringTables['usage_account']>,
): Promise<void> => {
  if (Object.keys(change).length === 0) return;
  await db
    .updateTable('usage_account')
    .set(change)
    .where('participant', '=', key.participant)
    .where('role', '=', key.role)
    .where('agreement', '=', key.agreement)
    .execute();
};

type AccountRow = MeteringTables['usage_account'];

const insertAccount = prepared((db: MeteringDb, given: Given<AccountRow>) =>
  db
    .insertInto('usage_account')
    .values(
      columns(given, [
        'participant',
        'role',
        'agreement',
        'agreement_id',
        'provider',
        'consumer',
        'assurance',
        'price',
        'plan',
        'started_at',
        'ended',
        'closed',
        'conceded',
        'gave_up',
        'settled_before',
        'peer',
        'currency',
        'opened',
        'sent',
      ]),
    )
    .onConflict((conflict) => conflict.doNothing()),
);

export const createSqlMeterAccountStore = (db: MeteringDb): MeterAccountStore => ({
  put: async (info) => {
    const row: AccountRow = {
      ...columnsOf(info),
      agreement_id: info.agreementId,
      provider: info.provider,
      consumer: info.consumer,
      assurance: info.assurance,
      price: info.price,
      plan: info.pricePlan === null ? null : JSON.stringify(info.pricePlan),
      started_at: info.startedAt,
      ended: 0,
      closed: 0,
      ...concededColumns(none),
      settled_before: 0,
      peer: info.role === 'provider' ? info.consumer : info.provider,
      currency: info.pricePlan?.currency ?? '',
      opened: 0,
      sent: 0,
    };
    return isOneRow(await insertAccount(db, row));
  },
  change: async (key, { isEnded, conceded, settledBefore }) => {
    await updateAccount(db, key, {
      ...(isEnded === undefined ? {} : { ended: 1 }),
      ...(conceded === undefined ? {} : concededColumns(conceded)),
      ...(settledBefore === undefined ? {} : { settled_before: settledBefore }),
    });
  },
  find: async ({ participant, role, agreement }) => {
    const row = await db
      .selectFrom('usage_account')
      .selectAll()
      .where('participant', '=', participant)
      .where('role', '=', role)
      .where('agreement', '=', agreement)
      .executeTakeFirst();
    return row && accountOf(row);
  },
  listOpen: async () =>
    (
      await db
        .selectFrom('usage_account')
        .selectAll()
        .where((its) => its.or([its('closed', '=', 0), its('gave_up', '=', 1)]))
        .execute()
    ).map(accountOf),
  list: async (participant) =>
    (
      await db
        .selectFrom('usage_account')
        .selectAll()
        .where('participant', '=', participant)
        .orderBy('agreement')
        .execute()
    ).map(accountOf),
  ofDigest: async (role, agreement) => {
    const row = await db
      .selectFrom('usage_account')
      .selectAll()
      .where('role', '=', role)
      .where('agreement', '=', agreement)
      .executeTakeFirst();
    return row && accountOf(row);
  },
});

export const createSqlJournalMarkStore = (db: MeteringDb): JournalMarkStore => ({
  get: async (journal) => {
    const row = await db.selectFrom('usage_mark').select('segment').where('role', '=', journal).executeTakeFirst();
    return row && Number(row.segment);
  },
  set: async (journal, segment) => {
    await db
      .insertInto('usage_mark')
      .values({ role: journal, segment })
      .onConflict((conflict) => conflict.column('role').doUpdateSet({ segment }))
      .execute();
  },
});

const heldValues = (key: AccountKey, its: HeldRecord): MeteringTables['held_record'] => ({
  ...columnsOf(key),
  request: its.request,
  part: its.part,
  claim: its.claim === null ? null : JSON.stringify(its.claim),
  holds: its.holds,
  retry_at: its.retryAt,
  written_off: its.isWrittenOff ? 1 : 0,
});

const heldOf = (row: MeteringTables['held_record']): HeldRecord => ({
  request: row.request,
  part: row.part,
  claim: row.claim === null ? null : JSON.parse(row.claim),
  holds: row.holds,
  retryAt: Number(row.retry_at),
  isWrittenOff: row.written_off === 1,
});

const listHeld = async (db: MeteringDb, key: AccountKey): Promise<HeldRecord[]> => {
  const rows = await db
    .selectFrom('held_record')
    .selectAll()
    .where('participant', '=', key.participant)
    .where('role', '=', key.role)
    .where('agreement', '=', key.agreement)
    .orderBy('request')
    .orderBy('part')
    .execute();
  return rows.map(heldOf);
};

/** Writes only what changed: a consumer that disputes everything must not make each draft dearer than the last. */
const replaceHeld = async (db: MeteringDb, key: AccountKey, held: readonly HeldRecord[]): Promise<void> => {
  const nameOf = ({ request, part }: HeldRecord) => `${request} ${part}`;
  const before = new Map((await listHeld(db, key)).map((one) => [nameOf(one), one]));
  for (const one of held) {
    const known = before.get(nameOf(one));
    before.delete(nameOf(one));
    if (known !== undefined && JSON.stringify(known) === JSON.stringify(heldOf(heldValues(key, one)))) continue;
    const values = heldValues(key, one);
    await db
      .insertInto('held_record')
      .values(values)
      .onConflict((conflict) =>
        conflict.columns(['participant', 'role', 'agreement', 'request', 'part']).doUpdateSet(values),
      )
      .execute();
  }
  for (const { request, part } of before.values())
    await db
      .deleteFrom('held_record')
      .where('participant', '=', key.participant)
      .where('role', '=', key.role)
      .where('agreement', '=', key.agreement)
      .where('request', '=', request)
      .where('part', '=', part)
      .execute();
};

const deleteDrafts = async (db: MeteringDb, key: AccountKey, upTo: number): Promise<void> => {
  await db
    .deleteFrom('statement_draft')
    .where('participant', '=', key.participant)
    .where('role', '=', key.role)
    .where('agreement', '=', key.agreement)
    .where('seq', '<=', upTo)
    .execute();
};

const everySeq = Number.MAX_SAFE_INTEGER;

export const createSqlStatementDraftStore = (db: MeteringDb): StatementDraftStore => ({
  save: (key, draft, { replace, held }) =>
    db.transaction().execute(async (transaction) => {
      if (replace) await deleteDrafts(transaction, key, everySeq);
      if (held !== undefined) await replaceHeld(transaction, key, held);
      await transaction
        .insertInto('statement_draft')
        .values({
          ...columnsOf(key),
          seq: Number(draft.payload.seq),
          digest: draft.digest,
          body: JSON.stringify(draft),
        })
        .onConflict((conflict) => conflict.doNothing())
        .execute();
    }),
  drop: (key, held) =>
    db.transaction().execute(async (transaction) => {
      await deleteDrafts(transaction, key, everySeq);
      await replaceHeld(transaction, key, held);
    }),
  list: async (key) => {
    const rows = await db
      .selectFrom('statement_draft')
      .select('body')
      .where('participant', '=', key.participant)
      .where('role', '=', key.role)
      .where('agreement', '=', key.agreement)
      .orderBy('seq')
      .execute();
    return rows.map(({ body }) => JSON.parse(body) as KeptDraft);
  },
  held: (key) => listHeld(db, key),
});

const textOrNull = (value: Json | undefined): string | null =>
  value === null || value === undefined ? null : JSON.stringify(value);

const statementValues = (key: AccountKey, its: KeptStatement): MeteringTables['statement'] => ({
  ...columnsOf(key),
  seq: Number(its.payload.seq),
  digest: its.digest,
  payload: JSON.stringify(its.payload),
  sums: JSON.stringify(its.sums),
  secret: its.K,
  leaf_key: textOrNull(its.leafKey),
  artifact: textOrNull(its.artifact),
  state: its.state,
  record_rows: textOrNull(its.rows as unknown as Json), // rows are JSON; their types only say more
});

const statementOf = (row: MeteringTables['statement']): KeptStatement => ({
  digest: row.digest,
  payload: JSON.parse(row.payload),
  sums: JSON.parse(row.sums),
  K: row.secret,
  leafKey: row.leaf_key === null ? null : JSON.parse(row.leaf_key),
  artifact: row.artifact === null ? null : JSON.parse(row.artifact),
  state: row.state,
  rows: row.record_rows === null ? null : JSON.parse(row.record_rows),
});

/** Ends the transaction without changing anything. */
class Conflict extends Error {}

const statementAt = (db: MeteringDb, key: AccountKey) =>
  db
    .selectFrom('statement')
    .where('participant', '=', key.participant)
    .where('role', '=', key.role)
    .where('agreement', '=', key.agreement);

const putStatement = async (db: MeteringDb, key: AccountKey, statement: KeptStatement): Promise<void> => {
  const values = statementValues(key, statement);
  const before = await statementAt(db, key)
    .where('seq', '=', values.seq)
    .select(['digest', 'state'])
    .executeTakeFirst();
  if (before === undefined) {
    await db.insertInto('statement').values(values).execute();
    return;
  }
  if (before.digest !== values.digest) throw new Conflict();
  if (before.state === 'complete') return;
  await db
    .updateTable('statement')
    .set(values)
    .where('participant', '=', key.participant)
    .where('role', '=', key.role)
    .where('agreement', '=', key.agreement)
    .where('seq', '=', values.seq)
    .execute();
};

const setStatement = async (
  db: MeteringDb,
  key: AccountKey,
  seq: number,
  change: Partial<MeteringTables['statement']>,
): Promise<void> => {
  await db
    .updateTable('statement')
    .set(change)
    .where('participant', '=', key.participant)
    .where('role', '=', key.role)
    .where('agreement', '=', key.agreement)
    .where('seq', '=', seq)
    .execute();
};

export const createSqlStatementStore = (db: MeteringDb): StatementStore => {
  const find = async (key: AccountKey, seq: 'newest' | number): Promise<KeptStatement | undefined> => {
    const query = statementAt(db, key).selectAll();
    const row = await (seq === 'newest'
      ? query.orderBy('seq', 'desc').limit(1)
      : query.where('seq', '=', seq)
    ).executeTakeFirst();
    return row && statementOf(row);
  };
  return {
    save: async (key, statement, more = {}) => {
      try {
        await db.transaction().execute(async (transaction) => {
          await putStatement(transaction, key, statement);
          await deleteDrafts(transaction, key, Number(statement.payload.seq));
          if (more.held !== undefined) await replaceHeld(transaction, key, more.held);
          if (more.conceded !== undefined) await updateAccount(transaction, key, concededColumns(more.conceded));
          if (statement.state === 'complete' && statement.payload.final)
            await updateAccount(transaction, key, { ended: 1, closed: 1 });
        });
        return 'saved';
      } catch (error) {
        if (error instanceof Conflict) return 'conflict';
        throw error;
      }
    },
    find,
    unfinished: async () => {
      const rows = await db
        .selectFrom('statement')
        .select(['participant', 'role', 'agreement', 'seq'])
        .where('state', '=', 'complete')
        .where((its) => its.or([its('record_rows', 'is not', null), its('leaf_key', 'is not', null)]))
        .orderBy('agreement')
        .orderBy('seq')
        .execute();
      return rows.map((row) => ({ ...row, participant: row.participant as ParticipantId, seq: Number(row.seq) }));
    },
    index: async (key, seq) => {
      const statement = await find(key, seq);
      if (statement?.state !== 'complete' || statement.rows === null) return;
      await indexRows(db, key, seq, statement.rows);
      await setStatement(db, key, seq, { record_rows: null });
      if (statement.payload.final) await settleRest(db, key);
    },
    handedOver: (key, seq) => setStatement(db, key, seq, { leaf_key: null }),
  };
};

export const createSqlDisputeStore = (db: MeteringDb): DisputeStore => {
  const save = async (
    key: AccountKey,
    row: Pick<MeteringTables['usage_dispute'], 'kind' | 'subject' | 'at' | 'evidence'>,
  ): Promise<void> => {
    await db
      .insertInto('usage_dispute')
      .values({ ...columnsOf(key), ...row })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  };
  return {
    saveRefusal: (key, draft, refusal, at) =>
      save(key, { kind: 'refusal', subject: draft, at, evidence: JSON.stringify(refusal) }),
    saveEquivocation: (key, seq, proof, at) =>
      save(key, { kind: 'equivocation', subject: String(seq), at, evidence: JSON.stringify(proof) }),
    list: async (key) => {
      const rows = await db
        .selectFrom('usage_dispute')
        .select(['kind', 'at', 'evidence'])
        .where('participant', '=', key.participant)
        .where('role', '=', key.role)
        .where('agreement', '=', key.agreement)
        .orderBy('at')
        .execute();
      return rows.map(({ kind, at, evidence }) => ({ kind, at: Number(at), evidence: JSON.parse(evidence) as Json }));
    },
  };
};
