import { type Context, Hono } from 'hono';
import { z } from 'zod';
import { AppError } from '../../contracts/errors.ts';
import { storeOffersPath } from '../../contracts/store.ts';
import { faultsOf } from '../../kernel/http/body.ts';
import { problemResponse } from '../../kernel/http/problem.ts';
import type { Logger } from '../../kernel/log.ts';
import type { OfferReader } from './ports.ts';
import { search } from './search.ts';

/** The store over HTTP: open to all. */

export interface StoreRoutesOptions {
  readonly read: OfferReader;
  readonly log: Logger;
}

const maxQuestion = 300;
const maxLimit = 100;
const defaultLimit = '20';

const parameters = z.object({
  q: z.string().max(maxQuestion, `is longer than ${maxQuestion} characters`).default(''),
  cursor: z.string().max(1024, 'is none of ours').optional(),
  limit: z
    .string()
    .regex(/^[1-9]\d{0,2}$/, 'is no number')
    .prefault(defaultLimit)
    .transform(Number)
    .refine((limit) => limit <= maxLimit, `is more than ${maxLimit}`),
});

const answer = async ({ read }: StoreRoutesOptions, context: Context): Promise<Response> => {
  const asked = parameters.safeParse(context.req.query());
  if (!asked.success) throw new AppError('body-invalid', { faults: faultsOf(asked.error) });
  const { q, cursor, limit } = asked.data;
  const page = await search(read, { text: q, cursor, limit });
  return context.json(page, 200, { 'cache-control': 'no-store', 'access-control-allow-origin': '*' });
};

/** Mounted at the root of the broker's public surface. */
export const createStoreRoutes = (options: StoreRoutesOptions): Hono => {
  const app = new Hono();
  app.onError((error) => {
    if (!(error instanceof AppError) || !error.expose) options.log.error({ err: error }, 'a search failed');
    return problemResponse(error);
  });
  app.get(storeOffersPath, (context) => answer(options, context));
  return app;
};
