import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Body } from '../dsp/forms.ts';
import type { KitSettings } from '../dsp/settings.ts';

/**
 * Stands between a kit and a connector, in both directions, and makes one thing wrong: to the kit it is the connector. What
 * it is not told to spoil passes as it is.
 */

/** What goes by: the answer of the connector to a call of the kit, or a message of the connector to the kit. */
export interface Passing {
  readonly status: number;
  readonly type: string;
  readonly body: Body | undefined;
}

/** What is done to one kind of exchange. */
export interface Wrong {
  /** `answer`: to a call of the kit. `message`: of the connector, before the kit gets it. */
  readonly to: 'answer' | 'message';
  /** `METHOD /path` behind `<base>`, `<root>` or the kit's address. */
  readonly at: RegExp;
  /** Only where the answer shows this state: how often a kit looks before is its own matter. */
  readonly in?: string;
  /** Only from this time on, 1 being the first; every time unless said otherwise. */
  readonly from?: number;
  readonly change?: (passing: Passing) => Passing;
  /** A message that never arrives, though the connector is told so. */
  readonly isLost?: boolean;
  /** A message that comes twice. */
  readonly isDoubled?: boolean;
  /** A further message to the kit, made from the pids of what passed: a path and a body. */
  readonly adds?: (pids: { readonly providerPid: string; readonly consumerPid: string }) => {
    readonly path: string;
    readonly body: Body;
  };
}

export interface Proxy extends AsyncDisposable {
  /** The settings with which a kit sees the proxy in the connector's place. */
  readonly settings: KitSettings;
}

const read = async (incoming: IncomingMessage): Promise<string> => {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
};

const parse = (text: string): Body | undefined => {
  try {
    return JSON.parse(text) as Body;
  } catch {
    return undefined;
  }
};

const forward = async (
  method: string,
  url: string,
  sent: { readonly text: string; readonly headers: Record<string, string> },
): Promise<Passing> => {
  const answer = await fetch(url, {
    method,
    headers: sent.headers,
    ...(method === 'GET' ? {} : { body: sent.text }),
  });
  return { status: answer.status, type: answer.headers.get('content-type') ?? '', body: parse(await answer.text()) };
};

type Side = (
  method: string,
  path: string,
  sent: { readonly text: string; readonly headers: Record<string, string> },
) => Promise<Passing>;

const listen = async (serve: Side): Promise<{ readonly port: number } & AsyncDisposable> => {
  const server = createServer(async (incoming, outgoing) => {
    const { authorization = '', 'content-type': type = '' } = incoming.headers;
    const headers = { authorization, ...(type === '' ? {} : { 'content-type': type }) };
    const answer = await read(incoming)
      .then((text) => serve(incoming.method ?? '', incoming.url ?? '', { text, headers }))
      .catch((error: unknown): Passing => ({ status: 502, type: 'text/plain', body: { error: String(error) } }));
    outgoing.writeHead(answer.status, answer.type === '' ? {} : { 'content-type': answer.type });
    outgoing.end(answer.body === undefined ? undefined : JSON.stringify(answer.body));
  });
  await new Promise<void>((resolve) => {
    server.listen(0, 'localhost', resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
};

const untouched = (passing: Passing): Passing => passing;

/** Starts it for a kit with these settings; without a wrong it spoils nothing. */
export const startProxy = async (real: KitSettings, wrong?: Wrong): Promise<Proxy> => {
  let times = 0;
  /** Whether the wrong is for this exchange, counted from 1. */
  const isMeant = (to: Wrong['to'], where: string, body: Body | undefined): boolean => {
    if (wrong?.to !== to || !wrong.at.test(where)) return false;
    if (wrong.in !== undefined && body?.state !== wrong.in) return false;
    times += 1;
    return times >= (wrong.from ?? 1);
  };
  const kit = `http://localhost:${real.port}`;
  const protocol = new URL(real.url).pathname;

  const addTo = async (passed: Passing): Promise<void> => {
    const { providerPid, consumerPid } = passed.body ?? {};
    if (wrong?.adds === undefined || typeof providerPid !== 'string' || typeof consumerPid !== 'string') return;
    const { path, body } = wrong.adds({ providerPid, consumerPid });
    const headers = { 'content-type': 'application/json' };
    await forward('POST', `${kit}${path}`, { text: JSON.stringify(body), headers });
  };

  const onCall: Side = async (method, path, sent) => {
    const target = path.startsWith('/tck/') ? new URL(real.negotiationTrigger).origin : real.baseUrl;
    const behind = path.startsWith(protocol) ? path.slice(protocol.length) : path;
    const answer = await forward(method, `${target}${path}`, sent);
    if (!isMeant('answer', `${method} ${behind}`, answer.body)) return answer;
    if (times === (wrong?.from ?? 1)) addTo(answer).catch(() => undefined); // nobody may want it
    return (wrong?.change ?? untouched)(answer);
  };

  /** The connector names its own address: the kit is to come through here. */
  const through = (body: Body | undefined): Body | undefined =>
    body?.callbackAddress === real.url
      ? { ...body, callbackAddress: `http://localhost:${calls.port}${protocol}` }
      : body;

  const onMessage: Side = async (method, path, { text, headers }) => {
    const type = headers['content-type'] ?? '';
    const message: Passing = { status: 0, type, body: through(parse(text)) };
    const meant = isMeant('message', `${method} ${path}`, message.body);
    if (meant && wrong?.isLost === true) return { status: 200, type: '', body: undefined };
    const changed = meant ? (wrong?.change ?? untouched)(message) : message;
    const sent = {
      text: changed.body === undefined ? text : JSON.stringify(changed.body),
      headers: { ...headers, 'content-type': changed.type },
    };
    const send = () => forward(method, `${kit}${path}`, sent);
    const answer = await send();
    if (meant && wrong?.isDoubled === true) send().catch(() => undefined); // nobody may want it
    return answer;
  };

  const calls = await listen(onCall);
  const messages = await listen(onMessage);
  const here = (url: string): string => `http://localhost:${calls.port}${new URL(url).pathname}`;
  return {
    settings: {
      ...real,
      url: here(real.url),
      baseUrl: `http://localhost:${calls.port}`,
      callbackAddress: `http://localhost:${messages.port}`,
      negotiationTrigger: here(real.negotiationTrigger),
      transferTrigger: here(real.transferTrigger),
    },
    [Symbol.asyncDispose]: async () => {
      await messages[Symbol.asyncDispose]();
      await calls[Symbol.asyncDispose]();
    },
  };
};
