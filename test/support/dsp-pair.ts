import { Hono } from 'hono';
import type { Kysely } from 'kysely';
import { createProcessCache } from '../../connector/adapters/sql/process-cache.ts';
import {
  createSqlProcessStore,
  type ProcessTables,
  processMigrations,
} from '../../connector/adapters/sql/process-store.ts';
import { transferAgreements } from '../../connector/agreements.ts';
import type { Authenticate } from '../../connector/exchange/http.ts';
import type { PeerTransport, ProcessEventNotice } from '../../connector/exchange/ports.ts';
import { type AgreementService, createAgreements } from '../../connector/negotiation/agreements.ts';
import { createAgreementRoutes } from '../../connector/negotiation/extension-routes.ts';
import type {
  AgreementSigner,
  AgreementWatch,
  Decision,
  NegotiationRow,
  NegotiationStore,
  PublishedOffer,
  RegisteredAgreements,
} from '../../connector/negotiation/ports.ts';
import { createNegotiationRoutes } from '../../connector/negotiation/routes.ts';
import { createNegotiations, type NegotiationService } from '../../connector/negotiation/service.ts';
import type { Pusher, TransferDecision, TransferRow } from '../../connector/transfer/ports.ts';
import { createTransferRoutes } from '../../connector/transfer/routes.ts';
import { pushAddress } from '../../connector/transfer/rules.ts';
import { createTransfers, type TransferService } from '../../connector/transfer/service.ts';
import { buildDataAddress } from '../../contracts/dsp/transfer.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import { encodeProtected, readJws, signingInput, verifySignature } from '../../contracts/ledger/jws.ts';
import { leafKeyIdOf, makeLeafKey } from '../../kernel/assertions.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { type Logger, silentLogger } from '../../kernel/log.ts';
import { createIds, systemRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { outboxMigrations, startOutbox } from '../../kernel/sql/outbox.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { writeTraceparent } from '../../kernel/trace.ts';
import { policyFaults } from '../../policies/compile.ts';
import { ed25519FromByte, signEd25519, type TestKey } from './keys.ts';

/** Two connectors that speak the protocol with each other, each with its own database, without a network between them. */

export const tenant = 'main' as ParticipantId;

/** What a network may do to a message. */
export type Fate = 'deliver' | 'lose' | 'lose-answer' | 'repeat';

export interface Party extends AsyncDisposable {
  readonly did: Did;
  readonly base: string;
  readonly negotiations: NegotiationService;
  readonly transfers: TransferService;
  readonly agreements: AgreementService;
  readonly app: Hono;
  readonly opened: string[];
  readonly closed: string[];
  readonly inForce: string[];
  readonly ended: string[];
  /** The events that could be registered, each time they were handed out. */
  readonly endSigned: NegotiationRow[];
  /** Stops the worker where it is; `restart` goes on from the database. */
  readonly crash: () => Promise<void>;
  readonly restart: () => void;
}

export interface PartyOptions {
  readonly name: string;
  readonly key: TestKey;
  readonly offers?: readonly PublishedOffer[];
  readonly decide?: (row: NegotiationRow) => Decision | Promise<Decision>;
  /** Whether a message is answered with what follows from it; it is where nothing else was said about deciding. */
  readonly isPrompt?: boolean;
  readonly offerLifetimeMs?: number;
  /** How long a data address is good; for ever unless said otherwise. */
  readonly addressLifetimeMs?: number;
  readonly isBusy?: () => boolean;
  readonly watch?: (notice: ProcessEventNotice) => void;
  readonly pusher?: Pusher;
  readonly decideTransfer?: (row: TransferRow) => TransferDecision;
  readonly fate?: () => Fate;
  /** False: the peer looks as if it had no extensions. */
  readonly knowsExtensions?: boolean;
  /** What else hears of agreements; what it throws is a crash of it. */
  readonly hear?: Partial<AgreementWatch>;
  readonly registered?: RegisteredAgreements;
  /** A file for its rows, so that they outlive it; in memory unless said otherwise. */
  readonly path?: string;
  /** Where the program dies: before or after the save with this number, counted from 1, of this row. */
  readonly dieAt?: (save: number, row: NegotiationRow) => 'before' | 'after' | undefined;
  readonly clock?: Clock;
  readonly log?: Logger;
  readonly fullSync?: boolean;
  /** How callers are known; by the DID in their header unless said otherwise. */
  readonly authenticate?: (db: Kysely<ProcessTables>) => Authenticate;
}

/** The ordinary course of a negotiation, for both roles. */
export const ordinary = (row: NegotiationRow): Decision => {
  const key = `${row.process.role} ${row.process.state}`;
  const steps: Readonly<Record<string, Decision>> = {
    'provider REQUESTED': { do: 'agree' },
    'provider ACCEPTED': { do: 'agree' },
    'provider VERIFIED': { do: 'finalize' },
    'consumer OFFERED': { do: 'accept' },
    'consumer AGREED': { do: 'verify' },
  };
  return steps[key] ?? { do: 'wait' };
};

const ordinaryTransfer = (row: TransferRow): TransferDecision =>
  row.process.role === 'provider' && row.process.state === 'REQUESTED' ? { do: 'start' } : { do: 'wait' };

const signerFor = (did: Did, key: TestKey, keys: ReadonlyMap<Did, TestKey>): AgreementSigner => ({
  sign: async (_participant, { typ, payload }) => {
    const header = encodeProtected(`${did}#s`, typ);
    return { protected: header, signature: signEd25519(key, signingInput(header, payload)) };
  },
  makeLeafKey,
  leafKeyId: leafKeyIdOf,
  randomBytes: (length) => systemRandom.bytes(length),
  verify: async (artifact, { typ, index, did: by }) => {
    const read = readJws(artifact, typ);
    const spki = keys.get(by)?.spki;
    const signature = read.ok ? read.value.signatures[index] : undefined;
    return spki !== undefined && signature?.kid === `${by}#s` && verifySignature(nodeCrypto, signature, spki);
  },
});

/** A network in memory: addresses lead to the parties' routes, and `fate` decides what becomes of each message. */
export const createNetwork = () => {
  const parties = new Map<string, Hono>();
  const dids = new Map<Did, string>();
  const keys = new Map<Did, TestKey>();
  const call = async (from: Did, url: string, init: RequestInit): Promise<Response> => {
    const origin = new URL(url).origin;
    const app = parties.get(origin);
    if (app === undefined) throw new AppError('fetch-failed', { detail: `${origin} is not there` });
    const headers = { ...(init.headers as Record<string, string>), authorization: from };
    return app.fetch(new Request(url, { ...init, headers }));
  };
  return { parties, dids, keys, call };
};
export type Network = ReturnType<typeof createNetwork>;

const transportOver = (network: Network, did: Did, fate: () => Fate): PeerTransport => {
  const read = async (response: Response) => {
    const text = await response.text();
    return {
      status: response.status,
      body: text === '' ? undefined : (JSON.parse(text) as Json),
      newest: response.headers.get('stekker-newest') ?? '',
    };
  };
  return {
    post: async ({ url, id, body, trace }) => {
      const what = fate();
      if (what === 'lose') throw new AppError('fetch-failed', { detail: 'lost' });
      const send = () =>
        network.call(did, url, {
          method: 'POST',
          body: JSON.stringify(body),
          headers: {
            'content-type': 'application/json',
            'idempotency-key': id,
            traceparent: writeTraceparent(trace, systemRandom),
          },
        });
      const answer = await send();
      if (what === 'lose-answer') throw new AppError('fetch-failed', { detail: 'answer lost' });
      return read(what === 'repeat' ? await send() : answer);
    },
    get: async ({ url }) => {
      if (fate() === 'lose') throw new AppError('fetch-failed', { detail: 'lost' });
      return read(await network.call(did, url, { method: 'GET' }));
    },
  };
};

/** A store whose program dies around a save: what was under way ends there, what is durable stays. */
const mortal = (store: NegotiationStore, dieAt: PartyOptions['dieAt'] = () => undefined): NegotiationStore => {
  let saves = 0;
  return {
    ...store,
    save: async (change) => {
      saves += 1;
      const when = dieAt(saves, change.row);
      if (when === 'before') throw new Error('the program died before a save');
      const result = await store.save(change);
      if (when === 'after') throw new Error('the program died after a save');
      return result;
    },
  };
};

const byHeader: Authenticate = async (_participant, headers) => {
  const caller = headers.get('authorization');
  if (caller === null || !caller.startsWith('did:')) throw new AppError('unauthenticated');
  return { did: caller as Did };
};

export const startParty = async (network: Network, options: PartyOptions): Promise<Party> => {
  const origin = `https://${options.name}.example`;
  const did = `did:web:${options.name}.example` as Did;
  const base = `${origin}/dsp/2025-1`;
  const clock = options.clock ?? systemClock;
  const log = options.log ?? silentLogger;
  const database = openSqlite<ProcessTables>({
    path: options.path ?? ':memory:',
    fullSync: options.fullSync ?? false,
  });
  const { db } = database;
  await migrate(db, 'outbox', outboxMigrations as never);
  await migrate(db, 'process', processMigrations);
  network.keys.set(did, options.key);
  network.dids.set(did, origin);
  const transport = transportOver(network, did, options.fate ?? (() => 'deliver'));
  const self = () => ({ did, base });
  const ids = createIds(clock, systemRandom);
  const newId = () => `urn:uuid:${ids()}`;
  const agreements = createAgreements({
    signer: signerFor(did, options.key, network.keys),
    transport,
    clock,
    newId,
    self,
    extensions: {
      agreements: async (_participant, peer) =>
        options.knowsExtensions === false ? undefined : `${network.dids.get(peer)}/ext/1/agreements`,
    },
  });
  const opened: string[] = [];
  const closed: string[] = [];
  const inForce: string[] = [];
  const ended: string[] = [];
  const endSigned: NegotiationRow[] = [];
  let wake: () => void = () => undefined;
  const shared = {
    transport,
    clock,
    newId,
    log,
    wake: () => wake(),
    watch: options.watch ?? (() => undefined),
    self,
    checkAddress: () => undefined,
  };
  const negotiations = createNegotiations({
    ...shared,
    store: mortal(createSqlProcessStore(db, 'negotiations', { cache: createProcessCache(clock) }), options.dieAt),
    agreements,
    offers: {
      find: async (_participant, _caller, dataset, id) =>
        options.offers?.find((offer) => offer.dataset === dataset && offer.id === id),
      alternatives: async (_participant, _caller, dataset) =>
        (options.offers ?? []).filter((offer) => offer.dataset === dataset),
    },
    offerLifetimeMs: options.offerLifetimeMs ?? 86_400_000,
    policyFaults,
    decisions: {
      isPrompt: options.isPrompt ?? options.decide === undefined,
      next: async (row) => (options.decide ?? ordinary)(row),
    },
    agreementWatch: {
      inForce: async (row) => {
        inForce.push(row.pid);
        await options.hear?.inForce?.(row);
      },
      ended: async (row) => {
        ended.push(row.pid);
        await options.hear?.ended?.(row);
      },
      endSigned: async (row) => {
        endSigned.push(row);
        await options.hear?.endSigned?.(row);
      },
    },
    runningTransfers: { end: (participant, agreementId, why) => transfers.endUnder(participant, agreementId, why) },
  });
  const transfers = createTransfers({
    ...shared,
    store: createSqlProcessStore(db, 'transfers', { cache: createProcessCache(clock) }),
    pusher: options.pusher ?? { push: async () => ({ state: 'delivered' }), stop: () => undefined },
    pushInbox: {
      open: (_participant, pid) => ({
        address: pushAddress(`https://inbox.example/${pid}`, 'secret'),
        secretHash: 'h',
      }),
    },
    holder: newId(),
    agreements: transferAgreements({ negotiations: negotiations.exchange.store }),
    dataPlane: {
      open: async (row) => {
        opened.push(row.pid);
        return buildDataAddress('urn:stekker:1:http', `${origin}/data/${row.pid}/`, { grant: `g${opened.length}` });
      },
      close: async (row) => void closed.push(row.pid),
      lifetimeMs: () => options.addressLifetimeMs ?? null,
      isBusy: () => options.isBusy?.() ?? false,
    },
    decisions: { next: async (row) => (options.decideTransfer ?? ordinaryTransfer)(row) },
  });
  const routes = {
    log,
    participantOf: () => tenant,
    authenticate: options.authenticate?.(db) ?? byHeader,
  };
  const app = new Hono();
  app.route('/dsp/2025-1', createNegotiationRoutes(negotiations, routes));
  app.route('/dsp/2025-1', createTransferRoutes(transfers, routes));
  app.route(
    '/ext/1',
    createAgreementRoutes({
      ...routes,
      its: negotiations.exchange,
      agreements,
      ending: negotiations,
      registered: options.registered ?? { find: async () => undefined },
    }),
  );
  network.parties.set(origin, app);
  const start = () =>
    startOutbox({
      db,
      clock,
      random: systemRandom,
      log,
      pollMs: 20,
      handlers: { ...negotiations.handlers, ...transfers.handlers },
    });
  let worker = start();
  wake = () => worker.wake();
  return {
    did,
    base,
    negotiations,
    transfers,
    agreements,
    app,
    opened,
    closed,
    inForce,
    ended,
    endSigned,
    crash: async () => worker[Symbol.asyncDispose](),
    restart: () => {
      worker = start();
    },
    [Symbol.asyncDispose]: async () => {
      await worker[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
    },
  };
};

export const providerKey = ed25519FromByte(3);
export const consumerKey = ed25519FromByte(4);

export const rainOffer: PublishedOffer = {
  id: 'urn:offer:rain',
  dataset: 'urn:asset:rain',
  rules: { permission: [{ action: 'use' }] },
  assurance: 'cosigned',
  price: '',
};

/** Waits until something holds; a test fails when it never does. */
export const eventually = async <Value>(
  look: () => Promise<Value>,
  holds: (value: Value) => boolean,
): Promise<Value> => {
  for (let tries = 0; tries < 3_000; tries += 1) {
    const value = await look();
    if (holds(value)) return value;
    await systemClock.sleep(2);
  }
  throw new Error(`it never came to hold; last seen: ${JSON.stringify(await look())}`);
};
