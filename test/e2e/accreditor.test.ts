import { afterEach, describe, expect, test } from 'vitest';
import { issuerMetadata } from '../../contracts/dcp/messages.ts';
import { readStandingNotice } from '../../contracts/events.ts';
import { isDid } from '../../contracts/ids.ts';
import { accreditationCredential } from '../../contracts/vc/credential.ts';
import { readJwt } from '../../kernel/jwt.ts';
import { type BrokerBench, brokerBench, type Operated, until } from '../support/broker-bench.ts';
import { type Holder, requestBody, startHolder } from '../support/holder.ts';

/** An accreditor with its own DID in its own service; its broker is a real one, or somebody who only listens. */

const open: AsyncDisposable[] = [];
const keep = <Resource extends AsyncDisposable>(resource: Resource): Resource => {
  open.push(resource);
  return resource;
};
afterEach(async () => {
  for (let last = open.pop(); last !== undefined; last = open.pop()) await last[Symbol.asyncDispose]();
});

interface World {
  readonly bench: BrokerBench;
  readonly accreditor: Operated;
}

const startAccreditor = async (brokerUrl: string): Promise<World> => {
  const bench = keep(await brokerBench({ STEKKER_ROLE: 'accreditor', STEKKER_BROKER_URL: brokerUrl }));
  return { bench, accreditor: keep(await bench.start()) };
};

const decision = (holder: string) => ({
  holder,
  application: { id: 'urn:stekker:1:app:evacuatie', version: '1.2.0', digest: 'sha256-abc' },
  purposes: ['urn:stekker:1:purpose:flood-response'],
  criteria: { id: 'urn:stekker:1:criteria:models', version: '1' },
  level: 'substantial',
  validDays: 365,
});

const urlOf = (holder: Holder): string => `http://${holder.did.slice('did:web:'.length).replace('%3A', ':')}`;

const ask = async ({ bench }: World, holder: Holder, id: string): Promise<number> =>
  (await holder.post(bench.did, `${bench.origin}/dcp/credentials`, requestBody('p', [id]))).status;

const delivered = (holder: Holder, count: number) =>
  until(() => {
    const got = holder.received.filter(({ path }) => path === '/dcp/credentials');
    return got.length >= count ? got.map(({ message }) => message) : undefined;
  });

const payloadOf = (message: Record<string, unknown> | undefined): string => {
  const [first] = Array.isArray(message?.credentials) ? message.credentials : [];
  return String(first?.payload);
};

describe('an accreditor', () => {
  test("joins the broker's log with a code, like everybody, and again without harm", async () => {
    const hub = keep(await brokerBench());
    const broker = keep(await hub.start());
    const { bench, accreditor } = await startAccreditor(hub.origin);
    const wrong = await accreditor.operate('POST', '/v1/join', { code: 'a guess' });
    expect([wrong.status, wrong.body.detail]).toEqual([403, expect.stringContaining('join code')]);
    const invitation = { did: bench.did, name: 'Keurmeester', roles: ['accreditor'] };
    const code = (await broker.operate('POST', '/v1/invitations', invitation)).body.joinCode;
    expect((await accreditor.operate('POST', '/v1/join', { code })).status).toBe(200);
    expect((await accreditor.operate('POST', '/v1/join', { code })).status).toBe(200);
    expect((await broker.operate('GET', '/v1/log')).body.size).toBe(3);
    const shown = await until(async () => {
      const { body } = await broker.operate('GET', '/v1/participants?state=joined');
      return Array.isArray(body.items) && body.items.length > 0 ? body.items : undefined;
    });
    expect(shown).toMatchObject([{ did: bench.did, roles: ['accreditor'] }]);
  });

  test('decides, offers, and gives its holder the credential, by offer and by kind', async () => {
    const alice = keep(await startHolder(51));
    const world = await startAccreditor(urlOf(alice));
    const { bench, accreditor } = world;
    const decided = await accreditor.operate('POST', '/v1/accreditations', decision(alice.did));
    expect(decided.status).toBe(201);
    const offer = await until(() => alice.received.find(({ path }) => path === '/dcp/offers'));
    expect(offer).toMatchObject({
      from: bench.did,
      message: {
        type: 'CredentialOfferMessage',
        issuer: bench.did,
        credentials: [{ id: decided.body.id, credentialType: 'ApplicationAccreditationCredential' }],
      },
    });
    expect(await ask(world, alice, String(decided.body.id))).toBe(201);
    const [first] = await delivered(alice, 1);
    const { iss, sub, jti, iat, nbf, exp, ...claims } = readJwt(payloadOf(first))?.claims ?? {};
    const issued = accreditationCredential.parse(claims);
    const { validDays, holder, ...subject } = decision(alice.did);
    expect(issued.credentialSubject).toEqual({ id: holder, accreditor: bench.did, ...subject });
    expect([iss, sub, jti, typeof iat, typeof nbf, typeof exp]).toEqual([
      bench.did,
      alice.did,
      issued.id,
      'number',
      'number',
      'number',
    ]);
    expect(Date.parse(issued.validUntil) - Date.parse(issued.validFrom)).toBeLessThanOrEqual(validDays * 86_400_000);

    const metadata = issuerMetadata.parse(await (await fetch(`${bench.origin}/dcp/metadata`)).json());
    expect(await ask(world, alice, metadata.credentialsSupported[0]?.id ?? '')).toBe(201);
    const [, second] = await delivered(alice, 2);
    expect(payloadOf(second)).toBe(payloadOf(first)); // the same decision, the same credential
  });

  test('tells a stranger nothing of an offer, and refuses who has no accreditation', async () => {
    const alice = keep(await startHolder(51));
    const mallory = keep(await startHolder(61));
    const world = await startAccreditor(urlOf(alice));
    const { body } = await world.accreditor.operate('POST', '/v1/accreditations', decision(alice.did));
    expect(await ask(world, mallory, String(body.id))).toBe(400);
    const metadata = issuerMetadata.parse(await (await fetch(`${world.bench.origin}/dcp/metadata`)).json());
    expect(await ask(world, mallory, metadata.credentialsSupported[0]?.id ?? '')).toBe(201);
    expect(await delivered(mallory, 1)).toMatchObject([{ status: 'REJECTED' }]);
  });

  test('decides the same thing once, whatever is sent twice', async () => {
    const { accreditor } = await startAccreditor('http://localhost:1');
    const body = { ...decision('did:web:holder.example'), id: 'urn:uuid:0198c6a0-0000-7000-8000-000000000001' };
    const first = await accreditor.operate('POST', '/v1/accreditations', body);
    expect(await accreditor.operate('POST', '/v1/accreditations', body)).toEqual(first);
    expect((await accreditor.operate('POST', '/v1/accreditations', { ...body, level: 'high' })).status).toBe(409);
    const bad = { ...body, holder: 'x', purposes: ['no iri'], validDays: 0.5, application: { id: 'urn:a' } };
    const faults = (await accreditor.operate('POST', '/v1/accreditations', bad)).body.errors;
    expect(faults).toHaveLength(5);
    const list = await accreditor.operate('GET', '/v1/accreditations?limit=1');
    expect(list.body).toMatchObject({ items: [{ id: body.id }], next: null });
  });

  test('hands its revocations to the broker as its own signed word, until the broker takes them', async () => {
    const listener = keep(await startHolder(71)); // in the broker's place: it takes what is posted
    const alice = keep(await startHolder(51));
    const world = await startAccreditor(urlOf(listener));
    const { bench, accreditor } = world;
    const { body } = await accreditor.operate('POST', '/v1/accreditations', decision(alice.did));
    await ask(world, alice, String(body.id));
    await delivered(alice, 1);
    const [item] = (await accreditor.operate('GET', '/v1/credentials')).body.items as { id: string }[];
    listener.answer = 503;
    await accreditor.operate('POST', `/v1/credentials/${encodeURIComponent(item?.id ?? '')}/revocation`, {
      reason: 'flaw',
    });
    await until(() => listener.received[0]);
    listener.answer = 200;
    const heard = await until(() => listener.received[1]);
    const notice = readStandingNotice(heard.message);
    if (!notice.ok) throw new Error(notice.reason);
    expect([heard.path, heard.from]).toEqual(['/events', bench.did]);
    expect(notice.value.value).toMatchObject({ type: 'revoked', issuer: bench.did, subject: item?.id, reason: 'flaw' });
    expect(notice.value.signatures[0]?.kid.startsWith(`${bench.did}#`)).toBe(true);
    await ask(world, alice, String(body.id));
    expect((await delivered(alice, 2)).at(-1)).toMatchObject({ status: 'REJECTED' });
  });

  test('has no log, no register and no broker document', async () => {
    const { bench, accreditor } = await startAccreditor('http://localhost:1');
    for (const path of ['/.well-known/stekker-broker', '/participants', '/log/entries', '/nothing'])
      expect((await fetch(`${bench.origin}${path}`)).status).toBe(404);
    const paths = Object.keys((await accreditor.operate('GET', '/openapi.json')).body.paths as object);
    expect(paths).toContain('/v1/join');
    expect(paths).not.toContain('/v1/invitations');
    const document: unknown = await (await fetch(`${bench.origin}/.well-known/did.json`)).json();
    expect(isDid(bench.did)).toBe(true);
    expect(document).toMatchObject({
      id: bench.did,
      service: expect.arrayContaining([
        expect.objectContaining({ type: 'IssuerService', serviceEndpoint: `${bench.origin}/dcp` }),
      ]),
    });
  });
});
