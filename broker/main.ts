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
import { addProcessMetrics, createMetrics, type Metrics } from '../kernel/metrics.ts';
import { type Random, systemRandom } from '../kernel/random.ts';
import { operatorRate } from '../kernel/shared.ts';
import { addTaskMetrics, startOutbox } from '../kernel/sql/outbox.ts';
import { forgetUsedTokens } from '../kernel/sql/used-tokens.ts';
import { composeAccreditor } from './accreditor.ts';
import { createPublicApp } from './app.ts';
import { type Base, openBase, outboxChannel, type RoleParts } from './base.ts';
import type { BrokerConfig } from './config.ts';
import { composeHub } from './hub.ts';
import { createManagementRoutes } from './management/api.ts';

/** Starts a broker, or an accreditor. */

export interface BrokerOptions {
  readonly log: Logger;
  /** Stops the service when it aborts. */
  readonly signal: AbortSignal;
  readonly clock?: Clock;
  readonly random?: Random;
}

export interface RunningBroker extends RunningService {
  readonly did: string;
  readonly publicPort: number;
  readonly managementPort: number;
}

const tidyMs = 3_600_000;
/** What a process that died had under way goes on at another one after this: within the 5 s of DESIGN §5.4. */
const taskLeaseMs = 3_000;

/** Figures of a broker or accreditor: what waits, whether its log works, what was asked and answered. */
const openMetrics = ({ db, clock }: Base, { health }: RoleParts): Metrics => {
  const metrics = createMetrics();
  addProcessMetrics(metrics, clock);
  addTaskMetrics(metrics, db, clock);
  metrics.gauge('stekker_working', '1 while entries are taken; 0 when the log waits for its operator', () => [
    { value: health().isWorking ? 1 : 0 },
  ]);
  metrics.gauge('stekker_anchor_late', '1 while the chain is late; absent where nothing is anchored', () => {
    const { isAnchorLate } = health();
    return isAnchorLate === undefined ? [] : [{ value: isAnchorLate ? 1 : 0 }];
  });
  return metrics;
};

const serve = async (base: Base, parts: RoleParts) => {
  const { config, own, document, log, shared, clock } = base;
  const { info, extensions, health, routes, operations } = parts;
  const metrics = openMetrics(base, parts);
  const measured = measuredRoutes(metrics, clock);
  const publicServer = own(
    await serveRoutes(createPublicApp({ document, info, extensions, health, routes, measured }), {
      host: config.STEKKER_PUBLIC_HOST,
      port: config.STEKKER_PUBLIC_PORT,
      tls: tlsOf(config),
    }),
  );
  const api = createManagementRoutes({
    title: `Stekker ${config.STEKKER_ROLE}`,
    operations,
    token: config.STEKKER_MANAGEMENT_TOKEN,
    hosts: [config.STEKKER_MANAGEMENT_HOST],
    rate: operatorRate(shared, config.STEKKER_MANAGEMENT_CALLS_PER_MINUTE),
    log,
    metrics,
  });
  const managementServer = own(
    await serveRoutes(api, { host: config.STEKKER_MANAGEMENT_HOST, port: config.STEKKER_MANAGEMENT_PORT }),
  );
  return { publicPort: publicServer.port, managementPort: managementServer.port };
};

const build = async (config: BrokerConfig, options: Required<BrokerOptions>, own: Own, fail: Fail) => {
  const { log, clock, random } = options;
  own(await openDataFolder({ path: config.STEKKER_DATA, program: config.STEKKER_ROLE, files: nodeFiles }));
  const base = await openBase({ config, log, clock, random, fail }, own);
  const parts = config.STEKKER_ROLE === 'broker' ? await composeHub(base) : await composeAccreditor(base);
  // What a crash left under way must not wait, it may be a revocation: alone it is due at once, otherwise elsewhere, soon.
  const { db, isShared, leases } = base;
  const { handlers } = parts;
  const outbox = own(startOutbox({ db, clock, random, log, handlers, isAlone: !isShared, leaseMs: taskLeaseMs }));
  base.wakeups.listen(outboxChannel, outbox.wake);
  const tidy = async () => {
    if ((await leases.take('tidy', tidyMs / 2)) === undefined) return; // done by one process; the others find it done
    await forgetUsedTokens(db, clock.now());
    await parts.tidy();
  };
  own(startRepeating({ everyMs: tidyMs, work: tidy, clock, log }));
  const ports = await serve(base, parts);
  for (const part of parts.begin()) own(part);
  log.info({ did: base.did, role: config.STEKKER_ROLE, ...ports }, 'ready');
  return { did: base.did, ...ports };
};

/**
 * Starts the service and answers when it is ready. It stops when it is disposed or the signal aborts: what is under way
 * ends, and everything is released in reverse order.
 *
 * @throws AppError `data-in-use`, `data-newer`, `data-damaged`, `passphrase-wrong`, `port-in-use`, `backup-restored`,
 * `config-invalid`, `disk-full`.
 */
export const startBroker = (config: BrokerConfig, options: BrokerOptions): Promise<RunningBroker> => {
  const { log, signal, clock = systemClock, random = systemRandom } = options;
  return startService({ log, signal }, (own, fail) => build(config, { log, signal, clock, random }, own, fail));
};
