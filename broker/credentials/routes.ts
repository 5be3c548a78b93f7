import { Hono } from 'hono';
import { credentialRequestMessage, dcpMessage } from '../../contracts/dcp/messages.ts';
import { AppError } from '../../contracts/errors.ts';
import type { VerifiedCaller } from '../../kernel/auth.ts';
import { readJson } from '../../kernel/http/body.ts';
import { problemResponse } from '../../kernel/http/problem.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Issuer } from './service.ts';

/** The issuer's surface: the endpoints of dcp §6 in the order of its table, and the status lists, open to all. */

export interface IssuerRoutesOptions {
  readonly issuer: Issuer;
  /** Public origin, for `Location`. */
  readonly origin: string;
  /** Who calls; the token is used up when it returns. @throws AppError `unauthenticated`. */
  readonly authenticate: (headers: Headers) => Promise<VerifiedCaller>;
  readonly log: Logger;
}

const bodyLimits = { maxBytes: 65_536, maxDepth: 16 };
const requestsPath = '/dcp/requests';

export const createIssuerRoutes = ({ issuer, origin, authenticate, log }: IssuerRoutesOptions): Hono => {
  const app = new Hono();
  app.onError((error) => {
    if (!(error instanceof AppError) || !error.expose) log.error({ err: error }, 'a request to the issuer failed');
    else log.info({ err: error }, 'a request to the issuer was refused');
    return problemResponse(error);
  });

  app.post('/dcp/credentials', async (context) => {
    const caller = await authenticate(context.req.raw.headers);
    const message = await readJson(context.req.raw, credentialRequestMessage, bodyLimits);
    const id = await issuer.receive(caller, message);
    return context.body(null, 201, { location: `${origin}${requestsPath}/${id}` });
  });
  app.get(`${requestsPath}/:id`, async (context) => {
    const { did } = await authenticate(context.req.raw.headers);
    const { id, holderPid, state } = await issuer.request(did, context.req.param('id'));
    context.header('cache-control', 'no-store');
    return context.json(dcpMessage('CredentialStatus', { issuerPid: id, holderPid, status: state }));
  });
  app.get('/dcp/metadata', (context) => {
    context.header('cache-control', 'public, max-age=300');
    return context.json(issuer.metadata());
  });
  app.get('/dcp/schemas/:type', (context) => {
    const schema = issuer.schema(context.req.param('type'));
    if (schema === undefined) throw new AppError('not-found');
    context.header('cache-control', 'public, max-age=300');
    return context.json(schema);
  });

  app.get('/status/:list', async (context) => {
    const { jwt, maxAgeSeconds } = await issuer.statusList(context.req.param('list'));
    return context.body(jwt, 200, {
      'content-type': 'application/vc+jwt',
      'cache-control': `public, max-age=${maxAgeSeconds}`,
      'access-control-allow-origin': '*',
    });
  });
  return app;
};
