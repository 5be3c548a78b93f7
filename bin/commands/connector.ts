import { type ConnectorConfig, readConnectorConfig } from '../../connector/config.ts';
import type { Command } from '../command.ts';
import { loadStart, runService } from '../service.ts';

/** Starts a connector. */
export const connector: Command = {
  name: 'connector',
  summary: 'Start a connector: what a data holder or an application runtime deploys.',
  usage: '',
  about: `Starts the service and keeps it running until it gets SIGINT or SIGTERM; what is under way then ends.
Settings come from the environment (docs/configuration.md).
When it is ready it prints one line of JSON with its ports: {"ready":"connector","publicPort":8080,…}.
Next: join a broker with: stekker join CODE, then publish with: stekker publish SOURCE, or look around with: stekker offers`,
  examples: [
    'STEKKER_DATA=/var/lib/stekker STEKKER_PUBLIC_URL=https://connector.example STEKKER_DATA_URL=https://data.connector.example STEKKER_PASSPHRASE_FILE=pass STEKKER_MANAGEMENT_TOKEN_FILE=token stekker connector',
  ],
  options: {},
  run: async (_parsed, terminal) =>
    runService<ConnectorConfig>(
      'connector',
      readConnectorConfig(terminal.env),
      () => loadStart<ConnectorConfig>('../connector/main.ts', 'startConnector'),
      terminal,
    ),
};
