import { Hono, type MiddlewareHandler } from 'hono';
import { AppError } from '../contracts/errors.ts';
import { problemResponse } from '../kernel/http/problem.ts';

/** What peers and the broker reach: documents, the protocol, credentials, extensions. */

const noStore = { 'cache-control': 'no-store' };

export interface Health {
  readonly isRecording: boolean;
  /** Redis is away: whoever must prove possession gets no data, and the rest goes on. */
  readonly isWithoutRedis: boolean;
}

/** The public surface once everything behind it works. */
export const createPublicApp = (routes: readonly Hono[], health: () => Health, measured: MiddlewareHandler): Hono => {
  const app = new Hono();
  app.use('*', measured);
  app.onError((error) => problemResponse(error));
  app.notFound(() => problemResponse(new AppError('not-found')));
  app.get('/health', (context) => {
    const { isRecording, isWithoutRedis } = health();
    const status = isRecording ? 'ready' : 'not recording';
    return context.json({ status, ...(isWithoutRedis ? { redis: 'away' } : {}) }, isRecording ? 200 : 503, noStore);
  });
  for (const part of routes) app.route('/', part);
  return app;
};

/** Before and after: our DID document, because whoever we speak to while we start asks for it; nothing else yet. */
const documentsOnly = (documents: Hono): Hono => {
  const app = new Hono();
  const notYet = () => {
    const answer = problemResponse(new AppError('not-yet', { retryAfterSeconds: 1 }));
    answer.headers.set('connection', 'close'); // behind the same address another process may be ready
    return answer;
  };
  app.onError((error) => problemResponse(error));
  app.get('/.well-known/did.json', (context) => documents.fetch(context.req.raw));
  app.all('*', notYet);
  return app;
};

/** The one server in front of both. */
export interface Front extends AsyncDisposable {
  readonly fetch: (request: Request) => Response | Promise<Response>;
  readonly open: (app: Hono) => void;
}

export const createFront = (documents: Hono): Front => {
  const closed = documentsOnly(documents);
  let app = closed;
  return {
    fetch: (request) => app.fetch(request),
    open: (next) => {
      app = next;
    },
    [Symbol.asyncDispose]: async () => {
      app = closed;
    },
  };
};
