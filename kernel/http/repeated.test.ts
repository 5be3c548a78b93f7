import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { createGuardedClient } from './client.ts';
import { repeated } from './repeated.ts';

/** A server that answers its requests one way after the other, and who asks it. */
const world = async (answers: readonly RequestListener[]) => {
  let asked = 0;
  const server = createServer((request, response) => {
    asked += 1;
    answers[Math.min(asked, answers.length) - 1]?.(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const client = createGuardedClient({ allowLoopbackHttp: true });
  const url = `http://localhost:${port}/`;
  return {
    asked: () => asked,
    ask: () => repeated(() => client.request({ method: 'GET', url, timeoutMs: 400, maxBytes: 100 })),
    [Symbol.asyncDispose]: async () => {
      await client[Symbol.asyncDispose]();
      server.closeAllConnections();
      server.close();
    },
  };
};

const lost: RequestListener = (request) => request.socket.destroy();
const answer =
  (status: number): RequestListener =>
  (_request, response) =>
    response.writeHead(status).end();

describe('what may be asked twice', () => {
  test.each([
    ['a connection that was lost', lost],
    ['an answer that it cannot be now', answer(503)],
  ])('is asked again after %s', async (_name, first) => {
    await using its = await world([first, first, answer(200)]);
    expect((await its.ask()).status).toBe(200);
    expect(its.asked()).toBe(3);
  });

  test('and no more than twice', async () => {
    await using refusing = await world([answer(503)]);
    expect((await refusing.ask()).status).toBe(503);
    expect(refusing.asked()).toBe(3);
    await using gone = await world([lost]);
    await expect(gone.ask()).rejects.toMatchObject({ code: 'fetch-failed' });
    expect(gone.asked()).toBe(3);
  });

  test('and not after an answer, nor where none came in time', async () => {
    await using answering = await world([answer(500)]);
    expect((await answering.ask()).status).toBe(500);
    await using silent = await world([() => undefined]);
    await expect(silent.ask()).rejects.toMatchObject({ code: 'fetch-failed' });
    expect([answering.asked(), silent.asked()]).toEqual([1, 1]);
  });
});
