import { Hono } from 'hono';
import { AppError } from '../../contracts/errors.ts';
import { problemResponse } from '../../kernel/http/problem.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Finals } from './finals.ts';

/** Final anchors over HTTP, for everybody: what to pin, and the proof for a receipt (ledger §11). */

export interface AnchoringRoutesOptions {
  /** Where the log is served: `/log/2026`. */
  readonly base: string;
  readonly anchoring: Finals;
  readonly log: Logger;
}

const pageSize = 1_000;
/** Nothing about an anchor changes, but there may be a newer one. */
const cache = { 'cache-control': 'public, max-age=1', 'access-control-allow-origin': '*' };

const numberOf = (text: string, name: string): number => {
  if (!/^(0|[1-9]\d{0,15})$/.test(text) || !Number.isSafeInteger(Number(text)))
    throw new AppError('invalid-request', { detail: `${name} is a whole number` });
  return Number(text);
};

/** `not-yet` with 404: there is no such anchor now, and a caller goes on without one. */
const notYet = (): Response => {
  const problem = problemResponse(
    new AppError('not-yet', { detail: 'no final anchor covers it', retryAfterSeconds: 60 }),
  );
  return new Response(problem.body, { status: 404, headers: problem.headers });
};

/** The two routes below the log's own path. */
export const createAnchoringRoutes = ({ base, anchoring, log }: AnchoringRoutesOptions): Hono => {
  const app = new Hono();
  app.onError((error) => {
    if (!(error instanceof AppError) || !error.expose) log.error({ err: error }, 'a request for anchors failed');
    return problemResponse(error);
  });
  app.get(`${base}/anchors`, async (context) => {
    const before = context.req.query('before');
    const query = { limit: pageSize, ...(before === undefined ? {} : { before: numberOf(before, 'before') }) };
    return context.json({ anchors: await anchoring.finals(query) }, 200, cache);
  });
  app.get(`${base}/anchors/newest`, async (context) => {
    const covers = numberOf(context.req.query('covers') ?? '', 'covers');
    const found = await anchoring.covering(covers);
    return found === undefined ? notYet() : context.json(found, 200, cache);
  });
  return app;
};
