import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { type BrokerConfig, readBrokerConfig } from '../../broker/config.ts';
import { type BrokerOptions, type RunningBroker, startBroker } from '../../broker/main.ts';
import type { Did } from '../../contracts/ids.ts';
import { systemClock } from '../../kernel/clock.ts';
import { didOf } from '../../kernel/did.ts';
import { silentLogger } from '../../kernel/log.ts';
import { freePort } from './holder.ts';
import { markedRandom, secretText } from './secrets.ts';

/** A real broker or accreditor on loopback, in this process, with a data folder that outlives it. */

const record = z.record(z.string(), z.unknown());

export const managementToken = secretText('token-of-an-operator');

export interface BrokerBench extends AsyncDisposable {
  readonly origin: string;
  readonly did: Did;
  /** The settings, as a process of its own takes them. */
  readonly env: Readonly<Record<string, string>>;
  readonly config: BrokerConfig;
  readonly start: (changes?: Partial<BrokerConfig>, options?: Partial<BrokerOptions>) => Promise<Operated>;
}

/** A running service with its operator. */
export interface Operated extends RunningBroker {
  /** Calls the operator's API; the status and the parsed body. */
  readonly operate: (
    method: string,
    path: string,
    body?: unknown,
  ) => Promise<{ readonly status: number; readonly body: Record<string, unknown> }>;
}

/** Stops waiting after ten seconds: what is expected happens within milliseconds. */
export const until = async <Value>(look: () => Promise<Value | undefined> | Value | undefined): Promise<Value> => {
  for (let tries = 0; tries < 2_000; tries += 1) {
    const found = await look();
    if (found !== undefined) return found;
    await systemClock.sleep(5);
  }
  throw new Error('what was waited for did not happen');
};

export const brokerBench = async (changed: Record<string, string> = {}): Promise<BrokerBench> => {
  const root = mkdtempSync(join(tmpdir(), 'stekker-broker-'));
  const port = await freePort();
  const origin = `http://localhost:${port}`;
  const env = {
    STEKKER_DATA: join(root, 'data'),
    STEKKER_MODE: 'development',
    STEKKER_ALLOW_LOOPBACK_HTTP: 'true',
    STEKKER_PUBLIC_URL: origin,
    STEKKER_PUBLIC_HOST: '127.0.0.1',
    STEKKER_PUBLIC_PORT: String(port),
    STEKKER_MANAGEMENT_PORT: '0',
    STEKKER_PASSPHRASE: secretText('passphrase'),
    STEKKER_MANAGEMENT_TOKEN: managementToken,
    STEKKER_CHECKPOINT_MS: '100',
    ...changed,
  };
  const config = readBrokerConfig(env);
  return {
    env,
    origin,
    did: didOf(origin),
    config,
    start: async (changes = {}, options = {}) => {
      const signal = new AbortController().signal;
      const own = { log: silentLogger, signal, random: markedRandom };
      const running = await startBroker({ ...config, ...changes }, { ...own, ...options });
      const operate: Operated['operate'] = async (method, path, body) => {
        const answer = await fetch(`http://127.0.0.1:${running.managementPort}${path}`, {
          method,
          headers: { authorization: `Bearer ${managementToken}`, 'content-type': 'application/json' },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        });
        return { status: answer.status, body: record.parse(await answer.json()) };
      };
      return { ...running, operate };
    },
    [Symbol.asyncDispose]: async () => rmSync(root, { recursive: true, force: true }),
  };
};
