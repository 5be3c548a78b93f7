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

  test('a source may get another sealed credential under the same id, and nothing else', async () => {
    const store = await create();
    const sealed = (value: string, url = 'https://source.example'): Asset => ({
      ...assetOf('a'),
      upstream: { kind: 'http', url, credential: { name: 'x-key', sealed: value } },
    });
    expect(await store.putAsset(sealed('one'))).toBe('saved');
    expect(await store.putAsset(sealed('two'))).toBe('saved');
    expect((await store.read.asset(us, 'a'))?.asset).toEqual(sealed('two'));
    expect(await store.putAsset(sealed('three', 'https://other.example'))).toBe('conflict');
    expect((await store.read.asset(us, 'a'))?.asset).toEqual(sealed('two'));
  });

  test('shows the owner everything in order, on offer or not, page by page', async () => {
    const store = await create();
    for (const id of ['b', 'a', 'c']) await store.putAsset(assetOf(id));
    await store.putOffer(offerOf('p', 'b'));
    await store.putOffer(offerOf('o', 'b'));
    await store.withdraw(us, 'o', 9);
    const plan = {
      v: 1 as const,
      type: 'price-plan' as const,
      currency: 'EUR',
      scale: '2',
      lines: [],
      notice: '',
      free: true,
    };
    await store.putPricePlan(us, 'd2', plan);
    await store.putPricePlan(us, 'd1', plan);
    const assets = await store.read.assets(us, { after: '', limit: 2 });
    expect(assets.map(({ asset }) => asset.id)).toEqual(['a', 'b']);
    expect(assets[1]?.offers.map(({ id }) => id)).toEqual(['p']);
    expect((await store.read.assets(us, { after: 'b', limit: 2 })).map(({ asset }) => asset.id)).toEqual(['c']);
    expect(
      (await store.read.offers(us, { after: '', limit: 9 })).map(({ id, withdrawnAt }) => [id, withdrawnAt]),
    ).toEqual([
      ['o', 9],
      ['p', null],
    ]);
    expect((await store.read.pricePlans(us, { after: 'd1', limit: 9 })).map(({ digest }) => digest)).toEqual(['d2']);
    const other = 'other' as ParticipantId;
    expect(await store.read.assets(other, { after: '', limit: 9 })).toEqual([]);
    expect(await store.read.pricePlans(other, { after: '', limit: 9 })).toEqual([]);
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
