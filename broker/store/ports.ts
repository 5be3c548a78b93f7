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

/** Where the changes of a catalog are read on, and when all of it was read last. */
export interface Followed {
  readonly cursor: string;
  readonly crawledAt: number;
}

/** Where a word stands. */
export interface WordPlace {
  readonly word: string;
  readonly id: string;
}

/** What became of one catalog. `fault` is null when it was read to its end. */
export interface Harvested {
  readonly provider: Did;
  readonly at: number;
  readonly datasets: number;
  /** Datasets that could not be read. */
  readonly skipped: number;
  readonly removed: number;
  readonly fault: string | null;
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
  /** Removes those of a provider's listings; the number of them. */
  readonly remove: (provider: Did, ids: readonly string[]) => Promise<number>;
  /** Where we stand in the changes of a provider's catalog; undefined when it must be read as a whole. */
  readonly followed: (provider: Did) => Promise<Followed | undefined>;
  readonly keepFollowed: (provider: Did, followed: Followed | undefined) => Promise<void>;
  /** Removes a provider and everything of it, results too. */
  readonly forget: (provider: Did) => Promise<void>;
  readonly providers: () => Promise<readonly Did[]>;
  /** Keeps what became of a catalog, in the place of what was kept of it before. */
  readonly keepResult: (result: Harvested) => Promise<void>;
  /** What became of each catalog last, in order of provider. */
  readonly results: () => Promise<readonly Harvested[]>;
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

/** What changed: datasets as they look now, and ids of those that are no longer shown to us. */
export interface ChangedDatasets {
  readonly shown: readonly { readonly id: string; readonly dataset: unknown }[];
  readonly removed: readonly string[];
  /** Where to go on when these have been taken. */
  readonly cursor: string;
}

/** The changes of members' catalogs, for members that announce such a feed (dsp §12.4). */
export interface CatalogFeeds {
  /** From where on all changes will be told; undefined when the member announces no feed. */
  readonly begin: (member: Did) => Promise<string | undefined>;
  /**
   * What changed behind a cursor, page by page.
   *
   * @throws AppError `cursor-expired` when the catalog must be read as a whole, others when the feed cannot be read on.
   */
  readonly follow: (member: Did, cursor: string, limits: CatalogLimits) => AsyncIterable<ChangedDatasets>;
}
