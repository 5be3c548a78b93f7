import type { Kysely } from 'kysely';
import type { ParticipantId } from '../../../contracts/ids.ts';
import { canonicalize, type Json } from '../../../contracts/json.ts';
import type { Assurance } from '../../../contracts/ledger/agreement.ts';
import type { Migration } from '../../../kernel/sql/migrate.ts';
import type { Asset, CatalogReader, CatalogStore, Offer, OfferedAsset } from '../../catalog/ports.ts';

export interface CatalogTables {
  asset: { participant: string; id: string; body: string; created_at: number };
  price_plan: { participant: string; digest: string; plan: string };
  offer: {
    participant: string;
    id: string;
    asset: string;
    rules: string;
    assurance: Assurance;
    price: string;
    silence: string;
    created_at: number;
    withdrawn_at: number | null;
  };
}

export const catalogMigrations: readonly Migration<CatalogTables>[] = [
  {
    name: '2026-11-24-catalog',
    up: async ({ schema }) => {
      await schema
        .createTable('asset')
        .addColumn('participant', 'text', (column) => column.notNull())
        .addColumn('id', 'text', (column) => column.notNull())
        .addColumn('body', 'text', (column) => column.notNull())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('asset_pk', ['participant', 'id'])
        .execute();
      await schema
        .createTable('price_plan')
        .addColumn('participant', 'text', (column) => column.notNull())
        .addColumn('digest', 'text', (column) => column.notNull())
        .addColumn('plan', 'text', (column) => column.notNull())
        .addPrimaryKeyConstraint('price_plan_pk', ['participant', 'digest'])
        .execute();
      await schema
        .createTable('offer')
        .addColumn('participant', 'text', (column) => column.notNull())
        .addColumn('id', 'text', (column) => column.notNull())
        .addColumn('asset', 'text', (column) => column.notNull())
        .addColumn('rules', 'text', (column) => column.notNull())
        .addColumn('assurance', 'text', (column) => column.notNull())
        .addColumn('price', 'text', (column) => column.notNull())
        .addColumn('silence', 'text', (column) => column.notNull())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .addColumn('withdrawn_at', 'bigint')
        .addPrimaryKeyConstraint('offer_pk', ['participant', 'id'])
        .execute();
      await schema.createIndex('offer_asset').on('offer').columns(['participant', 'asset']).execute();
    },
  },
];

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
    .where('withdrawn_at', 'is', null)
    .orderBy('id')
    .execute();
  const byAsset = Map.groupBy(offers.map(offerOf), (offer) => offer.asset);
  return rows.map((row) => ({ asset: assetOf(row), offers: byAsset.get(row.id) ?? [] }));
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
    page: async (participant, { after, limit }) => {
      const rows = await assets(participant)
        .where('id', '>', after)
        .where(({ exists, selectFrom }) =>
          exists(
            selectFrom('offer')
              .select('offer.id')
              .whereRef('offer.asset', '=', 'asset.id')
              .whereRef('offer.participant', '=', 'asset.participant')
              .where('withdrawn_at', 'is', null),
          ),
        )
        .orderBy('id')
        .limit(limit)
        .execute();
      return withOffers(db, rows, participant);
    },
  };
};

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

const putOffer = async (db: Db, offer: Offer): Promise<'saved' | 'conflict'> => {
  const { participant, id, asset, assurance, price } = offer;
  const rules = canonicalize(offer.rules);
  const silence = String(offer.silence);
  const values = {
    participant,
    id,
    asset,
    rules,
    assurance,
    price,
    silence,
    created_at: offer.createdAt,
    withdrawn_at: null,
  };
  await db
    .insertInto('offer')
    .values(values)
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const query = db.selectFrom('offer').selectAll().where('participant', '=', participant).where('id', '=', id);
  const kept = await query.executeTakeFirst();
  const same = kept?.asset === asset && kept.rules === rules && kept.price === price && kept.assurance === assurance;
  return same && kept.silence === silence && kept.withdrawn_at === null ? 'saved' : 'conflict';
};

/** The catalog of all participants of a deployment over SQL. */
export const createSqlCatalogStore = (db: Db): CatalogStore => ({
  putAsset: (asset) => putAsset(db, asset),
  putPricePlan: async (participant, digest, plan) => {
    const values = { participant, digest, plan: canonicalize(plan) };
    await db
      .insertInto('price_plan')
      .values(values)
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  },
  putOffer: (offer) => putOffer(db, offer),
  withdraw: async (participant, offer, at) => {
    const { numUpdatedRows } = await db
      .updateTable('offer')
      .set({ withdrawn_at: at })
      .where('participant', '=', participant)
      .where('id', '=', offer)
      .where('withdrawn_at', 'is', null)
      .executeTakeFirst();
    return numUpdatedRows === 1n;
  },
  read: createReader(db),
});
