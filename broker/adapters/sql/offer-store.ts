import { type Kysely, sql } from 'kysely';
import type { Did } from '../../../contracts/ids.ts';
import type { StoreEntry } from '../../../contracts/store.ts';
import { formatTime } from '../../../contracts/time.ts';
import type { Migration } from '../../../kernel/sql/migrate.ts';
import type { Followed, Listing, OfferReader, OfferStore, Provider } from '../../store/ports.ts';

/** Listings and the words they are found by. Both orders of the words are indexes: by word for walking, by listing for checking. */
export interface OfferTables {
  store_provider: { did: string; name: string };
  store_listing: {
    id: string;
    provider: string;
    dataset: string;
    title: string;
    description: string;
    keywords: string;
    offers: string;
    digest: string;
    run: string;
    harvested_at: number;
  };
  store_word: { word: string; id: string };
  store_followed: { provider: string; cursor: string; crawled_at: number };
  store_harvest: {
    provider: string;
    at: number;
    datasets: number;
    skipped: number;
    removed: number;
    fault: string | null;
  };
}

export const offerMigrations: readonly Migration<OfferTables>[] = [
  {
    name: '2026-11-26-offers',
    up: async ({ schema }) => {
      await schema
        .createTable('store_provider')
        .addColumn('did', 'text', (column) => column.primaryKey())
        .addColumn('name', 'text', (column) => column.notNull())
        .execute();
      await schema
        .createTable('store_listing')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('provider', 'text', (column) => column.notNull())
        .addColumn('dataset', 'text', (column) => column.notNull())
        .addColumn('title', 'text', (column) => column.notNull())
        .addColumn('description', 'text', (column) => column.notNull())
        .addColumn('keywords', 'text', (column) => column.notNull())
        .addColumn('offers', 'text', (column) => column.notNull())
        .addColumn('digest', 'text', (column) => column.notNull())
        .addColumn('run', 'text', (column) => column.notNull())
        .addColumn('harvested_at', 'bigint', (column) => column.notNull())
        .execute();
      await schema.createIndex('store_listing_provider').on('store_listing').columns(['provider', 'run']).execute();
      await schema
        .createTable('store_word')
        .addColumn('word', 'text', (column) => column.notNull())
        .addColumn('id', 'text', (column) => column.notNull())
        .addPrimaryKeyConstraint('store_word_pk', ['word', 'id'])
        .execute();
      await schema.createIndex('store_word_id').on('store_word').columns(['id', 'word']).execute();
    },
  },
  {
    name: '2026-11-26-followed-catalogs',
    up: async ({ schema }) => {
      await schema
        .createTable('store_followed')
        .addColumn('provider', 'text', (column) => column.primaryKey())
        .addColumn('cursor', 'text', (column) => column.notNull())
        .addColumn('crawled_at', 'bigint', (column) => column.notNull())
        .execute();
    },
  },
  {
    name: '2026-11-26-harvests',
    up: async ({ schema }) => {
      await schema
        .createTable('store_harvest')
        .addColumn('provider', 'text', (column) => column.primaryKey())
        .addColumn('at', 'bigint', (column) => column.notNull())
        .addColumn('datasets', 'integer', (column) => column.notNull())
        .addColumn('skipped', 'integer', (column) => column.notNull())
        .addColumn('removed', 'integer', (column) => column.notNull())
        .addColumn('fault', 'text')
        .execute();
    },
  },
];

type Db = Kysely<OfferTables>;

/** Rows of one transaction: whoever else needs the connection does not wait long. */
const pieceSize = 25;

const pieces = <Item>(items: readonly Item[], size: number): readonly (readonly Item[])[] =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, index) => items.slice(index * size, (index + 1) * size));

/** The end of a range of words with this beginning: no word sorts behind the last code point. */
const endOf = (prefix: string): string => `${prefix}\u{10ffff}`;

const putListing = async (
  db: Db,
  provider: Did,
  seen: { readonly run: string; readonly at: number },
  listing: Listing,
): Promise<void> => {
  const { id, dataset, title, description, digest } = listing;
  const values = {
    provider,
    dataset,
    title,
    description,
    keywords: JSON.stringify(listing.keywords),
    offers: JSON.stringify(listing.offers),
    digest,
    run: seen.run,
    harvested_at: seen.at,
  };
  await db
    .insertInto('store_listing')
    .values({ id, ...values })
    .onConflict((conflict) => conflict.column('id').doUpdateSet(values))
    .execute();
  await db.deleteFrom('store_word').where('id', '=', id).execute();
  if (listing.words.length > 0)
    await db
      .insertInto('store_word')
      .values(listing.words.map((word) => ({ word, id })))
      .execute();
};

const putPiece = async (
  db: Db,
  provider: Did,
  seen: { readonly run: string; readonly at: number },
  listings: readonly Listing[],
): Promise<void> => {
  const ids = listings.map(({ id }) => id);
  const rows = await db.selectFrom('store_listing').select(['id', 'digest']).where('id', 'in', ids).execute();
  const known = new Map(rows.map(({ id, digest }) => [id, digest]));
  const same = listings.filter(({ id, digest }) => known.get(id) === digest).map(({ id }) => id);
  if (same.length > 0)
    await db
      .updateTable('store_listing')
      .set({ run: seen.run, harvested_at: seen.at })
      .where('id', 'in', same)
      .execute();
  for (const listing of listings)
    if (known.get(listing.id) !== listing.digest) await putListing(db, provider, seen, listing);
};

/** Removes listings with their words, in one transaction. */
const removePiece = (db: Db, ids: readonly string[]): Promise<void> =>
  db.transaction().execute(async (transaction) => {
    await transaction.deleteFrom('store_word').where('id', 'in', ids).execute();
    await transaction.deleteFrom('store_listing').where('id', 'in', ids).execute();
  });

/** Those of these listings that are the provider's. */
const removeThese = async (db: Db, provider: Did, wanted: readonly string[]): Promise<number> => {
  let removed = 0;
  for (const piece of pieces(wanted, pieceSize)) {
    const query = db.selectFrom('store_listing').select('id').where('id', 'in', piece).where('provider', '=', provider);
    const ids = (await query.execute()).map(({ id }) => id);
    if (ids.length > 0) await removePiece(db, ids);
    removed += ids.length;
  }
  return removed;
};

const keepFollowed = async (db: Db, provider: Did, followed: Followed | undefined): Promise<void> => {
  if (followed === undefined) {
    await db.deleteFrom('store_followed').where('provider', '=', provider).execute();
    return;
  }
  const values = { cursor: followed.cursor, crawled_at: followed.crawledAt };
  await db
    .insertInto('store_followed')
    .values({ provider, ...values })
    .onConflict((conflict) => conflict.column('provider').doUpdateSet(values))
    .execute();
};

/** Removes listings of a provider, but those of a run; a piece at a time. */
const removeListings = async (db: Db, provider: Did, except: string | undefined): Promise<number> => {
  for (let removed = 0; ; ) {
    const rows = await db
      .selectFrom('store_listing')
      .select('id')
      .where('provider', '=', provider)
      .$if(except !== undefined, (query) => query.where('run', '!=', except ?? ''))
      .limit(pieceSize)
      .execute();
    if (rows.length === 0) return removed;
    const ids = rows.map(({ id }) => id);
    await removePiece(db, ids);
    removed += ids.length;
  }
};

const putProvider = async (db: Db, { did, name }: Provider): Promise<void> => {
  await db
    .insertInto('store_provider')
    .values({ did, name })
    .onConflict((conflict) => conflict.column('did').doUpdateSet({ name }))
    .execute();
};

const entryOf = (row: OfferTables['store_listing'] & { readonly name: string | null }): StoreEntry => ({
  provider: { did: row.provider as Did, name: row.name ?? '' },
  dataset: row.dataset,
  title: row.title,
  description: row.description,
  keywords: JSON.parse(row.keywords),
  offers: JSON.parse(row.offers),
  harvestedAt: formatTime(Number(row.harvested_at)),
});

const createReader = (db: Db): OfferReader => ({
  scan: (prefix, after, limit) =>
    db
      .selectFrom('store_word')
      .select(['word', 'id'])
      .where(sql<boolean>`(word, id) > (${after.word}, ${after.id})`)
      .where('word', '>=', prefix)
      .where('word', '<', endOf(prefix))
      .orderBy('word')
      .orderBy('id')
      .limit(limit)
      .execute(),
  firstWords: async (prefix, ids) => {
    if (ids.length === 0) return new Map();
    const rows = await db
      .selectFrom('store_word')
      .select(({ fn }) => ['id', fn.min('word').as('word')])
      .where('id', 'in', ids)
      .where('word', '>=', prefix)
      .where('word', '<', endOf(prefix))
      .groupBy('id')
      .execute();
    return new Map(rows.map(({ id, word }) => [id, word]));
  },
  count: async (prefix, max) => {
    const places = db
      .selectFrom('store_word')
      .select('id')
      .where('word', '>=', prefix)
      .where('word', '<', endOf(prefix))
      .limit(max);
    const row = await db
      .selectFrom(places.as('place'))
      .select(({ fn }) => fn.countAll().as('count'))
      .executeTakeFirst();
    return Number(row?.count ?? 0);
  },
  ids: async (after, limit) => {
    const rows = await db
      .selectFrom('store_listing')
      .select('id')
      .where('id', '>', after)
      .orderBy('id')
      .limit(limit)
      .execute();
    return rows.map(({ id }) => id);
  },
  entries: async (ids) => {
    if (ids.length === 0) return [];
    const rows = await db
      .selectFrom('store_listing')
      .leftJoin('store_provider', 'store_provider.did', 'store_listing.provider')
      .selectAll('store_listing')
      .select('store_provider.name')
      .where('store_listing.id', 'in', ids)
      .execute();
    const byId = new Map(rows.map((row) => [row.id, entryOf(row)]));
    return ids.map((id) => byId.get(id)).filter((entry) => entry !== undefined);
  },
});

/** The store of offers over SQL. */
export const createSqlOfferStore = (db: Db): OfferStore => ({
  put: async (provider, seen, listings) => {
    await putProvider(db, provider);
    for (const piece of pieces(listings, pieceSize))
      await db.transaction().execute((transaction) => putPiece(transaction, provider.did, seen, piece));
  },
  finish: (provider, run) => removeListings(db, provider, run),
  remove: (provider, ids) => removeThese(db, provider, ids),
  followed: async (provider) => {
    const row = await db.selectFrom('store_followed').selectAll().where('provider', '=', provider).executeTakeFirst();
    return row === undefined ? undefined : { cursor: row.cursor, crawledAt: Number(row.crawled_at) };
  },
  keepFollowed: (provider, followed) => keepFollowed(db, provider, followed),
  forget: async (provider) => {
    await keepFollowed(db, provider, undefined);
    await removeListings(db, provider, undefined);
    await db.deleteFrom('store_provider').where('did', '=', provider).execute();
    await db.deleteFrom('store_harvest').where('provider', '=', provider).execute();
  },
  providers: async () => {
    const rows = await db.selectFrom('store_provider').select('did').orderBy('did').execute();
    return rows.map(({ did }) => did as Did);
  },
  keepResult: async ({ provider, ...result }) => {
    await db
      .insertInto('store_harvest')
      .values({ provider, ...result })
      .onConflict((conflict) => conflict.column('provider').doUpdateSet(result))
      .execute();
  },
  results: async () => {
    const rows = await db.selectFrom('store_harvest').selectAll().orderBy('provider').execute();
    return rows.map((row) => ({ ...row, provider: row.provider as Did }));
  },
  read: createReader(db),
});
