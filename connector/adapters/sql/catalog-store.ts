import { type Kysely, sql } from 'kysely';
import type { ParticipantId } from '../../../contracts/ids.ts';
import { canonicalize, type Json } from '../../../contracts/json.ts';
import { createTurnsByKey } from '../../../kernel/turns.ts';
import type {
  Asset,
  CatalogReader,
  CatalogStore,
  DueOffer,
  Offer,
  OfferedAsset,
  Seen,
  Showing,
  Stretch,
} from '../../catalog/ports.ts';
import { type CatalogTables, standing } from './catalog-tables.ts';

const offerOf = (row: CatalogTables['offer']): Offer => ({
  participant: row.participant as ParticipantId,
  id: row.id,
  asset: row.asset,
  rules: JSON.parse(row.rules),
  assurance: row.assurance,
  price: row.price,
  silence: row.silence === 'strict' ? 'strict' : Number(row.silence),
  createdAt: Number(row.created_at),
  withdrawnAt: row.withdrawn_at === null ? null : Number(row.withdrawn_at),
});

const assetOf = (row: CatalogTables['asset']): Asset => ({
  ...(JSON.parse(row.body) as Omit<Asset, 'participant' | 'id' | 'createdAt'>),
  participant: row.participant as ParticipantId,
  id: row.id,
  createdAt: Number(row.created_at),
});

const bodyOf = ({ title, description, keywords, extra, upstream }: Asset): string =>
  canonicalize({ title, description, keywords, extra, upstream } as unknown as Json);

type Db = Kysely<CatalogTables>;

/** Assets with the offers that stand, two queries whatever their number. */
const withOffers = async (
  db: Db,
  rows: readonly CatalogTables['asset'][],
  participant: ParticipantId,
): Promise<OfferedAsset[]> => {
  if (rows.length === 0) return [];
  const ids = rows.map((row) => row.id);
  const offers = await db
    .selectFrom('offer')
    .selectAll()
    .where('participant', '=', participant)
    .where('asset', 'in', ids)
    .where('withdrawn_seq', '=', standing)
    .orderBy('asset')
    .orderBy('id') // by id alone, a planner may walk all offers instead of sorting these few
    .execute();
  const byAsset = Map.groupBy(offers.map(offerOf), (offer) => offer.asset);
  return rows.map((row) => ({ asset: assetOf(row), offers: byAsset.get(row.id) ?? [] }));
};

/** Ids of the datasets of a stretch that one reader is shown under one assurance: a walk along the index that ends at the limit. */
const walk = (db: Db, participant: ParticipantId, stretch: Stretch) => {
  const isForward = 'after' in stretch;
  return (reader: string, assurance: Seen['assurances'][number], place: number) =>
    db
      .selectFrom((query) =>
        query
          .selectFrom('catalog_showing')
          .select('asset')
          .distinct()
          .where('participant', '=', participant)
          .where('reader', '=', reader)
          .where('assurance', '=', assurance)
          .where('asset', isForward ? '>' : '<', isForward ? stretch.after : stretch.before)
          .orderBy('asset', isForward ? 'asc' : 'desc')
          .limit(stretch.limit)
          .as(`walk${place}`),
      )
      .select('asset');
};

const shownIds = async (
  db: Db,
  participant: ParticipantId,
  { readers, assurances }: Seen,
  stretch: Stretch,
): Promise<readonly string[]> => {
  const walkOf = walk(db, participant, stretch);
  const walks = readers.flatMap((reader, row) =>
    assurances.map((assurance, column) => walkOf(reader, assurance, row * assurances.length + column)),
  );
  const [first, ...others] = walks;
  if (first === undefined) return [];
  const all = others.reduce((query, other) => query.union(other), first);
  const rows = await db
    .selectFrom(all.as('walked'))
    .select('asset')
    .orderBy('asset', 'after' in stretch ? 'asc' : 'desc')
    .limit(stretch.limit)
    .execute();
  const ids = rows.map(({ asset }) => asset);
  return 'after' in stretch ? ids : ids.toReversed();
};

const createReader = (db: Db): CatalogReader => {
  const assets = (participant: ParticipantId) =>
    db.selectFrom('asset').selectAll().where('participant', '=', participant);
  return {
    asset: async (participant, id) => {
      const rows = await assets(participant).where('id', '=', id).execute();
      return (await withOffers(db, rows, participant))[0];
    },
    offer: async (participant, id) => {
      const query = db.selectFrom('offer').selectAll().where('participant', '=', participant).where('id', '=', id);
      const row = await query.executeTakeFirst();
      return row === undefined ? undefined : offerOf(row);
    },
    pricePlan: async (participant, digest) => {
      const query = db
        .selectFrom('price_plan')
        .select('plan')
        .where('participant', '=', participant)
        .where('digest', '=', digest);
      const row = await query.executeTakeFirst();
      return row === undefined ? undefined : JSON.parse(row.plan);
    },
    plans: async (participant, digests) => {
      if (digests.length === 0) return new Map();
      const query = db.selectFrom('price_plan').select(['digest', 'plan']).where('participant', '=', participant);
      const rows = await query.where('digest', 'in', digests).execute();
      return new Map(rows.map(({ digest, plan }) => [digest, JSON.parse(plan)]));
    },
    assets: async (participant, { after, limit }) => {
      const rows = await assets(participant).where('id', '>', after).orderBy('id').limit(limit).execute();
      return withOffers(db, rows, participant);
    },
    offers: async (participant, { after, limit }) => {
      const query = db.selectFrom('offer').selectAll().where('participant', '=', participant).where('id', '>', after);
      return (await query.orderBy('id').limit(limit).execute()).map(offerOf);
    },
    pricePlans: async (participant, { after, limit }) => {
      const rows = await db
        .selectFrom('price_plan')
        .select(['digest', 'plan'])
        .where('participant', '=', participant)
        .where('digest', '>', after)
        .orderBy('digest')
        .limit(limit)
        .execute();
      return rows.map(({ digest, plan }) => ({ digest, plan: JSON.parse(plan) }));
    },
    page: async (participant, seen, stretch) => {
      const ids = await shownIds(db, participant, seen, stretch);
      if (ids.length === 0) return [];
      const rows = await assets(participant).where('id', 'in', ids).orderBy('id').execute();
      return withOffers(db, rows, participant);
    },
    ...createChangeReader(db),
  };
};

type ChangeReader = Pick<CatalogReader, 'due' | 'head' | 'changes' | 'changed'>;

const createChangeReader = (db: Db): ChangeReader => ({
  due: async (now, limit) => {
    const query = db.selectFrom('offer').selectAll().where('turns_at', '<=', now).orderBy('turns_at').limit(limit);
    return (await query.execute()).map((row) => ({ offer: offerOf(row), turnsAt: Number(row.turns_at) }));
  },
  head: async (participant) => {
    const query = db.selectFrom('catalog_head').select(['head', 'forgotten']).where('participant', '=', participant);
    const row = await query.executeTakeFirst();
    return { head: Number(row?.head ?? 0), forgotten: Number(row?.forgotten ?? 0) };
  },
  changes: async (participant, after, limit) => {
    const rows = await db
      .selectFrom('catalog_change')
      .selectAll()
      .where('participant', '=', participant)
      .where('seq', '>', after)
      .orderBy('seq')
      .limit(limit)
      .execute();
    return rows.map(({ seq, dataset, was_at, at }) => ({
      seq: Number(seq),
      dataset,
      wasAt: Number(was_at),
      at: Number(at),
    }));
  },
  changed: async (participant, { seq, dataset }) => {
    const asset = await db
      .selectFrom('asset')
      .selectAll()
      .where('participant', '=', participant)
      .where('id', '=', dataset)
      .executeTakeFirst();
    if (asset === undefined) return undefined;
    const rows = await db
      .selectFrom('offer')
      .selectAll()
      .where('participant', '=', participant)
      .where('asset', '=', dataset)
      .where('withdrawn_seq', '>=', seq)
      .where('created_seq', '<=', seq)
      .orderBy('id')
      .execute();
    const before = rows.filter(({ created_seq }) => Number(created_seq) < seq);
    const after = rows.filter(({ withdrawn_seq }) => Number(withdrawn_seq) > seq);
    return { asset: assetOf(asset), before: before.map(offerOf), after: after.map(offerOf) };
  },
});

/** Sealing gives other bytes each time, so what is sealed says nothing about whether two assets are the same. */
const bodyWithoutSecret = (asset: Asset): string => {
  const { upstream } = asset;
  if (upstream.kind !== 'http' || upstream.credential === null) return bodyOf(asset);
  return bodyOf({ ...asset, upstream: { ...upstream, credential: { ...upstream.credential, sealed: '' } } });
};

const putAsset = async (db: Db, asset: Asset): Promise<'saved' | 'conflict'> => {
  const { participant, id } = asset;
  const values = { participant, id, body: bodyOf(asset), created_at: asset.createdAt };
  await db
    .insertInto('asset')
    .values(values)
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const kept = await db
    .selectFrom('asset')
    .selectAll()
    .where('participant', '=', participant)
    .where('id', '=', id)
    .executeTakeFirst();
  if (kept?.body === values.body) return 'saved';
  if (kept === undefined || bodyWithoutSecret(assetOf(kept)) !== bodyWithoutSecret(asset)) return 'conflict';
  const replaced = await db
    .updateTable('asset')
    .set({ body: values.body })
    .where('participant', '=', participant)
    .where('id', '=', id)
    .where('body', '=', kept.body)
    .executeTakeFirst();
  return replaced.numUpdatedRows === 1n ? 'saved' : 'conflict';
};

interface Place {
  readonly participant: string;
  readonly dataset: string;
}

/** The number of the next change. Whoever takes one holds up the others until it has ended, so that none is seen before one below it. */
const nextSeq = async (db: Db, participant: string): Promise<number> => {
  await db
    .insertInto('catalog_head')
    .values({ participant, head: 0, forgotten: 0 })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  await db.updateTable('catalog_head').set({ head: sql`head + 1` }).where('participant', '=', participant).execute();
  const query = db.selectFrom('catalog_head').select('head').where('participant', '=', participant);
  return Number((await query.executeTakeFirstOrThrow()).head);
};

/** Until when everything about a dataset was told: the time of its last change. */
const toldUntil = async (db: Db, { participant, dataset }: Place): Promise<number> => {
  const row = await db
    .selectFrom('catalog_change')
    .select('at')
    .where('participant', '=', participant)
    .where('dataset', '=', dataset)
    .orderBy('seq', 'desc')
    .limit(1)
    .executeTakeFirst();
  return Number(row?.at ?? 0);
};

/** The first time at which an offer of a dataset turns and was not turned yet; 0 for none. */
const firstTurn = async (db: Db, { participant, dataset }: Place): Promise<number> => {
  const row = await db
    .selectFrom('offer')
    .select(({ fn }) => fn.min('turns_at').as('turns_at'))
    .where('participant', '=', participant)
    .where('asset', '=', dataset)
    .where('withdrawn_seq', '=', standing)
    .executeTakeFirst();
  return Number(row?.turns_at ?? 0);
};

/**
 * Writes down that a dataset changes at this time. An offer of it that is due and was not turned yet is looked at as it was
 * before it was due: else what it changed would be told to nobody. And nothing that was told is told again: the changes of
 * one dataset follow on each other, also when the clock went back.
 */
const putChange = async (db: Db, place: Place, seq: number, now: number): Promise<void> => {
  const told = await toldUntil(db, place);
  const at = Math.max(now, told);
  const turnsAt = await firstTurn(db, place);
  const wasAt = turnsAt > 0 && turnsAt <= at ? Math.max(turnsAt - 1, told) : at;
  await db
    .insertInto('catalog_change')
    .values({ ...place, seq, was_at: wasAt, at })
    .execute();
};

/** Rows of one statement. */
const pieceSize = 500;

const putShowing = async (db: Db, offer: Offer, { readers }: Showing): Promise<void> => {
  const { participant, assurance, asset, id } = offer;
  const rows = [...new Set(readers)].map((reader) => ({ participant, reader, assurance, asset, offer: id }));
  for (let begin = 0; begin < rows.length; begin += pieceSize)
    await db
      .insertInto('catalog_showing')
      .values(rows.slice(begin, begin + pieceSize))
      .onConflict((conflict) => conflict.doNothing())
      .execute();
};

const removeShowing = async (db: Db, participant: string, offer: string): Promise<void> => {
  await db.deleteFrom('catalog_showing').where('participant', '=', participant).where('offer', '=', offer).execute();
};

const rowOf = (offer: Offer) => ({
  participant: offer.participant,
  id: offer.id,
  asset: offer.asset,
  rules: canonicalize(offer.rules),
  assurance: offer.assurance,
  price: offer.price,
  silence: String(offer.silence),
  created_at: offer.createdAt,
  withdrawn_at: null,
});

const keptOffer = (db: Db, { participant, id }: Pick<Offer, 'participant' | 'id'>) =>
  db.selectFrom('offer').selectAll().where('participant', '=', participant).where('id', '=', id).executeTakeFirst();

const isSame = (kept: CatalogTables['offer'], row: ReturnType<typeof rowOf>): boolean =>
  kept.asset === row.asset &&
  kept.rules === row.rules &&
  kept.price === row.price &&
  kept.assurance === row.assurance &&
  kept.silence === row.silence &&
  kept.withdrawn_at === null;

const putOffer = (db: Db, offer: Offer, showing: Showing): Promise<'saved' | 'conflict'> =>
  db.transaction().execute(async (transaction) => {
    const row = rowOf(offer);
    const seq = await nextSeq(transaction, offer.participant);
    const kept = await keptOffer(transaction, offer); // after the number: nobody else writes offers now
    if (kept !== undefined) return isSame(kept, row) ? 'saved' : 'conflict';
    await putChange(transaction, { participant: offer.participant, dataset: offer.asset }, seq, offer.createdAt);
    await transaction
      .insertInto('offer')
      .values({ ...row, created_seq: seq, withdrawn_seq: standing, turns_at: showing.turnsAt })
      .execute();
    await putShowing(transaction, offer, showing);
    return 'saved';
  });

const withdraw = (db: Db, participant: ParticipantId, id: string, at: number): Promise<boolean> =>
  db.transaction().execute(async (transaction) => {
    const seq = await nextSeq(transaction, participant);
    const kept = await keptOffer(transaction, { participant, id });
    if (kept === undefined || kept.withdrawn_at !== null) return false;
    await putChange(transaction, { participant, dataset: kept.asset }, seq, at);
    await transaction
      .updateTable('offer')
      .set({ withdrawn_at: at, withdrawn_seq: seq, turns_at: null })
      .where('participant', '=', participant)
      .where('id', '=', id)
      .execute();
    await removeShowing(transaction, participant, id);
    return true;
  });

const turn = (db: Db, { offer, turnsAt }: DueOffer, showing: Showing, at: number): Promise<boolean> =>
  db.transaction().execute(async (transaction) => {
    const { participant, id, asset } = offer;
    const seq = await nextSeq(transaction, participant);
    const kept = await keptOffer(transaction, offer);
    if (kept === undefined || kept.turns_at === null || Number(kept.turns_at) !== turnsAt) return false;
    await putChange(transaction, { participant, dataset: asset }, seq, at);
    await transaction
      .updateTable('offer')
      .set({ turns_at: showing.turnsAt })
      .where('participant', '=', participant)
      .where('id', '=', id)
      .execute();
    await removeShowing(transaction, participant, id);
    await putShowing(transaction, offer, showing);
    return true;
  });

/** From the oldest on, and no further than the first that is young enough: what is left has no holes. */
const forgetChanges = async (db: Db, participant: ParticipantId, before: number, limit: number): Promise<number> => {
  const query = db.selectFrom('catalog_change').select(['seq', 'at']).where('participant', '=', participant);
  const rows = await query.orderBy('seq').limit(limit).execute();
  const young = rows.findIndex(({ at }) => Number(at) >= before);
  const old = young === -1 ? rows : rows.slice(0, young);
  const last = old.at(-1);
  if (last === undefined) return 0;
  const forgotten = Number(last.seq);
  await db.transaction().execute(async (transaction) => {
    await transaction
      .updateTable('catalog_head')
      .set({ forgotten })
      .where('participant', '=', participant)
      .where('forgotten', '<', forgotten)
      .execute();
    await transaction
      .deleteFrom('catalog_change')
      .where('participant', '=', participant)
      .where('seq', '<=', forgotten)
      .execute();
  });
  return old.length;
};

/** The catalog of all participants of a deployment over SQL. Whoever changes one waits here, so that only programs can meet at its rows. */
export const createSqlCatalogStore = (db: Db): CatalogStore => {
  const inTurn = createTurnsByKey();
  return {
    putAsset: (asset) => putAsset(db, asset),
    putPricePlan: async (participant, digest, plan) => {
      const values = { participant, digest, plan: canonicalize(plan) };
      await db
        .insertInto('price_plan')
        .values(values)
        .onConflict((conflict) => conflict.doNothing())
        .execute();
    },
    putOffer: (offer, showing) => inTurn(offer.participant, () => putOffer(db, offer, showing)),
    withdraw: (participant, offer, at) => inTurn(participant, () => withdraw(db, participant, offer, at)),
    turn: (due, showing, at) => inTurn(due.offer.participant, () => turn(db, due, showing, at)),
    forgetChanges: (participant, before, limit) => forgetChanges(db, participant, before, limit),
    read: createReader(db),
  };
};
