import { z } from 'zod';
import { argument, type Command, required } from '../command.ts';
import { brokerPort, connect } from '../management.ts';
import { plain } from '../text.ts';

const invited = z.looseObject({ did: z.string(), joinCode: z.string().nullable(), expiresAt: z.string().nullable() });

/** Invites a participant to the broker. */
export const invite: Command = {
  name: 'invite',
  summary: 'Broker: invite a participant, with a one-time code.',
  usage: 'DID --name NAME [--role ROLE …]',
  about: `Makes a code that works once, for this DID alone; hand it over in a way that only its operator can read.
They use it with: stekker join CODE. The same again changes name and roles.`,
  examples: ['stekker invite did:web:connector.example --name "Waterschap Voorbeeld" --role provider --role consumer'],
  options: {
    name: { type: 'string', value: 'NAME', about: 'Name shown to the others.' },
    role: { type: 'string', value: 'ROLE', about: 'Role of the membership; may be given again.', multiple: true },
  },
  run: async (parsed, terminal) => {
    const did = argument(parsed, 'a DID', invite);
    const roles = parsed.list('role');
    const body = { did, name: required(parsed, 'name', invite), roles: roles.length === 0 ? ['participant'] : roles };
    const answer = await connect(terminal.env, brokerPort).post('/v1/invitations', body, invited);
    if (parsed.flag('json')) terminal.out(JSON.stringify(answer));
    else if (answer.joinCode === null)
      terminal.out(plain(`${answer.did} has joined already; name and roles are changed`));
    else {
      terminal.out(answer.joinCode);
      terminal.err(plain(`For ${answer.did}, until ${answer.expiresAt}. There: stekker join CODE`));
    }
    return 0;
  },
};
