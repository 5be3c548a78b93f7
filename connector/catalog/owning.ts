import { AppError, type Fault } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import type { Json, JsonObject } from '../../contracts/json.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';
import { pricePlan, pricePlanDigest } from '../../contracts/ledger/price-plan.ts';
import { policyRules } from '../../contracts/odrl/policy.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { faultsOf } from '../../kernel/http/body.ts';
import type {
  Asset,
  CatalogStore,
  DigestedPlan,
  Offer,
  OfferedAsset,
  Page,
  Seal,
  Upstream,
  Visibility,
} from './ports.ts';
import { assuranceFaults, mediaTypeMember, unitFaults, withPrice } from './rules.ts';

/** The owner's side of the catalog: what is put in it, checked before it can be seen, and its own view of all of it. */

export interface OwningOptions {
  readonly store: CatalogStore;
  readonly visibility: Visibility;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly seal: Seal;
  /** @throws AppError `address-refused` for an upstream that this deployment may not call. */
  readonly checkUpstream: (url: string) => void;
  /** Why this file or folder cannot be published; undefined when it can. */
  readonly checkPath: (kind: 'file' | 'folder', path: string) => Promise<string | undefined>;
  /** What of a policy cannot be evaluated, with paths into its rules; nothing is published that could not be enforced. */
  readonly policyFaults: (rules: JsonObject) => readonly Fault[];
}

/** An asset as its owner describes it. */
export interface NewAsset {
  readonly id?: string | undefined;
  readonly title: string;
  readonly description?: string | undefined;
  readonly keywords?: readonly string[] | undefined;
  readonly extra?: JsonObject | undefined;
  readonly upstream:
    | {
        readonly kind: 'http';
        readonly url: string;
        readonly credential?: { readonly name: string; readonly value: string } | undefined;
      }
    | { readonly kind: 'file' | 'folder'; readonly path: string };
}

export interface NewOffer {
  readonly id?: string | undefined;
  readonly asset: string;
  readonly rules: JsonObject;
  /** Digest of a price plan that was put before, or empty. */
  readonly price?: string | undefined;
  readonly assurance?: Assurance | undefined;
  readonly silence?: 'strict' | number | undefined;
}

export interface Owning {
  readonly addAsset: (participant: ParticipantId, asset: NewAsset) => Promise<Asset>;
  readonly addPricePlan: (participant: ParticipantId, plan: Json) => Promise<DigestedPlan>;
  readonly addOffer: (participant: ParticipantId, offer: NewOffer) => Promise<Offer>;
  /** @throws AppError `not-found` when it does not stand. */
  readonly withdraw: (participant: ParticipantId, offer: string) => Promise<void>;
  /** Everything that was put, on offer or not. */
  readonly assets: (participant: ParticipantId, page: Page) => Promise<readonly OfferedAsset[]>;
  /** @throws AppError `not-found` */
  readonly asset: (participant: ParticipantId, id: string) => Promise<OfferedAsset>;
  readonly offers: (participant: ParticipantId, page: Page) => Promise<readonly Offer[]>;
  /** @throws AppError `not-found` */
  readonly offer: (participant: ParticipantId, id: string) => Promise<Offer>;
  readonly pricePlans: (participant: ParticipantId, page: Page) => Promise<readonly DigestedPlan[]>;
}

const defaultGraceMs = 300_000;
/** Offers of one dataset that stand at once: each is part of what every reader of it gets. */
const maxStanding = 100;

/** Why an upstream cannot be published: where it leads, and whether we may go there. */
export const upstreamFaults = async (
  options: Pick<OwningOptions, 'checkUpstream' | 'checkPath'>,
  upstream: NewAsset['upstream'],
): Promise<{ readonly refused: AppError | undefined; readonly faults: readonly Fault[] }> => {
  if (upstream.kind !== 'http') {
    const why = await options.checkPath(upstream.kind, upstream.path);
    return { refused: undefined, faults: why === undefined ? [] : [{ path: '/upstream/path', message: why }] };
  }
  try {
    options.checkUpstream(upstream.url);
    return { refused: undefined, faults: [] };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { refused: error, faults: [{ path: '/upstream/url', message: error.detail ?? error.title }] };
  }
};

const sealedUpstream = (options: OwningOptions, upstream: NewAsset['upstream']): Upstream => {
  if (upstream.kind !== 'http') return upstream;
  const { credential } = upstream;
  return {
    kind: 'http',
    url: upstream.url.replace(/\/+$/, ''),
    credential:
      credential === undefined
        ? null
        : { name: credential.name.toLowerCase(), sealed: options.seal.seal(credential.value) },
  };
};

const addAsset = async (options: OwningOptions, participant: ParticipantId, asset: NewAsset): Promise<Asset> => {
  const { refused, faults } = await upstreamFaults(options, asset.upstream);
  if (refused !== undefined) throw new AppError(refused.code, { detail: refused.detail ?? refused.title, faults });
  if (faults.length > 0) throw new AppError('body-invalid', { faults });
  const made: Asset = {
    participant,
    id: asset.id ?? options.newId(),
    title: asset.title,
    description: asset.description ?? '',
    keywords: asset.keywords ?? [],
    extra: asset.extra ?? {},
    upstream: sealedUpstream(options, asset.upstream),
    createdAt: options.clock.now(),
  };
  if ((await options.store.putAsset(made)) === 'conflict')
    throw new AppError('version-conflict', { detail: `there is an asset ${made.id} already` });
  return (await options.store.read.asset(participant, made.id))?.asset ?? made;
};

const addPricePlan = async (
  { store }: OwningOptions,
  participant: ParticipantId,
  value: Json,
): Promise<DigestedPlan> => {
  const plan = pricePlan.safeParse(value);
  if (!plan.success) throw new AppError('body-invalid', { faults: faultsOf(plan.error) });
  const digest = pricePlanDigest(nodeCrypto, plan.data);
  await store.putPricePlan(participant, digest, plan.data);
  return { digest, plan: plan.data };
};

/** Everything wrong with the rules of an offer; nothing is published that could not be enforced. */
export const rulesFaults = (
  options: Pick<OwningOptions, 'policyFaults'>,
  rules: JsonObject,
  assurance: Assurance,
): readonly Fault[] => {
  const form = policyRules.safeParse(rules);
  const faults = form.success ? options.policyFaults(rules) : faultsOf(form.error);
  const placed = faults.map(({ path, message }) => ({ path: `/rules${path}`, message }));
  return form.success ? [...placed, ...assuranceFaults(rules, assurance)] : placed;
};

const priceFaults = async (
  { store }: OwningOptions,
  participant: ParticipantId,
  price: string,
  asset: Asset | undefined,
): Promise<readonly Fault[]> => {
  if (price === '') return [];
  const plan = await store.read.pricePlan(participant, price);
  if (plan === undefined) return [{ path: '/price', message: 'there is no such price plan' }];
  if (asset === undefined) return [];
  return unitFaults(plan, asset.extra[mediaTypeMember]).map(({ message }) => ({ path: '/price', message }));
};

const standingFaults = (asset: OfferedAsset | undefined, id: string | undefined): readonly Fault[] => {
  const offers = asset?.offers ?? [];
  if (offers.length < maxStanding || offers.some((offer) => offer.id === id)) return [];
  return [{ path: '/asset', message: `has ${maxStanding} offers that stand; withdraw one` }];
};

const addOffer = async (options: OwningOptions, participant: ParticipantId, offer: NewOffer): Promise<Offer> => {
  const price = offer.price ?? '';
  const assurance = offer.assurance ?? 'cosigned';
  const asset = await options.store.read.asset(participant, offer.asset);
  const faults = [
    ...rulesFaults(options, offer.rules, assurance),
    ...(asset === undefined ? [{ path: '/asset', message: 'there is no such asset' }] : []),
    ...standingFaults(asset, offer.id),
    ...(await priceFaults(options, participant, price, asset?.asset)),
  ];
  if (faults.length > 0) throw new AppError('policy-invalid', { faults });
  const made: Offer = {
    participant,
    id: offer.id ?? options.newId(),
    asset: offer.asset,
    rules: withPrice(offer.rules, price),
    assurance,
    price,
    silence: offer.silence ?? defaultGraceMs,
    createdAt: options.clock.now(),
    withdrawnAt: null,
  };
  const showing = options.visibility.showing(made.rules, made.createdAt);
  if ((await options.store.putOffer(made, showing)) === 'conflict')
    throw new AppError('version-conflict', { detail: `there is an offer ${made.id} already` });
  return (await options.store.read.offer(participant, made.id)) ?? made;
};

const must = <Value>(value: Value | undefined): Value => {
  if (value === undefined) throw new AppError('not-found');
  return value;
};

export const createOwning = (options: OwningOptions): Owning => {
  const { store, clock } = options;
  const { read } = store;
  return {
    addAsset: (participant, asset) => addAsset(options, participant, asset),
    addPricePlan: (participant, value) => addPricePlan(options, participant, value),
    addOffer: (participant, offer) => addOffer(options, participant, offer),
    withdraw: async (participant, offer) => {
      if (!(await store.withdraw(participant, offer, clock.now()))) throw new AppError('not-found');
    },
    assets: (participant, page) => read.assets(participant, page),
    asset: async (participant, id) => must(await read.asset(participant, id)),
    offers: (participant, page) => read.offers(participant, page),
    offer: async (participant, id) => must(await read.offer(participant, id)),
    pricePlans: (participant, page) => read.pricePlans(participant, page),
  };
};
