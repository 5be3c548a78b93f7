import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { AppError, type ErrorCode, errorTable, type Fault } from '../contracts/errors.ts';

/** The operator's API of a connector or broker, as the command line speaks to it. */
export interface Management {
  readonly get: <Value>(path: string, schema: z.ZodType<Value>) => Promise<Value>;
  readonly post: <Value>(path: string, body: unknown, schema: z.ZodType<Value>) => Promise<Value>;
  readonly remove: (path: string) => Promise<void>;
  /** The bytes of an answer as text: for files that must stay as they are. */
  readonly text: (path: string) => Promise<string>;
  /** An answer whose body is read as it comes. */
  readonly stream: (path: string, signal: AbortSignal) => Promise<Response>;
}

interface ManagementAddress {
  readonly url: string;
  readonly token: string;
}

const timeoutMs = 60_000;

/** The one line of a file with a secret. @throws AppError `config-invalid` when it cannot be read. */
export const secretIn = (file: string): string => {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (cause) {
    throw new AppError('config-invalid', { detail: `the file ${file} cannot be read`, cause });
  }
};

/**
 * Where the operator's API is: STEKKER_MANAGEMENT_URL, else loopback on STEKKER_MANAGEMENT_PORT or `fallbackPort`;
 * its token from STEKKER_MANAGEMENT_TOKEN or STEKKER_MANAGEMENT_TOKEN_FILE.
 *
 * @throws AppError `config-invalid` when there is no token.
 */
const managementAddress = (env: NodeJS.ProcessEnv, fallbackPort: number): ManagementAddress => {
  const file = env.STEKKER_MANAGEMENT_TOKEN_FILE;
  const token = env.STEKKER_MANAGEMENT_TOKEN ?? (file === undefined ? undefined : secretIn(file));
  if (token === undefined || token === '') {
    throw new AppError('config-invalid', {
      detail:
        'STEKKER_MANAGEMENT_TOKEN or STEKKER_MANAGEMENT_TOKEN_FILE must hold the token that the service was started with',
    });
  }
  const port = env.STEKKER_MANAGEMENT_PORT ?? String(fallbackPort);
  return { url: env.STEKKER_MANAGEMENT_URL ?? `http://127.0.0.1:${port}`, token };
};

const problem = z.looseObject({
  type: z.string().optional(),
  title: z.string().optional(),
  detail: z.string().optional(),
  errors: z.array(z.looseObject({ path: z.string(), message: z.string() })).optional(),
});

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(errorTable, code);

const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

/** Turns a problem+json answer (RFC 9457) back into the error it came from. */
export const problemError = (status: number, text: string): AppError => {
  const read = problem.safeParse(jsonOf(text));
  const { type = '', title, detail, errors = [] } = read.success ? read.data : {};
  const code = type.split(':').at(-1) ?? '';
  const faults: Fault[] = errors.map(({ path, message }) => ({ path, message }));
  const why = detail ?? title ?? `the service answered ${status}`;
  return new AppError(isErrorCode(code) ? code : 'internal-error', { detail: why, faults });
};

const readAnswer = <Value>(url: string, text: string, schema: z.ZodType<Value>): Value => {
  const read = schema.safeParse(jsonOf(text));
  if (read.success) return read.data;
  const detail = `what answers at ${url} is not the service that this command speaks to, or another version of it`;
  throw new AppError('fetch-failed', { detail, cause: read.error });
};

/** A client of the operator's API. @throws AppError as the service answers, or `fetch-failed` when it is not there. */
const createManagement = ({ url, token }: ManagementAddress): Management => {
  const call = async (method: string, path: string, body?: unknown): Promise<string> => {
    const detail = `nothing answers at ${url}; is the service running? Start it with: stekker connector (or broker)`;
    const failed = (cause: unknown): never => {
      throw new AppError('fetch-failed', { detail, cause });
    };
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMs),
    }).catch(failed);
    const text = await response.text().catch(failed);
    if (!response.ok) throw problemError(response.status, text);
    return text;
  };
  const stream = async (path: string, signal: AbortSignal): Promise<Response> => {
    const headers = { authorization: `Bearer ${token}` };
    const response = await fetch(`${url}${path}`, { headers, redirect: 'error', signal }).catch((cause: unknown) => {
      throw new AppError('fetch-failed', { detail: `nothing answers at ${url}; is the service running?`, cause });
    });
    if (!response.ok) throw problemError(response.status, await response.text());
    return response;
  };
  return {
    get: async (path, schema) => readAnswer(url, await call('GET', path), schema),
    post: async (path, body, schema) => readAnswer(url, await call('POST', path, body), schema),
    remove: async (path) => void (await call('DELETE', path)),
    text: (path) => call('GET', path),
    stream: (path, signal) => stream(path, signal),
  };
};

const maxPages = 10_000;

/** Every item of a list, page by page, up to `limit`. `path` has its own query already, or none. */
export const listAll = async <Item>(
  management: Management,
  path: string,
  item: z.ZodType<Item>,
  limit = Number.POSITIVE_INFINITY,
): Promise<readonly Item[]> => {
  const schema = z.object({ items: z.array(item), next: z.string().nullable() });
  const items: Item[] = [];
  let after = '';
  for (let page = 0; page < maxPages; page += 1) {
    const separator = path.includes('?') ? '&' : '?';
    const found = await management.get(
      `${path}${after === '' ? '' : `${separator}after=${encodeURIComponent(after)}`}`,
      schema,
    );
    items.push(...found.items);
    if (found.next === null || items.length >= limit) break;
    after = found.next;
  }
  return items.slice(0, limit);
};

export const connectorPort = 8082;
export const brokerPort = 8091;

/** The operator's API of the service that the environment names. @throws AppError `config-invalid`. */
export const connect = (env: NodeJS.ProcessEnv, fallbackPort: number): Management =>
  createManagement(managementAddress(env, fallbackPort));
