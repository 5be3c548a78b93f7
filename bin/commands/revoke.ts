import { z } from 'zod';
import { AppError } from '../../contracts/errors.ts';
import type { Command, Parsed, Terminal } from '../command.ts';
import { brokerPort, connect, listAll, type Management } from '../management.ts';
import { plain, table } from '../text.ts';

const credential = z.looseObject({ id: z.string(), type: z.string(), holder: z.string(), standing: z.string() });
type Credential = z.output<typeof credential>;

const types: Readonly<Record<string, string>> = {
  membership: 'MembershipCredential',
  accreditation: 'ApplicationAccreditationCredential',
};

const invalid = (detail: string): AppError => new AppError('invalid-request', { detail });

/** What is asked for: a revocation unless told otherwise. */
const changeOf = (parsed: Parsed): 'revocation' | 'suspension' | 'reinstatement' => {
  const suspend = parsed.flag('suspend');
  const reinstate = parsed.flag('reinstate');
  if (suspend && reinstate) throw invalid('--suspend or --reinstate, not both');
  if (suspend) return 'suspension';
  return reinstate ? 'reinstatement' : 'revocation';
};

/** The credentials that a command line means: one by its id, or those of a holder by their type. */
const meant = async (management: Management, parsed: Parsed): Promise<readonly string[]> => {
  const [id, ...more] = parsed.positionals;
  const holder = parsed.text('holder');
  if (more.length > 0 || (id === undefined) === (holder === undefined))
    throw invalid('a CREDENTIAL, or --holder DID with --type. See: stekker revoke --help');
  if (holder === undefined) return [id ?? ''];
  const type = types[parsed.text('type') ?? ''];
  if (type === undefined) throw invalid('--type is membership or accreditation');
  const held = await listAll(management, `/v1/credentials?holder=${encodeURIComponent(holder)}`, credential);
  const found = held.filter((one) => one.type === type && one.standing !== 'revoked');
  if (found.length === 0)
    throw new AppError('not-found', { detail: `${holder} holds no ${parsed.text('type')} from here` });
  return found.map((one) => one.id);
};

const list = async (management: Management, parsed: Parsed, terminal: Terminal): Promise<number> => {
  const all = await listAll(management, '/v1/credentials', credential);
  if (parsed.flag('json')) terminal.out(JSON.stringify(all));
  else {
    const rows = all.map(({ id, type, holder, standing }) => [id, type, holder, standing]);
    for (const line of table([['credential', 'type', 'holder', 'standing'], ...rows])) terminal.out(line);
  }
  return 0;
};

/** Revokes, suspends or reinstates a credential. */
export const revoke: Command = {
  name: 'revoke',
  summary: 'Broker, accreditor: revoke, suspend or reinstate a credential.',
  usage: 'CREDENTIAL | --holder DID --type membership|accreditation [--reason TEXT]',
  about: `A revocation is pushed to every connector: within five seconds nothing is served any more that rests on it, running
streams included. A suspension stops what is new and lets what runs go on until its notice date; it can be reinstated.`,
  examples: [
    'stekker revoke --list',
    'stekker revoke urn:uuid:0190b0b2-7c00-7000-8000-000000000001 --reason "the assessment was withdrawn"',
    'stekker revoke --holder did:web:runtime.example --type membership',
    'stekker revoke --holder did:web:runtime.example --type accreditation --suspend',
  ],
  options: {
    holder: { type: 'string', value: 'DID', about: 'Whose credentials.' },
    type: { type: 'string', value: 'TYPE', about: 'membership or accreditation.' },
    reason: { type: 'string', value: 'TEXT', about: 'Why; everybody who is told reads it.' },
    suspend: { type: 'boolean', about: 'Suspend instead.' },
    reinstate: { type: 'boolean', about: 'End a suspension instead.' },
    list: { type: 'boolean', about: 'List what was issued here.' },
  },
  run: async (parsed, terminal) => {
    const management = connect(terminal.env, brokerPort);
    if (parsed.flag('list')) return list(management, parsed, terminal);
    const change = changeOf(parsed);
    const body = { reason: parsed.text('reason') ?? 'decided by the operator' };
    const changed: Credential[] = [];
    for (const id of await meant(management, parsed))
      changed.push(await management.post(`/v1/credentials/${encodeURIComponent(id)}/${change}`, body, credential));
    if (parsed.flag('json')) terminal.out(JSON.stringify(changed));
    else for (const one of changed) terminal.out(plain(`${one.standing}: ${one.id} (${one.type}) of ${one.holder}`));
    return 0;
  },
};
