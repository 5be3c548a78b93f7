import { z } from 'zod';
import { argument, type Command } from '../command.ts';
import { connect, connectorPort } from '../management.ts';
import { plain } from '../text.ts';

const ended = z.looseObject({ id: z.string(), status: z.string(), peer: z.string(), dataset: z.string() });

/** Ends an agreement at once. */
export const end: Command = {
  name: 'end',
  summary: 'End an agreement, at once and for good.',
  usage: 'AGREEMENT [--reason TEXT]',
  about: `Either side may end an agreement. From this moment nothing is served or fetched under it, running transfers are
terminated, and a last statement closes the account. What was used stays proven and stays owed. The same again is harmless.`,
  examples: ['stekker end urn:uuid:0190b0b2-7c00-7000-8000-000000000001 --reason "the crisis is over"'],
  options: { reason: { type: 'string', value: 'TEXT', about: 'Why; the other side reads it.' } },
  run: async (parsed, terminal) => {
    const agreement = argument(parsed, 'an AGREEMENT', end);
    const management = connect(terminal.env, connectorPort);
    const path = `/v1/agreements/${encodeURIComponent(agreement)}/end`;
    const answer = await management.post(path, { reason: parsed.text('reason') ?? '' }, ended);
    if (parsed.flag('json')) terminal.out(JSON.stringify(answer));
    else terminal.out(plain(`${answer.status}: ${answer.id}, about ${answer.dataset} with ${answer.peer}`));
    return 0;
  },
};
