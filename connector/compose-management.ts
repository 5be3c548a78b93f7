import { AppError } from '../contracts/errors.ts';
import type { ParticipantId } from '../contracts/ids.ts';
import { formatTime } from '../contracts/time.ts';
import { type CredentialType, credential } from '../contracts/vc/credential.ts';
import { nodeFiles } from '../kernel/files.ts';
import { readJwt } from '../kernel/jwt.ts';
import { operatorRate } from '../kernel/shared.ts';
import { leasedTurns } from '../kernel/sql/leases.ts';
import { createTurnsByKey } from '../kernel/turns.ts';
import { createReceivedFiles, receivedFolder } from './adapters/files/received-files.ts';
import { createBrokerStore } from './adapters/http/broker-store.ts';
import { createSqlAcquisitionStore } from './adapters/sql/acquisition-store.ts';
import type { Base } from './base.ts';
import type { Identity } from './compose-identity.ts';
import type { Protocol } from './compose-protocol.ts';
import type { Usage } from './compose-usage.ts';
import type { Applications } from './data-plane/applications.ts';
import { createReceiptFiles } from './evidence/receipt-files.ts';
import type { HeldCredential as OwnCredential, CredentialRequest as OwnRequest } from './identity/ports.ts';
import type { ProcessFeed } from './management/feed.ts';
import { heldFacts } from './management/held-facts.pure.ts';
import type { CredentialRequest, HeldCredential, Receipts, Status, Wallet } from './management/ports.ts';
import { createManagementRoutes } from './management/routes.ts';
import { createUsageLines } from './management/usage-lines.pure.ts';

/** The operator's API over all slices. */

export interface ManagementParts {
  readonly identity: Identity;
  readonly usage: Usage;
  readonly protocol: Protocol;
  readonly applications: Applications;
  readonly feed: ProcessFeed;
  readonly gatewayPort: number;
  readonly signal: AbortSignal;
}

const maxRequests = 200;

const showCredential = ({ id, type, issuer, jwt, validFrom, validUntil }: OwnCredential): HeldCredential => {
  const read = credential.safeParse(readJwt(jwt, 65_536)?.claims);
  return {
    id,
    type,
    issuer,
    validFrom: formatTime(validFrom),
    validUntil: formatTime(validUntil),
    subject: read.success ? (read.data.credentialSubject as unknown as HeldCredential['subject']) : {},
  };
};

const states = { OPEN: 'open', ISSUED: 'received', REJECTED: 'refused' } as const;

const showRequest = ({ holderPid, issuer, type, status, reason, createdAt }: OwnRequest): CredentialRequest => ({
  id: holderPid,
  issuer,
  type,
  state: states[status],
  reason,
  requestedAt: createdAt,
});

const isCredentialType = (type: string): type is CredentialType =>
  type === 'MembershipCredential' || type === 'ApplicationAccreditationCredential';

const walletOf = ({ broker, did, log }: Base, { wallet, store, requests, joining, status }: Identity): Wallet => ({
  join: async (participant, code) => {
    if (broker === undefined)
      throw new AppError('not-found', { detail: 'this connector has no broker: set STEKKER_BROKER_URL' });
    await joining.join(participant, { did: broker.did, root: broker.origin }, code);
    status.wake();
    log.info({ broker: broker.did }, 'our keys are in the log of the broker');
    const { memberships } = await wallet.facts(participant);
    return { broker: broker.did, member: memberships.some(({ memberOf }) => memberOf === broker.did) };
  },
  credentials: async (participant) => (await wallet.held(participant)).map(showCredential),
  requests: async (participant) => (await store.read.requests(participant, maxRequests)).map(showRequest),
  request: async (participant, issuer, type) => {
    if (!isCredentialType(type)) {
      const faults = [{ path: '/type', message: 'is no type of credential that is known here' }];
      throw new AppError('body-invalid', { faults });
    }
    return showRequest(await requests.request(participant, { issuer, type }));
  },
  facts: async (participant, application) => heldFacts(did, await wallet.facts(participant), application),
});

const receiptsOf = ({ evidence }: Usage, { digestOf }: Protocol): Receipts => {
  const none = async (): Promise<never> => {
    const detail = 'without a broker there is no log, and no receipt: set STEKKER_BROKER_URL';
    throw new AppError('not-found', { detail });
  };
  return evidence === undefined ? { one: none, packed: none } : createReceiptFiles(evidence.receipts, digestOf);
};

const gatewayOrigin = ({ config }: Base, port: number): string => {
  const host = config.STEKKER_GATEWAY_HOST;
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
};

/** Whether there is a Redis, and it cannot be asked. */
export const isWithoutRedis = ({ shared: { redis } }: Base): boolean => redis !== undefined && !redis.isReachable();

const statusOf = (base: Base, { identity, usage, gatewayPort }: ManagementParts): Status => ({
  read: async (participant: ParticipantId) => {
    const { broker, config, did } = base;
    const { memberships } = await identity.wallet.facts(participant);
    const member = broker !== undefined && memberships.some(({ memberOf }) => memberOf === broker.did);
    const view = identity.status.view();
    const { provider, consumer } = usage.metering.meters;
    const troubles: readonly (readonly [boolean, string])[] = [
      [broker !== undefined && !member, 'There is no membership of the broker yet: stekker join CODE.'],
      [view.isSilent, `The broker has been silent for ${view.silentSeconds} s.`],
      [isWithoutRedis(base), 'Redis cannot be asked: no data is served to whoever must prove possession.'],
      [!provider.isReady(), 'Usage cannot be recorded: nothing is served.'],
      [!consumer.isReady(), 'Usage cannot be recorded: nothing is fetched.'],
    ];
    return {
      did,
      name: config.STEKKER_NAME,
      publicUrl: base.root,
      dataUrl: config.STEKKER_DATA_URL,
      gatewayUrl: gatewayOrigin(base, gatewayPort),
      broker: broker?.origin ?? null,
      member,
      troubles: troubles.filter(([holds]) => holds).map(([, sentence]) => sentence),
    };
  },
});

export const composeManagement = (base: Base, parts: ManagementParts) => {
  const { participant, config, log, clock, db, peers, client } = base;
  const { protocol, usage, identity, feed, signal } = parts;
  return createManagementRoutes({
    participant,
    token: config.STEKKER_MANAGEMENT_TOKEN,
    hosts: [...config.STEKKER_MANAGEMENT_HOSTS, config.STEKKER_MANAGEMENT_HOST],
    rate: operatorRate(base.shared, config.STEKKER_MANAGEMENT_CALLS_PER_MINUTE),
    log,
    clock,
    signal,
    feed,
    catalog: protocol.catalog,
    templates: protocol.templates,
    catalogs: protocol.catalogs,
    store: createBrokerStore({ client, broker: config.STEKKER_BROKER_URL }),
    bases: peers,
    negotiations: protocol.negotiations,
    transfers: protocol.transfers,
    pushed: createReceivedFiles(nodeFiles, receivedFolder(config)),
    acquisitions: createSqlAcquisitionStore(db),
    inTurn: base.isShared ? leasedTurns(base.leases, clock) : createTurnsByKey(),
    ends: protocol.negotiations,
    wallet: walletOf(base, identity),
    applications: parts.applications,
    gatewayUrl: () => gatewayOrigin(base, parts.gatewayPort),
    usage: createUsageLines({ metered: usage.metering.usage.list, datasetOf: protocol.datasetOf }),
    receipts: receiptsOf(usage, protocol),
    status: statusOf(base, parts),
    metrics: base.metrics,
  });
};
