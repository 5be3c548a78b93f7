import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';
import type { PricePlan } from '../../contracts/ledger/price-plan.ts';

/** What an owner offers: assets, price plans, and offers that join them with a policy. */

/** Where the bytes of an asset come from. */
export type Upstream =
  | {
      readonly kind: 'http';
      /** Everything below this address, without trailing slash. */
      readonly url: string;
      /** A header that the source asks for, sealed; the consumer never sees it. */
      readonly credential: { readonly name: string; readonly sealed: string } | null;
    }
  | { readonly kind: 'file' | 'folder'; readonly path: string };

export interface Asset {
  readonly participant: ParticipantId;
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly keywords: readonly string[];
  /** Further DCAT members, shown as they are. */
  readonly extra: { readonly [key: string]: Json };
  readonly upstream: Upstream;
  readonly createdAt: number;
}

export interface Offer {
  readonly participant: ParticipantId;
  readonly id: string;
  readonly asset: string;
  /** Rules as they go into the catalog, price obligation included. */
  readonly rules: { readonly [key: string]: Json };
  readonly assurance: Assurance;
  /** Digest of the price plan, or empty. */
  readonly price: string;
  /** What happens when the broker is silent: `strict`, or how long access goes on, in milliseconds (wire §7). */
  readonly silence: 'strict' | number;
  readonly createdAt: number;
  readonly withdrawnAt: number | null;
}

/** One asset with the offers that stand. */
export interface OfferedAsset {
  readonly asset: Asset;
  readonly offers: readonly Offer[];
}

/** Whom the catalog shows an offer, from some time on. */
export interface Showing {
  /** DIDs, or '' for everybody. Nobody else sees it; of these, some may be refused still. */
  readonly readers: readonly string[];
  /** The next time at which this may change, ms; null when it never does. */
  readonly turnsAt: number | null;
}

/** A standing offer whose time has come: its policy may let others through than it did. */
export interface DueOffer {
  readonly offer: Offer;
  readonly turnsAt: number;
}

/**
 * Durable when a call returns. Ids are the owner's own; the same id again with other content is a conflict. Only the sealed
 * credential of a source may be another one: the newest counts. What changes an offer and what the feed says of it are one
 * transaction, and the changes of a participant are numbered in the order in which they can be read.
 */
export interface CatalogStore {
  readonly putAsset: (asset: Asset) => Promise<'saved' | 'conflict'>;
  readonly putPricePlan: (participant: ParticipantId, digest: string, plan: PricePlan) => Promise<void>;
  readonly putOffer: (offer: Offer, showing: Showing) => Promise<'saved' | 'conflict'>;
  /** From now on nobody finds it; agreements that were made stand. */
  readonly withdraw: (participant: ParticipantId, offer: string, at: number) => Promise<boolean>;
  /** Shows a due offer to others from now on; false when somebody else did, or it was withdrawn. */
  readonly turn: (due: DueOffer, showing: Showing, at: number) => Promise<boolean>;
  /** Forgets changes before this time, at most `limit`; how many. Whoever had not read them must read the whole catalog. */
  readonly forgetChanges: (participant: ParticipantId, before: number, limit: number) => Promise<number>;
  readonly read: CatalogReader;
}

/** Which rows of the catalog a caller may be shown. */
export interface Seen {
  /** '' for what everybody sees, and the caller's DID. */
  readonly readers: readonly string[];
  readonly assurances: readonly Assurance[];
}

/** A stretch of the catalog in order of id, without the key it begins or ends at; `before` is read backwards. */
export type Stretch =
  | { readonly after: string; readonly limit: number }
  | { readonly before: string; readonly limit: number };

/** A dataset that changed with change `seq`: it may have looked otherwise at `wasAt`, just before, than at `at`. Times in ms. */
export interface CatalogChange {
  readonly seq: number;
  readonly dataset: string;
  readonly wasAt: number;
  readonly at: number;
}

/** What was on offer of a dataset, before and with a change. */
export interface ChangedOffers {
  readonly asset: Asset;
  readonly before: readonly Offer[];
  readonly after: readonly Offer[];
}

/** The reading side of the same store. */
export interface CatalogReader {
  readonly asset: (participant: ParticipantId, id: string) => Promise<OfferedAsset | undefined>;
  readonly offer: (participant: ParticipantId, id: string) => Promise<Offer | undefined>;
  readonly pricePlan: (participant: ParticipantId, digest: string) => Promise<PricePlan | undefined>;
  /** Those of these plans that are there, by digest. */
  readonly plans: (participant: ParticipantId, digests: readonly string[]) => Promise<ReadonlyMap<string, PricePlan>>;
  /** Assets with at least one offer that is shown to this caller, in order of id. It costs what it returns. */
  readonly page: (participant: ParticipantId, seen: Seen, stretch: Stretch) => Promise<readonly OfferedAsset[]>;
  /** Standing offers of all participants that are due, the longest due first. */
  readonly due: (now: number, limit: number) => Promise<readonly DueOffer[]>;
  /** The numbers of the last change, and of the last that is forgotten. */
  readonly head: (participant: ParticipantId) => Promise<{ readonly head: number; readonly forgotten: number }>;
  /** Changes behind `after`, in order. */
  readonly changes: (participant: ParticipantId, after: number, limit: number) => Promise<readonly CatalogChange[]>;
  /** The dataset of a change, as it was offered before and with it. */
  readonly changed: (participant: ParticipantId, change: CatalogChange) => Promise<ChangedOffers | undefined>;
  /** The owner's own view, each in order of id or digest: everything that was put, on offer or not. */
  readonly assets: (participant: ParticipantId, page: Page) => Promise<readonly OfferedAsset[]>;
  readonly offers: (participant: ParticipantId, page: Page) => Promise<readonly Offer[]>;
  readonly pricePlans: (participant: ParticipantId, page: Page) => Promise<readonly DigestedPlan[]>;
}

/** At most `limit` things behind the key `after`; '' begins. */
export interface Page {
  readonly after: string;
  readonly limit: number;
}

export interface DigestedPlan {
  readonly digest: string;
  readonly plan: PricePlan;
}

/** Who looks at the catalog. */
export interface Viewer {
  readonly did: Did;
  /** Whether a `cosigned` agreement can be made with it: it knows our extensions, and we serve them. */
  readonly canCosign: boolean;
}

/** Who sees which offer: its policy at the moment of the catalog, and its assurance (wire §3). */
export interface Visibility {
  readonly viewer: (participant: ParticipantId, caller: Did) => Promise<Viewer>;
  /** The answer that counts. */
  readonly sees: (viewer: Viewer, offer: Offer, at: number) => boolean;
  /** The same for all callers at once, as far as it can be told: whom `sees` can be true for from `at` until it turns. */
  readonly showing: (rules: Offer['rules'], at: number) => Showing;
}

/** Keeps secrets of the owner readable only here. */
export interface Seal {
  readonly seal: (text: string) => string;
}

/** Makes texts that only we can make and read: what they say of the catalog is nobody else's. */
export interface CursorSeal extends Seal {
  /** @throws AppError for what was not sealed here. */
  readonly unseal: (sealed: string) => string;
}

/** Where providers take messages and show price plans (wire §1, §2). Throws AppError when that cannot be found out. */
export interface Providers {
  readonly base: (provider: Did) => Promise<string>;
  readonly pricePlan: (provider: Did, digest: string) => Promise<string | undefined>;
}
