import { afterEach, describe, expect, test } from 'vitest';
import { dcpMessage } from '../../contracts/dcp/messages.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did } from '../../contracts/ids.ts';
import type { Credential, CredentialType } from '../../contracts/vc/credential.ts';
import { buildPresentation } from '../../contracts/vc/presentation.ts';
import { withBit } from '../../contracts/vc/status-list.ts';
import { accreditationOf, membershipOf, start } from '../../test/support/identities.ts';
import { type Lists, type Site, serveLists, startSite } from '../../test/support/sites.ts';
import { createTokenService, type VerifiedCaller, verifySiToken } from '../auth.ts';
import { manualClock } from '../clock.ts';
import { buildDidDocument, createDidResolver } from '../did.ts';
import { createGuardedClient } from '../http/client.ts';
import { signJwt } from '../jwt.ts';
import { seededRandom, uuidV7 } from '../random.ts';
import { migrate } from '../sql/migrate.ts';
import { openSqlite } from '../sql/sqlite.ts';
import { sqlUsedTokens, type UsedTokenTable, usedTokenMigrations } from '../sql/used-tokens.ts';
import { issueAsJwt } from './issue.ts';
import { presentAsJwt } from './present.ts';
import { createPresentationVerifier } from './presentation-verifier.ts';

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one[Symbol.asyncDispose]();
});

type Shows = (verifier: Did) => Promise<readonly unknown[]> | readonly unknown[];

const world = async () => {
  const clock = manualClock(start);
  const random = seededRandom('presentations');
  let lists: Lists | undefined;
  const state: { shows: Shows; answer: ((body: object) => Response | Promise<Response>) | undefined } = {
    shows: () => [],
    answer: undefined,
  };
  const queries: { authorization: string; body: unknown }[] = [];
  const learnt: [credential: string, issuer: Did][] = [];
  const issuer = await startSite({
    byte: 3,
    routes: (app, site) => {
      lists = serveLists(app, site, clock.now);
    },
  });
  const verifier = await startSite({ byte: 5 });
  const stranger = await startSite({ byte: 9 });
  const holder = await startSite({
    byte: 13,
    services: { CredentialService: '/dcp' },
    routes: (app) =>
      app.post('/dcp/presentations/query', async (c) => {
        queries.push({ authorization: c.req.header('authorization') ?? '', body: await c.req.json() });
        const body = dcpMessage('PresentationResponseMessage', { presentation: await state.shows(verifier.did) });
        return state.answer === undefined ? c.json(body) : state.answer(body);
      }),
  });
  const client = createGuardedClient({ allowLoopbackHttp: true });
  const database = openSqlite<UsedTokenTable>({ path: ':memory:' });
  open.push(issuer, verifier, stranger, holder, client, database);
  await migrate(database.db, 'used-tokens', usedTokenMigrations);
  const resolver = createDidResolver({ client, clock, allowLoopbackHttp: true });
  const presentations = createPresentationVerifier({
    did: verifier.did,
    tokens: createTokenService({ keys: verifier.keys, clock, random }),
    resolver,
    client,
    clock,
    used: sqlUsedTokens(database.db),
    trustedIssuers: (type) => (type === 'MembershipCredential' ? [issuer.did] : []),
    learn: (credential, by) => void learnt.push([credential, by]),
  });
  const caller = (more: Partial<VerifiedCaller> = {}): VerifiedCaller => ({
    did: holder.did,
    used: { issuer: holder.did, jti: 'x', expiresAt: start },
    accessToken: 'access-token',
    jkt: undefined,
    text: '',
    ...more,
  });
  const about = (more: object = {}) => ({
    issuer: issuer.did,
    subject: holder.did,
    list: `${issuer.origin}/status/1`,
    ...more,
  });
  const jwtOf = (credential: Credential, by: Site = issuer) => issueAsJwt(credential, by.keys.assertion);
  const present = (jwts: readonly string[], more: object = {}) =>
    presentAsJwt({
      keys: holder.keys,
      audience: verifier.did,
      jwts,
      now: clock.now(),
      jti: uuidV7(clock.now(), random),
      ...more,
    });
  const show = (...credentials: Credential[]) => {
    state.shows = async () => [await present(await Promise.all(credentials.map((one) => jwtOf(one))))];
  };
  const ask = (types: readonly CredentialType[] = ['MembershipCredential'], by = caller()) =>
    presentations.factsOf(by, types);
  if (lists === undefined) throw new Error('no lists');
  return {
    clock,
    issuer,
    verifier,
    stranger,
    holder,
    lists,
    state,
    queries,
    learnt,
    presentations,
    resolver,
    caller,
    about,
    jwtOf,
    present,
    show,
    ask,
  };
};
type World = Awaited<ReturnType<typeof world>>;

/** The reason of a refusal: `unauthenticated`, and a cause for the log alone. */
const reasonOf = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work;
    return 'accepted';
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'unauthenticated') throw error;
    expect(error.detail).toBeUndefined();
    return error.cause instanceof Error ? error.cause.message : 'no reason';
  }
};

describe('presentations', () => {
  test("a membership that holds gives its facts, asked for with the caller's own token", async () => {
    const { show, about, ask, queries, holder, verifier, resolver } = await world();
    show(membershipOf(about()));
    expect(await ask()).toEqual({
      credentials: [membershipOf(about()).id],
      validUntil: start + 86_400_000,
      memberships: [{ memberOf: about().issuer, roles: ['participant'] }],
      accreditations: [],
    });
    expect(queries).toHaveLength(1);
    expect(queries[0]?.body).toMatchObject({
      type: 'PresentationQueryMessage',
      scope: ['org.eclipse.dspace.dcp.vc.type:MembershipCredential'],
    });
    const headers = new Headers({ authorization: queries[0]?.authorization ?? '' });
    const asker = await verifySiToken(headers, { audience: holder.did, resolver, now: start });
    expect(asker).toMatchObject({ did: verifier.did, accessToken: 'access-token' });
  });

  test('who issued a credential is learnt once its signature holds, and not before', async () => {
    const { show, about, ask, learnt, state, present, jwtOf, stranger, issuer } = await world();
    const membership = membershipOf(about());
    state.shows = async () => [await present([await jwtOf(membership, stranger)])];
    expect(await reasonOf(ask())).not.toBe('accepted');
    expect(learnt).toEqual([]);
    show(membership);
    await ask();
    expect(learnt).toEqual([[membership.id, issuer.did]]);
  });

  test('one query while the result is fresh, also for many at once; another token or type asks again', async () => {
    const { show, about, ask, caller, queries } = await world();
    show(membershipOf(about()));
    await Promise.all([ask(), ask(), ask()]);
    await ask(['MembershipCredential', 'MembershipCredential']);
    expect(queries).toHaveLength(1);
    await ask(['MembershipCredential'], caller({ accessToken: 'another' }));
    expect(queries).toHaveLength(2);
    expect(await reasonOf(ask(['MembershipCredential', 'ApplicationAccreditationCredential']))).toContain(
      'Accreditation',
    );
    expect(queries).toHaveLength(3);
  });

  test('a result is kept five minutes at most, and never beyond what it rests on', async () => {
    const { show, about, ask, clock, queries } = await world();
    show(membershipOf(about()));
    await ask();
    clock.advance(299_999);
    await ask();
    expect(queries).toHaveLength(1);
    clock.advance(1);
    await ask();
    expect(queries).toHaveLength(2);
    show(membershipOf(about({ until: clock.now() + 10_000 })));
    clock.advance(300_000);
    expect(await reasonOf(ask())).toContain('has expired');
  });

  test('a result ends with the status list that it was checked against', async () => {
    const { show, about, ask, clock, queries, lists } = await world();
    lists.answer = (text) =>
      new Response(text, { headers: { 'content-type': 'application/vc+jwt', 'cache-control': 'max-age=20' } });
    show(membershipOf(about()));
    await ask();
    clock.advance(20_000);
    lists.bits.suspension = withBit(lists.bits.suspension, 94_567, true);
    expect(await reasonOf(ask())).toContain('suspended');
    expect(queries).toHaveLength(2);
  });

  test('a revocation drops what rests on it at once, status lists too; other results stay', async () => {
    const { show, about, ask, presentations, lists, queries } = await world();
    show(membershipOf(about()));
    await ask();
    presentations.forget('urn:uuid:another');
    await ask();
    expect(queries).toHaveLength(1);
    lists.bits.revocation = withBit(lists.bits.revocation, 94_567, true);
    presentations.forget(membershipOf(about()).id);
    expect(await reasonOf(ask())).toContain('revoked');
    expect(queries).toHaveLength(2);
  });

  test('what was being checked while a revocation came is not kept', async () => {
    const { about, ask, presentations, state, jwtOf, present, queries } = await world();
    state.shows = async () => {
      presentations.forget(membershipOf(about()).id);
      return [await present([await jwtOf(membershipOf(about()))])];
    };
    await ask();
    await ask();
    expect(queries).toHaveLength(2);
  });

  test('more than asked for is fine, and says nothing', async () => {
    const { show, about, ask } = await world();
    const other = accreditationOf(about({ id: 'urn:uuid:2' }));
    const expired = membershipOf(about({ id: 'urn:uuid:3', from: start - 9_000, until: start - 1 }));
    show(other, expired, membershipOf(about()));
    const facts = await ask();
    expect(facts.credentials).toEqual([membershipOf(about()).id]);
    expect(facts.accreditations).toEqual([]);
  });

  test('issuers count for their own types only', async () => {
    const { show, about, ask } = await world();
    show(membershipOf(about()), accreditationOf(about()));
    expect(await reasonOf(ask(['ApplicationAccreditationCredential']))).toContain('issuer not trusted');
  });

  test('an issuer that is not trusted is not asked for anything', async () => {
    const { state, about, ask, stranger, present, jwtOf } = await world();
    const credential = membershipOf(about({ issuer: stranger.did, list: `${stranger.origin}/status/1` }));
    state.shows = async () => [await present([await jwtOf(credential, stranger)])];
    expect(await reasonOf(ask())).toContain('issuer not trusted');
    expect(stranger.asked).toEqual([]);
  });

  test('no access token, and no credential service, are refused without a query', async () => {
    const { show, about, ask, caller, holder, queries, clock } = await world();
    show(membershipOf(about()));
    expect(await reasonOf(ask(['MembershipCredential'], caller({ accessToken: undefined })))).toContain(
      'no access token',
    );
    holder.document = buildDidDocument({ keys: holder.keys, services: {} });
    clock.advance(300_000);
    expect(await reasonOf(ask())).toContain('no credential service');
    expect(queries).toEqual([]);
  });

  const withClaims =
    ({ holder, verifier, jwtOf, about }: World, change: object, keys = holder.keys) =>
    async () => {
      const jwts = [await jwtOf(membershipOf(about()))];
      const iat = start / 1000;
      return [
        signJwt(keys.authentication, 'vp+jwt', {
          ...buildPresentation(holder.did, jwts),
          iss: holder.did,
          aud: verifier.did,
          jti: 'one',
          iat,
          exp: iat + 60,
          ...change,
        }),
      ];
    };

  test.each<[string, (its: World) => Shows, string]>([
    ['made for another verifier', (its) => withClaims(its, { aud: its.stranger.did }), 'for another verifier'],
    ['made for several', (its) => withClaims(its, { aud: [its.verifier.did, its.stranger.did] }), 'aud'],
    ['without an audience', (its) => withClaims(its, { aud: undefined }), 'aud'],
    ['expired', (its) => withClaims(its, { iat: start / 1000 - 90, exp: start / 1000 - 30 }), 'has expired'],
    ['of the future', (its) => withClaims(its, { iat: start / 1000 + 31 }), 'of the future'],
    ['not valid yet', (its) => withClaims(its, { nbf: start / 1000 + 31 }), 'of the future'],
    ['that lives too long', (its) => withClaims(its, { exp: start / 1000 + 301 }), 'lives too long'],
    ['without jti', (its) => withClaims(its, { jti: undefined }), 'jti'],
    ['of another issuer', (its) => withClaims(its, { iss: its.stranger.did }), 'of another holder'],
    ['of another holder', (its) => withClaims(its, { holder: its.stranger.did }), 'of another holder'],
    ['signed by a stranger under his own name', (its) => withClaims(its, {}, its.stranger.keys), 'signed by another'],
    [
      "signed by a stranger under the holder's key id",
      (its) =>
        withClaims(
          its,
          {},
          {
            ...its.stranger.keys,
            authentication: { ...its.stranger.keys.authentication, kid: its.holder.keys.authentication.kid },
          },
        ),
      'does not hold',
    ],
    [
      'signed with a key for something else',
      (its) => withClaims(its, {}, { ...its.holder.keys, authentication: its.holder.keys.assertion }),
      'no authentication key',
    ],
    ['empty', (its) => withClaims(its, { verifiableCredential: [] }), 'verifiableCredential'],
    [
      'of mixed kinds',
      (its) => withClaims(its, { verifiableCredential: [{ id: 'urn:x', type: 'VerifiableCredential' }] }),
      'verifiableCredential',
    ],
    [
      'with nine credentials',
      (its) => withClaims(its, buildPresentation(its.holder.did, Array(9).fill('a.b.c'))),
      'verifiableCredential',
    ],
    [
      'of the model before',
      (its) => withClaims(its, { '@context': ['https://www.w3.org/2018/credentials/v1'] }),
      '@context',
    ],
    ['as an object', () => () => [{ type: 'VerifiablePresentation' }], 'is no vp+jwt'],
    [
      'of another type of JWT',
      (its) => async () => [signJwt(its.holder.keys.authentication, 'JWT', {})],
      'is no vp+jwt',
    ],
    ['unsigned', () => () => ['eyJhbGciOiJub25lIn0.e30.'], 'is no vp+jwt'],
  ])('a presentation %s is refused', async (_name, shows, reason) => {
    const its = await world();
    its.state.shows = shows(its);
    expect(await reasonOf(its.ask())).toContain(reason);
  });

  test('a presentation counts once', async () => {
    const { about, ask, caller, state, jwtOf, present } = await world();
    const shown = await present([await jwtOf(membershipOf(about()))]);
    state.shows = () => [shown];
    await ask();
    expect(await reasonOf(ask(['MembershipCredential'], caller({ accessToken: 'another' })))).toContain('used before');
  });

  test('nine credentials in two presentations are too many', async () => {
    const { about, ask, state, jwtOf, present } = await world();
    const jwt = await jwtOf(membershipOf(about()));
    state.shows = () => Promise.all([present(Array(5).fill(jwt)), present(Array(4).fill(jwt))]);
    expect(await reasonOf(ask())).toContain('more than 8');
  });

  test.each<[string, (its: World) => Promise<string> | string, string]>([
    [
      'about another',
      ({ jwtOf, about, stranger }) => jwtOf(membershipOf(about({ subject: stranger.did }))),
      'is about another',
    ],
    [
      'signed by another than its issuer',
      ({ about, stranger, issuer }) =>
        issueAsJwt(membershipOf(about()), { ...stranger.keys.assertion, kid: issuer.keys.assertion.kid }),
      'does not hold',
    ],
    [
      'signed by the holder for the issuer',
      ({ about, holder, issuer }) =>
        issueAsJwt(membershipOf(about()), { ...holder.keys.authentication, kid: issuer.keys.assertion.kid }),
      'does not hold',
    ],
    [
      'expired',
      ({ jwtOf, about }) => jwtOf(membershipOf(about({ from: start - 2_000, until: start - 1 }))),
      'has expired',
    ],
    ['not yet valid', ({ jwtOf, about }) => jwtOf(membershipOf(about({ from: start + 61_000 }))), 'not valid yet'],
    [
      'that violates its schema',
      ({ about, issuer }) =>
        signJwt(issuer.keys.assertion, 'vc+jwt', { ...membershipOf(about()), credentialSubject: {} }),
      'credentialSubject',
    ],
    [
      'whose status list is not there',
      ({ jwtOf, about, issuer }) => jwtOf(membershipOf(about({ list: `${issuer.origin}/none` }))),
      'answered with 404',
    ],
    [
      'whose status list is on a private address',
      ({ jwtOf, about }) => jwtOf(membershipOf(about({ list: 'https://10.0.0.1/x' }))),
      'cannot be had',
    ],
    [
      'whose status entry lies outside the list',
      ({ jwtOf, about }) => jwtOf(membershipOf(about({ index: 131_072 }))),
      'no such entry',
    ],
    ['of rubbish', () => 'a.b.c', 'is no JWT'],
  ])('a credential %s is refused', async (_name, make, reason) => {
    const its = await world();
    its.state.shows = async () => [await its.present([await make(its)])];
    expect(await reasonOf(its.ask())).toContain(reason);
  });

  test('revoked and suspended are told apart', async () => {
    const { about, ask, lists, show } = await world();
    lists.bits.suspension = withBit(lists.bits.suspension, 7, true);
    lists.bits.revocation = withBit(lists.bits.revocation, 8, true);
    for (const [index, reason] of [
      [7, 'suspended'],
      [8, 'revoked'],
      [9, 'accepted'],
    ] as const) {
      show(membershipOf(about({ index })));
      expect(await reasonOf(ask())).toContain(reason);
    }
  });

  test.each<[string, (body: object) => Response, string]>([
    ['401', () => new Response(null, { status: 401 }), 'answered 401'],
    [
      'a redirect',
      () => new Response(null, { status: 307, headers: { location: 'http://localhost:1/' } }),
      'answered 307',
    ],
    ['no JSON', () => new Response('no'), 'cannot be asked'],
    ['another message', () => Response.json(dcpMessage('CredentialMessage', {})), 'no presentation response'],
    [
      'nothing',
      () => Response.json(dcpMessage('PresentationResponseMessage', { presentation: [] })),
      'no MembershipCredential',
    ],
    ['an endless body', () => new Response('x'.repeat(2 << 20)), 'cannot be asked'],
  ])('a credential service that answers %s refuses the caller', async (_name, answer, reason) => {
    const its = await world();
    its.state.answer = answer;
    expect(await reasonOf(its.ask())).toContain(reason);
  });

  test('a failure is not kept: the next request asks again', async () => {
    const { state, show, about, ask, queries } = await world();
    state.answer = () => new Response(null, { status: 503 });
    expect(await reasonOf(ask())).toContain('503');
    state.answer = undefined;
    show(membershipOf(about()));
    await ask();
    expect(queries).toHaveLength(4);
  });

  test('one process of several that cannot answer now refuses nobody', async () => {
    const { state, show, about, ask, queries } = await world();
    show(membershipOf(about()));
    state.answer = () => {
      state.answer = undefined;
      return new Response(null, { status: 503 });
    };
    await ask();
    expect(queries).toHaveLength(2);
  });
});
