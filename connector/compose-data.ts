import { Hono } from 'hono';
import { tlsOf } from '../kernel/deployment.ts';
import { nodeFiles } from '../kernel/files.ts';
import { createPeerRate, type PeerRate, wholeMinuteOf } from '../kernel/rate-limits.ts';
import { accessRateOver, togetherTimes } from './access-rate.ts';
import { createReceivedFiles, receivedFolder } from './adapters/files/received-files.ts';
import { createSources } from './adapters/files/sources.ts';
import { createHttpFetch } from './adapters/http/http-fetch.ts';
import { createHttpPush } from './adapters/http/http-push.ts';
import { createSqlApplicationStore, createSqlGrantStore } from './adapters/sql/data-plane-store.ts';
import { createBodyDigests } from './adapters/threads/body-digests.ts';
import { type Base, tokenScopes } from './base.ts';
import type { Identity } from './compose-identity.ts';
import type { Protocol } from './compose-protocol.ts';
import { hearData, tellApplications, tellGrant } from './compose-shared.ts';
import type { Usage } from './compose-usage.ts';
import { createWorkerWatch, type DataWorkers, startWorkers, type WorkerWatch } from './compose-workers.ts';
import { createApplications } from './data-plane/applications.ts';
import { startGateway } from './data-plane/gateway.ts';
import { startDataListener } from './data-plane/listener.ts';
import type { BodyDigests } from './data-plane/ports.ts';
import { createPushInbox } from './data-plane/push-inbox.ts';
import { createPushes, type Pushes } from './data-plane/pushes.ts';
import { createDataPlane, type DataPlane } from './data-plane/service.ts';
import { createSessions } from './data-plane/sessions.ts';
import { createTokenRoutes } from './data-plane/token-routes.ts';

/** Where bytes flow: to consumers on an origin of its own, and to own applications through the gateway. */

/** What comes there takes as long as it takes. */
export const isPushPath = (path: string): boolean => path.startsWith('/ext/1/pushes/');

export interface DataParts {
  readonly identity: Identity;
  readonly usage: Usage;
  readonly protocol: Protocol;
}

/** The data plane before anybody can reach it. */
interface OpenedData {
  readonly plane: DataPlane;
  readonly pushes: Pushes;
  readonly digests: BodyDigests;
  /** Whoever else in this process serves what is open. */
  readonly watch: WorkerWatch;
  /** Where tokens are given, and where pushes come. */
  readonly app: Hono;
}

type ServedData = Pick<OpenedData, 'plane' | 'digests' | 'watch'>;

const composePushes = (base: Base, { identity, usage, protocol }: DataParts, its: Omit<OpenedData, 'pushes'>) => {
  const { own, client, clock, log, config, participantOf, newUuid: newId } = base;
  const { provider, consumer } = usage.metering.meters;
  const { digests } = its;
  const http = createHttpPush(client);
  const { grants } = its.plane;
  const folder = receivedFolder(config);
  const inbox = createPushInbox({
    participantOf,
    transfers: protocol.pushed,
    files: createReceivedFiles(nodeFiles, folder),
    meter: consumer,
    digests,
    clock,
    newId,
    log,
    maxBytes: config.STEKKER_PUSH_MAX_BYTES,
  });
  its.app.route('/ext/1', inbox);
  return own(createPushes({ grants, meter: provider, standing: identity.status, digests, http, clock, newId, log }));
};

const tokenRate = ({ shared, config: { STEKKER_PEER_TOKENS_PER_MINUTE: perMinute } }: Base): PeerRate =>
  createPeerRate(shared.limits, 'token', {
    peer: wholeMinuteOf(perMinute), // whoever starts many runs asks for all their tokens then
    all: wholeMinuteOf(perMinute * togetherTimes),
  });

const accessRate = ({ shared, config: { STEKKER_PEER_ACCESSES_PER_SECOND: perSecond } }: Base): PeerRate =>
  accessRateOver(shared.limits, perSecond);

/** What processes tell repeats by. */
const sharedReplay = ({ shared, isShared, log }: Base) => {
  if (shared.redis !== undefined) return { replay: shared.redis.replay };
  if (isShared) log.warn({}, 'without STEKKER_REDIS_URLS only one process may serve data: each tells repeats alone');
  return {};
};

/** Opens the provider's side: grants and tokens, and where tokens are given; and both sides of pushes. */
export const composeDataPlane = async (base: Base, parts: DataParts): Promise<OpenedData> => {
  const { identity, protocol } = parts;
  const { db, clock, random, log, config, root, keys, seal, sourceClient, used, participantOf, authenticator } = base;
  const tokenEndpoint = () => `${root}/ext/1/tokens`;
  const watch = createWorkerWatch();
  const plane = await createDataPlane({
    watch,
    store: createSqlGrantStore(db),
    changed: (participant, transfer) => tellGrant(base, participant, transfer),
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
    rate: tokenRate(base),
    clock,
    log,
    tokenEndpoint,
  });
  if (config.STEKKER_EXTENSIONS.includes('tokens')) app.route('/ext/1', routes);
  const opened = { plane, app, watch, digests: base.own(createBodyDigests()) };
  return { ...opened, pushes: composePushes(base, parts, opened) };
};

/** The data plane: in this thread, or in several of its own. */
const startServing = async (base: Base, opened: ServedData, { identity, usage }: DataParts): Promise<DataWorkers> => {
  const { own, db, clock, log, config, newUuid: newId } = base;
  const { plane, watch, digests } = opened;
  const repeats = sharedReplay(base);
  if (config.STEKKER_DATA_WORKERS > 1)
    return startWorkers(base, { identity, usage, plane, watch, tokens: createSqlGrantStore(db) });
  const { port } = own(
    await startDataListener(
      {
        ...plane,
        meter: usage.metering.meters.provider,
        standing: identity.status,
        digests,
        clock,
        newId,
        log,
        dataOrigin: config.STEKKER_DATA_URL,
        rate: accessRate(base),
        ...repeats,
      },
      { host: config.STEKKER_DATA_HOST, port: config.STEKKER_DATA_PORT, tls: tlsOf(config) },
    ),
  );
  return { port, terminate: async () => undefined };
};

/** Starts both listeners, once everything they ask is there. @throws AppError `port-in-use`. */
export const startData = async (base: Base, opened: ServedData, parts: DataParts) => {
  const { own, db, clock, random, log, config, client, tokens, newUuid: newId } = base;
  const { usage, protocol } = parts;
  const { digests } = opened;
  const { consumer } = usage.metering.meters;
  const workers = await startServing(base, opened, parts);
  const applications = await createApplications({
    store: createSqlApplicationStore(db),
    changed: () => tellApplications(base),
    clock,
    random,
  });
  hearData(base, { grants: opened.plane.grants, applications });
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
  return { dataPort: workers.port, terminateDataWorker: workers.terminate, gatewayPort: gateway.port, applications };
};
