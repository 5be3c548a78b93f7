import { type BrokerConfig, readBrokerConfig } from '../../broker/config.ts';
import type { Command } from '../command.ts';
import { loadStart, runService } from '../service.ts';

/** Starts the hub, or an accreditor. */
export const broker: Command = {
  name: 'broker',
  summary: 'Start a broker (the hub), or an accreditor.',
  usage: '',
  about: `Starts the service and keeps it running until it gets SIGINT or SIGTERM; what is under way then ends.
Settings come from the environment (docs/configuration.md); STEKKER_ROLE=accreditor makes it an accreditor.
When it is ready it prints one line of JSON with its ports: {"ready":"broker","publicPort":8090,"managementPort":8091}.
Next: invite a connector with: stekker invite DID --name NAME`,
  examples: [
    'STEKKER_DATA=/var/lib/stekker STEKKER_PUBLIC_URL=https://broker.example STEKKER_PASSPHRASE_FILE=pass STEKKER_MANAGEMENT_TOKEN_FILE=token stekker broker',
  ],
  options: {},
  run: async (_parsed, terminal) => {
    const config = readBrokerConfig(terminal.env);
    return runService<BrokerConfig>(
      config.STEKKER_ROLE,
      config,
      () => loadStart<BrokerConfig>('../broker/main.ts', 'startBroker'),
      terminal,
    );
  },
};
