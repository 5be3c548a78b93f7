import { afterEach, describe, expect, test } from 'vitest';
import type { Did } from '../contracts/ids.ts';
import { keysOf, start } from '../test/support/identities.ts';
import { type Site, startSite } from '../test/support/sites.ts';
import { manualClock } from './clock.ts';
import {
  buildDidDocument,
  createDidResolver,
  didOf,
  documentUrl,
  isDidWeb,
  multikeyOf,
  readDidDocument,
  rootOfDid,
  spkiOfMultikey,
} from './did.ts';
import { createGuardedClient } from './http/client.ts';

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one[Symbol.asyncDispose]();
});

/** A site that answers for its DID document as a test says, and a resolver with a clock of its own. */
const world = async (answer?: (site: Site) => Response | Promise<Response>, timeoutMs = 1_000) => {
  const clock = manualClock(start);
  const client = createGuardedClient({ allowLoopbackHttp: true });
  const site = await startSite({
    byte: 3,
    servesDocument: answer === undefined,
    routes: (app, self) => {
      if (answer !== undefined) app.get('/.well-known/did.json', () => answer(self()));
    },
  });
  open.push(client, site);
  const resolver = createDidResolver({ client, clock, allowLoopbackHttp: true, timeoutMs });
  return { clock, site, resolver };
};
const json = (body: object, headers: Record<string, string> = {}) => Response.json(body, { headers });

describe('did:web', () => {
  test('where a document and a root are', () => {
    expect(didOf('https://example.com')).toBe('did:web:example.com');
    expect(didOf('http://localhost:8443', 'a')).toBe('did:web:localhost%3A8443:t:a');
    expect(documentUrl('did:web:example.com', false)).toBe('https://example.com/.well-known/did.json');
    expect(documentUrl('did:web:example.com%3A8443:a:b', false)).toBe('https://example.com:8443/a/b/did.json');
    expect(rootOfDid('did:web:localhost%3A8443', true)).toBe('http://localhost:8443');
    expect(rootOfDid('did:web:localhost%3A8443', false)).toBe('https://localhost:8443');
    expect(rootOfDid('did:web:localhost.example', true)).toBe('https://localhost.example');
  });

  test.each([
    'did:web:Example.com',
    'did:web:example.com%3a8443',
    'did:web:example.com%2F..',
    'did:web:a:..',
    'did:web:exämple.com',
    'did:key:z6Mk',
    'did:web:',
  ])('%s is no form of it that is read', (text) => {
    expect(isDidWeb(text)).toBe(false);
    expect(documentUrl(text, false)).toBeUndefined();
  });

  test('a Multikey is the key it was made from, and nothing that only looks like one', () => {
    const { spki } = keysOf('did:web:a.example', 3).assertion;
    expect(spkiOfMultikey(multikeyOf(spki))).toEqual(new Uint8Array(spki));
    for (const bad of [
      '',
      'z',
      'z6Mk',
      multikeyOf(spki).slice(1),
      `${multikeyOf(spki)}1`,
      multikeyOf(new Uint8Array(44)),
    ])
      expect(spkiOfMultikey(bad)).toBeUndefined();
  });
});

describe('a document', () => {
  const keys = keysOf('did:web:a.example', 3);
  const document = buildDidDocument({ keys, services: { CredentialService: 'https://a.example/dcp' } });

  test('gives each key under its relationship only', () => {
    const read = readDidDocument(keys.did, JSON.stringify(document));
    expect(read?.keys('authentication').map(({ kid }) => kid)).toEqual([keys.authentication.kid]);
    expect(read?.keys('capabilityInvocation').map(({ kid }) => kid)).toEqual([keys.authentication.kid]);
    expect(read?.keys('assertionMethod').map(({ kid }) => kid)).toEqual([keys.assertion.kid, keys.multikeyId]);
    expect(read?.keys('keyAgreement').map(({ kid }) => kid)).toEqual([keys.keyAgreement.kid]);
    expect(read?.endpoint('CredentialService')).toBe('https://a.example/dcp');
    expect(read?.endpoint('IssuerService')).toBeUndefined();
  });

  test('may name keys relative to itself, and embed them', () => {
    const [first, ...rest] = document.verificationMethod;
    const relative = { ...first, id: `#${keys.authentication.kid.split('#')[1]}` };
    const text = JSON.stringify({ ...document, verificationMethod: rest, authentication: [relative] });
    expect(readDidDocument(keys.did, text)?.keys('authentication')[0]?.kid).toBe(keys.authentication.kid);
  });

  test.each<[string, string]>([
    ['no JSON', '{'],
    ['another DID', JSON.stringify({ ...document, id: 'did:web:b.example' })],
    ['no id', JSON.stringify({ ...document, id: undefined })],
    ['a key twice in one object', JSON.stringify(document).replace('{', '{"id":"did:web:a.example",')],
    [
      'more than 64 keys',
      JSON.stringify({ ...document, verificationMethod: Array(65).fill(document.verificationMethod[0]) }),
    ],
  ])('with %s is none', (_name, text) => {
    expect(readDidDocument(keys.did, text)).toBeUndefined();
  });

  test('a private key in it is no key', () => {
    const text = JSON.stringify(document).replaceAll('"publicKeyJwk":{', '"publicKeyJwk":{"d":"AA",');
    expect(readDidDocument(keys.did, text)?.keys('authentication')).toEqual([]);
  });
});

describe('resolving', () => {
  test('one fetch for all who ask at once, and none while it is fresh', async () => {
    const { site, resolver, clock } = await world();
    const found = await Promise.all(Array.from({ length: 5 }, () => resolver.resolve(site.did)));
    expect(found.every((one) => one?.did === site.did)).toBe(true);
    clock.advance(299_999);
    await resolver.resolve(site.did);
    expect(site.asked).toHaveLength(1);
    clock.advance(1);
    await resolver.resolve(site.did);
    expect(site.asked).toHaveLength(2);
  });

  test('max-age shortens the time, and never below half a minute', async () => {
    const { site, resolver, clock } = await world((self) => json(self.document, { 'cache-control': 'max-age=1' }));
    await resolver.resolve(site.did);
    clock.advance(29_999);
    await resolver.resolve(site.did);
    expect(site.asked).toHaveLength(1);
    clock.advance(1);
    await resolver.resolve(site.did);
    expect(site.asked).toHaveLength(2);
  });

  test('is asked of another process where one cannot answer now', async () => {
    let times = 0;
    const { site, resolver } = await world((self) => {
      times += 1;
      return times === 1 ? new Response(null, { status: 503 }) : json(self.document);
    });
    expect(await resolver.resolve(site.did)).toBeDefined();
    expect(site.asked).toHaveLength(2);
  });

  test('an unknown kid forces one refresh a minute: a new key is found, a flood is not fetched for', async () => {
    const { site, resolver, clock } = await world();
    const next = keysOf(site.did, 21);
    expect(await resolver.key(site.did, site.keys.authentication.kid, 'authentication')).toBeDefined();
    site.document = buildDidDocument({ keys: next, services: {} });
    expect(await resolver.key(site.did, next.authentication.kid, 'authentication')).toBeDefined();
    expect(await resolver.key(site.did, site.keys.authentication.kid, 'authentication')).toBeUndefined();
    for (let index = 0; index < 10; index += 1) await resolver.key(site.did, `${site.did}#${index}`, 'authentication');
    expect(site.asked).toHaveLength(2);
    clock.advance(60_000);
    await resolver.key(site.did, `${site.did}#x`, 'authentication');
    expect(site.asked).toHaveLength(3);
  });

  test.each<[string, (site: Site) => Response | Promise<Response>]>([
    ['404', () => new Response(null, { status: 404 })],
    ['a redirect', () => new Response(null, { status: 302, headers: { location: '/elsewhere' } })],
    [
      'another media type',
      (site) => new Response(JSON.stringify(site.document), { headers: { 'content-type': 'text/html' } }),
    ],
    ['more than 64 KiB', (site) => json({ ...site.document, filler: 'x'.repeat(70_000) })],
    ['the document of another', (site) => json({ ...site.document, id: 'did:web:b.example' })],
    ['nothing, for too long', () => new Promise<Response>((done) => setTimeout(() => done(new Response('late')), 400))],
  ])('%s gives no document, and is not asked for again at once', async (_name, answer) => {
    const { site, resolver, clock } = await world(answer, 200);
    expect(await resolver.resolve(site.did)).toBeUndefined();
    expect(await resolver.resolve(site.did)).toBeUndefined();
    expect(site.asked).toHaveLength(1);
    clock.advance(10_000);
    expect(await resolver.resolve(site.did)).toBeUndefined();
    expect(site.asked).toHaveLength(2);
    expect(site.asked).not.toContain('GET /elsewhere');
  });

  test.each(['did:web:10.0.0.1', 'did:web:localhost%3A9', 'did:web:printer.local', 'did:key:z6Mk'])(
    '%s is not asked for',
    async (did) => {
      const client = createGuardedClient({ allowLoopbackHttp: false });
      open.push(client);
      const resolver = createDidResolver({ client, clock: manualClock(start), allowLoopbackHttp: false });
      expect(await resolver.resolve(did as Did)).toBeUndefined();
    },
  );
});
