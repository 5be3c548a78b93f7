import { afterEach, describe, expect, test } from 'vitest';
import { createLedgerRoutes } from '../../broker/ledger/routes.ts';
import type { Ledger } from '../../broker/ledger/service.ts';
import type { PeerTransport } from '../../connector/exchange/ports.ts';
import { toHex, utf8 } from '../../contracts/bytes.ts';
import { scopeOfType } from '../../contracts/dcp/scope.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did } from '../../contracts/ids.ts';
import { jwsText } from '../../contracts/ledger/jws.ts';
import { readPublicArtifact } from '../../contracts/ledger/public-entries.ts';
import { withBit } from '../../contracts/vc/status-list.ts';
import { createAuthenticator } from '../../kernel/auth.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { createDidResolver } from '../../kernel/did.ts';
import { createGuardedClient } from '../../kernel/http/client.ts';
import { silentLogger } from '../../kernel/log.ts';
import { systemRandom, uuidV7 } from '../../kernel/random.ts';
import { eventually } from '../support/dsp-pair.ts';
import { membershipOf, start } from '../support/identities.ts';
import { delivery, type IssuerSite, startIssuerSite } from '../support/issuer-site.ts';
import { logBench, shiftedClock } from '../support/log-bench.ts';
import { startWalletSite, tenant, type WalletSite } from '../support/wallet-site.ts';

const clock = shiftedClock(start);
const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});
const keep = <One extends AsyncDisposable>(one: One): One => {
  open.push(async () => one[Symbol.asyncDispose]());
  return one;
};

/** A broker: the real log over HTTP, and an issuer. */
const startBroker = async () => {
  const issuer = keep(await startIssuerSite(3, clock));
  const client = keep(createGuardedClient({ allowLoopbackHttp: true }));
  const resolver = createDidResolver({ client, clock, allowLoopbackHttp: true });
  const fetchDidDocument = async (did: string) => (await resolver.refresh(did as Did))?.text;
  const ledger = await logBench({ changes: { fetchDidDocument } }).start();
  open.push(() => ledger.close());
  const authenticator = createAuthenticator({ did: issuer.did, resolver, clock, used: { claim: async () => true } });
  const authenticate = async (request: Request) => (await authenticator.authenticate(request.headers)).did;
  issuer.site.app.route('/', createLedgerRoutes({ ledger, authenticate, log: silentLogger }));
  return { issuer, ledger, address: { did: issuer.did, root: issuer.site.origin } };
};

const startMember = async (byte: number, issuer: IssuerSite, network?: (transport: PeerTransport) => PeerTransport) =>
  keep(
    await startWalletSite({
      byte,
      clock,
      trustedIssuers: () => [issuer.did],
      ...(network === undefined ? {} : { network }),
    }),
  );

/** What the log says of the key event that a member stored. */
const inLog = async (ledger: Ledger, member: WalletSite, broker: Did) => {
  const record = await member.joins.find(tenant, broker);
  if (record === undefined) return undefined;
  return ledger.publicArtifact(toHex(nodeCrypto.sha256(utf8(jwsText(record.artifact)))));
};

/** Answers the request for a membership, as the broker does once it has decided. */
const deliverMembership = async (issuer: IssuerSite, member: WalletSite, index: number): Promise<string> => {
  const taken = await eventually(
    async () => issuer.taken.find(({ holder }) => holder === member.did),
    (one) => one !== undefined,
  );
  const id = `urn:uuid:${uuidV7(clock.now(), systemRandom)}`;
  const list = `${issuer.site.origin}/status/1`;
  const credential = membershipOf({ issuer: issuer.did, subject: member.did, list, id, index });
  const message = delivery(taken?.message.holderPid ?? '', [await issuer.jwtOf(credential)]);
  expect(await issuer.send(`${member.site.origin}/dcp/credentials`, message, taken?.token)).toBe(200);
  return id;
};

describe('joining a broker', () => {
  test('puts our keys into the log, brings a membership, and others recognise it', async () => {
    const { issuer, ledger, address } = await startBroker();
    const alice = await startMember(13, issuer);
    const bob = await startMember(23, issuer);
    for (const member of [alice, bob]) {
      const request = await member.joining.join(tenant, address, await ledger.issueJoinCode(member.did, 60_000));
      expect(request).toMatchObject({ issuer: issuer.did, type: 'MembershipCredential', status: 'OPEN' });
    }
    const event = readPublicArtifact(JSON.parse((await inLog(ledger, alice, issuer.did)) ?? 'null'));
    expect(event.ok && event.value.kind === 'key-event' && event.value.value).toMatchObject({
      did: alice.did,
      event: 'introduce',
      seq: '1',
      prev: null,
      document: JSON.stringify(alice.site.document),
    });
    const id = await deliverMembership(issuer, alice, 1);
    await deliverMembership(issuer, bob, 2);

    const scopes = [scopeOfType('MembershipCredential')];
    const call = async () => {
      const authorization = alice.tokens.tokenFor({ audience: bob.did, scopes });
      return bob.authenticate(tenant, new Headers({ authorization }), 'read');
    };
    expect(await call()).toEqual({ did: alice.did });
    expect(await bob.peers.of(tenant, alice.did)).toMatchObject({ credentials: [id] });
    const queries = () => alice.site.asked.filter((path) => path.endsWith('/presentations/query')).length;
    await call();
    expect(queries()).toBe(1);

    issuer.lists.bits.suspension = withBit(issuer.lists.bits.suspension, 1, true);
    bob.presentations.forget(id);
    await expect(call()).rejects.toMatchObject({ code: 'unauthenticated' });
  });

  test('a repeat after a lost answer succeeds, and the log has one event', async () => {
    const { issuer, ledger, address } = await startBroker();
    let lose = 1;
    const member = await startMember(13, issuer, (transport) => ({
      ...transport,
      post: async (message) => {
        const answer = await transport.post(message);
        lose -= 1;
        if (lose >= 0) throw new AppError('fetch-failed', { detail: 'the answer was lost' });
        return answer;
      },
    }));
    const code = await ledger.issueJoinCode(member.did, 60_000);
    await expect(member.joining.join(tenant, address, code)).rejects.toMatchObject({ code: 'fetch-failed' });
    const first = await inLog(ledger, member, issuer.did);
    expect(first).toBeDefined();
    await member.joining.join(tenant, address, code);
    expect(await inLog(ledger, member, issuer.did)).toBe(first);
    expect((await member.joins.find(tenant, issuer.did))?.registeredAt).not.toBeNull();
    await member.joining.join(tenant, address, 'any code: it is done');
    expect(await member.store.read.requests(tenant, 10)).toHaveLength(1);
  });

  test('also when our document changed in between', async () => {
    const { issuer, ledger, address } = await startBroker();
    let isLost = true;
    const member = await startMember(13, issuer, (transport) => ({
      ...transport,
      post: async (message) => {
        const answer = await transport.post(message);
        if (isLost) throw new AppError('fetch-failed', { detail: 'the answer was lost' });
        return answer;
      },
    }));
    const code = await ledger.issueJoinCode(member.did, 60_000);
    await expect(member.joining.join(tenant, address, code)).rejects.toMatchObject({ code: 'fetch-failed' });
    isLost = false;
    member.site.document = { ...member.site.document, alsoKnownAs: [] };
    await member.joining.join(tenant, address, code);
    expect(await member.joins.find(tenant, issuer.did)).toMatchObject({ isReplaced: true });
    expect((await member.joins.find(tenant, issuer.did))?.registeredAt).not.toBeNull();
  });

  test("a wrong code, and the code of another, are refused with the broker's words; the right one still works", async () => {
    const { issuer, ledger, address } = await startBroker();
    const member = await startMember(13, issuer);
    const other = await startMember(23, issuer);
    const theirs = await ledger.issueJoinCode(other.did, 60_000);
    for (const code of ['wrong', theirs]) {
      await expect(member.joining.join(tenant, address, code)).rejects.toMatchObject({
        code: 'forbidden',
        detail: expect.stringContaining('the broker answered 403'),
      });
    }
    expect(issuer.taken).toEqual([]);
    expect(await inLog(ledger, member, issuer.did)).toBeUndefined();
    await member.joining.join(tenant, address, await ledger.issueJoinCode(member.did, 60_000));
    expect(await inLog(ledger, member, issuer.did)).toBeDefined();
  });

  test('a document that is not the one we serve is refused', async () => {
    const { issuer, ledger, address } = await startBroker();
    const member = await startMember(13, issuer, (transport) => ({
      ...transport,
      post: async (message) => {
        member.site.document = { ...member.site.document, alsoKnownAs: ['x'] };
        return transport.post(message);
      },
    }));
    const code = await ledger.issueJoinCode(member.did, 60_000);
    await expect(member.joining.join(tenant, address, code)).rejects.toMatchObject({ code: 'entry-refused' });
  });

  test('a broker that is not there is asked again later', async () => {
    const { issuer, address } = await startBroker();
    const member = await startMember(13, issuer);
    const nowhere = { did: 'did:web:localhost%3A9' as Did, root: 'http://localhost:9' };
    await expect(member.joining.join(tenant, nowhere, 'x')).rejects.toMatchObject({ code: 'fetch-failed' });
    expect((await member.joins.find(tenant, nowhere.did))?.registeredAt).toBeNull();
    expect(await member.joins.find(tenant, address.did)).toBeUndefined();
  });
});
