import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { JsonObject } from '../../contracts/json.ts';
import { secretText } from '../support/secrets.ts';
import { edcAgreement, edcError, edcMessage, edcProcess, type ForeignWorld, openForeignWorld } from './stand-in.ts';
import { until } from './waiting.ts';

/** What EDC does in a transfer, and what we make of it (edc-interop §5). */

let world: ForeignWorld;
beforeEach(async () => {
  world = await openForeignWorld();
});
afterEach(() => world[Symbol.asyncDispose]());

const edc = 'https://w3id.org/edc/v0.0.1/ns/';
const token = secretText('token-of-edc');
const transferPid = '8b1f1d52-9c5b-4c0e-a64f-0d6a2f1f3c11';

/** A negotiation with EDC to its end: the agreement's id. */
const agree = async (rules: JsonObject = { permission: [{ action: 'use' }] }): Promise<string> => {
  const providerPid = crypto.randomUUID();
  world.edc.on('POST', '/negotiations/request', ({ body }) => ({
    status: 200,
    body: edcProcess('ContractNegotiation', providerPid, String(body.consumerPid), 'REQUESTED'),
  }));
  const pid = await world.begin('asset-1', rules);
  const members = { providerPid, consumerPid: pid };
  const agreement = edcAgreement({ assignee: world.id, target: 'asset-1', ...rules });
  const at = `/negotiations/${encodeURIComponent(pid)}`;
  await world.say(`${at}/agreement`, edcMessage('ContractAgreementMessage', { ...members, agreement }));
  await world.ours('negotiations', pid, ['VERIFIED']);
  await world.say(
    `${at}/events`,
    edcMessage('ContractNegotiationEventMessage', { ...members, eventType: 'FINALIZED' }),
  );
  await world.ours('negotiations', pid, ['FINALIZED']);
  return String(agreement['@id']);
};

/** A pull that EDC started, with its endpoint where EDC says it. */
const started = async (agreementId: string, endpoint: string): Promise<string> => {
  world.edc.on('POST', '/transfers/request', ({ body }) => ({
    status: 200,
    body: edcProcess('TransferProcess', transferPid, String(body.consumerPid), 'REQUESTED'),
  }));
  const { body } = await world.running.operate('POST', '/v1/transfers', { agreementId });
  const pid = String(body.id);
  await world.edc.hears('/transfers/request');
  const property = (name: string, value: string) => ({ '@type': 'EndpointProperty', name: `${edc}${name}`, value });
  const dataAddress = {
    '@type': 'DataAddress',
    endpointType: 'https://w3id.org/idsa/v4.1/HTTP',
    endpointProperties: [
      property('endpoint', endpoint),
      property('authorization', token),
      property('authType', 'bearer'),
    ],
  };
  const message = edcMessage('TransferStartMessage', { providerPid: transferPid, consumerPid: pid, dataAddress });
  expect((await world.say(`/transfers/${encodeURIComponent(pid)}/start`, message)).status).toBe(200);
  await world.ours('transfers', pid, ['STARTED']);
  return pid;
};

/** The data plane of somebody else, which says nothing by its status. */
const openProxy = async (status: number) => {
  const asked: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    asked.push(request.headers.authorization);
    response.writeHead(status).end('{"a":1}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://localhost:${(server.address() as AddressInfo).port}/public`,
    asked,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
};

const reader = async (agreementId: string) => {
  const { body } = await world.running.operate('POST', '/v1/applications', { application: 'urn:app:reader@1' });
  const place = `${world.running.gateway}/data/${encodeURIComponent(agreementId)}/`;
  return () => fetch(place, { headers: { authorization: `Bearer ${String(body.key)}` } });
};

describe('as its consumer', () => {
  test('the endpoint is read from its own property, and its token goes along as it is', async () => {
    await using proxy = await openProxy(200);
    const agreementId = await agree();
    const pid = await started(agreementId, proxy.url);
    expect(await world.ours('transfers', pid, ['STARTED'])).toMatchObject({ endpoint: proxy.url });
    const read = await reader(agreementId);
    expect(await (await read()).text()).toBe('{"a":1}');
    expect(proxy.asked).toEqual([token]);
  });

  test('a status of its proxy says nothing about the transfer, which stays open', async () => {
    await using proxy = await openProxy(500);
    const agreementId = await agree();
    const pid = await started(agreementId, proxy.url);
    const read = await reader(agreementId);
    for (const _ of [1, 2]) expect((await read()).status).toBe(500);
    expect(proxy.asked).toHaveLength(2);
    expect(await world.ours('transfers', pid, ['STARTED'])).toMatchObject({ ending: null });
  });

  test.each([
    ['suspension', 'TransferSuspensionMessage', 'SUSPENDED'],
    ['completion', 'TransferCompletionMessage', 'COMPLETED'],
    ['termination', 'TransferTerminationMessage', 'TERMINATED'],
  ])('its token, which does not run out by itself, is dropped at %s', async (path, type, state) => {
    await using proxy = await openProxy(200);
    const agreementId = await agree();
    const pid = await started(agreementId, proxy.url);
    const read = await reader(agreementId);
    expect((await read()).status).toBe(200);
    const message = edcMessage(type, { providerPid: transferPid, consumerPid: pid });
    await world.say(`/transfers/${encodeURIComponent(pid)}/${path}`, message);
    expect(await world.ours('transfers', pid, [state])).toMatchObject({ endpoint: null });
    expect((await read()).status).toBe(404);
    expect(proxy.asked).toHaveLength(1);
    expect(world.rows()).not.toContain(token);
  });

  test('our own end of it drops the token before EDC hears of it', async () => {
    await using proxy = await openProxy(200);
    const agreementId = await agree();
    const pid = await started(agreementId, proxy.url);
    world.edc.on('POST', `/transfers/${transferPid}/termination`, () => edcError('TransferError', 503, 'later'));
    const decision = { do: 'terminate', code: 'operator', reason: ['Klaar.'] };
    await world.running.operate('POST', `/v1/transfers/${encodeURIComponent(pid)}/decisions`, decision);
    expect(world.rows()).not.toContain(token);
    world.edc.on('POST', `/transfers/${transferPid}/termination`, () => ({ status: 200 }));
    const row = await world.ours('transfers', pid, ['TERMINATED']);
    expect(row.ending).toEqual({ by: 'us', code: 'operator', reasons: ['Klaar.'] });
  });

  test('a pull that nobody ends is ended by us when the term of its agreement is over', async () => {
    await using proxy = await openProxy(200);
    const inForce = { leftOperand: 'inForceDate', operator: 'lteq', rightOperand: 'contractAgreement+4s' };
    const agreementId = await agree({ permission: [{ action: 'use', constraint: [inForce] }] });
    const pid = await started(agreementId, proxy.url);
    const read = await reader(agreementId);
    expect((await read()).status).toBe(200);
    const { body } = await world.edc.hears(`/transfers/${transferPid}/termination`);
    expect(body).toMatchObject({ '@type': 'TransferTerminationMessage', consumerPid: pid, code: 'agreement-ended' });
    expect(await world.ours('transfers', pid, ['TERMINATED'])).toMatchObject({ ending: { by: 'us' } });
    const asked = proxy.asked.length;
    expect((await read()).status).toBeGreaterThanOrEqual(400);
    expect(proxy.asked).toHaveLength(asked);
  });

  test('a push that is quicker than the message that starts its transfer is held, and taken', async () => {
    const agreementId = await agree();
    let pushed: Promise<number> | undefined;
    world.edc.on('POST', '/transfers/request', ({ body }) => {
      const { endpointProperties } = body.dataAddress as { endpointProperties: { name: string; value: string }[] };
      const read = (name: string) => endpointProperties.find((one) => one.name === `${edc}${name}`)?.value ?? '';
      const headers = { [read('authKey')]: read('authCode'), 'content-type': 'application/json' };
      // Its data plane begins before its control plane has said so, or even answered.
      pushed = fetch(read('baseUrl'), { method: read('method'), headers, body: '{"a":1}' }).then(
        ({ status }) => status,
      );
      return { status: 200, body: edcProcess('TransferProcess', transferPid, String(body.consumerPid), 'REQUESTED') };
    });
    const { body } = await world.running.operate('POST', '/v1/transfers', { agreementId, push: true });
    const pid = String(body.id);
    await world.ours('transfers', pid, ['REQUESTED']);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const members = { providerPid: transferPid, consumerPid: pid };
    await world.say(`/transfers/${encodeURIComponent(pid)}/start`, edcMessage('TransferStartMessage', members));
    expect(await pushed).toBe(201);
    expect(await world.ours('transfers', pid, ['STARTED'])).toMatchObject({ received: { bytes: 7 } });
  });

  test('a request for a transfer that it refuses for now is sent again, and is one transfer', async () => {
    const agreementId = await agree();
    let tries = 0;
    world.edc.on('POST', '/transfers/request', ({ body }) => {
      tries += 1;
      return tries < 3
        ? { status: 503 }
        : { status: 200, body: edcProcess('TransferProcess', transferPid, String(body.consumerPid), 'REQUESTED') };
    });
    const { body } = await world.running.operate('POST', '/v1/transfers', { agreementId });
    await until('EDC to take it', () => (tries === 3 ? true : undefined));
    expect(await world.ours('transfers', String(body.id), ['REQUESTED'])).toMatchObject({ peerPid: transferPid });
    const asked = world.edc.heard.filter(({ path }) => path === '/transfers/request').map((one) => one.body);
    expect(new Set(asked.map((one) => one.consumerPid)).size).toBe(1);
  });
});
