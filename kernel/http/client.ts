import { lookup as systemLookup } from 'node:dns/promises';
import type { LookupFunction } from 'node:net';
import { Agent, type Dispatcher, request as undiciRequest } from 'undici';
import { AppError } from '../../contracts/errors.ts';
import { type AddressRules, isLoopbackAddress, isPublicAddress, refusalOf } from './addresses.ts';

/**
 * The one client for everything that goes out: DID documents, status lists, callbacks, upstreams (credentials §6). No
 * redirects; names are resolved once, every address is checked, and the connection goes to the checked address.
 */

export interface ClientRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE';
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | string;
  /** Wall clock for the whole exchange. */
  readonly timeoutMs: number;
  /** Counted on the stream, whatever Content-Length says. */
  readonly maxBytes: number;
}

export interface ClientAnswer {
  readonly status: number;
  /** Names in lower case; repeated headers joined with a comma. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

export interface GuardedClient extends AsyncDisposable {
  /**
   * One exchange, answer read whole; any status is an answer.
   *
   * @throws AppError `address-refused` before anything is sent, `fetch-failed` when no answer came within the limits.
   */
  readonly request: (request: ClientRequest) => Promise<ClientAnswer>;
  /** @throws AppError `address-refused` when this URL may not be called. */
  readonly check: (url: string) => void;
  /** For streaming: connects only to checked addresses. Call `check` with the URL first. */
  readonly dispatcher: Dispatcher;
}

/** All addresses of a host name. */
export type Resolve = (host: string) => Promise<readonly { readonly address: string; readonly family: number }[]>;

export interface ClientOptions extends AddressRules {
  readonly resolve?: Resolve;
  /** Connections to one origin, so that a slow peer holds up only itself. */
  readonly maxConnectionsPerOrigin?: number;
  /** Certificates to trust besides the system's, as PEM; for deployments with an own authority. */
  readonly ca?: string;
}

const refused = (detail: string): AppError => new AppError('address-refused', { detail });

const systemResolve: Resolve = (host) => systemLookup(host, { all: true, verbatim: true });

/** Answers a connection's look-up with addresses that were all checked: one bad among them refuses the name. */
const guardedLookup =
  (resolve: Resolve, rules: AddressRules): LookupFunction =>
  (host, options, callback) => {
    const isOperators = rules.operatorOrigins?.some((origin) => new URL(origin).hostname === host) === true;
    const allowed = (address: string) =>
      isOperators ||
      (rules.allowLoopbackHttp && host === 'localhost' ? isLoopbackAddress(address) : isPublicAddress(address));
    resolve(host).then(
      (addresses) => {
        const bad = addresses.find(({ address }) => !allowed(address));
        const [first] = addresses;
        if (first === undefined || bad !== undefined) {
          callback(refused(`${host} leads to an address that may not be called`), '', 4);
        } else if (options.all === true) {
          callback(
            null,
            addresses.map(({ address, family }) => ({ address, family })),
          );
        } else {
          callback(null, first.address, first.family);
        }
      },
      (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), '', 4),
    );
  };

const readLimited = async (body: AsyncIterable<Uint8Array>, maxBytes: number): Promise<Uint8Array> => {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of body) {
    total += chunk.length;
    if (total > maxBytes) throw new AppError('fetch-failed', { detail: `the answer is larger than ${maxBytes} bytes` });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
};

const flat = (headers: Readonly<Record<string, string | string[] | undefined>>): Record<string, string> => {
  const out: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) out[name.toLowerCase()] = Array.isArray(value) ? value.join(', ') : value;
  }
  return out;
};

/** The fault that a guard of ours threw, wherever it stands in the chain of causes. */
export const appErrorIn = (error: unknown): AppError | undefined => {
  for (let one = error; one instanceof Error; one = one.cause) if (one instanceof AppError) return one;
  return undefined;
};

const fault = (error: unknown, url: string): AppError =>
  appErrorIn(error) ?? new AppError('fetch-failed', { detail: `${new URL(url).host} did not answer`, cause: error });

/** Builds the guarded client; disposing it closes its connections. */
export const createGuardedClient = (options: ClientOptions): GuardedClient => {
  const dispatcher = new Agent({
    connections: options.maxConnectionsPerOrigin ?? 64,
    connect: {
      lookup: guardedLookup(options.resolve ?? systemResolve, options),
      timeout: 5_000,
      ...(options.ca === undefined ? {} : { ca: options.ca }),
    },
  });
  const check = (url: string): void => {
    const refusal = refusalOf(url, options);
    if (refusal !== undefined) throw refused(refusal);
  };
  return {
    check,
    dispatcher,
    request: async ({ method, url, headers, body, timeoutMs, maxBytes }) => {
      check(url);
      try {
        const answer = await undiciRequest(url, {
          method,
          dispatcher,
          headers: headers ?? {},
          signal: AbortSignal.timeout(timeoutMs),
          ...(body === undefined ? {} : { body }),
        });
        return {
          status: answer.statusCode,
          headers: flat(answer.headers),
          body: await readLimited(answer.body, maxBytes),
        };
      } catch (error) {
        throw fault(error, url);
      }
    },
    [Symbol.asyncDispose]: () => dispatcher.destroy(),
  };
};
