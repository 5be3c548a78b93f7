import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { argument, type Command, type Terminal } from '../command.ts';
import { connect, connectorPort, type Management } from '../management.ts';

const joined = z.looseObject({ broker: z.string().optional(), member: z.boolean().optional() });
const status = z.looseObject({ member: z.boolean() });
const pauseMs = 250;
const patienceMs = 30_000;

/** The broker delivers the membership by itself, usually within a second. */
const awaitMembership = async (management: Management, { signal }: Terminal): Promise<boolean> => {
  for (let waited = 0; waited < patienceMs && !signal.aborted; waited += pauseMs) {
    if ((await management.get('/v1/status', status)).member) return true;
    await sleep(pauseMs);
  }
  return false;
};

/** Joins a broker with the code of its invitation. */
export const join: Command = {
  name: 'join',
  summary: 'Join the broker with the code of an invitation.',
  usage: 'CODE',
  about: `Puts this connector's keys into the broker's log and asks for the membership; waits until it is here.
The operator of the broker makes the code with: stekker invite DID --name NAME. The same again is harmless.
An accreditor joins in the same way; it has no membership to wait for.`,
  examples: ['stekker join 3q2f-code-of-the-invitation'],
  options: { 'no-wait': { type: 'boolean', about: 'Do not wait for the membership.' } },
  run: async (parsed, terminal) => {
    const code = argument(parsed, 'a CODE', join);
    const management = connect(terminal.env, connectorPort);
    const answer = await management.post('/v1/join', { code }, joined);
    const waits = answer.member === false && !parsed.flag('no-wait');
    const member = waits ? await awaitMembership(management, terminal) : answer.member;
    if (parsed.flag('json')) terminal.out(JSON.stringify({ ...answer, ...(member === undefined ? {} : { member }) }));
    else if (member === true)
      terminal.out(`joined ${answer.broker}, and a member. Next: stekker publish SOURCE, or stekker offers`);
    else if (member === undefined) terminal.out("joined: the keys are in the broker's log");
    else terminal.out(`joined ${answer.broker}; the membership has not come yet. Ask again with the same command.`);
    return member === false && !parsed.flag('no-wait') ? 1 : 0;
  },
};
