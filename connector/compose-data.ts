import { Hono } from 'hono';
import { tlsOf } from '../kernel/deployment.ts';
import { createSources } from './adapters/files/sources.ts';
import { createHttpFetch } from './adapters/http/http-fetch.ts';
import { createSqlApplicationStore, createSqlGrantStore } from './adapters/sql/data-plane-store.ts';
import { createBodyDigests } from './adapters/threads/body-digests.ts';
import { type Base, tokenScopes } from './base.ts';
import type { Identity } from './compose-identity.ts';
import type { Protocol } from './compose-protocol.ts';
import type { Usage } from './compose-usage.ts';
import { createApplications } from './data-plane/applications.ts';
import { startGateway } from './data-plane/gateway.ts';
import { startDataListener } from './data-plane/listener.ts';
import { createDataPlane, type DataPlane } from './data-plane/service.ts';
import { createSessions } from './data-plane/sessions.ts';
import { createTokenRoutes } from './data-plane/token-routes.ts';

/** Where bytes flow: to consumers on an origin of its own, and to own applications through the gateway. */

export interface DataParts {
  readonly identity: Identity;
  readonly usage: Usage;
  readonly protocol: Protocol;
}

/** Opens the provider's side: grants and tokens, and where tokens are given. */
export const composeDataPlane = async (
  base: Base,
  { identity, protocol }: Omit<DataParts, 'usage'>,
): Promise<{ readonly plane: DataPlane; readonly app: Hono }> => {
  const { db, clock, random, log, config, root, keys, seal, sourceClient, used, participantOf, authenticator } = base;
  const tokenEndpoint = () => `${root}/ext/1/tokens`;
  const plane = await createDataPlane({
    store: createSqlGrantStore(db),
    terms: protocol.terms,
    peerFacts: identity.peerFacts,
    sources: createSources({ fetch: createHttpFetch(sourceClient), unseal: seal.unseal }),
    keys: () => keys,
    clock,
    random,
    newId: base.newUuid,
    log,
    dataOrigin: config.STEKKER_DATA_URL,
    tokenEndpoint,
  });
  const app = new Hono();
  const routes = createTokenRoutes({
    participantOf,
    authenticator: () => authenticator,
    presentations: () => identity.presentations,
    grants: plane.grants,
    tokens: plane.tokens,
    terms: protocol.terms,
    used,
    standing: identity.status,
    clock,
    log,
    tokenEndpoint,
  });
  if (config.STEKKER_EXTENSIONS.includes('tokens')) app.route('/ext/1', routes);
  return { plane, app };
};

/** Starts both listeners, once everything they ask is there. @throws AppError `port-in-use`. */
export const startData = async (base: Base, plane: DataPlane, { identity, usage, protocol }: DataParts) => {
  const { own, db, clock, random, log, config, client, tokens, newUuid: newId } = base;
  const digests = own(createBodyDigests());
  const { provider, consumer } = usage.metering.meters;
  const listener = own(
    await startDataListener(
      {
        ...plane,
        meter: provider,
        standing: identity.status,
        digests,
        clock,
        newId,
        log,
        dataOrigin: config.STEKKER_DATA_URL,
      },
      { host: config.STEKKER_DATA_HOST, port: config.STEKKER_DATA_PORT, tls: tlsOf(config) },
    ),
  );
  const applications = await createApplications({ store: createSqlApplicationStore(db), clock, random });
  const gateway = own(
    await startGateway(
      {
        applications,
        transfers: protocol.fetched,
        sessions: createSessions({ client, tokens: () => tokens, clock, newId, scopes: tokenScopes }),
        fetch: createHttpFetch(client),
        meter: consumer,
        digests,
        clock,
        newId,
        log,
      },
      { host: config.STEKKER_GATEWAY_HOST, port: config.STEKKER_GATEWAY_PORT },
    ),
  );
  return { dataPort: listener.port, gatewayPort: gateway.port, applications };
};
