import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import type { CredentialFacts, CredentialType } from '../../contracts/vc/credential.ts';

/** What the wallet of a participant keeps, and what is remembered of others. */

/** A credential of ours, as it was delivered and verified. */
export interface HeldCredential {
  readonly participant: ParticipantId;
  readonly id: string;
  readonly type: CredentialType;
  readonly issuer: Did;
  /** What it speaks about: of two with the same subject matter the newer one counts. */
  readonly matter: string;
  readonly jwt: string;
  readonly validFrom: number;
  readonly validUntil: number;
  readonly receivedAt: number;
}

/** A credential that we asked an issuer for (dcp §6). */
export interface CredentialRequest {
  readonly participant: ParticipantId;
  /** Our own name for it: the delivery names it again. */
  readonly holderPid: string;
  readonly issuer: Did;
  readonly type: CredentialType;
  /** The issuer's id of what is asked for; empty when it must be looked up in its metadata. */
  readonly object: string;
  readonly status: 'OPEN' | 'ISSUED' | 'REJECTED';
  /** Where the issuer tells how it stands; null until the issuer has accepted the request. */
  readonly statusUrl: string | null;
  /** Hashes of the access tokens that went along: a delivery echoes one of them. */
  readonly tokens: readonly string[];
  /** Why it was rejected, in the issuer's words. */
  readonly reason: string;
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** What an issuer that we trust has to offer; handled later, then dropped. */
export interface CredentialOffer {
  readonly participant: ParticipantId;
  readonly id: string;
  readonly issuer: Did;
  readonly objects: readonly { readonly id: string; readonly type: string | null }[];
  readonly receivedAt: number;
}

/** What became of a request: one delivery, whole. */
export interface Settlement {
  readonly participant: ParticipantId;
  readonly holderPid: string;
  readonly status: 'ISSUED' | 'REJECTED';
  readonly reason: string;
  readonly credentials: readonly HeldCredential[];
  readonly at: number;
}

/** Durable and atomic. Each request and each offer brings its task, so that it is carried out also after a crash. */
export interface CredentialStore {
  /** One that is there under the same name stays as it is. */
  readonly addRequest: (request: CredentialRequest) => Promise<void>;
  /** Before a request is sent: the hash of the access token that goes along. */
  readonly noteAttempt: (participant: ParticipantId, holderPid: string, tokenHash: string) => Promise<void>;
  /** The issuer has accepted the request. */
  readonly noteAccepted: (participant: ParticipantId, holderPid: string, statusUrl: string) => Promise<void>;
  /**
   * Credentials and the end of the request together. `repeated` when the request ended the same way with the same
   * credentials before; `refused` when it ended otherwise: then nothing changes.
   */
  readonly settle: (settlement: Settlement) => Promise<'settled' | 'repeated' | 'refused'>;
  readonly offers: OfferStore;
  readonly read: WalletReader;
}

/** Offers that wait; `full` when a participant has as many as it may. */
export interface OfferStore {
  readonly put: (offer: CredentialOffer) => Promise<'saved' | 'full'>;
  readonly find: (participant: ParticipantId, id: string) => Promise<CredentialOffer | undefined>;
  readonly remove: (participant: ParticipantId, id: string) => Promise<void>;
}

export interface WalletReader {
  readonly request: (participant: ParticipantId, holderPid: string) => Promise<CredentialRequest | undefined>;
  /** Newest first, at most `limit`. */
  readonly requests: (participant: ParticipantId, limit: number) => Promise<readonly CredentialRequest[]>;
  /** Requests to an issuer that are open and were made since `since`. */
  readonly open: (participant: ParticipantId, issuer: Did, since: number) => Promise<readonly CredentialRequest[]>;
  /** All credentials whose validity has not ended at `now`, newest first. */
  readonly held: (participant: ParticipantId, now: number) => Promise<readonly HeldCredential[]>;
}

/** Our first key event in a log: made once and kept, because a repeat must be the same bytes (ledger §4). */
export interface JoinRecord {
  readonly participant: ParticipantId;
  readonly broker: Did;
  /** The DID document inside it, as served. */
  readonly document: string;
  readonly artifact: GeneralJws;
  /** Whether another artifact was sent before this one, whose fate is not known. */
  readonly isReplaced: boolean;
  readonly registeredAt: number | null;
}

/** Durable when a call returns. */
export interface JoinStore {
  readonly find: (participant: ParticipantId, broker: Did) => Promise<JoinRecord | undefined>;
  readonly put: (record: JoinRecord) => Promise<void>;
}

/**
 * What callers proved by credentials, kept for decisions that come after their request: catalog, negotiation. Durable;
 * facts that have expired are not returned.
 */
export interface PeerFactsStore {
  readonly remember: (participant: ParticipantId, did: Did, facts: CredentialFacts) => Promise<void>;
  readonly of: (participant: ParticipantId, did: Did) => Promise<CredentialFacts | undefined>;
  /** Forgets everything that rests on this credential, for all participants. */
  readonly forgetCredential: (credentialId: string) => Promise<void>;
}

/** What the broker's events say of our own credentials (wire §7); local and immediate. */
export interface OwnStanding {
  /** False for a credential that was revoked or is suspended. */
  readonly isGood: (credentialId: string) => boolean;
}
