import { type Context, Hono } from 'hono';
import { catalogRequestMessage } from '../../contracts/dsp/catalog.ts';
import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import { pricePlanText } from '../../contracts/ledger/price-plan.ts';
import { problemResponse } from '../../kernel/http/problem.ts';
import { enter, type RouteOptions, readMessage, writeFault } from '../exchange/http.ts';
import type { CatalogPage, CatalogService } from './service.ts';
import { windowOf } from './window.pure.ts';

const json = (body: Json, headers: Record<string, string> = {}): Response =>
  new Response(JSON.stringify(body), {
    status: 200,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers },
  });

/** The pages around a page (RFC 8288): each is asked for with the same message at the address of its link. */
const linksOf = (base: string, { next, previous }: Pick<CatalogPage, 'next' | 'previous'>): Record<string, string> => {
  const links = Object.entries({ next, previous }).flatMap(([rel, cursor]) =>
    cursor === undefined ? [] : [`<${base}/catalog/request?cursor=${encodeURIComponent(cursor)}>; rel="${rel}"`],
  );
  return links.length === 0 ? {} : { link: links.join(', ') };
};

/** The endpoints of dsp §4, in the order of the standard's table. */
export const createCatalogRoutes = (
  service: CatalogService,
  options: RouteOptions & { readonly base: (participant: ParticipantId) => string },
): Hono => {
  const app = new Hono();
  const safely = (work: (c: Context) => Promise<Response>) => async (c: Context) => {
    try {
      return await work(c);
    } catch (thrown) {
      return writeFault(thrown, { surface: 'catalog', log: options.log });
    }
  };
  app.post(
    '/catalog/request',
    safely(async (c) => {
      const { participant, caller } = await enter(c, options);
      const { message } = await readMessage(c, catalogRequestMessage);
      const cursor = c.req.query('cursor');
      if (message.filter !== undefined && message.filter.length > 0) {
        const window = windowOf(message.filter);
        if (window === undefined) throw new AppError('filter-unsupported');
        if (cursor === undefined) return json(await service.window(participant, caller.did, window));
      }
      const { catalog, ...around } = await service.page(participant, caller.did, cursor);
      return json(catalog, linksOf(options.base(participant), around));
    }),
  );
  app.get(
    '/catalog/datasets/:id',
    safely(async (c) => {
      const { participant, caller } = await enter(c, options);
      return json(await service.dataset(participant, caller.did, c.req.param('id') ?? ''));
    }),
  );
  return app;
};

/** `<root>/ext/1/prices/<digest>` (wire §2): open to all, because the digest is known only from an offer. */
export const createPriceRoutes = (service: CatalogService, options: Pick<RouteOptions, 'participantOf'>): Hono => {
  const app = new Hono();
  app.get('/prices/:digest', async (c) => {
    try {
      const participant = options.participantOf(c.req.raw);
      if (participant === undefined) throw new AppError('not-found');
      const plan = await service.pricePlan(participant, c.req.param('digest'));
      return new Response(pricePlanText(plan), {
        headers: { 'content-type': 'application/json', 'cache-control': 'public, max-age=31536000, immutable' },
      });
    } catch (thrown) {
      return problemResponse(thrown);
    }
  });
  return app;
};
