import { Hono } from 'hono';
import { AppError } from '../../contracts/errors.ts';
import { isDid } from '../../contracts/ids.ts';
import { problemResponse } from '../../kernel/http/problem.ts';
import type { Registry } from './service.ts';

const pageSize = 100;

/** `GET /participants`, open to all: who is a member, under what name, in which roles. */
export const createRegistryRoutes = (registry: Pick<Registry, 'page'>): Hono => {
  const app = new Hono();
  app.onError((error) => problemResponse(error));
  app.get('/participants', async (context) => {
    const after = context.req.query('after') ?? '';
    if (after !== '' && !isDid(after)) throw new AppError('body-invalid', { detail: '`after` is no DID' });
    const members = await registry.page({ after, limit: pageSize + 1, state: 'joined' });
    const shown = members.slice(0, pageSize);
    const next = members.length > pageSize ? shown.at(-1)?.did : undefined;
    context.header('cache-control', 'public, max-age=10');
    context.header('access-control-allow-origin', '*');
    return context.json({
      participants: shown.map(({ did, name, roles }) => ({ did, name, roles })),
      ...(next === undefined ? {} : { next: `/participants?after=${encodeURIComponent(next)}` }),
    });
  });
  return app;
};
