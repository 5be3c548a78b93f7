import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dspaceContext } from '../../contracts/dsp/common.ts';
import { dataAddress as dataAddressForm, propertiesOf } from '../../contracts/dsp/transfer.ts';
import { until } from '../support/broker-bench.ts';
import {
  type ConnectorBench,
  connectorBench,
  managementToken,
  type OperatedConnector,
} from '../support/chain-world.ts';
import { journalOf, messageToken, newRequestId, rowsOf, tokensOf } from '../support/hostile.ts';

/**
 * Pushes between two real connectors, and between one of them and a consumer's own sink (dsp §6.2): the same admission and the
 * same records as every other access.
 */

const dataset = 'urn:levels';
const content = randomBytes(3_000_000);

let benches: ConnectorBench[] = [];
let provider: OperatedConnector;
let consumer: OperatedConnector;
let providerBench: ConnectorBench;
let consumerBench: ConnectorBench;

/** A consumer's own address for pushes, that answers as it is told. */
interface Sink {
  readonly url: string;
  readonly seen: { readonly method: string; readonly headers: IncomingMessage['headers']; readonly bytes: Buffer }[];
  answer: (request: IncomingMessage, response: ServerResponse, count: number) => void;
  readonly close: () => Promise<void>;
}
let sink: Sink;

const startSink = (): Promise<Sink> =>
  new Promise((resolve) => {
    const server = createServer((request, response) => {
      own.answer(request, response, own.seen.length);
    });
    const own: Sink = {
      url: '',
      seen: [],
      answer: (_request, response) => response.writeHead(200).end(),
      close: () =>
        new Promise((done) => {
          server.close(() => done());
          server.closeAllConnections();
        }),
    };
    server.listen(0, '127.0.0.1', () =>
      resolve(Object.assign(own, { url: `http://localhost:${(server.address() as AddressInfo).port}/in/x` })),
    );
  });

/** Reads all of a push, then answers. */
const take =
  (status: number): Sink['answer'] =>
  (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.once('end', () => {
      sink.seen.push({ method: request.method ?? '', headers: request.headers, bytes: Buffer.concat(chunks) });
      response.writeHead(status).end();
    });
  };

beforeAll(async () => {
  sink = await startSink();
  sink.answer = () => undefined;
  const settings = { STEKKER_SOURCE_ORIGINS: new URL(sink.url).origin };
  [providerBench, consumerBench] = [await connectorBench(settings), await connectorBench()];
  benches = [providerBench, consumerBench];
  provider = await providerBench.start();
  consumer = await consumerBench.start();
  const path = join(providerBench.folder, 'levels.bin');
  writeFileSync(path, content);
  const asset = { id: dataset, title: 'Levels', upstream: { kind: 'file', path } };
  expect((await provider.operate('POST', '/v1/assets', asset)).status).toBe(201);
  const rules = { permission: [{ action: 'use' }], prohibition: [{ action: 'odrl:sell' }] };
  const offer = { id: 'urn:open', asset: dataset, rules, assurance: 'plain-dsp' };
  expect((await provider.operate('POST', '/v1/offers', offer)).status).toBe(201);
  const slow = { kind: 'http', url: new URL('/slow', sink.url).href };
  expect((await provider.operate('POST', '/v1/assets', { id: 'urn:slow', title: 'Slow', upstream: slow })).status).toBe(
    201,
  );
  const slowOffer = { ...offer, id: 'urn:slow:offer', asset: 'urn:slow' };
  expect((await provider.operate('POST', '/v1/offers', slowOffer)).status).toBe(201);
  const once = { leftOperand: 'odrl:count', operator: 'lteq', rightOperand: { '@value': '1', '@type': 'xsd:integer' } };
  const limited = { permission: [{ action: 'use', constraint: [once] }] };
  const second = { id: 'urn:once', asset: dataset, rules: limited, assurance: 'plain-dsp' };
  expect((await provider.operate('POST', '/v1/offers', second)).status).toBe(201);
});
afterAll(async () => {
  for (const one of [consumer, provider, ...benches]) await one?.[Symbol.asyncDispose]();
  await sink?.close();
});

const view = async (at: OperatedConnector, id: string) =>
  (await at.operate('GET', `/v1/transfers/${encodeURIComponent(id)}`)).body;
const reaches = (at: OperatedConnector, id: string, ...states: string[]) =>
  until(async () => {
    const row = await view(at, id);
    return states.includes(String(row.state)) && row.pending === null ? row : undefined;
  });
const decide = async (at: OperatedConnector, id: string, decision: object) =>
  expect((await at.operate('POST', `/v1/transfers/${encodeURIComponent(id)}/decisions`, decision)).status).toBe(202);

/** An agreement of the consumer's, as its connector makes it. */
const agree = async (offer = 'urn:open', of = dataset): Promise<string> => {
  const wish = { provider: provider.did, dataset: of, offer };
  const asked = await consumer.operate('POST', '/v1/negotiations', wish);
  return until(async () => {
    const { body } = await consumer.operate('GET', `/v1/negotiations/${encodeURIComponent(String(asked.body.id))}`);
    return body.status === 'in-force' ? String(body.agreementId) : undefined;
  });
};

/** Asks for a push to an address of the consumer's own, by hand. */
const askPush = async (agreementId: string, endpoint: string | undefined, properties: Record<string, string> = {}) => {
  const endpointProperties = Object.entries(properties).map(([name, value]) => ({
    '@type': 'EndpointProperty',
    name,
    value,
  }));
  const dataAddress = {
    '@type': 'DataAddress',
    endpointType: 'HttpData',
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(endpointProperties.length === 0 ? {} : { endpointProperties }),
  };
  const answer = await fetch(`${providerBench.origin}/dsp/2025-1/transfers/request`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      authorization: messageToken(await tokensOf(consumerBench), provider.did as never),
    },
    body: JSON.stringify({
      '@context': [dspaceContext],
      '@type': 'TransferRequestMessage',
      consumerPid: `urn:uuid:${newRequestId()}`,
      agreementId,
      format: 'HttpData-PUSH',
      callbackAddress: `${sink.url}/dsp`,
      ...(endpoint === undefined && endpointProperties.length === 0 ? {} : { dataAddress }),
    }),
  });
  const body = (await answer.json()) as Record<string, unknown>;
  return { status: answer.status, body, pid: String(body.providerPid) };
};

/** Messages of the protocol to the sink's call-back address are acknowledged; pushes get what a test says. */
const pushesGet = (push: Sink['answer']): void => {
  sink.seen.length = 0;
  let count = 0;
  sink.answer = (request, response) => {
    if (request.url === '/slow/' || request.url === '/slow') return; // a source that gives nothing
    if (request.url?.includes('/dsp') === true) {
      request.resume();
      response.writeHead(200).end();
    } else push(request, response, count++);
  };
};
const recordsOf = async (bench: ConnectorBench, role: 'provider' | 'consumer', transfer: string) =>
  [...(await journalOf(bench, role)).values()].filter(({ open }) => open.transfer === transfer);

describe('pushes between two connectors', { timeout: 60_000 }, () => {
  test('the whole dataset arrives as a file, recorded by both under one id with the same bytes and digest', async () => {
    const wish = { provider: provider.did, dataset, push: true };
    const got = await consumer.operate('POST', '/v1/acquisitions', wish);
    expect([got.status, got.body]).toMatchObject([200, { dataset }]);
    const mine = String(got.body.transfer);
    const row = await view(consumer, mine);
    expect(row).toMatchObject({ state: 'COMPLETED', format: 'HttpData-PUSH', received: { bytes: content.length } });
    const answer = await fetch(
      `http://127.0.0.1:${consumer.managementPort}/v1/transfers/${encodeURIComponent(mine)}/content`,
      {
        headers: { authorization: `Bearer ${managementToken}` },
      },
    );
    expect(Buffer.from(await answer.arrayBuffer()).equals(content)).toBe(true);
    expect(answer.headers.get('content-disposition')).toBe('attachment');
    const theirs = String(row.peerPid);
    expect(await view(provider, theirs)).toMatchObject({ state: 'COMPLETED' });
    const [sent, ...more] = await recordsOf(providerBench, 'provider', theirs);
    const [taken, ...others] = await recordsOf(consumerBench, 'consumer', theirs);
    expect([more, others]).toEqual([[], []]);
    expect(sent?.close).toMatchObject({ outcome: 'ok', bytes: content.length, status: '200' });
    expect(taken?.open).toMatchObject({ request: sent?.open.request, target: sent?.open.target, method: 'PUT' });
    expect(taken?.close).toMatchObject({ outcome: 'ok', bytes: content.length, digest: sent?.close?.digest });
  });

  test('what is agreed to with two signatures is never pushed', async () => {
    const cosigned = { id: 'urn:cosigned', asset: dataset, rules: { permission: [{ action: 'use' }] } };
    expect((await provider.operate('POST', '/v1/offers', cosigned)).status).toBe(201);
    const agreementId = await agree('urn:cosigned');
    const answer = await consumer.operate('POST', '/v1/transfers', { agreementId, push: true });
    expect(answer.body).toMatchObject({ errors: [{ path: '/push' }] });
    expect(await askPush(agreementId, sink.url)).toMatchObject({ status: 400, body: { code: 'format-unsupported' } });
  });

  test('a push is an access: what the policy does not permit is not sent, and both sides know why', async () => {
    const agreementId = await agree('urn:once');
    const push = async () => {
      const { body } = await consumer.operate('POST', '/v1/transfers', { agreementId, push: true });
      return reaches(consumer, String(body.id), 'COMPLETED', 'TERMINATED');
    };
    expect(await push()).toMatchObject({ state: 'COMPLETED' });
    expect(await push()).toMatchObject({
      state: 'TERMINATED',
      received: null,
      ending: { code: 'push-failed', reasons: [expect.stringContaining('the number of times')] },
    });
  });
});

describe('the address of a push', { timeout: 60_000 }, () => {
  test('is checked like every address that a stranger gives', async () => {
    const agreementId = await agree();
    for (const [endpoint, code] of [
      ['http://10.0.0.1/in', 'address-refused'],
      ['http://169.254.169.254/latest', 'address-refused'],
      ['http://example.org/in', 'address-refused'],
      ['https://user:secret@example.org/in', 'address-refused'],
      ['ftp://example.org/in', 'body-invalid'],
      [undefined, 'body-invalid'],
    ] as const)
      expect([endpoint, await askPush(agreementId, endpoint)]).toMatchObject([
        endpoint,
        { status: 400, body: { '@type': 'TransferError', code } },
      ]);
    for (const properties of [{ method: 'DELETE' }, { authorization: 'a\r\nx-b: c' }])
      expect(await askPush(agreementId, sink.url, properties)).toMatchObject({
        status: 400,
        body: { code: 'body-invalid' },
      });
  });

  test('is called as it asks: method, authorization, and the request id that is on the record', async () => {
    const agreementId = await agree();
    pushesGet(take(204));
    const { pid } = await askPush(agreementId, sink.url, {
      method: 'PUT',
      authorization: 'the-token',
      authType: 'bearer',
    });
    await reaches(provider, pid, 'COMPLETED');
    const [one] = await recordsOf(providerBench, 'provider', pid);
    expect(sink.seen).toHaveLength(1);
    expect(sink.seen[0]).toMatchObject({
      method: 'PUT',
      headers: {
        authorization: 'Bearer the-token',
        'fsc-transaction-id': one?.open.request,
        'content-length': String(content.length),
      },
    });
    expect(sink.seen[0]?.bytes.equals(content)).toBe(true);
  });

  test('is read as another connector writes it: all of it in properties', async () => {
    const agreementId = await agree();
    pushesGet(take(200));
    const edc = 'https://w3id.org/edc/v0.0.1/ns/';
    const properties = {
      [`${edc}baseUrl`]: sink.url,
      [`${edc}authKey`]: 'Authorization',
      [`${edc}authCode`]: 'as it is',
    };
    const { pid } = await askPush(agreementId, undefined, properties);
    await reaches(provider, pid, 'COMPLETED');
    expect(sink.seen[0]).toMatchObject({ method: 'POST', headers: { authorization: 'as it is' } });
  });

  test('that leads elsewhere, or refuses, ends the transfer with the reason, and no byte follows a redirect', async () => {
    const agreementId = await agree();
    for (const status of [302, 401, 413]) {
      pushesGet((request, response) => {
        request.resume();
        response.writeHead(status, { location: `${sink.url}/elsewhere` }).end();
      });
      const { pid } = await askPush(agreementId, sink.url);
      expect(await reaches(provider, pid, 'TERMINATED')).toMatchObject({
        ending: { by: 'us', code: 'push-failed', reasons: [`The consumer's address answered ${status}.`] },
      });
      const records = await recordsOf(providerBench, 'provider', pid);
      expect(records.map(({ close }) => close?.outcome)).toEqual(['partial']);
    }
  });

  test('that fails for a while is tried again from the beginning, each time with a record of its own', async () => {
    const agreementId = await agree();
    pushesGet((request, response, count) => {
      if (count === 0) request.once('data', () => request.socket.destroy());
      else take(count === 1 ? 503 : 200)(request, response, count);
    });
    const { pid } = await askPush(agreementId, sink.url);
    await reaches(provider, pid, 'COMPLETED');
    const records = await recordsOf(providerBench, 'provider', pid);
    expect(records.map(({ close }) => close?.outcome)).toEqual(['partial', 'partial', 'ok']);
    expect(new Set(records.map(({ open }) => open.request)).size).toBe(3);
  });

  test('that keeps failing is given up, and the transfer ends', async () => {
    const agreementId = await agree();
    let tries = 0;
    pushesGet((request, response) => {
      tries += 1;
      request.resume();
      response.writeHead(503).end();
    });
    const { pid } = await askPush(agreementId, sink.url);
    await until(async () => (tries >= 6 ? true : undefined));
    const row = await reaches(provider, pid, 'TERMINATED').catch(() => reaches(provider, pid, 'TERMINATED'));
    expect(row).toMatchObject({ ending: { code: 'push-failed', reasons: ["The consumer's address answered 503."] } });
    expect(tries).toBe(8);
  });

  test('a suspension stops it at once, and the resumption brings all of it', async () => {
    const agreementId = await agree();
    let first = 0;
    pushesGet((request, response, count) => {
      if (count > 0) return take(200)(request, response, count);
      request.once('data', (chunk: Buffer) => {
        first = chunk.length;
        request.pause(); // a reader who takes a little and then nothing
      });
    });
    const { pid } = await askPush(agreementId, sink.url);
    await until(() => (first > 0 ? true : undefined));
    await decide(provider, pid, { do: 'suspend' });
    await reaches(provider, pid, 'SUSPENDED');
    const [cut] = await until(async () => {
      const records = await recordsOf(providerBench, 'provider', pid);
      return records[0]?.close === undefined ? undefined : records;
    });
    expect(cut?.close).toMatchObject({ outcome: 'partial' });
    expect(sink.seen).toHaveLength(0);
    await decide(provider, pid, { do: 'start' });
    await reaches(provider, pid, 'COMPLETED');
    expect(sink.seen[0]?.bytes.equals(content)).toBe(true);
  });

  test('the end of the agreement stops it, and nothing is brought any more', async () => {
    const agreementId = await agree();
    let isOpen = false;
    pushesGet((request) => {
      isOpen = true;
      request.pause();
    });
    const { pid } = await askPush(agreementId, sink.url);
    await until(() => (isOpen ? true : undefined));
    const ended = await provider.operate('POST', `/v1/agreements/${encodeURIComponent(agreementId)}/end`, {});
    expect(ended.status).toBe(200);
    expect(await reaches(provider, pid, 'TERMINATED')).toMatchObject({ ending: { code: 'agreement-ended' } });
    expect(await askPush(agreementId, sink.url)).toMatchObject({ status: 400, body: { code: 'agreement-ended' } });
  });

  test('a push that was under way when the program stopped is brought by the next one', async () => {
    const agreementId = await agree();
    let isOpen = false;
    pushesGet((request, response, count) => {
      if (count > 0) return take(200)(request, response, count);
      isOpen = true;
      request.pause();
    });
    const { pid } = await askPush(agreementId, sink.url);
    await until(() => (isOpen ? true : undefined));
    await provider[Symbol.asyncDispose]();
    provider = await providerBench.start();
    const row = await reaches(provider, pid, 'COMPLETED').catch(() => reaches(provider, pid, 'COMPLETED'));
    expect(row.state).toBe('COMPLETED');
    expect(sink.seen[0]?.bytes.equals(content)).toBe(true);
  });
});

describe('the address of our own', { timeout: 60_000 }, () => {
  /** A transfer that is started, and whose source gives nothing yet: its token is with its provider. */
  const waiting = async () => {
    const agreementId = await agree('urn:slow:offer', 'urn:slow');
    const { body } = await consumer.operate('POST', '/v1/transfers', { agreementId, push: true });
    const { peerPid } = await reaches(consumer, String(body.id), 'STARTED');
    const [row] = rowsOf(providerBench, 'select data from process where pid = ?', String(peerPid));
    const { dataAddress } = JSON.parse(String(row?.data)) as { dataAddress: unknown };
    const { authorization = '' } = propertiesOf(dataAddressForm.parse(dataAddress));
    return { mine: String(body.id), theirs: String(peerPid), agreementId, authorization };
  };
  const addressOf = (pid: string) => `${consumerBench.origin}/ext/1/pushes/${encodeURIComponent(pid)}`;
  const push = async (url: string, token: string | undefined, body = 'pushed by hand') => {
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const answer = await fetch(url, { method: 'PUT', headers, body });
    return { status: answer.status, text: await answer.text() };
  };

  test('takes nothing without its token, for another transfer, or after the end, and says no more than "nothing here"', async () => {
    const [one, two] = [await waiting(), await waiting()];
    const refused = [
      await push(addressOf(one.mine), undefined),
      await push(addressOf(one.mine), 'guessed'),
      await push(addressOf(one.mine), two.authorization),
      await push(addressOf('urn:uuid:none'), one.authorization),
      await push(`${consumerBench.origin}/ext/1/pushes/..%2F..%2Fx`, one.authorization),
    ];
    expect(new Set(refused.map(({ text }) => text)).size).toBe(1);
    expect(refused[0]?.status).toBe(404);
    expect(await view(consumer, one.mine)).toMatchObject({ received: null });
    expect(await push(addressOf(one.mine), one.authorization)).toMatchObject({ status: 201 });
    expect(await view(consumer, one.mine)).toMatchObject({ received: { bytes: 14 } });
    await decide(consumer, two.mine, { do: 'suspend' });
    await reaches(consumer, two.mine, 'SUSPENDED');
    expect(await push(addressOf(two.mine), two.authorization)).toMatchObject({ status: 503 });
    await decide(consumer, two.mine, { do: 'terminate' });
    await reaches(consumer, two.mine, 'TERMINATED');
    expect(await push(addressOf(two.mine), two.authorization)).toMatchObject({ status: 404, text: refused[0]?.text });
    const ended = await consumer.operate('POST', `/v1/agreements/${encodeURIComponent(one.agreementId)}/end`, {});
    expect(ended.status).toBe(200);
    expect((await push(addressOf(one.mine), one.authorization)).status).toBeGreaterThanOrEqual(400);
  });

  test('one that breaks off leaves the file before it as it was, and is stated as partial', async () => {
    const { mine, theirs, authorization } = await waiting();
    expect((await push(addressOf(mine), authorization)).status).toBe(201);
    const { port } = new URL(consumerBench.origin);
    const { pathname } = new URL(addressOf(mine));
    const socket = connect(Number(port), 'localhost');
    const head = `PUT ${pathname} HTTP/1.1\r\nhost: localhost:${port}\r\nauthorization: Bearer ${authorization}\r\ncontent-length: 100\r\n\r\n`;
    socket.write(`${head}only this`);
    const records = await until(async () => {
      const found = await recordsOf(consumerBench, 'consumer', theirs);
      return found.length === 2 ? found : undefined;
    });
    expect(records[1]?.close).toBe(undefined); // recorded before it is whole
    socket.destroy();
    const [, broken] = await until(async () => {
      const found = await recordsOf(consumerBench, 'consumer', theirs);
      return found[1]?.close === undefined ? undefined : found;
    });
    expect(broken?.close).toMatchObject({ outcome: 'partial', bytes: 9 });
    expect(readFileSync(join(consumerBench.config.STEKKER_DATA, 'received', mine.slice(9)), 'utf8')).toBe(
      'pushed by hand',
    );
    expect(await view(consumer, mine)).toMatchObject({ received: { bytes: 14 } });
  });

  test('the token is kept only as a hash beside the message that carries it away', async () => {
    const agreementId = await agree();
    const { body } = await consumer.operate('POST', '/v1/transfers', { agreementId, push: true });
    const mine = String(body.id);
    await reaches(consumer, mine, 'COMPLETED');
    const [row] = rowsOf(consumerBench, 'select data, outgoing from process where pid = ?', mine);
    expect(row?.outgoing).toBe(null);
    expect(String(row?.data)).toContain('"secretHash":');
    expect(String(row?.data)).not.toContain('"authorization"');
    expect(readFileSync(join(consumerBench.config.STEKKER_DATA, 'received', mine.slice(9))).equals(content)).toBe(true);
  });
});

describe('limits of a push', { timeout: 60_000 }, () => {
  test('what is larger than we take is refused, stated as partial, and leaves no file', async () => {
    const small = await connectorBench({ STEKKER_PUSH_MAX_BYTES: '1000000' });
    const running = await small.start();
    try {
      const got = await running.operate('POST', '/v1/acquisitions', { provider: provider.did, dataset, push: true });
      expect(got.status).toBe(409);
      expect(String(got.body.detail)).toContain('push-failed');
      const { body } = await running.operate('GET', '/v1/transfers');
      const [row] = body.items as { id: string; state: string; received: null }[];
      expect(row).toMatchObject({ state: 'TERMINATED', received: null });
      expect((await running.operate('GET', `/v1/transfers/${encodeURIComponent(row?.id ?? '')}/content`)).status).toBe(
        404,
      );
    } finally {
      await running[Symbol.asyncDispose]();
      await small[Symbol.asyncDispose]();
    }
  });
});
