import { createHmac } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { dcpContext, dcpMessage } from '../../contracts/dcp/messages.ts';
import { scopeOfType } from '../../contracts/dcp/scope.ts';
import type { Did } from '../../contracts/ids.ts';
import type { CredentialType } from '../../contracts/vc/credential.ts';
import { presentedJwts, verifiablePresentation } from '../../contracts/vc/presentation.ts';
import { createTokenService } from '../../kernel/auth.ts';
import { readJwt, signJwt, verifyJwt } from '../../kernel/jwt.ts';
import type { SigningKey } from '../../kernel/keys.ts';
import { systemRandom, uuidV7 } from '../../kernel/random.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import { accreditationOf, membershipOf, start } from '../../test/support/identities.ts';
import {
  accreditationObject,
  delivery,
  type IssuerSite,
  membershipObject,
  startIssuerSite,
} from '../../test/support/issuer-site.ts';
import { shiftedClock } from '../../test/support/log-bench.ts';
import { type Site, startSite } from '../../test/support/sites.ts';
import { startWalletSite, tenant, type WalletSite } from '../../test/support/wallet-site.ts';
import type { CredentialRequest } from './ports.ts';

const clock = shiftedClock(start);
let issuer: IssuerSite;
let accreditor: IssuerSite;
let verifier: Site;
let holder: WalletSite;
const membership: CredentialType = 'MembershipCredential';
const accreditation: CredentialType = 'ApplicationAccreditationCredential';

beforeAll(async () => {
  issuer = await startIssuerSite(3, clock);
  accreditor = await startIssuerSite(33, clock);
  verifier = await startSite({ byte: 5 });
  holder = await startWalletSite({
    byte: 13,
    clock,
    trustedIssuers: (type) => (type === membership ? [issuer.did] : [accreditor.did]),
  });
});
afterAll(async () => {
  for (const one of [holder, issuer, accreditor, verifier]) await one[Symbol.asyncDispose]();
});

type Sent = ConstructorParameters<typeof Headers>[0];

const newId = () => `urn:uuid:${uuidV7(clock.now(), systemRandom)}`;
const about = (more: object = {}) => ({
  issuer: issuer.did,
  subject: holder.did,
  list: `${issuer.site.origin}/status/1`,
  id: newId(),
  ...more,
});
const byAccreditor = (more: object = {}) =>
  about({ issuer: accreditor.did, list: `${accreditor.site.origin}/status/1`, ...more });

const verifierTokens = () => createTokenService({ keys: verifier.keys, clock, random: systemRandom });

const post = async (path: string, body: unknown, headers: Sent) => {
  const init = { 'content-type': 'application/json' };
  const merged = new Headers(headers);
  for (const [name, value] of Object.entries(init)) if (!merged.has(name)) merged.set(name, value);
  const response = await fetch(`${holder.site.origin}${path}`, {
    method: 'POST',
    headers: merged,
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
};

/** Puts a credential into the wallet the proper way: asked for, and delivered. */
const acquire = async (credential: ReturnType<typeof membershipOf>) => {
  const [, type] = credential.type;
  const from = type === membership ? issuer : accreditor;
  const request = await holder.requests.request(tenant, { issuer: from.did, type, object: newId() });
  const { token } = await takenFor(from, request);
  const status = await from.send(
    `${holder.site.origin}/dcp/credentials`,
    delivery(request.holderPid, [await from.jwtOf(credential)], type),
    token,
  );
  expect(status).toBe(200);
};

const takenFor = async (from: IssuerSite, { holderPid }: CredentialRequest) => {
  const found = await eventually(
    async () => from.taken.find(({ message }) => message.holderPid === holderPid),
    (one) => one !== undefined,
  );
  if (found === undefined) throw new Error('not taken');
  return found;
};

const query = dcpMessage('PresentationQueryMessage', { scope: [scopeOfType(membership)] });
const offer = () =>
  dcpMessage('CredentialOfferMessage', {
    issuer: issuer.did,
    credentials: [{ id: membershipObject, type: 'CredentialObject' }],
  });
const endpoints: [string, () => object][] = [
  ['/dcp/presentations/query', () => query],
  ['/dcp/credentials', () => delivery('urn:none', [])],
  ['/dcp/offers', offer],
];

const seconds = () => Math.floor(clock.now() / 1000);
const claims = (change: object = {}) => ({
  iss: verifier.did,
  sub: verifier.did,
  aud: holder.did,
  jti: newId(),
  iat: seconds(),
  exp: seconds() + 60,
  ...change,
});
const token = (change: object = {}, key: SigningKey = verifier.keys.authentication) =>
  `Bearer ${signJwt(key, 'JWT', claims(change))}`;
const raw = (header: object, sign: (input: Uint8Array) => Uint8Array) => {
  const part = (value: object) => toBase64Url(utf8(JSON.stringify(value)));
  const input = `${part(header)}.${part(claims())}`;
  return `Bearer ${input}.${toBase64Url(sign(utf8(input)))}`;
};

describe.each(endpoints)('who calls %s', (path, body) => {
  test.each<[string, () => Sent]>([
    ['no Authorization', () => ({})],
    ['no Bearer', () => ({ authorization: token().slice(7) })],
    [
      'two tokens',
      () => [
        ['authorization', token()],
        ['authorization', token()],
      ],
    ],
    ['no JWT', () => ({ authorization: 'Bearer abc' })],
    ['iss and sub that differ', () => ({ authorization: token({ sub: issuer.did }) })],
    ['the audience of another', () => ({ authorization: token({ aud: verifier.did }) })],
    ['no audience', () => ({ authorization: token({ aud: undefined }) })],
    ['an expired token', () => ({ authorization: token({ iat: seconds() - 100, exp: seconds() - 40 }) })],
    ['nbf in the future', () => ({ authorization: token({ nbf: seconds() + 40 }) })],
    ['iat in the future', () => ({ authorization: token({ iat: seconds() + 40 }) })],
    ['no exp', () => ({ authorization: token({ exp: undefined }) })],
    ['no iat', () => ({ authorization: token({ iat: undefined }) })],
    ['no jti', () => ({ authorization: token({ jti: undefined }) })],
    [
      'a wrong key',
      () => ({
        authorization: token({}, { ...issuer.site.keys.authentication, kid: verifier.keys.authentication.kid }),
      }),
    ],
    [
      'a kid of another',
      () => ({
        authorization: token({}, { ...verifier.keys.authentication, kid: issuer.site.keys.authentication.kid }),
      }),
    ],
    [
      'an unknown kid',
      () => ({ authorization: token({}, { ...verifier.keys.authentication, kid: `${verifier.did}#x` }) }),
    ],
    ['a key for something else', () => ({ authorization: token({}, verifier.keys.assertion) })],
    ['algorithm none', () => ({ authorization: raw({ alg: 'none' }, () => new Uint8Array(0)) })],
    [
      'an HMAC',
      () => ({
        authorization: raw({ alg: 'HS256' }, (input) =>
          createHmac('sha256', verifier.keys.authentication.spki).update(input).digest(),
        ),
      }),
    ],
  ])('%s gets 401', async (_name, headers) => {
    const { status, body: answer } = await post(path, body(), headers());
    expect(status).toBe(401);
    expect(answer).toEqual({
      type: 'urn:stekker:1:error:unauthenticated',
      title: 'The caller did not prove who it is.',
      status: 401,
    });
  });

  test('a token counts once, also for parallel requests', async () => {
    const headers = {
      authorization: issuer.tokens.tokenFor({
        audience: holder.did,
        token: holder.tokens.accessTokenFor(issuer.did, []),
      }),
    };
    const statuses = await Promise.all(
      Array.from({ length: 10 }, async () => (await post(path, body(), headers)).status),
    );
    expect(statuses.filter((status) => status !== 401)).toHaveLength(1);
    expect((await post(path, body(), headers)).status).toBe(401);
  });

  test.each<[string, unknown, number]>([
    ['no JSON', '{"type":', 400],
    ['another type', { '@context': [dcpContext], type: 'Other' }, 400],
    ['no context', { type: 'PresentationQueryMessage', scope: ['a:b'] }, 400],
    ['a key twice', '{"type":"a","type":"b"}', 400],
    ['nothing', '', 400],
    ['an array', [], 400],
    ['too much', { filler: 'x'.repeat(600_000) }, 413],
  ])('a body of %s is refused', async (_name, bad, status) => {
    const authorization = issuer.tokens.tokenFor({
      audience: holder.did,
      token: holder.tokens.accessTokenFor(issuer.did, []),
    });
    expect((await post(path, bad, { authorization })).status).toBe(status);
    const again = issuer.tokens.tokenFor({ audience: holder.did, token: holder.tokens.accessTokenFor(issuer.did, []) });
    expect((await post(path, body(), { authorization: again, 'content-type': 'text/plain' })).status).toBe(415);
  });
});

describe('the DID document', () => {
  test('is served at both places a did:web may have, as the bytes that are signed', async () => {
    for (const path of ['/.well-known/did.json', '/did.json']) {
      const response = await fetch(`${holder.site.origin}${path}`);
      expect(response.headers.get('content-type')).toBe('application/did+json');
      expect(await response.text()).toBe(JSON.stringify(holder.site.document));
    }
    expect((await holder.resolver.refresh(holder.did))?.endpoint('CredentialService')).toBe(
      `${holder.site.origin}/dcp`,
    );
  });
});

/** Asks as the verifier, with an access token for these scopes. */
const ask = (message: object, scopes: readonly string[] | undefined = [scopeOfType(membership)]) =>
  post('/dcp/presentations/query', message, {
    authorization: verifierTokens().tokenFor({
      audience: holder.did,
      ...(scopes === undefined ? {} : { token: holder.tokens.accessTokenFor(verifier.did, scopes) }),
    }),
  });

const shownBy = (body: { presentation: string[] }): string[] =>
  body.presentation.flatMap((text) => {
    const jwt = readJwt(text, 600_000);
    if (jwt === undefined) throw new Error('no JWT');
    expect(verifyJwt(jwt, holder.site.keys.authentication.publicJwk)).toBe(true);
    expect(jwt).toMatchObject({ typ: 'vp+jwt', kid: holder.site.keys.authentication.kid });
    expect(jwt.claims).toMatchObject({ iss: holder.did, aud: verifier.did, holder: holder.did });
    expect(Number(jwt.claims.exp) - Number(jwt.claims.iat)).toBe(60);
    return presentedJwts(verifiablePresentation.parse(jwt.claims));
  });
const idsIn = (body: { presentation: string[] }) => shownBy(body).map((text) => readJwt(text, 65_536)?.claims.id);

describe('a presentation query', () => {
  test('is answered with what holds, the newest of each matter, for the asker alone', async () => {
    const old = membershipOf(about({ from: start - 5_000 }));
    const newest = membershipOf(about());
    const suspended = membershipOf(about({ from: start + 30_000 }));
    const drainage = accreditationOf(byAccreditor());
    const drains = drainage.credentialSubject;
    const other = {
      ...accreditationOf(byAccreditor()),
      credentialSubject: {
        ...drains,
        ...('application' in drains ? { application: { ...drains.application, version: '2.0.0' } } : {}),
      },
    } as typeof drainage;
    for (const one of [old, newest, suspended, drainage, other]) await acquire(one);
    holder.lost.add(suspended.id);
    const { status, body } = await ask(query);
    expect(status).toBe(200);
    expect(body.type).toBe('PresentationResponseMessage');
    expect(idsIn(body)).toEqual([newest.id]);
    const both = dcpMessage('PresentationQueryMessage', {
      scope: [scopeOfType(membership), `${scopeOfType(accreditation)}:read`],
    });
    const scopes = [scopeOfType(membership), scopeOfType(accreditation)];
    const everything = idsIn((await ask(both, scopes)).body);
    expect(everything[0]).toBe(newest.id);
    expect(everything.slice(1).toSorted()).toEqual([drainage.id, other.id].toSorted());
    expect(await holder.wallet.facts(tenant)).toMatchObject({
      memberships: [{ memberOf: issuer.did, roles: ['participant'] }],
      accreditations: [{ accreditor: accreditor.did }, { accreditor: accreditor.did }],
    });
  });

  test('each answer is another presentation', async () => {
    const jtis = await Promise.all(
      [ask(query), ask(query)].map(async (one) => readJwt((await one).body.presentation[0], 600_000)?.claims.jti),
    );
    expect(new Set(jtis).size).toBe(2);
  });

  test("scopes beyond the access token's give fewer credentials, and no error", async () => {
    const both = dcpMessage('PresentationQueryMessage', {
      scope: [scopeOfType(membership), scopeOfType(accreditation)],
    });
    expect(shownBy((await ask(both)).body)).toHaveLength(1);
    const { status, body } = await ask(query, [scopeOfType(accreditation)]);
    expect([status, body.presentation]).toEqual([200, []]);
    expect((await ask(query, [])).body.presentation).toEqual([]);
  });

  test('by id only what the token allows by type, or by that id', async () => {
    const [one] = await holder.wallet.held(tenant);
    const byId = dcpMessage('PresentationQueryMessage', { scope: [`org.eclipse.dspace.dcp.vc.id:${one?.id}`] });
    expect(idsIn((await ask(byId, [scopeOfType(one?.type ?? membership)])).body)).toEqual([one?.id]);
    expect(idsIn((await ask(byId, [`org.eclipse.dspace.dcp.vc.id:${one?.id}`])).body)).toEqual([one?.id]);
    expect((await ask(byId, [scopeOfType('Other')])).body.presentation).toEqual([]);
  });

  test.each<[string, object, number]>([
    ['both ways of asking', { scope: [scopeOfType('MembershipCredential')], presentationDefinition: { id: 'x' } }, 400],
    ['no scope', {}, 400],
    ['an empty scope', { scope: [] }, 400],
    ['an empty definition', { presentationDefinition: {} }, 400],
    ['a definition that is null', { presentationDefinition: null }, 400],
    ['a real definition', { presentationDefinition: { id: 'x', input_descriptors: [] } }, 501],
    ['an unknown alias', { scope: ['org.example.type:MembershipCredential'] }, 400],
    ['a scope without alias', { scope: ['MembershipCredential'] }, 400],
    ['a scope that is no text', { scope: [1] }, 400],
  ])('with %s', async (_name, members, status) => {
    expect((await ask(dcpMessage('PresentationQueryMessage', members))).status).toBe(status);
  });

  test('no access token, one of another verifier, one of another holder, an expired one: 401, before the body is read', async () => {
    const tokens = verifierTokens();
    const theirs = createTokenService({ keys: issuer.site.keys, clock, random: systemRandom });
    const past = createTokenService({
      keys: holder.site.keys,
      clock: { ...clock, now: () => clock.now() - 300_000 },
      random: systemRandom,
    });
    for (const accessToken of [
      undefined,
      holder.tokens.accessTokenFor(issuer.did, [scopeOfType(membership)]),
      theirs.accessTokenFor(verifier.did, [scopeOfType(membership)]),
      past.accessTokenFor(verifier.did, [scopeOfType(membership)]),
      'rubbish',
    ]) {
      const authorization = tokens.tokenFor({
        audience: holder.did,
        ...(accessToken === undefined ? {} : { token: accessToken }),
      });
      expect((await post('/dcp/presentations/query', { no: 'query' }, { authorization })).status).toBe(401);
    }
  });

  test('an access token may be used twice, a self-issued token not', async () => {
    const accessToken = holder.tokens.accessTokenFor(verifier.did, [scopeOfType(membership)]);
    const authorization = verifierTokens().tokenFor({ audience: holder.did, token: accessToken });
    expect((await post('/dcp/presentations/query', query, { authorization })).status).toBe(200);
    expect((await post('/dcp/presentations/query', query, { authorization })).status).toBe(401);
    expect((await ask(query)).status).toBe(200);
  });
});

describe('a delivery', () => {
  const url = () => `${holder.site.origin}/dcp/credentials`;
  const openRequest = async (object = newId()) => {
    const request = await holder.requests.request(tenant, { issuer: issuer.did, type: membership, object });
    return { request, taken: await takenFor(issuer, request) };
  };
  const heldIds = async () => (await holder.store.read.held(tenant, clock.now())).map(({ id }) => id);

  test('is taken once; its repeat is harmless, and another for the same request is refused', async () => {
    const { request, taken } = await openRequest();
    const credential = membershipOf(about());
    const message = delivery(request.holderPid, [await issuer.jwtOf(credential)]);
    expect(await issuer.send(url(), message, taken.token)).toBe(200);
    expect(await issuer.send(url(), message, taken.token)).toBe(200);
    expect((await heldIds()).filter((id) => id === credential.id)).toHaveLength(1);
    const another = membershipOf(about());
    expect(await issuer.send(url(), delivery(request.holderPid, [await issuer.jwtOf(another)]), taken.token)).toBe(404);
    expect(await heldIds()).not.toContain(another.id);
    expect(await holder.store.read.request(tenant, request.holderPid)).toMatchObject({ status: 'ISSUED' });
  });

  test('a rejection ends the request, with its reason', async () => {
    const { request, taken } = await openRequest();
    const message = dcpMessage('CredentialMessage', {
      issuerPid: 'x',
      holderPid: request.holderPid,
      status: 'REJECTED',
      rejectionReason: 'not now',
    });
    expect(await issuer.send(url(), message, taken.token)).toBe(200);
    expect(await issuer.send(url(), message, taken.token)).toBe(200);
    const kept = await holder.store.read.request(tenant, request.holderPid);
    expect(kept).toMatchObject({ status: 'REJECTED', reason: 'not now' });
  });

  test.each<[string, (request: CredentialRequest) => Promise<object> | object, number]>([
    ['without holderPid', async ({ holderPid }) => ({ ...delivery(holderPid, ['x']), holderPid: undefined }), 400],
    ['for a request nobody made', () => delivery('urn:none', ['x']), 404],
    ['of an unknown status', ({ holderPid }) => ({ ...delivery(holderPid, ['x']), status: 'MAYBE' }), 400],
    ['of nothing', ({ holderPid }) => delivery(holderPid, []), 400],
    ['of rubbish', ({ holderPid }) => delivery(holderPid, ['a.b.c']), 400],
    [
      'in another format',
      async ({ holderPid }) => {
        const message = delivery(holderPid, [await issuer.jwtOf(membershipOf(about()))]);
        return { ...message, credentials: message.credentials.map((one) => ({ ...one, format: 'vc11-sl2021/jwt' })) };
      },
      400,
    ],
    [
      'of another type than it says',
      async ({ holderPid }) => delivery(holderPid, [await issuer.jwtOf(membershipOf(about()))], accreditation),
      400,
    ],
    [
      'of another type than was asked for',
      async ({ holderPid }) => delivery(holderPid, [await issuer.jwtOf(accreditationOf(about()))], accreditation),
      400,
    ],
    [
      'about another',
      async ({ holderPid }) =>
        delivery(holderPid, [await issuer.jwtOf(membershipOf(about({ subject: verifier.did })))]),
      400,
    ],
    [
      'by another issuer',
      async ({ holderPid }) => delivery(holderPid, [await accreditor.jwtOf(membershipOf(byAccreditor()))]),
      400,
    ],
    [
      'that has expired',
      async ({ holderPid }) =>
        delivery(holderPid, [await issuer.jwtOf(membershipOf(about({ from: start - 9_000, until: start - 1 })))]),
      400,
    ],
    [
      'of the future',
      async ({ holderPid }) =>
        delivery(holderPid, [await issuer.jwtOf(membershipOf(about({ from: clock.now() + 600_000 })))]),
      400,
    ],
    [
      'with a broken signature',
      async ({ holderPid }) =>
        delivery(holderPid, [`${(await issuer.jwtOf(membershipOf(about()))).slice(0, -6)}AAAAAA`]),
      400,
    ],
    [
      'of one good and one bad',
      async ({ holderPid }) => delivery(holderPid, [await issuer.jwtOf(membershipOf(about())), 'a.b.c']),
      400,
    ],
  ])('%s is refused, and nothing of it is kept', async (_name, make, status) => {
    const { request, taken } = await openRequest();
    const before = await heldIds();
    expect(await issuer.send(url(), await make(request), taken.token)).toBe(status);
    expect(await heldIds()).toEqual(before);
    expect(await holder.store.read.request(tenant, request.holderPid)).toMatchObject({ status: 'OPEN' });
  });

  test('all faults are told at once', async () => {
    const { request, taken } = await openRequest();
    const authorization = issuer.tokens.tokenFor({
      audience: holder.did,
      ...(taken.token === undefined ? {} : { token: taken.token }),
    });
    const { body } = await post('/dcp/credentials', delivery(request.holderPid, ['a.b.c', 'd']), { authorization });
    expect(body.errors.map(({ path }: { path: string }) => path)).toEqual([
      '/credentials/0/payload',
      '/credentials/1/payload',
    ]);
  });

  test('must echo the token of the request, and come from the issuer that was asked', async () => {
    const { request, taken } = await openRequest();
    const message = delivery(request.holderPid, [await issuer.jwtOf(membershipOf(about()))]);
    expect(await issuer.send(url(), message)).toBe(401);
    expect(await issuer.send(url(), message, 'another')).toBe(401);
    expect(await accreditor.send(url(), message, taken.token)).toBe(404);
    expect(await issuer.send(url(), message, taken.token)).toBe(200);
  });
});

describe('a request', () => {
  test("goes to the issuer's service, with an access token for it alone", async () => {
    const request = await holder.requests.request(tenant, { issuer: accreditor.did, type: accreditation });
    const { message, holder: caller, token: sent } = await takenFor(accreditor, request);
    expect(caller).toBe(holder.did);
    expect(message).toMatchObject({ type: 'CredentialRequestMessage', credentials: [{ id: accreditationObject }] });
    expect(holder.tokens.readAccessToken(sent, accreditor.did)).toEqual([scopeOfType(membership)]);
    const kept = await eventually(
      () => holder.store.read.request(tenant, request.holderPid),
      (one) => one?.statusUrl !== null,
    );
    expect(kept?.statusUrl).toContain(`${accreditor.site.origin}/dcp/requests/`);
    const same = await holder.requests.request(tenant, { issuer: accreditor.did, type: accreditation });
    expect(same.holderPid).toBe(request.holderPid);
  });

  test('is sent again when the issuer is not ready, under the same name', async () => {
    issuer.answers.push(
      () => new Response(null, { status: 503 }),
      () => new Response(null, { status: 401 }),
    );
    const before = issuer.taken.length;
    const request = await holder.requests.request(tenant, { issuer: issuer.did, type: membership, object: newId() });
    await eventually(
      () => holder.store.read.request(tenant, request.holderPid),
      (one) => one?.statusUrl !== null,
    );
    const tries = issuer.taken.slice(before).filter(({ message }) => message.holderPid === request.holderPid);
    expect(tries).toHaveLength(3);
  });

  test('ends when the issuer refuses it, or does not issue that type', async () => {
    const endOf = (pid: string) =>
      eventually(
        () => holder.store.read.request(tenant, pid),
        (one) => one?.status !== 'OPEN',
      );
    issuer.answers.push(() => new Response(null, { status: 400 }));
    const refused = await holder.requests.request(tenant, { issuer: issuer.did, type: membership, object: newId() });
    expect(await endOf(refused.holderPid)).toMatchObject({ status: 'REJECTED', reason: 'the issuer answered 400' });
    const before = issuer.supports;
    issuer.supports = before.map((one) => ({ ...one, profile: 'vc11-sl2021/jwt' }));
    await holder.db.deleteFrom('credential_request').where('issuer', '=', issuer.did).execute();
    const none = await holder.requests.request(tenant, { issuer: issuer.did, type: membership });
    expect((await endOf(none.holderPid))?.reason).toContain('does not issue');
    issuer.supports = before;
  });

  test('is not made to an issuer whose credentials do not count', async () => {
    const wanted = { issuer: accreditor.did, type: membership };
    await expect(holder.requests.request(tenant, wanted)).rejects.toMatchObject({ code: 'forbidden' });
  });
});

describe('an offer', () => {
  const url = () => `${holder.site.origin}/dcp/offers`;
  const message = (credentials: readonly object[], by: Did = accreditor.did) =>
    dcpMessage('CredentialOfferMessage', { issuer: by, credentials });
  const asked = (from: IssuerSite, object: string) =>
    from.taken.filter(({ message: one }) => one.credentials[0]?.id === object);

  test('of a trusted issuer is taken up by itself, with or without its metadata', async () => {
    const object = newId();
    expect(
      await accreditor.send(url(), message([{ id: object, type: 'CredentialObject', credentialType: accreditation }])),
    ).toBe(200);
    await eventually(
      async () => asked(accreditor, object),
      (found) => found.length === 1,
    );
    const before = asked(accreditor, accreditationObject).length;
    expect(await accreditor.send(url(), message([{ id: accreditationObject }]))).toBe(200);
    await eventually(
      async () => asked(accreditor, accreditationObject),
      (found) => found.length === before + 1,
    );
  });

  test('of unknown ids, types and profiles is accepted, and leads to nothing', async () => {
    const object = newId();
    const before = accreditor.taken.length;
    const entries = [
      { id: newId() },
      { id: newId(), credentialType: 'Diploma' },
      { id: newId(), credentialType: accreditation, profile: 'vc11-sl2021/jwt' },
      { id: membershipObject },
      { id: object, credentialType: accreditation },
    ];
    expect(await accreditor.send(url(), message(entries))).toBe(200);
    await eventually(
      async () => asked(accreditor, object),
      (found) => found.length === 1,
    );
    expect(accreditor.taken).toHaveLength(before + 1);
  });

  test('in the name of another, and of an issuer that is not trusted, is refused', async () => {
    expect(await accreditor.send(url(), message([{ id: 'x' }], issuer.did))).toBe(403);
    const stranger = await startIssuerSite(43, clock);
    try {
      expect(await stranger.send(url(), message([{ id: 'x' }], stranger.did))).toBe(403);
    } finally {
      await stranger[Symbol.asyncDispose]();
    }
  });

  test.each<[string, object]>([
    ['no issuer', { issuer: null, credentials: [{ id: 'x' }] }],
    ['no credentials', { issuer: 'did:web:x.example', credentials: [] }],
  ])('with %s gets 400', async (_name, members) => {
    expect(await accreditor.send(url(), dcpMessage('CredentialOfferMessage', members))).toBe(400);
  });
});
