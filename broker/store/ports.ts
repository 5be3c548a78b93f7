import type { Did } from '../../contracts/ids.ts';
import type { StoreEntry, StoreOffer } from '../../contracts/store.ts';

/** What the store of offers needs from outside. Times in milliseconds. */

export interface Provider {
  readonly did: Did;
  readonly name: string;
}

/** A dataset with its offers, as a catalog showed it. */
export interface Listing {
  /** Short, and the same for the same provider and dataset. */
  readonly id: string;
  readonly dataset: string;
  readonly title: string;
  readonly description: string;
  readonly keywords: readonly string[];
  readonly offers: readonly StoreOffer[];
  /** Of everything above: an unchanged listing costs no more than a mark. */
  readonly digest: string;
  /** Normalised words it is found by, each once. */
  readonly words: readonly string[];
}

/** Where a word stands. */
export interface WordPlace {
  readonly word: string;
  readonly id: string;
}

/**
 * Listings by provider, found by words. Durable when a call returns; each listing is replaced whole, with its words. `run` marks
 * what one reading of a catalog saw.
 */
export interface OfferStore {
  readonly put: (
    provider: Provider,
    seen: { readonly run: string; readonly at: number },
    listings: readonly Listing[],
  ) => Promise<void>;
  /** Removes the provider's listings that this run did not see; the number of them. */
  readonly finish: (provider: Did, run: string) => Promise<number>;
  /** Removes a provider and everything of it. */
  readonly forget: (provider: Did) => Promise<void>;
  readonly providers: () => Promise<readonly Did[]>;
  readonly read: OfferReader;
}

/** The reading side. Each call costs what it returns, however many listings there are. */
export interface OfferReader {
  /** Places of words that begin with `prefix`, in order of word and id, behind `after`. */
  readonly scan: (prefix: string, after: WordPlace, limit: number) => Promise<readonly WordPlace[]>;
  /** For those of these listings that have a word with this beginning: the first such word. */
  readonly firstWords: (prefix: string, ids: readonly string[]) => Promise<ReadonlyMap<string, string>>;
  /** How many places a beginning has, counted no further than `max`. */
  readonly count: (prefix: string, max: number) => Promise<number>;
  /** Ids of all listings, in order, behind `after`. */
  readonly ids: (after: string, limit: number) => Promise<readonly string[]>;
  /** The listings of these ids that are there, in the order asked for. */
  readonly entries: (ids: readonly string[]) => Promise<readonly StoreEntry[]>;
}

/** Whose catalogs are read. */
export interface CatalogMembers {
  readonly list: () => Promise<readonly Provider[]>;
}

/** What reading one catalog may cost. */
export interface CatalogLimits {
  readonly maxPages: number;
  readonly maxPageBytes: number;
  readonly maxBytes: number;
  readonly maxMs: number;
}

/**
 * The datasets of a member's catalog, page by page, as they came; not more than the limits allow.
 *
 * @throws AppError `fetch-failed`, `address-refused` when the catalog cannot be read to its end.
 */
export type ReadCatalog = (member: Did, limits: CatalogLimits) => AsyncIterable<readonly unknown[]>;
