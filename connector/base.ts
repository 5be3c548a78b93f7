import { join } from 'node:path';
import type { Kysely } from 'kysely';
import { scopeOfType } from '../contracts/dcp/scope.ts';
import { protocolPath } from '../contracts/dsp/common.ts';
import type { Did, ParticipantId } from '../contracts/ids.ts';
import type { UsedTokenStore } from '../kernel/auth.ts';
import { type Authenticator, createAuthenticator, createTokenService, type TokenService } from '../kernel/auth.ts';
import type { Clock } from '../kernel/clock.ts';
import { buildDidDocument, createDidResolver, type DidResolver, didOf } from '../kernel/did.ts';
import { nodeFiles } from '../kernel/files.ts';
import { createGuardedClient, type GuardedClient } from '../kernel/http/client.ts';
import { type KeyNeeds, openKeys, type ParticipantKeys, participantKeyNeeds, participantKeys } from '../kernel/keys.ts';
import type { Fail, Own } from '../kernel/lifecycle.ts';
import type { Logger } from '../kernel/log.ts';
import { addProcessMetrics, createMetrics, type Metrics } from '../kernel/metrics.ts';
import { createIds, type Random } from '../kernel/random.ts';
import { createPeerRate, peerLimitsOf } from '../kernel/rate-limits.ts';
import { openShared, type Shared } from '../kernel/shared.ts';
import { openDatabase, openWakeups } from '../kernel/sql/database.ts';
import { createLeases, type Leases, type LeaseTable, leasedTurns, leaseMigrations } from '../kernel/sql/leases.ts';
import { migrate } from '../kernel/sql/migrate.ts';
import { createHandOver, outboxMigrations } from '../kernel/sql/outbox.ts';
import { type PartCallTable, partCallMigrations } from '../kernel/sql/part-calls.ts';
import { sqlUsedTokens } from '../kernel/sql/used-tokens.ts';
import type { Wakeups } from '../kernel/wakeups.ts';
import { createSecretSeal, cursorLabel, type SecretSeal } from './adapters/crypto/secret-seal.ts';
import { createPeerTransport } from './adapters/http/peer-transport.ts';
import { createPeers, type Peers } from './adapters/http/peers.ts';
import { type AcquisitionTables, acquisitionMigrations } from './adapters/sql/acquisition-store.ts';
import { type CatalogTables, catalogMigrations } from './adapters/sql/catalog-tables.ts';
import { type IdentityTables, identityMigrations } from './adapters/sql/credential-store.ts';
import { type DataPlaneTables, dataPlaneMigrations } from './adapters/sql/data-plane-store.ts';
import { type FollowedTables, followedMigrations } from './adapters/sql/followed-store.ts';
import { type MeteringTables, meteringMigrations } from './adapters/sql/metering-tables.ts';
import { type ProcessTables, processMigrations } from './adapters/sql/process-store.ts';
import { type RegistrationTables, registrationMigrations } from './adapters/sql/registration-store.ts';
import { type StatusTables, statusMigrations } from './adapters/sql/status-store.ts';
import type { ConnectorConfig } from './config.ts';
import type { PeerTransport } from './exchange/ports.ts';
import { measuredTransport } from './measuring.ts';
import { type ConnectorParts, partOf } from './parts.ts';

/** What every slice of a connector stands on: keys, rows, the way out and the way to know who calls. */

export type ConnectorTables = ProcessTables &
  CatalogTables &
  IdentityTables &
  AcquisitionTables &
  StatusTables &
  DataPlaneTables &
  MeteringTables &
  RegistrationTables &
  FollowedTables &
  LeaseTable &
  PartCallTable;

export interface BaseOptions {
  readonly config: ConnectorConfig;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: Random;
  readonly parts: ConnectorParts;
  /** For what no part can go on without. */
  readonly fail: Fail;
}

export interface Base extends BaseOptions {
  readonly own: Own;
  /** The one participant of this deployment; every key and call names it, so that more can come. */
  readonly participant: ParticipantId;
  readonly participantOf: (request: Request) => ParticipantId;
  /** `<root>` and `<base>` (wire §1, dsp §1). */
  readonly root: string;
  readonly base: string;
  readonly did: Did;
  readonly keys: ParticipantKeys;
  readonly seal: SecretSeal;
  /** For places in our lists that others carry. */
  readonly cursors: SecretSeal;
  /** The DID document, exactly as it is served. */
  readonly document: string;
  readonly db: Kysely<ConnectorTables>;
  /** The same rows without a sync for each write: for what is done again when a power cut takes it. */
  readonly relaxed: Kysely<ConnectorTables>;
  /** Other processes may work on these rows. */
  readonly isShared: boolean;
  readonly leases: Leases;
  readonly wakeups: Wakeups;
  /** For what others name: peers, callbacks, documents. */
  readonly client: GuardedClient;
  /** For the owner's own sources, which may stand on a private network when the operator says so. */
  readonly sourceClient: GuardedClient;
  readonly resolver: DidResolver;
  readonly tokens: TokenService;
  readonly used: UsedTokenStore;
  readonly authenticator: Authenticator;
  readonly transport: PeerTransport;
  readonly metrics: Metrics;
  readonly shared: Shared;
  readonly peers: Peers;
  /** The broker, when there is one. */
  readonly broker: { readonly did: Did; readonly origin: string } | undefined;
  /** `urn:uuid:` and a UUIDv7 that is larger than those before. */
  readonly newId: () => string;
  /** A bare UUIDv7: request ids. */
  readonly newUuid: () => string;
  /** To the outbox of this process, once it is there. */
  readonly handOver: ReturnType<typeof createHandOver>;
  /** Wakes the outbox of every process. */
  readonly wake: () => void;
}

/** Word that tasks were added. */
export const outboxChannel = 'outbox';

const keyNeeds = { ...participantKeyNeeds, seal: 'secret' } as const satisfies KeyNeeds;

/** What a peer may ask of our credential service with the token that each message brings. */
export const messageScopes = [scopeOfType('MembershipCredential')];
/** And a provider's token endpoint: there the application counts, too. */
export const tokenScopes = [...messageScopes, scopeOfType('ApplicationAccreditationCredential')];

const openRows = async ({
  config,
  own,
  fail,
  log,
  clock,
}: BaseOptions & Pick<Base, 'own'>): Promise<Pick<Base, 'db' | 'relaxed' | 'isShared' | 'wakeups'>> => {
  const url = config.STEKKER_DATABASE_URL;
  const path = join(config.STEKKER_DATA, 'connector.sqlite');
  const { db, relaxed, isShared } = own(await openDatabase<ConnectorTables>({ url, path, log, fail }));
  await migrate(db, 'outbox', outboxMigrations);
  await migrate(db, 'process', processMigrations);
  await migrate(db, 'catalog', catalogMigrations);
  await migrate(db, 'identity', identityMigrations);
  await migrate(db, 'acquisition', acquisitionMigrations);
  await migrate(db, 'status', statusMigrations);
  await migrate(db, 'data-plane', dataPlaneMigrations);
  await migrate(db, 'metering', meteringMigrations);
  await migrate(db, 'registration', registrationMigrations);
  await migrate(db, 'followed', followedMigrations);
  await migrate(db, 'lease', leaseMigrations);
  await migrate(db, 'part-call', partCallMigrations);
  const wakeups = own(await openWakeups({ url, log, clock }));
  return { db, relaxed, isShared, wakeups };
};

/** Without an extension there is no entry for them: that is how others know that there are none (wire §1). */
const documentOf = (keys: ParticipantKeys, root: string, hasExtensions: boolean): string =>
  JSON.stringify(
    buildDidDocument({
      keys,
      services: {
        CredentialService: `${root}/dcp`,
        DataService: `${root}/.well-known/dspace-version`,
        ...(hasExtensions ? { StekkerExtensions: `${root}/.well-known/stekker` } : {}),
      },
    }),
  );

/** The way out: one client for what others name, another for the owner's own sources. */
const openClients = ({ config, clock, parts, own }: BaseOptions & Pick<Base, 'own'>) => {
  const allowLoopbackHttp = config.STEKKER_ALLOW_LOOPBACK_HTTP;
  const client = own(createGuardedClient({ allowLoopbackHttp }));
  const operatorOrigins = config.STEKKER_SOURCE_ORIGINS;
  const sourceClient = own(createGuardedClient({ allowLoopbackHttp, operatorOrigins }));
  const resolver = createDidResolver({ client, clock, allowLoopbackHttp });
  const peers = partOf(
    parts.peers,
    createPeers({ client, resolver, clock, allowLoopbackHttp, addresses: config.STEKKER_PEERS }),
  );
  return { client, sourceClient, resolver, peers };
};

/** Opens keys and rows. @throws AppError `passphrase-wrong`, `data-damaged`, `data-newer`, `disk-full`. */
export const openBase = async (options: BaseOptions, own: Own): Promise<Base> => {
  const { config, clock, random, parts } = options;
  const participant = 'main' as ParticipantId;
  const root = config.STEKKER_PUBLIC_URL;
  const did = didOf(root);
  const newUuid = createIds(clock, random);
  const rows = await openRows({ ...options, own });
  const shared = own(await openShared({ ...options, urls: config.STEKKER_REDIS_URLS, name: `connector:${did}` }));
  const { db } = rows;
  const wakeups = shared.redis?.wakeups ?? rows.wakeups;
  const leases = createLeases({ db, clock, holder: newUuid() });
  const path = join(config.STEKKER_KEYS ?? join(config.STEKKER_DATA, 'keys'), `${participant}.json`);
  const passphrase = config.STEKKER_PASSPHRASE;
  // In turn: of processes that start for the first time at once one makes the keys, and the others find them.
  const keySet = await leasedTurns(leases, clock)('keys', () =>
    openKeys({ files: nodeFiles, path, passphrase, random, needs: keyNeeds }),
  );
  const keys = participantKeys(did, keySet);
  const { client, sourceClient, resolver, peers } = openClients({ ...options, own });
  const tokens = createTokenService({ keys, clock, random });
  const used = sqlUsedTokens(db);
  const brokerOrigin = config.STEKKER_BROKER_URL;
  const callLimits = peerLimitsOf(config.STEKKER_PEER_CALLS_PER_MINUTE, config.STEKKER_ALL_CALLS_PER_MINUTE);
  const rate = createPeerRate(shared.limits, 'call', callLimits);
  const metrics = createMetrics();
  addProcessMetrics(metrics, clock);
  return {
    ...options,
    own,
    participant,
    participantOf: () => participant,
    root,
    base: `${root}${protocolPath}`,
    did,
    keys,
    seal: createSecretSeal(keySet.secret('seal'), random),
    cursors: createSecretSeal(keySet.secret('seal'), random, cursorLabel),
    document: documentOf(keys, root, config.STEKKER_EXTENSIONS.length > 0),
    ...rows,
    wakeups,
    leases,
    client,
    sourceClient,
    resolver,
    tokens,
    used,
    authenticator: createAuthenticator({ did, resolver, clock, used, rate }),
    transport: measuredTransport(
      partOf(
        parts.transport,
        createPeerTransport({ client, tokens: () => tokens, scopes: messageScopes, random }),
        client,
      ),
      metrics,
      clock,
    ),
    metrics,
    shared,
    peers,
    broker: brokerOrigin === undefined ? undefined : { did: didOf(brokerOrigin), origin: brokerOrigin },
    newId: () => `urn:uuid:${newUuid()}`,
    newUuid,
    handOver: createHandOver(),
    wake: () => wakeups.notify(outboxChannel),
  };
};
