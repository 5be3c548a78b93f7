import { readConnectorConfig } from '../../connector/config.ts';
import { startConnector } from '../../connector/main.ts';
import { silentLogger } from '../../kernel/log.ts';
import { mockIdentity } from './edc/identity.ts';

/**
 * A connector in a process of its own that believes EDC's mock identities: what stands beside EDC where the two are compared.
 * Settings come from the environment, as those of the product do; `MOCK_IDENTITY` is who it is.
 */

const stopping = new AbortController();
for (const name of ['SIGTERM', 'SIGINT']) process.once(name, () => stopping.abort());

const { MOCK_IDENTITY: id = '', ...env } = process.env;
await using connector = await startConnector(readConnectorConfig(env), {
  log: silentLogger,
  signal: stopping.signal,
  parts: mockIdentity(id),
});
const { managementPort, gatewayPort } = connector;
console.log(JSON.stringify({ ready: 'connector', managementPort, gatewayPort }));
await connector.stopped;
