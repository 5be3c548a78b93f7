import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { partBytes } from '../../contracts/ledger/record.ts';
import {
  agreementDigest,
  providerPid,
  type SourceHandler,
  sendRaw,
  startWorld,
  until,
  type World,
} from '../../test/support/data-world.ts';
import { manyBytes } from '../../test/support/many-bytes.ts';

const folder = mkdtempSync(join(tmpdir(), 'stekker-streams-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('base64url');
const codeOf = ({ body }: { readonly body: Buffer }): string =>
  JSON.parse(body.toString()).type.replace('urn:stekker:1:error:', '');
const bytesPath = (bytes: number) => `/${providerPid}/bytes?bytes=${bytes}`;
const allClosed = (world: World) =>
  until(() => world.running() === 0 && world.meter().closed().length === world.meter().opened().length);

/** What has been read so far. */
const reader = () => {
  const chunks: Buffer[] = [];
  return { onData: (chunk: Buffer) => void chunks.push(chunk), text: () => Buffer.concat(chunks).toString() };
};

/** Sends the head and some bytes, and then nothing until it is told. */
const hangingSource = () => {
  const responses: (() => void)[] = [];
  let gone = 0;
  const source: SourceHandler = (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.write('first ');
    responses.push(() => response.end('last'));
    response.on('close', () => {
      if (!response.writableFinished) gone += 1;
    });
  };
  return { source, responses, gone: () => gone };
};

describe('a body', () => {
  test('of several parts has a record for each, with the digest of exactly its bytes', async () => {
    await using world = await startWorld();
    const token = await world.getToken();
    const size = 2 * partBytes + 12_345;
    const answer = await world.access(token, { path: bytesPath(size) });
    expect([answer.status, answer.body.length, answer.whole]).toEqual([200, size, true]);
    await allClosed(world);
    const bytes = manyBytes(size);
    expect(answer.body.equals(bytes)).toBe(true);
    const parts = [0, 1, 2].map((part) => bytes.subarray(part * partBytes, (part + 1) * partBytes));
    const { request } = world.meter().opened()[0] ?? {};
    expect(
      world
        .meter()
        .opened()
        .map((entry) => [entry.request, entry.part]),
    ).toEqual([
      [request, 1],
      [request, 2],
      [request, 3],
    ]);
    const closed = world
      .meter()
      .closed()
      .toSorted((a, b) => a.part - b.part);
    expect(closed).toMatchObject(
      parts.map((part, index) => ({
        request,
        part: index + 1,
        bytes: part.length,
        digest: sha(part),
        outcome: 'ok',
        status: '200',
        units: { ...(index === 0 ? { requests: '1' } : {}), bytes: String(part.length) },
      })),
    );
    expect(world.meter().count(agreementDigest)).toBe(1);
  });

  test('of exactly one part has one record', async () => {
    await using world = await startWorld();
    const answer = await world.access(await world.getToken(), { path: bytesPath(partBytes) });
    expect(answer.body.length).toBe(partBytes);
    await allClosed(world);
    expect(world.meter().closed()).toMatchObject([{ part: 1, bytes: partBytes, outcome: 'ok' }]);
  });

  test('stops where the window ends, and the record says how far it came', async () => {
    await using world = await startWorld({ provider: { bytes: 3 * 1_048_576 } });
    const answer = await world.access(await world.getToken(), { path: bytesPath(10_000_000) });
    expect([answer.status, answer.whole]).toEqual([200, false]);
    await allClosed(world);
    const [closed] = world.meter().closed();
    expect(closed).toMatchObject({ outcome: 'partial', status: '200' });
    expect(closed?.bytes).toBeLessThanOrEqual(3 * 1_048_576);
    expect(closed?.bytes).toBeGreaterThan(2 * 1_048_576);
    expect(closed?.digest).toBe(sha(manyBytes(closed?.bytes ?? 0)));
  });

  test('waits for the journal at the beginning of each part', async () => {
    await using world = await startWorld();
    let got = 0;
    let release: (() => void) | undefined;
    const pending = world.access(await world.getToken(), {
      path: bytesPath(partBytes + 1_000_000),
      onData: (chunk) => {
        if (got === 0) release = world.meter().hold();
        got += chunk.length;
      },
    });
    await until(() => got === partBytes);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(got).toBe(partBytes);
    release?.();
    expect((await pending).body.length).toBe(partBytes + 1_000_000);
  });

  test('goes at the pace of a slow reader, without being kept in memory', async () => {
    let sent = 0;
    await using world = await startWorld({
      source: (_request, response) => {
        response.writeHead(200, { 'content-length': 200_000_000 });
        const chunk = Buffer.alloc(1_000_000);
        const more = (): void => {
          while (sent < 200_000_000) {
            sent += chunk.length;
            if (!response.write(chunk)) {
              response.once('drain', more);
              return;
            }
          }
          response.end();
        };
        more();
      },
    });
    const token = await world.getToken();
    let wasPaused = false;
    const pending = world.access(token, {
      path: bytesPath(1),
      onData: (_chunk, response) => {
        if (wasPaused) return;
        wasPaused = true;
        response.pause();
        setTimeout(() => response.resume(), 300);
      },
    });
    await until(() => wasPaused);
    await new Promise((resolve) => setTimeout(resolve, 250));
    expect(sent).toBeLessThan(60_000_000);
    expect((await pending).body.length).toBe(200_000_000);
  });
});

describe('methods and conditions', () => {
  const file = join(folder, 'digits.txt');
  writeFileSync(file, '0123456789');

  test('HEAD is an access, without a body', async () => {
    await using world = await startWorld();
    const answer = await world.access(await world.getToken(), { path: bytesPath(1_000), method: 'HEAD' });
    expect([answer.status, answer.headers['content-length'], answer.body.length]).toEqual([200, '1000', 0]);
    await allClosed(world);
    expect(world.meter().closed()).toMatchObject([
      { bytes: 0, digest: sha(new Uint8Array(0)), outcome: 'ok', status: '200', units: { requests: '1' } },
    ]);
  });

  test('a range and a condition pass through, and are recorded as they were answered', async () => {
    await using world = await startWorld({ terms: { upstream: { kind: 'file', path: file } } });
    const token = await world.getToken();
    const at = `/${providerPid}/`;
    const part = await world.access(token, { path: at, range: 'bytes=2-4' });
    expect([part.status, part.body.toString(), part.headers['content-range']]).toEqual([206, '234', 'bytes 2-4/10']);
    const same = await world.access(token, { path: at, headers: ['if-none-match', String(part.headers.etag)] });
    expect([same.status, same.body.length]).toEqual([304, 0]);
    await allClosed(world);
    expect(world.meter().closed()).toMatchObject([
      { bytes: 3, digest: sha(Buffer.from('234')), status: '206', units: { requests: '1', bytes: '3' } },
      { bytes: 0, status: '304', units: {} },
    ]);
  });

  test('what is not there is answered as the source does, and costs nothing', async () => {
    await using world = await startWorld();
    const answer = await world.access(await world.getToken(), { path: `/${providerPid}/none` });
    expect([answer.status, answer.body.toString()]).toEqual([404, 'nothing']);
    await allClosed(world);
    expect(world.meter().closed()).toMatchObject([{ status: '404', bytes: 7, outcome: 'ok', units: {} }]);
  });
});

describe('the source', () => {
  test('sees what it needs and the secret of its owner, and nothing of the consumer', async () => {
    const seen: string[][] = [];
    await using world = await startWorld({
      credential: { name: 'x-api-key', sealed: 'sealed:MARKER' },
      source: (request, response) => {
        seen.push([request.url ?? '', ...request.rawHeaders.map((text) => text.toLowerCase())]);
        const headers = { 'set-cookie': 'a=b', location: 'http://inside.example/', server: 'inside', 'x-kept': 'yes' };
        response.writeHead(200, headers).end('ok');
      },
    });
    const answer = await world.access(await world.getToken(), {
      path: `/${providerPid}/a%20b?q=1`,
      headers: ['cookie', 'c=1', 'x-api-key', 'guess', 'accept', 'text/plain', 'connection', 'close, accept-language'],
    });
    expect(seen).toHaveLength(1);
    const [url, ...headers] = seen[0] ?? [];
    expect(url).toBe('/api/a%20b?q=1');
    const names = headers.filter((_text, index) => index % 2 === 0).toSorted();
    expect(names).toEqual(['accept', 'connection', 'host', 'x-api-key']);
    expect(headers[headers.indexOf('x-api-key') + 1]).toBe('marker');
    expect(answer.headers['x-kept']).toBe('yes');
    for (const name of ['set-cookie', 'location', 'server', 'x-api-key']) expect(answer.headers[name]).toBeUndefined();
  });

  test.each([
    ['http://10.0.0.1/x'],
    ['http://127.0.0.1:8080/x'],
    ['http://[::1]/x'],
    ['http://metadata.internal/x'],
    ['file:///etc/passwd'],
    ['http://user:secret@localhost:8080/x'],
  ])('at %s is never asked', async (url) => {
    await expect(startWorld({ terms: { upstream: { kind: 'http', url, credential: null } } })).rejects.toMatchObject({
      code: 'address-refused',
    });
  });
});

describe('a running access', () => {
  test('is cut when what it rests on is revoked', async () => {
    const hanging = hangingSource();
    await using world = await startWorld({ source: hanging.source });
    const reading = reader();
    const pending = world.access(await world.getToken(), { onData: reading.onData });
    await until(() => reading.text() === 'first ');
    world.revoke('urn:credential:membership');
    const answer = await pending;
    expect([answer.body.toString(), answer.whole]).toEqual(['first ', false]);
    await allClosed(world);
    expect(world.meter().closed()).toMatchObject([
      { bytes: 6, digest: sha(Buffer.from('first ')), outcome: 'partial' },
    ]);
    await until(() => hanging.gone() === 1);
  });

  test('is cut when the broker has been silent for too long', async () => {
    const hanging = hangingSource();
    await using world = await startWorld({ source: hanging.source, terms: { silence: 'strict' } });
    const reading = reader();
    const pending = world.access(await world.getToken(), { onData: reading.onData });
    await until(() => reading.text() !== '');
    world.silence(2_000);
    expect(world.running()).toBe(1);
    world.silence(3_001);
    expect((await pending).whole).toBe(false);
    await allClosed(world);
    expect(world.meter().closed()).toMatchObject([{ outcome: 'partial' }]);
  });

  test('is cut when its transfer is closed, before closing returns', async () => {
    const hanging = hangingSource();
    await using world = await startWorld({ source: hanging.source });
    const reading = reader();
    const pending = world.access(await world.getToken(), { onData: reading.onData });
    await until(() => reading.text() !== '');
    await world.closeTransfer();
    hanging.responses[0]?.();
    const answer = await pending;
    expect([answer.body.toString(), answer.whole]).toEqual(['first ', false]);
    await allClosed(world);
  });

  test('that has not begun gets an answer instead, and that is what is recorded', async () => {
    await using world = await startWorld({ source: () => undefined });
    const token = await world.getToken();
    const pending = world.access(token);
    await until(() => world.running() === 1 && world.meter().opened().length === 1);
    world.revoke(agreementDigest);
    const answer = await pending;
    expect([answer.status, codeOf(answer)]).toEqual([403, 'revoked']);
    await allClosed(world);
    const { length } = answer.body;
    expect(world.meter().closed()).toMatchObject([
      { status: '403', bytes: length, digest: sha(answer.body), outcome: 'ok', units: {} },
    ]);
  });

  test('that is revoked while the journal writes sends nothing of the source', async () => {
    await using world = await startWorld();
    const token = await world.getToken();
    const release = world.meter().hold();
    const pending = world.access(token);
    await until(() => world.running() === 1);
    await new Promise((resolve) => setTimeout(resolve, 30));
    world.revoke(agreementDigest);
    release();
    const answer = await pending;
    expect([answer.status, codeOf(answer)]).toEqual([403, 'revoked']);
    await allClosed(world);
  });

  test('whose client leaves is recorded as far as it came', async () => {
    const hanging = hangingSource();
    await using world = await startWorld({ source: hanging.source });
    await world.access(await world.getToken(), { onData: (_chunk, response) => void response.destroy() });
    await allClosed(world);
    expect(world.meter().closed()).toMatchObject([{ bytes: 6, outcome: 'partial', status: '200' }]);
    await until(() => hanging.gone() === 1);
  });

  test('whose client takes nothing for too long is cut', async () => {
    await using world = await startWorld({ idleMs: 300 });
    const paused = Promise.withResolvers<IncomingMessage>();
    const pending = world.access(await world.getToken(), {
      path: bytesPath(50_000_000),
      onData: (_chunk, response) => {
        response.pause();
        paused.resolve(response);
      },
    });
    const response = await paused.promise;
    await allClosed(world);
    expect(world.meter().closed()).toMatchObject([{ outcome: 'partial', status: '200' }]);
    response.destroy();
    expect((await pending).whole).toBe(false);
  });

  test('whose client leaves while the journal writes is recorded, with nothing sent', async () => {
    await using world = await startWorld();
    const token = await world.getToken();
    const release = world.meter().hold();
    const path = `/${providerPid}/rain`;
    const proof = token.maker.make(world.claimsFor(path, token.text));
    const socket = connect(world.dataPort, '127.0.0.1');
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: DPoP ${token.text}\r\nDPoP: ${proof}\r\n\r\n`);
    await until(() => world.running() === 1);
    socket.destroy();
    await until(() => world.running() === 0);
    release();
    await until(() => world.meter().closed().length === 1);
    expect(world.meter().closed()).toMatchObject([{ bytes: 0, outcome: 'partial' }]);
  });

  test('a second request on a connection before the first is answered ends the connection', async () => {
    await using world = await startWorld({ source: () => undefined });
    const token = await world.getToken();
    const path = `/${providerPid}/rain`;
    const ask = () => {
      const proof = token.maker.make(world.claimsFor(path, token.text));
      return `GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: DPoP ${token.text}\r\nDPoP: ${proof}\r\n\r\n`;
    };
    const socket = connect(world.dataPort, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(ask() + ask());
    await once(socket, 'close');
    await allClosed(world);
    expect(world.meter().opened()).toHaveLength(1);
  });
});

describe('a source that fails', () => {
  test('before it answers is 502, and recorded as what was sent', async () => {
    await using world = await startWorld({ source: (request) => void request.socket.destroy() });
    const answer = await world.access(await world.getToken());
    expect([answer.status, codeOf(answer)]).toEqual([502, 'upstream-failed']);
    await allClosed(world);
    expect(world.meter().closed()).toMatchObject([
      { status: '502', bytes: answer.body.length, digest: sha(answer.body), outcome: 'ok', units: {} },
    ]);
  });

  test('in the middle cuts the answer, and the record is partial', async () => {
    await using world = await startWorld({
      source: (request, response) => {
        response.writeHead(200, { 'content-length': 100 });
        response.write('half');
        setTimeout(() => request.socket.destroy(), 30);
      },
    });
    const answer = await world.access(await world.getToken());
    expect([answer.status, answer.body.toString(), answer.whole]).toEqual([200, 'half', false]);
    await allClosed(world);
    expect(world.meter().closed()).toMatchObject([{ bytes: 4, outcome: 'partial', status: '200' }]);
  });

  test('with a header that may not be sent on is 502', async () => {
    await using world = await startWorld({
      source: (request) => void request.socket.end('HTTP/1.1 200 OK\r\nx-odd: a\u0001b\r\ncontent-length: 2\r\n\r\nok'),
    });
    const answer = await world.access(await world.getToken());
    expect(answer.status).toBe(502);
    await allClosed(world);
  });

  test('by redirecting is not followed', async () => {
    let asked = 0;
    await using world = await startWorld({
      source: (_request, response) => {
        asked += 1;
        response.writeHead(302, { location: 'http://localhost:1/inside' }).end();
      },
    });
    const answer = await world.access(await world.getToken());
    expect([answer.status, answer.headers.location, asked]).toEqual([302, undefined, 1]);
  });
});

describe('items', () => {
  const pricePlan = {
    v: 1,
    type: 'price-plan',
    currency: 'EUR',
    scale: '4',
    free: false,
    notice: '',
    lines: [{ unit: 'items', quantity: '1', value: '25' }],
  } as const;
  const price = '8pldMWzXGFWWymna5r3o-n_BVGKMjeIQCXoAWy0XKA8';

  test('are counted by both sides, and no coding or range keeps them from it', async () => {
    const seen: string[] = [];
    await using world = await startWorld({
      terms: { price, pricePlan: { ...pricePlan, lines: [...pricePlan.lines] } },
      source: (request, response) => {
        seen.push(`${request.headers.range} ${request.headers['accept-encoding']}`);
        response.writeHead(200, { 'content-type': 'application/geo+json' }).end('{"features":[{},{},{}]}');
      },
    });
    const answer = await world.fetchData('/x', { headers: ['range', 'bytes=0-3', 'accept-encoding', 'gzip'] });
    expect(answer.status).toBe(200);
    expect(seen).toEqual(['undefined identity']);
    await allClosed(world);
    const units = { requests: '1', bytes: '23', items: '3' };
    expect(world.meter().closed()).toMatchObject([{ units }]);
    expect(world.consumerMeter.closed()).toMatchObject([{ units }]);
  });
});

describe('plain-dsp', () => {
  const bearerOf = (world: World) =>
    Object.fromEntries((world.address().endpointProperties ?? []).map(({ name, value }) => [name, value]));

  test('gives a bearer token under both names, that is good for five minutes', async () => {
    await using world = await startWorld({ terms: { assurance: 'plain-dsp' } });
    const properties = bearerOf(world);
    const edc = 'https://w3id.org/edc/v0.0.1/ns/';
    expect(world.address().endpointType).toBe('https://w3id.org/idsa/v4.1/HTTP');
    expect(properties).toMatchObject({ authType: 'bearer', [`${edc}authType`]: 'bearer' });
    expect(properties.authorization).toBe(properties[`${edc}authorization`]);
    const bearer = properties.authorization ?? '';
    const path = `/${providerPid}/rain`;
    const get = (authorization: string) =>
      sendRaw({ port: world.dataPort, path, headers: ['authorization', authorization] });
    expect((await get(`Bearer ${bearer}`)).status).toBe(200);
    expect((await get(bearer)).status).toBe(200);
    expect((await get(`DPoP ${bearer}`)).status).toBe(401);
    await world.restart();
    const answer = await get(`Bearer ${bearer}`);
    expect([answer.status, answer.headers['fsc-transaction-id']]).toEqual([
      200,
      expect.stringMatching(/^[0-9a-f-]{36}$/),
    ]);
    await allClosed(world);
    expect(world.meter().opened()[0]).toMatchObject({ application: '', purpose: '', run: '', proof: '' });
    world.move(300_001);
    expect((await get(`Bearer ${bearer}`)).status).toBe(401);
    await world.reopen();
    expect((await get(`Bearer ${bearer}`)).status).toBe(401);
    expect((await get(`Bearer ${bearerOf(world).authorization}`)).status).toBe(200);
  });

  test('gets no token at the endpoint, and its membership counts', async () => {
    const constraint = [
      { leftOperand: 'urn:stekker:1:membership', operator: 'eq', rightOperand: 'did:web:broker.example' },
    ];
    await using world = await startWorld({
      terms: { assurance: 'plain-dsp', rules: { permission: [{ action: 'use', constraint }] } },
    });
    const bearer = bearerOf(world).authorization ?? '';
    expect(await world.askToken({ form: { grant: bearer } })).toMatchObject({
      status: 400,
      body: { error: 'invalid_grant' },
    });
    expect((await world.fetchData('/rain', { purpose: '' })).status).toBe(200);
    world.setFacts('none');
    await world.reopen();
    expect((await world.fetchData('/rain')).status).toBe(403);
  });
});
