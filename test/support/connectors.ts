import { mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Hono } from 'hono';
import { createAgreementSigner } from '../../connector/adapters/crypto/agreement-signer.ts';
import { readPolicyTemplates } from '../../connector/adapters/files/policy-templates.ts';
import { createPathCheck } from '../../connector/adapters/files/upstream-paths.ts';
import { createPeerTransport } from '../../connector/adapters/http/peer-transport.ts';
import { createPeers, type Peers } from '../../connector/adapters/http/peers.ts';
import {
  type AcquisitionTables,
  acquisitionMigrations,
  createSqlAcquisitionStore,
} from '../../connector/adapters/sql/acquisition-store.ts';
import { createSqlCatalogStore } from '../../connector/adapters/sql/catalog-store.ts';
import { type CatalogTables, catalogMigrations } from '../../connector/adapters/sql/catalog-tables.ts';
import {
  createSqlProcessStore,
  type ProcessTables,
  processMigrations,
} from '../../connector/adapters/sql/process-store.ts';
import { transferAgreements } from '../../connector/agreements.ts';
import { createCatalogClient } from '../../connector/catalog/client.ts';
import { createCatalogRoutes, createPriceRoutes } from '../../connector/catalog/routes.ts';
import { createCatalog } from '../../connector/catalog/service.ts';
import type { PeerTransport } from '../../connector/exchange/ports.ts';
import { createProcessFeed } from '../../connector/management/feed.ts';
import type { Applications, Receipts, StoreEntry, Usage, UsageLine, Wallet } from '../../connector/management/ports.ts';
import { createManagementRoutes, type ManagementOptions } from '../../connector/management/routes.ts';
import { createAgreements } from '../../connector/negotiation/agreements.ts';
import { createAgreementRoutes } from '../../connector/negotiation/extension-routes.ts';
import type { Decision, NegotiationRow } from '../../connector/negotiation/ports.ts';
import { createNegotiationRoutes } from '../../connector/negotiation/routes.ts';
import { createNegotiations, type NegotiationService } from '../../connector/negotiation/service.ts';
import type { TransferDecision, TransferRow } from '../../connector/transfer/ports.ts';
import { createTransferRoutes } from '../../connector/transfer/routes.ts';
import { pushAddress } from '../../connector/transfer/rules.ts';
import { createTransfers, type TransferService } from '../../connector/transfer/service.ts';
import { buildDataAddress } from '../../contracts/dsp/transfer.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { createAuthenticator, createTokenService } from '../../kernel/auth.ts';
import { systemClock } from '../../kernel/clock.ts';
import { buildDidDocument, createDidResolver, didOf } from '../../kernel/did.ts';
import { createGuardedClient } from '../../kernel/http/client.ts';
import { type RunningServer, serveRoutes } from '../../kernel/http/server.ts';
import { silentLogger } from '../../kernel/log.ts';
import { createMetrics } from '../../kernel/metrics.ts';
import { createIds, systemRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { outboxMigrations, startOutbox } from '../../kernel/sql/outbox.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { sqlUsedTokens } from '../../kernel/sql/used-tokens.ts';
import { createTurnsByKey } from '../../kernel/turns.ts';
import { policyFaults } from '../../policies/compile.ts';
import type { Facts } from '../../policies/facts.ts';
import { ordinary, tenant } from './dsp-pair.ts';
import { freshKeys } from './identities.ts';
import { markedRandom, secretText } from './secrets.ts';
import { openCursors, visibleWhen } from './visibility.ts';

/**
 * Connectors on loopback: real servers, DID documents, SI tokens, catalog, negotiation and transfer on SQLite, and the
 * operator's API in front of them. The data plane, the wallet and metering are other parts; what stands here for them is
 * only what the API needs to be asked about.
 */

export const managementToken = secretText('token-of-the-operator');

export interface Connector extends AsyncDisposable {
  readonly did: Did;
  readonly root: string;
  /** Address of the operator's API. */
  readonly api: string;
  readonly gateway: string;
  readonly data: string;
  readonly peers: Peers;
  readonly transport: PeerTransport;
  readonly negotiations: NegotiationService;
  readonly transfers: TransferService;
  readonly feed: ReturnType<typeof createProcessFeed>;
  /** Calls the operator's API. */
  readonly call: (
    method: string,
    path: string,
    init?: { readonly body?: unknown; readonly raw?: string; readonly headers?: Record<string, string> },
  ) => Promise<{ readonly status: number; readonly body: unknown; readonly headers: Headers }>;
  /** Paths that were fetched through the gateway, with the application, purpose and run. */
  readonly fetched: {
    readonly path: string;
    readonly application: string;
    readonly purpose: string;
    readonly run: string;
  }[];
}

export interface ConnectorOptions {
  readonly decide?: (row: NegotiationRow) => Decision;
  readonly decideTransfer?: (row: TransferRow) => TransferDecision;
  readonly sees?: (caller: Did, offer: string) => boolean;
  readonly facts?: Facts;
  readonly usage?: readonly UsageLine[];
  /** What the broker's store has found. */
  readonly entries?: () => readonly StoreEntry[];
  readonly hosts?: readonly string[];
}

const startedByProvider = (row: TransferRow): TransferDecision =>
  row.process.role === 'provider' && row.process.state === 'REQUESTED' ? { do: 'start' } : { do: 'wait' };

/** A server whose routes are added when its port is known. */
const serve = async (): Promise<{ readonly app: Hono; readonly server: RunningServer; readonly origin: string }> => {
  const app = new Hono();
  const server = await serveRoutes(app, { host: 'localhost', port: 0 });
  return { app, server, origin: `http://localhost:${server.port}` };
};

type Tables = ProcessTables & CatalogTables & AcquisitionTables;

const openTables = async () => {
  const database = openSqlite<Tables>({ path: ':memory:', fullSync: false });
  const { db } = database;
  await migrate(db, 'outbox', outboxMigrations as never);
  await migrate(db, 'process', processMigrations as never);
  await migrate(db, 'catalog', catalogMigrations as never);
  await migrate(db, 'acquisitions', acquisitionMigrations as never);
  return database;
};

const heldApplications = (): Applications & { readonly nameOf: (key: string) => string | undefined } => {
  const keys = new Map<string, { readonly key: string; readonly createdAt: number }>();
  return {
    add: async (_participant, application) => {
      const key = Buffer.from(markedRandom.bytes(24)).toString('base64url');
      keys.set(application, { key, createdAt: systemClock.now() });
      return { key };
    },
    list: () => [...keys].map(([id, { createdAt }]) => ({ id, createdAt })),
    remove: async (_participant, application) => {
      if (!keys.delete(application)) throw new AppError('not-found');
    },
    nameOf: (key) => [...keys].find(([, held]) => held.key === key)?.[0],
  };
};

const walletOf = (facts: Facts): Wallet => ({
  join: async (_participant, code) => {
    if (code !== 'the-code') throw new AppError('forbidden', { detail: 'the broker does not know this code' });
    return { broker: 'did:web:broker.example' as Did, member: true };
  },
  credentials: async () => [
    {
      id: 'urn:uuid:membership',
      type: 'MembershipCredential',
      issuer: 'did:web:broker.example' as Did,
      validFrom: '2026-01-01T00:00:00Z',
      validUntil: '2027-01-01T00:00:00Z',
      subject: { memberOf: 'did:web:broker.example' },
    },
  ],
  requests: async () => [],
  request: async (_participant, issuer, type) => ({
    id: 'urn:uuid:request',
    issuer,
    type,
    state: 'open',
    reason: '',
    requestedAt: 1,
  }),
  facts: async () => facts,
});

const usageOf = (lines: readonly UsageLine[]): Usage => ({
  lines: async (_participant, { after, limit, agreementId }) =>
    lines
      .filter((line) => line.key > after && (agreementId === undefined || line.agreementId === agreementId))
      .slice(0, limit),
});

const receiptsOf: Receipts = {
  one: async (_participant, request, withhold) => {
    if (request.startsWith('0'))
      throw new AppError('not-yet', { detail: 'the statement is not signed yet', retryAfterSeconds: 5 });
    return `{"request":"${request}","sums":${withhold.sums ? 'null' : '{}'},"type":"receipt"}`;
  },
  packed: async (_participant, agreement) => [`{"agreement":"${agreement}","type":"receipts"}`],
};

export const startConnector = async (options: ConnectorOptions = {}): Promise<Connector> => {
  const data = mkdtempSync(join(tmpdir(), 'stekker-connector-'));
  const publicSide = await serve();
  const gatewaySide = await serve();
  const root = publicSide.origin;
  const did = didOf(root);
  const base = `${root}/dsp/2025-1`;
  const log = silentLogger;
  const clock = systemClock;
  const keys = freshKeys(did);
  const client = createGuardedClient({ allowLoopbackHttp: true });
  const resolver = createDidResolver({ client, clock, allowLoopbackHttp: true });
  const tokens = createTokenService({ keys, clock, random: systemRandom });
  const transport = createPeerTransport({ client, tokens: () => tokens, scopes: [], random: systemRandom });
  const peers = createPeers({ client, resolver, clock, allowLoopbackHttp: true });
  const database = await openTables();
  const { db } = database;
  const ids = createIds(clock, systemRandom);
  const newId = () => `urn:uuid:${ids()}`;
  const feed = createProcessFeed(newId());
  const templates = readPolicyTemplates();
  const self = () => ({ did, base, title: 'Connector' });

  const catalog = createCatalog({
    store: createSqlCatalogStore(db as never),
    clock,
    newId,
    seal: { seal: (text) => Buffer.from(text).toString('base64') },
    cursors: openCursors,
    visibility: visibleWhen((caller, offer) => options.sees?.(caller, offer) ?? true),
    self,
    checkUpstream: (url) => createGuardedClient({ allowLoopbackHttp: false }).check(url),
    checkPath: createPathCheck(data),
    template: (name) => templates.get(name),
    policyFaults,
  });
  const agreements = createAgreements({
    signer: createAgreementSigner({ keys: () => keys, resolver, random: systemRandom }),
    transport,
    clock,
    newId,
    self,
    extensions: peers,
  });
  let wake: () => void = () => undefined;
  const shared = {
    transport,
    clock,
    newId,
    log,
    wake: () => wake(),
    watch: feed.publish,
    self,
    checkAddress: client.check,
  };
  const negotiations = createNegotiations({
    ...shared,
    store: createSqlProcessStore(db as never, 'negotiations'),
    agreements,
    offers: {
      find: async (participant, caller, dataset, id) => {
        const offer = await catalog.find(participant, caller, dataset, id);
        return offer === undefined ? undefined : { ...offer, dataset: offer.asset };
      },
      alternatives: async (participant, caller, dataset) => {
        const found = await catalog.alternatives(participant, caller, dataset);
        return found.map((offer) => ({ ...offer, dataset: offer.asset }));
      },
    },
    offerLifetimeMs: 86_400_000,
    policyFaults,
    decisions: { next: async (row) => (options.decide ?? ordinary)(row) },
    agreementWatch: { inForce: async () => undefined, ended: async () => undefined, endSigned: async () => undefined },
    runningTransfers: { end: (participant, agreementId, why) => transfers.endUnder(participant, agreementId, why) },
  });
  const transfers = createTransfers({
    ...shared,
    store: createSqlProcessStore(db as never, 'transfers'),
    pusher: { push: async () => ({ state: 'delivered' }), stop: () => undefined },
    pushInbox: {
      open: (_participant, pid) => ({
        address: pushAddress(`https://inbox.example/${pid}`, 'secret'),
        secretHash: 'h',
      }),
    },
    holder: newId(),
    agreements: transferAgreements({ negotiations: negotiations.exchange.store }),
    dataPlane: {
      open: async (row) =>
        buildDataAddress('urn:stekker:1:http', `${root}/data/${row.pid}/`, { grant: secretText('grant') }),
      close: async () => undefined,
      lifetimeMs: () => null,
      isBusy: () => false,
    },
    decisions: { next: async (row) => (options.decideTransfer ?? startedByProvider)(row) },
  });

  const authenticator = createAuthenticator({ did, resolver, clock, used: sqlUsedTokens(db as never) });
  const routes = {
    log,
    participantOf: () => tenant,
    authenticate: async (_participant: ParticipantId, headers: Headers) => {
      const caller = await authenticator.verify(headers);
      return { did: caller.did, token: caller.used };
    },
  };
  const { app } = publicSide;
  const document = buildDidDocument({
    keys,
    services: {
      DataService: `${root}/.well-known/dspace-version`,
      StekkerExtensions: `${root}/.well-known/stekker`,
    },
  });
  app.get('/.well-known/did.json', (c) => c.json(document));
  app.get('/.well-known/dspace-version', (c) =>
    c.json({ protocolVersions: [{ version: '2025-1', path: '/dsp/2025-1', binding: 'HTTPS' }] }),
  );
  app.get('/.well-known/stekker', (c) =>
    c.json({ extensions: [{ id: 'agreements', version: '1', path: '/ext/1/agreements' }] }),
  );
  app.route('/dsp/2025-1', createCatalogRoutes(catalog, { ...routes, base: () => base }));
  app.route('/dsp/2025-1', createNegotiationRoutes(negotiations, routes));
  app.route('/dsp/2025-1', createTransferRoutes(transfers, routes));
  app.route(
    '/ext/1',
    createAgreementRoutes({
      ...routes,
      its: negotiations.exchange,
      agreements,
      ending: negotiations,
      registered: { find: async () => undefined },
    }),
  );
  app.route('/ext/1', createPriceRoutes(catalog, routes));

  const worker = startOutbox({
    db: db as never,
    clock,
    random: systemRandom,
    log,
    pollMs: 20,
    handlers: { ...negotiations.handlers, ...transfers.handlers },
  });
  wake = () => worker.wake();

  const applications = heldApplications();
  const stopped = new AbortController();
  const management: ManagementOptions = {
    participant: tenant,
    token: managementToken,
    hosts: options.hosts ?? [],
    log,
    clock,
    signal: stopped.signal,
    metrics: createMetrics(),
    catalog,
    templates: [...templates.values()],
    catalogs: createCatalogClient({ transport, providers: peers, newId }),
    store: {
      search: async ({ q }) => {
        const all = options.entries?.() ?? [];
        const found = all.filter(({ dataset }) =>
          `${dataset.id} ${dataset.title}`.toLowerCase().includes(q.toLowerCase()),
        );
        return { entries: found, next: undefined };
      },
    },
    bases: peers,
    negotiations,
    transfers,
    acquisitions: createSqlAcquisitionStore(db as never),
    inTurn: createTurnsByKey(),
    pushed: {
      read: async () => {
        throw new AppError('not-found');
      },
    },
    ends: {
      end: async (participant, id) => {
        const row = await negotiations.findByAgreement(participant, id);
        if (row === undefined) throw new AppError('not-found');
        const next = { ...row, data: { ...row.data, status: 'ended' as const }, version: row.version + 1 };
        await negotiations.exchange.store.save({ row: next, send: false, work: false });
        return next;
      },
    },
    wallet: walletOf(options.facts ?? {}),
    applications,
    feed,
    gatewayUrl: () => gatewaySide.origin,
    usage: usageOf(options.usage ?? []),
    receipts: receiptsOf,
    status: {
      read: async () => ({
        did,
        name: 'Connector',
        publicUrl: root,
        dataUrl: `${root}/data`,
        gatewayUrl: gatewaySide.origin,
        broker: null,
        member: false,
        troubles: [],
      }),
    },
  };
  const operatorSide = await serveRoutes(createManagementRoutes(management), { host: 'localhost', port: 0 });
  const api = `http://localhost:${operatorSide.port}`;

  const fetched: Connector['fetched'] = [];
  gatewaySide.app.get('/data/:agreement/*', async (c) => {
    const key = c.req.header('authorization')?.replace('Bearer ', '') ?? '';
    const application = applications.nameOf(key);
    const refusal = (status: number, detail: string) =>
      new Response(
        JSON.stringify({
          type: 'urn:stekker:1:error:policy-denied',
          title: 'The policy does not permit this.',
          status,
          detail,
        }),
        {
          status,
          headers: { 'content-type': 'application/problem+json' },
        },
      );
    if (application === undefined) return refusal(403, 'no application of ours');
    const purpose = c.req.header('stekker-purpose') ?? '';
    if (purpose === 'urn:wrong') return refusal(403, 'For the purpose the rule is another.');
    fetched.push({ path: new URL(c.req.url).pathname, application, purpose, run: c.req.header('stekker-run') ?? '' });
    const bytes = await readFile(new URL('../../contracts/ledger/vectors.json', import.meta.url));
    return new Response(bytes, {
      headers: { 'content-type': 'application/json', 'stekker-request': '0190b0b2-7c00-7000-8000-000000000001' },
    });
  });

  return {
    did,
    root,
    api,
    gateway: gatewaySide.origin,
    data,
    peers,
    transport,
    negotiations,
    transfers,
    feed,
    fetched,
    call: async (method, path, init = {}) => {
      const sent = init.raw ?? (init.body === undefined ? undefined : JSON.stringify(init.body));
      const response = await fetch(`${api}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${managementToken}`,
          ...(sent === undefined ? {} : { 'content-type': 'application/json' }),
          ...init.headers,
        },
        ...(sent === undefined ? {} : { body: sent }),
      });
      const text = await response.text();
      const isJson = (response.headers.get('content-type') ?? '').includes('json');
      return { status: response.status, body: isJson ? JSON.parse(text) : text, headers: response.headers };
    },
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      await worker[Symbol.asyncDispose]();
      for (const server of [publicSide.server, operatorSide, gatewaySide.server]) await server[Symbol.asyncDispose]();
      await client[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
      rmSync(data, { recursive: true, force: true });
    },
  };
};
