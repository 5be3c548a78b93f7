import type { Hono } from 'hono';
import type { Kysely } from 'kysely';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { scopeOfType } from '../../contracts/dcp/scope.ts';
import { dspaceContext } from '../../contracts/dsp/common.ts';
import type { Did } from '../../contracts/ids.ts';
import { withBit } from '../../contracts/vc/status-list.ts';
import { createAuthenticator } from '../../kernel/auth.ts';
import { silentLogger } from '../../kernel/log.ts';
import { systemRandom, uuidV7 } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { sqlUsedTokens, type UsedTokenTable } from '../../kernel/sql/used-tokens.ts';
import {
  createNetwork,
  eventually,
  type Party,
  providerKey,
  rainOffer,
  startParty,
  tenant,
} from '../../test/support/dsp-pair.ts';
import { membershipOf, start } from '../../test/support/identities.ts';
import { delivery, type IssuerSite, startIssuerSite } from '../../test/support/issuer-site.ts';
import { shiftedClock } from '../../test/support/log-bench.ts';
import { openCursors, visibleWhen } from '../../test/support/visibility.ts';
import { startWalletSite, type WalletSite } from '../../test/support/wallet-site.ts';
import { createSqlCatalogStore } from '../adapters/sql/catalog-store.ts';
import { type CatalogTables, catalogMigrations } from '../adapters/sql/catalog-tables.ts';
import { createCatalogRoutes } from '../catalog/routes.ts';
import { createCatalog } from '../catalog/service.ts';
import { createCallerAuthentication, createPartyAuthentication } from './authentication.ts';

const clock = shiftedClock(start);
let broker: IssuerSite;
let member: WalletSite;
let outsider: WalletSite;
let provider: WalletSite;
let party: Party;
let membership = '';
let catalog: Hono;
const rows = openSqlite<CatalogTables>({ path: ':memory:' });

/** Gives a wallet its membership: asked for, and delivered. */
const join = async (site: WalletSite, index: number): Promise<string> => {
  const request = await site.requests.request(tenant, { issuer: broker.did, type: 'MembershipCredential' });
  const taken = await eventually(
    async () => broker.taken.find(({ message }) => message.holderPid === request.holderPid),
    (one) => one !== undefined,
  );
  const credential = membershipOf({
    issuer: broker.did,
    subject: site.did,
    list: `${broker.site.origin}/status/1`,
    id: newId(),
    index,
  });
  const message = delivery(request.holderPid, [await broker.jwtOf(credential)]);
  expect(await broker.send(`${site.site.origin}/dcp/credentials`, message, taken?.token)).toBe(200);
  return credential.id;
};

beforeAll(async () => {
  const trustedIssuers = () => [broker.did];
  broker = await startIssuerSite(3, clock);
  member = await startWalletSite({ byte: 13, clock, trustedIssuers });
  outsider = await startWalletSite({ byte: 23, clock, trustedIssuers });
  provider = await startWalletSite({ byte: 33, clock, trustedIssuers });
  const authenticate = (db: unknown) => {
    const used = sqlUsedTokens(db as Kysely<UsedTokenTable>); // the process tables have that table too
    const authenticator = createAuthenticator({ did: provider.did, resolver: provider.resolver, clock, used });
    return createCallerAuthentication({
      authenticator: () => authenticator,
      presentations: () => provider.presentations,
      peers: provider.peers,
      used,
      broker: broker.did,
    });
  };
  party = await startParty(createNetwork(), {
    name: 'provider',
    key: providerKey,
    offers: [rainOffer],
    decide: () => ({ do: 'wait' }),
    clock,
    authenticate,
  });
  membership = await join(member, 1);
  await migrate(rows.db, 'catalog', catalogMigrations);
  const service = createCatalog({
    store: createSqlCatalogStore(rows.db),
    clock,
    newId,
    seal: { seal: (text) => text },
    cursors: openCursors,
    visibility: visibleWhen(() => true),
    self: () => ({ did: provider.did, base: party.base, title: 'Provider' }),
    checkUpstream: () => undefined,
    checkPath: async () => undefined,
    template: () => undefined,
    policyFaults: () => [],
  });
  const routes = { log: silentLogger, participantOf: () => tenant, base: () => party.base };
  catalog = createCatalogRoutes(service, { ...routes, authenticate: provider.authenticate });
});
afterAll(async () => {
  for (const one of [party, member, outsider, provider, broker, rows]) await one[Symbol.asyncDispose]();
});

const newId = () => `urn:uuid:${uuidV7(clock.now(), systemRandom)}`;
const tokenOf = (site: Pick<WalletSite, 'tokens'>) =>
  site.tokens.tokenFor({ audience: provider.did, scopes: [scopeOfType('MembershipCredential')] });

const contractRequest = (id = newId()) => ({
  '@context': [dspaceContext],
  '@type': 'ContractRequestMessage',
  '@id': id,
  consumerPid: newId(),
  callbackAddress: 'https://consumer.example/dsp/2025-1',
  offer: { '@type': 'Offer', '@id': rainOffer.id, target: rainOffer.dataset, ...rainOffer.rules },
});

const call = async (app: Hono, path: string, authorization: string, body?: object) => {
  const method = body === undefined ? 'GET' : 'POST';
  const response = await app.fetch(
    new Request(`https://provider.example${path}`, {
      method,
      headers: { authorization, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }),
  );
  const text = await response.text();
  return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
};
const request = (authorization: string, body: object = contractRequest()) =>
  call(party.app, '/dsp/2025-1/negotiations/request', authorization, body);
const requestCatalog = (authorization: string) =>
  call(catalog, '/catalog/request', authorization, { '@context': [dspaceContext], '@type': 'CatalogRequestMessage' });

/** On the paths of processes nobody can tell a bad token from a process that is not there (dsp §8). */
const hidden = 404;

describe('callers of protocol paths', () => {
  test('a member is let in, and what it proved is remembered', async () => {
    expect((await request(tokenOf(member))).status).toBe(201);
    expect(await provider.peers.of(tenant, member.did)).toMatchObject({
      credentials: [membership],
      memberships: [{ memberOf: broker.did, roles: ['participant'] }],
    });
  });

  test('who shows no membership is refused in the form of the surface', async () => {
    expect(await request(tokenOf(outsider))).toMatchObject({
      status: hidden,
      body: { '@type': 'ContractNegotiationError', code: 'not-found' },
    });
    expect(await requestCatalog(tokenOf(outsider))).toMatchObject({ status: 401, body: { '@type': 'CatalogError' } });
    const bare = outsider.tokens.tokenFor({ audience: provider.did });
    expect((await requestCatalog(bare)).status).toBe(401);
    expect(await provider.peers.of(tenant, outsider.did)).toBeUndefined();
  });

  test('without a broker nobody has a membership to show, and the token is enough', async () => {
    const alone = createCallerAuthentication({
      authenticator: () => provider.authenticator,
      presentations: () => provider.presentations,
      peers: provider.peers,
      used: { claim: async () => true },
      broker: undefined,
    });
    const headers = new Headers({ authorization: outsider.tokens.tokenFor({ audience: provider.did }) });
    expect(await alone(tenant, headers, 'read')).toEqual({ did: outsider.did });
  });

  test('a party of an agreement settles with its token alone, which counts once', async () => {
    const used = new Set<string>();
    const party = createPartyAuthentication({
      authenticator: () => provider.authenticator,
      used: { claim: async ({ jti }) => !used.has(jti) && used.add(jti) !== undefined },
    });
    const headers = new Headers({ authorization: outsider.tokens.tokenFor({ audience: provider.did }) });
    expect(await party(tenant, headers, 'read')).toEqual({ did: outsider.did });
    await expect(party(tenant, headers, 'read')).rejects.toThrow(expect.objectContaining({ code: 'unauthenticated' }));
  });

  test('the configured broker is known without credentials', async () => {
    const authenticate = createCallerAuthentication({
      authenticator: () => provider.authenticator,
      presentations: () => provider.presentations,
      peers: provider.peers,
      used: { claim: async () => true },
      broker: broker.did,
    });
    const headers = () => new Headers({ authorization: broker.tokens.tokenFor({ audience: provider.did }) });
    expect(await authenticate(tenant, headers(), 'read')).toEqual({ did: broker.did });
    await expect(provider.authenticate(tenant, headers(), 'read')).rejects.toMatchObject({ code: 'unauthenticated' });
  });

  test('a revoked membership is refused, and forgotten', async () => {
    const revoked = await startWalletSite({ byte: 43, clock, trustedIssuers: () => [broker.did] });
    try {
      const id = await join(revoked, 7);
      expect((await request(tokenOf(revoked))).status).toBe(201);
      broker.lists.bits.revocation = withBit(broker.lists.bits.revocation, 7, true);
      provider.presentations.forget(id);
      await provider.peers.forgetCredential(id);
      expect((await request(tokenOf(revoked))).status).toBe(hidden);
      expect(await provider.peers.of(tenant, revoked.did)).toBeUndefined();
      expect((await request(tokenOf(member))).status).toBe(201);
    } finally {
      await revoked[Symbol.asyncDispose]();
    }
  });
});

describe('a token of a caller', () => {
  let pid = '';
  beforeAll(async () => {
    pid = (await request(tokenOf(member))).body.providerPid;
  });
  const ways: [string, number, (authorization: string) => Promise<{ status: number }>][] = [
    ['a catalog request', 401, requestCatalog],
    ['a question for a process', hidden, (token) => call(party.app, `/dsp/2025-1/negotiations/${pid}`, token)],
    ['a question for an agreement', 401, (token) => call(party.app, '/ext/1/agreements/none/draft', token)],
    ['a message', hidden, request],
  ];

  test.each(ways)('counts once for %s, also in parallel', async (_name, refused, ask) => {
    const authorization = tokenOf(member);
    const statuses = await Promise.all(Array.from({ length: 12 }, async () => (await ask(authorization)).status));
    expect(statuses.filter((status) => status !== refused)).toHaveLength(1);
    expect((await ask(authorization)).status).toBe(refused);
    expect((await ask(tokenOf(member))).status).not.toBe(refused);
  });

  test('counts once for reading and for messages together', async () => {
    const authorization = tokenOf(member);
    const show = () => call(party.app, `/dsp/2025-1/negotiations/${pid}`, authorization);
    const answers = await Promise.all([show(), request(authorization), show(), request(authorization)]);
    expect(answers.filter(({ status }) => status !== hidden)).toHaveLength(1);
  });

  test('is used up by a repeated message too: the repeat needs a fresh one, and gets the same answer', async () => {
    const body = contractRequest();
    const first = await request(tokenOf(member), body);
    expect(first.status).toBe(201);
    const again = tokenOf(member);
    expect(await request(again, body)).toEqual(first);
    expect((await request(again, body)).status).toBe(hidden);
    const { '@id': _id, ...withoutId } = body;
    const third = tokenOf(member);
    expect((await request(third, withoutId)).body.providerPid).toBe(first.body.providerPid);
    expect((await request(third, withoutId)).status).toBe(hidden);
  });

  test('is not used up by a message that is refused: its sender may try again', async () => {
    const authorization = tokenOf(member);
    expect((await request(authorization, { ...contractRequest(), callbackAddress: undefined })).status).toBe(400);
    expect((await request(authorization)).status).toBe(201);
  });

  test('of another verifier is refused', async () => {
    const elsewhere = member.tokens.tokenFor({ audience: 'did:web:elsewhere.example' as Did, scopes: [] });
    for (const [, refused, ask] of ways) expect((await ask(elsewhere)).status).toBe(refused);
  });
});
