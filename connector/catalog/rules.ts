import { dspaceContext } from '../../contracts/dsp/common.ts';
import type { Fault } from '../../contracts/errors.ts';
import type { Json, JsonObject } from '../../contracts/json.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';
import type { PricePlan } from '../../contracts/ledger/price-plan.ts';
import { fullIri, shortName } from '../../policies/terms.ts';
import type { Asset, Offer } from './ports.ts';

/** How assets and offers look in a catalog (dsp §4, wire §1–§3). */

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

const formats = { cosigned: ['StekkerHttp-PULL'], 'plain-dsp': ['HttpData-PULL', 'HttpData-PUSH'] } as const;

export const serviceId = (base: string): string => `${base}#service`;

const showOffer = (offer: Offer): JsonObject => ({
  '@type': 'Offer',
  '@id': offer.id,
  ...offer.rules,
  ...(offer.assurance === 'plain-dsp' ? {} : { 'urn:stekker:1:assurance': offer.assurance }),
});

/** The plans that offers name, each once, in the order in which they are named. */
const namedPlans = (offers: readonly Offer[], plans: ReadonlyMap<string, PricePlan>): readonly PricePlan[] =>
  [...new Set(offers.map(({ price }) => price))]
    .map((digest) => plans.get(digest))
    .filter((plan) => plan !== undefined);

/** A dataset with the offers this caller may see; `plans` has the price plans they name. */
export const showDataset = (
  asset: Asset,
  offers: readonly Offer[],
  shown: { readonly base: string; readonly plans: ReadonlyMap<string, PricePlan> },
): JsonObject => {
  const plans = namedPlans(offers, shown.plans);
  return {
    '@type': 'Dataset',
    '@id': asset.id,
    'dct:title': asset.title,
    ...(asset.description === '' ? {} : { 'dct:description': asset.description }),
    ...(asset.keywords.length === 0 ? {} : { 'dcat:keyword': [...asset.keywords] }),
    ...asset.extra,
    hasPolicy: offers.map(showOffer),
    distribution: [...new Set(offers.flatMap((offer) => formats[offer.assurance]))].map((format) => ({
      '@type': 'Distribution',
      format,
      accessService: serviceId(shown.base),
    })),
    ...(plans.length === 0 ? {} : { 'urn:stekker:1:pricePlans': plans as readonly Json[] }),
  };
};

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

/** Units that this connector counts (wire §2); a plan with another would charge for something nobody measures. */
const units = ['requests', 'bytes', 'items'];
/** Only features of this media type are counted as items. */
const countedType = 'application/geo+json';

export const mediaTypeMember = 'dcat:mediaType';

/** Why a plan cannot price an asset of this media type; paths below `lines`. */
export const unitFaults = (plan: Pick<PricePlan, 'lines'>, mediaType: unknown): readonly Fault[] =>
  plan.lines.flatMap(({ unit }, index): Fault[] => {
    const path = `/lines/${index}/unit`;
    if (!units.includes(unit)) return [{ path, message: `${unit} is not counted here; ${units.join(', ')} are` }];
    return unit === 'items' && mediaType !== countedType
      ? [{ path, message: `items are counted only in ${countedType}; say so with the asset's media type` }]
      : [];
  });

/** Facts that only a token of the full protocol brings (wire §3). */
const tokenOperands = new Set([
  'http://www.w3.org/ns/odrl/2/purpose',
  'urn:stekker:1:accreditedFor',
  'urn:stekker:1:applicationVersion',
]);

const operandsIn = (value: Json): readonly string[] => {
  if (typeof value !== 'object' || value === null) return [];
  const parts: readonly Json[] = Array.isArray(value) ? value : Object.values(value);
  const own = !Array.isArray(value) && 'leftOperand' in value ? value.leftOperand : undefined;
  return [...(typeof own === 'string' ? [fullIri(own)] : []), ...parts.flatMap(operandsIn)];
};

/** Under `plain-dsp` nobody declares a purpose or names an application, so a policy cannot ask for them (wire §3). */
export const assuranceFaults = (rules: JsonObject, assurance: Assurance): readonly Fault[] => {
  if (assurance === 'cosigned') return [];
  const asked = [...new Set(operandsIn(rules).filter((operand) => tokenOperands.has(operand)))];
  return asked.map((operand) => ({
    path: '/assurance',
    message: `plain-dsp carries no ${shortName(operand)}, which the policy asks for`,
  }));
};
