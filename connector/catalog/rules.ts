import { dspaceContext } from '../../contracts/dsp/common.ts';
import type { Json } from '../../contracts/json.ts';
import type { PricePlan } from '../../contracts/ledger/price-plan.ts';
import type { Asset, Offer } from './ports.ts';

/** How assets and offers look in a catalog (dsp §4, wire §1–§3). */

type JsonObject = { readonly [key: string]: Json };

/** The obligation that fixes a price plan in a policy (wire §2): negotiated and signed with it. */
export const priceObligation = (digest: string): JsonObject => ({
  action: 'odrl:compensate',
  constraint: [{ leftOperand: 'urn:stekker:1:pricePlan', operator: 'eq', rightOperand: digest }],
});

/** Rules with the price's obligation added; without a price they stay as they are. */
export const withPrice = (rules: JsonObject, digest: string): JsonObject => {
  if (digest === '') return rules;
  const obligations = Array.isArray(rules.obligation) ? rules.obligation : [];
  return { ...rules, obligation: [...obligations, priceObligation(digest)] };
};

const formats = { cosigned: 'StekkerHttp-PULL', 'plain-dsp': 'HttpData-PULL' } as const;

export const serviceId = (base: string): string => `${base}#service`;

const showOffer = (offer: Offer): JsonObject => ({
  '@type': 'Offer',
  '@id': offer.id,
  ...offer.rules,
  'urn:stekker:1:assurance': offer.assurance,
});

/** A dataset with the offers this caller may see; `plans` are the price plans they name. */
export const showDataset = (
  asset: Asset,
  offers: readonly Offer[],
  shown: { readonly base: string; readonly plans: readonly PricePlan[] },
): JsonObject => ({
  '@type': 'Dataset',
  '@id': asset.id,
  'dct:title': asset.title,
  ...(asset.description === '' ? {} : { 'dct:description': asset.description }),
  ...(asset.keywords.length === 0 ? {} : { 'dcat:keyword': [...asset.keywords] }),
  ...asset.extra,
  hasPolicy: offers.map(showOffer),
  distribution: [...new Set(offers.map((offer) => formats[offer.assurance]))].map((format) => ({
    '@type': 'Distribution',
    format,
    accessService: serviceId(shown.base),
  })),
  ...(shown.plans.length === 0 ? {} : { 'urn:stekker:1:pricePlans': shown.plans as readonly Json[] }),
});

interface Shown {
  readonly base: string;
  readonly did: string;
  readonly title: string;
}

export const showCatalog = ({ base, did, title }: Shown, datasets: readonly JsonObject[]): JsonObject => ({
  '@context': [dspaceContext],
  '@type': 'Catalog',
  '@id': `${base}/catalog`,
  participantId: did,
  'dct:title': title,
  service: [
    { '@type': 'DataService', '@id': serviceId(base), endpointURL: base, endpointDescription: 'dspace:connector' },
  ],
  ...(datasets.length === 0 ? {} : { dataset: datasets }),
});
