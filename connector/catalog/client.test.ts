import { describe, expect, test } from 'vitest';
import { dspaceContext } from '../../contracts/dsp/common.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import { pricePlanDigest } from '../../contracts/ledger/price-plan.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { PeerAnswer } from '../exchange/ports.ts';
import { createCatalogClient } from './client.ts';
import { nextLink } from './offers.pure.ts';

const us = 'us' as ParticipantId;
const provider = 'did:web:provider.example' as Did;
const base = 'https://provider.example/dsp/2025-1';
const plan = {
  v: 1 as const,
  type: 'price-plan' as const,
  currency: 'EUR',
  scale: '2',
  lines: [{ unit: 'requests', quantity: '1', value: '25' }],
  notice: '',
  free: false,
};
const digest = pricePlanDigest(nodeCrypto, plan);
const compensate = (value: string) => ({
  action: 'odrl:compensate',
  constraint: [{ leftOperand: 'urn:stekker:1:pricePlan', operator: 'eq', rightOperand: value }],
});
const use = [{ action: 'use' }];
const dataset = (offers: readonly object[], more: object = {}) => ({
  '@type': 'Dataset',
  '@id': 'urn:rain',
  'dct:title': [{ '@value': 'Regen', '@language': 'nl' }],
  'dcat:keyword': 'regen',
  hasPolicy: offers,
  distribution: [{ '@type': 'Distribution', format: 'StekkerHttp-PULL', accessService: 's' }],
  ...more,
});
const offer = (id: string, more: object = {}) => ({ '@id': id, permission: use, ...more });
const page = (datasets: readonly object[], more: object = {}) => ({
  '@context': [dspaceContext],
  '@type': 'Catalog',
  '@id': 'c',
  participantId: provider,
  ...(datasets.length === 0 ? {} : { dataset: datasets }),
  ...more,
});

/** A provider that answers what the test says. */
const ask = (answer: (url: string) => Partial<PeerAnswer>) => {
  const asked: string[] = [];
  const reply = async (url: string): Promise<PeerAnswer> => {
    asked.push(url);
    return { status: 200, body: undefined, newest: '', ...answer(url) };
  };
  const client = createCatalogClient({
    transport: { post: ({ url }) => reply(url), get: ({ url }) => reply(url) },
    providers: {
      base: async () => base,
      pricePlan: async (_provider, its) => `https://provider.example/ext/1/prices/${its}`,
    },
    newId: () => 'urn:uuid:1',
  });
  return { client, asked };
};
const body = (value: object): Partial<PeerAnswer> => ({ body: value as Json });

describe('reading a catalog', () => {
  test('offers come with rules, assurance and the plan that the catalog shows', async () => {
    const priced = offer('o1', { obligation: [compensate(digest)], 'urn:stekker:1:assurance': 'cosigned' });
    const { client } = ask(() => body(page([dataset([priced, offer('o2')], { 'urn:stekker:1:pricePlans': [plan] })])));
    const { datasets, next } = await client.page(us, provider);
    expect(next).toBeUndefined();
    expect(datasets[0]).toMatchObject({
      id: 'urn:rain',
      title: 'Regen',
      keywords: ['regen'],
      formats: ['StekkerHttp-PULL'],
    });
    expect(datasets[0]?.offers).toEqual([
      {
        id: 'o1',
        rules: { permission: use, obligation: [compensate(digest)] },
        assurance: 'cosigned',
        price: digest,
        plan,
      },
      { id: 'o2', rules: { permission: use }, assurance: 'plain-dsp', price: '', plan: null },
    ]);
  });

  test('what we could not keep to is set apart, and why', async () => {
    const offers = [
      offer('o1', { 'urn:stekker:1:assurance': 'sworn' }),
      offer('o2', { obligation: [compensate(digest), compensate('other')] }),
      offer('o3', { target: 'urn:x' }),
      offer('o4', { permission: undefined }),
      offer('o5', { permission: [] }),
      offer('o6'),
    ];
    const { client } = ask(() => body(page([dataset(offers)])));
    const [found] = (await client.page(us, provider)).datasets;
    expect(found?.offers.map(({ id }) => id)).toEqual(['o6']);
    expect(found?.unreadable.map(({ id }) => id)).toEqual(['o1', 'o2', 'o3', 'o4', 'o5']);
    expect(found?.unreadable.find(({ id }) => id === 'o4')?.why).toContain('needs a permission or a prohibition');
  });

  test('pages are followed only within the origin of the provider, and never in a circle', async () => {
    const next = (url: string) => `<${url}>; rel="next"`;
    const { client, asked } = ask(() => ({ ...body(page([])), link: next(`${base}/catalog/request?cursor=a%3B1`) }));
    const first = await client.page(us, provider);
    expect(first.next).toBe(`${base}/catalog/request?cursor=a%3B1`);
    await expect(client.page(us, provider, first.next)).rejects.toMatchObject({ code: 'fetch-failed' });
    expect(asked).toHaveLength(2);
    const away = ask(() => ({ ...body(page([])), link: next('https://evil.example/page') }));
    await expect(away.client.page(us, provider)).rejects.toMatchObject({
      detail: expect.stringContaining('somebody else'),
    });
    await expect(away.client.page(us, provider, 'https://evil.example/')).rejects.toMatchObject({
      code: 'fetch-failed',
    });
    expect(away.asked).toHaveLength(1);
  });

  test.each([
    ['that is not one', { hello: 'world' }],
    ['of somebody else', { ...page([]), participantId: 'did:web:other.example' }],
    ['with a dataset without offers', page([dataset([])])],
    ['without our context', { ...page([]), '@context': ['https://other.example'] }],
  ])('a catalog %s is a fault', async (_what, its) => {
    await expect(ask(() => body(its)).client.page(us, provider)).rejects.toMatchObject({ code: 'fetch-failed' });
  });

  test('a refusal comes with its code and reasons, a broken provider as such', async () => {
    const refusal = {
      '@context': [dspaceContext],
      '@type': 'CatalogError',
      code: 'filter',
      reason: ['No filters.', { '@value': 'Geen filters.' }],
    };
    await expect(ask(() => ({ status: 400, ...body(refusal) })).client.page(us, provider)).rejects.toMatchObject({
      code: 'peer-refused',
      detail: 'did:web:provider.example refused the catalog request (400): filter: No filters.: Geen filters.',
      faults: [
        { path: '/code', message: 'filter' },
        { path: '/reason/0', message: 'No filters.' },
        { path: '/reason/1', message: 'Geen filters.' },
      ],
    });
    await expect(ask(() => ({ status: 502 })).client.page(us, provider)).rejects.toMatchObject({
      code: 'fetch-failed',
    });
  });
});

describe('reading one dataset', () => {
  test('is found by its id, however that is written', async () => {
    const { client, asked } = ask(() =>
      body({ '@context': [dspaceContext], ...dataset([offer('o')], { '@id': 'urn:a/b?c' }) }),
    );
    expect((await client.dataset(us, provider, 'urn:a/b?c')).id).toBe('urn:a/b?c');
    expect(asked[0]).toBe(`${base}/catalog/datasets/urn%3Aa%2Fb%3Fc`);
  });

  test('another one than was asked for is a fault, none is not found', async () => {
    const other = ask(() => body({ '@context': [dspaceContext], ...dataset([offer('o')]) }));
    await expect(other.client.dataset(us, provider, 'urn:snow')).rejects.toMatchObject({ code: 'fetch-failed' });
    await expect(ask(() => ({ status: 404 })).client.dataset(us, provider, 'urn:rain')).rejects.toMatchObject({
      code: 'not-found',
    });
  });
});

describe('the price of an offer', () => {
  const found = (more: object = {}) => ({
    id: 'o',
    rules: {},
    assurance: 'cosigned' as const,
    price: digest,
    plan: null,
    ...more,
  });

  test('is the plan whose digest the rules name, shown or served', async () => {
    const { client, asked } = ask(() => body(plan));
    expect(await client.pricePlan(us, provider, found())).toEqual(plan);
    expect(await client.pricePlan(us, provider, found({ plan }))).toEqual(plan);
    expect(await client.pricePlan(us, provider, found({ price: '' }))).toBeNull();
    expect(asked).toEqual([`https://provider.example/ext/1/prices/${digest}`]);
  });

  test.each([
    [
      'another plan than the one that was named',
      () => body({ ...plan, lines: [{ unit: 'requests', quantity: '1', value: '99' }] }),
    ],
    ['no plan', () => body({ hello: 'world' })],
    ['nothing', () => ({ status: 404 })],
  ])('is refused when its provider serves %s', async (_what, answer) => {
    const work = ask(answer).client.pricePlan(us, provider, found());
    await expect(work).rejects.toBeInstanceOf(AppError);
    await expect(work).rejects.toMatchObject({ code: 'offer-refused' });
  });

  test('a plan shown under the digest of another does not count', async () => {
    const cheap = { ...plan, lines: [], free: true };
    const { client } = ask(() =>
      body(
        page([
          dataset([offer('o', { obligation: [compensate(digest)] })], { 'urn:stekker:1:pricePlans': [cheap, 'x'] }),
        ]),
      ),
    );
    expect((await client.page(us, provider)).datasets[0]?.offers[0]?.plan).toBeNull();
  });
});

describe('the link to the next page', () => {
  test.each([
    [undefined, undefined],
    ['', undefined],
    ['<https://a.example/1>; rel="previous"', undefined],
    ['<https://a.example/1>; rel="next"', 'https://a.example/1'],
    ['<https://a.example/0>; rel=previous, <https://a.example/2>; rel=next', 'https://a.example/2'],
    ['<https://a.example/3>; title="a, b"; rel="next last"', 'https://a.example/3'],
    ['<https://a.example/4>; rel="nextish"', undefined],
  ])('of %s is %s', (header, url) => {
    expect(nextLink(header)).toBe(url);
  });
});
