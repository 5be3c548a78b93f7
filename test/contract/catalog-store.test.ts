import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import { createSqlCatalogStore } from '../../connector/adapters/sql/catalog-store.ts';
import { type CatalogTables, catalogMigrations } from '../../connector/adapters/sql/catalog-tables.ts';
import type { Asset, CatalogStore, Offer, Seen, Showing, Stretch } from '../../connector/catalog/ports.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { onDatabases } from '../support/databases.ts';

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

const everybody: Showing = { readers: [''], turnsAt: null };
const seen: Seen = { readers: ['', 'did:web:reader.example'], assurances: ['cosigned', 'plain-dsp'] };

const adapters: Readonly<Record<string, () => Promise<CatalogStore>>> = onDatabases(
  async (db: Kysely<CatalogTables>) => {
    await migrate(db, 'catalog', catalogMigrations);
    return createSqlCatalogStore(db);
  },
);

describe.each(Object.entries(adapters))('CatalogStore on %s', (_name, create) => {
  test('gives back what was put, for its participant only', async () => {
    const store = await create();
    await store.putAsset(assetOf('a'));
    await store.putOffer({ ...offerOf('o', 'a'), silence: 'strict' }, everybody);
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
    expect(await store.putOffer(offerOf('o', 'a'), everybody)).toBe('saved');
    expect(await store.putOffer(offerOf('o', 'a'), everybody)).toBe('saved');
    expect(await store.putOffer({ ...offerOf('o', 'a'), price: 'x' }, everybody)).toBe('conflict');
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
    await store.putOffer(offerOf('p', 'b'), everybody);
    await store.putOffer(offerOf('o', 'b'), everybody);
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
    await store.putOffer(offerOf('o', 'a'), everybody);
    expect(await store.withdraw(us, 'o', 9)).toBe(true);
    expect(await store.withdraw(us, 'o', 9)).toBe(false);
    expect((await store.read.asset(us, 'a'))?.offers).toEqual([]);
    expect((await store.read.offer(us, 'o'))?.withdrawnAt).toBe(9);
    expect(await store.read.page(us, seen, { after: '', limit: 10 })).toEqual([]);
    expect(await store.putOffer(offerOf('o', 'a'), everybody)).toBe('conflict');
  });

  const idsOf = async (store: CatalogStore, whose: Seen, stretch: Stretch) =>
    (await store.read.page(us, whose, stretch)).map(({ asset }) => asset.id);

  test('pages assets with offers in order, forwards and backwards', async () => {
    const store = await create();
    for (const id of ['c', 'a', 'b', 'd']) await store.putAsset(assetOf(id));
    for (const id of ['a', 'b', 'd']) await store.putOffer(offerOf(`o-${id}`, id), everybody);
    await store.putOffer(offerOf('second', 'b'), everybody);
    expect(await idsOf(store, seen, { after: '', limit: 2 })).toEqual(['a', 'b']);
    expect(await idsOf(store, seen, { after: 'b', limit: 2 })).toEqual(['d']);
    expect(await idsOf(store, seen, { before: 'd', limit: 1 })).toEqual(['b']);
    expect(await idsOf(store, seen, { before: 'd', limit: 9 })).toEqual(['a', 'b']);
  });

  test('a page has what is shown to the caller, and under the assurances it can keep', async () => {
    const store = await create();
    const reader = 'did:web:reader.example';
    for (const id of ['a', 'b', 'c', 'd']) await store.putAsset(assetOf(id));
    await store.putOffer(offerOf('o-a', 'a'), everybody);
    await store.putOffer(offerOf('o-b', 'b'), { readers: ['did:web:other.example'], turnsAt: null });
    await store.putOffer(offerOf('o-c', 'c'), { readers: [reader, 'did:web:other.example'], turnsAt: null });
    await store.putOffer({ ...offerOf('o-d', 'd'), assurance: 'plain-dsp' }, everybody);
    const all = { after: '', limit: 9 };
    expect(await idsOf(store, seen, all)).toEqual(['a', 'c', 'd']);
    expect(await idsOf(store, { ...seen, readers: [''] }, all)).toEqual(['a', 'd']);
    expect(await idsOf(store, { ...seen, assurances: ['plain-dsp'] }, all)).toEqual(['d']);
    expect(await idsOf(store, { ...seen, assurances: [] }, all)).toEqual([]);
  });

  test('an offer that is due is shown to others from then on, by one of those who try', async () => {
    const store = await create();
    await store.putAsset(assetOf('a'));
    await store.putOffer(offerOf('o', 'a'), { readers: [], turnsAt: 50 });
    const all = { after: '', limit: 9 };
    expect(await idsOf(store, seen, all)).toEqual([]);
    expect(await store.read.due(49, 9)).toEqual([]);
    const [due] = await store.read.due(50, 9);
    if (due === undefined) throw new Error('nothing is due');
    expect(due).toEqual({ offer: offerOf('o', 'a'), turnsAt: 50 });
    expect(await store.turn(due, { readers: [''], turnsAt: 90 }, 52)).toBe(true);
    expect(await store.turn(due, { readers: [], turnsAt: null }, 52)).toBe(false);
    expect(await idsOf(store, seen, all)).toEqual(['a']);
    expect((await store.read.due(90, 9)).map(({ turnsAt }) => turnsAt)).toEqual([90]);
    await store.withdraw(us, 'o', 60);
    expect(await store.read.due(90, 9)).toEqual([]);
  });

  test('numbers what changes, with what was on offer before and after', async () => {
    const store = await create();
    for (const id of ['a', 'b']) await store.putAsset(assetOf(id));
    await store.putOffer({ ...offerOf('o', 'a'), createdAt: 10 }, { readers: [''], turnsAt: 30 });
    await store.putOffer({ ...offerOf('p', 'b'), createdAt: 20 }, everybody);
    await store.withdraw(us, 'o', 40);
    const changes = await store.read.changes(us, 0, 9);
    expect(changes.map(({ dataset, wasAt, at }) => [dataset, wasAt, at])).toEqual([
      ['a', 10, 10],
      ['b', 20, 20],
      ['a', 29, 40], // it turned at 30 and nobody had noticed: before is before that
    ]);
    const views = [];
    for (const change of changes) {
      const changed = await store.read.changed(us, change);
      views.push([changed?.before.map(({ id }) => id), changed?.after.map(({ id }) => id)]);
    }
    expect(views).toEqual([
      [[], ['o']],
      [[], ['p']],
      [['o'], []],
    ]);
    expect((await store.read.head(us)).head).toBe(changes.at(-1)?.seq);
    expect(await store.read.changes(us, changes[1]?.seq ?? 0, 9)).toEqual(changes.slice(2));
    expect(await store.read.changes('other' as ParticipantId, 0, 9)).toEqual([]);
  });

  test('forgets old changes from the oldest on, and knows up to where', async () => {
    const store = await create();
    await store.putAsset(assetOf('a'));
    for (const at of [10, 20, 30, 15]) await store.putOffer({ ...offerOf(`o${at}`, 'a'), createdAt: at }, everybody);
    const seqs = (await store.read.changes(us, 0, 9)).map(({ seq }) => seq);
    expect(await store.forgetChanges(us, 10, 9)).toBe(0);
    expect(await store.forgetChanges(us, 25, 1)).toBe(1);
    expect(await store.forgetChanges(us, 25, 9)).toBe(1);
    expect(await store.forgetChanges(us, 25, 9)).toBe(0); // a young one stands before the last
    expect((await store.read.head(us)).forgotten).toBe(seqs[1]);
    expect((await store.read.changes(us, 0, 9)).map(({ seq }) => seq)).toEqual(seqs.slice(2));
  });

  test('many writers at once get numbers without holes in what can be read', async () => {
    const store = await create();
    await store.putAsset(assetOf('a'));
    const names = Array.from({ length: 20 }, (_, index) => `o${index}`);
    const results = await Promise.all([...names, ...names].map((id) => store.putOffer(offerOf(id, 'a'), everybody)));
    expect(results).toEqual(Array(40).fill('saved'));
    const seqs = (await store.read.changes(us, 0, 99)).map(({ seq }) => seq);
    expect(seqs).toHaveLength(20);
    expect(new Set(seqs).size).toBe(20);
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
    expect([...(await store.read.plans(us, ['d', 'x']))]).toEqual([['d', plan]]);
  });
});
