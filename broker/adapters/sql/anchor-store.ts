import type { Kysely, Selectable } from 'kysely';
import type { Migration } from '../../../kernel/sql/migrate.ts';
import type { AnchorRow, AnchorState, AnchorStore, AnchorTarget } from '../../anchoring/ports.ts';

/** Anchors as rows: on their way, and at their end. */

export interface AnchorTables {
  anchor: {
    origin: string;
    chain_id: string;
    contract: string;
    size: number;
    root: string;
    note: string;
    state: AnchorState;
    sender: string;
    /** Apart from the call, so that no two of a sender have the same. */
    nonce: number | null;
    call: string | null;
    attempts: string;
    place: string | null;
    evidence: string | null;
    reason: string;
    created_at: number;
    updated_at: number;
    version: number;
  };
}

/** Forward-only migrations of the component `anchoring`. */
export const anchorMigrations: readonly Migration<AnchorTables>[] = [
  {
    name: '2026-11-26-anchor',
    up: async ({ schema }) => {
      await schema
        .createTable('anchor')
        .addColumn('origin', 'text', (column) => column.notNull())
        .addColumn('chain_id', 'text', (column) => column.notNull())
        .addColumn('contract', 'text', (column) => column.notNull())
        .addColumn('size', 'bigint', (column) => column.notNull())
        .addColumn('root', 'text', (column) => column.notNull())
        .addColumn('note', 'text', (column) => column.notNull())
        .addColumn('state', 'text', (column) => column.notNull())
        .addColumn('sender', 'text', (column) => column.notNull())
        .addColumn('nonce', 'bigint')
        .addColumn('call', 'text')
        .addColumn('attempts', 'text', (column) => column.notNull())
        .addColumn('place', 'text')
        .addColumn('evidence', 'text')
        .addColumn('reason', 'text', (column) => column.notNull())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .addColumn('updated_at', 'bigint', (column) => column.notNull())
        .addColumn('version', 'integer', (column) => column.notNull())
        .addPrimaryKeyConstraint('anchor_pk', ['origin', 'chain_id', 'contract', 'size'])
        .addUniqueConstraint('anchor_nonce', ['chain_id', 'sender', 'nonce'])
        .execute();
      await schema.createIndex('anchor_state').on('anchor').columns(['origin', 'state', 'size']).execute();
    },
  },
];

const asText = (value: unknown): string | null => (value === null ? null : JSON.stringify(value));

/** Only live rows hold their nonce: an end must not keep the number from a chain that began anew. */
const liveNonce = ({ state, call }: AnchorRow): number | null =>
  call === null || state === 'final' || state === 'replaced' || state === 'refused' ? null : call.nonce;

const encode = (row: AnchorRow): AnchorTables['anchor'] => ({
  origin: row.origin,
  chain_id: row.chainId,
  contract: row.contract,
  size: row.size,
  root: row.root,
  note: row.note,
  state: row.state,
  sender: row.sender,
  nonce: liveNonce(row),
  call: asText(row.call),
  attempts: JSON.stringify(row.attempts),
  place: asText(row.place),
  evidence: asText(row.evidence),
  reason: row.reason,
  created_at: row.createdAt,
  updated_at: row.updatedAt,
  version: row.version,
});

/** What stands in our own columns was written by `encode`, so its forms are known. */
const decode = (row: Selectable<AnchorTables['anchor']>): AnchorRow => ({
  origin: row.origin,
  chainId: row.chain_id,
  contract: row.contract,
  size: Number(row.size),
  root: row.root,
  note: row.note,
  state: row.state,
  sender: row.sender,
  call: row.call === null ? null : JSON.parse(row.call),
  attempts: JSON.parse(row.attempts),
  place: row.place === null ? null : JSON.parse(row.place),
  evidence: row.evidence === null ? null : JSON.parse(row.evidence),
  reason: row.reason,
  createdAt: Number(row.created_at),
  updatedAt: Number(row.updated_at),
  version: row.version,
});

const openStates: readonly AnchorState[] = ['queued', 'submitted', 'mined', 'safe'];

type Db = Kysely<AnchorTables>;

/** Whether another live row of the sender has this nonce. */
const isNonceTaken = async (db: Db, values: AnchorTables['anchor']): Promise<boolean> => {
  if (values.nonce === null) return false;
  const others = await db
    .selectFrom('anchor')
    .select(['origin', 'contract', 'size'])
    .where('chain_id', '=', values.chain_id)
    .where('sender', '=', values.sender)
    .where('nonce', '=', values.nonce)
    .execute();
  return others.some(
    ({ origin, contract, size }) =>
      origin !== values.origin || contract !== values.contract || Number(size) !== values.size,
  );
};

const write = async (db: Db, values: AnchorTables['anchor']): Promise<'saved' | 'conflict'> => {
  if (await isNonceTaken(db, values)) return 'conflict';
  if (values.version === 1) {
    const { numInsertedOrUpdatedRows } = await db
      .insertInto('anchor')
      .values(values)
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    return numInsertedOrUpdatedRows === 1n ? 'saved' : 'conflict';
  }
  const { numUpdatedRows } = await db
    .updateTable('anchor')
    .set(values)
    .where('origin', '=', values.origin)
    .where('chain_id', '=', values.chain_id)
    .where('contract', '=', values.contract)
    .where('size', '=', values.size)
    .where('version', '=', values.version - 1)
    .executeTakeFirst();
  return numUpdatedRows === 1n ? 'saved' : 'conflict';
};

export const sqlAnchorStore = (db: Db): AnchorStore => {
  const at = ({ origin, chainId, contract }: AnchorTarget) =>
    db
      .selectFrom('anchor')
      .selectAll()
      .where('origin', '=', origin)
      .where('chain_id', '=', chainId)
      .where('contract', '=', contract);
  return {
    find: async (target, size) => {
      const row = await at(target).where('size', '=', size).executeTakeFirst();
      return row && decode(row);
    },
    open: async (target) => (await at(target).where('state', 'in', openStates).orderBy('size').execute()).map(decode),
    save: (row) => db.transaction().execute((transaction) => write(transaction, encode(row))),
    finals: async (origin, { target, above = -1, below = Number.MAX_SAFE_INTEGER, newestFirst = false, limit }) => {
      const all = db.selectFrom('anchor').selectAll().where('origin', '=', origin);
      const rows = await (target === undefined ? all : at(target))
        .where('state', '=', 'final')
        .where('size', '>', above)
        .where('size', '<', below)
        .orderBy('size', newestFirst ? 'desc' : 'asc')
        .limit(limit)
        .execute();
      return rows.map(decode);
    },
  };
};
