import { createServer, request as httpRequest, type IncomingMessage, type RequestListener } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Body } from './forms.ts';

/** The kit's own way out and in: plain HTTP, nothing retried, nothing followed. */

export interface Answer {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

/** Why a case fails; anything else that is thrown is a fault of the kit. */
export class CaseFailure extends Error {
  override readonly name = 'CaseFailure';
}

const maxBytes = 8 << 20;

const readAll = async (stream: IncomingMessage): Promise<string> => {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) throw new CaseFailure(`a body is larger than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
};

const exchange = (
  method: 'GET' | 'POST',
  url: string,
  options: { readonly headers: Readonly<Record<string, string>>; readonly body: string; readonly timeoutMs: number },
): Promise<Answer> => {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const open = url.startsWith('https:') ? httpsRequest : httpRequest;
  const signal = AbortSignal.timeout(options.timeoutMs);
  const sent = open(url, { method, headers: options.headers, agent: false, signal }, (answer) => {
    const type = answer.headers['content-type'] ?? '';
    readAll(answer).then((text) => resolve({ status: answer.statusCode ?? 0, type, text }), reject);
  });
  sent.once('error', reject);
  sent.end(options.body);
  return promise;
};

export interface Caller {
  readonly get: (url: string) => Promise<Answer>;
  readonly post: (url: string, body: Body) => Promise<Answer>;
}

/** Calls with one `Authorization` each time. @throws CaseFailure when no answer came in time. */
export const createCaller = (authorization: string, timeoutMs: number): Caller => {
  const known = authorization === '' ? {} : { authorization };
  const call = async (method: 'GET' | 'POST', url: string, body: string, headers: Record<string, string>) => {
    try {
      return await exchange(method, url, {
        body,
        timeoutMs,
        headers: { accept: 'application/json', ...known, ...headers },
      });
    } catch (cause) {
      if (cause instanceof CaseFailure) throw cause;
      throw new CaseFailure(`${method} ${url} got no answer: ${cause instanceof Error ? cause.message : cause}`, {
        cause,
      });
    }
  };
  return {
    get: (url) => call('GET', url, '', {}),
    post: (url, body) => call('POST', url, JSON.stringify(body), { 'content-type': 'application/json' }),
  };
};

/** The JSON of a body with its media type, or why it is none. */
export const readJson = ({
  type,
  text,
}: Pick<Answer, 'type' | 'text'>): { readonly json: Body } | { readonly fault: string } => {
  if (!/^application\/json\s*(;|$)/i.test(type))
    return { fault: `the media type is "${type}" and not application/json` };
  try {
    const json: unknown = JSON.parse(text);
    return typeof json === 'object' && json !== null && !Array.isArray(json)
      ? { json: json as Body }
      : { fault: 'it is no JSON object' };
  } catch {
    return { fault: 'it is no JSON' };
  }
};

/** What came in at the kit's own address. */
export interface Incoming {
  readonly method: string;
  /** Behind the callback address. */
  readonly path: string;
  readonly type: string;
  readonly text: string;
}

/** An answer; a body goes out as JSON, and no body without a media type. */
export interface Reply {
  readonly status: number;
  readonly body?: Body;
}

/** Listens for the connector's messages. */
export const listen = async (
  { host, port, basePath }: { readonly host: string; readonly port: number; readonly basePath: string },
  on: (incoming: Incoming) => Promise<Reply>,
): Promise<AsyncDisposable> => {
  const serve: RequestListener = async (incoming, outgoing) => {
    const { method = '', url = '' } = incoming;
    const path = url.startsWith(basePath) ? url.slice(basePath.length) : url;
    const { status, body } = await readAll(incoming)
      .then((text) => on({ method, path, type: incoming.headers['content-type'] ?? '', text }))
      .catch((error: unknown): Reply => ({ status: 500, body: { reason: String(error) } }));
    outgoing.writeHead(status, body === undefined ? {} : { 'content-type': 'application/json' });
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  };
  const server = createServer((incoming, outgoing) => void serve(incoming, outgoing));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  return {
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
};
