import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Dispatcher, Pool } from 'undici';
import { createBodyDigests } from '../connector/adapters/threads/body-digests.ts';
import { startDataListener } from '../connector/data-plane/listener.ts';
import { createProofMaker, readProof, readProofKey, verifyProof } from '../connector/data-plane/proof.ts';
import { openBlockMeter } from '../connector/metering/block-meter.ts';
import { Journal } from '../connector/metering/journal.ts';
import { createMeter } from '../connector/metering/meter.ts';
import type { Did } from '../contracts/ids.ts';
import { systemClock } from '../kernel/clock.ts';
import { nodeFiles } from '../kernel/files.ts';
import { silentLogger } from '../kernel/log.ts';
import { createPeerRate, createRateLimits, peerLimitsOf } from '../kernel/rate-limits.ts';
import { type PrivateJwk, startLoadThread } from '../test/support/data-load.ts';
import { agreementDigest, agreementId, providerPid, startWorld, tenant } from '../test/support/data-world.ts';
import { createMeterNetwork, startMeterParty, us } from '../test/support/meter-pair.ts';
import { type BenchRow, isTiny, median, threadSeconds } from './row.ts';

/**
 * The data plane beside bare proxies of the same run (hot-path): one thread each for proxy, source and load tool. The real
 * listener, with the real meter over a journal on the disk: every access is recorded durably before its first byte leaves.
 * Rates of small requests are for a second of the serving thread's own processor time, which it has for itself on a machine of
 * its own.
 */

const rounds = isTiny ? 1 : 5;
const requests = isTiny ? 200 : 6_000;
const connections = 32;
const streamBytes = isTiny ? 2 ** 24 : 2 ** 30;

/** A window that nothing here fills: no statements are made, and so none is waited for. */
const endless = { requests: 2 ** 40, bytes: 2 ** 50, cost: 2 ** 40, ageMs: 2 ** 40 };

const infoFor = (consumer: Did) =>
  ({
    participant: tenant,
    role: 'provider',
    agreement: agreementDigest,
    agreementId,
    provider: consumer,
    consumer,
    assurance: 'cosigned',
    price: '',
    pricePlan: null,
    startedAt: systemClock.now(),
  }) as const;

/** The meter of a provider as the service starts it, over a journal on the disk. */
const startMeter = async (consumer: Did) => {
  const folder = mkdtempSync(join(tmpdir(), 'stekker-bench-plane-'));
  const parts = { clock: systemClock, log: silentLogger };
  const onChange = () => undefined;
  const meter = createMeter({ ...parts, role: 'provider', window: endless, quota: endless, onChange });
  const journal = await Journal.open({ ...parts, files: nodeFiles, folder, replay: meter.replay });
  meter.attach(journal);
  const stored = {
    info: infoFor(consumer),
    isEnded: false,
    conceded: { requests: 0, bytes: 0, cost: 0 },
    settledBefore: 0,
  };
  meter.add({ stored, newest: undefined, held: [], settledRequests: 0, settledBytes: 0 }, new Set());
  return {
    meter,
    [Symbol.asyncDispose]: async () => {
      await journal[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    },
  };
};

/** The meter of one of several workers: blocks of the window, a journal of its own, records handed over into rows. */
const startWorkerMeter = async (consumer: Did) => {
  const folder = mkdtempSync(join(tmpdir(), 'stekker-bench-worker-'));
  const changes = { window: endless, quota: endless, folder, intervalMs: 2 ** 40, segmentBytes: 32 << 20 };
  const party = await startMeterParty(createMeterNetwork(), { role: 'provider', files: nodeFiles, changes });
  const { metering } = party;
  await metering.agreementInForce({ ...infoFor(consumer), participant: us });
  const name = metering.journalOf(1);
  const worker = await openBlockMeter({
    ...{ files: nodeFiles, clock: systemClock, log: silentLogger },
    folder: join(folder, name),
    connect: (recall) => metering.lender.connect(name, recall),
  });
  return {
    meter: worker.meter,
    [Symbol.asyncDispose]: async () => {
      await worker[Symbol.asyncDispose]();
      await party[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    },
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

const verifiesPerSecond = (privateJwk: PrivateJwk, maker: ReturnType<typeof createProofMaker>): number => {
  const proof = readProof(maker.make({ jti: 'j', htm: 'GET', htu: String(privateJwk.x), iat: 1 }));
  const key = readProofKey(proof?.header ?? '');
  if (proof === undefined || key === undefined) throw new Error('the proof of the benchmark cannot be read');
  const times = isTiny ? 100 : 5_000;
  const start = process.threadCpuUsage();
  for (let index = 0; index < times; index += 1) verifyProof(proof, key);
  return times / threadSeconds(start);
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

const startPlane = async (upstreamPort: number, startIts: typeof startMeter | typeof startWorkerMeter) => {
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
  const { meter } = stack.use(await startIts(world.consumer.keys.did));
  const server = stack.use(
    await startDataListener(
      {
        grants,
        tokens,
        meter,
        standing: { check: () => ({ state: 'good', statusAge: null }), onChange: () => undefined },
        digests: stack.use(createBodyDigests()),
        clock: world.clock,
        newId: world.newId,
        log: silentLogger,
        dataOrigin: world.dataOrigin,
        rate: createPeerRate(createRateLimits(world.clock), 'access', peerLimitsOf(1_000_000_000, 1_000_000_000)),
      },
      { host: '127.0.0.1', port: 0 },
    ),
  );
  const privateJwk = privateKey.export({ format: 'jwk' });
  const proof = { origin: world.dataOrigin, token: String(body.access_token), privateJwk };
  return { port: server.port, proof, maker, privateJwk, [Symbol.asyncDispose]: () => stack.disposeAsync() };
};

/** MB a second, of the wall clock and of the serving thread's processor time. */
interface Streamed {
  readonly rate: number;
  readonly cpuRate: number;
}

/** Small answers with every check, and one GiB, each beside bare proxies of the same run. */
export const run = async (): Promise<BenchRow[]> => {
  await using sourceThread = startLoadThread();
  await using load = startLoadThread();
  const sourcePort = await sourceThread.source();
  await using plain = await startBare(sourcePort, false);
  await using same = await startBare(sourcePort, true);
  await using plane = await startPlane(sourcePort, startMeter);
  await using worker = await startPlane(sourcePort, startWorkerMeter);
  const path = (rest: string) => `/${providerPid}/${rest}`;
  const rate = async (port: number, proof: typeof plane.proof | null): Promise<number> => {
    const start = process.threadCpuUsage();
    const hit = await load.shoot({ port, path: path('small'), count: requests, connections, proof });
    const seconds = threadSeconds(start);
    if (hit.refused > 0) throw new Error(`${hit.refused} of ${requests} requests were refused`);
    return requests / seconds;
  };
  const measured: { plain: number; same: number; ours: number; worker: number; left: number }[] = [];
  for (let round = 0; round <= rounds; round += 1) {
    const p = await rate(plain.port, null);
    const s = await rate(same.port, plane.proof);
    const ours = await rate(plane.port, plane.proof);
    const ofWorker = await rate(worker.port, worker.proof);
    const left = 1 / (1 / p + 1 / verifiesPerSecond(plane.privateJwk, plane.maker));
    if (round > 0) measured.push({ plain: p, same: s, ours, worker: ofWorker, left }); // the first warms up
  }
  const stream = async (port: number, proof: typeof plane.proof | null) => {
    const start = process.threadCpuUsage();
    const { seconds, bytes } = await load.shoot({
      port,
      path: path(String(streamBytes)),
      count: 1,
      connections: 1,
      proof,
    });
    if (bytes !== streamBytes) throw new Error(`${bytes} bytes came of ${streamBytes}`);
    return { rate: bytes / seconds / 1e6, cpuRate: bytes / threadSeconds(start) / 1e6 };
  };
  const streams: { bare: Streamed; ours: Streamed; peak: number }[] = [];
  for (let round = 0; round < (isTiny ? 1 : 3); round += 1) {
    const bare = await stream(plain.port, null);
    const { value, peak } = await peakOf(() => stream(plane.port, plane.proof));
    streams.push({ bare, ours: value, peak });
  }
  const row = (name: string, beside: 'plain' | 'same' | 'left', target: number, text: string): BenchRow => {
    const ratio = median(measured.map((one) => one.ours / one[beside]));
    return {
      name: `data plane, small GET, every check, DPoP, ${connections} connections; beside ${name}`,
      value: median(measured.map(({ ours }) => ours)),
      unit: '/cpu s',
      limit: median(measured.map((one) => one[beside])),
      ratio,
      target: text,
      isHit: ratio >= target,
      growth: 'constant',
    };
  };
  const streamRow = (name: string, of: keyof Streamed, unit: string, target: number | null): BenchRow => {
    const ratio = median(streams.map(({ ours, bare }) => ours[of] / bare[of]));
    return {
      name,
      value: median(streams.map(({ ours }) => ours[of])),
      unit,
      limit: median(streams.map(({ bare }) => bare[of])),
      ratio,
      target: target === null ? 'for comparison' : '≥ 95 % of the bare proxy',
      isHit: target === null ? null : ratio >= target,
      growth: 'linear in bytes',
    };
  };
  const peak = Math.max(...streams.map((one) => one.peak));
  return [
    row('a bare proxy', 'plain', 0.22, '≥ 22 % of the bare proxy'),
    row('a bare proxy of the same request', 'same', 0.27, '≥ 27 % of it'),
    row('what proxy and signature check leave', 'left', 0.75, '≥ 75 % of that'),
    {
      name: 'data plane, the same by one of several workers, its records handed over; beside one alone',
      value: median(measured.map(({ worker: of }) => of)),
      unit: '/cpu s',
      limit: median(measured.map(({ ours }) => ours)),
      ratio: median(measured.map(({ worker: of, ours }) => of / ours)),
      target: 'for comparison: two workers serve twice this, on cores of their own',
      isHit: null,
      growth: 'constant',
    },
    streamRow('data plane, 1 GiB stream, hashed and recorded', 'rate', 'MB/s', 0.95),
    streamRow("the same, of the serving thread's processor time", 'cpuRate', 'MB/cpu s', null),
    {
      name: 'data plane, 1 GiB stream, peak of memory above the start',
      value: peak,
      unit: 'MiB',
      limit: null,
      ratio: null,
      target: 'flat: < 128 MiB of 1,024',
      isHit: peak < 128,
      growth: 'constant in bytes',
    },
  ];
};
