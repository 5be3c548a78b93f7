import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { createGuardedClient } from './client.ts';
import { createRpc, guardedRpcTransport } from './json-rpc.ts';
import { listen } from './server.ts';

/** A node that answers one text, whatever it is asked. */
const answering = (text: string) => {
  const asked: string[] = [];
  const rpc = createRpc(async (body) => {
    asked.push(body);
    return text;
  });
  return { asked, rpc };
};

const block = z.object({ number: z.string() });

describe('JSON-RPC', () => {
  test('gives back a value of the form that was asked for', async () => {
    const { rpc, asked } = answering('{"jsonrpc":"2.0","id":1,"result":{"number":"0x1","more":1}}');
    expect(await rpc('eth_get', ['latest', false], block)).toEqual({ ok: true, value: { number: '0x1' } });
    await rpc('eth_get', [], block);
    expect(asked).toEqual([
      '{"jsonrpc":"2.0","id":1,"method":"eth_get","params":["latest",false]}',
      '{"jsonrpc":"2.0","id":2,"method":"eth_get","params":[]}',
    ]);
  });

  test('what a node refuses is a value, with at most a few words of it', async () => {
    const message = 'no'.repeat(5_000);
    const { rpc } = answering(JSON.stringify({ error: { code: -32_000, message, data: '0x08c379a0' } }));
    const answer = await rpc('eth_call', [], block);
    expect(answer).toMatchObject({ ok: false, code: -32_000, data: '0x08c379a0' });
    expect(!answer.ok && answer.message.length).toBe(300);
  });

  test.each([
    ['no JSON', '<html>gone</html>', 'did not answer eth_x in JSON-RPC'],
    ['another shape', '{"error":"no"}', 'did not answer eth_x in JSON-RPC'],
    ['nothing', '', 'did not answer eth_x in JSON-RPC'],
    ['another form', '{"result":{"number":7}}', 'answered eth_x with something else'],
    ['null', '{"result":null}', 'answered eth_x with something else'],
  ])('%s is a fault', async (_what, text, detail) => {
    await expect(answering(text).rpc('eth_x', [], block)).rejects.toMatchObject({
      code: 'fetch-failed',
      detail: expect.stringContaining(detail),
    });
  });

  test('goes through the guarded client, and no fault holds the path of the address', async () => {
    await using client = createGuardedClient({ allowLoopbackHttp: true });
    await using server = await listen(
      (_request, response) => void response.writeHead(429).end('{"error":{"code":-32005,"message":"slow down"}}'),
      { host: 'localhost', port: 0 },
    );
    const path = '/v3/marked-secret';
    const rpc = createRpc(guardedRpcTransport(client, `http://localhost:${server.port}${path}`));
    expect(await rpc('eth_x', [], block)).toMatchObject({ ok: false, message: 'slow down' });
    for (const url of [`http://localhost:1${path}`, `http://10.0.0.1${path}`]) {
      const fault = await createRpc(guardedRpcTransport(client, url))('eth_x', [], block).catch(
        (error: unknown) => error,
      );
      expect(fault).toMatchObject({ code: url.includes('10.0') ? 'address-refused' : 'fetch-failed' });
      expect(String(fault)).not.toContain('marked-secret');
    }
  });
});
