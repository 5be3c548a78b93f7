import { toHex, utf8 } from '../../contracts/bytes.ts';
import { AppError, type Fault } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { canonicalize, type Json, type JsonObject } from '../../contracts/json.ts';
import { pricePlan } from '../../contracts/ledger/price-plan.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { faultsOf } from '../../kernel/http/body.ts';
import { fillTemplate, type PolicyTemplate } from '../../policies/template.ts';
import {
  type NewAsset,
  type NewOffer,
  type Owning,
  type OwningOptions,
  rulesFaults,
  upstreamFaults,
} from './owning.ts';
import type { Asset, DigestedPlan, Offer } from './ports.ts';
import { mediaTypeMember, unitFaults, withPrice } from './rules.ts';

/**
 * Asset, policy, price and offer in one step. Everything is checked before anything is stored; what is stored comes in
 * an order in which a crash leaves nothing that others see; and ids follow from the content, so that the same call again
 * finishes the work and never does it twice.
 */

/** A policy by the name of a template and its parameters, or by its own rules. */
export type PublishedPolicy =
  | { readonly template: string; readonly parameters?: Readonly<Record<string, string>> | undefined }
  | { readonly rules: JsonObject };

export interface PublishedPrice {
  readonly currency: string;
  readonly scale: string;
  readonly lines: readonly { readonly unit: string; readonly quantity: string; readonly value: string }[];
  readonly notice?: string | undefined;
}

export interface Publication extends Omit<NewAsset, 'id'>, Pick<NewOffer, 'assurance' | 'silence'> {
  /** The dataset's id; without one it follows from the content. */
  readonly id?: string | undefined;
  /** Media type of what the upstream gives; shown in the catalog. */
  readonly mediaType?: string | undefined;
  readonly policy: PublishedPolicy;
  readonly price?: PublishedPrice | undefined;
  /** Withdraw every other offer of the same dataset. */
  readonly replace?: boolean | undefined;
}

export interface Published {
  readonly asset: Asset;
  readonly offer: Offer;
  readonly price: DigestedPlan | null;
  /** Offers of the dataset that this one replaced. */
  readonly withdrawn: readonly string[];
}

export interface Publishing {
  /** @throws AppError `body-invalid` with all faults at once, `version-conflict` when the id is taken by something else. */
  readonly publish: (participant: ParticipantId, publication: Publication) => Promise<Published>;
  /** Everything wrong with those members that are there, and nothing stored: for a body that has other faults as well. */
  readonly publicationFaults: (publication: Partial<Publication>) => Promise<readonly Fault[]>;
}

export interface PublishingOptions extends OwningOptions {
  readonly owning: Owning;
  /** A policy template by its name. */
  readonly template: (name: string) => PolicyTemplate | undefined;
  readonly self: (participant: ParticipantId) => { readonly did: Did };
}

/** A UUIDv8 (RFC 9562 §5.8) that follows from what it names. */
const derivedId = (content: Json): string => {
  const bytes = nodeCrypto.sha256(utf8(canonicalize(content))).slice(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  return `urn:uuid:${toHex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')}`;
};

/** A plan in the form that is digested. */
const planOf = ({ currency, scale, lines, notice }: PublishedPrice): JsonObject => ({
  v: 1,
  type: 'price-plan',
  currency,
  scale,
  lines: lines.map(({ unit, quantity, value }) => ({ unit, quantity, value })),
  notice: notice ?? '',
  free: lines.length === 0,
});

const under = (path: string, faults: readonly Fault[]): readonly Fault[] =>
  faults.map((fault) => ({ path: `${path}${fault.path}`, message: fault.message }));

const filled = (
  { template }: PublishingOptions,
  policy: PublishedPolicy,
): { readonly rules: JsonObject | undefined; readonly faults: readonly Fault[] } => {
  if ('rules' in policy) return { rules: policy.rules, faults: [] };
  const found = template(policy.template);
  if (found === undefined) {
    const message = `there is no template ${policy.template}; GET /v1/policy-templates lists them`;
    return { rules: undefined, faults: [{ path: '/policy/template', message }] };
  }
  try {
    return { rules: fillTemplate(found, policy.parameters ?? {}) as JsonObject, faults: [] };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { rules: undefined, faults: under('/policy/parameters', error.faults) };
  }
};

const policyFaults = (options: PublishingOptions, publication: Partial<Publication>): readonly Fault[] => {
  const { policy, assurance = 'cosigned' } = publication;
  if (policy === undefined) return [];
  const { rules, faults } = filled(options, policy);
  if (rules === undefined) return faults;
  const place = (fault: Fault): Fault =>
    fault.path === '/assurance' ? fault : { ...fault, path: `/policy${fault.path}` };
  return rulesFaults(options, rules, assurance).map(place);
};

const priceFaults = ({ price, mediaType, extra }: Partial<Publication>): readonly Fault[] => {
  if (price === undefined) return [];
  const plan = pricePlan.safeParse(planOf(price));
  if (!plan.success) return under('/price', faultsOf(plan.error));
  return under('/price', unitFaults(plan.data, mediaType ?? extra?.[mediaTypeMember]));
};

const publicationFaults = async (
  options: PublishingOptions,
  publication: Partial<Publication>,
): Promise<readonly Fault[]> => [
  ...(publication.upstream === undefined ? [] : (await upstreamFaults(options, publication.upstream)).faults),
  ...policyFaults(options, publication),
  ...priceFaults(publication),
];

/** What of an asset its id follows from: all but the secret of the source. */
const identityOf = (asset: Omit<NewAsset, 'id'>): Json => {
  const { upstream, ...rest } = asset;
  const bare =
    upstream.kind === 'http'
      ? { kind: upstream.kind, url: upstream.url, header: upstream.credential?.name ?? '' }
      : upstream;
  const members = Object.entries({ ...rest, upstream: bare }).filter(([, value]) => value !== undefined);
  return Object.fromEntries(members) as Json;
};

const assetOf = (did: Did, publication: Publication): NewAsset & { readonly id: string } => {
  const { title, description, keywords, upstream, mediaType } = publication;
  const extra = { ...publication.extra, ...(mediaType === undefined ? {} : { [mediaTypeMember]: mediaType }) };
  const asset = { title, description, keywords, extra, upstream };
  return { ...asset, id: publication.id ?? derivedId(['asset', did, identityOf(asset)]) };
};

/**
 * The id of an offer with these terms: the same for the same terms, unless an offer of that id was withdrawn before. Ids
 * are never used again, so the next one follows.
 */
const offerId = async ({ store }: PublishingOptions, participant: ParticipantId, terms: Json): Promise<string> => {
  for (let generation = 0; ; generation += 1) {
    const id = derivedId(['offer', terms, generation]);
    const kept = await store.read.offer(participant, id);
    if (kept === undefined || kept.withdrawnAt === null) return id;
  }
};

const withdrawOthers = async (
  { owning }: PublishingOptions,
  participant: ParticipantId,
  offer: Offer,
): Promise<readonly string[]> => {
  const { offers } = await owning.asset(participant, offer.asset);
  const others = offers.map(({ id }) => id).filter((id) => id !== offer.id);
  for (const id of others) await owning.withdraw(participant, id);
  return others;
};

const publish = async (
  options: PublishingOptions,
  participant: ParticipantId,
  publication: Publication,
): Promise<Published> => {
  const faults = await publicationFaults(options, publication);
  const { rules } = filled(options, publication.policy);
  if (faults.length > 0 || rules === undefined) throw new AppError('body-invalid', { faults });
  const { owning } = options;
  const price =
    publication.price === undefined ? null : await owning.addPricePlan(participant, planOf(publication.price));
  const asset = await owning.addAsset(participant, assetOf(options.self(participant).did, publication));
  const { assurance, silence } = publication;
  const priced = withPrice(rules, price?.digest ?? '');
  const terms = [options.self(participant).did, asset.id, priced, assurance ?? '', silence ?? ''];
  const offer = await owning.addOffer(participant, {
    id: await offerId(options, participant, terms),
    asset: asset.id,
    rules,
    price: price?.digest,
    assurance,
    silence,
  });
  const withdrawn = publication.replace === true ? await withdrawOthers(options, participant, offer) : [];
  return { asset, offer, price, withdrawn };
};

export const createPublishing = (options: PublishingOptions): Publishing => ({
  publish: (participant, publication) => publish(options, participant, publication),
  publicationFaults: (publication) => publicationFaults(options, publication),
});
