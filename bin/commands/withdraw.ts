import { argument, type Command } from '../command.ts';
import { connect, connectorPort } from '../management.ts';

/** Takes an offer back. */
export const withdraw: Command = {
  name: 'withdraw',
  summary: 'Take an offer out of the catalog.',
  usage: 'OFFER',
  about: `From now on nobody finds or negotiates it. Agreements that were made stand; end those with: stekker end AGREEMENT`,
  examples: ['stekker withdraw urn:uuid:0190b0b2-7c00-8000-8000-000000000001'],
  options: {},
  run: async (parsed, terminal) => {
    const offer = argument(parsed, 'an OFFER', withdraw);
    await connect(terminal.env, connectorPort).remove(`/v1/offers/${encodeURIComponent(offer)}`);
    terminal.out(parsed.flag('json') ? JSON.stringify({ offer, withdrawn: true }) : `withdrew ${offer}`);
    return 0;
  },
};
