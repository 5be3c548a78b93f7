import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isAppError } from '../../contracts/errors.ts';
import { isLoopbackAddress, isPublicAddress, refusalOf } from './addresses.ts';
import { createGuardedClient, type Resolve } from './client.ts';

let server: Server;
let port = 0;
let asked = 0;
beforeAll(async () => {
  server = createServer((request, response) => {
    asked += 1;
    if (request.url === '/redirect') response.writeHead(302, { location: 'http://localhost/other' }).end();
    else if (request.url === '/long') response.end(Buffer.alloc(100_000));
    else if (request.url === '/slow') setTimeout(() => response.end('late'), 2_000).unref();
    else response.writeHead(200, { 'x-two': ['a', 'b'] }).end(`${request.method} ${request.url}`);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
});
afterAll(() => server.close());

const codeOf = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work;
  } catch (error) {
    if (isAppError(error)) return error.code;
    throw error;
  }
  return 'none';
};
const limits = { timeoutMs: 1_000, maxBytes: 10_000 } as const;
const development = { allowLoopbackHttp: true };
const production = { allowLoopbackHttp: false };

describe('addresses that may be called', () => {
  test.each([
    '10.0.0.1',
    '127.0.0.1',
    '127.9.9.9',
    '169.254.169.254',
    '172.31.255.255',
    '192.168.1.1',
    '100.64.0.1',
    '0.0.0.0',
    '224.0.0.1',
    '255.255.255.255',
    '192.0.2.1',
    '198.18.0.1',
    '::1',
    '::',
    'fe80::1',
    'fc00::1',
    'fd12::1',
    '::ffff:10.0.0.1',
    '::ffff:127.0.0.1',
    '64:ff9b::a00:1',
    '2002:a00:1::',
    '2001:db8::1',
    '2001::1',
    'ff02::1',
    'no address',
    '',
  ])('%j is not one of the public internet', (address) => expect(isPublicAddress(address)).toBe(false));

  test.each(['93.184.216.34', '8.8.8.8', '172.32.0.1', '100.63.255.255', '2606:4700::1111', '2a00:1450:400e::1'])(
    '%s is',
    (address) => {
      expect(isPublicAddress(address)).toBe(true);
      expect(isLoopbackAddress(address)).toBe(false);
    },
  );

  test.each([
    ['http://example.org/', 'not https'],
    ['https://127.0.0.1/', 'an address instead of a host'],
    ['https://[::1]/', 'an address instead of a host'],
    ['https://2130706433/', 'an address instead of a host'],
    ['https://0x7f.1/', 'an address instead of a host'],
    ['https://localhost/', 'a local host'],
    ['https://db.internal/', 'a local host'],
    ['https://printer.local/', 'a local host'],
    ['https://intranet/', 'a local host'],
    ['https://a.localhost/', 'a local host'],
    ['https://user:pw@example.org/', 'user name or password'],
    ['https://example.org:22/', 'port'],
    ['https://example.org/%2e%2e/x', 'hides separators'],
    ['https://example.org/a%2Fb', 'hides separators'],
    ['https://example.org/#x', 'fragment'],
    ['file:///etc/passwd', 'not https'],
    ['no url', 'no URL'],
    [`https://example.org/${'x'.repeat(2100)}`, 'too long'],
  ])('%s is refused', (url, why) => expect(refusalOf(url, production)).toContain(why));

  test('ordinary addresses are allowed, and plain HTTP on localhost only in development', () => {
    expect(refusalOf('https://example.org:8443/a?b=c', production)).toBeUndefined();
    expect(refusalOf('http://localhost:4000/a', development)).toBeUndefined();
    expect(refusalOf('http://localhost:4000/a', production)).toContain('not https');
    expect(refusalOf('http://127.0.0.1:4000/a', development)).toContain('not https');
    expect(refusalOf('http://example.org/', development)).toContain('not https');
  });
});

describe('guarded client', () => {
  test('an origin that the operator configured is reached where it is, and nothing else is', async () => {
    const resolve: Resolve = async () => [{ address: '127.0.0.1', family: 4 }];
    const operatorOrigins = [`http://node.internal:${port}`, `http://127.0.0.1:${port}`];
    await using client = createGuardedClient({ ...production, resolve, operatorOrigins });
    for (const origin of operatorOrigins) {
      const answer = await client.request({ method: 'GET', url: `${origin}/x`, ...limits });
      expect(answer.status).toBe(200);
    }
    for (const url of [
      `http://other.internal:${port}/x`,
      `http://node.internal:${port + 1}/x`,
      `https://node.internal:${port}/x`,
      `http://user@node.internal:${port}/x`,
      `http://localhost:${port}/x`,
      `https://public.example:${port}/x`,
    ])
      expect(await codeOf(client.request({ method: 'GET', url, ...limits })), url).toBe('address-refused');
  });

  test('gives status, headers and body', async () => {
    await using client = createGuardedClient(development);
    const answer = await client.request({ method: 'POST', url: `http://localhost:${port}/x`, body: 'hi', ...limits });
    expect([answer.status, Buffer.from(answer.body).toString(), answer.headers['x-two']]).toEqual([
      200,
      'POST /x',
      'a, b',
    ]);
  });

  test('follows no redirect', async () => {
    await using client = createGuardedClient(development);
    const before = asked;
    expect((await client.request({ method: 'GET', url: `http://localhost:${port}/redirect`, ...limits })).status).toBe(
      302,
    );
    expect(asked).toBe(before + 1);
  });

  test('counts the bytes and the seconds', async () => {
    await using client = createGuardedClient(development);
    expect(await codeOf(client.request({ method: 'GET', url: `http://localhost:${port}/long`, ...limits }))).toBe(
      'fetch-failed',
    );
    expect(
      await codeOf(
        client.request({ method: 'GET', url: `http://localhost:${port}/slow`, timeoutMs: 100, maxBytes: 10 }),
      ),
    ).toBe('fetch-failed');
    expect(await codeOf(client.request({ method: 'GET', url: 'http://localhost:1/', ...limits }))).toBe('fetch-failed');
  });

  test('a name that leads to a private address is refused, also when only one of its addresses does', async () => {
    const to =
      (...addresses: string[]): Resolve =>
      async () =>
        addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
    for (const resolve of [to('127.0.0.1'), to('93.184.216.34', '10.0.0.1'), to('::ffff:127.0.0.1'), to()]) {
      await using client = createGuardedClient({ ...production, resolve });
      const before = asked;
      expect(await codeOf(client.request({ method: 'GET', url: `https://rebind.example:${port}/`, ...limits }))).toBe(
        'address-refused',
      );
      expect(asked).toBe(before);
    }
  });

  test('nothing is sent to an address that is refused', async () => {
    await using client = createGuardedClient(production);
    const before = asked;
    expect(await codeOf(client.request({ method: 'GET', url: `http://localhost:${port}/`, ...limits }))).toBe(
      'address-refused',
    );
    expect(asked).toBe(before);
  });
});
