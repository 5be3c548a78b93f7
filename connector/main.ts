import { AppError } from '../contracts/errors.ts';
import { type Clock, systemClock } from '../kernel/clock.ts';
import { tlsOf } from '../kernel/deployment.ts';
import { nodeFiles } from '../kernel/files.ts';
import { measuredRoutes } from '../kernel/http/measured-routes.ts';
import { serveRoutes } from '../kernel/http/server.ts';
import {
  type Fail,
  type Own,
  openDataFolder,
  type RunningService,
  startRepeating,
  startService,
} from '../kernel/lifecycle.ts';
import type { Logger } from '../kernel/log.ts';
import { type Random, systemRandom } from '../kernel/random.ts';
import { startOutbox } from '../kernel/sql/outbox.ts';
import { createFront, createPublicApp } from './app.ts';
import { type Base, openBase, outboxChannel } from './base.ts';
import { composeDataPlane, isPushPath, startData } from './compose-data.ts';
import { composeIdentity, documentRoutes } from './compose-identity.ts';
import { composeManagement, isWithoutRedis } from './compose-management.ts';
import { addConnectorMetrics } from './compose-metrics.ts';
import { composeProtocol } from './compose-protocol.ts';
import { hearProcesses, tellProcess } from './compose-shared.ts';
import { composeUsage } from './compose-usage.ts';
import type { ConnectorConfig } from './config.ts';
import type { Grants } from './data-plane/grants.ts';
import type { Pushes } from './data-plane/pushes.ts';
import { createProcessFeed } from './management/feed.ts';
import { countedProcesses } from './measuring.ts';
import type { NegotiationService } from './negotiation/service.ts';
import type { ConnectorParts } from './parts.ts';
import { tidy, tidyMs } from './tidying.ts';
import type { TransferService } from './transfer/service.ts';

/** Starts a connector: what a data holder or an application runtime deploys. */

export interface ConnectorOptions {
  readonly log: Logger;
  /** Stops the service when it aborts. */
  readonly signal: AbortSignal;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly parts?: ConnectorParts;
}

export interface RunningConnector extends RunningService {
  readonly did: string;
  readonly publicPort: number;
  readonly dataPort: number;
  readonly gatewayPort: number;
  readonly managementPort: number;
  /** For a program that starts a connector itself: asks a provider for an offer or a transfer, wherever it takes messages. */
  readonly negotiations: Pick<NegotiationService, 'request'>;
  readonly transfers: Pick<TransferService, 'request'>;
  /** Ends a thread that serves data (1, 2, …) in the middle of whatever it does; another takes its place. */
  readonly terminateDataWorker: (number: number) => Promise<void>;
}

/** Tasks under way at once: most of them wait for a peer. */
const maxConcurrent = 128;
const turnMs = 1_000;
const turnedAtOnce = 100;

/** Looks at offers whose time has come until none is left. */
const turnAll = async (turn: (limit: number) => Promise<number>): Promise<void> => {
  while ((await turn(turnedAtOnce)) === turnedAtOnce);
};

/** Slices in the order in which each finds what it needs; the agreements and the data plane ask each other, later. */
const compose = async (base: Base) => {
  const run = base.newUuid();
  const feed = createProcessFeed(run);
  const identity = await composeIdentity(base);
  const { ownKeys } = identity;
  const usage = await composeUsage(base, {
    ownKeys,
    notify: (alarm) => base.log.error({ alarm: alarm.code, detail: alarm.detail }, 'an alarm for the operator'),
  });
  addConnectorMetrics(base, { identity, usage });
  const count = countedProcesses(base.metrics);
  let grants: Grants | undefined;
  let pushes: Pushes | undefined;
  const there = <Part>(part: Part | undefined): Part => {
    if (part === undefined) throw new AppError('invariant-broken', { detail: 'the data plane is not there yet' });
    return part;
  };
  const protocol = composeProtocol(base, {
    identity,
    usage,
    grants: () => there(grants),
    pushes: () => there(pushes),
    watch: (notice) => {
      feed.publish(notice);
      count(notice);
      tellProcess(base, run, notice);
    },
  });
  hearProcesses(base, run, { feed, fetched: protocol.fetched });
  const data = await composeDataPlane(base, { identity, usage, protocol });
  grants = data.plane.grants;
  pushes = data.pushes;
  return { feed, identity, usage, protocol, data };
};

const build = async (config: ConnectorConfig, options: Required<ConnectorOptions>, own: Own, fail: Fail) => {
  const { log, clock, random, parts, signal } = options;
  own(await openDataFolder({ path: config.STEKKER_DATA, program: 'connector', files: nodeFiles }));
  const base = await openBase({ config, log, clock, random, parts, fail }, own);
  const front = createFront(documentRoutes(base));
  const publicServer = own(
    await serveRoutes(front, {
      host: config.STEKKER_PUBLIC_HOST,
      port: config.STEKKER_PUBLIC_PORT,
      tls: tlsOf(config),
      isLong: isPushPath,
    }),
  );
  const { feed, identity, usage, protocol, data } = await compose(base);
  const { applications, terminateDataWorker, ...dataPorts } = await startData(base, data, {
    identity,
    usage,
    protocol,
  });

  const { meters } = usage.metering;
  const health = () => ({
    isRecording: meters.provider.isReady() && meters.consumer.isReady(),
    isWithoutRedis: isWithoutRedis(base),
  });
  const { gatewayPort } = dataPorts;
  const management = composeManagement(base, { identity, usage, protocol, applications, feed, gatewayPort, signal });
  const managementServer = own(
    await serveRoutes(management, { host: config.STEKKER_MANAGEMENT_HOST, port: config.STEKKER_MANAGEMENT_PORT }),
  );
  const handlers = { ...protocol.handlers, ...identity.handlers, ...usage.evidence?.handlers };
  const outbox = own(
    startOutbox({ db: base.relaxed, clock, random, log, handlers, isAlone: !base.isShared, maxConcurrent }),
  );
  base.wakeups.listen(outboxChannel, outbox.wake);
  base.handOver.lead(outbox);
  own(startRepeating({ everyMs: tidyMs, work: () => tidy(base, protocol.catalogRows), clock, log }));
  own(startRepeating({ everyMs: turnMs, work: () => turnAll(protocol.catalog.turn), clock, log }));
  const measured = measuredRoutes(base.metrics, clock);
  own(front).open(createPublicApp([protocol.app, identity.routes, data.app], health, measured));
  const ports = { publicPort: publicServer.port, managementPort: managementServer.port, ...dataPorts };
  log.info({ did: base.did, ...ports }, 'ready');
  const { negotiations, transfers } = protocol;
  return { did: base.did, ...ports, negotiations, transfers, terminateDataWorker };
};

/**
 * Starts the service and answers when it is ready. It stops when it is disposed or the signal aborts: what is under way
 * ends, and everything is released in reverse order.
 *
 * @throws AppError `data-in-use`, `data-newer`, `data-damaged`, `passphrase-wrong`, `port-in-use`, `config-invalid`, `disk-full`.
 */
export const startConnector = (config: ConnectorConfig, options: ConnectorOptions): Promise<RunningConnector> => {
  const { log, signal, clock = systemClock, random = systemRandom, parts = {} } = options;
  return startService({ log, signal }, (own, fail) => build(config, { log, signal, clock, random, parts }, own, fail));
};
