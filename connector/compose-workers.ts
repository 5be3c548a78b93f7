import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Did } from '../contracts/ids.ts';
import { tlsOf } from '../kernel/deployment.ts';
import { startRepeating } from '../kernel/lifecycle.ts';
import { createSqlJournalMarkStore } from './adapters/sql/metering-store.ts';
import { type Calls, createCalls } from './adapters/threads/calls.ts';
import { createLimitMemory } from './adapters/threads/shared-limits.ts';
import { createReplayMemory, readySpans } from './adapters/threads/shared-replay.ts';
import type { Base } from './base.ts';
import type { Identity } from './compose-identity.ts';
import { journalFolderOf, type Usage } from './compose-usage.ts';
import type { GrantWatch } from './data-plane/grants.ts';
import type { AccessTerms, Grant, GrantStore } from './data-plane/ports.ts';
import type { DataPlane } from './data-plane/service.ts';
import type { Issuer, MainCalls, WorkerCalls, WorkerSetup, WorkerTransfer } from './data-worker.ts';

/** Threads that serve data (hot-path §1): started, told everything, and started again when one dies. */

/** Whom what is opened and closed is told to; empty while data is served by the main thread. */
export interface WorkerWatch extends GrantWatch {
  readonly listeners: Set<GrantWatch>;
}

export const createWorkerWatch = (): WorkerWatch => {
  const listeners = new Set<GrantWatch>();
  return {
    listeners,
    opened: async (grant, terms) => {
      await Promise.all([...listeners].map((one) => one.opened(grant, terms)));
    },
    closed: async (participant, transfer) => {
      await Promise.all([...listeners].map((one) => one.closed(participant, transfer)));
    },
  };
};

export interface WorkerParts {
  readonly identity: Identity;
  readonly usage: Usage;
  readonly plane: DataPlane;
  readonly watch: WorkerWatch;
  readonly tokens: Pick<GrantStore, 'findToken'>;
}

interface Running {
  readonly port: number;
  readonly gone: Promise<unknown>;
  /** Lets what runs end. */
  readonly stop: () => Promise<void>;
  /** At once, in the middle of whatever it does. */
  readonly terminate: () => Promise<unknown>;
}

interface Its extends WorkerParts {
  readonly base: Base;
  readonly replay: ReturnType<typeof createReplayMemory>;
  readonly limits: SharedArrayBuffer;
}

/** A thread that says nothing for so long is stuck: what ended must not go on being served (wire §7). */
const patienceMs = 2_000;
/** What runs when the connector stops may take this long (the server's own patience is 5 s). */
const stopMs = 15_000;
const firstPauseMs = 50;
const longestPauseMs = 5_000;
const spansMs = 10_000;

const knownIssuers = ({ identity }: Its, credentials: readonly string[]): Issuer[] =>
  credentials.flatMap((credential) => {
    const issuer: Did | undefined = identity.issuerOf(credential);
    return issuer === undefined ? [] : [[credential, issuer] as const];
  });

const transferFor = async (its: Its, grant: Grant, terms: AccessTerms): Promise<WorkerTransfer> => {
  const { base, identity } = its;
  const { upstream } = terms;
  const sealed = upstream.kind === 'http' ? (upstream.credential?.sealed ?? null) : null;
  const isPlain = terms.assurance === 'plain-dsp';
  const peer = isPlain ? await identity.peerFacts.of(grant.participant, grant.consumer) : undefined;
  const issuers = knownIssuers(its, peer?.credentials ?? []);
  return { grant, terms, secret: sealed === null ? null : base.seal.unseal(sealed), peer, issuers };
};

const setupFor = async ({ base, replay, limits }: Its, journal: string): Promise<WorkerSetup> => {
  const { config, did, keys, db } = base;
  const redis = config.STEKKER_REDIS_URLS;
  return {
    did,
    accessToken: keys.accessToken.publicJwk,
    dataOrigin: config.STEKKER_DATA_URL,
    journalFolder: `${journalFolderOf(config)}/${journal}`,
    from: await createSqlJournalMarkStore(db).get(journal),
    replay,
    allowLoopbackHttp: config.STEKKER_ALLOW_LOOPBACK_HTTP,
    operatorOrigins: config.STEKKER_SOURCE_ORIGINS,
    redis: redis && { ...redis, urls: redis.urls.map(({ href }) => href) },
    limits,
    accessesPerSecond: config.STEKKER_PEER_ACCESSES_PER_SECOND,
  };
};

/** What the main thread serves to the thread of a journal. */
const mainCallsFor = (its: Its, journal: string, worker: () => Calls<WorkerCalls>): MainCalls => {
  const { base, usage, tokens } = its;
  const line = usage.metering.lender.connect(journal, (...asked) => worker().call('recall', ...asked));
  return {
    ...line,
    findToken: async (participant, jti) => {
      const token = await tokens.findToken(participant, jti);
      return token && { token, issuers: knownIssuers(its, token.facts.credentials) };
    },
    log: (level, fields, message) => base.log[level]({ ...fields, journal }, message),
  };
};

/** A thread that does not do what it is told in time is ended: whoever tells it must be able to rely on it. */
const obeyedBy = async (work: Promise<unknown>, worker: Worker, { log, clock }: Base): Promise<void> => {
  const slept = new AbortController();
  const isDone = await Promise.race([
    work.then(() => true).catch(() => true), // a thread that is gone serves nothing
    clock.sleep(patienceMs, slept.signal).then(() => false),
  ]);
  slept.abort();
  if (isDone) return;
  log.error({}, 'a thread that serves data does not answer: it is ended');
  await worker.terminate();
};

/** Starts one thread, tells it everything, and lets it listen. @throws AppError what kept it from starting. */
const startWorker = async (its: Its, number: number, port: number): Promise<Running> => {
  const { base, identity, usage, plane, watch } = its;
  const { config } = base;
  const journal = usage.metering.journalOf(number);
  const file = import.meta.url.endsWith('.ts') ? './data-worker.ts' : './data-worker.js';
  const worker = new Worker(new URL(file, import.meta.url), { workerData: await setupFor(its, journal) });
  const gone = once(worker, 'exit');
  worker.on('error', (error) => base.log.error({ error, journal }, 'a thread that serves data failed'));
  let calls: Calls<WorkerCalls> | undefined;
  const theirs = (): Calls<WorkerCalls> => {
    calls ??= createCalls<WorkerCalls>(worker, mainCallsFor(its, journal, theirs));
    return calls;
  };
  let isStarted = false;
  const told = (work: Promise<unknown>) =>
    isStarted
      ? obeyedBy(work, worker, base)
      : work.then(
          () => undefined,
          () => undefined,
        );
  const listener: GrantWatch = {
    opened: async (grant, terms) => told(theirs().call('opened', await transferFor(its, grant, terms))),
    closed: (participant, transfer) => told(theirs().call('closed', participant, transfer)),
  };
  watch.listeners.add(listener);
  const unmirror = identity.status.mirror((news) => theirs().tell('news', news));
  const end = gone.then(() => {
    theirs().end();
    unmirror();
    watch.listeners.delete(listener);
    usage.metering.lender.disconnect(journal);
  });
  try {
    const open = [...plane.grants.all()];
    const transfers = await Promise.all(open.map(({ grant, terms }) => transferFor(its, grant, terms)));
    const host = config.STEKKER_DATA_HOST;
    const listening = await theirs().call('start', { host, port, tls: tlsOf(config), reusePort: true }, transfers);
    isStarted = true;
    const stop = async (): Promise<void> => {
      const slept = new AbortController();
      await Promise.race([
        theirs()
          .call('stop')
          .catch(() => undefined),
        base.clock.sleep(stopMs, slept.signal),
      ]);
      slept.abort();
      await worker.terminate();
      await end;
    };
    return { port: listening, gone: end, stop, terminate: () => worker.terminate() };
  } catch (error) {
    await worker.terminate();
    await end;
    throw error;
  }
};

/** Keeps one thread there: whenever it dies another takes its place, and its journal. */
const keepWorker = (its: Its, number: number, first: Running): AsyncDisposable & Pick<Running, 'terminate'> => {
  const { log, clock } = its.base;
  const stopped = new AbortController();
  let running: Running | undefined = first;
  const again = async (pause: number): Promise<void> => {
    await clock.sleep(pause, stopped.signal);
    if (stopped.signal.aborted) return;
    running = await startWorker(its, number, first.port);
  };
  const loop = async (): Promise<void> => {
    for (let pause = firstPauseMs; !stopped.signal.aborted; ) {
      const since = clock.now();
      await running?.gone;
      running = undefined;
      if (stopped.signal.aborted) return;
      log.error({ number }, 'a thread that serves data is gone; another takes its place');
      pause = clock.now() - since > longestPauseMs ? firstPauseMs : Math.min(2 * pause, longestPauseMs);
      await again(pause).catch((error: unknown) => log.error({ error, number }, 'a thread could not be started'));
    }
  };
  const looping = loop();
  return {
    terminate: async () => running?.terminate(),
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      await running?.stop();
      await looping;
    },
  };
};

export interface DataWorkers {
  readonly port: number;
  /** Ends a thread (1, 2, …) in the middle of whatever it does; another takes its place. */
  readonly terminate: (number: number) => Promise<void>;
}

/** Starts the threads, and listens. @throws AppError `port-in-use`, `data-damaged`. */
export const startWorkers = async (base: Base, parts: WorkerParts): Promise<DataWorkers> => {
  const { config, clock, log, own } = base;
  const its: Its = { ...parts, base, replay: createReplayMemory(), limits: createLimitMemory() };
  const ready = async () => readySpans(its.replay, clock.now());
  await ready();
  own(startRepeating({ everyMs: spansMs, work: ready, clock, log }));
  let port = config.STEKKER_DATA_PORT;
  const kept: ReturnType<typeof keepWorker>[] = [];
  for (let number = 1; number <= config.STEKKER_DATA_WORKERS; number += 1) {
    const running = await startWorker(its, number, port);
    port = running.port;
    kept.push(own(keepWorker(its, number, running)));
  }
  return { port, terminate: async (number) => void (await kept[number - 1]?.terminate()) };
};
