import { toBase64Url, utf8 } from '../contracts/bytes.ts';
import type { Did, ParticipantId } from '../contracts/ids.ts';
import { jwsText } from '../contracts/ledger/jws.ts';
import type { CredentialType } from '../contracts/vc/credential.ts';
import { nodeCrypto } from '../kernel/crypto.ts';
import { createPresentationVerifier } from '../kernel/vc/presentation-verifier.ts';
import { createEventStream } from './adapters/http/event-stream.ts';
import { createSqlCredentialStore, createSqlJoinStore } from './adapters/sql/credential-store.ts';
import { createSqlPeerFactsStore } from './adapters/sql/peer-facts-store.ts';
import { createSqlStatusStore } from './adapters/sql/status-store.ts';
import type { Base } from './base.ts';
import type { OwnKeyEvents } from './evidence/ports.ts';
import { createCallerAuthentication, createPartyAuthentication } from './identity/authentication.ts';
import { createJoining } from './identity/joining.ts';
import type { JoinStore, PeerFactsStore } from './identity/ports.ts';
import { createCredentialRequests } from './identity/requesting.ts';
import { createDocumentRoutes, createIdentityRoutes } from './identity/routes.ts';
import { createWallet } from './identity/wallet.ts';
import { partOf } from './parts.ts';
import { type Status, startStatus, statusWithoutBroker } from './status/service.ts';

/** Who we are and who calls: wallet, presentations, and what the broker says of everybody's standing. */

/** Whose credentials of a type count: memberships are the broker's, accreditations those of the accreditors we name. */
const trustedIssuersOf =
  ({ broker, config }: Base) =>
  (type: CredentialType): readonly Did[] => {
    if (type === 'ApplicationAccreditationCredential') return config.STEKKER_ACCREDITORS.map((did) => did as Did);
    return broker === undefined ? [] : [broker.did];
  };

/** Who issued the credentials that were verified here; what is forgotten is learnt again with the next presentation. */
const maxIssuers = 50_000;

const createIssuerBook = () => {
  const issuers = new Map<string, Did>();
  return {
    issuerOf: (credential: string) => issuers.get(credential),
    learn: (credential: string, issuer: Did): void => {
      if (issuers.size >= maxIssuers) issuers.clear();
      issuers.set(credential, issuer);
    },
  };
};

const followBroker = async (base: Base, issuerOf: (credential: string) => Did | undefined): Promise<Status> => {
  const { broker, participant, client, tokens, db, config } = base;
  if (broker === undefined) return statusWithoutBroker;
  return base.own(
    await startStatus({
      ...base,
      participant,
      broker: broker.did,
      accreditors: config.STEKKER_ACCREDITORS.map((did) => did as Did),
      issuerOf,
      store: createSqlStatusStore(db),
      open: createEventStream({ client, tokens, broker: broker.did, url: `${broker.origin}/events` }),
    }),
  );
};

/** A word about a credential reaches everything that rests on it, at once. */
const passOn = (
  { log, resolver }: Base,
  status: Status,
  caches: {
    readonly presentations: { readonly forget: (credential: string) => void };
    readonly peerFacts: PeerFactsStore;
  },
): void =>
  status.onStanding(({ type, subject }) => {
    if (type === 'keys') {
      resolver.refresh(subject as Did).catch((error: unknown) => log.warn({ error, subject }, 'no new keys were had'));
      return;
    }
    caches.presentations.forget(subject);
    caches.peerFacts
      .forgetCredential(subject)
      .catch((error: unknown) => log.error({ error, subject }, 'what is known of a peer was not forgotten'));
  });

/** Which key events in the log are our own. */
const ownKeyEvents = ({ did, participant, broker }: Base, joins: JoinStore): OwnKeyEvents => ({
  participantOf: (of) => (of === did ? participant : undefined),
  made: async (by: ParticipantId, hash) => {
    const join = broker === undefined ? undefined : await joins.find(by, broker.did);
    return join !== undefined && toBase64Url(nodeCrypto.sha256(utf8(jwsText(join.artifact)))) === hash;
  },
});

/** Our DID document alone. */
export const documentRoutes = ({ participantOf, document }: Base) =>
  createDocumentRoutes({ participantOf, document: () => document });

export const composeIdentity = async (base: Base) => {
  const { db, did, keys, tokens, resolver, client, clock, used, log, newId, broker, authenticator, document } = base;
  const trustedIssuers = trustedIssuersOf(base);
  const issuers = createIssuerBook();
  const status = await followBroker(base, issuers.issuerOf);
  const store = createSqlCredentialStore(db);
  const joins = createSqlJoinStore(db);
  const peerFacts = createSqlPeerFactsStore(db, clock);
  const { learn } = issuers;
  const presentations = createPresentationVerifier({
    did,
    tokens,
    resolver,
    client,
    clock,
    used,
    trustedIssuers,
    learn,
  });
  passOn(base, status, { presentations, peerFacts });
  const standing = { isGood: (credential: string) => !status.isSuspended(credential) };
  const walletOptions = {
    store,
    holder: () => ({ keys, tokens }),
    resolver,
    standing,
    trustedIssuers,
    clock,
    newId,
    log,
  };
  const wallet = createWallet(walletOptions);
  const requests = createCredentialRequests({ ...walletOptions, client, wake: base.wake });
  const joining = createJoining({
    joins,
    keys: () => keys,
    document: () => document,
    transport: base.transport,
    requests,
    clock,
    newId,
    log,
  });
  return {
    status,
    issuerOf: issuers.issuerOf,
    wallet,
    store,
    requests,
    joining,
    peerFacts,
    presentations,
    ownKeys: ownKeyEvents(base, joins),
    /** For DSP paths: members. */
    authenticate: partOf(
      base.parts.authenticate,
      createCallerAuthentication({
        authenticator: () => authenticator,
        presentations: () => presentations,
        peers: peerFacts,
        used,
        broker: broker?.did,
      }),
    ),
    /** For extension paths: parties. */
    authenticateParty: createPartyAuthentication({ authenticator: () => authenticator, used }),
    routes: createIdentityRoutes({
      wallet,
      authenticator: () => authenticator,
      participantOf: base.participantOf,
      document: () => document,
      wake: base.wake,
      log,
    }),
    handlers: requests.handlers,
  };
};

export type Identity = Awaited<ReturnType<typeof composeIdentity>>;
