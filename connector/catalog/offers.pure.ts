import { type CatalogOffer, catalogOffer, type Dataset } from '../../contracts/dsp/catalog.ts';
import { isJsonObject, type JsonObject } from '../../contracts/json.ts';
import { type Assurance, assurances } from '../../contracts/ledger/agreement.ts';
import { check } from '../../contracts/ledger/forms.ts';
import { type PricePlan, pricePlan, pricesIn } from '../../contracts/ledger/price-plan.ts';

/** How a consumer reads the datasets and offers of somebody else's catalog (dsp §4, wire §2, §3). */

/** An offer that can be asked for. */
export interface FoundOffer {
  readonly id: string;
  /** Permission, prohibition and obligation as the catalog showed them. */
  readonly rules: JsonObject;
  readonly assurance: Assurance;
  /** Digest of the price plan that its rules name, or empty. */
  readonly price: string;
  /** The plan, when the catalog showed it and it is the one of this digest. */
  readonly plan: PricePlan | null;
}

export interface FoundDataset {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly keywords: readonly string[];
  readonly formats: readonly string[];
  readonly offers: readonly FoundOffer[];
  /** Offers that cannot be asked for from here, and why. */
  readonly unreadable: readonly { readonly id: string; readonly why: string }[];
}

/** A text of DCAT: plain, tagged with a language, or a list of such; the first counts. */
export const firstText = (value: unknown): string => {
  if (typeof value === 'string') return value;
  if (Array.isArray(value)) return firstText(value[0]);
  return isJsonObject(value) && typeof value['@value'] === 'string' ? value['@value'] : '';
};

const texts = (value: unknown): readonly string[] =>
  (Array.isArray(value) ? value : [value]).map(firstText).filter((text) => text !== '');

/** Plans that a dataset shows, by the digest that they really have: what a catalog says of them proves nothing. */
const plansIn = (dataset: Dataset, digestOf: (plan: PricePlan) => string): ReadonlyMap<string, PricePlan> => {
  const shown = dataset['urn:stekker:1:pricePlans'];
  const plans = (Array.isArray(shown) ? shown : []).map((plan) => check(pricePlan, plan));
  return new Map(plans.flatMap((plan) => (plan.ok ? [[digestOf(plan.value), plan.value] as const] : [])));
};

const isAssurance = (value: unknown): value is Assurance => assurances.some((one) => one === value);

const rulesIn = (offer: CatalogOffer): JsonObject => {
  const { permission, prohibition, obligation } = offer;
  const lists = Object.entries({ permission, prohibition, obligation }).filter(([, list]) => list !== undefined);
  return Object.fromEntries(lists) as JsonObject; // parsed from JSON, so JSON
};

const readOffer = (
  shown: Dataset['hasPolicy'][number],
  plans: ReadonlyMap<string, PricePlan>,
): FoundOffer | { readonly id: string; readonly why: string } => {
  const id = shown['@id'];
  const read = catalogOffer.safeParse(shown);
  if (!read.success) return { id, why: `it is not in the standard's form: ${read.error.issues[0]?.message ?? ''}` };
  const offer = read.data;
  const assurance = offer['urn:stekker:1:assurance'] ?? 'plain-dsp';
  if (!isAssurance(assurance)) return { id, why: 'its assurance is none that is known here' };
  const prices = pricesIn(offer);
  if (prices.length > 1) return { id, why: 'it names several price plans' };
  const price = prices[0] ?? '';
  return { id, rules: rulesIn(offer), assurance, price, plan: plans.get(price) ?? null };
};

/** Reads a dataset that has the standard's form; offers that we could not keep to are set apart and named. */
export const readDataset = (dataset: Dataset, digestOf: (plan: PricePlan) => string): FoundDataset => {
  const plans = plansIn(dataset, digestOf);
  const read = dataset.hasPolicy.map((offer) => readOffer(offer, plans));
  return {
    id: dataset['@id'],
    title: firstText(dataset['dct:title'] ?? dataset.title),
    description: firstText(dataset['dct:description'] ?? dataset.description),
    keywords: texts(dataset['dcat:keyword'] ?? dataset.keyword),
    formats: dataset.distribution.map(({ format }) => format),
    offers: read.filter((offer) => 'rules' in offer),
    unreadable: read.filter((offer) => 'why' in offer),
  };
};

/** The address of the next page (RFC 8288 `Link`), or undefined on the last. */
export const nextLink = (link: string | undefined): string | undefined => {
  for (const [, url, parameters] of (link ?? '').matchAll(/<([^<>]*)>((?:\s*;\s*[^,<>"]*(?:"[^"]*")?)*)/g)) {
    const relations = /(?:^|;)\s*rel\s*=\s*"?([^";]*)"?/i.exec(parameters ?? '')?.[1]?.split(/\s+/);
    if (relations?.includes('next') === true) return url;
  }
  return undefined;
};
