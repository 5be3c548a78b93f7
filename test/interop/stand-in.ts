import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { isJsonObject, type Json, type JsonObject } from '../../contracts/json.ts';
import { connectorBench, type OperatedConnector } from '../support/chain-world.ts';
import { mockIdentity } from './edc/identity.ts';
import { until } from './waiting.ts';

/**
 * What EDC 0.15.1 says, word for word as it was heard from it, at the moments that a real one chooses by itself: for the
 * cases that `npm run interop` cannot bring about at will. It decides nothing; each test says what it answers.
 */

export interface Heard {
  readonly method: string;
  readonly path: string;
  readonly body: JsonObject;
}

export interface Reply {
  readonly status: number;
  readonly body?: JsonObject;
}

export interface StandIn extends AsyncDisposable {
  readonly id: 'edc';
  readonly origin: string;
  /** `<base>` of its Dataspace Protocol. */
  readonly base: string;
  readonly heard: readonly Heard[];
  /** What it answers to this method below its base; a path may end with `*`. The newest counts. */
  readonly on: (method: string, path: string, answer: (heard: Heard) => Reply | Promise<Reply>) => void;
  /** The first message it hears to this path. */
  readonly hears: (path: string) => Promise<Heard>;
}

export const contexts = ['https://w3id.org/dspace/2025/1/context.jsonld', 'https://w3id.org/edc/dspace/v0.0.1'];

/** A message as EDC writes it: its own id, the context at the end, two of them. */
export const edcMessage = (type: string, members: JsonObject, id: string = crypto.randomUUID()): JsonObject => ({
  '@id': id,
  '@type': type,
  ...members,
  '@context': contexts,
});

/** An error as EDC writes it: a status for a code. */
export const edcError = (type: string, status: number, reason: string): Reply => ({
  status,
  body: { '@type': type, code: String(status), reason: [reason], '@context': contexts },
});

/** Its view of a negotiation or transfer. */
export const edcProcess = (type: string, providerPid: string, consumerPid: string, state: string): JsonObject => ({
  '@id': providerPid,
  '@type': type,
  consumerPid,
  providerPid,
  state,
  '@context': contexts,
});

export const edcAgreement = (changes: JsonObject): JsonObject => ({
  '@id': crypto.randomUUID(),
  '@type': 'Agreement',
  permission: [{ action: 'use' }],
  assigner: 'edc',
  timestamp: `${new Date().toISOString().slice(0, 19)}Z`,
  ...changes,
});

/** A dataset as EDC shows it. */
export const edcDataset = (base: string, id: string, offers: readonly JsonObject[]): JsonObject => ({
  '@id': id,
  '@type': 'Dataset',
  hasPolicy: offers,
  distribution: ['HttpData-PULL', 'HttpData-PUSH'].map((format) => ({
    '@type': 'Distribution',
    format,
    accessService: {
      '@id': crypto.randomUUID(),
      '@type': 'DataService',
      endpointDescription: 'dspace:connector',
      endpointURL: base,
    },
  })),
  'edc:name': `name of ${id}`,
  id,
  '@context': contexts,
});

export const edcOffer = (id: string, rules: JsonObject): JsonObject => ({ '@id': id, '@type': 'Offer', ...rules });

const versions = {
  protocolVersions: [
    { version: '2025-1', path: '/2025-1', binding: 'HTTPS' },
    { version: '2024/1', path: '/2024/1', binding: 'HTTPS' },
    { version: 'v0.8', path: '/', binding: 'HTTPS' },
  ],
};

const objectIn = (text: string): JsonObject => {
  const value = text === '' ? {} : (JSON.parse(text) as Json);
  return isJsonObject(value) ? value : {};
};

const openStandIn = async (): Promise<StandIn> => {
  const heard: Heard[] = [];
  const answers: { method: string; path: string; answer: Parameters<StandIn['on']>[2] }[] = [];
  const answerTo = ({ method, path }: Heard) =>
    answers.findLast(
      (one) =>
        one.method === method && (one.path.endsWith('*') ? path.startsWith(one.path.slice(0, -1)) : one.path === path),
    );
  const server = createServer(async (message, response) => {
    const parts: Buffer[] = [];
    for await (const part of message) parts.push(part);
    const path = (message.url ?? '').replace(/^\/protocol\/2025-1/, '');
    const one = { method: message.method ?? '', path, body: objectIn(Buffer.concat(parts).toString('utf8')) };
    heard.push(one);
    const isVersion = path === '/protocol/.well-known/dspace-version';
    const { status, body } = isVersion
      ? { status: 200, body: versions as JsonObject }
      : ((await answerTo(one)?.answer(one)) ?? { status: 200, body: {} });
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body ?? {}));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://localhost:${(server.address() as AddressInfo).port}`;
  return {
    id: 'edc',
    origin,
    base: `${origin}/protocol/2025-1`,
    heard,
    on: (method, path, answer) => answers.push({ method, path, answer }),
    hears: (path) => until(`EDC to hear ${path}`, () => heard.find((one) => one.path === path)),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
};

export interface ForeignWorld extends AsyncDisposable {
  readonly edc: StandIn;
  readonly id: string;
  readonly running: OperatedConnector;
  /** Files of ours. */
  readonly folder: string;
  /** Sends one message to our connector, as EDC does. */
  readonly say: (path: string, body: JsonObject) => Promise<{ readonly status: number; readonly body: JsonObject }>;
  readonly ask: (path: string) => Promise<{ readonly status: number; readonly body: JsonObject }>;
  /** A process of ours as its operator sees it, once it is in one of these states. */
  readonly ours: (
    kind: 'negotiations' | 'transfers',
    id: string,
    states: readonly string[],
  ) => Promise<Record<string, unknown>>;
  /** Begins a negotiation with EDC about a dataset that it offers under these rules; our pid. */
  readonly begin: (dataset: string, rules?: JsonObject) => Promise<string>;
  /** Everything that our connector keeps, as text. */
  readonly rows: () => string;
}

/** A connector of ours, and EDC beside it under the id `edc`. */
export const openForeignWorld = async (): Promise<ForeignWorld> => {
  await using stack = new AsyncDisposableStack();
  const edc = stack.use(await openStandIn());
  const bench = stack.use(await connectorBench({ STEKKER_PEERS: `edc=${edc.origin}/protocol` }));
  const running = stack.use(await bench.start({}, { parts: mockIdentity(bench.did) }));
  const call = async (method: string, path: string, body?: JsonObject) => {
    const answer = await fetch(`${bench.origin}/dsp/2025-1${path}`, {
      method,
      headers: {
        'content-type': 'application/json',
        authorization: JSON.stringify({ region: 'any', audience: bench.did, clientId: edc.id }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: answer.status, body: objectIn(await answer.text()) };
  };
  const beginAbout = async (dataset: string): Promise<string> => {
    const { status, body } = await running.operate('POST', '/v1/negotiations', { provider: edc.id, dataset });
    if (status >= 300) throw new Error(`not begun: ${JSON.stringify(body)}`);
    return String(body.id);
  };
  const whole = stack.move();
  return {
    edc,
    id: bench.did,
    running,
    folder: bench.folder,
    say: (path, body) => call('POST', path, body),
    ask: (path) => call('GET', path),
    ours: (kind, id, states) =>
      until(`${kind} ${id} to be ${states.join(' or ')}`, async () => {
        const { body } = await running.operate('GET', `/v1/${kind}/${encodeURIComponent(id)}`);
        return states.includes(String(body.state)) ? body : undefined;
      }),
    rows: () => {
      using database = new DatabaseSync(join(bench.config.STEKKER_DATA, 'connector.sqlite'), { readOnly: true });
      const tables = database.prepare("select name from sqlite_master where type = 'table'").all();
      return tables.map(({ name }) => JSON.stringify(database.prepare(`select * from ${String(name)}`).all())).join('');
    },
    begin: async (dataset, rules = { permission: [{ action: 'use' }] }) => {
      const offer = edcOffer(`${btoa('def')}:${btoa(dataset)}:${btoa(crypto.randomUUID())}`, rules);
      const body = edcDataset(edc.base, dataset, [offer]);
      edc.on('GET', `/catalog/datasets/${encodeURIComponent(dataset)}`, () => ({ status: 200, body }));
      return beginAbout(dataset);
    },
    [Symbol.asyncDispose]: () => whole.disposeAsync(),
  };
};
