import { Hono } from 'hono';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { storePage } from '../../../contracts/store.ts';
import { createGuardedClient } from '../../../kernel/http/client.ts';
import { type RunningServer, serveRoutes } from '../../../kernel/http/server.ts';
import { createBrokerStore } from './broker-store.ts';

const page = storePage.parse({
  entries: [
    {
      provider: { did: 'did:web:p.example', name: 'Provider' },
      dataset: 'urn:rain',
      title: 'Regen',
      description: 'd',
      keywords: ['regen'],
      offers: [
        { id: 'o', rules: { permission: [{ action: 'use' }] }, assurance: 'cosigned', price: '', pricePlan: null },
      ],
      harvestedAt: '2026-11-26T00:00:00.000Z',
    },
  ],
  cursor: 'more',
  ignored: [],
});

let server: RunningServer;
let answer: { readonly status: number; readonly body: string } = { status: 200, body: JSON.stringify(page) };
const asked: string[] = [];
const client = createGuardedClient({ allowLoopbackHttp: true });

beforeAll(async () => {
  const app = new Hono();
  app.get('/store/offers', (c) => {
    asked.push(new URL(c.req.url).search);
    return new Response(answer.body, { status: answer.status, headers: { 'content-type': 'application/json' } });
  });
  server = await serveRoutes(app, { host: 'localhost', port: 0 });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await client[Symbol.asyncDispose]();
});

const store = () => createBrokerStore({ client, broker: `http://localhost:${server.port}` });

describe("the broker's store", () => {
  test('is asked with the words and the place, and answers offers with a place to go on', async () => {
    const { entries, next } = await store().search({ q: 'regen & wind', cursor: '' });
    expect(next).toBe('more');
    expect(entries[0]).toMatchObject({
      provider: { did: 'did:web:p.example', name: 'Provider' },
      dataset: { id: 'urn:rain', title: 'Regen', offers: [{ id: 'o', assurance: 'cosigned', plan: null }] },
    });
    await store().search({ q: 'x', cursor: 'more' });
    expect(asked).toEqual(['?q=regen+%26+wind', '?q=x&cursor=more']);
  });

  test.each([
    ['no JSON', 200, '{', 'fetch-failed'],
    ['another form', 200, '{"entries":"all"}', 'fetch-failed'],
    ['a fault of its own', 500, '', 'fetch-failed'],
    ['that it does not understand', 400, '', 'request-invalid'],
  ])('an answer that is %s is one of the faults of the table', async (_what, status, body, code) => {
    answer = { status, body };
    await expect(store().search({ q: '', cursor: '' })).rejects.toMatchObject({ code });
  });

  test('a connector without a broker says what to set', async () => {
    const work = createBrokerStore({ client, broker: undefined }).search({ q: '', cursor: '' });
    await expect(work).rejects.toMatchObject({
      code: 'not-found',
      detail: expect.stringContaining('STEKKER_BROKER_URL'),
    });
  });
});
