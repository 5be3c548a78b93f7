import { Hono } from 'hono';
import { afterEach, describe, expect, test } from 'vitest';
import type { ParticipantId } from '../../../contracts/ids.ts';
import { manualClock } from '../../../kernel/clock.ts';
import { createDidResolver, didOf } from '../../../kernel/did.ts';
import { createGuardedClient } from '../../../kernel/http/client.ts';
import { type RunningServer, serveRoutes } from '../../../kernel/http/server.ts';
import { createPeers } from './peers.ts';

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one[Symbol.asyncDispose]();
});

const versions = { protocolVersions: [{ version: '2025-1', path: '/dsp/2025-1/', binding: 'HTTPS' }] };
const extensions = {
  extensions: [
    { id: 'agreements', version: '1', path: '/ext/1/agreements' },
    { id: 'statements', version: '2', path: '/ext/2/statements' },
  ],
};

/** A peer whose documents are what the test says, and how often each was asked for. */
const world = async (documents: {
  /** What the operator says of peers, given the root of this one. */
  readonly told?: (root: string) => Record<string, string>;
  readonly services?: Record<string, string>;
  readonly versions?: unknown;
  readonly extensions?: unknown;
}) => {
  const app = new Hono();
  const server: RunningServer = await serveRoutes(app, { host: 'localhost', port: 0 });
  open.push(server);
  const root = `http://localhost:${server.port}`;
  const did = didOf(root);
  const asked: string[] = [];
  const services = documents.services ?? {
    DataService: `${root}/.well-known/dspace-version`,
    StekkerExtensions: `${root}/.well-known/stekker`,
  };
  const service = Object.entries(services).map(([type, path]) => ({
    id: `${did}#${type}`,
    type,
    serviceEndpoint: path.replace('ROOT', root),
  }));
  app.get('*', (c) => {
    const path = new URL(c.req.url).pathname;
    asked.push(path);
    if (path === '/.well-known/did.json') return c.json({ id: did, service });
    if (path.endsWith('/.well-known/dspace-version')) {
      return documents.versions === null ? c.text('', 500) : c.json(documents.versions ?? versions);
    }
    if (path.endsWith('/.well-known/stekker')) {
      return documents.extensions === null ? c.text('', 404) : c.json(documents.extensions ?? extensions);
    }
    return c.notFound();
  });
  const client = createGuardedClient({ allowLoopbackHttp: true });
  open.push(client);
  const clock = manualClock(1_795_431_600_000);
  const resolver = createDidResolver({ client, clock, allowLoopbackHttp: true });
  const addresses = new Map(Object.entries(documents.told?.(root) ?? {}));
  const peers = createPeers({ client, resolver, clock, allowLoopbackHttp: true, addresses });
  return { root, did, asked, clock, peers };
};

const us = 'us' as ParticipantId;

describe('where a peer takes messages', () => {
  test('at the root of its version document, with the path of our version behind it', async () => {
    const { peers, did, root } = await world({});
    expect(await peers.base(did)).toBe(`${root}/dsp/2025-1`);
  });

  test('a service may name the root itself, and lie deeper', async () => {
    const { peers, did, root } = await world({ services: { DataService: 'ROOT/t/water/' } });
    expect(await peers.base(did)).toBe(`${root}/t/water/dsp/2025-1`);
  });

  test('without a service entry it is the root of the DID', async () => {
    const { peers, did, root } = await world({ services: {} });
    expect(await peers.base(did)).toBe(`${root}/dsp/2025-1`);
  });

  test.each([
    [
      'speaks another version',
      { protocolVersions: [{ version: '2024-1', path: '/', binding: 'HTTPS' }] },
      'does not speak version',
    ],
    [
      'has another binding',
      { protocolVersions: [{ version: '2025-1', path: '/', binding: 'CARRIER' }] },
      'does not speak version',
    ],
    ['says something else', { hello: 'world' }, 'does not say what it should'],
    ['does not answer', null, 'answered 500'],
  ])('a peer that %s is a fault', async (_what, its, why) => {
    const { peers, did } = await world({ versions: its });
    await expect(peers.base(did)).rejects.toMatchObject({ code: 'fetch-failed', detail: expect.stringContaining(why) });
  });

  test('the address that the operator gives counts, and nothing is resolved for it', async () => {
    const { peers, asked, root } = await world({ told: (its) => ({ edc: `${its}/protocol/` }) });
    expect(await peers.base('edc' as never)).toBe(`${root}/protocol/dsp/2025-1`);
    expect(asked).toEqual(['/protocol/.well-known/dspace-version']);
    await expect(peers.base('other' as never)).rejects.toMatchObject({
      code: 'not-found',
      detail: expect.stringContaining('STEKKER_PEERS'),
    });
  });

  test('a DID whose document cannot be had is a fault', async () => {
    const { peers } = await world({});
    await expect(peers.base('did:web:localhost%3A1' as never)).rejects.toMatchObject({ code: 'fetch-failed' });
  });

  test('an address that may not be called is not called', async () => {
    const { peers, did } = await world({ services: { DataService: 'https://10.0.0.7/.well-known/dspace-version' } });
    await expect(peers.base(did)).rejects.toMatchObject({ code: 'address-refused' });
  });
});

describe('the extensions of a peer', () => {
  test('are those of our version, below its root', async () => {
    const { peers, did, root } = await world({});
    expect(await peers.agreements(us, did)).toBe(`${root}/ext/1/agreements`);
    expect(await peers.extension(did, 'statements')).toBeUndefined();
    expect(await peers.pricePlan(did, 'abc')).toBe(`${root}/ext/1/prices/abc`);
  });

  test('are none only when the document has no such entry', async () => {
    const { peers, did } = await world({ services: { DataService: 'ROOT' } });
    expect(await peers.agreements(us, did)).toBeUndefined();
    expect(await peers.pricePlan(did, 'abc')).toBeUndefined();
  });

  test('are none for a peer without a DID, and nothing is asked', async () => {
    const { peers, asked } = await world({});
    expect(await peers.agreements(us, 'edc' as never)).toBeUndefined();
    expect(await peers.pricePlan('edc' as never, 'abc')).toBeUndefined();
    expect(asked).toEqual([]);
  });

  test('a failed fetch never downgrades a peer, and is tried again the next time', async () => {
    let its: unknown = null;
    const { peers, did, root } = await world({
      get extensions() {
        return its;
      },
    });
    await expect(peers.agreements(us, did)).rejects.toMatchObject({ code: 'fetch-failed' });
    its = extensions;
    expect(await peers.agreements(us, did)).toBe(`${root}/ext/1/agreements`);
  });

  test('a document of another form is a fault too', async () => {
    const { peers, did } = await world({
      extensions: { extensions: [{ id: 'agreements', version: '1', path: 'ext' }] },
    });
    await expect(peers.agreements(us, did)).rejects.toMatchObject({ code: 'fetch-failed' });
  });

  test('are fetched once by many, and again when they are five minutes old', async () => {
    const { peers, did, asked, clock } = await world({});
    await Promise.all(Array.from({ length: 20 }, () => peers.agreements(us, did)));
    expect(asked.filter((path) => path.endsWith('stekker'))).toHaveLength(1);
    clock.advance(300_001);
    await peers.agreements(us, did);
    expect(asked.filter((path) => path.endsWith('stekker'))).toHaveLength(2);
  });
});
