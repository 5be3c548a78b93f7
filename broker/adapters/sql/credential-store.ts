import type { Kysely, Transaction } from 'kysely';
import type { Did } from '../../../contracts/ids.ts';
import type { CredentialType, StatusPurpose } from '../../../contracts/vc/credential.ts';
import { putTask } from '../../../kernel/sql/outbox.ts';
import type {
  CredentialStore,
  IssuanceRequest,
  IssuedCredential,
  MadeCredential,
  NoticeStore,
  RequestState,
  RequestStore,
  Standing,
  StatusListStore,
} from '../../credentials/ports.ts';
import type { CredentialTables } from './credential-tables.ts';

/** Requests, credentials, lists and notices of an issuer in one database: what belongs together is one transaction. */

/** Topics of the tasks that these rows ask for. */
export const issuanceTopic = 'issuance';
export const standingTopic = 'standing';

type Db = Kysely<CredentialTables>;
type Tx = Transaction<CredentialTables>;
type CredentialRow = CredentialTables['credential'];
type RequestRow = CredentialTables['issuance_request'];

const requestOf = (row: RequestRow): IssuanceRequest => ({
  issuer: row.issuer as Did,
  id: row.id,
  holder: row.holder as Did,
  holderPid: row.holder_pid,
  objects: JSON.parse(row.objects),
  token: row.token,
  state: row.state as RequestState,
  decision: row.decision === null ? null : JSON.parse(row.decision),
  createdAt: row.created_at,
  settledAt: row.settled_at,
});

const rowOf = (one: IssuedCredential): CredentialRow => ({
  issuer: one.issuer,
  id: one.id,
  grant_key: one.grant,
  holder: one.holder,
  type: one.type,
  body: JSON.stringify(one.credential),
  jwt: one.jwt,
  data_integrity: JSON.stringify(one.dataIntegrity),
  revocation_list: one.places.revocation.list,
  revocation_index: one.places.revocation.index,
  suspension_list: one.places.suspension.list,
  suspension_index: one.places.suspension.index,
  issued_at: one.issuedAt,
  valid_until: one.validUntil,
  standing: one.standing,
  standing_at: one.standingAt,
  version: one.version,
});

const credentialOf = (row: CredentialRow): IssuedCredential => ({
  issuer: row.issuer as Did,
  id: row.id,
  grant: row.grant_key,
  holder: row.holder as Did,
  type: row.type as CredentialType,
  credential: JSON.parse(row.body),
  jwt: row.jwt,
  dataIntegrity: JSON.parse(row.data_integrity),
  places: {
    revocation: { list: row.revocation_list, index: row.revocation_index },
    suspension: { list: row.suspension_list, index: row.suspension_index },
  },
  issuedAt: row.issued_at,
  validUntil: row.valid_until,
  standing: row.standing as Standing,
  standingAt: row.standing_at,
  version: row.version,
});

const columns = {
  revocation: { list: 'revocation_list', index: 'revocation_index', standing: 'revoked' },
  suspension: { list: 'suspension_list', index: 'suspension_index', standing: 'suspended' },
} as const;
const purposes: readonly StatusPurpose[] = ['revocation', 'suspension'];

const isPlaceFree = async (
  db: Db,
  issuer: Did,
  place: { readonly purpose: StatusPurpose; readonly list: number; readonly index: number },
): Promise<boolean> => {
  const { list, index } = columns[place.purpose];
  const taken = await db
    .selectFrom('credential')
    .select('id')
    .where('issuer', '=', issuer)
    .where(list, '=', place.list)
    .where(index, '=', place.index)
    .executeTakeFirst();
  return taken === undefined;
};

const countOfGrant = async (tx: Tx, { issuer, holder, grant }: IssuedCredential): Promise<number> => {
  const { count } = await tx
    .selectFrom('credential')
    .select((its) => its.fn.countAll<number>().as('count'))
    .where('issuer', '=', issuer)
    .where('holder', '=', holder)
    .where('grant_key', '=', grant)
    .executeTakeFirstOrThrow();
  return Number(count);
};

/** Whether what was made outside of the transaction still fits what is there. */
const stillFit = async (tx: Tx, made: readonly MadeCredential[]): Promise<boolean> => {
  for (const { credential, before } of made) {
    if ((await countOfGrant(tx, credential)) !== before) return false;
    for (const purpose of purposes)
      if (!(await isPlaceFree(tx, credential.issuer, { purpose, ...credential.places[purpose] }))) return false;
  }
  return true;
};

const insertCredential = async (tx: Tx, one: IssuedCredential): Promise<void> => {
  await tx.insertInto('credential').values(rowOf(one)).execute();
  for (const purpose of purposes)
    await tx
      .updateTable('status_list')
      .set((its) => ({ used: its('used', '+', 1) }))
      .where('issuer', '=', one.issuer)
      .where('purpose', '=', purpose)
      .where('list', '=', one.places[purpose].list)
      .execute();
};

export const sqlRequestStore = (db: Db): RequestStore => ({
  receive: (request, maxOpen) =>
    db.transaction().execute(async (tx) => {
      const { issuer, id, holder, createdAt } = request;
      const open = await tx
        .selectFrom('issuance_request')
        .select((its) => its.fn.countAll<number>().as('count'))
        .where('issuer', '=', issuer)
        .where('holder', '=', holder)
        .where('state', '=', 'RECEIVED')
        .executeTakeFirstOrThrow();
      if (Number(open.count) >= maxOpen) return 'full';
      const row: RequestRow = {
        issuer,
        id,
        holder,
        holder_pid: request.holderPid,
        objects: JSON.stringify(request.objects),
        token: request.token,
        state: request.state,
        decision: request.decision === null ? null : JSON.stringify(request.decision),
        created_at: createdAt,
        settled_at: request.settledAt,
      };
      await tx.insertInto('issuance_request').values(row).execute();
      await putTask(tx, { id, topic: issuanceTopic, participant: issuer, subject: id }, createdAt);
      return 'received';
    }),

  find: async (issuer, id) => {
    const row = await db
      .selectFrom('issuance_request')
      .selectAll()
      .where('issuer', '=', issuer)
      .where('id', '=', id)
      .executeTakeFirst();
    return row && requestOf(row);
  },

  decide: ({ issuer, id }, decision, made) =>
    db.transaction().execute(async (tx) => {
      if (!(await stillFit(tx, made))) return 'outdated';
      const decided = await tx
        .updateTable('issuance_request')
        .set({ decision: JSON.stringify(decision) })
        .where('issuer', '=', issuer)
        .where('id', '=', id)
        .where('decision', 'is', null)
        .executeTakeFirst();
      if (decided.numUpdatedRows !== 1n) return 'decided';
      for (const { credential } of made) await insertCredential(tx, credential);
      return 'saved';
    }),

  settle: async ({ issuer, id }, state, at) => {
    await db
      .updateTable('issuance_request')
      .set({ state, settled_at: at, token: null })
      .where('issuer', '=', issuer)
      .where('id', '=', id)
      .where('state', '=', 'RECEIVED')
      .execute();
  },

  forget: async (issuer, before) => {
    await db.deleteFrom('issuance_request').where('issuer', '=', issuer).where('settled_at', '<', before).execute();
  },
});

export const sqlCredentialStore = (db: Db): CredentialStore => ({
  find: async (issuer, id) => {
    const row = await db
      .selectFrom('credential')
      .selectAll()
      .where('issuer', '=', issuer)
      .where('id', '=', id)
      .executeTakeFirst();
    return row && credentialOf(row);
  },

  ofGrant: async (issuer, holder, grant) => {
    const rows = await db
      .selectFrom('credential')
      .selectAll()
      .where('issuer', '=', issuer)
      .where('holder', '=', holder)
      .where('grant_key', '=', grant)
      .orderBy('issued_at', 'desc')
      .orderBy('id', 'desc')
      .execute();
    return rows.map(credentialOf);
  },

  page: async (issuer, { after, limit, holder }) => {
    const all = db.selectFrom('credential').selectAll().where('issuer', '=', issuer).where('id', '>', after);
    const some = holder === undefined ? all : all.where('holder', '=', holder);
    return (await some.orderBy('id').limit(limit).execute()).map(credentialOf);
  },

  change: (next, notice) =>
    db.transaction().execute(async (tx) => {
      const { issuer, id, standing, standingAt, version, places } = next;
      const changed = await tx
        .updateTable('credential')
        .set({ standing, standing_at: standingAt, version })
        .where('issuer', '=', issuer)
        .where('id', '=', id)
        .where('version', '=', version - 1)
        .executeTakeFirst();
      if (changed.numUpdatedRows !== 1n) return 'conflict';
      for (const purpose of purposes)
        await tx
          .updateTable('status_list')
          .set((its) => ({ version: its('version', '+', 1) }))
          .where('issuer', '=', issuer)
          .where('purpose', '=', purpose)
          .where('list', '=', places[purpose].list)
          .execute();
      const { subject, jws } = notice;
      const row = { issuer, subject, version: notice.version, jws: JSON.stringify(jws), published: 0 };
      await tx.insertInto('standing_notice').values(row).execute();
      const task = { id: `${subject} ${notice.version}`, topic: standingTopic, participant: issuer, subject };
      await putTask(tx, task, standingAt);
      return 'saved';
    }),
});

export const sqlNoticeStore = (db: Db): NoticeStore => ({
  waiting: async (issuer, subject) => {
    const rows = await db
      .selectFrom('standing_notice')
      .selectAll()
      .where('issuer', '=', issuer)
      .where('subject', '=', subject)
      .where('published', '=', 0)
      .orderBy('version')
      .execute();
    return rows.map(({ version, jws }) => ({ issuer, subject, version, jws: JSON.parse(jws) }));
  },

  published: async ({ issuer, subject, version }) => {
    await db
      .updateTable('standing_notice')
      .set({ published: 1 })
      .where('issuer', '=', issuer)
      .where('subject', '=', subject)
      .where('version', '=', version)
      .execute();
  },
});

export const sqlStatusListStore = (db: Db): StatusListStore => ({
  open: (issuer, purpose, maxUsed) =>
    db.transaction().execute(async (tx) => {
      const newest = await tx
        .selectFrom('status_list')
        .selectAll()
        .where('issuer', '=', issuer)
        .where('purpose', '=', purpose)
        .orderBy('list', 'desc')
        .limit(1)
        .executeTakeFirst();
      if (newest !== undefined && newest.used < maxUsed) return newest.list;
      const list = (newest?.list ?? 0) + 1;
      await tx.insertInto('status_list').values({ issuer, purpose, list, used: 0, version: 1 }).execute();
      return list;
    }),

  isFree: (issuer, place) => isPlaceFree(db, issuer, place),

  find: async (issuer, purpose, list) => {
    const row = await db
      .selectFrom('status_list')
      .select('version')
      .where('issuer', '=', issuer)
      .where('purpose', '=', purpose)
      .where('list', '=', list)
      .executeTakeFirst();
    return row && { purpose, list, version: row.version };
  },

  marked: async (issuer, purpose, list) => {
    const column = columns[purpose];
    const rows = await db
      .selectFrom('credential')
      .select(`${column.index} as place`)
      .where('issuer', '=', issuer)
      .where(column.list, '=', list)
      .where('standing', '=', column.standing)
      .execute();
    return rows.map(({ place }) => place);
  },
});
