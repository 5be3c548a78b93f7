import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { until } from '../support/broker-bench.ts';
import { type ConnectorBench, connectorBench, type OperatedConnector } from '../support/chain-world.ts';

/**
 * Offers and counter-offers between two real connectors (dsp §5, odrl §7): by policy and mandate, by people, and with the
 * provider beginning.
 */

const crisis = 'urn:stekker:1:purpose:crisis';
const research = 'urn:stekker:1:purpose:research';
const purpose = (...values: string[]) => ({ leftOperand: 'odrl:purpose', operator: 'isAnyOf', rightOperand: values });
const permit = (...constraint: object[]) => ({
  permission: [{ action: 'use', ...(constraint.length === 0 ? {} : { constraint }) }],
});

interface View {
  readonly id: string;
  readonly peerPid: string | null;
  readonly state: string;
  readonly status: string;
  readonly offerBy: string;
  readonly offer: Record<string, unknown>;
  readonly agreementId: string | null;
  readonly ending: { readonly by: string; readonly code: string; readonly reasons: string[] } | null;
}

let benches: ConnectorBench[] = [];
let provider: OperatedConnector;
let byHand: OperatedConnector;
let consumer: OperatedConnector;

const publish = async (at: OperatedConnector, bench: ConnectorBench, id: string, rules: object[]) => {
  const path = join(bench.folder, 'levels.json');
  writeFileSync(path, '{"level":3}');
  const asset = await at.operate('POST', '/v1/assets', { id, title: 'Levels', upstream: { kind: 'file', path } });
  expect(asset.status).toBe(201);
  for (const [index, one] of rules.entries()) {
    const offer = await at.operate('POST', '/v1/offers', { id: `${id}:${index}`, asset: id, rules: one });
    expect(offer.body).toMatchObject({ id: `${id}:${index}` });
  }
};

beforeAll(async () => {
  const [a, b, c] = [
    await connectorBench(),
    await connectorBench({ STEKKER_COUNTER_OFFERS: 'operator' }),
    await connectorBench(),
  ];
  benches = [a, b, c];
  provider = await a.start();
  byHand = await b.start();
  consumer = await c.start();
  await publish(provider, a, 'urn:levels', [permit(purpose(crisis)), permit(purpose(research))]);
  await publish(byHand, b, 'urn:levels', [permit(purpose(crisis))]);
});
afterAll(async () => {
  for (const one of [consumer, byHand, provider, ...benches]) await one?.[Symbol.asyncDispose]();
});

const view = async (at: OperatedConnector, id: string): Promise<View> =>
  (await at.operate('GET', `/v1/negotiations/${encodeURIComponent(id)}`)).body as unknown as View;
const reaches = (at: OperatedConnector, id: string, holds: (row: View) => boolean): Promise<View> =>
  until(async () => {
    const row = await view(at, id);
    return holds(row) ? row : undefined;
  });
const inForce = (row: View): boolean => row.status === 'in-force';
const isIn = (state: string) => (row: View) => row.state === state;
const begin = async (wish: object, from: OperatedConnector = consumer): Promise<View> => {
  const answer = await from.operate('POST', '/v1/negotiations', { dataset: 'urn:levels', ...wish });
  expect(answer.body).toMatchObject({ id: expect.any(String) });
  return answer.body as unknown as View;
};
const decide = (at: OperatedConnector, id: string, decision: object) =>
  at.operate('POST', `/v1/negotiations/${encodeURIComponent(id)}/decisions`, decision);
const agreedBy = async (at: OperatedConnector, agreementId: string | null) =>
  (await at.operate('GET', `/v1/agreements/${encodeURIComponent(agreementId ?? '')}`)).body;

describe('offers between two connectors', { timeout: 60_000 }, () => {
  test('more than what is published is answered by a counter-offer, and that by an agreement within the mandate', async () => {
    const ask = permit(purpose(crisis, 'urn:stekker:1:purpose:planning'));
    const { id } = await begin({
      provider: provider.did,
      offer: 'urn:levels:0',
      ask,
      mandate: { least: permit(purpose(crisis)) },
    });
    const done = await reaches(consumer, id, inForce);
    expect(done).toMatchObject({ state: 'FINALIZED', offerBy: 'provider' });
    expect(done.offer['urn:stekker:1:terms']).toEqual([
      expect.stringContaining('Narrowed: for the purpose you asked'),
      expect.stringContaining('Beperkt: u vroeg voor het doel'),
    ]);
    const [mine, theirs] = [await agreedBy(consumer, done.agreementId), await agreedBy(provider, done.agreementId)];
    expect(mine).toMatchObject({ digest: theirs.digest, agreement: permit(purpose(crisis)) });
  });

  test('less than what is published is agreed to as it was asked', async () => {
    const ask = permit(purpose(crisis), {
      leftOperand: 'odrl:dateTime',
      operator: 'lt',
      rightOperand: '2099-01-01T00:00:00Z',
    });
    const { id } = await begin({ provider: provider.did, offer: 'urn:levels:0', ask });
    const done = await reaches(consumer, id, inForce);
    expect(await agreedBy(provider, done.agreementId)).toMatchObject({ agreement: ask });
  });

  test('another offer of the same dataset is agreed to where it is the one that fits', async () => {
    const { id } = await begin({ provider: provider.did, offer: 'urn:levels:0', ask: permit(purpose(research)) });
    const done = await reaches(consumer, id, inForce);
    expect(await agreedBy(provider, done.agreementId)).toMatchObject({ agreement: permit(purpose(research)) });
  });

  test('what lies outside the mandate is answered by the least that will do, and ends with reasons on both sides', async () => {
    const [first, least] = [permit(purpose(crisis, 'urn:a')), permit(purpose('urn:b', 'urn:a'))];
    const { id } = await begin({ provider: provider.did, offer: 'urn:levels:0', ask: first, mandate: { least } });
    const ended = await reaches(consumer, id, isIn('TERMINATED'));
    expect(ended.ending).toMatchObject({ by: 'peer', code: 'offer-refused' });
    expect(ended.ending?.reasons[0]).toContain('Refused: for the purpose you asked one of urn:b, urn:a');
    expect(await reaches(provider, ended.peerPid ?? '', isIn('TERMINATED'))).toMatchObject({
      ending: { by: 'us', code: 'offer-refused' },
    });
  });

  test('people make and answer offers where the owner wants it so', async () => {
    const ask = permit(purpose(crisis, research));
    const { id } = await begin({ provider: byHand.did, ask, mandate: 'operator' });
    const { peerPid } = await reaches(consumer, id, ({ state, peerPid: pid }) => state === 'REQUESTED' && pid !== null);
    const theirs = peerPid ?? '';
    const until2099 = { leftOperand: 'odrl:dateTime', operator: 'lt', rightOperand: '2099-01-01T00:00:00Z' };
    expect(
      await decide(byHand, theirs, { do: 'offer', rules: permit({ ...until2099, leftOperand: 'odrl:spatial' }) }),
    ).toMatchObject({
      status: 400,
      body: { errors: [{ path: '/rules/permission/0/constraint/0/leftOperand' }] },
    });
    expect((await decide(byHand, theirs, { do: 'offer', rules: permit(until2099) })).status).toBe(202);
    await reaches(consumer, id, isIn('OFFERED'));
    expect((await decide(consumer, id, { do: 'request', rules: permit(purpose(research), until2099) })).status).toBe(
      202,
    );
    await reaches(byHand, theirs, ({ state, offerBy }) => state === 'REQUESTED' && offerBy === 'consumer');
    expect((await decide(byHand, theirs, { do: 'offer', rules: permit(purpose(research)) })).status).toBe(202);
    const offered = await reaches(consumer, id, ({ state, offerBy }) => state === 'OFFERED' && offerBy === 'provider');
    expect(offered.offer).toMatchObject(permit(purpose(research)));
    expect((await decide(consumer, id, { do: 'accept' })).status).toBe(202);
    const done = await reaches(consumer, id, inForce);
    expect(await agreedBy(byHand, done.agreementId)).toMatchObject({ agreement: permit(purpose(research)) });
  });

  test('a provider begins, and the consumer answers when a person has decided', async () => {
    const made = await begin({ consumer: consumer.did, offer: 'urn:levels:1' }, provider);
    expect(made).toMatchObject({ role: 'provider', state: 'INITIAL' });
    const { peerPid } = await reaches(provider, made.id, isIn('OFFERED'));
    const mine = peerPid ?? '';
    expect(await view(consumer, mine)).toMatchObject({
      role: 'consumer',
      state: 'OFFERED',
      assurance: 'cosigned',
      offer: permit(purpose(research)),
    });
    expect((await decide(consumer, mine, { do: 'accept' })).status).toBe(202);
    const done = await reaches(consumer, mine, inForce);
    const [own, its] = [await agreedBy(consumer, done.agreementId), await agreedBy(provider, done.agreementId)];
    expect(own).toMatchObject({ digest: its.digest, assurance: 'cosigned', agreement: permit(purpose(research)) });
  });

  test('a consumer asks for less than the provider offered by itself, and gets it', async () => {
    const made = await begin({ consumer: consumer.did, offer: 'urn:levels:1' }, provider);
    const { peerPid } = await reaches(provider, made.id, isIn('OFFERED'));
    const less = permit(purpose(research), { leftOperand: 'odrl:count', operator: 'lteq', rightOperand: '10' });
    expect((await decide(consumer, peerPid ?? '', { do: 'request', rules: less })).status).toBe(202);
    const done = await reaches(consumer, peerPid ?? '', inForce);
    expect(await agreedBy(provider, done.agreementId)).toMatchObject({ agreement: less });
  });

  test('an offer is asked for as it was shown, without being looked up again, and refused when it no longer stands', async () => {
    const asset = {
      id: 'urn:shown',
      title: 'Shown',
      upstream: { kind: 'file', path: join(benches[0]?.folder ?? '', 'levels.json') },
    };
    const plan = { currency: 'EUR', scale: '2', lines: [{ unit: 'requests', quantity: '1', value: '5' }] };
    const policy = { rules: permit(purpose(crisis)) };
    const published = { ...asset, policy, price: plan };
    expect((await provider.operate('POST', '/v1/publications', published)).status).toBe(201);
    const shown = async () => {
      const path = `/v1/catalog/${encodeURIComponent(asset.id)}?provider=${encodeURIComponent(provider.did)}`;
      return ((await consumer.operate('GET', path)).body.offers as readonly Record<string, unknown>[])[0] ?? {};
    };
    const offer = await shown();
    const wish = { provider: provider.did, dataset: asset.id };
    const { id } = await begin({ ...wish, offer });
    const done = await reaches(consumer, id, inForce);
    expect(await agreedBy(provider, done.agreementId)).toMatchObject({ agreement: permit(purpose(crisis)) });

    const cheaper = { ...offer, price: { ...(offer.price as object), lines: [{ ...plan.lines[0], value: '1' }] } };
    for (const [other, path] of [
      [cheaper, '/offer/price'],
      [{ id: 'urn:x' }, '/offer'],
    ] as const) {
      const answer = await consumer.operate('POST', '/v1/negotiations', { ...wish, offer: other });
      expect([answer.status, answer.body.errors]).toEqual([400, [expect.objectContaining({ path })]]);
    }

    await provider.operate('DELETE', `/v1/offers/${encodeURIComponent(String(offer.id))}`);
    const late = await begin({ ...wish, offer });
    const refused = await reaches(consumer, late.id, isIn('TERMINATED'));
    expect(refused.ending).toMatchObject({ by: 'peer', code: 'not-found' });
    expect((await consumer.operate('POST', '/v1/negotiations', { ...wish, offer: offer.id })).status).toBe(404);
  });

  test('nobody is offered what is not published, and a wish is either an offer or a request', async () => {
    const none = { dataset: 'urn:levels', offer: 'urn:levels:9', consumer: consumer.did };
    expect((await provider.operate('POST', '/v1/negotiations', none)).status).toBe(404);
    for (const wish of [{}, { provider: provider.did, consumer: consumer.did }, { consumer: consumer.did }]) {
      const answer = await provider.operate('POST', '/v1/negotiations', { dataset: 'urn:levels', ...wish });
      expect([answer.status, answer.body.type]).toEqual([400, 'urn:stekker:1:error:body-invalid']);
    }
    const unknown = {
      provider: provider.did,
      dataset: 'urn:levels',
      ask: permit({ ...purpose(crisis), leftOperand: 'odrl:spatial' }),
    };
    expect((await consumer.operate('POST', '/v1/negotiations', unknown)).body).toMatchObject({
      errors: [{ path: '/ask/permission/0/constraint/0/leftOperand' }],
    });
  });
});
