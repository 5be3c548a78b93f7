import { dspaceContext } from '../../contracts/dsp/common.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { JsonObject } from '../../contracts/json.ts';
import type { PricePlan } from '../../contracts/ledger/price-plan.ts';
import { createOwning, type Owning, type OwningOptions } from './owning.ts';
import type { Offer, OfferedAsset, Visibility } from './ports.ts';
import { createPublishing, type Publishing, type PublishingOptions } from './publishing.ts';
import { showCatalog, showDataset } from './rules.ts';

/** What is on offer: published by the owner, shown to those who may see it. */

export interface CatalogOptions extends OwningOptions, Pick<PublishingOptions, 'template'> {
  readonly visibility: Visibility;
  readonly self: (participant: ParticipantId) => { readonly did: Did; readonly base: string; readonly title: string };
}

export interface CatalogPage {
  readonly catalog: JsonObject;
  /** Where the next page begins, or undefined at the end. */
  readonly next: string | undefined;
}

export interface CatalogService extends Owning, Publishing {
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
  const { store, visibility } = options;
  const owning = createOwning(options);
  return {
    ...owning,
    ...createPublishing({ ...options, owning }),
    page: (participant, caller, after) => pageFor(options, participant, caller, after),
    dataset: async (participant, caller, id) => {
      const found = await store.read.asset(participant, id);
      const shown = found === undefined ? undefined : await shownTo(options, caller, found);
      if (shown === undefined) throw new AppError('not-found');
      return { '@context': [dspaceContext], ...shown };
    },
    pricePlan: async (participant, digest) => {
      const plan = await store.read.pricePlan(participant, digest);
      if (plan === undefined) throw new AppError('not-found');
      return plan;
    },
    find: async (participant, caller, dataset, id) => {
      const offer = await store.read.offer(participant, id);
      if (offer === undefined || offer.asset !== dataset || offer.withdrawnAt !== null) return undefined;
      return (await visibility.sees(participant, caller, offer)) ? offer : undefined;
    },
  };
};
