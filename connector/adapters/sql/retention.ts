import { type Kysely, sql } from 'kysely';
import type { ParticipantId } from '../../../contracts/ids.ts';
import type { AcquisitionTables } from './acquisition-store.ts';
import type { MeteringTables } from './metering-tables.ts';
import type { ProcessTables } from './process-store.ts';

/**
 * What is forgotten, and what never is. A negotiation that brought an agreement is kept for ever, with both signatures and the
 * event that ended it: receipts rest on it. Statements and their records are not touched here at all.
 */

export type RetentionTables = ProcessTables & AcquisitionTables & Pick<MeteringTables, 'usage_account'>;

type Db = Kysely<RetentionTables>;

/** Rows of one statement: whoever else needs them does not wait long. */
const pieceSize = 200;

interface Finished {
  readonly participant: string;
  readonly pid: string;
  readonly updated_at: number;
}

/** Tokens that have expired: none of them can count again. */
export const forgetTokens = async (db: Db, now: number): Promise<number> =>
  inPieces(async () => {
    const { numAffectedRows } = await sql`delete from used_token where (issuer, jti) in
      (select issuer, jti from used_token where expires_at < ${now} limit ${pieceSize})`.execute(db);
    return Number(numAffectedRows ?? 0n);
  });

/** Answers to messages that were accepted before this time; a repeat of one is taken for a new message from then on. */
export const forgetMessages = async (db: Db, before: number): Promise<number> =>
  inPieces(async () => {
    const { numAffectedRows } = await sql`delete from received_message where (protocol, participant, peer, id) in
      (select protocol, participant, peer, id from received_message
        where received_at < ${before} order by received_at limit ${pieceSize})`.execute(db);
    return Number(numAffectedRows ?? 0n);
  });

/** Repeats what deletes a piece until there was less than one; how many rows went. */
const inPieces = async (removePiece: () => Promise<number>): Promise<number> => {
  for (let removed = 0; ; ) {
    const count = await removePiece();
    removed += count;
    if (count < pieceSize) return removed;
  }
};

const finishedBefore = (db: Db, protocol: 'negotiations' | 'transfers', before: number, after: Finished | undefined) =>
  db
    .selectFrom('process')
    .select(['participant', 'pid', 'updated_at'])
    .where('protocol', '=', protocol)
    .where('state', 'in', protocol === 'negotiations' ? ['TERMINATED'] : ['TERMINATED', 'COMPLETED'])
    .where('updated_at', '<', before)
    .$if(after !== undefined, (query) =>
      query.where(sql<boolean>`(updated_at, pid) > (${after?.updated_at ?? 0}, ${after?.pid ?? ''})`),
    )
    .orderBy('updated_at')
    .orderBy('pid')
    .limit(pieceSize)
    .execute();

const remove = (db: Db, protocol: 'negotiations' | 'transfers', rows: readonly Finished[]): Promise<void> =>
  db.transaction().execute(async (transaction) => {
    for (const [participant, its] of Map.groupBy(rows, (row) => row.participant)) {
      const pids = its.map(({ pid }) => pid);
      for (const table of ['process_name', 'process_group', 'process'] as const)
        await transaction
          .deleteFrom(table)
          .where('protocol', '=', protocol)
          .where('participant', '=', participant)
          .where('pid', 'in', pids)
          .execute();
      if (protocol === 'negotiations')
        await transaction
          .deleteFrom('acquisition')
          .where('participant', '=', participant)
          .where('negotiation', 'in', pids)
          .execute();
    }
  });

type Choose = (db: Db, participant: string, pids: readonly string[]) => Promise<ReadonlySet<string>>;

/** Negotiations that brought an agreement, in force or void: they stay. */
const withAgreement: Choose = async (db, participant, pids) => {
  const rows = await db
    .selectFrom('process_name')
    .select('pid')
    .where('protocol', '=', 'negotiations')
    .where('participant', '=', participant)
    .where('pid', 'in', pids)
    .where('name', '=', 'agreement')
    .execute();
  return new Set(rows.map(({ pid }) => pid));
};

/** Transfers under an agreement whose account is open: it is in force, or something under it is not stated yet. */
const withOpenAccount: Choose = async (db, participant, pids) => {
  const rows = await db
    .selectFrom('process_group')
    .innerJoin('usage_account', (join) =>
      join
        .onRef('usage_account.agreement_id', '=', 'process_group.value')
        .onRef('usage_account.participant', '=', 'process_group.participant'),
    )
    .select('process_group.pid')
    .where('process_group.protocol', '=', 'transfers')
    .where('process_group.participant', '=', participant)
    .where('process_group.name', '=', 'agreement')
    .where('process_group.pid', 'in', pids)
    .where('usage_account.closed', '=', 0)
    .execute();
  return new Set(rows.map(({ pid }) => pid));
};

const forgetFinished = async (
  db: Db,
  its: { readonly protocol: 'negotiations' | 'transfers'; readonly kept: Choose },
  before: number,
): Promise<number> => {
  let removed = 0;
  for (let after: Finished | undefined; ; ) {
    const rows = await finishedBefore(db, its.protocol, before, after);
    const gone: Finished[] = [];
    for (const [participant, of] of Map.groupBy(rows, (row) => row.participant)) {
      const pids = of.map(({ pid }) => pid);
      const kept = await its.kept(db, participant, pids);
      gone.push(...of.filter(({ pid }) => !kept.has(pid)));
    }
    if (gone.length > 0) await remove(db, its.protocol, gone);
    removed += gone.length;
    after = rows.at(-1);
    if (after === undefined || rows.length < pieceSize) return removed;
  }
};

/** Negotiations that ended before this time without any agreement. */
export const forgetNegotiations = (db: Db, before: number): Promise<number> =>
  forgetFinished(db, { protocol: 'negotiations', kept: withAgreement }, before);

/** Transfers that ended before this time, under agreements that are over and settled. */
export const forgetTransfers = (db: Db, before: number): Promise<number> =>
  forgetFinished(db, { protocol: 'transfers', kept: withOpenAccount }, before);

/** Those who have a catalog here. */
export const participantsWithCatalogs = async (
  db: Kysely<{ catalog_head: { participant: string } }>,
): Promise<readonly ParticipantId[]> => {
  const rows = await db.selectFrom('catalog_head').select('participant').execute();
  return rows.map(({ participant }) => participant as ParticipantId);
};
