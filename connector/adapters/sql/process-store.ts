import { type Kysely, sql } from 'kysely';
import type { Role } from '../../../contracts/dsp/process.ts';
import { AppError } from '../../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../../contracts/ids.ts';
import type { Json } from '../../../contracts/json.ts';
import type { Migration } from '../../../kernel/sql/migrate.ts';
import {
  type HandOver,
  type Lease,
  looksAfterMs,
  noHandOver,
  type OutboxTable,
  putTask,
  type Task,
} from '../../../kernel/sql/outbox.ts';
import { columns, type Given, isOneRow, prepared } from '../../../kernel/sql/prepared.ts';
import { sqlUsedTokens } from '../../../kernel/sql/used-tokens.ts';
import type {
  Page,
  ProcessChange,
  ProcessRow,
  ProcessStore,
  ReceivedMessage,
  SaveResult,
} from '../../exchange/ports.ts';
import { noCache, type ProcessCache } from './process-cache.ts';

/** Processes of negotiation and transfer, the messages they accepted, and the tasks they ask for, in one database. */

export interface ProcessTables extends OutboxTable {
  process: {
    protocol: string;
    participant: string;
    pid: string;
    role: Role;
    peer: string;
    peer_pid: string | null;
    peer_base: string;
    state: string;
    pending: string | null;
    outgoing: string | null;
    settled_peer: string;
    trace: string;
    data: string;
    created_at: number;
    updated_at: number;
    version: number;
  };
  process_name: { protocol: string; participant: string; name: string; value: string; pid: string };
  process_group: { protocol: string; participant: string; name: string; value: string; pid: string };
  received_message: {
    protocol: string;
    participant: string;
    peer: string;
    id: string;
    body_hash: string;
    status: number;
    answer: string;
    newest: string;
    received_at: number;
  };
  used_token: { issuer: string; jti: string; expires_at: number };
}

/** Written out, because a partial index serves only a query that says the same words. */
const isOpen = sql<boolean>`state not in ('FINALIZED', 'COMPLETED', 'TERMINATED')`;

export const processMigrations: readonly Migration<ProcessTables>[] = [
  {
    name: '2026-11-24-process',
    up: async (db) => {
      const { schema } = db;
      await schema
        .createTable('process')
        .addColumn('protocol', 'text', (column) => column.notNull())
        .addColumn('participant', 'text', (column) => column.notNull())
        .addColumn('pid', 'text', (column) => column.notNull())
        .addColumn('role', 'text', (column) => column.notNull())
        .addColumn('peer', 'text', (column) => column.notNull())
        .addColumn('peer_pid', 'text')
        .addColumn('peer_base', 'text', (column) => column.notNull())
        .addColumn('state', 'text', (column) => column.notNull())
        .addColumn('pending', 'text')
        .addColumn('outgoing', 'text')
        .addColumn('settled_peer', 'text', (column) => column.notNull())
        .addColumn('data', 'text', (column) => column.notNull())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .addColumn('updated_at', 'bigint', (column) => column.notNull())
        .addColumn('version', 'integer', (column) => column.notNull())
        .addPrimaryKeyConstraint('process_pk', ['protocol', 'participant', 'pid'])
        .execute();
      await schema
        .createTable('process_name')
        .addColumn('protocol', 'text', (column) => column.notNull())
        .addColumn('participant', 'text', (column) => column.notNull())
        .addColumn('name', 'text', (column) => column.notNull())
        .addColumn('value', 'text', (column) => column.notNull())
        .addColumn('pid', 'text', (column) => column.notNull())
        .addPrimaryKeyConstraint('process_name_pk', ['protocol', 'participant', 'name', 'value'])
        .execute();
      await schema
        .createTable('received_message')
        .addColumn('protocol', 'text', (column) => column.notNull())
        .addColumn('participant', 'text', (column) => column.notNull())
        .addColumn('peer', 'text', (column) => column.notNull())
        .addColumn('id', 'text', (column) => column.notNull())
        .addColumn('body_hash', 'text', (column) => column.notNull())
        .addColumn('status', 'integer', (column) => column.notNull())
        .addColumn('answer', 'text', (column) => column.notNull())
        .addColumn('newest', 'text', (column) => column.notNull())
        .addColumn('received_at', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('received_message_pk', ['protocol', 'participant', 'peer', 'id'])
        .execute();
      await schema
        .createTable('used_token')
        .addColumn('issuer', 'text', (column) => column.notNull())
        .addColumn('jti', 'text', (column) => column.notNull())
        .addColumn('expires_at', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('used_token_pk', ['issuer', 'jti'])
        .execute();
    },
  },
  {
    name: '2026-11-26-process-group',
    up: async ({ schema }) => {
      await schema
        .createTable('process_group')
        .addColumn('protocol', 'text', (column) => column.notNull())
        .addColumn('participant', 'text', (column) => column.notNull())
        .addColumn('name', 'text', (column) => column.notNull())
        .addColumn('value', 'text', (column) => column.notNull())
        .addColumn('pid', 'text', (column) => column.notNull())
        .addPrimaryKeyConstraint('process_group_pk', ['protocol', 'participant', 'name', 'value', 'pid'])
        .execute();
    },
  },
  {
    name: '2026-11-26-process-trace',
    up: async ({ schema }) => {
      await schema
        .alterTable('process')
        .addColumn('trace', 'text', (column) => column.notNull().defaultTo(''))
        .execute();
      await schema
        .createIndex('process_open')
        .on('process')
        .columns(['participant', 'protocol', 'role', 'state'])
        .where(isOpen)
        .execute();
    },
  },
  {
    name: '2026-11-26-agreed-groups',
    up: async (db) => {
      await sql`insert into process_group (protocol, participant, name, value, pid)
        select process.protocol, process.participant, 'agreed', process.peer, process.pid
        from process join process_name on process_name.protocol = process.protocol
          and process_name.participant = process.participant and process_name.pid = process.pid
        where process_name.name = 'agreement'
        on conflict do nothing`.execute(db);
    },
  },
  {
    name: '2026-11-26-retention',
    up: async ({ schema }) => {
      const index = (name: string, table: string, columns: readonly string[]) =>
        schema
          .createIndex(name)
          .on(table)
          .columns([...columns])
          .execute();
      await index('process_finished', 'process', ['protocol', 'state', 'updated_at', 'pid']);
      await index('process_name_pid', 'process_name', ['protocol', 'participant', 'pid']);
      await index('process_group_pid', 'process_group', ['protocol', 'participant', 'pid']);
      await index('received_message_at', 'received_message', ['received_at']);
      await index('used_token_expires', 'used_token', ['expires_at']);
    },
  },
];

const encode = <State extends string, Kind extends string, Data>(
  protocol: string,
  row: ProcessRow<State, Kind, Data>,
): ProcessTables['process'] => ({
  protocol,
  participant: row.participant,
  pid: row.pid,
  role: row.process.role,
  peer: row.peer,
  peer_pid: row.peerPid,
  peer_base: row.peerBase,
  state: row.process.state,
  pending: row.process.pending === null ? null : JSON.stringify(row.process.pending),
  outgoing: row.outgoing === null ? null : JSON.stringify(row.outgoing),
  settled_peer: row.settledPeer,
  trace: row.trace,
  data: JSON.stringify(row.data),
  created_at: row.createdAt,
  updated_at: row.updatedAt,
  version: row.version,
});

/** What stands in our own columns was written by `encode`, so its forms are known. */
const decode = <State extends string, Kind extends string, Data>(
  row: ProcessTables['process'],
): ProcessRow<State, Kind, Data> => ({
  participant: row.participant as ParticipantId,
  pid: row.pid,
  peer: row.peer as Did,
  peerPid: row.peer_pid,
  peerBase: row.peer_base,
  process: {
    role: row.role,
    state: row.state as State,
    pending: row.pending === null ? null : JSON.parse(row.pending),
  },
  outgoing: row.outgoing === null ? null : JSON.parse(row.outgoing),
  settledPeer: row.settled_peer,
  trace: row.trace,
  data: JSON.parse(row.data),
  createdAt: Number(row.created_at),
  updatedAt: Number(row.updated_at),
  version: row.version,
});

/** Ends the transaction without changing anything; the result is handed out. */
class Refused extends Error {
  readonly result: Exclude<SaveResult, 'saved' | 'under-way'>;
  constructor(result: Refused['result']) {
    super(result);
    this.result = result;
  }
}

type Tables = Kysely<ProcessTables>;

type Process = ProcessTables['process'];

const insertRow = prepared((db: Tables, given: Given<Process>) =>
  db
    .insertInto('process')
    .values(
      columns(given, [
        'protocol',
        'participant',
        'pid',
        'role',
        'peer',
        'peer_pid',
        'peer_base',
        'state',
        'pending',
        'outgoing',
        'settled_peer',
        'trace',
        'data',
        'created_at',
        'updated_at',
        'version',
      ]),
    )
    .onConflict((conflict) => conflict.doNothing()),
);

/** What stays as it was is left out: an index is written anew for every column that is set, changed or not. */
const updateRow = prepared((db: Tables, given: Given<Process & { readonly before: number }>) =>
  db
    .updateTable('process')
    .set(
      columns(given, [
        'peer_pid',
        'peer_base',
        'state',
        'pending',
        'outgoing',
        'settled_peer',
        'trace',
        'data',
        'updated_at',
        'version',
      ]),
    )
    .where('protocol', '=', given('protocol'))
    .where('participant', '=', given('participant'))
    .where('pid', '=', given('pid'))
    .where('version', '=', given('before')),
);

const saveRow = async (db: Tables, values: Process): Promise<void> => {
  const saved =
    values.version === 1 ? await insertRow(db, values) : await updateRow(db, { ...values, before: values.version - 1 });
  if (!isOneRow(saved)) throw new Refused('conflict');
};

type Named = ProcessTables['process_name'];

const insertName = prepared((db: Tables, given: Given<Named>) =>
  db
    .insertInto('process_name')
    .values(columns(given, ['protocol', 'participant', 'name', 'value', 'pid']))
    .onConflict((conflict) => conflict.doNothing()),
);

const findPid = prepared((db: Tables, given: Given<Omit<Named, 'pid'>>) =>
  db
    .selectFrom('process_name')
    .select('pid')
    .where('protocol', '=', given('protocol'))
    .where('participant', '=', given('participant'))
    .where('name', '=', given('name'))
    .where('value', '=', given('value')),
);

const saveNames = async (db: Tables, values: Process, names: Readonly<Record<string, string>>): Promise<void> => {
  const { protocol, participant, pid } = values;
  for (const [name, value] of Object.entries(names)) {
    const named = { protocol, participant, name, value, pid };
    if (isOneRow(await insertName(db, named))) continue;
    const [taken] = (await findPid(db, named)).rows;
    if (taken?.pid !== pid) throw new Refused('name-taken');
  }
};

const insertGroup = prepared((db: Tables, given: Given<ProcessTables['process_group']>) =>
  db
    .insertInto('process_group')
    .values(columns(given, ['protocol', 'participant', 'name', 'value', 'pid']))
    .onConflict((conflict) => conflict.doNothing()),
);

const saveGroups = async (db: Tables, values: Process, groups: Readonly<Record<string, string>>): Promise<void> => {
  const { protocol, participant, pid } = values;
  for (const [name, value] of Object.entries(groups))
    await insertGroup(db, { protocol, participant, name, value, pid });
};

type Received = ProcessTables['received_message'];

const insertReceived = prepared((db: Tables, given: Given<Received>) =>
  db
    .insertInto('received_message')
    .values(
      columns(given, [
        'protocol',
        'participant',
        'peer',
        'id',
        'body_hash',
        'status',
        'answer',
        'newest',
        'received_at',
      ]),
    )
    .onConflict((conflict) => conflict.doNothing()),
);

const saveReceived = async (db: Tables, values: Process, received: ReceivedMessage): Promise<void> => {
  const { protocol, participant, updated_at: received_at } = values;
  const { peer, id, bodyHash: body_hash, status, newest } = received;
  const answer = JSON.stringify(received.answer);
  const row = { protocol, participant, peer, id, body_hash, status, answer, newest, received_at };
  if (!isOneRow(await insertReceived(db, row))) throw new Refused('conflict');
};

type ChangedTasks = Pick<ProcessChange<string, string, unknown>, 'row' | 'send' | 'work' | 'tasks'>;

/** The task that a change asks for at once: to send the pending message, or to let the owner's side look. */
const taskNow = (values: Process, { row, send, work }: ChangedTasks): Task | undefined => {
  const { protocol, participant, pid, version } = values;
  const message = row.process.pending?.message;
  const about = { participant, subject: pid, attempts: 0 };
  if (send && message !== undefined) return { ...about, id: message, topic: protocol };
  return work ? { ...about, id: `${pid} ${version}`, topic: `${protocol}-work` } : undefined;
};

/** Adds what a change asks for. @returns what was added for now. */
const putTasks = async (
  db: Tables,
  values: Process,
  change: ChangedTasks,
  lease: Lease | undefined,
): Promise<readonly Task[]> => {
  const { participant, pid, updated_at } = values;
  const now = taskNow(values, change);
  const isAdded = now !== undefined && (await putTask(db, now, updated_at, lease));
  for (const { topic, id, dueAt } of change.tasks ?? [])
    await putTask(db, { id, topic, participant, subject: pid }, dueAt);
  return isAdded ? [now] : [];
};

/** Everything that a change changes, in the caller's transaction. @returns the tasks that may begin after the commit. */
const applyChange = async <State extends string, Kind extends string, Data>(
  transaction: Tables,
  protocol: string,
  change: ProcessChange<State, Kind, Data>,
  lease: Lease | undefined,
): Promise<readonly Task[]> => {
  const values = encode(protocol, change.row);
  if (change.token !== undefined && !(await sqlUsedTokens(transaction).claim(change.token)))
    throw new Refused('token-used');
  await saveRow(transaction, values);
  if (change.names !== undefined) await saveNames(transaction, values, change.names);
  if (change.groups !== undefined) await saveGroups(transaction, values, change.groups);
  if (change.received !== undefined) await saveReceived(transaction, values, change.received);
  return putTasks(transaction, values, change, lease);
};

type Saved = { readonly result: SaveResult; readonly tasks: readonly Task[] };

const save = async <State extends string, Kind extends string, Data>(
  db: Tables,
  protocol: string,
  change: ProcessChange<State, Kind, Data>,
  lease: Lease | undefined,
): Promise<Saved> => {
  try {
    const tasks = await db.transaction().execute((transaction) => applyChange(transaction, protocol, change, lease));
    return { result: 'saved', tasks };
  } catch (error) {
    if (error instanceof Refused) return { result: error.result, tasks: [] };
    if (error instanceof AppError) throw error;
    throw new AppError('internal-error', { cause: error });
  }
};

/** Whether nobody need be woken for what a change asks for. */
const isAllUnderWay = ({ row, tasks = [] }: ChangedTasks, begun: readonly Task[]): boolean =>
  begun.length > 0 && tasks.every(({ dueAt }) => dueAt > row.updatedAt + looksAfterMs);

/** Saves a change whose task for now goes straight to the worker, as far as that has room. */
const handingOver = async (
  handOver: HandOver,
  change: ChangedTasks,
  saveWith: (lease: Lease | undefined) => Promise<Saved>,
): Promise<SaveResult> => {
  const place = change.send || change.work ? handOver.reserve() : undefined;
  let begun: readonly Task[] = [];
  try {
    const { result, tasks } = await saveWith(place?.lease);
    if (place !== undefined) begun = tasks;
    return result === 'saved' && isAllUnderWay(change, begun) ? 'under-way' : result;
  } finally {
    place?.begin(begun);
  }
};

const findRow = prepared((db: Tables, given: Given<Pick<Process, 'protocol' | 'participant' | 'pid'>>) =>
  db
    .selectFrom('process')
    .selectAll()
    .where('protocol', '=', given('protocol'))
    .where('participant', '=', given('participant'))
    .where('pid', '=', given('pid')),
);

const findMessage = prepared((db: Tables, given: Given<Pick<Received, 'protocol' | 'participant' | 'peer' | 'id'>>) =>
  db
    .selectFrom('received_message')
    .selectAll()
    .where('protocol', '=', given('protocol'))
    .where('participant', '=', given('participant'))
    .where('peer', '=', given('peer'))
    .where('id', '=', given('id')),
);

interface ProcessStoreOptions<Row> {
  /** Only where no other process changes the rows. */
  readonly cache?: ProcessCache<Row>;
  /** To the worker that sends and decides. */
  readonly handOver?: HandOver;
}

/** The store of one protocol's processes over SQL. */
export const createSqlProcessStore = <State extends string, Kind extends string, Data>(
  db: Tables,
  protocol: string,
  { cache = noCache(), handOver = noHandOver }: ProcessStoreOptions<ProcessRow<State, Kind, Data>> = {},
): ProcessStore<State, Kind, Data> => {
  const one = (participant: ParticipantId) =>
    db.selectFrom('process').selectAll().where('protocol', '=', protocol).where('participant', '=', participant);
  const paged = async (query: ReturnType<typeof one>, { after, limit }: Page) => {
    const rows = await query
      .where('pid', '>', after ?? '')
      .orderBy('pid')
      .limit(limit)
      .execute();
    return rows.map((row) => decode<State, Kind, Data>(row));
  };
  const find = async (participant: ParticipantId, pid: string) => {
    const known = cache.find(participant, pid);
    if (known !== undefined) return known;
    const [row] = (await findRow(db, { protocol, participant, pid })).rows;
    return row === undefined ? undefined : decode<State, Kind, Data>(row);
  };
  return {
    find,
    findByName: async (participant, name, value) => {
      const [found] = (await findPid(db, { protocol, participant, name, value })).rows;
      return found === undefined ? undefined : find(participant, found.pid);
    },
    list: async (participant, page) => paged(one(participant), page),
    listGroup: async (participant, { name, value }, page) => {
      const members = await db
        .selectFrom('process_group')
        .select('pid')
        .where('protocol', '=', protocol)
        .where('participant', '=', participant)
        .where('name', '=', name)
        .where('value', '=', value)
        .where('pid', '>', page.after ?? '')
        .orderBy('pid')
        .limit(page.limit)
        .execute();
      if (members.length === 0) return [];
      const pids = members.map(({ pid }) => pid);
      return paged(one(participant).where('pid', 'in', pids), page);
    },
    findReceived: async (participant, peer, id) => {
      const [row] = (await findMessage(db, { protocol, participant, peer, id })).rows;
      if (row === undefined) return undefined;
      return {
        peer,
        id,
        bodyHash: row.body_hash,
        status: row.status,
        answer: JSON.parse(row.answer) as Json,
        newest: row.newest,
      };
    },
    save: (change) =>
      handingOver(handOver, change, (lease) =>
        cache.changing(
          change.row,
          () => save(db, protocol, change, lease),
          ({ result }) => (result === 'saved' ? change.row : undefined),
        ),
      ),
  };
};

/** Open processes by participant, protocol, role and state: the cost grows with those, not with finished ones. */
export const countOpen = async (db: Tables) => {
  const rows = await db
    .selectFrom('process')
    .select((its) => ['participant', 'protocol', 'role', 'state', its.fn.countAll().as('count')] as const)
    .where(isOpen)
    .groupBy(['participant', 'protocol', 'role', 'state'])
    .execute();
  return rows.map(({ count, ...of }) => ({ ...of, count: Number(count) }));
};
