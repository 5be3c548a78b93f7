import { createPrivateKey } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parentPort, Worker } from 'node:worker_threads';
import { Pool } from 'undici';
import { createProofMaker } from '../../connector/data-plane/proof.ts';
import { requestTarget } from '../../contracts/ledger/record.ts';
import { systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { createIds, systemRandom } from '../../kernel/random.ts';
import { writeBytes } from './many-bytes.ts';

/** A source and a load tool in threads of their own, so that the thread that is measured does nothing else. */

/** A P-256 key as it travels between threads. */
export interface PrivateJwk {
  readonly kty?: string;
  readonly crv?: string;
  readonly x?: string;
  readonly y?: string;
  readonly d?: string;
}

export interface Shot {
  readonly port: number;
  readonly path: string;
  readonly count: number;
  readonly connections: number;
  /** With a proof for each request, made before the clock starts; null sends the bare request. */
  readonly proof: { readonly origin: string; readonly token: string; readonly privateJwk: PrivateJwk } | null;
}

export interface Hit {
  readonly seconds: number;
  readonly bytes: number;
  /** Answers other than 200. */
  readonly refused: number;
}

type Order = { readonly do: 'source' } | { readonly do: 'shoot'; readonly shot: Shot };

const headersOf = ({ proof, path, count }: Shot): string[][] => {
  if (proof === null) return Array.from({ length: count }, () => ['accept', 'application/json']);
  const key = createPrivateKey({ key: { ...proof.privateJwk }, format: 'jwk' });
  const { kty = '', crv = '', x = '', y = '' } = proof.privateJwk;
  const maker = createProofMaker({ kty, crv, x, y }, key);
  const newId = createIds(systemClock, systemRandom);
  const ath = Buffer.from(nodeCrypto.sha256(Buffer.from(proof.token))).toString('base64url');
  const tgt = requestTarget(nodeCrypto, { method: 'GET', target: path, range: '' });
  const htu = `${proof.origin}${path.split('?')[0]}`;
  return Array.from({ length: count }, () => {
    const jti = newId();
    const made = maker.make({ jti, htm: 'GET', htu, iat: Math.floor(systemClock.now() / 1_000), ath, tgt });
    return [
      'accept',
      'application/json',
      'authorization',
      `DPoP ${proof.token}`,
      'dpop',
      made,
      'fsc-transaction-id',
      jti,
    ];
  });
};

const shoot = async (shot: Shot): Promise<Hit> => {
  const all = headersOf(shot);
  const pool = new Pool(`http://127.0.0.1:${shot.port}`, { connections: shot.connections, pipelining: 1 });
  let bytes = 0;
  let refused = 0;
  let next = 0;
  const start = process.hrtime.bigint();
  await new Promise<void>((resolve, reject) => {
    let left = all.length;
    const send = (): void => {
      const headers = all[next];
      if (headers === undefined) return;
      next += 1;
      pool.dispatch(
        { path: shot.path, method: 'GET', headers },
        {
          onRequestStart: () => undefined,
          onResponseStart: (_controller, status) => {
            if (status !== 200) refused += 1;
          },
          onResponseData: (_controller, chunk) => {
            bytes += chunk.length;
          },
          onResponseEnd: () => {
            left -= 1;
            if (left === 0) resolve();
            else send();
          },
          onResponseError: (_controller, error) => reject(error),
        },
      );
    };
    for (let lane = 0; lane < shot.connections; lane += 1) send();
  });
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  await pool.destroy();
  return { seconds, bytes, refused };
};

const small = Buffer.from(JSON.stringify({ type: 'Feature', properties: { mm: 3 }, geometry: null }));

/** `/small` is a small JSON, `/<n>` so many bytes. */
const startSource = async (): Promise<number> => {
  const server = createServer((request, response) => {
    const size = Number(/\/(\d+)$/.exec(request.url ?? '')?.[1] ?? 0);
    if (size === 0) {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': small.length }).end(small);
      return;
    }
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': size });
    writeBytes(response, size);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
};

if (parentPort !== null) {
  const port = parentPort;
  port.on('message', (order: Order) => {
    const work: Promise<number | Hit> = order.do === 'source' ? startSource() : shoot(order.shot);
    work.then(
      (value) => port.postMessage({ value }),
      (error: unknown) => port.postMessage({ error: String(error) }),
    );
  });
}

/** A thread that takes one order at a time. */
export const startLoadThread = () => {
  const worker = new Worker(new URL(import.meta.url));
  const order = <Value>(asked: Order): Promise<Value> =>
    new Promise((resolve, reject) => {
      worker.once('message', (answer: { readonly value: Value } | { readonly error: string }) =>
        'value' in answer ? resolve(answer.value) : reject(new Error(answer.error)),
      );
      worker.postMessage(asked);
    });
  return {
    source: () => order<number>({ do: 'source' }),
    shoot: (shot: Shot) => order<Hit>({ do: 'shoot', shot }),
    [Symbol.asyncDispose]: async () => void (await worker.terminate()),
  };
};
