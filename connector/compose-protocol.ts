import { Hono } from 'hono';
import { toBase64Url } from '../contracts/bytes.ts';
import { jwtProfile } from '../contracts/dcp/messages.ts';
import { protocolPath, protocolVersion } from '../contracts/dsp/common.ts';
import type { Did, ParticipantId } from '../contracts/ids.ts';
import { policyFaults } from '../policies/compile.ts';
import { createAgreementSigner } from './adapters/crypto/agreement-signer.ts';
import { readPolicyTemplates } from './adapters/files/policy-templates.ts';
import { createPathCheck } from './adapters/files/upstream-paths.ts';
import { createSqlCatalogStore } from './adapters/sql/catalog-store.ts';
import { createProcessCache, noCache } from './adapters/sql/process-cache.ts';
import { createSqlProcessStore } from './adapters/sql/process-store.ts';
import {
  type AgreementSources,
  accessTerms,
  consumedTransfers,
  digestOf,
  meteredAgreement,
  pushedTransfers,
  transferAgreements,
} from './agreements.ts';
import type { Base } from './base.ts';
import { createCatalogClient } from './catalog/client.ts';
import { createCatalogExtensionRoutes } from './catalog/extension-routes.ts';
import { createCatalogRoutes, createPriceRoutes } from './catalog/routes.ts';
import { createCatalog } from './catalog/service.ts';
import { createVisibility } from './catalog/visibility.ts';
import type { Identity } from './compose-identity.ts';
import type { Usage } from './compose-usage.ts';
import { type Grants, secretHashOf } from './data-plane/grants.ts';
import type { Pushes } from './data-plane/pushes.ts';
import { maxTokenMs } from './data-plane/rules.ts';
import type { ProcessEventNotice } from './exchange/ports.ts';
import { announced, canCosign, type ExtensionId } from './extensions.ts';
import { createAgreements } from './negotiation/agreements.ts';
import { createPolicyDecisions } from './negotiation/decisions.ts';
import { createAgreementRoutes } from './negotiation/extension-routes.ts';
import type { AgreementWatch, NegotiationRow, OfferBook } from './negotiation/ports.ts';
import type { NegotiationOptions } from './negotiation/process.ts';
import { createNegotiationRoutes } from './negotiation/routes.ts';
import { createNegotiations } from './negotiation/service.ts';
import { partOf } from './parts.ts';
import type { TransferDecisions } from './transfer/ports.ts';
import { createTransferRoutes } from './transfer/routes.ts';
import { pushAddress } from './transfer/rules.ts';
import { createTransfers } from './transfer/service.ts';

/** The Dataspace Protocol in both roles: what is on offer, what is agreed, what is transferred. */

const versions = {
  protocolVersions: [
    {
      version: protocolVersion,
      path: protocolPath,
      binding: 'HTTPS',
      identifierType: 'did:web',
      auth: { protocol: 'DCP', version: '1.0', profile: [jwtProfile] },
    },
  ],
};

/** Documents that everybody may read. */
const wellKnown = (served: readonly ExtensionId[]): Hono => {
  const app = new Hono();
  const headers = { 'access-control-allow-origin': '*', 'cache-control': 'public, max-age=60' };
  app.get('/.well-known/dspace-version', (c) => c.json(versions, 200, headers));
  if (served.length > 0) app.get('/.well-known/stekker', (c) => c.json(announced(served), 200, headers));
  return app;
};

export interface ProtocolParts {
  readonly identity: Identity;
  readonly usage: Usage;
  /** The data plane is built on the agreements, and transfers open it: asked for when it is there. */
  readonly grants: () => Grants;
  /** The same for what is brought to consumers. */
  readonly pushes: () => Pushes;
  readonly watch: (notice: ProcessEventNotice) => void;
}

const composeCatalog = (base: Base) => {
  const { db, clock, newId, seal, cursors, config, did, base: address, broker, resolver, sourceClient } = base;
  const store = createSqlCatalogStore(db);
  const templates = readPolicyTemplates();
  const canBoth = async (caller: Did) =>
    canCosign(config.STEKKER_EXTENSIONS) &&
    (caller === broker?.did || (await resolver.resolve(caller))?.endpoint('StekkerExtensions') !== undefined);
  const catalog = createCatalog({
    store,
    clock,
    newId,
    seal,
    cursors,
    visibility: createVisibility({ canCosign: (_participant, caller) => canBoth(caller) }),
    self: () => ({ did, base: address, title: config.STEKKER_NAME }),
    checkUpstream: sourceClient.check,
    checkPath: createPathCheck(config.STEKKER_DATA),
    template: (name) => templates.get(name),
    policyFaults,
  });
  const catalogs = createCatalogClient({ transport: base.transport, providers: base.peers, newId });
  return { store, templates, catalog, catalogs };
};

/** An agreement in force is metered and registered; one that ended is neither served nor fetched. */
const watchAgreements = (its: AgreementSources, { metering, evidence }: Usage): AgreementWatch => {
  const held = ({ participant, process }: NegotiationRow) => ({ participant, role: process.role });
  return {
    inForce: async (row) => {
      const agreement = await meteredAgreement(its, row);
      if (agreement === undefined || row.data.agreement === null) return;
      await metering.agreementInForce(agreement);
      const { artifact, leafKey } = row.data.agreement;
      await evidence?.agreements.inForce({ ...held(row), artifact, leafKey });
    },
    ended: (row) => metering.agreementEnded(row.participant, digestOf(row)),
    endSigned: async (row) => {
      if (row.data.end === null) return;
      const { artifact, leafKey } = row.data.end;
      await evidence?.agreements.ended({ ...held(row), artifact, leafKey });
    },
  };
};

const startWhenAsked: TransferDecisions = {
  next: async ({ process }) =>
    process.role === 'provider' && process.state === 'REQUESTED' ? { do: 'start' } : { do: 'wait' },
};

interface Processes {
  readonly sources: AgreementSources;
  readonly shared: Omit<
    NegotiationOptions,
    | 'store'
    | 'offers'
    | 'offerLifetimeMs'
    | 'policyFaults'
    | 'decisions'
    | 'agreements'
    | 'agreementWatch'
    | 'runningTransfers'
  >;
}

/** Whether everything that is served runs in this thread of this process. */
const servesHere = ({ config, isShared }: Base): boolean => config.STEKKER_DATA_WORKERS === 1 && !isShared;

const composeTransfers = (base: Base, parts: ProtocolParts, { sources, shared }: Processes) =>
  createTransfers({
    ...shared,
    store: sources.transfers,
    agreements: transferAgreements(sources),
    dataPlane: {
      open: ({ participant, pid, peer, data }) =>
        parts.grants().open({ participant, transfer: pid, agreementId: data.agreementId, consumer: peer }),
      close: ({ participant, pid }) => parts.grants().close(participant, pid),
      // What runs in other threads or processes is not known here, and must not be cut: there a consumer renews by itself.
      lifetimeMs: ({ assurance }) => (assurance === 'plain-dsp' && servesHere(base) ? maxTokenMs : null),
      isBusy: ({ pid }) => (parts.grants().find(pid)?.running.size ?? 0) > 0,
    },
    pusher: {
      push: ({ participant, pid, peer, data }, sink) =>
        parts.pushes().push({ participant, transfer: pid, agreementId: data.agreementId, consumer: peer, sink }),
      stop: ({ pid }) => parts.pushes().stop(pid),
    },
    pushInbox: {
      open: (_participant, pid) => {
        const secret = toBase64Url(base.random.bytes(32));
        const address = pushAddress(`${base.root}/ext/1/pushes/${encodeURIComponent(pid)}`, secret);
        return { address, secretHash: secretHashOf(secret) };
      },
    },
    holder: base.newUuid(),
    decisions: partOf(base.parts.transferDecisions, startWhenAsked),
  });

const composeNegotiations = (
  base: Base,
  { identity, usage }: ProtocolParts,
  its: Processes & { readonly offers: OfferBook; readonly transfers: ReturnType<typeof composeTransfers> },
) => {
  const { keys, resolver, random, peers, clock, config } = base;
  const { sources, shared, offers } = its;
  const signer = createAgreementSigner({ keys: () => keys, resolver, random });
  const agreements = createAgreements({ ...shared, signer, extensions: peers });
  const deciding = { offers, facts: identity.peerFacts, clock, counterOffers: config.STEKKER_COUNTER_OFFERS };
  const negotiations = createNegotiations({
    ...shared,
    store: sources.negotiations,
    agreements,
    offers,
    offerLifetimeMs: config.STEKKER_OFFER_SECONDS * 1_000,
    policyFaults,
    decisions: partOf(base.parts.decisions, createPolicyDecisions(deciding)),
    agreementWatch: watchAgreements(sources, usage),
    runningTransfers: { end: its.transfers.endUnder },
  });
  return { agreements, negotiations };
};

/** The two protocols over one set of rows, ways out and watchers. */
const composeProcesses = (base: Base, parts: ProtocolParts, catalog: ReturnType<typeof composeCatalog>) => {
  const { did, clock, newId, log, transport, client, db, handOver } = base;
  const sources: AgreementSources = {
    negotiations: createSqlProcessStore(db, 'negotiations', {
      handOver,
      cache: base.isShared ? noCache() : createProcessCache(clock),
    }),
    transfers: createSqlProcessStore(db, 'transfers', {
      handOver,
      cache: base.isShared ? noCache() : createProcessCache(clock),
    }),
    catalog: catalog.store,
    catalogs: catalog.catalogs,
    did,
  };
  const fetched = consumedTransfers(sources);
  const watch = (notice: ProcessEventNotice): void => {
    fetched.changed();
    parts.watch(notice);
  };
  const self = () => ({ did, base: base.base });
  const shared = { transport, clock, newId, log, wake: base.wake, self, checkAddress: client.check, watch };
  const offers: OfferBook = {
    find: async (...asked) => {
      const offer = await catalog.catalog.find(...asked);
      return offer && { ...offer, dataset: offer.asset };
    },
    alternatives: async (...asked) => {
      const found = await catalog.catalog.alternatives(...asked);
      return found.map((offer) => ({ ...offer, dataset: offer.asset }));
    },
  };
  const transfers = composeTransfers(base, parts, { sources, shared });
  return { ...composeNegotiations(base, parts, { sources, shared, offers, transfers }), transfers, sources, fetched };
};

export const composeProtocol = (base: Base, parts: ProtocolParts) => {
  const { participantOf, log } = base;
  const { identity, usage } = parts;
  const its = composeCatalog(base);
  const { agreements, negotiations, transfers, sources, fetched } = composeProcesses(base, parts, its);
  const routes = { participantOf, authenticate: identity.authenticate, log };
  const signed = { participantOf, log, authenticate: identity.authenticateParty };
  const registered = usage.evidence?.registered ?? { find: async () => undefined };
  const ending = negotiations;
  const served = base.config.STEKKER_EXTENSIONS;
  const app = wellKnown(served);
  app.route(protocolPath, createCatalogRoutes(its.catalog, { ...routes, base: () => base.base }));
  app.route(protocolPath, createNegotiationRoutes(negotiations, routes));
  app.route(protocolPath, createTransferRoutes(transfers, routes));
  const { exchange } = negotiations;
  const serve = (id: ExtensionId, at: string, its: Hono): void => {
    if (served.includes(id)) app.route(at, its);
  };
  serve('agreements', '/ext/1', createAgreementRoutes({ ...signed, its: exchange, agreements, ending, registered }));
  serve('statements', '/ext/1', usage.metering.routes(signed));
  const address = () => `${base.root}/ext/1/catalog`;
  serve('catalog', '/ext/1/catalog', createCatalogExtensionRoutes(its.catalog, { ...routes, address }));
  if (served.length > 0) app.route('/ext/1', createPriceRoutes(its.catalog, { participantOf }));
  const agreed = (participant: ParticipantId, id: string) => negotiations.findByAgreement(participant, id);
  return {
    app,
    catalog: its.catalog,
    catalogRows: its.store,
    catalogs: its.catalogs,
    templates: [...its.templates.values()],
    negotiations,
    transfers,
    terms: accessTerms(sources),
    pushed: { ...pushedTransfers(sources), received: transfers.received },
    fetched,
    datasetOf: async (participant: ParticipantId, id: string) => (await agreed(participant, id))?.data.dataset,
    digestOf: async (participant: ParticipantId, id: string) => {
      const row = await agreed(participant, id);
      return row && digestOf(row);
    },
    handlers: { ...negotiations.handlers, ...transfers.handlers },
  };
};

export type Protocol = ReturnType<typeof composeProtocol>;
