import { type CatalogOffer, catalogOffer, type Dataset, dataset } from '../../contracts/dsp/catalog.ts';
import { isJsonObject } from '../../contracts/json.ts';
import { type Assurance, assurances } from '../../contracts/ledger/agreement.ts';
import { check, hashOrNone } from '../../contracts/ledger/forms.ts';
import { type PricePlan, pricePlan } from '../../contracts/ledger/price-plan.ts';
import type { StoreOffer } from '../../contracts/store.ts';
import type { Listing } from './ports.ts';

/** How a dataset of somebody's catalog becomes a listing (dsp §4, wire §2, §3). What does not fit is left out, not cut to fit. */

const maxTitle = 500;
const maxDescription = 5_000;
const maxKeyword = 200;
const maxKeywords = 100;
const maxOffers = 100;
const maxOffersLength = 65_536;

/** A text of DCAT: plain, tagged with a language, or a list of such: then the Dutch one, else the first. */
const textOf = (value: unknown): string => {
  if (typeof value === 'string') return value;
  if (Array.isArray(value)) {
    const dutch = value.find((one) => isJsonObject(one) && one['@language'] === 'nl');
    return textOf(dutch ?? value[0]);
  }
  return isJsonObject(value) && typeof value['@value'] === 'string' ? value['@value'] : '';
};

const textsOf = (value: unknown): readonly string[] =>
  (Array.isArray(value) ? value : [value]).map(textOf).filter((text) => text !== '');

const isAssurance = (value: unknown): value is Assurance => assurances.some((one) => one === value);

/** Digests of the price plans that the obligations of an offer name (wire §2). */
const pricesIn = ({ obligation = [] }: CatalogOffer): readonly string[] => {
  const constraints = obligation.flatMap((rule) => (rule.constraint ?? []).filter((one) => 'leftOperand' in one));
  const named = constraints.filter((one) => one.leftOperand === 'urn:stekker:1:pricePlan');
  return [...new Set(named.flatMap((one) => textsOf(one.rightOperand)))];
};

/** Plans that a dataset shows, by the digest they really have: what a catalog says of them proves nothing. */
const plansIn = (shown: unknown, digestOf: (plan: PricePlan) => string): ReadonlyMap<string, PricePlan> => {
  const plans = (Array.isArray(shown) ? shown : []).map((plan) => check(pricePlan, plan));
  return new Map(plans.flatMap((plan) => (plan.ok ? [[digestOf(plan.value), plan.value] as const] : [])));
};

const readOffer = (
  shown: Dataset['hasPolicy'][number],
  plans: ReadonlyMap<string, PricePlan>,
): StoreOffer | undefined => {
  const read = catalogOffer.safeParse(shown);
  if (!read.success) return undefined;
  const offer = read.data;
  const assurance = offer['urn:stekker:1:assurance'] ?? 'plain-dsp';
  const prices = pricesIn(offer);
  const price = hashOrNone.safeParse(prices[0] ?? '');
  if (!isAssurance(assurance) || prices.length > 1 || !price.success) return undefined;
  const { permission, prohibition, obligation } = offer;
  const lists = Object.entries({ permission, prohibition, obligation }).filter(([, list]) => list !== undefined);
  const rules = Object.fromEntries(lists) as StoreOffer['rules']; // parsed from JSON, so JSON
  return { id: offer['@id'], rules, assurance, price: price.data, pricePlan: plans.get(price.data) ?? null };
};

export interface ListingTools {
  readonly idOf: (datasetId: string) => string;
  readonly digestOf: (text: string) => string;
  readonly planDigestOf: (plan: PricePlan) => string;
  readonly wordsOf: (texts: readonly string[]) => readonly string[];
}

const fits = (title: string, description: string, offers: readonly StoreOffer[]): boolean =>
  title.length <= maxTitle &&
  description.length <= maxDescription &&
  offers.length > 0 &&
  offers.length <= maxOffers &&
  JSON.stringify(offers).length <= maxOffersLength;

const listingOf = (shown: Dataset, tools: ListingTools): Listing | undefined => {
  const plans = plansIn(shown['urn:stekker:1:pricePlans'], tools.planDigestOf);
  const offers = shown.hasPolicy.map((offer) => readOffer(offer, plans)).filter((offer) => offer !== undefined);
  const id = shown['@id'];
  const title = textOf(shown['dct:title'] ?? shown.title);
  const description = textOf(shown['dct:description'] ?? shown.description);
  const keywords = textsOf(shown['dcat:keyword'] ?? shown.keyword)
    .filter((word) => word.length <= maxKeyword)
    .slice(0, maxKeywords);
  if (!fits(title, description, offers)) return undefined;
  const content = { dataset: id, title, description, keywords, offers };
  return {
    id: tools.idOf(id),
    ...content,
    digest: tools.digestOf(JSON.stringify(content)),
    words: tools.wordsOf([title, ...keywords, id, description]),
  };
};

/** The listings among what a catalog's page shows; one that cannot be read spoils only itself. */
export const readListings = (
  datasets: readonly unknown[],
  tools: ListingTools,
): { readonly listings: readonly Listing[]; readonly skipped: number } => {
  const byId = new Map<string, Listing>();
  for (const value of datasets) {
    const read = dataset.safeParse(value);
    const listing = read.success ? listingOf(read.data, tools) : undefined;
    if (listing !== undefined) byId.set(listing.id, listing);
  }
  return { listings: [...byId.values()], skipped: datasets.length - byId.size };
};
