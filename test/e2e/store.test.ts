import { Hono } from 'hono';
import { describe, expect, test } from 'vitest';
import { createMemberCatalogs } from '../../broker/adapters/http/member-catalogs.ts';
import { createMemberFeeds } from '../../broker/adapters/http/member-feeds.ts';
import { createSqlOfferStore, type OfferTables, offerMigrations } from '../../broker/adapters/sql/offer-store.ts';
import { type HarvestLimits, startHarvester } from '../../broker/store/harvest.ts';
import { createStoreRoutes } from '../../broker/store/routes.ts';
import { dspaceContext } from '../../contracts/dsp/common.ts';
import { storePage } from '../../contracts/store.ts';
import { systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { createIds, systemRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { startProvider } from '../support/catalog-provider.ts';
import { us } from '../support/hub-events.ts';
import { startHubParty } from '../support/hub-parties.ts';

const newId = createIds(systemClock, systemRandom);

describe('the store of a broker', () => {
  test('finds what connectors publish, with price and rules, page by page, and no longer what they withdraw', async () => {
    await using broker = await startHubParty();
    const { party, catalog } = await startProvider(broker.did);
    await using _party = party;
    const { digest } = await catalog.addPricePlan(us, {
      v: 1,
      type: 'price-plan',
      currency: 'EUR',
      scale: '4',
      lines: [{ unit: 'requests', quantity: '1', value: '25' }],
      notice: '',
      free: false,
    });
    for (let index = 0; index < 120; index += 1) {
      const id = String(index).padStart(3, '0');
      const upstream = { kind: 'file', path: `/data/${id}` } as const;
      await catalog.addAsset(us, { id: `urn:asset:${id}`, title: `Waterstand ${id}`, keywords: ['Peil'], upstream });
      const rules = { permission: [{ action: 'use' }] };
      await catalog.addOffer(us, { id: `urn:offer:${id}`, asset: `urn:asset:${id}`, rules, price: digest });
    }
    const { db } = openSqlite<OfferTables>({ path: ':memory:' });
    await migrate(db, 'offers', offerMigrations);
    const store = createSqlOfferStore(db);
    await using harvester = startHarvester({
      store,
      members: { list: async () => [{ did: party.did, name: 'Waterschap' }] },
      read: createMemberCatalogs({
        ...broker,
        clock: systemClock,
        newId: () => `urn:uuid:${newId()}`,
        allowLoopbackHttp: true,
      }),
      newId,
      clock: systemClock,
      log: silentLogger,
      intervalMs: 3_600_000,
    });
    const [result] = await harvester.harvest(party.did);
    expect(result).toMatchObject({ datasets: 120, skipped: 0, removed: 0, fault: null });
    const routes = createStoreRoutes({ read: store.read, log: silentLogger });
    const ask = async (query: string) => storePage.parse(await (await routes.request(`/store/offers?${query}`)).json());
    const [found] = (await ask('q=wateRSTÁND+007')).entries;
    expect(found).toMatchObject({
      provider: { did: party.did, name: 'Waterschap' },
      dataset: 'urn:asset:007',
      offers: [{ id: 'urn:offer:007', assurance: 'cosigned', price: digest, pricePlan: { currency: 'EUR' } }],
    });
    await catalog.withdraw(us, 'urn:offer:007');
    await harvester.harvest(party.did);
    const after = await ask('q=waterstand+007&limit=100');
    expect(after.ignored).toEqual(['007']);
    expect(after.entries.map(({ dataset }) => dataset)).not.toContain('urn:asset:007');
    expect((await ask('q=waterstand+008')).entries).toHaveLength(1);
  });

  /** A broker that follows one provider, and what it finds of it. */
  const following = async (limits: Partial<HarvestLimits> = {}) => {
    const broker = await startHubParty();
    const { party, catalog, store: offered, asked } = await startProvider(broker.did, { feed: true });
    const { db } = openSqlite<OfferTables>({ path: ':memory:' });
    await migrate(db, 'offers', offerMigrations);
    const store = createSqlOfferStore(db);
    const reading = { ...broker, clock: systemClock, newId: () => `urn:uuid:${newId()}`, allowLoopbackHttp: true };
    const harvester = startHarvester({
      store,
      members: { list: async () => [{ did: party.did, name: 'Waterschap' }] },
      read: createMemberCatalogs(reading),
      feeds: createMemberFeeds(reading),
      newId,
      clock: systemClock,
      log: silentLogger,
      intervalMs: 3_600_000,
      limits,
    });
    const publish = async (id: string, title = `Peil ${id}`) => {
      const upstream = { kind: 'file', path: `/data/${id}` } as const;
      await catalog.addAsset(us, { id: `urn:asset:${id}`, title, upstream });
      const rules = { permission: [{ action: 'use' }] };
      await catalog.addOffer(us, { id: `urn:offer:${id}`, asset: `urn:asset:${id}`, rules });
    };
    const routes = createStoreRoutes({ read: store.read, log: silentLogger });
    const titles = async () => {
      const answer = await routes.request('/store/offers?q=peil&limit=100');
      return storePage
        .parse(await answer.json())
        .entries.map(({ title }) => title)
        .sort();
    };
    /** Harvests, and says whether it read the whole catalog for it. */
    const harvest = async () => {
      asked.length = 0;
      const [result] = await harvester.harvest(party.did);
      return { ...result, isWhole: asked.some((line) => line.endsWith('/catalog/request')), asked: [...asked] };
    };
    await harvester.harvest(party.did); // behind the first, which begins by itself
    return {
      party,
      catalog,
      offered,
      publish,
      titles,
      harvest,
      [Symbol.asyncDispose]: async () => {
        for (const one of [harvester, party, broker]) await one[Symbol.asyncDispose]();
      },
    };
  };

  test('follows the changes of a member that tells them, and reads what changed alone', async () => {
    await using its = await following();
    for (const id of ['1', '2', '3']) await its.publish(id);
    expect(await its.harvest()).toMatchObject({ datasets: 3, fault: null, isWhole: false });
    expect(await its.harvest()).toMatchObject({ datasets: 0, removed: 0, fault: null, isWhole: false });
    await its.publish('4');
    await its.catalog.withdraw(us, 'urn:offer:2');
    const { asked, ...result } = await its.harvest();
    expect(result).toMatchObject({ datasets: 1, removed: 1, fault: null, isWhole: false });
    expect(asked.filter((line) => line.includes('/catalog/datasets/'))).toHaveLength(1);
    expect(await its.titles()).toEqual(['Peil 1', 'Peil 3', 'Peil 4']);
  });

  test('reads everything again when the cursor has expired, and follows from there', async () => {
    await using its = await following();
    await its.publish('1');
    await its.harvest();
    await its.publish('2');
    await its.catalog.withdraw(us, 'urn:offer:1');
    await its.offered.forgetChanges(us, systemClock.now() + 1, 1_000);
    expect(await its.harvest()).toMatchObject({ datasets: 1, removed: 1, fault: null, isWhole: true });
    expect(await its.titles()).toEqual(['Peil 2']);
    expect(await its.harvest()).toMatchObject({ isWhole: false });
  });

  test('reads everything once a day all the same', async () => {
    await using its = await following({ recrawlMs: 0 });
    await its.publish('1');
    expect((await its.harvest()).isWhole).toBe(true);
    expect(await its.harvest()).toMatchObject({ fault: null, isWhole: true });
  });

  test('a feed that lies or leads away is not followed: what the catalog shows counts', async () => {
    await using broker = await startHubParty();
    const services = (origin: string) => ({ StekkerExtensions: `${origin}/.well-known/stekker` });
    await using member = await startHubParty({ services });
    const dataset = (id: string, title: string) => ({
      '@type': 'Dataset',
      '@id': id,
      'dct:title': title,
      hasPolicy: [{ '@type': 'Offer', '@id': 'urn:offer:1', permission: [{ action: 'use' }] }],
      distribution: [{ '@type': 'Distribution', format: 'HttpData-PULL', accessService: 'x' }],
    });
    const at = '2026-11-26T12:00:00.000Z';
    const added = { dataset: 'urn:asset:wrong', change: 'added', at, digest: 'A'.repeat(43) };
    const lies: readonly { readonly body: object; readonly link?: string; readonly status?: number }[] = [
      { body: { changes: [added], cursor: 'c' } },
      { body: { changes: [], cursor: 'c' }, link: '<https://elsewhere.example/changes>; rel="next"' },
      { body: { changes: [{ ...added, change: 'appeared' }], cursor: 'c' } },
      { body: { changes: [], cursor: '' } },
      { body: {}, status: 500 },
      { body: {}, status: 410 },
    ];
    let lie = lies[0];
    let crawls = 0;
    const app = new Hono();
    const version = { version: '2025-1', path: '/dsp/2025-1', binding: 'HTTPS' };
    app.get('/.well-known/dspace-version', (c) => c.json({ protocolVersions: [version] }));
    app.get('/.well-known/stekker', (c) =>
      c.json({ extensions: [{ id: 'catalog', version: '1', path: '/ext/1/catalog' }] }),
    );
    app.get('/ext/1/catalog/changes', (c) => {
      if (c.req.query('cursor') === undefined) return c.json({ changes: [], cursor: 'begin' });
      const { body = {}, link, status = 200 } = lie ?? {};
      return c.json(body, status as 200, link === undefined ? {} : { link });
    });
    app.get('/dsp/2025-1/catalog/datasets/:id', (c) => c.json(dataset('urn:asset:other', 'Peil vals')));
    app.post('/dsp/2025-1/catalog/request', (c) => {
      crawls += 1;
      return c.json({
        '@context': [dspaceContext],
        '@type': 'Catalog',
        '@id': 'x',
        participantId: member.did,
        dataset: [dataset('urn:asset:right', 'Peil echt')],
      });
    });
    member.serve(app);
    const { db } = openSqlite<OfferTables>({ path: ':memory:' });
    await migrate(db, 'offers', offerMigrations);
    const store = createSqlOfferStore(db);
    const reading = {
      ...broker,
      clock: systemClock,
      newId: () => `urn:uuid:${newId()}`,
      allowLoopbackHttp: true,
    };
    await using harvester = startHarvester({
      store,
      members: { list: async () => [{ did: member.did, name: 'Waterschap' }] },
      read: createMemberCatalogs(reading),
      feeds: createMemberFeeds(reading),
      newId,
      clock: systemClock,
      log: silentLogger,
      intervalMs: 3_600_000,
    });
    await harvester.harvest(member.did);
    for (lie of lies) {
      crawls = 0;
      const [result] = await harvester.harvest(member.did);
      expect(result, JSON.stringify(lie)).toMatchObject({ fault: null, datasets: 1 });
      expect(crawls, JSON.stringify(lie)).toBe(1);
    }
    expect((await store.read.entries(await store.read.ids('', 9))).map(({ title }) => title)).toEqual(['Peil echt']);
  });
});
