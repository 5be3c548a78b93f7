import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { AppError, type Fault } from '../contracts/errors.ts';

/** One setting: its form, what it is for, and an example that is valid (a test reads each of them back). */
export interface Setting<Value> {
  readonly schema: z.ZodType<Value>;
  readonly about: string;
  readonly example: string;
  /** A secret may also come from the file that `<KEY>_FILE` names, and is never shown. */
  readonly secret?: true;
}

export type Settings = Readonly<Record<string, Setting<unknown>>>;

/** The values of a table of settings, each in the type its schema gives. */
export type ValuesOf<Table extends Settings> = {
  readonly [Key in keyof Table]: Table[Key] extends Setting<infer Value> ? Value : never;
};

/** Declares one setting; the value's type follows from the schema. */
export const setting = <Value>(
  schema: z.ZodType<Value>,
  about: string,
  example: string,
  options: { readonly secret?: true } = {},
): Setting<Value> => ({ schema, about, example, ...options });

/** An integer written in decimal digits, within limits that are both included. */
export const integerText = (min: number, max: number): z.ZodType<number, string> =>
  z
    .string()
    .regex(/^(0|[1-9]\d{0,15})$/, 'is no whole number')
    .transform(Number)
    .pipe(z.number().min(min, `is below ${min}`).max(max, `is above ${max}`));

/** A TCP port; 0 takes a free one. */
export const portText = (fallback: string) => integerText(0, 65_535).prefault(fallback);

/** Words, space separated. */
export const listText = z
  .string()
  .default('')
  .transform((text) => text.split(' ').filter((word) => word !== ''));

/** `true` or `false`, nothing else. */
export const booleanText: z.ZodType<boolean, string> = z
  .enum(['true', 'false'], { error: 'is neither true nor false' })
  .transform((text) => text === 'true');

/** An http(s) origin without path, query or trailing slash. */
export const originText: z.ZodType<string, string> = z.string().refine((text) => {
  try {
    const url = new URL(text);
    return (url.protocol === 'https:' || url.protocol === 'http:') && url.origin === text;
  } catch {
    return false;
  }
}, 'is no origin such as https://connector.example, without path or trailing slash');

const maxSecretBytes = 64 * 1024;

const readSecretFile = (path: string): string => {
  const bytes = readFileSync(path);
  if (bytes.length > maxSecretBytes)
    throw new AppError('config-invalid', { detail: `${path} is larger than a secret` });
  return bytes.toString('utf8').replace(/\r?\n$/, '');
};

const rawValue = (key: string, entry: Setting<unknown>, env: NodeJS.ProcessEnv): string | undefined => {
  const direct = env[key];
  const file = entry.secret === true ? env[`${key}_FILE`] : undefined;
  if (direct !== undefined && file !== undefined) {
    throw new AppError('config-invalid', { detail: `give ${key} or ${key}_FILE, not both` });
  }
  return file === undefined ? direct : readSecretFile(file);
};

/** Keys of the same prefix that belong to the command line or to tests, and not to a service. */
const foreignKeys = new Set([
  'STEKKER_SHARED',
  'STEKKER_MANAGEMENT_URL',
  'STEKKER_APPLICATION_KEY',
  'STEKKER_APPLICATION_KEY_FILE',
]);

const unknownKeys = (table: Settings, env: NodeJS.ProcessEnv, prefix: string): Fault[] =>
  Object.keys(env)
    .filter((key) => key.startsWith(prefix) && !foreignKeys.has(key))
    .filter((key) => table[key] === undefined && !(key.endsWith('_FILE') && table[key.slice(0, -5)]?.secret === true))
    .map((key) => ({ path: key, message: 'is no setting of this program' }));

const readSetting = (key: string, entry: Setting<unknown>, env: NodeJS.ProcessEnv): { value: unknown } | Fault => {
  try {
    const parsed = entry.schema.safeParse(rawValue(key, entry, env));
    if (parsed.success) return { value: parsed.data };
    const missing = env[key] === undefined && env[`${key}_FILE`] === undefined;
    return faultOf(key, entry, missing ? 'is missing' : (parsed.error.issues[0]?.message ?? 'is not valid'));
  } catch (error) {
    return faultOf(key, entry, error instanceof Error ? error.message : 'cannot be read');
  }
};

/**
 * Reads a table of settings from the environment. Unknown keys under `prefix` are faults too, so that a typing error
 * does not silently leave a default in place.
 *
 * @throws AppError `config-invalid` with one fault for each wrong key: what is wrong, and an example that works.
 */
export const readSettings = <Table extends Settings>(
  table: Table,
  env: NodeJS.ProcessEnv,
  prefix: string,
): ValuesOf<Table> => {
  const faults: Fault[] = unknownKeys(table, env, prefix);
  const values: Record<string, unknown> = {};
  for (const [key, entry] of Object.entries(table)) {
    const outcome = readSetting(key, entry, env);
    if ('value' in outcome) values[key] = outcome.value;
    else faults.push(outcome);
  }
  if (faults.length > 0) {
    const detail = faults.map((fault) => `${fault.path} ${fault.message}`).join('; ');
    throw new AppError('config-invalid', { detail, faults });
  }
  return values as ValuesOf<Table>; // every key of the table was parsed by its own schema above
};

const faultOf = (key: string, entry: Setting<unknown>, message: string): Fault => ({
  path: key,
  message: `${message}; example: ${key}=${entry.secret === true ? '(a secret)' : entry.example}`,
});

/** The table of settings as Markdown, for docs/configuration.md. */
export const describeSettings = (table: Settings): string => {
  const rows = Object.entries(table).map(([key, entry]) => {
    const fallback = entry.schema.safeParse(undefined);
    const missing = fallback.success
      ? fallback.data === undefined
        ? '–'
        : `\`${String(fallback.data)}\``
      : 'required';
    return `| \`${key}\`${entry.secret === true ? ' (secret)' : ''} | ${entry.about} | ${missing} | \`${entry.example}\` |`;
  });
  return ['| setting | what it is for | default | example |', '|---|---|---|---|', ...rows].join('\n');
};
