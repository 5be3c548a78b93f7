import { Hono, type MiddlewareHandler } from 'hono';
import { AppError } from '../contracts/errors.ts';
import { type BrokerInfo, brokerInfoPath } from '../contracts/events.ts';
import { problemResponse } from '../kernel/http/problem.ts';

/** The public surface of a broker or accreditor: what every role has, and the routes of its parts. */

/** An extension as it is announced at `/.well-known/stekker` (wire §1). */
export interface Extension {
  readonly id: string;
  readonly version: string;
  readonly path: string;
}

export interface Health {
  /** False when the log has stopped and waits for its operator. */
  readonly isWorking: boolean;
  /** Whether the chain is late; no failure, everything else goes on. Undefined where nothing is anchored. */
  readonly isAnchorLate?: boolean | undefined;
}

export interface PublicSurface {
  /** The DID document, exactly the text that stands in the key event. */
  readonly document: string;
  /** A broker says what it is; an accreditor has no log to speak of. */
  readonly info: BrokerInfo | undefined;
  readonly extensions: readonly Extension[];
  readonly health: () => Health;
  /** Mounted at the root, each with its own paths. */
  readonly routes: readonly Hono[];
  /** Sees every request first. */
  readonly measured: MiddlewareHandler;
}

export const extensionsPath = '/.well-known/stekker';
const documentPath = '/.well-known/did.json';

const open = { 'access-control-allow-origin': '*', 'cache-control': 'public, max-age=60' };

export const createPublicApp = (surface: PublicSurface): Hono => {
  const { document, info, extensions, health, routes, measured } = surface;
  const app = new Hono();
  app.use('*', measured);
  app.onError((error) => problemResponse(error));
  app.notFound(() => problemResponse(new AppError('not-found')));
  app.get(documentPath, (context) => context.body(document, 200, { ...open, 'content-type': 'application/did+json' }));
  if (info !== undefined) app.get(brokerInfoPath, (context) => context.json(info, 200, open));
  app.get(extensionsPath, (context) => context.json({ extensions }, 200, open));
  app.get('/health', (context) => {
    const { isWorking, isAnchorLate } = health();
    const anchor = isAnchorLate === undefined ? {} : { anchor: isAnchorLate ? 'late' : 'in-time' };
    return context.json({ status: isWorking ? 'ready' : 'stopped', ...anchor }, isWorking ? 200 : 503, {
      'cache-control': 'no-store',
    });
  });
  for (const part of routes) app.route('/', part);
  return app;
};
