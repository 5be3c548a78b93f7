import { chmodSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import { AppError } from '../../contracts/errors.ts';
import type { Command, Parsed, Terminal } from '../command.ts';
import { connect, connectorPort, listAll } from '../management.ts';
import { table } from '../text.ts';

const made = z.looseObject({ application: z.string(), key: z.string() });
const listed = z.looseObject({ application: z.string(), createdAt: z.string() });

const add = async (name: string, parsed: Parsed, terminal: Terminal): Promise<number> => {
  const answer = await connect(terminal.env, connectorPort).post('/v1/applications', { application: name }, made);
  const file = parsed.text('key-file');
  if (file !== undefined) {
    writeFileSync(file, `${answer.key}\n`, { mode: 0o600 });
    chmodSync(file, 0o600); // a file that was there before keeps its mode otherwise
  }
  const shown = file === undefined ? answer : { application: answer.application, keyFile: file };
  if (parsed.flag('json')) terminal.out(JSON.stringify(shown));
  else {
    terminal.out(file === undefined ? answer.key : `the key is in ${file}`);
    terminal.err(
      'Keep the key: it is shown once. The application sends it to the gateway, or give it to: stekker fetch',
    );
  }
  return 0;
};

const list = async (parsed: Parsed, terminal: Terminal): Promise<number> => {
  const all = await listAll(connect(terminal.env, connectorPort), '/v1/applications', listed);
  if (parsed.flag('json')) terminal.out(JSON.stringify(all));
  else
    for (const line of table([['application', 'since'], ...all.map((one) => [one.application, one.createdAt])]))
      terminal.out(line);
  return 0;
};

const remove = async (name: string, parsed: Parsed, terminal: Terminal): Promise<number> => {
  await connect(terminal.env, connectorPort).remove(`/v1/applications/${encodeURIComponent(name)}`);
  terminal.out(parsed.flag('json') ? JSON.stringify({ application: name, removed: true }) : `removed ${name}`);
  return 0;
};

/** Own applications and their keys. */
export const application: Command = {
  name: 'application',
  summary: 'Let an own application fetch: make, list or take away its key.',
  usage: 'add ID@VERSION | list | remove ID@VERSION',
  about: `An application asks its own connector with a key of its own; the connector names it to providers and answers for it.
Each version has its own key, because accreditations are of a version.`,
  examples: [
    'stekker application add urn:stekker:1:app:evacuatie@1.0.0 --key-file evacuatie.key',
    'stekker application list',
    'stekker application remove urn:stekker:1:app:evacuatie@1.0.0',
  ],
  options: {
    'key-file': { type: 'string', value: 'FILE', about: 'Write the key to this file instead of showing it.' },
  },
  run: async (parsed, terminal) => {
    const [what, name, ...more] = parsed.positionals;
    if (what === 'list' && name === undefined) return list(parsed, terminal);
    if (name !== undefined && more.length === 0 && what === 'add') return add(name, parsed, terminal);
    if (name !== undefined && more.length === 0 && what === 'remove') return remove(name, parsed, terminal);
    throw new AppError('invalid-request', { detail: 'add, list or remove. See: stekker application --help' });
  },
};
