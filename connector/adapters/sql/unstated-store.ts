import type { Kysely } from 'kysely';
import { formatTime } from '../../../contracts/time.ts';
import type { AccountKey, PutAccess, UnstatedAccess, UnstatedStore } from '../../metering/ports.ts';
import type { MeteringTables } from './metering-tables.ts';

/** Accesses out of the journals of workers, until they stand in a complete statement, over SQL. */

type Db = Kysely<MeteringTables>;
type Row = MeteringTables['unstated_access'];

const rowsPerStep = 100;

const nameOf = ({ request, part }: { readonly request: string; readonly part: number }): string => `${request} ${part}`;

const valuesOf = ({ participant, role, agreement }: AccountKey, peer: string, its: UnstatedAccess): Row => ({
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
  peer,
  load_requests: its.load.requests,
  load_bytes: its.load.bytes,
  load_cost: its.load.cost,
});

const accessOf = (row: Row): UnstatedAccess => ({
  open: JSON.parse(row.opened),
  close: JSON.parse(row.closed),
  closedAt: Number(row.closed_at),
  load: { requests: Number(row.load_requests), bytes: Number(row.load_bytes), cost: row.load_cost },
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

/** Of what we fetched the provider says when it was; a request of ours has one journal for ever. */
const isStatedAs = ({ role }: AccountKey, values: Row, when: string): boolean =>
  role === 'consumer' || when === formatTime(accessOf(values).open.at);

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
      answers.push(isStatedAs(key, values, when) ? 'settled' : 'doubled');
    } else if (row === undefined || !isSame(row, values)) answers.push('doubled');
    else if (row.settled === 1) answers.push('settled');
    else answers.push(Number(row.place) === values.place ? 'new' : 'kept');
  }
  return answers;
};

/** What the account counts for good: everything that was ever handed over, once. */
const countNew = async (
  db: Db,
  { participant, role, agreement }: AccountKey,
  accesses: readonly UnstatedAccess[],
): Promise<void> => {
  if (accesses.length === 0) return;
  const opened = accesses.filter(({ open }) => open.part === 1).length;
  const sent = accesses.reduce((sum, { close }) => sum + close.bytes, 0);
  await db
    .updateTable('usage_account')
    .set(({ eb }) => ({ opened: eb('opened', '+', opened), sent: eb('sent', '+', sent) }))
    .where('participant', '=', participant)
    .where('role', '=', role)
    .where('agreement', '=', agreement)
    .execute();
};

/** `UnstatedStore.put`, inside a transaction. */
export const putAccesses = async (
  db: Db,
  key: AccountKey,
  accesses: readonly UnstatedAccess[],
): Promise<readonly PutAccess[]> => {
  const account = await db
    .selectFrom('usage_account')
    .select('peer')
    .where('participant', '=', key.participant)
    .where('role', '=', key.role)
    .where('agreement', '=', key.agreement)
    .executeTakeFirst();
  const answers: PutAccess[] = [];
  for (let start = 0; start < accesses.length; start += rowsPerStep) {
    const step = accesses.slice(start, start + rowsPerStep).map((one) => valuesOf(key, account?.peer ?? '', one));
    answers.push(...(await putStep(db, key, step)));
  }
  await countNew(
    db,
    key,
    accesses.filter((_, index) => answers[index] === 'new'),
  );
  return answers;
};

/** Where a row stands beyond the known places: behind one of them, or in a journal between two that are known. */
interface Range {
  readonly is?: string;
  readonly behind?: number;
  readonly after?: string | undefined;
  readonly before?: string | undefined;
}

const rangesBeyond = (known: ReadonlyMap<string, number>): Range[] => {
  const journals = [...known.keys()].toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const between = [undefined, ...journals].map((after, index) => ({ after, before: journals[index] }));
  return [...between, ...[...known].map(([is, behind]) => ({ is, behind }))];
};

const rangesPerStep = 100;

/** Each range on its own, so that each is found in the index and nothing that is known is read. */
const list = async (db: Db, key: AccountKey, known: ReadonlyMap<string, number>): Promise<UnstatedAccess[]> => {
  const of = ({ is, behind, after, before }: Range) =>
    at(db, key)
      .waiting.selectAll()
      .where('settled', '=', 0)
      .$if(is !== undefined, (query) => query.where('journal', '=', is ?? ''))
      .$if(behind !== undefined, (query) => query.where('place', '>', behind ?? 0))
      .$if(after !== undefined, (query) => query.where('journal', '>', after ?? ''))
      .$if(before !== undefined, (query) => query.where('journal', '<', before ?? ''));
  const ranges = rangesBeyond(known);
  const found: UnstatedAccess[] = [];
  for (let start = 0; start < ranges.length; start += rangesPerStep) {
    const [first = {}, ...rest] = ranges.slice(start, start + rangesPerStep);
    const rows = await rest.reduce((query, range) => query.unionAll(of(range)), of(first)).execute();
    found.push(...rows.map(accessOf));
  }
  return found.sort((a, b) => a.place - b.place);
};

/** Behind a final statement nothing waits any more. */
export const settleRest = async (db: Db, { participant, role, agreement }: AccountKey): Promise<void> => {
  await db
    .updateTable('unstated_access')
    .set({ settled: 1 })
    .where('participant', '=', participant)
    .where('role', '=', role)
    .where('agreement', '=', agreement)
    .where('settled', '=', 0)
    .execute();
};

export const createSqlUnstatedStore = (db: Db): UnstatedStore => ({
  put: (key, accesses) => db.transaction().execute((transaction) => putAccesses(transaction, key, accesses)),
  list: (key, known = new Map()) => list(db, key, known),
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
  settleLate: async ({ participant, role, agreement }, { charged, uncharged }) => {
    await db
      .updateTable('unstated_access')
      .set({ settled: 1 })
      .where('participant', '=', participant)
      .where('role', '=', role)
      .where('agreement', '=', agreement)
      .where('settled', '=', 0)
      .where((its) =>
        its.or([
          its('closed_at', '<', charged),
          its.and([its('closed_at', '<', uncharged), its('load_requests', '=', 0), its('load_bytes', '=', 0)]),
        ]),
      )
      .execute();
  },
  lastPlace: async () => {
    const row = await db
      .selectFrom('unstated_access')
      .select(({ fn }) => fn.max('place').as('last'))
      .executeTakeFirst();
    return row?.last == null ? undefined : Number(row.last);
  },
});
