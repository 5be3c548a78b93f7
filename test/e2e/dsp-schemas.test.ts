import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { catalog, catalogRequestMessage, datasetAnswer, versionDocument } from '../../contracts/dsp/catalog.ts';
import { catalogError, contractNegotiationError, transferError } from '../../contracts/dsp/error.ts';
import {
  contractAgreementMessage,
  contractAgreementVerificationMessage,
  contractNegotiation,
  contractNegotiationEventMessage,
  contractNegotiationTerminationMessage,
  contractOfferMessage,
  contractRequestMessage,
} from '../../contracts/dsp/negotiation.ts';
import {
  transferCompletionMessage,
  transferProcess,
  transferRequestMessage,
  transferStartMessage,
  transferSuspensionMessage,
  transferTerminationMessage,
} from '../../contracts/dsp/transfer.ts';
import { until } from '../support/broker-bench.ts';
import { type ConnectorBench, connectorBench, type OperatedConnector } from '../support/chain-world.ts';
import { dspExamples, loadDspSchemas, messageTypes } from '../support/dsp-schemas.ts';
import { freePort } from '../support/holder.ts';
import { messageToken, tokensOf } from '../support/hostile.ts';
import { type RecordingFront, startRecordingFront } from '../support/recording-front.ts';

/**
 * Every message of the Dataspace Protocol, as two real connectors send it, against the official JSON Schemas: a recorder stands
 * on the line before each of them. What a peer refuses it often refuses with "400" alone, so nothing else would tell.
 */

type Side = 'provider' | 'consumer';

interface Recorded {
  /** Whose message it is. */
  readonly by: Side;
  readonly type: string;
  readonly message: Record<string, unknown>;
}

const schemas = loadDspSchemas();
const dataset = 'urn:levels';
const permit = (...constraint: object[]) => ({
  permission: [{ action: 'use', ...(constraint.length === 0 ? {} : { constraint }) }],
});
const purpose = { leftOperand: 'odrl:purpose', operator: 'isAnyOf', rightOperand: [{ '@id': 'urn:purpose:crisis' }] };

let sides: Record<Side, ConnectorBench>;
let running: Record<Side, OperatedConnector>;
let fronts: Record<Side, RecordingFront>;

const otherOf = (side: Side): Side => (side === 'provider' ? 'consumer' : 'provider');

const start = async (): Promise<readonly [ConnectorBench, OperatedConnector, RecordingFront]> => {
  const inner = await freePort();
  const bench = await connectorBench({ STEKKER_PUBLIC_PORT: String(inner) });
  const front = await startRecordingFront(Number(new URL(bench.origin).port), inner);
  return [bench, await bench.start(), front];
};

const rows = async (at: Side, what: 'negotiations' | 'transfers', id: string) =>
  (await running[at].operate('GET', `/v1/${what}/${encodeURIComponent(id)}`)).body;
const reaches = (at: Side, what: 'negotiations' | 'transfers', id: string, state: string) =>
  until(async () => {
    const row = await rows(at, what, id);
    return row.state === state && row.pending === null ? row : undefined;
  });
const decide = async (at: Side, what: 'negotiations' | 'transfers', id: string, decision: object) => {
  const answer = await running[at].operate('POST', `/v1/${what}/${encodeURIComponent(id)}/decisions`, decision);
  expect([decision, answer.status]).toEqual([decision, 202]);
};
const begin = async (at: Side, wish: object): Promise<string> => {
  const { body } = await running[at].operate('POST', '/v1/negotiations', { dataset, ...wish });
  return String(body.id);
};
const because = { code: 'test', reason: ['Because.'] };

/** Asks by hand, for what connectors ask of each other in no such form. */
const send = async (to: Side, path: string, body: object | undefined, isKnown = true): Promise<number> => {
  const token = messageToken(await tokensOf(sides[otherOf(to)]), sides[to].did);
  const answer = await fetch(`${sides[to].origin}${path}`, {
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    headers: { 'content-type': 'application/json', ...(isKnown ? { authorization: token } : {}) },
  });
  await answer.arrayBuffer();
  return answer.status;
};

const negotiateByHand = async (): Promise<void> => {
  const asked = await begin('consumer', { provider: sides.provider.did, ask: permit(), mandate: 'operator' });
  await reaches('consumer', 'negotiations', asked, 'OFFERED');
  await decide('consumer', 'negotiations', asked, { do: 'request', rules: permit() });
  const { peerPid } = await reaches('consumer', 'negotiations', asked, 'OFFERED');
  await decide('provider', 'negotiations', String(peerPid), { do: 'terminate', ...because });
  await reaches('consumer', 'negotiations', asked, 'TERMINATED');
  const offered = await begin('provider', { consumer: sides.consumer.did, offer: 'urn:offer' });
  const made = await reaches('provider', 'negotiations', offered, 'OFFERED');
  await decide('consumer', 'negotiations', String(made.peerPid), { do: 'terminate', ...because });
  await reaches('provider', 'negotiations', offered, 'TERMINATED');
};

const negotiate = async (): Promise<string> => {
  const asked = await begin('consumer', {
    provider: sides.provider.did,
    ask: permit(),
    mandate: { least: permit(purpose) },
  });
  const done = await reaches('consumer', 'negotiations', asked, 'FINALIZED');
  return until(async () => {
    const row = await rows('consumer', 'negotiations', asked);
    return row.status === 'in-force' ? String(done.agreementId) : undefined;
  });
};

const transfer = async (agreementId: string): Promise<{ readonly mine: string; readonly theirs: string }> => {
  const { body } = await running.consumer.operate('POST', '/v1/transfers', { agreementId });
  const row = await reaches('consumer', 'transfers', String(body.id), 'STARTED');
  await reaches('provider', 'transfers', String(row.peerPid), 'STARTED');
  return { mine: String(body.id), theirs: String(row.peerPid) };
};

/** Suspends and resumes from both sides; then one side ends it in each way there is. */
const transferByHand = async (agreementId: string): Promise<void> => {
  for (const [by, end] of [
    ['provider', 'complete'],
    ['consumer', 'complete'],
    ['provider', 'terminate'],
    ['consumer', 'terminate'],
  ] as const) {
    const { mine, theirs } = await transfer(agreementId);
    const own = by === 'provider' ? theirs : mine;
    const both = async (state: string) => {
      await reaches('consumer', 'transfers', mine, state);
      await reaches('provider', 'transfers', theirs, state);
    };
    await decide(by, 'transfers', own, { do: 'suspend', ...because });
    await both('SUSPENDED');
    await decide(by, 'transfers', own, { do: 'start' });
    await both('STARTED');
    expect(await send('consumer', `/dsp/2025-1/transfers/${encodeURIComponent(mine)}`, undefined)).toBe(200);
    await decide(by, 'transfers', own, end === 'complete' ? { do: end } : { do: end, ...because });
    await both(end === 'complete' ? 'COMPLETED' : 'TERMINATED');
  }
};

/** A push: the consumer's own address goes with its request. */
const pushOne = async (): Promise<void> => {
  const offer = { id: 'urn:plain', asset: dataset, rules: permit(), assurance: 'plain-dsp' };
  expect((await running.provider.operate('POST', '/v1/offers', offer)).status).toBe(201);
  const wish = { provider: sides.provider.did, dataset, offer: offer.id, push: true };
  expect((await running.consumer.operate('POST', '/v1/acquisitions', wish)).status).toBe(200);
};

const askAmiss = async (side: Side): Promise<void> => {
  const frame = { '@context': ['https://w3id.org/dspace/2025/1/context.jsonld'] };
  const dsp = '/dsp/2025-1';
  expect(await send(side, '/.well-known/dspace-version', undefined, false)).toBe(200);
  expect(await send(side, `${dsp}/catalog/request`, { ...frame, '@type': 'CatalogRequestMessage' }, false)).toBe(401);
  const filtered = { ...frame, '@type': 'CatalogRequestMessage', filter: [{}] };
  expect(await send(side, `${dsp}/catalog/request`, filtered)).toBe(400);
  expect(await send(side, `${dsp}/catalog/datasets/urn:none`, undefined)).toBe(404);
  for (const what of ['negotiations', 'transfers']) {
    expect(await send(side, `${dsp}/${what}/urn:none`, undefined)).toBe(404);
    expect(await send(side, `${dsp}/${what}/urn:none/termination`, { ...frame, '@type': 'X' })).toBe(400);
    expect(await send(side, `${dsp}/${what}/request`, {})).toBe(400);
  }
};

beforeAll(async () => {
  const [a, provider, before] = await start();
  const [b, consumer, behind] = await start();
  sides = { provider: a, consumer: b };
  running = { provider, consumer };
  fronts = { provider: before, consumer: behind };
  const path = join(a.folder, 'levels.json');
  writeFileSync(path, '{"level":3}');
  const asset = { id: dataset, title: 'Levels', keywords: ['water'], upstream: { kind: 'file', path } };
  await provider.operate('POST', '/v1/assets', asset);
  const prohibition = [{ action: 'odrl:sell' }];
  const rules = { ...permit(purpose), prohibition, obligation: [{ action: 'odrl:attribute' }] };
  const offer = await provider.operate('POST', '/v1/offers', { id: 'urn:offer', asset: dataset, rules });
  expect(offer.status).toBe(201);
  const shown = await consumer.operate('GET', `/v1/catalog?provider=${encodeURIComponent(a.did)}`);
  expect(shown.body).toMatchObject({ items: [{ id: dataset }] });
  await negotiateByHand();
  await transferByHand(await negotiate());
  await pushOne();
  for (const side of ['provider', 'consumer'] as const) await askAmiss(side);
}, 120_000);
afterAll(async () => {
  for (const side of ['consumer', 'provider'] as const)
    for (const one of [running?.[side], fronts?.[side], sides?.[side]]) await one?.[Symbol.asyncDispose]();
});

const objectIn = (text: string): Record<string, unknown> | undefined => {
  if (!text.startsWith('{')) return undefined;
  return z.record(z.string(), z.unknown()).parse(JSON.parse(text));
};

/** All bodies of the protocol on the line: a request is by the other side, its answer by this one. */
const recorded = (): readonly Recorded[] =>
  (['provider', 'consumer'] as const).flatMap((side) =>
    fronts[side].passed.flatMap(({ path, sent, answered }): Recorded[] => {
      const isVersion = path === '/.well-known/dspace-version';
      if (!isVersion && !path.startsWith('/dsp/2025-1/')) return [];
      const bodies = [
        { by: otherOf(side), message: objectIn(sent) },
        { by: side, message: objectIn(answered) },
      ];
      return bodies.flatMap(({ by, message }) =>
        message === undefined ? [] : [{ by, message, type: isVersion ? 'version' : String(message['@type']) }],
      );
    }),
  );

/** What the askers of this test wrote by hand, and no connector sends. */
const isByHand = ({ message, type }: Recorded): boolean =>
  type !== 'version' && message['@id'] === undefined && /Message$|^X$|^undefined$/.test(type);

const zodOf: Readonly<Record<string, z.ZodType>> = {
  Catalog: catalog,
  CatalogError: catalogError,
  CatalogRequestMessage: catalogRequestMessage,
  Dataset: datasetAnswer,
  ContractAgreementMessage: contractAgreementMessage,
  ContractAgreementVerificationMessage: contractAgreementVerificationMessage,
  ContractNegotiation: contractNegotiation,
  ContractNegotiationError: contractNegotiationError,
  ContractNegotiationEventMessage: contractNegotiationEventMessage,
  ContractNegotiationTerminationMessage: contractNegotiationTerminationMessage,
  ContractOfferMessage: contractOfferMessage,
  ContractRequestMessage: contractRequestMessage,
  TransferCompletionMessage: transferCompletionMessage,
  TransferError: transferError,
  TransferProcess: transferProcess,
  TransferRequestMessage: transferRequestMessage,
  TransferStartMessage: transferStartMessage,
  TransferSuspensionMessage: transferSuspensionMessage,
  TransferTerminationMessage: transferTerminationMessage,
  version: versionDocument,
};

const onlyProvider = ['Catalog', 'ContractAgreementMessage', 'ContractOfferMessage', 'Dataset'];
const onlyConsumer = [
  'CatalogRequestMessage',
  'ContractAgreementVerificationMessage',
  'ContractRequestMessage',
  'TransferRequestMessage',
];

describe('messages as they go over the line', () => {
  test('all of them are what the official schemas say, of every type and by both roles', () => {
    expect(schemas.count).toBe(26);
    const sent = recorded().filter((one) => !isByHand(one));
    const faults = sent.flatMap(({ by, type, message }) =>
      schemas.faults(type, message).map((fault) => `${by}: ${fault} ${JSON.stringify(message)}`),
    );
    expect(faults).toEqual([]);
    const seen = [...new Set(sent.map(({ by, type }) => `${by} ${type}`))].sort();
    const expected = messageTypes.flatMap((type) => [
      ...(onlyConsumer.includes(type) ? [] : [`provider ${type}`]),
      ...(onlyProvider.includes(type) ? [] : [`consumer ${type}`]),
    ]);
    expect(seen).toEqual(expected.sort());
  });

  test('each names one context, and no list of it is empty', () => {
    const emptyIn = (value: unknown): boolean =>
      typeof value === 'object' &&
      value !== null &&
      ((Array.isArray(value) && value.length === 0) || Object.values(value).some(emptyIn));
    const sent = recorded().filter((one) => !isByHand(one) && one.type !== 'version');
    expect(sent.length).toBeGreaterThan(60);
    for (const { message } of sent) {
      expect(message['@context']).toEqual(['https://w3id.org/dspace/2025/1/context.jsonld']);
      expect(emptyIn(message), JSON.stringify(message)).toBe(false);
    }
  });

  test('a request for a push has the address it goes to, and one for a pull has none', () => {
    const asked = recorded().filter(({ type }) => type === 'TransferRequestMessage');
    const shapes = asked.map(({ message }) => `${message.format} ${'dataAddress' in message}`);
    expect(new Set(shapes)).toEqual(new Set(['StekkerHttp-PULL false', 'HttpData-PUSH true']));
  });

  test('first messages have a call-back address and no pid of the peer, counter-offers the other way round', () => {
    const sent = recorded().filter((one) => !isByHand(one));
    for (const [type, own, its] of [
      ['ContractRequestMessage', 'consumerPid', 'providerPid'],
      ['ContractOfferMessage', 'providerPid', 'consumerPid'],
    ] as const) {
      const shapes = sent
        .filter((one) => one.type === type)
        .map(({ message }) => [own in message, its in message, 'callbackAddress' in message]);
      expect(new Set(shapes.map(String))).toEqual(new Set(['true,false,true', 'true,true,false']));
    }
  });

  test('the schemas find a message that is wrong: a number for a text, a context that is no list, rules left out', () => {
    const offer = recorded().find(({ type }) => type === 'ContractOfferMessage')?.message ?? {};
    const inner = offer.offer as Record<string, unknown>;
    const { permission, prohibition, ...bare } = inner;
    for (const wrong of [
      { ...offer, '@context': 'https://w3id.org/dspace/2025/1/context.jsonld' },
      { ...offer, offer: bare },
      { ...offer, offer: { ...inner, target: undefined } },
      { ...offer, consumerPid: 'x', callbackAddress: 'https://x.example' },
    ])
      expect(schemas.faults('ContractOfferMessage', wrong).length).toBeGreaterThan(0);
    const terminated = { ...offer, '@type': 'TransferTerminationMessage', providerPid: 'a', consumerPid: 'b', code: 5 };
    expect(schemas.faults('TransferTerminationMessage', terminated).length).toBeGreaterThan(0);
  });
});

/** Slips of the standard's own examples (dsp §10.2), and messages that its HTTPS binding does not use. */
const notForUs: ReadonlySet<string> = new Set([
  'catalog/example/dataset-request-message.json',
  'common/example/catalogservice-did-service.json',
  'common/example/dataservice-did-service.json',
]);

describe("the standard's own examples", () => {
  test('are read by us as their schemas read them', () => {
    const wrong: string[] = [];
    let read = 0;
    for (const [path, example] of dspExamples()) {
      if (notForUs.has(path)) continue;
      const type = path.startsWith('common/') ? 'version' : String((example as { '@type'?: unknown })['@type']);
      read += 1;
      const [official, own] = [schemas.faults(type, example), zodOf[type]?.safeParse(example)];
      if (official.length > 0 || own?.success !== true)
        wrong.push(`${path}: ${official.join()} ${own?.error?.message}`);
    }
    expect(wrong).toEqual([]);
    expect(read).toBe(24);
  });
});
