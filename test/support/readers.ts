import { createHash } from 'node:crypto';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { systemClock } from '../../kernel/clock.ts';

/** Applications that read through their connector as fast as they get it, and remember what they received. */

export interface Reading {
  /** The id that the gateway told, or empty when no answer came. */
  readonly request: string;
  readonly status: number;
  readonly bytes: number;
  readonly digest: string;
  readonly isWhole: boolean;
}

/** One read to its end, however it ends. */
export const readOnce = (url: string, headers: Readonly<Record<string, string>>): Promise<Reading> =>
  new Promise((resolve) => {
    const hash = createHash('sha256');
    let bytes = 0;
    const take = (answer: IncomingMessage): void => {
      const finish = (isWhole: boolean): void =>
        resolve({
          request: String(answer.headers['stekker-request'] ?? ''),
          status: answer.statusCode ?? 0,
          bytes,
          digest: hash.copy().digest('base64url'),
          isWhole,
        });
      answer.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        hash.update(chunk);
      });
      answer.on('end', () => finish(answer.complete));
      answer.on('error', () => finish(false));
    };
    const sent = httpRequest(url, { headers, agent: false }, take);
    sent.on('error', () => resolve({ request: '', status: 0, bytes, digest: '', isWhole: false }));
    sent.setTimeout(30_000, () => sent.destroy());
    sent.end();
  });

export interface Readers {
  /** Lets each read that is under way end; everything that was read. */
  readonly stop: () => Promise<readonly Reading[]>;
  readonly count: () => number;
  /** Those that brought a whole answer. */
  readonly received: () => number;
}

const pauseAfterFailureMs = 25;

/** Starts so many readers, each of which asks for the next address `pauseMs` after it is done with one; at once by default. */
export const startReaders = (
  count: number,
  its: {
    readonly next: () => string;
    readonly headers: Readonly<Record<string, string>>;
    readonly pauseMs?: number;
  },
): Readers => {
  const readings: Reading[] = [];
  let received = 0;
  let isStopped = false;
  const loop = async (): Promise<void> => {
    while (!isStopped) {
      const reading = await readOnce(its.next(), its.headers);
      readings.push(reading);
      if (reading.status === 200 && reading.isWhole) received += 1;
      if (reading.status !== 200) await systemClock.sleep(pauseAfterFailureMs);
      if (its.pauseMs !== undefined) await systemClock.sleep(its.pauseMs);
    }
  };
  const running = Array.from({ length: count }, loop);
  return {
    count: () => readings.length,
    received: () => received,
    stop: async () => {
      isStopped = true;
      await Promise.all(running);
      return readings;
    },
  };
};
