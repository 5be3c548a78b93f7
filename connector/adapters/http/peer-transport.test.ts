import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Hono } from 'hono';
import { afterEach, describe, expect, test } from 'vitest';
import type { Did, ParticipantId } from '../../../contracts/ids.ts';
import { createGuardedClient } from '../../../kernel/http/client.ts';
import { serveRoutes } from '../../../kernel/http/server.ts';
import { systemRandom } from '../../../kernel/random.ts';
import { readTraceId } from '../../../kernel/trace.ts';
import { createPeerTransport } from './peer-transport.ts';

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one[Symbol.asyncDispose]();
});

interface Received {
  readonly type: string | undefined;
  readonly token: string | undefined;
  readonly id: string | undefined;
  readonly trace: string | undefined;
  readonly text: string;
}

/** A peer that tells what it received. */
const world = async () => {
  const received: Received[] = [];
  const app = new Hono();
  app.all('*', async (c) => {
    received.push({
      type: c.req.header('content-type'),
      token: c.req.header('authorization'),
      id: c.req.header('idempotency-key'),
      trace: readTraceId(c.req.header('traceparent')),
      text: await c.req.text(),
    });
    if (c.req.path === '/broken') return c.text('{', 200, { 'content-type': 'application/json' });
    if (c.req.path === '/page') return c.html('{"got":true}');
    return c.json({ got: true });
  });
  const server = await serveRoutes(app, { host: 'localhost', port: 0 });
  const client = createGuardedClient({ allowLoopbackHttp: true });
  open.push(server, client);
  const transport = createPeerTransport({
    client,
    tokens: (participant) => ({
      tokenFor: ({ audience, scopes = [] }) => `Bearer ${participant} ${audience} ${scopes.join(',')}`,
      accessTokenFor: () => '',
      readAccessToken: () => undefined,
    }),
    scopes: ['a', 'b'],
    random: systemRandom,
  });
  const call = { participant: 'us' as ParticipantId, peer: 'did:web:peer.example' as Did };
  return { received, transport, call, root: `http://localhost:${server.port}` };
};

describe('messages to peers', () => {
  test('a body goes as JSON, with a token for this peer and its id', async () => {
    const { received, transport, call, root } = await world();
    const answer = await transport.post({ ...call, url: `${root}/x`, id: 'one', body: { a: 1 } });
    expect(answer).toEqual({ status: 200, body: { got: true }, newest: '' });
    expect(received).toEqual([
      {
        type: 'application/json',
        token: 'Bearer us did:web:peer.example a,b',
        id: 'one',
        trace: expect.stringMatching(/^[\da-f]{32}$/),
        text: '{"a":1}',
      },
    ]);
  });

  test('goes with the trace of its process', async () => {
    const { received, transport, call, root } = await world();
    const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
    await transport.post({ ...call, url: `${root}/x`, id: 'one', body: {}, trace });
    await transport.get({ ...call, url: `${root}/x`, trace });
    expect(received.map((one) => one.trace)).toEqual([trace, trace]);
  });

  test('a page goes as NDJSON: the body first, then a line for each row', async () => {
    const { received, transport, call, root } = await world();
    const lines = [{ n: '1' }, { n: '2', text: 'a\nb' }];
    await transport.post({ ...call, url: `${root}/x`, id: 'one', body: { page: 1 }, lines });
    expect(received[0]?.type).toBe('application/x-ndjson');
    expect(received[0]?.text).toBe('{"page":1}\n{"n":"1"}\n{"n":"2","text":"a\\nb"}\n');
  });

  test('an answer without a media type is read as JSON, one of another type is not', async () => {
    const { transport, call, root } = await world();
    const untyped = createServer((_incoming, outgoing) => outgoing.end('{"got":true}')).listen(0, 'localhost');
    await once(untyped, 'listening');
    open.push({ [Symbol.asyncDispose]: async () => void untyped.close() });
    const { port } = untyped.address() as AddressInfo;
    const post = (url: string) => transport.post({ ...call, url, id: 'one', body: {} });
    expect((await post(`http://localhost:${port}/`)).body).toEqual({ got: true });
    expect((await post(`${root}/page`)).body).toBeUndefined();
  });

  test('an answer that cannot be read says nothing; its status speaks', async () => {
    const { transport, call, root } = await world();
    expect(await transport.get({ ...call, url: `${root}/broken` })).toEqual({
      status: 200,
      body: undefined,
      newest: '',
    });
  });
});
