import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';
import { AppError } from '../contracts/errors.ts';

/** One option of a command, as the help shows it. */
export interface Option {
  readonly type: 'string' | 'boolean';
  readonly about: string;
  /** What stands behind the name in the help: `FILE`, `URL`, … */
  readonly value?: string;
  readonly multiple?: boolean;
  readonly short?: string;
}

export interface Parsed {
  readonly positionals: readonly string[];
  /** The value of a string option, or undefined. */
  readonly text: (name: string) => string | undefined;
  readonly list: (name: string) => readonly string[];
  readonly flag: (name: string) => boolean;
}

/** Where a command writes; tests give their own. Nothing a command prints may hold a secret. */
export interface Terminal {
  readonly out: (line: string) => void;
  readonly err: (line: string) => void;
  /** Bytes as they are, for what is fetched; without it they go out as lines of text. */
  readonly write?: (bytes: Uint8Array) => Promise<void>;
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
}

/**
 * One command of the command line. `run` returns the exit code: 0 done, 1 failed, 2 cannot be done or evaluated;
 * `verify` uses the codes of ledger §10. Faults are thrown as AppError and printed in one place.
 */
export interface Command {
  readonly name: string;
  /** One line, in the list of commands. */
  readonly summary: string;
  /** The arguments behind the name: `FILE… --trust FILE`. */
  readonly usage: string;
  /** What it does and what comes next, in a few lines. */
  readonly about: string;
  readonly examples: readonly string[];
  readonly options: Readonly<Record<string, Option>>;
  readonly run: (parsed: Parsed, terminal: Terminal) => Promise<number>;
}

const common: Readonly<Record<string, Option>> = {
  json: { type: 'boolean', about: 'Print one JSON value instead of text.' },
  help: { type: 'boolean', about: 'Show this help.', short: 'h' },
};

/** The help text of one command. */
export const helpOf = (command: Command): string => {
  const options = Object.entries({ ...command.options, ...common }).map(([name, option]) => {
    const left = `  --${name}${option.value === undefined ? '' : ` ${option.value}`}`;
    return `${left.padEnd(28)} ${option.about}`;
  });
  const examples = command.examples.map((example) => `  ${example}`);
  return [
    `stekker ${command.name} ${command.usage}`.trimEnd(),
    '',
    command.about,
    '',
    'Options',
    ...options,
    '',
    'Examples',
    ...examples,
  ].join('\n');
};

/**
 * Parses the arguments of one command.
 *
 * @throws AppError `invalid-request` that says what is wrong and how to see the help.
 */
export const parseCommandLine = (command: Command, args: readonly string[]): Parsed => {
  const all = { ...command.options, ...common };
  const options: ParseArgsOptionsConfig = {};
  for (const [name, { type, multiple, short }] of Object.entries(all)) {
    options[name] = { type, ...(multiple === true ? { multiple } : {}), ...(short === undefined ? {} : { short }) };
  }
  try {
    const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
    const value = (name: string) => values[name];
    return {
      positionals,
      text: (name) => {
        const found = value(name);
        return typeof found === 'string' ? found : undefined;
      },
      list: (name) => {
        const found = value(name);
        return Array.isArray(found) ? found.filter((item) => typeof item === 'string') : [];
      },
      flag: (name) => value(name) === true,
    };
  } catch (error) {
    const why = error instanceof Error ? error.message.split('. To specify')[0] : 'the arguments cannot be read';
    throw new AppError('invalid-request', { detail: `${why}. See: stekker ${command.name} --help`, cause: error });
  }
};

/** The one value of a required option. @throws AppError `invalid-request` that names it. */
export const required = (parsed: Parsed, name: string, command: Command): string => {
  const value = parsed.text(name);
  if (value === undefined) {
    throw new AppError('invalid-request', { detail: `--${name} is needed. See: stekker ${command.name} --help` });
  }
  return value;
};

/** The one argument that a command stands before. @throws AppError `invalid-request` that names it. */
export const argument = (parsed: Parsed, name: string, command: Command): string => {
  const [value, ...more] = parsed.positionals;
  if (value === undefined || more.length > 0) {
    const what = value === undefined ? `${name} is needed` : `${name} is taken, and nothing more`;
    throw new AppError('invalid-request', { detail: `${what}. See: stekker ${command.name} --help` });
  }
  return value;
};

/** A whole number between limits, or the fallback. @throws AppError `invalid-request`. */
export const numberOf = (
  parsed: Parsed,
  name: string,
  its: { readonly min: number; readonly max: number; readonly fallback: number },
): number => {
  const text = parsed.text(name);
  if (text === undefined) return its.fallback;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= its.min && value <= its.max) return value;
  throw new AppError('invalid-request', { detail: `--${name} is a whole number from ${its.min} to ${its.max}` });
};
