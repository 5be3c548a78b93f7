import { type Context, Hono } from 'hono';
import { AppError } from '../../contracts/errors.ts';
import type { Did } from '../../contracts/ids.ts';
import { readAnyJson } from '../../kernel/http/body.ts';
import { problemResponse } from '../../kernel/http/problem.ts';
import { eventStreamHeaders } from '../../kernel/http/server-sent-events.ts';
import type { Logger } from '../../kernel/log.ts';
import { readLastEventId } from './rules.ts';
import type { Events } from './service.ts';

/** `GET /events` and `POST /events` (wire §7). */

export interface EventRoutesOptions {
  readonly events: Events;
  /** Who calls; the token is used up. @throws AppError `unauthenticated`. */
  readonly authenticate: (headers: Headers) => Promise<{ readonly did: Did }>;
  readonly log: Logger;
}

const noticeLimits = { maxBytes: 65_536, maxDepth: 8 };

const listen = async ({ events, authenticate }: EventRoutesOptions, context: Context): Promise<Response> => {
  const { did } = await authenticate(context.req.raw.headers);
  const body = await events.subscribe(did, readLastEventId(context.req.header('last-event-id')));
  return new Response(body, { headers: eventStreamHeaders }); // held back by a proxy, a heartbeat is silence
};

const receive = async ({ events, authenticate }: EventRoutesOptions, context: Context): Promise<Response> => {
  const { did } = await authenticate(context.req.raw.headers);
  const isNew = await events.accept(await readAnyJson(context.req.raw, noticeLimits), did);
  return context.json({ isNew }, isNew ? 201 : 200);
};

/** Mounted at the root of the broker's public surface. */
export const createEventRoutes = (options: EventRoutesOptions): Hono => {
  const app = new Hono();
  app.onError((error) => {
    const isOurs = !(error instanceof AppError) || !error.expose;
    options.log[isOurs ? 'error' : 'info']({ err: error }, 'a request to the events was refused');
    return problemResponse(error);
  });
  app.get('/events', (context) => listen(options, context));
  app.post('/events', (context) => receive(options, context));
  return app;
};
