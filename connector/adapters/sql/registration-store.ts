import type { Kysely, Selectable } from 'kysely';
import type { ParticipantId } from '../../../contracts/ids.ts';
import type { Migration } from '../../../kernel/sql/migrate.ts';
import { hurryTask, type OutboxTable, putTask } from '../../../kernel/sql/outbox.ts';
import type {
  PromiseStore,
  Registration,
  RegistrationKind,
  RegistrationOutcome,
  RegistrationStore,
} from '../../evidence/ports.ts';

/** Registrations and what became of their promises; the task of each is saved with it. */

export interface RegistrationTables extends OutboxTable {
  registration: {
    participant: string;
    digest: string;
    kind: RegistrationKind;
    agreement_digest: string;
    subject: string;
    artifact: string;
    sums: string | null;
    leaf_key: string | null;
    created_at: number;
    state: RegistrationOutcome['state'];
    settled_at: number | null;
    reason: string | null;
    origin: string | null;
    log_index: number | null;
    promise: string | null;
    leaf_hash: string | null;
    registered_artifact: string | null;
    /** `open`, `proven` or `broken` once there is a promise. */
    promise_state: string | null;
  };
}

export const registrationMigrations: readonly Migration<RegistrationTables>[] = [
  {
    name: '2026-11-26-registration',
    up: async ({ schema }) => {
      await schema
        .createTable('registration')
        .addColumn('participant', 'text', (column) => column.notNull())
        .addColumn('digest', 'text', (column) => column.notNull())
        .addColumn('kind', 'text', (column) => column.notNull())
        .addColumn('agreement_digest', 'text', (column) => column.notNull())
        .addColumn('subject', 'text', (column) => column.notNull())
        .addColumn('artifact', 'text', (column) => column.notNull())
        .addColumn('sums', 'text')
        .addColumn('leaf_key', 'text')
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .addColumn('state', 'text', (column) => column.notNull())
        .addColumn('settled_at', 'bigint')
        .addColumn('reason', 'text')
        .addColumn('origin', 'text')
        .addColumn('log_index', 'bigint')
        .addColumn('promise', 'text')
        .addColumn('leaf_hash', 'text')
        .addColumn('registered_artifact', 'text')
        .addColumn('promise_state', 'text')
        .addPrimaryKeyConstraint('registration_pk', ['participant', 'digest'])
        .execute();
      await schema
        .createIndex('registration_subject')
        .on('registration')
        .columns(['participant', 'agreement_digest', 'kind', 'subject'])
        .execute();
      await schema
        .createIndex('registration_promise')
        .on('registration')
        .columns(['origin', 'promise_state', 'log_index'])
        .execute();
    },
  },
];

type Tables = RegistrationTables['registration'];
type Row = Selectable<Tables>;
type Db = Kysely<RegistrationTables>;
type Outcome = Pick<
  Tables,
  | 'state'
  | 'settled_at'
  | 'reason'
  | 'origin'
  | 'log_index'
  | 'promise'
  | 'leaf_hash'
  | 'registered_artifact'
  | 'promise_state'
>;

const nothing: Omit<Outcome, 'state'> = {
  settled_at: null,
  reason: null,
  origin: null,
  log_index: null,
  promise: null,
  leaf_hash: null,
  registered_artifact: null,
  promise_state: null,
};

const encodeOutcome = (outcome: RegistrationOutcome): Outcome => {
  switch (outcome.state) {
    case 'waiting':
      return { ...nothing, state: 'waiting' };
    case 'refused':
      return { ...nothing, state: 'refused', settled_at: outcome.at, reason: outcome.reason };
    case 'registered':
      return {
        ...nothing,
        state: 'registered',
        settled_at: outcome.at,
        origin: outcome.origin,
        log_index: outcome.index,
        promise: JSON.stringify(outcome.promise),
        leaf_hash: outcome.leafHash,
        registered_artifact: outcome.artifact === null ? null : JSON.stringify(outcome.artifact),
        promise_state: 'open',
      };
  }
};

const encode = (registration: Registration): Tables => ({
  participant: registration.participant,
  digest: registration.digest,
  kind: registration.kind,
  agreement_digest: registration.agreementDigest,
  subject: registration.subject,
  artifact: JSON.stringify(registration.artifact),
  sums: registration.sums === null ? null : JSON.stringify(registration.sums),
  leaf_key: registration.leafKey === null ? null : JSON.stringify(registration.leafKey),
  created_at: registration.createdAt,
  ...encodeOutcome(registration.outcome),
});

const decodeOutcome = (row: Row): RegistrationOutcome => {
  const at = Number(row.settled_at);
  if (row.state === 'refused') return { state: 'refused', at, reason: row.reason ?? '' };
  if (row.state === 'waiting') return { state: 'waiting' };
  return {
    state: 'registered',
    at,
    origin: row.origin ?? '',
    index: Number(row.log_index),
    promise: JSON.parse(row.promise ?? 'null'),
    leafHash: row.leaf_hash ?? '',
    artifact: JSON.parse(row.registered_artifact ?? 'null'),
  };
};

/** What stands in our own columns was written by `encode`, so its forms are known. */
const decode = (row: Row): Registration => ({
  participant: row.participant as ParticipantId,
  digest: row.digest,
  kind: row.kind,
  agreementDigest: row.agreement_digest,
  subject: row.subject,
  artifact: JSON.parse(row.artifact),
  sums: JSON.parse(row.sums ?? 'null'),
  leafKey: JSON.parse(row.leaf_key ?? 'null'),
  createdAt: Number(row.created_at),
  outcome: decodeOutcome(row),
});

/** Each registration has one task, under its own name. */
const taskOf = ({ participant, digest }: Pick<Registration, 'participant' | 'digest'>) => ({
  id: `${participant} ${digest}`,
  topic: 'registrations',
  participant,
  subject: digest,
});

const order: readonly RegistrationOutcome['state'][] = ['registered', 'waiting', 'refused'];
const rank = (one: Registration): number => order.indexOf(one.outcome.state);

export const createSqlRegistrationStore = (db: Db): RegistrationStore => {
  const one = (participant: ParticipantId, digest: string) =>
    db.selectFrom('registration').selectAll().where('participant', '=', participant).where('digest', '=', digest);
  return {
    add: (registration, dueAt) =>
      db.transaction().execute(async (transaction) => {
        const { numInsertedOrUpdatedRows } = await transaction
          .insertInto('registration')
          .values(encode(registration))
          .onConflict((conflict) => conflict.doNothing())
          .executeTakeFirst();
        if (numInsertedOrUpdatedRows !== 1n) return false;
        await putTask(transaction, taskOf(registration), dueAt);
        return true;
      }),
    find: async (participant, digest) => {
      const row = await one(participant, digest).executeTakeFirst();
      return row && decode(row);
    },
    bySubject: async (participant, { kind, agreementDigest, subject }) => {
      const rows = await db
        .selectFrom('registration')
        .selectAll()
        .where('participant', '=', participant)
        .where('agreement_digest', '=', agreementDigest)
        .where('kind', '=', kind)
        .where('subject', '=', subject)
        .orderBy('created_at', 'desc')
        .execute();
      return rows.map(decode).sort((a, b) => rank(a) - rank(b))[0];
    },
    settle: (settled, wake) =>
      db.transaction().execute(async (transaction) => {
        const { numUpdatedRows } = await transaction
          .updateTable('registration')
          .set({ ...encodeOutcome(settled.outcome), leaf_key: encode(settled).leaf_key })
          .where('participant', '=', settled.participant)
          .where('digest', '=', settled.digest)
          .where('state', '=', 'waiting')
          .executeTakeFirst();
        if (numUpdatedRows !== 1n) return;
        const { participant } = settled;
        for (const { digest, dueAt } of wake) await hurryTask(transaction, taskOf({ participant, digest }), dueAt);
      }),
    again: (participant, digest, dueAt) =>
      db.transaction().execute(async (transaction) => {
        const { numUpdatedRows } = await transaction
          .updateTable('registration')
          .set(encodeOutcome({ state: 'waiting' }))
          .where('participant', '=', participant)
          .where('digest', '=', digest)
          .where('state', '=', 'refused')
          .executeTakeFirst();
        const task = taskOf({ participant, digest });
        // The worker may be about to take away the task that was refused: this one has a name of its own.
        if (numUpdatedRows === 1n) await putTask(transaction, { ...task, id: `${task.id} ${dueAt}` }, dueAt);
        else await hurryTask(transaction, task, dueAt);
      }),
  };
};

export const createSqlPromiseStore = (db: Db): PromiseStore => {
  const promised = (origin: string, limit: number) =>
    db
      .selectFrom('registration')
      .selectAll()
      .where('origin', '=', origin)
      .where('promise_state', '=', 'open')
      .orderBy('log_index')
      .limit(limit);
  return {
    open: async (origin, { below, limit }) =>
      (await promised(origin, limit).where('log_index', '<', below).execute()).map(decode),
    uncovered: async (origin, { from, before, limit }) =>
      (await promised(origin, limit).where('log_index', '>=', from).where('settled_at', '<', before).execute()).map(
        decode,
      ),
    mark: async (participant, digest, state) => {
      await db
        .updateTable('registration')
        .set({ promise_state: state })
        .where('participant', '=', participant)
        .where('digest', '=', digest)
        .where('promise_state', '=', 'open')
        .execute();
    },
  };
};
