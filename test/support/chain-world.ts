import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectorConfig, readConnectorConfig } from '../../connector/config.ts';
import { type ConnectorOptions, type RunningConnector, startConnector } from '../../connector/main.ts';
import type { Did } from '../../contracts/ids.ts';
import { didOf } from '../../kernel/did.ts';
import { silentLogger } from '../../kernel/log.ts';
import { managementToken, type Operated, until } from './broker-bench.ts';
import { freePort } from './holder.ts';
import { markedRandom, secretText } from './secrets.ts';

export { managementToken };

/** Real connectors on loopback, in this process, each with a data folder that outlives it. */

type Body = Record<string, unknown>;

/** Calls an operator's API; the status and the parsed body. */
export type Operate = (
  method: string,
  path: string,
  body?: unknown,
) => Promise<{ readonly status: number; readonly body: Body }>;

/** A running connector with its operator. */
export interface OperatedConnector extends RunningConnector {
  readonly operate: Operate;
  readonly gateway: string;
}

export interface ConnectorBench extends AsyncDisposable {
  readonly origin: string;
  readonly dataOrigin: string;
  readonly did: Did;
  readonly config: ConnectorConfig;
  /** Settings for the same connector as a process of its own. */
  readonly env: Readonly<Record<string, string>>;
  /** A folder beside its data. */
  readonly folder: string;
  readonly start: (
    changes?: Partial<ConnectorConfig>,
    options?: Partial<ConnectorOptions>,
  ) => Promise<OperatedConnector>;
}

/** An operator at a management port of loopback. */
export const operatorOf =
  (port: number): Operate =>
  async (method, path, body) => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
      method,
      headers: { authorization: `Bearer ${managementToken}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    return { status: answer.status, body: text === '' ? {} : (JSON.parse(text) as Body) };
  };

export const connectorBench = async (env: Record<string, string> = {}): Promise<ConnectorBench> => {
  const folder = mkdtempSync(join(tmpdir(), 'stekker-connector-'));
  const [port, dataPort] = [await freePort(), await freePort()];
  const origin = `http://localhost:${port}`;
  const dataOrigin = `http://localhost:${dataPort}`;
  const settings = {
    STEKKER_DATA: join(folder, 'data'),
    STEKKER_MODE: 'development',
    STEKKER_ALLOW_LOOPBACK_HTTP: 'true',
    STEKKER_PUBLIC_URL: origin,
    STEKKER_PUBLIC_HOST: '127.0.0.1',
    STEKKER_PUBLIC_PORT: String(port),
    STEKKER_DATA_URL: dataOrigin,
    STEKKER_DATA_HOST: '127.0.0.1',
    STEKKER_DATA_PORT: String(dataPort),
    STEKKER_MANAGEMENT_PORT: '0',
    STEKKER_GATEWAY_PORT: '0',
    STEKKER_PASSPHRASE: secretText('passphrase'),
    STEKKER_MANAGEMENT_TOKEN: managementToken,
    ...env,
  };
  const config = readConnectorConfig(settings);
  mkdirSync(join(folder, 'files'));
  return {
    origin,
    dataOrigin,
    did: didOf(origin),
    config,
    env: settings,
    folder: join(folder, 'files'),
    start: async (changes = {}, options = {}) => {
      const { signal } = new AbortController();
      const own = { log: silentLogger, signal, random: markedRandom };
      const running = await startConnector({ ...config, ...changes }, { ...own, ...options });
      return {
        ...running,
        operate: operatorOf(running.managementPort),
        gateway: `http://127.0.0.1:${running.gatewayPort}`,
      };
    },
    [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true, force: true }),
  };
};

/** Invites a connector at the broker, joins, and waits until its membership is there. */
export const joinBroker = async (
  broker: Pick<Operated, 'operate'>,
  connector: Pick<OperatedConnector, 'did' | 'operate'>,
  { name = 'A member', roles = ['data-holder'] }: { readonly name?: string; readonly roles?: readonly string[] } = {},
): Promise<void> => {
  const invited = await broker.operate('POST', '/v1/invitations', { did: connector.did, name, roles });
  await connector.operate('POST', '/v1/join', { code: invited.body.joinCode });
  await until(async () => {
    const { body } = await connector.operate('GET', '/v1/status');
    return body.member === true ? true : undefined;
  });
};

/** Acquires a dataset: the agreement and where the gateway serves it. */
export const acquire = async (
  consumer: Pick<OperatedConnector, 'operate'>,
  wish: { readonly provider: Did; readonly dataset: string; readonly offer?: string },
): Promise<{ readonly agreementId: string; readonly agreementDigest: string; readonly dataUrl: string }> => {
  const answer = await consumer.operate('POST', '/v1/acquisitions', wish);
  if (answer.status >= 300) throw new Error(`not acquired: ${JSON.stringify(answer.body)}`);
  const { agreementId, agreementDigest, dataUrl } = answer.body;
  return { agreementId: String(agreementId), agreementDigest: String(agreementDigest), dataUrl: String(dataUrl) };
};
