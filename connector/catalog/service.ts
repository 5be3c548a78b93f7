import { dspaceContext } from '../../contracts/dsp/common.ts';
import { AppError, type Fault } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';
import { check } from '../../contracts/ledger/forms.ts';
import { type PricePlan, pricePlan, pricePlanDigest } from '../../contracts/ledger/price-plan.ts';
import { policyRules } from '../../contracts/odrl/policy.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { Asset, CatalogStore, Offer, OfferedAsset, Seal, Upstream, Visibility } from './ports.ts';
import { showCatalog, showDataset, withPrice } from './rules.ts';

/** What is on offer: published by the owner, shown to those who may see it. */

type JsonObject = { readonly [key: string]: Json };

export interface CatalogOptions {
  readonly store: CatalogStore;
  readonly visibility: Visibility;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly seal: Seal;
  readonly self: (participant: ParticipantId) => { readonly did: Did; readonly base: string; readonly title: string };
  /** @throws AppError `address-refused` for an upstream that this deployment may not call. */
  readonly checkUpstream: (url: string) => void;
  /** What of a policy cannot be evaluated; nothing is published that could not be enforced. */
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

export interface CatalogPage {
  readonly catalog: JsonObject;
  /** Where the next page begins, or undefined at the end. */
  readonly next: string | undefined;
}

export interface CatalogService {
  readonly addAsset: (participant: ParticipantId, asset: NewAsset) => Promise<Asset>;
  readonly addPricePlan: (
    participant: ParticipantId,
    plan: Json,
  ) => Promise<{ readonly digest: string; readonly plan: PricePlan }>;
  readonly addOffer: (participant: ParticipantId, offer: NewOffer) => Promise<Offer>;
  readonly withdraw: (participant: ParticipantId, offer: string) => Promise<void>;
  readonly page: (participant: ParticipantId, caller: Did, after: string) => Promise<CatalogPage>;
  readonly dataset: (participant: ParticipantId, caller: Did, id: string) => Promise<JsonObject>;
  readonly pricePlan: (participant: ParticipantId, digest: string) => Promise<PricePlan>;
  /** An offer for a negotiation; undefined when this caller may not see it. */
  readonly find: (
    participant: ParticipantId,
    caller: Did,
    dataset: string,
    offer: string,
  ) => Promise<Offer | undefined>;
}

const pageSize = 50;
const defaultGraceMs = 300_000;
const notFound = () => new AppError('not-found');

const sealedUpstream = (options: CatalogOptions, upstream: NewAsset['upstream']): Upstream => {
  if (upstream.kind !== 'http') return upstream;
  const url = upstream.url.replace(/\/+$/, '');
  options.checkUpstream(url);
  const { credential } = upstream;
  return {
    kind: 'http',
    url,
    credential:
      credential === undefined
        ? null
        : { name: credential.name.toLowerCase(), sealed: options.seal.seal(credential.value) },
  };
};

const addAsset = async (options: CatalogOptions, participant: ParticipantId, asset: NewAsset): Promise<Asset> => {
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
  return made;
};

const addOffer = async (options: CatalogOptions, participant: ParticipantId, offer: NewOffer): Promise<Offer> => {
  const price = offer.price ?? '';
  const faults: Fault[] = [];
  const form = policyRules.safeParse(offer.rules);
  if (!form.success)
    faults.push(
      ...form.error.issues.map((issue) => ({ path: `/rules/${issue.path.join('/')}`, message: issue.message })),
    );
  else faults.push(...options.policyFaults(offer.rules));
  if ((await options.store.read.asset(participant, offer.asset)) === undefined)
    faults.push({ path: '/asset', message: 'there is no such asset' });
  if (price !== '' && (await options.store.read.pricePlan(participant, price)) === undefined)
    faults.push({ path: '/price', message: 'there is no such price plan' });
  if (faults.length > 0) throw new AppError('policy-invalid', { faults });
  const made: Offer = {
    participant,
    id: offer.id ?? options.newId(),
    asset: offer.asset,
    rules: withPrice(offer.rules, price),
    assurance: offer.assurance ?? 'cosigned',
    price,
    silence: offer.silence ?? defaultGraceMs,
    createdAt: options.clock.now(),
    withdrawnAt: null,
  };
  if ((await options.store.putOffer(made)) === 'conflict')
    throw new AppError('version-conflict', { detail: `there is an offer ${made.id} already` });
  return made;
};

/** The dataset as this caller sees it; undefined when it sees none of its offers. */
const shownTo = async (
  options: CatalogOptions,
  caller: Did,
  { asset, offers }: OfferedAsset,
): Promise<JsonObject | undefined> => {
  const visible: Offer[] = [];
  for (const offer of offers) if (await options.visibility.sees(asset.participant, caller, offer)) visible.push(offer);
  if (visible.length === 0) return undefined;
  const digests = [...new Set(visible.map((offer) => offer.price).filter((digest) => digest !== ''))];
  const plans = await Promise.all(digests.map((digest) => options.store.read.pricePlan(asset.participant, digest)));
  return showDataset(asset, visible, {
    base: options.self(asset.participant).base,
    plans: plans.filter((plan) => plan !== undefined),
  });
};

const pageFor = async (
  options: CatalogOptions,
  participant: ParticipantId,
  caller: Did,
  after: string,
): Promise<CatalogPage> => {
  const assets = await options.store.read.page(participant, { after, limit: pageSize + 1 });
  const datasets = await Promise.all(assets.slice(0, pageSize).map((one) => shownTo(options, caller, one)));
  const last = assets.length > pageSize ? assets[pageSize - 1]?.asset.id : undefined;
  return {
    catalog: showCatalog(
      options.self(participant),
      datasets.filter((one) => one !== undefined),
    ),
    next: last,
  };
};

export const createCatalog = (options: CatalogOptions): CatalogService => {
  const { store, clock, visibility } = options;
  return {
    addAsset: (participant, asset) => addAsset(options, participant, asset),
    addPricePlan: async (participant, value) => {
      const plan = check(pricePlan, value);
      if (!plan.ok) throw new AppError('body-invalid', { detail: plan.reason });
      const digest = pricePlanDigest(nodeCrypto, plan.value);
      await store.putPricePlan(participant, digest, plan.value);
      return { digest, plan: plan.value };
    },
    addOffer: (participant, offer) => addOffer(options, participant, offer),
    withdraw: async (participant, offer) => {
      if (!(await store.withdraw(participant, offer, clock.now()))) throw notFound();
    },
    page: (participant, caller, after) => pageFor(options, participant, caller, after),
    dataset: async (participant, caller, id) => {
      const found = await store.read.asset(participant, id);
      const shown = found === undefined ? undefined : await shownTo(options, caller, found);
      if (shown === undefined) throw notFound();
      return { '@context': [dspaceContext], ...shown };
    },
    pricePlan: async (participant, digest) => {
      const plan = await store.read.pricePlan(participant, digest);
      if (plan === undefined) throw notFound();
      return plan;
    },
    find: async (participant, caller, dataset, id) => {
      const offer = await store.read.offer(participant, id);
      if (offer === undefined || offer.asset !== dataset || offer.withdrawnAt !== null) return undefined;
      return (await visibility.sees(participant, caller, offer)) ? offer : undefined;
    },
  };
};
