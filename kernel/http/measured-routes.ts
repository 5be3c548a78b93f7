import { createMiddleware } from 'hono/factory';
import { routePath } from 'hono/route';
import type { Clock } from '../clock.ts';
import type { Metrics } from '../metrics.ts';

/** Times what a service answers, by the pattern of the path: what a stranger asks for becomes no label. */
export const measuredRoutes = (metrics: Metrics, clock: Clock) => {
  const note = metrics.durations('stekker_http_requests_seconds', 'Requests on the public port, by answer');
  return createMiddleware(async (c, next) => {
    const began = clock.now();
    await next();
    const labels = { method: c.req.method, route: routePath(c, -1), status: String(c.res.status) };
    note((clock.now() - began) / 1_000, labels);
  });
};
