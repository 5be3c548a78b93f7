import type { Kysely } from 'kysely';
import type { BrokerEvent } from '../../../contracts/events.ts';
import type { Did } from '../../../contracts/ids.ts';
import { jwsText } from '../../../contracts/ledger/jws.ts';
import type { DatedChange } from '../../../contracts/standing.ts';
import type { Migration } from '../../../kernel/sql/migrate.ts';
import type {
  EventReader,
  EventStore,
  KnownNotice,
  LogPlace,
  NewEvent,
  Position,
  StoredEvent,
} from '../../events/ports.ts';

/**
 * The queue of events in SQL. An event for all is one row, whatever the number of members: `broadcasts` counts the events for
 * all up to a row, `ordinal` those for one recipient alone, and the sum of the two is the recipient's own number.
 */
export interface EventTables {
  /** One row: how far the queue is, also when its rows were pruned. */
  event_head: { id: string; seq: number; broadcasts: number };
  event: {
    seq: number;
    key: string;
    type: BrokerEvent['type'];
    subject: string;
    at: number;
    effective_at: number;
    evidence: string | null;
    is_broadcast: number;
    broadcasts: number;
  };
  event_recipient: { recipient: string; seq: number; ordinal: number };
  /** How many events a recipient got alone. */
  event_count: { recipient: string; ordinal: number };
  /** What is in force: the last word of an issuer about a subject. */
  event_notice: {
    issuer: string;
    subject: string;
    type: DatedChange['type'];
    notice_at: number;
    at: number;
    effective_at: number;
    evidence: string | null;
    is_broadcast: number;
  };
  event_notice_recipient: { recipient: string; issuer: string; subject: string };
  /** How far each log was listened to. */
  event_log: { log: string; size: number };
}

export const eventMigrations: readonly Migration<EventTables>[] = [
  {
    name: '2026-11-26-events',
    up: async (db) => {
      const { schema } = db;
      await schema
        .createTable('event_head')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('seq', 'bigint', (column) => column.notNull())
        .addColumn('broadcasts', 'bigint', (column) => column.notNull())
        .execute();
      await db.insertInto('event_head').values({ id: 'events', seq: 0, broadcasts: 0 }).execute();
      await schema
        .createTable('event')
        .addColumn('seq', 'bigint', (column) => column.primaryKey())
        .addColumn('key', 'text', (column) => column.notNull().unique())
        .addColumn('type', 'text', (column) => column.notNull())
        .addColumn('subject', 'text', (column) => column.notNull())
        .addColumn('at', 'bigint', (column) => column.notNull())
        .addColumn('effective_at', 'bigint', (column) => column.notNull())
        .addColumn('evidence', 'text')
        .addColumn('is_broadcast', 'integer', (column) => column.notNull())
        .addColumn('broadcasts', 'bigint', (column) => column.notNull())
        .execute();
      await schema.createIndex('event_broadcast').on('event').columns(['is_broadcast', 'seq']).execute();
      await schema.createIndex('event_at').on('event').columns(['at']).execute();
      await schema
        .createTable('event_recipient')
        .addColumn('recipient', 'text', (column) => column.notNull())
        .addColumn('seq', 'bigint', (column) => column.notNull())
        .addColumn('ordinal', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('event_recipient_pk', ['recipient', 'seq'])
        .execute();
      await schema.createIndex('event_recipient_seq').on('event_recipient').columns(['seq']).execute();
      await schema
        .createTable('event_count')
        .addColumn('recipient', 'text', (column) => column.primaryKey())
        .addColumn('ordinal', 'bigint', (column) => column.notNull())
        .execute();
      await createNoticeTables(db);
    },
  },
  {
    name: '2026-11-26-event-log',
    up: async ({ schema }) => {
      await schema
        .createTable('event_log')
        .addColumn('log', 'text', (column) => column.primaryKey())
        .addColumn('size', 'bigint', (column) => column.notNull())
        .execute();
    },
  },
];

const createNoticeTables = async ({ schema }: Kysely<EventTables>): Promise<void> => {
  await schema
    .createTable('event_notice')
    .addColumn('issuer', 'text', (column) => column.notNull())
    .addColumn('subject', 'text', (column) => column.notNull())
    .addColumn('type', 'text', (column) => column.notNull())
    .addColumn('notice_at', 'bigint', (column) => column.notNull())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('effective_at', 'bigint', (column) => column.notNull())
    .addColumn('evidence', 'text')
    .addColumn('is_broadcast', 'integer', (column) => column.notNull())
    .addPrimaryKeyConstraint('event_notice_pk', ['issuer', 'subject'])
    .execute();
  await schema.createIndex('event_notice_subject').on('event_notice').columns(['subject']).execute();
  await schema.createIndex('event_notice_at').on('event_notice').columns(['is_broadcast', 'at']).execute();
  await schema
    .createTable('event_notice_recipient')
    .addColumn('recipient', 'text', (column) => column.notNull())
    .addColumn('issuer', 'text', (column) => column.notNull())
    .addColumn('subject', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('event_notice_recipient_pk', ['recipient', 'issuer', 'subject'])
    .execute();
};

type Db = Kysely<EventTables>;

const readHead = async (db: Db): Promise<{ seq: number; broadcasts: number }> => {
  const row = await db.selectFrom('event_head').selectAll().where('id', '=', 'events').executeTakeFirstOrThrow();
  return { seq: Number(row.seq), broadcasts: Number(row.broadcasts) };
};

const countOf = async (db: Db, recipient: string): Promise<number> => {
  const row = await db
    .selectFrom('event_count')
    .select('ordinal')
    .where('recipient', '=', recipient)
    .executeTakeFirst();
  return Number(row?.ordinal ?? 0);
};

const positionOf = async (db: Db, recipient: Did): Promise<Position> => {
  const { seq, broadcasts } = await readHead(db);
  return { seq, n: broadcasts + (await countOf(db, recipient)) };
};

const address = async (db: Db, seq: number, audience: readonly Did[]): Promise<void> => {
  for (const recipient of new Set(audience)) {
    const ordinal = (await countOf(db, recipient)) + 1;
    await db.insertInto('event_recipient').values({ recipient, seq, ordinal }).execute();
    await db
      .insertInto('event_count')
      .values({ recipient, ordinal })
      .onConflict((conflict) => conflict.column('recipient').doUpdateSet({ ordinal }))
      .execute();
  }
};

const keepNotice = async (db: Db, event: NewEvent, evidence: string | null): Promise<void> => {
  if (event.notice === null || event.type === 'keys' || event.type === 'policy') return;
  const { issuer } = event.notice;
  const { type, subject, audience } = event;
  const values = {
    type,
    notice_at: event.notice.at,
    at: event.at,
    effective_at: event.effectiveAt,
    evidence,
    is_broadcast: audience === null ? 1 : 0,
  };
  await db
    .insertInto('event_notice')
    .values({ issuer, subject, ...values })
    .onConflict((conflict) => conflict.columns(['issuer', 'subject']).doUpdateSet(values))
    .execute();
  for (const recipient of new Set(audience ?? []))
    await db
      .insertInto('event_notice_recipient')
      .values({ recipient, issuer, subject })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
};

const heardOf = async (db: Db, log: string): Promise<number> => {
  const row = await db.selectFrom('event_log').select('size').where('log', '=', log).executeTakeFirst();
  return Number(row?.size ?? 0);
};

const noteHeard = async (db: Db, log: string, size: number): Promise<void> => {
  await db
    .insertInto('event_log')
    .values({ log, size })
    .onConflict((conflict) => conflict.column('log').doUpdateSet({ size }).where('event_log.size', '<', size))
    .execute();
};

const wasHeard = async (db: Db, source: LogPlace | null): Promise<boolean> =>
  source !== null && source.index < (await heardOf(db, source.log));

const hasChanged = async (db: Db, { notice, subject }: NewEvent, expected: number | null): Promise<boolean> => {
  if (notice === null) return false;
  const row = await db
    .selectFrom('event_notice')
    .select('notice_at')
    .where('issuer', '=', notice.issuer)
    .where('subject', '=', subject)
    .executeTakeFirst();
  return (row === undefined ? null : Number(row.notice_at)) !== expected;
};

const append = async (db: Db, event: NewEvent, expected: number | null): Promise<'appended' | 'known' | 'conflict'> => {
  const same = await db.selectFrom('event').select('seq').where('key', '=', event.key).executeTakeFirst();
  if (same !== undefined || (await wasHeard(db, event.source))) return 'known';
  if (await hasChanged(db, event, expected)) return 'conflict';
  const head = await readHead(db);
  const seq = head.seq + 1;
  const broadcasts = head.broadcasts + (event.audience === null ? 1 : 0);
  const evidence = event.evidence === null ? null : jwsText(event.evidence);
  const { key, type, subject, at } = event;
  await db
    .insertInto('event')
    .values({
      seq,
      key,
      type,
      subject,
      at,
      effective_at: event.effectiveAt,
      evidence,
      is_broadcast: event.audience === null ? 1 : 0,
      broadcasts,
    })
    .execute();
  await address(db, seq, event.audience ?? []);
  await keepNotice(db, event, evidence);
  if (event.source !== null) await noteHeard(db, event.source.log, event.source.index + 1);
  await db.updateTable('event_head').set({ seq, broadcasts }).where('id', '=', 'events').execute();
  return 'appended';
};

interface Content {
  readonly type: BrokerEvent['type'];
  readonly subject: string;
  readonly at: number;
  readonly effective_at: number;
  readonly evidence: string | null;
}

const contentOf = (row: Content) => ({
  type: row.type,
  subject: row.subject,
  at: Number(row.at),
  effectiveAt: Number(row.effective_at),
  evidence: row.evidence === null ? null : JSON.parse(row.evidence),
});

const storedOf = (row: EventTables['event'], audience: readonly Did[] | null): StoredEvent => ({
  seq: Number(row.seq),
  ...contentOf(row),
  audience,
});

const since = async (db: Db, seq: number, limit: number): Promise<readonly StoredEvent[]> => {
  const rows = await db.selectFrom('event').selectAll().where('seq', '>', seq).orderBy('seq').limit(limit).execute();
  const addressed = rows.filter((row) => row.is_broadcast === 0).map((row) => Number(row.seq));
  const recipients =
    addressed.length === 0
      ? []
      : await db.selectFrom('event_recipient').selectAll().where('seq', 'in', addressed).execute();
  const bySeq = Map.groupBy(recipients, (row) => Number(row.seq));
  return rows.map((row) =>
    storedOf(
      row,
      row.is_broadcast === 1 ? null : (bySeq.get(Number(row.seq)) ?? []).map(({ recipient }) => recipient as Did),
    ),
  );
};

/** The last `count` events of a recipient, in order; fewer when older ones were pruned. */
const lastOf = async (db: Db, recipient: Did, count: number): Promise<readonly StoredEvent[]> => {
  const forAll = await db
    .selectFrom('event')
    .selectAll()
    .where('is_broadcast', '=', 1)
    .orderBy('seq', 'desc')
    .limit(count)
    .execute();
  const forOne = await db
    .selectFrom('event_recipient')
    .innerJoin('event', 'event.seq', 'event_recipient.seq')
    .selectAll('event')
    .where('event_recipient.recipient', '=', recipient)
    .orderBy('event_recipient.seq', 'desc')
    .limit(count)
    .execute();
  const all = [...forAll.map((row) => storedOf(row, null)), ...forOne.map((row) => storedOf(row, [recipient]))];
  return all.sort((a, b) => a.seq - b.seq).slice(-count);
};

const createReader = (db: Db): EventReader => ({
  head: async () => (await readHead(db)).seq,
  heardOf: (log) => heardOf(db, log),
  since: (seq, limit) => db.transaction().execute((transaction) => since(transaction, seq, limit)),
  missed: (recipient, n, limit) =>
    db.transaction().execute(async (transaction) => {
      const position = await positionOf(transaction, recipient);
      const count = position.n - n;
      if (count < 0 || count > limit) return undefined;
      const events = count === 0 ? [] : await lastOf(transaction, recipient, count);
      return events.length === count ? { position, events } : undefined;
    }),
  inForce: (recipient, from) =>
    db.transaction().execute(async (transaction) => {
      const position = await positionOf(transaction, recipient);
      const forAll = await transaction
        .selectFrom('event_notice')
        .selectAll()
        .where('is_broadcast', '=', 1)
        .where('at', '>=', from)
        .execute();
      const forOne = await transaction
        .selectFrom('event_notice_recipient')
        .innerJoin('event_notice', (join) =>
          join
            .onRef('event_notice.issuer', '=', 'event_notice_recipient.issuer')
            .onRef('event_notice.subject', '=', 'event_notice_recipient.subject'),
        )
        .selectAll('event_notice')
        .where('event_notice_recipient.recipient', '=', recipient)
        .where('event_notice.at', '>=', from)
        .execute();
      return { position, events: [...forAll, ...forOne].map(contentOf).sort((a, b) => a.at - b.at) };
    }),
});

/** The queue of events over SQL. */
export const createSqlEventStore = (db: Db): EventStore => ({
  append: (event, expected) => db.transaction().execute((transaction) => append(transaction, event, expected)),
  notices: async (subject) => {
    const rows = await db.selectFrom('event_notice').selectAll().where('subject', '=', subject).execute();
    return rows.map((row): KnownNotice => ({ issuer: row.issuer as Did, type: row.type, at: Number(row.notice_at) }));
  },
  heard: (log, size) => noteHeard(db, log, size),
  prune: (before) =>
    db.transaction().execute(async (transaction) => {
      await transaction
        .deleteFrom('event_recipient')
        .where('seq', 'in', (eb) => eb.selectFrom('event').select('seq').where('at', '<', before))
        .execute();
      await transaction.deleteFrom('event').where('at', '<', before).execute();
    }),
  read: createReader(db),
});
