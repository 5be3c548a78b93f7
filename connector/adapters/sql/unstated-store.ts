import type { Kysely } from 'kysely';
import { formatTime } from '../../../contracts/time.ts';
import type { AccountKey, PutAccess, UnstatedAccess, UnstatedStore } from '../../metering/ports.ts';
import type { MeteringTables } from './metering-tables.ts';

/** Accesses out of the journals of workers, until they stand in a complete statement, over SQL. */

type Db = Kysely<MeteringTables>;
type Row = MeteringTables['unstated_access'];

const rowsPerStep = 100;

const nameOf = ({ request, part }: { readonly request: string; readonly part: number }): string => `${request} ${part}`;

const valuesOf = ({ participant, role, agreement }: AccountKey, its: UnstatedAccess): Row => ({
  participant,
  role,
  agreement,
  request: its.open.request,
  part: its.open.part,
  journal: its.journal,
  open_place: its.openPlace,
  place: its.place,
  closed_at: its.closedAt,
  settled: 0,
  opened: JSON.stringify(its.open),
  closed: JSON.stringify(its.close),
});

const accessOf = (row: Row): UnstatedAccess => ({
  open: JSON.parse(row.opened),
  close: JSON.parse(row.closed),
  closedAt: Number(row.closed_at),
  journal: row.journal,
  openPlace: Number(row.open_place),
  place: Number(row.place),
});

/** Whether two recordings are of one and the same line of a journal. */
const isSame = (row: Row, values: Row): boolean =>
  row.journal === values.journal && Number(row.open_place) === values.open_place;

const at = (db: Db, { participant, role, agreement }: AccountKey) => ({
  waiting: db
    .selectFrom('unstated_access')
    .where('participant', '=', participant)
    .where('role', '=', role)
    .where('agreement', '=', agreement),
  settled: db
    .selectFrom('usage_record')
    .where('participant', '=', participant)
    .where('role', '=', role)
    .where('agreement', '=', agreement),
});

/**
 * Inserts first and looks then: whoever moves a row into the usage store meanwhile has either not moved it yet, and the key
 * refuses ours, or has, and we see it there.
 */
const putStep = async (db: Db, key: AccountKey, all: readonly Row[]): Promise<PutAccess[]> => {
  await db
    .insertInto('unstated_access')
    .values([...all])
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const requests = all.map(({ request }) => request);
  const { waiting, settled } = at(db, key);
  const stated = await settled.select(['request', 'part', 'at']).where('request', 'in', requests).execute();
  const statedAt = new Map(stated.map((row) => [nameOf(row), row.at]));
  const kept = await waiting.selectAll().where('request', 'in', requests).execute();
  const byName = new Map(kept.map((row) => [nameOf(row), row]));
  const answers: PutAccess[] = [];
  for (const values of all) {
    const when = statedAt.get(nameOf(values));
    const row = byName.get(nameOf(values));
    if (when !== undefined) {
      await db
        .deleteFrom('unstated_access')
        .where('participant', '=', key.participant)
        .where('role', '=', key.role)
        .where('agreement', '=', key.agreement)
        .where('request', '=', values.request)
        .where('part', '=', values.part)
        .execute();
      const { at: openedAt } = accessOf(values).open;
      answers.push(when === formatTime(openedAt) ? 'settled' : 'doubled');
    } else if (row === undefined || !isSame(row, values)) answers.push('doubled');
    else if (row.settled === 1) answers.push('settled');
    else answers.push(Number(row.place) === values.place ? 'new' : 'kept');
  }
  return answers;
};

export const createSqlUnstatedStore = (db: Db): UnstatedStore => ({
  put: (key, accesses) =>
    db.transaction().execute(async (transaction) => {
      const answers: PutAccess[] = [];
      for (let start = 0; start < accesses.length; start += rowsPerStep) {
        const step = accesses.slice(start, start + rowsPerStep).map((one) => valuesOf(key, one));
        answers.push(...(await putStep(transaction, key, step)));
      }
      return answers;
    }),
  list: async (key) =>
    (await at(db, key).waiting.selectAll().where('settled', '=', 0).orderBy('place').execute()).map(accessOf),
  settle: (key, accesses) =>
    db.transaction().execute(async (transaction) => {
      for (const { request, part } of accesses)
        await transaction
          .updateTable('unstated_access')
          .set({ settled: 1 })
          .where('participant', '=', key.participant)
          .where('role', '=', key.role)
          .where('agreement', '=', key.agreement)
          .where('request', '=', request)
          .where('part', '=', part)
          .execute();
    }),
  lastPlace: async () => {
    const row = await db
      .selectFrom('unstated_access')
      .select(({ fn }) => fn.max('place').as('last'))
      .executeTakeFirst();
    return row?.last == null ? undefined : Number(row.last);
  },
});
