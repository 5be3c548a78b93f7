import type { Kysely } from 'kysely';
import type { AccountKey, StatedRecord, StatedRow, UsageStore } from '../../metering/ports.ts';
import type { MeteringTables } from './metering-tables.ts';

/** Records of complete statements over SQL: what people ask for, and what receipts are made of. */

type Db = Kysely<MeteringTables>;

const rowsPerStep = 100;

const valuesOf = (key: AccountKey, seq: number, row: StatedRow): MeteringTables['usage_record'] => ({
  participant: key.participant,
  role: key.role,
  agreement: key.agreement,
  seq,
  n: Number(row.n),
  request: row.request,
  part: Number(row.part),
  at: row.at,
  bytes: Number(row.bytes),
  digest: row.digest,
  outcome: row.outcome,
  status: row.status,
  units: JSON.stringify(row.units),
  charged_requests: Number(row.units.requests ?? 0),
  charged_bytes: Number(row.units.bytes ?? 0),
  charged_items: Number(row.units.items ?? 0),
  ext: row.ext === null ? null : JSON.stringify(row.ext),
  leaf: row.leaf,
  application: row.facts.application,
  purpose: row.facts.purpose,
  facts: JSON.stringify(row.facts),
  place: row.place,
});

/** What stands in the usage store waits no more. */
const forgetUnstated = async (
  db: Db,
  { participant, role, agreement }: AccountKey,
  rows: readonly { readonly request: string; readonly part: string }[],
): Promise<void> => {
  await db
    .deleteFrom('unstated_access')
    .where('participant', '=', participant)
    .where('role', '=', role)
    .where('agreement', '=', agreement)
    .where((its) =>
      its.or(rows.map(({ request, part }) => its.and([its('request', '=', request), its('part', '=', Number(part))]))),
    )
    .execute();
};

/** Rows of one statement, a hundred at a time, so that nobody waits for all of them; a repeat changes nothing. */
export const indexRows = async (db: Db, key: AccountKey, seq: number, rows: readonly StatedRow[]): Promise<void> => {
  for (let start = 0; start < rows.length; start += rowsPerStep) {
    const step = rows.slice(start, start + rowsPerStep);
    await db.transaction().execute(async (transaction) => {
      await transaction
        .insertInto('usage_record')
        .values(step.map((row) => valuesOf(key, seq, row)))
        .onConflict((conflict) => conflict.columns(['participant', 'role', 'agreement', 'n']).doNothing())
        .execute();
      await forgetUnstated(transaction, key, step);
    });
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
};

const recordOf = (row: MeteringTables['usage_record']): StatedRecord => ({
  seq: Number(row.seq),
  n: String(row.n),
  request: row.request,
  part: String(row.part),
  at: row.at,
  bytes: String(row.bytes),
  digest: row.digest,
  outcome: row.outcome as StatedRecord['outcome'],
  status: row.status,
  units: JSON.parse(row.units),
  ext: row.ext === null ? null : JSON.parse(row.ext),
  leaf: row.leaf,
  facts: JSON.parse(row.facts),
  place: Number(row.place),
  refusals: 0,
});

const unitsOf = (sums: { readonly requests: unknown; readonly bytes: unknown; readonly items: unknown }) =>
  Object.fromEntries(
    Object.entries(sums).flatMap(([unit, sum]) => (Number(sum) > 0 ? [[unit, String(Number(sum))]] : [])),
  );

export const createSqlUsageStore = (db: Db): UsageStore => {
  const of = ({ participant, role, agreement }: AccountKey) =>
    db
      .selectFrom('usage_record')
      .where('participant', '=', participant)
      .where('role', '=', role)
      .where('agreement', '=', agreement);
  return {
    ofStatement: async (key, seq) =>
      (await of(key).selectAll().where('seq', '=', seq).orderBy('n').execute()).map(recordOf),
    ofRequest: async (key, request) =>
      (await of(key).selectAll().where('request', '=', request).orderBy('part').execute()).map(recordOf),
    page: async (key, { after, limit }) =>
      (await of(key).selectAll().where('n', '>', after).orderBy('n').limit(limit).execute()).map(recordOf),
    groups: async (key) => {
      const rows = await of(key)
        .select(({ fn, eb }) => [
          'application',
          'purpose',
          fn.sum(eb.case().when('part', '=', 1).then(1).else(0).end()).as('accesses'),
          fn.sum('bytes').as('sent'),
          fn.sum('charged_requests').as('requests'),
          fn.sum('charged_bytes').as('bytes'),
          fn.sum('charged_items').as('items'),
        ])
        .groupBy(['application', 'purpose'])
        .orderBy('application')
        .orderBy('purpose')
        .execute();
      return rows.map(({ application, purpose, accesses, sent, requests, bytes, items }) => ({
        application,
        purpose,
        accesses: Number(accesses),
        bytes: Number(sent),
        units: unitsOf({ requests, bytes, items }),
      }));
    },
    settledSince: async (key, place) => {
      const rows = await of(key).select(['request', 'part']).where('place', '>=', place).execute();
      return rows.map(({ request, part }) => `${request} ${part}`);
    },
  };
};
