import { Hono } from 'hono';
import { type StandingNotice, standingNoticeText } from '../../contracts/events.ts';
import type { Did } from '../../contracts/ids.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import { formatTime } from '../../contracts/time.ts';
import { signedBy } from '../../kernel/assertions.ts';
import { type Authenticator, createAuthenticator, createTokenService, type TokenService } from '../../kernel/auth.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { buildDidDocument, createDidResolver, type DidResolver, didOf } from '../../kernel/did.ts';
import { createGuardedClient, type GuardedClient } from '../../kernel/http/client.ts';
import { type RunningServer, serveRoutes } from '../../kernel/http/server.ts';
import type { ParticipantKeys } from '../../kernel/keys.ts';
import { systemRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { sqlUsedTokens, type UsedTokenTable, usedTokenMigrations } from '../../kernel/sql/used-tokens.ts';
import { freshKeys } from './identities.ts';

/** Parties with a DID, keys and a real server on loopback, for what broker and connectors say to each other. */

export interface HubParty extends AsyncDisposable {
  readonly did: Did;
  readonly origin: string;
  readonly keys: ParticipantKeys;
  readonly tokens: TokenService;
  readonly resolver: DidResolver;
  readonly client: GuardedClient;
  readonly authenticator: Authenticator;
  /** Sets what the server serves beside the DID document. */
  readonly serve: (routes: Hono) => void;
  /** Takes the server down, or up again on the same port. */
  readonly down: () => Promise<void>;
  readonly up: () => Promise<void>;
}

export interface HubPartyOptions {
  readonly clock?: Clock;
  readonly services?: (origin: string) => Readonly<Record<string, string>>;
}

/** Starts a party. */
export const startHubParty = async ({ clock = systemClock, services }: HubPartyOptions = {}): Promise<HubParty> => {
  const documents = new Map<'document', object>();
  let routes = new Hono();
  const app = new Hono();
  app.get('/.well-known/did.json', () => Response.json(documents.get('document') ?? {}));
  app.all('*', (context) => routes.fetch(context.req.raw));
  let server: RunningServer | undefined = await serveRoutes(app, { host: '127.0.0.1', port: 0 });
  const { port } = server;
  const origin = `http://localhost:${port}`;
  const did = didOf(origin);
  const keys = freshKeys(did);
  documents.set('document', buildDidDocument({ keys, services: services?.(origin) ?? {} }));
  const client = createGuardedClient({ allowLoopbackHttp: true });
  const resolver = createDidResolver({ client, clock, allowLoopbackHttp: true });
  const used = openSqlite<UsedTokenTable>({ path: ':memory:' });
  await migrate(used.db, 'used-tokens', usedTokenMigrations);
  return {
    did,
    origin,
    keys,
    client,
    resolver,
    tokens: createTokenService({ keys, clock, random: systemRandom }),
    authenticator: createAuthenticator({ did, resolver, clock, used: sqlUsedTokens(used.db) }),
    serve: (next) => {
      routes = next;
    },
    down: async () => {
      await server?.[Symbol.asyncDispose]();
      server = undefined;
    },
    up: async () => {
      server = await serveRoutes(app, { host: '127.0.0.1', port });
    },
    [Symbol.asyncDispose]: async () => {
      await client[Symbol.asyncDispose]();
      await server?.[Symbol.asyncDispose]();
      await used[Symbol.asyncDispose]();
    },
  };
};

/** An issuer's word about one of its credentials. */
export const noticeOf = (
  issuer: Pick<HubParty, 'keys' | 'did'>,
  notice: Partial<StandingNotice> & Pick<StandingNotice, 'type' | 'subject'>,
  now = systemClock.now(),
): GeneralJws => {
  const at = formatTime(now);
  const whole: StandingNotice = { v: 1, issuer: issuer.did, at, effectiveAt: at, reason: '', ...notice };
  return signedBy(issuer.keys, standingNoticeText(whole), 'stekker-event+jws');
};
