import { hash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { AppError, type Fault, isAppError } from '../../contracts/errors.ts';
import { requestTarget } from '../../contracts/ledger/record.ts';
import type { UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { type ListenOptions, listen, type RunningServer } from '../../kernel/http/server.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Applications } from './applications.ts';
import { createClosings } from './closings.ts';
import type { Application, BodyDigests, ConsumedTransfer, ConsumedTransfers, HttpFetch, UsageMeter } from './ports.ts';
import { prepared } from './prepared.ts';
import { writeProblem } from './problem.ts';
import { Relay } from './relay.ts';
import {
  countsItems,
  goesOn,
  isIri,
  isRun,
  passHeaders,
  type Refusal,
  reservedBytes,
  splitGatewayTarget,
  type Target,
} from './rules.ts';
import { type Session, type Sessions, TokenRefused, type Use } from './sessions.ts';

/**
 * The consumer's side (wire §5): own applications ask here, and the connector adds token and proof, records before it asks, and
 * hashes what comes. Nothing is tried twice: a retry is a new request of the application, with a record of its own.
 */

export interface GatewayOptions {
  readonly applications: Pick<Applications, 'ofKey'>;
  readonly transfers: ConsumedTransfers;
  readonly sessions: Sessions;
  readonly fetch: HttpFetch;
  /** The consumer's own meter. */
  readonly meter: UsageMeter;
  readonly digests: BodyDigests;
  readonly clock: Clock;
  /** Request ids: lower-case UUIDv7. */
  readonly newId: () => string;
  readonly log: Logger;
}

/** What an application asks for, read once. */
interface Wanted {
  readonly method: 'GET' | 'HEAD';
  readonly target: Target;
  readonly agreementId: string;
  readonly key: string;
  readonly purpose: string;
  readonly run: string;
  readonly range: string;
  readonly headers: readonly string[];
}

const idleMs = 60_000;
/** Accesses of one application at a time. */
const maxRunning = 1_024;

const refuse = (code: 'request-invalid' | 'unauthenticated' | 'not-found', detail: string): AppError =>
  new AppError(code, { detail });

/** The value of a header that may stand once; two of it are refused, not joined. */
const singleOf = (raw: readonly string[], name: string): string => {
  let found: string | undefined;
  for (let index = 0; index < raw.length; index += 2) {
    if ((raw[index] ?? '').toLowerCase() !== name) continue;
    if (found !== undefined) throw refuse('request-invalid', `${name} stands there twice`);
    found = raw[index + 1] ?? '';
  }
  return found ?? '';
};

const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text);
  } catch {
    throw refuse('request-invalid', 'the agreement in the path is not URL-encoded');
  }
};

const lowered = (raw: readonly string[]): string[] =>
  raw.map((text, index) => (index % 2 === 0 ? text.toLowerCase() : text));

/** Reads a request of an application. @throws AppError with all faults of its headers at once. */
const readWanted = ({ method, url = '', rawHeaders }: IncomingMessage): Wanted => {
  if (method !== 'GET' && method !== 'HEAD') throw new AppError('method-not-allowed');
  const target = splitGatewayTarget(url);
  if (target === undefined) throw refuse('not-found', 'data is at /data/<agreement, URL-encoded>/…');
  const key = /^Bearer +([A-Za-z0-9_-]{1,200})$/i.exec(singleOf(rawHeaders, 'authorization'))?.[1];
  if (key === undefined)
    throw refuse('unauthenticated', 'an application shows its key: Authorization: Bearer <application key>');
  const purpose = singleOf(rawHeaders, 'stekker-purpose');
  const run = singleOf(rawHeaders, 'stekker-run');
  const faults: Fault[] = [
    ...(purpose === '' || isIri(purpose) ? [] : [{ path: '/stekker-purpose', message: 'is no IRI' }]),
    ...(isRun(run) ? [] : [{ path: '/stekker-run', message: 'is too long or has control characters' }]),
  ];
  if (faults.length > 0) {
    const detail = faults.map(({ path, message }) => `${path.slice(1)} ${message}`).join('; ');
    throw new AppError('request-invalid', { detail, faults });
  }
  return {
    method,
    target,
    agreementId: decoded(target.first),
    key,
    purpose,
    run,
    range: singleOf(rawHeaders, 'range'),
    headers: lowered(rawHeaders),
  };
};

/** What is sent to the provider. */
interface Outgoing {
  readonly origin: string;
  /** The raw request target. */
  readonly path: string;
  readonly request: string;
  readonly headers: readonly string[];
  readonly entry: UsageOpen;
}

const passedHeaders = ({ headers }: Wanted, counted: boolean): string[] => {
  const out: string[] = [];
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index] ?? '';
    if (goesOn(name, counted)) out.push(name, headers[index + 1] ?? '');
  }
  return out;
};

/** Where below the provider's endpoint the request goes. */
const placeOf = (its: GatewayOptions, transfer: ConsumedTransfer, target: Target) => {
  its.fetch.check(transfer.endpoint);
  const { origin, pathname, search } = new URL(transfer.endpoint);
  const path = `${pathname.replace(/\/+$/, '')}${target.rest === '' ? '/' : target.rest}`;
  return { origin, path, query: search === '' ? target.query : `${search}${target.query.replace('?', '&')}` };
};

const edcAuthorization = 'https://w3id.org/edc/v0.0.1/ns/authorization';

/** The bearer token of `plain-dsp`; another connector's goes into the header as it is (edc-interop §4). */
const bearerOf = ({ properties }: ConsumedTransfer): string => {
  const { authorization } = properties;
  if (authorization !== undefined) return `Bearer ${authorization}`;
  const foreign = properties[edcAuthorization];
  if (foreign === undefined) throw new AppError('fetch-failed', { detail: 'the data address has no authorization' });
  return foreign;
};

/** Puts request, proof and journal entry together; `session` is null under `plain-dsp`. */
const prepare = (its: GatewayOptions, wanted: Wanted, use: Use, session: Session | null): Outgoing => {
  const { transfer, application, purpose, run } = use;
  const { method } = wanted;
  const counted = countsItems(transfer);
  const range = counted ? '' : wanted.range;
  const { origin, path, query } = placeOf(its, transfer, wanted.target);
  const target = requestTarget(nodeCrypto, { method, target: `${path}${query}`, range });
  const request = its.newId();
  const now = its.clock.now();
  const claims = { jti: request, htm: method, htu: `${origin}${path}`, iat: Math.floor(now / 1_000), tgt: target };
  const proof =
    session === null ? '' : session.maker.make({ ...claims, ath: hash('sha256', session.token, 'base64url') });
  const credentials =
    session === null
      ? ['authorization', bearerOf(transfer)]
      : ['authorization', `DPoP ${session.token}`, 'dpop', proof, 'fsc-transaction-id', request];
  const entry: UsageOpen = {
    t: 'open',
    agreement: transfer.agreement,
    request,
    part: 1,
    at: now,
    asset: transfer.asset,
    transfer: transfer.transfer,
    application: session === null ? '' : application,
    method,
    purpose: session === null ? '' : purpose,
    run: session === null ? '' : run,
    target,
    price: transfer.price,
    ext: null,
    reserved: reservedBytes,
    proof,
  };
  return {
    origin,
    path: `${path}${query}`,
    request,
    headers: [...passedHeaders(wanted, counted), ...credentials],
    entry,
  };
};

/** The started transfer of the application's owner. @throws AppError when there is none to fetch under. */
const findTransfer = async (
  its: GatewayOptions,
  { participant }: Application,
  agreementId: string,
): Promise<ConsumedTransfer> => {
  const transfer = await its.transfers.find(participant, agreementId);
  if (transfer === 'ended') throw new AppError('agreement-ended');
  if (transfer === undefined) throw refuse('not-found', 'no transfer is started under this agreement');
  // Whether or not the provider notices: what we may not use any more is not fetched.
  if (transfer.overAfter !== undefined && its.clock.now() > transfer.overAfter)
    throw new AppError('agreement-ended', { detail: 'the term of the agreement is over' });
  return transfer;
};

interface Access {
  readonly application: Application;
  readonly wanted: Wanted;
  readonly response: ServerResponse;
  readonly ended: () => void;
}

const openUse = async (
  its: GatewayOptions,
  { application, wanted }: Access,
): Promise<{ use: Use; session: Session | null }> => {
  const transfer = await findTransfer(its, application, wanted.agreementId);
  const use: Use = { transfer, application: application.id, purpose: wanted.purpose, run: wanted.run };
  if (transfer.assurance === 'plain-dsp') return { use, session: null };
  if (wanted.purpose === '') {
    const faults = [{ path: '/stekker-purpose', message: 'is missing' }];
    throw new AppError('request-invalid', { detail: 'stekker-purpose says what the data is for', faults });
  }
  return { use, session: await its.sessions.of(use) };
};

const relayFor = (
  its: GatewayOptions,
  { application, wanted, response, ended }: Access,
  { use, outgoing, recorded }: { readonly use: Use; readonly outgoing: Outgoing; readonly recorded: () => void },
): Relay => {
  const { method } = wanted;
  const { origin, path, headers, request, entry } = outgoing;
  const own = ['stekker-request', request];
  return new Relay({
    side: 'consumer',
    meter: its.meter,
    digests: its.digests,
    response,
    first: entry,
    countsItems: countsItems(use.transfer),
    nextPart: () => ({ at: its.clock.now(), ext: null }),
    headersOf: (got) => [...passHeaders(got, 'provider'), ...own],
    problemHeaders: own,
    ask: (sink) =>
      its.fetch.ask(
        { origin, path, method, headers },
        {
          head: (status, got) => {
            if (status === 401) its.sessions.forget(use);
            sink.head(status, got);
          },
          data: (chunk) => sink.data(chunk),
          end: () => sink.end(),
          fail: (error) => sink.fail(error),
        },
      ),
    failed: (cause) => {
      its.log.warn({ error: cause, application: application.id, request }, 'a provider did not answer');
      return isAppError(cause) ? cause : new AppError('fetch-failed', { cause });
    },
    ended,
    recorded,
  });
};

/** Starts the gateway for own applications. Disposing it waits until every record is closed. @throws AppError `port-in-use`. */
export const startGateway = async (its: GatewayOptions, options: ListenOptions): Promise<RunningServer> => {
  const closings = createClosings();
  const running = new Map<string, number>();
  /** One more for this application, until what is returned was called. */
  const enter = (name: string): (() => void) => {
    running.set(name, (running.get(name) ?? 0) + 1);
    let isOver = false;
    return () => {
      const count = (running.get(name) ?? 0) - (isOver ? 0 : 1);
      isOver = true;
      if (count > 0) running.set(name, count);
      else running.delete(name);
    };
  };

  const problem = (request: IncomingMessage, response: ServerResponse, thrown: unknown): void => {
    const refusal: Refusal =
      thrown instanceof TokenRefused
        ? thrown.refusal
        : { error: isAppError(thrown) ? thrown : new AppError('internal-error', { cause: thrown }) };
    const { code, status, detail } = refusal.error;
    its.log[status === 500 ? 'error' : 'info']({ code, detail, error: refusal.error.cause }, 'a fetch was refused');
    if (!response.destroyed) writeProblem(response, refusal, { isHead: request.method === 'HEAD' });
  };

  const fetchFor = async (access: Access): Promise<void> => {
    const { use, session } = await openUse(its, access);
    const outgoing = prepare(its, access.wanted, use, session);
    await prepared(its.meter, use.transfer, () => {
      if (access.response.destroyed) access.ended();
      else relayFor(its, access, { use, outgoing, recorded: closings.begin() }).start();
    });
  };

  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    if (response.socket === null) {
      request.socket.destroy(); // one request at a time on a connection
      return;
    }
    request.socket.setTimeout(idleMs);
    try {
      const wanted = readWanted(request);
      const application = its.applications.ofKey(wanted.key);
      if (application === undefined) throw refuse('unauthenticated', 'no application has this key');
      const name = `${application.participant} ${application.id}`;
      if ((running.get(name) ?? 0) >= maxRunning) throw new AppError('too-many-requests', { retryAfterSeconds: 1 });
      const ended = enter(name);
      fetchFor({ application, wanted, response, ended }).catch((error: unknown) => {
        ended();
        problem(request, response, error);
      });
    } catch (error) {
      problem(request, response, error);
    }
  };

  const server = await listen(onRequest, options);
  return {
    port: server.port,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await closings.idle();
    },
  };
};
