import { describe, expect, test } from 'vitest';
import {
  type CatalogTables,
  catalogMigrations,
  createSqlCatalogStore,
} from '../../connector/adapters/sql/catalog-store.ts';
import type { Asset, CatalogStore, Offer } from '../../connector/catalog/ports.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';

const us = 'us' as ParticipantId;
const assetOf = (id: string, title = 'Rain'): Asset => ({
  participant: us,
  id,
  title,
  description: '',
  keywords: ['rain'],
  extra: {},
  upstream: { kind: 'file', path: '/data/rain.json' },
  createdAt: 1,
});
const offerOf = (id: string, asset: string): Offer => ({
  participant: us,
  id,
  asset,
  rules: { permission: [{ action: 'use' }] },
  assurance: 'cosigned',
  price: '',
  silence: 300_000,
  createdAt: 1,
  withdrawnAt: null,
});

const adapters: Readonly<Record<string, () => Promise<CatalogStore>>> = {
  sqlite: async () => {
    const { db } = openSqlite<CatalogTables>({ path: ':memory:' });
    await migrate(db, 'catalog', catalogMigrations);
    return createSqlCatalogStore(db);
  },
};

describe.each(Object.entries(adapters))('CatalogStore on %s', (_name, create) => {
  test('gives back what was put, for its participant only', async () => {
    const store = await create();
    await store.putAsset(assetOf('a'));
    await store.putOffer({ ...offerOf('o', 'a'), silence: 'strict' });
    expect(await store.read.asset(us, 'a')).toEqual({
      asset: assetOf('a'),
      offers: [{ ...offerOf('o', 'a'), silence: 'strict' }],
    });
    expect(await store.read.offer(us, 'o')).toEqual({ ...offerOf('o', 'a'), silence: 'strict' });
    expect(await store.read.asset('other' as ParticipantId, 'a')).toBeUndefined();
  });

  test('the same again is harmless, other content under the same id is a conflict', async () => {
    const store = await create();
    expect(await store.putAsset(assetOf('a'))).toBe('saved');
    expect(await store.putAsset(assetOf('a'))).toBe('saved');
    expect(await store.putAsset(assetOf('a', 'Snow'))).toBe('conflict');
    expect(await store.putOffer(offerOf('o', 'a'))).toBe('saved');
    expect(await store.putOffer(offerOf('o', 'a'))).toBe('saved');
    expect(await store.putOffer({ ...offerOf('o', 'a'), price: 'x' })).toBe('conflict');
  });

  test('a withdrawn offer is no longer found among the assets, and not withdrawn twice', async () => {
    const store = await create();
    await store.putAsset(assetOf('a'));
    await store.putOffer(offerOf('o', 'a'));
    expect(await store.withdraw(us, 'o', 9)).toBe(true);
    expect(await store.withdraw(us, 'o', 9)).toBe(false);
    expect((await store.read.asset(us, 'a'))?.offers).toEqual([]);
    expect((await store.read.offer(us, 'o'))?.withdrawnAt).toBe(9);
    expect(await store.read.page(us, { after: '', limit: 10 })).toEqual([]);
    expect(await store.putOffer(offerOf('o', 'a'))).toBe('conflict');
  });

  test('pages assets with offers in order', async () => {
    const store = await create();
    for (const id of ['c', 'a', 'b', 'd']) await store.putAsset(assetOf(id));
    for (const id of ['a', 'b', 'd']) await store.putOffer(offerOf(`o-${id}`, id));
    const ids = async (after: string) => (await store.read.page(us, { after, limit: 2 })).map(({ asset }) => asset.id);
    expect(await ids('')).toEqual(['a', 'b']);
    expect(await ids('b')).toEqual(['d']);
  });

  test('keeps price plans by digest', async () => {
    const store = await create();
    const plan = {
      v: 1 as const,
      type: 'price-plan' as const,
      currency: 'EUR',
      scale: '4',
      lines: [],
      notice: '',
      free: true,
    };
    await store.putPricePlan(us, 'd', plan);
    await store.putPricePlan(us, 'd', plan);
    expect(await store.read.pricePlan(us, 'd')).toEqual(plan);
    expect(await store.read.pricePlan(us, 'x')).toBeUndefined();
  });
});
