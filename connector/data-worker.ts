import { parentPort, workerData } from 'node:worker_threads';
import { AppError } from '../contracts/errors.ts';
import type { Did, ParticipantId } from '../contracts/ids.ts';
import { systemClock } from '../kernel/clock.ts';
import { nodeFiles } from '../kernel/files.ts';
import { createGuardedClient } from '../kernel/http/client.ts';
import type { ListenOptions } from '../kernel/http/server.ts';
import type { PublicJwk, SigningKey } from '../kernel/keys.ts';
import type { Logger } from '../kernel/log.ts';
import { createIds, systemRandom } from '../kernel/random.ts';
import { openShared } from '../kernel/shared.ts';
import { accessRateOver } from './access-rate.ts';
import { createSources } from './adapters/files/sources.ts';
import { createHttpFetch } from './adapters/http/http-fetch.ts';
import { createBodyDigests } from './adapters/threads/body-digests.ts';
import { type Calls, createCalls } from './adapters/threads/calls.ts';
import { createSharedLimits } from './adapters/threads/shared-limits.ts';
import { createSharedReplay, type ReplayMemory } from './adapters/threads/shared-replay.ts';
import { startDataListener } from './data-plane/listener.ts';
import type { AccessTerms, Grant, IssuedToken } from './data-plane/ports.ts';
import { createDataPlane, type DataPlane } from './data-plane/service.ts';
import { openBlockMeter } from './metering/block-meter.ts';
import type { WindowLine } from './metering/lender.ts';
import { createStatusMirror, type StatusMirror, type StatusNews } from './status/mirror.ts';

/**
 * A thread that serves data: a listener on the shared port, a journal of its own, and of everything else a copy that the main
 * thread keeps true. It has no database and no key that signs.
 */

/** What a thread is started with. */
export interface WorkerSetup {
  readonly did: Did;
  readonly accessToken: PublicJwk;
  readonly dataOrigin: string;
  readonly journalFolder: string;
  /** The mark of the journal. */
  readonly from: number | undefined;
  readonly replay: ReplayMemory;
  readonly allowLoopbackHttp: boolean;
  readonly operatorOrigins: readonly string[];
  readonly redis: { readonly urls: readonly string[]; readonly isCluster: boolean } | undefined;
  /** Where threads count how often each consumer comes, when no Redis does. */
  readonly limits: SharedArrayBuffer;
  readonly accessesPerSecond: number;
}

/** A transfer that is open, with everything it is served by. */
export interface WorkerTransfer {
  readonly grant: Grant;
  readonly terms: AccessTerms;
  /** The header value of its source, opened; null when it has none. */
  readonly secret: string | null;
  /** Of a peer without proof of possession: what is known of it. */
  readonly peer: Awaited<ReturnType<PeerFactsOf>>;
  readonly issuers: readonly Issuer[];
}

type PeerFactsOf = Parameters<typeof createDataPlane>[0]['peerFacts']['of'];

/** A credential, and who issued it. */
export type Issuer = readonly [credential: string, issuer: Did];

/** What the main thread serves. */
export type MainCalls = { readonly [Name in keyof WindowLine]: WindowLine[Name] } & {
  readonly findToken: (
    participant: ParticipantId,
    jti: string,
  ) => Promise<{ readonly token: IssuedToken; readonly issuers: readonly Issuer[] } | undefined>;
  readonly log: (level: 'debug' | 'info' | 'warn' | 'error', fields: object, message: string) => void;
};

/** What a thread serves. */
export type WorkerCalls = {
  /** Opens the journal, takes the transfers, listens; the answer is the port. */
  readonly start: (listen: ListenOptions, transfers: readonly WorkerTransfer[]) => Promise<number>;
  readonly opened: (transfer: WorkerTransfer) => Promise<void>;
  readonly closed: (participant: ParticipantId, transfer: string) => Promise<void>;
  readonly news: (news: StatusNews) => void;
  readonly recall: (agreement: string, isEnded: boolean) => Promise<void>;
  /** Ends what runs, closes the journal, hands everything over. */
  readonly stop: () => Promise<void>;
};

/** Lines go where those of the main thread go. Errors are said in words: another thread knows no classes of ours. */
const loggerOver = (main: Calls<MainCalls>, more: object = {}): Logger => {
  const plain = (value: unknown): unknown => (value instanceof Error ? (value.stack ?? value.message) : value);
  const say =
    (level: Parameters<MainCalls['log']>[0]) =>
    (fields: object, message: string): void => {
      const all = Object.entries({ ...more, ...fields }).map(([name, value]) => [name, plain(value)]);
      main.tell('log', level, Object.fromEntries(all), message);
    };
  return {
    debug: say('debug'),
    info: say('info'),
    warn: say('warn'),
    error: say('error'),
    child: (fields) => loggerOver(main, { ...more, ...fields }),
  };
};

const lineOver = (main: Calls<MainCalls>): WindowLine => ({
  lease: (...asked) => main.call('lease', ...asked),
  giveBack: (...back) => main.tell('giveBack', ...back),
  count: (agreement) => main.call('count', agreement),
  uncount: (agreement) => main.tell('uncount', agreement),
  ship: (accesses) => main.call('ship', accesses),
  recovered: (open) => main.call('recovered', open),
  mark: (segment) => main.call('mark', segment),
});

/** Nothing is signed here; a token is only verified. */
const verifyingKey = (publicJwk: PublicJwk): SigningKey => {
  const refuse = () => {
    throw new AppError('invariant-broken', { detail: 'a thread that serves data signs nothing' });
  };
  return { kid: '', alg: 'ES256', publicJwk, spki: new Uint8Array(), sign: refuse, signJwt: refuse };
};

/** Transfers by what they are asked for; of several under one agreement, or with one peer, the newest. */
const createKnown = () => {
  const all = new Map<string, WorkerTransfer>();
  const byName = new Map<string, WorkerTransfer>();
  const namesOf = ({ grant: { participant, agreementId, consumer } }: WorkerTransfer) => [
    `agreement ${participant} ${agreementId}`,
    `peer ${participant} ${consumer}`,
  ];
  return {
    put: (transfer: WorkerTransfer): void => {
      all.set(transfer.grant.transfer, transfer);
      for (const name of namesOf(transfer)) byName.set(name, transfer);
    },
    remove: (pid: string): void => {
      const transfer = all.get(pid);
      all.delete(pid);
      for (const name of transfer === undefined ? [] : namesOf(transfer))
        if (byName.get(name) === transfer) byName.delete(name);
    },
    ofAgreement: (participant: ParticipantId, id: string) => byName.get(`agreement ${participant} ${id}`),
    ofPeer: (participant: ParticipantId, peer: Did) => byName.get(`peer ${participant} ${peer}`),
  };
};

interface Copies {
  readonly plane: DataPlane;
  readonly take: (transfer: WorkerTransfer) => Promise<void>;
}

/** Grants and tokens over what the main thread told. */
const copyPlane = async (
  setup: WorkerSetup,
  its: { readonly main: Calls<MainCalls>; readonly log: Logger; readonly standing: StatusMirror },
): Promise<Copies> => {
  const { main, log, standing } = its;
  const { did, accessToken, dataOrigin, allowLoopbackHttp, operatorOrigins } = setup;
  const known = createKnown();
  const secrets = new Map<string, string>();
  const keys = { did, accessToken: verifyingKey(accessToken) };
  const learn = (issuers: readonly Issuer[]): void => {
    for (const [credential, issuer] of issuers) standing.learn(credential, issuer);
  };
  const client = createGuardedClient({ allowLoopbackHttp, operatorOrigins });
  const plane = await createDataPlane({
    store: {
      put: async () => undefined,
      remove: async (_participant, transfer) => known.remove(transfer),
      all: async () => [],
      find: async () => undefined,
      ofAgreement: async () => [],
      putToken: async () => undefined,
      findToken: async (participant, jti) => {
        const found = await main.call('findToken', participant, jti);
        learn(found?.issuers ?? []);
        return found?.token;
      },
    },
    terms: {
      find: async (participant, agreementId) => known.ofAgreement(participant, agreementId)?.terms,
    },
    peerFacts: { of: async (participant, peer) => known.ofPeer(participant, peer)?.peer },
    sources: createSources({ fetch: createHttpFetch(client), unseal: (sealed) => secrets.get(sealed) ?? '' }),
    keys: () => keys,
    clock: systemClock,
    random: systemRandom,
    newId: createIds(systemClock, systemRandom),
    log,
    dataOrigin,
    tokenEndpoint: () => '',
  });
  return {
    plane,
    take: async (transfer) => {
      const { upstream } = transfer.terms;
      if (upstream.kind === 'http' && upstream.credential !== null && transfer.secret !== null)
        secrets.set(upstream.credential.sealed, transfer.secret);
      learn(transfer.issuers);
      known.put(transfer);
      await plane.grants.take(transfer.grant);
    },
  };
};

const serve = (setup: WorkerSetup, port: NonNullable<typeof parentPort>): void => {
  const stack = new AsyncDisposableStack();
  const loaded = Promise.withResolvers<Copies>();
  loaded.promise.catch(() => undefined); // whoever started this hears of it
  let recall: WorkerCalls['recall'] = async () => undefined;

  const start: WorkerCalls['start'] = async (listen, transfers) => {
    const copies = await copyPlane(setup, { main, log, standing });
    for (const transfer of transfers) await copies.take(transfer);
    const opened = stack.use(
      await openBlockMeter({
        files: nodeFiles,
        folder: setup.journalFolder,
        clock: systemClock,
        log,
        from: setup.from,
        connect: (recallHere) => {
          recall = recallHere;
          return lineOver(main);
        },
      }),
    );
    const { did, redis } = setup;
    const urls = redis && { ...redis, urls: redis.urls.map((text) => new URL(text)) };
    const shared = stack.use(await openShared({ urls, name: `connector:${did}`, clock: systemClock, log }));
    const limits = redis === undefined ? createSharedLimits(setup.limits, systemClock) : shared.limits;
    const listener = stack.use(
      await startDataListener(
        {
          ...copies.plane,
          meter: opened.meter,
          standing,
          digests: stack.use(createBodyDigests()),
          clock: systemClock,
          newId: createIds(systemClock, systemRandom),
          log,
          dataOrigin: setup.dataOrigin,
          replay: shared.redis?.replay ?? createSharedReplay(setup.replay),
          rate: accessRateOver(limits, setup.accessesPerSecond),
        },
        listen,
      ),
    );
    loaded.resolve(copies);
    return listener.port;
  };
  const ours: WorkerCalls = {
    start: (...asked) =>
      start(...asked).catch((error: unknown) => {
        loaded.reject(error);
        throw error;
      }),
    opened: async (transfer) => (await loaded.promise).take(transfer),
    closed: async (participant, transfer) => (await loaded.promise).plane.grants.close(participant, transfer),
    news: (news) => standing.take(news),
    recall: (...asked) => recall(...asked),
    stop: () => stack.disposeAsync(),
  };
  const main: Calls<MainCalls> = createCalls(port, ours);
  const log = loggerOver(main);
  const standing = stack.use(createStatusMirror({ clock: systemClock, log }));
};

if (parentPort !== null) serve(workerData as WorkerSetup, parentPort);
