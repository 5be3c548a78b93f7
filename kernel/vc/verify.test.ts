import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toBase64Url, utf8 } from '../../contracts/bytes.ts';
import type { Did } from '../../contracts/ids.ts';
import { formatTime } from '../../contracts/time.ts';
import { credentialsContext, stekkerContext } from '../../contracts/vc/credential.ts';
import { accreditationOf, keysOf, membershipOf, start } from '../../test/support/identities.ts';
import { type Site, startSite } from '../../test/support/sites.ts';
import { manualClock } from '../clock.ts';
import { buildDidDocument, createDidResolver, multikeyOf } from '../did.ts';
import { createGuardedClient } from '../http/client.ts';
import { signJwt } from '../jwt.ts';
import type { ParticipantKeys, SigningKey } from '../keys.ts';
import { issueAsDataIntegrity, issueAsJwt } from './issue.ts';
import { loadLinkedData } from './linked-data.ts';
import { verifyDataIntegrity, verifyJwtCredential } from './verify.ts';

let issuer: Site;
let stranger: Site;
const client = createGuardedClient({ allowLoopbackHttp: true });
const holder = 'did:web:holder.example' as Did;

beforeAll(async () => {
  issuer = await startSite({ byte: 3 });
  stranger = await startSite({ byte: 9 });
});
afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await issuer[Symbol.asyncDispose]();
  await stranger[Symbol.asyncDispose]();
});

/** A resolver without memory of what other tests were served. */
const by = (now = start) => ({
  now,
  resolver: createDidResolver({ client, clock: manualClock(now), allowLoopbackHttp: true }),
});
const about = (more: object = {}) => ({
  issuer: issuer.did,
  subject: holder,
  list: `${issuer.origin}/status/1`,
  ...more,
});

/** Serves another document for a while. */
const withDocument = async <Value>(site: Site, document: object, work: () => Promise<Value>): Promise<Value> => {
  const before = site.document;
  site.document = document;
  try {
    return await work();
  } finally {
    site.document = before;
  }
};

const reasonOf = (result: { ok: boolean; reason?: string }) => result.reason ?? 'accepted';

describe('a credential as JWT', () => {
  const signed = (change: object, key: SigningKey = issuer.keys.assertion) =>
    signJwt(key, 'vc+jwt', { ...membershipOf(about()), ...change });

  const withHeader = (header: object) => {
    const part = (value: object) => toBase64Url(utf8(JSON.stringify(value)));
    const { kid, alg, sign } = issuer.keys.assertion;
    const input = `${part({ alg, kid, typ: 'vc+jwt', ...header })}.${part(membershipOf(about()))}`;
    return `${input}.${toBase64Url(sign(utf8(input)))}`;
  };

  test('is verified in both kinds, with keys of both algorithms', async () => {
    for (const credential of [membershipOf(about()), accreditationOf(about())]) {
      const text = await issueAsJwt(credential, issuer.keys.assertion);
      expect(await verifyJwtCredential(text, by())).toEqual({ ok: true, value: credential });
    }
    const { keys } = issuer;
    const document = buildDidDocument({ keys, services: {} });
    const both = { ...document, assertionMethod: [...document.assertionMethod, keys.authentication.kid] };
    const result = await withDocument(issuer, both, async () =>
      verifyJwtCredential(await issueAsJwt(membershipOf(about()), keys.authentication), by()),
    );
    expect(result.ok).toBe(true);
  });

  test('registered claims may be missing, and never differ from the credential', async () => {
    expect((await verifyJwtCredential(signed({}), by())).ok).toBe(true);
    for (const change of [{ iss: stranger.did }, { jti: 'urn:uuid:other' }, { sub: stranger.did }])
      expect(reasonOf(await verifyJwtCredential(signed(change), by()))).toContain('differ from the credential');
  });

  test.each<[string, () => string, string]>([
    ['another type', () => signJwt(issuer.keys.assertion, 'JWT', membershipOf(about())), 'is of type JWT'],
    ['a `vc` claim', () => signed({ vc: {} }), 'vc'],
    ['a member that nobody knows', () => signed({ level: 'high' }), 'level'],
    ['a type that nobody knows', () => signed({ type: ['VerifiableCredential', 'Diploma'] }), 'not known here'],
    ['an inline context', () => signed({ '@context': [credentialsContext, stekkerContext, {}] }), '@context'],
    ['another order of contexts', () => signed({ '@context': [stekkerContext, credentialsContext] }), '@context'],
    ['algorithm none', () => withHeader({ alg: 'none' }), 'no JWT'],
    ['an HMAC', () => withHeader({ alg: 'HS256' }), 'no JWT'],
    ['an algorithm of another kind of key', () => withHeader({ alg: 'ES256' }), 'does not hold'],
    ['a key in the header', () => withHeader({ jwk: {} }), 'no JWT'],
    ['an address of keys in the header', () => withHeader({ jku: 'https://stranger.example' }), 'no JWT'],
    ['no kid', () => withHeader({ kid: undefined }), 'names a key of another'],
    ['a kid of another DID', () => withHeader({ kid: `${stranger.did}#x` }), 'names a key of another'],
    ['an unknown kid', () => withHeader({ kid: `${issuer.did}#x` }), 'no assertion key'],
    ['a key for another use', () => signed({}, issuer.keys.authentication), 'no assertion key'],
    [
      'another key under a right kid',
      () => signed({}, { ...stranger.keys.assertion, kid: issuer.keys.assertion.kid }),
      'does not hold',
    ],
    ['expired, by the credential', () => signed({ validUntil: formatTime(start) }), 'has expired'],
    ['expired, by the JWT', () => signed({ exp: start / 1000 }), 'has expired'],
    ['of the future, by the credential', () => signed({ validFrom: formatTime(start + 60_001) }), 'not valid yet'],
    ['of the future, by nbf', () => signed({ nbf: start / 1000 + 61 }), 'not valid yet'],
    ['of the future, by iat', () => signed({ iat: start / 1000 + 61 }), 'not valid yet'],
    [
      'one status entry',
      () => signed({ credentialStatus: membershipOf(about()).credentialStatus.slice(1) }),
      'credentialStatus',
    ],
    [
      'a status index that only begins like one',
      () =>
        signed({
          credentialStatus: membershipOf(about()).credentialStatus.map((one) => ({
            ...one,
            statusListIndex: '94567x',
          })),
        }),
      'no plain decimal',
    ],
    [
      'a membership of another broker',
      () => signed({ credentialSubject: { id: holder, role: ['x'], memberOf: stranger.did } }),
      'in the name of another',
    ],
    ['no JWT at all', () => 'a.b', 'no JWT'],
    ['more than 32 KiB', () => signed({ validFrom: 'x'.repeat(33_000) }), 'no JWT'],
    [
      'a key twice in the claims',
      () => {
        const { kid, alg, sign } = issuer.keys.assertion;
        const claims = JSON.stringify(membershipOf(about())).replace('{', '{"issuer":"did:web:stranger.example",');
        const input = `${toBase64Url(utf8(JSON.stringify({ alg, kid, typ: 'vc+jwt' })))}.${toBase64Url(utf8(claims))}`;
        return `${input}.${toBase64Url(sign(utf8(input)))}`;
      },
      'no JWT',
    ],
  ])('is refused with %s', async (_name, make, reason) => {
    expect(reasonOf(await verifyJwtCredential(make(), by()))).toContain(reason);
  });

  test('the clock may differ by a minute at the beginning, and not at all at the end', async () => {
    const text = await issueAsJwt(
      membershipOf(about({ from: start, until: start + 3_600_000 })),
      issuer.keys.assertion,
    );
    expect((await verifyJwtCredential(text, by(start - 60_000))).ok).toBe(true);
    expect((await verifyJwtCredential(text, by(start - 61_000))).ok).toBe(false);
    expect((await verifyJwtCredential(text, by(start + 3_599_999))).ok).toBe(true);
    expect((await verifyJwtCredential(text, by(start + 3_600_000))).ok).toBe(false);
  });

  test('a key that was removed from the document takes what it signed with it', async () => {
    const text = await issueAsJwt(membershipOf(about()), issuer.keys.assertion);
    const gone = buildDidDocument({ keys: { ...keysOf(issuer.did, 21), did: issuer.did }, services: {} });
    expect(reasonOf(await withDocument(issuer, gone, () => verifyJwtCredential(text, by())))).toContain(
      'no assertion key',
    );
    const other = { ...issuer.document, id: stranger.did };
    expect(reasonOf(await withDocument(issuer, other, () => verifyJwtCredential(text, by())))).toContain(
      'no assertion key',
    );
  });
});

/** What the stock packages say of a credential, with a loader that believes what it is told. */
const stock = async (credential: object, documents: ReadonlyMap<string, object>, more: object = {}) => {
  const { verifyCredential, DataIntegrityProof, cryptosuite, loader } = await loadLinkedData();
  return verifyCredential({
    credential,
    suite: new DataIntegrityProof({ cryptosuite }),
    documentLoader: loader(documents),
    now: formatTime(start),
    checkStatus: async () => ({ verified: true }),
    ...more,
  });
};

const multikeyDocument = (keys: ParticipantKeys, more: object = {}) => ({
  '@context': 'https://w3id.org/security/multikey/v1',
  id: keys.multikeyId,
  type: 'Multikey',
  controller: keys.did,
  publicKeyMultibase: multikeyOf(keys.assertion.spki),
  ...more,
});
const documentsOf = (keys: ParticipantKeys, more: object = {}) =>
  new Map<string, object>([
    [keys.did, buildDidDocument({ keys, services: {} })],
    [keys.multikeyId, multikeyDocument(keys, more)],
  ]);

const signStock = async (
  credential: object,
  signer: { readonly id: string; readonly key: SigningKey },
  more: { readonly date?: string; readonly proof?: object } = {},
) => {
  const { issue, DataIntegrityProof, cryptosuite, loader } = await loadLinkedData();
  const sign = async ({ data }: { readonly data: Uint8Array }) => signer.key.sign(data);
  const suite = new DataIntegrityProof({
    signer: { id: signer.id, algorithm: 'Ed25519', sign },
    cryptosuite,
    date: more.date ?? formatTime(start),
  });
  if (more.proof !== undefined) Object.assign(suite, { proof: more.proof });
  return issue({ credential: structuredClone(credential), suite, documentLoader: loader() });
};

const ours = async (value: unknown, now = start) => reasonOf(await verifyDataIntegrity(JSON.stringify(value), by(now)));

describe('a credential with Data Integrity', () => {
  test('is verified in both kinds', async () => {
    for (const credential of [membershipOf(about()), accreditationOf(about())]) {
      const text = JSON.stringify(await issueAsDataIntegrity(credential, issuer.keys));
      expect(await verifyDataIntegrity(text, by())).toEqual({ ok: true, value: credential });
    }
  });

  test('a changed field does not verify, whichever it is', async () => {
    const issued = await issueAsDataIntegrity(accreditationOf(about()), issuer.keys);
    const text = JSON.stringify(issued);
    const changes: [string, string][] = [
      ['evacuatie', 'drainage'],
      ['1.2.0', '1.3.0'],
      ['sha256-abc', 'sha256-abd'],
      ['purpose:flood-response', 'purpose:advertising'],
      ['substantial', 'high'],
      ['holder.example', 'holder2.example'],
      ['"94567"', '"94568"'],
      ['000000000001', '000000000002'],
    ];
    for (const [from, to] of changes) {
      expect(text).toContain(from);
      expect(reasonOf(await verifyDataIntegrity(text.replace(from, to), by())), from).toContain('does not hold');
    }
  });

  test('row 1: a revoked credential passes the stock status step; here status is a step of its own', async () => {
    const issued = await issueAsDataIntegrity(membershipOf(about()), issuer.keys);
    const checkStatus = async () => ({ verified: true, results: [{ status: true }] });
    expect((await stock(issued, documentsOf(issuer.keys), { checkStatus })).verified).toBe(true);
    expect(await ours(issued)).toBe('accepted'); // says who signed it; `createStatusLists` refuses any set bit
  });

  test('row 2: a forgery under a foreign verification method', async () => {
    const forged = await signStock(membershipOf(about()), {
      id: stranger.keys.multikeyId,
      key: stranger.keys.assertion,
    });
    const naive = documentsOf(issuer.keys);
    naive.set(stranger.keys.multikeyId, {
      ...multikeyDocument(stranger.keys),
      id: issuer.keys.multikeyId,
      controller: issuer.did,
    });
    expect((await stock(forged, naive)).verified).toBe(true);
    const asked = stranger.asked.length;
    expect(await ours(forged)).toContain('names a key of another');
    expect(stranger.asked).toHaveLength(asked);
    const inPlace = await signStock(membershipOf(about()), {
      id: issuer.keys.multikeyId,
      key: stranger.keys.assertion,
    });
    expect(await ours(inPlace)).toContain('does not hold');
  });

  test('row 3: an inline context that swaps the meaning of two fields', async () => {
    const make = (terms: object, subject: object) => ({
      '@context': [credentialsContext, terms],
      id: 'urn:uuid:1',
      type: ['VerifiableCredential'],
      issuer: issuer.did,
      validFrom: formatTime(start),
      credentialSubject: { id: holder, ...subject },
    });
    const signer = { id: issuer.keys.multikeyId, key: issuer.keys.assertion };
    const honest = await signStock(make({ a: 'urn:x:may', b: 'urn:x:mayNot' }, { a: 'read', b: 'write' }), signer);
    const swapped = {
      ...honest,
      ...make({ a: 'urn:x:mayNot', b: 'urn:x:may' }, { a: 'write', b: 'read' }),
    };
    expect((await stock(swapped, documentsOf(issuer.keys))).verified).toBe(true);
    expect(await ours(swapped)).not.toBe('accepted');
    const issued = await issueAsDataIntegrity(membershipOf(about()), issuer.keys);
    for (const contexts of [
      [credentialsContext, stekkerContext, { role: 'urn:x' }],
      [credentialsContext],
      [stekkerContext, credentialsContext],
      credentialsContext,
    ])
      expect(await ours({ ...issued, '@context': contexts })).toContain('@context');
  });

  test('row 5: a proof made in 2099, and one that expired', async () => {
    const signer = { id: issuer.keys.multikeyId, key: issuer.keys.assertion };
    const late = await signStock(membershipOf(about()), signer, { date: '2099-01-01T00:00:00Z' });
    expect((await stock(late, documentsOf(issuer.keys))).verified).toBe(true);
    expect(await ours(late)).toContain('made in the future');
    const expired = await signStock(membershipOf(about()), signer, {
      proof: { expires: formatTime(start - 60_000).replace('.000', '') },
    });
    expect((await stock(expired, documentsOf(issuer.keys))).verified).toBe(true);
    expect(await ours(expired)).toContain('has expired');
    expect(await ours(expired, start - 1)).toBe('accepted');
  });

  test('row 6: a key that was revoked or has expired', async () => {
    const issued = await issueAsDataIntegrity(membershipOf(about()), issuer.keys);
    for (const member of ['revoked', 'expires']) {
      const past = { [member]: '2020-01-01T00:00:00Z' };
      expect((await stock(issued, documentsOf(issuer.keys, past))).verified).toBe(true);
      const document = buildDidDocument({ keys: issuer.keys, services: {} });
      const marked = {
        ...document,
        verificationMethod: document.verificationMethod.map((one) => ({ ...one, ...past })),
      };
      expect(await withDocument(issuer, marked, () => ours(issued))).toContain('no assertion key');
    }
  });

  test('row 7: several proofs, of which one is good', async () => {
    const issued = await issueAsDataIntegrity(membershipOf(about()), issuer.keys);
    const junk = { ...(issued.proof as object), proofValue: 'z1' };
    const several = { ...issued, proof: [junk, issued.proof] };
    expect((await stock(several, documentsOf(issuer.keys))).verified).toBe(true);
    expect(await ours(several)).not.toBe('accepted');
    expect(await ours({ ...issued, proof: [issued.proof] })).not.toBe('accepted');
    expect(await ours({ ...issued, proof: { ...(issued.proof as object), previousProof: 'urn:x' } })).toContain(
      'previousProof',
    );
    const { proof: _proof, ...unsigned } = issued;
    expect(await ours(unsigned)).not.toBe('accepted');
  });

  test('row 9: a status index that only begins like a number', async () => {
    const issued = await issueAsDataIntegrity(membershipOf(about()), issuer.keys);
    for (const index of ['94567x', '1e5', '0x17167', '-1', '01', '12345678901'])
      expect(await ours(JSON.parse(JSON.stringify(issued).replaceAll('"94567"', `"${index}"`)))).toContain('decimal');
  });

  test('row 10: a status type that nobody knows is refused, not skipped', async () => {
    const issued = await issueAsDataIntegrity(membershipOf(about()), issuer.keys);
    const text = JSON.stringify(issued).replaceAll('BitstringStatusListEntry', 'OtherStatus');
    expect(await ours(JSON.parse(text))).toContain('credentialStatus');
    expect(await ours({ ...issued, credentialStatus: undefined })).toContain('credentialStatus');
  });

  test('rows 13 and 15: long arrays, large and deep documents are refused before anything is loaded', async () => {
    const issued = await issueAsDataIntegrity(accreditationOf(about()), issuer.keys);
    const asked = issuer.asked.length;
    const many = (length: number) => Array.from({ length }, (_, index) => `urn:p:${index}`);
    const withPurposes = (purposes: readonly string[]) => ({
      ...issued,
      credentialSubject: { ...(issued.credentialSubject as object), purposes },
    });
    expect(await ours(withPurposes(many(101)))).toContain('more than 100');
    expect(await ours(withPurposes(many(5_000)))).toContain('at most 32768 bytes');
    const deep = (levels: number) => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`;
    for (const levels of [13, 2_000])
      expect(reasonOf(await verifyDataIntegrity(deep(levels), by()))).toContain('levels');
    expect(issuer.asked).toHaveLength(asked);
  });

  test('row 14: nodes without an id are refused by their form, before they are canonicalised', async () => {
    const issued = await issueAsDataIntegrity(accreditationOf(about()), issuer.keys);
    const text = JSON.stringify(issued).replace('"id":"urn:stekker:1:app:evacuatie",', '');
    expect(await ours(JSON.parse(text))).toContain('credentialSubject.application.id');
    expect(await ours({ ...issued, credentialSubject: [issued.credentialSubject] })).toContain('credentialSubject');
  });

  test('rows 16 and 17: one module loads the packages, its loader tags nothing, and nothing is ever fetched', async () => {
    const { loader } = await loadLinkedData();
    expect(await loader()(stekkerContext)).not.toHaveProperty('tag');
    const jsonld: { documentLoader: (url: string) => Promise<unknown> } = createRequire(import.meta.url)('jsonld');
    await expect(jsonld.documentLoader(`${issuer.origin}/.well-known/did.json`)).rejects.toThrow('not loaded');
    const root = resolve(import.meta.dirname, '../..');
    const folders = ['contracts', 'policies', 'kernel', 'connector', 'broker', 'bin'];
    const sources = folders
      .flatMap((folder) =>
        readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((path) => join(folder, path)),
      )
      .filter((path) => path.endsWith('.ts') && !/\.(test|d)\.ts$/.test(path));
    expect(sources.length).toBeGreaterThan(100);
    const importing = sources.filter((path) =>
      /from '(jsonld|@digitalbazaar)|import\('(jsonld|@digitalbazaar)/.test(readFileSync(join(root, path), 'utf8')),
    );
    expect(importing).toEqual(['kernel/vc/linked-data.ts']);
  });

  test.each<[string, (text: string) => string, string]>([
    ['a key twice', (text) => text.replace('{', '{"issuer":"did:web:stranger.example",'), 'twice'],
    ['__proto__', (text) => text.replace('{', '{"__proto__":{},'), 'form'],
    ['no JSON', (text) => text.slice(1), 'JSON'],
    ['no object', () => '[]', 'no object'],
    ['another cryptosuite', (text) => text.replace('eddsa-rdfc-2022', 'ecdsa-rdfc-2019'), 'cryptosuite'],
    ['another purpose of the proof', (text) => text.replace('"assertionMethod"', '"authentication"'), 'proofPurpose'],
    [
      'a challenge that nobody gave',
      (text) => text.replace('"proofPurpose"', '"challenge":"x","proofPurpose"'),
      'challenge',
    ],
  ])('is refused with %s', async (_name, change, reason) => {
    const text = change(JSON.stringify(await issueAsDataIntegrity(membershipOf(about()), issuer.keys)));
    expect(reasonOf(await verifyDataIntegrity(text, by()))).toContain(reason);
  });

  test('is refused with a key that may only authenticate, or that the document does not name', async () => {
    const issued = await issueAsDataIntegrity(membershipOf(about()), issuer.keys);
    const document = buildDidDocument({ keys: issuer.keys, services: {} });
    const moved = { ...document, assertionMethod: [], authentication: [issuer.keys.multikeyId] };
    expect(await withDocument(issuer, moved, () => ours(issued))).toContain('no assertion key');
    const foreign = {
      ...document,
      verificationMethod: document.verificationMethod.map((one) => ({ ...one, controller: stranger.did })),
    };
    expect(await withDocument(issuer, foreign, () => ours(issued))).toContain('no assertion key');
    const jwkOnly = buildDidDocument({ keys: issuer.keys, services: {}, jwkOnly: true });
    expect(await withDocument(issuer, jwkOnly, () => ours(issued))).toContain('no assertion key');
  });
});
