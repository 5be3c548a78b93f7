import { Hono } from 'hono';
import { afterEach, describe, expect, test } from 'vitest';
import type { Status } from '../../connector/status/service.ts';
import { issuerMetadata } from '../../contracts/dcp/messages.ts';
import type { Did } from '../../contracts/ids.ts';
import { storePage } from '../../contracts/store.ts';
import { type BrokerBench, brokerBench, type Operated, until } from '../support/broker-bench.ts';
import { startProvider } from '../support/catalog-provider.ts';
import { type Holder, requestBody, startHolder } from '../support/holder.ts';
import { follow, us } from '../support/hub-events.ts';
import { agreementEventOf, agreementOf, inviteTo, joinHub, joiningOf, postAs } from '../support/hub-members.ts';
import { type HubParty, noticeOf, startHubParty } from '../support/hub-parties.ts';

/** The hub with all its parts over HTTP, with a real accreditor, and connectors' own code at the other end. */

const open: AsyncDisposable[] = [];
const keep = <Resource extends AsyncDisposable>(resource: Resource): Resource => {
  open.push(resource);
  return resource;
};
afterEach(async () => {
  for (let last = open.pop(); last !== undefined; last = open.pop()) await last[Symbol.asyncDispose]();
});

const getJson = async (url: string): Promise<unknown> => await (await fetch(url)).json();

const startHub = async (env: Record<string, string> = {}) => {
  const bench = keep(await brokerBench(env));
  return { bench, broker: keep(await bench.start()) };
};

const stateOf = (status: Status, subject: string) => status.check([subject], 'strict').state;
const whenState = (status: Status, subject: string, state: string): Promise<true> =>
  until(() => (stateOf(status, subject) === state ? true : undefined));

const joined = async (bench: BrokerBench, broker: Operated): Promise<HubParty> => {
  const party = keep(await startHubParty());
  await joinHub(bench, broker, party);
  return party;
};

const followHub = async (party: HubParty, bench: BrokerBench, accreditors: readonly Did[] = []): Promise<Status> => {
  const status = keep(await follow(party, bench, { accreditors }));
  await whenState(status, 'urn:uuid:anything', 'good');
  return status;
};

/** The id of the only credential that an issuer gave to a holder that asks for this kind. */
const issuedTo = async (issuer: BrokerBench, operated: Operated, holder: Holder): Promise<string> => {
  const metadata = issuerMetadata.parse(await getJson(`${issuer.origin}/dcp/metadata`));
  const body = requestBody('p', [metadata.credentialsSupported[0]?.id ?? '']);
  expect((await holder.post(issuer.did, `${issuer.origin}/dcp/credentials`, body)).status).toBe(201);
  return await until(async () => {
    const items = (await operated.operate('GET', '/v1/credentials')).body.items as { id: string; holder: string }[];
    return items.find((item) => item.holder === holder.did)?.id;
  });
};

const revoke = async (operated: Operated, id: string): Promise<void> => {
  const path = `/v1/credentials/${encodeURIComponent(id)}/revocation`;
  expect((await operated.operate('POST', path, { reason: 'fraud' })).status).toBe(200);
};

describe('what a hub tells its members', () => {
  test('a revocation by its operator reaches every member that listens', async () => {
    const { bench, broker } = await startHub();
    const holder = keep(await startHolder(51));
    await joinHub(bench, broker, holder);
    const id = await issuedTo(bench, broker, holder);
    const followers = [];
    for (let index = 0; index < 2; index += 1) followers.push(await followHub(await joined(bench, broker), bench));
    await revoke(broker, id);
    for (const status of followers) await whenState(status, id, 'revoked');
    expect(followers.map((status) => stateOf(status, 'urn:uuid:another'))).toEqual(['good', 'good']);
    const shown = (await broker.operate('GET', '/v1/status')).body;
    expect(shown.events).toMatchObject({ listeners: 2 });
  });

  test('a revocation by an accreditor that it recognises reaches them too, as the accreditor’s own word', async () => {
    const world = keep(await brokerBench({ STEKKER_ROLE: 'accreditor', STEKKER_BROKER_URL: 'http://localhost:1' }));
    const { bench, broker } = await startHub({ STEKKER_ACCREDITORS: world.did });
    const accreditor = keep(await world.start({ STEKKER_BROKER_URL: bench.origin }));
    const holder = keep(await startHolder(51));
    const decided = await accreditor.operate('POST', '/v1/accreditations', {
      holder: holder.did,
      application: { id: 'urn:stekker:1:app:evacuatie', version: '1.2.0', digest: 'sha256-abc' },
      purposes: ['urn:stekker:1:purpose:flood-response'],
      criteria: { id: 'urn:stekker:1:criteria:models', version: '1' },
      level: 'substantial',
      validDays: 365,
    });
    expect(decided.status).toBe(201);
    const id = await issuedTo(world, accreditor, holder);
    const status = await followHub(await joined(bench, broker), bench, [world.did]);
    await revoke(accreditor, id);
    await whenState(status, id, 'revoked');
  });

  test('strangers do not listen, and issuers that it does not recognise are not heard', async () => {
    const { bench, broker } = await startHub();
    const stranger = keep(await startHubParty());
    const member = await joined(bench, broker);
    const notice = (by: HubParty, subject = 'urn:uuid:a-1') => noticeOf(by, { type: 'revoked', subject });
    expect((await postAs(stranger, bench, '/events', notice(stranger))).status).toBe(403);
    expect((await postAs(member, bench, '/events', notice(member))).status).toBe(403);
    const headers = () => ({ authorization: stranger.tokens.tokenFor({ audience: bench.did }) });
    expect((await fetch(`${bench.origin}/events`, { headers: headers() })).status).toBe(403);
    expect((await fetch(`${bench.origin}/events`)).status).toBe(401);
  });

  test('a recognised accreditor says nothing about the broker’s own credentials', async () => {
    const accreditor = keep(await startHubParty());
    const { bench, broker } = await startHub({ STEKKER_ACCREDITORS: accreditor.did });
    const holder = keep(await startHolder(51));
    await joinHub(bench, broker, holder);
    const id = await issuedTo(bench, broker, holder);
    const say = (subject: string) =>
      postAs(accreditor, bench, '/events', noticeOf(accreditor, { type: 'revoked', subject }));
    expect((await say(id)).status).toBe(403);
    expect((await say('urn:uuid:of-its-own')).status).toBe(201);
  });

  test('new keys are told to all, the end of an agreement to its parties alone', async () => {
    const { bench, broker } = await startHub();
    const [provider, consumer, other] = [
      await joined(bench, broker),
      await joined(bench, broker),
      await joined(bench, broker),
    ];
    const followers = [];
    for (const party of [provider, consumer, other]) followers.push(await followHub(party, bench));
    const told: string[][] = followers.map(() => []);
    for (const [place, status] of followers.entries())
      status.onStanding(({ type, subject }) => void told[place]?.push(`${type} ${subject}`));
    const { body, digest } = agreementOf('one', provider, consumer);
    expect((await postAs(provider, bench, '/log/entries', body)).status).toBe(201);
    const end = agreementEventOf(digest, 'end', [provider, consumer]);
    expect((await postAs(consumer, bench, '/log/entries', end)).status).toBe(201);
    const late = await joined(bench, broker);
    const isTold = (line: string) => until(() => (told.every((lines) => lines.includes(line)) ? true : undefined));
    await isTold(`keys ${late.did}`);
    expect(told.map((lines) => lines.filter((line) => line.startsWith('agreement-ended')))).toEqual([
      [`agreement-ended ${digest}`],
      [`agreement-ended ${digest}`],
      [],
    ]);
    expect(followers.map((status) => stateOf(status, digest))).toEqual(['revoked', 'revoked', 'good']);
  });

  test('what a stranger declares void before there is an agreement ends nothing', async () => {
    const { bench, broker } = await startHub();
    const [provider, consumer, other] = [
      await joined(bench, broker),
      await joined(bench, broker),
      await joined(bench, broker),
    ];
    const status = await followHub(consumer, bench);
    const [first, second] = [agreementOf('first', provider, consumer), agreementOf('second', provider, consumer)];
    for (const [by, body] of [
      [other, agreementEventOf(first.digest, 'void', [other])],
      [provider, first.body],
      [provider, second.body],
      [provider, agreementEventOf(second.digest, 'void', [provider])],
    ] as const)
      expect((await postAs(by, bench, '/log/entries', body)).status).toBe(201);
    await whenState(status, second.digest, 'revoked');
    expect(stateOf(status, first.digest)).toBe('good');
  });
});

describe('the store of a hub', () => {
  const titlesOf = async ({ origin }: BrokerBench, q: string): Promise<string[]> =>
    storePage.parse(await getJson(`${origin}/store/offers?q=${q}`)).entries.map(({ title }) => title);

  const publish = async ({ catalog }: Awaited<ReturnType<typeof startProvider>>, name: string) => {
    await catalog.addAsset(us, {
      id: `urn:asset:${name}`,
      title: `Waterstand ${name}`,
      keywords: ['peil'],
      upstream: { kind: 'file', path: `/data/${name}` },
    });
    await catalog.addOffer(us, {
      id: `urn:offer:${name}`,
      asset: `urn:asset:${name}`,
      rules: { permission: [{ action: 'use' }] },
      price: '',
    });
  };

  test('what a member offers is found soon after it joined, again on demand, and not when it has left', async () => {
    const { bench, broker } = await startHub({ STEKKER_HARVEST_SECONDS: '86400' });
    const provider = await startProvider(bench.did);
    keep(provider.party);
    await publish(provider, 'Zaandijk');
    expect(await titlesOf(bench, 'waterstand')).toEqual([]);
    const harvest = (body: object) => broker.operate('POST', '/v1/store/harvest', body);
    expect((await harvest({ member: provider.party.did })).status).toBe(404);
    await joinHub(bench, broker, provider.party, 'Waterschap');
    await until(async () => ((await titlesOf(bench, 'zaandijk')).length === 1 ? true : undefined));

    await publish(provider, 'Dorregeest');
    expect(await titlesOf(bench, 'dorregeest')).toEqual([]);
    expect(await harvest({ member: provider.party.did })).toEqual({ status: 202, body: { started: true } });
    await until(async () => ((await titlesOf(bench, 'dorregeest')).length === 1 ? true : undefined));
    await publish(provider, 'Uitgeest');
    expect((await harvest({})).status).toBe(202);
    await until(async () => ((await titlesOf(bench, 'uitgeest')).length === 1 ? true : undefined));
    const { harvest: read } = (await broker.operate('GET', '/v1/status')).body;
    expect(read).toMatchObject({ catalogs: 1, datasets: 3, faults: [] });

    const path = `/v1/participants/${encodeURIComponent(provider.party.did)}`;
    expect((await broker.operate('DELETE', path)).status).toBe(200);
    expect(await titlesOf(bench, 'waterstand')).toEqual([]);
    const invitation = { did: provider.party.did, name: 'Waterschap', roles: ['participant'] };
    await broker.operate('POST', '/v1/invitations', invitation);
    await until(async () => ((await titlesOf(bench, 'waterstand')).length === 3 ? true : undefined));
  });

  test('catalogs are read at each start, and what a member without one says is shown to the operator', async () => {
    const { bench, broker } = await startHub();
    const provider = await startProvider(bench.did);
    keep(provider.party);
    const bare = await joined(bench, broker);
    await joinHub(bench, broker, provider.party);
    const asked: string[] = [];
    const accreditor = keep(await startHubParty());
    accreditor.serve(
      new Hono().all('*', ({ req }) => {
        asked.push(req.path);
        return new Response(null, { status: 404 });
      }),
    );
    const code = await inviteTo(broker, accreditor.did, 'Keurmeester', ['accreditor']);
    expect((await postAs(accreditor, bench, '/log/entries', await joiningOf(accreditor, code))).status).toBe(201);
    await broker[Symbol.asyncDispose]();
    await publish(provider, 'Zaandijk');
    const again = keep(await bench.start());
    await until(async () => ((await titlesOf(bench, 'zaandijk')).length === 1 ? true : undefined));
    const status = await until(async () => {
      const { harvest } = (await again.operate('GET', '/v1/status')).body as {
        harvest: { catalogs: number; datasets: number };
      };
      return harvest.catalogs === 2 && harvest.datasets === 1 ? harvest : undefined;
    });
    expect(status).toMatchObject({
      datasets: 1,
      faults: [{ provider: bare.did, fault: expect.stringContaining('404') }],
    });
    expect(asked).toEqual([]); // an accreditor has no connector to ask
  });
});
