import type { Kysely, Transaction } from 'kysely';
import { fromBase64Url, orNothing, toBase64Url } from '../../../contracts/bytes.ts';
import { AppError } from '../../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../../contracts/ids.ts';
import { canonicalize } from '../../../contracts/json.ts';
import { entryText, readEntry } from '../../../contracts/ledger/entry.ts';
import type { Followed, FollowedEntry } from '../../../contracts/ledger/follow.ts';
import { readNote } from '../../../contracts/ledger/note.ts';
import { readPublicArtifact } from '../../../contracts/ledger/public-entries.ts';
import type { Migration } from '../../../kernel/sql/migrate.ts';
import type { AlarmCode, AlarmStore, FollowedStore, KeptAlarm, LogPinStore, PinnedLog } from '../../evidence/ports.ts';

/** What is known of a log: its identity, how far it was followed, its public entries, and alarms with what shows them. */

export interface FollowedTables {
  log_pin: { broker_url: string; body: string };
  followed_log: { origin: string; size: number; note: string; stack: string };
  followed_entry: { origin: string; log_index: number; entry: string; artifact: string };
  alarm: { id: string; code: AlarmCode; participant: string | null; detail: string; evidence: string; at: number };
}

export const followedMigrations: readonly Migration<FollowedTables>[] = [
  {
    name: '2026-11-26-followed-log',
    up: async ({ schema }) => {
      await schema
        .createTable('log_pin')
        .addColumn('broker_url', 'text', (column) => column.primaryKey().notNull())
        .addColumn('body', 'text', (column) => column.notNull())
        .execute();
      await schema
        .createTable('followed_log')
        .addColumn('origin', 'text', (column) => column.primaryKey().notNull())
        .addColumn('size', 'bigint', (column) => column.notNull())
        .addColumn('note', 'text', (column) => column.notNull())
        .addColumn('stack', 'text', (column) => column.notNull())
        .execute();
      await schema
        .createTable('followed_entry')
        .addColumn('origin', 'text', (column) => column.notNull())
        .addColumn('log_index', 'bigint', (column) => column.notNull())
        .addColumn('entry', 'text', (column) => column.notNull())
        .addColumn('artifact', 'text', (column) => column.notNull())
        .addPrimaryKeyConstraint('followed_entry_pk', ['origin', 'log_index'])
        .execute();
      await schema
        .createTable('alarm')
        .addColumn('id', 'text', (column) => column.primaryKey().notNull())
        .addColumn('code', 'text', (column) => column.notNull())
        .addColumn('participant', 'text')
        .addColumn('detail', 'text', (column) => column.notNull())
        .addColumn('evidence', 'text', (column) => column.notNull())
        .addColumn('at', 'bigint', (column) => column.notNull())
        .execute();
      await schema.createIndex('alarm_at').on('alarm').columns(['at']).execute();
    },
  },
];

type Db = Kysely<FollowedTables>;

const damaged = (what: string): AppError =>
  new AppError('data-damaged', { detail: `what was kept of the followed log cannot be read: ${what}` });

interface StoredPeak {
  readonly level: number;
  readonly hash: string;
}

const decodeEntry = (row: FollowedTables['followed_entry']): FollowedEntry => {
  const index = Number(row.log_index);
  const entry = readEntry(row.entry);
  const value = JSON.parse(row.artifact) as FollowedEntry['value'];
  const artifact = readPublicArtifact(value);
  if (!entry.ok || !artifact.ok) throw damaged(`entry ${index}`);
  return { index, entry: entry.value, value, artifact: artifact.value };
};

const decodeFollowed = (
  row: FollowedTables['followed_log'],
  entries: readonly FollowedTables['followed_entry'][],
): Followed => {
  const note = readNote(row.note);
  if (!note.ok) throw damaged('the checkpoint');
  const stack = (JSON.parse(row.stack) as StoredPeak[]).map(({ level, hash }) => ({
    level,
    hash: orNothing(fromBase64Url(hash)),
  }));
  return { checkpoint: note.value.checkpoint, note: row.note, stack, publics: entries.map(decodeEntry) };
};

const encodeStack = ({ stack }: Followed): string =>
  JSON.stringify(stack.map(({ level, hash }): StoredPeak => ({ level, hash: toBase64Url(hash) })));

const isNextOf = async (
  transaction: Transaction<FollowedTables>,
  from: number,
  row: FollowedTables['followed_log'],
): Promise<boolean> => {
  const { numInsertedOrUpdatedRows = 0n } =
    from === 0
      ? await transaction
          .insertInto('followed_log')
          .values(row)
          .onConflict((conflict) => conflict.doNothing())
          .executeTakeFirst()
      : {};
  if (from === 0) return numInsertedOrUpdatedRows === 1n;
  const { numUpdatedRows } = await transaction
    .updateTable('followed_log')
    .set(row)
    .where('origin', '=', row.origin)
    .where('size', '=', from)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
};

export const createSqlFollowedStore = (db: Db): FollowedStore => ({
  load: async (origin) => {
    const row = await db.selectFrom('followed_log').selectAll().where('origin', '=', origin).executeTakeFirst();
    if (row === undefined) return undefined;
    const entries = await db
      .selectFrom('followed_entry')
      .selectAll()
      .where('origin', '=', origin)
      .where('log_index', '<', Number(row.size))
      .orderBy('log_index')
      .execute();
    return decodeFollowed(row, entries);
  },
  save: (origin, from, next) =>
    db.transaction().execute(async (transaction) => {
      const { note, checkpoint, publics } = next;
      const row = { origin, size: checkpoint.size, note, stack: encodeStack(next) };
      if (!(await isNextOf(transaction, from, row))) return false;
      for (const { index, entry, value } of publics.filter((one) => one.index >= from)) {
        const values = { origin, log_index: index, entry: entryText(entry), artifact: canonicalize(value) };
        await transaction.insertInto('followed_entry').values(values).execute();
      }
      return true;
    }),
});

export const createSqlLogPinStore = (db: Db): LogPinStore => {
  const pinned = async (brokerUrl: string): Promise<PinnedLog | undefined> => {
    const row = await db.selectFrom('log_pin').select('body').where('broker_url', '=', brokerUrl).executeTakeFirst();
    if (row === undefined) return undefined;
    const kept = JSON.parse(row.body) as Omit<PinnedLog, 'broker'> & { readonly broker: string };
    return { ...kept, broker: kept.broker as Did };
  };
  return {
    pinned,
    pin: async (brokerUrl, log) => {
      await db
        .insertInto('log_pin')
        .values({ broker_url: brokerUrl, body: JSON.stringify(log) })
        .onConflict((conflict) => conflict.doNothing())
        .execute();
      return (await pinned(brokerUrl)) ?? log;
    },
  };
};

export const createSqlAlarmStore = (db: Db): AlarmStore => ({
  keep: async ({ id, code, participant, detail, evidence, at }) => {
    const { numInsertedOrUpdatedRows } = await db
      .insertInto('alarm')
      .values({ id, code, participant, detail, evidence: canonicalize(evidence), at })
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    return numInsertedOrUpdatedRows === 1n;
  },
  list: async (limit) => {
    const rows = await db.selectFrom('alarm').selectAll().orderBy('at', 'desc').orderBy('id').limit(limit).execute();
    return rows.map(
      ({ participant, evidence, at, ...rest }): KeptAlarm => ({
        ...rest,
        participant: participant as ParticipantId | null,
        evidence: JSON.parse(evidence),
        at: Number(at),
      }),
    );
  },
});
