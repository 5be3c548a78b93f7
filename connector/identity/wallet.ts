import { toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { type CredentialMessage, dcpMessage, type PresentationQueryMessage } from '../../contracts/dcp/messages.ts';
import { readScope } from '../../contracts/dcp/scope.ts';
import { AppError, type Fault } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { bad, type Checked, good } from '../../contracts/ledger/forms.ts';
import { parsePeerTime } from '../../contracts/time.ts';
import { type CredentialFacts, type CredentialType, factsOf, typeOf } from '../../contracts/vc/credential.ts';
import type { TokenService, VerifiedCaller } from '../../kernel/auth.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { DidResolver } from '../../kernel/did.ts';
import type { ParticipantKeys } from '../../kernel/keys.ts';
import type { Logger } from '../../kernel/log.ts';
import { presentAsJwt } from '../../kernel/vc/present.ts';
import { readJwtCredential, verifyJwtCredential } from '../../kernel/vc/verify.ts';
import type { CredentialRequest, CredentialStore, HeldCredential, OwnStanding } from './ports.ts';
import { deliveryFaults, matterOf, newestOfEach, scopesOf, shownTo } from './rules.ts';

/** The credential service of a participant (dcp §5): what it shows to verifiers and takes from issuers. */

/** A participant of this deployment, as far as the wallet needs it. */
export interface Holder {
  readonly keys: ParticipantKeys;
  readonly tokens: TokenService;
}

export interface WalletOptions {
  readonly store: CredentialStore;
  readonly holder: (participant: ParticipantId) => Holder;
  readonly resolver: DidResolver;
  readonly standing: OwnStanding;
  /** Whose credentials of a type we want to hold. */
  readonly trustedIssuers: (type: CredentialType) => readonly Did[];
  readonly clock: Clock;
  readonly newId: () => string;
  readonly log: Logger;
  /** Aliases of `org.eclipse.dspace.dcp.vc.type` that peers may use. */
  readonly typeAliases?: readonly string[];
}

export interface PresentationQuery {
  readonly verifier: Did;
  readonly granted: readonly string[];
  readonly message: PresentationQueryMessage;
}

export interface Wallet {
  /** The scopes that this caller's access token carries: it is one of ours, and its own. @throws AppError `unauthenticated`. */
  readonly grantedTo: (participant: ParticipantId, caller: VerifiedCaller) => readonly string[];
  /** The answer to a PresentationQueryMessage (dcp §5.1). @throws AppError `body-invalid`, `presentation-definition-unsupported`. */
  readonly present: (participant: ParticipantId, query: PresentationQuery) => Promise<object>;
  /** Takes a delivery (dcp §5.2). @throws AppError `not-found`, `unauthenticated`, `forbidden`, `body-invalid`. */
  readonly deliver: (participant: ParticipantId, caller: VerifiedCaller, message: CredentialMessage) => Promise<void>;
  /** Takes an offer (dcp §5.3); it is carried out later. @throws AppError `forbidden`, `too-many-requests`. */
  readonly offer: (
    participant: ParticipantId,
    caller: VerifiedCaller,
    offer: {
      readonly issuer: string;
      readonly objects: readonly { readonly id: string; readonly type: string | null }[];
    },
  ) => Promise<void>;
  /** Our own credentials that hold now, the newest of each matter. */
  readonly held: (participant: ParticipantId) => Promise<readonly HeldCredential[]>;
  /** What they prove, for decisions about ourselves. */
  readonly facts: (participant: ParticipantId) => Promise<CredentialFacts>;
}

export const tokenHash = (token: string): string => toBase64Url(nodeCrypto.sha256(utf8(token)));

const unauthenticated = (reason: string): AppError => new AppError('unauthenticated', { cause: new Error(reason) });

const held = async ({ store, clock, standing }: WalletOptions, participant: ParticipantId) => {
  const now = clock.now();
  return newestOfEach(await store.read.held(participant, now), now, standing.isGood);
};

const grantedTo = (
  { holder }: WalletOptions,
  participant: ParticipantId,
  caller: VerifiedCaller,
): readonly string[] => {
  const scopes = holder(participant).tokens.readAccessToken(caller.accessToken, caller.did);
  if (scopes === undefined) throw unauthenticated('the access token is not one of ours for this caller');
  return scopes;
};

const present = async (
  its: WalletOptions,
  participant: ParticipantId,
  { verifier, granted, message }: PresentationQuery,
): Promise<object> => {
  const aliases = its.typeAliases ?? [];
  const asked = scopesOf(message, aliases);
  const allowed = granted.map((scope) => readScope(scope, aliases)).filter((scope) => scope !== undefined);
  const jwts = shownTo(await held(its, participant), asked, allowed).map(({ jwt }) => jwt);
  const { keys } = its.holder(participant);
  const made = { keys, audience: verifier, jwts, now: its.clock.now(), jti: its.newId() };
  return dcpMessage('PresentationResponseMessage', {
    presentation: jwts.length === 0 ? [] : [await presentAsJwt(made)],
  });
};

interface Delivery {
  readonly participant: ParticipantId;
  readonly caller: VerifiedCaller;
  readonly message: CredentialMessage;
}

/** The request that a delivery answers: ours, to this issuer, with the token that went along (dcp §5.2). */
const requestFor = async (
  its: WalletOptions,
  { participant, caller, message }: Delivery,
): Promise<CredentialRequest> => {
  const request = await its.store.read.request(participant, message.holderPid);
  if (request === undefined || request.issuer !== caller.did) throw new AppError('not-found');
  const echoed = caller.accessToken === undefined ? '' : tokenHash(caller.accessToken);
  if (request.tokens.length > 0 && !request.tokens.includes(echoed))
    throw unauthenticated('the delivery does not echo the token of the request');
  if (!its.trustedIssuers(request.type).includes(caller.did))
    throw new AppError('forbidden', { detail: `${caller.did} is not trusted for ${request.type}` });
  return request;
};

/** One credential of a delivery, with everything it must be. */
const examine = async (
  its: WalletOptions,
  { participant, caller }: Delivery,
  { request, payload, type }: { readonly request: CredentialRequest; readonly payload: string; readonly type: string },
): Promise<Checked<HeldCredential>> => {
  const { resolver, clock } = its;
  const verified = await verifyJwtCredential(payload, { resolver, now: clock.now() });
  if (!verified.ok) return verified;
  const { value } = verified;
  if (value.issuer !== caller.did) return bad('is of another issuer than its sender');
  if (value.credentialSubject.id !== its.holder(participant).keys.did) return bad('is about another');
  if (typeOf(value) !== request.type || type !== request.type) return bad(`is no ${request.type}`);
  return good({
    participant,
    id: value.id,
    type: request.type,
    issuer: caller.did,
    matter: matterOf(value),
    jwt: payload,
    validFrom: parsePeerTime(value.validFrom) ?? 0,
    validUntil: parsePeerTime(value.validUntil) ?? 0,
    receivedAt: clock.now(),
  });
};

/** All credentials of a delivery, or all that is wrong with them: one that does not hold refuses the whole. */
const examineAll = async (
  its: WalletOptions,
  delivery: Delivery,
  request: CredentialRequest,
): Promise<HeldCredential[]> => {
  const faults: Fault[] = deliveryFaults(delivery.message);
  const good: HeldCredential[] = [];
  if (faults.length === 0) {
    for (const [index, { payload, credentialType }] of (delivery.message.credentials ?? []).entries()) {
      const result = await examine(its, delivery, { request, payload, type: credentialType });
      if (result.ok) good.push(result.value);
      else faults.push({ path: `/credentials/${index}/payload`, message: result.reason });
    }
  }
  if (faults.length > 0) throw new AppError('body-invalid', { faults });
  return good;
};

const deliver = async (its: WalletOptions, delivery: Delivery): Promise<void> => {
  const { participant, message, caller } = delivery;
  const request = await requestFor(its, delivery);
  const credentials = await examineAll(its, delivery, request);
  const { holderPid, status, rejectionReason = '' } = message;
  const settled = await its.store.settle({
    participant,
    holderPid,
    status,
    reason: rejectionReason,
    credentials,
    at: its.clock.now(),
  });
  if (settled === 'refused') throw new AppError('not-found'); // it is no open request any more
  const ids = credentials.map(({ id }) => id);
  its.log.info(
    { participant, issuer: caller.did, holderPid, status, ids, settled },
    'a credential request was answered',
  );
};

const isTrusted = ({ trustedIssuers }: WalletOptions, issuer: Did): boolean =>
  (['MembershipCredential', 'ApplicationAccreditationCredential'] as const).some((type) =>
    trustedIssuers(type).includes(issuer),
  );

/** The credential service of every participant of this deployment. */
export const createWallet = (its: WalletOptions): Wallet => ({
  grantedTo: (participant, caller) => grantedTo(its, participant, caller),
  present: (participant, query) => present(its, participant, query),
  deliver: (participant, caller, message) => deliver(its, { participant, caller, message }),
  offer: async (participant, caller, { issuer, objects }) => {
    if (issuer !== caller.did) throw new AppError('forbidden', { detail: 'an offer is made by its issuer' });
    if (!isTrusted(its, caller.did)) throw new AppError('forbidden', { detail: `${issuer} is not trusted here` });
    if (objects.length === 0) return;
    const offer = { participant, id: its.newId(), issuer: caller.did, objects, receivedAt: its.clock.now() };
    if ((await its.store.offers.put(offer)) === 'full')
      throw new AppError('too-many-requests', { detail: 'too many offers wait', retryAfterSeconds: 60 });
  },
  held: (participant) => held(its, participant),
  facts: async (participant) => {
    const credentials = (await held(its, participant)).map(({ jwt }) => readJwtCredential(jwt));
    return factsOf(credentials.flatMap((read) => (read.ok ? [read.value.value] : [])));
  },
});
