import { join } from 'node:path';
import type { Hono } from 'hono';
import type { Kysely } from 'kysely';
import type { BrokerInfo } from '../contracts/events.ts';
import type { Did } from '../contracts/ids.ts';
import { createAuthenticator, createTokenService, type TokenService, type VerifiedCaller } from '../kernel/auth.ts';
import type { Clock } from '../kernel/clock.ts';
import { buildDidDocument, createDidResolver, type DidResolver, didOf } from '../kernel/did.ts';
import { nodeFiles } from '../kernel/files.ts';
import { createGuardedClient, type GuardedClient } from '../kernel/http/client.ts';
import {
  type KeyNeeds,
  type KeySet,
  openKeys,
  type ParticipantKeys,
  participantKeyNeeds,
  participantKeys,
} from '../kernel/keys.ts';
import type { Fail, Own } from '../kernel/lifecycle.ts';
import type { Logger } from '../kernel/log.ts';
import { createIds, type Random } from '../kernel/random.ts';
import { createPeerRate, peerLimitsOf } from '../kernel/rate-limits.ts';
import { openShared, type Shared } from '../kernel/shared.ts';
import { openDatabase, openWakeups } from '../kernel/sql/database.ts';
import { createLeases, type Leases, type LeaseTable, leasedTurns, leaseMigrations } from '../kernel/sql/leases.ts';
import { migrate } from '../kernel/sql/migrate.ts';
import { outboxMigrations, type TaskHandler } from '../kernel/sql/outbox.ts';
import { sqlUsedTokens, type UsedTokenTable, usedTokenMigrations } from '../kernel/sql/used-tokens.ts';
import type { Wakeups } from '../kernel/wakeups.ts';
import { aesArtifactSeal } from './adapters/crypto/artifact-seal.ts';
import { createHolderDelivery } from './adapters/http/dcp-peers.ts';
import { type AccreditationTables, accreditationMigrations } from './adapters/sql/accreditation-store.ts';
import { type AnchorTables, anchorMigrations } from './adapters/sql/anchor-store.ts';
import {
  sqlCredentialStore,
  sqlNoticeStore,
  sqlRequestStore,
  sqlStatusListStore,
} from './adapters/sql/credential-store.ts';
import { type CredentialTables, credentialMigrations } from './adapters/sql/credential-tables.ts';
import { type EventTables, eventMigrations } from './adapters/sql/event-store.ts';
import { type LogTables, logMigrations } from './adapters/sql/log-tables.ts';
import { type OfferTables, offerMigrations } from './adapters/sql/offer-store.ts';
import { type ParticipantTables, participantMigrations } from './adapters/sql/participant-store.ts';
import { type Extension, extensionsPath, type Health } from './app.ts';
import type { BrokerConfig } from './config.ts';
import type { DeliverToHolder, Grants } from './credentials/ports.ts';
import { createIssuerRoutes } from './credentials/routes.ts';
import { createIssuer, type Issuer } from './credentials/service.ts';
import type { Operation } from './management/api.ts';
import { credentialOperations } from './management/operations.ts';

/** What both roles of this program are made of: one part of the composition root. */

export type BrokerTables = LogTables &
  ParticipantTables &
  CredentialTables &
  AccreditationTables &
  EventTables &
  OfferTables &
  AnchorTables &
  UsedTokenTable &
  LeaseTable;

export interface BaseOptions {
  readonly config: BrokerConfig;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: Random;
  /** For what no part can go on without. */
  readonly fail: Fail;
}

export interface Base extends BaseOptions {
  readonly own: Own;
  readonly did: Did;
  readonly keySet: KeySet;
  readonly keys: ParticipantKeys;
  /** The DID document, exactly as it is served. */
  readonly document: string;
  readonly db: Kysely<BrokerTables>;
  /** Other processes may work on these rows. */
  readonly isShared: boolean;
  readonly leases: Leases;
  readonly wakeups: Wakeups;
  readonly client: GuardedClient;
  readonly resolver: DidResolver;
  readonly tokens: TokenService;
  readonly shared: Shared;
  readonly deliver: DeliverToHolder;
  /** Who calls; the token is used up when it returns. @throws AppError `unauthenticated`. */
  readonly authenticate: (headers: Headers) => Promise<VerifiedCaller>;
  /** Wakes the outbox of every process. */
  readonly wake: () => void;
}

/** Word that tasks were added. */
export const outboxChannel = 'outbox';

/** What a role adds. */
export interface RoleParts {
  readonly info: BrokerInfo | undefined;
  readonly extensions: readonly Extension[];
  readonly health: () => Health;
  readonly routes: readonly Hono[];
  readonly operations: readonly Operation[];
  readonly handlers: Readonly<Record<string, TaskHandler>>;
  /**
   * Called once the servers answer: begins what needs that. Everything it gives back stops before the servers do: an open
   * stream would hold them up. Disposing that twice is harmless.
   */
  readonly begin: () => readonly AsyncDisposable[];
  /** Done now and then: forgets what is of no use any more. */
  readonly tidy: () => Promise<void>;
}

const issuerNeeds = { ...participantKeyNeeds, tokens: 'secret' } as const satisfies KeyNeeds;
const keyNeeds = {
  accreditor: issuerNeeds,
  broker: { ...issuerNeeds, log: 'Ed25519', registry: 'P-256', artifacts: 'secret' },
} as const satisfies Record<BrokerConfig['STEKKER_ROLE'], KeyNeeds>;

const openRows = async ({
  config,
  own,
  fail,
  log,
  clock,
}: BaseOptions & Pick<Base, 'own'>): Promise<Pick<Base, 'db' | 'isShared' | 'wakeups'>> => {
  const url = config.STEKKER_DATABASE_URL;
  const path = join(config.STEKKER_DATA, 'broker.sqlite');
  const { db, isShared } = own(await openDatabase<BrokerTables>({ url, path, log, fail }));
  await migrate(db, 'lease', leaseMigrations);
  await migrate(db, 'outbox', outboxMigrations);
  await migrate(db, 'used-tokens', usedTokenMigrations);
  await migrate(db, 'ledger', logMigrations);
  await migrate(db, 'registry', participantMigrations);
  await migrate(db, 'credentials', credentialMigrations);
  await migrate(db, 'accreditation', accreditationMigrations);
  await migrate(db, 'events', eventMigrations);
  await migrate(db, 'offers', offerMigrations);
  await migrate(db, 'anchoring', anchorMigrations);
  const wakeups = own(await openWakeups({ url, log, clock }));
  return { db, isShared, wakeups };
};

/** Keys, rows, the way out and the way to know who calls. */
export const openBase = async (options: BaseOptions, own: Own): Promise<Base> => {
  const { config, log, clock, random } = options;
  const origin = config.STEKKER_PUBLIC_URL;
  const allowLoopbackHttp = config.STEKKER_ALLOW_LOOPBACK_HTTP;
  const did = didOf(origin);
  const rows = await openRows({ ...options, own });
  const { db, wakeups } = rows;
  const leases = createLeases({ db, clock, holder: createIds(clock, random)() });
  const path = join(config.STEKKER_KEYS ?? join(config.STEKKER_DATA, 'keys'), `${config.STEKKER_ROLE}.json`);
  const passphrase = config.STEKKER_PASSPHRASE;
  // In turn: of processes that start for the first time at once one makes the keys, and the others find them.
  const keySet = await leasedTurns(leases, clock)('keys', () =>
    openKeys({ files: nodeFiles, path, passphrase, random, needs: keyNeeds[config.STEKKER_ROLE] }),
  );
  const keys = participantKeys(did, keySet);
  const services = { IssuerService: `${origin}/dcp`, StekkerExtensions: `${origin}${extensionsPath}` };
  const client = own(createGuardedClient({ allowLoopbackHttp }));
  const resolver = createDidResolver({ client, clock, allowLoopbackHttp });
  const tokens = createTokenService({ keys, clock, random });
  const name = `${config.STEKKER_ROLE}:${did}`;
  const shared = own(await openShared({ urls: config.STEKKER_REDIS_URLS, name, clock, log }));
  const callLimits = peerLimitsOf(config.STEKKER_PEER_CALLS_PER_MINUTE, config.STEKKER_ALL_CALLS_PER_MINUTE);
  const rate = createPeerRate(shared.limits, 'call', callLimits);
  const { authenticate } = createAuthenticator({ did, resolver, clock, used: sqlUsedTokens(db), rate });
  return {
    ...options,
    own,
    did,
    keySet,
    keys,
    document: JSON.stringify(buildDidDocument({ keys, services })),
    ...rows,
    leases,
    client,
    resolver,
    tokens,
    shared,
    deliver: createHolderDelivery({ client, tokens, resolver, log }),
    authenticate,
    wake: () => wakeups.notify(outboxChannel),
  };
};

/** The issuer service of this role, over the decisions that it grants from. */
export const composeIssuer = (base: Base, grants: Grants): Issuer => {
  const { db, keys, keySet, config, clock, random, log, deliver, wake } = base;
  return createIssuer({
    keys,
    origin: config.STEKKER_PUBLIC_URL,
    grants,
    requests: sqlRequestStore(db),
    credentials: sqlCredentialStore(db),
    notices: sqlNoticeStore(db),
    lists: sqlStatusListStore(db),
    deliver,
    seal: aesArtifactSeal(keySet.secret('tokens'), random),
    clock,
    random,
    log,
    wake,
  });
};

/** Surface and operations of the issuer, the same in both roles. */
export const issuerParts = ({ config, authenticate, log }: Base, issuer: Issuer) => ({
  routes: createIssuerRoutes({ issuer, origin: config.STEKKER_PUBLIC_URL, authenticate, log }),
  operations: credentialOperations(issuer),
});
