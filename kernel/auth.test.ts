import { createHmac } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toBase64Url, utf8 } from '../contracts/bytes.ts';
import { AppError } from '../contracts/errors.ts';
import type { Did } from '../contracts/ids.ts';
import { keysOf, start } from '../test/support/identities.ts';
import { type Site, startSite } from '../test/support/sites.ts';
import { createAuthenticator, createTokenService } from './auth.ts';
import { manualClock } from './clock.ts';
import { buildDidDocument, createDidResolver } from './did.ts';
import { createGuardedClient } from './http/client.ts';
import { readJwt, signJwt } from './jwt.ts';
import type { SigningKey } from './keys.ts';
import { seededRandom } from './random.ts';
import { migrate } from './sql/migrate.ts';
import { openSqlite } from './sql/sqlite.ts';
import { forgetUsedTokens, sqlUsedTokens, type UsedTokenTable, usedTokenMigrations } from './sql/used-tokens.ts';

let caller: Site;
let stranger: Site;
const us = 'did:web:verifier.example' as Did;
const client = createGuardedClient({ allowLoopbackHttp: true });
const database = openSqlite<UsedTokenTable>({ path: ':memory:' });

beforeAll(async () => {
  await migrate(database.db, 'used-tokens', usedTokenMigrations);
  caller = await startSite({ byte: 3 });
  stranger = await startSite({ byte: 9 });
});
afterAll(async () => {
  for (const one of [client, caller, stranger, database]) await one[Symbol.asyncDispose]();
});

const authenticator = (now = start, allowLoopbackHttp = true) => {
  const clock = manualClock(now);
  const resolver = createDidResolver({ client, clock, allowLoopbackHttp });
  return createAuthenticator({ did: us, resolver, clock, used: sqlUsedTokens(database.db) });
};

const seconds = start / 1000;
let count = 0;
const claims = (change: object = {}) => {
  count += 1;
  const jti = `jti-${count}`;
  return { iss: caller.did, sub: caller.did, aud: us, jti, iat: seconds, exp: seconds + 60, ...change };
};
const token = (change: object = {}, key: SigningKey = caller.keys.authentication) =>
  signJwt(key, 'JWT', claims(change));
const bearer = (text: string) => new Headers({ authorization: `Bearer ${text}` });

const rawToken = (header: object, sign: (input: Uint8Array) => Uint8Array = caller.keys.authentication.sign) => {
  const part = (value: object) => toBase64Url(utf8(JSON.stringify(value)));
  const input = `${part(header)}.${part(claims())}`;
  return `${input}.${toBase64Url(sign(utf8(input)))}`;
};
const { kid: strangeKid } = keysOf('did:web:other.example', 9).authentication;

const reasonOf = async (headers: Headers, now = start): Promise<string> => {
  try {
    await authenticator(now).authenticate(headers);
    return 'accepted';
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'unauthenticated') throw error;
    expect(error.detail).toBeUndefined(); // the caller learns nothing but that
    return error.cause instanceof Error ? error.cause.message : 'no reason';
  }
};

/** Serves another document for a while. */
const withDocument = async <Value>(document: object, work: () => Promise<Value>): Promise<Value> => {
  const before = caller.document;
  caller.document = document;
  try {
    return await work();
  } finally {
    caller.document = before;
  }
};

describe('self-issued tokens', () => {
  test('a token made by the token service is accepted, once', async () => {
    const clock = manualClock(start);
    const service = createTokenService({ keys: caller.keys, clock, random: seededRandom('auth') });
    const headers = new Headers({
      authorization: service.tokenFor({ audience: us, scopes: ['a:b'], jkt: 'x'.repeat(43) }),
    });
    const got = await authenticator().authenticate(headers);
    expect(got).toMatchObject({ did: caller.did, jkt: 'x'.repeat(43) });
    expect(service.readAccessToken(got.accessToken, us)).toEqual(['a:b']);
    expect(await reasonOf(headers)).toBe('jti used before');
  });

  test('of parallel requests with one jti exactly one wins', async () => {
    const headers = bearer(token());
    const results = await Promise.all(Array.from({ length: 20 }, () => reasonOf(headers)));
    expect(results.filter((reason) => reason === 'accepted')).toHaveLength(1);
    expect(new Set(results)).toEqual(new Set(['accepted', 'jti used before']));
  });

  test('a jti stays used until its token is out of date everywhere', async () => {
    const text = token({ jti: 'kept' });
    expect(await reasonOf(bearer(text))).toBe('accepted');
    await forgetUsedTokens(database.db, start + 89_999);
    expect(await reasonOf(bearer(text), start + 89_000)).toBe('jti used before');
    await forgetUsedTokens(database.db, start + 90_001);
    expect(await reasonOf(bearer(text), start + 90_000)).toBe('expired');
  });

  test.each<[string, () => Headers, string]>([
    ['no Authorization', () => new Headers(), 'not exactly one bearer'],
    ['another scheme', () => new Headers({ authorization: `DPoP ${token()}` }), 'not exactly one bearer'],
    ['no scheme', () => new Headers({ authorization: token() }), 'not exactly one bearer'],
    [
      'two headers',
      () => {
        const headers = bearer(token());
        headers.append('authorization', `Bearer ${token()}`);
        return headers;
      },
      'not exactly one bearer',
    ],
    ['no JWT', () => bearer('abc'), 'no compact JWS'],
    ['an endless token', () => bearer('a'.repeat(20_000)), 'not exactly one bearer'],
    ['iss and sub that differ', () => bearer(token({ sub: stranger.did })), 'iss and sub differ'],
    ['an iss that is no DID', () => bearer(token({ iss: 'x', sub: 'x' })), 'claims: iss'],
    ['the audience of another', () => bearer(token({ aud: stranger.did })), 'aud is somebody else'],
    ['no audience', () => bearer(token({ aud: undefined })), 'claims: aud'],
    ['a token of the past', () => bearer(token({ iat: seconds - 90, exp: seconds - 30 })), 'expired'],
    ['nbf in the future', () => bearer(token({ nbf: seconds + 31 })), 'of the future'],
    ['iat in the future', () => bearer(token({ iat: seconds + 31, exp: seconds + 60 })), 'of the future'],
    ['a life of more than five minutes', () => bearer(token({ exp: seconds + 301 })), 'lives too long'],
    ['no exp', () => bearer(token({ exp: undefined })), 'claims: exp'],
    ['no iat', () => bearer(token({ iat: undefined })), 'claims: iat'],
    ['no jti', () => bearer(token({ jti: undefined })), 'claims: jti'],
    [
      'a wrong key under a right kid',
      () => bearer(token({}, { ...stranger.keys.authentication, kid: caller.keys.authentication.kid })),
      'signature',
    ],
    [
      'a kid of another DID',
      () => bearer(token({}, { ...caller.keys.authentication, kid: strangeKid })),
      'kid of another DID',
    ],
    [
      'an unknown kid',
      () => bearer(token({}, { ...caller.keys.authentication, kid: `${caller.did}#x` })),
      'no such key',
    ],
    ['a key without the relationship', () => bearer(token({}, caller.keys.assertion)), 'no such key'],
    ['algorithm none', () => bearer(rawToken({ alg: 'none', kid: caller.keys.authentication.kid })), 'no compact JWS'],
    [
      'an HMAC with the public key',
      () =>
        bearer(
          rawToken({ alg: 'HS256', kid: caller.keys.authentication.kid }, (input) =>
            createHmac('sha256', caller.keys.authentication.spki).update(input).digest(),
          ),
        ),
      'no compact JWS',
    ],
    [
      'an algorithm that does not fit the key',
      () => bearer(rawToken({ alg: 'EdDSA', kid: caller.keys.authentication.kid })),
      'signature',
    ],
    [
      'a key in the header',
      () => bearer(rawToken({ alg: 'ES256', kid: caller.keys.authentication.kid, jwk: {} })),
      'no compact JWS',
    ],
    [
      'a critical header',
      () => bearer(rawToken({ alg: 'ES256', kid: caller.keys.authentication.kid, crit: ['x'] })),
      'no compact JWS',
    ],
    [
      'a DID whose document is not there',
      () =>
        bearer(
          token(
            { iss: 'did:web:localhost%3A9', sub: 'did:web:localhost%3A9' },
            { ...caller.keys.authentication, kid: 'did:web:localhost%3A9#x' },
          ),
        ),
      'no such key',
    ],
    [
      'a DID on a private address',
      () =>
        bearer(
          token(
            { iss: 'did:web:10.0.0.1', sub: 'did:web:10.0.0.1' },
            { ...caller.keys.authentication, kid: 'did:web:10.0.0.1#x' },
          ),
        ),
      'no such key',
    ],
  ])('%s is refused', async (_name, make, reason) => {
    expect(await reasonOf(make())).toContain(reason);
  });

  test('the clock may differ by 30 s, not more', async () => {
    expect(await reasonOf(bearer(token()), start + 89_999)).toBe('accepted');
    expect(await reasonOf(bearer(token()), start + 90_000)).toBe('expired');
    expect(await reasonOf(bearer(token()), start - 30_000)).toBe('accepted');
    expect(await reasonOf(bearer(token()), start - 30_001)).toBe('of the future');
  });

  test('without kid the only key counts, and of two none', async () => {
    expect(await reasonOf(bearer(rawToken({ alg: 'ES256' })))).toBe('accepted');
    const document = buildDidDocument({ keys: caller.keys, services: {} });
    const two = { ...document, capabilityInvocation: [...document.capabilityInvocation, caller.keys.keyAgreement.kid] };
    expect(await withDocument(two, () => reasonOf(bearer(rawToken({ alg: 'ES256' }))))).toContain('no such key');
  });

  test.each<[string, (document: ReturnType<typeof buildDidDocument>) => object]>([
    ['that lost the key', (document) => ({ ...document, verificationMethod: document.verificationMethod.slice(1) })],
    ['that lost the relationship', (document) => ({ ...document, capabilityInvocation: [] })],
    ['of another', (document) => ({ ...document, id: stranger.did })],
    [
      'with the key twice',
      (document) => ({
        ...document,
        verificationMethod: [...document.verificationMethod, document.verificationMethod[0]],
      }),
    ],
    [
      'whose key belongs to another',
      (document) => ({
        ...document,
        verificationMethod: document.verificationMethod.map((one) => ({ ...one, controller: stranger.did })),
      }),
    ],
    ['that is too large', (document) => ({ ...document, filler: 'x'.repeat(70_000) })],
    [
      'with an expired key',
      (document) => ({
        ...document,
        verificationMethod: document.verificationMethod.map((one) => ({ ...one, expires: '2020-01-01T00:00:00Z' })),
      }),
    ],
  ])('a document %s gives no key', async (_name, change) => {
    const document = change(buildDidDocument({ keys: caller.keys, services: {} }));
    expect(await withDocument(document, () => reasonOf(bearer(token())))).toContain('no such key');
  });

  test('plain HTTP on localhost counts only where it is allowed', async () => {
    await expect(authenticator(start, false).authenticate(bearer(token()))).rejects.toMatchObject({
      code: 'unauthenticated',
    });
  });
});

describe('access tokens to our credentials', () => {
  const service = (
    clock = manualClock(start),
    consent?: (audience: Did, scopes: readonly string[]) => readonly string[],
  ) =>
    createTokenService({
      keys: caller.keys,
      clock,
      random: seededRandom('access'),
      ...(consent === undefined ? {} : { consent }),
    });

  test('the same one for four minutes, for the same audience and scopes in whatever order', () => {
    const clock = manualClock(start);
    const tokens = service(clock);
    const first = tokens.accessTokenFor(us, ['a:b', 'c:d']);
    clock.advance(239_999);
    expect(tokens.accessTokenFor(us, ['c:d', 'a:b', 'a:b'])).toBe(first);
    expect(readJwt(tokens.tokenFor({ audience: us, scopes: ['a:b', 'c:d'] }).slice(7))?.claims.token).toBe(first);
    expect(tokens.accessTokenFor(us, ['a:b'])).not.toBe(first);
    expect(tokens.accessTokenFor(stranger.did, ['a:b', 'c:d'])).not.toBe(first);
    clock.advance(1);
    expect(tokens.accessTokenFor(us, ['a:b', 'c:d'])).not.toBe(first);
    expect(tokens.readAccessToken(first, us)).toEqual(['a:b', 'c:d']);
    clock.advance(60_000);
    expect(tokens.readAccessToken(first, us)).toBeUndefined();
  });

  test('a clock that jumps back does not stretch the time', () => {
    const clock = manualClock(start);
    const tokens = service(clock);
    const first = tokens.accessTokenFor(us, []);
    clock.advance(-3_600_000);
    expect(tokens.accessTokenFor(us, [])).not.toBe(first);
  });

  test('is bound to its audience, and to us', () => {
    const text = service().accessTokenFor(us, ['a:b']);
    expect(service().readAccessToken(text, stranger.did)).toBeUndefined();
    expect(service().readAccessToken(undefined, us)).toBeUndefined();
    const theirs = createTokenService({ keys: stranger.keys, clock: manualClock(start), random: seededRandom('x') });
    expect(theirs.readAccessToken(text, us)).toBeUndefined();
    const other = signJwt(caller.keys.authentication, 'stekker-dcp-access+jwt', readJwt(text)?.claims ?? {});
    expect(service().readAccessToken(other, us)).toBeUndefined();
    expect(service().readAccessToken(token({ scope: 'a:b' }), us)).toBeUndefined();
  });

  test('holds what the operator consents to, and never more than was asked for', () => {
    const consent = (audience: Did) => (audience === us ? ['a:b', 'x:y'] : []);
    const tokens = service(manualClock(start), consent);
    expect(tokens.readAccessToken(tokens.accessTokenFor(us, ['a:b', 'c:d']), us)).toEqual(['a:b']);
    expect(tokens.readAccessToken(tokens.accessTokenFor(stranger.did, ['a:b']), stranger.did)).toEqual([]);
  });
});
