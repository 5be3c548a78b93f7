import { Hono } from 'hono';
import { catalogChangesPath } from '../../contracts/catalog-changes.ts';
import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import { problemResponse } from '../../kernel/http/problem.ts';
import { enter, type RouteOptions } from '../exchange/http.ts';
import type { Changes } from './changes.ts';

/** `<root>/ext/1/catalog/…` (dsp §12.4). */

const defaultLimit = 50;
const maxLimit = 200;

const limitOf = (text: string | undefined): number => {
  if (text === undefined) return defaultLimit;
  const limit = /^[1-9]\d{0,2}$/.test(text) ? Number(text) : Number.NaN;
  if (!(limit <= maxLimit))
    throw new AppError('request-invalid', { detail: `limit is no whole number from 1 to ${maxLimit}` });
  return limit;
};

export const createCatalogExtensionRoutes = (
  { changes }: Changes,
  options: RouteOptions & { readonly address: (participant: ParticipantId) => string },
): Hono => {
  const app = new Hono();
  app.get(catalogChangesPath, async (c) => {
    try {
      const { participant, caller } = await enter(c, options);
      const limit = limitOf(c.req.query('limit'));
      const page = await changes(participant, caller.did, { cursor: c.req.query('cursor'), limit });
      const next = `${options.address(participant)}${catalogChangesPath}?cursor=${encodeURIComponent(page.cursor)}&limit=${limit}`;
      const headers = { 'cache-control': 'no-store', ...(page.isMore ? { link: `<${next}>; rel="next"` } : {}) };
      return c.json({ changes: page.changes, cursor: page.cursor }, 200, headers);
    } catch (error) {
      options.log.info({ error }, 'a request for the changes of the catalog was refused');
      return problemResponse(error);
    }
  });
  return app;
};
