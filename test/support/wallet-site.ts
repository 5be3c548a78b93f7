import type { Kysely } from 'kysely';
import { createPeerTransport } from '../../connector/adapters/http/peer-transport.ts';
import {
  createSqlCredentialStore,
  createSqlJoinStore,
  type IdentityTables,
  identityMigrations,
} from '../../connector/adapters/sql/credential-store.ts';
import { createSqlPeerFactsStore } from '../../connector/adapters/sql/peer-facts-store.ts';
import type { Authenticate } from '../../connector/exchange/http.ts';
import type { PeerTransport } from '../../connector/exchange/ports.ts';
import { createCallerAuthentication } from '../../connector/identity/authentication.ts';
import { createJoining, type Joining } from '../../connector/identity/joining.ts';
import type { CredentialStore, JoinStore, PeerFactsStore } from '../../connector/identity/ports.ts';
import { type CredentialRequests, createCredentialRequests } from '../../connector/identity/requesting.ts';
import { createIdentityRoutes } from '../../connector/identity/routes.ts';
import { createWallet, type Wallet } from '../../connector/identity/wallet.ts';
import { scopeOfType } from '../../contracts/dcp/scope.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { CredentialType } from '../../contracts/vc/credential.ts';
import type { Authenticator, TokenService } from '../../kernel/auth.ts';
import { createAuthenticator, createTokenService } from '../../kernel/auth.ts';
import type { Clock } from '../../kernel/clock.ts';
import { createDidResolver, type DidResolver } from '../../kernel/did.ts';
import { createGuardedClient, type GuardedClient } from '../../kernel/http/client.ts';
import { silentLogger } from '../../kernel/log.ts';
import { createIds, systemRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { outboxMigrations, startOutbox } from '../../kernel/sql/outbox.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { sqlUsedTokens, type UsedTokenTable, usedTokenMigrations } from '../../kernel/sql/used-tokens.ts';
import { createPresentationVerifier } from '../../kernel/vc/presentation-verifier.ts';
import type { PresentationVerifier } from '../../kernel/vc/presentations.ts';
import { type Site, startSite } from './sites.ts';

/** A connector's identity part as it is deployed: real servers, rows in memory, its outbox running. */

export const tenant = 'main' as ParticipantId;

type Tables = IdentityTables & UsedTokenTable;

export interface WalletSite extends AsyncDisposable {
  readonly site: Site;
  readonly did: Did;
  readonly store: CredentialStore;
  readonly joins: JoinStore;
  readonly peers: PeerFactsStore;
  readonly wallet: Wallet;
  readonly requests: CredentialRequests;
  readonly joining: Joining;
  readonly presentations: PresentationVerifier;
  readonly authenticator: Authenticator;
  readonly authenticate: Authenticate;
  readonly tokens: TokenService;
  readonly client: GuardedClient;
  readonly resolver: DidResolver;
  readonly db: Kysely<Tables>;
  /** Ids of own credentials that the broker's events took the standing from. */
  readonly lost: Set<string>;
}

export interface WalletSiteOptions {
  readonly byte: number;
  readonly clock: Clock;
  readonly trustedIssuers: (type: CredentialType) => readonly Did[];
  /** What a network may do to messages. */
  readonly network?: (transport: PeerTransport) => PeerTransport;
}

const openRows = async () => {
  const database = openSqlite<Tables>({ path: ':memory:' });
  await migrate(database.db, 'outbox', outboxMigrations as never);
  await migrate(database.db, 'used-tokens', usedTokenMigrations as never);
  await migrate(database.db, 'identity', identityMigrations as never);
  return database;
};

export const startWalletSite = async (options: WalletSiteOptions): Promise<WalletSite> => {
  const { byte, clock, trustedIssuers } = options;
  const site = await startSite({ byte, services: { CredentialService: '/dcp' }, servesDocument: false });
  const { keys, did } = site;
  const database = await openRows();
  const db = database.db as unknown as Kysely<IdentityTables>;
  const client = createGuardedClient({ allowLoopbackHttp: true });
  const resolver = createDidResolver({ client, clock, allowLoopbackHttp: true });
  const used = sqlUsedTokens(database.db as unknown as Kysely<UsedTokenTable>);
  const tokens = createTokenService({ keys, clock, random: systemRandom });
  const authenticator = createAuthenticator({ did, resolver, clock, used });
  const ids = createIds(clock, systemRandom);
  const newId = () => `urn:uuid:${ids()}`;
  const store = createSqlCredentialStore(db);
  const joins = createSqlJoinStore(db);
  const peers = createSqlPeerFactsStore(db, clock);
  const lost = new Set<string>();
  let wake: () => void = () => undefined;
  const shared = {
    store,
    holder: () => ({ keys, tokens }),
    resolver,
    standing: { isGood: (id: string) => !lost.has(id) },
    trustedIssuers,
    clock,
    newId,
    log: silentLogger,
  };
  const wallet = createWallet(shared);
  const requests = createCredentialRequests({ ...shared, client, wake: () => wake() });
  const scopes = [scopeOfType('MembershipCredential')];
  const document = () => JSON.stringify(site.document);
  const joining = createJoining({
    joins,
    keys: () => keys,
    document,
    transport: (options.network ?? ((transport) => transport))(
      createPeerTransport({ client, tokens: () => tokens, scopes, random: systemRandom }),
    ),
    requests,
    clock,
    newId,
    log: silentLogger,
  });
  const presentations = createPresentationVerifier({ did, tokens, resolver, client, clock, used, trustedIssuers });
  site.app.route(
    '/',
    createIdentityRoutes({
      wallet,
      authenticator: () => authenticator,
      participantOf: (request) => (new URL(request.url).pathname.startsWith('/t/') ? undefined : tenant),
      document,
      wake: () => wake(),
      log: silentLogger,
    }),
  );
  const worker = startOutbox({
    db: db as never,
    clock,
    random: systemRandom,
    log: silentLogger,
    pollMs: 20,
    handlers: requests.handlers,
  });
  wake = () => worker.wake();
  return {
    site,
    did,
    store,
    joins,
    peers,
    wallet,
    requests,
    joining,
    presentations,
    authenticator,
    authenticate: (participant, headers, purpose) =>
      createCallerAuthentication({
        authenticator: () => authenticator,
        presentations: () => presentations,
        peers,
        used,
        broker: 'did:web:broker.example' as Did, // in a data space with a broker nobody is known without credentials
      })(participant, headers, purpose),
    tokens,
    client,
    resolver,
    db: database.db,
    lost,
    [Symbol.asyncDispose]: async () => {
      await worker[Symbol.asyncDispose]();
      await site[Symbol.asyncDispose]();
      await client[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
    },
  };
};
