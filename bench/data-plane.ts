import { generateKeyPairSync } from 'node:crypto';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Dispatcher, Pool } from 'undici';
import { createBodyDigests } from '../connector/adapters/threads/body-digests.ts';
import { startDataListener } from '../connector/data-plane/listener.ts';
import type { UsageMeter } from '../connector/data-plane/ports.ts';
import { createProofMaker, readProof, readProofKey, verifyProof } from '../connector/data-plane/proof.ts';
import { silentLogger } from '../kernel/log.ts';
import { type PrivateJwk, startLoadThread } from '../test/support/data-load.ts';
import { providerPid, startWorld } from '../test/support/data-world.ts';
import type { BenchRow } from './row.ts';

/**
 * The data plane beside bare proxies of the same run (hot-path): one thread each for proxy, source and load tool. The journal
 * is one in memory that answers on the next turn of the loop; what a durable one costs is measured by itself.
 */

const rounds = 3;
const requests = 6_000;
const connections = 32;
const streamBytes = 2 ** 30;

/** Counts, and records nothing: group commit without a disk. */
const quickMeter = (): UsageMeter => {
  let count = 0;
  let waiting: ((refusal: null) => void)[] = [];
  return {
    open: (entry, done) => {
      count += entry.part === 1 ? 1 : 0;
      waiting.push(done);
      if (waiting.length > 1) return;
      setImmediate(() => {
        const group = waiting;
        waiting = [];
        for (const one of group) one(null);
      });
    },
    extend: () => true,
    close: (_entry, done) => done?.(false),
    count: () => count,
    remaining: () => ({ requests: 1_000_000 - count, bytes: 2 ** 40 }),
    recent: () => [],
    isReady: () => true,
  };
};

/** The fastest way to pass an answer on: the dispatcher's own interface, and nothing looked at. */
class Bare implements Dispatcher.DispatchHandler {
  readonly #response: ServerResponse;
  constructor(response: ServerResponse) {
    this.#response = response;
  }
  onRequestStart(): void {
    // its controller comes with each call
  }
  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: Record<string, unknown>): void {
    this.#response.writeHead(status, headers as Record<string, string>);
  }
  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#response.write(chunk)) return;
    controller.pause();
    this.#response.once('drain', () => controller.resume());
  }
  onResponseEnd(): void {
    this.#response.end();
  }
  onResponseError(): void {
    this.#response.destroy();
  }
}

const startBare = async (sourcePort: number, forwards: boolean) => {
  const pool = new Pool(`http://127.0.0.1:${sourcePort}`, { connections: 256 });
  const server = createServer((request, response) => {
    const headers = forwards ? request.rawHeaders.slice(2) : ['accept', 'application/json'];
    const path = (request.url ?? '/').replace(/^\/[^/]*/, '');
    pool.dispatch(
      { path, method: 'GET', headers: forwards ? headers.filter(dropConnection) : headers },
      new Bare(response),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await pool.destroy();
    },
  };
};

/** Host and Connection of the load tool are its own. */
const dropConnection = (_text: string, index: number, all: readonly string[]): boolean =>
  !/^(connection|host)$/i.test(all[index - (index % 2)] ?? '');

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

const verifiesPerSecond = (privateJwk: PrivateJwk, maker: ReturnType<typeof createProofMaker>): number => {
  const proof = readProof(maker.make({ jti: 'j', htm: 'GET', htu: String(privateJwk.x), iat: 1 }));
  const key = readProofKey(proof?.header ?? '');
  if (proof === undefined || key === undefined) throw new Error('the proof of the benchmark cannot be read');
  const times = 5_000;
  const start = process.hrtime.bigint();
  for (let index = 0; index < times; index += 1) verifyProof(proof, key);
  return (times * 1e9) / Number(process.hrtime.bigint() - start);
};

/** Runs `work` and tells how far memory rose above where it began, in MiB. */
const peakOf = async <Value>(work: () => Promise<Value>): Promise<{ value: Value; peak: number }> => {
  const before = process.memoryUsage.rss();
  let highest = before;
  const timer = setInterval(() => {
    highest = Math.max(highest, process.memoryUsage.rss());
  }, 20);
  const value = await work();
  clearInterval(timer);
  return { value, peak: (highest - before) / 2 ** 20 };
};

const startPlane = async (upstreamPort: number) => {
  const stack = new AsyncDisposableStack();
  const world = stack.use(
    await startWorld({
      terms: { upstream: { kind: 'http', url: `http://localhost:${upstreamPort}`, credential: null } },
    }),
  );
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { kty = '', crv = '', x = '', y = '' } = publicKey.export({ format: 'jwk' });
  const maker = createProofMaker({ kty, crv, x, y }, privateKey);
  const { body } = await world.askToken({ maker });
  const { grants, tokens } = world.plane();
  const server = stack.use(
    await startDataListener(
      {
        grants,
        tokens,
        meter: quickMeter(),
        standing: { check: () => ({ state: 'good', statusAge: null }), onChange: () => undefined },
        digests: stack.use(createBodyDigests()),
        clock: world.clock,
        newId: world.newId,
        log: silentLogger,
        dataOrigin: world.dataOrigin,
      },
      { host: '127.0.0.1', port: 0 },
    ),
  );
  const privateJwk = privateKey.export({ format: 'jwk' });
  const proof = { origin: world.dataOrigin, token: String(body.access_token), privateJwk };
  return { port: server.port, proof, maker, privateJwk, [Symbol.asyncDispose]: () => stack.disposeAsync() };
};

/** Small answers with every check, and one GiB, each beside bare proxies of the same run. */
export const run = async (): Promise<BenchRow[]> => {
  await using sourceThread = startLoadThread();
  await using load = startLoadThread();
  const sourcePort = await sourceThread.source();
  await using plain = await startBare(sourcePort, false);
  await using same = await startBare(sourcePort, true);
  await using plane = await startPlane(sourcePort);
  const path = (rest: string) => `/${providerPid}/${rest}`;
  const rate = async (port: number, proof: typeof plane.proof | null): Promise<number> => {
    const hit = await load.shoot({ port, path: path('small'), count: requests, connections, proof });
    if (hit.refused > 0) throw new Error(`${hit.refused} of ${requests} requests were refused`);
    return requests / hit.seconds;
  };
  const rates = { plain: [] as number[], same: [] as number[], plane: [] as number[] };
  for (let round = 0; round <= rounds; round += 1) {
    const measured = [
      await rate(plain.port, null),
      await rate(same.port, plane.proof),
      await rate(plane.port, plane.proof),
    ];
    if (round === 0) continue; // warm
    rates.plain.push(measured[0] ?? 0);
    rates.same.push(measured[1] ?? 0);
    rates.plane.push(measured[2] ?? 0);
  }
  const checks = verifiesPerSecond(plane.privateJwk, plane.maker);
  const stream = async (port: number, proof: typeof plane.proof | null): Promise<number> => {
    const { seconds, bytes } = await load.shoot({
      port,
      path: path(String(streamBytes)),
      count: 1,
      connections: 1,
      proof,
    });
    if (bytes !== streamBytes) throw new Error(`${bytes} bytes came of ${streamBytes}`);
    return bytes / seconds / 1e6;
  };
  const bareStream = [await stream(plain.port, null), await stream(plain.port, null)];
  const first = await peakOf(() => stream(plane.port, plane.proof));
  const second = await peakOf(() => stream(plane.port, plane.proof));
  const [p, s, ours] = [median(rates.plain), median(rates.same), median(rates.plane)];
  const left = 1 / (1 / p + 1 / checks);
  const row = (name: string, value: number, limit: number, unit: string, target: string): BenchRow => ({
    name,
    value,
    unit,
    limit,
    ratio: value / limit,
    target,
    growth: 'constant',
  });
  const streamed = Math.max(first.value, second.value);
  return [
    row('data plane, small GET, DPoP, 32 connections, plain proxy', ours, p, '/s', '≥ 22 % of the bare proxy'),
    row('data plane, small GET, DPoP, same request', ours, s, '/s', '≥ 27 % of a proxy of the same request'),
    row('data plane, what proxy and signature check leave', ours, left, '/s', '≥ 75 % of that'),
    row('data plane, 1 GiB stream', streamed, Math.max(...bareStream), 'MB/s', '≥ 95 % of the bare proxy'),
    {
      name: 'data plane, 1 GiB stream, memory above the start',
      value: Math.max(first.peak, second.peak),
      unit: 'MiB',
      limit: null,
      ratio: null,
      target: 'flat',
      growth: 'constant',
    },
  ];
};
