import { z } from 'zod';
import { AppError } from '../../contracts/errors.ts';
import { argument, type Command, numberOf, required } from '../command.ts';
import { brokerPort, connect } from '../management.ts';
import { plain } from '../text.ts';

const accredited = z.looseObject({ id: z.string(), holder: z.string(), validUntil: z.string() });

const splitVersion = (text: string, what: string): { readonly id: string; readonly version: string } => {
  const at = text.lastIndexOf('@');
  if (at < 1 || at === text.length - 1)
    throw new AppError('invalid-request', { detail: `${what} is written as ID@VERSION` });
  return { id: text.slice(0, at), version: text.slice(at + 1) };
};

/** Accredits an application for purposes. */
export const accredit: Command = {
  name: 'accredit',
  summary: 'Accreditor: accredit an application of a participant, for purposes.',
  usage: 'ID@VERSION --holder DID --digest DIGEST --purpose IRI … --criteria ID@VERSION',
  about: `Decides that this version of an application, run by this participant, meets the criteria for these purposes. The
participant's connector is offered the credential and fetches it by itself. Take it back with: stekker revoke`,
  examples: [
    'stekker accredit urn:stekker:1:app:evacuatie@1.0.0 --holder did:web:runtime.example --digest sha256:… --purpose urn:stekker:1:purpose:crisis --criteria urn:voorbeeld:criteria@2026',
  ],
  options: {
    holder: { type: 'string', value: 'DID', about: 'Participant that runs the application.' },
    digest: { type: 'string', value: 'DIGEST', about: 'Digest of the program that was judged.' },
    purpose: { type: 'string', value: 'IRI', about: 'Purpose it may be used for; may be given again.', multiple: true },
    criteria: { type: 'string', value: 'ID@VERSION', about: 'Criteria it was judged by.' },
    level: { type: 'string', value: 'LEVEL', about: 'Level on the scale of the criteria.' },
    days: { type: 'string', value: 'N', about: 'Valid for so many days; default 365.' },
  },
  run: async (parsed, terminal) => {
    const { id, version } = splitVersion(argument(parsed, 'an application ID@VERSION', accredit), 'the application');
    const purposes = parsed.list('purpose');
    if (purposes.length === 0)
      throw new AppError('invalid-request', { detail: '--purpose is needed. See: stekker accredit --help' });
    const level = parsed.text('level');
    const body = {
      holder: required(parsed, 'holder', accredit),
      application: { id, version, digest: required(parsed, 'digest', accredit) },
      purposes,
      criteria: splitVersion(required(parsed, 'criteria', accredit), '--criteria'),
      validDays: numberOf(parsed, 'days', { min: 1, max: 730, fallback: 365 }),
      ...(level === undefined ? {} : { level }),
    };
    const answer = await connect(terminal.env, brokerPort).post('/v1/accreditations', body, accredited);
    if (parsed.flag('json')) terminal.out(JSON.stringify(answer));
    else terminal.out(plain(`accredited until ${answer.validUntil}: ${answer.id}, held by ${answer.holder}`));
    return 0;
  },
};
