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
import { type CatalogTables, catalogMigrations, createSqlCatalogStore } from '../adapters/sql/catalog-store.ts';
import { createCatalogRoutes, createPriceRoutes } from './routes.ts';
import { createCatalog } from './service.ts';

const us = 'us' as ParticipantId;
const base = 'https://provider.example/dsp/2025-1';
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
    visibility: {
      sees: async (_participant, caller, offer) =>
        !offer.id.startsWith('urn:secret') || caller === 'did:web:friend.example',
    },
    self: () => ({ did: 'did:web:provider.example' as Did, base, title: 'Provider' }),
    checkUpstream: (url) => {
      if (url.includes('10.0.0.')) throw new AppError('address-refused', { detail: 'a private address' });
    },
    policyFaults: (rules) =>
      JSON.stringify(rules).includes('urn:unknown')
        ? [{ path: '/rules/permission/0', message: 'urn:unknown is not known here' }]
        : [],
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

  test('pages with links until everything was shown', async () => {
    const { publish, ask, request } = await world();
    for (let index = 0; index < 120; index += 1) await publish(String(index).padStart(3, '0'));
    const seen: string[] = [];
    for (let path: string | undefined = '/dsp/2025-1/catalog/request'; path !== undefined; ) {
      const { body, link } = await ask(path, { body: request });
      seen.push(...body.dataset.map((dataset: { '@id': string }) => dataset['@id']));
      path =
        link === null
          ? undefined
          : new URL(/<(.+)>; rel="next"/.exec(link)?.[1] ?? '').pathname +
            new URL(/<(.+)>/.exec(link)?.[1] ?? '').search;
    }
    expect(seen).toHaveLength(120);
    expect(new Set(seen).size).toBe(120);
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
        { path: '/rules/permission/0', message: 'urn:unknown is not known here' },
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
