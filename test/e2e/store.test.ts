import { describe, expect, test } from 'vitest';
import { createMemberCatalogs } from '../../broker/adapters/http/member-catalogs.ts';
import { createSqlOfferStore, type OfferTables, offerMigrations } from '../../broker/adapters/sql/offer-store.ts';
import { startHarvester } from '../../broker/store/harvest.ts';
import { createStoreRoutes } from '../../broker/store/routes.ts';
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
});
