import type { OpenAPIHono } from '@hono/zod-openapi';
import type { Clock } from '../../kernel/clock.ts';
import { addMetricsRoute, finishOperatorApi } from '../../kernel/http/operator-api.ts';
import type { Metrics } from '../../kernel/metrics.ts';
import { type AcquiringOptions, createAcquiring } from './acquiring.ts';
import { type ApiOptions, createApi } from './api.ts';
import { addCatalogRoutes, type CatalogRoutesOptions } from './catalog-routes.ts';
import { addEventRoutes } from './event-routes.ts';
import { addEvidenceRoutes, type EvidenceRoutesOptions } from './evidence-routes.ts';
import { addIdentityRoutes, type IdentityRoutesOptions } from './identity-routes.ts';
import type { AgreementEnds, PushedContents } from './ports.ts';
import { addProcessRoutes } from './process-routes.ts';
import { addSearchRoutes } from './search-routes.ts';

/** The operator's API of a connector: one application, served on loopback unless configured otherwise. */

export interface ManagementOptions
  extends ApiOptions,
    CatalogRoutesOptions,
    IdentityRoutesOptions,
    EvidenceRoutesOptions,
    Omit<AcquiringOptions, 'wallet'> {
  readonly ends: AgreementEnds;
  readonly pushed: PushedContents;
  readonly clock: Clock;
  /** Ends the event streams when the service stops. */
  readonly signal: AbortSignal;
  readonly metrics: Metrics;
}

export const createManagementRoutes = (options: ManagementOptions): OpenAPIHono => {
  const api = createApi(options);
  const acquiring = createAcquiring(options);
  addIdentityRoutes(api, options);
  addCatalogRoutes(api, options);
  addSearchRoutes(api, options);
  addProcessRoutes(api, { ...options, acquiring });
  addEvidenceRoutes(api, options);
  addEventRoutes(api, options);
  addMetricsRoute(api, options.metrics);
  finishOperatorApi(api, 'Stekker connector: management');
  return api.app;
};
