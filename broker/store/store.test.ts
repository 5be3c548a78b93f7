import { Hono } from 'hono';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dspaceContext } from '../../contracts/dsp/common.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did } from '../../contracts/ids.ts';
import { pricePlanDigest } from '../../contracts/ledger/price-plan.ts';
import { type StorePage, storePage } from '../../contracts/store.ts';
import { manualClock, systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { silentLogger } from '../../kernel/log.ts';
import { createIds, systemRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import { type HubParty, startHubParty } from '../../test/support/hub-parties.ts';
import { createMemberCatalogs } from '../adapters/http/member-catalogs.ts';
import { createSqlOfferStore, type OfferTables, offerMigrations } from '../adapters/sql/offer-store.ts';
import { type HarvestOptions, startHarvester } from './harvest.ts';
import type { OfferStore, Provider } from './ports.ts';
import { createStoreRoutes } from './routes.ts';

const plan = {
  v: 1 as const,
  type: 'price-plan' as const,
  currency: 'EUR',
  scale: '4',
  lines: [{ unit: 'requests', quantity: '1', value: '25' }],
  notice: '',
  free: false,
};
const digest = pricePlanDigest(nodeCrypto, plan);
const priced = {
  permission: [{ action: 'use' }],
  obligation: [
    {
      action: 'odrl:compensate',
      constraint: [{ leftOperand: 'urn:stekker:1:pricePlan', operator: 'eq', rightOperand: digest }],
    },
  ],
};
const dataset = (id: string, title: unknown, extra: object = {}) => ({
  '@type': 'Dataset',
  '@id': `urn:asset:${id}`,
  'dct:title': title,
  hasPolicy: [
    {
      '@type': 'Offer',
      '@id': `urn:offer:${id}`,
      permission: [{ action: 'use' }],
      'urn:stekker:1:assurance': 'cosigned',
    },
  ],
  distribution: [{ '@type': 'Distribution', format: 'StekkerHttp-PULL', accessService: 'x' }],
  ...extra,
});
const version = { protocolVersions: [{ version: '2025-1', path: '/dsp/2025-1', binding: 'HTTPS' }] };

let broker: HubParty;
let anna: HubParty;
let bert: HubParty;

beforeAll(async () => {
  const services = (origin: string) => ({ DataService: `${origin}/.well-known/dspace-version` });
  [broker, anna, bert] = await Promise.all([startHubParty(), startHubParty({ services }), startHubParty()]);
});
afterAll(async () => {
  for (const party of [broker, anna, bert]) await party[Symbol.asyncDispose]();
});

type Answer = { readonly datasets?: readonly unknown[]; readonly link?: string; readonly status?: number } & {
  readonly participantId?: string;
};

/** Serves a catalog at a member; `answer` gets the page that is asked for. */
const serveCatalog = (member: HubParty, answer: (page: string) => Answer | Promise<Answer>) => {
  const callers: string[] = [];
  const app = new Hono();
  app.get('/.well-known/dspace-version', (context) => context.json(version));
  app.post('/dsp/2025-1/catalog/request', async (context) => {
    const caller = await member.authenticator.authenticate(context.req.raw.headers);
    callers.push(caller.did);
    const { datasets, link, status, participantId } = await answer(context.req.query('page') ?? '');
    const body = {
      '@context': [dspaceContext],
      '@type': 'Catalog',
      '@id': 'x',
      participantId: participantId ?? member.did,
      ...(datasets === undefined ? {} : { dataset: datasets }),
    };
    return context.json(body, (status ?? 200) as 200, link === undefined ? {} : { link });
  });
  member.serve(app);
  return callers;
};

const openStore = async (): Promise<OfferStore> => {
  const { db } = openSqlite<OfferTables>({ path: ':memory:' });
  await migrate(db, 'offers', offerMigrations);
  return createSqlOfferStore(db);
};
const newId = createIds(systemClock, systemRandom);

const start = async (changes: Partial<HarvestOptions> = {}) => {
  const store = changes.store ?? (await openStore());
  const members: Provider[] = [
    { did: anna.did, name: 'Waterschap Anna' },
    { did: bert.did, name: 'Gemeente Bert' },
  ];
  const clock = changes.clock ?? systemClock;
  const harvester = startHarvester({
    store,
    members: { list: async () => members },
    read: createMemberCatalogs({
      client: broker.client,
      resolver: broker.resolver,
      tokens: broker.tokens,
      clock,
      newId: () => `urn:uuid:${newId()}`,
      allowLoopbackHttp: true,
    }),
    newId,
    clock,
    log: silentLogger,
    intervalMs: 3_600_000,
    ...changes,
  });
  return { store, members, harvester, ...served(store) };
};

/** The store over its routes. */
const served = (store: Pick<OfferStore, 'read'>) => {
  const app = createStoreRoutes({ read: store.read, log: silentLogger });
  const ask = async (query: Record<string, string>): Promise<StorePage> => {
    const response = await app.request(`/store/offers?${new URLSearchParams(query)}`);
    expect(response.status).toBe(200);
    return storePage.parse(await response.json());
  };
  const titles = async (q: string) => (await ask({ q })).entries.map(({ title }) => title).sort();
  return { app, ask, titles };
};

const everything = async (ask: (query: Record<string, string>) => Promise<StorePage>, q: string, limit = '7') => {
  const seen: string[] = [];
  let cursor: string | null = '';
  for (let pages = 0; cursor !== null && pages < 1_000; pages += 1) {
    const page: StorePage = await ask({ q, limit, ...(cursor === '' ? {} : { cursor }) });
    seen.push(...page.entries.map(({ dataset: id }) => id));
    cursor = page.cursor;
  }
  return seen;
};

describe('harvest', () => {
  test('reads the catalogs of all members as the broker, and keeps what they offer', async () => {
    const callers = serveCatalog(anna, () => ({
      datasets: [
        dataset(
          'rain',
          [
            { '@value': 'Rain', '@language': 'en' },
            { '@value': 'Neerslag', '@language': 'nl' },
          ],
          {
            'dct:description': { '@value': 'Neerslag per uur' },
            'dcat:keyword': ['weer', { '@value': 'water' }, 7],
            hasPolicy: [{ '@id': 'urn:offer:rain', ...priced, 'urn:stekker:1:assurance': 'cosigned' }],
            'urn:stekker:1:pricePlans': [{ ...plan, currency: 'USD' }, plan, 'nonsense'],
          },
        ),
        dataset('plain', 'Plain', { hasPolicy: [{ '@id': 'urn:offer:plain', permission: [{ action: 'use' }] }] }),
      ],
    }));
    serveCatalog(bert, () => ({}));
    const { store, harvester, ask } = await start();
    await using _harvester = harvester;
    const results = await harvester.harvest();
    expect(results.map(({ fault, datasets }) => [fault, datasets]).sort()).toEqual([
      [null, 0],
      [null, 2],
    ]);
    expect(new Set(callers)).toEqual(new Set([broker.did]));
    const { entries } = await ask({ q: 'neerslag' });
    expect(entries).toEqual([
      {
        provider: { did: anna.did, name: 'Waterschap Anna' },
        dataset: 'urn:asset:rain',
        title: 'Neerslag',
        description: 'Neerslag per uur',
        keywords: ['weer', 'water'],
        offers: [{ id: 'urn:offer:rain', rules: priced, assurance: 'cosigned', price: digest, pricePlan: plan }],
        harvestedAt: expect.any(String),
      },
    ]);
    expect((await ask({ q: 'plain' })).entries[0]?.offers[0]).toMatchObject({ assurance: 'plain-dsp', price: '' });
    expect(await store.results()).toHaveLength(2);
  });

  test('follows the pages, and removes what is no longer there', async () => {
    const shown = new Set(Array.from({ length: 30 }, (_, index) => index));
    serveCatalog(anna, (page) => {
      const from = Number(page === '' ? 0 : page);
      const all = [...shown].map((index) => dataset(`d${index}`, `Reeks ${index}`));
      const link = from + 10 < all.length ? `</x>; rel="previous", <?page=${from + 10}>; rel="next"` : undefined;
      return { datasets: all.slice(from, from + 10), ...(link === undefined ? {} : { link }) };
    });
    serveCatalog(bert, () => ({}));
    const { harvester, ask, titles } = await start();
    await using _harvester = harvester;
    await harvester.harvest();
    expect(await everything(ask, 'reeks')).toHaveLength(30);
    for (let index = 0; index < 29; index += 1) shown.delete(index);
    await harvester.harvest(anna.did);
    expect(await titles('reeks')).toEqual(['Reeks 29']);
  });

  test('a dataset that cannot be read spoils only itself', async () => {
    serveCatalog(anna, () => ({
      datasets: [
        dataset('good', 'Goed'),
        'nonsense',
        { '@type': 'Dataset' },
        dataset('long', 'x'.repeat(501)),
        dataset('target', 'Met doel', { hasPolicy: [{ '@id': 'o', permission: [{ action: 'use' }], target: 'x' }] }),
        dataset('twice', 'Twee prijzen', {
          hasPolicy: [
            {
              '@id': 'o',
              permission: [{ action: 'use' }],
              obligation: [
                {
                  action: 'odrl:compensate',
                  constraint: [
                    { leftOperand: 'urn:stekker:1:pricePlan', operator: 'isAnyOf', rightOperand: [digest, 'other'] },
                  ],
                },
              ],
            },
          ],
        }),
        dataset('strange', 'Vreemd', {
          hasPolicy: [{ '@id': 'o', permission: [{ action: 'use' }], 'urn:stekker:1:assurance': 'trust-me' }],
        }),
        dataset('huge', 'Groot', {
          hasPolicy: Array.from({ length: 99 }, (_, index) => ({
            '@id': `o${index}`,
            permission: [{ action: 'x'.repeat(1_000) }],
          })),
        }),
      ],
    }));
    serveCatalog(bert, () => ({}));
    const { harvester, ask } = await start();
    await using _harvester = harvester;
    const [result] = await harvester.harvest(anna.did);
    expect(result).toMatchObject({ datasets: 1, skipped: 7, fault: null });
    expect((await ask({})).entries.map(({ title }) => title)).toEqual(['Goed']);
  });

  test.each([
    ['leads back to itself', { link: '<request>; rel="next"', datasets: [] }],
    ['leads nowhere', { link: '<http://[>; rel="next"', datasets: [] }],
    ['is another’s', { participantId: 'did:web:other.example' }],
    ['answers an error', { status: 500 }],
    ['has no list of datasets', { datasets: 'x' as never }],
  ])('a catalog that %s is not believed, and what was known stays', async (_name, bad) => {
    serveCatalog(anna, () => ({ datasets: [dataset('kept', 'Bewaard')] }));
    serveCatalog(bert, () => ({}));
    const { harvester, titles } = await start();
    await using _harvester = harvester;
    await harvester.harvest();
    serveCatalog(anna, () => bad);
    const [result] = await harvester.harvest(anna.did);
    expect(result?.fault).toContain('fetch-failed');
    expect(await titles('bewaard')).toEqual(['Bewaard']);
  });

  test('a catalog that leads to somebody else does not get our token there', async () => {
    const callers = serveCatalog(bert, () => ({}));
    const next = `${bert.origin}/dsp/2025-1/catalog/request`;
    serveCatalog(anna, () => ({ datasets: [], link: `<${next}>; rel=next`, participantId: anna.did }));
    const { harvester } = await start({ members: { list: async () => [{ did: anna.did, name: 'Anna' }] } });
    await using _harvester = harvester;
    let asked = 0;
    const app = new Hono();
    app.all('*', () => {
      asked += 1;
      return Response.json({});
    });
    bert.serve(app);
    const [result] = await harvester.harvest(anna.did);
    expect(result?.fault).toContain('somebody else');
    expect([asked, callers.length]).toEqual([0, 0]);
  });

  test('pages, bytes, datasets and time are limited', async () => {
    const many = (count: number) => Array.from({ length: count }, (_, index) => dataset(`d${index}`, `Reeks ${index}`));
    serveCatalog(anna, (page) => ({
      datasets: many(5),
      link: `<?page=${Number(page === '' ? 0 : page) + 1}>; rel="next"`,
    }));
    serveCatalog(bert, () => ({}));
    const faultWith = async (limits: HarvestOptions['limits'], changes: Partial<HarvestOptions> = {}) => {
      const { harvester } = await start({ ...(limits === undefined ? {} : { limits }), ...changes });
      await using _harvester = harvester;
      return (await harvester.harvest(anna.did))[0]?.fault;
    };
    expect(await faultWith({ maxPages: 3 })).toContain('more than 3 pages');
    expect(await faultWith({ maxDatasets: 12 })).toContain('more than 12 datasets');
    expect(await faultWith({ maxPageBytes: 100 })).toContain('larger than 100 bytes');
    expect(await faultWith({ maxBytes: 5_000 })).toContain('fetch-failed');
    expect(await faultWith({ maxMs: -1 })).toContain('longer than');
  });

  test('a slow member does not hold up the others', async () => {
    const released = Promise.withResolvers<Answer>();
    serveCatalog(anna, () => released.promise);
    serveCatalog(bert, () => ({ datasets: [dataset('quick', 'Snel')] }));
    const { store, harvester, titles } = await start();
    await using _harvester = harvester;
    await eventually(
      () => titles('snel'),
      (found) => found.length === 1,
    );
    expect((await store.results()).map(({ provider }) => provider)).toEqual([bert.did]);
    released.resolve({});
    await harvester.harvest();
  });

  test('is done at an interval, and soon for somebody who joined', async () => {
    const clock = manualClock(systemClock.now());
    const callers = serveCatalog(anna, () => ({}));
    const others = serveCatalog(bert, () => ({}));
    const { harvester } = await start({ clock, intervalMs: 10_000 });
    await using _harvester = harvester;
    await eventually(
      async () => callers.length,
      (length) => length === 1,
    );
    await eventually(
      async () => {
        clock.advance(1_000);
        return callers.length;
      },
      (length) => length >= 2,
    );
    await eventually(
      async () => others.length,
      (length) => length === callers.length,
    );
    const down = serveCatalog(bert, () => ({ status: 503 }));
    harvester.soon(bert.did);
    await eventually(
      async () => down.length,
      (length) => length >= 1,
    );
    const up = serveCatalog(bert, () => ({}));
    await eventually(
      async () => {
        clock.advance(500);
        return up.length;
      },
      (length) => length >= 1,
    );
  });

  test('whoever is no member any more is no longer found', async () => {
    serveCatalog(anna, () => ({ datasets: [dataset('a', 'Van Anna')] }));
    serveCatalog(bert, () => ({ datasets: [dataset('b', 'Van Bert')] }));
    const { harvester, members, ask } = await start();
    await using _harvester = harvester;
    await harvester.harvest();
    members.pop();
    await harvester.harvest();
    expect((await ask({})).entries.map(({ title }) => title)).toEqual(['Van Anna']);
  });

  test('a member that does not speak the protocol, or has no document, is named', async () => {
    const app = new Hono();
    app.get('/.well-known/dspace-version', (context) =>
      context.json({ protocolVersions: [{ version: '1.0', path: '/', binding: 'HTTPS' }] }),
    );
    anna.serve(app);
    serveCatalog(bert, () => ({}));
    const nobody = 'did:web:localhost%3A1' as Did;
    const { harvester, members } = await start();
    await using _harvester = harvester;
    members.push({ did: nobody, name: 'Nobody' }, { did: 'did:key:z6Mk' as Did, name: 'Key' });
    expect((await harvester.harvest(anna.did))[0]?.fault).toContain('does not speak');
    expect((await harvester.harvest(nobody))[0]?.fault).toContain('cannot be had');
    expect((await harvester.harvest('did:key:z6Mk' as Did))[0]?.fault).toContain('cannot be had');
  });
});

describe('search', () => {
  const filled = async () => {
    const store = await openStore();
    const provider = { did: anna.did, name: 'Anna' };
    const listing = (id: string, words: readonly string[]) => ({
      id,
      dataset: id,
      title: words.join(' '),
      description: '',
      keywords: [],
      offers: [{ id: 'o', rules: {}, assurance: 'cosigned' as const, price: '', pricePlan: null }],
      digest: id,
      words,
    });
    const listings = Array.from({ length: 500 }, (_, index) => {
      const words = ['water'];
      if (index % 2 === 0) words.push('waterstand');
      if (index % 50 === 0) words.push('rivier');
      if (index === 499) words.push('zeldzaam');
      return listing(String(index).padStart(3, '0'), words);
    });
    await store.put(provider, { run: '1', at: 0 }, listings);
    return served(store);
  };

  test('pages through everything once, whatever the question', async () => {
    const { ask } = await filled();
    for (const [q, count] of [
      ['', 500],
      ['water', 500],
      ['wat', 500],
      ['waterstand', 250],
      ['water rivier', 10],
      ['rivier waterst', 10],
      ['zeldzaam water', 1],
      ['zeldzaam rivier', 0],
    ] as const) {
      const seen = await everything(ask, q);
      expect(seen, q).toHaveLength(count);
      expect(new Set(seen).size, q).toBe(count);
    }
  });

  test('a word that stands nowhere is left out, and named', async () => {
    const { ask } = await filled();
    expect(await ask({ q: 'rivier in Atlantis' })).toMatchObject({ ignored: ['atlantis'], cursor: null });
    expect(await everything(ask, 'rivier in Atlantis')).toHaveLength(10);
    expect(await ask({ q: 'Atlantis' })).toEqual({ entries: [], cursor: null, ignored: ['atlantis'] });
  });

  test('one page walks a bounded number of places, and the next goes on from there', async () => {
    const store = await openStore();
    let walked = 0;
    const real = store.read;
    const provider = { did: anna.did, name: 'Anna' };
    const words = (index: number) => (index < 3_000 ? ['links'] : ['rechts']);
    const listings = Array.from({ length: 6_000 }, (_, index) => ({
      id: String(index).padStart(4, '0'),
      dataset: String(index),
      title: '',
      description: '',
      keywords: [],
      offers: [{ id: 'o', rules: {}, assurance: 'cosigned' as const, price: '', pricePlan: null }],
      digest: String(index),
      words: words(index),
    }));
    await store.put(provider, { run: '1', at: 0 }, listings);
    const { ask } = served({
      read: {
        ...real,
        scan: async (...args) => {
          const places = await real.scan(...args);
          walked += places.length;
          return places;
        },
      },
    });
    const page = await ask({ q: 'links rechts' });
    expect(page.entries).toEqual([]);
    expect(page.cursor).not.toBeNull();
    expect(walked).toBe(2_000);
    expect(await everything(ask, 'links rechts')).toEqual([]);
  });

  test.each([
    ['a cursor that is none', { q: 'water', cursor: '???' }],
    ['a cursor of another form', { q: 'water', cursor: Buffer.from('["a"]').toString('base64url') }],
    ['a cursor of another question', { q: 'water', cursor: Buffer.from('["wind","wind","1"]').toString('base64url') }],
    ['a cursor of a question with words', { cursor: Buffer.from('["wind","wind","1"]').toString('base64url') }],
    ['a question that is too long', { q: 'x'.repeat(301) }],
    ['a limit that is none', { limit: '0' }],
    ['a limit that is too large', { limit: '101' }],
  ])('%s is refused', async (_name, query: Record<string, string>) => {
    const { app } = await filled();
    const response = await app.request(`/store/offers?${new URLSearchParams(query)}`);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ type: 'urn:stekker:1:error:body-invalid' });
  });

  test('what fails inside is not shown', async () => {
    const broken = await openStore();
    const app = createStoreRoutes({
      read: {
        ...broken.read,
        ids: async () => {
          throw new AppError('internal-error', { detail: 'secret' });
        },
      },
      log: silentLogger,
    });
    const response = await app.request('/store/offers');
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain('secret');
  });
});
