import type { Kysely } from 'kysely';
import type { Assurance } from '../../../contracts/ledger/agreement.ts';
import type { Migration } from '../../../kernel/sql/migrate.ts';

/** Assets, offers, price plans; whom each offer is shown to; and what changed. */

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
    /** The change of the catalog that brought it, and the one that took it: a number that is never reached while it stands. */
    created_seq: number;
    withdrawn_seq: number;
    /** When its policy may let others through than it does now, ms. */
    turns_at: number | null;
  };
  /** Whom the catalog shows a standing offer now: one row for each DID that its policy names, or one with '' for everybody. */
  catalog_showing: { participant: string; reader: string; assurance: Assurance; asset: string; offer: string };
  /** The number of the last change of a participant's catalog, and of the last that is forgotten. */
  catalog_head: { participant: string; head: number; forgotten: number };
  /** A dataset that changed: it is looked at as it was just before, and as it is with this change. */
  catalog_change: { participant: string; seq: number; dataset: string; was_at: number; at: number };
}

/** `withdrawn_seq` of an offer that stands. */
export const standing = Number.MAX_SAFE_INTEGER;

/** Offers that were there before are shown as soon as their policies have been looked at: all of them are due. */
const addShowing = async (db: Kysely<CatalogTables>): Promise<void> => {
  const { schema } = db;
  await schema
    .alterTable('offer')
    .addColumn('created_seq', 'bigint', (column) => column.notNull().defaultTo(0))
    .execute();
  await schema
    .alterTable('offer')
    .addColumn('withdrawn_seq', 'bigint', (column) => column.notNull().defaultTo(standing))
    .execute();
  await schema.alterTable('offer').addColumn('turns_at', 'bigint').execute();
  await db.updateTable('offer').set({ withdrawn_seq: 0 }).where('withdrawn_at', 'is not', null).execute();
  await db.updateTable('offer').set({ turns_at: 0 }).where('withdrawn_at', 'is', null).execute();
  await schema.dropIndex('offer_asset').execute();
  await schema
    .createIndex('offer_standing')
    .on('offer')
    .columns(['participant', 'asset', 'withdrawn_seq', 'id'])
    .execute();
  await schema.createIndex('offer_turns').on('offer').columns(['turns_at']).execute();
  await schema
    .createTable('catalog_showing')
    .addColumn('participant', 'text', (column) => column.notNull())
    .addColumn('reader', 'text', (column) => column.notNull())
    .addColumn('assurance', 'text', (column) => column.notNull())
    .addColumn('asset', 'text', (column) => column.notNull())
    .addColumn('offer', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('catalog_showing_pk', ['participant', 'reader', 'assurance', 'asset', 'offer'])
    .execute();
  await schema.createIndex('catalog_showing_offer').on('catalog_showing').columns(['participant', 'offer']).execute();
};

const addChanges = async ({ schema }: Kysely<CatalogTables>): Promise<void> => {
  await schema
    .createTable('catalog_head')
    .addColumn('participant', 'text', (column) => column.notNull())
    .addColumn('head', 'bigint', (column) => column.notNull())
    .addColumn('forgotten', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('catalog_head_pk', ['participant'])
    .execute();
  await schema
    .createTable('catalog_change')
    .addColumn('participant', 'text', (column) => column.notNull())
    .addColumn('seq', 'bigint', (column) => column.notNull())
    .addColumn('dataset', 'text', (column) => column.notNull())
    .addColumn('was_at', 'bigint', (column) => column.notNull())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('catalog_change_pk', ['participant', 'seq'])
    .execute();
  await schema
    .createIndex('catalog_change_dataset')
    .on('catalog_change')
    .columns(['participant', 'dataset', 'seq'])
    .execute();
};

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
  {
    name: '2026-11-26-catalog-showing',
    up: async (db) => {
      await addShowing(db);
      await addChanges(db);
    },
  },
];
