import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { createLogger, silentLogger } from '../../kernel/log.ts';
import { type ConnectorBench, connectorBench, type OperatedConnector } from '../support/chain-world.ts';
import { assembleEdc } from './edc/assemble.ts';
import { type EdcConnector, startEdc } from './edc/connector.ts';
import { mockIdentity } from './edc/identity.ts';
import { type Line, openLine } from './line.ts';
import { openSink, type Sink, sourceText } from './sink.ts';
import { until } from './waiting.ts';

/** A connector of ours between two of EDC, with a line in front of each that sees every message. */

type Body = Record<string, unknown>;

export interface Ours {
  readonly id: string;
  /** `<base>` as others are told it: on the line. */
  readonly base: string;
  readonly bench: ConnectorBench;
  readonly running: OperatedConnector;
  /** Calls the operator's API. @throws on anything but 2xx. */
  readonly operate: (method: string, path: string, body?: unknown) => Promise<Body>;
  /** Publishes a file under these rules; the ids of asset and offer. */
  readonly publish: (publication: Body) => Promise<{ readonly asset: string; readonly offer: string }>;
}

export interface World extends AsyncDisposable {
  readonly provider: EdcConnector;
  readonly consumer: EdcConnector;
  readonly ours: Ours;
  /** From us to EDC's provider; from us to EDC's consumer; from both to us. */
  readonly lines: { readonly toProvider: Line; readonly toConsumer: Line; readonly toUs: Line };
  readonly sink: Sink;
}

/** What is tried, by name; a text is what there is to tell of it. */
export type Scenarios = Readonly<Record<string, (world: World) => Promise<string | undefined>>>;

export const open = { permission: [{ action: 'use' }] };

/** `INTEROP_LOG=FILE` keeps what our connector says. */
const loggerOf = (path: string | undefined) =>
  path === undefined
    ? silentLogger
    : createLogger({ name: 'ours', level: 'info', destination: pino.destination({ dest: path, sync: true }) });

const startOurs = async (
  stack: AsyncDisposableStack,
  {
    provider,
    consumer,
    line,
  }: { readonly provider: EdcConnector; readonly consumer: EdcConnector; readonly line: Line },
  known: (origin: string) => void,
): Promise<Ours> => {
  const bench = stack.use(
    await connectorBench({
      STEKKER_PUBLIC_URL: line.origin,
      STEKKER_PEERS: [provider, consumer].map(({ id, protocol }) => `${id}=${protocol}`).join(' '),
    }),
  );
  known(`http://localhost:${bench.config.STEKKER_PUBLIC_PORT}`);
  const id = `did:web:${new URL(line.origin).host.replace(':', '%3A')}`;
  const running = stack.use(await bench.start({}, { parts: mockIdentity(id), log: loggerOf(process.env.INTEROP_LOG) }));
  const operate: Ours['operate'] = async (method, path, body) => {
    const answer = await running.operate(method, path, body);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  return {
    id,
    base: `${line.origin}/dsp/2025-1`,
    bench,
    running,
    operate,
    publish: async (publication) => {
      const path = join(bench.folder, 'levels.json');
      writeFileSync(path, sourceText);
      const upstream = { kind: 'file', path };
      const id = `urn:uuid:${crypto.randomUUID()}`;
      const made = await operate('POST', '/v1/publications', { id, title: 'Waterstanden', upstream, ...publication });
      const { asset, offer } = made as { asset: { id: string }; offer: { id: string } };
      return { asset: asset.id, offer: offer.id };
    },
  };
};

/** Starts everything; what was started is stopped when it is disposed, also when something did not start. */
export const openWorld = async (iterationWaitMs = 50): Promise<World> => {
  await using stack = new AsyncDisposableStack();
  const jars = assembleEdc();
  const targets: Record<string, string> = {};
  const lineTo = async (name: string) => stack.use(await openLine(() => targets[name] ?? ''));
  const lines = {
    toProvider: await lineTo('provider'),
    toConsumer: await lineTo('consumer'),
    toUs: await lineTo('ours'),
  };
  const edc = async (id: 'provider' | 'consumer', line: Line) => {
    const started = stack.use(await startEdc({ jars, id, iterationWaitMs, publicOrigin: line.origin }));
    targets[id] = started.origin;
    return started;
  };
  const [provider, consumer] = await Promise.all([
    edc('provider', lines.toProvider),
    edc('consumer', lines.toConsumer),
  ]);
  const sink = stack.use(await openSink());
  const ours = await startOurs(stack, { provider, consumer, line: lines.toUs }, (origin) => {
    targets.ours = origin;
  });
  const whole = stack.move();
  return { provider, consumer, ours, lines, sink, [Symbol.asyncDispose]: () => whole.disposeAsync() };
};

/** Waits until a process of ours is in one of these states, and gives it as its operator sees it. */
export const ourProcess = (
  { operate }: Ours,
  kind: 'negotiations' | 'transfers',
  id: string,
  states: readonly string[],
): Promise<Body> =>
  until(`${kind} ${id} to be ${states.join(' or ')}`, async () => {
    const its = await operate('GET', `/v1/${kind}/${encodeURIComponent(id)}`);
    return states.includes(String(its.state)) ? its : undefined;
  });

/** The process of ours that is the other side of one of EDC's. */
export const ourSideOf = ({ operate }: Ours, kind: 'negotiations' | 'transfers', peerPid: string): Promise<Body> =>
  until(`our side of ${peerPid}`, async () => {
    for (let after = ''; ; ) {
      const page = await operate('GET', `/v1/${kind}?limit=100${after}`);
      const items = page.items as readonly Body[];
      const found = items.find((one) => one.peerPid === peerPid);
      if (found !== undefined || typeof page.next !== 'string') return found;
      after = `&after=${encodeURIComponent(page.next)}`;
    }
  });
