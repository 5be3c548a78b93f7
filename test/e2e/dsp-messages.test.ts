import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { NegotiationRow } from '../../connector/negotiation/ports.ts';
import { newData } from '../../connector/negotiation/process.ts';
import { writeOffer } from '../../connector/negotiation/rules.ts';
import { dspaceContext } from '../../contracts/dsp/common.ts';
import { negotiationStates } from '../../contracts/dsp/negotiation.ts';
import type { Did } from '../../contracts/ids.ts';
import type { Json, JsonObject } from '../../contracts/json.ts';
import { formatTime } from '../../contracts/time.ts';
import { systemClock } from '../../kernel/clock.ts';
import { systemRandom, uuidV7 } from '../../kernel/random.ts';
import { until } from '../support/broker-bench.ts';
import { type ConnectorBench, connectorBench, type OperatedConnector } from '../support/chain-world.ts';
import {
  createNetwork,
  eventually,
  type Party,
  providerKey,
  rainOffer,
  startParty,
  tenant,
} from '../support/dsp-pair.ts';
import { messageToken, tokensOf } from '../support/hostile.ts';

/** What the official kits do not check of the Dataspace Protocol, message by message (tck §5, dsp §5.4, §7, §8). */

const peer = 'did:web:peer.example' as Did;
const stranger = 'did:web:stranger.example' as Did;
const plain = { ...rainOffer, assurance: 'plain-dsp' } as const;
const newPid = () => `urn:uuid:${uuidV7(systemClock.now(), systemRandom)}`;

type Role = 'provider' | 'consumer';

/** One connector, with a peer that only listens. */
const world = async () => {
  const network = createNetwork();
  const heard: { readonly path: string; readonly body: JsonObject }[] = [];
  const own = await startParty(network, {
    name: 'own',
    key: providerKey,
    offers: [plain],
    decide: () => ({ do: 'wait' }),
    knowsExtensions: false,
  });
  const silent = {
    fetch: async (request: Request) => {
      const body = JSON.parse((await request.text()) || '{}') as JsonObject;
      heard.push({ path: new URL(request.url).pathname, body });
      return new Response(null, { status: 200 });
    },
  };
  network.parties.set('https://peer.example', silent as never);
  const ask = async (method: string, path: string, body?: Json, from: Did = peer) => {
    const answer = await own.app.fetch(
      new Request(`${own.base}${path}`, {
        method,
        headers: { 'content-type': 'application/json', authorization: from },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
    );
    const text = await answer.text();
    return { status: answer.status, text, body: (text === '' ? {} : JSON.parse(text)) as Record<string, unknown> };
  };
  return {
    own,
    ask,
    heard,
    store: own.negotiations.exchange.store,
    [Symbol.asyncDispose]: () => own[Symbol.asyncDispose](),
  };
};
type World = Awaited<ReturnType<typeof world>>;

const message = (type: string, members: JsonObject = {}): JsonObject => ({
  '@context': [dspaceContext],
  '@type': type,
  ...members,
});
const callbackAddress = 'https://peer.example/dsp';
const offer = writeOffer(plain);

/** A negotiation of ours with the peer, in any state. */
const put = async ({ store }: World, role: Role, state: string, data: Partial<NegotiationRow['data']> = {}) => {
  const now = systemClock.now();
  const row = {
    participant: tenant,
    pid: newPid(),
    peer,
    peerPid: newPid(),
    peerBase: callbackAddress,
    process: { role, state, pending: null },
    outgoing: null,
    settledPeer: '',
    trace: '0'.repeat(32),
    data: {
      ...newData({
        dataset: plain.dataset,
        offerId: plain.id,
        offer,
        offerBy: role === 'provider' ? 'consumer' : 'provider',
        offers: ['x'],
        assurance: 'plain-dsp',
        price: '',
      }),
      ...data,
    },
    createdAt: now,
    updatedAt: now,
    version: 1,
  } as unknown as NegotiationRow;
  await store.save({ row, send: false, work: false });
  const [providerPid, consumerPid] = role === 'provider' ? [row.pid, row.peerPid] : [row.peerPid, row.pid];
  return {
    pid: row.pid,
    pids: { providerPid, consumerPid } as JsonObject,
    path: `/negotiations/${encodeURIComponent(row.pid)}`,
  };
};
const stateOf = async ({ own }: World, pid: string): Promise<string> =>
  (await own.negotiations.find(tenant, pid)).process.state;

describe('creation', () => {
  test('answers 201 with the process, and the same to the same message', async () => {
    await using its = await world();
    const request = message('ContractRequestMessage', { consumerPid: newPid(), callbackAddress, offer });
    const offered = message('ContractOfferMessage', { providerPid: newPid(), callbackAddress, offer });
    for (const [path, body, state] of [
      ['/negotiations/request', request, 'REQUESTED'],
      ['/negotiations/offers', offered, 'OFFERED'],
    ] as const) {
      const [first, again] = [await its.ask('POST', path, body), await its.ask('POST', path, body)];
      expect(first).toMatchObject({
        status: 201,
        body: { '@context': [dspaceContext], '@type': 'ContractNegotiation', state },
      });
      expect([again.status, again.body]).toEqual([201, first.body]);
    }
  });

  test('of a negotiation about an offer that is not there, or of another dataset, is refused in the same form', async () => {
    await using its = await world();
    const ask = (of: JsonObject) =>
      its.ask(
        'POST',
        '/negotiations/request',
        message('ContractRequestMessage', { consumerPid: 'urn:c', callbackAddress, offer: of }),
      );
    const unknown = await ask({ ...offer, '@id': 'urn:none' });
    expect(unknown).toMatchObject({ status: 404, body: { '@type': 'ContractNegotiationError', code: 'not-found' } });
    expect((await ask({ ...offer, target: 'urn:asset:other' })).text).toBe(unknown.text);
  });
});

describe('errors', () => {
  test('name both pids: those of the message, and for an unknown process the one of the path', async () => {
    await using its = await world();
    for (const [protocol, type] of [
      ['negotiations', 'ContractNegotiationError'],
      ['transfers', 'TransferError'],
    ] as const) {
      const pids = { providerPid: 'urn:none', consumerPid: 'urn:none' };
      expect(await its.ask('GET', `/${protocol}/urn:none`)).toMatchObject({
        status: 404,
        body: { '@type': type, ...pids },
      });
      const path = `/${protocol}/urn:none/termination`;
      expect(await its.ask('POST', path, {})).toMatchObject({
        status: 400,
        body: { '@type': type, ...pids, code: 'body-invalid' },
      });
    }
    const { path, pids } = await put(its, 'provider', 'FINALIZED');
    const late = message('ContractNegotiationTerminationMessage', pids);
    expect(await its.ask('POST', `${path}/termination`, late)).toMatchObject({
      status: 400,
      body: {
        '@context': [dspaceContext],
        '@type': 'ContractNegotiationError',
        code: 'illegal-transition',
        reason: [expect.any(String)],
      },
    });
  });

  test('a stranger reads the same of a process that is there and of one that is not', async () => {
    await using its = await world();
    const { pid, path } = await put(its, 'provider', 'REQUESTED');
    const same = (text: string, of: string) => text.replaceAll(of, '…');
    const none = await its.ask('GET', '/negotiations/urn:none', undefined, stranger);
    const there = await its.ask('GET', path, undefined, stranger);
    expect([there.status, same(there.text, pid)]).toEqual([404, same(none.text, 'urn:none')]);
    const message404 = message('ContractNegotiationTerminationMessage', { providerPid: pid, consumerPid: 'x' });
    expect((await its.ask('POST', `${path}/termination`, message404, stranger)).status).toBe(404);
    expect(await stateOf(its, pid)).toBe('REQUESTED');
  });
});

describe('termination by the other side', () => {
  test.each(['provider', 'consumer'] as const)('is taken by a %s in every state that is not final', async (role) => {
    await using its = await world();
    for (const state of negotiationStates) {
      const { pid, pids, path } = await put(its, role, state);
      const body = message('ContractNegotiationTerminationMessage', { ...pids, code: 'over', reason: ['It is over.'] });
      const answer = await its.ask('POST', `${path}/termination`, body);
      const isFinal = state === 'FINALIZED' || state === 'TERMINATED';
      expect([state, answer.status]).toEqual([state, isFinal ? 400 : 200]);
      expect([state, await stateOf(its, pid)]).toEqual([state, isFinal ? state : 'TERMINATED']);
    }
  });
});

describe('messages from the wrong side', () => {
  test('events that only the other may send, and acceptance of its own offer, are refused everywhere', async () => {
    await using its = await world();
    const wrong: unknown[] = [];
    for (const [role, eventType] of [
      ['provider', 'FINALIZED'],
      ['consumer', 'ACCEPTED'],
    ] as const)
      for (const state of negotiationStates) {
        const { pid, pids, path } = await put(its, role, state);
        const body = message('ContractNegotiationEventMessage', { ...pids, eventType });
        const { status } = await its.ask('POST', `${path}/events`, body);
        if (status !== 400 || (await stateOf(its, pid)) !== state) wrong.push([role, eventType, state, status]);
      }
    const { pids, path } = await put(its, 'provider', 'REQUESTED'); // the last offer is the consumer's own
    const accepted = message('ContractNegotiationEventMessage', { ...pids, eventType: 'ACCEPTED' });
    expect((await its.ask('POST', `${path}/events`, accepted)).status).toBe(400);
    expect(wrong).toEqual([]);
  });

  test('a path that the role does not have is 404', async () => {
    await using its = await world();
    for (const [role, suffix, type, more] of [
      ['consumer', '/request', 'ContractRequestMessage', { offer }],
      ['consumer', '/agreement/verification', 'ContractAgreementVerificationMessage', {}],
      ['provider', '/offers', 'ContractOfferMessage', { offer }],
      ['provider', '/agreement', 'ContractAgreementMessage', { agreement: agreementFor(its.own) }],
    ] as const) {
      const { pids, path } = await put(its, role, 'REQUESTED');
      expect([suffix, (await its.ask('POST', `${path}${suffix}`, message(type, { ...pids, ...more }))).status]).toEqual(
        [suffix, 404],
      );
    }
  });

  test('pids of another process of the same peer, or exchanged ones, are refused', async () => {
    await using its = await world();
    const [one, two] = [await put(its, 'provider', 'OFFERED'), await put(its, 'provider', 'OFFERED')];
    const { providerPid = '', consumerPid = '' } = one.pids;
    for (const pids of [
      two.pids,
      { providerPid: consumerPid, consumerPid: providerPid },
      { providerPid, consumerPid: 'x' },
    ]) {
      const body = message('ContractNegotiationEventMessage', { ...pids, eventType: 'ACCEPTED' });
      expect(await its.ask('POST', `${one.path}/events`, body)).toMatchObject({
        status: 400,
        body: { code: 'pid-mismatch' },
      });
    }
    expect(await stateOf(its, one.pid)).toBe('OFFERED');
  });
});

describe('counter-offers', () => {
  test('are about the same dataset, one at a time, and without a call-back address', async () => {
    await using its = await world();
    const provider = await put(its, 'provider', 'OFFERED');
    const counter = (of: JsonObject, more: JsonObject = {}) =>
      its.ask(
        'POST',
        `${provider.path}/request`,
        message('ContractRequestMessage', { ...provider.pids, offer: of, ...more }),
      );
    expect(await counter({ ...offer, target: 'urn:other' })).toMatchObject({
      status: 400,
      body: { code: 'offer-refused' },
    });
    expect(await counter(offer, { callbackAddress })).toMatchObject({ status: 400, body: { code: 'body-invalid' } });
    expect((await counter(offer)).status).toBe(200);
    expect(await counter(offer)).toMatchObject({ status: 400, body: { code: 'illegal-transition' } });
    const consumer = await put(its, 'consumer', 'REQUESTED');
    const offered = (of: JsonObject) =>
      its.ask('POST', `${consumer.path}/offers`, message('ContractOfferMessage', { ...consumer.pids, offer: of }));
    expect(await offered({ ...offer, target: 'urn:other' })).toMatchObject({ status: 400 });
    expect(await offered({ ...offer, 'urn:stekker:1:assurance': 'cosigned' })).toMatchObject({ status: 400 });
    expect((await offered(offer)).status).toBe(200);
    expect(await offered(offer)).toMatchObject({ status: 400, body: { code: 'illegal-transition' } });
  });
});

const agreementFor = ({ did }: Pick<Party, 'did'>, changes: JsonObject = {}): JsonObject => ({
  '@type': 'Agreement',
  '@id': newPid(),
  target: plain.dataset,
  assigner: peer,
  assignee: did,
  timestamp: formatTime(systemClock.now()),
  ...plain.rules,
  ...changes,
});

describe('agreements', () => {
  const bring = async (its: World, changes: JsonObject) => {
    const { pid, pids, path } = await put(its, 'consumer', 'REQUESTED', { offerBy: 'consumer' });
    const body = message('ContractAgreementMessage', { ...pids, agreement: agreementFor(its.own, changes) });
    const answer = await its.ask('POST', `${path}/agreement`, body);
    return { pid, answer };
  };
  const second = formatTime(Math.floor(systemClock.now() / 1_000) * 1_000).slice(0, 19);

  test.each(['', '.1', '.12', '.123', '.123456', '.123456789'])(
    'a time with the fraction "%s" is read',
    async (fraction) => {
      await using its = await world();
      expect((await bring(its, { timestamp: `${second}${fraction}Z` })).answer.status).toBe(200);
      expect((await bring(its, { timestamp: `${second}${fraction}+00:00` })).answer.status).toBe(200);
    },
  );

  test.each([
    ['with something before it', `x${second}Z`],
    ['with something behind it', `${second}Z and more`],
    ['without a zone', second],
    ['with too fine a fraction', `${second}.1234567890Z`],
    ['a number', 1_795_431_600],
    ['none at all', null],
  ])('a time %s is refused', async (_what, timestamp) => {
    await using its = await world();
    const { pid, answer } = await bring(its, { timestamp });
    expect(answer).toMatchObject({ status: 400, body: { code: 'body-invalid' } });
    expect(await stateOf(its, pid)).toBe('REQUESTED');
  });

  test.each([
    ['of another dataset', { target: 'urn:other' }],
    ['by somebody else', { assigner: stranger }],
    ['with somebody else', { assignee: stranger }],
    ['with other rules', { permission: [{ action: 'odrl:read' }] }],
    ['with one rule more', { prohibition: [{ action: 'odrl:sell' }] }],
    ['of last week', { timestamp: '2026-11-01T00:00:00Z' }],
    ['of tomorrow', { timestamp: formatTime(systemClock.now() + 86_400_000) }],
    ['with the id of another', { '@id': 'urn:uuid:of-another' }],
  ])('one %s is refused, and the provider is told that it is over', async (_what, changes) => {
    await using its = await world();
    expect((await bring(its, { '@id': 'urn:uuid:of-another' })).answer.status).toBe(200);
    const { pid, answer } = await bring(its, changes);
    expect(answer).toMatchObject({
      status: 400,
      body: { '@type': 'ContractNegotiationError', code: 'agreement-refused' },
    });
    const row = await eventually(
      () => its.own.negotiations.find(tenant, pid),
      ({ process }) => process.state === 'TERMINATED',
    );
    expect(row.data).toMatchObject({
      agreement: null,
      status: 'none',
      ending: { by: 'us', code: 'agreement-refused' },
    });
    const [told] = its.heard.filter(({ path }) => path.endsWith('/termination'));
    expect(told?.body).toMatchObject({ '@type': 'ContractNegotiationTerminationMessage', code: 'agreement-refused' });
  });
});

describe('addresses that a stranger gives', { timeout: 60_000 }, () => {
  let benches: ConnectorBench[] = [];
  let provider: OperatedConnector;
  let consumer: OperatedConnector;
  let consumerBench: ConnectorBench;
  const paths: string[] = [];
  const server = createServer((request, response) => {
    paths.push(request.url ?? '');
    request.resume();
    if (request.url?.startsWith('/moved') === true) response.writeHead(307, { location: '/elsewhere' }).end();
    else response.writeHead(200).end();
  });
  let sink = '';

  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    sink = `http://localhost:${(server.address() as AddressInfo).port}`;
    benches = [await connectorBench(), await connectorBench()];
    consumerBench = benches[1] as ConnectorBench;
    const [bench] = benches as [ConnectorBench];
    provider = await bench.start();
    consumer = await consumerBench.start();
    const path = join(bench.folder, 'levels.json');
    writeFileSync(path, '{}');
    await provider.operate('POST', '/v1/assets', {
      id: 'urn:levels',
      title: 'Levels',
      upstream: { kind: 'file', path },
    });
    const rules = { permission: [{ action: 'use' }] };
    await provider.operate('POST', '/v1/offers', {
      id: 'urn:open',
      asset: 'urn:levels',
      rules,
      assurance: 'plain-dsp',
    });
  });
  afterAll(async () => {
    for (const one of [consumer, provider, ...benches]) await one?.[Symbol.asyncDispose]();
    server.close();
    server.closeAllConnections();
  });

  const request = async (callback: string) => {
    const answer = await fetch(`${benches[0]?.origin}/dsp/2025-1/negotiations/request`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        authorization: messageToken(await tokensOf(consumerBench), provider.did as Did),
      },
      body: JSON.stringify(
        message('ContractRequestMessage', {
          consumerPid: newPid(),
          callbackAddress: callback,
          offer: { '@type': 'Offer', '@id': 'urn:open', target: 'urn:levels', permission: [{ action: 'use' }] },
        }),
      ),
    });
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
  };

  test.each([
    ['http to anybody', 'http://example.org/dsp', 'callback-refused'],
    ['a private network', 'https://10.0.0.1/dsp', 'callback-refused'],
    ['the machine itself, by number', 'https://127.0.0.1/dsp', 'callback-refused'],
    ['the cloud’s own address', 'https://169.254.169.254/latest', 'callback-refused'],
    ['a private network in another notation', 'https://[::ffff:10.0.0.1]/dsp', 'callback-refused'],
    ['somebody’s password', 'https://user:word@example.org/dsp', 'callback-refused'],
    ['another scheme', 'ftp://example.org/dsp', 'body-invalid'],
    ['no address', 'dsp', 'body-invalid'],
  ])('%s is refused as call-back address, with 400', async (_what, callback, code) => {
    expect(await request(callback)).toMatchObject({ status: 400, body: { '@type': 'ContractNegotiationError', code } });
  });

  test('trailing slashes give no double ones', async () => {
    const { body } = await request(`${sink}/base///`);
    const theirs = encodeURIComponent(String(body.consumerPid));
    await until(() => (paths.includes(`/base/negotiations/${theirs}/agreement`) ? true : undefined));
    expect(paths.filter((path) => path.includes('//'))).toEqual([]);
  });

  test('a redirect is not followed', async () => {
    const { body } = await request(`${sink}/moved`);
    const id = encodeURIComponent(String(body.providerPid));
    await until(async () => {
      const row = await provider.operate('GET', `/v1/negotiations/${id}`);
      return row.body.state === 'TERMINATED' ? true : undefined;
    });
    expect(paths.some((path) => path.startsWith('/moved/'))).toBe(true);
    expect(paths.filter((path) => path.startsWith('/elsewhere'))).toEqual([]);
  });
});
