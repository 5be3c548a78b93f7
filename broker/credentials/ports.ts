import type { Did } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import type { Credential, CredentialSubject, CredentialType, StatusPurpose } from '../../contracts/vc/credential.ts';

/** What an issuer keeps and needs: requests (dcp §6), what it issued in both forms, status lists, and whom it tells. */

/** Something that may be issued to a holder, as somebody else decided it: the register, or an accreditor. */
export interface Grant {
  /** Stable: credentials for the same grant replace each other. */
  readonly key: string;
  readonly type: CredentialType;
  readonly subject: CredentialSubject;
  /** When it was last decided, ms: a revocation before this moment does not stand in the way. */
  readonly since: number;
  /** How long a credential made now may last, ms. */
  readonly validUntil: number;
}

/** Decisions on which credentials rest. Answers are of this moment: a membership that ended grants nothing. */
export interface Grants {
  /** The kinds that this issuer gives at all; the metadata names them. */
  readonly types: readonly CredentialType[];
  /** Everything of one kind that the holder may have. */
  readonly ofType: (holder: Did, type: CredentialType) => Promise<readonly Grant[]>;
  /** The one grant that an offer of ours named to this holder; undefined for everybody else. */
  readonly ofOffer: (holder: Did, id: string) => Promise<Grant | undefined>;
}

export type RequestState = 'RECEIVED' | 'ISSUED' | 'REJECTED';

/** A request for credentials, from the message to the delivery. */
export interface IssuanceRequest {
  readonly issuer: Did;
  /** Our `issuerPid`. */
  readonly id: string;
  readonly holder: Did;
  /** The holder's name for it; several requests may carry the same. */
  readonly holderPid: string;
  /** Ids of the credential objects asked for. */
  readonly objects: readonly string[];
  /** The token that the delivery must echo, sealed; null when the request had none. */
  readonly token: string | null;
  readonly state: RequestState;
  /** Ids of the credentials to deliver; empty means that the request was refused; null: not decided yet. */
  readonly decision: readonly string[] | null;
  readonly createdAt: number;
  readonly settledAt: number | null;
}

/** Requests. Durable when a call returns; what asks for work puts its task in the same transaction. */
export interface RequestStore {
  /** Keeps a new request and asks for its decision; `full` when the holder has too many open ones. */
  readonly receive: (request: IssuanceRequest, maxOpen: number) => Promise<'received' | 'full'>;
  readonly find: (issuer: Did, id: string) => Promise<IssuanceRequest | undefined>;
  /**
   * Fixes the decision once, with the credentials that were made for it. `outdated` when one of them no longer fits: its
   * place in a list is taken, or another credential was made for the same grant. `decided` when the decision stands
   * already. Neither changes anything.
   */
  readonly decide: (
    request: Pick<IssuanceRequest, 'issuer' | 'id'>,
    decision: readonly string[],
    made: readonly MadeCredential[],
  ) => Promise<'saved' | 'decided' | 'outdated'>;
  /** The final state; of two that settle, the first counts. */
  readonly settle: (
    request: Pick<IssuanceRequest, 'issuer' | 'id'>,
    state: 'ISSUED' | 'REJECTED',
    at: number,
  ) => Promise<void>;
  /** Removes what was settled before this moment. */
  readonly forget: (issuer: Did, before: number) => Promise<void>;
}

export type Standing = 'active' | 'suspended' | 'revoked';

/** Where the status of a credential stands: one list and index for each purpose. */
export type Places = Readonly<Record<StatusPurpose, { readonly list: number; readonly index: number }>>;

/** One credential in both forms, made from one canonical JSON (credentials §3). */
export interface IssuedCredential {
  readonly issuer: Did;
  readonly id: string;
  readonly grant: string;
  readonly holder: Did;
  readonly type: CredentialType;
  readonly credential: Credential;
  /** The form that is delivered. */
  readonly jwt: string;
  readonly dataIntegrity: Json;
  readonly places: Places;
  readonly issuedAt: number;
  readonly validUntil: number;
  readonly standing: Standing;
  /** When the standing last changed; never twice the same moment. */
  readonly standingAt: number;
  readonly version: number;
}

/** A new credential, and how many there were for its holder and grant when it was made. */
export interface MadeCredential {
  readonly credential: IssuedCredential;
  readonly before: number;
}

/** A change of standing in the issuer's own words, until it was passed on. */
export interface Notice {
  readonly issuer: Did;
  /** Id of the credential. */
  readonly subject: string;
  /** The version of the credential that it made. */
  readonly version: number;
  readonly jws: GeneralJws;
}

/** What was issued. Nothing is ever removed: a revocation must stand as long as its credential could be shown. */
export interface CredentialStore {
  readonly find: (issuer: Did, id: string) => Promise<IssuedCredential | undefined>;
  /** Everything issued for one grant to one holder, newest first. */
  readonly ofGrant: (issuer: Did, holder: Did, grant: string) => Promise<readonly IssuedCredential[]>;
  /** In order of id, behind `after`; of one holder when it is given. */
  readonly page: (
    issuer: Did,
    page: { readonly after: string; readonly limit: number; readonly holder?: Did },
  ) => Promise<readonly IssuedCredential[]>;
  /** One transaction: the new standing against the version that was read, the lists it stands in, the notice, its task. */
  readonly change: (next: IssuedCredential, notice: Notice) => Promise<'saved' | 'conflict'>;
}

/** Notices in the order in which they were made, for each credential. */
export interface NoticeStore {
  readonly waiting: (issuer: Did, subject: string) => Promise<readonly Notice[]>;
  readonly published: (notice: Notice) => Promise<void>;
}

export interface StatusList {
  readonly purpose: StatusPurpose;
  readonly list: number;
  /** Grows with each change of a bit. */
  readonly version: number;
}

/** Status lists: their bits are the standing of the credentials that have a place in them, and nothing else. */
export interface StatusListStore {
  /** The list that new credentials go into: it has less than `maxUsed` places taken. Made when there is none. */
  readonly open: (issuer: Did, purpose: StatusPurpose, maxUsed: number) => Promise<number>;
  readonly isFree: (
    issuer: Did,
    place: { readonly purpose: StatusPurpose; readonly list: number; readonly index: number },
  ) => Promise<boolean>;
  readonly find: (issuer: Did, purpose: StatusPurpose, list: number) => Promise<StatusList | undefined>;
  /** Indexes whose bit is set. */
  readonly marked: (issuer: Did, purpose: StatusPurpose, list: number) => Promise<readonly number[]>;
}

export type Delivery = 'accepted' | 'refused' | 'unreachable';

/** Sends a message to the credential service in the holder's DID document, with an SI token that echoes `token`. */
export type DeliverToHolder = (
  holder: Did,
  path: '/credentials' | '/offers',
  message: { readonly body: Json; readonly token: string | null },
) => Promise<Delivery>;

/**
 * Tells those who must hear of a change at once (wire §7). Resolves when the notice will not be lost any more; a repeat
 * is harmless. Throws when it could not be handed over: then it is tried again.
 */
export interface StandingPublisher {
  readonly publish: (notice: GeneralJws) => Promise<void>;
}

/** Holders' tokens at rest. */
export interface TokenSeal {
  readonly seal: (text: string, label: string) => string;
  /** Undefined when it was changed, or sealed with another key or label. */
  readonly open: (sealed: string, label: string) => string | undefined;
}
