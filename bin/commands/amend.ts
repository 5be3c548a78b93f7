import { z } from 'zod';
import { argument, type Command } from '../command.ts';
import { connect, connectorPort } from '../management.ts';
import { plain } from '../text.ts';

const begun = z.looseObject({ id: z.string(), state: z.string(), peer: z.string(), dataset: z.string() });

/** Has another agreement take the place of one in force. */
export const amend: Command = {
  name: 'amend',
  summary: 'Have another agreement take the place of one in force.',
  usage: 'AGREEMENT [--offer OFFER]',
  about: `Begins a negotiation about the same dataset with the same party. When its agreement is in force and the other side has
acknowledged it, the old one is superseded; until then, and when nothing comes of it, the old one stays as it is. A consumer
asks for the offer that fits best, unless it names one; a provider names the offer that it makes instead.`,
  examples: ['stekker amend urn:uuid:0190b0b2-7c00-7000-8000-000000000001'],
  options: { offer: { type: 'string', value: 'OFFER', about: 'The offer that takes its place.' } },
  run: async (parsed, terminal) => {
    const agreement = argument(parsed, 'an AGREEMENT', amend);
    const management = connect(terminal.env, connectorPort);
    const offer = parsed.text('offer');
    const path = `/v1/agreements/${encodeURIComponent(agreement)}/amendment`;
    const answer = await management.post(path, offer === undefined ? {} : { offer }, begun);
    if (parsed.flag('json')) terminal.out(JSON.stringify(answer));
    else terminal.out(plain(`begun: negotiation ${answer.id}, about ${answer.dataset} with ${answer.peer}`));
    return 0;
  },
};
