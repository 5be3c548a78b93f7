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

/**
 * Durable when a call returns. Ids are the owner's own; the same id again with other content is a conflict. Only the sealed
 * credential of a source may be another one: the newest counts.
 */
export interface CatalogStore {
  readonly putAsset: (asset: Asset) => Promise<'saved' | 'conflict'>;
  readonly putPricePlan: (participant: ParticipantId, digest: string, plan: PricePlan) => Promise<void>;
  readonly putOffer: (offer: Offer) => Promise<'saved' | 'conflict'>;
  /** From now on nobody finds it; agreements that were made stand. */
  readonly withdraw: (participant: ParticipantId, offer: string, at: number) => Promise<boolean>;
  readonly read: CatalogReader;
}

/** The reading side of the same store. */
export interface CatalogReader {
  readonly asset: (participant: ParticipantId, id: string) => Promise<OfferedAsset | undefined>;
  readonly offer: (participant: ParticipantId, id: string) => Promise<Offer | undefined>;
  readonly pricePlan: (participant: ParticipantId, digest: string) => Promise<PricePlan | undefined>;
  /** Assets with at least one standing offer, in order of id, behind `after`. */
  readonly page: (participant: ParticipantId, page: Page) => Promise<readonly OfferedAsset[]>;
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

/** Whether a caller may see an offer: its policy at the moment of the catalog, and its assurance (wire §3). */
export interface Visibility {
  readonly sees: (participant: ParticipantId, caller: Did, offer: Offer) => Promise<boolean>;
}

/** Keeps secrets of the owner readable only here. */
export interface Seal {
  readonly seal: (text: string) => string;
}

/** Where providers take messages and show price plans (wire §1, §2). Throws AppError when that cannot be found out. */
export interface Providers {
  readonly base: (provider: Did) => Promise<string>;
  readonly pricePlan: (provider: Did, digest: string) => Promise<string | undefined>;
}
