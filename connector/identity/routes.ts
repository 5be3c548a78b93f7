import { type Context, Hono } from 'hono';
import type { z } from 'zod';
import { credentialMessage, credentialOfferMessage, presentationQueryMessage } from '../../contracts/dcp/messages.ts';
import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import type { Authenticator, VerifiedCaller } from '../../kernel/auth.ts';
import { readJson } from '../../kernel/http/body.ts';
import { asAppError, problemResponse } from '../../kernel/http/problem.ts';
import type { Logger } from '../../kernel/log.ts';
import { offeredObjects } from './rules.ts';
import type { Wallet } from './wallet.ts';

/** The holder's endpoints (dcp §5), in the order of the standard's table, and its DID document (dcp §4). */

export interface IdentityRoutesOptions {
  readonly wallet: Wallet;
  readonly authenticator: (participant: ParticipantId) => Authenticator;
  /** The participant whose root the path lies under; undefined when there is none. */
  readonly participantOf: (request: Request) => ParticipantId | undefined;
  /** The DID document, as text: what joined the log is these bytes. */
  readonly document: (participant: ParticipantId) => string;
  /** After an offer was stored. */
  readonly wake: () => void;
  readonly log: Logger;
}

/** A delivery holds a few credentials of at most 32 KiB each. */
const limits = { maxBytes: 524_288, maxDepth: 16 };
const documentAgeSeconds = 60;

const noBody = () => new Response(null, { status: 200, headers: { 'cache-control': 'no-store' } });

/** The DID document (dcp §4), open to all; served alone while a connector starts, because whoever it speaks to asks for it. */
export const createDocumentRoutes = ({
  participantOf,
  document,
}: Pick<IdentityRoutesOptions, 'participantOf' | 'document'>): Hono => {
  const app = new Hono();
  const headers = { 'content-type': 'application/did+json', 'cache-control': `public, max-age=${documentAgeSeconds}` };
  const answer = (c: Context): Response => {
    const participant = participantOf(c.req.raw);
    return participant === undefined
      ? problemResponse(new AppError('not-found'))
      : new Response(document(participant), { headers });
  };
  app.get('/.well-known/did.json', answer);
  app.get('/did.json', answer);
  return app;
};

/** Mounted at the root of a participant. */
export const createIdentityRoutes = (options: IdentityRoutesOptions): Hono => {
  const { wallet, log } = options;
  const app = new Hono();

  const participantIn = (c: Context): ParticipantId => {
    const participant = options.participantOf(c.req.raw);
    if (participant === undefined) throw new AppError('not-found');
    return participant;
  };
  const enter = async (c: Context): Promise<{ participant: ParticipantId; caller: VerifiedCaller }> => {
    const participant = participantIn(c);
    return { participant, caller: await options.authenticator(participant).authenticate(c.req.raw.headers) };
  };
  const read = <Value>(c: Context, schema: z.ZodType<Value>): Promise<Value> => readJson(c.req.raw, schema, limits);
  const safely = (work: (c: Context) => Promise<Response>) => async (c: Context) => {
    try {
      return await work(c);
    } catch (thrown) {
      const error = asAppError(thrown);
      log[error.status >= 500 ? 'error' : 'info']({ error, path: c.req.path }, 'a request to the wallet was refused');
      return problemResponse(error);
    }
  };

  app.route('/', createDocumentRoutes(options));
  app.post(
    '/dcp/presentations/query',
    safely(async (c) => {
      const { participant, caller } = await enter(c);
      const granted = wallet.grantedTo(participant, caller); // who may not ask is told so before his body is read
      const message = await read(c, presentationQueryMessage);
      const answer = await wallet.present(participant, { verifier: caller.did, granted, message });
      return Response.json(answer, { headers: { 'cache-control': 'no-store' } });
    }),
  );
  app.post(
    '/dcp/credentials',
    safely(async (c) => {
      const { participant, caller } = await enter(c);
      await wallet.deliver(participant, caller, await read(c, credentialMessage));
      return noBody();
    }),
  );
  app.post(
    '/dcp/offers',
    safely(async (c) => {
      const { participant, caller } = await enter(c);
      const { issuer, credentials } = await read(c, credentialOfferMessage);
      await wallet.offer(participant, caller, { issuer, objects: offeredObjects(credentials) });
      options.wake();
      return noBody();
    }),
  );
  return app;
};
