import { readFileSync } from 'node:fs';
import { Hono } from 'hono';
import { describe, expect, test } from 'vitest';
import { catalog, datasetAnswer } from '../../contracts/dsp/catalog.ts';
import { dspaceContext } from '../../contracts/dsp/common.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { manualClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { createIds, seededRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { policyFaults } from '../../policies/compile.ts';
import { policyTemplate } from '../../policies/template.ts';
import { openCursors, visibleWhen } from '../../test/support/visibility.ts';
import { createSqlCatalogStore } from '../adapters/sql/catalog-store.ts';
import { type CatalogTables, catalogMigrations } from '../adapters/sql/catalog-tables.ts';
import { createCatalogRoutes, createPriceRoutes } from './routes.ts';
import { createCatalog } from './service.ts';

const us = 'us' as ParticipantId;
const base = 'https://provider.example/dsp/2025-1';
const templates = new Map(
  ['open', 'purpose'].map((name) => [
    name,
    policyTemplate.parse(
      JSON.parse(readFileSync(new URL(`../../policies/templates/${name}.jsonld`, import.meta.url), 'utf8')),
    ),
  ]),
);
const use = { permission: [{ action: 'use' }] };
const plan = {
  v: 1,
  type: 'price-plan',
  currency: 'EUR',
  scale: '4',
  lines: [{ unit: 'requests', quantity: '1', value: '25' }],
  notice: '',
  free: false,
};

const world = async () => {
  const { db } = openSqlite<CatalogTables>({ path: ':memory:' });
  await migrate(db, 'catalog', catalogMigrations);
  const clock = manualClock(1_795_431_600_000);
  const ids = createIds(clock, seededRandom('catalog'));
  const service = createCatalog({
    store: createSqlCatalogStore(db),
    clock,
    newId: () => `urn:uuid:${ids()}`,
    seal: { seal: (text) => `sealed:${text.length}` },
    cursors: openCursors,
    visibility: visibleWhen((caller, offer) => !offer.startsWith('urn:secret') || caller === 'did:web:friend.example'),
    self: () => ({ did: 'did:web:provider.example' as Did, base, title: 'Provider' }),
    checkUpstream: (url) => {
      if (url.includes('10.0.0.')) throw new AppError('address-refused', { detail: 'a private address' });
    },
    checkPath: async (_kind, path) => (path.startsWith('/data') || path === '/x' ? undefined : 'is not there'),
    template: (name) => templates.get(name),
    policyFaults,
  });
  const app = new Hono();
  const options = {
    log: silentLogger,
    participantOf: () => us,
    base: () => base,
    authenticate: async (_participant: ParticipantId, headers: Headers) => {
      const caller = headers.get('authorization');
      if (caller === null) throw new AppError('unauthenticated');
      return { did: caller as Did };
    },
  };
  app.route('/dsp/2025-1', createCatalogRoutes(service, options));
  app.route('/ext/1', createPriceRoutes(service, options));
  const ask = async (path: string, init: { readonly body?: unknown; readonly caller?: string | null } = {}) => {
    const headers = {
      'content-type': 'application/json',
      ...(init.caller === null ? {} : { authorization: init.caller ?? 'did:web:consumer.example' }),
    };
    const method = init.body === undefined ? 'GET' : 'POST';
    const request = new Request(`https://provider.example${path}`, {
      method,
      headers,
      ...(init.body === undefined ? {} : { body: JSON.stringify(init.body) }),
    });
    const response = await app.fetch(request);
    return { status: response.status, body: JSON.parse(await response.text()), link: response.headers.get('link') };
  };
  const request = { '@context': [dspaceContext], '@type': 'CatalogRequestMessage' };
  const publish = async (id: string, offer: object = {}) => {
    await service.addAsset(us, { id: `urn:asset:${id}`, title: id, upstream: { kind: 'file', path: `/data/${id}` } });
    return service.addOffer(us, { id: `urn:offer:${id}`, asset: `urn:asset:${id}`, rules: use, ...offer });
  };
  return { service, ask, request, publish };
};

const codeOf = async (work: Promise<unknown>) => {
  try {
    await work;
  } catch (error) {
    if (error instanceof AppError) return { code: error.code, faults: error.faults };
    throw error;
  }
  return undefined;
};

describe('catalog', () => {
  test('shows what is on offer in the standard form', async () => {
    const { publish, ask, request } = await world();
    await publish('rain');
    const { status, body } = await ask('/dsp/2025-1/catalog/request', { body: request });
    expect(status).toBe(200);
    const read = catalog.parse(body);
    expect(read.dataset?.[0]).toMatchObject({
      '@id': 'urn:asset:rain',
      hasPolicy: [{ '@id': 'urn:offer:rain' }],
      distribution: [{ format: 'StekkerHttp-PULL' }],
    });
    expect(datasetAnswer.parse((await ask('/dsp/2025-1/catalog/datasets/urn:asset:rain')).body)['@id']).toBe(
      'urn:asset:rain',
    );
  });

  test('an empty catalog has no list of datasets', async () => {
    const { ask, request } = await world();
    expect(catalog.parse((await ask('/dsp/2025-1/catalog/request', { body: request })).body).dataset).toBeUndefined();
  });

  test('pages with links until everything was shown, and back again', async () => {
    const { publish, ask, request } = await world();
    for (let index = 0; index < 120; index += 1) await publish(String(index).padStart(3, '0'));
    const walk = async (rel: string, from: string) => {
      const pages: string[][] = [];
      let last = from;
      for (let path: string | undefined = from; path !== undefined; ) {
        last = path;
        const { body, link } = await ask(path, { body: request });
        pages.push(body.dataset.map((dataset: { '@id': string }) => dataset['@id']));
        const address = new RegExp(`<([^<>]*)>; rel="${rel}"`).exec(link ?? '')?.[1];
        path = address === undefined ? undefined : address.slice('https://provider.example'.length);
      }
      return { pages, last };
    };
    const forth = await walk('next', '/dsp/2025-1/catalog/request');
    expect(forth.pages.map((page) => page.length)).toEqual([50, 50, 20]);
    expect(new Set(forth.pages.flat()).size).toBe(120);
    const back = await walk('previous', forth.last);
    expect(back.pages.toReversed()).toEqual(forth.pages);
  });

  test('a cursor is good for nobody but the one it was given to', async () => {
    const { publish, ask, request } = await world();
    for (let index = 0; index < 60; index += 1) await publish(String(index));
    const { link } = await ask('/dsp/2025-1/catalog/request', { body: request });
    const cursor = /cursor=([^&>]*)/.exec(link ?? '')?.[1] ?? '';
    const page = (its: string, caller: string) =>
      ask(`/dsp/2025-1/catalog/request?cursor=${its}`, { body: request, caller });
    expect((await page(cursor, 'did:web:consumer.example')).status).toBe(200);
    const refused = { status: 400, body: { '@type': 'CatalogError', code: 'request-invalid' } };
    expect(await page(cursor, 'did:web:other.example')).toMatchObject(refused);
    expect(await page('urn:asset:7', 'did:web:consumer.example')).toMatchObject(refused);
    expect(await page('x'.repeat(5_000), 'did:web:consumer.example')).toMatchObject(refused);
  });

  test('one dataset has at most a hundred offers that stand', async () => {
    const { publish, service } = await world();
    await publish('rain');
    for (let index = 1; index < 100; index += 1)
      await service.addOffer(us, { id: `urn:offer:${index}`, asset: 'urn:asset:rain', rules: use });
    const more = { id: 'urn:offer:100', asset: 'urn:asset:rain', rules: use };
    expect(await codeOf(service.addOffer(us, more))).toMatchObject({ code: 'policy-invalid' });
    expect(await codeOf(service.addOffer(us, { ...more, id: 'urn:offer:99' }))).toBeUndefined();
    await service.withdraw(us, 'urn:offer:7');
    expect(await codeOf(service.addOffer(us, more))).toBeUndefined();
  });

  test('who may not see an offer sees nothing of it', async () => {
    const { publish, ask, request, service } = await world();
    await publish('secret', { id: 'urn:secret:1' });
    expect((await ask('/dsp/2025-1/catalog/request', { body: request })).body.dataset).toBeUndefined();
    expect((await ask('/dsp/2025-1/catalog/datasets/urn:asset:secret')).status).toBe(404);
    expect(
      (await ask('/dsp/2025-1/catalog/datasets/urn:asset:secret', { caller: 'did:web:friend.example' })).status,
    ).toBe(200);
    expect(
      await service.find(us, 'did:web:consumer.example' as Did, 'urn:asset:secret', 'urn:secret:1'),
    ).toBeUndefined();
    expect(await service.find(us, 'did:web:friend.example' as Did, 'urn:asset:secret', 'urn:secret:1')).toBeDefined();
    expect(await service.find(us, 'did:web:friend.example' as Did, 'urn:asset:other', 'urn:secret:1')).toBeUndefined();
  });

  test('a filter is refused, a stranger gets 401, an unknown dataset 404, each as CatalogError', async () => {
    const { ask, request } = await world();
    expect(await ask('/dsp/2025-1/catalog/request', { body: { ...request, filter: ['x'] } })).toMatchObject({
      status: 400,
      body: { '@type': 'CatalogError', code: 'filter-unsupported' },
    });
    expect(await ask('/dsp/2025-1/catalog/request', { body: request, caller: null })).toMatchObject({
      status: 401,
      body: { '@type': 'CatalogError' },
    });
    expect(await ask('/dsp/2025-1/catalog/datasets/x')).toMatchObject({
      status: 404,
      body: { '@type': 'CatalogError' },
    });
  });

  test('a withdrawn offer is gone from the catalog and cannot be negotiated', async () => {
    const { publish, ask, request, service } = await world();
    await publish('rain');
    await service.withdraw(us, 'urn:offer:rain');
    expect((await ask('/dsp/2025-1/catalog/request', { body: request })).body.dataset).toBeUndefined();
    expect(
      await service.find(us, 'did:web:consumer.example' as Did, 'urn:asset:rain', 'urn:offer:rain'),
    ).toBeUndefined();
    expect(await codeOf(service.withdraw(us, 'urn:offer:rain'))).toMatchObject({ code: 'not-found' });
  });
});

describe('publishing', () => {
  test('a price is part of the policy, and its plan is served by digest', async () => {
    const { service, ask, publish } = await world();
    const { digest } = await service.addPricePlan(us, plan);
    const offer = await publish('rain', { price: digest });
    expect(offer.rules.obligation).toEqual([
      {
        action: 'odrl:compensate',
        constraint: [{ leftOperand: 'urn:stekker:1:pricePlan', operator: 'eq', rightOperand: digest }],
      },
    ]);
    expect(await ask(`/ext/1/prices/${digest}`, { caller: null })).toMatchObject({ status: 200, body: plan });
    expect((await ask('/ext/1/prices/none')).status).toBe(404);
  });

  test('all faults of an offer are told at once', async () => {
    const { service } = await world();
    const rules = {
      permission: [{ action: 'use', constraint: [{ leftOperand: 'urn:unknown', operator: 'eq', rightOperand: 'x' }] }],
    };
    expect(await codeOf(service.addOffer(us, { asset: 'urn:none', rules, price: 'none' }))).toEqual({
      code: 'policy-invalid',
      faults: [
        { path: '/rules/permission/0/constraint/0/leftOperand', message: 'urn:unknown is not known here' },
        { path: '/asset', message: 'there is no such asset' },
        { path: '/price', message: 'there is no such price plan' },
      ],
    });
    expect(
      (await codeOf(service.addOffer(us, { asset: 'urn:none', rules: { obligation: [{ action: 'x' }] } })))?.faults,
    ).toHaveLength(2);
  });

  test('a price with a fraction and an upstream at a private address are refused', async () => {
    const { service } = await world();
    expect(
      await codeOf(service.addPricePlan(us, { ...plan, lines: [{ unit: 'requests', quantity: '1', value: '0.5' }] })),
    ).toMatchObject({ code: 'body-invalid' });
    expect(
      await codeOf(service.addAsset(us, { title: 'x', upstream: { kind: 'http', url: 'https://10.0.0.7/' } })),
    ).toMatchObject({ code: 'address-refused' });
  });

  test('a credential of the source is sealed', async () => {
    const { service } = await world();
    const asset = await service.addAsset(us, {
      title: 'x',
      upstream: {
        kind: 'http',
        url: 'https://source.example/api/',
        credential: { name: 'X-Key', value: 'geheim-marker-9' },
      },
    });
    expect(asset.upstream).toEqual({
      kind: 'http',
      url: 'https://source.example/api',
      credential: { name: 'x-key', sealed: 'sealed:15' },
    });
  });

  test('an id that is taken by something else is refused', async () => {
    const { service, publish } = await world();
    await publish('rain');
    expect(
      await codeOf(
        service.addAsset(us, { id: 'urn:asset:rain', title: 'other', upstream: { kind: 'file', path: '/x' } }),
      ),
    ).toMatchObject({ code: 'version-conflict' });
    expect(
      await codeOf(
        service.addOffer(us, { id: 'urn:offer:rain', asset: 'urn:asset:rain', rules: use, assurance: 'plain-dsp' }),
      ),
    ).toMatchObject({ code: 'version-conflict' });
  });
});

const price = { currency: 'EUR', scale: '2', lines: [{ unit: 'requests', quantity: '1', value: '25' }] };
const publication = {
  title: 'Rain',
  upstream: { kind: 'http' as const, url: 'https://source.example/rain', credential: { name: 'x-key', value: 'one' } },
  policy: { template: 'purpose', parameters: { purpose: 'urn:stekker:1:purpose:crisis' } },
  price,
};

describe('publications', () => {
  test('asset, policy, price and offer in one step; the same again finishes it and never does it twice', async () => {
    const { service, ask, request } = await world();
    const first = await service.publish(us, publication);
    const second = await service.publish(us, publication);
    expect(second).toEqual(first);
    expect(first.asset.id).toMatch(/^urn:uuid:.{8}-.{4}-8/);
    const shown = catalog.parse((await ask('/dsp/2025-1/catalog/request', { body: request })).body).dataset ?? [];
    expect(shown).toHaveLength(1);
    expect(shown[0]).toMatchObject({ '@id': first.asset.id, hasPolicy: [{ '@id': first.offer.id }] });
    expect(JSON.stringify(shown)).toContain('urn:stekker:1:purpose:crisis');
  });

  test('a crash between two writes leaves nothing that others see, and the repeat finishes it', async () => {
    const { service, ask, request } = await world();
    const whole = await (await world()).service.publish(us, publication);
    await service.addAsset(us, { id: whole.asset.id, ...publication, extra: {} });
    expect((await ask('/dsp/2025-1/catalog/request', { body: request })).body.dataset).toBeUndefined();
    expect((await service.publish(us, publication)).offer.id).toBe(whole.offer.id);
  });

  test('a new secret of the source replaces the old one under the same id', async () => {
    const { service } = await world();
    const first = await service.publish(us, publication);
    const rotated = { ...publication.upstream, credential: { name: 'x-key', value: 'another' } };
    const second = await service.publish(us, { ...publication, upstream: rotated });
    expect(second.asset.id).toBe(first.asset.id);
    expect(second.asset.upstream).toMatchObject({ credential: { sealed: 'sealed:7' } });
  });

  test('a replacement withdraws the other offers of the dataset, and the old terms can come back', async () => {
    const { service } = await world();
    const first = await service.publish(us, publication);
    const free = { ...publication, price: undefined, replace: true };
    const second = await service.publish(us, free);
    expect(second).toMatchObject({ price: null, withdrawn: [first.offer.id] });
    expect(second.asset.id).toBe(first.asset.id);
    const third = await service.publish(us, { ...publication, replace: true });
    expect(third.withdrawn).toEqual([second.offer.id]);
    expect(third.offer.id).not.toBe(first.offer.id);
  });

  test('every fault of every member is told at once, and nothing is stored', async () => {
    const { service } = await world();
    const bad = {
      title: 'x',
      upstream: { kind: 'http' as const, url: 'https://10.0.0.7/' },
      policy: { template: 'purpose', parameters: { colour: 'red' } },
      price: { ...price, lines: [{ unit: 'requests', quantity: '1', value: '0.5' }] },
    };
    expect(await codeOf(service.publish(us, bad))).toEqual({
      code: 'body-invalid',
      faults: [
        { path: '/upstream/url', message: 'a private address' },
        { path: '/policy/parameters/purpose', message: 'is needed; example: purpose=urn:stekker:1:purpose:crisis' },
        { path: '/policy/parameters/colour', message: 'is no parameter of the template purpose' },
        { path: '/price/lines/0/value', message: 'is no decimal integer up to 2^63-1' },
      ],
    });
    expect(await service.pricePlans(us, { after: '', limit: 10 })).toEqual([]);
    expect(await service.assets(us, { after: '', limit: 10 })).toEqual([]);
  });

  test('what could never be counted or enforced is not published', async () => {
    const { service } = await world();
    const perItem = { ...price, lines: [{ unit: 'items', quantity: '1', value: '1' }] };
    const file = { kind: 'file' as const, path: '/data/places.geojson' };
    const base = { title: 'x', upstream: file, policy: { template: 'open' }, price: perItem };
    expect((await codeOf(service.publish(us, base)))?.faults[0]?.path).toBe('/price/lines/0/unit');
    expect((await service.publish(us, { ...base, mediaType: 'application/geo+json' })).price?.plan.lines).toHaveLength(
      1,
    );
    expect(
      (await codeOf(service.publish(us, { ...publication, assurance: 'plain-dsp' })))?.faults.map(({ path }) => path),
    ).toEqual(['/assurance']);
    expect(
      (await codeOf(service.publish(us, { ...base, price: undefined, upstream: { kind: 'file', path: '/no' } })))
        ?.faults,
    ).toEqual([{ path: '/upstream/path', message: 'is not there' }]);
    expect((await codeOf(service.publish(us, { ...base, policy: { template: 'none' } })))?.faults[0]?.path).toBe(
      '/policy/template',
    );
    const odd = { ...price, lines: [{ unit: 'looks', quantity: '1', value: '1' }] };
    expect((await codeOf(service.publish(us, { ...base, price: odd })))?.faults[0]?.message).toContain(
      'not counted here',
    );
  });
});
