import type { Process } from '../../contracts/dsp/process.ts';
import type { DataAddress } from '../../contracts/dsp/transfer.ts';
import type { Fault } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json, JsonObject } from '../../contracts/json.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';
import type { PricePlan } from '../../contracts/ledger/price-plan.ts';
import type { Facts } from '../../policies/facts.ts';
import type { Mandate } from '../../policies/negotiate.ts';

/** What the operator's API asks of the rest of the connector. Each port is what one resource needs, and no more. */

/** At most `limit` things behind the key `after`; '' begins. */
export interface Page {
  readonly after: string;
  readonly limit: number;
}

// The owner's catalog

export type Upstream =
  | { readonly kind: 'http'; readonly url: string; readonly credential: { readonly name: string } | null }
  | { readonly kind: 'file' | 'folder'; readonly path: string };

export interface Asset {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly keywords: readonly string[];
  readonly extra: JsonObject;
  readonly upstream: Upstream;
  readonly createdAt: number;
}

export interface Offer {
  readonly id: string;
  readonly asset: string;
  readonly rules: JsonObject;
  readonly assurance: Assurance;
  readonly price: string;
  readonly silence: 'strict' | number;
  readonly createdAt: number;
  readonly withdrawnAt: number | null;
}

export interface DigestedPlan {
  readonly digest: string;
  readonly plan: PricePlan;
}

export interface OfferedAsset {
  readonly asset: Asset;
  readonly offers: readonly Offer[];
}

export type NewUpstream =
  | {
      readonly kind: 'http';
      readonly url: string;
      readonly credential?: { readonly name: string; readonly value: string } | undefined;
    }
  | { readonly kind: 'file' | 'folder'; readonly path: string };

export interface NewAsset {
  readonly id?: string | undefined;
  readonly title: string;
  readonly description?: string | undefined;
  readonly keywords?: readonly string[] | undefined;
  readonly extra?: JsonObject | undefined;
  readonly upstream: NewUpstream;
}

export interface NewOffer {
  readonly id?: string | undefined;
  readonly asset: string;
  readonly rules: JsonObject;
  readonly price?: string | undefined;
  readonly assurance?: Assurance | undefined;
  readonly silence?: 'strict' | number | undefined;
}

export interface Publication extends NewAsset {
  readonly mediaType?: string | undefined;
  readonly policy:
    | { readonly template: string; readonly parameters?: Readonly<Record<string, string>> | undefined }
    | { readonly rules: JsonObject };
  readonly price?:
    | {
        readonly currency: string;
        readonly scale: string;
        readonly lines: readonly { readonly unit: string; readonly quantity: string; readonly value: string }[];
        readonly notice?: string | undefined;
      }
    | undefined;
  readonly assurance?: Assurance | undefined;
  readonly silence?: 'strict' | number | undefined;
  readonly replace?: boolean | undefined;
}

export interface Published {
  readonly asset: Asset;
  readonly offer: Offer;
  readonly price: DigestedPlan | null;
  readonly withdrawn: readonly string[];
}

/** The owner's side of the catalog. Throws AppError with every fault of what was given. */
export interface OwnCatalog {
  readonly addAsset: (participant: ParticipantId, asset: NewAsset) => Promise<Asset>;
  readonly asset: (participant: ParticipantId, id: string) => Promise<OfferedAsset>;
  readonly assets: (participant: ParticipantId, page: Page) => Promise<readonly OfferedAsset[]>;
  readonly addPricePlan: (participant: ParticipantId, plan: Json) => Promise<DigestedPlan>;
  readonly pricePlan: (participant: ParticipantId, digest: string) => Promise<PricePlan>;
  readonly pricePlans: (participant: ParticipantId, page: Page) => Promise<readonly DigestedPlan[]>;
  readonly addOffer: (participant: ParticipantId, offer: NewOffer) => Promise<Offer>;
  readonly offer: (participant: ParticipantId, id: string) => Promise<Offer>;
  readonly offers: (participant: ParticipantId, page: Page) => Promise<readonly Offer[]>;
  readonly withdraw: (participant: ParticipantId, offer: string) => Promise<void>;
}

export interface Publisher {
  /** The same publication again gives the same ids. */
  readonly publish: (participant: ParticipantId, publication: Publication) => Promise<Published>;
  /** Faults of those members that are there. */
  readonly publicationFaults: (publication: Partial<Publication>) => Promise<readonly Fault[]>;
}

/** A policy template as its owner chooses it. */
export interface Template {
  readonly name: string;
  readonly title: Text;
  readonly about: Text;
  readonly parameters: Readonly<
    Record<string, { readonly about: Text; readonly example: string; readonly list?: boolean | undefined }>
  >;
}

export interface Text {
  readonly nl: string;
  readonly en: string;
}

// Other catalogs

export interface FoundOffer {
  readonly id: string;
  readonly rules: JsonObject;
  readonly assurance: Assurance;
  readonly price: string;
  readonly plan: PricePlan | null;
}

export interface FoundDataset {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly keywords: readonly string[];
  readonly formats: readonly string[];
  readonly offers: readonly FoundOffer[];
  readonly unreadable: readonly { readonly id: string; readonly why: string }[];
}

/** What a provider offers us, read from its own catalog. */
export interface OtherCatalogs {
  readonly page: (
    participant: ParticipantId,
    provider: Did,
    at?: string,
  ) => Promise<{ readonly datasets: readonly FoundDataset[]; readonly next: string | undefined }>;
  readonly dataset: (participant: ParticipantId, provider: Did, id: string) => Promise<FoundDataset>;
  readonly pricePlan: (participant: ParticipantId, provider: Did, offer: FoundOffer) => Promise<PricePlan | null>;
}

/** One dataset of the broker's store, as it was harvested. */
export interface StoreEntry {
  readonly provider: { readonly did: Did; readonly name: string };
  readonly dataset: FoundDataset;
  readonly harvestedAt: string;
}

/** The broker's store. Throws AppError `fetch-failed` when it does not answer, `not-found` without a broker. */
export interface StoreSearch {
  readonly search: (query: {
    readonly q: string;
    readonly cursor: string;
  }) => Promise<{ readonly entries: readonly StoreEntry[]; readonly next: string | undefined }>;
}

/** Where a provider takes messages. */
export interface ProviderBases {
  readonly base: (provider: Did) => Promise<string>;
}

// Processes

/** What an operator may see of a process; the services' own rows have more. */
interface ProcessRecord<Data> {
  readonly pid: string;
  readonly peer: Did;
  readonly peerPid: string | null;
  readonly process: Process<string, string>;
  readonly data: Data;
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** How a process ended before its goal, and who ended it. */
export interface Ending {
  readonly by: 'us' | 'peer';
  readonly code: string;
  readonly reason: Json;
}

export type NegotiationRecord = ProcessRecord<{
  readonly dataset: string;
  readonly offerId: string;
  readonly offer: JsonObject;
  readonly offerBy: 'provider' | 'consumer';
  readonly assurance: Assurance;
  readonly price: string;
  readonly mandate?: Mandate | 'operator' | null;
  readonly agreement: { readonly agreement: JsonObject; readonly digest: string } | null;
  readonly status: 'none' | 'signed' | 'in-force' | 'ended' | 'superseded' | 'void';
  readonly amends?: { readonly agreement: string };
  readonly ending: Ending | null;
}>;

export type NegotiationAction =
  | { readonly do: 'agree' | 'accept' | 'verify' | 'finalize' }
  | { readonly do: 'offer' | 'request'; readonly rules: JsonObject }
  | { readonly do: 'terminate'; readonly code: string; readonly reason: readonly string[] };

/** Negotiations of either role, in order of pid. `decide` throws AppError `illegal-transition` when the state does not take it. */
export interface Negotiations {
  readonly request: (terms: {
    readonly participant: ParticipantId;
    readonly provider: Did;
    readonly providerBase: string;
    readonly dataset: string;
    readonly offerId: string;
    readonly rules: JsonObject;
    readonly assurance: Assurance;
    readonly price: string;
    readonly ask?: JsonObject | undefined;
    readonly mandate?: Mandate | 'operator' | undefined;
    readonly amends?: string | undefined;
  }) => Promise<NegotiationRecord>;
  /** As provider, to a consumer who has not asked. */
  readonly offer: (terms: {
    readonly participant: ParticipantId;
    readonly consumer: Did;
    readonly consumerBase: string;
    readonly dataset: string;
    readonly offerId: string;
    readonly amends?: string | undefined;
  }) => Promise<NegotiationRecord>;
  readonly decide: (participant: ParticipantId, pid: string, action: NegotiationAction) => Promise<NegotiationRecord>;
  readonly find: (participant: ParticipantId, pid: string) => Promise<NegotiationRecord>;
  readonly findByAgreement: (participant: ParticipantId, agreementId: string) => Promise<NegotiationRecord | undefined>;
  readonly list: (participant: ParticipantId, page: Page) => Promise<readonly NegotiationRecord[]>;
}

export type TransferRecord = ProcessRecord<{
  readonly agreementId: string;
  readonly format: string;
  readonly dataAddress: DataAddress | null;
  readonly inbox?: { readonly received: ReceivedPush | null } | null;
  readonly ending: Ending | null;
}>;

/** What a provider pushed to us. */
export interface ReceivedPush {
  readonly bytes: number;
  /** hex */
  readonly sha256: string;
  readonly mediaType: string;
}

/** Its bytes, by transfer. @throws AppError `not-found`. */
export interface PushedContents {
  readonly read: (transfer: string) => Promise<{ readonly bytes: number; readonly body: AsyncIterable<Uint8Array> }>;
}

export type TransferAction =
  | { readonly do: 'start' | 'complete' }
  | { readonly do: 'suspend' | 'terminate'; readonly code: string; readonly reason: readonly string[] };

export interface Transfers {
  readonly request: (terms: {
    readonly participant: ParticipantId;
    readonly agreementId: string;
    readonly format: string;
    readonly providerBase: string;
  }) => Promise<TransferRecord>;
  readonly decide: (participant: ParticipantId, pid: string, action: TransferAction) => Promise<TransferRecord>;
  readonly find: (participant: ParticipantId, pid: string) => Promise<TransferRecord>;
  readonly list: (participant: ParticipantId, page: Page) => Promise<readonly TransferRecord[]>;
}

/** Ends an agreement from now on (dsp §12.3); the same again changes nothing. */
export interface AgreementEnds {
  readonly end: (participant: ParticipantId, agreementId: string, reason: string) => Promise<NegotiationRecord>;
}

/**
 * Which negotiations were begun for a dataset of a provider, and the transfer that runs under each: so that what was
 * acquired is used again. Durable; what it knows is checked against the processes themselves before it counts.
 */
export interface AcquisitionStore {
  readonly begun: (acquisition: {
    readonly participant: ParticipantId;
    readonly provider: Did;
    readonly dataset: string;
    readonly negotiation: string;
  }) => Promise<void>;
  readonly transferred: (participant: ParticipantId, negotiation: string, transfer: string) => Promise<void>;
  /** The newest first, at most `limit`. */
  readonly candidates: (
    participant: ParticipantId,
    provider: Did,
    dataset: string,
    limit: number,
  ) => Promise<readonly { readonly negotiation: string; readonly transfer: string | null }[]>;
  readonly forget: (participant: ParticipantId, negotiation: string) => Promise<void>;
}

// Identity

export interface HeldCredential {
  readonly id: string;
  readonly type: string;
  readonly issuer: Did;
  readonly validFrom: string;
  readonly validUntil: string;
  /** The claims about us. */
  readonly subject: JsonObject;
}

export interface CredentialRequest {
  readonly id: string;
  readonly issuer: Did;
  readonly type: string;
  readonly state: 'open' | 'received' | 'refused';
  /** Why it was refused, in the issuer's words; else empty. */
  readonly reason: string;
  readonly requestedAt: number;
}

/** Our own credentials, and what they prove. */
export interface Wallet {
  /** Registers our keys with the broker and asks for the membership; the same again after a lost answer succeeds. */
  readonly join: (
    participant: ParticipantId,
    code: string,
  ) => Promise<{ readonly broker: Did; readonly member: boolean }>;
  readonly credentials: (participant: ParticipantId) => Promise<readonly HeldCredential[]>;
  readonly requests: (participant: ParticipantId) => Promise<readonly CredentialRequest[]>;
  readonly request: (participant: ParticipantId, issuer: Did, type: string) => Promise<CredentialRequest>;
  /** What is known of ourselves when this application asks: recipient, membership, role, accreditation. */
  readonly facts: (participant: ParticipantId, application: string | undefined) => Promise<Facts>;
}

/** Own applications and their keys. A key is shown once, when it is made, and kept only as a hash. */
export interface Applications {
  readonly add: (participant: ParticipantId, application: string) => Promise<{ readonly key: string }>;
  readonly list: (participant: ParticipantId) => readonly { readonly id: string; readonly createdAt: number }[];
  /** From then on its key opens nothing. @throws AppError `not-found`. */
  readonly remove: (participant: ParticipantId, application: string) => Promise<void>;
}

// Evidence

/** What was used under one agreement by one application for one purpose, and what it costs so far. */
export interface UsageLine {
  /** Sorts after all lines of the page before. */
  readonly key: string;
  readonly role: 'provider' | 'consumer';
  readonly agreementId: string;
  readonly agreementDigest: string;
  readonly peer: Did;
  readonly dataset: string;
  readonly application: string;
  readonly purpose: string;
  readonly accesses: number;
  readonly bytes: number;
  /** Charged units as decimal strings. */
  readonly units: Readonly<Record<string, string>>;
  readonly currency: string;
  readonly scale: string;
  /** In units of 10^-scale, over what was recorded; statements settle it. */
  readonly amount: string;
}

export interface Usage {
  /** In order of key; `agreementId` chooses one agreement. */
  readonly lines: (
    participant: ParticipantId,
    page: Page & { readonly agreementId?: string | undefined },
  ) => Promise<readonly UsageLine[]>;
}

export interface Withholding {
  readonly context: boolean;
  readonly sums: boolean;
}

/** Receipt files, byte for byte as they verify (ledger §11). Throws AppError `not-yet` with the reason, `not-found`. */
export interface Receipts {
  readonly one: (participant: ParticipantId, request: string, withhold: Withholding) => Promise<string>;
  /** All of an agreement, packed by statement. */
  readonly packed: (
    participant: ParticipantId,
    agreementId: string,
    withhold: Withholding,
  ) => Promise<readonly string[]>;
}

/** What an operator wants to see first. */
export interface ConnectorStatus {
  readonly did: Did;
  readonly name: string;
  readonly publicUrl: string;
  readonly dataUrl: string;
  readonly gatewayUrl: string;
  readonly broker: string | null;
  readonly member: boolean;
  /** Why nothing would be served now; empty when all is well. */
  readonly troubles: readonly string[];
}

export interface Status {
  readonly read: (participant: ParticipantId) => Promise<ConnectorStatus>;
}
