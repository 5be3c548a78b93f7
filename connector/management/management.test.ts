import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Did } from '../../contracts/ids.ts';
import { type Connector, managementToken, startConnector } from '../../test/support/connectors.ts';
import { eventually, ordinary } from '../../test/support/dsp-pair.ts';

let provider: Connector;
let consumer: Connector;
let folder = '';

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'stekker-management-'));
  mkdirSync(join(folder, 'levels'));
  writeFileSync(join(folder, 'rain.json'), '{"rain":1}');
  provider = await startConnector();
  consumer = await startConnector({
    usage: ['a', 'b', 'c'].map((key) => ({
      key,
      role: 'consumer',
      agreementId: `urn:agreement:${key}`,
      agreementDigest: 'd',
      peer: 'did:web:provider.example' as Did,
      dataset: 'urn:rain',
      application: 'urn:app@1',
      purpose: 'urn:crisis',
      accesses: 3,
      bytes: 12,
      units: { requests: '3' },
      currency: 'EUR',
      scale: '2',
      amount: '75',
    })),
  });
});
afterAll(async () => {
  await consumer[Symbol.asyncDispose]();
  await provider[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const publication = () => ({
  id: 'urn:voorbeeld:rain',
  title: 'Rain',
  upstream: { kind: 'file', path: join(folder, 'rain.json') },
  policy: { template: 'open' },
  price: { currency: 'EUR', scale: '2', lines: [{ unit: 'requests', quantity: '1', value: '25' }] },
});

const errorsOf = (body: unknown): string[] => {
  const { errors = [] } = body as { errors?: { path: string; message: string }[] };
  return errors.map(({ path }) => path);
};
const typeOf = (body: unknown) => (body as { type?: string }).type?.split(':').at(-1);

describe("who may use the operator's API", () => {
  test('nobody without the token, and the answer is a problem', async () => {
    for (const authorization of ['', 'Bearer wrong', `Bearer ${managementToken.slice(0, -1)}`]) {
      const { status, body, headers } = await provider.call('GET', '/v1/status', { headers: { authorization } });
      expect(status).toBe(401);
      expect(typeOf(body)).toBe('unauthenticated');
      expect(headers.get('content-type')).toBe('application/problem+json');
      expect(headers.get('www-authenticate')).toBe('Bearer');
    }
    expect((await provider.call('GET', '/v1/none', { headers: { authorization: '' } })).status).toBe(401);
  });

  test('nobody whose page leads to it by a name of its own (DNS rebinding)', async () => {
    const { port } = new URL(provider.api);
    const ask = (host: string) =>
      new Promise<number>((resolve, reject) => {
        const headers = { host, authorization: `Bearer ${managementToken}` };
        request({ host: 'localhost', port, path: '/v1/status', headers }, (answer) => {
          answer.resume();
          resolve(answer.statusCode ?? 0);
        })
          .on('error', reject)
          .end();
      });
    expect(await ask(`localhost:${port}`)).toBe(200);
    expect(await ask(`evil.example:${port}`)).toBe(403);
    expect(await ask('evil.example')).toBe(403);
  });

  test('every answer forbids storing, framing and guessing, and names the version', async () => {
    for (const path of ['/v1/status', '/v1/none', '/openapi.json']) {
      const { headers } = await provider.call('GET', path);
      expect(headers.get('cache-control')).toBe('no-store');
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('content-security-policy')).toContain("frame-ancestors 'none'");
      expect(headers.get('api-version')).toBe('1.0.0');
    }
  });
});

describe('bad input', () => {
  const publish = (raw: string, headers: Record<string, string> = {}) =>
    provider.call('POST', '/v1/publications', { raw, headers });
  const deep = `${'['.repeat(40)}${']'.repeat(40)}`;

  test.each([
    ['no JSON', '{"title":', {}, 400, 'body-not-json'],
    ['another media type', '{}', { 'content-type': 'text/plain' }, 415, 'media-type-unsupported'],
    ['too large', `{"title":"${'x'.repeat(1 << 20)}"}`, {}, 413, 'body-too-large'],
    ['too deep', `{"extra":${deep}}`, {}, 400, 'body-too-deep'],
    ['a key twice', '{"title":"a","title":"b"}', {}, 400, 'body-duplicate-key'],
    [
      'an unknown type',
      '{"title":"x","upstream":{"kind":"ftp"},"policy":{"template":"open"}}',
      {},
      400,
      'body-invalid',
    ],
  ])('%s is refused with a code of its own', async (_what, raw, headers, status, code) => {
    const answer = await publish(raw, headers);
    expect(answer.status).toBe(status);
    expect(typeOf(answer.body)).toBe(code);
    expect(answer.body).toMatchObject({ status, title: expect.any(String) });
  });

  test('every fault of a body is told at once, those of its meaning too', async () => {
    const before = await provider.call('GET', '/v1/assets');
    const { status, body } = await publish(
      JSON.stringify({
        title: '',
        upstream: { kind: 'http', url: 'https://10.0.0.7/secret' },
        policy: {
          rules: {
            permission: [
              { action: 'use', constraint: [{ leftOperand: 'urn:unheard', operator: 'eq', rightOperand: 'x' }] },
            ],
          },
        },
        price: { currency: 'EUR', scale: '2', lines: [{ unit: 'requests', quantity: '1', value: '0.5' }] },
        assurance: 'best',
        colour: 'red',
      }),
    );
    expect(status).toBe(400);
    expect(errorsOf(body).toSorted()).toEqual(
      [
        '',
        '/assurance',
        '/policy/rules/permission/0/constraint/0/leftOperand',
        '/price/lines/0/value',
        '/title',
        '/upstream/url',
      ].toSorted(),
    );
    expect(JSON.stringify(body)).toContain('urn:unheard is not known here');
    expect(JSON.stringify(body)).toContain('colour');
    expect((await provider.call('GET', '/v1/assets')).body).toEqual(before.body);
  });

  test('path and query are read as strictly', async () => {
    const { status, body } = await provider.call('GET', '/v1/offers?limit=0&limit=2&colour=red&after=');
    expect(status).toBe(400);
    expect(typeOf(body)).toBe('request-invalid');
    expect(errorsOf(body).toSorted()).toEqual(['/query', '/query/limit', '/query/limit'].toSorted());
    expect((await provider.call('GET', '/v1/catalog?provider=did:nobody')).status).toBe(400);
    expect((await provider.call('GET', '/v1/catalog?provider=nobody')).status).toBe(404);
  });

  test('a private upstream, an unknown term and a fraction each by themselves', async () => {
    const upstream = { kind: 'http', url: 'https://127.0.0.1/x' };
    const asset = await provider.call('POST', '/v1/assets', { body: { title: 'x', upstream } });
    expect([asset.status, typeOf(asset.body), errorsOf(asset.body)]).toEqual([
      400,
      'address-refused',
      ['/upstream/url'],
    ]);
    const rules = { permission: [{ action: 'urn:unheard' }] };
    const offer = await provider.call('POST', '/v1/offers', { body: { asset: 'urn:none', rules } });
    expect([offer.status, typeOf(offer.body)]).toEqual([400, 'policy-invalid']);
    expect(errorsOf(offer.body)).toEqual(['/rules/permission/0/action', '/asset']);
    const lines = [{ unit: 'requests', quantity: '1', value: '0.5' }];
    const plan = { v: 1, type: 'price-plan', currency: 'EUR', scale: '2', lines, notice: '', free: false };
    const priced = await provider.call('POST', '/v1/price-plans', { body: plan });
    expect([priced.status, typeOf(priced.body), errorsOf(priced.body)]).toEqual([
      400,
      'body-invalid',
      ['/lines/0/value'],
    ]);
  });

  test('an unknown path is 404, a method it does not take 405 with those it takes', async () => {
    expect(typeOf((await provider.call('GET', '/v1/none')).body)).toBe('not-found');
    expect((await provider.call('GET', '/v1/offers/')).status).toBe(404);
    const { status, headers, body } = await provider.call('DELETE', '/v1/assets');
    expect([status, typeOf(body), headers.get('allow')]).toEqual([405, 'method-not-allowed', 'GET, POST']);
  });
});

describe('the OpenAPI document', () => {
  interface Operation {
    readonly operationId: string;
    readonly responses: Record<string, unknown>;
    readonly security: unknown;
    readonly requestBody?: unknown;
  }
  const read = async () => {
    const { body, headers } = await provider.call('GET', '/openapi.json', { headers: { authorization: '' } });
    return {
      document: body as {
        openapi: string;
        info: { version: string };
        paths: Record<string, Record<string, Operation>>;
        components: { schemas: Record<string, unknown> };
      },
      headers,
    };
  };

  test('is open, has every route once, and every operation says how it fails', async () => {
    const { document, headers } = await read();
    expect(headers.get('access-control-allow-origin')).toBe('*');
    expect([document.openapi, document.info.version]).toEqual(['3.1.0', '1.0.0']);
    const operations = Object.entries(document.paths).flatMap(([path, item]) =>
      Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
    );
    expect(operations.length).toBeGreaterThan(35);
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { path, method, operation } of operations) {
      expect(path).toMatch(/^\/v1(\/[a-z]+(-[a-z]+)*|\/\{[a-z]+\})+$/);
      expect(operation.responses.default, `${method} ${path}`).toBeDefined();
      expect(operation.security).toEqual([{ bearer: [] }]);
      expect(method !== 'post' || operation.requestBody !== undefined, `${method} ${path}`).toBe(true);
    }
  });

  test('has no reference to a schema that is not in it', async () => {
    const { document } = await read();
    const references = [...JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(
      ([, name]) => name ?? '',
    );
    expect(references.length).toBeGreaterThan(20);
    expect(references.filter((name) => document.components.schemas[name] === undefined)).toEqual([]);
  });

  test('every path of it answers, and none but with the token', async () => {
    const { document } = await read();
    for (const [path, item] of Object.entries(document.paths)) {
      if (item.get === undefined || path === '/v1/events') continue;
      const address = path.replaceAll(/\{\w+\}/g, 'urn%3Anone');
      expect((await provider.call('GET', address, { headers: { authorization: '' } })).status, path).toBe(401);
      expect([200, 400, 404], path).toContain((await provider.call('GET', address)).status);
    }
  });
});

describe('publishing', () => {
  test('a file, a folder and an address, each in one call; the same again is the same', async () => {
    const first = await provider.call('POST', '/v1/publications', { body: publication() });
    expect(first.status).toBe(201);
    expect((await provider.call('POST', '/v1/publications', { body: publication() })).body).toEqual(first.body);
    for (const upstream of [
      { kind: 'folder', path: join(folder, 'levels') },
      { kind: 'http', url: 'https://source.example/api', credential: { name: 'X-Key', value: 'geheim-marker-1' } },
    ]) {
      const { status, body } = await provider.call('POST', '/v1/publications', {
        body: {
          title: upstream.kind,
          upstream,
          policy: { template: 'purpose', parameters: { purpose: 'urn:crisis' } },
        },
      });
      expect(status).toBe(201);
      expect(JSON.stringify(body)).not.toContain('geheim-marker-1');
      expect(JSON.stringify(body)).not.toContain('sealed');
    }
    const assets = (await provider.call('GET', '/v1/assets?limit=2')).body as { items: object[]; next: string };
    expect(assets.items).toHaveLength(2);
    const rest = (await provider.call('GET', `/v1/assets?limit=2&after=${encodeURIComponent(assets.next)}`)).body;
    expect(rest).toMatchObject({ items: [{ createdAt: expect.stringMatching(/Z$/) }], next: null });
  });

  test('an id that is taken by something else is a conflict; an offer is withdrawn once', async () => {
    const other = { ...publication(), id: 'urn:voorbeeld:taken' };
    const { body } = await provider.call('POST', '/v1/publications', { body: other });
    const { offer } = body as { offer: { id: string } };
    const taken = await provider.call('POST', '/v1/publications', { body: { ...other, title: 'Snow' } });
    expect([taken.status, typeOf(taken.body)]).toEqual([409, 'version-conflict']);
    const path = `/v1/offers/${encodeURIComponent(offer.id)}`;
    expect((await provider.call('DELETE', path)).status).toBe(204);
    expect((await provider.call('DELETE', path)).status).toBe(404);
    expect((await provider.call('GET', path)).body).toMatchObject({ withdrawnAt: expect.stringMatching(/Z$/) });
  });

  test('templates say what they need', async () => {
    const { body } = await provider.call('GET', '/v1/policy-templates');
    expect(body).toMatchObject({ items: expect.arrayContaining([expect.objectContaining({ name: 'purpose' })]) });
  });

  test('single assets, price plans and offers are found by what they are called', async () => {
    const { body } = await provider.call('POST', '/v1/publications', { body: publication() });
    const { price, offer } = body as { price: { digest: string }; offer: { id: string } };
    expect((await provider.call('GET', `/v1/price-plans/${price.digest}`)).body).toEqual(price);
    expect((await provider.call('GET', `/v1/offers/${encodeURIComponent(offer.id)}`)).body).toEqual(offer);
    expect((await provider.call('GET', '/v1/assets/urn%3Avoorbeeld%3Arain')).status).toBe(200);
    expect((await provider.call('GET', '/v1/price-plans')).body).toMatchObject({ items: [price] });
  });
});

describe('reading the catalog of a provider', () => {
  test('with offers, assurance and price plan', async () => {
    await provider.call('POST', '/v1/publications', { body: publication() });
    const { body } = await consumer.call('GET', `/v1/catalog?provider=${encodeURIComponent(provider.did)}`);
    expect(body).toMatchObject({
      items: expect.arrayContaining([
        expect.objectContaining({
          id: 'urn:voorbeeld:rain',
          offers: [
            expect.objectContaining({ assurance: 'cosigned', price: expect.objectContaining({ currency: 'EUR' }) }),
          ],
        }),
      ]),
    });
    const one = `/v1/catalog/${encodeURIComponent('urn:voorbeeld:rain')}?provider=${encodeURIComponent(provider.did)}`;
    expect((await consumer.call('GET', one)).body).toMatchObject({ id: 'urn:voorbeeld:rain', title: 'Rain' });
  });

  test('a provider that is not there is 502 and named, a dataset it does not offer 404', async () => {
    const nobody = await consumer.call('GET', '/v1/catalog?provider=did%3Aweb%3Alocalhost%253A1');
    expect([nobody.status, typeOf(nobody.body)]).toEqual([502, 'fetch-failed']);
    expect(JSON.stringify(nobody.body)).toContain('did:web:localhost%3A1');
    const none = await consumer.call('GET', `/v1/catalog/urn%3Anone?provider=${encodeURIComponent(provider.did)}`);
    expect([none.status, typeOf(none.body)]).toEqual([404, 'not-found']);
  });
});

describe('acquiring', () => {
  const wish = () => ({ provider: provider.did, dataset: 'urn:voorbeeld:rain' });

  test('negotiates, starts a transfer, and uses both again', async () => {
    await provider.call('POST', '/v1/publications', { body: publication() });
    const first = await consumer.call('POST', '/v1/acquisitions', { body: wish() });
    expect(first.status).toBe(200);
    const acquired = first.body as { agreementId: string; dataUrl: string; transfer: string };
    expect(first.body).toMatchObject({ provider: provider.did, reused: false });
    expect(acquired.dataUrl).toBe(`${consumer.gateway}/data/${encodeURIComponent(acquired.agreementId)}/`);
    const second = await consumer.call('POST', '/v1/acquisitions', { body: wish() });
    expect(second.body).toEqual({ ...acquired, reused: true });
    expect(JSON.stringify([first.body, (await consumer.call('GET', '/v1/transfers')).body])).not.toContain('grant');
    const id = encodeURIComponent(acquired.agreementId);
    for (const side of [provider, consumer])
      expect((await side.call('GET', `/v1/agreements/${id}`)).body).toMatchObject({
        status: 'in-force',
        id: acquired.agreementId,
      });
  });

  test('many that ask at once share one agreement and one transfer', async () => {
    const other = { ...publication(), id: 'urn:voorbeeld:shared' };
    await provider.call('POST', '/v1/publications', { body: other });
    const asked = Array.from({ length: 8 }, () =>
      consumer.call('POST', '/v1/acquisitions', { body: { ...wish(), dataset: other.id } }),
    );
    const answers = (await Promise.all(asked)).map(({ body }) => body as { agreementId: string; transfer: string });
    expect(new Set(answers.map(({ agreementId }) => agreementId)).size).toBe(1);
    expect(new Set(answers.map(({ transfer }) => transfer)).size).toBe(1);
  });

  test('an agreement that ended is not used again', async () => {
    const other = { ...publication(), id: 'urn:voorbeeld:ended' };
    await provider.call('POST', '/v1/publications', { body: other });
    const ask = async () =>
      (await consumer.call('POST', '/v1/acquisitions', { body: { ...wish(), dataset: other.id } })).body as {
        agreementId: string;
      };
    const first = await ask();
    const ended = await consumer.call('POST', `/v1/agreements/${encodeURIComponent(first.agreementId)}/end`, {
      body: {},
    });
    expect(ended.body).toMatchObject({ status: 'ended' });
    const second = await ask();
    expect(second).toMatchObject({ reused: false, agreementId: expect.any(String) });
    expect(second.agreementId).not.toBe(first.agreementId);
  });

  test('an agreement is replaced by another, as either side asks; a provider says by which offer', async () => {
    const other = { ...publication(), id: 'urn:voorbeeld:amended' };
    await provider.call('POST', '/v1/publications', { body: other });
    const { body } = await provider.call('POST', '/v1/publications', { body: { ...other, price: undefined } });
    const { offer } = body as { offer: { id: string } };
    const asked = { ...wish(), dataset: other.id };
    const acquire = async () => {
      const answer = await consumer.call('POST', '/v1/acquisitions', { body: asked });
      return (answer.body as { agreementId: string }).agreementId;
    };
    const first = await acquire();
    const amend = (side: Connector, id: string, with_: object) =>
      side.call('POST', `/v1/agreements/${encodeURIComponent(id)}/amendment`, { body: with_ });
    const unnamed = await amend(provider, first, {});
    expect([unnamed.status, typeOf(unnamed.body)]).toEqual([400, 'body-invalid']);
    expect((await amend(provider, 'urn:none', {})).status).toBe(404);
    const begun = await amend(provider, first, { offer: offer.id });
    expect([begun.status, begun.body]).toMatchObject([201, { amends: first, role: 'provider' }]);
    const superseded = (side: Connector, id: string) =>
      eventually(
        () => side.call('GET', `/v1/agreements/${encodeURIComponent(id)}`),
        (answer) => (answer.body as { status: string }).status === 'superseded',
      );
    await superseded(provider, first);
    await superseded(consumer, first);
    const second = (
      (await consumer.call('GET', '/v1/agreements')).body as {
        items: { id: string; dataset: string; status: string }[];
      }
    ).items.find(({ dataset, status }) => dataset === other.id && status === 'in-force');
    const again = await amend(consumer, second?.id ?? '', { offer: offer.id });
    expect([again.status, again.body]).toMatchObject([201, { amends: second?.id, role: 'consumer' }]);
    await superseded(provider, second?.id ?? '');
    const late = await amend(consumer, first, {});
    expect([late.status, typeOf(late.body)]).toEqual([409, 'agreement-ended']);
  });

  test('the offer that was named is the one that is asked for', async () => {
    const other = { ...publication(), id: 'urn:voorbeeld:two' };
    await provider.call('POST', '/v1/publications', { body: other });
    const { body } = await provider.call('POST', '/v1/publications', { body: { ...other, price: undefined } });
    const { offer } = body as { offer: { id: string } };
    const asked = { ...wish(), dataset: other.id, offer: offer.id };
    const { agreementId } = (await consumer.call('POST', '/v1/acquisitions', { body: asked })).body as {
      agreementId: string;
    };
    const agreement = await consumer.call('GET', `/v1/agreements/${encodeURIComponent(agreementId)}`);
    expect(agreement.body).toMatchObject({ price: null });
    const none = await consumer.call('POST', '/v1/acquisitions', { body: { ...asked, offer: 'urn:none' } });
    expect(none.status).toBe(404);
  });

  test('a refusal by the provider comes with its code and reasons, in both forms it may have', async () => {
    const reason = ['Voor het doel geldt iets anders.', 'For the purpose the rule is another.'];
    const decide = (row: Parameters<typeof ordinary>[0]) =>
      row.process.role === 'provider' && row.process.state === 'REQUESTED'
        ? ({ do: 'terminate', code: 'policy-denied', reason } as const)
        : ordinary(row);
    await using strict = await startConnector({ decide });
    await strict.call('POST', '/v1/publications', { body: publication() });
    const asked = { provider: strict.did, dataset: 'urn:voorbeeld:rain' };
    const terminated = await consumer.call('POST', '/v1/acquisitions', { body: asked });
    expect([terminated.status, typeOf(terminated.body)]).toEqual([409, 'peer-refused']);
    expect(terminated.body).toMatchObject({
      errors: [
        { path: '/code', message: 'policy-denied' },
        { path: '/reason/0', message: reason[0] },
        { path: '/reason/1', message: reason[1] },
      ],
    });
  });

  test('an error answer to the request is kept as the reason', async () => {
    let isVisible = true;
    await using fickle = await startConnector({ sees: () => isVisible });
    await fickle.call('POST', '/v1/publications', { body: publication() });
    const found = await consumer.call(
      'GET',
      `/v1/catalog/urn%3Avoorbeeld%3Arain?provider=${encodeURIComponent(fickle.did)}`,
    );
    expect(found.status).toBe(200);
    const { offers } = found.body as { offers: { id: string; rules: Record<string, never> }[] };
    isVisible = false;
    const row = await consumer.negotiations.request({
      participant: 'main' as never,
      provider: fickle.did,
      providerBase: `${fickle.root}/dsp/2025-1`,
      dataset: 'urn:voorbeeld:rain',
      offerId: offers[0]?.id ?? '',
      rules: offers[0]?.rules ?? {},
      assurance: 'cosigned',
      price: '',
    });
    for (let tries = 0; tries < 500; tries += 1) {
      const { body } = await consumer.call('GET', `/v1/negotiations/${encodeURIComponent(row.pid)}`);
      if ((body as { state: string }).state === 'TERMINATED') {
        expect(body).toMatchObject({ ending: { by: 'peer', code: 'not-found' } });
        return;
      }
    }
    expect.unreachable();
  });

  test('one that takes too long says so, goes on, and is found again', async () => {
    let isReady = false;
    await using slow = await startConnector({
      decide: (row) => (row.process.role === 'provider' && !isReady ? { do: 'wait' } : ordinary(row)),
    });
    await slow.call('POST', '/v1/publications', { body: publication() });
    const asked = { provider: slow.did, dataset: 'urn:voorbeeld:rain', timeoutSeconds: 1 };
    const first = await consumer.call('POST', '/v1/acquisitions', { body: asked });
    expect([first.status, typeOf(first.body), first.headers.get('retry-after')]).toEqual([503, 'not-yet', '1']);
    isReady = true;
    const listed = (await slow.call('GET', '/v1/negotiations')).body as { items: { id: string }[] };
    const decision = `/v1/negotiations/${encodeURIComponent(listed.items[0]?.id ?? '')}/decisions`;
    expect((await slow.call('POST', decision, { body: { do: 'agree' } })).status).toBe(202);
    expect((await consumer.call('POST', '/v1/acquisitions', { body: { ...asked, timeoutSeconds: 20 } })).status).toBe(
      200,
    );
    expect((await slow.call('GET', '/v1/negotiations')).body).toMatchObject({ items: [{ state: 'FINALIZED' }] });
  });

  test('without a provider the store says who offers it, and asks when several do', async () => {
    const entry = (did: Did) => ({
      provider: { did, name: did },
      harvestedAt: '2026-11-26T00:00:00.000Z',
      dataset: {
        id: 'urn:voorbeeld:rain',
        title: 'Rain',
        description: '',
        keywords: [],
        formats: [],
        offers: [],
        unreadable: [],
      },
    });
    let entries = [entry(provider.did)];
    await using buyer = await startConnector({ entries: () => entries });
    const ask = () => buyer.call('POST', '/v1/acquisitions', { body: { dataset: 'urn:voorbeeld:rain' } });
    expect((await ask()).status).toBe(200);
    entries = [entry(provider.did), entry('did:web:second.example' as Did)];
    const several = await ask();
    expect([several.status, errorsOf(several.body)]).toEqual([400, ['/provider']]);
    entries = [];
    expect((await ask()).status).toBe(404);
  });
});

describe('processes', () => {
  test('a decision that the state does not allow is 409 and says why', async () => {
    const { items } = (await consumer.call('GET', '/v1/negotiations?limit=1')).body as { items: { id: string }[] };
    const path = `/v1/negotiations/${encodeURIComponent(items[0]?.id ?? '')}/decisions`;
    const { status, body } = await consumer.call('POST', path, { body: { do: 'accept' } });
    expect([status, typeOf(body)]).toEqual([409, 'illegal-transition']);
    const unknown = await consumer.call('POST', path, { body: { do: 'dance' } });
    expect([unknown.status, errorsOf(unknown.body)]).toEqual([400, ['/do']]);
  });

  test('a transfer is suspended by its provider, and terminated by its consumer', async () => {
    await provider.call('POST', '/v1/publications', { body: { ...publication(), id: 'urn:voorbeeld:held' } });
    const asked = { provider: provider.did, dataset: 'urn:voorbeeld:held' };
    const acquired = (await consumer.call('POST', '/v1/acquisitions', { body: asked })).body as {
      transfer: string;
      agreementId: string;
    };
    const path = `/v1/transfers/${encodeURIComponent(acquired.transfer)}`;
    expect((await consumer.call('GET', path)).body).toMatchObject({
      state: 'STARTED',
      endpoint: expect.stringContaining('/data/'),
    });
    expect(
      (await consumer.call('POST', `${path}/decisions`, { body: { do: 'terminate', reason: ['enough'] } })).status,
    ).toBe(202);
    for (let tries = 0; tries < 500; tries += 1) {
      const { body } = await consumer.call('GET', path);
      if ((body as { state: string }).state === 'TERMINATED') break;
    }
    expect((await consumer.call('GET', path)).body).toMatchObject({
      state: 'TERMINATED',
      ending: { by: 'us', reasons: ['enough'] },
    });
    const again = (await consumer.call('POST', '/v1/acquisitions', { body: asked })).body as {
      transfer: string;
      agreementId: string;
    };
    expect(again.agreementId).toBe(acquired.agreementId);
    expect(again.transfer).not.toBe(acquired.transfer);
  });

  test('begun by hand they are lists too, page by page', async () => {
    const begun = await consumer.call('POST', '/v1/negotiations', {
      body: { provider: provider.did, dataset: 'urn:voorbeeld:rain' },
    });
    expect(begun.status).toBe(201);
    const seen: string[] = [];
    let after = '';
    do {
      const page = (await consumer.call('GET', `/v1/negotiations?limit=3&after=${encodeURIComponent(after)}`)).body as {
        items: { id: string }[];
        next: string | null;
      };
      seen.push(...page.items.map(({ id }) => id));
      after = page.next ?? '';
    } while (after !== '');
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen).toContain((begun.body as { id: string }).id);
  });

  test('a transfer under an agreement of nobody, or one that ended, is refused', async () => {
    expect((await consumer.call('POST', '/v1/transfers', { body: { agreementId: 'urn:none' } })).status).toBe(404);
    await provider.call('POST', '/v1/publications', { body: { ...publication(), id: 'urn:voorbeeld:over' } });
    const asked = { provider: provider.did, dataset: 'urn:voorbeeld:over' };
    const { agreementId } = (await consumer.call('POST', '/v1/acquisitions', { body: asked })).body as {
      agreementId: string;
    };
    await consumer.call('POST', `/v1/agreements/${encodeURIComponent(agreementId)}/end`, { body: { reason: 'x' } });
    const { status, body } = await consumer.call('POST', '/v1/transfers', { body: { agreementId } });
    expect([status, typeOf(body)]).toEqual([409, 'agreement-ended']);
  });
});

describe('events', () => {
  /** Reads events of the stream until `count` of them came. */
  const read = async (side: Connector, count: number, lastId = '') => {
    const stop = new AbortController();
    const response = await fetch(`${side.api}/v1/events`, {
      headers: {
        authorization: `Bearer ${managementToken}`,
        ...(lastId === '' ? {} : { 'last-event-id': lastId }),
      },
      signal: stop.signal,
    });
    expect(response.headers.get('content-type')).toBe('text/event-stream');
    const events: { id: string; event: string; data: Record<string, unknown> }[] = [];
    let text = '';
    const decoder = new TextDecoder();
    for await (const bytes of response.body ?? []) {
      text += decoder.decode(bytes, { stream: true });
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const fields = Object.fromEntries(
          text
            .slice(0, end)
            .split('\n')
            .map((line) => line.split(/: (.*)/s).slice(0, 2)),
        );
        events.push({ id: fields.id ?? '', event: fields.event ?? '', data: JSON.parse(fields.data ?? '{}') });
        text = text.slice(end + 2);
      }
      if (events.length >= count) break;
    }
    stop.abort();
    return events;
  };

  test('tell every change, resume behind an id, and say when something is no longer known', async () => {
    const watched = read(consumer, 8);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await provider.call('POST', '/v1/publications', { body: { ...publication(), id: 'urn:voorbeeld:watched' } });
    await consumer.call('POST', '/v1/acquisitions', {
      body: { provider: provider.did, dataset: 'urn:voorbeeld:watched' },
    });
    const events = await watched;
    expect(events[0]?.event).toBe('ready');
    expect(events.map(({ data }) => data.state)).toContain('FINALIZED');
    expect(events.filter(({ data }) => data.state === 'AGREED').length).toBeLessThanOrEqual(3);
    expect(events[1]?.data).toMatchObject({
      protocol: 'negotiations',
      role: 'consumer',
      peer: provider.did,
      at: expect.stringMatching(/Z$/),
    });
    const resumed = await read(consumer, 3, events[4]?.id);
    expect(resumed[0]).toEqual(events[5]);
    const gap = await read(consumer, 1, 'another-run-7');
    expect(gap[0]?.event).toBe('gap');
  });

  test('are limited in number, and a reader that goes makes room', async () => {
    await using busy = await startConnector();
    const stop = new AbortController();
    const headers = { authorization: `Bearer ${managementToken}` };
    const open = () => fetch(`${busy.api}/v1/events`, { headers, signal: stop.signal });
    const streams = await Promise.all(Array.from({ length: 32 }, open));
    expect(streams.map(({ status }) => status)).toEqual(Array.from({ length: 32 }, () => 200));
    const refused = await busy.call('GET', '/v1/events');
    expect([refused.status, typeOf(refused.body)]).toEqual([429, 'too-many-requests']);
    stop.abort();
    for (let tries = 0; tries < 200; tries += 1) {
      const again = await fetch(`${busy.api}/v1/events`, { headers });
      await again.body?.cancel();
      if (again.status === 200) return;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect.unreachable();
  });

  test('end with the service', async () => {
    const short = await startConnector();
    const watched = read(short, 99);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await short[Symbol.asyncDispose]();
    expect((await watched).map(({ event }) => event)).toEqual(['ready']);
  });
});

describe('search', () => {
  test('says of each offer whether it fits us, or why not, in two languages', async () => {
    const rules = {
      permission: [
        {
          action: 'use',
          constraint: [{ leftOperand: 'odrl:purpose', operator: 'eq', rightOperand: 'urn:stekker:1:purpose:crisis' }],
        },
      ],
    };
    const offer = (id: string, its: typeof rules) => ({
      id,
      rules: its,
      assurance: 'cosigned' as const,
      price: '',
      plan: null,
    });
    const open = { permission: [{ action: 'use' }] } as typeof rules;
    const entries = [
      {
        provider: { did: 'did:web:p.example' as Did, name: 'Provider' },
        harvestedAt: '2026-11-26T00:00:00.000Z',
        dataset: {
          id: 'urn:rain',
          title: 'Regen',
          description: '',
          keywords: ['regen'],
          formats: [],
          offers: [offer('a', rules), offer('b', open)],
          unreadable: [],
        },
      },
    ];
    await using buyer = await startConnector({ entries: () => entries });
    const ask = async (query: string) =>
      (await buyer.call('GET', `/v1/search?q=regen${query}`)).body as {
        items: { offers: { id: string; verdict: string; reasons: { nl: string; en: string }[] }[] }[];
      };
    const verdicts = async (query: string) =>
      (await ask(query)).items[0]?.offers.map(({ id, verdict }) => `${id} ${verdict}`);
    expect(await verdicts('')).toEqual(['b fits', 'a depends']);
    expect(await verdicts('&purpose=urn:stekker:1:purpose:crisis')).toEqual(['a fits', 'b fits']);
    expect(await verdicts('&purpose=urn:other')).toEqual(['b fits', 'a refused']);
    const refused = (await ask('&purpose=urn:other')).items[0]?.offers[1]?.reasons[0];
    expect(refused?.nl).toContain('Voor het doel geldt');
    expect(refused?.en).toContain('For the purpose the rule is');
    expect((await buyer.call('GET', '/v1/search?purpose=nothing')).status).toBe(400);
  });
});

describe('identity and evidence', () => {
  test('joining, credentials and requests', async () => {
    expect((await consumer.call('POST', '/v1/join', { body: { code: 'the-code' } })).body).toMatchObject({
      member: true,
    });
    const wrong = await consumer.call('POST', '/v1/join', { body: { code: 'other' } });
    expect([wrong.status, typeOf(wrong.body)]).toEqual([403, 'forbidden']);
    expect((await consumer.call('GET', '/v1/credentials')).body).toMatchObject({
      items: [{ type: 'MembershipCredential' }],
    });
    const body = { issuer: 'did:web:accreditor.example', type: 'ApplicationAccreditationCredential' };
    expect((await consumer.call('POST', '/v1/credentials/requests', { body })).status).toBe(202);
    expect((await consumer.call('GET', '/v1/credentials/requests')).body).toEqual({ items: [], next: null });
  });

  test('an application gets a key that is shown once, and loses it', async () => {
    const application = 'urn:stekker:1:app:flood@1.0.0';
    const added = await consumer.call('POST', '/v1/applications', { body: { application } });
    expect(added.status).toBe(201);
    const { key } = added.body as { key: string };
    expect(key.length).toBeGreaterThan(20);
    const listed = await consumer.call('GET', '/v1/applications');
    expect(JSON.stringify(listed.body)).toContain(application);
    expect(JSON.stringify(listed.body)).not.toContain(key);
    const path = `/v1/applications/${encodeURIComponent(application)}`;
    expect((await consumer.call('DELETE', path)).status).toBe(204);
    expect((await consumer.call('DELETE', path)).status).toBe(404);
    expect((await consumer.call('POST', '/v1/applications', { body: { application: 'flood' } })).status).toBe(400);
  });

  test('usage by line, and of one agreement', async () => {
    const page = (await consumer.call('GET', '/v1/usage?limit=2')).body as { items: object[]; next: string };
    expect(page.items).toHaveLength(2);
    expect(page.items[0]).toMatchObject({ amount: '75', units: { requests: '3' } });
    expect(page.items[0]).not.toHaveProperty('key');
    expect((await consumer.call('GET', '/v1/usage?agreement=urn:agreement:c')).body).toMatchObject({
      items: [{ agreementId: 'urn:agreement:c' }],
      next: null,
    });
  });

  test('a receipt comes byte for byte, or says when', async () => {
    const id = '1190b0b2-7c00-7000-8000-000000000001';
    const response = await fetch(`${consumer.api}/v1/receipts/${id}?withhold=sums`, {
      headers: { authorization: `Bearer ${managementToken}` },
    });
    expect(await response.text()).toBe(`{"request":"${id}","sums":null,"type":"receipt"}`);
    const early = await consumer.call('GET', `/v1/receipts/0${id.slice(1)}`);
    expect([early.status, typeOf(early.body), early.headers.get('retry-after')]).toEqual([503, 'not-yet', '5']);
    expect((await consumer.call('GET', '/v1/receipts/none')).status).toBe(400);
    expect((await consumer.call('GET', '/v1/receipts?agreement=urn:a')).body).toEqual({
      items: ['{"agreement":"urn:a","type":"receipts"}'],
    });
  });
});
