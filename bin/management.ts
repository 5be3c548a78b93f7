import { readFileSync } from 'node:fs';
import { AppError, type ErrorCode, errorTable, type Fault } from '../contracts/errors.ts';

/** The operator's API of a connector or broker, as the command line speaks to it. */
export interface Management {
  readonly get: (path: string) => Promise<unknown>;
  readonly post: (path: string, body: unknown) => Promise<unknown>;
  readonly remove: (path: string) => Promise<unknown>;
}

interface ManagementAddress {
  readonly url: string;
  readonly token: string;
}

const timeoutMs = 60_000;

/**
 * Where the operator's API is: STEKKER_MANAGEMENT_URL, else loopback on STEKKER_MANAGEMENT_PORT or `fallbackPort`;
 * its token from STEKKER_MANAGEMENT_TOKEN or STEKKER_MANAGEMENT_TOKEN_FILE.
 *
 * @throws AppError `config-invalid` when there is no token.
 */
export const managementAddress = (env: NodeJS.ProcessEnv, fallbackPort: number): ManagementAddress => {
  const file = env.STEKKER_MANAGEMENT_TOKEN_FILE;
  const token = env.STEKKER_MANAGEMENT_TOKEN ?? (file === undefined ? undefined : readFileSync(file, 'utf8').trim());
  if (token === undefined || token === '') {
    throw new AppError('config-invalid', {
      detail:
        'STEKKER_MANAGEMENT_TOKEN or STEKKER_MANAGEMENT_TOKEN_FILE must hold the token that the service was started with',
    });
  }
  const port = env.STEKKER_MANAGEMENT_PORT ?? String(fallbackPort);
  return { url: env.STEKKER_MANAGEMENT_URL ?? `http://127.0.0.1:${port}`, token };
};

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(errorTable, code);

const faultsOf = (value: unknown): Fault[] =>
  Array.isArray(value)
    ? value.filter(isRecord).map((fault) => ({ path: String(fault.path ?? ''), message: String(fault.message ?? '') }))
    : [];

/** Turns a problem+json answer (RFC 9457) back into the error it came from. */
const problemError = (status: number, body: unknown): AppError => {
  const problem = isRecord(body) ? body : {};
  const code =
    String(problem.type ?? '')
      .split(':')
      .at(-1) ?? '';
  const detail = String(problem.detail ?? problem.title ?? `the service answered ${status}`);
  return new AppError(isErrorCode(code) ? code : 'internal-error', { detail, faults: faultsOf(problem.errors) });
};

/** A client of the operator's API. @throws AppError as the service answers, or `fetch-failed` when it is not there. */
export const createManagement = (address: ManagementAddress): Management => {
  const call = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const response = await fetch(`${address.url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${address.token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMs),
    }).catch((cause: unknown) => {
      const detail = `nothing answers at ${address.url}; is the service running? Start it with: stekker connector (or broker)`;
      throw new AppError('fetch-failed', { detail, cause });
    });
    const text = await response.text();
    const isJson = (response.headers.get('content-type') ?? '').includes('json');
    const value: unknown = isJson && text !== '' ? JSON.parse(text) : text;
    if (!response.ok) throw problemError(response.status, value);
    return value;
  };
  return {
    get: (path) => call('GET', path),
    post: (path, body) => call('POST', path, body),
    remove: (path) => call('DELETE', path),
  };
};
