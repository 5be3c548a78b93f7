import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { AppError, isAppError } from '../../contracts/errors.ts';
import { argument, type Command, numberOf, type Parsed, type Terminal } from '../command.ts';
import { connect, connectorPort } from '../management.ts';

const packed = z.looseObject({ items: z.array(z.string()) });
const pauseMs = 1_000;

/** Asks again while the statement is not signed, registered or covered yet, as long as the patience lasts. */
const patiently = async <Value>(ask: () => Promise<Value>, seconds: number, { signal }: Terminal): Promise<Value> => {
  for (let left = seconds * 1_000; ; left -= pauseMs) {
    try {
      return await ask();
    } catch (error) {
      if (!isAppError(error, 'not-yet') || left <= 0 || signal.aborted) throw error;
      await sleep(pauseMs);
    }
  }
};

const save = (path: string, text: string): void => {
  try {
    writeFileSync(path, text);
  } catch (cause) {
    throw new AppError('invalid-request', { detail: `${path} cannot be written`, cause });
  }
};

const withholdOf = (parsed: Parsed): string => {
  const names = parsed.list('withhold').toSorted();
  if (names.some((name) => name !== 'context' && name !== 'sums'))
    throw new AppError('invalid-request', { detail: '--withhold takes context or sums' });
  return names.length === 0 ? '' : `withhold=${[...new Set(names)].join(',')}`;
};

const one = async (request: string, parsed: Parsed, terminal: Terminal): Promise<number> => {
  const query = withholdOf(parsed);
  const path = `/v1/receipts/${encodeURIComponent(request)}${query === '' ? '' : `?${query}`}`;
  const seconds = numberOf(parsed, 'wait', { min: 0, max: 86_400, fallback: 0 });
  const text = await patiently(() => connect(terminal.env, connectorPort).text(path), seconds, terminal);
  const out = parsed.text('out');
  if (out === undefined) terminal.out(text);
  else {
    save(out, text);
    terminal.out(
      parsed.flag('json')
        ? JSON.stringify({ files: [out] })
        : `wrote ${out}. Check it with: stekker verify ${out} --trust trust.json`,
    );
  }
  return 0;
};

const all = async (agreement: string, parsed: Parsed, terminal: Terminal): Promise<number> => {
  const folder = parsed.text('out');
  if (folder === undefined)
    throw new AppError('invalid-request', { detail: '--out FOLDER is needed: there is a file for each statement' });
  const query = [`agreement=${encodeURIComponent(agreement)}`, withholdOf(parsed)]
    .filter((part) => part !== '')
    .join('&');
  const seconds = numberOf(parsed, 'wait', { min: 0, max: 86_400, fallback: 0 });
  const ask = () => connect(terminal.env, connectorPort).get(`/v1/receipts?${query}`, packed);
  const { items } = await patiently(ask, seconds, terminal);
  mkdirSync(folder, { recursive: true });
  const files = items.map((text, index) => {
    const path = join(folder, `receipts-${String(index + 1).padStart(4, '0')}.json`);
    save(path, text);
    return path;
  });
  if (parsed.flag('json')) terminal.out(JSON.stringify({ files }));
  else terminal.out(`wrote ${files.length} files. Check them with: stekker verify ${folder}/*.json --trust trust.json`);
  return 0;
};

/** Receipts as files that verify offline. */
export const receipt: Command = {
  name: 'receipt',
  summary: 'Get the receipt of one access, or of everything under an agreement.',
  usage: 'REQUEST [--out FILE] | --agreement ID --out FOLDER',
  about: `A receipt is one file with everything that proves an access: record, statement, agreement, keys, log and anchor.
It exists when the statement over the access is signed by both and covered by the log; --wait asks again until then.
Whoever gets it checks it alone, with: stekker verify FILE --trust FILE`,
  examples: [
    'stekker receipt 0190b0b2-7c00-7000-8000-000000000001 --out receipt.json --wait 60',
    'stekker receipt --agreement urn:uuid:… --out receipts --withhold context',
  ],
  options: {
    agreement: { type: 'string', value: 'ID', about: 'All receipts of this agreement, packed by statement.' },
    out: { type: 'string', value: 'PATH', about: 'Where they go.' },
    withhold: {
      type: 'string',
      value: 'WHAT',
      about: 'Leave out: context (purpose, application), or sums.',
      multiple: true,
    },
    wait: { type: 'string', value: 'SECONDS', about: 'Ask again for so long while it is not there yet.' },
  },
  run: async (parsed, terminal) => {
    const agreement = parsed.text('agreement');
    if (agreement !== undefined && parsed.positionals.length === 0) return all(agreement, parsed, terminal);
    return one(argument(parsed, 'a REQUEST', receipt), parsed, terminal);
  },
};
