import type { Kysely } from 'kysely';
import type { Did, ParticipantId } from '../../../contracts/ids.ts';
import type { CredentialType } from '../../../contracts/vc/credential.ts';
import type { Migration } from '../../../kernel/sql/migrate.ts';
import { type OutboxTable, putTask } from '../../../kernel/sql/outbox.ts';
import type {
  CredentialOffer,
  CredentialRequest,
  CredentialStore,
  HeldCredential,
  JoinRecord,
  JoinStore,
  OfferStore,
  Settlement,
  WalletReader,
} from '../../identity/ports.ts';
import { offerTopic, requestTopic } from '../../identity/rules.ts';

/** The wallets of all participants of a deployment over SQL, with the tasks that requests and offers bring. */

export interface IdentityTables extends OutboxTable {
  held_credential: {
    participant: string;
    id: string;
    type: CredentialType;
    issuer: string;
    matter: string;
    jwt: string;
    valid_from: number;
    valid_until: number;
    received_at: number;
  };
  credential_request: {
    participant: string;
    holder_pid: string;
    issuer: string;
    type: CredentialType;
    object: string;
    status: 'OPEN' | 'ISSUED' | 'REJECTED';
    status_url: string | null;
    tokens: string;
    reason: string;
    /** Ids of what was delivered, sorted, as JSON. */
    delivered: string;
    created_at: number;
    updated_at: number;
  };
  credential_offer: { participant: string; id: string; issuer: string; objects: string; received_at: number };
  joined_broker: {
    participant: string;
    broker: string;
    document: string;
    artifact: string;
    is_replaced: number;
    registered_at: number | null;
  };
  peer_facts: { participant: string; did: string; facts: string; valid_until: number };
  peer_credential: { credential: string; participant: string; did: string };
}

type Db = Kysely<IdentityTables>;
type Schema = Db['schema'];

const createWallet = async (schema: Schema): Promise<void> => {
  await schema
    .createTable('held_credential')
    .addColumn('participant', 'text', (column) => column.notNull())
    .addColumn('id', 'text', (column) => column.notNull())
    .addColumn('type', 'text', (column) => column.notNull())
    .addColumn('issuer', 'text', (column) => column.notNull())
    .addColumn('matter', 'text', (column) => column.notNull())
    .addColumn('jwt', 'text', (column) => column.notNull())
    .addColumn('valid_from', 'bigint', (column) => column.notNull())
    .addColumn('valid_until', 'bigint', (column) => column.notNull())
    .addColumn('received_at', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('held_credential_pk', ['participant', 'issuer', 'id'])
    .execute();
  await schema
    .createTable('credential_request')
    .addColumn('participant', 'text', (column) => column.notNull())
    .addColumn('holder_pid', 'text', (column) => column.notNull())
    .addColumn('issuer', 'text', (column) => column.notNull())
    .addColumn('type', 'text', (column) => column.notNull())
    .addColumn('object', 'text', (column) => column.notNull())
    .addColumn('status', 'text', (column) => column.notNull())
    .addColumn('status_url', 'text')
    .addColumn('tokens', 'text', (column) => column.notNull())
    .addColumn('reason', 'text', (column) => column.notNull())
    .addColumn('delivered', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('updated_at', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('credential_request_pk', ['participant', 'holder_pid'])
    .execute();
  await schema
    .createTable('credential_offer')
    .addColumn('participant', 'text', (column) => column.notNull())
    .addColumn('id', 'text', (column) => column.notNull())
    .addColumn('issuer', 'text', (column) => column.notNull())
    .addColumn('objects', 'text', (column) => column.notNull())
    .addColumn('received_at', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('credential_offer_pk', ['participant', 'id'])
    .execute();
};

const createJoins = async (schema: Schema): Promise<void> => {
  await schema
    .createTable('joined_broker')
    .addColumn('participant', 'text', (column) => column.notNull())
    .addColumn('broker', 'text', (column) => column.notNull())
    .addColumn('document', 'text', (column) => column.notNull())
    .addColumn('artifact', 'text', (column) => column.notNull())
    .addColumn('is_replaced', 'integer', (column) => column.notNull())
    .addColumn('registered_at', 'bigint')
    .addPrimaryKeyConstraint('joined_broker_pk', ['participant', 'broker'])
    .execute();
};

const createPeers = async (schema: Schema): Promise<void> => {
  await schema
    .createTable('peer_facts')
    .addColumn('participant', 'text', (column) => column.notNull())
    .addColumn('did', 'text', (column) => column.notNull())
    .addColumn('facts', 'text', (column) => column.notNull())
    .addColumn('valid_until', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('peer_facts_pk', ['participant', 'did'])
    .execute();
  await schema
    .createTable('peer_credential')
    .addColumn('credential', 'text', (column) => column.notNull())
    .addColumn('participant', 'text', (column) => column.notNull())
    .addColumn('did', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('peer_credential_pk', ['credential', 'participant', 'did'])
    .execute();
};

export const identityMigrations: readonly Migration<IdentityTables>[] = [
  {
    name: '2026-11-26-identity',
    up: async ({ schema }) => {
      await createWallet(schema);
      await createJoins(schema);
      await createPeers(schema);
    },
  },
];

const heldOf = (row: IdentityTables['held_credential']): HeldCredential => ({
  participant: row.participant as ParticipantId,
  id: row.id,
  type: row.type,
  issuer: row.issuer as Did,
  matter: row.matter,
  jwt: row.jwt,
  validFrom: Number(row.valid_from),
  validUntil: Number(row.valid_until),
  receivedAt: Number(row.received_at),
});

const requestOf = (row: IdentityTables['credential_request']): CredentialRequest => ({
  participant: row.participant as ParticipantId,
  holderPid: row.holder_pid,
  issuer: row.issuer as Did,
  type: row.type,
  object: row.object,
  status: row.status,
  statusUrl: row.status_url,
  tokens: JSON.parse(row.tokens),
  reason: row.reason,
  createdAt: Number(row.created_at),
  updatedAt: Number(row.updated_at),
});

const createReader = (db: Db): WalletReader => {
  const requests = (participant: ParticipantId) =>
    db.selectFrom('credential_request').selectAll().where('participant', '=', participant);
  return {
    request: async (participant, holderPid) => {
      const row = await requests(participant).where('holder_pid', '=', holderPid).executeTakeFirst();
      return row === undefined ? undefined : requestOf(row);
    },
    requests: async (participant, limit) => {
      const rows = await requests(participant)
        .orderBy('created_at', 'desc')
        .orderBy('holder_pid', 'desc')
        .limit(limit)
        .execute();
      return rows.map(requestOf);
    },
    open: async (participant, issuer, since) => {
      const rows = await requests(participant)
        .where('issuer', '=', issuer)
        .where('status', '=', 'OPEN')
        .where('created_at', '>=', since)
        .orderBy('created_at')
        .execute();
      return rows.map(requestOf);
    },
    held: async (participant, now) => {
      const rows = await db
        .selectFrom('held_credential')
        .selectAll()
        .where('participant', '=', participant)
        .where('valid_until', '>', now)
        .orderBy('valid_from', 'desc')
        .orderBy('id')
        .execute();
      return rows.map(heldOf);
    },
  };
};

const addRequest = async (db: Db, request: CredentialRequest): Promise<void> => {
  const { participant, holderPid, issuer, type, object, status, statusUrl, tokens, reason } = request;
  await db.transaction().execute(async (transaction) => {
    const { numInsertedOrUpdatedRows } = await transaction
      .insertInto('credential_request')
      .values({
        participant,
        holder_pid: holderPid,
        issuer,
        type,
        object,
        status,
        status_url: statusUrl,
        tokens: JSON.stringify(tokens),
        reason,
        delivered: '[]',
        created_at: request.createdAt,
        updated_at: request.updatedAt,
      })
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    if (numInsertedOrUpdatedRows !== 1n) return;
    await putTask(
      transaction,
      { id: holderPid, topic: requestTopic, participant, subject: holderPid },
      request.createdAt,
    );
  });
};

const noteAttempt = async (db: Db, participant: ParticipantId, holderPid: string, hash: string): Promise<void> => {
  await db.transaction().execute(async (transaction) => {
    const row = await transaction
      .selectFrom('credential_request')
      .select('tokens')
      .where('participant', '=', participant)
      .where('holder_pid', '=', holderPid)
      .executeTakeFirst();
    const tokens: readonly string[] = JSON.parse(row?.tokens ?? '[]');
    if (tokens.includes(hash)) return;
    await transaction
      .updateTable('credential_request')
      .set({ tokens: JSON.stringify([...tokens, hash]) })
      .where('participant', '=', participant)
      .where('holder_pid', '=', holderPid)
      .execute();
  });
};

/** An issuer may issue under the same id again; the later one stands. */
const putHeld = async (db: Db, one: HeldCredential): Promise<void> => {
  const { participant, id, type, issuer, matter, jwt } = one;
  const values = {
    type,
    matter,
    jwt,
    valid_from: one.validFrom,
    valid_until: one.validUntil,
    received_at: one.receivedAt,
  };
  await db
    .insertInto('held_credential')
    .values({ participant, id, issuer, ...values })
    .onConflict((conflict) => conflict.columns(['participant', 'issuer', 'id']).doUpdateSet(values))
    .execute();
};

const settle = (db: Db, settlement: Settlement): Promise<'settled' | 'repeated' | 'refused'> =>
  db.transaction().execute(async (transaction) => {
    const { participant, holderPid, status, reason, credentials, at } = settlement;
    const delivered = JSON.stringify(credentials.map(({ id }) => id).sort());
    const { numUpdatedRows } = await transaction
      .updateTable('credential_request')
      .set({ status, reason, delivered, updated_at: at })
      .where('participant', '=', participant)
      .where('holder_pid', '=', holderPid)
      .where('status', '=', 'OPEN')
      .executeTakeFirst();
    if (numUpdatedRows === 1n) {
      for (const one of credentials) await putHeld(transaction, one);
      return 'settled';
    }
    const before = await transaction
      .selectFrom('credential_request')
      .select(['status', 'delivered'])
      .where('participant', '=', participant)
      .where('holder_pid', '=', holderPid)
      .executeTakeFirst();
    return before?.status === status && before.delivered === delivered ? 'repeated' : 'refused';
  });

/** A sender that offers without end is told to wait. */
const maxOffers = 100;

const createOffers = (db: Db): OfferStore => ({
  put: ({ participant, id, issuer, objects, receivedAt }: CredentialOffer) =>
    db.transaction().execute(async (transaction) => {
      const { count } = await transaction
        .selectFrom('credential_offer')
        .select(({ fn }) => fn.countAll<number>().as('count'))
        .where('participant', '=', participant)
        .executeTakeFirstOrThrow();
      if (Number(count) >= maxOffers) return 'full';
      await transaction
        .insertInto('credential_offer')
        .values({ participant, id, issuer, objects: JSON.stringify(objects), received_at: receivedAt })
        .execute();
      await putTask(transaction, { id, topic: offerTopic, participant, subject: id }, receivedAt);
      return 'saved';
    }),
  find: async (participant, id) => {
    const row = await db
      .selectFrom('credential_offer')
      .selectAll()
      .where('participant', '=', participant)
      .where('id', '=', id)
      .executeTakeFirst();
    if (row === undefined) return undefined;
    const objects: CredentialOffer['objects'] = JSON.parse(row.objects);
    return { participant, id, issuer: row.issuer as Did, objects, receivedAt: Number(row.received_at) };
  },
  remove: async (participant, id) => {
    await db.deleteFrom('credential_offer').where('participant', '=', participant).where('id', '=', id).execute();
  },
});

export const createSqlCredentialStore = (db: Db): CredentialStore => ({
  addRequest: (request) => addRequest(db, request),
  noteAttempt: (participant, holderPid, tokenHash) => noteAttempt(db, participant, holderPid, tokenHash),
  noteAccepted: async (participant, holderPid, statusUrl) => {
    await db
      .updateTable('credential_request')
      .set({ status_url: statusUrl })
      .where('participant', '=', participant)
      .where('holder_pid', '=', holderPid)
      .execute();
  },
  settle: (settlement) => settle(db, settlement),
  offers: createOffers(db),
  read: createReader(db),
});

export const createSqlJoinStore = (db: Db): JoinStore => ({
  find: async (participant, broker) => {
    const row = await db
      .selectFrom('joined_broker')
      .selectAll()
      .where('participant', '=', participant)
      .where('broker', '=', broker)
      .executeTakeFirst();
    if (row === undefined) return undefined;
    const artifact: JoinRecord['artifact'] = JSON.parse(row.artifact);
    const registeredAt = row.registered_at === null ? null : Number(row.registered_at);
    return { participant, broker, document: row.document, artifact, isReplaced: row.is_replaced === 1, registeredAt };
  },
  put: async ({ participant, broker, document, artifact, isReplaced, registeredAt }) => {
    const values = {
      document,
      artifact: JSON.stringify(artifact),
      is_replaced: isReplaced ? 1 : 0,
      registered_at: registeredAt,
    };
    await db
      .insertInto('joined_broker')
      .values({ participant, broker, ...values })
      .onConflict((conflict) => conflict.columns(['participant', 'broker']).doUpdateSet(values))
      .execute();
  },
});
