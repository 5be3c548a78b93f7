import { dspaceContext } from '../../contracts/dsp/common.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json, JsonObject } from '../../contracts/json.ts';
import type { PricePlan } from '../../contracts/ledger/price-plan.ts';
import { type Changes, createChanges } from './changes.ts';
import { type Cursors, createCursors } from './cursors.ts';
import { createOwning, type Owning, type OwningOptions } from './owning.ts';
import type { CursorSeal, Offer, OfferedAsset, Seen, Viewer } from './ports.ts';
import { createPublishing, type Publishing, type PublishingOptions } from './publishing.ts';
import { showCatalog, showDataset } from './rules.ts';
import { createTurning, type Turning } from './turning.ts';
import type { Window } from './window.pure.ts';

/** What is on offer: published by the owner, shown to those who may see it. */

export interface CatalogOptions extends OwningOptions, Pick<PublishingOptions, 'template'> {
  readonly cursors: CursorSeal;
  readonly self: (participant: ParticipantId) => { readonly did: Did; readonly base: string; readonly title: string };
}

export interface CatalogPage {
  readonly catalog: JsonObject;
  /** Cursors of the pages around this one; undefined where there is none. */
  readonly next: string | undefined;
  readonly previous: string | undefined;
}

export interface CatalogService extends Owning, Publishing, Turning, Changes {
  /** One page for this caller, the first without a cursor. @throws AppError `request-invalid` for a cursor of somebody else. */
  readonly page: (participant: ParticipantId, caller: Did, cursor: string | undefined) => Promise<CatalogPage>;
  /** A part of what this caller sees, by place: linear in its offset. */
  readonly window: (participant: ParticipantId, caller: Did, window: Window) => Promise<JsonObject>;
  readonly dataset: (participant: ParticipantId, caller: Did, id: string) => Promise<JsonObject>;
  readonly pricePlan: (participant: ParticipantId, digest: string) => Promise<PricePlan>;
  /** An offer for a negotiation; undefined when this caller may not see it. */
  readonly find: (
    participant: ParticipantId,
    caller: Did,
    dataset: string,
    offer: string,
  ) => Promise<Offer | undefined>;
  /** The offers of a dataset that this caller may see, in the catalog's order; none for a dataset that is not there. */
  readonly alternatives: (participant: ParticipantId, caller: Did, dataset: string) => Promise<readonly Offer[]>;
}

/** Datasets that are looked at for a page; it shows fewer when some of them may not be seen. */
const pageSize = 50;
/** Offers whose time has come that a reader of the catalog waits for; the others are looked at behind it. */
const turnedAtOnce = 20;

type Served = CatalogOptions & Turning & { readonly places: Cursors };

/** Datasets as this caller sees them; those of which it sees no offer are left out. */
const shownTo = async (
  { visibility, store, clock, self }: CatalogOptions,
  participant: ParticipantId,
  viewer: Viewer,
  assets: readonly OfferedAsset[],
): Promise<readonly JsonObject[]> => {
  const at = clock.now();
  const seen = assets.map(({ asset, offers }) => ({
    asset,
    offers: offers.filter((offer) => visibility.sees(viewer, offer, at)),
  }));
  const shown = seen.filter(({ offers }) => offers.length > 0);
  const digests = new Set(shown.flatMap(({ offers }) => offers.map(({ price }) => price)));
  digests.delete('');
  const plans = await store.read.plans(participant, [...digests]);
  const { base } = self(participant);
  return shown.map(({ asset, offers }) => showDataset(asset, offers, { base, plans }));
};

const seenBy = ({ did, canCosign }: Viewer): Seen => ({
  readers: ['', did],
  assurances: canCosign ? ['cosigned', 'plain-dsp'] : ['plain-dsp'],
});

const pageFor = async (
  its: Served,
  participant: ParticipantId,
  caller: Did,
  cursor: string | undefined,
): Promise<CatalogPage> => {
  const { store, visibility, places, self } = its;
  const place = cursor === undefined ? { after: '' } : places.readPage(caller, cursor);
  await its.turn(turnedAtOnce);
  const viewer = await visibility.viewer(participant, caller);
  const found = await store.read.page(participant, seenBy(viewer), { ...place, limit: pageSize + 1 });
  const isForward = 'after' in place;
  const looked = isForward ? found.slice(0, pageSize) : found.slice(-pageSize);
  const isMore = found.length > pageSize;
  const first = looked[0]?.asset.id;
  const last = looked.at(-1)?.asset.id;
  const hasPrevious = isForward ? place.after !== '' : isMore;
  return {
    catalog: showCatalog(self(participant), await shownTo(its, participant, viewer, looked)),
    next: last === undefined || (isForward && !isMore) ? undefined : places.page(caller, { after: last }),
    previous: first === undefined || !hasPrevious ? undefined : places.page(caller, { before: first }),
  };
};

const datasetFor = async (
  options: CatalogOptions,
  participant: ParticipantId,
  caller: Did,
  id: string,
): Promise<JsonObject> => {
  const found = await options.store.read.asset(participant, id);
  if (found === undefined) throw new AppError('not-found');
  const viewer = await options.visibility.viewer(participant, caller);
  const [shown] = await shownTo(options, participant, viewer, [found]);
  if (shown === undefined) throw new AppError('not-found');
  return { '@context': [dspaceContext], ...shown };
};

const windowFor = async (
  its: Served,
  participant: ParticipantId,
  caller: Did,
  { offset, limit }: Window,
): Promise<JsonObject> => {
  const shown: Json[] = [];
  let page: CatalogPage | undefined;
  while (shown.length < offset + limit && (page === undefined || page.next !== undefined)) {
    page = await pageFor(its, participant, caller, page?.next);
    if (Array.isArray(page.catalog.dataset)) shown.push(...page.catalog.dataset);
  }
  return showCatalog(its.self(participant), shown.slice(offset, offset + limit) as readonly JsonObject[]);
};

export const createCatalog = (options: CatalogOptions): CatalogService => {
  const { store, visibility, clock } = options;
  const owning = createOwning(options);
  const turning = createTurning(options);
  const its: Served = { ...options, ...turning, places: createCursors(options.cursors) };
  return {
    ...owning,
    ...turning,
    ...createPublishing({ ...options, owning }),
    ...createChanges(its),
    page: (participant, caller, cursor) => pageFor(its, participant, caller, cursor),
    window: (participant, caller, window) => windowFor(its, participant, caller, window),
    dataset: (participant, caller, id) => datasetFor(options, participant, caller, id),
    pricePlan: async (participant, digest) => {
      const plan = await store.read.pricePlan(participant, digest);
      if (plan === undefined) throw new AppError('not-found');
      return plan;
    },
    find: async (participant, caller, dataset, id) => {
      const offer = await store.read.offer(participant, id);
      if (offer === undefined || offer.asset !== dataset || offer.withdrawnAt !== null) return undefined;
      const viewer = await visibility.viewer(participant, caller);
      return visibility.sees(viewer, offer, clock.now()) ? offer : undefined;
    },
    alternatives: async (participant, caller, dataset) => {
      const found = await store.read.asset(participant, dataset);
      if (found === undefined) return [];
      const [viewer, at] = [await visibility.viewer(participant, caller), clock.now()];
      return found.offers.filter((offer) => visibility.sees(viewer, offer, at));
    },
  };
};
