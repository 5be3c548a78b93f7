import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Agent, request } from 'undici';

/** A line between two connectors: everything passes, everything is written down, and what a test says gets lost. */

export interface Exchange {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** 0 when the answer never came back. */
  readonly status: number;
  readonly answer: string;
}

/** What becomes of a message: it passes; it arrives and its answer is lost; it is answered by somebody on the way. */
export type Fate = 'passes' | 'answer-lost' | { readonly status: number };

export interface Line extends AsyncDisposable {
  readonly origin: string;
  readonly exchanges: readonly Exchange[];
  /** Decides for each message from now on; undefined lets everything pass. */
  fate: ((message: Pick<Exchange, 'method' | 'path' | 'body'>) => Fate) | undefined;
}

const bodyOf = async (message: AsyncIterable<Buffer>): Promise<string> => {
  const parts: Buffer[] = [];
  for await (const part of message) parts.push(part);
  return Buffer.concat(parts).toString('utf8');
};

/** Headers of one connection only, and what a client computes anew. */
const ofConnection = new Set(['connection', 'content-length', 'keep-alive', 'transfer-encoding', 'expect']);

const passed = (headers: IncomingMessage['headers']): Record<string, string> =>
  Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) =>
      ofConnection.has(name) || value === undefined ? [] : [[name, String(value)]],
    ),
  );

/** Opens a line to an origin that may not be known yet. */
export const openLine = async (target: () => string): Promise<Line> => {
  const agent = new Agent();
  const exchanges: Exchange[] = [];
  const line = { fate: undefined as Line['fate'] };

  const pass = async (message: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method = 'GET', url: path = '/' } = message;
    const headers = passed(message.headers);
    const body = await bodyOf(message);
    const seen = { method, path, headers, body };
    const fate = line.fate?.(seen) ?? 'passes';
    if (typeof fate === 'object') {
      exchanges.push({ ...seen, status: fate.status, answer: '' });
      response.writeHead(fate.status).end();
      return;
    }
    const options = { method: method as 'GET', headers, dispatcher: agent, ...(body === '' ? {} : { body }) };
    const got = await request(`${target()}${path}`, options);
    const answer = await bodyOf(got.body);
    exchanges.push({ ...seen, status: fate === 'passes' ? got.statusCode : 0, answer });
    if (fate === 'answer-lost') response.destroy();
    else response.writeHead(got.statusCode, passed(got.headers)).end(answer);
  };

  const server = createServer((message, response) => {
    pass(message, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    origin: `http://localhost:${(server.address() as AddressInfo).port}`,
    exchanges,
    get fate() {
      return line.fate;
    },
    set fate(fate) {
      line.fate = fate;
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await agent.destroy();
    },
  };
};
