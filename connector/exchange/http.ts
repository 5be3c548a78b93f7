import type { Context } from 'hono';
import type { z } from 'zod';
import { buildCatalogError, buildNegotiationError, buildTransferError, statusOf } from '../../contracts/dsp/error.ts';
import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import { isJsonObject, type Json } from '../../contracts/json.ts';
import { faultsOf, readAnyJson } from '../../kernel/http/body.ts';
import { asAppError } from '../../kernel/http/problem.ts';
import type { Logger } from '../../kernel/log.ts';
import { readTraceId } from '../../kernel/trace.ts';
import type { Caller } from './ports.ts';
import type { Answer } from './receive.ts';
import type { Body } from './rules.ts';

/** What the protocol's routes share: who calls, what it says, and how answers and faults are written (dsp §2, §7). */

/** What a request does: it reads, and its token is used up at once; or its message uses the token up with what it changes. */
export type Purpose = 'read' | 'message';

/** Finds out who sent a request. @throws AppError `unauthenticated`. */
export type Authenticate = (participant: ParticipantId, headers: Headers, purpose: Purpose) => Promise<Caller>;

export interface RouteOptions {
  readonly authenticate: Authenticate;
  /** The participant whose root the path lies under; undefined when there is none. */
  readonly participantOf: (request: Request) => ParticipantId | undefined;
  readonly log: Logger;
}

const maxHeaderBytes = 256;

/** The participant that is spoken to, and who speaks. Routes that hand the token to a transaction say so. */
export const enter = async (
  c: Context,
  { authenticate, participantOf }: RouteOptions,
  purpose: Purpose = 'read',
): Promise<{ participant: ParticipantId; caller: Caller }> => {
  const participant = participantOf(c.req.raw);
  if (participant === undefined) throw new AppError('not-found');
  const { headers } = c.req.raw;
  const caller = await authenticate(participant, headers, purpose);
  const trace = readTraceId(headers.get('traceparent'));
  return { participant, caller: trace === undefined ? caller : { ...caller, trace } };
};

/** A message in its schema, and as it was received; what was received is heard before it is judged. */
export const readMessage = async <Value>(
  c: Context,
  schema: z.ZodType<Value>,
  hear: (body: Json) => void = () => undefined,
): Promise<{ message: Value; body: Body }> => {
  const body = await readAnyJson(c.req.raw);
  hear(body);
  const parsed = schema.safeParse(body);
  if (!parsed.success) throw new AppError('body-invalid', { faults: faultsOf(parsed.error) });
  return { message: parsed.data, body: body as Body };
};

const json = (status: number, body: Json, headers: Record<string, string> = {}): Response =>
  new Response(body === null ? null : JSON.stringify(body), {
    status,
    headers: {
      ...(body === null ? {} : { 'content-type': 'application/json' }),
      'cache-control': 'no-store',
      ...headers,
    },
  });

/** Writes the answer to a message; `Stekker-Newest` tells other Stekker connectors what is settled. */
export const writeAnswer = ({ status, body, newest }: Answer): Response =>
  json(status, body, newest === '' ? {} : { 'stekker-newest': newest });

type Surface = 'catalog' | 'negotiation' | 'transfer';

interface Heard {
  readonly surface: Surface;
  readonly pid?: string;
  /** The message as it was received, where there is one. */
  readonly body?: Json;
  readonly log: Logger;
}

/**
 * The pids of an error: those that the message names, and the path's for the others. Where nothing may be told, the path's
 * alone, so that every stranger gets the same body (dsp §7).
 */
const pidsFor = ({ pid = 'unknown', body }: Heard, status: number) => {
  const pidOf = (name: 'providerPid' | 'consumerPid'): string => {
    const said = status !== 404 && isJsonObject(body ?? null) ? (body as Body)[name] : undefined;
    return typeof said === 'string' && said !== '' && said.length <= maxHeaderBytes ? said : pid;
  };
  return { providerPid: pidOf('providerPid'), consumerPid: pidOf('consumerPid') };
};

/** Writes a fault as the typed error of its surface, and logs what the caller may not see. */
export const writeFault = (thrown: unknown, its: Heard): Response => {
  const error = asAppError(thrown);
  const level = error.status >= 500 ? 'error' : 'info';
  its.log[level]({ error, surface: its.surface, pid: its.pid, code: error.code }, 'a message was refused');
  const retry: Record<string, string> =
    error.retryAfterSeconds === undefined ? {} : { 'retry-after': String(error.retryAfterSeconds) };
  if (its.surface === 'catalog') return json(statusOf(error, 'catalog'), buildCatalogError(error) as Json, retry);
  const build = its.surface === 'negotiation' ? buildNegotiationError : buildTransferError;
  const status = statusOf(error, 'process');
  return json(status, build(error, pidsFor(its, status)) as Json, retry);
};

/** Runs a handler and writes its answer, or its fault in the form of the surface. */
export const handle = async (
  its: { readonly surface: Surface; readonly pid?: string; readonly log: Logger },
  work: (hear: (body: Json) => void) => Promise<Answer>,
): Promise<Response> => {
  let body: Json = null;
  const hear = (heard: Json): void => {
    body = heard;
  };
  try {
    return writeAnswer(await work(hear));
  } catch (thrown) {
    return writeFault(thrown, { ...its, body });
  }
};
