import type { NegotiationState } from '../../contracts/dsp/negotiation.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import type { CredentialFacts } from '../../contracts/vc/credential.ts';
import type { Mandate } from '../../policies/negotiate.ts';
import type { ProcessRow, ProcessStore } from '../exchange/ports.ts';
import type { NegotiationKind } from './machine.ts';

/** What a negotiation knows beside its state. */
export interface NegotiationData {
  readonly dataset: string;
  readonly offerId: string;
  /** The last offer, as it was sent, and by whom. */
  readonly offer: { readonly [key: string]: Json };
  readonly offerBy: 'provider' | 'consumer';
  /** `b64u H(JCS(offer))` of the provider's offers, in its order (wire §3). */
  readonly offers: readonly string[];
  readonly assurance: Assurance;
  /** Digest of the price plan, or empty. */
  readonly price: string;
  /**
   * Consumer: what its owner allows to agree to; `operator` leaves each answer to a person. Without one, a negotiation that the
   * provider began waits for a person, too.
   */
  readonly mandate?: Mandate | 'operator' | null;
  /** Consumer: digests of the rules that were asked for, first request first. */
  readonly asked?: readonly string[];
  readonly agreement: SignedAgreement | null;
  readonly status: AgreementStatus;
  /** When we signed, ms: what is not verified in time becomes void (wire §3). */
  readonly signedAt: number | null;
  /** Whether everybody here has heard that it is in force. */
  readonly announced: boolean;
  /** How it ended, or became void. */
  readonly end: AgreementEnd | null;
  /** The agreement that this one takes the place of once it is in force, and whether we have seen to it. */
  readonly amends?: { readonly agreement: string; readonly done: boolean };
  readonly ending: { readonly by: 'us' | 'peer'; readonly code: string; readonly reason: Json } | null;
}

/** Where an agreement stands, beside its negotiation, which stays FINALIZED for ever (dsp §12.3). */
export type AgreementStatus = 'none' | 'signed' | 'in-force' | 'ended' | 'superseded' | 'void';

export interface SignedAgreement {
  /** The `agreement` member as sent. */
  readonly agreement: { readonly [key: string]: Json };
  readonly digest: string;
  /** Null where the peer knows no extensions and we are the consumer. */
  readonly artifact: GeneralJws | null;
  /** Private JWK of the leaf key, until whoever registers the agreement keeps it. */
  readonly leafKey: PrivateJwk | null;
}

export type PrivateJwk = { readonly [member: string]: string };

/** The end of an agreement (wire §3, step 4; dsp §12.3). It holds on our side from the moment it is kept. */
export interface AgreementEnd {
  readonly event: 'void' | 'end';
  readonly by: 'us' | 'peer';
  readonly reason: string;
  /** ms */
  readonly effectiveAt: number;
  /** The agreement-event, with as many signatures as there are; null where we hold no signed agreement. */
  readonly artifact: GeneralJws | null;
  /** Until the peer and whoever registers it have it. */
  readonly leafKey: PrivateJwk | null;
  /** Whether nothing more has to be said to the peer. */
  readonly delivered: boolean;
  /** Whether it was handed over for registration, or there is nothing to hand over. */
  readonly settled: boolean;
  /** Decided by us in favour of a successor, and without effect until the peer has acknowledged it (dsp §12.3). */
  readonly waits?: boolean;
}

export type NegotiationRow = ProcessRow<NegotiationState, NegotiationKind, NegotiationData>;
export type NegotiationStore = ProcessStore<NegotiationState, NegotiationKind, NegotiationData>;

/** An offer as its owner published it: the rules without frame. */
export interface PublishedOffer {
  readonly id: string;
  readonly dataset: string;
  readonly rules: { readonly [key: string]: Json };
  readonly assurance: Assurance;
  readonly price: string;
}

/** Offers that this caller may see; one that it may not see looks like one that does not exist. */
export interface OfferBook {
  readonly find: (
    participant: ParticipantId,
    caller: Did,
    dataset: string,
    offer: string,
  ) => Promise<PublishedOffer | undefined>;
  /** All offers of a dataset, in the catalog's order. */
  readonly alternatives: (
    participant: ParticipantId,
    caller: Did,
    dataset: string,
  ) => Promise<readonly PublishedOffer[]>;
}

/** Under which published offer something is decided, where it is another than the one that was asked for. */
export interface Under {
  readonly offerId: string;
  readonly price: string;
}

export type Decision =
  | { readonly do: 'wait' }
  | { readonly do: 'offer'; readonly offer: { readonly [key: string]: Json }; readonly under?: Under }
  | { readonly do: 'request'; readonly offer: { readonly [key: string]: Json } }
  | { readonly do: 'agree'; readonly under?: Under }
  | { readonly do: 'accept' | 'verify' | 'finalize' }
  | { readonly do: 'terminate'; readonly code: string; readonly reason: readonly string[] };

/** What the owner wants next, given a process without a message under way. Deterministic in what it is given. */
export interface Decisions {
  /** Whether `next` asks nobody and takes no time: then a message is answered when it is known what follows from it. */
  readonly isPrompt?: boolean;
  readonly next: (row: NegotiationRow) => Promise<Decision>;
}

export type AgreementType = 'stekker-agreement+jws' | 'stekker-agreement-event+jws';

/** Signs agreements and their ends: with the participant's assertion key, and with a leaf key made for one artifact. */
export interface AgreementSigner {
  /** The protected header and signature of this participant over the payload. */
  readonly sign: (
    participant: ParticipantId,
    text: { readonly typ: AgreementType; readonly payload: string },
  ) => Promise<{ readonly protected: string; readonly signature: Uint8Array }>;
  readonly makeLeafKey: () => { readonly id: string; readonly privateJwk: PrivateJwk };
  /** How an artifact names a leaf key; undefined for what is no private P-256 key. */
  readonly leafKeyId: (privateJwk: PrivateJwk) => string | undefined;
  readonly randomBytes: (length: number) => Uint8Array;
  /** Whether the signature at this place is by a key that this DID publishes for assertions now. */
  readonly verify: (
    artifact: GeneralJws,
    signature: { readonly typ: AgreementType; readonly index: number; readonly did: Did },
  ) => Promise<boolean>;
}

/** The extension paths of a peer, or undefined when it has none (wire §1): a failed fetch never downgrades. */
export interface PeerExtensions {
  readonly agreements: (participant: ParticipantId, peer: Did) => Promise<string | undefined>;
}

/**
 * Hears of agreements that come into force and end; called again after a crash, so it must bear repeats. `inForce` comes
 * before `ended`, also for an agreement that had ended by then: what is registered later rests on it. Only when `inForce`
 * fails does `ended` not wait for it.
 */
export interface AgreementWatch {
  readonly inForce: (row: NegotiationRow) => Promise<void>;
  readonly ended: (row: NegotiationRow) => Promise<void>;
  /** The event in `row.data.end` has the signatures it will have: it can be registered. */
  readonly endSigned: (row: NegotiationRow) => Promise<void>;
}

/** Transfers that run under an agreement: each gets a TransferTerminationMessage (dsp §12.3). Bears repeats. */
export interface RunningTransfers {
  readonly end: (
    participant: ParticipantId,
    agreementId: string,
    why: { readonly code: string; readonly reason: readonly string[] },
  ) => Promise<void>;
}

/** Where an agreement stands in the broker's log, as promised; undefined before. */
export interface RegisteredAgreements {
  readonly find: (
    participant: ParticipantId,
    agreementDigest: string,
  ) => Promise<{ readonly index: number; readonly promise: GeneralJws } | undefined>;
}

/** What is proven of a peer by credentials that still stand; undefined when nothing is. */
export interface PeerFacts {
  readonly of: (participant: ParticipantId, peer: Did) => Promise<CredentialFacts | undefined>;
}
